//! The story of a case: its commands in order, and everything that was seen on the way.

use std::collections::BTreeSet;
use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

mod claims;

use crate::patch::{Patch, fill};
use crate::runtime::{Output, Runtime, now};
use crate::worker::Job;
use crate::world::{self, World};
use crate::{check, kernel};

/// How long a program that must not run is watched.
const SILENCE: Duration = Duration::from_millis(150);

/// How long the last words of a terminal may take at least; where programs are given more time, these are too.
const GRACE: Duration = Duration::from_millis(400);

/// A case under way.
#[derive(Debug)]
pub(crate) struct Story {
    runtime: Runtime,
    world: World,
    pub(super) seen: Value,
    config: Value,
    raw: Option<String>,
    id: String,
    files: Vec<(String, String)>,
    dirs: BTreeSet<String>,
    console: bool,
    patience: Duration,
    /// Processes that were there before the runtime was first called.
    company: BTreeSet<u32>,
}

impl Story {
    /// Lays out the world and writes the config.
    ///
    /// # Errors
    /// What of the case could not be laid out.
    pub(crate) fn new(
        job: &Job,
        patch: &Patch,
        given: &[Value],
        actions: &[String],
        limit: Duration,
    ) -> Result<Self, String> {
        let dir = &job.dir;
        let id = format!("conf-{}", job.cgroup.rsplit('/').next().unwrap_or("case"));
        let mut world = World { names: names(job, &id), ..World::default() };
        if let Some((major, minor)) = crate::needs::block_device() {
            world.names.insert("BLOCK:major".to_owned(), json!(major));
            world.names.insert("BLOCK:minor".to_owned(), json!(minor));
        }
        for entry in given {
            let entry = fill(entry, &world.names);
            world::lay(&mut world, dir, &job.probe, &entry)?;
        }
        let mut config = patch.apply(&job.base)?;
        let wanted = config.pointer_mut("/process/args").and_then(Value::as_array_mut);
        if let Some(args) = wanted.filter(|a| !a.is_empty()) {
            args.extend(actions.iter().map(|a| json!(a)));
        }
        let files = wanted_files(&job.case.check);
        let console = given.iter().any(|g| g.get("console").is_some());
        let runtime = Runtime::new(job.command.clone(), dir, limit);
        let patience = Duration::from_millis(job.patience);
        let raw = job.case.raw.clone().filter(|_| !job.deaf);
        let (dirs, company) = (BTreeSet::new(), kernel::processes());
        let mut story =
            Self { runtime, world, seen: json!({}), config, raw, id, files, dirs, console, patience, company };
        story.write_config()?;
        story.seen["host"] = host();
        story.seen["given"] = Value::Object(story.world.names.clone());
        Ok(story)
    }

    /// Everything that was seen.
    pub(crate) fn seen(&self) -> &Value {
        &self.seen
    }

    /// A check with the names of this case put in.
    pub(crate) fn fill(&self, check: &[Value]) -> Vec<Value> {
        check.iter().map(|part| fill(part, &self.world.names)).collect()
    }

    /// Directories of the cgroups that containers were in.
    pub(crate) fn cgroups(&self) -> Vec<String> {
        self.dirs.iter().cloned().collect()
    }

    /// The steps in order.
    ///
    /// # Errors
    /// The first step that did not go as it says.
    pub(crate) fn all(&mut self, steps: &[Value]) -> Result<(), String> {
        steps.iter().try_for_each(|step| self.step(&fill(step, &self.world.names)))
    }

    /// Create must fail (or, `late`, start), no container may be left and the program may not have run.
    ///
    /// # Errors
    /// What happened instead.
    pub(crate) fn refusal(&mut self, late: bool) -> Result<(), String> {
        let created = self.create(&json!({}))?;
        if created["rc"] == 0 {
            if !late {
                return Err("create accepts it".into());
            }
            let started = self.call(&["start"], &self.id.clone(), &[])?;
            if started["rc"] == 0 && self.report(self.patience).is_ok() {
                return Err("create and start accept it and the program runs".into());
            }
            if started["rc"] == 0 {
                // The failure of an exec may be known only after start has returned.
                self.finish();
                return if late { Ok(()) } else { Err("start accepts it".into()) };
            }
        }
        crashed(&created)?;
        if self.report(SILENCE).is_ok() {
            return Err("the program ran all the same".into());
        }
        if created["rc"] != 0 {
            let state = self.call(&["state"], &self.id.clone(), &[])?;
            if state["rc"] == 0 {
                return Err(format!("create failed but state finds a container: {}", state["json"]["status"]));
            }
        }
        self.finish();
        Ok(())
    }

    /// Gathers what only the end knows: exit status, hooks, the order of events.
    pub(crate) fn finish(&mut self) {
        self.runtime.reap(None);
        let exit = self.pid().and_then(|pid| self.runtime.exits.get(&pid).copied());
        self.seen["exit"] = json!(exit);
        self.seen["hooks"] = json!(self.hooks());
        self.seen["heard"] = json!(*self.world.heard.lock().unwrap_or_else(PoisonError::into_inner));
        self.seen["events"] = self.events();
    }

    fn step(&mut self, step: &Value) -> Result<(), String> {
        let verb = step["do"].as_str().unwrap_or_default().to_owned();
        let id = step["id"].as_str().unwrap_or(&self.id).to_owned();
        let words = |key: &str| -> Vec<String> {
            step[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let result = match verb.as_str() {
            "create" => self.create(step)?,
            "state" | "start" => self.call(&[&verb], &id, &[])?,
            "delete" => {
                self.call(if step["force"] == true { &["delete", "--force"] } else { &["delete"] }, &id, &[])?
            }
            "kill" => self.call(&["kill"], &id, &[step["signal"].as_str().unwrap_or("KILL").to_owned()])?,
            "call" => self.runtime.call(&words("args"), Output::Own)?,
            _ => return self.look_or_wait(&verb, step),
        };
        self.settle(&verb, step, result)
    }

    /// Notes the answer of a call and holds it against what the step expects of it.
    fn settle(&mut self, verb: &str, step: &Value, result: Value) -> Result<(), String> {
        let rc = result["rc"].clone();
        let said = result["stderr"].as_str().unwrap_or_default().trim().to_owned();
        let crash = crashed(&result);
        self.seen["steps"][step["as"].as_str().unwrap_or(verb)] = result;
        if step["any"] == true {
            return Ok(());
        }
        if rc.is_null() {
            return Err(format!("{verb} did not return in time"));
        }
        match (step["fails"] == true, rc == 0) {
            (true, true) => Err(format!("{verb} must fail, but answers 0")),
            (true, false) => crash,
            (false, false) => Err(format!("{verb} fails with {rc}: {said}")),
            (false, true) => Ok(()),
        }
    }

    fn look_or_wait(&mut self, verb: &str, step: &Value) -> Result<(), String> {
        let name = step["as"].as_str().unwrap_or(verb).to_owned();
        match verb {
            "report" if step["fails"] == true => match self.report(SILENCE) {
                Ok(()) => Err("the program ran".into()),
                Err(_) => Ok(()),
            },
            "report" => self.report(self.patience),
            "await" => self.line(step["key"].as_str().unwrap_or("signal"), self.patience),
            "gone" => self.gone(),
            "cgroups" => {
                self.read_cgroups();
                Ok(())
            }
            "process" => {
                self.seen["process"][name] = self.pid().map_or(Value::Null, process);
                Ok(())
            }
            "look" => {
                let path = step["path"].as_str().unwrap_or_default();
                self.seen["look"][name] = look(path);
                Ok(())
            }
            "cgroups-left" => {
                let left: Vec<_> = self.dirs.iter().filter(|d| std::path::Path::new(d).exists()).cloned().collect();
                self.seen["cgroupsLeft"] = json!(left);
                Ok(())
            }
            "mounts-left" => {
                let dir = self.runtime.dir.to_string_lossy().into_owned();
                let left: Vec<_> = kernel::mount_order("self").into_iter().filter(|m| m.starts_with(&dir)).collect();
                self.seen["mountsLeft"] = json!(left);
                Ok(())
            }
            "patch" => self.patch(step),
            "patch-from" => {
                let value = check::find(&self.seen, step["path"].as_str().unwrap_or_default()).clone();
                let pointer = step["pointer"].as_str().unwrap_or_default();
                self.patch(&json!({ "set": { pointer: value } }))
            }
            "each" => claims::each(self, step),
            "given" => {
                let entry = step["what"].clone();
                world::lay(&mut self.world, &self.runtime.dir.clone(), "", &entry)
            }
            "heard" => self.heard(),
            "sleep" => {
                sleep(Duration::from_millis(step["ms"].as_u64().unwrap_or(50)));
                Ok(())
            }
            other => Err(format!("unknown step {other}")),
        }
    }

    pub(super) fn create(&mut self, step: &Value) -> Result<Value, String> {
        let dir = self.runtime.dir.clone();
        let id = step["id"].as_str().unwrap_or(&self.id).to_owned();
        let bundle = step["bundle"].as_str().map_or_else(|| dir.join("bundle"), PathBuf::from);
        let mut args = vec!["create".to_owned(), "--bundle".into(), bundle.to_string_lossy().into_owned()];
        let pid_file = dir.join(format!("pid.{id}").replace('/', "_"));
        args.extend(["--pid-file".into(), pid_file.to_string_lossy().into_owned()]);
        if self.console {
            args.extend(["--console-socket".into(), dir.join("console.sock").to_string_lossy().into_owned()]);
        }
        args.push(id);
        let result = self.runtime.call(&args, Output::Container)?;
        self.seen["steps"]["create"] = result.clone();
        if result["rc"] == 0 {
            self.note_cgroups();
        }
        Ok(result)
    }

    pub(super) fn call(&mut self, verb: &[&str], id: &str, rest: &[String]) -> Result<Value, String> {
        let mut args: Vec<String> = verb.iter().map(|v| (*v).to_owned()).collect();
        args.push(id.to_owned());
        args.extend_from_slice(rest);
        self.runtime.call(&args, Output::Own)
    }

    fn write_config(&self) -> Result<(), String> {
        let filled = fill(&self.config, &self.world.names);
        let text = self.raw.clone().unwrap_or_else(|| format!("{filled:#}"));
        fs::write(self.runtime.dir.join("bundle/config.json"), text).map_err(|e| format!("config.json: {e}"))
    }

    pub(super) fn patch(&mut self, step: &Value) -> Result<(), String> {
        let mut plain = step.clone();
        if let Some(map) = plain.as_object_mut() {
            map.remove("do");
        }
        let patch: Patch = serde_json::from_value(plain).map_err(|e| e.to_string())?;
        self.config = patch.apply(&self.config)?;
        self.write_config()
    }

    /// The container's process as create named it: the pid file, or else what `state` says.
    fn pid(&self) -> Option<i32> {
        let file = self.runtime.dir.join(format!("pid.{}", self.id));
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    fn note_cgroups(&mut self) {
        let Some(pid) = self.pid() else { return };
        let mounts = kernel::cgroup_mounts();
        for (controller, path) in kernel::cgroups(&pid.to_string()) {
            if let Some(mount) = mounts.get(&controller).filter(|_| path != "/") {
                self.dirs.insert(format!("{mount}{path}"));
            }
        }
    }

    /// The cgroup files that the checks name, as `cgroup CONTROLLER FILE`.
    fn read_cgroups(&mut self) {
        let Some(pid) = self.pid() else { return };
        let mounts = kernel::cgroup_mounts();
        let paths = kernel::cgroups(&pid.to_string());
        let mut all = Map::new();
        for (controller, file) in &self.files {
            let (Some(mount), Some(path)) = (mounts.get(controller), paths.get(controller)) else { continue };
            let text = fs::read_to_string(format!("{mount}{path}/{file}")).map(|t| t.trim_end().to_owned()).ok();
            let entry = all.entry(controller.clone()).or_insert_with(|| json!({}));
            entry[file.as_str()] = json!(text);
        }
        self.seen["cgroup"] = Value::Object(all);
        self.seen["cgroupPath"] = json!(paths);
    }

    /// Waits for the probe's report.
    fn report(&mut self, patience: Duration) -> Result<(), String> {
        self.line("probe", patience)
    }

    /// Waits for a line of the program that is an object with this key.
    fn line(&mut self, key: &str, patience: Duration) -> Result<(), String> {
        let begin = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            self.runtime.reap(None);
            // What was written to a terminal is still on its way through a thread of ours.
            let alone = self.alone() && (!self.console || begin.elapsed() > GRACE.max(patience / 15));
            let text = fs::read_to_string(self.runtime.dir.join("out")).unwrap_or_default();
            let found = text.split_inclusive('\n').filter(|l| l.ends_with('\n')).find_map(|l| {
                let mut value: Value = serde_json::from_str(l.trim()).ok()?;
                value.get_mut(key).map(Value::take)
            });
            if let Some(value) = found {
                self.seen[key] = value;
                return Ok(());
            }
            if alone || begin.elapsed() > patience {
                let tail: String = text.chars().take(200).collect();
                return Err(format!("the program says nothing ({key}); its output: {tail:?}"));
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Whether nobody is left in the case's pid namespace who could still do anything: nothing is worth waiting for then.
    fn alone(&self) -> bool {
        kernel::processes().is_subset(&self.company)
    }

    /// Waits until the container's process has ended.
    fn gone(&mut self) -> Result<(), String> {
        let pid = self.pid().ok_or("no pid to wait for")?;
        if u32::try_from(pid).is_ok_and(|pid| self.company.contains(&pid)) {
            return Err(format!("pid {pid} is no process of the container's"));
        }
        let begin = Instant::now();
        while begin.elapsed() < self.patience {
            self.runtime.reap(None);
            if !PathBuf::from(format!("/proc/{pid}")).exists() {
                return Ok(());
            }
            sleep(Duration::from_millis(2));
        }
        Err("the container's process does not end".into())
    }

    fn heard(&self) -> Result<(), String> {
        let begin = Instant::now();
        while begin.elapsed() < self.patience {
            if !self.world.heard.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return Ok(());
            }
            sleep(Duration::from_millis(2));
        }
        Err("nothing came over the socket".into())
    }

    /// What hooks wrote, on the host and in the container's root filesystem, by time.
    fn hooks(&self) -> Vec<Value> {
        let dir = &self.runtime.dir;
        let mut all: Vec<Value> = [dir.join("hooks"), dir.join("bundle/rootfs/hooks")]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .flat_map(|text| text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect::<Vec<Value>>())
            .collect();
        all.sort_by_key(|h| h["time"].as_u64());
        all
    }

    /// Names of everything that has a time, in its order: `create<`, `create>`, hooks, `program`.
    fn events(&self) -> Value {
        let mut all: Vec<(u64, String)> = Vec::new();
        for (name, step) in self.seen["steps"].as_object().into_iter().flatten() {
            for (key, mark) in [("begin", '<'), ("end", '>')] {
                all.extend(step[key].as_u64().map(|t| (t, format!("{name}{mark}"))));
            }
        }
        for hook in self.seen["hooks"].as_array().into_iter().flatten() {
            all.extend(hook["time"].as_u64().map(|t| (t, hook["name"].as_str().unwrap_or_default().to_owned())));
        }
        all.extend(check::find(&self.seen, "probe time").as_u64().map(|t| (t, "program".to_owned())));
        all.sort();
        json!(all.into_iter().map(|(_, name)| name).collect::<Vec<_>>())
    }
}

/// What `${NAME}` stands for in a case before anything is laid out.
fn names(job: &Job, id: &str) -> Map<String, Value> {
    let text = |p: PathBuf| json!(p.to_string_lossy());
    let dir = &job.dir;
    let list = [
        ("BUNDLE", text(dir.join("bundle"))),
        ("ROOTFS", text(dir.join("bundle/rootfs"))),
        ("DIR", text(dir.clone())),
        ("LOG", text(dir.join("hooks"))),
        ("PROBE", json!(job.probe)),
        ("ID", json!(id)),
        ("CGROUP", json!(job.cgroup)),
    ];
    list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `(controller, file)` of every check on a cgroup value.
fn wanted_files(checks: &[Vec<Value>]) -> Vec<(String, String)> {
    let paths = checks.iter().filter_map(|c| c.first()?.as_str());
    paths
        .filter_map(|p| {
            let mut words = p.strip_prefix("cgroup ")?.split(' ');
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

/// A runtime that dies of a signal has not refused anything.
fn crashed(result: &Value) -> Result<(), String> {
    match result["rc"].as_i64() {
        None => Err("the call did not return in time".into()),
        Some(rc) if (128 + 3..=128 + 31).contains(&rc) => Err(format!("the runtime died of signal {}", rc - 128)),
        Some(_) => Ok(()),
    }
}

/// The runtime's side, to compare the container with.
fn host() -> Value {
    json!({
        "ns": kernel::namespaces("self"),
        "hostname": nix::unistd::gethostname().ok().map(|h| h.to_string_lossy().into_owned()),
        "oomScoreAdj": fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|t| t.trim().parse::<i64>().ok()),
        "cgroup": kernel::cgroups("self"),
        "time": now(),
    })
}

/// The container's process as the host sees it.
fn process(pid: i32) -> Value {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).map(|v| v.trim().to_owned());
    json!({
        "pid": pid,
        "alive": line("State:").is_some_and(|s| !s.starts_with('Z')),
        "ns": kernel::namespaces(&pid.to_string()),
        "cgroup": kernel::cgroups(&pid.to_string()),
        "uid": line("Uid:"),
    })
}

/// A path on the host: null when there is nothing.
fn look(path: &str) -> Value {
    let Ok(m) = fs::symlink_metadata(path) else { return Value::Null };
    json!({
        "type": kernel::file_type(m.st_mode()), "mode": format!("{:04o}", m.st_mode() & 0o7777), "uid": m.st_uid(),
        "gid": m.st_gid(), "text": fs::read_to_string(path).ok().map(|t| t.trim_end().to_owned()),
    })
}
