//! One thread that runs everything: futures, timers and edge-triggered descriptors.
//!
//! A call of the task service reads as a story (`runtime.create().await`, then `console.accept()`, then `publish`)
//! although hundreds of them wait at once. That needs an executor; this one has no thread, no channel and no
//! registration that outlives its owner. Idle, it sleeps in one `epoll_wait` without a timeout.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Readiness to read, end of file and errors included.
pub const READ: u8 = 1;
/// Readiness to write, errors included.
pub const WRITE: u8 = 2;

type Story = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Ready(Mutex<VecDeque<usize>>);

impl Ready {
    fn push(&self, id: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(id);
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn pop(&self) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

struct TaskWaker {
    id: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.id);
    }
}

enum Slot {
    Free,
    /// The future is out of its slot while it is polled, so that it can spawn others.
    Polled,
    Parked(Story, Waker),
}

struct Executor {
    tasks: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<Ready>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    sources: RefCell<BTreeMap<u64, Rc<Edges>>>,
    serial: Cell<u64>,
    epoll: Epoll,
}

thread_local! {
    static EXECUTOR: OnceCell<Rc<Executor>> = const { OnceCell::new() };
}

fn executor() -> Rc<Executor> {
    EXECUTOR.with(|cell| cell.get().cloned()).expect("install() ran before any other call of the executor")
}

/// Makes the executor of this thread. Call it once, after the last `fork`: an epoll instance is shared with children.
///
/// # Errors
/// `epoll_create1`'s, when there is no descriptor or memory left.
pub fn install() -> io::Result<()> {
    let made = Executor {
        tasks: RefCell::default(),
        free: RefCell::default(),
        ready: Arc::default(),
        timers: RefCell::default(),
        sources: RefCell::default(),
        serial: Cell::new(0),
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
    };
    EXECUTOR.with(|cell| cell.set(Rc::new(made))).map_err(|_| io::Error::other("the executor was installed twice"))
}

/// Starts a story of its own; it runs until its end, nobody waits for it.
pub fn spawn(story: impl Future<Output = ()> + 'static) {
    let ex = executor();
    let id = ex.free.borrow_mut().pop().unwrap_or_else(|| {
        ex.tasks.borrow_mut().push(Slot::Free);
        ex.tasks.borrow().len() - 1
    });
    let waker = Waker::from(Arc::new(TaskWaker { id, ready: ex.ready.clone() }));
    ex.tasks.borrow_mut()[id] = Slot::Parked(Box::pin(story), waker);
    ex.ready.push(id);
}

/// Runs `main` and every spawned story until `main` is done.
///
/// # Errors
/// `epoll_wait`'s, which only a broken process sees.
pub fn run(main: impl Future<Output = ()> + 'static) -> io::Result<()> {
    let done = Rc::new(Cell::new(false));
    let end = done.clone();
    spawn(async move {
        main.await;
        end.set(true);
    });
    let ex = executor();
    loop {
        // One round only: a story that is always ready (a busy log) must not keep the others from their events.
        for _ in 0..ex.ready.len() {
            if let Some(id) = ex.ready.pop() {
                ex.poll(id);
            }
            if done.get() {
                return Ok(());
            }
        }
        ex.wait()?;
    }
}

impl Executor {
    fn poll(&self, id: usize) {
        let slot = std::mem::replace(&mut self.tasks.borrow_mut()[id], Slot::Polled);
        let Slot::Parked(mut story, waker) = slot else {
            self.tasks.borrow_mut()[id] = slot;
            return;
        };
        match story.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => self.tasks.borrow_mut()[id] = Slot::Parked(story, waker),
            Poll::Ready(()) => {
                drop(story);
                self.tasks.borrow_mut()[id] = Slot::Free;
                self.free.borrow_mut().push(id);
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let first = self.timers.borrow().keys().next().map(|(at, _)| *at);
        let timeout = match first {
            _ if self.ready.len() > 0 => EpollTimeout::ZERO,
            None => EpollTimeout::NONE,
            // Rounded up: waking a moment early would only spin.
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now()).as_nanos().div_ceil(1_000_000);
                EpollTimeout::try_from(left.min(60_000)).unwrap_or(EpollTimeout::ZERO)
            }
        };
        let mut events = [EpollEvent::empty(); 16];
        match self.epoll.wait(&mut events, timeout) {
            Ok(count) => events[..count].iter().for_each(|event| self.edge(*event)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.fire_timers();
        Ok(())
    }

    fn edge(&self, event: EpollEvent) {
        let Some(edges) = self.sources.borrow().get(&event.data()).cloned() else { return };
        let flags = event.events();
        let both = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        let mut bits = 0;
        if both || flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI | EpollFlags::EPOLLRDHUP) {
            bits |= READ;
        }
        if both || flags.intersects(EpollFlags::EPOLLOUT) {
            bits |= WRITE;
        }
        edges.bits.set(edges.bits.get() | bits);
        edges.changed.notify();
    }

    fn fire_timers(&self) {
        if self.timers.borrow().is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(entry) = self.timers.borrow_mut().first_entry() {
            if entry.key().0 > now {
                break;
            }
            entry.remove().wake();
        }
    }

    fn next_serial(&self) -> u64 {
        let serial = self.serial.get() + 1;
        self.serial.set(serial);
        serial
    }
}

#[derive(Default)]
struct Edges {
    bits: Cell<u8>,
    changed: Notify,
}

/// A descriptor watched for edges. A fresh one counts as ready: the first attempt tells.
pub struct Source<F: AsFd> {
    fd: F,
    key: u64,
    interest: EpollFlags,
    edges: Rc<Edges>,
}

impl<F: AsFd> Source<F> {
    /// Watches `fd` (non-blocking) for [`READ`], [`WRITE`] or both.
    ///
    /// # Errors
    /// `epoll_ctl`'s; `EPERM` for a regular file, which is always ready.
    pub fn new(fd: F, interest: u8) -> io::Result<Self> {
        let ex = executor();
        let key = ex.next_serial();
        let mut flags = EpollFlags::EPOLLET;
        if interest & READ != 0 {
            flags |= EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        }
        if interest & WRITE != 0 {
            flags |= EpollFlags::EPOLLOUT;
        }
        ex.epoll.add(&fd, EpollEvent::new(flags, key))?;
        let edges = Rc::new(Edges { bits: Cell::new(READ | WRITE), changed: Notify::default() });
        ex.sources.borrow_mut().insert(key, edges.clone());
        Ok(Source { fd, key, interest: flags, edges })
    }

    /// The descriptor itself.
    pub fn get(&self) -> &F {
        &self.fd
    }

    /// Stops or resumes the notice of edges. While it is stopped, whatever happens wakes nobody; on resuming, what is ready
    /// then is an edge.
    pub fn listen(&self, on: bool) {
        let flags = if on { self.interest } else { EpollFlags::EPOLLET };
        // It fails for a descriptor that is not registered only, and this one is.
        let _ = executor().epoll.modify(&self.fd, &mut EpollEvent::new(flags, self.key));
    }

    /// Forgets readiness; call it when the kernel answered `EAGAIN`.
    pub fn clear(&self, bits: u8) {
        self.edges.bits.set(self.edges.bits.get() & !bits);
    }

    /// Whether an edge of `bits` came that nobody has forgotten since.
    pub fn is_ready(&self, bits: u8) -> bool {
        self.edges.bits.get() & bits != 0
    }

    /// Waits for an edge of `bits`.
    pub async fn ready(&self, bits: u8) {
        self.edges.changed.until(|| (self.edges.bits.get() & bits != 0).then_some(())).await;
    }

    /// One non-blocking attempt after another until one does not say `EAGAIN`.
    ///
    /// # Errors
    /// The attempt's own.
    pub async fn attempt<T>(&self, bits: u8, mut act: impl FnMut(&F) -> io::Result<T>) -> io::Result<T> {
        loop {
            self.ready(bits).await;
            match act(&self.fd) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.clear(bits),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl<F: AsFd> Drop for Source<F> {
    fn drop(&mut self) {
        let ex = executor();
        ex.sources.borrow_mut().remove(&self.key);
        // An error would mean that the descriptor is gone already, which is what is wanted.
        let _ = ex.epoll.delete(&self.fd);
    }
}

/// Waits for whichever of two futures is first; the first one wins a tie.
pub async fn either<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> Result<A, B> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| {
        if let Poll::Ready(v) = a.as_mut().poll(cx) {
            return Poll::Ready(Ok(v));
        }
        b.as_mut().poll(cx).map(Err)
    })
    .await
}

/// `Some` of what `work` gave, `None` when `limit` passed first. `work` is dropped then.
pub async fn timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    either(work, sleep(limit)).await.ok()
}

/// Lets every other story that is ready run first.
pub async fn step_aside() {
    let mut stepped = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for `duration`.
pub async fn sleep(duration: Duration) {
    struct Timer(Option<(Instant, u64)>);
    impl Drop for Timer {
        fn drop(&mut self) {
            if let Some(key) = self.0 {
                executor().timers.borrow_mut().remove(&key);
            }
        }
    }
    let at = Instant::now() + duration;
    let mut timer = Timer(None);
    poll_fn(|cx| {
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        let ex = executor();
        let key = *timer.0.get_or_insert_with(|| (at, ex.next_serial()));
        ex.timers.borrow_mut().insert(key, cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// A condition that others wait for: change the state, then [`Notify::notify`].
#[derive(Default)]
pub struct Notify(RefCell<Vec<(u64, Waker)>>);

/// One who waits. Whoever gives up takes its waker along, so that a condition that is never met holds nothing of the past.
struct Waiter<'a> {
    notify: &'a Notify,
    key: Option<u64>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.notify.0.borrow_mut().retain(|(other, _)| *other != key);
        }
    }
}

impl Notify {
    /// Lets everyone who waits look at the state again.
    pub fn notify(&self) {
        self.0.take().into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Waits until `look` finds what it looks for.
    pub async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let mut waiter = Waiter { notify: self, key: None };
        poll_fn(|cx| {
            if let Some(found) = look() {
                return Poll::Ready(found);
            }
            let key = *waiter.key.get_or_insert_with(|| executor().next_serial());
            let mut waiting = self.0.borrow_mut();
            if !waiting.iter().any(|(other, _)| *other == key) {
                waiting.push((key, cx.waker().clone()));
            }
            Poll::Pending
        })
        .await
    }
}

/// Mutual exclusion across `.await`.
#[derive(Default)]
pub struct Lock {
    held: Cell<bool>,
    freed: Notify,
}

/// Holds a [`Lock`] until it is dropped.
pub struct Guard<'a>(&'a Lock);

impl Lock {
    /// Waits for the lock.
    pub async fn lock(&self) -> Guard<'_> {
        self.freed.until(|| (!self.held.replace(true)).then_some(())).await;
        Guard(self)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.held.set(false);
        self.0.freed.notify();
    }
}
