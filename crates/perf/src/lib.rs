//! `warren perf`: a lean load generator for AMQP 0-9-1 brokers, with PerfTest's option names.
//!
//! Producers and consumers share a few threads. Each thread steps its connections without waiting
//! for any of them; published frames are made beforehand and only stamped, delivered ones are
//! looked at where they were read. The generator reports its own processor time, so that one can
//! see when it, and not the broker, is the limit.
//!
//! ```text
//!   options, uri --> topology --> setup (session) --> connection (producer, consumer) --> worker
//!                                                        |  batch, window, schedule        |
//!                                                        +-------------> meter --> run --> report
//! ```
//!
//! With a rate, latencies count from the time when a message was due (no coordinated omission).

mod batch;
mod clock;
mod connection;
mod consumer;
mod failure;
mod meter;
mod options;
mod poller;
mod producer;
mod report;
mod run;
mod schedule;
mod session;
mod setup;
mod topology;
mod uri;
mod usage;
mod window;
mod worker;

#[cfg(test)]
mod fake_broker;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

pub use options::{Flag, Options, STAMP_BYTES};
pub use uri::{Uri, UriError};

/// Runs the load generator with the arguments behind the name of the command, and prints to
/// standard output and standard error. The code is 0 after a run without failures, 1 after one
/// with a failure, and 2 for wrong arguments.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            // Nothing is left to be done if it cannot be printed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let failure = match run::run(&options) {
        Ok(report) => report.error,
        Err(error) => Some(format!("{error:#}")),
    };
    let Some(failure) = failure else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(std::io::stderr(), "error: {failure}");
    ExitCode::FAILURE
}
