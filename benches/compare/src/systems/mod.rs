//! What is measured, behind one trait. A [`Store`] is one system in one configuration, as one process has it; each
//! worker (thread) has a [`Session`] on it. The loops of `workloads` are compiled once for each, so that no call
//! through a pointer stands between a loop and a system.

mod dashmap;
mod hashbrown;
mod libmdbx;
mod lmdb;
mod memory;
mod papaya;
mod redb;
mod scc;
mod shf;

use std::path::Path;
use std::sync::Arc;

use ::shf::Uid;

use crate::AnyError;
use crate::args::{Config, ServeArgs, System};
use crate::common::Key;
use crate::keys::Value;
use crate::workloads::{BATCH, Hosted, RENEW_EVERY};

pub(crate) trait Store: Send + Sync + 'static {
    type Session<'s>: Session;

    fn session(&self) -> Result<Self::Session<'_>, AnyError>;

    /// Called when the table is full, before each piece of work on it; not timed.
    fn is_full(&self) -> Result<(), AnyError> {
        Ok(())
    }

    /// Bytes of the system's files, if it has any.
    fn file_bytes(&self) -> Result<Option<u64>, AnyError> {
        Ok(None)
    }
}

/// One worker's hand on a store. The methods without a body are single operations; the loops over them may be
/// replaced where a system has something better than a loop.
pub(crate) trait Session {
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError>;

    /// Looks at the value (see [`look`]), or copies it; false: absent.
    fn get(&mut self, key: Key) -> Result<bool, AnyError>;

    fn remove(&mut self, key: Key) -> Result<(), AnyError>;

    /// What was pending is done when this returns. Takes what `get` saw, so that it is not optimised away.
    fn finish(&mut self) -> Result<u64, AnyError>;

    /// Puts a key that is present.
    #[inline]
    fn replace(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        self.put(key, value)
    }

    fn put_all(&mut self, keys: &[Key], value: &mut Value) -> Result<(), AnyError> {
        for &key in keys {
            self.put(key, value.of(key))?;
        }
        Ok(())
    }

    fn replace_all(&mut self, keys: &[Key], value: &mut Value) -> Result<(), AnyError> {
        for &key in keys {
            self.replace(key, value.other(key))?;
        }
        Ok(())
    }

    /// The number of keys that were found.
    fn get_all(&mut self, keys: &[Key]) -> Result<usize, AnyError> {
        let mut found = 0;
        for &key in keys {
            found += usize::from(self.get(key)?);
        }
        Ok(found)
    }

    /// Every 50th key is removed and put again, the others are read. The number of keys found.
    fn mix_all(&mut self, keys: &[Key], value: &mut Value) -> Result<usize, AnyError> {
        let mut found = 0;
        for chunk in keys.chunks(RENEW_EVERY) {
            for &key in &chunk[1..] {
                found += usize::from(self.get(key)?);
            }
            self.remove(chunk[0])?;
            self.put(chunk[0], value.of(chunk[0]))?;
        }
        Ok(found)
    }

    fn get_batches(&mut self, keys: &[Key]) -> Result<usize, AnyError> {
        let mut found = 0;
        for chunk in keys.chunks(BATCH) {
            for &key in chunk {
                found += usize::from(self.get(key)?);
            }
        }
        Ok(found)
    }

    fn put_batches(&mut self, _keys: &[Key], _value: &mut Value) -> Result<(), AnyError> {
        Err("this system has no puts in batches".into())
    }

    fn uids(&mut self, _keys: &[Key]) -> Result<Vec<Uid>, AnyError> {
        Err("this system has no UIDs".into())
    }

    fn get_uids(&mut self, _uids: &[Uid]) -> Result<usize, AnyError> {
        Err("this system has no UIDs".into())
    }

    fn get_uid_batches(&mut self, _uids: &[Uid]) -> Result<usize, AnyError> {
        Err("this system has no UIDs".into())
    }

    /// As many independent reads of random lines.
    fn read_lines(&mut self, _n: usize) -> Result<(), AnyError> {
        Err("only the memory itself has this".into())
    }
}

impl System {
    /// Several processes share it. The others are maps or databases of one process.
    pub(crate) fn is_shared(self) -> bool {
        matches!(self, System::Shf | System::Lmdb | System::Libmdbx)
    }

    /// One writer at a time, changes in transactions, everything in a tree.
    pub(crate) fn is_database(self) -> bool {
        matches!(self, System::Lmdb | System::Libmdbx | System::Redb)
    }

    /// The configurations that can hold values of this size.
    pub(crate) fn configs(self, value_bytes: u32) -> Vec<Config> {
        let all: &[Config] = match self {
            System::Shf => &[Config::Var, Config::Fixed],
            System::Lmdb | System::Libmdbx | System::Redb => &[Config::Var],
            System::Memory => &[Config::Lines],
            _ => &[Config::Boxed, Config::U32],
        };
        let fits = |config: &Config| match config {
            Config::U32 => value_bytes == 4,
            Config::Fixed => shf::can_be_fixed(value_bytes),
            _ => true,
        };
        all.iter().copied().filter(fits).collect()
    }
}

/// Creates or opens what the arguments say.
pub(crate) fn open(args: &ServeArgs) -> Result<Arc<dyn Hosted>, AnyError> {
    Ok(match (args.system, args.config) {
        (System::Shf, _) => Arc::new(shf::Shf::open(args)?),
        (System::Hashbrown, Config::U32) => Arc::new(hashbrown::U32::default()),
        (System::Hashbrown, _) => Arc::new(hashbrown::Boxed::default()),
        (System::Dashmap, Config::U32) => Arc::new(dashmap::U32::new()),
        (System::Dashmap, _) => Arc::new(dashmap::Boxed::new()),
        (System::Papaya, Config::U32) => Arc::new(papaya::U32::new()),
        (System::Papaya, _) => Arc::new(papaya::Boxed::new()),
        (System::Scc, Config::U32) => Arc::new(scc::U32::new()),
        (System::Scc, _) => Arc::new(scc::Boxed::new()),
        (System::Lmdb, _) => Arc::new(lmdb::Lmdb::open(args)?),
        (System::Libmdbx, _) => Arc::new(libmdbx::Libmdbx::open(args)?),
        (System::Redb, _) => Arc::new(redb::Redb::open(args)?),
        (System::Memory, _) => Arc::new(memory::Lines::new()),
    })
}

/// What a get of a system does that hands out a reference: one byte of each cache line of the value is read. The
/// others copy the value.
#[inline]
fn look(value: &[u8]) -> u64 {
    let mut sum = value.first().map_or(0, |&byte| u64::from(byte));
    if value.len() > 64 {
        sum += value[64..].iter().step_by(64).map(|&byte| u64::from(byte)).sum::<u64>();
    }
    sum
}

#[inline]
fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// A length as the engine and the databases count it.
pub(crate) fn length(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// How much a database may grow at most. The file is sparse: this costs address space only.
fn map_bytes(args: &ServeArgs) -> usize {
    (1 << 30) + length(args.keys) * (200 + 4 * length(args.value_bytes))
}

/// Bytes that a file has taken, without its holes.
fn blocks(path: &Path) -> Result<u64, AnyError> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata(path)?.blocks() * 512)
}

/// Changes of a database in one transaction, as is usual where many come at a time.
const PUTS_A_TRANSACTION: usize = 1000;
