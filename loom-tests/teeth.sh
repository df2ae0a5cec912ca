#!/bin/sh
# Do the models bite? Weakens one thing at a time in a scratch copy of the library, and expects the named test to fail.
#
#   loom-tests/teeth.sh            # all of them: 4 minutes on two cores, and the first build
#   loom-tests/teeth.sh publish    # those whose name begins with that
#
# A line: name @ file @ sed script @ test file @ test. A name that ends in "?" is an ordering without a model that misses
# it, since another edge gives the same; it is expected to pass, and is here so that nobody takes it for proven.
# Last: all as expected (41 fail, 4 are redundant and pass), bound 2, loom 0.7.3, 2026-11-22.
#
# Exits with 1 if anything is not as expected, or if a script no longer changes its file.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/tree"
(cd "$here" && tar cf - --exclude target --exclude .git .) | (cd "$scratch/tree" && tar xf -)
export RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$scratch/target}"
cd "$scratch/tree"
status=0
while IFS='@' read -r name file script test function; do
    case "$name" in '' | '#'*) continue ;; "${1:-}"*) ;; *) continue ;; esac
    cp "src/$file" "$scratch/original"
    sed -i -e "$script" "src/$file"
    if cmp -s "src/$file" "$scratch/original"; then
        result="NO CHANGE: mend the table"
        status=1
    elif ! cargo test -q --release --manifest-path loom-tests/Cargo.toml --test "$test" --no-run >"$scratch/build" 2>&1; then
        result="DOES NOT BUILD: mend the table"
        status=1
    elif timeout 120 cargo test -q --release --manifest-path loom-tests/Cargo.toml --test "$test" -- --exact "$function" \
        >"$scratch/log" 2>&1; then
        case "$name" in *'?') result="passes, as expected" ;; *) result="PASSES: no teeth"; status=1 ;; esac
    else
        why=$(grep -m1 -A1 'panicked at' "$scratch/log" | tail -1 | cut -c1-60)
        case "$name" in *'?') result="FAILS, unexpectedly: $why"; status=1 ;; *) result="fails: $why" ;; esac
    fi
    cp "$scratch/original" "src/$file"
    printf '%-34s %-60s %s\n' "$name" "$test::$function" "$result"
done <<'TABLE'
publish: Release@sparse/heap.rs@s/null_mut(), fresh.cast(), Release/null_mut(), fresh.cast(), Relaxed/@publish@a_found_element_is_fully_built
publish: Acquire@sparse/heap.rs@s/\.load(Acquire)/.load(Relaxed)/@publish@a_found_element_is_fully_built
publish: loser frees@sparse/heap.rs@s/Err(_) => drop(.*/Err(_) => {}/@publish@racing_populates_agree
init: Release@page/mod.rs@s/store(state.bits(), Release)/store(state.bits(), Relaxed)/@init@whoever_sees_the_new_life_sees_its_fields
init: Acquire of state@page/mod.rs@s/State::from_bits(self.state.load(Acquire))/State::from_bits(self.state.load(Relaxed))/@init@whoever_sees_the_new_life_sees_its_fields
init: Acquire of try_get@page/mod.rs@s/next.bits(), Acquire, Relaxed/next.bits(), Relaxed, Relaxed/@init@a_speculative_try_get_sees_the_new_lifes_fields
init: generation of try_get@page/mod.rs@s/state.is_life(generation).then(.. state.try_get()).flatten()/{ let _ = generation; state.try_get() }/@init@a_reader_with_the_old_generation_never_gets_the_new_life
last_put: Release@page/mod.rs@s/fetch_sub(State::ONE_REF, Release)/fetch_sub(State::ONE_REF, Relaxed)/@last_put@the_last_of_two_frees_alone
last_put: Acquire@page/mod.rs@/fn put(&self)/,/^    }/s/self.state.load(Acquire);//@last_put@the_last_of_two_frees_alone
last_put: count 0 is free@page/state.rs@s/if count == 0 || count >= MAX_REFS/if count >= MAX_REFS/@last_put@a_reference_that_was_got_holds_the_folio
map: Release@page/mod.rs@s/fetch_add(State::ONE_MAP, Release)/fetch_add(State::ONE_MAP, Relaxed)/@map@a_taken_leaf_brings_the_handles_work_with_it
map: Acquire of unmap@page/mod.rs@s/next.bits(), Acquire, Relaxed/next.bits(), Relaxed, Relaxed/@map@a_taken_leaf_brings_the_handles_work_with_it
map: maps are counted@page/state.rs@s/if self.maps() == 0 { None }/if self.maps() == 0 { Some(self) }/@map@of_two_takes_of_copies_one_wins
claim: Release of bits@free_map/bits.rs@s/fetch_and(!run, Release)/fetch_and(!run, Relaxed)/@claim@bits_of_one_page
claim: Acquire of bits@free_map/bits.rs@s/(seen, seen | run, Acquire, Relaxed)/(seen, seen | run, Relaxed, Relaxed)/@claim@bits_of_one_page
claim: Acquire of two words@free_map/bits.rs@s/(0, FULL_WORD, Acquire, Relaxed)/(0, FULL_WORD, Relaxed, Relaxed)/@claim@bits_of_two_words_twice
claim: undone words go back@free_map/bits.rs@s/taken.fetch_and(!FULL_WORD, Release);/let _ = taken;/@claim@bits_of_two_words_against_a_page
claim: Release of use@free_map/blocks.rs@s/fetch_sub(nr_pages as u32, AcqRel)/fetch_sub(nr_pages as u32, Acquire)/@claim@a_page_is_claimed_after_the_last_use_of_its_block
claim: Acquire of small@free_map/blocks.rs@/fn claim_in(/,/^    }/s/next.bits(), AcqRel, Relaxed/next.bits(), crate::sync::Ordering::Release, Relaxed/@claim@a_page_is_claimed_after_the_last_use_of_its_block
claim: Acquire of whole@free_map/blocks.rs@/fn claim_one_whole(/,/^    }/s/next.bits(), AcqRel, Relaxed/next.bits(), crate::sync::Ordering::Release, Relaxed/@claim@a_block_is_claimed_after_the_last_use_of_the_block
claim: undone page goes back@free_map/blocks.rs@s/bits.release(start, order);/let _ = start;/@claim@a_whole_block_and_a_page_of_it
claim: undone block goes back@free_map/blocks.rs@/fn claim_whole(/,/^    }/s/self.release_whole_block(taken);/let _ = taken;/@claim@a_run_of_blocks_and_a_page_in_it
verify: Release of small claim@free_map/blocks.rs@/fn claim_in(/,/^    }/s/next.bits(), AcqRel, Relaxed/next.bits(), Acquire, Relaxed/@verify@a_page_that_moves_to_a_block_behind_the_search_is_found
verify: Release of whole claim@free_map/blocks.rs@/fn claim_one_whole(/,/^    }/s/next.bits(), AcqRel, Relaxed/next.bits(), Acquire, Relaxed/@verify@a_block_that_is_freed_behind_the_search_is_found
verify: use word by RMW@free_map/blocks.rs@/fn look_closely(/,/^    }/s/word.fetch_add(0, AcqRel)/word.load(Acquire)/@verify@a_block_that_is_freed_behind_the_search_is_found
verify: Release of use RMW@free_map/blocks.rs@/fn look_closely(/,/^    }/s/fetch_add(0, AcqRel)/fetch_add(0, Acquire)/@verify@a_block_that_is_freed_behind_the_search_is_found
verify: Acquire of take_off@free_map/blocks.rs@s/fetch_sub(nr_pages as u32, AcqRel)/fetch_sub(nr_pages as u32, crate::sync::Ordering::Release)/@verify@a_block_that_is_freed_behind_the_search_is_found
verify: count of releases@free_map/mod.rs@s/self.releases.fetch_add(order.nr_pages(), Release);//@verify@a_block_that_is_freed_behind_the_search_is_found
verify: half-made large claims@free_map/search.rs@s/census.unsettled += PAGES_PER_BLOCK;//@verify@a_claim_that_is_undone_hides_no_block
verify: announcement@free_map/mod.rs@s/self.searchers.fetch_add(1, Relaxed);//;s/self.searchers.fetch_sub(1, Relaxed);//@verify@a_block_that_is_freed_behind_the_search_is_found
class: Acquire of publish@section_map/mod.rs@/fn publish(/,/^    }/s/word.load(Acquire)/word.load(Relaxed)/@class@a_late_publisher_never_takes_the_word_back
class: Release of publish@section_map/mod.rs@/fn publish(/,/^    }/s/wanted, Release, Relaxed/wanted, Relaxed, Relaxed/@class@a_late_publisher_never_takes_the_word_back
class: exchange, not store@section_map/mod.rs@/fn publish(/,/^    }/s/word.compare_exchange(seen, wanted, Release, Relaxed).is_ok()/{ word.store(wanted, Release); true }/@class@a_late_publisher_never_takes_the_word_back
class: changes are counted@section_map/block_word.rs@s/(change.changes as u64) << CHANGES_SHIFT/0/@class@a_late_publisher_meets_the_word_of_an_older_mix
class: Acquire of block_word?@section_map/mod.rs@/fn block_word(/,/^    }/s/load(Acquire)/load(Relaxed)/@class@a_tail_leads_to_its_head_or_to_nothing
drain: Release of exit@live.rs@/fn exit_at(/,/^    }/s/, Release, Relaxed/, Relaxed, Relaxed/@drain@who_comes_in_while_it_closes_is_waited_for
drain: Acquire of sum and close@live.rs@/fn sum(/,/^    }/s/load(Acquire)/load(Relaxed)/;s/fetch_or(CLOSED, AcqRel)/fetch_or(CLOSED, Release)/@drain@who_comes_in_while_it_closes_is_waited_for
drain: Acquire of sum?@live.rs@/fn sum(/,/^    }/s/load(Acquire)/load(Relaxed)/@drain@who_sees_it_closed_may_drain_it
drain: Acquire of close?@live.rs@s/fetch_or(CLOSED, AcqRel)/fetch_or(CLOSED, Release)/@drain@who_comes_in_while_it_closes_is_waited_for
drain: Release of close@live.rs@s/fetch_or(CLOSED, AcqRel)/fetch_or(CLOSED, Acquire)/@drain@who_sees_it_closed_may_drain_it
drain: Acquire of is_closed@live.rs@/fn is_closed(/,/^    }/s/load(Acquire)/load(Relaxed)/@drain@who_sees_it_closed_may_drain_it
drain: Release of exit_closed?@live.rs@s/ONE \* nr_pages as i64, Release);/ONE * nr_pages as i64, Relaxed);/@drain@the_last_of_two_wakes_who_waits
drain: wake-up@live.rs@s/self.emptied.notify_all();//@drain@the_last_of_two_wakes_who_waits
drain: gate@live.rs@/fn exit_closed(/,/^    }/s/let gate = self.gate.lock();//;s/^        drop(gate);//@drain@the_last_of_two_wakes_who_waits
kill_alloc: device is held@device/ending.rs@s/if !self.entry().live().exit(nr_pages) {/if !self.entry().live().exit(nr_pages) \&\& false {/@kill_alloc@an_allocation_is_refused_or_waited_for
TABLE
exit $status
