//! `simulator <scenario> --seed N` plays one life and tells it step by step; `--seeds N` plays many
//! and stops at the first that fails, naming the command that plays it again.

use std::io::Write as _;
use std::process::ExitCode;

use simulator::scenario::{Failure, cluster, store};

const USAGE: &str = "usage: simulator store|cluster [--seed N | --seeds N [--from N]]";

/// What the arguments ask for.
struct Request {
    scenario: String,
    seed: Option<u64>,
    seeds: u64,
    from: u64,
}

fn main() -> ExitCode {
    let Some(request) = parse(std::env::args().skip(1)) else {
        say(USAGE);
        return ExitCode::from(2);
    };
    let outcome = match (request.scenario.as_str(), request.seed) {
        ("store", Some(seed)) => store_one(seed),
        ("store", None) => store_many(request.from, request.seeds),
        ("cluster", Some(seed)) => cluster_one(seed),
        ("cluster", None) => cluster_many(request.from, request.seeds),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Request> {
    let scenario = arguments.next()?;
    let mut request = Request {
        scenario,
        seed: None,
        seeds: 1000,
        from: 0,
    };
    while let Some(flag) = arguments.next() {
        let number = arguments.next()?.parse().ok()?;
        match flag.as_str() {
            "--seed" => request.seed = Some(number),
            "--seeds" => request.seeds = number,
            "--from" => request.from = number,
            _ => return None,
        }
    }
    Some(request)
}

fn store_one(seed: u64) -> Result<(), Failure> {
    let report = store::run(
        seed,
        &store::Settings {
            tell: true,
            ..store::Settings::default()
        },
    )?;
    say(&format!("seed {seed} holds: {report}"));
    Ok(())
}

fn store_many(from: u64, seeds: u64) -> Result<(), Failure> {
    let mut total = store::Report::default();
    for seed in from..from.saturating_add(seeds) {
        total.add(&store::run(seed, &store::Settings::default())?);
    }
    say(&format!("{seeds} seeds from {from} hold: {total}"));
    Ok(())
}

fn cluster_one(seed: u64) -> Result<(), Failure> {
    let coverage = cluster::run(seed, &cluster::Settings { tell: true, ..cluster::Settings::default() })?;
    say(&format!("seed {seed} holds: {coverage}"));
    Ok(())
}

fn cluster_many(from: u64, seeds: u64) -> Result<(), Failure> {
    let mut total = cluster::Coverage::default();
    for seed in from..from.saturating_add(seeds) {
        total.add(cluster::run(seed, &cluster::Settings::default())?);
    }
    say(&format!("{seeds} seeds from {from} hold: {total}"));
    Ok(())
}

/// Prints a line; a closed pipe is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
