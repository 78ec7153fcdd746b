//! The C engine's own tests, so that `cargo test` alone runs everything: `make check-fast`, or what `SHF_C_CHECK` names
//! (`check`: all of it, up to three minutes; `none`: nothing, for who runs them anyway, as `.ci/run` does).

use std::{env, path::Path, process::Command};

#[test]
fn the_c_tests_pass() {
    let target = env::var("SHF_C_CHECK").unwrap_or_else(|_| "check-fast".to_string());
    if target == "none" {
        eprintln!("SKIPPED: SHF_C_CHECK=none");
        return;
    }
    let build = Path::new(env!("CARGO_TARGET_TMPDIR")).join("csrc-check");
    let output = Command::new("make")
        .args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/csrc"), "-j2", &target])
        .arg(format!("BUILD={}", build.display()))
        .env_remove("MAKEFLAGS")
        .env_remove("CARGO_MAKEFLAGS")
        .output()
        .expect("make is installed");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{}: make -C csrc {target}\n{text}", output.status);
    if let Some(line) = text.lines().rev().find(|line| line.contains("passed")) {
        eprintln!("{line}");
    }
}
