# Docker as in docker.sh, with our shim in the place of containerd's own: Docker 20.10 knows no other name.
# shellcheck shell=bash disable=SC2034,SC2154

# shellcheck source=docker.sh
. "$top/hack/engines.d/docker.sh"
# shellcheck source=shim-dropin.sh
. "$top/hack/engines.d/shim-dropin.sh"

eval "runtime_$(declare -f run_cases)"

run_cases() {
    "${cli[@]}" run -d --name shim "${run_options[@]}" localhost/box:latest sleep 1000
    check "docker: our shim serves" 0 containerd-shim-tare-v2 shims_by_name
    "${cli[@]}" rm -f shim
    runtime_run_cases
}
