# Puts our shim before the engine's own, by both names. SHIM names the binary.
# shellcheck shell=bash disable=SC2154

: "${SHIM:?the binary containerd-shim-tare-v2}"
mkdir -p "$work/shim"
ln -sf "$SHIM" "$work/shim/containerd-shim-tare-v2"
ln -sf "$SHIM" "$work/shim/containerd-shim-runc-v2"
export PATH=$work/shim:$PATH
printf 'BinaryName = "%s"\n' "$TARE" >"$work/options.toml"

# The programs that serve now, each once.
shims_by_name() {
    local pid exe
    for pid in $(pgrep -f 'containerd-shim-[a-z]*-v2'); do
        exe=$(readlink "/proc/$pid/exe") && echo "${exe##*/}"
    done | sort -u
}
