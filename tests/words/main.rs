//! The words that a driver and an address space pass around, through the public face: every kind goes round, every
//! combination of flags stays itself, and 64 bits from anywhere are decoded without harm.
//!
//! Where the fields of a leaf lie is tested beside them; what does not compile is in `src/words/apart.rs`; the fuzz target
//! `words` does to arbitrary bits what `any` does here.

mod any;
mod entries;
mod leaf;

use farpage::{
    Access, DeviceConfig, MigrateEntry, MigrationAccess, Offset, Order, Pfn, PteMarker, RangeEntry, SoftLeaf, Space,
    SwapSlot, Target,
};

const NUMBERS: [u64; 7] = [0, 1, 511, 512, 1 << 20, (1 << 39) + 5, (1 << 40) - 1];
const ACCESSES: [Access; 2] = [Access::Read, Access::Write];
const MOVES: [MigrationAccess; 3] = [MigrationAccess::Read, MigrationAccess::ReadExclusive, MigrationAccess::Write];

fn pfn(number: u64) -> Pfn {
    Pfn::new(number).expect("below 2^40")
}

fn offset(number: u64) -> Offset {
    Offset::new(number).expect("below 2^40")
}

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

fn every_set_of_flags<const N: usize>() -> impl Iterator<Item = [bool; N]> {
    (0..1u32 << N).map(|bits| std::array::from_fn(|i| bits >> i & 1 == 1))
}

/// The four marks: young, dirty, soft-dirty, write-protect.
fn marks(leaf: SoftLeaf) -> [bool; 4] {
    [leaf.is_young(), leaf.is_dirty(), leaf.is_soft_dirty(), leaf.is_write_protect()]
}

fn with_marks(leaf: SoftLeaf, [young, dirty, soft_dirty, write_protect]: [bool; 4]) -> SoftLeaf {
    leaf.with_young(young).with_dirty(dirty).with_soft_dirty(soft_dirty).with_write_protect(write_protect)
}
/// Whatever can be made of `leaf` without another page's number.
fn rewrites(leaf: SoftLeaf) -> Vec<SoftLeaf> {
    let mut all = vec![leaf];
    all.extend(ACCESSES.map(|access| leaf.with_access(access)));
    all.extend(MOVES.into_iter().filter_map(|access| leaf.to_migration(access)));
    all.extend([leaf.from_migration(), leaf.to_exclusive(), leaf.to_hwpoison()].into_iter().flatten());
    all.extend(ACCESSES.into_iter().filter_map(|access| leaf.from_exclusive(access)));
    all.extend(ACCESSES.into_iter().filter_map(|access| leaf.from_swap(pfn(77), access)));
    all.extend(leaf.to_swap(SwapSlot::new(3, 99).expect("a small number")));
    all.extend([0, 1, 511].into_iter().filter_map(|index| leaf.for_page(index)));
    all
}

/// A leaf of each kind that has marks, and of each way in which a word names an offset.
fn marked_kinds() -> Vec<SoftLeaf> {
    let space = Space::builder().max_pages(1 << 20).build().expect("address space");
    let device = space.register(DeviceConfig::new(1 << 20)).expect("it fits");
    let mut all = Vec::new();
    for n in [0, 1, 4, 7, 8, 9, 10, 18] {
        let head = device.alloc(order(n)).expect("the device is empty").into_leaf(Access::Write);
        let pages = [0, 1, (1 << n) / 2, (1 << n) - 1].into_iter().filter_map(|index| head.for_page(index));
        all.extend(pages.flat_map(|leaf| ACCESSES.map(|access| leaf.with_access(access))));
        drop(space.take(head).expect("the leaf owns a reference"));
    }
    for number in NUMBERS {
        all.extend(ACCESSES.map(|access| SoftLeaf::present(pfn(number), access)));
        all.extend([SoftLeaf::exclusive(pfn(number)), SoftLeaf::hwpoison(pfn(number))]);
        all.extend([0, 31, 255].map(|area| SoftLeaf::swap(SwapSlot::new(area, number).expect("below 2^40"))));
    }
    let entries: Vec<_> = all.iter().flat_map(|leaf| MOVES.map(|access| leaf.to_migration(access))).collect();
    all.extend(entries.into_iter().flatten());
    all
}

// All of it can be computed by the compiler.
const PRESENT: SoftLeaf = SoftLeaf::present(Pfn::new(512).unwrap(), Access::Read).with_access(Access::Write);
const MOVING: SoftLeaf = PRESENT.with_soft_dirty(true).to_migration(MigrationAccess::Write).unwrap();
const _: () =
    assert!(PRESENT.is_present() && PRESENT.is_valid_huge() && matches!(PRESENT.access(), Some(Access::Write)));
const _: () = assert!(MOVING.is_migration() && MOVING.is_soft_dirty() && !MOVING.is_write_protect());
const _: () = assert!(MOVING.from_migration().unwrap().bits() == PRESENT.with_soft_dirty(true).bits());
const _: () = assert!(matches!(MOVING.migration_target(), Some(Target::Host(pfn)) if pfn.get() == 512));
const _: () = assert!(MOVING.for_page(3).unwrap().pfn().unwrap().get() == 515);
const _: () = assert!(SoftLeaf::marker(PteMarker::GUARD).is_marker() && SoftLeaf::NONE.bits() == 0);
const _: () = assert!(SoftLeaf::swap(SwapSlot::new(1, 2).unwrap()).swap_slot().unwrap().swap_type() == 1);
const _: () = assert!(MigrateEntry::hole().is_hole() && MigrateEntry::EMPTY.bits() == 0);
const _: () = assert!(MigrateEntry::device(Offset::MAX).is_device_private());
const _: () = assert!(RangeEntry::device(Offset::MAX, Access::Read).is_device_private());
const _: () = assert!(RangeEntry::HOLE.bits() == 0 && RangeEntry::request(None).requested().is_none());
