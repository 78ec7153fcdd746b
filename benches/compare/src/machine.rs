//! The machine: its name, its clock, its cores; versions of what is measured.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::thread::CpuSet;
use serde_json::{Map, Value, json};

/// The clock that all processes share, in nanoseconds.
#[inline]
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The cores this process may use, two at most.
pub(crate) fn cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).take(2).collect()
}

/// This thread only. Best effort: without it the figures are only less steady.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Bytes of a line of /proc/self/status, such as VmRSS.
pub(crate) fn own_memory(name: &str) -> u64 {
    kilobytes("/proc/self/status", name)
}

/// How often this thread has gone to sleep of its own accord.
pub(crate) fn sleeps() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Bytes that the machine could still give, without swapping.
pub(crate) fn available() -> u64 {
    kilobytes("/proc/meminfo", "MemAvailable")
}

fn kilobytes(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Bytes free in the file system of a folder.
pub(crate) fn free_in(folder: &Path) -> std::io::Result<u64> {
    let info = rustix::fs::statvfs(folder)?;
    Ok(info.f_bavail * info.f_frsize)
}

/// What belongs into the record beside the figures.
pub(crate) fn describe(ours: &[&str]) -> Map<String, Value> {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let uname = rustix::system::uname();
    let (commit, changed) = commit();
    let mut map = Map::new();
    map.insert("cpu".into(), cpu.map_or("unknown", |(_, name)| name.trim()).into());
    map.insert("cores".into(), std::thread::available_parallelism().map_or(1, usize::from).into());
    map.insert("memory_mb".into(), (kilobytes("/proc/meminfo", "MemTotal") >> 20).into());
    map.insert("kernel".into(), uname.release().to_string_lossy().into());
    map.insert("huge_pages".into(), huge_pages().into());
    map.insert("rustflags".into(), option_env!("RUSTFLAGS").unwrap_or("").into());
    map.insert("commit".into(), commit.into());
    map.insert("uncommitted_changes".into(), changed.into());
    map.insert("date".into(), date().into());
    map.insert("versions".into(), versions(ours));
    map
}

/// The kernel's choice for anonymous memory: the maps' memory has huge pages if it says "always".
fn huge_pages() -> String {
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("unknown", |(word, _)| word).into()
}

fn commit() -> (String, bool) {
    let git = |args: &[&str]| {
        let output =
            Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    (git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into()), changed)
}

/// Today in UTC, as 2026-01-31.
fn date() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400);
    // Civil date out of days, in the calendar that starts each year in March (Howard Hinnant's algorithm).
    let z = days + 719_468;
    let day_of_era = z % 146_097;
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year + z / 146_097 * 400 + carry)
}

/// Of what is measured, as Cargo.lock has it.
fn versions(ours: &[&str]) -> Value {
    let mut map = Map::new();
    let lock = include_str!("../Cargo.lock");
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            line.map(|text| text.trim_matches('"').to_string())
        };
        let (Some(name), Some(version)) = (field("name"), field("version")) else { continue };
        // dashmap brings a hashbrown of its own, and there are several more.
        if ours.contains(&name.as_str()) && (name != "hashbrown" || version.starts_with("0.17.")) {
            map.insert(name, version.into());
        }
    }
    if ours.contains(&"heed") {
        let lmdb = heed::lmdb_version();
        map.insert("lmdb".into(), format!("{}.{}.{}", lmdb.major, lmdb.minor, lmdb.patch).into());
    }
    map.insert("shf engine".into(), shf::version().into());
    json!(map)
}
