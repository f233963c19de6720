//! ttrpc: frames, statuses, and the server's side of a connection.
//!
//! ```text
//! 0        4          8      9       10
//! | length | stream   | type | flags | payload …      integers are big-endian, length ≤ 4 MiB, stream is odd
//! ```
//!
//! Calls of one connection run side by side (`Wait` blocks for days); answers leave in the order in which they are ready.
//! Source: the protocol document of the ttrpc project.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::executor::{self, Notify, READ, Source, WRITE};
use crate::message;
use crate::wire::{Bytes, Malformed, Message};
use crate::{log, sys};

/// The largest payload.
pub const LIMIT: usize = 4 << 20;
/// Calls of one connection that may wait at once; a client that opens more is told so.
const CALLS: usize = 16384;
/// Connections that may be open at once.
const CONNECTIONS: usize = 256;
/// Answers that may lie unread before no further request is read.
const BACKLOG: usize = 8 << 20;
const HEADER: usize = 10;

/// Frame type of a request.
pub const REQUEST: u8 = 1;
/// Frame type of an answer.
pub const RESPONSE: u8 = 2;

message! {
    /// A call.
    Request { 1 service: String, 2 method: String, 3 payload: Bytes, 4 timeout_nano: i64 }
    /// An answer.
    Response { 1 status: Option<RpcStatus>, 2 payload: Bytes }
    /// `google.rpc.Status`.
    RpcStatus { 1 code: i32, 2 message: String }
}

/// The codes that engines tell apart (`google.rpc.Code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The enum's own names.
pub enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Unavailable = 14,
}

/// Why a call failed, as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What kind of failure.
    pub code: Code,
    /// The sentence for the user.
    pub message: String,
}

impl Status {
    /// A failure of kind `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }

    /// A failure that engines show and do not interpret.
    pub fn unknown(message: impl Into<String>) -> Status {
        Status::new(Code::Unknown, message)
    }
}

impl From<Malformed> for Status {
    fn from(error: Malformed) -> Self {
        Status::new(Code::InvalidArgument, error.to_string())
    }
}

/// What a call gives.
pub type Answer = Result<Vec<u8>, Status>;

/// Something that answers calls.
pub trait Service {
    /// Runs `method` of `service` with the encoded request.
    fn call(self: Rc<Self>, service: String, method: String, payload: Vec<u8>)
    -> Pin<Box<dyn Future<Output = Answer>>>;
}

/// A frame ready for the socket.
#[must_use]
pub fn frame(stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + payload.len());
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(payload);
    out
}

/// What lies at the head of the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not a whole frame yet.
    More,
    /// A frame: stream, type, payload; it took `usize` bytes.
    Frame(u32, u8, Vec<u8>, usize),
    /// A frame larger than [`LIMIT`]: its stream and the length to be skipped, header included.
    Oversize(u32, usize),
}

/// Looks for a frame at the head of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER>() else { return Parsed::More };
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let stream = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    if length > LIMIT {
        return Parsed::Oversize(stream, length + HEADER);
    }
    match rest.get(..length) {
        None => Parsed::More,
        Some(payload) => Parsed::Frame(stream, head[8], payload.to_vec(), HEADER + length),
    }
}

struct Connection {
    socket: Source<UnixStream>,
    out: RefCell<VecDeque<u8>>,
    calls: Cell<usize>,
    closed: Cell<bool>,
    gone: Notify,
    drained: Notify,
}

/// Counts what has been promised but not written yet, and who is connected, so that an exit can wait for both.
#[derive(Default)]
pub struct Pending {
    unwritten: Cell<usize>,
    connections: Cell<usize>,
    changed: Notify,
}

impl Pending {
    /// Waits until every answer has left.
    pub async fn flushed(&self) {
        self.changed.until(|| (self.unwritten.get() == 0).then_some(())).await;
    }

    /// Waits until every peer has closed its connection. A Go client that finds an answer and the end of the connection at once
    /// takes either, by chance.
    pub async fn deserted(&self) {
        self.changed.until(|| (self.connections.get() == 0).then_some(())).await;
    }

    fn add(&self, count: usize) {
        self.unwritten.set(self.unwritten.get() + count);
    }

    fn sub(&self, count: usize) {
        self.unwritten.set(self.unwritten.get().saturating_sub(count));
        self.changed.notify();
    }
}

/// Accepts connections of this process's own user and serves them, for ever. `met` runs at each new connection.
///
/// # Errors
/// When the listener cannot be watched.
pub async fn serve(
    listener: UnixListener,
    service: Rc<dyn Service>,
    pending: Rc<Pending>,
    met: impl Fn(),
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = Source::new(listener, READ)?;
    loop {
        let stream = match listener.attempt(READ, |l| l.accept()).await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors or memory: the peer waits in the backlog, we look again a little later.
                log::warn(&format!("accept: {error}"));
                executor::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        if sys::peer_uid(&stream).ok() != Some(sys::own_uid()) || pending.connections.get() >= CONNECTIONS {
            log::warn("a connection of another user, or one too many, was closed");
            continue;
        }
        met();
        pending.connections.set(pending.connections.get() + 1);
        let (service, pending) = (service.clone(), pending.clone());
        executor::spawn(async move {
            if let Err(error) = converse(stream, service, &pending).await {
                log::debug(&format!("connection: {error}"));
            }
            pending.connections.set(pending.connections.get() - 1);
            pending.changed.notify();
        });
    }
}

async fn converse(stream: UnixStream, service: Rc<dyn Service>, pending: &Rc<Pending>) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let connection = Rc::new(Connection {
        socket: Source::new(stream, READ | WRITE)?,
        out: RefCell::default(),
        calls: Cell::new(0),
        closed: Cell::new(false),
        gone: Notify::default(),
        drained: Notify::default(),
    });
    let end = receive(&connection, &service, pending).await;
    connection.closed.set(true);
    connection.gone.notify();
    let unsent = std::mem::take(&mut *connection.out.borrow_mut()).len();
    pending.sub(unsent);
    // Its calls have heard of it when the others had their turn; what they held goes back to the kernel.
    executor::step_aside().await;
    sys::trim_memory();
    end
}

async fn receive(connection: &Rc<Connection>, service: &Rc<dyn Service>, pending: &Rc<Pending>) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::new();
    let mut skip = 0usize;
    loop {
        connection.drained.until(|| (connection.out.borrow().len() < BACKLOG).then_some(())).await;
        let mut chunk = [0u8; 8192];
        let count = connection.socket.attempt(READ, |mut s| s.read(&mut chunk)).await?;
        if count == 0 {
            return Ok(());
        }
        let fresh = &chunk[..count];
        let skipped = skip.min(fresh.len());
        skip -= skipped;
        buffer.extend_from_slice(&fresh[skipped..]);
        loop {
            match parse(&buffer) {
                Parsed::More => break,
                Parsed::Frame(stream, kind, payload, taken) => {
                    buffer.drain(..taken);
                    accept(connection, service, pending, stream, kind, &payload);
                }
                Parsed::Oversize(stream, length) => {
                    let here = length.min(buffer.len());
                    buffer.drain(..here);
                    skip = length - here;
                    let text = format!("message of {} bytes exceeds the limit of {LIMIT}", length - HEADER);
                    send(connection, pending, stream, Err(Status::new(Code::ResourceExhausted, text)));
                }
            }
        }
        if buffer.is_empty() {
            // A connection that once carried a large message must not keep its room for days.
            buffer.shrink_to(0);
        }
    }
}

fn accept(
    connection: &Rc<Connection>,
    service: &Rc<dyn Service>,
    pending: &Rc<Pending>,
    stream: u32,
    kind: u8,
    payload: &[u8],
) {
    if kind != REQUEST {
        return;
    }
    let refuse = |code, text: &str| send(connection, pending, stream, Err(Status::new(code, text)));
    if stream.is_multiple_of(2) {
        return refuse(Code::InvalidArgument, "a client's stream id must be odd");
    }
    let request = match Request::decode(payload) {
        Ok(request) => request,
        Err(error) => return refuse(Code::InvalidArgument, &error.to_string()),
    };
    if connection.calls.get() >= CALLS {
        return refuse(Code::ResourceExhausted, "too many calls wait on this connection");
    }
    connection.calls.set(connection.calls.get() + 1);
    let limit = u64::try_from(request.timeout_nano).ok().filter(|&nano| nano > 0).map(Duration::from_nanos);
    let only_waits = request.method.starts_with("Wait");
    let call = service.clone().call(request.service, request.method, request.payload.0);
    let (connection, pending) = (connection.clone(), pending.clone());
    executor::spawn(async move {
        let answer = match only_waits {
            true => while_wanted(limit, &connection, call).await,
            false => within(limit, call).await,
        };
        connection.calls.set(connection.calls.get() - 1);
        send(&connection, &pending, stream, answer);
    });
}

fn too_late() -> Answer {
    Err(Status::new(Code::DeadlineExceeded, "context deadline exceeded"))
}

/// A call that changes nothing ends with its caller: an engine that restarts every day must not leave its waits behind.
async fn while_wanted(
    limit: Option<Duration>,
    connection: &Connection,
    call: Pin<Box<dyn Future<Output = Answer>>>,
) -> Answer {
    let gone = async {
        let left = connection.gone.until(|| connection.closed.get().then_some(()));
        match limit {
            None => left.await,
            Some(limit) => drop(executor::timeout(limit, left).await),
        }
    };
    executor::either(call, gone).await.unwrap_or_else(|()| too_late())
}

/// The caller stops waiting at its deadline; the work goes on, because half of a create is worse than a late one.
async fn within(limit: Option<Duration>, call: Pin<Box<dyn Future<Output = Answer>>>) -> Answer {
    let Some(limit) = limit else { return call.await };
    let result = Rc::new(RefCell::new(None));
    let done = Rc::new(Notify::default());
    let (slot, bell) = (result.clone(), done.clone());
    executor::spawn(async move {
        *slot.borrow_mut() = Some(call.await);
        bell.notify();
    });
    executor::timeout(limit, done.until(|| result.borrow_mut().take())).await.unwrap_or_else(too_late)
}

fn send(connection: &Rc<Connection>, pending: &Rc<Pending>, stream: u32, answer: Answer) {
    if connection.closed.get() {
        return;
    }
    let response = match answer {
        Ok(payload) => Response { status: None, payload: Bytes(payload) },
        Err(status) => Response {
            status: Some(RpcStatus { code: status.code as i32, message: status.message }),
            payload: Bytes::default(),
        },
    };
    let bytes = frame(stream, RESPONSE, &response.encode());
    pending.add(bytes.len());
    let idle = connection.out.borrow().is_empty();
    connection.out.borrow_mut().extend(bytes);
    if idle && !write_some(connection, pending) {
        let (connection, pending) = (connection.clone(), pending.clone());
        executor::spawn(async move {
            while !connection.closed.get() {
                connection.socket.ready(WRITE).await;
                if write_some(&connection, &pending) {
                    break;
                }
            }
        });
    }
}

/// True when nothing more is to be written.
fn write_some(connection: &Connection, pending: &Pending) -> bool {
    let mut out = connection.out.borrow_mut();
    while !out.is_empty() {
        let (front, _) = out.as_slices();
        match connection.socket.get().write(front) {
            Ok(count) => {
                out.drain(..count);
                pending.sub(count);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                connection.socket.clear(WRITE);
                return false;
            }
            Err(_) => {
                // The reader of this connection sees the same end and closes it.
                pending.sub(out.len());
                out.clear();
            }
        }
    }
    out.shrink_to(0);
    connection.drained.notify();
    true
}

#[cfg(test)]
mod tests {
    use super::{HEADER, LIMIT, Parsed, REQUEST, frame, parse};

    #[test]
    fn a_frame_is_found_only_when_it_is_whole() {
        let bytes = frame(3, REQUEST, b"abc");
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Parsed::More);
        }
        assert_eq!(parse(&bytes), Parsed::Frame(3, REQUEST, b"abc".to_vec(), HEADER + 3));
    }

    #[test]
    fn a_frame_beyond_the_limit_is_known_by_its_head() {
        let mut bytes = frame(5, REQUEST, b"");
        bytes[..4].copy_from_slice(&(u32::try_from(LIMIT).unwrap() + 1).to_be_bytes());
        assert_eq!(parse(&bytes), Parsed::Oversize(5, LIMIT + 1 + HEADER));
    }
}
