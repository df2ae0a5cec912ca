#!/bin/sh
# Counts the instructions of a lookup, and fails when there are more than 20.
#
# What is counted: instructions that the processor would retire, as valgrind's callgrind counts them,
# which is the same from run to run and on every machine with this compiler. The program is run twice,
# with 8 and with 40 runs of 4,096 lookups; the difference, divided by the 131,072 lookups more, is one
# lookup's share: set-up, tear-down and the loading of the program cancel out.
#
#   loop   all of an iteration: the leaf's load, the lookup, the private word's load and addition, the
#          check that the lookup found something, and the loop's counter and branch
#   net    the same without the iteration of an empty loop, which loads a key and adds it
#
# `one` is Space::lookup with PageRef::private; `many` is Space::lookup_many in groups, and both passes
# over a group count; a chase has no array of keys to load from, so its loop is shorter. `plain` is the
# array of records. The answer is asserted in each run.
#
# A space of 2^20 pages is used, because valgrind has to map all of it; the instructions are the same.
#
# Usage: benches/instructions.sh [LIMIT]      exit 0: within LIMIT (20); 1: more; 2: could not count
set -eu

limit=${1:-20}
here=$(cd "$(dirname "$0")" && pwd)
more=32
lookups=$((more * 4096))

command -v valgrind >/dev/null || { echo "instructions.sh: valgrind is not installed" >&2; exit 2; }
program=$(cargo build --quiet --release --manifest-path "$here/Cargo.toml" --bin count_lookup \
    --message-format json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$program" ] || { echo "instructions.sh: count_lookup was not built" >&2; exit 2; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Instructions of a whole run: count KIND RUNS
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>"$log" >&2 || {
        cat "$log" >&2
        exit 2
    }
    sed -n 's/.*Collected *: *\([0-9]*\).*/\1/p' "$log"
}

# Instructions of a lookup, in hundredths: share KIND
share() {
    few=$(count "$1" 8) && many=$(count "$1" $((8 + more))) || exit 2
    echo $(((many - few) * 100 / lookups))
}

decimal() { printf '%d.%02d' $(($1 / 100)) $(($1 % 100)); }

empty=$(share empty)
printf '%-12s %8s %8s   (instructions a lookup; an empty loop takes %s)\n' kind loop net "$(decimal "$empty")"
for kind in plain one many plain-chase chase; do
    all=$(share "$kind")
    net=$((all > empty ? all - empty : 0))
    printf '%-12s %8s %8s\n' "$kind" "$(decimal "$all")" "$(decimal "$net")"
    [ "$kind" = one ] && one=$all
done

if [ "$one" -gt $((limit * 100)) ]; then
    echo "more than $limit instructions a lookup: $(decimal "$one")" >&2
    exit 1
fi
echo "at most $limit instructions a lookup: yes"
