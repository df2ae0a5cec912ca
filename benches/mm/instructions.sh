#!/bin/sh
# Counts the instructions of the library for one page of each operation, under valgrind. The same numbers on every run
# and machine, for one compiler. No bytes are copied: see `src/lib.rs`.
set -eu
cd "$(dirname "$0")"
cargo build --release --quiet --bin count_mm
binary=${CARGO_TARGET_DIR:-target}/release/count_mm
out=$(mktemp)
trap 'rm -f "$out"' EXIT

printf '%-34s %12s %10s %10s\n' 'instructions a 4 KiB page' 'Linux 6.1' 'wanted' 'here'
count() {
    pages=$(valgrind --tool=callgrind --callgrind-out-file="$out" --toggle-collect='*count_mm*watched*' "$binary" "$1" 2>/dev/null)
    total=$(sed -n 's/^\(summary\|totals\): //p' "$out" | head -1)
    printf '%-34s %12s %10s %10s\n' "$2" "$3" "$4" "$((total / pages))"
}
count in-512 'to the device, batch of 512' 3,425 600
count in-1 'to the device, batch of 1' 6,090 1,200
count home 'fault home' 5,975 900
count snapshot 'range snapshot, device-private' 115 30
count unmap 'unmap of a device-private page' 1,583 250
