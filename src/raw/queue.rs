//! Owners of the engine's queue sets, queues, items and batches. What the types here promise: whoever has a queue, an
//! item or a batch has its set open; an item's bytes are borrowed from the item, and from nobody else.

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_int},
    marker::PhantomData,
    mem::MaybeUninit,
    ops::Range,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr::{self, NonNull},
    slice,
    sync::Arc,
};

use super::{Outcome, bytes_of, done, found, sentence, struct_size, text_of, unexpected};
use crate::{
    error::{Error, Result},
    ffi,
};

/// Options in Rust's form. 0 and no names: not set.
pub(crate) struct SetOptions {
    pub(crate) items: u32,
    pub(crate) item_size: u32,
    pub(crate) mode: u32,
    pub(crate) lock_timeout_ms: u32,
    pub(crate) queues: Vec<CString>,
}

impl SetOptions {
    /// Runs `call` with the options in C's form.
    fn with<R>(&self, call: impl FnOnce(*const ffi::shf_queue_options) -> R) -> R {
        let names: Vec<*const c_char> = self.queues.iter().map(|name| name.as_ptr()).collect();
        let options = ffi::shf_queue_options {
            size: struct_size::<ffi::shf_queue_options>(),
            items: self.items,
            item_size: self.item_size,
            mode: self.mode,
            lock_timeout_ms: self.lock_timeout_ms,
            queue_count: u32::try_from(names.len()).unwrap_or(u32::MAX),
            queues: names.as_ptr(),
        };
        call(&raw const options)
    }
}

/// Owns one `shf_queue_set *`. Closed exactly once, in `Drop`.
pub(crate) struct RawSet {
    ptr: NonNull<ffi::shf_queue_set>,
    items: usize,
    item_size: usize,
    /// Where item 0 begins, and the bytes from one item to the next.
    data: NonNull<u8>,
    stride: usize,
}

// SAFETY: shf_queue.h, "THREADS": every function may be called from any thread.
unsafe impl Send for RawSet {}
// SAFETY: shf_queue.h, "THREADS": and concurrently; only close must be the last call, and `Drop` is.
unsafe impl Sync for RawSet {}

impl Drop for RawSet {
    fn drop(&mut self) {
        // SAFETY: the last call on a live handle: sets and queues hold the owner in an `Arc`, items and batches borrow
        // from one of these, and this is its drop (shf_queue.h, "shf_queue_set_close").
        unsafe { ffi::shf_queue_set_close(self.ptr.as_ptr()) }
    }
}

/// Opening, and what belongs to the handle.
impl RawSet {
    fn opened(code: c_int, set: *mut ffi::shf_queue_set) -> Result<Arc<RawSet>> {
        done(code)?;
        let ptr = NonNull::new(set).ok_or_else(|| unexpected(Outcome::Ok))?;
        // SAFETY: a live handle, just opened.
        let items = unsafe { ffi::shf_queue_set_items(ptr.as_ptr()) };
        // SAFETY: as above.
        let item_size = unsafe { ffi::shf_queue_set_item_size(ptr.as_ptr()) };
        // SAFETY: as above.
        let data = unsafe { ffi::shf_queue_set_data(ptr.as_ptr()) };
        // SAFETY: as above.
        let stride = unsafe { ffi::shf_queue_set_stride(ptr.as_ptr()) };
        let set = RawSet {
            ptr,
            items: items as usize,
            item_size: item_size as usize,
            data: NonNull::new(data.cast()).unwrap_or(NonNull::dangling()),
            stride: usize::try_from(stride).unwrap_or_default(),
        };
        Ok(Arc::new(set))
    }

    pub(crate) fn open(path: &CStr, flags: u32, options: &SetOptions) -> Result<Arc<RawSet>> {
        let mut set = ptr::null_mut();
        // SAFETY: the text, the options (with their size set) and the output live through the call (shf_queue.h,
        // "shf_queue_set_open").
        let code = options
            .with(|options| unsafe { ffi::shf_queue_set_open(path.as_ptr(), flags, options, &raw mut set) });
        RawSet::opened(code, set)
    }

    pub(crate) fn anonymous(name: &CStr, options: &SetOptions) -> Result<Arc<RawSet>> {
        let mut set = ptr::null_mut();
        // SAFETY: as in `open` (shf_queue.h, "shf_queue_set_anonymous").
        let code = options
            .with(|options| unsafe { ffi::shf_queue_set_anonymous(name.as_ptr(), options, &raw mut set) });
        RawSet::opened(code, set)
    }

    pub(crate) fn from_fd(fd: &OwnedFd, options: &SetOptions) -> Result<Arc<RawSet>> {
        let mut set = ptr::null_mut();
        // SAFETY: as in `open`; the descriptor is open through the call, and the engine takes a duplicate (shf_queue.h,
        // "shf_queue_set_from_fd").
        let code = options
            .with(|options| unsafe { ffi::shf_queue_set_from_fd(fd.as_raw_fd(), options, &raw mut set) });
        RawSet::opened(code, set)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `self` owns a live handle.
        let fd = unsafe { ffi::shf_queue_set_fd(self.ptr.as_ptr()) };
        // SAFETY: the descriptor is valid while the handle is open (shf_queue.h, "shf_queue_set_fd"), which is at least
        // as long as `self` is borrowed; an open handle has one, so it is not -1.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    pub(crate) fn path(&self) -> &Path {
        // SAFETY: `self` owns a live handle; the text is valid while it is open (shf_queue.h, "shf_queue_set_path").
        let path = unsafe { ffi::shf_queue_set_path(self.ptr.as_ptr()) };
        // SAFETY: NUL-terminated, and it lives for as long as `self` is borrowed.
        Path::new(OsStr::from_bytes(unsafe { bytes_of(path) }))
    }

    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: `self` owns a live handle.
        unsafe { ffi::shf_queue_set_is_read_only(self.ptr.as_ptr()) != 0 }
    }

    #[inline]
    pub(crate) fn items(&self) -> usize {
        self.items
    }

    #[inline]
    pub(crate) fn item_size(&self) -> usize {
        self.item_size
    }
}

/// Queues and the whole. `self` owns a live handle.
impl RawSet {
    pub(crate) fn find(self: &Arc<Self>, name: &CStr) -> Result<RawQueue> {
        let mut queue = ptr::null_mut();
        // SAFETY: see the head of this block; the text and the output live through the call (shf_queue.h,
        // "shf_queue_find").
        let code = unsafe { ffi::shf_queue_find(self.ptr.as_ptr(), name.as_ptr(), &raw mut queue) };
        self.queue(code, queue)
    }

    pub(crate) fn add(self: &Arc<Self>, name: &CStr) -> Result<RawQueue> {
        let mut queue = ptr::null_mut();
        // SAFETY: as in `find`; the last output may be NULL (shf_queue.h, "shf_queue_add").
        let code =
            unsafe { ffi::shf_queue_add(self.ptr.as_ptr(), name.as_ptr(), &raw mut queue, ptr::null_mut()) };
        self.queue(code, queue)
    }

    pub(crate) fn count(&self) -> u32 {
        // SAFETY: see the head of this block (shf_queue.h, "shf_queue_count").
        unsafe { ffi::shf_queue_count(self.ptr.as_ptr()) }
    }

    pub(crate) fn at(self: &Arc<Self>, index: u32) -> Result<RawQueue> {
        let mut queue = ptr::null_mut();
        // SAFETY: see the head of this block; any number is a legal index (shf_queue.h, "shf_queue_at").
        let code = unsafe { ffi::shf_queue_at(self.ptr.as_ptr(), index, &raw mut queue) };
        self.queue(code, queue)
    }

    fn queue(self: &Arc<Self>, code: c_int, queue: *mut ffi::shf_queue) -> Result<RawQueue> {
        done(code)?;
        let ptr = NonNull::new(queue).ok_or_else(|| unexpected(Outcome::Ok))?;
        Ok(RawQueue { set: Arc::clone(self), ptr })
    }

    pub(crate) fn reset(&self) -> Result<()> {
        // SAFETY: see the head of this block (shf_queue.h, "shf_queue_set_reset").
        done(unsafe { ffi::shf_queue_set_reset(self.ptr.as_ptr()) })
    }

    pub(crate) fn recover(&self) -> Result<()> {
        // SAFETY: see the head of this block (shf_queue.h, "shf_queue_set_recover").
        done(unsafe { ffi::shf_queue_set_recover(self.ptr.as_ptr()) })
    }

    /// The report, also of an inconsistent set. An error only if the count itself could not be made.
    pub(crate) fn check(&self) -> Result<(ffi::shf_queue_report, String)> {
        let mut report = ffi::shf_queue_report {
            size: struct_size::<ffi::shf_queue_report>(),
            queues: 0,
            items: 0,
            in_queues: 0,
            held: 0,
            dead: 0,
            problems: 0,
            first: [0; 256],
        };
        // SAFETY: see the head of this block; the output's size is set (shf_queue.h, "shf_queue_set_check").
        let code = unsafe { ffi::shf_queue_set_check(self.ptr.as_ptr(), &raw mut report) };
        if code != ffi::SHF_ERR_CORRUPT || report.problems == 0 {
            done(code)?;
        }
        let first = sentence(&report.first);
        Ok((report, first))
    }

    pub(crate) fn batch(&self, capacity: usize) -> Result<RawBatch<'_>> {
        let mut batch = ptr::null_mut();
        let wanted = u32::try_from(capacity).unwrap_or(u32::MAX);
        // SAFETY: see the head of this block (shf_queue.h, "shf_batch_new").
        done(unsafe { ffi::shf_batch_new(self.ptr.as_ptr(), wanted, &raw mut batch) })?;
        let ptr = NonNull::new(batch).ok_or_else(|| unexpected(Outcome::Ok))?;
        Ok(RawBatch { set: self, ptr, numbers: ptr::null(), len: 0, capacity })
    }

    #[cold]
    fn other_set(&self, what: &str) -> Error {
        let message = format!(
            "{}: the {what} belongs to another handle; use it with the queues of the `QueueSet` it is from",
            self.path().display()
        );
        Error::local(ffi::SHF_ERR_INVALID_ITEM, "queue", message)
    }
}

/// One queue, and the handle that it belongs to, which stays open.
#[derive(Clone)]
pub(crate) struct RawQueue {
    set: Arc<RawSet>,
    ptr: NonNull<ffi::shf_queue>,
}

// SAFETY: shf_queue.h, "THREADS": every function may be called from any thread; the queue lives as long as the handle.
unsafe impl Send for RawQueue {}
// SAFETY: as above, and concurrently.
unsafe impl Sync for RawQueue {}

/// `self` has a queue of an open handle.
impl RawQueue {
    #[inline]
    pub(crate) fn set(&self) -> &Arc<RawSet> {
        &self.set
    }

    pub(crate) fn name(&self) -> String {
        // SAFETY: see the head of this block (shf_queue.h, "shf_queue_name").
        let name = unsafe { ffi::shf_queue_name(self.ptr.as_ptr()) };
        // SAFETY: NUL-terminated, valid while the handle is open.
        unsafe { text_of(name) }
    }

    pub(crate) fn index(&self) -> u32 {
        // SAFETY: see the head of this block (shf_queue.h, "shf_queue_index").
        unsafe { ffi::shf_queue_index(self.ptr.as_ptr()) }
    }

    /// The item that `call` fills in on `SHF_OK`; `None` for `SHF_NOT_FOUND`.
    ///
    /// # Safety
    /// `call` passes its argument to a function that pulls through this handle.
    #[inline]
    unsafe fn pulled(&self, call: impl FnOnce(*mut ffi::shf_item) -> c_int) -> Result<Option<RawItem<'_>>> {
        let mut item = MaybeUninit::uninit();
        if found(call(item.as_mut_ptr()))? {
            // SAFETY: `SHF_OK`: the item is filled in (the caller's promise).
            let item = unsafe { item.assume_init() };
            Ok(Some(RawItem { set: &self.set, item }))
        } else {
            Ok(None)
        }
    }

    #[inline]
    pub(crate) fn pull(&self) -> Result<Option<RawItem<'_>>> {
        // SAFETY: see the head of this block; the output lives through the call (shf_queue.h, "shf_queue_pull").
        let call = |item| unsafe { ffi::shf_queue_pull(self.ptr.as_ptr(), item) };
        // SAFETY: it pulls through this handle.
        unsafe { self.pulled(call) }
    }

    #[inline]
    pub(crate) fn pull_wait(&self, nanoseconds: u64) -> Result<Option<RawItem<'_>>> {
        // SAFETY: as in `pull` (shf_queue.h, "shf_queue_pull_wait").
        let call = |item| unsafe { ffi::shf_queue_pull_wait(self.ptr.as_ptr(), nanoseconds, item) };
        // SAFETY: it pulls through this handle.
        unsafe { self.pulled(call) }
    }

    /// After an error the item is dropped: it goes home.
    #[inline]
    pub(crate) fn push(&self, mut item: RawItem<'_>) -> Result<()> {
        if !ptr::eq(item.set, &raw const *self.set) {
            return Err(self.set.other_set("item"));
        }
        // SAFETY: see the head of this block; the item is one of this handle (just compared), and used up by the call,
        // or still held after an error, which its `Drop` sees by its data (shf_queue.h, "shf_queue_push").
        done(unsafe { ffi::shf_queue_push(self.ptr.as_ptr(), &raw mut item.item) })
    }

    #[inline]
    pub(crate) fn exchange<'f>(
        &self,
        mut item: RawItem<'_>,
        from: &'f RawQueue,
    ) -> Result<Option<RawItem<'f>>> {
        if !ptr::eq(item.set, &raw const *self.set) {
            return Err(self.set.other_set("item"));
        }
        if !Arc::ptr_eq(&self.set, &from.set) {
            return Err(self.other_queue(from));
        }
        // SAFETY: as in `push`; both queues belong to this handle (shf_queue.h, "shf_queue_exchange").
        let code =
            unsafe { ffi::shf_queue_exchange(self.ptr.as_ptr(), &raw mut item.item, from.ptr.as_ptr()) };
        if !found(code)? {
            return Ok(None); // pushed: the data is NULL, and `Drop` has nothing to do
        }
        let pulled = item.item;
        item.item.data = ptr::null_mut();
        Ok(Some(RawItem { set: &from.set, item: pulled }))
    }

    /// How many items came into the empty batch.
    #[inline]
    pub(crate) fn pull_many(&self, batch: &mut RawBatch<'_>, n: usize) -> Result<usize> {
        self.owns(batch)?;
        let Some(n) = batch.at_most(n) else { return Ok(0) };
        // SAFETY: see the head of this block; a live batch of this handle, borrowed exclusively (shf_queue.h,
        // "shf_queue_pull_many").
        let code = unsafe { ffi::shf_queue_pull_many(self.ptr.as_ptr(), batch.ptr.as_ptr(), n) };
        batch.filled(code)
    }

    #[inline]
    pub(crate) fn pull_many_wait(
        &self,
        batch: &mut RawBatch<'_>,
        n: usize,
        nanoseconds: u64,
    ) -> Result<usize> {
        self.owns(batch)?;
        let Some(n) = batch.at_most(n) else { return Ok(0) };
        // SAFETY: as in `pull_many` (shf_queue.h, "shf_queue_pull_many_wait").
        let code =
            unsafe { ffi::shf_queue_pull_many_wait(self.ptr.as_ptr(), batch.ptr.as_ptr(), n, nanoseconds) };
        batch.filled(code)
    }

    #[inline]
    pub(crate) fn push_many(&self, batch: &mut RawBatch<'_>) -> Result<()> {
        self.owns(batch)?;
        // SAFETY: as in `pull_many` (shf_queue.h, "shf_queue_push_many").
        let code = unsafe { ffi::shf_queue_push_many(self.ptr.as_ptr(), batch.ptr.as_ptr()) };
        done(batch.changed(code))
    }

    #[inline]
    pub(crate) fn exchange_many(&self, batch: &mut RawBatch<'_>, from: &RawQueue, n: usize) -> Result<usize> {
        self.owns(batch)?;
        if !Arc::ptr_eq(&self.set, &from.set) {
            return Err(self.other_queue(from));
        }
        let Some(n) = batch.at_most(n) else { return self.push_many(batch).map(|()| 0) };
        // SAFETY: as in `pull_many`; both queues belong to this handle (shf_queue.h, "shf_queue_exchange_many").
        let code = unsafe {
            ffi::shf_queue_exchange_many(self.ptr.as_ptr(), batch.ptr.as_ptr(), from.ptr.as_ptr(), n)
        };
        batch.filled(code)
    }

    #[inline]
    fn owns(&self, batch: &RawBatch<'_>) -> Result<()> {
        if ptr::eq(batch.set, &raw const *self.set) { Ok(()) } else { Err(self.set.other_set("batch")) }
    }

    #[cold]
    fn other_queue(&self, queue: &RawQueue) -> Error {
        let message = format!(
            "{}: the queue {} belongs to another handle; take both from the same `QueueSet`",
            self.set.path().display(),
            queue.name().escape_debug()
        );
        Error::local(ffi::SHF_ERR_INVALID, "queue", message)
    }

    /// Which of the queues is not empty; `None`: all stayed empty. All must belong to `set`.
    pub(crate) fn wait_any<'q>(
        set: &RawSet,
        queues: impl Iterator<Item = &'q RawQueue>,
        nanoseconds: u64,
    ) -> Result<Option<usize>> {
        let mut pointers = Vec::with_capacity(queues.size_hint().0);
        for queue in queues {
            if !ptr::eq(set, &raw const *queue.set) {
                return Err(queue.other_queue(queue));
            }
            pointers.push(queue.ptr.as_ptr());
        }
        if pointers.is_empty() {
            let message = format!("{}: wait_any was given no queue", set.path().display());
            return Err(Error::local(ffi::SHF_ERR_INVALID, "wait_any", message));
        }
        let count = u32::try_from(pointers.len()).unwrap_or(u32::MAX);
        let mut which = 0;
        // SAFETY: `count` pointers to queues of one open handle (just compared); the array and the output live through
        // the call (shf_queue.h, "shf_queue_wait_any").
        let code = unsafe { ffi::shf_queue_wait_any(pointers.as_ptr(), count, nanoseconds, &raw mut which) };
        Ok(found(code)?.then_some(which as usize))
    }

    pub(crate) fn wait_fd(&self) -> Result<BorrowedFd<'_>> {
        let mut fd = -1;
        // SAFETY: see the head of this block; the output lives through the call (shf_queue.h, "shf_queue_wait_fd").
        done(unsafe { ffi::shf_queue_wait_fd(self.ptr.as_ptr(), &raw mut fd) })?;
        if fd < 0 {
            return Err(unexpected(Outcome::Ok));
        }
        // SAFETY: the descriptor is valid while the handle is open, at least as long as `self` is borrowed, and not -1.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    pub(crate) fn len(&self) -> Result<u64> {
        let mut len = 0;
        // SAFETY: see the head of this block (shf_queue.h, "shf_queue_len").
        done(unsafe { ffi::shf_queue_len(self.ptr.as_ptr(), &raw mut len) })?;
        Ok(len)
    }

    pub(crate) fn stats(&self) -> Result<ffi::shf_queue_stats> {
        let mut stats = ffi::shf_queue_stats {
            size: struct_size::<ffi::shf_queue_stats>(),
            sleepers: 0,
            len: 0,
            capacity: 0,
            pushed: 0,
            pulled: 0,
            returned: 0,
            recoveries: 0,
        };
        // SAFETY: see the head of this block; the output's size is set (shf_queue.h, "shf_queue_stats").
        done(unsafe { ffi::shf_queue_stats(self.ptr.as_ptr(), &raw mut stats) })?;
        Ok(stats)
    }

    pub(crate) fn drain_to(&self, to: &RawQueue) -> Result<u64> {
        if !Arc::ptr_eq(&self.set, &to.set) {
            return Err(self.other_queue(to));
        }
        let mut moved = 0;
        // SAFETY: see the head of this block; both queues belong to this handle (shf_queue.h, "shf_queue_drain").
        done(unsafe { ffi::shf_queue_drain(self.ptr.as_ptr(), to.ptr.as_ptr(), &raw mut moved) })?;
        Ok(moved)
    }
}

/// An item that a handle holds. Not pushed, it goes home in `Drop`.
pub(crate) struct RawItem<'q> {
    set: &'q RawSet,
    /// Its data is NULL once it is used up; nobody has the value then, but its `Drop`.
    item: ffi::shf_item,
}

// SAFETY: shf_queue.h, "THREADS": every function may be called from any thread, and an item has one owner.
unsafe impl Send for RawItem<'_> {}
// SAFETY: a shared item can only be read, and nobody writes its bytes meanwhile.
unsafe impl Sync for RawItem<'_> {}

impl Drop for RawItem<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.item.data.is_null() {
            self.go_home();
        }
    }
}

impl RawItem<'_> {
    #[inline(never)]
    fn go_home(&mut self) {
        // SAFETY: the set is open as long as it is borrowed, and the item is one of this handle, or was: then the call
        // refuses it (shf_queue.h, "shf_item_return"). What cannot be given back now goes home when the handle closes.
        unsafe { ffi::shf_item_return(self.set.ptr.as_ptr(), &raw mut self.item) };
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: a held item's data are `item_size` bytes inside of the mapping, which is there while the handle is
        // open, and nobody else's meanwhile; they are borrowed from `self` (shf_queue.h, "struct shf_item").
        unsafe { slice::from_raw_parts(self.item.data.cast(), self.set.item_size) }
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.item.data.cast(), self.set.item_size) }
    }

    #[inline]
    pub(crate) fn number(&self) -> usize {
        self.item.number as usize
    }

    #[inline]
    pub(crate) fn home(&self) -> usize {
        self.item.home as usize
    }
}

/// Owns one `shf_batch *`. Its items go home in `Drop`.
pub(crate) struct RawBatch<'q> {
    set: &'q RawSet,
    ptr: NonNull<ffi::shf_batch>,
    /// What `shf_batch_numbers` and `shf_batch_count` say: asked once after each call that changes them.
    numbers: *const u32,
    len: usize,
    capacity: usize,
}

// SAFETY: shf_queue.h, "THREADS": every function may be called from any thread, and a batch has one owner.
unsafe impl Send for RawBatch<'_> {}
// SAFETY: a shared batch can only be read.
unsafe impl Sync for RawBatch<'_> {}

impl Drop for RawBatch<'_> {
    fn drop(&mut self) {
        // SAFETY: the last call on a live batch, whose handle is open as long as it is borrowed (shf_queue.h,
        // "shf_batch_free").
        unsafe { ffi::shf_batch_free(self.ptr.as_ptr()) }
    }
}

/// `self` owns a live batch of an open handle.
impl<'q> RawBatch<'q> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many items it may take of `n`, in C's form, where 0 would mean all; `None`: none.
    #[inline]
    fn at_most(&self, n: usize) -> Option<u32> {
        u32::try_from(n.min(self.capacity)).ok().filter(|&n| n != 0)
    }

    /// Asks what is in it, whatever the code of the call that changed the batch is. Passes the code on.
    #[inline]
    fn changed(&mut self, code: c_int) -> c_int {
        // SAFETY: see the head of this block (shf_queue.h, "shf_batch_count").
        self.len = unsafe { ffi::shf_batch_count(self.ptr.as_ptr()) } as usize;
        // SAFETY: as above (shf_queue.h, "shf_batch_numbers").
        self.numbers = unsafe { ffi::shf_batch_numbers(self.ptr.as_ptr()) };
        code
    }

    #[inline]
    pub(crate) fn numbers(&self) -> &[u32] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the private array of the batch, `len` numbers long, which no call changes while `self` is borrowed
        // (shf_queue.h, "shf_batch_numbers").
        unsafe { slice::from_raw_parts(self.numbers, self.len) }
    }

    #[inline]
    fn filled(&mut self, code: c_int) -> Result<usize> {
        found(self.changed(code)).map(|_| self.len)
    }

    /// Where the bytes of the i-th item lie.
    #[inline]
    fn data(&self, index: usize) -> Option<NonNull<u8>> {
        let number = *self.numbers().get(index)?;
        // SAFETY: the engine has seen that the number is below the number of items before it came into the batch, and
        // all items lie inside of the mapping, a stride apart (shf_queue.h, "shf_batch_numbers").
        Some(unsafe { self.set.data.add(number as usize * self.set.stride) })
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let data = self.data(index)?;
        // SAFETY: a held item's data are `item_size` bytes inside of the mapping, which is there while the handle is
        // open, and nobody else's meanwhile; they are borrowed from `self` (shf_queue.h, "shf_batch_numbers").
        Some(unsafe { slice::from_raw_parts(data.as_ptr(), self.set.item_size) })
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let data = self.data(index)?;
        // SAFETY: as in `get`; borrowed exclusively.
        Some(unsafe { slice::from_raw_parts_mut(data.as_ptr(), self.set.item_size) })
    }

    /// The first item, on its own from now on.
    pub(crate) fn take(&mut self) -> Option<RawItem<'q>> {
        let mut item = MaybeUninit::uninit();
        // SAFETY: see the head of this block; the output lives through the call (shf_queue.h, "shf_batch_take").
        let code = unsafe { ffi::shf_batch_take(self.ptr.as_ptr(), item.as_mut_ptr()) };
        if !matches!(found(self.changed(code)), Ok(true)) {
            return None;
        }
        // SAFETY: `SHF_OK`: the item is filled in.
        let item = unsafe { item.assume_init() };
        Some(RawItem { set: self.set, item })
    }

    pub(crate) fn slices_mut(&mut self) -> SlicesMut<'_> {
        let range = 0..self.len;
        SlicesMut { batch: self, range, bytes: PhantomData }
    }
}

/// The bytes of each item of a batch, exclusively.
pub(crate) struct SlicesMut<'b> {
    /// Only asked where the items lie.
    batch: &'b RawBatch<'b>,
    range: Range<usize>,
    bytes: PhantomData<&'b mut [u8]>,
}

impl<'b> SlicesMut<'b> {
    /// # Safety
    /// Each index at most once.
    #[inline]
    unsafe fn at(&self, index: usize) -> Option<&'b mut [u8]> {
        let data = self.batch.data(index)?;
        // SAFETY: as in `RawBatch::get`; the batch is borrowed exclusively for `'b`, and the caller gives each index once. No
        // two items of a batch are the same (Q1 of queue.c) as long as those who write the file run shf's code: the trust
        // that `QueueSet` names.
        Some(unsafe { slice::from_raw_parts_mut(data.as_ptr(), self.batch.set.item_size) })
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Option<&'b mut [u8]> {
        // SAFETY: the range gives each index once, from whichever end.
        self.range.next().and_then(|index| unsafe { self.at(index) })
    }

    #[inline]
    pub(crate) fn next_back(&mut self) -> Option<&'b mut [u8]> {
        // SAFETY: as in `next`.
        self.range.next_back().and_then(|index| unsafe { self.at(index) })
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }
}
