//! shf itself. One process a worker; each opens the table.

use shf::{Table, TableOptions, Uid, Values};

use super::{Session, Store};
use crate::AnyError;
use crate::args::{Config, ServeArgs};
use crate::common::Key;
use crate::keys::Value;
use crate::workloads::BATCH;

#[derive(Debug)]
pub(crate) struct Shf {
    table: Table,
    huge_pages: bool,
}

impl Shf {
    pub(crate) fn open(args: &ServeArgs) -> Result<Self, AnyError> {
        let options = match args.config {
            Config::Fixed => TableOptions::new().fixed(4, args.value_bytes),
            _ => TableOptions::new(),
        };
        let path = args.folder.join("table.shf");
        let table = if args.create { options.create(path)? } else { options.open(path)? };
        Ok(Self { table, huge_pages: args.huge_pages })
    }
}

/// Asks the engine: a cell has an upper limit.
pub(crate) fn can_be_fixed(value_bytes: u32) -> bool {
    TableOptions::new().fixed(4, value_bytes).anonymous("compare: can it be fixed").is_ok()
}

impl Store for Shf {
    type Session<'s> = Hand<'s>;

    fn session(&self) -> Result<Hand<'_>, AnyError> {
        Ok(Hand { table: &self.table, value: Vec::with_capacity(64), values: Values::new() })
    }

    fn is_full(&self) -> Result<(), AnyError> {
        if self.huge_pages {
            self.table.use_huge_pages()?;
        }
        Ok(())
    }

    fn file_bytes(&self) -> Result<Option<u64>, AnyError> {
        Ok(Some(self.table.stats()?.file_bytes))
    }
}

#[derive(Debug)]
pub(crate) struct Hand<'s> {
    table: &'s Table,
    value: Vec<u8>,
    values: Values,
}

impl Hand<'_> {
    fn found(&self, n: usize) -> usize {
        (0..n).filter(|&i| self.values.get(i).is_some()).count()
    }
}

impl Session for Hand<'_> {
    #[inline]
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        self.table.put(key, value)?;
        Ok(())
    }

    #[inline]
    fn get(&mut self, key: Key) -> Result<bool, AnyError> {
        Ok(self.table.get_into(key, &mut self.value)?)
    }

    #[inline]
    fn remove(&mut self, key: Key) -> Result<(), AnyError> {
        self.table.remove(key)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<u64, AnyError> {
        Ok(0)
    }

    fn uids(&mut self, keys: &[Key]) -> Result<Vec<Uid>, AnyError> {
        keys.iter().map(|key| self.table.uid(key)?.ok_or_else(|| "a key is lost".into())).collect()
    }

    fn get_uids(&mut self, uids: &[Uid]) -> Result<usize, AnyError> {
        let mut found = 0;
        for &uid in uids {
            found += usize::from(self.table.get_by_uid_into(uid, &mut self.value)?);
        }
        Ok(found)
    }

    fn get_batches(&mut self, keys: &[Key]) -> Result<usize, AnyError> {
        let mut found = 0;
        for chunk in keys.chunks(BATCH) {
            self.table.get_many_into(chunk, &mut self.values)?;
            found += self.found(chunk.len());
        }
        Ok(found)
    }

    fn get_uid_batches(&mut self, uids: &[Uid]) -> Result<usize, AnyError> {
        let mut found = 0;
        for chunk in uids.chunks(BATCH) {
            self.table.get_many_by_uid_into(chunk, &mut self.values)?;
            found += self.found(chunk.len());
        }
        Ok(found)
    }

    fn put_batches(&mut self, keys: &[Key], value: &mut Value) -> Result<(), AnyError> {
        let length = value.of(Key::default()).len();
        let mut buffer = vec![0; BATCH * length];
        for chunk in keys.chunks(BATCH) {
            for (room, &key) in buffer.chunks_exact_mut(length).zip(chunk) {
                room.copy_from_slice(value.of(key));
            }
            let pair =
                |i: usize| (chunk.get(i).copied().unwrap_or_default(), &buffer[i * length..][..length]);
            let pairs: [(Key, &[u8]); BATCH] = std::array::from_fn(pair);
            self.table.put_many(&pairs[..chunk.len()])?;
        }
        Ok(())
    }
}
