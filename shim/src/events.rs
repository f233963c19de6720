//! Telling the engine what happened: one queue, one sender, strictly in order.
//!
//! An event is kept until the engine has answered for it. While the engine is away the queue waits, without waking up on its
//! own for long: a new connection to the shim is the sign that the engine is back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use crate::api::{Any, Envelope, ForwardRequest};
use crate::executor::{self, Notify, READ, Source, WRITE};
use crate::ttrpc::{self, Parsed, REQUEST, RESPONSE, Request, Response};
use crate::wire::{Bytes, Message};
use crate::{log, sys};

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// How many events wait at most. Beyond it the oldest goes that no engine depends on.
const QUEUE: usize = 4096;
/// How long the engine may take to answer for one event.
const ANSWER: Duration = Duration::from_secs(5);
/// The connection is closed after this time without an event: one descriptor less on both sides.
const IDLE: Duration = Duration::from_secs(2);
/// Pauses between tries grow up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After so many tries only a sign of life starts another one.
const TRIES: u32 = 60;

struct Event {
    topic: &'static str,
    request: Vec<u8>,
}

/// The queue and its sender.
pub struct Publisher {
    address: Option<PathBuf>,
    namespace: String,
    queue: RefCell<VecDeque<Event>>,
    busy: Cell<bool>,
    nudged: Cell<bool>,
    changed: Notify,
    lost: Cell<u64>,
}

impl Publisher {
    /// A publisher to the ttrpc socket at `address`; without one, events have nowhere to go.
    #[must_use]
    pub fn new(address: Option<PathBuf>, namespace: String) -> Rc<Publisher> {
        Rc::new(Publisher {
            address,
            namespace,
            queue: RefCell::default(),
            busy: Cell::new(false),
            nudged: Cell::new(false),
            changed: Notify::default(),
            lost: Cell::new(0),
        })
    }

    /// Queues an event; it is on its way when this returns, not yet delivered.
    pub fn publish(&self, topic: &'static str, kind: &str, event: &impl Message) {
        if self.address.is_none() {
            return;
        }
        let envelope = Envelope {
            timestamp: Some(SystemTime::now().into()),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(Any::of(&format!("containerd.events.{kind}"), event)),
        };
        let mut queue = self.queue.borrow_mut();
        if queue.len() >= QUEUE {
            // The head may be on its way already; exits and deletes are what engines cannot do without.
            let spare = queue.iter().skip(1).position(|e| !matches!(e.topic, "/tasks/exit" | "/tasks/delete"));
            queue.remove(spare.unwrap_or(0) + 1);
            self.lost.set(self.lost.get() + 1);
            log::warn(&format!("event queue full: {} events lost", self.lost.get()));
        }
        queue.push_back(Event { topic, request: ForwardRequest { envelope: Some(envelope) }.encode() });
        drop(queue);
        self.changed.notify();
    }

    /// The engine gave a sign of life: try again now.
    pub fn nudge(&self) {
        self.nudged.set(true);
        self.changed.notify();
    }

    /// Waits until everything has been delivered.
    pub async fn flushed(&self) {
        self.changed.until(|| (self.queue.borrow().is_empty() && !self.busy.get()).then_some(())).await;
    }

    /// Sends for ever.
    pub async fn run(self: Rc<Self>) {
        let Some(address) = self.address.clone() else { return };
        let mut link: Option<Link> = None;
        let mut failures = 0u32;
        loop {
            let waiting = || (!self.queue.borrow().is_empty()).then_some(());
            if executor::timeout(IDLE, self.changed.until(waiting)).await.is_none() {
                link = None;
                self.changed.until(waiting).await;
            }
            self.busy.set(true);
            match self.deliver(&address, &mut link).await {
                Ok(()) => {
                    failures = 0;
                    self.queue.borrow_mut().pop_front();
                }
                Err(error) => {
                    link = None;
                    failures += 1;
                    log::debug(&format!("event to {}: {error}", address.display()));
                    self.pause(failures).await;
                }
            }
            self.busy.set(false);
            self.changed.notify();
        }
    }

    async fn deliver(&self, address: &PathBuf, link: &mut Option<Link>) -> io::Result<()> {
        let request = self.queue.borrow().front().map(|event| event.request.clone()).unwrap_or_default();
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        // An engine that restarted closed the old connection: that costs one quiet second try, not a pause.
        if let Some(open) = link
            && executor::timeout(ANSWER, open.forward(&request)).await.ok_or_else(late)?.is_ok()
        {
            return Ok(());
        }
        let open = link.insert(Link::open(address)?);
        executor::timeout(ANSWER, open.forward(&request)).await.ok_or_else(late)?
    }

    async fn pause(&self, failures: u32) {
        self.nudged.set(false);
        let sign = self.changed.until(|| self.nudged.get().then_some(()));
        if failures > TRIES {
            sign.await;
        } else {
            let pause = (Duration::from_millis(100) * failures.pow(2)).min(LONGEST_PAUSE);
            executor::timeout(pause, sign).await;
        }
        if self.nudged.take() {
            // The engine connects to its shims early in its start, often before it takes events.
            executor::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A connection to the engine's events service.
struct Link {
    socket: Source<UnixStream>,
    stream: u32,
}

impl Link {
    fn open(address: &PathBuf) -> io::Result<Link> {
        // A unix socket connects at once or not at all, unless the engine's backlog is full: then not at all is meant.
        let stream = sys::connect(address)?;
        Ok(Link { socket: Source::new(stream, READ | WRITE)?, stream: 1 })
    }

    async fn forward(&mut self, request: &[u8]) -> io::Result<()> {
        let call = Request {
            service: SERVICE.to_owned(),
            method: "Forward".to_owned(),
            payload: Bytes(request.to_vec()),
            timeout_nano: i64::try_from(ANSWER.as_nanos()).unwrap_or(0),
        };
        let stream = self.stream;
        self.stream += 2;
        let bytes = ttrpc::frame(stream, REQUEST, &call.encode());
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let sent = self.socket.attempt(WRITE, |mut s| s.write(rest)).await?;
            rest = &rest[sent..];
        }
        self.answer(stream).await
    }

    async fn answer(&self, wanted: u32) -> io::Result<()> {
        let mut received = Vec::new();
        loop {
            let mut chunk = [0u8; 1024];
            let count = self.socket.attempt(READ, |mut s| s.read(&mut chunk)).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received.extend_from_slice(&chunk[..count]);
            loop {
                match ttrpc::parse(&received) {
                    Parsed::More => break,
                    Parsed::Oversize(..) => return Err(io::ErrorKind::InvalidData.into()),
                    Parsed::Frame(stream, kind, payload, taken) => {
                        received.drain(..taken);
                        if stream == wanted && kind == RESPONSE {
                            return judge(&payload);
                        }
                    }
                }
            }
        }
    }
}

/// An engine that refuses an event has seen it: asking again would stop all that follow.
fn judge(payload: &[u8]) -> io::Result<()> {
    let response = Response::decode(payload).map_err(io::Error::other)?;
    if let Some(status) = response.status.filter(|s| s.code != 0) {
        const UNAVAILABLE: i32 = ttrpc::Code::Unavailable as i32;
        if status.code == UNAVAILABLE {
            return Err(io::Error::other(status.message));
        }
        log::warn(&format!("the engine refused an event: {}", status.message));
    }
    Ok(())
}
