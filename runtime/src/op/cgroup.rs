//! What plans hold of cgroups: where they are, what is written in them, and the program that decides about devices.

use std::borrow::Cow;

use crate::field::Field;

/// Version of a cgroup hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// The container's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Where the hierarchy is mounted.
    pub mount: String,
    /// The cgroup below the mount, without a leading slash: `docker/abc`.
    pub path: String,
    /// Controllers of the hierarchy.
    pub controllers: Vec<String>,
    /// Version of the hierarchy.
    pub version: Version,
    /// Version 2: controllers to enable in every parent, as far as they can be.
    pub enable: Vec<String>,
    /// Version 2: those of `enable` that a limit needs, so that failing to enable them is an error.
    pub need: Vec<String>,
    /// Rootless, and no limit needs this cgroup: the container does without it where the host denies it.
    pub optional: bool,
}

impl Group {
    /// The cgroup's directory.
    pub fn dir(&self) -> String {
        match self.path.is_empty() {
            true => self.mount.clone(),
            false => format!("{}/{}", self.mount, self.path),
        }
    }
}

/// When a limit is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before any process is in the cgroup.
    BeforeAttach,
    /// When init is in the cgroup: a limit of tasks must not count against the runtime's own helpers.
    AfterAttach,
}

/// What happens when a write fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnErr {
    /// The write must succeed.
    Fail,
    /// These errors are no failure.
    Ignore(&'static [i32]),
    /// On these errors, another file takes the value.
    Else(&'static [i32], Cow<'static, str>, String),
}

/// One value written to one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Index in the list of the container's groups.
    pub group: usize,
    /// Name of the file in the cgroup's directory.
    pub file: Cow<'static, str>,
    /// What is written.
    pub value: String,
    /// When.
    pub when: When,
    /// Field of the configuration that asks for it.
    pub from: Field,
    /// Which failures are expected.
    pub on_err: OnErr,
}

/// One instruction of a device program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceInsn {
    /// Operation.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register.
    pub src: u8,
    /// Offset of a jump or a load.
    pub off: i16,
    /// Operand.
    pub imm: i32,
}

impl DeviceInsn {
    /// The instruction as the kernel reads it (`struct bpf_insn`).
    pub fn encode(self) -> [u8; 8] {
        // The two registers are bit fields: the first takes the low half on little-endian machines.
        let registers =
            if cfg!(target_endian = "little") { self.src << 4 | self.dst } else { self.dst << 4 | self.src };
        let (off, imm) = (self.off.to_ne_bytes(), self.imm.to_ne_bytes());
        [self.code, registers, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
    }
}

/// A program that answers 1 to allow and 0 to deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProgram {
    /// Its instructions.
    pub insns: Vec<DeviceInsn>,
}
