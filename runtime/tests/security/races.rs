//! A racer swaps a part of a destination's path with a link to the host, again and again, while containers are made.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use crate::canary::Canary;
use crate::support::{Case, case, ready};

/// How long the races of an ordinary run may take each; `TARE_RACES` asks for a number instead.
const SHORT: Duration = Duration::from_secs(8);
const FEW: u64 = 200;

/// A thread that swaps, until it is dropped.
struct Racer {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Racer {
    /// Beside each place a link to the canary is laid, and both change names.
    fn of(places: Vec<PathBuf>, canary: &Canary) -> Self {
        let pairs: Vec<_> = places
            .into_iter()
            .map(|place| {
                let link = place.with_file_name(format!("{}.link", place.file_name().unwrap().to_str().unwrap()));
                symlink(&canary.dir, &link).unwrap();
                (place, link)
            })
            .collect();
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for (one, other) in &pairs {
                    // EBUSY: something is mounted there, in a namespace that is about to go.
                    if renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Racer { stop, swaps, thread: Some(thread) }
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Makes containers until the time or the number is over; says how many there were.
fn race(name: &str, case: &Case, racer: &Racer, canary: &Canary) {
    let wanted: Option<u64> = std::env::var("TARE_RACES").ok().and_then(|n| n.parse().ok());
    let (begin, mut made, mut failed) = (Instant::now(), 0, 0);
    case.write();
    let more = |made| wanted.map_or(made < FEW && begin.elapsed() < SHORT, |n| made < n);
    while more(made) {
        let status = case.command(&["run", &case.id]).stdin(std::process::Stdio::null()).output().unwrap();
        made += 1;
        failed += u64::from(!status.status.success());
        assert!(status.status.code().is_some_and(|c| c <= 1), "{status:?}");
        assert_eq!(canary.events(), Vec::<String>::new(), "after {made}: {status:?}");
    }
    canary.is_untouched();
    assert_eq!(case.left(), Vec::<String>::new());
    let (swaps, took) = (racer.swaps.load(Ordering::Relaxed), begin.elapsed());
    println!("RACE {name}: {made} creates ({failed} refused), {swaps} swaps, {took:.1?}, 0 events at the canary");
    assert!(swaps > made, "the racer slept");
}

#[test]
fn a_destination_in_the_image_that_is_swapped() {
    if !ready() {
        return;
    }
    // CVE-2021-30465, CVE-2024-45310: directories on the way, the last one, a file, a working directory, a device's.
    let case = case()
        .mount("/race/a/x/new", "tmpfs", "tmpfs", &[])
        .mount("/race/a", "tmpfs", "tmpfs", &["tmpcopyup"])
        .mount("/race/b/file", "bind", "config.json", &["bind"])
        .set("/linux/maskedPaths", json!(["/race/c", "/race/b/file"]))
        .set("/linux/readonlyPaths", json!(["/race/d"]))
        .set("/linux/devices", json!([{"type": "c", "path": "/race/d/full", "major": 1, "minor": 7}]))
        .set("/process/cwd", json!("/race/e/made"));
    let canary = Canary::new();
    let race_dir = case.rootfs().join("race");
    for name in ["a/x", "b", "c", "d", "e"] {
        std::fs::create_dir_all(race_dir.join(name)).unwrap();
    }
    let racer = Racer::of(["a", "b", "c", "d", "e"].map(|n| race_dir.join(n)).into(), &canary);
    race("image", &case, &racer, &canary);
}

#[test]
fn a_destination_in_a_volume_that_is_swapped() {
    if !ready() {
        return;
    }
    // CVE-2021-30465 as it was found: another container of the pod has the volume, and a mount lies inside it.
    let case = case().mount("/vol", "bind", "volume", &["rbind"]).mount("/vol/a/x", "tmpfs", "tmpfs", &[]);
    let case = case.mount("/vol/b", "bind", "volume/c", &["rbind", "ro"]);
    let canary = Canary::new();
    for name in ["a/x", "b", "c"] {
        std::fs::create_dir_all(case.dir.join("volume").join(name)).unwrap();
    }
    let racer = Racer::of(["a", "b"].map(|n| case.dir.join("volume").join(n)).into(), &canary);
    race("volume", &case, &racer, &canary);
}

#[test]
fn proc_sys_and_dev_that_are_swapped() {
    if !ready() {
        return;
    }
    // CVE-2019-19921, CVE-2023-27561, CVE-2025-31133, CVE-2025-52565.
    let case = case().without_mount("/dev/pts").without_mount("/dev/shm").without_mount("/dev/mqueue");
    let case = case.without_mount("/dev").set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    // A directory that is to be made, which would be seen on the host.
    let case = case.mount("/dev/made/here", "tmpfs", "tmpfs", &[]);
    let canary = Canary::new();
    let racer = Racer::of(["proc", "sys", "dev"].map(|n| case.rootfs().join(n)).into(), &canary);
    race("proc, sys, dev", &case, &racer, &canary);
}
