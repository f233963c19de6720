//! The messages that containerd and the shim exchange, with the field numbers of containerd's `.proto` files
//! (`api/runtime/task`, `api/events`, `api/types`, `api/runtime/sandbox/v1`, `api/runtime/bootstrap/v1`).

use std::time::{SystemTime, UNIX_EPOCH};

use crate::message;
use crate::wire::{Bytes, Message};

message! {
    /// `google.protobuf.Any`.
    Any { 1 type_url: String, 2 value: Bytes }
    /// `google.protobuf.Timestamp`.
    Timestamp { 1 seconds: i64, 2 nanos: i32 }
    /// One entry of a `map<string, string>`.
    Pair { 1 key: String, 2 value: String }
    /// `google.protobuf.Empty`.
    Empty { }
    /// `containerd.types.Mount`.
    Mount { 1 kind: String, 2 source: String, 3 target: String, 4 options: Vec<String> }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        }
    }
}

impl Any {
    /// A message under the type name that the engine knows it by.
    pub fn of(type_url: &str, message: &impl Message) -> Any {
        Any { type_url: type_url.to_owned(), value: Bytes(message.encode()) }
    }

    /// The type without the host part that some clients put before it (`type.googleapis.com/`).
    #[must_use]
    pub fn type_name(&self) -> &str {
        self.type_url.strip_prefix("type.googleapis.com/").unwrap_or(&self.type_url)
    }
}

/// The service names under which the task calls are known: containerd up to 1.7 says v2, 2.x says v3.
pub const TASK_SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];
/// The sandbox service.
pub const SANDBOX_SERVICE: &str = "containerd.runtime.sandbox.v1.Sandbox";

/// `containerd.v1.types.Status`.
pub mod status {
    #![allow(missing_docs)] // The enum's own names.
    pub const UNKNOWN: u32 = 0;
    pub const CREATED: u32 = 1;
    pub const RUNNING: u32 = 2;
    pub const STOPPED: u32 = 3;
    pub const PAUSED: u32 = 4;
    pub const PAUSING: u32 = 5;
}

message! {
    /// Task.Create.
    CreateRequest {
        1 id: String, 2 bundle: String, 3 rootfs: Vec<Mount>, 4 terminal: bool, 5 stdin: String, 6 stdout: String,
        7 stderr: String, 8 checkpoint: String, 9 parent_checkpoint: String, 10 options: Option<Any>
    }
    /// The answer of Create and Start.
    PidResponse { 1 pid: u32 }
    /// Start, State, Delete, Wait: a process.
    ProcessRequest { 1 id: String, 2 exec_id: String }
    /// Pids, Pause, Resume, Stats, Connect: a container.
    IdRequest { 1 id: String }
    /// Task.Delete's answer; the `delete` action's too.
    DeleteResponse { 1 pid: u32, 2 exit_status: u32, 3 exited_at: Option<Timestamp> }
    /// Task.Exec.
    ExecRequest {
        1 id: String, 2 exec_id: String, 3 terminal: bool, 4 stdin: String, 5 stdout: String, 6 stderr: String, 7 spec: Option<Any>
    }
    /// Task.ResizePty.
    ResizeRequest { 1 id: String, 2 exec_id: String, 3 width: u32, 4 height: u32 }
    /// Task.State's answer.
    StateResponse {
        1 id: String, 2 bundle: String, 3 pid: u32, 4 status: u32, 5 stdin: String, 6 stdout: String, 7 stderr: String,
        8 terminal: bool, 9 exit_status: u32, 10 exited_at: Option<Timestamp>, 11 exec_id: String
    }
    /// Task.Kill.
    KillRequest { 1 id: String, 2 exec_id: String, 3 signal: u32, 4 all: bool }
    /// Task.CloseIO.
    CloseIoRequest { 1 id: String, 2 exec_id: String, 3 stdin: bool }
    /// Task.Pids' answer.
    PidsResponse { 1 processes: Vec<ProcessInfo> }
    /// One process of a container.
    ProcessInfo { 1 pid: u32, 2 info: Option<Any> }
    /// What a [`ProcessInfo`] of an exec says.
    ProcessDetails { 1 exec_id: String }
    /// Task.Checkpoint.
    CheckpointRequest { 1 id: String, 2 path: String, 3 options: Option<Any> }
    /// Task.Update.
    UpdateRequest { 1 id: String, 2 resources: Option<Any>, 3 annotations: Vec<Pair> }
    /// Task.Wait's answer, WaitSandbox's too.
    WaitResponse { 1 exit_status: u32, 2 exited_at: Option<Timestamp> }
    /// Task.Stats' answer.
    StatsResponse { 1 stats: Option<Any> }
    /// Task.Connect's answer.
    ConnectResponse { 1 shim_pid: u32, 2 task_pid: u32, 3 version: String }
    /// Task.Shutdown.
    ShutdownRequest { 1 id: String, 2 now: bool }
}

message! {
    /// The event /tasks/create.
    TaskCreate { 1 container_id: String, 2 bundle: String, 3 rootfs: Vec<Mount>, 4 io: Option<TaskIo>, 5 checkpoint: String, 6 pid: u32 }
    /// The io of [`TaskCreate`].
    TaskIo { 1 stdin: String, 2 stdout: String, 3 stderr: String, 4 terminal: bool }
    /// The event /tasks/start.
    TaskStart { 1 container_id: String, 2 pid: u32 }
    /// The event /tasks/delete.
    TaskDelete { 1 container_id: String, 2 pid: u32, 3 exit_status: u32, 4 exited_at: Option<Timestamp>, 5 id: String }
    /// The event /tasks/exit.
    TaskExit { 1 container_id: String, 2 id: String, 3 pid: u32, 4 exit_status: u32, 5 exited_at: Option<Timestamp> }
    /// The events /tasks/oom, /tasks/paused and /tasks/resumed.
    TaskOnly { 1 container_id: String }
    /// The events /tasks/exec-added and /tasks/exec-started (the first without a pid).
    TaskExec { 1 container_id: String, 2 exec_id: String, 3 pid: u32 }
    /// The event /tasks/checkpointed.
    TaskCheckpointed { 1 container_id: String, 2 checkpoint: String }
    /// One event on its way to the engine.
    Envelope { 1 timestamp: Option<Timestamp>, 2 namespace: String, 3 topic: String, 4 event: Option<Any> }
    /// Events.Forward.
    ForwardRequest { 1 envelope: Option<Envelope> }
}

message! {
    /// `containerd.runc.v1.Options`.
    RuncOptions {
        1 no_pivot_root: bool, 2 no_new_keyring: bool, 3 shim_cgroup: String, 4 io_uid: u32, 5 io_gid: u32, 6 binary_name: String,
        7 root: String, 9 systemd_cgroup: bool, 10 criu_image_path: String, 11 criu_work_path: String,
        12 task_api_address: String, 13 task_api_version: u32
    }
    /// `runtimeoptions.v1.Options`.
    RuntimeOptions { 1 type_url: String, 2 config_path: String, 3 config_body: Bytes }
    /// `containerd.runc.v1.CheckpointOptions`.
    CheckpointOptions {
        1 exit: bool, 2 open_tcp: bool, 3 external_unix_sockets: bool, 4 terminal: bool, 5 file_locks: bool,
        6 empty_namespaces: Vec<String>, 7 cgroups_mode: String, 8 image_path: String, 9 work_path: String
    }
    /// What containerd 2.3 writes to the standard input of `start`.
    BootstrapParams {
        1 instance_id: String, 2 namespace: String, 3 log_level: i32, 4 containerd_version: String, 5 ttrpc_address: String,
        6 grpc_address: String, 7 containerd_binary: String, 8 extensions: Vec<Extension>, 9 socket_dir: String
    }
    /// One extension of [`BootstrapParams`].
    Extension { 1 value: Option<Any> }
    /// What containerd 2.3 reads from `start`.
    BootstrapResult { 1 version: i32, 2 address: String, 3 protocol: String }
    /// What `-info` prints.
    RuntimeInfo { 1 name: String, 2 version: Option<RuntimeVersion>, 3 options: Option<Any>, 4 features: Option<Any>, 5 annotations: Vec<Pair> }
    /// The version in [`RuntimeInfo`].
    RuntimeVersion { 1 version: String, 2 revision: String }
}

message! {
    /// CreateSandbox.
    CreateSandboxRequest { 1 sandbox_id: String, 2 bundle_path: String, 4 options: Option<Any>, 5 netns_path: String }
    /// Every other request of the sandbox service that this shim reads names the sandbox alone.
    SandboxRequest { 1 sandbox_id: String }
    /// StartSandbox's answer.
    StartSandboxResponse { 1 pid: u32, 2 created_at: Option<Timestamp> }
    /// Platform's answer.
    PlatformResponse { 1 platform: Option<Platform> }
    /// `containerd.types.Platform`.
    Platform { 1 os: String, 2 architecture: String, 3 variant: String }
    /// SandboxStatus' answer.
    SandboxStatusResponse { 1 sandbox_id: String, 2 pid: u32, 3 state: String, 5 created_at: Option<Timestamp>, 6 exited_at: Option<Timestamp> }
    /// SandboxMetrics' answer.
    SandboxMetricsResponse { 1 metrics: Option<Metric> }
    /// `containerd.types.Metric`.
    Metric { 1 timestamp: Option<Timestamp>, 2 id: String, 3 data: Option<Any> }
}

message! {
    /// `runtime.v1.PodSandboxConfig` of the CRI: what CRI's service sends as the options of [`CreateSandboxRequest`].
    PodConfig { 2 hostname: String, 8 linux: Option<PodLinux> }
    /// `LinuxPodSandboxConfig`.
    PodLinux { 2 security: Option<PodSecurity>, 3 sysctls: Vec<Pair> }
    /// `LinuxSandboxSecurityContext`.
    PodSecurity { 1 namespaces: Option<NamespaceModes> }
    /// `NamespaceOption`: 0 is the pod's own, 1 the container's own, 2 the host's.
    NamespaceModes { 1 network: u32, 2 pid: u32, 3 ipc: u32, 5 users: Option<UserNamespace> }
    /// `UserNamespace`.
    UserNamespace { 1 mode: u32 }
}
