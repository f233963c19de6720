//! The stories of a container's other processes.

use std::fs;
use std::rc::Rc;
use std::time::SystemTime;

use serde_json::{Value as Json, json};

use super::{Container, Done};
use crate::api::TaskExec;
use crate::process::{Phase, Process};
use crate::reaper::Exit;
use crate::ttrpc::{Code, Status};
use crate::{executor, sys};

impl Container {
    /// Registers an exec; nothing runs yet.
    ///
    /// # Errors
    /// `AlreadyExists`; `FailedPrecondition` when the container is paused or stopped.
    pub fn add_exec(&self, process: Process) -> Done {
        let state = match (self.init.phase.get(), self.paused.get()) {
            (Phase::Stopped, _) => Some("stopped"),
            (_, Some(_)) => Some("paused"),
            _ => None,
        };
        if let Some(state) = state {
            return Err(Status::new(Code::FailedPrecondition, format!("cannot exec in a {state} container")));
        }
        let exec_id = process.exec_id.clone();
        if self.execs.borrow().contains_key(&exec_id) {
            return Err(Status::new(Code::AlreadyExists, format!("id {exec_id}: already exists")));
        }
        self.execs.borrow_mut().insert(exec_id.clone(), Rc::new(process));
        self.publish(
            "/tasks/exec-added",
            "TaskExecAdded",
            &TaskExec { container_id: self.id.clone(), exec_id, pid: 0 },
        );
        Ok(())
    }

    /// Starts an exec.
    ///
    /// # Errors
    /// `FailedPrecondition` when the init is gone; `OCI runtime exec failed: …`, after which the exec is stopped.
    pub async fn start_exec(self: &Rc<Self>, process: &Rc<Process>) -> Result<u32, Status> {
        if process.phase.get() != Phase::Created || process.announcing.get() {
            return Err(Status::new(Code::FailedPrecondition, "cannot start a running process"));
        }
        if self.init.reaped.get() || self.init.phase.get() == Phase::Stopped {
            let text = format!("container {} init process is not running", self.id);
            return Err(Status::new(Code::FailedPrecondition, text));
        }
        process.announcing.set(true);
        self.execs_starting.set(self.execs_starting.get() + 1);
        let claim = self.world.reaper.claim();
        let launched = self.launch_exec(process).await;
        let answer = match launched {
            Ok(pid) => {
                let watch = self.world.reaper.watch(pid);
                process.enter(Phase::Running);
                let event = TaskExec { container_id: self.id.clone(), exec_id: process.exec_id.clone(), pid };
                self.publish("/tasks/exec-started", "TaskExecStarted", &event);
                executor::spawn(self.clone().outlive(process.clone(), watch));
                Ok(pid)
            }
            Err(text) => {
                process.io.take();
                process.end(Exit { code: 255, at: SystemTime::now() });
                Err(Status::unknown(format!("OCI runtime exec failed: {text}")))
            }
        };
        drop(claim);
        process.announced();
        self.execs_starting.set(self.execs_starting.get() - 1);
        self.settled.notify();
        sys::trim_memory();
        answer
    }

    async fn launch_exec(&self, process: &Process) -> Result<u32, String> {
        let spec = self.bundle.file(&format!("exec-{}.json", process.exec_id));
        let pid_name = format!("exec-{}.pid", process.exec_id);
        let pid_file = self.bundle.file(&pid_name).to_string_lossy().into_owned();
        let words = sized(process).unwrap_or_else(|| process.spec.clone());
        fs::write(&spec, words).map_err(|e| format!("{}: {e}", spec.display()))?;
        let spec_path = spec.to_string_lossy().into_owned();
        let args = ["--process", &spec_path, "--detach", "--pid-file", &pid_file];
        let launched = self.launch(process, "exec", &args, &pid_name).await;
        // The runtime has read it, or will not.
        let _ = fs::remove_file(&spec);
        launched
    }

    /// Deletes an exec.
    ///
    /// # Errors
    /// `FailedPrecondition` while it runs.
    pub async fn delete_exec(&self, process: &Rc<Process>) -> Result<(u32, Option<Exit>), Status> {
        if process.phase.get() == Phase::Running || process.announcing.get() {
            return Err(Status::new(Code::FailedPrecondition, "cannot delete a running process"));
        }
        let io = process.io.take();
        if let Some(io) = io {
            io.finish().await;
        }
        self.execs.borrow_mut().remove(&process.exec_id);
        // There is none when it was never started.
        let _ = fs::remove_file(self.bundle.file(&format!("exec-{}.pid", process.exec_id)));
        sys::trim_memory();
        Ok((process.pid.get(), process.exit.get()))
    }
}

/// The process with the size that its terminal was given before there was one: it finds that from its first look on.
fn sized(process: &Process) -> Option<Vec<u8>> {
    let (columns, rows) = process.size.get().filter(|_| process.streams.terminal)?;
    let mut spec: Json = serde_json::from_slice(&process.spec).ok()?;
    spec.as_object_mut()?.insert("consoleSize".to_owned(), json!({"height": rows, "width": columns}));
    Some(spec.to_string().into_bytes())
}
