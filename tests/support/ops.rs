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

impl Op {
    /// The next operation of a program, or `None` at its end.
    pub(crate) fn decode(bytes: &mut impl Iterator<Item = u8>) -> Option<Op> {
        let kind = bytes.next()?;
        // Missing bytes at the end of a program are zero.
        let mut byte = || bytes.next().unwrap_or(0);
        let op = match kind {
            0..=3 => Op::Register { nr_pages: device_pages([byte(), byte(), byte()]), has_ops: byte() % 8 != 0 },
            4..=69 => Op::Alloc { device: byte(), order: order(byte()) },
            70..=79 => Op::AllocMany { device: byte(), order: order(byte()), n: few(byte()) },
            80..=89 => Op::Clone { handle: wide([byte(), byte()]) },
            90..=132 => Op::Drop { handle: wide([byte(), byte()]) },
            133 => Op::DropMany { handle: wide([byte(), byte()]), n: byte() },
            134..=141 => Op::SetPrivate { handle: wide([byte(), byte()]), value: long(&mut byte) },
            142..=165 => Op::IntoLeaf { handle: wide([byte(), byte()]), access: access(byte()) },
            166..=168 => Op::CopyLeaf { leaf: byte() },
            169..=173 => Op::Access { leaf: byte(), access: access(byte()) },
            174..=176 => Op::Migrate { leaf: byte(), access: migration_access(byte()) },
            177..=179 => Op::Mark { leaf: byte(), young: kind % 2 == 0, dirty: byte() % 2 == 0 },
            180..=199 => Op::Lookup { leaf: byte() },
            200..=204 => Op::LookupMany { leaf: byte(), n: byte(), room: byte() },
            205..=211 => Op::TryGet { leaf: byte() },
            212..=231 => Op::Take { leaf: byte(), forget: byte() % 4 != 0 },
            232..=239 => Op::Page { at: u32::from_le_bytes([byte(), byte(), byte(), byte()]) },
            240..=245 => Op::Word { bits: long(&mut byte) },
            246 => match [byte(), byte()] {
                [device, 0..=47] => Op::Kill { device },
                [device, _] => Op::Drain { device },
            },
            247..=251 => Op::Unregister { device: byte() },
            252..=253 => Op::Report,
            254..=255 => Op::Validate,
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
