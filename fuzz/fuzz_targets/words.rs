//! Any 64 bits as a leaf word: what it is, what it names, and that rewriting it keeps what it names.
#![no_main]

use farpage::{Access, LeafKind, MigrationAccess, Offset, Order, Pfn, SoftLeaf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, u8)| {
    let (bits, order) = input;
    let word = SoftLeaf::from_bits(bits);
    assert_eq!(word.bits(), bits);

    let (offset, pfn) = (word.offset(), word.pfn());
    assert!(offset.is_none() || pfn.is_none(), "{word:?} names a device page and a host page");
    match word.kind() {
        LeafKind::None => assert_eq!((word, offset, pfn), (SoftLeaf::NONE, None, None)),
        LeafKind::DevicePrivate(_) => assert!(offset.is_some()),
        LeafKind::DeviceExclusive | LeafKind::Present(_) => assert!(pfn.is_some()),
        LeafKind::Migration(_) => assert!(offset.is_some() != pfn.is_some()),
        LeafKind::Unknown => assert_eq!((offset, pfn), (None, None)),
        kind => panic!("{kind:?} is new here"),
    }
    let names_nothing = offset.is_none() && pfn.is_none();

    for access in [Access::Read, Access::Write] {
        let rewritten = word.with_access(access);
        assert_eq!((rewritten.offset(), rewritten.pfn()), (offset, pfn));
        assert_eq!((rewritten.is_young(), rewritten.is_dirty()), (word.is_young(), word.is_dirty()));
        assert_eq!(rewritten.with_access(access), rewritten, "once is enough");
        match rewritten.kind() {
            LeafKind::DevicePrivate(now) | LeafKind::Present(now) => assert_eq!(now, access),
            LeafKind::Migration(now) => assert_eq!(now == MigrationAccess::Write, access == Access::Write),
            _ => assert_eq!(rewritten, word),
        }
        if word.kind() == LeafKind::DevicePrivate(access) {
            let there_and_back = word.with_access(Access::Read).with_access(Access::Write).with_access(access);
            assert_eq!(there_and_back, word, "no bit is lost");
        }
    }

    for mark in [false, true] {
        let (young, dirty) = (word.with_young(mark), word.with_dirty(mark));
        assert_eq!((young.kind(), young.offset(), young.pfn()), (word.kind(), offset, pfn));
        assert_eq!((dirty.kind(), dirty.offset(), dirty.pfn()), (word.kind(), offset, pfn));
        if names_nothing {
            assert_eq!((young, dirty), (word, word));
        } else {
            assert_eq!((young.is_young(), young.is_dirty()), (mark, word.is_dirty()));
            assert_eq!((dirty.is_dirty(), dirty.is_young()), (mark, word.is_young()));
        }
    }

    for access in [MigrationAccess::Read, MigrationAccess::ReadExclusive, MigrationAccess::Write] {
        match word.to_migration(access) {
            Some(entry) => {
                assert_eq!(entry.kind(), LeafKind::Migration(access));
                assert_eq!((entry.offset(), entry.pfn()), (offset, pfn));
            }
            None => assert!(names_nothing || word.kind() == LeafKind::DeviceExclusive),
        }
    }

    // The other words, from the same bits.
    assert_eq!(Offset::new(bits).is_some(), bits < 1 << 40);
    assert_eq!(Pfn::new(bits).is_some(), bits < 1 << 40);
    match Offset::from_tagged(bits) {
        Some(offset) => assert_eq!(offset.to_tagged(), bits),
        None => assert!(Offset::new(bits & !(1 << 63)).is_none() || bits >> 63 == 0),
    }
    assert_eq!(Order::new(order).map(Order::nr_pages), (order <= 18).then(|| 1 << order));
});
