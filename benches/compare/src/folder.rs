//! The folder of a run.

use std::path::{Path, PathBuf};

use crate::AnyError;

/// The folder of a run. It goes with the run, with an error, and with Ctrl-C.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    _owner: tempfile::TempDir,
}

impl Folder {
    pub(crate) fn new(parent: &Path) -> Result<Self, AnyError> {
        let owner = tempfile::Builder::new().prefix("shf-compare-").tempdir_in(parent)?;
        let path = owner.path().to_path_buf();
        let mut current = CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if current.is_none() {
            ctrlc::set_handler(|| {
                let current = CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some(path) = &*current {
                    let _ = std::fs::remove_dir_all(path);
                    remove_memory_files(path);
                }
                std::process::exit(130);
            })?;
        }
        *current = Some(path.clone());
        Ok(Self { path, _owner: owner })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove_memory_files(&self.path);
    }
}

/// iceoryx2 has its memory in files of /dev/shm; here their names begin with the folder's own. They are gone unless a
/// server was killed.
fn remove_memory_files(folder: &Path) {
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { return };
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(name) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// What Ctrl-C has to remove.
static CURRENT: std::sync::Mutex<Option<PathBuf>> = std::sync::Mutex::new(None);
