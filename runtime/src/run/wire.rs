//! What crosses between lanes: one fixed message, over two pipes, and nothing else.
//!
//! ```text
//!   parent ── "step n is done" ──▶ init        an edge of the plan
//!   init   ── "step n is done" ──▶ parent      an edge of the plan
//!   init   ── "step n failed"  ──▶ parent      with call, errno and, where it knows, the kernel's own words
//!   joiner ── "init is pid p"  ──▶ parent
//! ```
//!
//! The end of a pipe means that the other side is dead: nobody waits for the dead.

use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::fs;
use crate::sys::{Call, Fault, Result};

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Word {
    /// The step is done. The value is what it yielded, mostly 0.
    Done,
    /// The step failed with a call and an errno.
    Failed,
    /// The step's hook ended with this status; negative: by this signal.
    HookEnded,
    /// The step's hook ran out of time.
    HookTimedOut,
    /// The value is init's pid.
    Pid,
    /// The next thing that init does is execve: from here on the end of the pipe means success.
    Executing,
}

/// A message.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Number of the step in the plan.
    pub step: u16,
    /// What is said of it.
    pub word: Word,
    /// The call that failed.
    pub call: Call,
    /// Errno, status or pid.
    pub value: i32,
    /// More about a failure.
    pub text: [u8; TEXT],
    /// How much of the text counts.
    pub len: u8,
}

/// Bytes of text in a message.
pub const TEXT: usize = 96;
const SIZE: usize = 9 + TEXT;

impl Message {
    /// A message without text.
    pub fn new(step: usize, word: Word, value: i32) -> Self {
        let step = u16::try_from(step).unwrap_or(u16::MAX);
        Message { step, word, call: Call::write, value, text: [0; TEXT], len: 0 }
    }

    /// A failed call.
    pub fn fault(step: usize, fault: Fault, text: &[u8]) -> Self {
        Message { call: fault.call, ..Message::new(step, Word::Failed, fault.errno) }.with(text)
    }

    /// The same with as much of a text as fits.
    #[must_use]
    pub fn with(mut self, text: &[u8]) -> Self {
        let len = text.len().min(TEXT);
        self.text[..len].copy_from_slice(&text[..len]);
        self.len = u8::try_from(len).unwrap_or(0);
        self
    }

    fn encode(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..2].copy_from_slice(&self.step.to_ne_bytes());
        bytes[2] = self.word as u8;
        bytes[3] = self.call as u8;
        bytes[4..8].copy_from_slice(&self.value.to_ne_bytes());
        bytes[8] = self.len;
        bytes[9..].copy_from_slice(&self.text);
        bytes
    }

    fn decode(bytes: &[u8; SIZE]) -> Option<Self> {
        let word = *[Word::Done, Word::Failed, Word::HookEnded, Word::HookTimedOut, Word::Pid, Word::Executing]
            .get(usize::from(bytes[2]))?;
        let mut text = [0; TEXT];
        text.copy_from_slice(&bytes[9..]);
        Some(Message {
            step: u16::from_ne_bytes([bytes[0], bytes[1]]),
            word,
            call: Call::from_number(bytes[3])?,
            value: i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            text,
            len: bytes[8].min(u8::try_from(TEXT).unwrap_or(0)),
        })
    }
}

/// Sends a message. It is shorter than PIPE_BUF, so it arrives whole.
pub fn send(fd: impl AsFd, message: &Message) -> Result<()> {
    fs::write(fd.as_fd(), &message.encode()).map(drop)
}

/// Receives a message; `None` when the other side is dead, or what came is none of ours.
pub fn receive(fd: BorrowedFd<'_>) -> Result<Option<Message>> {
    let mut bytes = [0; SIZE];
    let mut have = 0;
    while have < SIZE {
        match fs::read(fd, &mut bytes[have..])? {
            0 => return Ok(None),
            n => have += n,
        }
    }
    Ok(Message::decode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_pipe() {
        let (rx, tx) = fs::pipe().unwrap();
        let sent = Message::fault(7, Fault::new(Call::fsconfig, libc::EINVAL), b"tmpfs: Bad value for 'size'");
        send(&tx, &sent).unwrap();
        let got = receive(rx.as_fd()).unwrap().unwrap();
        assert_eq!((got.step, got.word, got.call, got.value), (7, Word::Failed, Call::fsconfig, libc::EINVAL));
        assert_eq!(&got.text[..usize::from(got.len)], b"tmpfs: Bad value for 'size'");
        drop(tx);
        assert!(receive(rx.as_fd()).unwrap().is_none());
    }

    #[test]
    fn garbage_is_no_message() {
        let (rx, tx) = fs::pipe().unwrap();
        fs::write(tx.as_fd(), &[0xff; SIZE]).unwrap();
        assert!(receive(rx.as_fd()).unwrap().is_none());
    }
}
