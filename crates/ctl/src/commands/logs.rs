//! Where a node writes its log, and the end of it.

use serde_json::json;

use super::refuse;
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, UNAVAILABLE};
use crate::json::texts;
use crate::options::{flag, whole};
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

const LEVELS: [&str; 9] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
    "none",
];

pub(super) const COMMANDS: &[Command] = &[
    command(
        "set_log_level",
        Tools::CTL,
        Section::Configuration,
        set_level,
    )
    .about("Sets what a node logs until it is started again")
    .usage("set_log_level <log_level>")
    .details(&[(
        "<log_level>",
        "debug, info, warning, error, critical or none",
    )])
    .args(1, 1)
    .check(|call| match LEVELS.contains(&call.arg(0)) {
        true => Ok(()),
        false => Err(Failure::refused(unknown(call.arg(0))).into()),
    })
    .banner(|call| format!("Setting log level to \"{}\" ...", call.arg(0))),
    command("rotate_logs", Tools::CTL, Section::Nodes, |_| {
        Err(Failure::new(
            UNAVAILABLE,
            "This command does not rotate logs anymore [deprecated]",
        ))
    })
    .about("Does nothing: a node rotates its logs as it is configured to")
    .offline(),
    command(
        "log_location",
        Tools::DIAGNOSTICS,
        Section::Configuration,
        location,
    )
    .any_app()
    .about("Shows where a node writes its log")
    .usage("log_location [--all|-a]")
    .details(&[("--all", "all places, not only the first")])
    .switches(&[flag("all").short('a')])
    .timed()
    .banner(|call| format!("Log file location(s) on node {} ...", call.node())),
    command("log_tail", Tools::DIAGNOSTICS, Section::Monitoring, tail)
        .any_app()
        .about("Prints the end of the log of a node on this machine")
        .usage("log_tail [--number|-N <number>]")
        .details(&[("<number>", "how many lines; 50 unless given")])
        .switches(&[whole("number").short('N')])
        .timed()
        .banner(|call| {
            format!(
                "Last {} log lines on node {} ...",
                lines_wanted(call),
                call.node()
            )
        }),
    command(
        "log_tail_stream",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        |_| {
            refuse(
                "log_tail_stream is not supported: follow the file that \
                 log_location shows",
            )
        },
    )
    .any_app()
    .about("Not supported: see log_location")
    .offline()
    .usage("log_tail_stream [--duration|-d <seconds>]")
    .switches(&[whole("duration").short('d')])
    .timed(),
];

fn unknown(level: &str) -> String {
    format!(
        "level {level} is not supported. Try one of debug, info, \
         warning, error, critical, none"
    )
}

fn set_level(call: &mut Call<'_>) -> Result<Output, Failure> {
    // RabbitMQ knows levels in between, which it hardly uses.
    let level = match call.arg(0) {
        "notice" => "info",
        "alert" | "emergency" => "critical",
        level => level,
    };
    let body = json!({"level": level});
    let answer = call.put(&["internal", "log-level"], body)?;
    if answer.status == 400 {
        return Err(Failure::new(crate::failure::SOFTWARE, unknown(call.arg(0))));
    }
    answer.good().map(|_| Output::Done)
}

fn files(call: &mut Call<'_>) -> Result<Vec<String>, Failure> {
    let status = call.get(&["internal", "status"])?;
    Ok(texts(&status, "log_files")
        .into_iter()
        .map(str::to_owned)
        .collect())
}

fn location(call: &mut Call<'_>) -> Result<Output, Failure> {
    let mut files = files(call)?;
    if !call.flag("all") {
        files.truncate(1);
    }
    let json = Term::map([
        ("result", Term::text("ok")),
        ("node_name", Term::text(call.node())),
        ("paths", Term::List(files.iter().map(Term::text).collect())),
    ]);
    Ok(Output::Both(files.join("\n"), json))
}

fn lines_wanted(call: &Call<'_>) -> usize {
    call.options
        .whole("number")
        .and_then(|number| usize::try_from(number).ok())
        .unwrap_or(50)
}

fn tail(call: &mut Call<'_>) -> Result<Output, Failure> {
    let files = files(call)?;
    let Some(path) = files.iter().find(|path| path.starts_with('/')) else {
        return refuse("the node does not log to a file");
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::refused(format!(
            "the log can only be read on the node's machine: {path}: {error}"
        ))
    })?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let from = lines.len().saturating_sub(lines_wanted(call));
    Ok(Output::Lines(lines[from..].to_vec()))
}
