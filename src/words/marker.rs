//! [`PteMarker`]: what a place in a page table remembers without a page.
#![forbid(unsafe_code)]

use core::fmt;

/// One or more flags of a place in a page table that has no page. Linux: `pte_marker`.
///
/// ```
/// use farpage::{PteMarker, SoftLeaf};
///
/// let both = PteMarker::WRITE_PROTECT.with(PteMarker::GUARD);
/// let leaf = SoftLeaf::marker(both);
/// assert!(leaf.marker_flags().is_some_and(|flags| flags.contains(PteMarker::GUARD)));
/// assert_eq!(both.without(PteMarker::GUARD), Some(PteMarker::WRITE_PROTECT));
/// assert_eq!(PteMarker::GUARD.without(PteMarker::GUARD), None); // the place has nothing to remember any more
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct PteMarker(u8);

impl PteMarker {
    /// The page that was here, and the next one that comes, is write-protected for userfaultfd. Linux:
    /// `PTE_MARKER_UFFD_WP`.
    pub const WRITE_PROTECT: PteMarker = PteMarker(1);
    /// A fault here fails, as if the memory were broken. Linux: `PTE_MARKER_POISONED`.
    pub const POISONED: PteMarker = PteMarker(2);
    /// A fault here fails: a guard page. Linux: `PTE_MARKER_GUARD`.
    pub const GUARD: PteMarker = PteMarker(4);

    const ALL: u64 = 7;

    /// The marker with these bits, or `None` where there are none, or any other than the three.
    pub const fn from_bits(bits: u64) -> Option<PteMarker> {
        if bits != 0 && bits & !PteMarker::ALL == 0 { Some(PteMarker(bits as u8)) } else { None }
    }

    /// The bits: 1 write-protect, 2 poisoned, 4 guard.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// Whether all flags of `other` are set.
    #[inline]
    pub const fn contains(self, other: PteMarker) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    #[inline]
    pub const fn with(self, other: PteMarker) -> PteMarker {
        PteMarker(self.0 | other.0)
    }

    /// The flags that are not `other`'s; `None` if none is left.
    #[inline]
    pub const fn without(self, other: PteMarker) -> Option<PteMarker> {
        PteMarker::from_bits((self.0 & !other.0) as u64)
    }
}

impl fmt::Debug for PteMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (PteMarker::WRITE_PROTECT, "WRITE_PROTECT"),
            (PteMarker::POISONED, "POISONED"),
            (PteMarker::GUARD, "GUARD"),
        ];
        let mut between = "PteMarker(";
        for (_, name) in names.iter().filter(|(flag, _)| self.contains(*flag)) {
            write!(f, "{between}{name}")?;
            between = " | ";
        }
        f.write_str(")")
    }
}
