//! Edge [publish]: `SparseArray::populate` -> `SparseArray::get`: the first contents of a chunk.
//!
//! Shape: one populates, one gets; two populate. The chunks are the heap's, the only ones there are under loom.
//! Cost: 6 and 10 executions, unbounded.
//! Teeth: fails with the Release of the exchange or the Acquire of `get` made Relaxed, and with the loser's chunk kept.

use farpage::model::{Array, FRESH};
use farpage_loom_tests::unbounded;
use loom::{sync::Arc, thread};

#[test]
fn a_found_element_is_fully_built() {
    unbounded("publish: found is built", || {
        let array = Arc::new(Array::new(2));
        let other = array.clone();
        // The reader is the spawned thread: the other way round loom would see one schedule (its issue 392).
        let reader = thread::spawn(move || {
            // The neighbour in the same chunk.
            if let Some(element) = other.get(1) {
                assert_eq!(element.read(), FRESH);
            }
        });
        array.populate(0);
        reader.join().unwrap();
    });
}

/// The loser's chunk is freed (elements are tracked), and both use the winner's.
#[test]
fn racing_populates_agree() {
    unbounded("publish: racing populates", || {
        let array = Arc::new(Array::new(2));
        let other = array.clone();
        let racer = thread::spawn(move || {
            let element = other.populate(0);
            assert_eq!(element.read(), FRESH);
            core::ptr::from_ref(element) as usize
        });
        let element = array.populate(0);
        assert_eq!(element.read(), FRESH);
        let address = core::ptr::from_ref(element) as usize;
        assert_eq!(racer.join().unwrap(), address);
        // One chunk of two elements was counted, not two.
        let one = Array::new(2);
        one.populate(0);
        assert_eq!(array.populated_bytes(), one.populated_bytes());
    });
}
