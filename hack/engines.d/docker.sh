# Docker: dockerd with a containerd of its own, our binary added as the runtime "tare".
# shellcheck shell=bash disable=SC2016,SC2034,SC2154

# shellcheck source=docker-like.sh
. "$top/hack/engines.d/docker-like.sh"

cli=(docker -H unix:///run/tare-docker.sock)
parent_group=tare-engines
run_options=(--runtime tare --network none)

start_engine() {
    dockerd --data-root "$work/data" --exec-root /run/tare-docker --pidfile /run/tare-docker.pid -H unix:///run/tare-docker.sock \
        --add-runtime "tare=$TARE" --default-ulimit nofile=1024:1024 --storage-driver vfs --iptables=false --ip6tables=false \
        --bridge=none --oom-score-adjust 0 --cgroup-parent "/$parent_group" >"$work/log" 2>&1 &
    daemon=$!
    wait_for "${cli[@]}" version || { tail "$work/log"; fail "dockerd does not answer"; }
    "${cli[@]}" load -i "$work/box.tar" >/dev/null
}

stop_engine() {
    kill "$daemon"
    wait "$daemon" || true
}

# A container's status in the engine's own words.
status_format='{{.State.Status}}'

run_cases() {
    check "docker: the runtime is known" 0 '*tare*' "${cli[@]}" info --format '{{json .Runtimes}}'
    run_common_cases
    check_nothing_left "/$parent_group/"
}
