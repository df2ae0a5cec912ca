//! [`RangeEntry`]: a slot of the array by which a driver asks for a snapshot of a range, and gets it.
#![forbid(unsafe_code)]

use core::fmt;

use crate::geometry::OFFSET_BITS;
use crate::words::{Access, Offset, Order, Pfn, Target};

const VALID: u64 = 1 << 63;
const WRITE: u64 = 1 << 62;
const ERROR: u64 = 1 << 61;
const DMA_MAPPED: u64 = 1 << 60;
const P2PDMA: u64 = 1 << 59;
const P2PDMA_BUS: u64 = 1 << 58;
const DEVICE_PRIVATE: u64 = 1 << 57;
const ORDER_SHIFT: u32 = 52;
const ORDER: u64 = 31 << ORDER_SHIFT;
const NUMBER: u64 = (1 << OFFSET_BITS) - 1;
/// What is the driver's, and goes from input to output. Linux: `HMM_PFN_INOUT_FLAGS`.
const STICKY: u64 = DMA_MAPPED | P2PDMA | P2PDMA_BUS;
/// The bits of a page's entry, sticky ones aside.
const PAGE: u64 = VALID | WRITE | DEVICE_PRIVATE | ORDER | NUMBER;

/// One slot of a range snapshot: on input what the driver asks of a page, on output what there is.
///
/// Linux: the `hmm_pfns` words of `struct hmm_range`, as the series lays them out, here with a typed payload.
///
/// | bits   | on input                          | on output                                                          |
/// |--------|-----------------------------------|--------------------------------------------------------------------|
/// | 0..40  | -                                 | the page's number                                                  |
/// | 52..57 | -                                 | order of the mapping that the page is part of, 0 to 18             |
/// | 57     | -                                 | device-private: the number is an [`Offset`]; otherwise a [`Pfn`]   |
/// | 58     | peer-to-peer through the bus      | the same: **sticky**                                               |
/// | 59     | peer-to-peer                      | the same: **sticky**                                               |
/// | 60     | mapped for DMA                    | the same: **sticky**                                               |
/// | 61     | -                                 | error: the page cannot be had                                      |
/// | 62     | with bit 63: it must be writable  | write: the mapping allows writing                                  |
/// | 63     | the page must be there: fault it in | valid: a page is named                                           |
///
/// Bits 40..52 are 0. Input and output share bits 62 and 63, so an entry that was asked with and not answered looks like
/// a page with number 0: read [`RangeEntry::kind`] only of what a snapshot has answered. A pattern that fits none of
/// this is [`RangeEntryKind::Unknown`] as an output, and names nothing.
///
/// ```
/// use farpage::{Access, Offset, Order, RangeEntry, RangeEntryKind, Target};
///
/// let asked = RangeEntry::request(Some(Access::Write)).with_dma_mapped(true);
/// assert_eq!(asked.requested(), Some(Access::Write));
///
/// let offset = Offset::new(7).unwrap();
/// let answer = asked.answer(RangeEntry::device(offset, Access::Read).with_map_order(Order::HUGE));
/// assert_eq!(answer.kind(), RangeEntryKind::Page(Target::Device(offset), Access::Read));
/// assert!(answer.is_dma_mapped()); // the driver's own bits stay
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct RangeEntry(u64);

const _: () = assert!(size_of::<RangeEntry>() == 8);

/// What a [`RangeEntry`] is, read as an output. More kinds may come: match with a `_` arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RangeEntryKind {
    /// No page is mapped, and none was asked for.
    Hole,
    /// The page cannot be had: no mapping, or its memory is broken.
    Error,
    /// This page, with this access.
    Page(Target, Access),
    /// Bits that no version known here writes. It names nothing.
    Unknown,
}

impl RangeEntry {
    /// The entry of a place without a page; as an input, that nothing is asked for. All bits zero.
    pub const HOLE: RangeEntry = RangeEntry(0);

    /// The entry of a page that cannot be had. Linux: `HMM_PFN_ERROR`.
    pub const ERROR: RangeEntry = RangeEntry(ERROR);

    /// What is asked of a page: to be there with `access`, or to be reported as it is. Linux: `HMM_PFN_REQ_FAULT`,
    /// `HMM_PFN_REQ_WRITE`.
    #[inline]
    pub const fn request(access: Option<Access>) -> RangeEntry {
        match access {
            None => RangeEntry::HOLE,
            Some(Access::Read) => RangeEntry(VALID),
            Some(Access::Write) => RangeEntry(VALID | WRITE),
        }
    }

    /// The entry of a mapped page, wherever it lies, in a mapping of order 0.
    #[inline]
    pub const fn page(target: Target, access: Access) -> RangeEntry {
        let device = if matches!(target, Target::Device(_)) { DEVICE_PRIVATE } else { 0 };
        RangeEntry(RangeEntry::request(Some(access)).0 | device | target.number())
    }

    /// The entry of a device page.
    #[inline]
    pub const fn device(offset: Offset, access: Access) -> RangeEntry {
        RangeEntry::page(Target::Device(offset), access)
    }

    /// The entry of a host page.
    #[inline]
    pub const fn host(pfn: Pfn, access: Access) -> RangeEntry {
        RangeEntry::page(Target::Host(pfn), access)
    }

    /// The entry with these bits, whatever they are: decoding decides what they mean.
    #[inline]
    pub const fn from_bits(bits: u64) -> RangeEntry {
        RangeEntry(bits)
    }

    /// The bits.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Of an input: what is asked of the page; `None` to report it as it is. A write that is asked for without the page
    /// being there is no request, as in Linux (`hmm_pte_need_fault()`).
    #[inline]
    pub const fn requested(self) -> Option<Access> {
        match (self.0 & VALID != 0, self.0 & WRITE != 0) {
            (false, _) => None,
            (true, false) => Some(Access::Read),
            (true, true) => Some(Access::Write),
        }
    }

    /// The input of the next snapshot in the place of this entry: what is asked for, and the sticky bits.
    #[inline]
    pub const fn with_request(self, access: Option<Access>) -> RangeEntry {
        self.answer(RangeEntry::request(access))
    }

    /// The output in the place of this entry: `result`, with the sticky bits of this entry and not of `result`.
    #[inline]
    pub const fn answer(self, result: RangeEntry) -> RangeEntry {
        RangeEntry(self.0 & STICKY | result.0 & !STICKY)
    }

    /// Of an output: what the entry is. Never panics: bits that mean nothing are [`RangeEntryKind::Unknown`].
    #[inline]
    pub const fn kind(self) -> RangeEntryKind {
        match self.0 & !STICKY {
            0 => RangeEntryKind::Hole,
            ERROR => RangeEntryKind::Error,
            word if word & VALID != 0 && word & !PAGE == 0 && order_of(word).is_some() => {
                let access = if word & WRITE != 0 { Access::Write } else { Access::Read };
                RangeEntryKind::Page(Target::of_low_bits(word, word & DEVICE_PRIVATE != 0), access)
            }
            _ => RangeEntryKind::Unknown,
        }
    }

    /// Of an output: the page; `None` for holes, errors and unknown words. Linux: `hmm_pfn_to_page()`.
    #[inline]
    pub const fn target(self) -> Option<Target> {
        match self.kind() {
            RangeEntryKind::Page(target, _) => Some(target),
            _ => None,
        }
    }

    /// Of an output: what the page's mapping allows; `None` where there is no page.
    #[inline]
    pub const fn access(self) -> Option<Access> {
        match self.kind() {
            RangeEntryKind::Page(_, access) => Some(access),
            _ => None,
        }
    }

    /// Of an output: the order of the mapping that the page is part of: each of its entries has it. `None` where there is
    /// no page. Linux: `hmm_pfn_to_map_order()`.
    #[inline]
    pub const fn map_order(self) -> Option<Order> {
        match self.kind() {
            RangeEntryKind::Page(..) => order_of(self.0),
            _ => None,
        }
    }

    /// The same page in a mapping of that order. Entries without a page stay as they are.
    #[inline]
    pub const fn with_map_order(self, order: Order) -> RangeEntry {
        match self.kind() {
            RangeEntryKind::Page(..) => RangeEntry(self.0 & !ORDER | (order.get() as u64) << ORDER_SHIFT),
            _ => self,
        }
    }

    /// The entry of the page `index` pages further on in the same mapping: for the next slots of a huge one. `None` where
    /// there is no page, or none so far on: `index` is below the mapping's pages.
    #[inline]
    pub const fn for_page(self, index: u64) -> Option<RangeEntry> {
        let (Some(target), Some(order)) = (self.target(), self.map_order()) else { return None };
        match target.checked_add(index) {
            Some(target) if index < order.nr_pages() => Some(RangeEntry(self.0 & !NUMBER | target.number())),
            _ => None,
        }
    }

    /// Of an output: whether the page lies on a device.
    #[inline]
    pub const fn is_device_private(self) -> bool {
        matches!(self.target(), Some(Target::Device(_)))
    }

    /// Whether the driver has mapped the page for DMA. Sticky. Linux: `HMM_PFN_DMA_MAPPED`.
    #[inline]
    pub const fn is_dma_mapped(self) -> bool {
        self.0 & DMA_MAPPED != 0
    }

    /// The same entry, mapped for DMA or not.
    #[inline]
    pub const fn with_dma_mapped(self, dma_mapped: bool) -> RangeEntry {
        self.with(DMA_MAPPED, dma_mapped)
    }

    /// Whether the mapping for DMA is to a peer device. Sticky. Linux: `HMM_PFN_P2PDMA`.
    #[inline]
    pub const fn is_p2pdma(self) -> bool {
        self.0 & P2PDMA != 0
    }

    /// The same entry, mapped to a peer device or not.
    #[inline]
    pub const fn with_p2pdma(self, p2pdma: bool) -> RangeEntry {
        self.with(P2PDMA, p2pdma)
    }

    /// Whether the mapping to a peer device goes by bus addresses. Sticky. Linux: `HMM_PFN_P2PDMA_BUS`.
    #[inline]
    pub const fn is_p2pdma_bus(self) -> bool {
        self.0 & P2PDMA_BUS != 0
    }

    /// The same entry, mapped by bus addresses or not.
    #[inline]
    pub const fn with_p2pdma_bus(self, p2pdma_bus: bool) -> RangeEntry {
        self.with(P2PDMA_BUS, p2pdma_bus)
    }

    const fn with(self, flag: u64, set: bool) -> RangeEntry {
        RangeEntry(if set { self.0 | flag } else { self.0 & !flag })
    }
}

/// The order in a page's word; `None` above the largest.
const fn order_of(word: u64) -> Option<Order> {
    Order::new(((word & ORDER) >> ORDER_SHIFT) as u8)
}

impl fmt::Debug for RangeEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entry = f.debug_struct("RangeEntry");
        entry.field("kind", &self.kind());
        match self.kind() {
            RangeEntryKind::Page(..) => entry.field("map_order", &self.map_order().map(Order::get)),
            RangeEntryKind::Unknown => entry.field("bits", &format_args!("{:#018x}", self.0)),
            _ => &mut entry,
        };
        entry.field("dma_mapped", &self.is_dma_mapped()).field("p2pdma", &self.is_p2pdma());
        entry.field("p2pdma_bus", &self.is_p2pdma_bus()).finish()
    }
}
