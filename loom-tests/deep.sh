#!/bin/sh
# All models with more preemptions than a push can afford. 3 unless said otherwise.
#
#   loom-tests/deep.sh      # last: all passed, bound 3 (verify's half-made claim 2), loom 0.7.3, 2026-11-22
#   loom-tests/deep.sh 4    # not run yet
#
# The longest at bound 3: 321,634 executions of claim's three threads (37 s), 99,388 of class's there and back (15 s).
set -eu
cd "$(dirname "$0")"
RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS="${1:-3}" cargo test --release -- --nocapture --test-threads=1
