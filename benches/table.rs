//! One process, one table: how many operations a second, beside a map inside the process and the memory's limit.
//!
//! ```text
//! cargo bench --bench table                              # 100 k and 10 M keys, some minutes
//! cargo bench --bench table -- 100k                      # only the small one
//! SHF_BENCH_KEYS=20000,1000000 cargo bench --bench table
//! ```
//!
//! Keys and values have 4 bytes; keys come in random order, reads in another order than writes. One Criterion
//! iteration is a pass over all keys, so the throughput is per key. A `put` pass starts with an empty table or
//! map (its making and dropping is not timed). `mix` is 98 % get and 2 % remove followed by put of the same key.
//! The machine's memory is touched once before the first group; after that whoever grows pays the page faults of
//! its own growth, the map too. Several processes, latencies and ratios: `cargo bench --bench processes`.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{BoxedMap, Key, Probe};
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use shf::{Table, Uid};

fn sizes() -> Vec<u32> {
    match std::env::var("SHF_BENCH_KEYS") {
        Ok(list) => list
            .split(',')
            .filter_map(|n| n.trim().replace('_', "").parse().ok())
            .filter(|&n| n > 0)
            .collect(),
        // `cargo test --benches` runs each pass once, to see that it works.
        Err(_) if !std::env::args().any(|arg| arg == "--bench") => vec![1000],
        Err(_) => vec![100_000, 10_000_000],
    }
}

fn name(n: u32) -> String {
    match n {
        n if n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n % 1000 == 0 => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}

/// One benchmark: `pass` does something for every key and returns the time that counts.
fn bench(group: &mut BenchmarkGroup<'_, WallTime>, id: &str, mut pass: impl FnMut() -> Duration) {
    group.bench_function(id, |b| b.iter_custom(|passes| (0..passes).map(|_| pass()).sum()));
}

fn timed(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

fn all(c: &mut Criterion) {
    let sizes = sizes();
    let largest = sizes.iter().max().copied().unwrap_or(0);
    common::warm_machine(u64::from(largest) * 300);
    for n in sizes {
        let mut group = c.benchmark_group(name(n));
        group.throughput(Throughput::Elements(u64::from(n)));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
        let input = Input {
            n,
            writes: common::shuffled_keys(0, n, 1),
            reads: common::shuffled_keys(0, n, 2),
            absent: common::shuffled_keys(n, n, 3),
        };
        let file_bytes = table(&mut group, &input).unwrap_or_else(|error| panic!("{error}"));
        map(&mut group, &input);
        let probe = Probe::new(file_bytes);
        bench(&mut group, "memory/random 64-byte reads", || probe.run(n));
        group.finish();
    }
}

struct Input {
    n: u32,
    writes: Vec<Key>,
    reads: Vec<Key>,
    absent: Vec<Key>,
}

fn get_all(table: &Table, keys: &[Key]) -> u64 {
    let mut value = Vec::with_capacity(64);
    let mut found = 0;
    for key in keys {
        found += u64::from(table.get_into(key, &mut value).expect("get"));
    }
    found
}

fn put_all(table: &Table, keys: &[Key], change: u8) {
    for key in keys {
        table.put(key, [key[0], key[1], key[2], change]).expect("put");
    }
}

fn table(group: &mut BenchmarkGroup<'_, WallTime>, input: &Input) -> Result<u64, Box<dyn std::error::Error>> {
    let folder = common::folder()?;
    let path = folder.path().join("growing.shf");
    bench(group, "shf/put, growing", || {
        let table = Table::create(&path).expect("create");
        let time = timed(|| put_all(&table, &input.writes, 0));
        drop(table);
        shf::remove(&path).expect("remove");
        time
    });

    let table = Table::create(folder.path().join("table.shf"))?;
    put_all(&table, &input.writes, 0);
    let file_bytes = table.stats()?.file_bytes;
    bench(group, "shf/get", || timed(|| assert_eq!(get_all(&table, &input.reads), u64::from(input.n))));
    bench(group, "shf/get, absent", || timed(|| assert_eq!(get_all(&table, &input.absent), 0)));

    let uids: Vec<Uid> = input.reads.iter().filter_map(|key| table.uid(key).expect("uid")).collect();
    bench(group, "shf/get by UID", || {
        let mut value = Vec::with_capacity(64);
        timed(|| {
            for &uid in &uids {
                assert!(table.get_by_uid_into(uid, &mut value).expect("get_by_uid"));
            }
        })
    });

    let mut change = 0u8;
    bench(group, "shf/replace", || {
        change = change.wrapping_add(1);
        timed(|| put_all(&table, &input.reads, change))
    });

    bench(group, "shf/mix 98 get 2 remove+put", || {
        let mut value = Vec::with_capacity(64);
        timed(|| {
            for (i, key) in input.reads.iter().enumerate() {
                if i % 50 == 0 {
                    assert!(table.remove(key).expect("remove"));
                    table.put(key, key).expect("put");
                } else {
                    assert!(table.get_into(key, &mut value).expect("get"));
                }
            }
        })
    });

    bench(group, "shf/iterate", || {
        timed(|| {
            let mut seen = 0u32;
            for entry in &table {
                black_box(entry.expect("iterate"));
                seen += 1;
            }
            assert_eq!(seen, input.n);
        })
    });

    let counters = Table::create(folder.path().join("counters.shf"))?;
    for key in &input.writes {
        counters.fetch_add(key, 1)?;
    }
    bench(group, "shf/fetch_add", || {
        timed(|| {
            for key in &input.reads {
                black_box(counters.fetch_add(key, 1).expect("fetch_add"));
            }
        })
    });
    Ok(file_bytes)
}

fn map(group: &mut BenchmarkGroup<'_, WallTime>, input: &Input) {
    let fill = || {
        let mut map = BoxedMap::new();
        for key in &input.writes {
            map.insert(key[..].into(), [key[0], key[1], key[2], 0][..].into());
        }
        map
    };
    bench(group, "hashbrown, boxed/put, growing", || {
        let start = Instant::now();
        let map = fill();
        let time = start.elapsed();
        drop(map);
        time
    });
    let map = fill();
    let get = |keys: &[Key]| {
        let mut sum = 0u64;
        let start = Instant::now();
        for key in keys {
            sum += map.get(&key[..]).map_or(0, |value| u64::from(value[0]));
        }
        let time = start.elapsed();
        black_box(sum);
        time
    };
    bench(group, "hashbrown, boxed/get", || get(&input.reads));
    bench(group, "hashbrown, boxed/get, absent", || get(&input.absent));
}

criterion_group!(benches, all);
criterion_main!(benches);
