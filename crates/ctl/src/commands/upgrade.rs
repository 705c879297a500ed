//! Taking a node out of service and back.

use std::time::Duration;

use serde_json::json;

use super::checks::{is_single_node, verdict};
use super::{ask_for, replicas};
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

/// How often the node is asked whether it may be stopped.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) const COMMANDS: &[Command] = &[
    command("drain", Tools::UPGRADE, Section::Upgrade, |call| {
        ask_for(call, &["internal", "drain"], json!({}), "Maintenance mode")
    })
    .about(
        "Puts a node into maintenance mode: its clients go, its queues \
         are led by other nodes",
    )
    .banner(|call| {
        format!(
            "Will put node {} into maintenance mode. The node will no \
             longer serve any client traffic!",
            call.node()
        )
    }),
    command("revive", Tools::UPGRADE, Section::Upgrade, |call| {
        ask_for(call, &["internal", "revive"], json!({}), "Maintenance mode")
    })
    .about("Ends the maintenance mode of a node")
    .banner(|call| {
        format!(
            "Will put node {} back into regular operating mode. The node \
             will again serve client traffic and host primary queue \
             replicas.",
            call.node()
        )
    }),
    command(
        "await_online_quorum_plus_one",
        Tools::UPGRADE,
        Section::Upgrade,
        |call| {
            await_verdict(
                call,
                "node-is-quorum-critical",
                "no quorum + 1 online replicas came online for at least some \
                 quorum queues or streams",
            )
        },
    )
    .about(
        "Waits until the cluster keeps its majority and every queue a \
         copy without this node",
    )
    .timeout(120_000)
    .banner(|call| {
        format!(
            "Will wait for a quorum + 1 of nodes to be online for all \
             quorum queues and streams for {} seconds...",
            call.timeout.unwrap_or_default() / 1000
        )
    }),
    command(
        "await_online_synchronized_mirror",
        Tools::UPGRADE,
        Section::Upgrade,
        |call| {
            await_verdict(
                call,
                "node-is-mirror-sync-critical",
                "no synchronised mirror came online for at least some classic \
                 mirrored queues",
            )
        },
    )
    .about(
        "Waits until every mirrored queue has a synchronized copy on \
         another node",
    )
    .timeout(120_000)
    .banner(|call| {
        format!(
            "Will wait for a synchronised mirror be online for all classic \
             mirrored queues for {} seconds...",
            call.timeout.unwrap_or_default() / 1000
        )
    }),
    command(
        "post_upgrade",
        Tools::UPGRADE,
        Section::Upgrade,
        replicas::rebalance_all,
    )
    .about("Spreads the leaders of queues after an upgrade")
    .banner(|_| "Executing post upgrade tasks...\nRebalancing queue masters...".to_owned()),
    command(
        "suspend_listeners",
        Tools::CTL,
        Section::Operations,
        |call| {
            ask_for(
                call,
                &["internal", "listeners", "suspend"],
                json!({}),
                "suspend_listeners",
            )
        },
    )
    .about("Lets no new clients connect to a node")
    .banner(|call| {
        format!(
            "Will suspend client connection listeners on node {}. The node \
             will no longer accept client connections!",
            call.node()
        )
    }),
    command(
        "resume_listeners",
        Tools::CTL,
        Section::Operations,
        |call| {
            ask_for(
                call,
                &["internal", "listeners", "resume"],
                json!({}),
                "resume_listeners",
            )
        },
    )
    .about("Lets clients connect to a node again")
    .banner(|call| {
        format!(
            "Will resume client connection listeners on node {}. The node \
             will now accept client connections",
            call.node()
        )
    }),
];

fn await_verdict(call: &mut Call<'_>, check: &str, failing: &str) -> Result<Output, Failure> {
    loop {
        let (is_good, body) = verdict(call, &[check])?;
        if is_good && is_single_node(&body) {
            let target = "Target node seems to be the only one in a single node cluster, \
                          the";
            let json = Term::map([
                ("result", Term::text("ok")),
                (
                    "message",
                    Term::text(format!("{target} check does not apply")),
                ),
            ]);
            return Ok(match call.is_quiet() && !call.is_json() {
                true => Output::Done,
                false => Output::Both(format!("{target} command does not apply"), json),
            });
        }
        if is_good {
            return Ok(Output::Done);
        }
        call.outside.sleep(INTERVAL);
        if call.left().is_err() {
            let text = format!("time is up, {failing}");
            let json = Term::map([
                ("result", Term::text("error")),
                ("node", Term::text(call.node())),
                ("message", Term::text(&text)),
            ]);
            return Err(Failure::refused(text).with_json(json));
        }
    }
}
