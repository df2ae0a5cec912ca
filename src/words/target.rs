//! [`Target`]: which page a word names, on a device or on the host.
#![forbid(unsafe_code)]

use core::fmt;

use crate::words::{Offset, Pfn};

/// A page, on the host or on a device: never a number that may be either.
///
/// What [`SoftLeaf`](crate::SoftLeaf), [`MigrateEntry`](crate::MigrateEntry) and [`RangeEntry`](crate::RangeEntry) name.
/// Linux passes a pfn and, in the series, a flag beside it.
///
/// ```
/// use farpage::{Offset, Target};
///
/// let target = Target::from(Offset::new(7).unwrap());
/// assert_eq!((target.offset(), target.pfn()), (Offset::new(7), None));
/// assert_eq!(target.checked_add(2), Some(Target::Device(Offset::new(9).unwrap())));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A page of host memory.
    Host(Pfn),
    /// A page of a device.
    Device(Offset),
}

impl Target {
    /// The page's number, if it is on the host.
    #[inline]
    pub const fn pfn(self) -> Option<Pfn> {
        match self {
            Target::Host(pfn) => Some(pfn),
            Target::Device(_) => None,
        }
    }

    /// The page's offset, if it is on a device.
    #[inline]
    pub const fn offset(self) -> Option<Offset> {
        match self {
            Target::Host(_) => None,
            Target::Device(offset) => Some(offset),
        }
    }

    /// The page `nr_pages` further on, or `None` above 2^40 - 1.
    #[inline]
    pub const fn checked_add(self, nr_pages: u64) -> Option<Target> {
        match self {
            Target::Host(pfn) => match pfn.checked_add(nr_pages) {
                Some(pfn) => Some(Target::Host(pfn)),
                None => None,
            },
            Target::Device(offset) => match offset.checked_add(nr_pages) {
                Some(offset) => Some(Target::Device(offset)),
                None => None,
            },
        }
    }

    /// The page with this number, and whether that is an offset.
    #[inline]
    pub(crate) const fn of_low_bits(word: u64, on_device: bool) -> Target {
        if on_device { Target::Device(Offset::from_low_bits(word)) } else { Target::Host(Pfn::from_low_bits(word)) }
    }

    /// The bare number, for a word that says beside it what it is.
    #[inline]
    pub(crate) const fn number(self) -> u64 {
        match self {
            Target::Host(pfn) => pfn.get(),
            Target::Device(offset) => offset.get(),
        }
    }
}

impl From<Pfn> for Target {
    #[inline]
    fn from(pfn: Pfn) -> Target {
        Target::Host(pfn)
    }
}

impl From<Offset> for Target {
    #[inline]
    fn from(offset: Offset) -> Target {
        Target::Device(offset)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Host(pfn) => pfn.fmt(f),
            Target::Device(offset) => offset.fmt(f),
        }
    }
}
