//! Does one kind of lookup a given number of times, for an instruction counter around it.
//!
//! `count_lookup KIND RUNS` looks `RUNS` runs of 4,096 keys up. All that surrounds the lookups is the
//! same for every `RUNS`, so the difference of two counts is lookups and nothing else; see
//! `instructions.sh`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::{Ordering::SeqCst, compiler_fence};

use farpage_benches::chain::{Chain, RUN};
use farpage_benches::course::{Lookup, Pattern, Race, Racer};
use farpage_benches::ours::{self, Many, OneByOne, Populated};
use farpage_benches::peers::Plain;
use farpage_benches::plain::{PageAdvice, PlainArray};

/// A space that an instruction counter's own memory map has room for.
const MAX_PAGES: u64 = 1 << 20;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (kind, runs) = match arguments.as_slice() {
        [kind, runs] => (kind.as_str(), runs.parse::<usize>().ok()),
        _ => ("", None),
    };
    let Some(runs) = runs else {
        eprintln!("usage: count_lookup empty|plain|one|many|plain-chase|chase RUNS");
        return ExitCode::from(2);
    };

    let chain = Chain::new(2 * RUN);
    let mut array = PlainArray::new(chain.nr_pages(), PageAdvice::Base).expect("memory");
    let plain_keys = Plain::link(&mut array, &chain);
    let empty_keys = farpage_benches::chain::Keys::link::<Empty>(&chain, vec![0; chain.nr_pages()], |_, _| ());
    let space = ours::space(PageAdvice::Base, Some(MAX_PAGES));
    let populated = Populated::new(&space, &chain);

    let racer: Box<dyn Race + '_> = match kind {
        "empty" => Box::new(Racer::new("empty", Empty, &empty_keys)),
        "plain" | "plain-chase" => Box::new(Racer::new("plain", Plain(&array), &plain_keys)),
        "one" | "chase" => Box::new(Racer::new("one", OneByOne(&space), populated.keys())),
        "many" => Box::new(Racer::new("many", Many(&space), populated.keys())),
        _ => {
            eprintln!("count_lookup: {kind} is no kind of lookup");
            return ExitCode::from(2);
        }
    };
    let pattern = if kind.ends_with("chase") { Pattern::Chase } else { Pattern::Random };
    racer.run(pattern, 0, runs);
    drop(racer);
    populated.free();
    ExitCode::SUCCESS
}

/// The loop alone: a key is loaded, and that is all.
struct Empty;

impl Lookup for Empty {
    type Key = u64;

    #[inline]
    fn private(&self, key: u64) -> u64 {
        // No instruction, but the loop stays one of single keys, as the others are.
        compiler_fence(SeqCst);
        key
    }

    #[inline]
    fn key(private: u64) -> u64 {
        private
    }

    #[inline]
    fn word(key: u64) -> u64 {
        key
    }
}
