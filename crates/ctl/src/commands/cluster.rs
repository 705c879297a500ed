//! The nodes of a cluster: joined, removed, named.

use serde_json::{Value as Json, json};

use super::{ask_for, refuse};
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse};
use crate::json::flag;
use crate::options::flag as switch;
use crate::output::Output;
use crate::outside::Trouble;
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "set_cluster_name",
        Tools::CTL,
        Section::Configuration,
        set_name,
    )
    .about("Names the cluster")
    .usage("set_cluster_name <name>")
    .details(&[("<name>", "the new name")])
    .args(1, 1)
    .banner(|call| format!("Setting cluster name to {} ...", call.arg(0))),
    command("join_cluster", Tools::CTL, Section::Cluster, join)
        .about("Makes the node a member of the cluster that another node is in")
        .usage("join_cluster [--disc|--ram] <existing_cluster_member>")
        .details(&[
            (
                "<existing_cluster_member>",
                "a node of the cluster to join; everything this node has is \
                 deleted",
            ),
            ("--disc", "the node keeps the metadata on disk, as is usual"),
            ("--ram", "the node keeps the metadata in memory only"),
        ])
        .switches(&[switch("disc"), switch("ram")])
        .args(1, 1)
        .any_app()
        .check(|call| match call.flag("disc") && call.flag("ram") {
            true => Err(Misuse::bad("The node type must be either disc or ram.").into()),
            false => Ok(()),
        })
        .banner(|call| format!("Clustering node {} with {}", call.node(), call.arg(0))),
    command("forget_cluster_node", Tools::CTL, Section::Cluster, forget)
        .about("Removes a node from the cluster that will not come back")
        .usage("forget_cluster_node [--offline] [--force] <existing_cluster_member_node>")
        .details(&[
            (
                "<existing_cluster_member_node>",
                "the node to remove, which must be stopped",
            ),
            (
                "--offline",
                "has a node that is stopped, or waits for others, give up that \
                 one while no node of the cluster runs; on the node's own host, \
                 if its process does not run",
            ),
            (
                "--force",
                "goes on where a queue would lose the last copy of its messages",
            ),
        ])
        .switches(&[switch("offline"), switch("force")])
        .args(1, 1)
        .any_app()
        .offline_if(|call| call.flag("offline"))
        .banner(|call| {
            let text = format!("Removing node {} from the cluster", call.arg(0));
            match call.flag("offline") {
                true => {
                    format!("{text}. Warning: quorum queues cannot be shrunk in offline mode")
                }
                false => text,
            }
        }),
    command("leave_cluster", Tools::CTL, Section::Cluster, leave)
        .about("Takes the node out of its cluster for good and deletes all it has")
        .usage("leave_cluster [--drain] [--force]")
        .details(&[
            (
                "--drain",
                "first lets other nodes lead the queues of this one",
            ),
            (
                "--force",
                "goes even where a queue would lose the last copy of its messages",
            ),
        ])
        .switches(&[switch("drain"), switch("force")])
        .any_app()
        .banner(|call| format!("Taking node {} out of its cluster ...", call.node())),
    command("reset", Tools::CTL, Section::Nodes, |call| {
        reset(call, false)
    })
    .about("Takes a node out of its cluster and deletes all it has")
    .stopped_app()
    .banner(|call| format!("Resetting node {} ...", call.node())),
    command("force_reset", Tools::CTL, Section::Cluster, |call| {
        reset(call, true)
    })
    .about("As reset, even if the other nodes cannot be told")
    .stopped_app()
    .banner(|call| format!("Forcefully resetting node {} ...", call.node())),
    command("force_boot", Tools::CTL, Section::Cluster, |call| {
        let path = ["internal", "cluster", "force-boot"];
        ask_for(call, &path, json!({}), "force_boot")
    })
    .about("Lets a node start without the nodes it knew")
    .stopped_app(),
    command("heal_partition", Tools::CTL, Section::Cluster, |call| {
        let path = ["internal", "cluster", "heal"];
        ask_for(call, &path, json!({}), "heal_partition")
    })
    .about("Ends a partition now; the side of this node stays")
    .banner(|call| {
        format!(
            "Healing the partition, with the side of node {} ...",
            call.node()
        )
    }),
    command(
        "force_standalone_khepri_boot",
        Tools::CTL,
        Section::Cluster,
        |call| {
            ask_for(
                call,
                &["internal", "standalone"],
                json!({}),
                "force_standalone_khepri_boot",
            )
        },
    )
    .about("Makes a node the only one of its cluster"),
    command(
        "change_cluster_node_type",
        Tools::CTL,
        Section::Cluster,
        change_type,
    )
    .about("Joins the own cluster anew as another kind of node")
    .usage("change_cluster_node_type <disc | ram>")
    .args(1, 1)
    .stopped_app()
    .check(|call| match call.arg(0) {
        "disc" | "disk" | "ram" => Ok(()),
        _ => Err(Misuse::bad("The node type must be either disc or ram.").into()),
    })
    .banner(|call| format!("Turning {} into a {} node", call.node(), call.arg(0))),
    command(
        "rename_cluster_node",
        Tools::CTL,
        Section::Deprecated,
        |_| Ok(Output::Done),
    )
    .about("Changes nothing: nodes keep their names")
    .offline()
    .usage(
        "rename_cluster_node <oldnode1> <newnode1> [oldnode2] \
         [newnode2] ...",
    )
    .args(2, usize::MAX)
    .banner(|_| "DEPRECATED. This command is a no-op.".to_owned()),
    command(
        "update_cluster_nodes",
        Tools::CTL,
        Section::Deprecated,
        |_| Ok(Output::Done),
    )
    .about("Changes nothing: nodes know each other by themselves")
    .offline()
    .usage("update_cluster_nodes <seed_node>")
    .args(1, 1)
    .banner(|_| "DEPRECATED. This command is a no-op.".to_owned()),
    command(
        "discover_peers",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        discover,
    )
    .about("Looks for nodes to form a cluster with")
    .timed()
    .banner(|_| "Discovering peers nodes ...".to_owned()),
];

fn set_name(call: &mut Call<'_>) -> Result<Output, Failure> {
    let body = json!({"name": call.arg(0)});
    call.put(&["cluster-name"], body)?.good()?;
    Ok(Output::Done)
}

fn join(call: &mut Call<'_>) -> Result<Output, Failure> {
    let kind = if call.flag("ram") { "ram" } else { "disc" };
    let body = json!({"node": full_name(call), "kind": kind});
    let answer = call.post(&["internal", "cluster", "join"], body)?.good()?;
    Ok(match flag(&answer.body, "already") {
        true => Output::Text("The node is already a member of this cluster".to_owned()),
        false => Output::Done,
    })
}

/// The node of the first argument; without a host it is on this machine.
fn full_name(call: &Call<'_>) -> String {
    let name = call.arg(0);
    if name.contains('@') {
        return name.to_owned();
    }
    let host = call.outside.host_name();
    let host = match call.flag("longnames") {
        true => host.as_str(),
        false => host.split('.').next().unwrap_or_default(),
    };
    format!("{name}@{host}")
}

fn forget(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.arg(0).to_owned();
    if call.flag("offline") {
        return forget_offline(call, &node);
    }
    let body = json!({"node": node, "force": call.flag("force")});
    call.post(&["internal", "cluster", "forget"], body)?.good()?;
    Ok(Output::Done)
}

/// Asks the node, or acts as the node where no process of it runs.
fn forget_offline(call: &mut Call<'_>, node: &str) -> Result<Output, Failure> {
    match call.connect() {
        Ok(()) => {
            let body = json!({"node": node});
            call.post(&["internal", "cluster", "forget-offline"], body)?
                .good()?;
        }
        Err(Trouble::Unreachable(_)) => {
            let own = call.node().to_owned();
            let done = call.outside.forget_offline(&own, node);
            done.map_err(|refused| Failure::new(refused.exit_code, refused.text))?;
        }
        Err(trouble) => return Err(call.explain(&trouble)),
    }
    Ok(Output::Done)
}

fn leave(call: &mut Call<'_>) -> Result<Output, Failure> {
    let body = json!({"drain": call.flag("drain"), "force": call.flag("force")});
    call.post(&["internal", "cluster", "leave"], body)?.good()?;
    Ok(Output::Done)
}

fn reset(call: &mut Call<'_>, force: bool) -> Result<Output, Failure> {
    let body = json!({"force": force});
    call.post(&["internal", "reset"], body)?.good()?;
    Ok(Output::Done)
}

fn change_type(call: &mut Call<'_>) -> Result<Output, Failure> {
    let kind = match call.arg(0) {
        "ram" => "ram",
        _ => "disc",
    };
    let body = json!({"kind": kind});
    let answer = call.post(&["internal", "cluster", "kind"], body)?.good()?;
    Ok(match flag(&answer.body, "changed") {
        true => Output::Done,
        false => Output::Text(format!("Node type is already {kind}")),
    })
}

fn discover(call: &mut Call<'_>) -> Result<Output, Failure> {
    let Some(found) = call.find(&["internal", "peers"])? else {
        return refuse("peer discovery cannot be asked for on this node");
    };
    let peers: Vec<String> = found
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .map(str::to_owned)
        .collect();
    Ok(match peers.is_empty() {
        true => Output::Text("No peers discovered".to_owned()),
        false => Output::Lines(peers),
    })
}
