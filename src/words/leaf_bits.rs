//! Where each field of a [`SoftLeaf`](super::SoftLeaf) lies. The state word of a page has its live bit, its generation and the low bits
//! of its order at the places of the direct bit, the generation and the order of a direct leaf: so "live, of this
//! generation, and of this order" is one comparison.
#![forbid(unsafe_code)]

use crate::geometry::OFFSET_BITS;

pub(crate) const PAYLOAD: u64 = (1 << OFFSET_BITS) - 1;
pub(crate) const YOUNG: u64 = 1 << 40;
pub(crate) const DIRTY: u64 = 1 << 41;
pub(crate) const SOFT_DIRTY: u64 = 1 << 42;
pub(crate) const WRITE_PROTECT: u64 = 1 << 43;
pub(crate) const MARKS: u64 = YOUNG | DIRTY | SOFT_DIRTY | WRITE_PROTECT;
/// In a direct word, whether it allows writing.
pub(crate) const WRITE: u64 = 1 << 44;
pub(crate) const ORDER_SHIFT: u32 = 45;
/// Bits of an order that a direct word has room for: all that it needs.
pub(crate) const ORDER_BITS: u32 = 3;
pub(crate) const ORDER: u64 = ((1 << ORDER_BITS) - 1) << ORDER_SHIFT;
pub(crate) const GENERATION_SHIFT: u32 = 48;
pub(crate) const GENERATION_BITS: u32 = 15;
pub(crate) const GENERATION: u64 = ((1 << GENERATION_BITS) - 1) << GENERATION_SHIFT;
pub(crate) const DIRECT: u64 = 1 << 63;

// In any other word:
pub(crate) const SLOT_SHIFT: u32 = 44;
/// Slots that there are.
pub(crate) const SLOTS: u64 = 1 << 7;
/// 0 in a host word; in a word that names an offset, its kind, its order, and what else `leaf::device` puts there.
pub(crate) const SLOT: u64 = (SLOTS - 1) << SLOT_SHIFT;
pub(crate) const LOW_GENERATION_SHIFT: u32 = 51;
/// In a word that names an offset, as much of the generation as is left room for.
pub(crate) const LOW_GENERATION_BITS: u32 = 12;
pub(crate) const LOW_GENERATION: u64 = ((1 << LOW_GENERATION_BITS) - 1) << LOW_GENERATION_SHIFT;
/// In a host word, its kind.
pub(crate) const HOST_KIND_SHIFT: u32 = 51;
pub(crate) const HOST_KIND: u64 = 15 << HOST_KIND_SHIFT;
/// In the word of a swap slot, which swap area the slot is in.
pub(crate) const SWAP_TYPE_SHIFT: u32 = 55;
pub(crate) const SWAP_TYPE: u64 = 255 << SWAP_TYPE_SHIFT;

/// The generations that folios have. Their upper three bits are neither all clear nor all set, so that a tagged
/// offset, a lone direct bit and all ones are no leaves; and what a device word has of them takes each of its values
/// in turn.
const GENERATIONS: core::ops::RangeInclusive<u64> = 1 << LOW_GENERATION_BITS..=(7 << LOW_GENERATION_BITS) - 1;

pub(crate) const fn is_generation(generation: u64) -> bool {
    *GENERATIONS.start() <= generation && generation <= *GENERATIONS.end()
}

/// The generation after `generation`, which may also be 0: of a place where nothing was allocated yet.
pub(crate) const fn next_generation(generation: u64) -> u64 {
    if is_generation(generation + 1) { generation + 1 } else { *GENERATIONS.start() }
}

const NR_GENERATIONS: u64 = *GENERATIONS.end() - *GENERATIONS.start() + 1;

/// The place of a generation in the cycle; of 0, before the first, that of the last.
const fn number_of(generation: u64) -> u64 {
    if is_generation(generation) { generation - *GENERATIONS.start() } else { NR_GENERATIONS - 1 }
}

/// How many allocations lead from one generation to another; of which either may be 0, before the first.
pub(crate) const fn generations_between(from: u64, to: u64) -> u64 {
    if to == 0 { 0 } else { (number_of(to) + NR_GENERATIONS - number_of(from)) % NR_GENERATIONS }
}

/// The generation after so many more allocations.
pub(crate) const fn generations_on(from: u64, steps: u64) -> u64 {
    if steps == 0 { from } else { *GENERATIONS.start() + (number_of(from) + steps) % NR_GENERATIONS }
}

/// Checks that `fields` do not overlap and leave no bit out.
#[allow(dead_code, reason = "used in constants, which Rust 1.85 does not count")]
pub(crate) const fn assert_partition(fields: &[u64]) {
    let (mut all, mut i) = (0u64, 0);
    while i < fields.len() {
        assert!(all & fields[i] == 0, "two fields of a word overlap");
        all |= fields[i];
        i += 1;
    }
    assert!(all == u64::MAX, "a bit of a word belongs to no field");
}

const _: () = assert_partition(&[PAYLOAD, YOUNG, DIRTY, SOFT_DIRTY, WRITE_PROTECT, WRITE, ORDER, GENERATION, DIRECT]);
const _: () = assert_partition(&[PAYLOAD, MARKS, SLOT, LOW_GENERATION, DIRECT]);
const _: () = assert_partition(&[PAYLOAD, MARKS, SLOT, HOST_KIND, SWAP_TYPE, DIRECT]);
const _: () = assert!(GENERATION_SHIFT + GENERATION_BITS == 63, "the direct bit is next to the generation");
const _: () = assert!(ORDER_SHIFT + ORDER_BITS == GENERATION_SHIFT, "the order is next to the generation");
const _: () = assert!(LOW_GENERATION_BITS >= 12, "a stale leaf must stay stale for thousands of reuses");
