//! The task service, v2 and v3: reads requests, finds the container, lets its story run, writes the answer.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use serde_json::Value as Json;

use crate::api::{
    Any, CheckpointOptions, CheckpointRequest, CloseIoRequest, ConnectResponse, CreateRequest, DeleteResponse, Empty,
    ExecRequest, IdRequest, KillRequest, PidResponse, PidsResponse, ProcessDetails, ProcessInfo, ProcessRequest,
    ResizeRequest, SANDBOX_SERVICE, StateResponse, StatsResponse, TASK_SERVICES, UpdateRequest, WaitResponse,
};
use crate::container::{Container, World};
use crate::executor::Notify;
use crate::io::Streams;
use crate::options::Options;
use crate::process::{Phase, Process};
use crate::sandbox::Sandbox;
use crate::ttrpc::{Answer, Code, Service, Status};
use crate::wire::Message;
use crate::{stats, sys};

/// Everything that a shim serves.
pub struct Shim {
    world: Rc<World>,
    containers: RefCell<BTreeMap<String, Rc<Container>>>,
    creating: RefCell<BTreeSet<String>>,
    sandbox: Rc<Sandbox>,
    ending: Cell<bool>,
    end: Notify,
    retire: Box<dyn Fn()>,
}

/// Frees the name of a container when its create is over, however it ended.
struct Reserved<'a>(&'a Shim, String);

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.0.creating.borrow_mut().remove(&self.1);
    }
}

impl Shim {
    /// A shim without containers. `retire` runs once, when no further call may find this shim.
    pub fn new(world: Rc<World>, retire: impl Fn() + 'static) -> Rc<Shim> {
        Rc::new(Shim {
            world,
            containers: RefCell::default(),
            creating: RefCell::default(),
            sandbox: Rc::default(),
            ending: Cell::new(false),
            end: Notify::default(),
            retire: Box::new(retire),
        })
    }

    /// Waits for the call that ends the shim.
    pub async fn ended(&self) {
        self.end.until(|| self.ending.get().then_some(())).await;
    }

    /// Whether this shim is a pod's sandbox.
    pub fn is_sandbox(&self) -> bool {
        self.sandbox.exists()
    }

    /// Ends the shim.
    pub fn finish(&self) {
        if !self.ending.replace(true) {
            (self.retire)();
            self.end.notify();
        }
    }

    fn container(&self, id: &str) -> Result<Rc<Container>, Status> {
        let found = self.containers.borrow().get(id).cloned();
        found.ok_or_else(|| Status::new(Code::NotFound, "container not created"))
    }

    fn process(&self, id: &str, exec_id: &str) -> Result<(Rc<Container>, Rc<Process>), Status> {
        let container = self.container(id)?;
        if exec_id.is_empty() {
            let init = container.init.clone();
            return Ok((container, init));
        }
        let exec = container.execs.borrow().get(exec_id).cloned();
        let exec = exec.ok_or_else(|| Status::new(Code::NotFound, format!("process does not exist {exec_id}")))?;
        Ok((container, exec))
    }

    async fn task(&self, method: &str, payload: &[u8]) -> Answer {
        match method {
            "Create" => self.create(&CreateRequest::decode(payload)?).await,
            "Start" => self.start(&ProcessRequest::decode(payload)?).await,
            "Delete" => self.delete(&ProcessRequest::decode(payload)?).await,
            "Exec" => self.exec(ExecRequest::decode(payload)?),
            "State" => self.state(&ProcessRequest::decode(payload)?),
            "Wait" => self.wait(&ProcessRequest::decode(payload)?).await,
            "Kill" => self.kill(&KillRequest::decode(payload)?).await,
            "Pids" => self.pids(&IdRequest::decode(payload)?),
            "Pause" => self.container(&IdRequest::decode(payload)?.id)?.pause().await.map(|()| empty()),
            "Resume" => self.container(&IdRequest::decode(payload)?.id)?.resume().await.map(|()| empty()),
            "Update" => self.update(UpdateRequest::decode(payload)?).await,
            "Stats" => self.stats(&IdRequest::decode(payload)?),
            "ResizePty" => self.resize(&ResizeRequest::decode(payload)?),
            "CloseIO" => self.close_io(&CloseIoRequest::decode(payload)?),
            "Checkpoint" => self.checkpoint(&CheckpointRequest::decode(payload)?).await,
            "Connect" => Ok(self.connect(&IdRequest::decode(payload)?)),
            "Shutdown" => Ok(self.shutdown()),
            _ => Err(Status::new(Code::Unimplemented, format!("method {method} is not known to this shim"))),
        }
    }

    async fn create(&self, request: &CreateRequest) -> Answer {
        valid("id", &request.id)?;
        if self.ending.get() {
            return Err(Status::new(Code::Unavailable, "this shim is shutting down"));
        }
        let taken = self.containers.borrow().contains_key(&request.id);
        if taken || !self.creating.borrow_mut().insert(request.id.clone()) {
            return Err(Status::new(Code::AlreadyExists, format!("task {} already exists", request.id)));
        }
        let _reserved = Reserved(self, request.id.clone());
        let options = self.options(request.options.as_ref())?;
        let container = Container::create(self.world.clone(), request, options).await?;
        let pid = container.init.pid.get();
        self.containers.borrow_mut().insert(request.id.clone(), container);
        Ok(PidResponse { pid }.encode())
    }

    /// For a member of a sandbox containerd sends the address of the sandbox in the place of the runtime's options; those came with
    /// the start then.
    fn options(&self, sent: Option<&Any>) -> Result<Options, Status> {
        let options = Options::from_any(sent)?;
        let stand_in = self.sandbox.exists() && options == Options::default();
        Ok(if stand_in { self.world.options.clone() } else { options })
    }

    async fn start(&self, request: &ProcessRequest) -> Answer {
        let (container, process) = self.process(&request.id, &request.exec_id)?;
        let pid = if process.is_init() { container.start().await? } else { container.start_exec(&process).await? };
        Ok(PidResponse { pid }.encode())
    }

    async fn delete(&self, request: &ProcessRequest) -> Answer {
        let (container, process) = self.process(&request.id, &request.exec_id)?;
        let (pid, exit) = if process.is_init() {
            let deleted = container.delete().await?;
            self.containers.borrow_mut().remove(&request.id);
            sys::trim_memory();
            deleted
        } else {
            container.delete_exec(&process).await?
        };
        let exit_status = exit.map_or(0, |e| e.code);
        Ok(DeleteResponse { pid, exit_status, exited_at: exit.map(|e| e.at.into()) }.encode())
    }

    fn exec(&self, request: ExecRequest) -> Answer {
        valid("exec_id", &request.exec_id)?;
        let container = self.container(&request.id)?;
        let spec = request.spec.ok_or_else(|| Status::new(Code::InvalidArgument, "spec: is missing"))?;
        let broken = |e| Status::new(Code::InvalidArgument, format!("spec: {e}"));
        let mut spec: Json = serde_json::from_slice(&spec.value.0).map_err(broken)?;
        let fields =
            spec.as_object_mut().ok_or_else(|| Status::new(Code::InvalidArgument, "spec: is not an object"))?;
        fields.insert("terminal".to_owned(), Json::Bool(request.terminal));
        let streams = Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        container.add_exec(Process::new(request.exec_id, streams, spec.to_string().into_bytes()))?;
        Ok(empty())
    }

    fn state(&self, request: &ProcessRequest) -> Answer {
        let (container, process) = self.process(&request.id, &request.exec_id)?;
        let bundle = container.bundle.path().to_string_lossy().into_owned();
        let answer = StateResponse { id: request.id.clone(), bundle, ..process.state(container.paused.get()) };
        Ok(answer.encode())
    }

    async fn wait(&self, request: &ProcessRequest) -> Answer {
        let (_, process) = self.process(&request.id, &request.exec_id)?;
        let exit = process.ended().await;
        Ok(WaitResponse { exit_status: exit.code, exited_at: Some(exit.at.into()) }.encode())
    }

    async fn kill(&self, request: &KillRequest) -> Answer {
        let (container, process) = self.process(&request.id, &request.exec_id)?;
        container.kill(&process, request.signal, request.all).await?;
        Ok(empty())
    }

    /// A container that has ended and was not deleted still has its init here. With an empty list, an engine that comes back
    /// would take the task for a leak and clean it away, and the exit would be lost.
    fn pids(&self, request: &IdRequest) -> Answer {
        let container = self.container(&request.id)?;
        let listed = container.cgroup.borrow().as_ref().and_then(|group| group.processes().ok()).unwrap_or_default();
        let known = |pid: &u32| *pid != 0;
        let mut pids: Vec<u32> = listed;
        let execs = container.execs.borrow();
        if pids.is_empty() {
            let running = execs.values().filter(|e| e.phase.get() == Phase::Running).map(|e| e.pid.get());
            pids = std::iter::once(container.init.pid.get()).chain(running).filter(known).collect();
        }
        let details = |pid: u32| {
            let exec = execs.values().find(|e| e.pid.get() == pid && e.phase.get() == Phase::Running)?;
            let details = ProcessDetails { exec_id: exec.exec_id.clone() };
            Some(Any::of("containerd.runc.v1.ProcessDetails", &details))
        };
        let processes = pids.into_iter().map(|pid| ProcessInfo { pid, info: details(pid) }).collect();
        Ok(PidsResponse { processes }.encode())
    }

    async fn update(&self, request: UpdateRequest) -> Answer {
        let container = self.container(&request.id)?;
        let resources =
            request.resources.ok_or_else(|| Status::new(Code::InvalidArgument, "resources: are missing"))?;
        container.update(&resources.value.0).await?;
        Ok(empty())
    }

    fn stats(&self, request: &IdRequest) -> Answer {
        let container = self.container(&request.id)?;
        let stats = container.cgroup.borrow().as_ref().and_then(stats::of);
        let stats = stats.ok_or_else(|| Status::new(Code::NotFound, "cgroup does not exist"))?;
        Ok(StatsResponse { stats: Some(stats) }.encode())
    }

    fn resize(&self, request: &ResizeRequest) -> Answer {
        let (_, process) = self.process(&request.id, &request.exec_id)?;
        let side = |name: &str, n: u32| {
            u16::try_from(n).map_err(|_| Status::new(Code::InvalidArgument, format!("{name}: {n} exceeds 65535")))
        };
        process.resize(side("width", request.width)?, side("height", request.height)?)?;
        Ok(empty())
    }

    fn close_io(&self, request: &CloseIoRequest) -> Answer {
        let (_, process) = self.process(&request.id, &request.exec_id)?;
        if request.stdin {
            process.close_input();
        }
        Ok(empty())
    }

    async fn checkpoint(&self, request: &CheckpointRequest) -> Answer {
        let container = self.container(&request.id)?;
        let options = match &request.options {
            Some(any) if any.type_name() == "containerd.runc.v1.CheckpointOptions" => {
                CheckpointOptions::decode(&any.value.0)?
            }
            _ => CheckpointOptions::default(),
        };
        let path = if options.image_path.is_empty() { &request.path } else { &options.image_path };
        container.checkpoint(path, &checkpoint_flags(&options), &options.work_path).await?;
        Ok(empty())
    }

    /// An unknown id is no error: this is how an engine asks whether the shim lives.
    fn connect(&self, request: &IdRequest) -> Vec<u8> {
        let task_pid = self.container(&request.id).map_or(0, |c| c.init.pid.get());
        ConnectResponse { shim_pid: std::process::id(), task_pid, version: String::new() }.encode()
    }

    /// An engine that takes this for a shim without a sandbox asks after each container of a pod.
    fn shutdown(&self) -> Vec<u8> {
        let is_empty = self.containers.borrow().is_empty() && self.creating.borrow().is_empty();
        if is_empty && !self.sandbox.exists() {
            self.finish();
        }
        empty()
    }
}

impl Service for Shim {
    fn call(
        self: Rc<Self>,
        service: String,
        method: String,
        payload: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Answer>>> {
        Box::pin(async move {
            if TASK_SERVICES.contains(&service.as_str()) {
                self.task(&method, &payload).await
            } else if service == SANDBOX_SERVICE {
                let answer = self.sandbox.call(&method, &payload, &self.world.reaper).await;
                if method == "ShutdownSandbox" && answer.is_ok() {
                    self.finish();
                }
                answer
            } else {
                Err(Status::new(Code::Unimplemented, format!("service {service} is not known to this shim")))
            }
        })
    }
}

fn empty() -> Vec<u8> {
    Empty::default().encode()
}

/// Names become file names in the bundle: they may not lead elsewhere.
fn valid(field: &str, id: &str) -> Result<(), Status> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'+');
    if id.is_empty() || id.len() > 200 || id.starts_with('.') || id.starts_with('-') || !id.bytes().all(fine) {
        return Err(Status::new(Code::InvalidArgument, format!("{field}: {id:?} is no valid name")));
    }
    Ok(())
}

fn checkpoint_flags(options: &CheckpointOptions) -> Vec<String> {
    let mut flags = Vec::new();
    let switches = [
        (!options.exit, "--leave-running"),
        (options.open_tcp, "--tcp-established"),
        (options.external_unix_sockets, "--ext-unix-sk"),
        (options.terminal, "--shell-job"),
        (options.file_locks, "--file-locks"),
    ];
    flags.extend(switches.iter().filter(|(on, _)| *on).map(|(_, flag)| (*flag).to_owned()));
    for namespace in &options.empty_namespaces {
        flags.extend(["--empty-ns".to_owned(), namespace.clone()]);
    }
    if !options.cgroups_mode.is_empty() {
        flags.extend(["--manage-cgroups-mode".to_owned(), options.cgroups_mode.clone()]);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::{checkpoint_flags, valid};
    use crate::api::CheckpointOptions;

    #[test]
    fn names_stay_in_the_bundle() {
        for good in ["a", "exec-1", "A_b.c+d", &"x".repeat(200)] {
            assert!(valid("id", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a b", "-x", "a\0", "é", &"x".repeat(201)] {
            assert!(valid("id", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn checkpoint_options_become_flags() {
        let all = CheckpointOptions {
            exit: true,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".into()],
            cgroups_mode: "soft".into(),
            ..CheckpointOptions::default()
        };
        let flags = checkpoint_flags(&all).join(" ");
        assert_eq!(
            flags,
            "--tcp-established --ext-unix-sk --shell-job --file-locks --empty-ns network --manage-cgroups-mode soft"
        );
        assert_eq!(checkpoint_flags(&CheckpointOptions::default()), ["--leave-running"]);
    }
}
