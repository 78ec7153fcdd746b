//! redb in one process: its commits stay in memory (`Durability::None`), 1,000 changes a transaction, a cache that
//! holds everything, one long read transaction a run of reads.

use redb::{Database, Durability, ReadableDatabase, TableDefinition, WriteTransaction};

use super::{PUTS_A_TRANSACTION, Session, Store, length, look};
use crate::AnyError;
use crate::args::ServeArgs;
use crate::common::Key;
use crate::keys::Value;
use crate::workloads::RENEW_EVERY;

const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("table");

pub(crate) struct Redb {
    db: Database,
}

impl Redb {
    pub(crate) fn open(args: &ServeArgs) -> Result<Self, AnyError> {
        let cache = (256 << 20) + length(args.keys) * (100 + 2 * length(args.value_bytes));
        let db = Database::builder().set_cache_size(cache).create(args.folder.join("table.redb"))?;
        let txn = db.begin_write()?;
        txn.open_table(TABLE)?;
        txn.commit()?;
        Ok(Self { db })
    }
}

impl Store for Redb {
    type Session<'s> = Hand<'s>;

    fn session(&self) -> Result<Hand<'_>, AnyError> {
        Ok(Hand { db: &self.db, sum: 0 })
    }
}

pub(crate) struct Hand<'s> {
    db: &'s Database,
    sum: u64,
}

impl Hand<'_> {
    fn write(&self) -> Result<WriteTransaction, AnyError> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::None)?;
        Ok(txn)
    }
}

impl Session for Hand<'_> {
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        let txn = self.write()?;
        txn.open_table(TABLE)?.insert(&key[..], value)?;
        Ok(txn.commit()?)
    }

    fn get(&mut self, key: Key) -> Result<bool, AnyError> {
        Ok(self.get_all(&[key])? == 1)
    }

    fn remove(&mut self, key: Key) -> Result<(), AnyError> {
        let txn = self.write()?;
        txn.open_table(TABLE)?.remove(&key[..])?;
        Ok(txn.commit()?)
    }

    fn finish(&mut self) -> Result<u64, AnyError> {
        Ok(self.sum)
    }

    fn put_all(&mut self, keys: &[Key], value: &mut Value) -> Result<(), AnyError> {
        for part in keys.chunks(PUTS_A_TRANSACTION) {
            let txn = self.write()?;
            {
                let mut table = txn.open_table(TABLE)?;
                for &key in part {
                    table.insert(&key[..], value.of(key))?;
                }
            }
            txn.commit()?;
        }
        Ok(())
    }

    fn replace_all(&mut self, keys: &[Key], value: &mut Value) -> Result<(), AnyError> {
        for part in keys.chunks(PUTS_A_TRANSACTION) {
            let txn = self.write()?;
            {
                let mut table = txn.open_table(TABLE)?;
                for &key in part {
                    table.insert(&key[..], value.other(key))?;
                }
            }
            txn.commit()?;
        }
        Ok(())
    }

    fn get_all(&mut self, keys: &[Key]) -> Result<usize, AnyError> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        let mut found = 0;
        for key in keys {
            if let Some(value) = table.get(&key[..])? {
                self.sum += look(value.value());
                found += 1;
            }
        }
        Ok(found)
    }

    fn get_batches(&mut self, keys: &[Key]) -> Result<usize, AnyError> {
        self.get_all(keys)
    }

    /// The changes are collected, and made 1,000 at a time; then the read transaction begins anew.
    fn mix_all(&mut self, keys: &[Key], value: &mut Value) -> Result<usize, AnyError> {
        let mut found = 0;
        for part in keys.chunks(RENEW_EVERY * PUTS_A_TRANSACTION / 2) {
            {
                let table = self.db.begin_read()?.open_table(TABLE)?;
                for (i, key) in part.iter().enumerate() {
                    if i % RENEW_EVERY == 0 {
                        continue;
                    }
                    if let Some(value) = table.get(&key[..])? {
                        self.sum += look(value.value());
                        found += 1;
                    }
                }
            }
            let txn = self.write()?;
            {
                let mut table = txn.open_table(TABLE)?;
                for &key in part.iter().step_by(RENEW_EVERY) {
                    table.remove(&key[..])?;
                    table.insert(&key[..], value.of(key))?;
                }
            }
            txn.commit()?;
        }
        Ok(found)
    }
}
