#!/bin/sh
# Counts the instructions of a pair of get and put, and of lock and unlock, of farpage and of what it stands beside.
#
# As in instructions.sh: valgrind's callgrind counts what the processor would retire, which is the same from run to run;
# the program runs twice, with 10,000 and with 110,000 pairs, and the difference, divided by 100,000, is a pair's share of
# the loop. `net` leaves out what an empty loop takes.
#
# Usage: benches/references.sh      exit 0: counted; 2: could not count
set -eu

here=$(cd "$(dirname "$0")" && pwd)
few=10000
more=100000

command -v valgrind >/dev/null || { echo "references.sh: valgrind is not installed" >&2; exit 2; }
program=$(cargo build --quiet --release --manifest-path "$here/Cargo.toml" --bin count_references \
    --message-format json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$program" ] || { echo "references.sh: count_references was not built" >&2; exit 2; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Instructions of a whole run: count KIND STEPS
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>"$log" >&2 || {
        cat "$log" >&2
        exit 2
    }
    sed -n 's/.*Collected *: *\([0-9]*\).*/\1/p' "$log"
}

# Instructions of a pair, in hundredths: share KIND
share() {
    from=$(count "$1" "$few") && to=$(count "$1" $((few + more))) || exit 2
    echo $(((to - from) * 100 / more))
}

decimal() { printf '%d.%02d' $(($1 / 100)) $(($1 % 100)); }

empty=$(share empty)
printf '%-18s %8s %8s   (instructions a pair; an empty loop takes %s)\n' kind loop net "$(decimal "$empty")"
for kind in clone-bare clone-arc clone try_get-bare try_get upgrade-arc upgrade map lock-parking_lot lock; do
    all=$(share "$kind")
    net=$((all > empty ? all - empty : 0))
    printf '%-18s %8s %8s\n' "$kind" "$(decimal "$all")" "$(decimal "$net")"
done
