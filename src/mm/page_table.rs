//! [`PageTable`]: the tree of tables of one address space, four levels of 512 words.
//!
//! Leaves stand in the last level (one page) and in the middle one (512 pages, a folio of order 9). What a leaf means is
//! not known here, and neither is who owns what it names.
//!
//! **Built lazily, and taken apart.** A table is put in when something is to stand in it. Tables of the last level,
//! 511 of 512, are taken out when they are empty; those above stay until the address space goes, one for each GiB and
//! one for each 512 GiB that was ever used.
//!
//! **Locks.** A word is changed under the lock of the table that it stands in. Two are held at once only from a middle
//! table to a table below it, and in no other order.
//!
//! **Reading without a lock.** Tables are type-stable (see `table`), so a reader can always look. What it read was true
//! if the table was in its place when it read: it reads the middle word, the leaf, and the middle word again. A table
//! that was taken out has changed the middle word by the first store made in its next life, and if it came back to the same
//! place, it did so under another generation (2^24 of them). A reader tries again if so: lock-free.
//!
//! Below: `table`, `entry`. Above: everything else in `mm`. Edges: [leaf].
#![forbid(unsafe_code)]

use super::entry::{Decoded, Entry};
use super::error::TableError;
use super::table::{ENTRIES, LEVELS, Locked, TABLE_SHIFT, Table, Tables};
use crate::words::SoftLeaf;

/// See the [module](self).
pub(super) struct PageTable {
    /// Apart from the others, which are found by number: every walk begins here.
    root: Box<[Table]>,
    tables: Tables,
}

/// What stands where an order-9 folio would be mapped, with the lock that keeps it so.
pub(super) enum Span<'t> {
    /// No leaf, and no table.
    Empty,
    /// One leaf for all 512 pages, at this index of the middle table.
    Huge(Locked<'t>, usize),
    /// A table of the last level.
    Small(Locked<'t>),
}

/// Where a table of the last level was found: its number among those, the middle table above it, and the word there. For a
/// later [`Cursor`]: middle tables stay where they are, and the word tells whether the table does.
#[derive(Clone, Copy)]
pub(super) struct Trace {
    number: u64,
    middle: u32,
    above: Entry,
}

impl Trace {
    /// Whether page `vpn` has its word in the table.
    #[inline(always)]
    pub(super) fn has(&self, vpn: u64) -> bool {
        self.number == vpn >> TABLE_SHIFT
    }
}

/// Where the last walk ended, for the next one in the same table.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'t> {
    tree: &'t PageTable,
    seen: Option<Spot<'t>>,
}

/// A table of the last level, the word above it that led there, and the number that all pages in it have in common.
#[derive(Clone, Copy)]
struct Spot<'t> {
    number: u64,
    middle: &'t Table,
    above: Entry,
    table: &'t Table,
}

impl<'t> Cursor<'t> {
    /// As [`PageTable::span`].
    #[inline]
    pub(super) fn span(&mut self, vpn: u64) -> Span<'t> {
        if let Some(spot) = self.spot(vpn) {
            let locked = spot.table.lock();
            if spot.is_there(vpn) {
                return Span::Small(locked);
            }
        }
        self.walk(vpn)
    }

    /// As [`PageTable::peek`].
    #[inline]
    pub(super) fn peek(&self, vpn: u64) -> Seen {
        if let Some(spot) = self.spot(vpn) {
            let leaf = spot.table.peek(index(vpn, 0));
            // Not before the leaf: see the Acquire of `Table::peek`.
            if spot.is_there(vpn) {
                return Seen { leaf: SoftLeaf::from_bits(leaf.bits()), is_huge: false };
            }
        }
        self.tree.peek(vpn)
    }

    #[inline(always)]
    fn spot(&self, vpn: u64) -> Option<Spot<'t>> {
        self.seen.filter(|spot| spot.number == vpn >> TABLE_SHIFT)
    }

    #[inline(never)]
    fn walk(&mut self, vpn: u64) -> Span<'t> {
        let Some(middle) = self.tree.middle(vpn) else { return Span::Empty };
        let span = self.tree.span_in(middle, vpn);
        if let Span::Small(locked) = &span {
            let (number, above) = (vpn >> TABLE_SHIFT, middle.peek(index(vpn, 1)));
            self.seen = Some(Spot { number, middle, above, table: locked.table() });
        }
        span
    }
}

impl Spot<'_> {
    /// Whether the table is still in its place. Under its lock it stays there: a table leaves the tree under its own lock.
    #[inline(always)]
    fn is_there(&self, vpn: u64) -> bool {
        self.middle.peek(index(vpn, 1)) == self.above
    }
}

/// A leaf, and whether it stands for 512 pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) leaf: SoftLeaf,
    pub(super) is_huge: bool,
}

/// The index of page `vpn` in a table of `level`, counted from the last.
#[inline]
pub(super) const fn index(vpn: u64, level: u32) -> usize {
    (vpn >> (level * TABLE_SHIFT)) as usize & (ENTRIES - 1)
}

impl PageTable {
    pub(super) fn new() -> Result<PageTable, TableError> {
        Ok(PageTable { root: Tables::root()?, tables: Tables::new() })
    }

    /// The leaf that page `vpn` has now, without a lock.
    #[inline]
    pub(super) fn peek(&self, vpn: u64) -> Seen {
        const NOTHING: Seen = Seen { leaf: SoftLeaf::NONE, is_huge: false };
        let Some(middle) = self.middle(vpn) else { return NOTHING };
        loop {
            let above = middle.peek(index(vpn, 1));
            match above.decode() {
                Decoded::None => return NOTHING,
                Decoded::Leaf(leaf) => return Seen { leaf, is_huge: true },
                Decoded::Table(table) => {
                    let leaf = self.tables.get(table.id).peek(index(vpn, 0));
                    // Not before the leaf: see the Acquire of `Table::peek`.
                    if middle.peek(index(vpn, 1)) == above {
                        return Seen { leaf: SoftLeaf::from_bits(leaf.bits()), is_huge: false };
                    }
                }
            }
        }
    }

    /// For several walks near each other, beginning at nothing or where an earlier one ended.
    #[inline]
    pub(super) fn cursor(&self, trace: Option<Trace>) -> Cursor<'_> {
        let seen = trace.and_then(|Trace { number, middle, above }| match above.decode() {
            Decoded::Table(table) => {
                Some(Spot { number, middle: self.tables.get(middle), above, table: self.tables.get(table.id) })
            }
            _ => None,
        });
        Cursor { tree: self, seen }
    }

    /// Where the table of page `vpn` is, without its lock; `None` if it has none.
    pub(super) fn trace(&self, vpn: u64) -> Option<Trace> {
        let (middle, table) = self.middle_of(vpn)?;
        let above = table.peek(index(vpn, 1));
        match above.decode() {
            Decoded::Table(_) => Some(Trace { number: vpn >> TABLE_SHIFT, middle, above }),
            _ => None,
        }
    }

    /// Locks what stands where page `vpn` is.
    #[inline]
    pub(super) fn span(&self, vpn: u64) -> Span<'_> {
        match self.middle(vpn) {
            Some(middle) => self.span_in(middle, vpn),
            None => Span::Empty,
        }
    }

    fn span_in<'t>(&'t self, middle: &'t Table, vpn: u64) -> Span<'t> {
        let at = index(vpn, 1);
        loop {
            let above = middle.peek(at);
            match above.decode() {
                Decoded::None => return Span::Empty,
                Decoded::Leaf(_) => {
                    let locked = middle.lock();
                    match locked.entry(at).decode() {
                        Decoded::None => return Span::Empty,
                        Decoded::Leaf(_) => return Span::Huge(locked, at),
                        Decoded::Table(_) => {}
                    }
                }
                Decoded::Table(table) => {
                    let locked = self.tables.get(table.id).lock();
                    // A table leaves the tree under its own lock: in it now, it stays.
                    if middle.peek(at) == above {
                        return Span::Small(locked);
                    }
                }
            }
        }
    }

    /// As [`PageTable::span`], with a table of the last level put in where nothing is.
    pub(super) fn span_or_build(&self, vpn: u64) -> Result<Span<'_>, TableError> {
        let middle = self.middle_or_build(vpn)?;
        loop {
            match self.span_in(middle, vpn) {
                Span::Empty => {}
                other => return Ok(other),
            }
            let mut locked = middle.lock();
            if locked.entry(index(vpn, 1)) == Entry::NONE {
                self.attach(&mut locked, index(vpn, 1), |_| true)?;
            }
        }
    }

    /// Locks the middle table that page `vpn` has a word in, and says at which index.
    pub(super) fn huge(&self, vpn: u64) -> Result<(Locked<'_>, usize), TableError> {
        Ok((self.middle_or_build(vpn)?.lock(), index(vpn, 1)))
    }

    /// Puts a table of the last level at `at` of a middle table, with what `fill` writes into it, in place of what
    /// stands there, unless `fill` says no and leaves it empty. Nobody sees it half filled.
    pub(super) fn attach(
        &self,
        middle: &mut Locked<'_>,
        at: usize,
        fill: impl FnOnce(&mut Locked<'_>) -> bool,
    ) -> Result<(), TableError> {
        let (table, below) = self.tables.take()?;
        if fill(&mut below.lock()) {
            middle.set(at, Entry::table(table));
        } else {
            self.tables.give(table.id);
        }
        Ok(())
    }

    /// Takes the table of the last level out that page `vpn` is in, if it is empty. The caller holds no lock of a table.
    pub(super) fn prune(&self, vpn: u64) {
        let Some(middle) = self.middle(vpn) else { return };
        let at = index(vpn, 1);
        let mut middle = middle.lock();
        let Decoded::Table(table) = middle.entry(at).decode() else { return };
        // Under both locks: nobody is in it, and whoever waits for its lock will look at the middle word again.
        let below = self.tables.get(table.id).lock();
        if below.is_empty() {
            middle.set(at, Entry::NONE);
            drop(below);
            drop(middle);
            self.tables.give(table.id);
        }
    }

    /// The first page at `vpn` or behind it that may have a leaf, going by the levels above the middle; `None` if there
    /// is none below `end`. What has no table costs no visit of its own.
    pub(super) fn next_used(&self, mut vpn: u64, end: u64) -> Option<u64> {
        while vpn < end {
            let mut table = self.root();
            let mut level = LEVELS - 1;
            loop {
                match table.peek(index(vpn, level)).decode() {
                    Decoded::Table(below) if level > 1 => {
                        table = self.tables.get(below.id);
                        level -= 1;
                    }
                    Decoded::None => {
                        // To the next word of this level.
                        let step = 1u64 << (level * TABLE_SHIFT);
                        vpn = (vpn & !(step - 1)) + step;
                        break;
                    }
                    _ => return Some(vpn),
                }
            }
        }
        None
    }

    /// How many tables are in the tree, and how many have memory.
    pub(super) fn nr_tables(&self) -> (u32, u32) {
        let (used, made) = self.tables.count();
        (used + 1, made + 1)
    }

    #[inline]
    fn root(&self) -> &Table {
        match self.root.first() {
            Some(root) => root,
            None => unreachable!("`new` made one"),
        }
    }

    /// The middle table that page `vpn` has a word in.
    #[inline]
    fn middle(&self, vpn: u64) -> Option<&Table> {
        self.middle_of(vpn).map(|(_, table)| table)
    }

    /// The same, with its number.
    #[inline]
    fn middle_of(&self, vpn: u64) -> Option<(u32, &Table)> {
        let (mut id, mut table) = (0, self.root());
        for level in [3, 2] {
            match table.peek(index(vpn, level)).decode() {
                Decoded::Table(below) => (id, table) = (below.id, self.tables.get(below.id)),
                _ => return None,
            }
        }
        Some((id, table))
    }

    fn middle_or_build(&self, vpn: u64) -> Result<&Table, TableError> {
        let mut table = self.root();
        for level in [3, 2] {
            let at = index(vpn, level);
            let below = match table.peek(at).decode() {
                Decoded::Table(below) => below,
                _ => {
                    let mut locked = table.lock();
                    match locked.entry(at).decode() {
                        Decoded::Table(below) => below,
                        _ => {
                            let (below, _) = self.tables.take()?;
                            locked.set(at, Entry::table(below));
                            below
                        }
                    }
                }
            };
            table = self.tables.get(below.id);
        }
        Ok(table)
    }
}

const _: () = assert!(LEVELS == 4, "`middle` walks from level 3 to level 1");
