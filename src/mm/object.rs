//! [`Object`]: pages that several mappings share: a file's, or shared anonymous memory. Linux: `struct address_space`.
#![forbid(unsafe_code)]

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::address::PAGE_BYTES;
use super::error::FaultError;
use super::home::Home;
use super::machine::{Core, Machine};
use super::pages::pfn_of;
use crate::folio::Folio;
use crate::sync::Mutex;
use crate::words::Order;

/// Pages that several mappings share, by their number in the object. A page is zero until it is written.
///
/// The object keeps a reference of each page that was ever needed, until the last handle on it goes.
#[derive(Clone)]
pub struct Object<'s> {
    core: Arc<Core<'s>>,
    pages: Arc<Mutex<BTreeMap<u64, Folio<'s>>>>,
}

impl<'s> Object<'s> {
    /// An object without pages.
    pub fn new(machine: &Machine<'s>) -> Object<'s> {
        Object { core: Arc::clone(machine.core()), pages: Arc::new(Mutex::new(BTreeMap::new())) }
    }

    /// Writes bytes, from byte `at` of the object on, as `write(2)` does.
    ///
    /// # Errors
    ///
    /// [`FaultError`] when there is no host page; bytes before it are written.
    pub fn write(&self, at: u64, data: &[u8]) -> Result<(), FaultError> {
        let (mut at, mut data) = (at, data);
        while !data.is_empty() {
            let within = (at % PAGE_BYTES) as usize;
            let (now, later) = data.split_at(data.len().min(PAGE_BYTES as usize - within));
            let folio = self.page(at / PAGE_BYTES)?;
            self.core.memory().write(pfn_of(folio.offset()), within, now);
            (at, data) = (at + now.len() as u64, later);
        }
        Ok(())
    }

    /// Reads bytes, from byte `at` of the object on.
    ///
    /// # Errors
    ///
    /// As [`Object::write`].
    pub fn read(&self, at: u64, out: &mut [u8]) -> Result<(), FaultError> {
        let (mut at, mut out) = (at, out);
        while !out.is_empty() {
            let within = (at % PAGE_BYTES) as usize;
            let now = out.len().min(PAGE_BYTES as usize - within);
            let (head, tail) = out.split_at_mut(now);
            let folio = self.page(at / PAGE_BYTES)?;
            self.core.memory().read(pfn_of(folio.offset()), within, head);
            (at, out) = (at + now as u64, tail);
        }
        Ok(())
    }

    /// A reference of page `index`, which is made if need be.
    pub(super) fn page(&self, index: u64) -> Result<Folio<'s>, FaultError> {
        let mut pages = self.pages.lock();
        if let Some(folio) = pages.get(&index) {
            return Ok(folio.try_clone()?);
        }
        let folio = self.core.alloc_zeroed(Order::ZERO)?;
        self.core.set_home(&folio, Home { space: 0, index, is_anon: false })?;
        pages.insert(index, folio.clone());
        Ok(folio)
    }
}

impl PartialEq for Object<'_> {
    /// Whether both are handles on one object.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pages, &other.pages)
    }
}

impl Eq for Object<'_> {}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("pages", &self.pages.lock().len()).finish()
    }
}
