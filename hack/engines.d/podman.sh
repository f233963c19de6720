# Podman with conmon; our binary is given by path.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154

# shellcheck source=docker-like.sh
. "$top/hack/engines.d/docker-like.sh"

cli=(podman --root "$work/root" --runroot /run/tare-podman --tmpdir /run/tare-podman-tmp --storage-driver vfs
    --cgroup-manager cgroupfs --events-backend none --runtime "$TARE")
parent_group=tare-engines
run_options=(--network none --ulimit host --log-driver k8s-file --cgroup-parent "/$parent_group")
status_format='{{.State.Status}}'

start_engine() {
    # Image policy and registries are of no concern to an image that is loaded from a file.
    echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/policy.json"
    "${cli[@]}" load --signature-policy "$work/policy.json" -i "$work/box.tar" >/dev/null 2>"$work/log" || { cat "$work/log"; fail "podman cannot load the image"; }
}

stop_engine() { :; }

run_cases() {
    run_common_cases
    check_nothing_left "/$parent_group/libpod-"
}
