//! The one table of commands and flags: parser, help, completion and manual pages are all read from it.

use super::request::Command;
use super::scan::Parsed;
use super::{UsageError, verbs};

/// One flag.
#[derive(Debug)]
pub(super) struct Flag {
    /// Its names without dashes, the long one first.
    pub(super) names: &'static [&'static str],
    /// What its value is called in help; `None` for a flag that is there or not.
    pub(super) value: Option<&'static str>,
    /// One line.
    pub(super) help: &'static str,
    /// Accepted, but left out of help: obsolete spellings.
    pub(super) hidden: bool,
}

/// One command.
pub(super) struct Verb {
    pub(super) name: &'static str,
    /// What stands behind the flags, as help shows it.
    pub(super) operands: &'static str,
    /// One line.
    pub(super) about: &'static str,
    /// More than the line, or nothing.
    pub(super) text: &'static str,
    /// Groups, so that commands can share them.
    pub(super) flags: &'static [&'static [Flag]],
    pub(super) arity: Arity,
    /// Flags end at the first operand; all after it belongs to the command that is run.
    pub(super) trailing: bool,
    /// Left out of help and completion.
    pub(super) hidden: bool,
    pub(super) build: fn(&Parsed<'_>) -> Result<Command, UsageError>,
}

/// How many operands a command takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arity {
    Exactly(usize),
    AtLeast(usize),
    Between(usize, usize),
}

impl Verb {
    pub(super) fn all_flags(&self) -> impl Iterator<Item = &'static Flag> + Clone + use<> {
        self.flags.iter().flat_map(|group| group.iter()).chain(COMMON)
    }
}

/// The command of that name; `h` and the like are no commands of the table.
pub(super) fn verb(name: &[u8]) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name.as_bytes() == name)
}

const fn switch(names: &'static [&'static str], help: &'static str) -> Flag {
    Flag { names, value: None, help, hidden: false }
}

const fn option(names: &'static [&'static str], value: &'static str, help: &'static str) -> Flag {
    Flag { names, value: Some(value), help, hidden: false }
}

const fn hidden(flag: Flag) -> Flag {
    Flag { hidden: true, ..flag }
}

const BUNDLE: Flag = option(&["bundle", "b"], "DIR", "the bundle's directory (default: the current one)");
const CONSOLE: Flag =
    option(&["console-socket"], "SOCKET", "a unix socket that is sent the master end of the container's terminal");
const PIDFD: Flag = option(&["pidfd-socket"], "SOCKET", "a unix socket that is sent a pidfd of the process");
const PID_FILE: Flag = option(&["pid-file"], "FILE", "a file that the process id is written to");
const PRESERVE: Flag =
    option(&["preserve-fds"], "N", "pass N more descriptors, after the standard ones and $LISTEN_FDS");
const DETACH: Flag = switch(&["detach", "d"], "return as soon as the process runs");
const NO_SUBREAPER: Flag = switch(&["no-subreaper"], "do not become the reaper of orphaned processes");
const FORMAT: Flag = option(&["format", "f"], "FORMAT", "table or json (default: table)");
const JSON: Flag = switch(&["json"], "print JSON");

const CREATE: &[Flag] = &[
    BUNDLE,
    CONSOLE,
    PIDFD,
    PID_FILE,
    switch(&["no-pivot"], "move the root mount instead of pivot_root, for a root filesystem on a ramdisk"),
    switch(&["no-new-keyring"], "keep the caller's session keyring"),
    PRESERVE,
    switch(&["strict"], "refuse a config with unknown properties"),
];

const RUN: &[Flag] = &[DETACH, switch(&["keep"], "leave the container when its process ends"), NO_SUBREAPER];

const CRIU: &[Flag] = &[
    option(&["image-path"], "DIR", "where the image files lie (default: ./checkpoint)"),
    option(&["work-path"], "DIR", "where CRIU keeps its working files and logs"),
    switch(&["tcp-established"], "allow open TCP connections"),
    switch(&["ext-unix-sk"], "allow unix sockets to the outside"),
    switch(&["shell-job"], "allow a shell's job"),
    switch(&["lazy-pages"], "fetch memory pages when they are used"),
    switch(&["file-locks"], "keep file locks"),
    option(&["manage-cgroups-mode"], "MODE", "soft, full, strict or ignore"),
    option(&["empty-ns"], "TYPE", "make this namespace, but restore nothing in it; may be repeated"),
    switch(&["auto-dedup"], "drop pages from the parent's images that newer ones replace"),
];

const HELP: Flag = switch(&["help", "h"], "show help");

/// What every command has besides its own flags.
static COMMON: &[Flag] = &[HELP];

/// Flags before the command.
pub(super) static GLOBAL: &[Flag] = &[
    switch(&["debug"], "log debug lines"),
    option(&["log"], "FILE", "append log lines to a file (default: standard error)"),
    option(&["log-format"], "FORMAT", "text or json (default: text)"),
    option(&["log-level"], "LEVEL", "error, warning, info or debug"),
    option(&["root"], "DIR", "where state is kept, best on a tmpfs (default: /run/tare, or $XDG_RUNTIME_DIR/tare)"),
    switch(&["systemd-cgroup"], "let systemd make cgroups; cgroupsPath reads slice:prefix:name"),
    option(&["cgroup-manager"], "MANAGER", "cgroupfs, systemd or disabled"),
    option(&["rootless"], "WHEN", "live with cgroup permission errors: true, false or auto (default: auto)"),
    hidden(option(&["criu"], "PATH", "the criu program")),
    HELP,
    switch(&["version", "v"], "print the version"),
];

const ID: &str = "<container-id>";

/// A command with the commonest properties; each of the table says what differs.
const PLAIN: Verb = Verb {
    name: "",
    operands: ID,
    about: "",
    text: "",
    flags: &[],
    arity: Arity::Exactly(1),
    trailing: false,
    hidden: false,
    build: verbs::features,
};

const UPDATE_TEXT: &str = "\
The resources file holds the specification's linux.resources object; what it does not name stays as it is. With
--resources, the other flags are ignored. Sizes take a unit: 64M.";

const TRACE_TEXT: &str = "\
As run. Once the process is executed, or when a step has failed, every step of the plan is told: when its lane came to it,
how long it waited for another lane, how long it took, and the error that it met. explain prints the plan alone.";

const TOP_TEXT: &str = "\
CPU% is that since the table before, 100 being one CPU. Without an id all containers that have not stopped are shown. JSON is
one array a line.";

/// All commands, in the order of help.
pub(super) static VERBS: &[Verb] = &[
    Verb {
        name: "create",
        about: "create a container",
        text: "Makes everything that the bundle's config.json asks for and stops short of running the process; start runs it.",
        flags: &[CREATE],
        build: verbs::create,
        ..PLAIN
    },
    Verb { name: "start", about: "run the process of a created container", build: verbs::start, ..PLAIN },
    Verb {
        name: "run",
        about: "create a container and run its process",
        text: "Without --detach the exit code is that of the process, or 128 and the signal that ended it.",
        flags: &[CREATE, RUN],
        build: verbs::run,
        ..PLAIN
    },
    Verb { name: "state", about: "print the state of a container", build: verbs::state, ..PLAIN },
    Verb {
        name: "kill",
        operands: "<container-id> [signal]",
        about: "send a signal to a container's process (default: SIGTERM)",
        text: "A signal is a number or a name, with or without SIG, real-time ones as RTMIN+n and RTMAX-n.",
        flags: &[&[switch(&["all", "a"], "send it to every process of the container")]],
        arity: Arity::Between(1, 2),
        build: verbs::kill,
        ..PLAIN
    },
    Verb {
        name: "delete",
        about: "remove a container and all that was made for it",
        flags: &[&[switch(&["force", "f"], "kill it first where it runs; an absent container is no error")]],
        build: verbs::delete,
        ..PLAIN
    },
    Verb {
        name: "exec",
        operands: "<container-id> <command> [arguments...]",
        about: "run another process in a container",
        text: "All after the id belongs to the command. With --process no command is given.",
        flags: &[&[
            CONSOLE,
            PIDFD,
            option(&["cwd"], "DIR", "the working directory, in the container"),
            option(&["env", "e"], "NAME=VALUE", "set an environment variable; may be repeated"),
            switch(&["tty", "t"], "give it a terminal"),
            option(&["user", "u"], "UID[:GID]", "the user and group that it runs as"),
            option(&["additional-gids", "g"], "GID", "add a group; may be repeated"),
            option(&["process", "p"], "FILE", "take all of it from a process object of the specification"),
            DETACH,
            PID_FILE,
            option(&["process-label"], "LABEL", "the SELinux label"),
            option(&["apparmor"], "PROFILE", "the AppArmor profile"),
            switch(&["no-new-privs"], "it can gain no privileges"),
            option(&["cap", "c"], "CAPABILITY", "add a capability; may be repeated"),
            PRESERVE,
            option(&["cgroup"], "[CONTROLLER:]PATH", "put it into a cgroup below the container's; may be repeated"),
            switch(&["ignore-paused"], "allow it in a paused container"),
            hidden(NO_SUBREAPER),
        ]],
        arity: Arity::AtLeast(1),
        trailing: true,
        build: verbs::exec,
        ..PLAIN
    },
    Verb {
        name: "list",
        operands: "",
        about: "list the containers of this root",
        flags: &[&[FORMAT, switch(&["quiet", "q"], "print ids only")]],
        arity: Arity::Exactly(0),
        build: verbs::list,
        ..PLAIN
    },
    Verb {
        name: "ps",
        operands: "<container-id> [ps options]",
        about: "list the processes of a container",
        flags: &[&[FORMAT]],
        arity: Arity::AtLeast(1),
        trailing: true,
        build: verbs::ps,
        ..PLAIN
    },
    Verb { name: "pause", about: "suspend all processes of a container", build: verbs::pause, ..PLAIN },
    Verb { name: "resume", about: "let a paused container run again", build: verbs::resume, ..PLAIN },
    Verb {
        name: "update",
        about: "change a container's limits",
        text: UPDATE_TEXT,
        flags: &[&[
            option(&["resources", "r"], "FILE", "read the resources from a file, or from standard input with -"),
            option(&["blkio-weight"], "WEIGHT", "share of block I/O, 10 to 1000"),
            option(&["cpu-period"], "USEC", "the period that the quota is for"),
            option(&["cpu-quota"], "USEC", "CPU time in a period"),
            option(&["cpu-burst"], "USEC", "CPU time that may be saved up for later"),
            option(&["cpu-share"], "SHARES", "share of the CPUs"),
            option(&["cpu-rt-period"], "USEC", "the period that the real-time budget is for"),
            option(&["cpu-rt-runtime"], "USEC", "real-time CPU time in a period"),
            option(&["cpu-idle"], "0|1", "1 makes it run only when nothing else does"),
            option(&["cpuset-cpus"], "LIST", "the CPUs that may be used"),
            option(&["cpuset-mems"], "LIST", "the memory nodes that may be used"),
            option(&["memory"], "SIZE", "the memory limit"),
            option(&["memory-reservation"], "SIZE", "the memory that is kept for it under pressure"),
            option(&["memory-swap"], "SIZE", "the limit of memory and swap together; -1 for none"),
            option(&["pids-limit"], "N", "the number of tasks; -1 for no limit"),
            option(&["l3-cache-schema"], "SCHEMA", "the L3 cache schema of Intel RDT"),
            option(&["mem-bw-schema"], "SCHEMA", "the memory bandwidth schema of Intel RDT"),
            hidden(option(&["kernel-memory"], "SIZE", "obsolete")),
            hidden(option(&["kernel-memory-tcp"], "SIZE", "obsolete")),
        ]],
        build: verbs::update,
        ..PLAIN
    },
    Verb {
        name: "events",
        about: "print out-of-memory events and statistics of a container",
        flags: &[&[
            option(&["interval"], "DURATION", "how often statistics are printed (default: 5s)"),
            switch(&["stats"], "print statistics once and return"),
        ]],
        build: verbs::events,
        ..PLAIN
    },
    Verb {
        name: "checkpoint",
        about: "save a running container to image files",
        flags: &[
            CRIU,
            &[
                option(&["parent-path"], "DIR", "the images of an earlier --pre-dump"),
                switch(&["leave-running"], "the container goes on after it is saved"),
                option(&["status-fd"], "FD", "a descriptor that a zero byte is written to once lazy pages are ready"),
                option(&["page-server"], "ADDRESS:PORT", "send memory pages there"),
                switch(&["pre-dump"], "save memory only, the container goes on"),
            ],
        ],
        build: verbs::checkpoint,
        ..PLAIN
    },
    Verb {
        name: "restore",
        about: "restore a container from image files",
        flags: &[
            CREATE,
            CRIU,
            &[
                DETACH,
                NO_SUBREAPER,
                option(&["lsm-profile"], "TYPE:NAME", "the security module's profile"),
                option(&["lsm-mount-context"], "CONTEXT", "the security module's context of mounts"),
            ],
        ],
        build: verbs::restore,
        ..PLAIN
    },
    Verb {
        name: "mounts",
        operands: "add|remove <container-id> <file>",
        about: "put mounts into a running container, or take them out",
        text: "The file holds an array of mounts as in the specification.",
        arity: Arity::Exactly(3),
        build: verbs::mounts,
        ..PLAIN
    },
    Verb {
        name: "spec",
        operands: "",
        about: "write a config.json to start from",
        flags: &[&[BUNDLE, switch(&["rootless"], "for a container of a user other than root")]],
        arity: Arity::Exactly(0),
        build: verbs::spec,
        ..PLAIN
    },
    Verb {
        name: "features",
        operands: "",
        about: "print what is supported, as JSON",
        arity: Arity::Exactly(0),
        ..PLAIN
    },
    Verb {
        name: "explain",
        operands: "[container-id]",
        about: "print the plan of a bundle: every step, and the config field that it comes from; nothing is done",
        flags: &[CREATE, &[JSON]],
        arity: Arity::Between(0, 1),
        build: verbs::explain,
        ..PLAIN
    },
    Verb {
        name: "diff",
        about: "compare a running container with its plan",
        flags: &[&[JSON]],
        build: verbs::diff,
        ..PLAIN
    },
    Verb {
        name: "trace",
        about: "run a container and print the time of each step",
        text: TRACE_TEXT,
        flags: &[
            CREATE,
            RUN,
            &[JSON, option(&["output", "o"], "FILE", "write the trace to a file (default: standard error)")],
        ],
        build: verbs::trace,
        ..PLAIN
    },
    Verb {
        name: "doctor",
        operands: "",
        about: "look over this host: what works, what does not, and why",
        flags: &[&[JSON]],
        arity: Arity::Exactly(0),
        build: verbs::doctor,
        ..PLAIN
    },
    Verb {
        name: "top",
        operands: "[container-id...]",
        about: "show what containers use, again and again",
        text: TOP_TEXT,
        flags: &[&[
            option(&["interval"], "DURATION", "how often (default: 2s)"),
            option(&["iterations", "n"], "N", "print so many tables and return; 0 for no end (default: 0)"),
            switch(&["once"], "the same as --iterations 1"),
            FORMAT,
        ]],
        arity: Arity::AtLeast(0),
        build: verbs::top,
        ..PLAIN
    },
    Verb {
        name: "gc",
        operands: "",
        about: "remove what crashed commands left behind",
        flags: &[&[switch(&["dry-run", "n"], "print what would be removed, remove nothing")]],
        arity: Arity::Exactly(0),
        build: verbs::gc,
        ..PLAIN
    },
    Verb {
        name: "completion",
        operands: "bash|zsh|fish",
        about: "print a completion script",
        build: verbs::completion,
        ..PLAIN
    },
    Verb {
        name: "man",
        operands: "[command]",
        about: "print a manual page",
        arity: Arity::Between(0, 1),
        hidden: true,
        build: verbs::man,
        ..PLAIN
    },
    Verb {
        name: "help",
        operands: "[command]",
        about: "show help",
        arity: Arity::AtLeast(0),
        build: verbs::help,
        ..PLAIN
    },
];
