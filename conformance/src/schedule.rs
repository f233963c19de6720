//! Many cases at once, each in a worker process with a limit; whatever a worker leaves is swept.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::case::Case;
use crate::kernel;
use crate::outcome::{Outcome, Verdict};
use crate::worker::{ENTER, Job};

/// How a run is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Directory for everything; made and removed.
    pub work: PathBuf,
    /// The program that is called with [`ENTER`]: this one.
    pub worker: PathBuf,
    /// The probe.
    pub probe: PathBuf,
    /// Workers at a time.
    pub jobs: usize,
    /// Seconds that a case may take.
    pub limit: u64,
    /// Seconds that one call of the runtime may take.
    pub call_limit: u64,
    /// Milliseconds that a program may take from start to its report.
    pub patience: u64,
    /// Run with the unpatched config.
    pub deaf: bool,
}

/// Runs the cases against one runtime. `done` hears of every outcome as it comes; the outcomes stand in the order of the cases.
///
/// # Errors
/// The working directory cannot be made.
pub fn run(
    plan: &Plan,
    base: &Value,
    cases: &[Case],
    command: &[String],
    done: &(dyn Fn(&Case, &Outcome) + Sync),
) -> Result<Vec<Outcome>, String> {
    let say = |e: std::io::Error| format!("{}: {e}", plan.work.display());
    if let Some(above) = plan.work.parent() {
        fs::create_dir_all(above).map_err(say)?;
    }
    // Never one that is there already: it is removed with all that is in it.
    fs::create_dir(&plan.work).map_err(say)?;
    let probe = plan.work.join("probe");
    fs::copy(&plan.probe, &probe).map_err(say)?;
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Outcome>>> = cases.iter().map(|_| Mutex::new(None)).collect();
    let group = format!("/oci-conformance-{}", std::process::id());
    thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(i) else { return };
                    let job = Job {
                        case: case.clone(),
                        base: base.clone(),
                        command: command.to_vec(),
                        probe: probe.to_string_lossy().into_owned(),
                        dir: plan.work.join(i.to_string()),
                        cgroup: format!("{group}/{i}"),
                        call_limit: plan.call_limit,
                        patience: plan.patience,
                        deaf: plan.deaf,
                    };
                    let begin = Instant::now();
                    let mut outcome = one(plan, &job);
                    outcome.millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
                    sweep(&job, &outcome);
                    done(case, &outcome);
                    *slots[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                }
            });
        }
    });
    sweep_group(&group);
    fs::remove_dir_all(&plan.work).map_err(say)?;
    let missing = || Outcome::broken("never ran".into());
    Ok(slots
        .into_iter()
        .map(|s| s.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(missing))
        .collect())
}

/// One worker from start to end.
fn one(plan: &Plan, job: &Job) -> Outcome {
    let text = match serde_json::to_string(job) {
        Ok(text) => text,
        Err(e) => return Outcome::broken(format!("job: {e}")),
    };
    let out = job.dir.with_extension("outcome");
    let begun = fs::File::create(&out).and_then(|file| {
        let mut child = Command::new(&plan.worker)
            .arg(ENTER)
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(Stdio::inherit())
            .spawn()?;
        child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(text.as_bytes()))?;
        Ok(child)
    });
    let mut child = match begun {
        Ok(child) => child,
        Err(e) => return Outcome::broken(format!("worker: {e}")),
    };
    if !wait(&mut child, Duration::from_secs(plan.limit)) {
        return Outcome::new(Verdict::Fail, format!("the case took longer than {} s", plan.limit));
    }
    fs::read_to_string(&out)
        .map_err(|e| e.to_string())
        .and_then(|t| serde_json::from_str(&t).map_err(|e| format!("{e} in {t:?}")))
        .unwrap_or_else(|e| Outcome::broken(format!("worker: {e}")))
}

/// Waits for a worker; at the limit it is killed, and its pid namespace with it.
fn wait(child: &mut Child, limit: Duration) -> bool {
    let begin = Instant::now();
    loop {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return true;
        }
        if begin.elapsed() > limit {
            let _already_gone = child.kill().and_then(|()| child.wait());
            return false;
        }
        sleep(Duration::from_millis(2));
    }
}

/// Takes away directories and cgroups of a case. The worker's namespaces are gone, so nothing in them can be busy for long.
fn sweep(job: &Job, outcome: &Outcome) {
    for dir in &outcome.cgroups {
        if dir.contains("oci-conformance-") || dir.contains("conf-") {
            remove_cgroup(Path::new(dir));
        }
    }
    let begin = Instant::now();
    while fs::remove_dir_all(&job.dir).is_err() && job.dir.exists() && begin.elapsed() < Duration::from_secs(2) {
        sleep(Duration::from_millis(5));
    }
}

/// Removes the run's own group in every hierarchy, children first.
fn sweep_group(group: &str) {
    for mount in kernel::cgroup_mounts().into_values() {
        remove_cgroup(Path::new(&format!("{mount}{group}")));
    }
}

/// Removes a cgroup with its children; gives processes that were just killed a moment to leave.
fn remove_cgroup(dir: &Path) {
    let children =
        fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    for child in children {
        remove_cgroup(&child.path());
    }
    let begin = Instant::now();
    while fs::remove_dir(dir).is_err() && dir.exists() && begin.elapsed() < Duration::from_secs(1) {
        sleep(Duration::from_millis(5));
    }
}
