//! A tree of the host that no container may touch: a filesystem of its own, watched by the kernel while the test runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags};

/// fanotify_init(2): events of directories and of names want file handles instead of descriptors.
const FAN_REPORT_FID: u32 = 0x200;

/// The tree, what it was, and who looks at it. It is mounted for as long as this lives.
pub(crate) struct Canary {
    /// Where it is.
    pub(crate) dir: PathBuf,
    before: Vec<String>,
    mounts: usize,
    watch: Fanotify,
}

/// Every inode of a tree with its numbers, mode, time of change and content.
fn look(dir: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let text = std::fs::read(&path).unwrap_or_default();
        let (ino, mode, time) = (meta.ino(), meta.mode(), (meta.ctime(), meta.ctime_nsec()));
        seen.push(format!("{} {ino} {mode:o} {}:{} {time:?} {text:?}", path.display(), meta.uid(), meta.gid()));
        if meta.is_dir() {
            seen.extend(look(&path));
        }
    }
    seen.sort();
    seen
}

/// How many mounts of the host lie on or below a directory.
fn mounts_at(dir: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|l| l.split(' ').nth(4).is_some_and(|p| Path::new(p).starts_with(dir))).count()
}

impl Canary {
    /// A tree with a file, a directory with a file in it, and what a container mounts over as a rule.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tare-canary-{}-{n}", crate::support::unique()));
        std::fs::create_dir(&dir).unwrap();
        mount(Some("canary"), &dir, Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).unwrap();
        for sub in ["sub", "shm", "pts", "net", "a"] {
            std::fs::create_dir(dir.join(sub)).unwrap();
        }
        for file in ["file", "sub/file", "null", "console", "pts/ptmx", "a/f"] {
            std::fs::write(dir.join(file), "untouched").unwrap();
        }
        let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let flags = flags | InitFlags::FAN_UNLIMITED_QUEUE | InitFlags::from_bits_retain(FAN_REPORT_FID);
        let watch = Fanotify::init(flags, EventFFlags::O_RDONLY).unwrap();
        let names = MaskFlags::FAN_CREATE | MaskFlags::FAN_DELETE | MaskFlags::FAN_MOVE | MaskFlags::FAN_ATTRIB;
        let data = MaskFlags::FAN_OPEN | MaskFlags::FAN_ACCESS | MaskFlags::FAN_MODIFY | MaskFlags::FAN_OPEN_EXEC;
        let how = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        let before = look(&dir);
        watch.mark(how, names | data | MaskFlags::FAN_ONDIR, nix::fcntl::AT_FDCWD, Some(&dir)).unwrap();
        Canary { mounts: mounts_at(&dir), dir, before, watch }
    }

    /// What others than this process did to it since it was last asked: the event, and who.
    pub(crate) fn events(&self) -> Vec<String> {
        let own = i32::try_from(std::process::id()).unwrap();
        let who = |e: &FanotifyEvent| std::fs::read_to_string(format!("/proc/{}/comm", e.pid())).unwrap_or_default();
        let mut seen = Vec::new();
        loop {
            match self.watch.read_events() {
                Ok(events) if events.is_empty() => return seen,
                Ok(events) => {
                    let foreign = events.iter().filter(|e| e.pid() != own);
                    seen.extend(foreign.map(|e| format!("{:?} by {} {}", e.mask(), e.pid(), who(e).trim())));
                }
                Err(Errno::EAGAIN) => return seen,
                Err(e) => panic!("the watch is broken: {e}"),
            }
        }
    }

    /// Nobody opened, read, changed, made, removed or mounted anything there.
    #[track_caller]
    pub(crate) fn is_untouched(&self) {
        assert_eq!(self.events(), Vec::<String>::new(), "somebody was at the canary");
        assert_eq!(look(&self.dir), self.before);
        assert_eq!(mounts_at(&self.dir), self.mounts, "something is mounted on the canary");
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        while mounts_at(&self.dir) > 0 && umount2(&self.dir, MntFlags::MNT_DETACH).is_ok() {}
        let _ = std::fs::remove_dir(&self.dir);
    }
}

#[test]
fn the_canary_notices_everything() {
    if !crate::support::ready() {
        return;
    }
    let touches = [
        "cat file",
        "ls",
        "touch new",
        "echo x >file",
        "mkdir new",
        "chmod 700 sub",
        "mv file other",
        "rm a/f",
        "ln -s x y",
        "mknod dev c 1 3",
        "ls sub",
        "cp /bin/busybox x",
    ];
    for touch in touches {
        let canary = Canary::new();
        canary.is_untouched();
        let done = std::process::Command::new("sh").arg("-c").arg(touch).current_dir(&canary.dir).output().unwrap();
        assert!(done.status.success(), "{touch}: {done:?}");
        assert!(!canary.events().is_empty(), "{touch} was not noticed");
    }
}
