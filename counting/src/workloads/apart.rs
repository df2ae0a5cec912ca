//! What one thread allocates another frees: the honest bad case, as the free must come back to where it is allocated.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use farpage::{Folio, Order, count};

use crate::stage::{Stage, counted_free};

/// Parcels on the way between the two threads of a pair, at most.
const ON_THE_WAY: usize = 64;

/// Threads 0 and 1, 2 and 3, and so on are pairs: the first allocates pages, the second frees them. The queue between
/// them is not counted. Of an odd number of threads the last has nothing to do.
pub fn parcels(stage: &Stage<'_>, thread: usize) {
    if thread ^ 1 >= stage.threads {
        return;
    }
    let parcels = &stage.parcels[thread / 2];
    for counted in [false, true] {
        count::rendezvous();
        for _ in 0..if counted { stage.effort.ops } else { stage.effort.warm_up } {
            if thread.is_multiple_of(2) {
                send(parcels, if counted { stage.counted_alloc(Order::ZERO) } else { stage.alloc(Order::ZERO) });
            } else {
                let folio = receive(parcels);
                if counted {
                    counted_free(folio);
                } else {
                    drop(folio);
                }
            }
        }
    }
}

type Parcels<'s> = Mutex<VecDeque<Folio<'s>>>;

fn send<'s>(parcels: &Parcels<'s>, folio: Folio<'s>) {
    while lock(parcels).len() >= ON_THE_WAY {
        count::pass();
    }
    lock(parcels).push_back(folio);
}

fn receive<'s>(parcels: &Parcels<'s>) -> Folio<'s> {
    loop {
        if let Some(folio) = lock(parcels).pop_front() {
            return folio;
        }
        count::pass();
    }
}

fn lock<'a, 's>(parcels: &'a Parcels<'s>) -> MutexGuard<'a, VecDeque<Folio<'s>>> {
    parcels.lock().unwrap_or_else(PoisonError::into_inner)
}
