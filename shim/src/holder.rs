//! The process that holds a pod's namespaces when the shim is the sandbox.
//!
//! An engine that lets the shim be the sandbox joins the pod's containers to the namespaces of the pid that `StartSandbox` gives
//! (containerd 2: network, ipc, uts, and the pid namespace where it is shared). The shim's own are the host's, so it gives the pid
//! of this process: a fork that lives in new namespaces, sees an empty root, may do nothing, reaps what is orphaned, and dies with
//! the shim.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::{set_dumpable, set_name, set_no_new_privs, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid, chdir, pipe2, pivot_root, setgroups, sethostname, setresgid, setresuid};

use crate::api::{Pair, PodConfig};
use crate::executor::{READ, Source};
use crate::reaper::{Reaper, Watch};
use crate::sys;

/// Nobody's number, which pause images use, too: no file of the host belongs to it.
const NOBODY: u32 = 65535;
/// `NamespaceMode.NODE` of the CRI: the host's.
const NODE: u32 = 2;
/// `NamespaceMode.POD`: the pod's own.
const POD: u32 = 0;
/// What the process writes when it holds everything; anything else is why it does not.
const READY: &[u8] = b".";

/// What is to be held.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The network namespace that the engine has made; none where the pod has the host's.
    network: Option<PathBuf>,
    own_pids: bool,
    own_ipc: bool,
    /// The name in the pod's own uts namespace; none where the pod has the host's network, and with it the host's name.
    hostname: Option<String>,
    sysctls: Vec<Pair>,
    /// A directory that may be covered, within the process's own mounts only.
    root: PathBuf,
}

impl Wanted {
    /// Reads the pod's configuration. What it does not say is the pod's own, not the host's.
    ///
    /// # Errors
    /// A sentence with the field that this shim cannot fulfil.
    pub fn of(pod: &PodConfig, netns_path: &str, bundle: &str) -> Result<Wanted, String> {
        let linux = pod.linux.clone().unwrap_or_default();
        let modes = linux.security.unwrap_or_default().namespaces.unwrap_or_default();
        if modes.users.is_some_and(|users| users.mode == POD) {
            return Err("userns_options: a sandbox of this shim has no user namespace; use sandboxer = \"podsandbox\""
                .to_owned());
        }
        let has_network = modes.network != NODE;
        if has_network && netns_path.is_empty() && pod.linux.is_some() {
            return Err("netns_path: is missing, and the pod is not to have the host's network".to_owned());
        }
        let wanted = Wanted {
            network: (!netns_path.is_empty()).then(|| netns_path.into()),
            own_pids: modes.pid != NODE,
            own_ipc: modes.ipc != NODE,
            hostname: has_network.then(|| pod.hostname.clone()),
            sysctls: linux.sysctls,
            root: Path::new(bundle).join("rootfs"),
        };
        wanted.sysctls.iter().try_for_each(|sysctl| wanted.may_set(&sysctl.key))?;
        Ok(wanted)
    }

    /// A sysctl of a namespace that the pod does not own would be the host's.
    fn may_set(&self, name: &str) -> Result<(), String> {
        const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
        let of_ipc =
            name.starts_with("fs.mqueue.") || name.strip_prefix("kernel.").is_some_and(|rest| IPC.contains(&rest));
        let owned = (of_ipc && self.own_ipc) || (name.starts_with("net.") && self.network.is_some());
        // Every dot becomes a slash, so no name leads out of its directory.
        if owned { Ok(()) } else { Err(format!("sysctls: {name} is of no namespace that the pod owns")) }
    }

    fn namespaces(&self) -> i32 {
        let own = |wanted: bool, flag: i32| if wanted { flag } else { 0 };
        libc::CLONE_NEWNS
            | own(self.own_pids, libc::CLONE_NEWPID)
            | own(self.own_ipc, libc::CLONE_NEWIPC)
            | own(self.hostname.is_some(), libc::CLONE_NEWUTS)
    }
}

/// Starts the process: its pid, and its end.
///
/// # Errors
/// A sentence with the step that failed; there is no process then.
pub async fn hold(wanted: &Wanted, reaper: &Rc<Reaper>) -> Result<(u32, Rc<Watch>), String> {
    let (heard, tell) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|e| format!("pipe: {e}"))?;
    let _claim = reaper.claim();
    let Some(pid) = sys::fork_into(wanted.namespaces()).map_err(|e| format!("clone: {e}"))? else {
        drop(heard);
        sys::exit_now(live(wanted, tell));
    };
    drop(tell);
    let watch = reaper.watch(pid);
    let said = read_to_end(heard).await.map_err(|e| format!("the sandbox's first word: {e}"))?;
    if said == READY { Ok((pid, watch)) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

async fn read_to_end(pipe: OwnedFd) -> io::Result<Vec<u8>> {
    let source = Source::new(pipe, READ)?;
    let mut said = Vec::new();
    loop {
        let mut part = [0u8; 512];
        match source.attempt(READ, |fd| Ok(nix::unistd::read(fd, &mut part)?)).await? {
            0 => return Ok(said),
            count => said.extend_from_slice(&part[..count]),
        }
    }
}

/// The life of the process.
fn live(wanted: &Wanted, tell: OwnedFd) -> i32 {
    let mut tell = File::from(tell);
    let settled = settle(wanted);
    let word = match &settled {
        Ok(()) => READY,
        Err(text) => text.as_bytes(),
    };
    // A shim that died before the process asked to die with it does not read this any more.
    if tell.write_all(word).is_err() || settled.is_err() {
        return 1;
    }
    drop(tell);
    sys::close_all();
    // The shim has blocked this signal, so none is lost between the look and the wait.
    let mut orphans = SigSet::empty();
    orphans.add(Signal::SIGCHLD);
    loop {
        while matches!(sys::reap(), Ok(Some(_))) {}
        if orphans.wait().is_err() {
            return 1;
        }
    }
}

fn settle(wanted: &Wanted) -> Result<(), String> {
    set_name(c"tare-pod").map_err(|e| format!("prctl PR_SET_NAME: {e}"))?;
    if let Some(path) = &wanted.network {
        let namespace = File::open(path).map_err(|e| format!("netns_path {}: {e}", path.display()))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|e| format!("setns {}: {e}", path.display()))?;
    }
    if let Some(name) = wanted.hostname.as_deref().filter(|name| !name.is_empty()) {
        sethostname(name).map_err(|e| format!("hostname {name:?}: {e}"))?;
    }
    for Pair { key, value } in &wanted.sysctls {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        fs::write(path, value).map_err(|e| format!("sysctls: {key} = {value:?}: {e}"))?;
    }
    leave_the_host(&wanted.root).map_err(|(step, e)| format!("{step} {}: {e}", wanted.root.display()))?;
    become_nobody().map_err(|(step, e)| format!("{step}: {e}"))
}

type Step<T> = Result<T, (&'static str, nix::Error)>;

/// An empty root instead of the host's: who shares the pid namespace can see `/proc/1/root`.
fn leave_the_host(root: &Path) -> Step<()> {
    let (none, here) = (None::<&str>, Path::new("."));
    let at = |step| move |e| (step, e);
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(at("private mounts, before"))?;
    let sealed = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), root, Some("tmpfs"), sealed, Some("size=4k")).map_err(at("tmpfs"))?;
    chdir(root).map_err(at("chdir"))?;
    pivot_root(here, here).map_err(at("pivot_root"))?;
    umount2(here, MntFlags::MNT_DETACH).map_err(at("umount of the old root under"))?;
    chdir("/").map_err(at("chdir"))
}

fn become_nobody() -> Step<()> {
    let at = |step| move |e| (step, e);
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[]).map_err(at("setgroups"))?;
    setresgid(gid, gid, gid).map_err(at("setresgid"))?;
    setresuid(uid, uid, uid).map_err(at("setresuid"))?;
    set_no_new_privs().map_err(at("prctl PR_SET_NO_NEW_PRIVS"))?;
    set_dumpable(false).map_err(at("prctl PR_SET_DUMPABLE"))?;
    // After the change of users, which takes it away.
    set_pdeathsig(Signal::SIGKILL).map_err(at("prctl PR_SET_PDEATHSIG"))
}

#[cfg(test)]
mod tests {
    use super::{NODE, Wanted};
    use crate::api::{NamespaceModes, Pair, PodConfig, PodLinux, PodSecurity, UserNamespace};

    fn pod(modes: NamespaceModes, sysctls: &[&str]) -> PodConfig {
        let sysctls = sysctls.iter().map(|key| Pair { key: (*key).into(), value: "1".into() }).collect();
        let security = Some(PodSecurity { namespaces: Some(modes) });
        PodConfig { hostname: "pod".into(), linux: Some(PodLinux { security, sysctls }) }
    }

    #[test]
    fn what_is_not_said_is_the_pods_own() {
        let said = Wanted::of(&pod(NamespaceModes::default(), &[]), "/run/netns/a", "/b").unwrap();
        assert_eq!(said.network.as_deref(), Some(std::path::Path::new("/run/netns/a")));
        assert_eq!((said.own_pids, said.own_ipc, said.hostname.as_deref()), (true, true, Some("pod")));
        let unsaid = Wanted::of(&PodConfig::default(), "", "/b").unwrap();
        assert!(unsaid.own_pids && unsaid.own_ipc && unsaid.hostname.is_some());
    }

    #[test]
    fn the_hosts_namespaces_are_had_by_word_only() {
        let modes = NamespaceModes { network: NODE, pid: NODE, ipc: NODE, ..NamespaceModes::default() };
        let host = Wanted::of(&pod(modes, &[]), "", "/b").unwrap();
        assert_eq!(host.namespaces(), libc::CLONE_NEWNS);
        assert_eq!((host.network, host.hostname), (None, None));
        let error = Wanted::of(&pod(NamespaceModes::default(), &[]), "", "/b").unwrap_err();
        assert!(error.starts_with("netns_path: is missing"), "{error}");
    }

    #[test]
    fn a_sysctl_of_the_hosts_is_refused() {
        let modes = NamespaceModes::default;
        let allowed = ["net.ipv4.ip_unprivileged_port_start", "kernel.shmmax", "fs.mqueue.msg_max"];
        assert_eq!(Wanted::of(&pod(modes(), &allowed), "/n", "/b").unwrap().sysctls.len(), 3);
        for host in ["kernel.core_pattern", "vm.swappiness", "net/../kernel/core_pattern"] {
            assert!(Wanted::of(&pod(modes(), &[host]), "/n", "/b").is_err(), "{host}");
        }
        let shared = NamespaceModes { network: NODE, ipc: NODE, ..modes() };
        for host in allowed {
            assert!(Wanted::of(&pod(shared.clone(), &[host]), "", "/b").is_err(), "{host}");
        }
    }

    #[test]
    fn a_user_namespace_is_refused() {
        let modes = NamespaceModes { users: Some(UserNamespace { mode: super::POD }), ..NamespaceModes::default() };
        let error = Wanted::of(&pod(modes, &[]), "/n", "/b").unwrap_err();
        assert!(error.starts_with("userns_options: "), "{error}");
    }
}
