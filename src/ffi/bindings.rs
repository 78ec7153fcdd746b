pub type shf_update_fn = ::core::option::Option<
    unsafe extern "C" fn(
        context: *mut ::core::ffi::c_void,
        old: *const shf_bytes,
        desired: *mut shf_bytes,
    ) -> ::core::ffi::c_int,
>;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_error_info {
    pub code: ::core::ffi::c_int,
    pub os_error: ::core::ffi::c_int,
    pub place: *const ::core::ffi::c_char,
    pub path: *const ::core::ffi::c_char,
    pub message: *const ::core::ffi::c_char,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_table {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_table_options {
    pub size: u32,
    pub mode: u32,
    pub max_bytes: u64,
    pub fixed_key: u32,
    pub fixed_value: u32,
    pub lock_timeout_ms: u32,
    pub hash: u32,
    pub flags: u32,
    pub reserved: u32,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_bytes {
    pub data: *const ::core::ffi::c_void,
    pub len: usize,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_value {
    pub data: *mut ::core::ffi::c_void,
    pub cap: usize,
    pub len: usize,
    pub code: ::core::ffi::c_int,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_pair {
    pub key: shf_bytes,
    pub value: shf_bytes,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_table_stats {
    pub size: u32,
    pub handles: u32,
    pub keys: u64,
    pub file_bytes: u64,
    pub max_bytes: u64,
    pub free_bytes: u64,
    pub segments: u64,
    pub index_bytes: u64,
    pub record_bytes: u64,
    pub garbage_bytes: u64,
    pub large_values: u64,
    pub large_bytes: u64,
    pub stashed_keys: u64,
    pub recoveries: u64,
    pub max_depth: u32,
    pub load_percent: u32,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_table_report {
    pub size: u32,
    pub structure_only: u32,
    pub keys: u64,
    pub pages: u64,
    pub leaked_pages: u64,
    pub problems: u64,
    pub first: [::core::ffi::c_char; 256usize],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_queue_set {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_queue {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_batch {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_queue_options {
    pub size: u32,
    pub items: u32,
    pub item_size: u32,
    pub mode: u32,
    pub lock_timeout_ms: u32,
    pub queue_count: u32,
    pub queues: *const *const ::core::ffi::c_char,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_item {
    pub data: *mut ::core::ffi::c_void,
    pub number: u32,
    pub place: u32,
    pub owner: u32,
    pub home: u32,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_queue_stats {
    pub size: u32,
    pub sleepers: u32,
    pub len: u64,
    pub capacity: u64,
    pub pushed: u64,
    pub pulled: u64,
    pub returned: u64,
    pub recoveries: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct shf_queue_report {
    pub size: u32,
    pub queues: u32,
    pub items: u64,
    pub in_queues: u64,
    pub held: u64,
    pub dead: u64,
    pub problems: u64,
    pub first: [::core::ffi::c_char; 256usize],
}
pub const SHF_VERSION_MAJOR: u32 = 0;
pub const SHF_VERSION_MINOR: u32 = 1;
pub const SHF_VERSION_PATCH: u32 = 0;
pub const SHF_OK: u32 = 0;
pub const SHF_NOT_FOUND: u32 = 1;
pub const SHF_EXISTS: u32 = 2;
pub const SHF_TRUNCATED: u32 = 3;
pub const SHF_UNCHANGED: u32 = 4;
pub const SHF_STOPPED: u32 = 5;
pub const SHF_ERR_INVALID: i32 = -1;
pub const SHF_ERR_EXISTS: i32 = -2;
pub const SHF_ERR_NOT_FOUND: i32 = -3;
pub const SHF_ERR_READ_ONLY: i32 = -4;
pub const SHF_ERR_NO_SPACE: i32 = -5;
pub const SHF_ERR_FULL: i32 = -6;
pub const SHF_ERR_TOO_LONG: i32 = -7;
pub const SHF_ERR_WRONG_LENGTH: i32 = -8;
pub const SHF_ERR_NOT_A_COUNTER: i32 = -9;
pub const SHF_ERR_TIMEOUT: i32 = -10;
pub const SHF_ERR_CORRUPT: i32 = -11;
pub const SHF_ERR_INCOMPATIBLE: i32 = -12;
pub const SHF_ERR_UNCLEAN: i32 = -13;
pub const SHF_ERR_BUSY: i32 = -14;
pub const SHF_ERR_ADDRESS_SPACE: i32 = -15;
pub const SHF_ERR_FORKED: i32 = -16;
pub const SHF_ERR_PERMISSION: i32 = -17;
pub const SHF_ERR_INVALID_PATH: i32 = -18;
pub const SHF_ERR_IO: i32 = -19;
pub const SHF_ERR_UNSUPPORTED: i32 = -20;
pub const SHF_ERR_NO_MEMORY: i32 = -21;
pub const SHF_ERR_INVALID_ITEM: i32 = -22;
pub const SHF_CREATE: u32 = 1;
pub const SHF_EXCL: u32 = 2;
pub const SHF_RDONLY: u32 = 4;
pub const SHF_HASH_DEFAULT: u32 = 0;
pub const SHF_HASH_SIPHASH13: u32 = 1;
pub const SHF_HASH_FOLDED: u32 = 2;
pub const SHF_OPTION_HUGE_PAGES: u32 = 1;
pub const SHF_NO_VALUE: i32 = -1;
pub const SHF_SHARDS: u32 = 256;
pub const SHF_QUEUES_MAX: u32 = 255;
pub const SHF_QUEUE_NAME_MAX: u32 = 63;
pub const SHF_ITEMS_MAX: u32 = 16777216;
pub const SHF_ITEM_SIZE_MAX: u32 = 1073741824;
pub const SHF_BATCH_FAST: u32 = 1024;
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_error_info"][::core::mem::size_of::<shf_error_info>() - 32usize];
    ["Alignment of shf_error_info"][::core::mem::align_of::<shf_error_info>() - 8usize];
    [
        "Offset of field: shf_error_info::code",
    ][::core::mem::offset_of!(shf_error_info, code) - 0usize];
    [
        "Offset of field: shf_error_info::os_error",
    ][::core::mem::offset_of!(shf_error_info, os_error) - 4usize];
    [
        "Offset of field: shf_error_info::place",
    ][::core::mem::offset_of!(shf_error_info, place) - 8usize];
    [
        "Offset of field: shf_error_info::path",
    ][::core::mem::offset_of!(shf_error_info, path) - 16usize];
    [
        "Offset of field: shf_error_info::message",
    ][::core::mem::offset_of!(shf_error_info, message) - 24usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_table_options"][::core::mem::size_of::<shf_table_options>() - 40usize];
    [
        "Alignment of shf_table_options",
    ][::core::mem::align_of::<shf_table_options>() - 8usize];
    [
        "Offset of field: shf_table_options::size",
    ][::core::mem::offset_of!(shf_table_options, size) - 0usize];
    [
        "Offset of field: shf_table_options::mode",
    ][::core::mem::offset_of!(shf_table_options, mode) - 4usize];
    [
        "Offset of field: shf_table_options::max_bytes",
    ][::core::mem::offset_of!(shf_table_options, max_bytes) - 8usize];
    [
        "Offset of field: shf_table_options::fixed_key",
    ][::core::mem::offset_of!(shf_table_options, fixed_key) - 16usize];
    [
        "Offset of field: shf_table_options::fixed_value",
    ][::core::mem::offset_of!(shf_table_options, fixed_value) - 20usize];
    [
        "Offset of field: shf_table_options::lock_timeout_ms",
    ][::core::mem::offset_of!(shf_table_options, lock_timeout_ms) - 24usize];
    [
        "Offset of field: shf_table_options::hash",
    ][::core::mem::offset_of!(shf_table_options, hash) - 28usize];
    [
        "Offset of field: shf_table_options::flags",
    ][::core::mem::offset_of!(shf_table_options, flags) - 32usize];
    [
        "Offset of field: shf_table_options::reserved",
    ][::core::mem::offset_of!(shf_table_options, reserved) - 36usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_bytes"][::core::mem::size_of::<shf_bytes>() - 16usize];
    ["Alignment of shf_bytes"][::core::mem::align_of::<shf_bytes>() - 8usize];
    [
        "Offset of field: shf_bytes::data",
    ][::core::mem::offset_of!(shf_bytes, data) - 0usize];
    [
        "Offset of field: shf_bytes::len",
    ][::core::mem::offset_of!(shf_bytes, len) - 8usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_value"][::core::mem::size_of::<shf_value>() - 32usize];
    ["Alignment of shf_value"][::core::mem::align_of::<shf_value>() - 8usize];
    [
        "Offset of field: shf_value::data",
    ][::core::mem::offset_of!(shf_value, data) - 0usize];
    [
        "Offset of field: shf_value::cap",
    ][::core::mem::offset_of!(shf_value, cap) - 8usize];
    [
        "Offset of field: shf_value::len",
    ][::core::mem::offset_of!(shf_value, len) - 16usize];
    [
        "Offset of field: shf_value::code",
    ][::core::mem::offset_of!(shf_value, code) - 24usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_pair"][::core::mem::size_of::<shf_pair>() - 32usize];
    ["Alignment of shf_pair"][::core::mem::align_of::<shf_pair>() - 8usize];
    ["Offset of field: shf_pair::key"][::core::mem::offset_of!(shf_pair, key) - 0usize];
    [
        "Offset of field: shf_pair::value",
    ][::core::mem::offset_of!(shf_pair, value) - 16usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_table_stats"][::core::mem::size_of::<shf_table_stats>() - 112usize];
    [
        "Alignment of shf_table_stats",
    ][::core::mem::align_of::<shf_table_stats>() - 8usize];
    [
        "Offset of field: shf_table_stats::size",
    ][::core::mem::offset_of!(shf_table_stats, size) - 0usize];
    [
        "Offset of field: shf_table_stats::handles",
    ][::core::mem::offset_of!(shf_table_stats, handles) - 4usize];
    [
        "Offset of field: shf_table_stats::keys",
    ][::core::mem::offset_of!(shf_table_stats, keys) - 8usize];
    [
        "Offset of field: shf_table_stats::file_bytes",
    ][::core::mem::offset_of!(shf_table_stats, file_bytes) - 16usize];
    [
        "Offset of field: shf_table_stats::max_bytes",
    ][::core::mem::offset_of!(shf_table_stats, max_bytes) - 24usize];
    [
        "Offset of field: shf_table_stats::free_bytes",
    ][::core::mem::offset_of!(shf_table_stats, free_bytes) - 32usize];
    [
        "Offset of field: shf_table_stats::segments",
    ][::core::mem::offset_of!(shf_table_stats, segments) - 40usize];
    [
        "Offset of field: shf_table_stats::index_bytes",
    ][::core::mem::offset_of!(shf_table_stats, index_bytes) - 48usize];
    [
        "Offset of field: shf_table_stats::record_bytes",
    ][::core::mem::offset_of!(shf_table_stats, record_bytes) - 56usize];
    [
        "Offset of field: shf_table_stats::garbage_bytes",
    ][::core::mem::offset_of!(shf_table_stats, garbage_bytes) - 64usize];
    [
        "Offset of field: shf_table_stats::large_values",
    ][::core::mem::offset_of!(shf_table_stats, large_values) - 72usize];
    [
        "Offset of field: shf_table_stats::large_bytes",
    ][::core::mem::offset_of!(shf_table_stats, large_bytes) - 80usize];
    [
        "Offset of field: shf_table_stats::stashed_keys",
    ][::core::mem::offset_of!(shf_table_stats, stashed_keys) - 88usize];
    [
        "Offset of field: shf_table_stats::recoveries",
    ][::core::mem::offset_of!(shf_table_stats, recoveries) - 96usize];
    [
        "Offset of field: shf_table_stats::max_depth",
    ][::core::mem::offset_of!(shf_table_stats, max_depth) - 104usize];
    [
        "Offset of field: shf_table_stats::load_percent",
    ][::core::mem::offset_of!(shf_table_stats, load_percent) - 108usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_table_report"][::core::mem::size_of::<shf_table_report>() - 296usize];
    [
        "Alignment of shf_table_report",
    ][::core::mem::align_of::<shf_table_report>() - 8usize];
    [
        "Offset of field: shf_table_report::size",
    ][::core::mem::offset_of!(shf_table_report, size) - 0usize];
    [
        "Offset of field: shf_table_report::structure_only",
    ][::core::mem::offset_of!(shf_table_report, structure_only) - 4usize];
    [
        "Offset of field: shf_table_report::keys",
    ][::core::mem::offset_of!(shf_table_report, keys) - 8usize];
    [
        "Offset of field: shf_table_report::pages",
    ][::core::mem::offset_of!(shf_table_report, pages) - 16usize];
    [
        "Offset of field: shf_table_report::leaked_pages",
    ][::core::mem::offset_of!(shf_table_report, leaked_pages) - 24usize];
    [
        "Offset of field: shf_table_report::problems",
    ][::core::mem::offset_of!(shf_table_report, problems) - 32usize];
    [
        "Offset of field: shf_table_report::first",
    ][::core::mem::offset_of!(shf_table_report, first) - 40usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_queue_options"][::core::mem::size_of::<shf_queue_options>() - 32usize];
    [
        "Alignment of shf_queue_options",
    ][::core::mem::align_of::<shf_queue_options>() - 8usize];
    [
        "Offset of field: shf_queue_options::size",
    ][::core::mem::offset_of!(shf_queue_options, size) - 0usize];
    [
        "Offset of field: shf_queue_options::items",
    ][::core::mem::offset_of!(shf_queue_options, items) - 4usize];
    [
        "Offset of field: shf_queue_options::item_size",
    ][::core::mem::offset_of!(shf_queue_options, item_size) - 8usize];
    [
        "Offset of field: shf_queue_options::mode",
    ][::core::mem::offset_of!(shf_queue_options, mode) - 12usize];
    [
        "Offset of field: shf_queue_options::lock_timeout_ms",
    ][::core::mem::offset_of!(shf_queue_options, lock_timeout_ms) - 16usize];
    [
        "Offset of field: shf_queue_options::queue_count",
    ][::core::mem::offset_of!(shf_queue_options, queue_count) - 20usize];
    [
        "Offset of field: shf_queue_options::queues",
    ][::core::mem::offset_of!(shf_queue_options, queues) - 24usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_item"][::core::mem::size_of::<shf_item>() - 24usize];
    ["Alignment of shf_item"][::core::mem::align_of::<shf_item>() - 8usize];
    [
        "Offset of field: shf_item::data",
    ][::core::mem::offset_of!(shf_item, data) - 0usize];
    [
        "Offset of field: shf_item::number",
    ][::core::mem::offset_of!(shf_item, number) - 8usize];
    [
        "Offset of field: shf_item::place",
    ][::core::mem::offset_of!(shf_item, place) - 12usize];
    [
        "Offset of field: shf_item::owner",
    ][::core::mem::offset_of!(shf_item, owner) - 16usize];
    [
        "Offset of field: shf_item::home",
    ][::core::mem::offset_of!(shf_item, home) - 20usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_queue_stats"][::core::mem::size_of::<shf_queue_stats>() - 56usize];
    [
        "Alignment of shf_queue_stats",
    ][::core::mem::align_of::<shf_queue_stats>() - 8usize];
    [
        "Offset of field: shf_queue_stats::size",
    ][::core::mem::offset_of!(shf_queue_stats, size) - 0usize];
    [
        "Offset of field: shf_queue_stats::sleepers",
    ][::core::mem::offset_of!(shf_queue_stats, sleepers) - 4usize];
    [
        "Offset of field: shf_queue_stats::len",
    ][::core::mem::offset_of!(shf_queue_stats, len) - 8usize];
    [
        "Offset of field: shf_queue_stats::capacity",
    ][::core::mem::offset_of!(shf_queue_stats, capacity) - 16usize];
    [
        "Offset of field: shf_queue_stats::pushed",
    ][::core::mem::offset_of!(shf_queue_stats, pushed) - 24usize];
    [
        "Offset of field: shf_queue_stats::pulled",
    ][::core::mem::offset_of!(shf_queue_stats, pulled) - 32usize];
    [
        "Offset of field: shf_queue_stats::returned",
    ][::core::mem::offset_of!(shf_queue_stats, returned) - 40usize];
    [
        "Offset of field: shf_queue_stats::recoveries",
    ][::core::mem::offset_of!(shf_queue_stats, recoveries) - 48usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of shf_queue_report"][::core::mem::size_of::<shf_queue_report>() - 304usize];
    [
        "Alignment of shf_queue_report",
    ][::core::mem::align_of::<shf_queue_report>() - 8usize];
    [
        "Offset of field: shf_queue_report::size",
    ][::core::mem::offset_of!(shf_queue_report, size) - 0usize];
    [
        "Offset of field: shf_queue_report::queues",
    ][::core::mem::offset_of!(shf_queue_report, queues) - 4usize];
    [
        "Offset of field: shf_queue_report::items",
    ][::core::mem::offset_of!(shf_queue_report, items) - 8usize];
    [
        "Offset of field: shf_queue_report::in_queues",
    ][::core::mem::offset_of!(shf_queue_report, in_queues) - 16usize];
    [
        "Offset of field: shf_queue_report::held",
    ][::core::mem::offset_of!(shf_queue_report, held) - 24usize];
    [
        "Offset of field: shf_queue_report::dead",
    ][::core::mem::offset_of!(shf_queue_report, dead) - 32usize];
    [
        "Offset of field: shf_queue_report::problems",
    ][::core::mem::offset_of!(shf_queue_report, problems) - 40usize];
    [
        "Offset of field: shf_queue_report::first",
    ][::core::mem::offset_of!(shf_queue_report, first) - 48usize];
};
unsafe extern "C" {
    pub fn shf_last_error() -> *const shf_error_info;
    pub fn shf_strerror(code: ::core::ffi::c_int) -> *const ::core::ffi::c_char;
    pub fn shf_version() -> *const ::core::ffi::c_char;
    pub fn shf_table_open(
        path: *const ::core::ffi::c_char,
        flags: ::core::ffi::c_uint,
        options: *const shf_table_options,
        table: *mut *mut shf_table,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_anonymous(
        name: *const ::core::ffi::c_char,
        options: *const shf_table_options,
        table: *mut *mut shf_table,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_from_fd(
        fd: ::core::ffi::c_int,
        options: *const shf_table_options,
        table: *mut *mut shf_table,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_fd(table: *const shf_table) -> ::core::ffi::c_int;
    pub fn shf_table_close(table: *mut shf_table);
    pub fn shf_unlink(path: *const ::core::ffi::c_char) -> ::core::ffi::c_int;
    pub fn shf_table_path(table: *const shf_table) -> *const ::core::ffi::c_char;
    pub fn shf_table_is_read_only(table: *const shf_table) -> ::core::ffi::c_int;
    pub fn shf_table_options(
        table: *const shf_table,
        options: *mut shf_table_options,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_put(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        val: *const ::core::ffi::c_void,
        vlen: usize,
        uid: *mut u32,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_insert(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        val: *const ::core::ffi::c_void,
        vlen: usize,
        uid: *mut u32,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_replace(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        val: *const ::core::ffi::c_void,
        vlen: usize,
        old: *mut ::core::ffi::c_void,
        cap: usize,
        old_len: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_get(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        buf: *mut ::core::ffi::c_void,
        cap: usize,
        vlen: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_contains(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_del(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_take(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        buf: *mut ::core::ffi::c_void,
        cap: usize,
        vlen: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_del_if_equal(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        val: *const ::core::ffi::c_void,
        vlen: usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_add(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        delta: i64,
        previous: *mut i64,
    ) -> ::core::ffi::c_int;
    pub static shf_absent: [::core::ffi::c_char; 1usize];
    pub fn shf_table_cas(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        expected: *const shf_bytes,
        desired: *const shf_bytes,
        buf: *mut ::core::ffi::c_void,
        cap: usize,
        vlen: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_update(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        fn_: shf_update_fn,
        context: *mut ::core::ffi::c_void,
        uid: *mut u32,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_get_many(
        table: *mut shf_table,
        n: usize,
        keys: *const shf_bytes,
        out: *mut shf_value,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_get_many_packed(
        table: *mut shf_table,
        n: usize,
        keys: *const shf_bytes,
        buf: *mut ::core::ffi::c_void,
        cap: usize,
        lens: *mut usize,
        done: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_get_many_by_uid(
        table: *mut shf_table,
        n: usize,
        uids: *const u32,
        out: *mut shf_value,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_get_many_by_uid_packed(
        table: *mut shf_table,
        n: usize,
        uids: *const u32,
        buf: *mut ::core::ffi::c_void,
        cap: usize,
        lens: *mut usize,
        done: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_get_many_by_checked_uid_packed(
        table: *mut shf_table,
        n: usize,
        uids: *const u64,
        buf: *mut ::core::ffi::c_void,
        cap: usize,
        lens: *mut usize,
        done: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_put_many(
        table: *mut shf_table,
        n: usize,
        pairs: *const shf_pair,
        done: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_del_many(
        table: *mut shf_table,
        n: usize,
        keys: *const shf_bytes,
        removed: *mut usize,
        done: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_uid(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        uid: *mut u32,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_checked_uid(
        table: *mut shf_table,
        key: *const ::core::ffi::c_void,
        klen: usize,
        uid: *mut u64,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_get_by_uid(
        table: *mut shf_table,
        uid: u32,
        buf: *mut ::core::ffi::c_void,
        cap: usize,
        vlen: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_key_by_uid(
        table: *mut shf_table,
        uid: u32,
        buf: *mut ::core::ffi::c_void,
        cap: usize,
        klen: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_put_by_uid(
        table: *mut shf_table,
        uid: u32,
        val: *const ::core::ffi::c_void,
        vlen: usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_del_by_uid(table: *mut shf_table, uid: u32) -> ::core::ffi::c_int;
    pub fn shf_table_get_by_checked_uid(
        table: *mut shf_table,
        uid: u64,
        buf: *mut ::core::ffi::c_void,
        cap: usize,
        vlen: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_key_by_checked_uid(
        table: *mut shf_table,
        uid: u64,
        buf: *mut ::core::ffi::c_void,
        cap: usize,
        klen: *mut usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_put_by_checked_uid(
        table: *mut shf_table,
        uid: u64,
        val: *const ::core::ffi::c_void,
        vlen: usize,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_del_by_checked_uid(
        table: *mut shf_table,
        uid: u64,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_next(
        table: *mut shf_table,
        position: *mut u64,
        key: *mut ::core::ffi::c_void,
        kcap: usize,
        klen: *mut usize,
        val: *mut ::core::ffi::c_void,
        vcap: usize,
        vlen: *mut usize,
        uid: *mut u32,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_len(table: *mut shf_table, len: *mut u64) -> ::core::ffi::c_int;
    pub fn shf_table_clear(table: *mut shf_table) -> ::core::ffi::c_int;
    pub fn shf_table_collapse(
        table: *mut shf_table,
        bytes: *mut u64,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_stats(
        table: *mut shf_table,
        stats: *mut shf_table_stats,
    ) -> ::core::ffi::c_int;
    pub fn shf_table_check(
        table: *mut shf_table,
        report: *mut shf_table_report,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_set_open(
        path: *const ::core::ffi::c_char,
        flags: ::core::ffi::c_uint,
        options: *const shf_queue_options,
        set: *mut *mut shf_queue_set,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_set_anonymous(
        name: *const ::core::ffi::c_char,
        options: *const shf_queue_options,
        set: *mut *mut shf_queue_set,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_set_from_fd(
        fd: ::core::ffi::c_int,
        options: *const shf_queue_options,
        set: *mut *mut shf_queue_set,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_set_close(set: *mut shf_queue_set);
    pub fn shf_queue_set_fd(set: *const shf_queue_set) -> ::core::ffi::c_int;
    pub fn shf_queue_set_path(set: *const shf_queue_set) -> *const ::core::ffi::c_char;
    pub fn shf_queue_set_is_read_only(set: *const shf_queue_set) -> ::core::ffi::c_int;
    pub fn shf_queue_set_items(set: *const shf_queue_set) -> u32;
    pub fn shf_queue_set_item_size(set: *const shf_queue_set) -> u32;
    pub fn shf_queue_set_data(set: *const shf_queue_set) -> *mut ::core::ffi::c_void;
    pub fn shf_queue_set_stride(set: *const shf_queue_set) -> u64;
    pub fn shf_queue_find(
        set: *mut shf_queue_set,
        name: *const ::core::ffi::c_char,
        queue: *mut *mut shf_queue,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_add(
        set: *mut shf_queue_set,
        name: *const ::core::ffi::c_char,
        queue: *mut *mut shf_queue,
        created: *mut ::core::ffi::c_int,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_count(set: *mut shf_queue_set) -> u32;
    pub fn shf_queue_at(
        set: *mut shf_queue_set,
        i: u32,
        queue: *mut *mut shf_queue,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_name(queue: *const shf_queue) -> *const ::core::ffi::c_char;
    pub fn shf_queue_index(queue: *const shf_queue) -> u32;
    pub fn shf_queue_set_of(queue: *const shf_queue) -> *mut shf_queue_set;
    pub fn shf_queue_pull(
        queue: *mut shf_queue,
        item: *mut shf_item,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_pull_wait(
        queue: *mut shf_queue,
        timeout_ns: u64,
        item: *mut shf_item,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_push(
        queue: *mut shf_queue,
        item: *mut shf_item,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_exchange(
        to: *mut shf_queue,
        item: *mut shf_item,
        from: *mut shf_queue,
    ) -> ::core::ffi::c_int;
    pub fn shf_item_return(
        set: *mut shf_queue_set,
        item: *mut shf_item,
    ) -> ::core::ffi::c_int;
    pub fn shf_batch_new(
        set: *mut shf_queue_set,
        capacity: u32,
        batch: *mut *mut shf_batch,
    ) -> ::core::ffi::c_int;
    pub fn shf_batch_free(batch: *mut shf_batch);
    pub fn shf_batch_count(batch: *const shf_batch) -> u32;
    pub fn shf_batch_capacity(batch: *const shf_batch) -> u32;
    pub fn shf_batch_data(batch: *const shf_batch, i: u32) -> *mut ::core::ffi::c_void;
    pub fn shf_batch_numbers(batch: *const shf_batch) -> *const u32;
    pub fn shf_batch_take(
        batch: *mut shf_batch,
        item: *mut shf_item,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_pull_many(
        queue: *mut shf_queue,
        batch: *mut shf_batch,
        n: u32,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_pull_many_wait(
        queue: *mut shf_queue,
        batch: *mut shf_batch,
        n: u32,
        timeout_ns: u64,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_push_many(
        queue: *mut shf_queue,
        batch: *mut shf_batch,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_exchange_many(
        to: *mut shf_queue,
        batch: *mut shf_batch,
        from: *mut shf_queue,
        n: u32,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_wait_any(
        queues: *const *mut shf_queue,
        count: u32,
        timeout_ns: u64,
        which: *mut u32,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_wait_fd(
        queue: *mut shf_queue,
        fd: *mut ::core::ffi::c_int,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_len(queue: *mut shf_queue, len: *mut u64) -> ::core::ffi::c_int;
    pub fn shf_queue_stats(
        queue: *mut shf_queue,
        stats: *mut shf_queue_stats,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_drain(
        from: *mut shf_queue,
        to: *mut shf_queue,
        moved: *mut u64,
    ) -> ::core::ffi::c_int;
    pub fn shf_queue_set_reset(set: *mut shf_queue_set) -> ::core::ffi::c_int;
    pub fn shf_queue_set_recover(set: *mut shf_queue_set) -> ::core::ffi::c_int;
    pub fn shf_queue_set_check(
        set: *mut shf_queue_set,
        report: *mut shf_queue_report,
    ) -> ::core::ffi::c_int;
}
