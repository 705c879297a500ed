//! Copies of queues on several nodes. Warren mirrors queues by policy; it has no quorum queues,
//! whose commands answer as RabbitMQ answers for classic queues.

use serde_json::{Value as Json, json};

use super::refuse;
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse, Unfit};
use crate::format::Formatter;
use crate::json::{text, texts, whole};
use crate::options::{flag as switch, text as text_switch};
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

const QUEUE: (&str, &str) = ("<queue>", "the name of the queue");
const NODE: (&str, &str) = ("<node>", "the name of the node");

pub(super) const COMMANDS: &[Command] = &[
    command("rebalance", Tools::QUEUES, Section::Cluster, rebalance_all)
        .about("Spreads the leaders of mirrored queues over the nodes")
        .usage(
            "rebalance < all | classic | quorum | stream > [--vhost-pattern \
             <pattern>] [--queue-pattern <pattern>] [--target <node>]",
        )
        .details(&[
            (
                "<type>",
                "all and classic spread mirrored queues; there are no quorum \
                 queues and streams",
            ),
            (
                "--vhost-pattern <pattern>",
                "a regular expression for names of virtual hosts",
            ),
            (
                "--queue-pattern <pattern>",
                "a regular expression for names of queues",
            ),
            (
                "--target <node>",
                "moves all of them to this node instead of spreading them",
            ),
        ])
        .switches(&[
            text_switch("vhost-pattern"),
            text_switch("queue-pattern"),
            text_switch("target"),
        ])
        .formatter(Formatter::PrettyTable)
        .args(1, 1)
        .check(check_rebalance)
        .banner(|call| format!("Re-balancing leaders of {} queues...", call.arg(0))),
    command(
        "transfer_leader",
        Tools::QUEUES,
        Section::Replication,
        transfer,
    )
    .about("Lets another node lead a mirrored queue, one that has a synchronized mirror")
    .usage("transfer_leader [--vhost <vhost>] <queue> <node>")
    .details(&[QUEUE, NODE, super::VHOST])
    .args(2, 2)
    .banner(|call| {
        let (queue, node) = (call.arg(0), call.arg(1));
        format!(
            "Moving the leader of queue '{queue}' in vhost '{}' to node {node} ...",
            call.vhost()
        )
    }),
    command("sync_queue", Tools::CTL, Section::Replication, |call| {
        synchronize(call, "sync")
    })
    .about("Copies a mirrored queue to mirrors that are not synchronized")
    .usage("sync_queue [--vhost <vhost>] <queue>")
    .details(&[QUEUE, super::VHOST])
    .args(1, 1)
    .banner(|call| {
        format!(
            "Synchronising queue '{}' in vhost '{}' ...",
            call.arg(0),
            call.vhost()
        )
    }),
    command(
        "cancel_sync_queue",
        Tools::CTL,
        Section::Replication,
        |call| synchronize(call, "cancel_sync"),
    )
    .about("Ends the synchronization of a mirrored queue")
    .usage("cancel_sync_queue [--vhost <vhost>] <queue>")
    .details(&[QUEUE, super::VHOST])
    .args(1, 1)
    .banner(|call| {
        format!(
            "Stopping synchronising queue '{}' in vhost '{}' ...",
            call.arg(0),
            call.vhost()
        )
    }),
    command("add_member", Tools::QUEUES, Section::Replication, |call| {
        of_quorum_queue(call, "Cannot add members to a classic queue")
    })
    .about("For quorum queues, which Warren has not")
    .usage(
        "add_member [--vhost <vhost>] <queue> <node> [--membership \
         <promotable|voter>]",
    )
    .details(&[QUEUE, NODE, super::VHOST])
    .switches(&[text_switch("membership")])
    .args(2, 2)
    .banner(|call| {
        format!(
            "Adding a replica for queue {} on node {}...",
            call.arg(0),
            call.arg(1)
        )
    }),
    command(
        "delete_member",
        Tools::QUEUES,
        Section::Replication,
        |call| of_quorum_queue(call, "Cannot delete members of a classic queue"),
    )
    .about("For quorum queues, which Warren has not")
    .usage("delete_member [--vhost <vhost>] <queue> <node>")
    .details(&[QUEUE, NODE, super::VHOST])
    .args(2, 2)
    .banner(|call| {
        format!(
            "Removing a replica of queue {} on node {}...",
            call.arg(0),
            call.arg(1)
        )
    }),
    command("grow", Tools::QUEUES, Section::Cluster, grow)
        .about("For quorum queues, which Warren has not")
        .usage(
            "grow <node> <all | even> [--vhost-pattern <pattern>] \
             [--queue-pattern <pattern>] [--membership <promotable|voter>]",
        )
        .details(&[NODE])
        .switches(&[
            text_switch("vhost-pattern"),
            text_switch("queue-pattern"),
            text_switch("membership"),
            switch("errors-only"),
        ])
        .table()
        .args(2, 2)
        .check(|call| match call.arg(1) {
            "all" | "even" => Ok(()),
            other => Err(Misuse::Other(format!("strategy '{other}' is not recognised.")).into()),
        })
        .banner(|call| {
            format!(
                "Growing {} quorum queues on {}...",
                call.arg(1),
                call.arg(0)
            )
        }),
    command("shrink", Tools::QUEUES, Section::Cluster, none_to_list)
        .about("For quorum queues, which Warren has not")
        .usage("shrink <node> [--errors-only]")
        .details(&[NODE])
        .switches(&[switch("errors-only")])
        .table()
        .args(1, 1)
        .banner(|call| format!("Shrinking quorum queues on {}...", call.arg(0))),
    command(
        "quorum_status",
        Tools::CHECKS,
        Section::Monitoring,
        |call| of_quorum_queue(call, "Cannot get quorum status of a classic queue"),
    )
    .about("For quorum queues, which Warren has not")
    .usage("quorum_status [--vhost <vhost>] <queue>")
    .details(&[QUEUE, super::VHOST])
    .args(1, 1)
    .banner(|call| {
        format!(
            "Status of quorum queue {} on node {} ...",
            call.arg(0),
            call.node()
        )
    }),
    command("peek", Tools::QUEUES, Section::Monitoring, |call| {
        of_quorum_queue(call, "Cannot peek into a classic queue")
    })
    .about("For quorum queues, which Warren has not")
    .usage("peek [--vhost <vhost>] <queue> <position>")
    .details(&[
        QUEUE,
        ("<position>", "the place of the message, from 1"),
        super::VHOST,
    ])
    .timed()
    .args(2, 2)
    .check(|call| match call.arg(1).parse::<u64>() {
        Ok(position) if position > 0 => Ok(()),
        _ => Err(Misuse::Other("position value must be a positive integer".to_owned()).into()),
    })
    .banner(|call| {
        let (queue, position) = (call.arg(0), call.arg(1));
        format!(
            "Peeking at quorum queue {queue} at position {position} on node \
             {} ...",
            call.node()
        )
    }),
    command(
        "reclaim_quorum_memory",
        Tools::CHECKS,
        Section::Operations,
        |call| of_quorum_queue(call, "This operation is not applicable to classic queues"),
    )
    .about("For quorum queues, which Warren has not")
    .usage("reclaim_quorum_memory [--vhost <vhost>] <quorum queue>")
    .details(&[QUEUE, super::VHOST])
    .args(1, 1)
    .banner(|call| format!("Will flush Raft WAL of quorum queue {} ...", call.arg(0))),
    command(
        "stream_status",
        Tools::CHECKS,
        Section::Monitoring,
        |call| of_quorum_queue(call, "Cannot get stream status of a classic queue"),
    )
    .about("For streams, which Warren has not")
    .usage("stream_status [--vhost <vhost>] <stream> [--tracking]")
    .details(&[("<stream>", "the name of the stream"), super::VHOST])
    .switches(&[switch("tracking")])
    .args(1, 1)
    .banner(|call| {
        format!(
            "Status of stream {} on node {} ...",
            call.arg(0),
            call.node()
        )
    }),
];

fn check_rebalance(call: &Call<'_>) -> Result<(), Unfit> {
    match call.arg(0) {
        "all" | "classic" | "quorum" | "stream" => Ok(()),
        other => {
            let text = format!(
                "type {other} is not supported. Try one of all, classic, \
                 quorum, stream."
            );
            Err(Failure::refused(text).into())
        }
    }
}

/// Spreads leaders, and shows how they are spread then.
pub(super) fn rebalance_all(call: &mut Call<'_>) -> Result<Output, Failure> {
    let pattern = |name: &str| call.options.text(name).unwrap_or(".*");
    let kind = call.args.first().map_or("all", String::as_str);
    let mut body = json!({
        "type": kind,
        "vhost_pattern": pattern("vhost-pattern"),
        "queue_pattern": pattern("queue-pattern"),
    });
    if let Some(target) = call.options.text("target") {
        body["target"] = json!(target);
    }
    let answer = call.post(&["internal", "rebalance"], body)?.good()?;
    let nodes = answer.body.as_array().cloned().unwrap_or_default();
    if nodes.iter().all(|node| whole(node, "classic") == 0) {
        return Ok(Output::List(Vec::new()));
    }
    let row = |node: &Json| {
        vec![
            ("Node name".to_owned(), Term::atom(text(node, "node"))),
            ("Number of quorum queues".to_owned(), Term::Int(0)),
            (
                "Number of replicated classic queues".to_owned(),
                Term::Int(whole(node, "classic").into()),
            ),
        ]
    };
    Ok(Output::List(nodes.iter().map(row).collect()))
}

/// Who leads a mirrored queue and who has a copy; nothing for others.
pub(super) fn value(queue: &Json, column: &str) -> Term {
    let Some(mirrors) = queue.get("slave_nodes").and_then(Json::as_array) else {
        return Term::of_words(queue.get(column).unwrap_or(&Json::Null));
    };
    let leader = text(queue, "node");
    let is_down = matches!(text(queue, "state"), "down" | "stopped" | "crashed");
    let leads = (column == "members" || !is_down).then(|| Term::atom(leader));
    match column {
        "leader" => Term::atom(leader),
        _ => Term::List(
            leads
                .into_iter()
                .chain(mirrors.iter().map(Term::of_words))
                .collect(),
        ),
    }
}

fn transfer(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost().to_owned(), call.arg(0).to_owned());
    let body = json!({"node": call.arg(1)});
    let answer = call.post(&["internal", "queues", &vhost, &queue, "leader"], body)?;
    match answer.status {
        404 => Err(Failure::not_found()),
        _ => answer.good().map(|_| Output::Done),
    }
}

fn synchronize(call: &mut Call<'_>, action: &str) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost().to_owned(), call.arg(0).to_owned());
    let path = ["internal", "queues", &vhost, &queue, "sync"];
    let answer = call.post(&path, json!({"action": action}))?;
    if answer.status == 404 {
        return Err(Failure::not_found());
    }
    Ok(match text(&answer.good()?.body, "result") {
        "not_syncing" => Output::Wrapped("not_syncing".to_owned()),
        _ => Output::Done,
    })
}

/// The answer for a queue that is there, or that it is not.
fn of_quorum_queue(call: &mut Call<'_>, refusal: &str) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost().to_owned(), call.arg(0).to_owned());
    match call.find(&["queues", &vhost, &queue])? {
        Some(_) => refuse(refusal),
        None => Err(Failure::not_found()),
    }
}

fn grow(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.arg(0).to_owned();
    let status = call.get(&["internal", "cluster-status"])?;
    if !texts(&status, "disk_nodes")
        .iter()
        .any(|known| cluster::handshake::is_same_node(known, &node))
    {
        return refuse(&format!("node {node} is not a member of the cluster"));
    }
    none_to_list(call)
}

fn none_to_list(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.get(&["internal", "status"])?;
    Ok(Output::List(Vec::new()))
}
