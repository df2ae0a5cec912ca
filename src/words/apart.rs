//! What does not compile: one word where another is wanted. Documentation tests only.
//!
//! Each case is a pair of tests that differ in one word: the first must compile, so that the second fails for no other
//! reason than that its two types are not one.
#![forbid(unsafe_code)]

/// `$wanted` is not `$given`.
macro_rules! apart {
    ($($name:ident: $given:literal is no $wanted:literal;)*) => {$(
        #[doc = "```"]
        #[doc = concat!("use farpage::*; fn want(_: ", $wanted, ") {}")]
        #[doc = concat!("fn pass(it: ", $wanted, ", _: ", $given, ") { want(it) }")]
        #[doc = "```"]
        #[doc = "```compile_fail,E0308"]
        #[doc = concat!("use farpage::*; fn want(_: ", $wanted, ") {}")]
        #[doc = concat!("fn pass(_: ", $wanted, ", it: ", $given, ") { want(it) }")]
        #[doc = "```"]
        #[allow(dead_code, reason = "only its documentation is of use")]
        struct $name;
    )*};
}

apart! {
    OffsetForPfn: "Offset" is no "Pfn";
    PfnForOffset: "Pfn" is no "Offset";
    OffsetForLeaf: "Offset" is no "SoftLeaf";
    LeafForOffset: "SoftLeaf" is no "Offset";
    PfnForLeaf: "Pfn" is no "SoftLeaf";
    LeafForPfn: "SoftLeaf" is no "Pfn";
    MigrateForLeaf: "MigrateEntry" is no "SoftLeaf";
    LeafForMigrate: "SoftLeaf" is no "MigrateEntry";
    RangeForLeaf: "RangeEntry" is no "SoftLeaf";
    LeafForRange: "SoftLeaf" is no "RangeEntry";
    MigrateForRange: "MigrateEntry" is no "RangeEntry";
    RangeForMigrate: "RangeEntry" is no "MigrateEntry";
    OffsetForMigrate: "Offset" is no "MigrateEntry";
    PfnForMigrate: "Pfn" is no "MigrateEntry";
    MigrateForOffset: "MigrateEntry" is no "Offset";
    OffsetForRange: "Offset" is no "RangeEntry";
    PfnForRange: "Pfn" is no "RangeEntry";
    RangeForOffset: "RangeEntry" is no "Offset";
    // A tagged offset is a bare number, and a bare number is nothing.
    TaggedForOffset: "u64" is no "Offset";
    TaggedForPfn: "u64" is no "Pfn";
    TaggedForLeaf: "u64" is no "SoftLeaf";
    TaggedForMigrate: "u64" is no "MigrateEntry";
    TaggedForRange: "u64" is no "RangeEntry";
    TaggedForTarget: "u64" is no "Target";
    OffsetForTagged: "Offset" is no "u64";
    // Who passes a target on says where it lies.
    OffsetForTarget: "Offset" is no "Target";
    TargetForOffset: "Target" is no "Offset";
    TargetForPfn: "Target" is no "Pfn";
    SwapSlotForOffset: "SwapSlot" is no "Offset";
    MarkerForLeaf: "PteMarker" is no "SoftLeaf";
    // What a mapping allows, and what it allowed.
    AccessForMigration: "Access" is no "MigrationAccess";
    OrderForNumber: "Order" is no "u64";
}

/// And where both are words, they do not compare.
///
/// ```
/// fn same(a: farpage::Offset, b: farpage::Offset) -> bool { a == b }
/// ```
/// ```compile_fail,E0308
/// fn same(a: farpage::Offset, b: farpage::Pfn) -> bool { a == b }
/// ```
/// ```
/// fn same(a: farpage::SoftLeaf, b: farpage::SoftLeaf) -> bool { a == b }
/// ```
/// ```compile_fail,E0308
/// fn same(a: farpage::SoftLeaf, b: farpage::MigrateEntry) -> bool { a == b }
/// ```
#[allow(dead_code, reason = "only its documentation is of use")]
struct Compared;
