# containerd as in containerd.sh, with our shim in the place of its own: the same commands, the same options.
# shellcheck shell=bash disable=SC2034,SC2154

# shellcheck source=containerd.sh
. "$top/hack/engines.d/containerd.sh"
# shellcheck source=shim-dropin.sh
. "$top/hack/engines.d/shim-dropin.sh"

eval "runtime_$(declare -f run_cases)"

run_cases() {
    check "containerd: run by the name io.containerd.tare.v2" 3 own ctr run --rm --snapshotter native \
        --runtime io.containerd.tare.v2 --runtime-config-path "$work/options.toml" localhost/box:latest ct-own sh -c 'echo own; exit 3'
    run -d localhost/box:latest ct-shim sleep 1000
    check "containerd: our shim serves" 0 containerd-shim-tare-v2 shims_by_name
    ctr task rm --force ct-shim && ctr container rm ct-shim
    runtime_run_cases
}
