# TAP for shell scripts: check NAME STATUS OUTPUT COMMAND…, then tap_end.
# shellcheck shell=bash

tap_number=0
tap_failed=0

# Runs a command with a time limit; its status must match STATUS and its standard output OUTPUT, both of them patterns as bash
# has them ("*" takes anything, "126|127" either). Both outputs and the status are shown when they do not.
check() {
    local name=$1 want_status=$2 want_output=$3 output status=0 errors
    shift 3
    errors=$(mktemp)
    tap_number=$((tap_number + 1))
    output=$(limited "$@" 2>"$errors" | tr -d '\r'; exit "${PIPESTATUS[0]}") || status=$?
    # shellcheck disable=SC2053
    if [[ $status == @($want_status) && $output == $want_output ]]; then
        echo "ok $tap_number - $name"
    else
        tap_failed=$((tap_failed + 1))
        echo "not ok $tap_number - $name"
        echo "  # command: ${*@Q}" | head -c 1000 | tr '\n' ' '
        echo
        echo "  # status $status, expected $want_status; output, expected to match: $want_output"
        printf '%s\n' "$output" | sed 's/^/  # out: /'
        sed 's/^/  # err: /' "$errors" | tail -n 5
    fi
    rm -f "$errors"
}

# Functions of the script cannot be given to timeout(1); they run as they are.
limited() {
    if [ "$(type -t "$1")" = function ] || [ "$(type -t "$1")" = builtin ]; then
        "$@"
    else
        timeout --kill-after 5 60 "$@"
    fi
}

tap_end() {
    echo "1..$tap_number"
    [ "$tap_failed" = 0 ]
}
