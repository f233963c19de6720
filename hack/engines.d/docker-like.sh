# The cases that Docker and Podman share, in their common command line.
# shellcheck shell=bash disable=SC2016,SC2154

box=localhost/box:latest

run() { timeout --kill-after 5 60 "${cli[@]}" run "${run_options[@]}" "$@"; }

fed_cat() { echo fed | run --rm -i "$box" cat; }

on_terminal() {
    script -qec "$(printf '%q ' "${cli[@]}" run "${run_options[@]}" --rm -t "$box" tty)" /dev/null </dev/null
}

status_of() { "${cli[@]}" inspect --format "$status_format" "$1"; }

is() { [ "$(status_of "$1")" = "$2" ]; }

line_count() { "${cli[@]}" logs "$1" 2>/dev/null | grep -c "$2"; }

has_lines() { [ "$(line_count "$1" "$2")" = "$3" ]; }

run_common_cases() {
    run_foreground_cases
    run_detached_cases
}

run_foreground_cases() {
    check "$engine: run prints hello" 0 hello run --rm "$box" echo hello
    check "$engine: the exit status is the program's" 7 '' run --rm "$box" sh -c 'exit 7'
    check "$engine: environment, folder and user" 0 'b /tmp 1234:1235' run --rm -e A=b -w /tmp -u guest "$box" \
        sh -c 'echo $A $PWD $(id -u):$(id -g)'
    check "$engine: hostname" 0 inside run --rm -h inside "$box" hostname
    check "$engine: standard input" 0 fed fed_cat
    if [ "${limits:-yes}" = yes ]; then
        run_limit_cases
    fi
    check "$engine: the default seccomp profile" 0 2 run --rm "$box" sh -c "sed -n 's/^Seccomp:.//p' /proc/self/status"
    check "$engine: all capabilities dropped" 0 0000000000000000 run --rm --cap-drop ALL "$box" \
        sh -c "sed -n 's/^CapBnd:.//p' /proc/self/status"
    check "$engine: a read-only root" 1 '' run --rm --read-only "$box" touch /x
    check "$engine: a volume" 0 box.tar run --rm -v "$work:/host:ro" "$box" sh -c 'cd /host && ls box.tar'
    check "$engine: a command that is not there is 127" 127 '' run --rm "$box" nothere
    check "$engine: a file that is no program is 126" 126 '' run --rm "$box" /etc/passwd
    check "$engine: a terminal" 0 '*/dev/pts/0*' on_terminal
}

run_limit_cases() {
    check "$engine: a memory limit is seen" 0 67108864 run --rm -m 64m "$box" \
        sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max'
    check "$engine: a limit of processes is seen" 0 20 run --rm --pids-limit 20 "$box" \
        sh -c 'cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max'
}

run_pause_cases() {
    check "$engine: pause" 0 '*' "${cli[@]}" pause main
    check "$engine: it is paused" 0 paused status_of main
    check "$engine: unpause" 0 '*' "${cli[@]}" unpause main
}

run_detached_cases() {
    check "$engine: run detached" 0 '*' run -d --name main "$box" sh -c 'echo out; echo err >&2; exec sleep 1000'
    check "$engine: it runs" 0 running status_of main
    check "$engine: exec" 0 hi "${cli[@]}" exec main echo hi
    check "$engine: exec with environment, folder and user" 0 'b /tmp 1234' "${cli[@]}" exec -e A=b -w /tmp -u guest main \
        sh -c 'echo $A $PWD $(id -u)'
    check "$engine: exec's exit status" 5 '' "${cli[@]}" exec main sh -c 'exit 5'
    # Docker 20.10 says 126 with any runtime, later ones and Podman 127.
    check "$engine: exec of what is not there is 127" '126|127' '*' "${cli[@]}" exec main nothere
    check "$engine: exec of what is no program is 126" 126 '*' "${cli[@]}" exec main /etc/passwd
    check "$engine: the log has both streams" 0 $'*out*' "${cli[@]}" logs main
    check "$engine: top" 0 '*sleep 1000*' "${cli[@]}" top main
    if [ "${limits:-yes}" = yes ]; then
        run_pause_cases
    fi
    check "$engine: restart" 0 '*' "${cli[@]}" restart -t 0 main
    check "$engine: it has run twice" 0 '' wait_for has_lines main out 2
    check "$engine: kill" 0 '*' "${cli[@]}" kill main
    check "$engine: its status is that of the signal" 0 137 "${cli[@]}" wait main
    check "$engine: it has stopped" 0 exited status_of main
    check "$engine: start again" 0 '*' "${cli[@]}" start main
    check "$engine: rm with force" 0 '*' "${cli[@]}" rm -f main
}
