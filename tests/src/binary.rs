//! The binary under test, built once per test process.
//!
//! `WARREN_BINARY` names a ready one instead (a release build, another version).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `warren` binary, built from this workspace when it is first asked for.
///
/// # Panics
/// If it does not build.
pub fn warren() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("WARREN_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = target();
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "server", "--bin", "warren"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "warren does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug/warren")
}

/// A folder below the target folder that outlives one run: client libraries are installed there.
///
/// # Panics
/// If it cannot be created.
#[must_use]
pub fn scratch() -> PathBuf {
    let path = target().join("black-box");
    std::fs::create_dir_all(&path).expect("a folder below the target folder");
    path
}

/// The target folder this test was built into: `<target>/<profile>/deps/<test>`.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    test.ancestors().nth(3).expect("tests live three levels below the target folder").to_owned()
}
