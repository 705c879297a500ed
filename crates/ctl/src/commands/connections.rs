//! Client connections.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::queues::object;
use crate::call::{Call, request};
use crate::columns;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::json::{flag, text, whole};
use crate::options::{flag as switch, whole as whole_switch};
use crate::output::Output;
use crate::outside::Method;
use crate::pid;
use crate::term::{Term, quoted};
use crate::tool::Tools;

/// All columns of `list_connections`.
pub(super) const COLUMNS: &[&str] = &[
    "pid",
    "name",
    "port",
    "host",
    "peer_port",
    "peer_host",
    "ssl",
    "ssl_protocol",
    "ssl_key_exchange",
    "ssl_cipher",
    "ssl_hash",
    "peer_cert_subject",
    "peer_cert_issuer",
    "peer_cert_validity",
    "state",
    "channels",
    "protocol",
    "auth_mechanism",
    "user",
    "vhost",
    "timeout",
    "frame_max",
    "channel_max",
    "client_properties",
    "recv_oct",
    "recv_cnt",
    "send_oct",
    "send_cnt",
    "send_pend",
    "connected_at",
];
const EXPLANATION: (&str, &str) = ("<explanation>", "the reason that clients are told");

pub(super) const COMMANDS: &[Command] = &[
    command("list_connections", Tools::BOTH, Section::Monitoring, list)
        .about("Lists client connections of the cluster")
        .usage("list_connections [--no-table-headers] [<column> ...]")
        .details(&[
            (
                "<column>",
                "one of auth_mechanism, channel_max, channels, \
                 client_properties, connected_at, frame_max, host, name, \
                 peer_cert_issuer, peer_cert_subject, peer_cert_validity, \
                 peer_host, peer_port, pid, port, protocol, recv_cnt, recv_oct, \
                 send_cnt, send_oct, send_pend, ssl, ssl_cipher, ssl_hash, \
                 ssl_key_exchange, ssl_protocol, state, timeout, user, vhost",
            ),
            super::NO_HEADERS,
        ])
        .timed()
        .table()
        .args(0, usize::MAX)
        .check(|call| columns::check(call, COLUMNS))
        .banner(|_| "Listing connections ...".to_owned()),
    command("close_connection", Tools::CTL, Section::Operations, close)
        .about("Closes a connection")
        .usage("close_connection <connection pid> <explanation>")
        .details(&[
            (
                "<connection pid>",
                "the connection's pid or name, as list_connections shows them",
            ),
            EXPLANATION,
        ])
        .args(2, 2)
        .banner(|call| {
            format!(
                "Closing connection {}, reason: {}...",
                call.arg(0),
                call.arg(1)
            )
        }),
    command(
        "close_all_connections",
        Tools::CTL,
        Section::Operations,
        close_all,
    )
    .about("Closes all connections of a virtual host or a node")
    .usage(
        "close_all_connections [--vhost <vhost> --limit <limit>] [-n \
         <node> --global] [--per-connection-delay <delay>] \
         <explanation>",
    )
    .details(&[
        EXPLANATION,
        ("--global", "those of the node, whatever their virtual host"),
        ("--limit <number>", "closes so many at most"),
        ("--per-connection-delay <milliseconds>", "waits after each"),
        super::VHOST,
    ])
    .switches(&[
        switch("global"),
        whole_switch("per-connection-delay"),
        whole_switch("limit"),
    ])
    .args(1, 1)
    .banner(|call| {
        let (reason, vhost) = (call.arg(0), call.vhost());
        match call.options.whole("limit").unwrap_or(0) {
            _ if call.flag("global") => {
                format!(
                    "Closing all connections to node {} (across all vhosts), \
                     reason: {reason}...",
                    call.node()
                )
            }
            0 => format!("Closing all connections in vhost {vhost}, reason: {reason}..."),
            limit => format!(
                "Closing {limit} connections in vhost {vhost}, reason: \
                 {reason}..."
            ),
        }
    }),
    command(
        "close_all_user_connections",
        Tools::CTL,
        Section::Operations,
        close_of_user,
    )
    .about("Closes all connections of a user")
    .usage("close_all_user_connections <username> <explanation>")
    .details(&[("<username>", "the name of the user"), EXPLANATION])
    .args(2, 2)
    .banner(|call| {
        format!(
            "Closing connections of user {}, reason: {}...",
            call.arg(0),
            call.arg(1)
        )
    }),
];

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let connections = call.list(&["connections"])?;
    let columns = columns::asked(&call.args, &["user", "peer_host", "peer_port", "state"]);
    let row = |connection: &Json| columns::row(&columns, |column| value(connection, column));
    Ok(Output::Rows(connections.iter().map(row).collect()))
}

/// The pid of a connection.
fn pid_of(connection: &Json) -> String {
    pid::connection(text(connection, "node"), text(connection, "name"))
}

fn value(connection: &Json, column: &str) -> Term {
    match column {
        "pid" => Term::Pid(pid_of(connection)),
        "ssl" => Term::flag(flag(connection, column)),
        "host" | "peer_host" => Term::Address(text(connection, column).to_owned()),
        "state" => Term::atom(text(connection, column)),
        "protocol" => protocol(text(connection, column)),
        "client_properties" => Term::Table(object(connection, column)),
        "name" | "auth_mechanism" | "user" | "vhost" => Term::text(text(connection, column)),
        column => match connection.get(column) {
            Some(Json::String(text)) if text.is_empty() => Term::nothing(),
            found => Term::of_json(found.unwrap_or(&Json::Null)),
        },
    }
}

/// `AMQP 0-9-1` as the tuple of its numbers.
fn protocol(name: &str) -> Term {
    let version = name.strip_prefix("AMQP ").unwrap_or_default();
    let numbers: Result<Vec<i128>, _> = version.split('-').map(str::parse).collect();
    match numbers {
        Ok(numbers) => Term::Tuple(numbers.into_iter().map(Term::Int).collect()),
        Err(_) => Term::text(name),
    }
}

fn close(call: &mut Call<'_>) -> Result<Output, Failure> {
    let wanted = call.arg(0).to_owned();
    let connections = call.list(&["connections"])?;
    let is_it =
        |connection: &&Json| text(connection, "name") == wanted || pid_of(connection) == wanted;
    match connections.iter().find(is_it) {
        Some(connection) => {
            let mut request = request(
                Method::Delete,
                &["connections", text(connection, "name")],
                None,
            );
            request.reason = Some(call.arg(1).to_owned());
            let answer = call.ask(&request)?;
            // It may have gone by itself.
            if answer.status == 404 {
                Ok(Output::Done)
            } else {
                answer.good().map(|_| Output::Done)
            }
        }
        None if pid::is_pid(&wanted) => Ok(Output::Done),
        None => Err(Failure::refused(format!(
            "Error:\n{{:invalid_pid_syntax, {}}}",
            quoted(&wanted)
        ))),
    }
}

fn close_some(call: &mut Call<'_>, body: Json) -> Result<u64, Failure> {
    let answer = call
        .post(&["internal", "close-connections"], body)?
        .good()?;
    Ok(whole(&answer.body, "closed"))
}

fn close_all(call: &mut Call<'_>) -> Result<Output, Failure> {
    let limit = call
        .options
        .whole("limit")
        .and_then(|limit| u64::try_from(limit).ok())
        .unwrap_or(0);
    let delay = call
        .options
        .whole("per-connection-delay")
        .and_then(|delay| u64::try_from(delay).ok())
        .unwrap_or(0);
    let mut body = json!({"reason": call.arg(0)});
    if call.flag("global") {
        let status = call.get(&["internal", "status"])?;
        body["node"] = json!(text(&status, "node_name"));
    } else {
        body["vhost"] = json!(call.vhost());
    }
    let mut closed = 0;
    if delay == 0 {
        body["limit"] = json!(limit);
        closed = close_some(call, body)?;
    } else {
        body["limit"] = json!(1);
        while limit == 0 || closed < limit {
            if close_some(call, body.clone())? == 0 {
                break;
            }
            closed += 1;
            call.outside.sleep(Duration::from_millis(delay));
        }
    }
    Ok(Output::Text(format!("Closed {closed} connections")))
}

fn close_of_user(call: &mut Call<'_>) -> Result<Output, Failure> {
    let body = json!({"user": call.arg(0), "reason": call.arg(1)});
    close_some(call, body)?;
    Ok(Output::Done)
}
