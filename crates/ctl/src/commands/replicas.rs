//! Copies of queues on several nodes. Warren mirrors queues by policy; it has no quorum queues,
//! whose commands answer as RabbitMQ answers for classic queues.

use serde_json::{Value as Json, json};

use super::refuse;
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse, Unfit};
use crate::format::Formatter;
use crate::json::{flag, text, texts};
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
             <pattern>] [--queue-pattern <pattern>]",
        )
        .details(&[(
            "<type>",
            "all and classic spread mirrored queues; there are no quorum \
             queues and streams",
        )])
        .switches(&[text_switch("vhost-pattern"), text_switch("queue-pattern")])
        .formatter(Formatter::PrettyTable)
        .args(1, 1)
        .check(check_rebalance)
        .banner(|call| format!("Re-balancing leaders of {} queues...", call.arg(0))),
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

/// Spreads leaders, and shows how they are spread at this moment: the node answers before all have
/// moved.
pub(super) fn rebalance_all(call: &mut Call<'_>) -> Result<Output, Failure> {
    if matches!(
        call.args.first().map(String::as_str),
        Some("quorum" | "stream")
    ) {
        return none_to_list(call);
    }
    if call
        .options
        .text("vhost-pattern")
        .or(call.options.text("queue-pattern"))
        .is_some_and(|pattern| pattern != ".*")
    {
        return refuse(
            "rebalance spreads all mirrored queues: patterns are not \
             supported",
        );
    }
    call.post(&["rebalance", "queues"], json!({}))?.good()?;
    let nodes = call.list(&["nodes"])?;
    let queues = call.list(&["queues"])?;
    let is_mirrored = |queue: &&Json| queue.get("slave_nodes").is_some();
    if !queues.iter().any(|queue| is_mirrored(&queue)) {
        return Ok(Output::List(Vec::new()));
    }
    let row = |node: &Json| {
        let name = text(node, "name");
        let count = queues
            .iter()
            .filter(is_mirrored)
            .filter(|queue| text(queue, "node") == name)
            .count();
        vec![
            ("Node name".to_owned(), Term::atom(name)),
            ("Number of quorum queues".to_owned(), Term::Int(0)),
            (
                "Number of replicated classic queues".to_owned(),
                Term::Int(i128::try_from(count).unwrap_or_default()),
            ),
        ]
    };
    let running = nodes.iter().filter(|node| flag(node, "running"));
    Ok(Output::List(running.map(row).collect()))
}

/// The answer for a queue that is there, or that it is not.
fn of_quorum_queue(call: &mut Call<'_>, refusal: &str) -> Result<Output, Failure> {
    let (vhost, queue) = (call.vhost().to_owned(), call.arg(0).to_owned());
    match call.find(&["queues", &vhost, &queue])? {
        Some(_) => refuse(refusal),
        None => refuse("not_found"),
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
