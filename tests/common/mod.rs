//! What several tests need: folders on tmpfs, seeded numbers, and children that are this same binary.

#![allow(dead_code)] // each test binary uses a part of it

use std::{
    env,
    ffi::OsStr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

/// A folder on tmpfs that goes away with the test.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("shf-test-").tempdir_in("/dev/shm").expect("a folder in /dev/shm")
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")),
        Err(_) => default,
    }
}

/// A seed that differs from run to run; `SHF_SEED` repeats one. Printed, so that a failure can be repeated.
pub(crate) fn seed(test: &str) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = setting("SHF_SEED", now.as_secs() << 20 | u64::from(now.subsec_micros()));
    eprintln!("{test}: SHF_SEED={seed}");
    seed
}

/// splitmix64: small, seeded, good enough to choose what a test does next.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }
}

/// Bytes that tell who wrote them: torn or misplaced ones show.
pub(crate) fn stamped(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

const ROLE: &str = "SHF_TEST_ROLE";
const ARGUMENTS: &str = "SHF_TEST_ARGUMENTS";
const SEPARATOR: &str = "\u{1f}";

/// The role and arguments of this process, if a test started it with [`child`]. To be asked by a `#[test]` named
/// `child_process`, which plays the role.
pub(crate) fn role() -> Option<(String, Vec<String>)> {
    let role = env::var(ROLE).ok()?;
    let arguments = env::var(ARGUMENTS).unwrap_or_default();
    Some((role, arguments.split(SEPARATOR).map(str::to_string).collect()))
}

/// This same test binary, as a child that plays a role: pipes for stdin and stdout. A panic of the child shows in
/// the output, and fails its exit status.
pub(crate) fn child(role: &str, arguments: &[&dyn AsRef<OsStr>]) -> Child {
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.as_ref().to_string_lossy().into_owned()).collect();
    let binary: PathBuf = env::current_exe().expect("the test's own path");
    Command::new(binary)
        .args(["--exact", "child_process", "--nocapture", "--test-threads=1", "-q"])
        .env(ROLE, role)
        .env(ARGUMENTS, arguments.join(SEPARATOR))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test binary starts")
}

/// Kills and reaps a child when the test ends early.
#[derive(Debug)]
pub(crate) struct Reaped(pub(crate) Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sleeps until a point in time that several processes agree on: they start within microseconds.
pub(crate) fn sleep_until(nanoseconds: u128) {
    loop {
        let now = since_epoch();
        if now >= nanoseconds {
            return;
        }
        let left = nanoseconds - now;
        if left > 300_000 {
            std::thread::sleep(Duration::from_micros(100));
        } else {
            std::thread::yield_now();
        }
    }
}

/// Long enough that only a hang reaches it.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// Until `done`, asking again and again; panics when it hangs.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < HANG, "{what}: not after {HANG:?}");
        std::thread::yield_now();
    }
}

pub(crate) fn since_epoch() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// Panics with the report unless the table is consistent.
#[track_caller]
pub(crate) fn assert_consistent(table: &shf::Table) {
    let report = table.check().expect("the check can be made");
    assert!(report.is_consistent(), "{report:?}");
    assert_eq!(report.leaked_pages, 0, "{report:?}");
}
