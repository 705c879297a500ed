//! The load generator as a program of its own, for development; `warren perf` is the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    perf::main(std::env::args_os().skip(1))
}
