# What the scripts of this folder share. Sourced by bash, never run.
# shellcheck shell=bash

lib_top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

note() { printf '%s\n' "== $*" >&2; }

fail() {
    printf '%s\n' "error: $*" >&2
    exit 1
}

# For what this machine lacks. Status 77 tells hack/test that nothing was tried.
missing() {
    printf '%s\n' "error: $*" >&2
    exit 77
}

need_root() {
    [ "$(id -u)" = 0 ] || missing "${0##*/} must be run as root: it makes containers"
}

# Installs those of the named Debian packages that are not there yet. Package lists are fetched when the ones at hand do not
# serve: on a fresh machine there are none, on an old one they name files that are gone.
need_packages() {
    local package missing=() log
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    need_root
    note "installing ${missing[*]}"
    log=$(mktemp)
    if ! apt_install "${missing[@]}" >"$log" 2>&1; then
        if ! { apt-get update -qq && apt_install "${missing[@]}"; } >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            rm -f "$log"
            missing "cannot install ${missing[*]}"
        fi
    fi
    rm -f "$log"
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; }

# v2, hybrid or v1: which kind of cgroup tree this host has.
cgroup_version() {
    if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
        echo v2
    elif [ -d /sys/fs/cgroup/unified ]; then
        echo hybrid
    else
        echo v1
    fi
}

release_dir() { echo "${CARGO_TARGET_DIR:-$lib_top/target}/$(uname -m)-unknown-linux-gnu/release"; }

# The runtime to work with: the one that TARE names, or our own, built now if its sources are newer than it.
built_tare() {
    if [ -n "${TARE:-}" ]; then
        local given
        given=$(command -v "$TARE") || fail "TARE=$TARE: no such program"
        # Engines start it from elsewhere; a link stays a link, its name may be what matters.
        realpath -s "$given"
        return
    fi
    command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.91 or newer (https://rustup.rs)"
    note "building the release binaries"
    (cd "$lib_top" && cargo build --release --locked --quiet >&2)
    local tare
    tare=$(release_dir)/tare
    [ -x "$tare" ] || fail "the build has not made $tare"
    echo "$tare"
}

# Name and path of every test program of the runtime. Built as the layer `integration` builds them, so that they are there;
# PACKAGES='-p tare' builds no others' tests.
test_programs() {
    # shellcheck disable=SC2086
    cargo test ${PACKAGES:---workspace} --test '*' --locked --quiet --no-run --message-format json |
        sed -n '/"manifest_path":"[^"]*\/runtime\/Cargo.toml".*"kind":\["test"\]/s/.*"name":"\([a-z_0-9]*\)","src_path".*"executable":"\([^"]*\)".*/\1 \2/p'
}

# Every control group, mount, runtime process and state directory of this machine, one a line. Groups may go while they are
# looked for, and there may be none of something: neither is an error.
machine_state() {
    local own
    # Whoever started this has groups beside ours: they come and go as they please, and are not looked at.
    own=$(sed -n 's,^[^:]*:[^:]*:\(/.*\)/[^/]*$,\1,p' /proc/self/cgroup | sort -u)
    {
        find /sys/fs/cgroup -type d 2>/dev/null | grep -vF "${own:-/ nothing}" | sed 's/^/group /'
        sed 's/^/mount /' /proc/self/mounts
        # shellcheck disable=SC2009
        ps -e -o comm= | grep -E '^(tare|containerd-shim|conformance|runc|crun|conmon|floor|bench-driver)' | sed 's/^/process /'
        find /run -maxdepth 1 \( -name 'tare*' -o -name 'shim-test-*' \) | sed 's/^/state /'
        find /tmp -maxdepth 1 \( -name 'tare-run.*' -o -name 'tare-bench-*' -o -name 'tare-engines.*' \) | sed 's/^/work /'
    } | sort || true
}
