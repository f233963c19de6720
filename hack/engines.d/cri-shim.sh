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

# 2.1 can start no container in a sandbox of a shim that has options of another type than containerd's own shim has; so the
# handler with options is that one's name, under which ours is found, too, and the other one has none.
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
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["$work/cni/bin"]
    conf_dir = "$work/cni/conf"
    use_internal_loopback = true
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
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.tare-sandbox]
    runtime_type = "io.containerd.tare.v2"
    sandboxer = "shim"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc-sandbox]
    runtime_type = "io.containerd.runc.v2"
    sandboxer = "shim"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc-sandbox.options]
      BinaryName = "$TARE"
      Root = "$work/runtime"
TOML
}

# A network plugin that adds nothing but an address by word. 2.1's daemon dies of a pod with the host's network and a sandboxer
# other than its own (a nil pointer in its NewBundle, whatever the shim; mended in later versions), so such pods need one.
make_network() {
    mkdir -p "$work/cni/bin" "$work/cni/conf"
    echo '{"cniVersion":"1.0.0","name":"words","plugins":[{"type":"words"}]}' >"$work/cni/conf/10-words.conflist"
    cat >"$work/cni/bin/words" <<'SH'
#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"address":"10.9.8.7/24","interface":0}]}' ;;
esac
SH
    chmod +x "$work/cni/bin/words"
}

start_engine() {
    mkdir -p "$work/logs"
    printf 'LogPolicy = "drop"\nRuntimeTimeout = 60\nRoot = "%s"\n' "$work/runtime" >>"$work/options.toml"
    if is_2; then
        make_network
        config_of_2 >"$work/config.toml"
    else
        config_of_1 >"$work/config.toml"
    fi
    start_daemon
    make_pause_image
    # From 2.1 on the daemon imports, and only for the snapshotters that its configuration lists for that.
    local words=(--snapshotter native)
    if is_2; then words+=(--local); fi
    for image in box pause; do
        timeout 60 ctr -a $socket -n k8s.io images import "${words[@]}" "$work/$image.tar" >/dev/null
    done
}

start_daemon() {
    containerd --config "$work/config.toml" >>"$work/log" 2>&1 &
    echo $! >"$work/daemon"
    wait_for ctr -a $socket version || { tail "$work/log"; fail "containerd does not answer"; }
}

# The daemon's crash: what runs goes on, and is known when it is back.
crash() {
    end_daemon KILL
    start_daemon
    wait_for cri status "$1"
}

# Whoever crashed it has started the present one, and is not this shell.
end_daemon() {
    kill -s "$1" "$(<"$work/daemon")"
    wait_for daemon_is_gone
}

daemon_is_gone() { ! grep -qs containerd "/proc/$(<"$work/daemon")/cmdline"; }

stop_engine() { end_daemon TERM; }

cri() { timeout --kill-after 5 90 "$top/hack/engines.d/cri" $socket "$@"; }

state_is() { [ "$(cri status "$1")" = "$2" ]; }

# By the command's name, which the processes that hold a sandbox have changed.
shims() { pgrep -xc containerd-shim || true; }

holders() { pgrep -xc tare-pod || true; }

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
    check "cri: update of its memory" 0 '' cri update "$main" 67108864
    check "cri: the limit has arrived" 0 67108864 memory_limit "$main"
    check "cri: its statistics" 0 'cpu yes memory yes' cri stats "$main"
    check "cri: the pod's statistics" 0 'cpu yes memory yes containers yes' cri stats-pod "$pod"
    check "cri: the pod is ready" 0 'ready *' cri status-pod "$pod"
    check "cri: the daemon's crash" 0 '' crash "$main"
    check "cri: it still runs" 0 'running 0 ' cri status "$main"
    check "cri: exec after the crash" 5 in cri exec "$main" /bin/sh -c 'echo in; exit 5'
    check "cri: the pod's shim is the same" 0 1 shims
    check "cri: an unknown log policy is refused by its name" 1 'log policy "lose" is unknown' refused "$pod"
    check "cri: stop" 0 '' cri stop "$main"
    check "cri: it was killed" 0 'exited 137 Error' cri status "$main"
    check "cri: remove" 0 '' cri remove "$main"
    check "cri: stop of the pod" 0 '' cri stop-pod "$pod"
    check "cri: remove of the pod" 0 '' cri remove-pod "$pod"
    check "cri: the pod's shim has ended" 0 '' wait_for no_shims
    if is_2; then sandbox_cases; fi
    check_nothing_left "/$parent_group/"
}

# The pod without a container of its own: containerd 2 lets the shim be the sandbox.
sandbox_cases() {
    local pod main
    # By our own name, with the runtime that PATH leads to.
    pod=$(CRI_NETWORK=pod cri run-pod o tare-sandbox) || tail -n 60 "$work/log" | cut -c 1-300
    main=$(CRI_NETWORK=pod cri create "$pod" own localhost/box:latest -- /bin/sleep 1000) || true
    check "cri, sandbox by our name: a container starts" 0 '' cri start "$main"
    check "cri, sandbox by our name: it runs" 0 'running 0 ' cri status "$main"
    check "cri, sandbox by our name: stop and remove with all that runs" 0 '' remove_pod "$pod"
    check "cri, sandbox by our name: the shim has ended" 0 '' wait_for no_shims

    pod=$(CRI_NETWORK=pod cri run-pod s runc-sandbox) || tail -n 60 "$work/log" | cut -c 1-300
    check "cri, sandbox: the shim is the pod" 0 '1 1' echo "$(shims) $(holders)"
    check "cri, sandbox: it is ready, with its address" 0 'ready 10.9.8.7' cri status-pod "$pod"
    main=$(CRI_NETWORK=pod cri create "$pod" main2 localhost/box:latest -- /bin/sh -c 'echo said; exec sleep 1000') || true
    check "cri, sandbox: a container starts" 0 '' cri start "$main"
    check "cri, sandbox: it runs" 0 'running 0 ' cri status "$main"
    check "cri, sandbox: in the pod's shim" 0 '1 1' echo "$(shims) $(holders)"
    check "cri, sandbox: the runtime's options are those of the handler" 0 '' test -d "$work/runtime/k8s.io/$main"
    check "cri, sandbox: exec" 5 in cri exec "$main" /bin/sh -c 'echo in; exit 5'
    check "cri, sandbox: the pod's namespaces are not the host's" 0 'pid ipc uts net ' foreign_namespaces "$main"
    check "cri, sandbox: the pod's name" 0 s-host cri exec "$main" /bin/hostname
    check "cri, sandbox: its log" 0 '*stdout F said*' cat "$work/logs/main2.log"
    check "cri, sandbox: its statistics" 0 'cpu yes memory yes' cri stats "$main"
    check "cri, sandbox: the daemon's crash" 0 '' crash "$main"
    check "cri, sandbox: it still runs" 0 'running 0 ' cri status "$main"
    check "cri, sandbox: the pod is still ready" 0 'ready *' cri status-pod "$pod"
    check "cri, sandbox: stop" 0 '' cri stop "$main"
    check "cri, sandbox: remove" 0 '' cri remove "$main"
    check "cri, sandbox: the pod outlives its container" 0 '1 1' echo "$(shims) $(holders)"
    check "cri, sandbox: stop of the pod" 0 '' cri stop-pod "$pod"
    check "cri, sandbox: its namespaces are let go" 0 0 holders
    check "cri, sandbox: remove of the pod" 0 '' cri remove-pod "$pod"
    check "cri, sandbox: the shim has ended" 0 '' wait_for no_shims
}

remove_pod() { cri stop-pod "$1" && cri remove-pod "$1"; }

no_shims() { [ "$(shims)" = 0 ]; }

memory_limit() { cri exec "$1" /bin/sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true'; }

# The kinds of namespace in which a container is not in this script's.
foreign_namespaces() {
    local kind its
    for kind in pid ipc uts net; do
        its=$(cri exec "$1" /bin/readlink "/proc/self/ns/$kind")
        if [[ $its == "$kind:"* && $its != "$(readlink "/proc/self/ns/$kind")" ]]; then printf '%s ' $kind; fi
    done
}

refused() {
    local odd
    odd=$(cri create "$1" odd localhost/box:latest io.containerd.tare.v2.log-policy=lose -- /bin/true)
    cri start "$odd" 2>&1 | grep -o 'log policy .*lose.* is unknown' | head -n 1 | tr -d "\\\\"
}
