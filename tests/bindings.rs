//! The checked-in bindings are what bindgen makes of `shf.h` today. `SHF_BLESS=1 cargo test --test bindings` rewrites
//! them.
//!
//! Without libclang there is nothing to compare with: skipped with a printed line on a developer's machine, but a
//! failure where `SHF_BINDINGS=generate` or `CI` promises one. A CI job that has none says `SHF_BINDINGS=checked-in`.

use std::{env, fs, panic, path::Path};

#[path = "../src/ffi/generate.rs"]
mod generate;

/// The generated text, or why there can be none.
fn generated(root: &Path) -> Result<String, String> {
    clang_sys::load()?;
    panic::catch_unwind(|| generate::generate(root)).map_err(|_| "bindgen panicked".to_string())?
}

/// The lines that differ, with their numbers.
fn differences(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = format!("@@ line {} @@\n", head + 1);
    for line in &old[head..old.len() - tail] {
        text.extend(["-", line, "\n"]);
    }
    for line in &new[head..new.len() - tail] {
        text.extend(["+", line, "\n"]);
    }
    text
}

#[test]
fn the_checked_in_bindings_have_not_fallen_behind_the_header() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("src/ffi/bindings.rs");
    let mode = env::var("SHF_BINDINGS").unwrap_or_default();
    let new = match generated(root) {
        Ok(text) => text,
        Err(why) => {
            let promised = mode == "generate" || (env::var_os("CI").is_some() && mode != "checked-in");
            assert!(!promised, "no bindings to compare with: {why}");
            eprintln!("SKIPPED: the checked-in bindings were not compared, libclang is missing ({why})");
            return;
        }
    };
    if env::var_os("SHF_BLESS").is_some() {
        fs::write(&path, new).expect("the bindings can be written");
        return;
    }
    let old = fs::read_to_string(&path).expect("the checked-in bindings");
    assert!(
        old == new,
        "src/ffi/bindings.rs differs from what shf.h gives; `SHF_BLESS=1 cargo test --test bindings` rewrites it\n{}",
        differences(&old, &new)
    );
}

#[test]
fn the_header_and_the_package_have_one_version() {
    assert_eq!(shf::version(), env!("CARGO_PKG_VERSION"));
}
