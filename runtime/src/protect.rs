//! What runs on a container's side must come from something that nobody in a container can write (rule R5).
//!
//! A program of an image may name `/proc/self/exe` as its interpreter: then the runtime's own file is executed inside, and a
//! container that holds it open could write to it once the runtime has ended (CVE-2019-5736). So before it makes anything, a
//! command that will enter a container executes itself anew from a clone of its own mount that is read-only and attached
//! nowhere: opened through /proc, it is read-only; found by a path, it is nowhere. When its descriptor closes at exec, the
//! mount belongs to no namespace any more, and nobody can change its attributes. A mount of the host's that happens to be
//! read-only is not enough: it is remounted for the next upgrade, while a container may still hold the file.

use std::os::fd::{AsFd, OwnedFd};

use crate::abi::attr;
use crate::sys::{Fault, fs, mount, process};

/// Executes the program anew from a protected copy of itself, unless it runs from one.
///
/// # Errors
/// What kept it from that: it is refused then, as a container must not be less protected than promised.
pub fn executable() -> Result<(), Fault> {
    let own = fs::open(c"/proc/self/exe", libc::O_PATH)?;
    if fs::is_readonly(own.as_fd())? && is_detached()? {
        // What it was executed by has a number for a name; people look for the name.
        return process::set_name(c"tare");
    }
    let copy = match mount::open_tree(own.as_fd(), c"", false, false) {
        Ok(tree) => {
            mount::setattr(tree.as_fd(), c"", false, (attr::RDONLY, 0), 0, None)?;
            tree
        }
        // Without CAP_SYS_ADMIN the copy is one in memory, sealed.
        Err(f) if f.errno == libc::EPERM => match sealed()? {
            None => return process::set_name(c"tare"),
            Some(copy) => copy,
        },
        Err(f) => return Err(f),
    };
    Err(process::exec_self(copy.as_fd()))
}

/// Whether the program's file is the root of a mount that is nowhere: such a path is `/`, which no file can be.
fn is_detached() -> Result<bool, Fault> {
    let mut path = [0; 2];
    Ok(fs::readlinkat(fs::cwd(), c"/proc/self/exe", &mut path)? == 1)
}

/// A sealed copy of the program; `None` where it runs from one already.
fn sealed() -> Result<Option<OwnedFd>, Fault> {
    let own = fs::open(c"/proc/self/exe", libc::O_RDONLY)?;
    if fs::is_sealed(own.as_fd()) {
        return Ok(None);
    }
    let copy = fs::memfd(c"tare")?;
    fs::copy(own.as_fd(), copy.as_fd())?;
    fs::seal(copy.as_fd())?;
    Ok(Some(copy))
}
