//! The sandbox service for engines that let the shim be the sandbox (`sandboxer = "shim"`).
//!
//! The sandbox is a process that holds the pod's namespaces ([`crate::holder`]) and, around it, this shim, which holds the pod's
//! containers and ends with `ShutdownSandbox`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::SystemTime;

use crate::api::{
    CreateSandboxRequest, Empty, Metric, Platform, PlatformResponse, PodConfig, SandboxMetricsResponse, SandboxRequest,
    SandboxStatusResponse, StartSandboxResponse, WaitResponse,
};
use crate::executor::{self, Notify};
use crate::holder::{self, Wanted};
use crate::reaper::{Exit, Reaper, Watch};
use crate::sys;
use crate::ttrpc::{Answer, Code, Status};
use crate::wire::Message;

/// One sandbox, or none.
#[derive(Default)]
pub struct Sandbox {
    id: RefCell<Option<String>>,
    wanted: RefCell<Wanted>,
    holder: RefCell<Option<(u32, Rc<Watch>)>>,
    started: Cell<Option<SystemTime>>,
    asked_to_end: Cell<bool>,
    ended: Cell<Option<Exit>>,
    changed: Notify,
}

impl Sandbox {
    /// Whether this shim is a sandbox: then no container's end is its own.
    pub fn exists(&self) -> bool {
        self.id.borrow().is_some()
    }

    /// Runs one call of the service.
    ///
    /// # Errors
    /// `NotFound` for another sandbox, `AlreadyExists` for a second one, `InvalidArgument` for a pod that cannot be had this way,
    /// `Unimplemented` for an unknown method.
    pub async fn call(self: &Rc<Self>, method: &str, payload: &[u8], reaper: &Rc<Reaper>) -> Answer {
        match method {
            "CreateSandbox" => self.create(&CreateSandboxRequest::decode(payload)?),
            "StartSandbox" => self.start(payload, reaper).await,
            "Platform" => Ok(platform()),
            "StopSandbox" | "ShutdownSandbox" => self.stop(payload).await,
            "WaitSandbox" => self.wait(payload).await,
            "SandboxStatus" => self.status(payload),
            "PingSandbox" => self.known(payload).map(|_| Empty::default().encode()),
            "SandboxMetrics" => self.metrics(payload),
            _ => Err(Status::new(Code::Unimplemented, format!("method {method} is not known to this shim"))),
        }
    }

    fn known(&self, payload: &[u8]) -> Result<String, Status> {
        let asked = SandboxRequest::decode(payload)?.sandbox_id;
        match self.id.borrow().as_ref() {
            Some(id) if *id == asked => Ok(asked),
            _ => Err(Status::new(Code::NotFound, format!("sandbox {asked} does not exist"))),
        }
    }

    fn create(&self, request: &CreateSandboxRequest) -> Answer {
        if self.exists() {
            return Err(Status::new(Code::AlreadyExists, format!("sandbox {} already exists", request.sandbox_id)));
        }
        // Whoever is not CRI's service sends something else, or nothing.
        let pod = match &request.options {
            Some(any) if any.type_name().ends_with("PodSandboxConfig") => PodConfig::decode(&any.value.0)?,
            _ => PodConfig::default(),
        };
        let wanted = Wanted::of(&pod, &request.netns_path, &request.bundle_path)
            .map_err(|text| Status::new(Code::InvalidArgument, text))?;
        self.wanted.replace(wanted);
        self.id.replace(Some(request.sandbox_id.clone()));
        Ok(Empty::default().encode())
    }

    async fn start(self: &Rc<Self>, payload: &[u8], reaper: &Rc<Reaper>) -> Answer {
        let id = self.known(payload)?;
        if self.started.replace(Some(SystemTime::now())).is_some() {
            return Err(Status::new(Code::FailedPrecondition, format!("sandbox {id} was started already")));
        }
        let wanted = self.wanted.take();
        let (pid, watch) =
            holder::hold(&wanted, reaper).await.map_err(|text| Status::unknown(format!("sandbox {id}: {text}")))?;
        self.holder.replace(Some((pid, watch.clone())));
        let sandbox = self.clone();
        executor::spawn(async move { sandbox.end(watch.exit().await) });
        Ok(StartSandboxResponse { pid, created_at: self.started.get().map(Into::into) }.encode())
    }

    /// That it was asked to end is no failure.
    fn end(&self, exit: Exit) {
        if self.ended.get().is_none() {
            let code = if self.asked_to_end.get() { 0 } else { exit.code };
            self.ended.set(Some(Exit { code, ..exit }));
            self.changed.notify();
        }
    }

    /// Stopping what does not exist, or has ended, is done already.
    async fn stop(&self, payload: &[u8]) -> Answer {
        if self.known(payload).is_ok() {
            self.asked_to_end.set(true);
            let holder = self.holder.borrow().clone();
            if let Some((pid, watch)) = holder.filter(|(_, watch)| watch.ended().is_none()) {
                // The process is our child and unreaped, so its number is no stranger's.
                let _ = i32::try_from(pid).map(|pid| sys::kill(pid, libc::SIGKILL));
                self.end(watch.exit().await);
            }
            self.end(Exit { code: 0, at: SystemTime::now() });
        }
        Ok(Empty::default().encode())
    }

    async fn wait(&self, payload: &[u8]) -> Answer {
        self.known(payload)?;
        let exit = self.changed.until(|| self.ended.get()).await;
        Ok(WaitResponse { exit_status: exit.code, exited_at: Some(exit.at.into()) }.encode())
    }

    fn status(&self, payload: &[u8]) -> Answer {
        let sandbox_id = self.known(payload)?;
        let pid = self.holder.borrow().as_ref().map_or(0, |(pid, _)| *pid);
        let ready = pid != 0 && self.ended.get().is_none();
        let answer = SandboxStatusResponse {
            sandbox_id,
            pid,
            state: if ready { "SANDBOX_READY" } else { "SANDBOX_NOTREADY" }.to_owned(),
            created_at: self.started.get().map(Into::into),
            exited_at: self.ended.get().map(|exit| exit.at.into()),
        };
        Ok(answer.encode())
    }

    fn metrics(&self, payload: &[u8]) -> Answer {
        let id = self.known(payload)?;
        let metrics = Metric { timestamp: Some(SystemTime::now().into()), id, data: None };
        Ok(SandboxMetricsResponse { metrics: Some(metrics) }.encode())
    }
}

fn platform() -> Vec<u8> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: String::new() };
    PlatformResponse { platform: Some(platform) }.encode()
}
