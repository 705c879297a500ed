//! Developer tasks: `cargo xtask <task>`.
//!
//! - `tidy` checks what the compiler does not: who imports whom, sizes of files, refused words, and
//!   that ARCHITECTURE.md speaks of what is there. It only reads. `cargo test` runs it too.

mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => report(tidy::check(&root())),
        _ => {
            eprintln!("usage: cargo xtask tidy");
            ExitCode::FAILURE
        }
    }
}

fn report(complaints: anyhow::Result<Vec<String>>) -> ExitCode {
    match complaints {
        Ok(complaints) if complaints.is_empty() => {
            eprintln!("tidy");
            ExitCode::SUCCESS
        }
        Ok(complaints) => {
            for complaint in complaints {
                eprintln!("{complaint}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the workspace").to_owned()
}
