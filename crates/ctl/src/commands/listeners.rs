//! The ports of a node.

use std::time::Duration;

use serde_json::Value as Json;

use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse, UNAVAILABLE, Unfit};
use crate::format::Formatter;
use crate::json::{text, whole};
use crate::options::text as text_switch;
use crate::output::Output;
use crate::term::{Row, Term};
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] = &[
    command("listeners", Tools::DIAGNOSTICS, Section::Monitoring, list)
        .about("Lists the ports that a node listens on")
        .timed()
        .banner(|call| {
            format!(
                "Asking node {} to report its protocol listeners ...",
                call.node()
            )
        }),
    command(
        "check_port_listener",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        check_port,
    )
    .about("Fails when a node does not listen on a port")
    .usage("check_port_listener <port>")
    .details(&[("<port>", "the number of the port")])
    .timed()
    .args(1, 1)
    .check(positive)
    .banner(|call| {
        format!(
            "Asking node {} if there's an active listener on port {} ...",
            call.node(),
            call.arg(0)
        )
    }),
    command(
        "check_protocol_listener",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        check_protocol,
    )
    .about("Fails when a node does not listen for a protocol")
    .usage("check_protocol_listener <protocol>")
    .details(&[(
        "<protocol>",
        "amqp, amqp/ssl, http, https, http/prometheus, clustering",
    )])
    .timed()
    .args(1, 1)
    .banner(|call| {
        format!(
            "Asking node {} if there's an active listener for protocol {} ...",
            call.node(),
            call.arg(0)
        )
    }),
    command(
        "check_port_connectivity",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        check_connectivity,
    )
    .about("Fails when a port of a node cannot be connected to from here")
    .usage("check_port_connectivity [--address <target address>]")
    .details(&[(
        "--address",
        "the address to connect to, instead of the host of the node",
    )])
    .switches(&[text_switch("address").short('a')])
    .timed()
    .timeout(30_000)
    .banner(|call| match call.options.text("address") {
        None => format!(
            "Testing TCP connections to all active listeners on node {} \
             using hostname resolution ...",
            call.node()
        ),
        Some(address) => format!(
            "Testing TCP connections to all active listeners on node {} \
             using {address} for node IP address ...",
            call.node()
        ),
    }),
];

/// Whether the argument is a positive number.
pub(super) fn positive(call: &Call<'_>) -> Result<(), Unfit> {
    match call.arg(0).parse::<u32>() {
        Ok(number) if number > 0 => Ok(()),
        _ => Err(Misuse::bad("Argument must be a positive integer").into()),
    }
}

/// The ports of the node.
fn listeners(call: &mut Call<'_>) -> Result<Vec<Json>, Failure> {
    let status = call.get(&["internal", "status"])?;
    Ok(crate::json::items(&status, "listeners").to_vec())
}

/// A port as a line of text.
pub(super) fn line(listener: &Json) -> String {
    format!(
        "Interface: {}, port: {}, protocol: {}, purpose: {}",
        text(listener, "interface"),
        whole(listener, "port"),
        text(listener, "protocol"),
        text(listener, "purpose")
    )
}

/// A port as a value.
pub(super) fn value(listener: &Json) -> Term {
    Term::map([
        ("node", Term::atom(text(listener, "node"))),
        ("protocol", Term::atom(text(listener, "protocol"))),
        ("interface", Term::text(text(listener, "interface"))),
        ("port", Term::Int(whole(listener, "port").into())),
        ("purpose", Term::text(text(listener, "purpose"))),
    ])
}

fn values(listeners: &[Json]) -> Term {
    Term::List(listeners.iter().map(value).collect())
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let listeners = listeners(call)?;
    if matches!(call.formatter, Formatter::Csv | Formatter::Erlang) {
        let row = |listener: &Json| -> Row {
            let entries = ["node", "protocol", "interface", "port", "purpose"];
            let Term::Map(map) = value(listener) else {
                return Row::new();
            };
            entries
                .iter()
                .map(|key| ((*key).to_owned(), map[*key].clone()))
                .collect()
        };
        return Ok(Output::Rows(listeners.iter().map(row).collect()));
    }
    let lines: Vec<String> = listeners.iter().map(line).collect();
    let text = match lines.is_empty() {
        true => format!("Node {} reported no enabled listeners.", call.node()),
        false => lines.join("\n"),
    };
    let json = Term::map([
        ("result", Term::text("ok")),
        ("node", Term::text(call.node())),
        ("listeners", values(&listeners)),
    ]);
    Ok(Output::Both(text, json))
}

fn joined<T: ToString + Ord>(mut items: Vec<T>) -> String {
    items.sort_unstable();
    items
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn ports(listeners: &[Json]) -> Vec<u64> {
    listeners
        .iter()
        .map(|listener| whole(listener, "port"))
        .collect()
}

fn check_port(call: &mut Call<'_>) -> Result<Output, Failure> {
    let listeners = listeners(call)?;
    let (node, port) = (call.node().to_owned(), call.arg(0).to_owned());
    let ports = ports(&listeners);
    if ports.iter().any(|listened| listened.to_string() == port) {
        let json = Term::map([
            ("result", Term::text("ok")),
            ("node", Term::text(&node)),
            ("port", Term::text(&port)),
        ]);
        return Ok(Output::Both(
            format!("A listener for port {port} is running on node {node}."),
            json,
        ));
    }
    let json = Term::map([
        ("result", Term::text("error")),
        ("missing", Term::text(&port)),
        (
            "ports",
            Term::List(ports.iter().map(|port| Term::Int((*port).into())).collect()),
        ),
        ("listeners", values(&listeners)),
    ]);
    let text = format!(
        "No listener for port {port} is active on node {node}. Found \
         listeners that use the following ports: {}",
        joined(ports)
    );
    Err(Failure::plain(UNAVAILABLE, text).with_json(json))
}

/// Protocols by the names that people use for them.
fn protocol_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp0_9_1" | "amqp10" | "amqp1.0" | "amqp1-0"
        | "amqp1_0" => "amqp",
        "amqps" => "amqp/ssl",
        "http1" | "http1.1" | "http_api" | "management" | "management_ui" | "ui" => "http",
        "cli" | "distribution" => "clustering",
        "prometheus" => "http/prometheus",
        other => other,
    }
    .to_owned()
}

fn check_protocol(call: &mut Call<'_>) -> Result<Output, Failure> {
    let listeners = listeners(call)?;
    let (node, protocol) = (call.node().to_owned(), protocol_name(call.arg(0)));
    let protocols: Vec<&str> = listeners
        .iter()
        .map(|listener| text(listener, "protocol"))
        .collect();
    if protocols.contains(&protocol.as_str()) {
        let json = Term::map([
            ("result", Term::text("ok")),
            ("node", Term::text(&node)),
            ("protocol", Term::text(&protocol)),
        ]);
        return Ok(Output::Both(
            format!("A listener for protocol {protocol} is running on node {node}."),
            json,
        ));
    }
    let json = Term::map([
        ("result", Term::text("error")),
        ("missing", Term::text(&protocol)),
        (
            "protocols",
            Term::List(protocols.iter().map(|name| Term::atom(*name)).collect()),
        ),
        ("listeners", values(&listeners)),
    ]);
    let text = format!(
        "No listener for protocol {protocol} is active on node {node}. \
         Found listeners for the following protocols: {}",
        joined(protocols)
    );
    Err(Failure::refused(text).with_json(json))
}

fn check_connectivity(call: &mut Call<'_>) -> Result<Output, Failure> {
    let listeners = listeners(call)?;
    let node = call.node().to_owned();
    let address = call.options.text("address").map(str::to_owned);
    let host = address.clone().unwrap_or_else(|| call.target.host.clone());
    let mut failed = Vec::new();
    for listener in &listeners {
        let port = u16::try_from(whole(listener, "port")).unwrap_or_default();
        let tries = u32::try_from(listeners.len() + 1).unwrap_or(u32::MAX);
        let limit = call.left()?.unwrap_or(Duration::from_secs(30)) / tries;
        // A port may be bound to an address that the host's name does not lead to.
        let own = text(listener, "interface")
            .trim_matches(['[', ']'])
            .to_owned();
        let is_bound = address.is_none() && !matches!(own.as_str(), "::" | "0.0.0.0" | "");
        let is_open = call.outside.can_connect(&host, port, limit)
            || is_bound && call.outside.can_connect(&own, port, limit);
        if !is_open {
            failed.push(listener.clone());
        }
    }
    if failed.is_empty() {
        let how = match &address {
            None => "using node hostname resolution".to_owned(),
            Some(address) => format!("using {address} for target IP address"),
        };
        let ports = joined(ports(&listeners));
        let text = format!("Successfully connected to ports {ports} on node {node} ({how})");
        let json = Term::map([
            ("result", Term::text("ok")),
            ("node", Term::text(&node)),
            ("listeners", values(&listeners)),
        ]);
        return Ok(Output::Both(text, json));
    }
    let mut lines = vec![format!(
        "Connection to ports of the following listeners on node {node} \
         failed: "
    )];
    lines.extend(failed.iter().map(line));
    let json = Term::map([
        ("result", Term::text("error")),
        ("node", Term::text(&node)),
        ("failures", values(&failed)),
    ]);
    Err(Failure::refused(lines.join("\n")).with_json(json))
}
