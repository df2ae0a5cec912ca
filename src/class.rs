//! [`Class`]: which order a block serves. The one word that the free map, which decides it, and the section map, which
//! tells readers, have in common.
#![forbid(unsafe_code)]

use crate::words::Order;

/// Which order a block serves. Readers keep a copy of it in the section map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Never used.
    Unused,
    /// All folios in it, or the one that it belongs to, have this order.
    Uniform(Order),
    /// Folios below order 9, of different orders.
    Mixed,
}

impl Class {
    pub(crate) const BITS: u32 = 5;
    const MIXED: u32 = 31;

    pub(crate) const fn to_bits(self) -> u32 {
        match self {
            Class::Unused => 0,
            Class::Uniform(order) => order.get() as u32 + 1,
            Class::Mixed => Class::MIXED,
        }
    }

    pub(crate) const fn from_bits(bits: u32) -> Class {
        match bits & ((1 << Class::BITS) - 1) {
            0 => Class::Unused,
            Class::MIXED => Class::Mixed,
            order => match Order::new(order as u8 - 1) {
                Some(order) => Class::Uniform(order),
                // Only `to_bits` writes the field.
                None => Class::Unused,
            },
        }
    }
}

/// The class that a block has got by a claim, and how many times it had changed by then, modulo 2^[`CHANGES_BITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClassChange {
    pub(crate) class: Class,
    pub(crate) changes: u32,
}

/// Width of the counter of class changes.
pub(crate) const CHANGES_BITS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_survives_its_bits() {
        for order in 0..=crate::geometry::MAX_ORDER {
            let class = Class::Uniform(Order::new(order).unwrap());
            assert_eq!(Class::from_bits(class.to_bits()), class);
        }
        for class in [Class::Unused, Class::Mixed] {
            assert_eq!(Class::from_bits(class.to_bits()), class);
        }
    }
}
