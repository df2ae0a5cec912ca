//! Why a folio was not mapped or frozen.
#![forbid(unsafe_code)]

use core::error::Error;
use core::fmt;

use super::Folio;
use crate::error::TooManyRefs;

/// Why no leaf of a page of a folio was made. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// The folio has no such page.
    OutOfRange {
        /// The number of the page in the folio.
        index: u64,
        /// How many pages it has.
        nr_pages: u64,
    },
    /// As many references are out as a folio can count. A put may help.
    TooManyRefs {
        /// That many.
        limit: u32,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            MapError::OutOfRange { index, nr_pages } => {
                write!(f, "a folio of {nr_pages} pages has no page {index}")
            }
            MapError::TooManyRefs { limit } => fmt::Display::fmt(&TooManyRefs { limit }, f),
        }
    }
}

impl Error for MapError {}

impl From<TooManyRefs> for MapError {
    fn from(error: TooManyRefs) -> MapError {
        MapError::TooManyRefs { limit: error.limit }
    }
}

/// Why a folio was not frozen. It is as it was, and given back.
#[derive(Debug)]
#[non_exhaustive]
pub struct FreezeError<'s> {
    /// References that there should have been.
    pub expected_refs: u32,
    /// References that there were.
    pub refs: u32,
    /// How many of them leaf words owned.
    pub maps: u32,
    /// Whether somebody else had frozen the folio. Trying again helps then; otherwise, when holders of the references have
    /// put them.
    pub is_frozen: bool,
    /// The folio.
    pub folio: Folio<'s>,
}

impl<'s> FreezeError<'s> {
    /// The folio, to go on with.
    pub fn into_folio(self) -> Folio<'s> {
        self.folio
    }
}

impl fmt::Display for FreezeError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.folio.offset().get();
        if self.is_frozen {
            return write!(f, "the folio at {offset:#x} is frozen by somebody else");
        }
        let FreezeError { expected_refs, refs, maps, .. } = self;
        write!(
            f,
            "the folio at {offset:#x} has {refs} references, {maps} of them of leaf words, and not {expected_refs}"
        )
    }
}

impl Error for FreezeError<'_> {}
