//! `linux.netDevices`: a device of the host's goes into the container, and comes back if the container does not come about.
//!
//! What the kernel keeps by itself, it keeps: hardware address, MTU, queues. Addresses it drops, so they are read before
//! and given back afterwards.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use super::netlink::{Address, Conversation, Link};
use super::parent::Failed;
use crate::abi::clone;
use crate::sys::{fs, process};

/// A device on its way, or arrived.
#[derive(Debug)]
pub struct Moved {
    link: Link,
    /// Its name inside, or the template of one.
    wanted: String,
    addresses: Vec<Address>,
    /// The runtime's network namespace.
    home: OwnedFd,
    inside: Conversation,
    /// The numbers of the devices that were inside before.
    before: Vec<i32>,
}

/// Moves a device into the network namespace of a process. What is to be taken back on failure is added to `moved` before
/// anything is done.
pub fn enter(name: &str, wanted: &str, pid: i32, moved: &mut Vec<Moved>) -> Result<(), Failed> {
    let path = CString::new(format!("/proc/{pid}/ns/net")).unwrap_or_default();
    let (home, there) = (fs::open(c"/proc/self/ns/net", libc::O_RDONLY)?, fs::open(&path, libc::O_RDONLY)?);
    let place = |of: &OwnedFd| fs::fstat(of.as_fd()).map(|s| (s.dev, s.ino));
    if place(&home)? == place(&there)? {
        return Err(Failed::text("the container's network namespace is the runtime's own"));
    }
    let host = Conversation::open()?;
    let link = host.link(name)?;
    let addresses = host.lasting_addresses(link.index)?;
    let inside = in_namespace(&there, &home)?;
    let others = inside.links()?;
    if others.iter().any(|other| other.name == wanted) {
        return Err(Failed::text(format!("the container has a device {wanted:?} already")));
    }
    let before = others.iter().map(|other| other.index).collect();
    let index = link.index;
    let device = Moved { link, wanted: wanted.to_owned(), addresses, home, inside, before };
    moved.push(device);
    host.move_link(index, there.as_fd(), (wanted != name).then_some(wanted))?;
    moved.last().map_or(Ok(()), Moved::settle)
}

/// A conversation with another network namespace: it stays with the one in which its socket was made.
fn in_namespace(there: &OwnedFd, home: &OwnedFd) -> Result<Conversation, Failed> {
    process::setns(there.as_fd(), clone::NEWNET)?;
    let opened = Conversation::open();
    process::setns(home.as_fd(), clone::NEWNET)?;
    opened
}

impl Moved {
    /// The device inside, by whatever name and number the kernel gave it.
    fn arrived(&self) -> Result<Option<Link>, Failed> {
        let is_it = |name: &str| match self.wanted.strip_suffix("%d") {
            Some(stem) => name.starts_with(stem) || name == self.link.name,
            None => name == self.wanted || name == self.link.name,
        };
        let links = self.inside.links()?;
        Ok(links.into_iter().find(|link| !self.before.contains(&link.index) && is_it(&link.name)))
    }

    fn settle(&self) -> Result<(), Failed> {
        let link = self.arrived()?.ok_or_else(|| Failed::text("it cannot be found inside"))?;
        for address in &self.addresses {
            self.inside.add_address(link.index, address, &self.link.name, &link.name).map_err(|mut failed| {
                failed.text = format!("give it its address {}: {}", address.text(), failed.text);
                failed
            })?;
        }
        self.inside.set_up(link.index).map_err(|mut failed| {
            failed.text = format!("set it up: {}", failed.text);
            failed
        })
    }

    /// Takes the device back to where it was, as it was: runtime.md, "Errors", has the environment as if nothing had been
    /// tried.
    fn back(&self) -> Result<(), Failed> {
        let Some(link) = self.arrived()? else { return Ok(()) };
        let old = self.link.name.as_str();
        self.inside.move_link(link.index, self.home.as_fd(), (link.name != old).then_some(old))?;
        let host = Conversation::open()?;
        let index = host.link(old)?.index;
        self.addresses.iter().try_for_each(|address| host.add_address(index, address, old, old))?;
        if self.link.up { host.set_up(index) } else { Ok(()) }
    }
}

/// Takes devices back, the last first. Answers what could not be done, as sentences.
pub fn take_back(moved: &[Moved]) -> Vec<String> {
    let back = |device: &Moved| device.back().err().map(|f| format!("move {:?} back: {}", device.link.name, f.text));
    moved.iter().rev().filter_map(back).collect()
}
