//! Compiles the C engine and provides the bindings.
//!
//! Environment: `SHF_BINDINGS` = `auto` (default: generate, or fall back to the checked-in ones with a
//! warning) | `generate` (fail without libclang) | `checked-in`; `SHF_WERROR=1`; `SHF_SANITIZE` =
//! `address` | `undefined` | both with a comma (gcc); `DOCS_RS` (no C compiler, no libclang).

use std::{
    env, fs,
    path::{Path, PathBuf},
};

#[cfg(feature = "bindgen")]
#[path = "src/ffi/generate.rs"]
mod generate;

const VARIABLES: [&str; 5] = ["SHF_SANITIZE", "SHF_WERROR", "SHF_BINDINGS", "LIBCLANG_PATH", "DOCS_RS"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/ffi");
    println!("cargo::rerun-if-changed=csrc/include");
    println!("cargo::rerun-if-changed=csrc/src");
    for variable in VARIABLES {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    write_bindings();
    if env::var_os("DOCS_RS").is_none() {
        compile_core();
    }
    export_metadata();
}

fn root() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"))
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"))
}

/// Writes `$OUT_DIR/bindings.rs`, the one file that `src/ffi/mod.rs` includes in every mode.
fn write_bindings() {
    let mode = env::var("SHF_BINDINGS").unwrap_or_default();
    let text = match mode.as_str() {
        "generate" => match try_generate() {
            Ok(text) => text,
            Err(why) => panic!("SHF_BINDINGS=generate, but there are no generated bindings: {why}"),
        },
        "checked-in" => checked_in(),
        "" | "auto" => {
            if env::var_os("DOCS_RS").is_some() || !cfg!(feature = "bindgen") {
                checked_in()
            } else {
                try_generate().unwrap_or_else(|why| {
                    println!(
                        "cargo::warning=shf: using the checked-in bindings ({why}); install libclang, or \
                         disable the feature `bindgen`"
                    );
                    checked_in()
                })
            }
        }
        other => panic!("SHF_BINDINGS={other}: expected auto, generate or checked-in"),
    };
    let path = out_dir().join("bindings.rs");
    if let Err(why) = fs::write(&path, text) {
        panic!("{}: {why}", path.display());
    }
}

fn checked_in() -> String {
    let path = root().join("src/ffi/bindings.rs");
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// bindgen panics when libclang is missing: ask first, and still contain a panic.
#[cfg(feature = "bindgen")]
fn try_generate() -> Result<String, String> {
    clang_sys::load().map_err(|why| one_line(&why))?;
    std::panic::catch_unwind(|| generate::generate(&root()))
        .map_err(|_| "bindgen panicked".to_string())?
        .map_err(|why| one_line(&why))
}

#[cfg(not(feature = "bindgen"))]
fn try_generate() -> Result<String, String> {
    Err("the feature `bindgen` is off".to_string())
}

/// A cargo warning is one line; libclang's search report is long.
#[cfg(feature = "bindgen")]
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(160).collect()
}

fn compile_core() {
    let root = root();
    let sources = sources(&root.join("csrc/src"));
    assert!(!sources.is_empty(), "csrc/src has no C files");
    let opt_level = env::var("OPT_LEVEL").unwrap_or_default();
    let mut build = cc::Build::new();
    build
        .std("gnu11")
        .include(root.join("csrc/include"))
        .include(root.join("csrc/src"))
        .warnings(true)
        .extra_warnings(true)
        .flag_if_supported("-Wshadow")
        .flag_if_supported("-Wconversion")
        .flag_if_supported("-Wstrict-prototypes")
        .flag("-fvisibility=hidden")
        .flag("-pthread")
        .define("_GNU_SOURCE", None);
    if opt_level == "0" {
        build.opt_level(1); // an engine without any optimisation says nothing about the real one
    }
    if env::var("SHF_WERROR").is_ok_and(|value| value == "1") {
        build.warnings_into_errors(true); // CI only: a new compiler must not break users
    }
    if let Ok(kind) = env::var("SHF_SANITIZE")
        && !kind.is_empty()
    {
        build
            .flag(format!("-fsanitize={kind}"))
            .flag("-fno-omit-frame-pointer")
            .flag("-fno-sanitize-recover=all");
        // rustc links with -nodefaultlibs, so the runtime is named; before libc, as it asks for.
        for kind in kind.split(',') {
            match kind {
                "address" => println!("cargo::rustc-link-lib=dylib=asan"),
                "undefined" => println!("cargo::rustc-link-lib=dylib=ubsan"),
                other => panic!("SHF_SANITIZE={other}: expected address, undefined, or both with a comma"),
            }
        }
    }
    build.files(sources).compile("shf");
}

/// All C files of a folder, sorted: the archive must not depend on the order of the directory.
fn sources(folder: &Path) -> Vec<PathBuf> {
    files_ending(folder, "c")
}

fn files_ending(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// Dependents that compile C themselves see `DEP_SHF_INCLUDE`, `DEP_SHF_ROOT` and `DEP_SHF_VERSION`.
fn export_metadata() {
    let include = out_dir().join("include");
    fs::create_dir_all(&include).unwrap_or_else(|why| panic!("{}: {why}", include.display()));
    let folder = root().join("csrc/include");
    for header in files_ending(&folder, "h").into_iter().chain(files_ending(&folder, "hpp")) {
        let name = header.file_name().expect("a file found in a folder has a name");
        fs::copy(&header, include.join(name)).unwrap_or_else(|why| panic!("{}: {why}", header.display()));
    }
    println!("cargo::metadata=include={}", include.display());
    println!("cargo::metadata=root={}", out_dir().display());
    println!("cargo::metadata=version={}", env::var("CARGO_PKG_VERSION").unwrap_or_default());
}
