//! Leaves that stay are looked up.

use std::sync::PoisonError;

use farpage::{Access, Order, SoftLeaf, count};

use crate::stage::Stage;

/// Leaves of each thread.
const LEAVES: usize = 16;

/// Each thread looks its own leaves up.
pub fn own(stage: &Stage<'_>, thread: usize) {
    lookups(stage, thread, |_| thread);
}

/// Each thread looks up the leaves of any other.
pub fn others(stage: &Stage<'_>, thread: usize) {
    let mut random = stage.random(!thread);
    let others = stage.threads - 1;
    lookups(stage, thread, |_| (thread + 1 + random.below(others)) % stage.threads);
}

fn lookups(stage: &Stage<'_>, thread: usize, mut whose: impl FnMut(usize) -> usize) {
    let mine: Vec<_> = (0..LEAVES).map(|_| stage.alloc(Order::ZERO).into_leaf(Access::Write)).collect();
    stage.leaves.lock().unwrap_or_else(PoisonError::into_inner)[thread].clone_from(&mine);
    count::rendezvous();
    let leaves: Vec<Vec<SoftLeaf>> = stage.leaves.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // Their lines come to this thread's cache once; it is the lookups after that that are of interest.
    for &leaf in leaves.iter().flatten() {
        assert!(stage.space.lookup(leaf).is_some(), "{leaf:?} is alive");
    }
    count::rendezvous();
    let mut random = stage.random(thread);
    for nr in 0..stage.effort.ops {
        let leaf = leaves[whose(nr)][random.below(LEAVES)];
        let (refs, _) = count::op(|| stage.space.lookup(leaf).map(|page| page.refs()));
        assert_eq!(refs, Some(1), "{leaf:?} stays");
    }
    // Nobody frees what another is still looking up.
    count::rendezvous();
    for leaf in mine {
        drop(stage.space.take(leaf).expect("nobody else takes it"));
    }
}
