//! LMDB through heed: NOSYNC and WRITEMAP, 1,000 changes a transaction, one long read transaction a run of reads.
//! One process a worker.

use std::path::PathBuf;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};

use super::{PUTS_A_TRANSACTION, Session, Store, blocks, look, map_bytes};
use crate::AnyError;
use crate::args::ServeArgs;
use crate::common::Key;
use crate::keys::Value;
use crate::workloads::RENEW_EVERY;

#[derive(Debug)]
pub(crate) struct Lmdb {
    env: Env<WithoutTls>,
    db: Database<Bytes, Bytes>,
    file: PathBuf,
}

impl Lmdb {
    #[allow(unsafe_code, reason = "heed says so")]
    pub(crate) fn open(args: &ServeArgs) -> Result<Self, AnyError> {
        let folder = args.folder.join("lmdb");
        if args.create {
            std::fs::create_dir(&folder)?;
        }
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_bytes(args).next_multiple_of(4096));
        // SAFETY: NO_SYNC and WRITE_MAP are a danger to the data only: after a crash, and from wild stores of this
        // process. The data are thrown away after the run.
        unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP) };
        // SAFETY: the folder was made for this run; only these programs open the file, all through LMDB, and each
        // opens it once.
        let env = unsafe { options.open(&folder)? };
        let mut txn = env.write_txn()?;
        let db = env.create_database(&mut txn, None)?;
        txn.commit()?;
        Ok(Self { env, db, file: folder.join("data.mdb") })
    }
}

impl Store for Lmdb {
    type Session<'s> = Hand<'s>;

    fn session(&self) -> Result<Hand<'_>, AnyError> {
        Ok(Hand { store: self, read: None, write: None, pending: 0, sum: 0 })
    }

    fn file_bytes(&self) -> Result<Option<u64>, AnyError> {
        blocks(&self.file).map(Some)
    }
}

pub(crate) struct Hand<'s> {
    store: &'s Lmdb,
    read: Option<RoTxn<'s, WithoutTls>>,
    write: Option<RwTxn<'s>>,
    pending: usize,
    sum: u64,
}

impl Hand<'_> {
    fn commit(&mut self) -> Result<(), AnyError> {
        self.pending = 0;
        if let Some(txn) = self.write.take() {
            txn.commit()?;
        }
        Ok(())
    }
}

impl Session for Hand<'_> {
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), AnyError> {
        let txn = match &mut self.write {
            Some(txn) => txn,
            none => none.insert(self.store.env.write_txn()?),
        };
        self.store.db.put(txn, &key, value)?;
        self.pending += 1;
        if self.pending == PUTS_A_TRANSACTION { self.commit() } else { Ok(()) }
    }

    #[inline]
    fn get(&mut self, key: Key) -> Result<bool, AnyError> {
        let txn = match &self.read {
            Some(txn) => txn,
            None => self.read.insert(self.store.env.read_txn()?),
        };
        let value = self.store.db.get(txn, &key)?;
        self.sum += value.map_or(0, look);
        Ok(value.is_some())
    }

    fn remove(&mut self, key: Key) -> Result<(), AnyError> {
        let mut txn = self.store.env.write_txn()?;
        self.store.db.delete(&mut txn, &key)?;
        Ok(txn.commit()?)
    }

    fn finish(&mut self) -> Result<u64, AnyError> {
        self.commit()?;
        self.read = None;
        Ok(self.sum)
    }

    /// The changes are collected, and made 1,000 at a time; then the read transaction begins anew.
    fn mix_all(&mut self, keys: &[Key], value: &mut Value) -> Result<usize, AnyError> {
        let mut found = 0;
        for part in keys.chunks(RENEW_EVERY * PUTS_A_TRANSACTION / 2) {
            for chunk in part.chunks(RENEW_EVERY) {
                for &key in &chunk[1..] {
                    found += usize::from(self.get(key)?);
                }
            }
            self.read = None;
            let mut txn = self.store.env.write_txn()?;
            for &key in part.iter().step_by(RENEW_EVERY) {
                self.store.db.delete(&mut txn, &key)?;
                self.store.db.put(&mut txn, &key, value.of(key))?;
            }
            txn.commit()?;
        }
        Ok(found)
    }
}
