# Goes before the steps of a page, each a function, in one shell: what one sets or where it goes holds for the next.
# What a step says stands between two lines that begin with a byte 1.
set -eo pipefail
set -m
exec 2>&1
services=()
current=none

# For hidden shell: bash goes on after a `!` that is false.
fails() {
    if "$@"; then
        echo "should have failed: $*"
        return 1
    fi
}

stop_services() {
    for service in "${services[@]}"; do
        # With all that it started.
        kill -TERM -- "-$service" 2>/dev/null || true
    done
    wait
    services=()
}

finish() {
    status=$?
    printf '\1end %s %s\n' "$current" "$status"
    stop_services
    return "$status"
}
trap finish EXIT

run() {
    current=$1
    printf '\1begin %s\n' "$1"
    "step_$1"
    printf '\1end %s 0\n' "$1"
    current=none
}

# Leaves the file with what it says in $service.
serve() {
    current=$1
    printf '\1begin %s\n' "$1"
    service=$(mktemp)
    "step_$1" >"$service" 2>&1 &
    services+=($!)
    for _ in {1..600}; do
        if grep -qF -- "$2" "$service"; then
            cat "$service"
            printf '\1end %s 0\n' "$1"
            current=none
            return
        fi
        kill -0 $! 2>/dev/null || break
        sleep 0.05
    done
    cat "$service"
    echo "it ended, or has not said: $2"
    exit 1
}
