//! What happens to a container's output while nobody takes it: `block`, `drop` or `spill`.
//!
//! | policy | the container | the output |
//! | --- | --- | --- |
//! | `block` (default) | waits, as at any full pipe | is kept whole |
//! | `drop` | never waits | what the reader does not take is counted and dropped; a line in the stream says how much |
//! | `spill`, `spill=64MiB` | waits once the spill is full | is kept whole, in a file without a name |
//!
//! The annotation `io.containerd.tare.v2.log-policy` of a container comes before the engine's option `LogPolicy`. Both are
//! about the first process's streams through fifos: an exec and a terminal have a person at their other end.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};

use crate::copy::Shared;
use crate::log;

/// The annotation by which a container chooses.
pub const ANNOTATION: &str = "io.containerd.tare.v2.log-policy";
/// What a spill holds when nobody says.
const SPILL: u64 = 16 << 20;
/// One read.
const CHUNK: usize = 8 << 10;
/// Reads in one step.
const READS: usize = 32;

/// What is to happen to output that nobody takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// The container waits.
    #[default]
    Block,
    /// It is dropped and counted.
    Drop,
    /// It goes to a file of so many bytes at most.
    Spill(u64),
}

impl Policy {
    /// Reads `block`, `drop`, `spill` or `spill=SIZE`, SIZE in bytes or with KiB, MiB or GiB; nothing means the default.
    ///
    /// # Errors
    /// A sentence that names the known ones.
    pub fn parse(text: &str) -> Result<Policy, String> {
        match text.trim() {
            "" | "block" => Ok(Policy::Block),
            "drop" => Ok(Policy::Drop),
            "spill" => Ok(Policy::Spill(SPILL)),
            other => other
                .strip_prefix("spill=")
                .and_then(size)
                .map(Policy::Spill)
                .ok_or_else(|| format!("log policy {other:?} is unknown (known: block, drop, spill, spill=64MiB)")),
        }
    }
}

fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}

/// What stands between a stream and a reader that takes nothing.
pub struct Relief {
    policy: Policy,
    /// Whose stream, for a warning.
    name: String,
    /// Where a spill may lie.
    dir: PathBuf,
    lost: Cell<u64>,
    warned: Cell<bool>,
    spill: RefCell<Option<Spill>>,
}

/// What a step did for a stream whose reader is behind.
pub enum Taken {
    /// So many bytes left the container's pipe.
    Bytes(usize),
    /// There is nothing to take now, or no room for it.
    Nothing,
    /// The container's end is closed.
    End,
}

struct Spill {
    file: File,
    read: u64,
    written: u64,
}

impl Relief {
    /// The relief of the stream `name`; a spill goes to `dir`.
    #[must_use]
    pub fn new(policy: Policy, name: String, dir: &Path) -> Relief {
        Relief {
            policy,
            name,
            dir: dir.to_owned(),
            lost: Cell::new(0),
            warned: Cell::new(false),
            spill: RefCell::new(None),
        }
    }

    /// Whether a full sink is to be waited for, and nothing else.
    #[must_use]
    pub fn only_waits(&self) -> bool {
        self.policy == Policy::Block
    }

    /// Whether the sink must get something before the stream goes on.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.lost.get() > 0 || self.holds()
    }

    /// Whether something would be lost if the stream ended now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.spill.borrow().as_ref().is_some_and(|spill| spill.read < spill.written)
    }

    /// Gives the sink what it has missed.
    ///
    /// # Errors
    /// `EAGAIN` when it takes nothing; what else it says.
    pub fn catch_up(&self, to: &Shared) -> Result<usize, Errno> {
        let mut slot = self.spill.borrow_mut();
        if let Some(spill) = slot.as_mut() {
            let (mut offset, rest) = (spill.read.cast_signed(), spill.written - spill.read);
            let length = usize::try_from(rest).unwrap_or(usize::MAX);
            let count =
                splice(&spill.file, Some(&mut offset), to.get(), None, length, SpliceFFlags::SPLICE_F_NONBLOCK)?;
            spill.read += count as u64;
            if spill.read >= spill.written || count == 0 {
                *slot = None;
            }
            return Ok(count);
        }
        if self.lost.get() == 0 {
            return Ok(0);
        }
        let note = format!("\n[containerd-shim-tare-v2: {} bytes of output dropped]\n", self.lost.get());
        // A pipe takes so few bytes whole or not at all (pipe(7), PIPE_BUF).
        let count = nix::unistd::write(to.get(), note.as_bytes())?;
        self.lost.set(0);
        Ok(count)
    }

    /// Takes from the container's pipe what the sink does not.
    ///
    /// # Errors
    /// The pipe's.
    pub fn take(&self, from: &Shared) -> Result<Taken, Errno> {
        let mut total = 0;
        for _ in 0..READS {
            let room = self.room();
            if room == 0 {
                break;
            }
            let mut chunk = [0u8; CHUNK];
            match nix::unistd::read(from.get(), &mut chunk[..room]) {
                Ok(0) => return Ok(if total == 0 { Taken::End } else { Taken::Bytes(total) }),
                Ok(count) => {
                    self.keep(&chunk[..count]);
                    total += count;
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if !self.holds() {
            self.spill.take();
        }
        Ok(if total == 0 { Taken::Nothing } else { Taken::Bytes(total) })
    }

    /// How many bytes of the next read have a place.
    fn room(&self) -> usize {
        let Policy::Spill(limit) = self.policy else { return CHUNK };
        let mut slot = self.spill.borrow_mut();
        if slot.is_none() {
            match Spill::open(&self.dir) {
                Ok(spill) => *slot = Some(spill),
                Err(error) => {
                    self.warn(&format!("no spill in {}: {error}; the container waits", self.dir.display()));
                    return 0;
                }
            }
        }
        // The file begins anew when it has been read to its end; until then its length is what is bounded.
        let written = slot.as_ref().map_or(0, |spill| spill.written);
        usize::try_from(limit.saturating_sub(written)).unwrap_or(usize::MAX).min(CHUNK)
    }

    fn keep(&self, bytes: &[u8]) {
        match self.spill.borrow_mut().as_mut() {
            // Where something is missing already, what follows must come after the note of it.
            Some(spill) if self.lost.get() == 0 => match spill.file.write_all_at(bytes, spill.written) {
                Ok(()) => {
                    spill.written += bytes.len() as u64;
                    return;
                }
                Err(error) => self.warn(&format!("spill: {error}; output is being dropped")),
            },
            Some(_) => {}
            None => self.warn("nobody reads: output is being dropped"),
        }
        self.lost.set(self.lost.get() + bytes.len() as u64);
    }

    fn warn(&self, text: &str) {
        if !self.warned.replace(true) {
            log::warn(&format!("{}: {text}", self.name));
        }
    }
}

impl Spill {
    /// A file without a name: it is gone when this process is, however that ends.
    fn open(dir: &Path) -> io::Result<Spill> {
        let path = dir.join(format!("spill-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Spill { file, read: 0, written: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::Policy;

    #[test]
    fn policies_are_read() {
        let read = |text| Policy::parse(text).unwrap();
        assert_eq!((read(""), read("block"), read("drop")), (Policy::Block, Policy::Block, Policy::Drop));
        assert_eq!((read("spill"), read("spill=512")), (Policy::Spill(16 << 20), Policy::Spill(512)));
        assert_eq!((read("spill=3KiB"), read(" spill=2GiB ")), (Policy::Spill(3 << 10), Policy::Spill(2 << 30)));
        for bad in ["lose", "spill=", "spill=0", "spill=MiB", "spill=1TiB", "spill=-1", "spill=99999999999GiB"] {
            assert!(Policy::parse(bad).unwrap_err().contains("known: block"), "{bad}");
        }
    }
}
