#!/bin/sh
# Runs each fuzz target for some seconds: fuzz/run.sh [SECONDS=60] [TARGET...]
#
# Installs cargo-fuzz if it is missing. Uses the nightly toolchain if there is one; with stable alone, the compiler is
# told to accept the sanitizer flags all the same.
# Last, no findings: 150 s, 22,303 executions of ops (2026-11-28) and 8,980,918 of words (2026-11-22); 110 s on a machine
# busy with other work, 403 of mm, of up to 100 operations each (2026-11-23).
set -eu
cd "$(dirname "$0")/.."

seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- ops words mm

cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz

if cargo +nightly --version >/dev/null 2>&1; then
    toolchain=+nightly
else
    toolchain=
    export RUSTC_BOOTSTRAP=1
fi

for target in "$@"; do
    # Long enough to fill a space.
    lengths="-max_len=8192 -len_control=20"
    if [ "$target" = mm ]; then
        # An operation may move megabytes: too few executions for short programs to grow, so it begins with long ones.
        lengths="-max_len=1024 -len_control=0"
        mkdir -p fuzz/corpus/mm
        for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
            [ -e "fuzz/corpus/mm/first-$i" ] || head -c 400 /dev/urandom >"fuzz/corpus/mm/first-$i"
        done
    fi
    # Word by word, because an empty toolchain is no argument, and lengths are two.
    cargo $toolchain fuzz run "$target" -- \
        -max_total_time="$seconds" $lengths -use_value_profile=1 -print_final_stats=1
done
