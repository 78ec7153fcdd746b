//! Many keys in one call of the engine: what the caller has becomes arrays in C's form, part by part, on the stack.

use std::{
    ffi::{c_int, c_void},
    marker::PhantomData,
    mem::MaybeUninit,
    slice,
};

use super::{RawTable, SHF_OK, as_void, done, failed, reserve};
use crate::{
    error::{Error, Result},
    ffi,
    uid::AnyUid,
    values::{Values, ends_of_lengths},
};

/// So many keys go into one call: a multiple of what the engine works on at once (shf.h, "many keys at once"), and
/// few enough for the first-level cache together with what the call touches.
pub(crate) const PART: usize = 128;

/// A buffer that is too small grows for the keys that follow, too, but not by more than this.
const AHEAD: usize = 64 << 10;

const SHF_TRUNCATED: c_int = ffi::SHF_TRUNCATED.cast_signed();

/// Up to [`PART`] keys, pairs or UIDs in C's form. `'a`: of the bytes that they point to.
pub(crate) struct Part<'a, T> {
    items: [MaybeUninit<T>; PART],
    len: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<T: Copy> Part<'_, T> {
    #[inline]
    pub(crate) fn new() -> Self {
        Part { items: [const { MaybeUninit::uninit() }; PART], len: 0, bytes: PhantomData }
    }

    /// Takes the items, or the first [`PART`] of them, and tells how many.
    #[inline]
    fn fill(&mut self, items: impl Iterator<Item = T>) -> usize {
        let mut len = 0;
        for (place, item) in self.items.iter_mut().zip(items) {
            place.write(item);
            len += 1;
        }
        self.len = len;
        len
    }

    fn items(&self) -> &[T] {
        let first: *const T = self.items.as_ptr().cast();
        // SAFETY: `len` is 0 or was set by `fill`, which wrote so many items, from the first on.
        unsafe { slice::from_raw_parts(first, self.len) }
    }
}

impl<'a> Part<'a, ffi::shf_bytes> {
    #[inline]
    pub(crate) fn keys<K: AsRef<[u8]>>(&mut self, keys: &'a [K]) {
        self.fill(keys.iter().map(|key| bytes(key.as_ref())));
    }
}

impl<'a> Part<'a, ffi::shf_pair> {
    #[inline]
    pub(crate) fn pairs<K: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, pairs: &'a [(K, V)]) {
        self.fill(
            pairs
                .iter()
                .map(|(key, value)| ffi::shf_pair { key: bytes(key.as_ref()), value: bytes(value.as_ref()) }),
        );
    }
}

impl Part<'_, u32> {
    /// The plain UIDs before the first checked one; how many.
    #[inline]
    pub(crate) fn plain<U: Copy + Into<AnyUid>>(&mut self, uids: &[U]) -> usize {
        self.fill(uids.iter().map_while(|&uid| match uid.into() {
            AnyUid::Plain(uid) => Some(uid.to_u32()),
            AnyUid::Checked(_) => None,
        }))
    }
}

impl Part<'_, u64> {
    /// The checked UIDs before the first plain one; how many.
    #[inline]
    pub(crate) fn checked<U: Copy + Into<AnyUid>>(&mut self, uids: &[U]) -> usize {
        self.fill(uids.iter().map_while(|&uid| match uid.into() {
            AnyUid::Plain(_) => None,
            AnyUid::Checked(uid) => Some(uid.to_u64()),
        }))
    }
}

#[inline]
fn bytes(bytes: &[u8]) -> ffi::shf_bytes {
    ffi::shf_bytes { data: as_void(bytes), len: bytes.len() }
}

/// Empties the values, and makes room for `count` lengths.
pub(crate) fn prepare(values: &mut Values, count: usize) -> Result<()> {
    values.clear();
    reserve_lengths(values.buffers().1, count)
}

#[inline]
fn reserve_lengths(ends: &mut Vec<usize>, count: usize) -> Result<()> {
    ends.try_reserve(count).map_err(|_| {
        let message = format!("no memory for the lengths of {count} values");
        Error::local(ffi::SHF_ERR_NO_MEMORY, "buffer", message)
    })
}

/// What a packed call fills: from `data` on values, into `lens` their lengths, into `done` how many.
struct Room<'r> {
    data: *mut c_void,
    cap: usize,
    lens: *mut usize,
    done: &'r mut usize,
}

/// Appends the values of `count` keys: `call(from, room)` gives those of the keys from index `from` on, again with a
/// larger buffer as long as they do not fit. After an error there are no values.
///
/// # Safety
/// `call` passes the room on to a packed function of shf.h, with the `count - from` keys from `from` on.
unsafe fn append(
    values: &mut Values,
    count: usize,
    call: impl FnMut(usize, Room<'_>) -> c_int,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let result = unsafe { append_to(values.buffers(), count, call) };
    if result.is_err() {
        values.clear(); // there may be lengths where ends belong
    }
    result
}

/// # Safety
/// As [`append`].
unsafe fn append_to(
    (bytes, ends): (&mut Vec<u8>, &mut Vec<usize>),
    count: usize,
    mut call: impl FnMut(usize, Room<'_>) -> c_int,
) -> Result<()> {
    reserve_lengths(ends, count)?; // nothing to do after `prepare`
    let first = ends.len();
    loop {
        let from = ends.len();
        let left = count - (from - first);
        let (spare, lens) = (bytes.spare_capacity_mut(), ends.spare_capacity_mut());
        let mut done = 0;
        let room = Room {
            data: spare.as_mut_ptr().cast(),
            cap: spare.len(),
            lens: lens.as_mut_ptr().cast(),
            done: &mut done,
        };
        let code = call(count - left, room);
        // Beside the `done` values the length of the one that did not fit is known.
        let known = match code {
            SHF_OK if done == left => done,
            SHF_TRUNCATED if done < left => done + 1,
            _ => return Err(failed(code)),
        };
        // SAFETY: `known` is at most `left`, for which room was made, and the engine has set so many lengths (shf.h,
        // "shf_table_get_many_packed").
        unsafe { ends.set_len(from + known) };
        let need = if code == SHF_TRUNCATED { ends.pop() } else { None };
        let end = ends_of_lengths(ends, from);
        if end > bytes.capacity() || need.is_some_and(|need| need <= bytes.capacity() - end) {
            return Err(failed(code)); // it fits: asking again would not end
        }
        // SAFETY: at most the capacity (just compared); and the engine wrote the values one behind the other, without
        // gaps, so the sum of their lengths is initialised (shf.h, "shf_table_get_many_packed").
        unsafe { bytes.set_len(end) };
        let Some(need) = need else { return Ok(()) };
        reserve(bytes, need.saturating_mul(left - done).min(AHEAD).max(need))?;
    }
}

/// Many keys at once. As in `raw`, `self` owns a live handle; the items of a part point to slices that live at least
/// as long as the part.
impl RawTable {
    /// Appends the keys' values.
    pub(crate) fn get_many(&self, keys: &Part<'_, ffi::shf_bytes>, values: &mut Values) -> Result<()> {
        let (table, keys) = (self.ptr.as_ptr(), keys.items());
        let call = |from: usize, Room { data, cap, lens, done }: Room<'_>| {
            let keys = &keys[from..];
            // SAFETY: see the head of this block; the room is `append`'s.
            unsafe { ffi::shf_table_get_many_packed(table, keys.len(), keys.as_ptr(), data, cap, lens, done) }
        };
        // SAFETY: it is one of the packed functions, with the keys from `from` on.
        unsafe { append(values, keys.len(), call) }
    }

    pub(crate) fn get_many_by_uid(&self, uids: &Part<'_, u32>, values: &mut Values) -> Result<()> {
        let (table, uids) = (self.ptr.as_ptr(), uids.items());
        let call = |from: usize, Room { data, cap, lens, done }: Room<'_>| {
            let uids = &uids[from..];
            // SAFETY: see the head of this block; the room is `append`'s.
            unsafe {
                ffi::shf_table_get_many_by_uid_packed(table, uids.len(), uids.as_ptr(), data, cap, lens, done)
            }
        };
        // SAFETY: it is one of the packed functions, with the UIDs from `from` on.
        unsafe { append(values, uids.len(), call) }
    }

    pub(crate) fn get_many_by_checked_uid(&self, uids: &Part<'_, u64>, values: &mut Values) -> Result<()> {
        let (table, uids) = (self.ptr.as_ptr(), uids.items());
        let call = |from: usize, Room { data, cap, lens, done }: Room<'_>| {
            let (count, uids) = (uids.len() - from, uids[from..].as_ptr());
            // SAFETY: see the head of this block; the room is `append`'s.
            unsafe {
                ffi::shf_table_get_many_by_checked_uid_packed(table, count, uids, data, cap, lens, done)
            }
        };
        // SAFETY: it is one of the packed functions, with the UIDs from `from` on.
        unsafe { append(values, uids.len(), call) }
    }

    /// How many pairs were put, and the error if these are not all.
    pub(crate) fn put_many(&self, pairs: &Part<'_, ffi::shf_pair>) -> (usize, Result<()>) {
        let pairs = pairs.items();
        let mut put = 0;
        // SAFETY: see the head of this block (shf.h, "shf_table_put_many").
        let code =
            unsafe { ffi::shf_table_put_many(self.ptr.as_ptr(), pairs.len(), pairs.as_ptr(), &raw mut put) };
        (put, done(code))
    }

    /// How many of the keys were there. Some may be removed when it fails.
    pub(crate) fn remove_many(&self, keys: &Part<'_, ffi::shf_bytes>) -> Result<usize> {
        let keys = keys.items();
        let mut removed = 0;
        // SAFETY: see the head of this block; the last output may be NULL (shf.h, "shf_table_del_many").
        done(unsafe {
            ffi::shf_table_del_many(
                self.ptr.as_ptr(),
                keys.len(),
                keys.as_ptr(),
                &raw mut removed,
                std::ptr::null_mut(),
            )
        })?;
        Ok(removed)
    }
}
