use super::*;
use crate::error::RegisterError;
use crate::sparse::shortage;

/// Whatever populate fails, the call says so, nothing is lost, and the next try works.
#[test]
fn a_shortage_of_memory_changes_nothing() {
    let mut shortages = 0;
    for left in 0..12 {
        for order in [0, 8, 9, 12] {
            let order = Order::new(order).unwrap();
            let space = Space::builder().max_pages(1 << 20).build().unwrap();
            let device = space.register(DeviceConfig::new(1 << 14)).unwrap();
            shortage::after(Some(left));
            let first = device.alloc(order);
            shortage::after(None);
            if let Err(error) = &first {
                assert!(matches!(error, AllocError::NoMemory), "{error}");
                assert_eq!(device.nr_live_pages(), 0);
                shortages += 1;
            }
            space.validate().unwrap();
            let again = device.alloc(order).unwrap();
            space.validate().unwrap();
            drop((first, again));
            assert_eq!(space.report().largest_free_pages(), 1 << 14, "all is one run again");
        }
    }
    assert!(shortages >= 4 * 4, "{shortages} shortages: each kind of allocation populates several arrays");
}

#[test]
fn a_shortage_in_the_middle_of_many_gives_all_back() {
    let space = Space::builder().max_pages(1 << 20).build().unwrap();
    let device = space.register(DeviceConfig::new(1 << 14)).unwrap();
    let mut folios = vec![device.alloc(Order::ZERO).unwrap()];
    // Enough for some blocks of the first section, and not for the next section.
    shortage::after(Some(1));
    let error = device.alloc_many(Order::ZERO, 10_000, &mut folios).unwrap_err();
    shortage::after(None);
    assert!(matches!(error, AllocError::NoMemory), "{error}");
    assert_eq!((folios.len(), device.nr_live_pages()), (1, 1));
    space.validate().unwrap();
    device.alloc_many(Order::ZERO, 10_000, &mut folios).unwrap();
    space.validate().unwrap();
}

#[test]
fn a_shortage_while_registering_changes_nothing() {
    let space = Space::builder().max_pages(1 << 20).build().unwrap();
    let mut shortages = 0;
    let device = loop {
        shortage::after(Some(shortages));
        let registered = space.register(DeviceConfig::new(700));
        shortage::after(None);
        match registered {
            Ok(device) => break device,
            Err(error) => assert!(matches!(error, RegisterError::NoMemory { .. }), "{error}"),
        }
        shortages += 1;
    };
    assert!(shortages > 1, "several arrays are populated");
    assert_eq!(device.range().start().get(), 0);
    let mut folios = Vec::new();
    device.alloc_many(Order::ZERO, 700, &mut folios).unwrap();
    space.validate().unwrap();
}
