//! libmdbx, LMDB's descendant: no syncing, a writable map, 1,000 changes a transaction, one long read transaction a
//! run of reads. One process a worker.

use std::borrow::Cow;
use std::path::PathBuf;

use libmdbx::{Database, DatabaseOptions, Mode, ReadWriteOptions, SyncMode, WriteFlags, WriteMap};

use super::{PUTS_A_TRANSACTION, Session, Store, blocks, look, map_bytes};
use crate::AnyError;
use crate::args::ServeArgs;
use crate::common::Key;
use crate::keys::Value;
use crate::workloads::RENEW_EVERY;

#[derive(Debug)]
pub(crate) struct Libmdbx {
    db: Database<WriteMap>,
    file: PathBuf,
}

impl Libmdbx {
    pub(crate) fn open(args: &ServeArgs) -> Result<Self, AnyError> {
        let folder = args.folder.join("libmdbx");
        if args.create {
            std::fs::create_dir(&folder)?;
        }
        let options = DatabaseOptions {
            mode: Mode::ReadWrite(ReadWriteOptions {
                sync_mode: SyncMode::UtterlyNoSync,
                max_size: Some(isize::try_from(map_bytes(args))?),
                ..ReadWriteOptions::default()
            }),
            liforeclaim: true,
            no_meminit: true,
            ..DatabaseOptions::default()
        };
        let db = Database::open_with_options(&folder, options)?;
        Ok(Self { db, file: folder.join("mdbx.dat") })
    }
}

impl Store for Libmdbx {
    type Session<'s> = Hand<'s>;

    fn session(&self) -> Result<Hand<'_>, AnyError> {
        Ok(Hand { db: &self.db, sum: 0 })
    }

    fn file_bytes(&self) -> Result<Option<u64>, AnyError> {
        blocks(&self.file).map(Some)
    }
}

pub(crate) struct Hand<'s> {
    db: &'s Database<WriteMap>,
    sum: u64,
}

impl Session for Hand<'_> {
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        let txn = self.db.begin_rw_txn()?;
        txn.put(&txn.open_table(None)?, key, value, WriteFlags::UPSERT)?;
        txn.commit()?;
        Ok(())
    }

    fn get(&mut self, key: Key) -> Result<bool, AnyError> {
        Ok(self.get_all(&[key])? == 1)
    }

    fn remove(&mut self, key: Key) -> Result<(), AnyError> {
        let txn = self.db.begin_rw_txn()?;
        txn.del(&txn.open_table(None)?, key, None)?;
        txn.commit()?;
        Ok(())
    }

    fn finish(&mut self) -> Result<u64, AnyError> {
        Ok(self.sum)
    }

    fn put_all(&mut self, keys: &[Key], value: &mut Value) -> Result<(), AnyError> {
        for part in keys.chunks(PUTS_A_TRANSACTION) {
            let txn = self.db.begin_rw_txn()?;
            let table = txn.open_table(None)?;
            for &key in part {
                txn.put(&table, key, value.of(key), WriteFlags::UPSERT)?;
            }
            txn.commit()?;
        }
        Ok(())
    }

    fn replace_all(&mut self, keys: &[Key], value: &mut Value) -> Result<(), AnyError> {
        for part in keys.chunks(PUTS_A_TRANSACTION) {
            let txn = self.db.begin_rw_txn()?;
            let table = txn.open_table(None)?;
            for &key in part {
                txn.put(&table, key, value.other(key), WriteFlags::UPSERT)?;
            }
            txn.commit()?;
        }
        Ok(())
    }

    fn get_all(&mut self, keys: &[Key]) -> Result<usize, AnyError> {
        let txn = self.db.begin_ro_txn()?;
        let table = txn.open_table(None)?;
        let mut found = 0;
        for key in keys {
            if let Some(value) = txn.get::<Cow<'_, [u8]>>(&table, key)? {
                self.sum += look(&value);
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
            let txn = self.db.begin_ro_txn()?;
            let table = txn.open_table(None)?;
            for (i, key) in part.iter().enumerate() {
                if i % RENEW_EVERY == 0 {
                    continue;
                }
                if let Some(value) = txn.get::<Cow<'_, [u8]>>(&table, key)? {
                    self.sum += look(&value);
                    found += 1;
                }
            }
            drop(txn);
            let txn = self.db.begin_rw_txn()?;
            let table = txn.open_table(None)?;
            for &key in part.iter().step_by(RENEW_EVERY) {
                txn.del(&table, key, None)?;
                txn.put(&table, key, value.of(key), WriteFlags::UPSERT)?;
            }
            txn.commit()?;
        }
        Ok(found)
    }
}
