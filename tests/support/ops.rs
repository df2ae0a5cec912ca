//! [`Op`]: one random operation, decoded from bytes.
//!
//! Every byte string is a program, so a fuzzer can write them as well as a generator. What an operation is applied to
//! (a device, a handle, a leaf) is a bare number here, which the oracle reduces to what there is.

use farpage::{Access, MigrationAccess, Order};

/// One operation on a space.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Register {
        nr_pages: u64,
        has_ops: bool,
        is_deferred: bool,
    },
    Alloc {
        device: u8,
        order: Order,
    },
    AllocMany {
        device: u8,
        order: Order,
        n: u8,
    },
    Clone {
        handle: u16,
    },
    Drop {
        handle: u16,
    },
    DropMany {
        handle: u16,
        n: u8,
    },
    SetPrivate {
        handle: u16,
        value: u64,
    },
    IntoLeaf {
        handle: u16,
        access: Access,
    },
    CopyLeaf {
        leaf: u8,
    },
    Access {
        leaf: u8,
        access: Access,
    },
    Migrate {
        leaf: u8,
        access: MigrationAccess,
    },
    Mark {
        leaf: u8,
        young: bool,
        dirty: bool,
    },
    Lookup {
        leaf: u8,
    },
    LookupMany {
        leaf: u8,
        n: u8,
        room: u8,
    },
    TryGet {
        leaf: u8,
    },
    /// Unless it is forgotten, the word stays in the table, stale or a copy.
    Take {
        leaf: u8,
        forget: bool,
    },
    Page {
        at: u32,
    },
    Cache {
        device: u8,
    },
    CacheAlloc {
        cache: u8,
        order: Order,
    },
    CacheAllocMany {
        cache: u8,
        order: Order,
        n: u8,
    },
    /// Also of a folio of another device, or of one with more references.
    CachePut {
        cache: u8,
        handle: u16,
    },
    CacheDrain {
        cache: u8,
    },
    DropCache {
        cache: u8,
    },
    AllocRange {
        device: u8,
        wanted: Wanted,
    },
    /// Looks at a page of a range, and takes a reference of its folio if there is to be one more.
    RangePage {
        range: u16,
        index: u16,
        get: bool,
    },
    IntoFolios {
        range: u16,
        /// How many are taken out before the rest is dropped.
        take: u8,
    },
    DropRange {
        range: u16,
    },
    /// Also to an order that is not smaller.
    Split {
        handle: u16,
        order: Order,
    },
    /// Also around a page that it does not have.
    SplitAround {
        handle: u16,
        index: u16,
        order: Order,
    },
    /// Parts of the folio, in 256ths; also beyond its end, or from behind to before.
    GiveUp {
        handle: u16,
        from: u8,
        to: u8,
    },
    /// Takes freed folios, and gives those back at once that are not kept.
    TakeDeferred {
        device: u8,
        max: u8,
        keep: bool,
    },
    /// Gives taken ones back.
    FinishDeferred {
        taken: u8,
        n: u8,
    },
    /// Also before its first page, or behind its last.
    SplitRange {
        range: u16,
        index: u16,
    },
    /// Locks a folio, and looks whether that is so.
    Lock {
        handle: u16,
    },
    /// Freezes a folio of which so many references more, or fewer, are expected than there are, and looks whether that is so.
    Freeze {
        handle: u16,
        off_by: i8,
    },
    /// Maps a page of a folio: also one that it does not have.
    Map {
        handle: u16,
        index: u16,
        access: Access,
    },
    /// The word stays in the table, stale or a copy.
    Unmap {
        leaf: u8,
    },
    Downgrade {
        handle: u16,
    },
    Upgrade {
        weak: u8,
    },
    /// Closes blocks of a part of the device, in 256ths and 60,000ths, also of none or beyond the end, allocates beside them, and ends it one way or another.
    Evict {
        device: u8,
        from: u8,
        nr_pages: u16,
        order: Order,
        end: u8,
    },
    Word {
        bits: u64,
    },
    Kill {
        device: u8,
    },
    Drain {
        device: u8,
    },
    Unregister {
        device: u8,
    },
    Report,
    Validate,
}

/// A request for a range. Places are parts of the space, in 65,536ths and a little beyond the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) nr_pages: u64,
    pub(crate) align: u64,
    pub(crate) place: Place,
    pub(crate) way: Way,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Anywhere,
    At(u16),
    Within(u16, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Any,
    BottomUp,
    TopDown,
}

impl Op {
    /// The next operation of a program, or `None` at its end.
    pub(crate) fn decode(bytes: &mut impl Iterator<Item = u8>) -> Option<Op> {
        let kind = bytes.next()?;
        // Missing bytes at the end of a program are zero.
        let mut byte = || bytes.next().unwrap_or(0);
        let op = match kind {
            0..=3 => {
                let (nr_pages, shape) = (device_pages([byte(), byte(), byte()]), byte());
                Op::Register { nr_pages, has_ops: shape % 8 != 0, is_deferred: [3, 8].contains(&(shape % 16)) }
            }
            4..=34 => Op::Alloc { device: byte(), order: order(byte()) },
            35..=37 => Op::Split { handle: wide([byte(), byte()]), order: part_order(byte()) },
            38..=39 => {
                Op::SplitAround { handle: wide([byte(), byte()]), index: wide([byte(), byte()]), order: order(byte()) }
            }
            40..=41 => Op::GiveUp { handle: wide([byte(), byte()]), from: byte(), to: byte() },
            42..=43 => Op::TakeDeferred { device: byte(), max: few(byte()), keep: byte() % 2 == 0 },
            44 => Op::FinishDeferred { taken: byte(), n: few(byte()) },
            45..=49 => Op::AllocMany { device: byte(), order: order(byte()), n: few(byte()) },
            50..=56 => Op::Clone { handle: wide([byte(), byte()]) },
            57..=84 => Op::Drop { handle: wide([byte(), byte()]) },
            85 => Op::Lock { handle: wide([byte(), byte()]) },
            86 => Op::Freeze {
                handle: wide([byte(), byte()]),
                off_by: [0, 0, 0, 1, -1, 2, 0, 7][usize::from(byte() % 8)],
            },
            87..=89 => {
                Op::Map { handle: wide([byte(), byte()]), index: wide([byte(), byte()]), access: access(byte()) }
            }
            90..=91 => Op::Unmap { leaf: byte() },
            92 => Op::Downgrade { handle: wide([byte(), byte()]) },
            93 => Op::Upgrade { weak: byte() },
            94..=95 => Op::Evict {
                device: byte(),
                from: byte(),
                nr_pages: wide([byte(), byte()]),
                order: order(byte()),
                end: byte(),
            },
            96 => Op::DropMany { handle: wide([byte(), byte()]), n: byte() },
            97..=102 => Op::SetPrivate { handle: wide([byte(), byte()]), value: long(&mut byte) },
            103..=120 => Op::IntoLeaf { handle: wide([byte(), byte()]), access: access(byte()) },
            121..=122 => Op::CopyLeaf { leaf: byte() },
            123..=126 => Op::Access { leaf: byte(), access: access(byte()) },
            127..=128 => Op::Migrate { leaf: byte(), access: migration_access(byte()) },
            129..=131 => Op::Mark { leaf: byte(), young: kind % 2 == 0, dirty: byte() % 2 == 0 },
            132..=146 => Op::Lookup { leaf: byte() },
            147..=150 => Op::LookupMany { leaf: byte(), n: byte(), room: byte() },
            151..=156 => Op::TryGet { leaf: byte() },
            157..=172 => Op::Take { leaf: byte(), forget: byte() % 4 != 0 },
            173..=178 => Op::Page { at: u32::from_le_bytes([byte(), byte(), byte(), byte()]) },
            179..=182 => Op::Word { bits: long(&mut byte) },
            183 => match [byte(), byte()] {
                [device, 0..=47] => Op::Kill { device },
                [device, _] => Op::Drain { device },
            },
            184..=188 => Op::Unregister { device: byte() },
            189 => Op::Report,
            190 => Op::Validate,
            191..=193 => Op::Cache { device: byte() },
            194..=206 => Op::CacheAlloc { cache: byte(), order: order(byte()) },
            207..=208 => Op::CacheAllocMany { cache: byte(), order: order(byte()), n: few(byte()) },
            209..=230 => Op::CachePut { cache: byte(), handle: wide([byte(), byte()]) },
            231 => Op::CacheDrain { cache: byte() },
            232 => Op::DropCache { cache: byte() },
            233..=243 => Op::AllocRange { device: byte(), wanted: wanted(&mut byte) },
            244..=245 => {
                Op::RangePage { range: wide([byte(), byte()]), index: wide([byte(), byte()]), get: byte() % 4 == 0 }
            }
            246 => Op::IntoFolios { range: wide([byte(), byte()]), take: byte() % 8 },
            247..=248 => Op::SplitRange { range: wide([byte(), byte()]), index: wide([byte(), byte()]) },
            249..=255 => Op::DropRange { range: wide([byte(), byte()]) },
        };
        Some(op)
    }
}

fn wide(bytes: [u8; 2]) -> u16 {
    u16::from_le_bytes(bytes)
}

fn long(byte: &mut impl FnMut() -> u8) -> u64 {
    u64::from_le_bytes([(); 8].map(|()| byte()))
}

fn access(byte: u8) -> Access {
    if byte % 2 == 0 { Access::Read } else { Access::Write }
}

fn migration_access(byte: u8) -> MigrationAccess {
    [MigrationAccess::Read, MigrationAccess::ReadExclusive, MigrationAccess::Write][usize::from(byte % 3)]
}

/// Mostly few, sometimes hundreds.
fn few(byte: u8) -> u8 {
    if byte < 192 { byte % 24 } else { byte }
}

/// Mostly small orders; every order up to the largest comes up.
fn order(byte: u8) -> Order {
    let order = match byte {
        0..=99 => 0,
        100..=149 => 1 + byte % 3,
        150..=199 => 4 + byte % 5,
        200..=229 => 9 + byte % 3,
        230..=255 => byte % 19,
    };
    Order::new(order).unwrap_or(Order::MAX)
}

/// Mostly smaller than what there is to split.
fn part_order(byte: u8) -> Order {
    if byte < 160 { Order::new(byte % 4 * (byte % 3)).unwrap_or(Order::ZERO) } else { order(byte) }
}

/// Mostly without conditions, or with one that can be met.
fn wanted(byte: &mut impl FnMut() -> u8) -> Wanted {
    let nr_pages = range_pages([byte(), byte(), byte()]);
    let align = match byte() {
        0..=127 => 1,
        exact @ 128..=250 => 1 << (exact % 12),
        odd @ 251..=253 => u64::from(odd % 3) * 3,
        large => 1 << (large % 64),
    };
    let place = match byte() {
        0..=139 => Place::Anywhere,
        140..=189 => Place::At(wide([byte(), byte()])),
        190..=255 => Place::Within(wide([byte(), byte()]), wide([byte(), byte()])),
    };
    let way = [Way::Any, Way::Any, Way::BottomUp, Way::TopDown][usize::from(byte() % 4)];
    Wanted { nr_pages, align, place, way }
}

/// Zero, a few, parts of a block, several blocks, and more than a device has.
fn range_pages([shape, a, b]: [u8; 3]) -> u64 {
    let (a, b) = (u64::from(a), u64::from(b));
    match shape {
        0..=1 => 0,
        2..=129 => 1 + a % 40,
        130..=199 => 1 + a * 2,
        200..=239 => a * 8 + b % 8,
        240..=251 => 512 * (1 + a % 5) + b.saturating_sub(128),
        252..=255 => a << (b % 48),
    }
}

/// Zero, tiny, odd, whole blocks, and more than a space of the tests holds.
fn device_pages([shape, a, b]: [u8; 3]) -> u64 {
    let (a, b) = (u64::from(a), u64::from(b));
    match shape {
        0..=3 => 0,
        4..=59 => 1 + a % 80,
        60..=139 => a * 8 + b % 8,
        140..=229 => 512 * (1 + a % 8) + b.saturating_sub(128),
        230..=249 => 1 << (9 + a % 12),
        250..=255 => a << (b % 48),
    }
}
