//! What the benches share: keys in random order, the rival, the memory probe, a histogram of times.
#![allow(dead_code, reason = "each bench uses its part")]

use std::hint::black_box;
use std::time::{Duration, Instant};

/// The rival inside one process: keys and values of any length, each in an allocation of its own, hashbrown's
/// default hasher (foldhash).
pub(crate) type BoxedMap = hashbrown::HashMap<Box<[u8]>, Box<[u8]>>;

pub(crate) type Key = [u8; 4];

/// The key number `i`: a bijection of 32 bits (the finaliser of MurmurHash3), so keys are distinct, all bits vary,
/// and `key(n), key(n + 1), ...` are absent from a table of the first `n`.
pub(crate) fn key(i: u32) -> Key {
    let mut h = i;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    (h ^ (h >> 16)).to_le_bytes()
}

/// The numbers `from..from + n` in random order, as keys.
pub(crate) fn shuffled_keys(from: u32, n: u32, seed: u64) -> Vec<Key> {
    let mut random = Random(seed);
    let mut keys: Vec<Key> = (from..from + n).map(key).collect();
    for i in (1..keys.len()).rev() {
        let j = random.below(i as u64 + 1);
        keys.swap(i, usize::try_from(j).unwrap_or(0));
    }
    keys
}

/// `SplitMix64` (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

/// The limit that memory sets: `n` independent reads of random 64-byte lines.
pub(crate) struct Probe(Vec<[u64; 8]>);

impl Probe {
    pub(crate) fn new(bytes: u64) -> Self {
        let lines = usize::try_from(bytes / 64).unwrap_or(1).max(1);
        Self((0..lines as u64).map(|i| [i; 8]).collect())
    }

    pub(crate) fn run(&self, n: u32) -> Duration {
        let lines = self.0.len() as u64;
        let mut random = Random(u64::from(n));
        let mut sum = 0u64;
        let start = Instant::now();
        for _ in 0..n {
            let line = usize::try_from(random.below(lines)).unwrap_or(0);
            sum = sum.wrapping_add(self.0[line][0]);
        }
        let elapsed = start.elapsed();
        black_box(sum);
        elapsed
    }
}

/// Times in buckets whose width is 1/32 of their value.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    const FINE: u32 = 5;

    pub(crate) fn new() -> Self {
        Self { counts: vec![0; 64 << Self::FINE], total: 0, max: 0 }
    }

    pub(crate) fn add(&mut self, ns: u64) {
        let index = if ns < 1 << Self::FINE {
            ns
        } else {
            let top = ns.ilog2() - Self::FINE;
            u64::from(top + 1) << Self::FINE | (ns >> top & ((1 << Self::FINE) - 1))
        };
        self.counts[usize::try_from(index).unwrap_or(0)] += 1;
        self.total += 1;
        self.max = self.max.max(ns);
    }

    /// The upper end of the bucket in which the given share of all times ends.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let index = index as u64;
                let top = index >> Self::FINE;
                let fine = index & ((1 << Self::FINE) - 1);
                let end = if top == 0 { fine } else { ((1 << Self::FINE | fine) + 1) << (top - 1) };
                return end.min(self.max);
            }
        }
        self.max
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }
}

/// Touches memory once, so that the hypervisor has backed it before anything is timed: on virtual machines the
/// first touch of a page costs 1-12 us, and whoever comes first would pay for all.
pub(crate) fn warm_machine(bytes: u64) {
    let bytes = usize::try_from(bytes).unwrap_or(0);
    let mut memory: Vec<u8> = vec![0; bytes];
    for page in memory.iter_mut().step_by(4096) {
        *page = 1;
    }
    black_box(&memory);
}

/// Folder for tables: in memory if there is a /dev/shm.
pub(crate) fn folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("shf-bench-").tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}
