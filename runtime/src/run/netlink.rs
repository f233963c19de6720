//! Messages to the kernel about network devices and their addresses (rtnetlink(7)), as few as moving a device takes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::parent::Failed;
use crate::sys::{errno_text, fs, socket};

const HEADER: usize = 16;
/// The kernel fills at most this much at a time (NLMSG_GOODSIZE and the limit of dumps).
const ROOM: usize = 64 * 1024;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
/// On an answer: the request's body is left out; words of explanation follow.
const CAPPED: u16 = 0x100;
const WORDS: u16 = 0x200;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const UP: u32 = 0x1;

const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const PERMANENT: u32 = 0x80;
/// What becomes of an address, in place of what was asked for: tentative, failed, deprecated, temporary, and the like.
const STATES: u32 = 0x01 | 0x08 | 0x20 | 0x40 | PERMANENT;
const GLOBAL: u8 = 0;

/// A network device.
#[derive(Debug)]
pub(super) struct Link {
    /// Its number in its namespace.
    pub(super) index: i32,
    /// Its name there.
    pub(super) name: String,
    /// Whether it is set up.
    pub(super) up: bool,
}

/// An address of a device, with all that belongs to it but the device's number.
#[derive(Debug)]
pub(super) struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A conversation with the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Conversation(OwnedFd);

struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16, body: Vec<u8>) -> Self {
        Message { kind, flags, body }
    }

    /// struct ifinfomsg.
    fn link(kind: u16, flags: u16, index: i32, (set, change): (u32, u32)) -> Self {
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend(set.to_ne_bytes());
        body.extend(change.to_ne_bytes());
        Message::new(kind, flags, body)
    }

    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.body.extend(len.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let len = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend(len.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend((self.flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(&self.body);
        bytes
    }
}

impl Conversation {
    /// Opens one with the network namespace of this process.
    pub(super) fn open() -> Result<Self, Failed> {
        Ok(Conversation(socket::netlink()?))
    }

    /// Asks, and gathers the answers up to the last.
    fn ask(&self, request: &Message) -> Result<Vec<Message>, Failed> {
        let bytes = request.bytes();
        fs::write(self.0.as_fd(), &bytes)?;
        let mut all = Vec::new();
        let mut room = vec![0; ROOM];
        loop {
            let n = fs::read(self.0.as_fd(), &mut room)?;
            for message in messages(&room[..n]) {
                match message.kind {
                    ERROR => return refusal(&message).map_or(Ok(all), Err),
                    DONE => return Ok(all),
                    _ => all.push(message),
                }
            }
        }
    }

    /// All devices.
    pub(super) fn links(&self) -> Result<Vec<Link>, Failed> {
        let answers = self.ask(&Message::link(GETLINK, DUMP, 0, (0, 0)))?;
        Ok(answers.iter().filter_map(link).collect())
    }

    /// The device of a name; ENODEV where there is none.
    pub(super) fn link(&self, name: &str) -> Result<Link, Failed> {
        let ask = Message::link(GETLINK, ACK, 0, (0, 0)).with(IFLA_IFNAME, &named(name));
        let answers = self.ask(&ask)?;
        answers.iter().find_map(link).ok_or_else(|| Failed::text("the kernel says nothing of it"))
    }

    /// The addresses of a device that are permanent and of global scope.
    pub(super) fn lasting_addresses(&self, index: i32) -> Result<Vec<Address>, Failed> {
        // struct ifaddrmsg, of all families.
        let answers = self.ask(&Message::new(GETADDR, DUMP, vec![0; 8]))?;
        Ok(answers.iter().filter_map(|answer| lasting(answer, index)).collect())
    }

    /// Gives a device an address. The label of an old name, `eth0` or `eth0:1`, becomes that of the new name.
    pub(super) fn add_address(&self, index: i32, address: &Address, old: &str, new: &str) -> Result<(), Failed> {
        let mut body = vec![address.family, address.prefix, 0, GLOBAL];
        body.extend(index.to_ne_bytes());
        let mut ask = Message::new(NEWADDR, ACK | CREATE, body);
        for (kind, value) in &address.attributes {
            let label = if *kind == IFA_LABEL { relabelled(value, old, new) } else { None };
            ask = ask.with(*kind, label.as_ref().unwrap_or(value));
        }
        self.ask(&ask).map(drop)
    }

    /// Moves a device into another namespace, under another name if there is one.
    pub(super) fn move_link(&self, index: i32, to: BorrowedFd<'_>, name: Option<&str>) -> Result<(), Failed> {
        let ask = Message::link(NEWLINK, ACK, index, (0, 0)).with(IFLA_NET_NS_FD, &to.as_raw_fd().to_ne_bytes());
        let ask = if let Some(name) = name { ask.with(IFLA_IFNAME, &named(name)) } else { ask };
        self.ask(&ask).map(drop)
    }

    /// Sets a device up.
    pub(super) fn set_up(&self, index: i32) -> Result<(), Failed> {
        self.ask(&Message::link(NEWLINK, ACK, index, (UP, UP))).map(drop)
    }
}

impl Address {
    /// `192.0.2.7/24`.
    pub(super) fn text(&self) -> String {
        const IFA_ADDRESS: u16 = 1;
        const IFA_LOCAL: u16 = 2;
        let of = |wanted: u16| self.attributes.iter().find(|(kind, _)| *kind == wanted).map(|(_, v)| v.as_slice());
        let bytes = of(IFA_LOCAL).or(of(IFA_ADDRESS)).unwrap_or_default();
        let ip = match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
            (Ok(four), _) => std::net::IpAddr::from(four).to_string(),
            (_, Ok(six)) => std::net::IpAddr::from(six).to_string(),
            _ => format!("of family {}", self.family),
        };
        format!("{ip}/{}", self.prefix)
    }
}

fn named(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn relabelled(label: &[u8], old: &str, new: &str) -> Option<Vec<u8>> {
    let rest = label.strip_prefix(old.as_bytes()).filter(|rest| rest.starts_with(b"\0") || rest.starts_with(b":"))?;
    Some([new.as_bytes(), rest].concat())
}

/// Number, length and rest of what starts with them: a message's or an attribute's length counts itself.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The messages that a read brought. What is torn ends the list.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while let (Some(len), Some(kind), Some(flags)) = (number(bytes, 0), number(bytes, 4), number(bytes, 6)) {
        let len = usize::try_from(u32::from_ne_bytes(len)).unwrap_or(usize::MAX);
        let Some(body) = bytes.get(HEADER..len) else { break };
        all.push(Message::new(u16::from_ne_bytes(kind), u16::from_ne_bytes(flags), body.to_vec()));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// The attributes behind a message's own structure.
fn attributes(body: &[u8], own: usize) -> Vec<(u16, Vec<u8>)> {
    let mut all = Vec::new();
    let mut bytes = body.get(own..).unwrap_or_default();
    while let (Some(len), Some(kind)) = (number(bytes, 0), number(bytes, 2)) {
        let len = usize::from(u16::from_ne_bytes(len));
        let Some(value) = bytes.get(4..len) else { break };
        // The two highest bits say how a value is encoded.
        all.push((u16::from_ne_bytes(kind) & 0x3fff, value.to_vec()));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// What an error says; none if it is the word that all went well.
fn refusal(message: &Message) -> Option<Failed> {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let errno = -i32::from_ne_bytes(number(&message.body, 0)?);
    if errno == 0 {
        return None;
    }
    let len = u32::from_ne_bytes(number(&message.body, 4).unwrap_or_default());
    let request = if message.flags & CAPPED == 0 { usize::try_from(len).unwrap_or(HEADER) } else { HEADER };
    let own = 4 + request.next_multiple_of(4);
    let words = if message.flags & WORDS == 0 { Vec::new() } else { attributes(&message.body, own) };
    let said = words.into_iter().find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG);
    let said = said.map(|(_, text)| format!("{}: ", String::from_utf8_lossy(&text).trim_end_matches('\0')));
    let mut failed = Failed::text(format!("{}netlink: {}", said.unwrap_or_default(), errno_text(errno)));
    failed.errno = Some(errno);
    Some(failed)
}

fn link(answer: &Message) -> Option<Link> {
    let index = i32::from_ne_bytes(number(&answer.body, 4)?);
    let flags = u32::from_ne_bytes(number(&answer.body, 8)?);
    let (_, name) = attributes(&answer.body, 16).into_iter().find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
    (answer.kind == NEWLINK).then_some(Link { index, name, up: flags & UP != 0 })
}

fn lasting(answer: &Message, wanted: i32) -> Option<Address> {
    let [family, prefix, flags, scope] = number(&answer.body, 0)?;
    let index = i32::from_ne_bytes(number(&answer.body, 4)?);
    let mut attributes = attributes(&answer.body, 8);
    let wide = attributes.iter().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, value)| number(value, 0));
    let flags = wide.map_or(u32::from(flags), u32::from_ne_bytes);
    if answer.kind != NEWADDR || index != wanted || scope != GLOBAL || flags & PERMANENT == 0 {
        return None;
    }
    // Life times and times of change are the kernel's to tell.
    attributes.retain(|(kind, _)| *kind != IFA_CACHEINFO && *kind != IFA_FLAGS);
    attributes.push((IFA_FLAGS, (flags & !STATES).to_ne_bytes().to_vec()));
    Some(Address { family, prefix, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_answers_do_no_harm() {
        let whole = Message::link(NEWLINK, 0, 7, (UP, 0)).with(IFLA_IFNAME, b"eth0\0").bytes();
        let read = messages(&whole);
        let found = read.iter().find_map(link).unwrap();
        assert_eq!((found.index, found.name.as_str(), found.up), (7, "eth0", true));
        for len in 0..whole.len() {
            assert!(messages(&whole[..len]).is_empty());
        }
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] = 0xff;
            for message in messages(&wrong) {
                let _ = (link(&message), lasting(&message, 7), refusal(&message));
            }
        }
    }

    #[test]
    fn addresses_keep_what_was_asked_for() {
        let mut body = vec![2, 24, 0, GLOBAL];
        body.extend(7i32.to_ne_bytes());
        let told = |flags: u32| {
            let message = Message::new(NEWADDR, 0, body.clone()).with(2, &[192, 0, 2, 7]);
            message.with(IFA_CACHEINFO, &[0; 16]).with(IFA_FLAGS, &flags.to_ne_bytes())
        };
        let address = lasting(&told(PERMANENT | 0x200), 7).unwrap();
        assert_eq!(address.text(), "192.0.2.7/24");
        assert_eq!(address.attributes.last(), Some(&(IFA_FLAGS, 0x200u32.to_ne_bytes().to_vec())));
        assert!(lasting(&told(0), 7).is_none() && lasting(&told(PERMANENT), 8).is_none());
    }

    #[test]
    fn labels_follow_the_name() {
        assert_eq!(relabelled(b"eth0:1\0", "eth0", "in0").unwrap(), b"in0:1\0");
        assert_eq!(relabelled(b"eth0\0", "eth0", "in0").unwrap(), b"in0\0");
        assert_eq!(relabelled(b"eth00\0", "eth0", "in0"), None);
    }

    #[test]
    fn the_kernel_explains_itself() {
        let here = Conversation::open().unwrap();
        assert_eq!(here.link("no-such-device").unwrap_err().errno, Some(libc::ENODEV));
        assert!(here.links().unwrap().iter().any(|link| link.name == "lo"));
    }
}
