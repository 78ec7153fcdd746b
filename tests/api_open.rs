//! Opening, creating and removing: each documented error, and what a handle tells about itself.

use std::{
    error::Error as _,
    ffi::OsStr,
    fs,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, PermissionsExt},
        },
    },
    path::Path,
    time::Duration,
};

use shf::{Error, HashKind, Table, TableOptions};

mod common;

/// The variant's name: the part of `Debug` that a test may look at.
fn name(error: &Error) -> String {
    format!("{error:?}").split('(').next().unwrap_or_default().to_string()
}

#[track_caller]
fn assert_fails<T: std::fmt::Debug>(result: Result<T, Error>, expected: &str, path: &Path) {
    let error = result.expect_err("this must fail");
    assert_eq!(name(&error), expected, "{error}");
    assert!(error.to_string().contains(&*path.to_string_lossy()), "the message names no path: {error}");
}

#[test]
fn a_missing_file_or_folder_is_not_found_and_not_created() {
    let folder = common::folder();
    for path in [folder.path().join("missing.shf"), folder.path().join("no/such/folder.shf")] {
        assert_fails(Table::open(&path), "NotFound", &path);
        assert_fails(TableOptions::new().read_only(true).open(&path), "NotFound", &path);
        assert_fails(shf::remove(&path), "NotFound", &path);
        assert!(!path.exists());
    }
    let error = Table::open(folder.path().join("missing.shf")).unwrap_err();
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    assert_eq!(source.map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
}

#[test]
fn create_never_touches_what_is_there() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    Table::create(&path).unwrap().put("key", "value").unwrap();
    assert_fails(Table::create(&path), "Exists", &path);
    assert_eq!(Table::open(&path).unwrap().get("key").unwrap().as_deref(), Some(&b"value"[..]));

    let other = folder.path().join("notes.txt");
    fs::write(&other, "not a table").unwrap();
    assert_fails(Table::create(&other), "Exists", &other);
    assert_eq!(fs::read(&other).unwrap(), b"not a table");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 2, "a private name was left behind: {names:?}");
}

#[test]
fn open_or_create_creates_once_and_then_opens() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let first = Table::open_or_create(&path).unwrap();
    first.put("key", "value").unwrap();
    let second = TableOptions::new().open_or_create(&path).unwrap();
    assert!(second.contains("key").unwrap());
}

#[test]
fn anything_but_a_regular_file_is_an_invalid_path() {
    let folder = common::folder();
    let table = folder.path().join("t.shf");
    Table::create(&table).unwrap();

    let directory = folder.path().join("directory");
    fs::create_dir(&directory).unwrap();
    let symlink = folder.path().join("symlink");
    std::os::unix::fs::symlink(&table, &symlink).unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let long = folder.path().join("x".repeat(5_000));
    for path in [&directory, &symlink, &fifo, &long] {
        for read_only in [false, true] {
            let result = TableOptions::new().read_only(read_only).open(path);
            assert!(matches!(result, Err(Error::InvalidPath(_))), "{}: {result:?}", path.display());
        }
        let result = TableOptions::new().open_or_create(path);
        assert!(matches!(result, Err(Error::InvalidPath(_))), "{}: {result:?}", path.display());
    }
    assert!(matches!(Table::open("/dev/null"), Err(Error::InvalidPath(_))));
    assert!(matches!(shf::remove(&directory), Err(Error::InvalidPath(_))));

    let hard = folder.path().join("hard-link.shf");
    fs::hard_link(&table, &hard).unwrap();
    assert!(matches!(Table::open(&hard), Err(Error::InvalidPath(_))));
    assert!(matches!(Table::open(&table), Err(Error::InvalidPath(_))));
}

#[test]
fn a_path_with_a_nul_byte_is_refused_not_cut_off() {
    let folder = common::folder();
    let mut bytes = folder.path().as_os_str().as_bytes().to_vec();
    bytes.extend_from_slice(b"/t.shf\0.txt");
    let path = Path::new(OsStr::from_bytes(&bytes));
    assert!(matches!(Table::create(path), Err(Error::InvalidPath(_))));
    assert!(matches!(Table::open(path), Err(Error::InvalidPath(_))));
    assert!(matches!(shf::remove(path), Err(Error::InvalidPath(_))));
    assert!(matches!(TableOptions::new().anonymous("a\0b"), Err(Error::Invalid(_))));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn files_that_are_no_table_are_refused_unchanged() {
    let folder = common::folder();
    let path = folder.path().join("file");
    for (what, content) in [
        ("empty", Vec::new()),
        ("short", b"x".to_vec()),
        ("text", b"To whom it may concern\n".repeat(1_000)),
        ("random", common::stamped(7, 300_000)),
        ("zeros", vec![0; 200_000]),
    ] {
        fs::write(&path, &content).unwrap();
        for result in [
            Table::open(&path),
            Table::open_or_create(&path),
            TableOptions::new().read_only(true).open(&path),
        ] {
            let error = result.expect_err(what);
            assert!(matches!(error, Error::Incompatible(_) | Error::Corrupt(_)), "{what}: {error:?}");
        }
        assert!(
            matches!(shf::remove(&path), Err(Error::InvalidPath(_))),
            "{what}: removed a stranger's file"
        );
        assert!(fs::read(&path).unwrap() == content, "{what}: a file that is no table was changed");
    }
}

#[test]
fn another_format_version_is_incompatible() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    Table::create(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = bytes[8].wrapping_add(1); // the low byte of the format version
    fs::write(&path, &bytes).unwrap();
    assert_fails(Table::open(&path), "Incompatible", &path);
}

#[test]
fn a_damaged_header_is_noticed() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    Table::create(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let mut bytes = good.clone();
    bytes.truncate(4_096);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(Table::open(&path), Err(Error::Corrupt(_) | Error::Incompatible(_))));
    fs::write(&path, &good).unwrap();
    assert!(Table::open(&path).is_ok());
}

#[test]
fn a_copy_of_a_live_file_is_unclean_not_silently_used() {
    let folder = common::folder();
    let (path, copy) = (folder.path().join("t.shf"), folder.path().join("copy.shf"));
    let table = Table::create(&path).unwrap();
    table.put("key", "value").unwrap();
    fs::copy(&path, &copy).unwrap();
    assert_fails(Table::open(&copy), "Unclean", &copy);
    drop(table);
    fs::copy(&path, &copy).unwrap();
    assert!(Table::open(&copy).unwrap().contains("key").unwrap(), "a copy of a closed file is a good one");
}

#[test]
fn options_that_disagree_with_the_file_are_incompatible_and_named() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    TableOptions::new().max_bytes(64 << 20).hash(HashKind::SipHash13).create(&path).unwrap();

    let error = TableOptions::new().max_bytes(32 << 20).open(&path).unwrap_err();
    assert!(matches!(error, Error::Incompatible(_)), "{error:?}");
    let text = error.to_string().replace([',', '_'], "");
    assert!(text.contains("67108864") && text.contains("33554432"), "both sizes are named: {error}");

    let error = TableOptions::new().hash(HashKind::Folded).open(&path).unwrap_err();
    assert!(matches!(error, Error::Incompatible(_)), "{error:?}");
    let error = TableOptions::new().fixed(4, 4).open(&path).unwrap_err();
    assert!(matches!(error, Error::Incompatible(_)), "{error:?}");

    let agreed = TableOptions::new().max_bytes(64 << 20).hash(HashKind::SipHash13);
    assert!(agreed.open(&path).is_ok());
    assert!(agreed.open_or_create(&path).is_ok());
    assert!(Table::open(&path).is_ok());
}

#[test]
fn options_in_force_are_those_of_the_file_and_of_the_handle() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let set = TableOptions::new()
        .max_bytes(64 << 20)
        .hash(HashKind::SipHash13)
        .mode(0o640)
        .lock_timeout(Duration::from_millis(1_500));
    let created = set.create(&path).unwrap();
    assert_eq!(created.options(), set);

    let opened = TableOptions::new().open(&path).unwrap().options();
    assert_eq!(opened.get_max_bytes(), Some(64 << 20));
    assert_eq!(opened.get_hash(), Some(HashKind::SipHash13));
    assert_eq!(opened.get_mode(), Some(0o640));
    assert_eq!(opened.get_lock_timeout(), Some(Duration::from_secs(10)));
    assert_eq!(opened.get_fixed(), None);
    assert!(!opened.is_read_only());

    let defaults = TableOptions::new().anonymous("defaults").unwrap().options();
    assert_eq!(defaults.get_mode(), Some(0o600));
    assert_eq!(defaults.get_hash(), Some(HashKind::Folded));
    assert!(defaults.get_max_bytes().unwrap() > 64 << 20);
    assert!(TableOptions::new().read_only(true).open(&path).unwrap().options().is_read_only());

    let odd = TableOptions::new().max_bytes((1 << 20) + 1).anonymous("odd").unwrap();
    assert_eq!(odd.options().get_max_bytes(), Some((1 << 20) + 4_096), "rounded up to 4,096");
}

/// Whether it works depends on the kernel and on free memory; that nothing is lost does not.
#[test]
fn huge_pages_change_nothing_but_the_pages() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let table = TableOptions::new().max_bytes(256 << 20).create(&path).unwrap();
    match table.use_huge_pages() {
        Ok(bytes) => assert_eq!(bytes, 0, "a new table has no full 2 MiB"),
        Err(error) => assert!(matches!(error, Error::Unsupported(_)), "{error:?}"),
    }
    for i in 0..200_000u32 {
        table.put(i.to_le_bytes(), common::stamped(i.into(), 40)).unwrap();
    }
    let file = fs::metadata(&path).unwrap();
    match table.use_huge_pages() {
        Ok(bytes) => assert!(bytes <= file.len() && bytes % (2 << 20) == 0, "{bytes} of {}", file.len()),
        Err(error) => assert!(matches!(error, Error::Unsupported(_)), "{error:?}"),
    }
    let after = fs::metadata(&path).unwrap();
    assert_eq!((file.len(), file.blocks()), (after.len(), after.blocks()), "the file takes no more space");

    let asking = TableOptions::new().huge_pages(true);
    for options in [asking.clone(), asking.read_only(true)] {
        let other = options.open(&path).unwrap();
        for i in 0..200_000u32 {
            assert_eq!(other.get(i.to_le_bytes()).unwrap(), Some(common::stamped(i.into(), 40)));
        }
        match other.use_huge_pages() {
            Ok(bytes) => assert!(bytes <= file.len()),
            Err(error) => assert!(matches!(error, Error::Unsupported(_)), "{error:?}"),
        }
    }
    table.put("key", "value").unwrap();
    common::assert_consistent(&table);
}

#[test]
fn fixed_lengths_belong_to_the_file_and_must_agree() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let options = TableOptions::new().fixed(4, 12);
    options.create(&path).unwrap().put([1; 4], [2; 12]).unwrap();

    let table = Table::open(&path).unwrap();
    assert_eq!(table.options().get_fixed(), Some((4, 12)), "whoever opens it is told the lengths");
    assert_eq!(table.get([1; 4]).unwrap(), Some(vec![2; 12]));
    assert!(options.open(&path).unwrap().contains([1; 4]).unwrap());
    assert!(options.open_or_create(&path).unwrap().contains([1; 4]).unwrap());
    assert!(options.clone().read_only(true).open(&path).unwrap().contains([1; 4]).unwrap());
    assert!(TableOptions::new().fixed(0, 0).open(&path).is_ok(), "(0, 0) stands for: not set");

    for (key, value) in [(4, 11), (5, 12), (12, 4), (8, 8)] {
        let error = TableOptions::new().fixed(key, value).open(&path).unwrap_err();
        assert!(matches!(error, Error::Incompatible(_)), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("4, 12") && text.contains(&format!("{key}, {value}")),
            "both are named: {text}"
        );
    }
    let variable = folder.path().join("variable.shf");
    Table::create(&variable).unwrap();
    assert_fails(options.open(&variable), "Incompatible", &variable);
    assert_fails(options.open_or_create(&variable), "Incompatible", &variable);
}

#[test]
fn fixed_lengths_have_limits() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    for (key, value, expected) in [
        (0, 1, "Invalid"),
        (0, 120, "Invalid"),
        (1, 120, "TooLong"),
        (120, 1, "TooLong"),
        (121, 0, "TooLong"),
        (1 << 16, 1 << 16, "TooLong"),
        (u32::MAX, 1, "TooLong"),
        (1, u32::MAX, "TooLong"),
        (u32::MAX, u32::MAX, "TooLong"),
    ] {
        let options = TableOptions::new().fixed(key, value);
        for result in [options.create(&path), options.anonymous("fixed"), options.open_or_create(&path)] {
            let error = result.expect_err("these lengths are not legal");
            assert_eq!(name(&error), expected, "{key}, {value}: {error}");
        }
        assert!(!path.exists());
    }
    for (key, value) in [(1, 0), (1, 119), (120, 0), (8, 0), (60, 60)] {
        let table = TableOptions::new().fixed(key, value).anonymous("fixed").unwrap();
        let (key, value) = (vec![7; key as usize], common::stamped(1, value as usize));
        table.put(&key, &value).unwrap();
        assert_eq!(table.get(&key).unwrap(), Some(value));
        common::assert_consistent(&table);
    }
}

#[test]
fn the_mode_holds_whatever_the_umask_and_the_default_is_private() {
    let folder = common::folder();
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    for (mode, expected) in [(None, 0o600), (Some(0o664), 0o664), (Some(0o660), 0o660), (Some(0o666), 0o666)]
    {
        let path = folder.path().join(format!("{mode:?}.shf"));
        let options = mode.map_or(TableOptions::new(), |mode| TableOptions::new().mode(mode));
        options.create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, expected);
    }
    rustix::process::umask(before);
    let result = TableOptions::new().mode(0o10_000).create(folder.path().join("bad.shf"));
    assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
}

#[test]
fn a_strangers_file_that_others_may_write_needs_an_explicit_mode() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    TableOptions::new().mode(0o666).create(&path).unwrap();
    if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
        eprintln!("SKIPPED: a file of another user can only be made as root");
        return;
    }
    assert_fails(Table::open(&path), "Permission", &path);
    assert!(matches!(TableOptions::new().mode(0o660).open(&path), Err(Error::Permission(_))));
    assert!(TableOptions::new().mode(0o666).open(&path).is_ok());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Table::open(&path).is_ok(), "only its owner may write it: no stranger can harm us but the owner");
}

#[track_caller]
#[allow(clippy::needless_pass_by_value)] // shorter calls
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::ReadOnly(_))), "{result:?}");
}

#[test]
fn a_read_only_table_cannot_change_data() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let writable = Table::create(&path).unwrap();
    let uid = writable.put("key", 1i64.to_le_bytes()).unwrap();
    let handles = writable.stats().unwrap().handles;
    let table = TableOptions::new().read_only(true).open(&path).unwrap();
    assert_eq!(writable.stats().unwrap().handles, handles, "a read-only handle took a slot");

    refused(table.put("key", "other"));
    refused(table.put("new", "other"));
    refused(table.insert("new", "other"));
    refused(table.replace("key", "other"));
    refused(table.remove("key"));
    refused(table.take("key"));
    refused(table.remove_if_equal("key", 1i64.to_le_bytes()));
    refused(table.fetch_add("key", 1));
    refused(table.compare_exchange("key", Some(&1i64.to_le_bytes()), None));
    refused(table.update("key", |_| None));
    refused(table.put_by_uid(uid, "other"));
    refused(table.remove_by_uid(uid));
    refused(table.clear());

    assert_eq!(table.get("key").unwrap(), Some(1i64.to_le_bytes().to_vec()));
    assert_eq!(table.get_by_uid(uid).unwrap(), Some(1i64.to_le_bytes().to_vec()));
    assert_eq!(table.iter().count(), 1);
    assert_eq!(table.len().unwrap(), 1);
    assert!(table.stats().is_ok());
    let report = table.check().unwrap();
    assert!(report.structure_only && report.is_consistent(), "{report:?}");
    assert!(format!("{table:?}").contains("read_only: true"));

    writable.put("key", "news").unwrap();
    assert_eq!(table.get("key").unwrap().as_deref(), Some(&b"news"[..]), "it sees what others change");

    let missing = folder.path().join("other.shf");
    let result = TableOptions::new().read_only(true).create(&missing);
    assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
    assert!(!missing.exists());
    let result = TableOptions::new().read_only(true).anonymous("read-only");
    assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
}

#[test]
fn a_read_only_table_grows_with_its_writers() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let writable = Table::create(&path).unwrap();
    let table = TableOptions::new().read_only(true).open(&path).unwrap();
    for i in 0..50_000u32 {
        writable.put(i.to_le_bytes(), common::stamped(i.into(), 60)).unwrap();
    }
    for i in 0..50_000u32 {
        assert_eq!(table.get(i.to_le_bytes()).unwrap(), Some(common::stamped(i.into(), 60)));
    }
}

#[test]
fn an_anonymous_table_is_shared_by_its_descriptor_alone() {
    let here = TableOptions::new().anonymous("shared").unwrap();
    assert!(here.path().to_string_lossy().contains("shared"));
    here.put("key", "value").unwrap();
    let there = Table::from_fd(here.as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(there.get("key").unwrap().as_deref(), Some(&b"value"[..]));
    drop(here);
    there.put("key", "later").unwrap();
    assert_eq!(
        there.get("key").unwrap().as_deref(),
        Some(&b"later"[..]),
        "the second handle lives on its own"
    );
}

#[test]
fn a_read_only_descriptor_gives_a_read_only_table() {
    let here = TableOptions::new().anonymous("shared").unwrap();
    here.put("key", "value").unwrap();
    let through_proc = format!("/proc/self/fd/{}", here.as_fd().as_raw_fd());
    let there = Table::from_fd(fs::File::open(&through_proc).unwrap().into()).unwrap();
    assert!(there.options().is_read_only());
    assert_eq!(there.get("key").unwrap().as_deref(), Some(&b"value"[..]));
    assert!(matches!(there.put("key", "other"), Err(Error::ReadOnly(_))));

    let writable = here.as_fd().try_clone_to_owned().unwrap();
    let result = TableOptions::new().read_only(true).from_fd(writable);
    assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
}

#[test]
fn descriptors_that_are_no_sealed_table_are_refused() {
    let unsealed = rustix::fs::memfd_create("unsealed", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&unsealed, &common::stamped(1, 100_000)).unwrap();
    let result = Table::from_fd(unsealed);
    assert!(matches!(
        result,
        Err(Error::Incompatible(_) | Error::Corrupt(_) | Error::Permission(_) | Error::Unsupported(_))
    ));
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    assert!(Table::from_fd(reader).is_err());

    // The content of a table, in a memory file that anybody could shrink under its users.
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    Table::create(&path).unwrap();
    let unsealed = rustix::fs::memfd_create("unsealed", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(rustix::io::write(&unsealed, &bytes).unwrap(), bytes.len());
    let result = Table::from_fd(unsealed);
    assert!(result.is_err(), "a memory file without F_SEAL_SHRINK was opened: {result:?}");
}

#[test]
fn a_memory_file_cannot_be_shrunk_under_its_users() {
    let table = TableOptions::new().anonymous("sealed").unwrap();
    table.put("key", "value").unwrap();
    assert!(rustix::fs::ftruncate(table.as_fd(), 0).is_err());
    assert!(table.contains("key").unwrap());
}

#[test]
fn removing_the_name_leaves_the_table_to_its_users() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let old = Table::create(&path).unwrap();
    old.put("key", "old").unwrap();
    shf::remove(&path).unwrap();
    assert!(!path.exists());
    assert!(matches!(Table::open(&path), Err(Error::NotFound(_))));

    let new = Table::create(&path).unwrap();
    assert!(new.is_empty().unwrap());
    old.put("more", "old").unwrap();
    assert_eq!(old.len().unwrap(), 2);
    assert!(new.is_empty().unwrap());
    assert_eq!(old.path(), path);
}

#[test]
fn a_table_is_made_of_whole_blocks_so_that_no_store_can_fail() {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let table = Table::create(&path).unwrap();
    let empty = fs::metadata(&path).unwrap();
    assert!(empty.len() <= 512 << 10, "an empty table takes {} bytes", empty.len());
    for i in 0..5_000u32 {
        table.put(i.to_le_bytes(), [0; 100]).unwrap();
    }
    let full = fs::metadata(&path).unwrap();
    assert!(full.blocks() * 512 >= full.len(), "sparse: {} of {} bytes", full.blocks() * 512, full.len());
}

#[test]
fn the_slots_run_out_with_an_error_and_come_back() {
    let wanted = rustix::process::Rlimit { current: Some(4_096), maximum: Some(4_096) };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current.is_some_and(|current| current < 4_096) {
        let raised = rustix::process::Rlimit { current: wanted.current, maximum: limit.maximum };
        if rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_err() {
            eprintln!("SKIPPED: 1,023 handles need 4,096 descriptors");
            return;
        }
    }
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let options = TableOptions::new().max_bytes(16 << 20);
    let mut handles = vec![options.create(&path).unwrap()];
    while handles.len() < 1_023 {
        handles.push(options.open(&path).unwrap());
    }
    assert_fails(options.open(&path), "Busy", &path);
    assert!(TableOptions::new().read_only(true).open(&path).is_ok(), "readers need no slot");
    handles[700].put("key", "value").unwrap();
    handles.remove(300);
    let again = options.open(&path).unwrap();
    assert!(again.contains("key").unwrap());
}
