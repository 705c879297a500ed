//! Health checks.

use serde_json::Value as Json;

use crate::call::{Call, request};
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse, UNAVAILABLE};
use crate::json::{items, text};
use crate::options::{text as text_switch, whole};
use crate::output::Output;
use crate::outside::Method;
use crate::term::Term;
use crate::tool::Tools;

const UNITS: [&str; 4] = ["days", "weeks", "months", "years"];

pub(super) const COMMANDS: &[Command] = &[
    command(
        "check_running",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        check_running,
    )
    .about("Fails when the node has not started completely")
    .offline()
    .timed()
    .banner(|call| {
        format!(
            "Checking if RabbitMQ is running on node {} ...",
            call.node()
        )
    }),
    command(
        "is_running",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        is_running,
    )
    .about("Says whether the node has started completely")
    .offline()
    .timed()
    .banner(|call| format!("Asking node {} for its status ...", call.node())),
    command(
        "is_booting",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        is_booting,
    )
    .about("Says whether the node is starting")
    .offline()
    .timed()
    .banner(|call| format!("Asking node {} for its boot status ...", call.node())),
    command(
        "check_virtual_hosts",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        check_vhosts,
    )
    .about("Fails when a virtual host does not run on the node")
    .timed()
    .banner(|call| {
        format!(
            "Checking if all vhosts are running on node {} ...",
            call.node()
        )
    }),
    command(
        "check_certificate_expiration",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        check_certificates,
    )
    .about("Fails when a certificate of the node ends soon")
    .usage("check_certificate_expiration [--within <period>] [--unit <unit>]")
    .details(&[
        ("<period>", "how soon; 4 unless given"),
        ("<unit>", "days, weeks, months or years; weeks unless given"),
    ])
    .switches(&[text_switch("unit"), whole("within")])
    .check(|call| match UNITS.contains(&unit(call)) {
        true => Ok(()),
        false => {
            let text = format!(
                "unit '{}' is not supported. Please use one of: days, weeks, \
                 months, years",
                unit(call)
            );
            Err(Misuse::Other(text).into())
        }
    })
    .banner(|call| {
        format!(
            "Checking certificate expiration on node {} ...",
            call.node()
        )
    }),
    command(
        "check_if_node_is_quorum_critical",
        Tools::CHECKS,
        Section::Monitoring,
        check_quorum_critical,
    )
    .about(
        "Fails when the cluster would lose its majority, or a queue its \
         last copy, without this node",
    )
    .timed()
    .banner(|call| {
        format!(
            "Checking if node {} is critical for quorum of any \
             queues/streams ...",
            call.node()
        )
    }),
    command(
        "check_if_node_is_mirror_sync_critical",
        Tools::CHECKS,
        Section::Monitoring,
        check_mirror_critical,
    )
    .about(
        "Fails when a mirrored queue has no other synchronized copy \
         than on this node",
    )
    .timed()
    .banner(|call| {
        format!(
            "Checking if node {} is critical for data safety of any classic \
             mirrored queues ...",
            call.node()
        )
    }),
    command(
        "check_if_new_quorum_queue_replicas_have_finished_initial_sync",
        Tools::CHECKS,
        Section::Monitoring,
        check_new_replicas,
    )
    .about("Fails when a new replica of a quorum queue is not complete")
    .timed()
    .banner(|call| {
        format!(
            "Checking if node {} runs promotable replicas of any queues ...",
            call.node()
        )
    }),
];

fn ok() -> Term {
    Term::map([("result", Term::text("ok"))])
}

/// Whether the node has started completely.
fn is_up(call: &mut Call<'_>) -> Result<bool, Failure> {
    let answer = call.ask(&request(Method::Get, &["internal", "status"], None))?;
    Ok(answer.status == 200 && super::status::is_booted(&answer.body))
}

fn running_text(call: &Call<'_>, is_up: bool) -> String {
    let node = call.node();
    match is_up {
        true => format!("RabbitMQ on node {node} is fully booted and running"),
        false => format!(
            "RabbitMQ on node {node} is not running or has not fully booted \
             yet (check with is_booting)"
        ),
    }
}

fn check_running(call: &mut Call<'_>) -> Result<Output, Failure> {
    let is_up = is_up(call)?;
    let text = running_text(call, is_up);
    if is_up {
        Ok(Output::Text(text))
    } else {
        Err(Failure::refused(text))
    }
}

fn is_running(call: &mut Call<'_>) -> Result<Output, Failure> {
    let is_up = is_up(call)?;
    let text = running_text(call, is_up);
    let json = Term::map([
        ("result", Term::flag(is_up)),
        ("message", Term::text(&text)),
    ]);
    Ok(Output::Both(text, json))
}

fn is_booting(call: &mut Call<'_>) -> Result<Output, Failure> {
    let answer = call.ask(&request(Method::Get, &["internal", "status"], None))?;
    let is_up = answer.status == 200 && super::status::is_booted(&answer.body);
    // A node that says what its application is doing may also have stopped.
    let is_booting = match answer.body.get("app") {
        Some(app) => !is_up && text(app, "state") == "starting",
        None => !is_up,
    };
    let node = call.node();
    let text = match is_booting {
        true => format!("RabbitMQ on node {node} is booting"),
        false => format!(
            "RabbitMQ on node {node} is fully booted (check with \
             is_running), stopped or has not started booting yet"
        ),
    };
    let json = Term::map([
        ("result", Term::flag(is_booting)),
        ("message", Term::text(&text)),
    ]);
    Ok(Output::Both(text, json))
}

/// The verdict of a check of the node: its body, and whether it passed.
pub(super) fn verdict(call: &mut Call<'_>, segments: &[&str]) -> Result<(bool, Json), Failure> {
    let mut path = vec!["health", "checks"];
    path.extend(segments);
    let answer = call.ask(&request(Method::Get, &path, None))?;
    match answer.status {
        200 => Ok((true, answer.body)),
        503 if answer.body.get("status").is_some() => Ok((false, answer.body)),
        _ => answer.good().map(|answer| (true, answer.body)),
    }
}

fn check_vhosts(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (is_good, body) = verdict(call, &["virtual-hosts"])?;
    let node = call.node();
    if is_good {
        let text = format!("Node {node} reported all vhosts as running");
        return Ok(Output::passed(call.flag("silent"), text, ok()));
    }
    if call.flag("silent") {
        return Err(Failure::silent(UNAVAILABLE));
    }
    let down = crate::json::texts(&body, "virtual-hosts");
    let json = Term::map([
        ("result", Term::text("error")),
        (
            "down_vhosts",
            Term::List(down.iter().map(|vhost| Term::text(*vhost)).collect()),
        ),
    ]);
    let text = format!(
        "Some virtual hosts on node {node} are down:\n{}",
        down.join("\n")
    );
    Err(Failure::refused(text).with_json(json))
}

fn unit<'a>(call: &'a Call<'_>) -> &'a str {
    call.options.text("unit").unwrap_or("weeks")
}

fn check_certificates(call: &mut Call<'_>) -> Result<Output, Failure> {
    let within = call.options.whole("within").unwrap_or(4);
    let unit = unit(call).to_owned();
    let (is_good, body) = verdict(
        call,
        &["certificate-expiration", &within.to_string(), &unit],
    )?;
    if is_good {
        let unit = if within == 1 {
            unit.trim_end_matches('s')
        } else {
            &unit
        };
        let text = format!("No certificates are expiring within {within} {unit}.");
        return Ok(Output::Both(text, ok()));
    }
    let line = |certificate: &Json| {
        let file = |kind: &str| {
            let ends = crate::json::texts(certificate, &format!("{kind}_expires_on"));
            (!ends.is_empty())
                .then(|| format!("{} ends {}", text(certificate, kind), ends.join(", ")))
        };
        let files: Vec<String> = ["certfile", "cacertfile"]
            .into_iter()
            .filter_map(file)
            .collect();
        let (protocol, port) = (
            text(certificate, "protocol"),
            crate::json::whole(certificate, "port"),
        );
        format!("Protocol: {protocol}, port: {port}, {}", files.join(", "))
    };
    let expired = items(&body, "expired");
    let json = Term::map([
        ("result", Term::text("error")),
        (
            "expired",
            Term::List(expired.iter().map(Term::of_json).collect()),
        ),
    ]);
    let lines: Vec<String> = expired.iter().map(line).collect();
    Err(Failure::plain(UNAVAILABLE, lines.join("\n")).with_json(json))
}

/// Whether a verdict says that the check makes no sense here.
pub(super) fn is_single_node(body: &Json) -> bool {
    text(body, "reason") == "single node cluster"
}

fn passed(call: &Call<'_>, body: &Json, text: &str) -> Output {
    let (text, json) = match is_single_node(body) {
        true => {
            let target = "Target node seems to be the only one in a single node cluster, \
                          the check does not apply";
            let text = format!(
                "Node {} seems to be the only one in a single node cluster, the \
                 check does not apply",
                call.node()
            );
            (
                text,
                Term::map([
                    ("result", Term::text("ok")),
                    ("message", Term::text(target)),
                ]),
            )
        }
        false => (text.to_owned(), ok()),
    };
    Output::passed(call.flag("silent"), text, json)
}

fn critical(call: &Call<'_>, body: &Json, message: &str, line: impl Fn(&str) -> String) -> Failure {
    if call.flag("silent") {
        return Failure::silent(UNAVAILABLE);
    }
    let queues = items(body, "queues");
    let mut lines: Vec<String> = queues
        .iter()
        .map(|queue| line(text(queue, "readable_name")))
        .collect();
    if lines.is_empty() {
        lines.push(text(body, "reason").to_owned());
    }
    let json = Term::map([
        ("result", Term::text("error")),
        (
            "queues",
            Term::List(queues.iter().map(Term::of_json).collect()),
        ),
        ("message", Term::text(message)),
    ]);
    Failure::plain(UNAVAILABLE, lines.join("\n")).with_json(json)
}

fn check_quorum_critical(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (is_good, body) = verdict(call, &["node-is-quorum-critical"])?;
    let node = call.node().to_owned();
    if is_good {
        return Ok(passed(
            call,
            &body,
            &format!("Node {node} reported no queues/streams with minimum quorum"),
        ));
    }
    let message = format!("Node {node} reported local queues with minimum online quorum");
    Err(critical(call, &body, &message, |queue| {
        format!("{queue} will become unavailable if node {node} stops")
    }))
}

fn check_mirror_critical(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (is_good, body) = verdict(call, &["node-is-mirror-sync-critical"])?;
    let node = call.node().to_owned();
    let none = "classic mirrored queues without online synchronised mirrors";
    if is_good {
        return Ok(passed(
            call,
            &body,
            &format!("Node {node} reported no {none}"),
        ));
    }
    let message = format!("Node {node} reported local {none}");
    Err(critical(call, &body, &message, |queue| {
        format!(
            "{queue} would lose its only synchronised replica (master) if \
             node {node} is stopped"
        )
    }))
}

fn check_new_replicas(call: &mut Call<'_>) -> Result<Output, Failure> {
    // Replicas of mirrored queues do not vote; those of the metadata are members at once.
    call.get(&["internal", "status"])?;
    let text = format!(
        "Node {} reported no queues with promotable replicas",
        call.node()
    );
    Ok(Output::passed(call.flag("silent"), text, ok()))
}
