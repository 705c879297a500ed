//! Queues.

use serde_json::{Map, Value as Json, json};

use super::replicas;
use crate::call::{Call, request};
use crate::columns;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse, USAGE};
use crate::json::{flag, text};
use crate::options::{Switch, flag as switch, whole as whole_switch};
use crate::output::Output;
use crate::outside::Method;
use crate::pid;
use crate::term::{Row, Term, float};
use crate::tool::Tools;

/// All columns.
pub(super) const COLUMNS: &[&str] = &[
    "name",
    "durable",
    "auto_delete",
    "arguments",
    "policy",
    "operator_policy",
    "effective_policy_definition",
    "pid",
    "owner_pid",
    "exclusive",
    "exclusive_consumer_pid",
    "exclusive_consumer_tag",
    "messages_ready",
    "messages_unacknowledged",
    "messages",
    "messages_ready_ram",
    "messages_unacknowledged_ram",
    "messages_ram",
    "messages_persistent",
    "message_bytes",
    "message_bytes_ready",
    "message_bytes_unacknowledged",
    "message_bytes_ram",
    "message_bytes_persistent",
    "head_message_timestamp",
    "disk_reads",
    "disk_writes",
    "consumers",
    "consumer_utilisation",
    "consumer_capacity",
    "memory",
    "slave_pids",
    "synchronised_slave_pids",
    "state",
    "type",
    "leader",
    "members",
    "online",
    "mirror_pids",
    "synchronised_mirror_pids",
];
const UNRESPONSIVE_COLUMNS: &[&str] = &[
    "name",
    "durable",
    "auto_delete",
    "arguments",
    "pid",
    "recoverable_slaves",
    "recoverable_mirrors",
    "type",
];
const LIST_SWITCHES: &[Switch] = &[switch("offline"), switch("online"), switch("local")];
const QUEUE: (&str, &str) = ("<queue>", "the name of the queue");

pub(super) const COMMANDS: &[Command] = &[
    command("list_queues", Tools::BOTH, Section::Monitoring, list)
        .about("Lists queues and their properties")
        .usage(
            "list_queues [--vhost <vhost>] [--online] [--offline] [--local] \
             [--no-table-headers] [<column>, ...]",
        )
        .details(&[
            (
                "<column>",
                "one of arguments, auto_delete, consumer_capacity, \
                 consumer_utilisation, consumers, disk_reads, disk_writes, \
                 durable, effective_policy_definition, exclusive, \
                 exclusive_consumer_pid, exclusive_consumer_tag, \
                 head_message_timestamp, leader, members, memory, \
                 message_bytes, message_bytes_persistent, message_bytes_ram, \
                 message_bytes_ready, message_bytes_unacknowledged, messages, \
                 messages_persistent, messages_ram, messages_ready, \
                 messages_ready_ram, messages_unacknowledged, \
                 messages_unacknowledged_ram, mirror_pids, name, online, \
                 operator_policy, owner_pid, pid, policy, slave_pids, state, \
                 synchronised_mirror_pids, synchronised_slave_pids, type",
            ),
            ("--online", "only queues that can be used"),
            ("--offline", "only queues whose node is away"),
            ("--local", "only queues whose leader is on this node"),
            super::VHOST,
            super::NO_HEADERS,
        ])
        .switches(LIST_SWITCHES)
        .timed()
        .timeout(60_000)
        .table()
        .args(0, usize::MAX)
        .check(|call| columns::check(call, COLUMNS))
        .banner(|call| {
            let millis = call
                .timeout
                .and_then(|millis| u32::try_from(millis).ok())
                .unwrap_or(u32::MAX);
            let seconds = float(f64::from(millis) / 1000.0);
            format!(
                "Timeout: {seconds} seconds ...\nListing queues for vhost {} ...",
                call.vhost()
            )
        }),
    command(
        "list_unresponsive_queues",
        Tools::BOTH,
        Section::Monitoring,
        list_unresponsive,
    )
    .about("Lists queues that do not answer though their node runs")
    .usage(
        "list_unresponsive_queues [--local] [--queue-timeout \
         <milliseconds>] [<column> ...] [--no-table-headers]",
    )
    .details(&[
        (
            "<column>",
            "one of arguments, auto_delete, durable, name, pid, \
             recoverable_mirrors, recoverable_slaves, type",
        ),
        ("--local", "only queues whose leader is on this node"),
        super::NO_HEADERS,
    ])
    .switches(&[whole_switch("queue-timeout"), switch("local")])
    .timed()
    .table()
    .args(0, usize::MAX)
    .check(|call| columns::check(call, UNRESPONSIVE_COLUMNS))
    .banner(|call| format!("Listing unresponsive queues for vhost {} ...", call.vhost())),
    command("delete_queue", Tools::CTL, Section::Queues, delete)
        .about("Deletes a queue")
        .usage(
            "delete_queue [--vhost <vhost>] <queue_name> [--if-empty|-e] \
             [--if-unused|-u]",
        )
        .details(&[
            ("<queue_name>", "the name of the queue"),
            ("--if-empty", "only if no message is ready"),
            ("--if-unused", "only if it has no consumers"),
            super::VHOST,
        ])
        .switches(&[
            switch("if-empty").short('e'),
            switch("if-unused").short('u'),
        ])
        .timed()
        .args(1, 1)
        .check(|call| match call.arg(0) {
            "" => Err(Misuse::bad("queue name cannot be an empty string").into()),
            _ => Ok(()),
        })
        .banner(|call| {
            let mut conditions = Vec::new();
            if call.flag("if-empty") {
                conditions.push("if queue is empty ");
            }
            if call.flag("if-unused") {
                conditions.push("if queue is unused ");
            }
            format!(
                "Deleting queue '{}' on vhost '{}' {}...",
                call.arg(0),
                call.vhost(),
                conditions.join("and ")
            )
        }),
    command("purge_queue", Tools::CTL, Section::Queues, purge)
        .about("Removes the messages that are ready in a queue")
        .usage("purge_queue <queue>")
        .details(&[QUEUE, super::VHOST])
        .timed()
        .args(1, 1)
        .banner(|call| {
            format!(
                "Purging queue '{}' in vhost '{}' ...",
                call.arg(0),
                call.vhost()
            )
        }),
];

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.vhost().to_owned();
    let mut queues = call.list(&["queues", &vhost])?;
    let (online, offline) = match (call.flag("online"), call.flag("offline")) {
        (false, false) => (true, true),
        given => given,
    };
    let node = call.node().to_owned();
    queues.retain(|queue| match call.flag("local") {
        true => cluster::handshake::is_same_node(text(queue, "node"), &node),
        false if is_down(queue) => offline,
        false => online,
    });
    let args = call.args.clone();
    let columns = columns::asked(&args, &["name", "messages"]);
    let consumers = match columns.contains(&"exclusive_consumer_pid") {
        true => call.list(&["consumers", &vhost])?,
        false => Vec::new(),
    };
    let row = |queue: &Json| columns::row(&columns, |column| value(queue, column, &consumers));
    Ok(Output::Rows(queues.iter().map(row).collect()))
}

fn is_down(queue: &Json) -> bool {
    matches!(text(queue, "state"), "down" | "stopped")
}

fn value(queue: &Json, column: &str, consumers: &[Json]) -> Term {
    let (node, vhost, name) = (
        text(queue, "node"),
        text(queue, "vhost"),
        text(queue, "name"),
    );
    let pids = |key: &str| match queue.get(key) {
        Some(Json::Array(nodes)) => {
            let nodes = nodes.iter().filter_map(Json::as_str);
            Term::List(nodes.map(|node| pid::queue(node, vhost, name)).collect())
        }
        _ => Term::nothing(),
    };
    match column {
        "name" | "policy" | "operator_policy" => found_text(queue, column),
        "exclusive_consumer_tag" => found_text(queue, column),
        "durable" | "auto_delete" | "exclusive" => Term::flag(flag(queue, column)),
        "arguments" => Term::Table(object(queue, column)),
        "effective_policy_definition" => {
            let pair = |(key, value): (&String, &Json)| {
                Term::Tuple(vec![Term::text(key), Term::of_json(value)])
            };
            Term::List(object(queue, column).iter().map(pair).collect())
        }
        "pid" => pid::queue(node, vhost, name),
        "owner_pid" => match queue.get("owner_pid_details") {
            Some(owner) => Term::Pid(pid::connection(node, text(owner, "name"))),
            None => Term::nothing(),
        },
        "exclusive_consumer_pid" => exclusive_consumer(queue, consumers),
        "slave_pids" | "mirror_pids" => pids("slave_nodes"),
        "synchronised_slave_pids" | "synchronised_mirror_pids" => pids("synchronised_slave_nodes"),
        "recoverable_slaves" | "recoverable_mirrors" => pids("recoverable_slaves"),
        "state" if text(queue, "state") == "syncing" => Term::Tuple(vec![
            Term::atom("syncing"),
            Term::of_json(queue.get("sync_messages").unwrap_or(&json!(0))),
        ]),
        "state" | "type" => Term::atom(text(queue, column)),
        "leader" | "members" | "online" => replicas::value(queue, column),
        "consumer_utilisation" | "consumer_capacity"
            if queue.get("consumers") == Some(&json!(0)) =>
        {
            Term::Int(0)
        }
        number => Term::of_json(queue.get(number).unwrap_or(&Json::Null)),
    }
}

/// The channel of the consumer that has the queue for itself.
fn exclusive_consumer(queue: &Json, consumers: &[Json]) -> Term {
    let tag = text(queue, "exclusive_consumer_tag");
    let is_it = |consumer: &&Json| {
        text(consumer, "consumer_tag") == tag
            && text(&consumer["queue"], "name") == text(queue, "name")
    };
    match consumers.iter().find(is_it).filter(|_| !tag.is_empty()) {
        Some(consumer) => super::consumers::channel_pid(consumer),
        None => Term::nothing(),
    }
}

fn found_text(object: &Json, key: &str) -> Term {
    match object.get(key).and_then(Json::as_str) {
        Some(text) if !text.is_empty() => Term::text(text),
        _ => Term::nothing(),
    }
}

pub(super) fn object(parent: &Json, key: &str) -> Map<String, Json> {
    parent
        .get(key)
        .and_then(Json::as_object)
        .cloned()
        .unwrap_or_default()
}

fn list_unresponsive(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.vhost().to_owned();
    let nodes = call.list(&["nodes"])?;
    let runs = |name: &str| {
        nodes
            .iter()
            .any(|node| text(node, "name") == name && flag(node, "running"))
    };
    let mut queues = call.list(&["queues", &vhost])?;
    let node = call.node().to_owned();
    queues.retain(|queue| {
        is_down(queue)
            && runs(text(queue, "node"))
            && (!call.flag("local") || cluster::handshake::is_same_node(text(queue, "node"), &node))
    });
    let columns = columns::asked(&call.args, &["name"]);
    let row = |queue: &Json| -> Row { columns::row(&columns, |column| value(queue, column, &[])) };
    Ok(Output::Rows(queues.iter().map(row).collect()))
}

fn delete(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost().to_owned(), call.arg(0).to_owned());
    let mut request = request(
        Method::Delete,
        &["internal", "queues", &vhost, &queue],
        None,
    );
    let conditions = ["if-empty", "if-unused"]
        .into_iter()
        .filter(|name| call.flag(name));
    let conditions: Vec<String> = conditions.map(|name| format!("{name}=true")).collect();
    if !conditions.is_empty() {
        request.path = format!("{}?{}", request.path, conditions.join("&"));
    }
    let answer = call.ask(&request)?;
    match (answer.status, answer.reason()) {
        (404, _) => Err(Failure::new(USAGE, "Queue not found")),
        (400, reason) if reason.contains("not empty") => {
            Err(Failure::new(USAGE, "Queue is not empty"))
        }
        (400, reason) if reason.contains("in use") => Err(Failure::new(USAGE, "Queue is in use")),
        _ => {
            let messages = crate::json::whole(&answer.good()?.body, "messages");
            Ok(Output::Text(format!(
                "Queue was successfully deleted with {messages} ready messages"
            )))
        }
    }
}

fn purge(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost().to_owned(), call.arg(0).to_owned());
    let answer = call.delete(&["internal", "queues", &vhost, &queue, "contents"])?;
    if answer.status == 404 {
        return Err(Failure::not_found());
    }
    answer.good().map(|_| Output::Done)
}
