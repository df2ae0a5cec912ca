//! [`HostWord`]: the fields of a leaf that names no offset, and how a word holds them.
#![forbid(unsafe_code)]

use super::{Access, LeafKind, MigrationAccess};
use crate::words::{PteMarker, leaf_bits as bits};

/// The kinds, by number: 4 bits of the word. Number 0 is `SoftLeaf::NONE` and nothing else; 10 to 15 are free.
const PRESENT_READ: u64 = 1;
const PRESENT_WRITE: u64 = 2;
const EXCLUSIVE: u64 = 3;
const MIGRATION: u64 = 4; // ..=6, in the order of `MigrationAccess`
const SWAP: u64 = 7;
const HWPOISON: u64 = 8;
const MARKER: u64 = 9;

/// What a leaf that names no offset is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HostKind {
    Present(Access),
    Exclusive,
    Migration(MigrationAccess),
    /// With the type: which swap area.
    Swap(u8),
    HwPoison,
    Marker,
}

impl HostKind {
    #[inline]
    pub(super) const fn leaf_kind(self) -> LeafKind {
        match self {
            HostKind::Present(access) => LeafKind::Present(access),
            HostKind::Exclusive => LeafKind::DeviceExclusive,
            HostKind::Migration(access) => LeafKind::Migration(access),
            HostKind::Swap(_) => LeafKind::Swap,
            HostKind::HwPoison => LeafKind::HwPoison,
            HostKind::Marker => LeafKind::Marker,
        }
    }
}

/// The fields of a leaf that names no offset.
#[derive(Clone, Copy)]
pub(super) struct HostWord {
    /// A page frame number, the offset of a swap slot, or the flags of a marker: below 2^40.
    pub(super) payload: u64,
    pub(super) kind: HostKind,
}

impl HostWord {
    /// The fields of `word`; `None` where it is no word that [`HostWord::encode`] returns, marks aside. A marker has none.
    #[inline]
    pub(super) const fn decode(word: u64) -> Option<HostWord> {
        if word & (bits::DIRECT | bits::SLOT) != 0 {
            return None;
        }
        let payload = word & bits::PAYLOAD;
        let swap_type = ((word & bits::SWAP_TYPE) >> bits::SWAP_TYPE_SHIFT) as u8;
        let kind = match (word & bits::HOST_KIND) >> bits::HOST_KIND_SHIFT {
            SWAP => HostKind::Swap(swap_type),
            _ if swap_type != 0 => return None,
            PRESENT_READ => HostKind::Present(Access::Read),
            PRESENT_WRITE => HostKind::Present(Access::Write),
            EXCLUSIVE => HostKind::Exclusive,
            4 => HostKind::Migration(MigrationAccess::Read),
            5 => HostKind::Migration(MigrationAccess::ReadExclusive),
            6 => HostKind::Migration(MigrationAccess::Write),
            HWPOISON => HostKind::HwPoison,
            MARKER if word & bits::MARKS == 0 && PteMarker::from_bits(payload).is_some() => HostKind::Marker,
            _ => return None,
        };
        Some(HostWord { payload, kind })
    }

    /// The only word of these fields, without marks.
    #[inline]
    pub(super) const fn encode(self) -> u64 {
        let (kind, swap_type) = match self.kind {
            HostKind::Present(Access::Read) => (PRESENT_READ, 0),
            HostKind::Present(Access::Write) => (PRESENT_WRITE, 0),
            HostKind::Exclusive => (EXCLUSIVE, 0),
            HostKind::Migration(access) => (MIGRATION + access as u64, 0),
            HostKind::Swap(swap_type) => (SWAP, swap_type as u64),
            HostKind::HwPoison => (HWPOISON, 0),
            HostKind::Marker => (MARKER, 0),
        };
        self.payload | kind << bits::HOST_KIND_SHIFT | swap_type << bits::SWAP_TYPE_SHIFT
    }
}
