//! What the models share: keys and values of all sizes, and a runner that prints its seed.

#![allow(dead_code)] // each test binary uses a part of it

use std::collections::HashMap;

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

use crate::common;

/// Lengths fixed at a table's creation, of key and value. `None`: variable.
pub(crate) type Lengths = Option<(usize, usize)>;

/// Cells of one word and wider, up to the longest; values of 8 bytes, which are counters; sets.
pub(crate) const FIXED: [(usize, usize); 13] = [
    (4, 4),
    (2, 0),
    (2, 6),
    (8, 0),
    (3, 5),
    (4, 8),
    (8, 8),
    (9, 1),
    (16, 16),
    (7, 33),
    (20, 100),
    (2, 118),
    (120, 0),
];

pub(crate) const KEYS: usize = 28;

/// Empty, short, word-sized ones, around each border of the record format, and up to 9 KiB.
pub(crate) fn key(lengths: Lengths, index: usize) -> Vec<u8> {
    const LENGTHS: [usize; KEYS] = [
        0, 1, 1, 2, 3, 4, 4, 5, 7, 8, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 64, 100, 255, 256, 1000, 4096,
        8191, 9216,
    ];
    match lengths {
        None => common::stamped(1_000 + index as u64, LENGTHS[index]),
        Some((len, _)) => {
            let mut key = common::stamped(1_000 + index as u64, len);
            key[0] = u8::try_from(index).unwrap(); // short keys differ, too
            key
        }
    }
}

/// A value: its length decides how the engine stores it, the seed what it says. With fixed lengths the seed alone counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    pub(crate) len: usize,
    pub(crate) seed: u8,
}

impl Value {
    pub(crate) fn bytes(self, lengths: Lengths) -> Vec<u8> {
        let len = lengths.map_or(self.len, |(_, len)| len);
        common::stamped(self.seed.into(), len)
    }
}

/// Whether a table of these lengths takes this value.
pub(crate) fn takes(lengths: Lengths, value: &[u8]) -> bool {
    lengths.is_none_or(|(_, len)| len == value.len())
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let len = prop_oneof![
        2 => Just(0usize),
        6 => 1usize..=40,
        6 => Just(8usize),
        4 => 41usize..=600,
        2 => 600usize..=5_000,
        2 => 8_150usize..=8_210, // the border of a record of its own, for short keys
        1 => 16_370usize..=16_400,
        1 => 8_210usize..=40_960,
    ];
    (len, any::<u8>()).prop_map(|(len, seed)| Value { len, seed })
}

pub(crate) type Key = Vec<u8>;
/// A key and its new value, or none.
pub(crate) type Change = (Key, Option<Vec<u8>>);

/// The keys of some changes, each once.
pub(crate) fn keys_of(changes: &[Change]) -> Vec<Key> {
    let mut keys: Vec<Key> = changes.iter().map(|(key, _)| key.clone()).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// How many of the changes were made by somebody who died at it: any first part of them, each as a whole. `before` is what a
/// reader saw of `keys_of(changes)` while nobody had repaired anything, `after` what one sees afterwards: never less.
#[track_caller]
pub(crate) fn made(
    name: &str,
    model: &HashMap<Key, Vec<u8>>,
    changes: &[Change],
    before: &[Option<Vec<u8>>],
    after: &[Option<Vec<u8>>],
) -> usize {
    let keys = keys_of(changes);
    let mut state: HashMap<&Key, Option<&Vec<u8>>> = keys.iter().map(|key| (key, model.get(key))).collect();
    let (mut least_before, mut most_after) = (None, None);
    for done in 0..=changes.len() {
        if done > 0 {
            let (key, value) = &changes[done - 1];
            state.insert(key, value.as_ref());
        }
        let explains =
            |seen: &[Option<Vec<u8>>]| keys.iter().zip(seen).all(|(key, seen)| state[key] == seen.as_ref());
        if least_before.is_none() && explains(before) {
            least_before = Some(done);
        }
        if explains(after) {
            most_after = Some(done);
        }
    }
    let least =
        least_before.unwrap_or_else(|| panic!("a death in {name}: a reader sees neither old nor new"));
    let most =
        most_after.unwrap_or_else(|| panic!("a death in {name}: neither old nor new after the repair"));
    assert!(least <= most, "a death in {name}: what a reader saw as new is old after the repair");
    most
}

/// Runs `cases` cases (or `SHF_MODEL_CASES`), with `SHF_SEED`'s or another seed, and shrinks what fails. Failures are kept
/// beside `source`, in a file that ends in `.proptest-regressions`, and are tried first from then on.
pub(crate) fn run<S: Strategy>(
    name: &str,
    source: &'static str,
    cases: u64,
    strategy: &S,
    test: impl Fn(S::Value),
) {
    let cases = u32::try_from(common::setting("SHF_MODEL_CASES", cases)).expect("a number of cases");
    let mut config = Config { cases, max_shrink_iters: 4_000, ..Config::with_source_file(source) };
    config.failure_persistence =
        Some(Box::new(proptest::test_runner::FileFailurePersistence::WithSource("proptest-regressions")));
    let mut random = common::Random::new(common::seed(name));
    let mut seed = [0; 32];
    seed.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_le_bytes()));
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let outcome = runner.run(strategy, |input| {
        test(input);
        Ok::<(), TestCaseError>(())
    });
    if let Err(why) = outcome {
        panic!("{name}: {why}");
    }
}
