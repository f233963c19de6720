# Podman as a plain user with a range of subordinate ids; no cgroup is delegated to it but on a host of cgroup v2 alone.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154

# shellcheck source=docker-like.sh
. "$top/hack/engines.d/docker-like.sh"

user_id=54321
home=$work/home
as_user=(setpriv --reuid "$user_id" --regid "$user_id" --clear-groups env HOME="$home" USER=engines
    XDG_RUNTIME_DIR=/run/engines PATH="$PATH")
cli=("${as_user[@]}" podman --storage-driver vfs --cgroup-manager cgroupfs --events-backend none --runtime "$work/tare")
parent_group=tare-engines-rootless
run_options=(--network none --ulimit host --log-driver k8s-file)
status_format='{{.State.Status}}'
[ "$(cgroup_version)" = v2 ] || limits=no

# The user is known in this mount namespace alone.
add_user() {
    local file
    for file in passwd group subuid subgid; do
        cp "/etc/$file" "$work/$file"
        case $file in
        passwd) echo "engines:x:$user_id:$user_id::$home:/bin/sh" ;;
        group) echo "engines:x:$user_id:" ;;
        *) echo "engines:800000000:65536" ;;
        esac >>"$work/$file"
        chmod 644 "$work/$file"
        mount --bind "$work/$file" "/etc/$file"
    done
}

start_engine() {
    add_user
    chmod 711 "$ENGINES_INSIDE" "$work"
    install -m 755 "$TARE" "$work/tare"
    install -d -m 700 -o "$user_id" -g "$user_id" "$home" /run/engines
    chmod 644 "$work/box.tar"
    # A user's own cgroup, as systemd makes one: podman's containers come beside podman.
    if [ "$(cgroup_version)" = v2 ]; then
        delegate_cgroup
    fi
    echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/policy.json"
    cd "$home"
    "${cli[@]}" load --signature-policy "$work/policy.json" -i "$work/box.tar" >/dev/null 2>"$work/log" || { cat "$work/log"; fail "podman cannot load the image"; }
}

delegate_cgroup() {
    local group=/sys/fs/cgroup/$parent_group controller
    mkdir -p "$group/user"
    chown "$user_id" "$group" "$group"/cgroup.{procs,threads,subtree_control} "$group/user" \
        "$group/user"/cgroup.{procs,threads,subtree_control}
    for controller in memory pids cpu; do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
        echo "+$controller" >"$group/cgroup.subtree_control"
    done
    echo $$ >"$group/user/cgroup.procs"
}

stop_engine() {
    [ "$(cgroup_version)" != v2 ] || echo $$ >/sys/fs/cgroup/cgroup.procs
    cd /
}

run_rootless_cases() {
    local map
    map=$'         0      54321          1\n         1  800000000      65536'
    check "$engine: ids are the user's" 0 "$map" run --rm "$box" cat /proc/self/uid_map
    check "$engine: the user keeps the id" 0 "$user_id" run --rm --userns keep-id "$box" id -u
    check "$engine: more groups" 0 '0 7 8' run --rm --group-add 7 --group-add 8 "$box" id -G
    check "$engine: a user namespace of its own" 0 '*0 *1 *' run --rm --userns auto "$box" cat /proc/self/uid_map
    check "$engine: the host's processes" 0 yes run --rm --pid host "$box" sh -c 'test -d /proc/1/ns && echo yes'
    check "$engine: exec as another user on a terminal" 0 '*/dev/pts/*' exec_on_terminal
}

exec_on_terminal() {
    "${cli[@]}" run -d --name other "${run_options[@]}" "$box" sleep 1000 >/dev/null
    script -qec "$(printf '%q ' "${cli[@]}" exec -t -u 9 other tty)" /dev/null </dev/null
    "${cli[@]}" rm -f other >/dev/null 2>&1
}

run_cases() {
    run_common_cases
    run_rootless_cases
    check_nothing_left "/libpod-"
}
