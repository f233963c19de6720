//! Log lines for the engine: logfmt into the fifo `log` of the bundle that started the shim.
//!
//! The fifo is opened for each line and never waited for: a shim says little, and neither a held descriptor nor a hang
//! on an absent daemon is worth a line.

use std::cell::{Cell, RefCell};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::clock;

thread_local! {
    static FIFO: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
    static VERBOSE: Cell<bool> = const { Cell::new(false) };
}

/// Sets where lines go and whether debug lines are written at all.
pub fn to(fifo: PathBuf, verbose: bool) {
    FIFO.set(Some(fifo));
    VERBOSE.set(verbose);
}

/// Something that the operator should know.
pub fn warn(message: &str) {
    line("warning", message);
}

/// Something that only a developer wants.
pub fn debug(message: &str) {
    if VERBOSE.get() {
        line("debug", message);
    }
}

fn line(level: &str, message: &str) {
    FIFO.with_borrow(|fifo| {
        let Some(path) = fifo else { return };
        let text = format!("time={:?} level={level} msg={message:?}\n", clock::rfc3339(SystemTime::now()));
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
        if let Ok(mut file) = opened {
            // Nobody reads or the pipe is full: the line is lost, the container is not.
            let _ = file.write(text.as_bytes());
        }
    });
}
