//! Makes the bindings from `shf.h`. Used by `build.rs` and `tests/bindings.rs` through `#[path]`; not part of
//! the library. Nothing here may make the text depend on the machine: it is compared with `bindings.rs`.

use std::path::Path;

/// The bindings' text for the headers under `root`, or why there is none.
pub(crate) fn generate(root: &Path) -> Result<String, String> {
    let target = bindgen::RustTarget::stable(88, 0).map_err(|why| why.to_string())?;
    bindgen::Builder::default()
        .header(root.join("csrc/include/shf.h").to_string_lossy())
        .allowlist_function("shf_.*")
        .allowlist_type("shf_.*")
        .allowlist_var("SHF_.*|shf_absent")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .use_core()
        .merge_extern_blocks(true)
        .sort_semantically(true)
        .generate_comments(false) // their text varies with the libclang version
        .formatter(bindgen::Formatter::Prettyplease) // rustfmt may be missing, or another one
        .disable_header_comment()
        .rust_target(target)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .generate()
        .map(|bindings| bindings.to_string())
        .map_err(|why| why.to_string())
}
