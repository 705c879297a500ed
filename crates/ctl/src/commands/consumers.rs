//! Consumers.

use serde_json::Value as Json;

use super::queues::object;
use crate::call::Call;
use crate::columns;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::json::{flag, text, whole};
use crate::output::Output;
use crate::pid;
use crate::term::Term;
use crate::tool::Tools;

/// In the order in which they are shown, whatever the order in which they are asked for.
const COLUMNS: &[&str] = &[
    "queue_name",
    "channel_pid",
    "consumer_tag",
    "ack_required",
    "prefetch_count",
    "active",
    "activity_status",
    "arguments",
];

pub(super) const COMMANDS: &[Command] =
    &[
        command("list_consumers", Tools::BOTH, Section::Monitoring, list)
            .about("Lists consumers")
            .usage(
                "list_consumers [--vhost <vhost>] [--no-table-headers] \
                 [<column> ...]",
            )
            .details(&[
                (
                    "<column>",
                    "one of ack_required, active, activity_status, arguments, \
                     channel_pid, consumer_tag, prefetch_count, queue_name",
                ),
                super::VHOST,
                super::NO_HEADERS,
            ])
            .timed()
            .table()
            .args(0, usize::MAX)
            .check(|call| columns::check(call, COLUMNS))
            .banner(|call| format!("Listing consumers in vhost {} ...", call.vhost())),
    ];

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.vhost().to_owned();
    let consumers = call.list(&["consumers", &vhost])?;
    let asked = columns::asked(&call.args, COLUMNS);
    let is_default = call.args.is_empty();
    let wanted =
        |column: &&&str| asked.contains(*column) && !(is_default && **column == "activity_status");
    let columns: Vec<&str> = COLUMNS.iter().filter(wanted).copied().collect();
    let row = |consumer: &Json| columns::row(&columns, |column| value(consumer, column));
    Ok(Output::Rows(consumers.iter().map(row).collect()))
}

/// The channel that consumes.
pub(super) fn channel_pid(consumer: &Json) -> Term {
    let channel = consumer.get("channel_details").unwrap_or(&Json::Null);
    Term::Pid(pid::channel(
        text(channel, "node"),
        text(channel, "connection_name"),
        whole(channel, "number"),
    ))
}

fn value(consumer: &Json, column: &str) -> Term {
    match column {
        "queue_name" => Term::text(text(consumer.get("queue").unwrap_or(&Json::Null), "name")),
        "channel_pid" => channel_pid(consumer),
        "consumer_tag" => Term::text(text(consumer, column)),
        "ack_required" | "active" => Term::flag(flag(consumer, column)),
        "activity_status" => Term::atom(text(consumer, column)),
        "arguments" => Term::Table(object(consumer, column)),
        number => Term::of_json(consumer.get(number).unwrap_or(&Json::Null)),
    }
}
