# Kubernetes' side of containerd: its CRI service, with our shim as a runtime handler of its own.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154

# shellcheck source=shim-dropin.sh
. "$top/hack/engines.d/shim-dropin.sh"

parent_group=tare-engines
socket=/run/tare-containerd.sock
export CRI_CGROUP_PARENT=/$parent_group CRI_LOGS=$work/logs

# A pod's first container: the image's own command must stay.
make_pause_image() {
    sed 's|"Cmd":\["/bin/sh"\]|"Cmd":["/bin/sleep","100000"]|' "$work/image/config.json" >"$work/image/pause.json"
    echo '[{"Config":"pause.json","RepoTags":["localhost/pause:latest"],"Layers":["layer.tar"]}]' >"$work/image/manifest.json"
    tar -C "$work/image" -cf "$work/pause.tar" manifest.json pause.json layer.tar
}

is_2() { [ "$(containerd --version | sed -n 's/.* v\{0,1\}\([0-9]*\)\.[0-9].*/\1/p')" -ge 2 ]; }

# Negative scores for the out-of-memory killer need a privilege that not every machine gives.
config_of_1() {
    cat <<TOML
version = 2
root = "$work/root"
state = "/run/containerd-state"
oom_score = 0
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:latest"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tare]
      runtime_type = "io.containerd.tare.v2"
      pod_annotations = ["io.containerd.tare.v2.*"]
      container_annotations = ["io.containerd.tare.v2.*"]
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tare.options]
        ConfigPath = "$work/options.toml"
TOML
}

# The options stand in the section itself here: what they say is seen to arrive by the log policy and by who runs the containers.
config_of_2() {
    cat <<TOML
version = 3
root = "$work/root"
state = "/run/containerd-state"
oom_score = 0
[grpc]
  address = "$socket"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "native"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "localhost/pause:latest"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.tare]
    runtime_type = "io.containerd.tare.v2"
    pod_annotations = ["io.containerd.tare.v2.*"]
    container_annotations = ["io.containerd.tare.v2.*"]
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.tare.options]
      BinaryName = "$TARE"
      Root = "$work/runtime"
      LogPolicy = "drop"
      RuntimeTimeout = 60
TOML
}

start_engine() {
    mkdir -p "$work/logs"
    printf 'LogPolicy = "drop"\nRuntimeTimeout = 60\nRoot = "%s"\n' "$work/runtime" >>"$work/options.toml"
    if is_2; then
        config_of_2 >"$work/config.toml"
    else
        config_of_1 >"$work/config.toml"
    fi
    containerd --config "$work/config.toml" >"$work/log" 2>&1 &
    daemon=$!
    wait_for ctr -a $socket version || { tail "$work/log"; fail "containerd does not answer"; }
    make_pause_image
    # From 2.1 on the daemon imports, and only for the snapshotters that its configuration lists for that.
    local words=(--snapshotter native)
    if is_2; then words+=(--local); fi
    for image in box pause; do
        timeout 60 ctr -a $socket -n k8s.io images import "${words[@]}" "$work/$image.tar" >/dev/null
    done
}

stop_engine() {
    kill "$daemon"
    wait "$daemon" || true
}

cri() { timeout --kill-after 5 90 "$top/hack/engines.d/cri" $socket "$@"; }

state_is() { [ "$(cri status "$1")" = "$2" ]; }

shims() { pgrep -fc 'containerd-shim-tare-v2' || true; }

annotation_of() { sed -n 's/.*"io.containerd.tare.v2.log-policy":"\([^"]*\)".*/\1/p' "/run/containerd-state/io.containerd.runtime.v2.task/k8s.io/$1/config.json"; }

run_cases() {
    local pod main short
    pod=$(cri run-pod p tare) || grep -E "level=(error|warning|fatal)|plugin.*cri" "$work/log" | tail -n 8
    check "cri: a pod runs" 0 1 shims
    main=$(cri create "$pod" main localhost/box:latest io.containerd.tare.v2.log-policy=spill=1MiB -- /bin/sh -c 'echo said; exec sleep 1000') || true
    check "cri: a container starts" 0 '' cri start "$main"
    check "cri: it runs" 0 'running 0 ' cri status "$main"
    check "cri: it is in the pod's shim" 0 1 shims
    check "cri: the options of the configuration have reached the shim" 0 '' test -d "$work/runtime/k8s.io/$main"
    check "cri: its annotation has reached the shim" 0 spill=1MiB annotation_of "$main"
    check "cri: exec" 5 in cri exec "$main" /bin/sh -c 'echo in; exit 5'
    check "cri: its log" 0 '*stdout F said*' cat "$work/logs/main.log"
    short=$(cri create "$pod" short localhost/box:latest -- /bin/sh -c 'exit 7') || true
    check "cri: a second container starts" 0 '' cri start "$short"
    check "cri: it ends with its status" 0 '' wait_for state_is "$short" 'exited 7 Error'
    check "cri: an unknown log policy is refused by its name" 1 'log policy "lose" is unknown' refused "$pod"
    check "cri: stop" 0 '' cri stop "$main"
    check "cri: it was killed" 0 'exited 137 Error' cri status "$main"
    check "cri: remove" 0 '' cri remove "$main"
    check "cri: stop of the pod" 0 '' cri stop-pod "$pod"
    check "cri: remove of the pod" 0 '' cri remove-pod "$pod"
    check_nothing_left "/$parent_group/"
}

refused() {
    local odd
    odd=$(cri create "$1" odd localhost/box:latest io.containerd.tare.v2.log-policy=lose -- /bin/true)
    cri start "$odd" 2>&1 | grep -o 'log policy .*lose.* is unknown' | head -n 1 | tr -d "\\\\"
}
