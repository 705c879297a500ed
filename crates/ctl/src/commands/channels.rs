//! Channels of client connections.

use serde_json::Value as Json;

use crate::call::Call;
use crate::columns;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::json::{flag, text, whole};
use crate::output::Output;
use crate::pid;
use crate::term::Term;
use crate::tool::Tools;

/// All columns of `list_channels`.
pub(super) const COLUMNS: &[&str] = &[
    "pid",
    "connection",
    "name",
    "number",
    "user",
    "vhost",
    "transactional",
    "confirm",
    "consumer_count",
    "messages_unacknowledged",
    "messages_uncommitted",
    "acks_uncommitted",
    "messages_unconfirmed",
    "prefetch_count",
    "global_prefetch_count",
];

pub(super) const COMMANDS: &[Command] =
    &[
        command("list_channels", Tools::BOTH, Section::Monitoring, list)
            .about("Lists channels of the cluster")
            .usage("list_channels [--no-table-headers] [<column> ...]")
            .details(&[
                (
                    "<column>",
                    "one of acks_uncommitted, confirm, connection, consumer_count, \
                     global_prefetch_count, messages_unacknowledged, \
                     messages_uncommitted, messages_unconfirmed, name, number, pid, \
                     prefetch_count, transactional, user, vhost",
                ),
                super::NO_HEADERS,
            ])
            .table()
            .args(0, usize::MAX)
            .check(|call| columns::check(call, COLUMNS))
            .banner(|_| "Listing channels ...".to_owned()),
    ];

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let channels = call.list(&["channels"])?;
    let columns = columns::asked(
        &call.args,
        &["pid", "user", "consumer_count", "messages_unacknowledged"],
    );
    let row = |channel: &Json| columns::row(&columns, |column| value(channel, column));
    Ok(Output::Rows(channels.iter().map(row).collect()))
}

fn value(channel: &Json, column: &str) -> Term {
    let connection = channel.get("connection_details").unwrap_or(&Json::Null);
    let (node, connection) = (text(channel, "node"), text(connection, "name"));
    match column {
        "pid" => Term::Pid(pid::channel(node, connection, whole(channel, "number"))),
        "connection" => Term::Pid(pid::connection(node, connection)),
        "name" | "user" | "vhost" => Term::text(text(channel, column)),
        "transactional" | "confirm" => Term::flag(flag(channel, column)),
        number => Term::of_json(channel.get(number).unwrap_or(&Json::Null)),
    }
}
