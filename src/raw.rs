//! Owning handles of the C engine. The only module, besides the declarations in `ffi`, with `unsafe`.
//!
//! What it turns into types: one owner per `shf_table *`; return codes into [`Outcome`] or [`Error`]; buffers
//! that grow until a value fits; panics that must not cross C.

#![allow(unsafe_code)] // calls into the C engine; every block cites the section of shf.h that it relies on

use std::{
    any::Any,
    ffi::{CStr, OsStr, c_char, c_int, c_void},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    ptr::{self, NonNull},
    slice,
};

use crate::{
    error::{Detail, Error, Result},
    ffi,
    uid::AnyUid,
};

pub(crate) mod batch;
pub(crate) mod queue;

/// A value up to this length needs no second call and no larger buffer than the stack's.
const SMALL: usize = 512;

/// The positive results of `shf.h`, "RETURN CODES".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    NotFound,
    Exists,
    Truncated,
    Unchanged,
    Stopped,
}

const SHF_OK: c_int = ffi::SHF_OK.cast_signed();
const SHF_NOT_FOUND: c_int = ffi::SHF_NOT_FOUND.cast_signed();
const SHF_EXISTS: c_int = ffi::SHF_EXISTS.cast_signed();

/// A return code as an outcome, or this thread's last error. Call it right after the C function, on its thread.
#[inline]
fn outcome(code: c_int) -> Result<Outcome> {
    match u32::try_from(code) {
        Ok(ffi::SHF_OK) => Ok(Outcome::Ok),
        Ok(ffi::SHF_NOT_FOUND) => Ok(Outcome::NotFound),
        Ok(ffi::SHF_EXISTS) => Ok(Outcome::Exists),
        Ok(ffi::SHF_TRUNCATED) => Ok(Outcome::Truncated),
        Ok(ffi::SHF_UNCHANGED) => Ok(Outcome::Unchanged),
        Ok(ffi::SHF_STOPPED) => Ok(Outcome::Stopped),
        _ => Err(last_error(code)),
    }
}

/// True for `SHF_OK`, false for `SHF_NOT_FOUND`.
#[inline]
fn found(code: c_int) -> Result<bool> {
    match code {
        SHF_OK => Ok(true),
        SHF_NOT_FOUND => Ok(false),
        _ => Err(failed(code)),
    }
}

/// Only `SHF_OK` or an error.
#[inline]
fn done(code: c_int) -> Result<()> {
    if code == SHF_OK { Ok(()) } else { Err(failed(code)) }
}

/// The error behind a code that is none of the outcomes that the call may have.
#[cold]
#[inline(never)]
fn failed(code: c_int) -> Error {
    outcome(code).map_or_else(|error| error, unexpected)
}

/// An outcome that `shf.h` does not list for the call: the engine and this crate do not belong together.
#[cold]
fn unexpected(outcome: Outcome) -> Error {
    Error::local(
        ffi::SHF_ERR_INCOMPATIBLE,
        "raw",
        format!("the engine returned {outcome:?}, which is no outcome of this call"),
    )
}

#[cold]
fn last_error(code: c_int) -> Error {
    // SAFETY: shf.h, "shf_last_error": may be called at any time, never fails.
    let info = unsafe { ffi::shf_last_error() };
    // SAFETY: shf.h, "shf_last_error": never NULL; valid until this thread's next shf call, and this thread makes
    // none that changes it before the fields are copied.
    let info = unsafe { *info };
    if info.code != code {
        // SAFETY: shf.h, "shf_strerror": a text for any code, known or not, never NULL.
        let text = unsafe { ffi::shf_strerror(code) };
        // SAFETY: as above: a NUL-terminated constant.
        let text = unsafe { text_of(text) };
        return Error::from_detail(Detail::new(code, text, String::new(), PathBuf::new(), 0));
    }
    // SAFETY: shf.h, "shf_error_info": NUL-terminated, valid until this thread's next shf call.
    let message = unsafe { text_of(info.message) };
    // SAFETY: as above.
    let place = unsafe { text_of(info.place) };
    // SAFETY: as above; copied in the same statement.
    let path = PathBuf::from(OsStr::from_bytes(unsafe { bytes_of(info.path) }));
    Error::from_detail(Detail::new(code, message, place, path, info.os_error))
}

/// The bytes of a text that the engine handed out; none for NULL.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated text that lives, unchanged, for `'a`.
unsafe fn bytes_of<'a>(text: *const c_char) -> &'a [u8] {
    if text.is_null() {
        return b"";
    }
    // SAFETY: not NULL, and the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// A copy of a text that the engine handed out.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated text that lives through this call.
unsafe fn text_of(text: *const c_char) -> String {
    // SAFETY: the caller's promise; the bytes are copied before this returns.
    String::from_utf8_lossy(unsafe { bytes_of(text) }).into_owned()
}

/// The text in an array that ends in zeros, as a report has one.
fn sentence(text: &[c_char]) -> String {
    let bytes: Vec<u8> =
        text.iter().map(|&byte| byte.to_le_bytes()[0]).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The engine's version, "0.1.0".
pub(crate) fn version() -> String {
    // SAFETY: shf.h, "shf_version": takes nothing, returns a constant text.
    let text = unsafe { ffi::shf_version() };
    // SAFETY: as above: a NUL-terminated constant.
    unsafe { text_of(text) }
}

pub(crate) fn unlink(path: &CStr) -> Result<()> {
    // SAFETY: shf.h, "shf_unlink": `path` is a NUL-terminated text that lives through the call.
    done(unsafe { ffi::shf_unlink(path.as_ptr()) })
}

/// Makes room for `need` bytes in an empty buffer, or says that there is no memory.
fn reserve(out: &mut Vec<u8>, need: usize) -> Result<()> {
    out.try_reserve(need).map_err(|_| {
        Error::local(ffi::SHF_ERR_NO_MEMORY, "buffer", format!("no memory for a value of {need} bytes"))
    })
}

/// Marks the first `len` bytes of the buffer as filled.
///
/// # Safety
/// The engine has initialised the first `len` bytes of the buffer, or `len` is beyond its capacity.
unsafe fn filled(out: &mut Vec<u8>, len: usize) -> Result<()> {
    if len > out.capacity() {
        return Err(unexpected(Outcome::Truncated));
    }
    // SAFETY: `len` is at most the capacity (just compared), and the bytes are initialised (the caller's promise).
    unsafe { out.set_len(len) };
    Ok(())
}

/// Runs `call(buffer, capacity, &mut length)` with ever larger buffers until the value fits. A value may grow
/// between two calls, so this is a loop. False: there is none, and `out` is empty.
///
/// # Safety
/// `call` passes its arguments to a function of shf.h that fills a buffer: it writes at most `capacity` bytes,
/// and on `SHF_OK` has written exactly `length` ("OUTPUTS").
unsafe fn fill(
    out: &mut Vec<u8>,
    mut call: impl FnMut(*mut c_void, usize, &mut usize) -> c_int,
) -> Result<bool> {
    out.clear();
    loop {
        let mut need = 0;
        let spare = out.spare_capacity_mut();
        match outcome(call(spare.as_mut_ptr().cast(), spare.len(), &mut need))? {
            Outcome::NotFound => return Ok(false),
            Outcome::Truncated => reserve(out, need)?,
            Outcome::Ok => {
                // SAFETY: `call` returned `SHF_OK`, so it wrote `need` bytes (the caller's promise).
                unsafe { filled(out, need) }?;
                return Ok(true);
            }
            other => return Err(unexpected(other)),
        }
    }
}

/// The straight way of [`fill`]: one call. `None`: the buffer was too small, or something is wrong.
///
/// # Safety
/// As [`fill`].
#[inline]
unsafe fn fill_first(
    out: &mut Vec<u8>,
    call: impl FnOnce(*mut c_void, usize, &mut usize) -> c_int,
) -> Option<bool> {
    out.clear();
    let mut need = 0;
    let spare = out.spare_capacity_mut();
    match call(spare.as_mut_ptr().cast(), spare.len(), &mut need) {
        SHF_OK if need <= out.capacity() => {
            // SAFETY: the call returned `SHF_OK`, so it wrote `need` bytes (the caller's promise), and they fit (just
            // compared).
            unsafe { out.set_len(need) };
            Some(true)
        }
        SHF_NOT_FOUND => Some(false),
        _ => None,
    }
}

/// As [`fill`], into a new vector of the right size. Absent: no allocation.
///
/// # Safety
/// As [`fill`].
unsafe fn fetch(mut call: impl FnMut(*mut c_void, usize, &mut usize) -> c_int) -> Result<Option<Vec<u8>>> {
    let mut small = [MaybeUninit::<u8>::uninit(); SMALL];
    let mut need = 0;
    match outcome(call(small.as_mut_ptr().cast(), SMALL, &mut need))? {
        Outcome::NotFound => Ok(None),
        Outcome::Ok => {
            let start: *const u8 = small.as_ptr().cast();
            // SAFETY: `call` returned `SHF_OK`: it wrote `need` bytes, at most SMALL (the caller's promise).
            let bytes = unsafe { slice::from_raw_parts(start, need.min(SMALL)) };
            Ok(Some(bytes.to_vec()))
        }
        Outcome::Truncated => {
            let mut out = Vec::new();
            reserve(&mut out, need)?;
            // SAFETY: the caller's promise, passed on.
            let found = unsafe { fill(&mut out, call) }?;
            Ok(found.then_some(out))
        }
        other => Err(unexpected(other)),
    }
}

fn as_void(bytes: &[u8]) -> *const c_void {
    bytes.as_ptr().cast()
}

fn absent() -> ffi::shf_bytes {
    // Only the address counts (shf.h, "shf_absent"); it is never read.
    ffi::shf_bytes { data: (&raw const ffi::shf_absent).cast(), len: 0 }
}

/// A value or its absence, for `shf_table_cas` and `shf_table_update`. An empty slice may point anywhere, even
/// to the address that means absent: it goes as NULL (shf.h, "shf_absent").
fn maybe(bytes: Option<&[u8]>) -> ffi::shf_bytes {
    match bytes {
        None => absent(),
        Some([]) => ffi::shf_bytes { data: ptr::null(), len: 0 },
        Some(bytes) => ffi::shf_bytes { data: as_void(bytes), len: bytes.len() },
    }
}

/// Options in C's form, all unset.
pub(crate) fn unset_options() -> ffi::shf_table_options {
    ffi::shf_table_options {
        size: struct_size::<ffi::shf_table_options>(),
        mode: 0,
        max_bytes: 0,
        fixed_key: 0,
        fixed_value: 0,
        lock_timeout_ms: 0,
        hash: ffi::SHF_HASH_DEFAULT,
        flags: 0,
        reserved: 0,
    }
}

const fn struct_size<T>() -> u32 {
    assert!(size_of::<T>() < 4096);
    #[allow(clippy::cast_possible_truncation)] // just asserted
    let size = size_of::<T>() as u32;
    size
}

/// The answer of a compare-and-exchange.
pub(crate) enum Cas {
    Exchanged,
    Unchanged(Option<Vec<u8>>),
}

/// The caller's closure of an update: old value or absence in, new value or absence out.
type Step<'f> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'f;

/// What the callback of `shf_table_update` works on.
struct Update<'f> {
    step: &'f mut Step<'f>,
    /// Keeps the bytes alive until the next call or the end of the update.
    desired: Option<Vec<u8>>,
    panic: Option<Box<dyn Any + Send>>,
}

/// The `shf_update_fn` behind every `Table::update`.
///
/// # Safety
/// Only for `shf_table_update`, with a context that points to a live [`Update`] that nobody else uses.
unsafe extern "C" fn update_step(
    context: *mut c_void,
    old: *const ffi::shf_bytes,
    desired: *mut ffi::shf_bytes,
) -> c_int {
    let update: *mut Update<'_> = context.cast();
    // SAFETY: `context` points to the `Update` on the stack of `RawTable::update`, which touches it only after
    // `shf_table_update` has returned (shf.h, "shf_update_fn").
    let update = unsafe { &mut *update };
    // SAFETY: `old` points to a struct that lives through this call (shf.h, "shf_update_fn").
    let old = unsafe { *old };
    let present = if old.data == absent().data {
        None
    } else if old.len == 0 {
        Some(&[][..])
    } else {
        // SAFETY: not absent and not empty: `old` is a private copy of `len` bytes, and nobody changes it while
        // the callback runs (shf.h, "shf_update_fn").
        Some(unsafe { slice::from_raw_parts(old.data.cast::<u8>(), old.len) })
    };
    // A panic must not unwind through C's frames: it is kept, and goes on in `RawTable::update`. The closure is
    // not called again after it, so nobody sees its state half changed but the one who catches the panic.
    match catch_unwind(AssertUnwindSafe(|| (update.step)(present))) {
        Ok(new) => {
            update.desired = new;
            let bytes = maybe(update.desired.as_deref());
            // SAFETY: `desired` points to a struct to be set (shf.h, "shf_update_fn").
            unsafe { desired.write(bytes) };
            0
        }
        Err(panic) => {
            update.panic = Some(panic);
            1
        }
    }
}

/// Owns one `shf_table *`. Closed exactly once, in `Drop`.
pub(crate) struct RawTable {
    ptr: NonNull<ffi::shf_table>,
}

// SAFETY: shf.h, "THREADS": every function that takes a table may be called from any thread; the handle has no
// thread-local state.
unsafe impl Send for RawTable {}
// SAFETY: shf.h, "THREADS": and concurrently; only close must be the last call, and `Drop` is.
unsafe impl Sync for RawTable {}

impl Drop for RawTable {
    fn drop(&mut self) {
        // SAFETY: the last call on a live handle: every `Table` and `Cursor` holds the owner in an `Arc`, and this
        // is its drop (shf.h, "shf_table_close").
        unsafe { ffi::shf_table_close(self.ptr.as_ptr()) }
    }
}

/// Opening.
impl RawTable {
    fn opened(code: c_int, table: *mut ffi::shf_table) -> Result<RawTable> {
        done(code)?;
        NonNull::new(table).map(|ptr| RawTable { ptr }).ok_or_else(|| unexpected(Outcome::Ok))
    }

    pub(crate) fn open(path: &CStr, flags: u32, options: &ffi::shf_table_options) -> Result<RawTable> {
        let mut table = ptr::null_mut();
        // SAFETY: the text, the options (with their size set) and the output live through the call (shf.h,
        // "shf_table_open").
        let code = unsafe { ffi::shf_table_open(path.as_ptr(), flags, options, &raw mut table) };
        RawTable::opened(code, table)
    }

    pub(crate) fn anonymous(name: &CStr, options: &ffi::shf_table_options) -> Result<RawTable> {
        let mut table = ptr::null_mut();
        // SAFETY: as in `open` (shf.h, "shf_table_anonymous").
        let code = unsafe { ffi::shf_table_anonymous(name.as_ptr(), options, &raw mut table) };
        RawTable::opened(code, table)
    }

    pub(crate) fn from_fd(fd: &OwnedFd, options: &ffi::shf_table_options) -> Result<RawTable> {
        let mut table = ptr::null_mut();
        // SAFETY: as in `open`; the descriptor is open through the call, and the engine takes a duplicate (shf.h,
        // "shf_table_from_fd").
        let code = unsafe { ffi::shf_table_from_fd(fd.as_raw_fd(), options, &raw mut table) };
        RawTable::opened(code, table)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `self` owns a live handle.
        let fd = unsafe { ffi::shf_table_fd(self.ptr.as_ptr()) };
        // SAFETY: the descriptor is valid while the handle is open (shf.h, "shf_table_fd"), which is at least as
        // long as `self` is borrowed; an open handle has one, so it is not -1.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    pub(crate) fn path(&self) -> &Path {
        // SAFETY: `self` owns a live handle; the text is valid while it is open (shf.h, "shf_table_path").
        let path = unsafe { ffi::shf_table_path(self.ptr.as_ptr()) };
        // SAFETY: NUL-terminated, and it lives for as long as `self` is borrowed.
        Path::new(OsStr::from_bytes(unsafe { bytes_of(path) }))
    }

    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: `self` owns a live handle.
        unsafe { ffi::shf_table_is_read_only(self.ptr.as_ptr()) != 0 }
    }

    pub(crate) fn options(&self) -> Result<ffi::shf_table_options> {
        let mut options = unset_options();
        // SAFETY: `self` owns a live handle; the output's size is set (shf.h, "shf_table_options").
        done(unsafe { ffi::shf_table_options(self.ptr.as_ptr(), &raw mut options) })?;
        Ok(options)
    }
}

/// By key. In all of these `self` owns a live handle, and slices are valid for the lengths that are passed.
impl RawTable {
    #[inline]
    pub(crate) fn put(&self, key: &[u8], value: &[u8]) -> Result<u32> {
        let mut uid = 0;
        // SAFETY: see the head of this block (shf.h, "shf_table_put").
        done(unsafe {
            ffi::shf_table_put(
                self.ptr.as_ptr(),
                as_void(key),
                key.len(),
                as_void(value),
                value.len(),
                &raw mut uid,
            )
        })?;
        Ok(uid)
    }

    /// The UID, and whether the key is new.
    #[inline]
    pub(crate) fn insert(&self, key: &[u8], value: &[u8]) -> Result<(u32, bool)> {
        let mut uid = 0;
        // SAFETY: see the head of this block (shf.h, "shf_table_insert").
        let code = unsafe {
            ffi::shf_table_insert(
                self.ptr.as_ptr(),
                as_void(key),
                key.len(),
                as_void(value),
                value.len(),
                &raw mut uid,
            )
        };
        match code {
            SHF_OK => Ok((uid, true)),
            SHF_EXISTS => Ok((uid, false)),
            _ => Err(failed(code)),
        }
    }

    pub(crate) fn replace(&self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>> {
        let call = |buffer, capacity, length: &mut usize| {
            // SAFETY: see the head of this block; the buffer's promise is `fetch`'s (shf.h, "shf_table_replace").
            unsafe {
                ffi::shf_table_replace(
                    self.ptr.as_ptr(),
                    as_void(key),
                    key.len(),
                    as_void(value),
                    value.len(),
                    buffer,
                    capacity,
                    length,
                )
            }
        };
        // SAFETY: shf.h, "shf_table_replace" and "OUTPUTS".
        unsafe { fetch(call) }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        // SAFETY: shf.h, "shf_table_get" and "OUTPUTS".
        unsafe { fetch(|buffer, capacity, length| self.get_step(key, buffer, capacity, length)) }
    }

    /// The straight way is inlined into the user's crate: how many gets overlap in the processor's window decides
    /// their rate, and a call more is a good part of one.
    #[inline]
    pub(crate) fn get_into(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        // SAFETY: shf.h, "shf_table_get" and "OUTPUTS".
        let first = unsafe { fill_first(out, |buffer, cap, len| self.get_step(key, buffer, cap, len)) };
        first.map_or_else(|| self.get_into_again(key, out), Ok)
    }

    /// The buffer was too small, or something is wrong: again, with every outcome looked at.
    #[cold]
    #[inline(never)]
    fn get_into_again(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        // SAFETY: shf.h, "shf_table_get" and "OUTPUTS".
        unsafe { fill(out, |buffer, capacity, length| self.get_step(key, buffer, capacity, length)) }
    }

    /// Only for [`fill_first`], [`fill`] and [`fetch`], whose buffers are valid.
    #[inline]
    fn get_step(&self, key: &[u8], buffer: *mut c_void, capacity: usize, length: &mut usize) -> c_int {
        // SAFETY: see the head of this block; the buffer comes from `fill` or `fetch` (shf.h, "shf_table_get").
        unsafe { ffi::shf_table_get(self.ptr.as_ptr(), as_void(key), key.len(), buffer, capacity, length) }
    }

    #[inline]
    pub(crate) fn contains(&self, key: &[u8]) -> Result<bool> {
        // SAFETY: see the head of this block (shf.h, "shf_table_contains").
        found(unsafe { ffi::shf_table_contains(self.ptr.as_ptr(), as_void(key), key.len()) })
    }

    #[inline]
    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool> {
        // SAFETY: see the head of this block (shf.h, "shf_table_del").
        found(unsafe { ffi::shf_table_del(self.ptr.as_ptr(), as_void(key), key.len()) })
    }

    pub(crate) fn take(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let call = |buffer, capacity, length: &mut usize| {
            // SAFETY: see the head of this block; the buffer's promise is `fetch`'s (shf.h, "shf_table_take").
            unsafe {
                ffi::shf_table_take(self.ptr.as_ptr(), as_void(key), key.len(), buffer, capacity, length)
            }
        };
        // SAFETY: shf.h, "shf_table_take" and "OUTPUTS".
        unsafe { fetch(call) }
    }

    pub(crate) fn remove_if_equal(&self, key: &[u8], value: &[u8]) -> Result<bool> {
        // SAFETY: see the head of this block (shf.h, "shf_table_del_if_equal").
        let code = unsafe {
            ffi::shf_table_del_if_equal(
                self.ptr.as_ptr(),
                as_void(key),
                key.len(),
                as_void(value),
                value.len(),
            )
        };
        match outcome(code)? {
            Outcome::Ok => Ok(true),
            Outcome::NotFound | Outcome::Unchanged => Ok(false),
            other => Err(unexpected(other)),
        }
    }

    pub(crate) fn add(&self, key: &[u8], delta: i64) -> Result<i64> {
        let mut previous = 0;
        // SAFETY: see the head of this block (shf.h, "shf_table_add").
        done(unsafe {
            ffi::shf_table_add(self.ptr.as_ptr(), as_void(key), key.len(), delta, &raw mut previous)
        })?;
        Ok(previous)
    }

    pub(crate) fn compare_exchange(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Cas> {
        let (expected, new) = (maybe(expected), maybe(new));
        let mut present = Vec::new();
        reserve(&mut present, SMALL)?;
        loop {
            let mut need = 0;
            let spare = present.spare_capacity_mut();
            // SAFETY: see the head of this block; `spare` is valid for its length (shf.h, "shf_table_cas").
            let code = unsafe {
                ffi::shf_table_cas(
                    self.ptr.as_ptr(),
                    as_void(key),
                    key.len(),
                    &raw const expected,
                    &raw const new,
                    spare.as_mut_ptr().cast(),
                    spare.len(),
                    &raw mut need,
                )
            };
            match outcome(code)? {
                Outcome::Ok => return Ok(Cas::Exchanged),
                Outcome::Unchanged if need == usize::MAX => return Ok(Cas::Unchanged(None)),
                // Cut off: once more with room. It may succeed by then; that is an answer just as good.
                Outcome::Unchanged if need > present.capacity() => reserve(&mut present, need)?,
                Outcome::Unchanged => {
                    // SAFETY: not cut off, so all `need` bytes were written (shf.h, "shf_table_cas").
                    unsafe { filled(&mut present, need) }?;
                    present.shrink_to_fit();
                    return Ok(Cas::Unchanged(Some(present)));
                }
                other => return Err(unexpected(other)),
            }
        }
    }

    /// The UID if there is a value now, else 0.
    pub(crate) fn update(&self, key: &[u8], step: &mut Step<'_>) -> Result<u32> {
        let mut uid = 0;
        let mut update = Update { step, desired: None, panic: None };
        let context: *mut Update<'_> = &raw mut update;
        // SAFETY: see the head of this block; `context` points to a live `Update`, which is not touched before the
        // call has returned, and `update_step` never unwinds (shf.h, "shf_table_update").
        let code = unsafe {
            ffi::shf_table_update(
                self.ptr.as_ptr(),
                as_void(key),
                key.len(),
                Some(update_step),
                context.cast(),
                &raw mut uid,
            )
        };
        if let Some(panic) = update.panic {
            resume_unwind(panic);
        }
        done(code)?;
        Ok(uid)
    }
}

/// By UID. As above, `self` owns a live handle; any number is a legal UID (shf.h, "by UID").
impl RawTable {
    #[inline]
    pub(crate) fn uid(&self, key: &[u8]) -> Result<Option<u32>> {
        let mut uid = 0;
        // SAFETY: see the head of this block (shf.h, "shf_table_uid").
        let code = unsafe { ffi::shf_table_uid(self.ptr.as_ptr(), as_void(key), key.len(), &raw mut uid) };
        Ok(found(code)?.then_some(uid))
    }

    #[inline]
    pub(crate) fn checked_uid(&self, key: &[u8]) -> Result<Option<u64>> {
        let mut uid = 0;
        // SAFETY: see the head of this block (shf.h, "shf_table_checked_uid").
        let code =
            unsafe { ffi::shf_table_checked_uid(self.ptr.as_ptr(), as_void(key), key.len(), &raw mut uid) };
        Ok(found(code)?.then_some(uid))
    }

    pub(crate) fn get_by_uid(&self, uid: AnyUid) -> Result<Option<Vec<u8>>> {
        // SAFETY: shf.h, "shf_table_get_by_uid" and "OUTPUTS".
        unsafe { fetch(|buffer, capacity, length| self.get_by_uid_step(uid, buffer, capacity, length)) }
    }

    /// As [`get_into`](Self::get_into), the straight way is inlined into the user's crate.
    #[inline]
    pub(crate) fn get_by_uid_into(&self, uid: AnyUid, out: &mut Vec<u8>) -> Result<bool> {
        // SAFETY: shf.h, "shf_table_get_by_uid" and "OUTPUTS".
        let first =
            unsafe { fill_first(out, |buffer, cap, len| self.get_by_uid_step(uid, buffer, cap, len)) };
        first.map_or_else(|| self.get_by_uid_into_again(uid, out), Ok)
    }

    #[cold]
    #[inline(never)]
    fn get_by_uid_into_again(&self, uid: AnyUid, out: &mut Vec<u8>) -> Result<bool> {
        // SAFETY: shf.h, "shf_table_get_by_uid" and "OUTPUTS".
        unsafe { fill(out, |buffer, capacity, length| self.get_by_uid_step(uid, buffer, capacity, length)) }
    }

    /// Only for [`fill_first`], [`fill`] and [`fetch`], whose buffers are valid.
    #[inline]
    fn get_by_uid_step(
        &self,
        uid: AnyUid,
        buffer: *mut c_void,
        capacity: usize,
        length: &mut usize,
    ) -> c_int {
        let table = self.ptr.as_ptr();
        match uid {
            // SAFETY: see the head of this block; the buffer comes from `fill` or `fetch`.
            AnyUid::Plain(uid) => unsafe {
                ffi::shf_table_get_by_uid(table, uid.to_u32(), buffer, capacity, length)
            },
            // SAFETY: as above.
            AnyUid::Checked(uid) => unsafe {
                ffi::shf_table_get_by_checked_uid(table, uid.to_u64(), buffer, capacity, length)
            },
        }
    }

    pub(crate) fn key_by_uid(&self, uid: AnyUid) -> Result<Option<Vec<u8>>> {
        let table = self.ptr.as_ptr();
        let call = |buffer, capacity, length: &mut usize| match uid {
            // SAFETY: see the head of this block; the buffer comes from `fetch`.
            AnyUid::Plain(uid) => unsafe {
                ffi::shf_table_key_by_uid(table, uid.to_u32(), buffer, capacity, length)
            },
            // SAFETY: as above.
            AnyUid::Checked(uid) => unsafe {
                ffi::shf_table_key_by_checked_uid(table, uid.to_u64(), buffer, capacity, length)
            },
        };
        // SAFETY: shf.h, "shf_table_key_by_uid" and "OUTPUTS".
        unsafe { fetch(call) }
    }

    #[inline]
    pub(crate) fn put_by_uid(&self, uid: AnyUid, value: &[u8]) -> Result<bool> {
        let table = self.ptr.as_ptr();
        let code = match uid {
            // SAFETY: see the head of this block (shf.h, "shf_table_put_by_uid").
            AnyUid::Plain(uid) => unsafe {
                ffi::shf_table_put_by_uid(table, uid.to_u32(), as_void(value), value.len())
            },
            // SAFETY: as above.
            AnyUid::Checked(uid) => unsafe {
                ffi::shf_table_put_by_checked_uid(table, uid.to_u64(), as_void(value), value.len())
            },
        };
        found(code)
    }

    #[inline]
    pub(crate) fn remove_by_uid(&self, uid: AnyUid) -> Result<bool> {
        let table = self.ptr.as_ptr();
        let code = match uid {
            // SAFETY: see the head of this block (shf.h, "shf_table_del_by_uid").
            AnyUid::Plain(uid) => unsafe { ffi::shf_table_del_by_uid(table, uid.to_u32()) },
            // SAFETY: as above.
            AnyUid::Checked(uid) => unsafe { ffi::shf_table_del_by_checked_uid(table, uid.to_u64()) },
        };
        found(code)
    }
}

/// The whole table. As above, `self` owns a live handle.
impl RawTable {
    /// The next entry, or `None` at the end. Any number is a legal position.
    pub(crate) fn next(
        &self,
        position: &mut u64,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Result<Option<u32>> {
        key.clear();
        value.clear();
        loop {
            let (mut klen, mut vlen, mut uid) = (0, 0, 0);
            let (kspare, vspare) = (key.spare_capacity_mut(), value.spare_capacity_mut());
            // SAFETY: both buffers are valid for their lengths, and the outputs live through the call (shf.h,
            // "shf_table_next").
            let code = unsafe {
                ffi::shf_table_next(
                    self.ptr.as_ptr(),
                    position,
                    kspare.as_mut_ptr().cast(),
                    kspare.len(),
                    &raw mut klen,
                    vspare.as_mut_ptr().cast(),
                    vspare.len(),
                    &raw mut vlen,
                    &raw mut uid,
                )
            };
            match outcome(code)? {
                Outcome::NotFound => return Ok(None),
                Outcome::Truncated => {
                    reserve(key, klen)?;
                    reserve(value, vlen)?;
                }
                Outcome::Ok => {
                    // SAFETY: `SHF_OK`: `klen` bytes of the key were written ("OUTPUTS").
                    unsafe { filled(key, klen) }?;
                    // SAFETY: and `vlen` bytes of the value.
                    unsafe { filled(value, vlen) }?;
                    return Ok(Some(uid));
                }
                other => return Err(unexpected(other)),
            }
        }
    }

    pub(crate) fn len(&self) -> Result<u64> {
        let mut len = 0;
        // SAFETY: see the head of this block (shf.h, "shf_table_len").
        done(unsafe { ffi::shf_table_len(self.ptr.as_ptr(), &raw mut len) })?;
        Ok(len)
    }

    pub(crate) fn clear(&self) -> Result<()> {
        // SAFETY: see the head of this block (shf.h, "shf_table_clear").
        done(unsafe { ffi::shf_table_clear(self.ptr.as_ptr()) })
    }

    /// The bytes that are in huge pages now.
    pub(crate) fn collapse(&self) -> Result<u64> {
        let mut bytes = 0;
        // SAFETY: see the head of this block (shf.h, "shf_table_collapse").
        done(unsafe { ffi::shf_table_collapse(self.ptr.as_ptr(), &raw mut bytes) })?;
        Ok(bytes)
    }

    pub(crate) fn stats(&self) -> Result<ffi::shf_table_stats> {
        let mut stats = ffi::shf_table_stats {
            size: struct_size::<ffi::shf_table_stats>(),
            handles: 0,
            keys: 0,
            file_bytes: 0,
            max_bytes: 0,
            free_bytes: 0,
            segments: 0,
            index_bytes: 0,
            record_bytes: 0,
            garbage_bytes: 0,
            large_values: 0,
            large_bytes: 0,
            stashed_keys: 0,
            recoveries: 0,
            max_depth: 0,
            load_percent: 0,
        };
        // SAFETY: see the head of this block; the output's size is set (shf.h, "shf_table_stats").
        done(unsafe { ffi::shf_table_stats(self.ptr.as_ptr(), &raw mut stats) })?;
        Ok(stats)
    }

    /// The report, also of an inconsistent table. An error only if the walk itself could not be made.
    pub(crate) fn check(&self) -> Result<(ffi::shf_table_report, String)> {
        let mut report = ffi::shf_table_report {
            size: struct_size::<ffi::shf_table_report>(),
            structure_only: 0,
            keys: 0,
            pages: 0,
            leaked_pages: 0,
            problems: 0,
            first: [0; 256],
        };
        // SAFETY: see the head of this block; the output's size is set (shf.h, "shf_table_check").
        let code = unsafe { ffi::shf_table_check(self.ptr.as_ptr(), &raw mut report) };
        if code != ffi::SHF_ERR_CORRUPT || report.problems == 0 {
            done(code)?;
        }
        let first = sentence(&report.first);
        Ok((report, first))
    }
}
