//! Items as values of a type, without a copy: feature `zerocopy`.

use zerocopy::{ConvertError, FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Batch, Item};
use crate::{
    error::{Error, Result},
    ffi,
};

/// Typed views (feature `zerocopy`).
///
/// `T` is one of the types that any bytes are a value of: integers, arrays of them, and structs with
/// `#[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]`. It lies at the
/// beginning of the item, which must be at least as long. A slice type, as `[u32]`, takes as many elements as fit.
///
/// ```
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[repr(C)]
/// struct Job {
///     id: u64,
///     priority: u32,
///     length: u32,
/// }
///
/// # let set = shf::QueueOptions::new().items(2).item_size(size_of::<Job>()).queues(&["free", "jobs"])
/// #     .anonymous("view")?;
/// # let (free, jobs) = (set.queue("free")?, set.queue("jobs")?);
/// let mut item = free.pull()?.expect("there are two");
/// *item.view_mut::<Job>()? = Job { id: 7, priority: 1, length: 0 };
/// jobs.push(item)?;
///
/// let item = jobs.pull()?.expect("just pushed");
/// assert_eq!(item.view::<Job>()?.id, 7);
/// assert_eq!(item.view::<[u64]>()?.len(), 2);
/// assert!(matches!(item.view::<[u8; 1000]>(), Err(shf::Error::WrongLength(_))));
/// # Ok::<(), shf::Error>(())
/// ```
impl Item<'_> {
    /// The item as a `T`.
    ///
    /// # Errors
    /// [`Error::WrongLength`]: the item is shorter than a `T`. [`Error::Invalid`]: a `T` wants more than 64 bytes'
    /// alignment.
    #[inline]
    pub fn view<T: FromBytes + KnownLayout + Immutable + ?Sized>(&self) -> Result<&T> {
        view(self)
    }

    /// The item as a `T`, to be written.
    ///
    /// # Errors
    /// As [`view`](Item::view).
    #[inline]
    pub fn view_mut<T: FromBytes + IntoBytes + KnownLayout + ?Sized>(&mut self) -> Result<&mut T> {
        view_mut(self)
    }
}

/// Typed views (feature `zerocopy`), as those of [`Item`](Item#method.view).
///
/// ```
/// # let set = shf::QueueOptions::new().items(3).item_size(8).queues(&["free"]).anonymous("views")?;
/// # let free = set.queue("free")?;
/// let mut batch = free.pull_many(3)?;
/// *batch.view_mut::<u64>(2)? = 9;
/// assert_eq!(batch.view::<u64>(2)?, &9);
/// # Ok::<(), shf::Error>(())
/// ```
impl Batch<'_> {
    /// The item at `index` as a `T`.
    ///
    /// # Errors
    /// As [`Item::view`].
    ///
    /// # Panics
    /// Beyond the last item, as `batch[index]` does.
    #[inline]
    #[track_caller]
    pub fn view<T: FromBytes + KnownLayout + Immutable + ?Sized>(&self, index: usize) -> Result<&T> {
        view(&self[index])
    }

    /// The item at `index` as a `T`, to be written.
    ///
    /// # Errors
    /// As [`Item::view`].
    ///
    /// # Panics
    /// Beyond the last item, as `batch[index]` does.
    #[inline]
    #[track_caller]
    pub fn view_mut<T: FromBytes + IntoBytes + KnownLayout + ?Sized>(
        &mut self,
        index: usize,
    ) -> Result<&mut T> {
        view_mut(&mut self[index])
    }
}

#[inline]
fn view<T: FromBytes + KnownLayout + Immutable + ?Sized>(bytes: &[u8]) -> Result<&T> {
    match T::ref_from_prefix(bytes) {
        Ok((value, _)) => Ok(value),
        Err(why) => Err(unfit::<T>(&why, bytes.len())),
    }
}

#[inline]
fn view_mut<T: FromBytes + IntoBytes + KnownLayout + ?Sized>(bytes: &mut [u8]) -> Result<&mut T> {
    let len = bytes.len();
    match T::mut_from_prefix(bytes) {
        Ok((value, _)) => Ok(value),
        Err(why) => Err(unfit::<T>(&why, len)),
    }
}

#[cold]
fn unfit<T: ?Sized>(why: &ConvertError<impl Sized, impl Sized, impl Sized>, len: usize) -> Error {
    let name = std::any::type_name::<T>();
    match why {
        ConvertError::Alignment(_) => Error::local(
            ffi::SHF_ERR_INVALID,
            "view",
            format!("an item begins at a multiple of 64 bytes, which is not enough for a {name}"),
        ),
        ConvertError::Size(_) | ConvertError::Validity(_) => Error::local(
            ffi::SHF_ERR_WRONG_LENGTH,
            "view",
            format!("an item of {len} bytes is too short for a {name}"),
        ),
    }
}
