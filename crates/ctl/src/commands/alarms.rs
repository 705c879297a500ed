//! Alarms of memory and disk space.

use serde_json::Value as Json;

use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, UNAVAILABLE};
use crate::json::{items, text};
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] = &[
    command("alarms", Tools::DIAGNOSTICS, Section::Monitoring, list)
        .about("Lists alarms in the cluster")
        .timed()
        .banner(|call| {
            format!(
                "Asking node {} to report any known resource alarms ...",
                call.node()
            )
        }),
    command(
        "check_alarms",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        check,
    )
    .about("Fails when there is an alarm in the cluster")
    .timed()
    .banner(|call| {
        format!(
            "Asking node {} to report any local resource alarms ...",
            call.node()
        )
    }),
    command(
        "check_local_alarms",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        check_local,
    )
    .about("Fails when there is an alarm on the node")
    .timed()
    .banner(|call| {
        format!(
            "Asking node {} to report any local resource alarms ...",
            call.node()
        )
    }),
];

/// An alarm as a line of text.
pub(super) fn line(alarm: &Json) -> String {
    let node = text(alarm, "node");
    match text(alarm, "resource") {
        "memory" => format!("Memory alarm on node {node}"),
        "disk" => format!("Free disk space alarm on node {node}"),
        "file_descriptors" => format!("File descriptor limit alarm on node {node}"),
        other => format!("Alarm of {other} on node {node}"),
    }
}

/// An alarm as a value.
pub(super) fn value(alarm: &Json) -> Term {
    Term::map([
        ("type", Term::atom("resource_limit")),
        ("resource", Term::atom(text(alarm, "resource"))),
        ("node", Term::atom(text(alarm, "node"))),
    ])
}

/// Lines of text for alarms of the node and of others.
struct Alarms {
    local: Vec<String>,
    global: Vec<String>,
}

impl Alarms {
    fn ask(call: &mut Call<'_>) -> Result<Alarms, Failure> {
        let status = call.get(&["internal", "cluster-status"])?;
        let own = call.get(&["internal", "status"])?;
        let own = text(&own, "node_name");
        let is_own = |alarm: &&Json| text(alarm, "node") == own;
        let (local, global): (Vec<&Json>, Vec<&Json>) =
            items(&status, "alarms").iter().partition(is_own);
        let lines = |alarms: Vec<&Json>| alarms.into_iter().map(line).collect();
        Ok(Alarms {
            local: lines(local),
            global: lines(global),
        })
    }

    fn all(&self) -> String {
        self.local
            .iter()
            .chain(&self.global)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn json(&self, result: &str, message: &str) -> Term {
        let texts = |lines: &[String]| Term::List(lines.iter().map(Term::text).collect());
        Term::map([
            ("result", Term::text(result)),
            ("local", texts(&self.local)),
            ("global", texts(&self.global)),
            ("message", Term::text(message)),
        ])
    }
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let alarms = Alarms::ask(call)?;
    let node = call.node().to_owned();
    if alarms.local.is_empty() && alarms.global.is_empty() {
        let json = Term::map([
            ("result", Term::text("ok")),
            ("node", Term::text(&node)),
            ("alarms", Term::List(Vec::new())),
        ]);
        return Ok(Output::Both(
            format!("Node {node} reported no alarms, local or clusterwide"),
            json,
        ));
    }
    let json = alarms.json("ok", &format!("Node {node} reported alarms"));
    Ok(Output::Both(alarms.all(), json))
}

fn check(call: &mut Call<'_>) -> Result<Output, Failure> {
    let alarms = Alarms::ask(call)?;
    let node = call.node();
    if alarms.local.is_empty() && alarms.global.is_empty() {
        let text = format!("Node {node} reported no alarms, local or clusterwide");
        return Ok(Output::passed(
            call.flag("silent"),
            text,
            Term::map([("result", Term::text("ok"))]),
        ));
    }
    if call.flag("silent") {
        return Err(Failure::silent(UNAVAILABLE));
    }
    let json = alarms.json("error", &format!("Node {node} reported alarms"));
    Err(Failure::plain(UNAVAILABLE, alarms.all()).with_json(json))
}

fn check_local(call: &mut Call<'_>) -> Result<Output, Failure> {
    let alarms = Alarms::ask(call)?;
    let node = call.node();
    if alarms.local.is_empty() {
        let text = format!("Node {node} reported no local alarms");
        return Ok(Output::passed(
            call.flag("silent"),
            text,
            Term::map([("result", Term::text("ok"))]),
        ));
    }
    if call.flag("silent") {
        return Err(Failure::silent(UNAVAILABLE));
    }
    let json = Term::map([
        ("result", Term::text("error")),
        (
            "local",
            Term::List(alarms.local.iter().map(Term::text).collect()),
        ),
        (
            "message",
            Term::text(format!("Node {node} reported local alarms")),
        ),
    ]);
    Err(Failure::refused(alarms.local.join("\n")).with_json(json))
}
