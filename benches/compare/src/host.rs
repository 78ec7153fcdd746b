//! The servers as the controller sees them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::AnyError;
use crate::args::{self, Config, System, Workload};
use crate::machine;
use crate::workloads::Job;

/// One process.
pub(crate) struct Remote {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Remote {
    /// This program again, with these arguments. Returns when it has opened what it serves.
    pub(crate) fn start(arguments: &[OsString]) -> Result<Self, AnyError> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let mut remote = Self { child, input, output };
        remote.line()?;
        Ok(remote)
    }

    fn send(&mut self, command: &str) -> Result<(), AnyError> {
        let input = self.input.as_mut().ok_or("the server is being ended")?;
        writeln!(input, "{command}")?;
        Ok(input.flush()?)
    }

    fn line(&mut self) -> Result<String, AnyError> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a server ended (its message is above)".into());
        }
        Ok(line.trim_end().to_string())
    }

    fn ask(&mut self, command: &str) -> Result<String, AnyError> {
        self.send(command)?;
        self.line()
    }

    /// Lets it close what it has open: it ends when it hears no more.
    pub(crate) fn end(mut self) -> Result<(), AnyError> {
        self.input = None;
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err("a server does not end".into())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Each server gets its job; all prepare, start at the same instant, and answer.
pub(crate) fn together(servers: &mut [Remote], jobs: &[String]) -> Result<Vec<Vec<u64>>, AnyError> {
    for (server, job) in servers.iter_mut().zip(jobs) {
        server.send(&format!("job {job}"))?;
    }
    for server in servers.iter_mut() {
        server.line()?;
    }
    // Long enough for all to hear it.
    let start = machine::now() + 1_000_000;
    for server in servers.iter_mut() {
        server.send(&format!("start {start}"))?;
    }
    let mut answers = Vec::new();
    for server in servers.iter_mut() {
        let answer = server.line()?;
        let numbers: Result<Vec<u64>, _> = answer.split(' ').map(str::parse).collect();
        answers.push(numbers?);
    }
    Ok(answers)
}

/// What is measured: a system in one of its configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Unit {
    pub(crate) system: System,
    pub(crate) config: Config,
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{} {}", args::name(self.system), args::name(self.config)))
    }
}

/// A part of the key file, gone through so many times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) rounds: usize,
}

impl Window {
    pub(crate) fn operations(&self) -> usize {
        (self.to - self.from) * self.rounds
    }
}

/// What all hosts of a run have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// Where the key files are; each host gets a folder of its own inside.
    pub(crate) folder: &'a Path,
    pub(crate) keys: u32,
    pub(crate) value_bytes: u32,
    pub(crate) huge_pages: bool,
}

/// The servers of one unit: one with a thread for each worker, or, if processes share the system, one for each
/// worker. Its files are removed when it is dropped.
pub(crate) struct Host {
    servers: Vec<Remote>,
    shared: bool,
    folder: tempfile::TempDir,
}

impl Host {
    /// With one core for each worker.
    pub(crate) fn start(unit: Unit, cores: &[usize], setting: &Setting<'_>) -> Result<Self, AnyError> {
        let shared = unit.system.is_shared();
        let &Setting { folder, keys, value_bytes, huge_pages } = setting;
        let own = tempfile::tempdir_in(folder)?;
        for name in ["writes.keys", "reads.keys", "absent.keys"] {
            std::os::unix::fs::symlink(folder.join(name), own.path().join(name))?;
        }
        let mut host = Self { servers: Vec::new(), shared, folder: own };
        let groups: Vec<&[usize]> = if shared { cores.chunks(1).collect() } else { vec![cores] };
        for (i, group) in groups.into_iter().enumerate() {
            let cores: Vec<String> = group.iter().map(usize::to_string).collect();
            let mut arguments: Vec<OsString> =
                ["serve", "--system", &args::name(unit.system), "--config", &args::name(unit.config)]
                    .into_iter()
                    .chain(["--keys", &keys.to_string(), "--value-bytes", &value_bytes.to_string()])
                    .chain(["--cores", &cores.join(","), "--folder"])
                    .map(OsString::from)
                    .collect();
            arguments.push(host.folder.path().into());
            if i == 0 {
                arguments.push("--create".into());
            }
            if huge_pages {
                arguments.push("--huge-pages".into());
            }
            let server = Remote::start(&arguments).map_err(|error| format!("{unit}: {error}"))?;
            host.servers.push(server);
        }
        Ok(host)
    }

    /// All workers prepare, start at the same instant, and the slowest one's answer comes back.
    pub(crate) fn run(
        &mut self,
        workload: Workload,
        window: Window,
        workers: usize,
        salt: u8,
    ) -> Result<Vec<u64>, AnyError> {
        let Window { from, to, rounds } = window;
        let servers = if self.shared { workers } else { 1 };
        let each = if self.shared { 1 } else { workers };
        let servers = self.servers.get_mut(..servers).ok_or("too few servers")?;
        let job = |part| Job { workload, from, to, rounds, part, parts: workers, workers: each, salt }.line();
        let jobs: Vec<String> = (0..servers.len()).map(job).collect();
        let answers = together(servers, &jobs)?;
        Ok(answers.into_iter().max().unwrap_or_default())
    }

    /// Bytes of the files, if there are any.
    pub(crate) fn bytes(&mut self) -> Result<Option<u64>, AnyError> {
        Ok(self.servers[0].ask("bytes")?.parse().ok())
    }
}
