//! Opening and closing leaves nothing behind. Alone in its process: it counts what the process has open.

use std::fs;

use shf::{Error, Table, TableOptions};

mod common;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Mappings of table files, and all mappings.
fn mappings() -> (usize, usize) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    (
        maps.lines().filter(|line| line.contains(".shf") || line.contains("memfd:")).count(),
        maps.lines().count(),
    )
}

#[test]
fn ten_thousand_rounds_of_open_and_close_leak_no_descriptor_and_no_mapping() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let garbage = folder.path().join("garbage");
    fs::write(&garbage, common::stamped(1, 100_000)).unwrap();
    let keeper = TableOptions::new().max_bytes(1 << 30).create(&path).unwrap();
    keeper.put("key", "value").unwrap();
    let round = || {
        let table = Table::open(&path).unwrap();
        assert!(table.contains("key").unwrap());
        let clone = table.clone();
        drop(table);
        assert!(clone.contains("key").unwrap());
        let reader = TableOptions::new().read_only(true).open(&path).unwrap();
        assert!(reader.contains("key").unwrap());
    };
    let failures = || {
        assert!(matches!(Table::create(&path), Err(Error::Exists(_))));
        assert!(Table::open(&garbage).is_err());
        assert!(TableOptions::new().max_bytes(4 << 30).open(&path).is_err());
        let memory = TableOptions::new().max_bytes(1 << 30).anonymous("leaks").unwrap();
        memory.put("key", "value").unwrap();
    };
    for _ in 0..10 {
        round();
        failures();
    }
    let before = (descriptors(), mappings());
    for i in 0..10_000 {
        round();
        if i % 10 == 0 {
            failures();
        }
    }
    let after = (descriptors(), mappings());
    assert_eq!(after.0, before.0, "descriptors");
    assert_eq!(after.1.0, before.1.0, "mappings of tables");
    assert!(after.1.1 <= before.1.1 + 8, "mappings: {before:?} -> {after:?}");
    assert_eq!(keeper.stats().unwrap().handles, 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "files left behind");
}
