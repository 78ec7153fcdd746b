//! Raw declarations of `shf.h`, made by bindgen: at build time where libclang is there, else the copy in
//! `bindings.rs`, which `tests/bindings.rs` keeps equal. No code of our own lives here.

#![allow(unsafe_code)] // declarations of C functions
#![allow(
    dead_code,
    missing_docs,
    missing_debug_implementations,
    non_camel_case_types,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
