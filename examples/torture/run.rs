//! How the programs begin and end: arguments, the folder with all files, and who removes it.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::fault::AnyError;

/// Workers at a time.
pub(crate) const MOST_SLOTS: u64 = 64;

/// What all of them are asked.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// How long to go on
    #[arg(short, long, default_value_t = 10.0, value_name = "S", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Worker processes at any time
    #[arg(short, long, default_value_t = 4, value_name = "P",
          value_parser = clap::value_parser!(u64).range(1..=MOST_SLOTS))]
    pub(crate) procs: u64,
    /// Seed of the random choices; default: the clock
    #[arg(long)]
    seed: Option<u64>,
    /// Kills and stops a second, as far as the machine can
    #[arg(short, long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) rate: u64,
    /// Where the files are
    #[arg(long, default_value = "/dev/shm")]
    pub(crate) folder: PathBuf,
    /// Internal: be the worker of this slot, of this parent, with this seed
    #[arg(long, hide = true, value_names = ["SLOT", "PARENT", "SEED"], num_args = 3)]
    pub(crate) worker: Option<Vec<u64>>,
    /// Internal: remove this folder at the end
    #[arg(long, hide = true)]
    cleaner: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e6 => Ok(seconds),
        _ => Err("must be above 0 and at most 1000000".into()),
    }
}

fn numbers_of(numbers: &[u64]) -> Result<(usize, i32, u64), AnyError> {
    Ok((usize::try_from(numbers[0])?, i32::try_from(numbers[1])?, numbers[2]))
}

impl Common {
    /// Does what the arguments say: `worker` is given the slot, the parent and the seed, `torture` a new folder and the
    /// seed. `look`: how to look at what is kept of a failure.
    pub(crate) fn run(
        &self,
        worker: impl FnOnce(usize, i32, u64) -> Result<bool, AnyError>,
        torture: impl FnOnce(&Path, u64) -> Result<bool, AnyError>,
        look: &str,
    ) -> ExitCode {
        let result = match (&self.worker, &self.cleaner) {
            (Some(numbers), _) => {
                numbers_of(numbers).and_then(|(slot, parent, seed)| worker(slot, parent, seed))
            }
            (None, Some(folder)) => Cleaner::run(folder).map(|()| true),
            (None, None) => self.in_folder(torture, look),
        };
        match result {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("torture: {error}");
                ExitCode::from(2)
            }
        }
    }

    fn in_folder(
        &self,
        torture: impl FnOnce(&Path, u64) -> Result<bool, AnyError>,
        look: &str,
    ) -> Result<bool, AnyError> {
        let clock = u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos());
        let seed = self.seed.unwrap_or(clock);
        let folder = tempfile::Builder::new().prefix("torture-").tempdir_in(&self.folder)?.keep();
        let cleaner = Cleaner::start(&folder)?;
        // What is shared is the first process' too: what fails there is a finding as any other.
        let good = torture(&folder, seed).or_else(|error| match error.downcast::<shf::Error>() {
            Ok(found) => {
                eprintln!("torture: wrong: a call failed: {found} [{}]", found.detail().place());
                Ok(false)
            }
            Err(other) => Err(other),
        });
        let keep = !matches!(good, Ok(true));
        if keep {
            eprintln!("torture: FAILED, seed {seed}; the files are kept in {} ({look})", folder.display());
        }
        cleaner.finish(keep)?;
        good
    }
}

/// A process that outlives this one, and removes the folder then, however this one ends: Ctrl-C and SIGKILL included.
#[derive(Debug)]
struct Cleaner(Child);

impl Cleaner {
    fn start(folder: &Path) -> Result<Cleaner, AnyError> {
        // In a group of its own: Ctrl-C is not for it.
        let child = Command::new(std::env::current_exe()?)
            .arg("--cleaner")
            .arg(folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(Cleaner(child))
    }

    /// Lets it go, with or without the folder.
    fn finish(mut self, keep: bool) -> Result<(), AnyError> {
        if let Some(mut pipe) = self.0.stdin.take()
            && keep
        {
            pipe.write_all(b"keep")?;
        }
        self.0.wait()?;
        Ok(())
    }

    /// What it does: waits for the end of the pipe.
    fn run(folder: &Path) -> Result<(), AnyError> {
        if std::io::read_to_string(std::io::stdin())? != "keep" {
            // The workers die with the first process; what they still write is gone with the names.
            while fs::remove_dir_all(folder).is_err() && folder.exists() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}
