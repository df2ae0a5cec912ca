#!/bin/sh
# All models with more preemptions than a push can afford. 3 unless said otherwise.
#
#   loom-tests/deep.sh      # last: all passed, bound 3 (what says "bound 2" or "bound 1" gets no more), loom 0.7.3, 2026-11-23;
#                           # seal, stash and verify not since the trees of hints were joined into one kind
#   loom-tests/deep.sh 4    # not run yet
#
# The longest at bound 3: 356,389 executions of verify's block (30 s, with one preemption more), 300,991 of the stash's two
# thieves (27 s), 96,136 of a cache that is dropped (17 s).
set -eu
cd "$(dirname "$0")"
RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS="${1:-3}" cargo test --release -- --nocapture --test-threads=1
