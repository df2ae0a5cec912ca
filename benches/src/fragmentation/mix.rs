//! How often each order is asked for.

#![forbid(unsafe_code)]

use crate::random::SplitMix;

/// A mix of orders 0 to 9.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Its name.
    pub name: &'static str,
    /// One of these is drawn.
    tickets: Vec<u8>,
}

impl Mix {
    /// All mixes.
    pub fn all() -> [Self; 3] {
        [
            // An order is asked for half as often as the one below, so each gets as many pages.
            Self::new("equal pages", |order| 1 << (9 - order)),
            // Nearly all pages are in the large ones.
            Self::new("equal numbers", |_| 1),
            // The page sizes of a GPU's page table.
            Self::new("4K + 64K + 2M", |order| match order {
                0 => 16,
                4 => 3,
                9 => 1,
                _ => 0,
            }),
        ]
    }

    fn new(name: &'static str, weight: impl Fn(u8) -> usize) -> Self {
        Self { name, tickets: (0..=9).flat_map(|order| vec![order; weight(order)]).collect() }
    }

    /// The next order.
    pub fn draw(&self, random: &mut SplitMix) -> u8 {
        self.tickets[random.below(self.tickets.len())]
    }
}
