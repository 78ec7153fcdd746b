//! Damaged and forged files give errors or wrong data, never a crash or a hang.
//!
//! A child process opens one edited image after the other, and names each before it does; if it dies or hangs, the
//! parent tells the image's seed. `SHF_HOSTILE_IMAGES` (300): how many; `SHF_SEED` repeats a run.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use shf::{Position, Table, TableOptions, Uid};

mod common;

/// The tables whose images are edited. All have keys of 4 bytes.
struct Kind {
    name: &'static str,
    /// `None`: variable.
    value: Option<u32>,
}

const KINDS: [Kind; 3] = [
    Kind { name: "variable", value: None },
    Kind { name: "narrow", value: Some(4) },
    Kind { name: "wide", value: Some(37) },
];

impl Kind {
    fn path(&self, folder: &Path, what: &str) -> PathBuf {
        folder.join(format!("{what}-{}", self.name))
    }
}

/// One image's time limit. A forged lock costs its timeout, once for each shard at most.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn child_process() {
    let Some((role, arguments)) = common::role() else { return };
    assert_eq!(role, "hostile");
    let folder = Path::new(&arguments[0]);
    let (seed, images): (u64, u64) = (arguments[1].parse().unwrap(), arguments[2].parse().unwrap());
    let kinds: Vec<_> = KINDS
        .iter()
        .map(|kind| [kind.path(folder, "t"), kind.path(folder, "clean"), kind.path(folder, "live")])
        .map(|[path, clean, live]| (path, fs::read(clean).unwrap(), fs::read(live).unwrap()))
        .collect();
    for i in 0..images {
        let mut random = common::Random::new(seed.wrapping_add(i));
        let kind = [0, 0, 1, 2][random.index(4)];
        let (path, clean, live) = &kinds[kind];
        let mut image = if random.below(4) == 0 { live.clone() } else { clean.clone() };
        let edits = edit(&mut image, &mut random);
        say(&format!("image {i}: {}: {edits}", KINDS[kind].name));
        // The same inode as before: an image of a live table would be refused as a copy.
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(0).unwrap();
        (&file).write_all(&image).unwrap();
        drop(file);
        use_it(path, &mut random);
    }
    say("finished");
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "> {line}").expect("the parent listens");
    out.flush().expect("the parent listens");
}

/// Changes the image at random, mostly where its structure is; tells how.
fn edit(image: &mut Vec<u8>, random: &mut common::Random) -> String {
    if random.below(20) == 0 {
        let len = random.index(image.len());
        image.truncate(len);
        return format!("cut off at {len}");
    }
    let edits = 1 + random.below(24);
    for _ in 0..edits {
        // Half of all edits hit the first 128 KiB: header, slots, shards. Most are aligned words.
        let limit = if random.below(2) == 0 { image.len().min(128 << 10) } else { image.len() };
        let word = random.index(limit / 8) * 8;
        let old = u64::from_le_bytes(image[word..word + 8].try_into().unwrap());
        let new = match random.below(9) {
            0 => 0,
            1 => u64::MAX,
            2 => random.next(),
            3 => old ^ 1 << random.below(64),
            4 => old.wrapping_add(random.below(17)).wrapping_sub(8),
            5 => {
                let from = random.index(image.len() / 8) * 8;
                u64::from_le_bytes(image[from..from + 8].try_into().unwrap())
            }
            6 => random.below(1 << 20),
            7 => old & 0xffff_ffff_0000_0000 | random.next() & 0xffff_ffff,
            _ => old & 0xffff_ffff | random.next() << 32,
        };
        image[word..word + 8].copy_from_slice(&new.to_le_bytes());
    }
    format!("{edits} edits")
}

/// Every kind of call. Any result is fine.
fn use_it(path: &Path, random: &mut common::Random) {
    for read_only in [true, false] {
        let options = TableOptions::new().lock_timeout(Duration::from_millis(100)).read_only(read_only);
        let Ok(table) = options.open(path) else { continue };
        let _ = (table.options(), table.len(), table.stats());
        let mut value = Vec::new();
        for i in 0..40u32 {
            let _ = table.get_into(key(i * 37), &mut value);
            let _ = table.uid(key(i));
            let uid = Uid::from_u32(u32::try_from(random.next() >> 32).unwrap() | 1).unwrap();
            let _ = (table.get_by_uid(uid), table.key_by_uid(uid));
        }
        let keys: Vec<_> = (0..100).map(|i| key(i * 31)).collect();
        let uids: Vec<_> = (0..100)
            .map(|_| Uid::from_u32(u32::try_from(random.next() >> 32).unwrap() | 1).unwrap())
            .collect();
        let _ = (table.get_many(&keys), table.get_many_by_uid(&uids));
        walk(&table, Position::START);
        walk(&table, Position::from_u64(random.next() >> 8));
        if !read_only {
            write(&table, random);
        }
        let _ = table.check();
        if !read_only {
            let value = vec![1; table.options().get_fixed().map_or(9, |(_, value)| value as usize)];
            let _ = (table.put(key(1), &value), table.clear(), table.put(key(1), &value), table.check());
        }
    }
}

fn walk(table: &Table, from: Position) {
    let (mut entry_key, mut value) = (Vec::new(), Vec::new());
    let mut cursor = table.cursor_at(from);
    for _ in 0..20_000 {
        if !matches!(cursor.next_into(&mut entry_key, &mut value), Ok(Some(_))) {
            break;
        }
    }
}

fn write(table: &Table, random: &mut common::Random) {
    let fixed = table.options().get_fixed().map(|(_, value)| value as usize);
    let len = |wanted: usize| fixed.unwrap_or(wanted);
    let mut failures = 0;
    for i in 0..60u32 {
        let target = key(u32::try_from(random.below(3_000)).unwrap());
        let failed = match i % 12 {
            0 => table.put(target, vec![1; len(20_000)]).is_err(),
            1 => table.remove(target).is_err(),
            2 => table.take(target).is_err(),
            3 => table.fetch_add(target, 1).is_err(),
            4 => table
                .update(target, |old| old.map(|old| [old, b"x"].concat()[..len(old.len() + 1)].into()))
                .is_err(),
            5 => table.compare_exchange(target, None, Some(&common::stamped(1, len(1)))).is_err(),
            6 => table.replace(target, common::stamped(i.into(), len(500))).is_err(),
            7 => {
                let pairs: Vec<_> =
                    (i * 50..i * 50 + 40).map(|i| (key(i), common::stamped(1, len(30)))).collect();
                table.put_many(&pairs).is_err()
            }
            8 => table.remove_many(&[key(i), key(i + 100), target]).is_err(),
            _ => {
                let wanted = usize::try_from(random.below(200)).unwrap();
                table.put(target, common::stamped(i.into(), len(wanted))).is_err()
            }
        };
        failures += u32::from(failed);
        if failures > 20 {
            return; // each may have waited for a forged lock
        }
    }
}

fn key(i: u32) -> [u8; 4] {
    i.to_le_bytes()
}

/// A table of all kinds of entries, and its bytes: closed, and as a dead writer leaves them.
fn images(folder: &Path, kind: &Kind) {
    let path = kind.path(folder, "t");
    let options = TableOptions::new().max_bytes(64 << 20);
    let options = kind.value.map_or(options.clone(), |value| options.fixed(4, value));
    let table = options.create(&path).unwrap();
    let value = |stamp: u32, len: usize| {
        common::stamped(stamp.into(), kind.value.map_or(len, |value| value as usize))
    };
    // With fixed lengths there are more of them, so that some segments are split.
    let count = if kind.value.is_some() { 130_000 } else { 3_000 };
    for i in 0..count {
        let len = match i % 100 {
            0 => 10_000,
            1..11 => 8,
            11..20 => 700,
            _ => 20,
        };
        table.put(key(i), value(i, len)).unwrap();
    }
    for i in (0..count).step_by(3) {
        table.put(key(i), value(1, 40)).unwrap();
    }
    for i in (0..count).step_by(7) {
        table.remove(key(i)).unwrap();
    }
    fs::copy(&path, kind.path(folder, "live")).unwrap();
    drop(table);
    fs::copy(&path, kind.path(folder, "clean")).unwrap();
}

#[test]
fn edited_files_neither_crash_nor_hang() {
    let seed = common::seed("hostile images");
    let count = common::setting("SHF_HOSTILE_IMAGES", 300);
    let folder = common::folder();
    for kind in &KINDS {
        images(folder.path(), kind);
    }
    let mut child = common::child("hostile", &[&folder.path(), &seed.to_string(), &count.to_string()]);
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut child = common::Reaped(child);
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if let Some((_, line)) = line.split_once("> ") {
                let _ = sender.send(line.to_string());
            }
        }
    });
    let mut last = "before the first image".to_string();
    loop {
        match lines.recv_timeout(LIMIT) {
            Ok(line) => last = line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                keep_image(folder.path());
                panic!(
                    "hangs for {LIMIT:?} at {last}; SHF_SEED={seed} SHF_HOSTILE_IMAGES={count} repeats it"
                );
            }
        }
    }
    reader.join().unwrap();
    let status = child.0.wait().unwrap();
    if last != "finished" || !status.success() {
        keep_image(folder.path());
        panic!("{status} at {last}; SHF_SEED={seed} SHF_HOSTILE_IMAGES={count} repeats it");
    }
}

/// The images in use when it broke, for a debugger (changed by their use, though).
fn keep_image(folder: &Path) {
    for kind in &KINDS {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{}.shf", kind.name));
        if fs::copy(kind.path(folder, "t"), &kept).is_ok() {
            eprintln!("the file is kept as {}", kept.display());
        }
    }
}
