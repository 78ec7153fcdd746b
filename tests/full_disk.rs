//! No room: a full file system, the table's own limit, `RLIMIT_FSIZE` and `RLIMIT_AS`. Each is an error, nothing is
//! lost, removing works, and then putting works again.

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Output},
};

use rustix::process::{Resource, Rlimit, setrlimit};
use shf::{Error, Table, TableOptions};

mod common;

#[test]
fn child_process() {
    let Some((role, arguments)) = common::role() else { return };
    let path = Path::new(&arguments[0]);
    match role.as_str() {
        "file size" => file_size(path),
        "address space" => address_space(path),
        other => panic!("no role {other}"),
    }
}

fn finished(child: std::process::Child) {
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&stdout));
}

fn key(i: u32) -> Vec<u8> {
    format!("key {i}").into_bytes()
}

fn value(i: u32) -> Vec<u8> {
    let len = match i % 50 {
        0 => 12_000, // a run of pages of its own
        1..20 => 8,
        _ => 150,
    };
    common::stamped(i.into(), len)
}

/// Puts until there is no room; what was acknowledged.
fn fill(table: &Table, from: u32) -> HashMap<Vec<u8>, Vec<u8>> {
    let mut stored = HashMap::new();
    for i in from..from + 10_000_000 {
        match table.put(key(i), value(i)) {
            Ok(_) => stored.insert(key(i), value(i)),
            Err(Error::NoSpace(_)) => return stored,
            Err(error) => panic!("key {i}: {error:?}"),
        };
    }
    panic!("it never got full");
}

fn assert_holds(table: &Table, stored: &HashMap<Vec<u8>, Vec<u8>>) {
    assert_eq!(table.len().unwrap(), stored.len() as u64);
    for (key, value) in stored {
        assert!(table.get(key).unwrap().as_ref() == Some(value), "{}", String::from_utf8_lossy(key));
    }
    common::assert_consistent(table);
}

/// The story of a table that gets full, whatever the reason.
fn fills_up_and_recovers(table: &Table) {
    let mut stored = fill(table, 0);
    assert!(stored.len() > 100, "only {} keys fit", stored.len());
    assert_holds(table, &stored);

    // What needs no room goes on.
    let counter = stored.iter().find(|(_, value)| value.len() == 8).map(|(key, _)| key.clone()).unwrap();
    let before = table.fetch_add(&counter, 1).unwrap();
    stored.insert(counter, before.wrapping_add(1).to_le_bytes().to_vec());
    for _ in 0..20 {
        assert!(matches!(table.put("large", vec![1; 1 << 20]), Err(Error::NoSpace(_))));
        assert!(!table.contains("large").unwrap());
    }
    assert_holds(table, &stored);

    // Removing makes room, again and again: for the same keys, and for a small one anywhere.
    for round in 0..5u8 {
        let victims: Vec<_> =
            stored.keys().filter(|key| key.last() != Some(&(b'0' + round))).cloned().collect();
        let removed: Vec<_> = victims.iter().map(|key| (key, table.take(key).unwrap().unwrap())).collect();
        for key in &victims {
            stored.remove(key);
        }
        assert_holds(table, &stored);
        let mut refused = 0;
        for (key, value) in removed {
            match table.put(key, &value) {
                Ok(_) => drop(stored.insert(key.clone(), value)),
                Err(Error::NoSpace(_)) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_holds(table, &stored);
        // Garbage lies where nothing can be cleaned any more: 4 to 8 in a hundred, 12 at the worst of many tables.
        assert!(
            refused * 100 <= victims.len() * 16,
            "round {round}: {refused} of {} came not back",
            victims.len()
        );
    }

    // And so does clearing.
    for _ in 0..5 {
        table.clear().unwrap();
        assert_holds(table, &HashMap::new());
        let again = fill(table, 0);
        let (now, before) = (again.len(), stored.len());
        assert!(now * 10 >= before * 8, "{now} keys fit after a clear, {before} before");
        assert_holds(table, &again);
    }
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_file_system_is_an_error_not_a_sigbus() {
    let folder = common::folder();
    let mount =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder.path()).output();
    match mount {
        Ok(output) if output.status.success() => {}
        other => {
            eprintln!("SKIPPED: a small tmpfs can only be mounted as root ({other:?})");
            return;
        }
    }
    let mounted = Mounted(folder.path());
    let path = mounted.0.join("t.shf");
    let table = Table::create(&path).unwrap();
    let reader = TableOptions::new().read_only(true).open(&path).unwrap();
    fills_up_and_recovers(&table);
    for entry in &reader {
        entry.unwrap();
    }

    // A second table finds no room at all, and leaves nothing behind.
    let second = mounted.0.join("second.shf");
    assert!(matches!(Table::create(&second), Err(Error::NoSpace(_))));
    assert_eq!(std::fs::read_dir(mounted.0).unwrap().count(), 1);
    drop((table, reader));
    common::assert_consistent(&Table::open(&path).unwrap());
}

#[test]
fn a_table_at_its_own_limit_is_full_but_whole() {
    for limit in [2 << 20, 24 << 20] {
        let table = TableOptions::new().max_bytes(limit).anonymous("limited").unwrap();
        fills_up_and_recovers(&table);
        let stats = table.stats().unwrap();
        assert!(stats.file_bytes <= limit, "{stats:?}");
    }
}

#[test]
fn a_limit_on_file_sizes_is_an_error_not_a_signal() {
    let folder = common::folder();
    finished(common::child("file size", &[&folder.path().join("t.shf")]));
}

fn file_size(path: &Path) {
    let table = Table::create(path).unwrap();
    setrlimit(Resource::Fsize, Rlimit { current: Some(3 << 20), maximum: Some(3 << 20) }).unwrap();
    fills_up_and_recovers(&table);
}

#[test]
fn a_limit_on_address_space_is_an_error_when_it_is_reached() {
    if std::fs::read_to_string("/proc/self/maps").unwrap_or_default().contains("libasan") {
        eprintln!("SKIPPED: AddressSanitizer needs more address space than the limit");
        return;
    }
    let folder = common::folder();
    finished(common::child("address space", &[&folder.path().join("t.shf")]));
}

fn address_space(path: &Path) {
    let limit = 1 << 30;
    setrlimit(Resource::As, Rlimit { current: Some(limit), maximum: Some(limit) }).unwrap();
    let table = TableOptions::new().max_bytes(1 << 40).create(path).unwrap();
    table.put("key", "value").unwrap();
    let chunk = vec![7; 16 << 20];
    for i in 0..200u32 {
        match table.put(i.to_le_bytes(), &chunk) {
            Ok(_) => {}
            Err(Error::AddressSpace(_)) => {
                assert_eq!(table.get("key").unwrap(), Some(b"value".to_vec()));
                assert!(!table.contains(i.to_le_bytes()).unwrap());
                assert!(table.remove(0u32.to_le_bytes()).unwrap());
                table.put("key", "other").unwrap();
                common::assert_consistent(&table);
                return;
            }
            Err(error) => panic!("put {i}: {error:?}"),
        }
    }
    panic!("3 GiB were mapped into 1 GiB of address space");
}
