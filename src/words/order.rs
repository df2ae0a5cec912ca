//! [`Order`]: the size of a folio as a power of two.
#![forbid(unsafe_code)]

use core::fmt;

use crate::geometry::{BLOCK_SHIFT, MAX_ORDER};

/// log2 of a run's length in pages: order 0 is one page, order 9 is 2 MiB of 4 KiB pages.
///
/// A folio of an order is naturally aligned to it. Linux: `folio_order()`.
///
/// ```
/// use farpage::Order;
///
/// assert_eq!(Order::HUGE.nr_pages(), 512);
/// assert_eq!(Order::new(3).map(Order::nr_pages), Some(8));
/// assert_eq!(Order::new(19), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Order(u8);

impl Order {
    /// One page.
    pub const ZERO: Order = Order(0);
    /// 512 pages: what one entry of a middle page-table level maps (2 MiB of 4 KiB pages).
    pub const HUGE: Order = Order(BLOCK_SHIFT as u8);
    /// The largest order: 2^18 pages, 1 GiB of 4 KiB pages.
    pub const MAX: Order = Order(MAX_ORDER);

    /// The order `order`, or `None` above [`Order::MAX`].
    pub const fn new(order: u8) -> Option<Order> {
        if order <= MAX_ORDER { Some(Order(order)) } else { None }
    }

    /// log2 of the number of pages: `0..=18`.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// How many pages: `1..=2^18`.
    #[inline]
    pub const fn nr_pages(self) -> u64 {
        1 << self.0
    }

    /// The first page of the naturally aligned run of this order that holds `page`.
    #[inline]
    pub(crate) const fn align_down(self, page: u64) -> u64 {
        page & !(self.nr_pages() - 1)
    }

    /// Whether folios of this order keep their metadata with the block.
    #[inline]
    pub(crate) const fn is_whole_block(self) -> bool {
        self.0 >= BLOCK_SHIFT as u8
    }

    /// The largest order of which a run of `nr_pages` pages can hold a folio. `nr_pages` must not be 0.
    pub(crate) const fn largest_within(nr_pages: u64) -> Order {
        let log = nr_pages.ilog2();
        if log > MAX_ORDER as u32 { Order::MAX } else { Order(log as u8) }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl TryFrom<u8> for Order {
    type Error = OrderTooLarge;

    fn try_from(order: u8) -> Result<Order, OrderTooLarge> {
        Order::new(order).ok_or(OrderTooLarge { order })
    }
}

/// An order above [`Order::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderTooLarge {
    /// What was asked for.
    pub order: u8,
}

impl fmt::Display for OrderTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {} is above the largest, {}", self.order, MAX_ORDER)
    }
}

impl core::error::Error for OrderTooLarge {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_orders_up_to_the_largest_exist() {
        for order in 0..=u8::MAX {
            assert_eq!(Order::new(order).map(Order::get), (order <= MAX_ORDER).then_some(order));
            assert_eq!(Order::try_from(order).is_err(), order > MAX_ORDER);
        }
    }

    #[test]
    fn the_largest_order_within_a_run_fits_and_the_next_does_not() {
        for nr_pages in (1..5000).chain([1 << 18, (1 << 18) + 1, 1 << 30, u64::MAX]) {
            let order = Order::largest_within(nr_pages);
            assert!(order.nr_pages() <= nr_pages);
            assert!(order == Order::MAX || order.nr_pages() > nr_pages / 2);
        }
    }
}
