//! The sandbox service for engines that let the shim be the sandbox (`sandboxer = "shim"`).
//!
//! The sandbox here is the shim itself: it has no process of its own, holds the pod's containers, and ends with
//! `ShutdownSandbox`.

use std::cell::{Cell, RefCell};
use std::time::SystemTime;

use crate::api::{
    CreateSandboxRequest, Empty, Metric, Platform, PlatformResponse, SandboxMetricsResponse, SandboxRequest,
    SandboxStatusResponse, StartSandboxResponse, WaitResponse,
};
use crate::executor::Notify;
use crate::ttrpc::{Answer, Code, Status};
use crate::wire::Message;

/// One sandbox, or none.
#[derive(Default)]
pub struct Sandbox {
    id: RefCell<Option<String>>,
    started: Cell<Option<SystemTime>>,
    stopped: Cell<Option<SystemTime>>,
    changed: Notify,
}

impl Sandbox {
    /// Runs one call of the service.
    ///
    /// # Errors
    /// `NotFound` for another sandbox, `AlreadyExists` for a second one, `Unimplemented` for an unknown method.
    pub async fn call(&self, method: &str, payload: &[u8]) -> Answer {
        match method {
            "CreateSandbox" => self.create(&CreateSandboxRequest::decode(payload)?),
            "StartSandbox" => self.start(payload),
            "Platform" => Ok(platform()),
            "StopSandbox" | "ShutdownSandbox" => self.stop(payload),
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
        let mut id = self.id.borrow_mut();
        if id.is_some() {
            return Err(Status::new(Code::AlreadyExists, format!("sandbox {} already exists", request.sandbox_id)));
        }
        *id = Some(request.sandbox_id.clone());
        Ok(Empty::default().encode())
    }

    fn start(&self, payload: &[u8]) -> Answer {
        self.known(payload)?;
        let now = SystemTime::now();
        self.started.set(Some(now));
        Ok(StartSandboxResponse { pid: std::process::id(), created_at: Some(now.into()) }.encode())
    }

    fn stop(&self, payload: &[u8]) -> Answer {
        // Stopping what does not exist is done already.
        if self.known(payload).is_ok() && self.stopped.get().is_none() {
            self.stopped.set(Some(SystemTime::now()));
            self.changed.notify();
        }
        Ok(Empty::default().encode())
    }

    async fn wait(&self, payload: &[u8]) -> Answer {
        self.known(payload)?;
        let at = self.changed.until(|| self.stopped.get()).await;
        Ok(WaitResponse { exit_status: 0, exited_at: Some(at.into()) }.encode())
    }

    fn status(&self, payload: &[u8]) -> Answer {
        let sandbox_id = self.known(payload)?;
        let ready = self.started.get().is_some() && self.stopped.get().is_none();
        let answer = SandboxStatusResponse {
            sandbox_id,
            pid: std::process::id(),
            state: if ready { "SANDBOX_READY" } else { "SANDBOX_NOTREADY" }.to_owned(),
            created_at: self.started.get().map(Into::into),
            exited_at: self.stopped.get().map(Into::into),
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
