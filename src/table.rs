//! The table: every operation, documented; the work is done by `raw` and the C engine.

use std::{
    fmt,
    ops::{Bound, RangeBounds},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use crate::{
    cursor::{Cursor, Entry, Iter, Position, SHARDS},
    error::{Error, Result},
    ffi,
    options::TableOptions,
    raw::{
        Cas, RawTable,
        batch::{self, PART, Part},
    },
    report::{Report, Stats},
    uid::{AnyUid, CheckedUid, Uid},
    values::Values,
};

/// A hash table that processes share: one open handle on it.
///
/// Keys and values are any bytes, empty ones included: everything that is `AsRef<[u8]>`. Every operation takes
/// `&self`, and is **atomic**: other threads and processes, and the survivors of a death, see it whole or not at
/// all.
///
/// A clone is the same handle, for another thread; the handle closes with the last clone. Opening the table again
/// makes a handle of its own, with one of the table's 1,023 slots (none if read-only).
///
/// # Errors of all calls
///
/// *Reads* fail only with [`Error::Corrupt`], [`Error::NoMemory`], with [`Error::Io`] or [`Error::AddressSpace`] if what
/// others have added cannot be seen, and, if a value changes too often to be read, with [`Error::Busy`] on a read-only
/// table and [`Error::Timeout`] on another. *Changes* may also fail with [`Error::ReadOnly`], [`Error::Timeout`] and
/// [`Error::Forked`], and those that need room with [`Error::NoSpace`], [`Error::Full`],
/// [`Error::TooLong`] and [`Error::AddressSpace`]. With [fixed lengths](TableOptions::fixed) each call, reads too, gives
/// [`Error::WrongLength`] for a key or value of another length. After an error nothing was changed, but by
/// [`put_many`](Table::put_many), [`remove_many`](Table::remove_many) and [`clear`](Table::clear), which tell how far
/// they came.
///
/// # Death
///
/// A process that dies inside a call, by any signal, has done it as a whole or not at all, and makes nobody wait.
/// A call that returned `Ok` is never undone by any death.
///
/// ```
/// use shf::TableOptions;
/// let table = TableOptions::new().anonymous("example")?;
/// let uid = table.put("key", "value")?;
/// assert_eq!(table.get("key")?, Some(b"value".to_vec()));
/// assert_eq!(table.get_by_uid(uid)?, Some(b"value".to_vec()));
/// assert!(table.remove("key")?);
/// assert_eq!(table.get("key")?, None);
/// # Ok::<(), shf::Error>(())
/// ```
#[derive(Clone)]
pub struct Table {
    raw: Arc<RawTable>,
}

/// What [`Table::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inserted {
    /// The key was absent; it has the new value now.
    New(Uid),
    /// The key was there; its value is unchanged.
    Existing(Uid),
}

impl Inserted {
    /// The key's UID, in both cases.
    #[must_use]
    pub fn uid(self) -> Uid {
        match self {
            Inserted::New(uid) | Inserted::Existing(uid) => uid,
        }
    }

    /// True if the key was absent.
    #[must_use]
    pub fn is_new(self) -> bool {
        matches!(self, Inserted::New(_))
    }
}

/// What [`Table::compare_exchange`] did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// The value was the expected one; it is the new one now.
    Exchanged,
    /// It was not: the value that is there, or `None` if the key is absent. Nothing was changed.
    Unchanged(Option<Vec<u8>>),
}

impl Exchange {
    /// True if the value was exchanged.
    #[must_use]
    pub fn is_exchanged(&self) -> bool {
        matches!(self, Exchange::Exchanged)
    }
}

/// Opening, and what belongs to the handle.
impl Table {
    pub(crate) fn from_raw(raw: RawTable) -> Table {
        Table { raw: Arc::new(raw) }
    }

    pub(crate) fn raw(&self) -> &RawTable {
        &self.raw
    }

    /// A UID that the engine returned. It is never 0, or the table is damaged.
    #[inline]
    pub(crate) fn uid_from(&self, number: u32) -> Result<Uid> {
        Uid::from_u32(number).ok_or_else(|| self.corrupt_uid())
    }

    #[cold]
    fn corrupt_uid(&self) -> Error {
        let message = format!("{}: a key has no UID", self.path().display());
        Error::local(ffi::SHF_ERR_CORRUPT, "uid", message)
    }

    /// Creates a table at `path`, with the defaults: [`TableOptions::create`].
    ///
    /// # Errors
    /// As [`TableOptions::create`]; [`Error::Exists`] if there is anything at `path`.
    pub fn create<P: AsRef<Path>>(path: P) -> Result<Table> {
        TableOptions::new().create(path)
    }

    /// Opens the table at `path`, as it was created: [`TableOptions::open`].
    ///
    /// # Errors
    /// As [`TableOptions::open`]; [`Error::NotFound`] if there is none.
    pub fn open<P: AsRef<Path>>(path: P) -> Result<Table> {
        TableOptions::new().open(path)
    }

    /// Opens the table at `path`, or creates it with the defaults: [`TableOptions::open_or_create`].
    ///
    /// # Errors
    /// As [`TableOptions::open_or_create`].
    pub fn open_or_create<P: AsRef<Path>>(path: P) -> Result<Table> {
        TableOptions::new().open_or_create(path)
    }

    /// Opens the table behind a descriptor that another process passed on: [`TableOptions::from_fd`].
    ///
    /// ```
    /// use shf::{Table, TableOptions};
    /// use std::os::fd::AsFd;
    /// let here = TableOptions::new().anonymous("passed on")?;
    /// let fd = here.as_fd().try_clone_to_owned().unwrap(); // sent through a socket, say
    /// let there = Table::from_fd(fd)?;
    /// here.put("key", "value")?;
    /// assert!(there.contains("key")?);
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`TableOptions::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<Table> {
        TableOptions::new().from_fd(fd)
    }

    /// The path the table was opened with; `memfd:NAME` for an anonymous one. Somebody may have removed or
    /// renamed it since.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.raw.path()
    }

    /// The options in force, all of them set (but for [`TableOptions::fixed`] with variable lengths).
    pub fn options(&self) -> TableOptions {
        TableOptions::in_force(&self.raw)
    }
}

/// The descriptor, borrowed, to be passed on to [`Table::from_fd`] in another process. It is valid while the table
/// is open:
///
/// ```compile_fail,E0505
/// use std::os::fd::AsFd;
/// let table = shf::TableOptions::new().anonymous("short-lived").unwrap();
/// let fd = table.as_fd();
/// drop(table);
/// println!("{fd:?}");
/// ```
impl AsFd for Table {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.fd()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("path", &self.path())
            .field("read_only", &self.raw.is_read_only())
            .finish_non_exhaustive()
    }
}

/// As [`Table::iter`].
impl IntoIterator for &Table {
    type Item = Result<Entry>;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        self.iter()
    }
}

/// By key.
impl Table {
    /// Sets the value of a key, whether or not it is there, and returns the key's UID, which stays the same while
    /// the key lives.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it needs room.
    ///
    /// # Cost
    /// One lock, taken for the time of a few cache lines' writes; the copy. Replacing an 8-byte value by another
    /// one is a single store. A value that with its key takes more than 8 KiB gets pages of its own, filled before
    /// the lock is taken.
    #[inline]
    pub fn put<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, key: K, value: V) -> Result<Uid> {
        self.uid_from(self.raw.put(key.as_ref(), value.as_ref())?)
    }

    /// Puts a key only if it is absent. Of several processes that insert the same key at once exactly one gets
    /// [`Inserted::New`].
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it needs room.
    ///
    /// # Cost
    /// As [`put`](Table::put); one look if the key is there.
    #[inline]
    pub fn insert<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, key: K, value: V) -> Result<Inserted> {
        let (number, new) = self.raw.insert(key.as_ref(), value.as_ref())?;
        let uid = self.uid_from(number)?;
        Ok(if new { Inserted::New(uid) } else { Inserted::Existing(uid) })
    }

    /// Sets the value only if the key is present, and returns the old one; `None`: it is absent, and stays so.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it needs room.
    ///
    /// # Cost
    /// As [`put`](Table::put), and the copy of the old value; twice if that is longer than 512 bytes.
    pub fn replace<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, key: K, value: V) -> Result<Option<Vec<u8>>> {
        self.raw.replace(key.as_ref(), value.as_ref())
    }

    /// A copy of the value, if the key is there.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read.
    ///
    /// # Cost
    /// No store to shared memory, no lock, no system call. One allocation if found; a value longer than 512 bytes
    /// is looked up twice. Without both: [`get_into`](Table::get_into).
    pub fn get<K: AsRef<[u8]>>(&self, key: K) -> Result<Option<Vec<u8>>> {
        self.raw.get(key.as_ref())
    }

    /// Copies the value into `value`, which is cleared first; false: the key is absent. Does not allocate once
    /// `value` has grown.
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("get_into")?;
    /// table.put("key", "value")?;
    /// let mut value = Vec::new();
    /// assert!(table.get_into("key", &mut value)?);
    /// assert_eq!(value, b"value");
    /// assert!(!table.get_into("other", &mut value)?);
    /// assert!(value.is_empty());
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read. `value` is empty then.
    ///
    /// # Cost
    /// No store to shared memory, no lock, no system call; one copy.
    #[inline]
    pub fn get_into<K: AsRef<[u8]>>(&self, key: K, value: &mut Vec<u8>) -> Result<bool> {
        self.raw.get_into(key.as_ref(), value)
    }

    /// Whether the key is there.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read.
    ///
    /// # Cost
    /// As [`get`](Table::get), without the copy.
    #[inline]
    pub fn contains<K: AsRef<[u8]>>(&self, key: K) -> Result<bool> {
        self.raw.contains(key.as_ref())
    }

    /// Removes the key; false: it was absent. Needs no room, so it works when the file system is full.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a change.
    ///
    /// # Cost
    /// One lock, one or two cache lines. The memory is used again by later puts.
    #[inline]
    pub fn remove<K: AsRef<[u8]>>(&self, key: K) -> Result<bool> {
        self.raw.remove(key.as_ref())
    }

    /// Removes the key and returns its value. Of several processes that take the same key at once exactly one gets
    /// it.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a change.
    ///
    /// # Cost
    /// As [`remove`](Table::remove), and the copy.
    pub fn take<K: AsRef<[u8]>>(&self, key: K) -> Result<Option<Vec<u8>>> {
        self.raw.take(key.as_ref())
    }

    /// Removes the key only if its value is exactly `value`; false: it is another one, or the key is absent.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a change.
    ///
    /// # Cost
    /// As [`remove`](Table::remove), and the comparison.
    pub fn remove_if_equal<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, key: K, value: V) -> Result<bool> {
        self.raw.remove_if_equal(key.as_ref(), value.as_ref())
    }

    /// Adds `delta` to a counter, wrapping around, and returns its value from before. A counter is a value of 8
    /// bytes, a little-endian `i64`; an absent key is created at 0 first.
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("fetch_add")?;
    /// assert_eq!(table.fetch_add("hits", 2)?, 0);
    /// assert_eq!(table.fetch_add("hits", -1)?, 2);
    /// assert_eq!(table.get("hits")?, Some(1i64.to_le_bytes().to_vec()));
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotACounter`] if the value is not 8 bytes long; else see [above](Table#errors-of-all-calls): it
    /// needs room only if the key is absent.
    ///
    /// # Cost
    /// One lock and one store.
    pub fn fetch_add<K: AsRef<[u8]>>(&self, key: K, delta: i64) -> Result<i64> {
        self.raw.add(key.as_ref(), delta)
    }

    /// If the value is `expected` makes it `new`; `None` stands for an absent key on both sides. So it inserts,
    /// replaces, removes or merely compares, atomically.
    ///
    /// ```
    /// use shf::Exchange;
    /// # let table = shf::TableOptions::new().anonymous("compare_exchange")?;
    /// assert_eq!(table.compare_exchange("key", None, Some(b"a"))?, Exchange::Exchanged);
    /// assert_eq!(table.compare_exchange("key", None, Some(b"b"))?, Exchange::Unchanged(Some(b"a".to_vec())));
    /// assert_eq!(table.compare_exchange("key", Some(b"a"), None)?, Exchange::Exchanged);
    /// assert_eq!(table.compare_exchange("key", Some(b"a"), None)?, Exchange::Unchanged(None));
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it needs room if `new` does.
    ///
    /// # Cost
    /// As [`put`](Table::put) or [`remove`](Table::remove), and the comparison.
    pub fn compare_exchange<K: AsRef<[u8]>>(
        &self,
        key: K,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Exchange> {
        Ok(match self.raw.compare_exchange(key.as_ref(), expected, new)? {
            Cas::Exchanged => Exchange::Exchanged,
            Cas::Unchanged(present) => Exchange::Unchanged(present),
        })
    }

    /// Makes a new value from the old one, atomically: reads, calls `f`, and stores what it returns if nobody
    /// changed the value meanwhile; else it reads and calls `f` again. `None` stands for an absent key, on both
    /// sides: returning it removes the key. Returns the UID if there is a value now.
    ///
    /// `f` runs without a lock: it may take its time, call this table, and panic. A panic leaves the old value,
    /// and goes on to the caller.
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("update")?;
    /// let append = |old: Option<&[u8]>| -> Option<Vec<u8>> { Some([old.unwrap_or(b""), b"+"].concat()) };
    /// table.update("list", append)?;
    /// table.update("list", append)?;
    /// assert_eq!(table.get("list")?, Some(b"++".to_vec()));
    /// assert_eq!(table.update("list", |_| None)?, None);
    /// assert!(!table.contains("list")?);
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it needs room if the new value does.
    ///
    /// # Cost
    /// A [`get`](Table::get), `f`, and a [`put`](Table::put), again for each change that got in between.
    pub fn update<K, F>(&self, key: K, mut f: F) -> Result<Option<Uid>>
    where
        K: AsRef<[u8]>,
        F: FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    {
        Ok(Uid::from_u32(self.raw.update(key.as_ref(), &mut f)?))
    }
}

/// Many keys at once. One call asks the memory for many keys at a time, where single calls wait for one after the
/// other: on a table that is larger than the caches that is two to four times the rate.
///
/// Any number of keys is fine, 0 too. Each key is an operation of its own, atomic as the single call is; the batch is
/// **not**: others may see, and a death may leave, the keys up to some point treated. Changes happen in order, so a key
/// that comes twice is treated as if by two calls; reads look at each key at a moment of its own, in no particular
/// order.
impl Table {
    /// Copies of the values of many keys.
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("get_many")?;
    /// table.put_many(&[("a", "1"), ("b", "2")])?;
    /// let values = table.get_many(&["b", "?", "a"])?;
    /// assert_eq!(values.iter().collect::<Vec<_>>(), [Some(&b"2"[..]), None, Some(&b"1"[..])]);
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read. The first error ends it.
    ///
    /// # Cost
    /// For each key as [`get_into`](Table::get_into), less most of the waiting for memory. Allocates the result:
    /// [`get_many_into`](Table::get_many_into) does not.
    #[inline]
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Values> {
        let mut values = Values::new();
        self.get_many_into(keys, &mut values)?;
        Ok(values)
    }

    /// As [`get_many`](Table::get_many), into `values`, which are cleared first. Does not allocate once they have grown.
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("get_many_into")?;
    /// table.put("a", "1")?;
    /// let mut values = shf::Values::new();
    /// for keys in [["a", "b"], ["b", "a"]] {
    ///     table.get_many_into(&keys, &mut values)?;
    ///     assert_eq!(values.iter().flatten().count(), 1);
    /// }
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read. `values` are empty then.
    ///
    /// # Cost
    /// As [`get_many`](Table::get_many), without the allocations.
    #[inline]
    pub fn get_many_into<K: AsRef<[u8]>>(&self, keys: &[K], values: &mut Values) -> Result<()> {
        batch::prepare(values, keys.len())?;
        let mut part = Part::new();
        for keys in keys.chunks(PART) {
            part.keys(keys);
            self.raw.get_many(&part, values)?;
        }
        Ok(())
    }

    /// Puts many pairs, in order, and tells how many: all of them; or fewer, if an error came after so many pairs. The
    /// call with the rest then gives that error, if it has not gone away. Nothing is lost: so many pairs are put, and
    /// the others are not.
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("put_many")?;
    /// let pairs = [("a", "1"), ("b", "2"), ("a", "3")];
    /// let mut rest = &pairs[..];
    /// while !rest.is_empty() {
    ///     rest = &rest[table.put_many(rest)?..];
    /// }
    /// assert_eq!(table.get("a")?, Some(b"3".to_vec()));
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it needs room. `Err` only if the first pair failed: nothing was changed.
    ///
    /// # Death
    /// A process that dies in here has put the first so many pairs, each as a whole.
    ///
    /// # Cost
    /// For each pair as [`put`](Table::put), less most of the waiting for memory. Allocates nothing.
    #[inline]
    pub fn put_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, pairs: &[(K, V)]) -> Result<usize> {
        let mut put = 0;
        let mut part = Part::new();
        for pairs in pairs.chunks(PART) {
            part.pairs(pairs);
            let (more, result) = self.raw.put_many(&part);
            put += more;
            if let Err(error) = result {
                return if put == 0 { Err(error) } else { Ok(put) };
            }
        }
        Ok(put)
    }

    /// Removes many keys, and tells how many of them were there.
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("remove_many")?;
    /// table.put_many(&[("a", "1"), ("b", "2")])?;
    /// assert_eq!(table.remove_many(&["a", "?", "b", "a"])?, 2);
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a change. **Some keys may have been removed** before the one that
    /// failed; those after it were not. Calling it again with the same keys goes on.
    ///
    /// # Death
    /// A process that dies in here has removed the first so many keys.
    ///
    /// # Cost
    /// For each key as [`remove`](Table::remove), less most of the waiting for memory. Allocates nothing.
    #[inline]
    pub fn remove_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<usize> {
        let mut removed = 0;
        let mut part = Part::new();
        for keys in keys.chunks(PART) {
            part.keys(keys);
            removed += self.raw.remove_many(&part)?;
        }
        Ok(removed)
    }

    /// Copies of the values of many UIDs: plain ones, checked ones, or both mixed, as [`AnyUid`]. The hazard of a plain
    /// UID is that of [`get_by_uid`](Table::get_by_uid).
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("get_many_by_uid")?;
    /// let uids = [table.put("a", "1")?, table.put("b", "2")?];
    /// let values = table.get_many_by_uid(&uids)?;
    /// assert_eq!(values.get(1), Some(&b"2"[..]));
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read. The first error ends it.
    ///
    /// # Cost
    /// As [`get_many`](Table::get_many), less the search. Mixed UIDs are treated in runs of one kind: if the kinds
    /// alternate, each is a call of its own.
    #[inline]
    pub fn get_many_by_uid<U: Copy + Into<AnyUid>>(&self, uids: &[U]) -> Result<Values> {
        let mut values = Values::new();
        self.get_many_by_uid_into(uids, &mut values)?;
        Ok(values)
    }

    /// As [`get_many_by_uid`](Table::get_many_by_uid), into `values`, as [`get_many_into`](Table::get_many_into).
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("get_many_by_uid_into")?;
    /// table.put("a", "1")?;
    /// let uids = [table.checked_uid("a")?.unwrap(); 2];
    /// let mut values = shf::Values::new();
    /// table.get_many_by_uid_into(&uids, &mut values)?;
    /// assert_eq!(values.iter().flatten().count(), 2);
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read. `values` are empty then.
    ///
    /// # Cost
    /// As [`get_many_by_uid`](Table::get_many_by_uid), without the allocations.
    #[inline]
    pub fn get_many_by_uid_into<U: Copy + Into<AnyUid>>(
        &self,
        uids: &[U],
        values: &mut Values,
    ) -> Result<()> {
        batch::prepare(values, uids.len())?;
        let (mut plain, mut checked) = (Part::new(), Part::new());
        let mut rest = uids;
        while let Some(&first) = rest.first() {
            let treated = match first.into() {
                AnyUid::Plain(_) => {
                    let count = plain.plain(rest);
                    self.raw.get_many_by_uid(&plain, values)?;
                    count
                }
                AnyUid::Checked(_) => {
                    let count = checked.checked(rest);
                    self.raw.get_many_by_checked_uid(&checked, values)?;
                    count
                }
            };
            rest = &rest[treated..];
        }
        Ok(())
    }
}

/// By UID: without hashing, and without comparing keys.
impl Table {
    /// The key's UID, if it is there. Every process gets the same one, for as long as the key lives.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read.
    ///
    /// # Cost
    /// As [`contains`](Table::contains).
    #[inline]
    pub fn uid<K: AsRef<[u8]>>(&self, key: K) -> Result<Option<Uid>> {
        self.raw.uid(key.as_ref())?.map(|number| self.uid_from(number)).transpose()
    }

    /// The key's UID with a check of the key, if it is there: safe to keep beyond the key's life.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read.
    ///
    /// # Cost
    /// As [`contains`](Table::contains).
    #[inline]
    pub fn checked_uid<K: AsRef<[u8]>>(&self, key: K) -> Result<Option<CheckedUid>> {
        let number = self.raw.checked_uid(key.as_ref())?;
        number.map(|number| CheckedUid::from_u64(number).ok_or_else(|| self.corrupt_uid())).transpose()
    }

    /// A copy of the value of the key with this UID, if there is one. With a plain [`Uid`] whose key was removed
    /// it may be another key's; a [`CheckedUid`] gives `None` then.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read.
    ///
    /// # Cost
    /// As [`get`](Table::get), less the search.
    pub fn get_by_uid<U: Into<AnyUid>>(&self, uid: U) -> Result<Option<Vec<u8>>> {
        self.raw.get_by_uid(uid.into())
    }

    /// As [`get_by_uid`](Table::get_by_uid), into a buffer, as [`get_into`](Table::get_into).
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read. `value` is empty then.
    ///
    /// # Cost
    /// As [`get_into`](Table::get_into), less the search.
    #[inline]
    pub fn get_by_uid_into<U: Into<AnyUid>>(&self, uid: U, value: &mut Vec<u8>) -> Result<bool> {
        self.raw.get_by_uid_into(uid.into(), value)
    }

    /// A copy of the key with this UID, if there is one.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read.
    ///
    /// # Cost
    /// As [`get_by_uid`](Table::get_by_uid).
    pub fn key_by_uid<U: Into<AnyUid>>(&self, uid: U) -> Result<Option<Vec<u8>>> {
        self.raw.key_by_uid(uid.into())
    }

    /// Sets the value of the key with this UID; false: there is none.
    ///
    /// **Hazard**: if the key may have been removed, a plain [`Uid`] may name another key by now, whose value is
    /// then overwritten. Use a [`CheckedUid`].
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it needs room.
    ///
    /// # Cost
    /// As [`put`](Table::put), less the search.
    #[inline]
    pub fn put_by_uid<U: Into<AnyUid>, V: AsRef<[u8]>>(&self, uid: U, value: V) -> Result<bool> {
        self.raw.put_by_uid(uid.into(), value.as_ref())
    }

    /// Removes the key with this UID; false: there is none. The same hazard as [`put_by_uid`](Table::put_by_uid).
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a change.
    ///
    /// # Cost
    /// As [`remove`](Table::remove), less the search.
    #[inline]
    pub fn remove_by_uid<U: Into<AnyUid>>(&self, uid: U) -> Result<bool> {
        self.raw.remove_by_uid(uid.into())
    }
}

/// The whole table.
impl Table {
    /// All entries, copied out one by one, in no order. A key that lives throughout is seen exactly once, whatever
    /// other processes do; one that comes or goes meanwhile may or may not be seen. No lock is held between two
    /// steps. The iterator ends after an error. See [`Cursor`] for the form that allocates nothing.
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("iter")?;
    /// table.put("a", "1")?;
    /// table.put("b", "2")?;
    /// let mut entries = table.iter().collect::<Result<Vec<_>, _>>()?;
    /// entries.sort();
    /// assert_eq!(entries.len(), 2);
    /// # Ok::<(), shf::Error>(())
    /// ```
    pub fn iter(&self) -> Iter {
        self.iter_shards(..)
    }

    /// As [`iter`](Table::iter), over a part of the table: of the [`SHARDS`] parts those in `shards`. To share the
    /// work between threads or processes; the parts are disjoint, and together they are the whole. Numbers beyond
    /// are cut off.
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("iter_shards")?;
    /// # for i in 0..1000u32 { table.put(i.to_le_bytes(), "")?; }
    /// let halves = table.iter_shards(0..128).count() + table.iter_shards(128..).count();
    /// assert_eq!(halves, 1000);
    /// # Ok::<(), shf::Error>(())
    /// ```
    pub fn iter_shards<R: RangeBounds<u32>>(&self, shards: R) -> Iter {
        let start = match shards.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match shards.end_bound() {
            Bound::Included(&end) => end.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => SHARDS,
        };
        Iter::new(self.clone(), Position::of_shard(start), Position::of_shard(end))
    }

    /// A walk over the table that can be stored and resumed, and that reuses its buffers.
    pub fn cursor(&self) -> Cursor {
        self.cursor_at(Position::START)
    }

    /// A walk that goes on where another one was: see [`Cursor`].
    pub fn cursor_at(&self, position: Position) -> Cursor {
        Cursor::new(self.clone(), position)
    }

    /// The number of keys: exact when nobody writes.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a read, but may give [`Error::Timeout`] beside a stopped
    /// writer.
    ///
    /// # Cost
    /// One pass over 256 counters.
    pub fn len(&self) -> Result<u64> {
        self.raw.len()
    }

    /// Whether there are no keys. As [`len`](Table::len).
    ///
    /// # Errors
    /// As [`len`](Table::len).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Removes all keys: atomically for each of the 256 shards, *not* for the whole. Needs no room. A process that
    /// dies in here has cleared a number of whole shards.
    ///
    /// # Errors
    /// See [above](Table#errors-of-all-calls): it is a change. Some shards may be cleared when it fails.
    ///
    /// # Cost
    /// A few stores a shard; the memory comes back in small steps, by this call and by later puts.
    pub fn clear(&self) -> Result<()> {
        self.raw.clear()
    }

    /// Asks the kernel to keep the file in huge pages, each full 2 MiB of it, and tells how many bytes are in them now.
    /// There are fewer misses of the processor's address cache then: single gets of a table that is larger than the
    /// caches are a tenth to a half faster, in every process that has it open, now or later. Works on tmpfs and on
    /// memory files, Linux 6.1, whatever the system's setting for huge pages is; a read-only table may ask for it, too.
    ///
    /// What the table grows by later is in small pages until the next call. If somebody held some memory at this moment
    /// the result is less than the file's full 2 MiB pieces: call it again.
    ///
    /// ```
    /// # let table = shf::TableOptions::new().anonymous("use_huge_pages")?;
    /// # for i in 0..1000u32 { table.put(i.to_le_bytes(), "")?; }
    /// match table.use_huge_pages() {
    ///     Ok(bytes) => println!("{bytes} bytes are in huge pages"),
    ///     Err(shf::Error::Unsupported(why)) => println!("as before: {}", why.message()),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), shf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`]: this kernel or file system cannot, or there is no free memory in pieces of 2 MiB. What
    /// could be done is done. Nothing is lost either way.
    ///
    /// # Death
    /// A process that dies in here leaves some of it done.
    ///
    /// # Cost
    /// About 0.5 ms for each MiB that is not in huge pages yet. No lock: others go on, but who touches the very 2 MiB
    /// that are being copied waits for that, and all find their mapping again by one page fault for each 2 MiB. The file
    /// takes no more space.
    pub fn use_huge_pages(&self) -> Result<u64> {
        self.raw.collapse()
    }

    /// Counters and sizes.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Timeout`].
    ///
    /// # Cost
    /// A walk over the table's pages; no lock is held for long.
    pub fn stats(&self) -> Result<Stats> {
        self.raw.stats().map(|stats| Stats::from_ffi(&stats))
    }

    /// Walks over everything and compares: page map, directories, segments, records, counters. Others may go on
    /// working: one shard is locked at a time. What a death left is repaired, as by any other call. A problem is
    /// **not** an `Err`: look at [`Report::problems`], or [`Report::is_consistent`].
    ///
    /// # Errors
    /// Only if the walk could not be made: [`Error::Timeout`], [`Error::NoMemory`], [`Error::Forked`],
    /// [`Error::Corrupt`] if not even the beginning is right.
    ///
    /// # Cost
    /// Reads the whole table.
    pub fn check(&self) -> Result<Report> {
        self.raw.check().map(|(report, first)| Report::from_ffi(&report, first))
    }
}
