# containerd, driven by ctr; its shim is told to use our binary.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154

# The group that containerd puts its containers below, and never removes.
parent_group=tare-engines
export CONTAINERD_NAMESPACE=$parent_group

start_engine() {
    cat >"$work/config.toml" <<TOML
version = 2
root = "$work/root"
state = "/run/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
oom_score = 0
[grpc]
  address = "/run/tare-containerd.sock"
TOML
    containerd --config "$work/config.toml" >"$work/log" 2>&1 &
    daemon=$!
    wait_for ctr -a /run/tare-containerd.sock version || { tail "$work/log"; fail "containerd does not answer"; }
    ctr images import --snapshotter native "$work/box.tar" >/dev/null
}

stop_engine() {
    kill "$daemon"
    wait "$daemon" || true
}

ctr() { timeout --kill-after 5 60 /usr/bin/ctr -a /run/tare-containerd.sock "$@"; }

run() { ctr run --snapshotter native --runtime io.containerd.runc.v2 --runc-binary "$TARE" "$@"; }

on_terminal() {
    script -qec "/usr/bin/ctr -a /run/tare-containerd.sock run --rm -t --snapshotter native \
        --runtime io.containerd.runc.v2 --runc-binary $TARE localhost/box:latest ct-tty tty" /dev/null </dev/null
}

task_status() { ctr task ls | awk -v id="$1" '$1 == id { print $3 }'; }

is() { [ "$(task_status "$1")" = "$2" ]; }

# Not cat: ctr 1.6 never tells the shim that its own input has ended.
fed_line() { echo fed | run --rm localhost/box:latest ct-line head -n 1; }

memory_limit() {
    cat "/sys/fs/cgroup/memory/$parent_group/$1/memory.limit_in_bytes" 2>/dev/null || cat "/sys/fs/cgroup/$parent_group/$1/memory.max"
}

run_cases() {
    local box=localhost/box:latest
    check "containerd: run prints hello" 0 hello run --rm $box ct-hello echo hello
    check "containerd: the exit status is the program's" 7 '' run --rm $box ct-status sh -c 'exit 7'
    check "containerd: environment and folder" 0 'b /tmp' run --rm --env A=b --cwd /tmp $box ct-env sh -c 'echo $A $PWD'
    check "containerd: standard input" 0 fed fed_line
    check "containerd: the default seccomp profile" 0 2 run --rm --seccomp $box ct-seccomp \
        sh -c "sed -n 's/^Seccomp:.//p' /proc/self/status"
    check "containerd: a read-only root" 1 '' run --rm --read-only $box ct-ro touch /x
    check "containerd: a command that is not there" 1 '' run --rm $box ct-nothere nothere
    check "containerd: a terminal" 0 '*/dev/pts/0*' on_terminal
    check "containerd: run detached" 0 '' run -d --memory-limit 67108864 $box ct-main sh -c 'exec sleep 1000'
    check "containerd: the task runs" 0 RUNNING task_status ct-main
    check "containerd: its memory limit" 0 67108864 memory_limit ct-main
    check "containerd: exec" 0 hi ctr task exec --exec-id e1 ct-main echo hi
    check "containerd: exec as another user" 0 '1234:1235' ctr task exec --exec-id e0 --user 1234:1235 ct-main \
        sh -c 'echo $(id -u):$(id -g)'
    check "containerd: exec's exit status" 5 '' ctr task exec --exec-id e2 ct-main sh -c 'exit 5'
    check "containerd: exec of what is not there" 1 '' ctr task exec --exec-id e3 ct-main nothere
    check "containerd: ps lists the task" 0 '*PID*' ctr task ps ct-main
    check "containerd: pause" 0 '' ctr task pause ct-main
    check "containerd: the task is paused" 0 PAUSED task_status ct-main
    check "containerd: resume" 0 '' ctr task resume ct-main
    check "containerd: metrics" 0 '*ct-main*' ctr task metrics ct-main
    check "containerd: kill" 0 '' ctr task kill --signal KILL ct-main
    check "containerd: the task stops" 0 '' wait_for is ct-main STOPPED
    check "containerd: task rm" 0 '*' ctr task rm ct-main
    check "containerd: the container starts again" 0 '' ctr task start -d ct-main
    check "containerd: rm with force" 0 '*' ctr task rm --force ct-main
    check "containerd: container rm" 0 '' ctr container rm ct-main
    check_nothing_left "/$parent_group/ct-"
}
