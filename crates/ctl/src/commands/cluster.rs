//! The nodes of a cluster: shown, joined, removed.

use serde_json::{Value as Json, json};

use super::status::{or_none, sections};
use super::{alarms, ask_for, listeners, refuse};
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse};
use crate::json::{flag, items, text, texts, whole};
use crate::options::flag as switch;
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] = &[
    command("cluster_status", Tools::BOTH, Section::Cluster, status)
        .about("Shows the nodes of the cluster and what runs on them")
        .timed()
        .timeout(60_000)
        .banner(|call| format!("Cluster status of node {} ...", call.node())),
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
            ("<existing_cluster_member>", "a node of the cluster to join"),
            ("--disc", "the only kind of node there is"),
            (
                "--ram",
                "taken for compatibility; the node is a disc node all the same",
            ),
        ])
        .switches(&[switch("disc"), switch("ram")])
        .args(1, 1)
        .check(|call| match call.flag("disc") && call.flag("ram") {
            true => Err(Misuse::bad("The node type must be either disc or ram.").into()),
            false => Ok(()),
        })
        .banner(|call| format!("Clustering node {} with {}", call.node(), call.arg(0))),
    command("forget_cluster_node", Tools::CTL, Section::Cluster, forget)
        .about("Removes a node from the cluster that will not come back")
        .usage("forget_cluster_node [--offline] <existing_cluster_member_node>")
        .details(&[
            (
                "<existing_cluster_member_node>",
                "the node to remove, which must be stopped",
            ),
            ("--offline", "not supported: ask a node that runs"),
        ])
        .switches(&[switch("offline")])
        .args(1, 1)
        .banner(|call| format!("Removing node {} from the cluster", call.arg(0))),
    command("reset", Tools::CTL, Section::Nodes, |call| {
        ask_for(call, &["internal", "reset"], json!({}), "reset")
    })
    .about("Takes a node out of its cluster and deletes all it has")
    .banner(|call| format!("Resetting node {} ...", call.node())),
    command("force_reset", Tools::CTL, Section::Cluster, |call| {
        ask_for(
            call,
            &["internal", "reset"],
            json!({"force": true}),
            "force_reset",
        )
    })
    .about("As reset, even if the other nodes cannot be told")
    .banner(|call| format!("Forcefully resetting node {} ...", call.node())),
    command("force_boot", Tools::CTL, Section::Cluster, |_| {
        refuse(
            "force_boot has no use here: a node starts without waiting for \
             others, and serves once a majority runs",
        )
    })
    .about("Lets a node start without the nodes it knew")
    .offline(),
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
    .about("Changes nothing: all nodes are disc nodes")
    .usage("change_cluster_node_type <disc | ram>")
    .args(1, 1)
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

fn at<'a>(status: &'a Json, key: &str) -> &'a Json {
    status.get(key).unwrap_or(&Json::Null)
}

fn status(call: &mut Call<'_>) -> Result<Output, Failure> {
    let status = call.get(&["internal", "cluster-status"])?;
    let flags = call.list(&["feature-flags"])?;
    let mut cores: Vec<(String, u64)> = Vec::new();
    for node in call
        .list(&["nodes"])?
        .iter()
        .filter(|node| flag(node, "running"))
    {
        cores.push((text(node, "name").to_owned(), whole(node, "processors")));
    }
    Ok(Output::Both(
        describe(&status, &flags, &cores),
        value(&status, &flags, &cores),
    ))
}

/// The entries of an object, one line each.
fn per_node(object: &Json, line: impl Fn(&str, &Json) -> Vec<String>) -> Vec<String> {
    let entries = object.as_object().into_iter().flatten();
    entries
        .flat_map(|(node, value)| line(node, value))
        .collect()
}

fn describe(status: &Json, flags: &[Json], cores: &[(String, u64)]) -> String {
    let total: u64 = cores.iter().map(|(_, count)| count).sum();
    let basics = vec![
        format!("Cluster name: {}", text(status, "cluster_name")),
        format!("Total CPU cores available cluster-wide: {total}"),
    ];
    let mut parts = vec![
        ("Basics", basics),
        ("Disk Nodes", names(status, "disk_nodes")),
    ];
    let ram_nodes = names(status, "ram_nodes");
    if !ram_nodes.is_empty() {
        parts.push(("RAM Nodes", ram_nodes));
    }
    let core_line =
        |(node, count): &(String, u64)| format!("Node: {node}, available CPU cores: {count}");
    let flag_line = |flag: &Json| {
        format!(
            "Flag: {}, state: {}",
            text(flag, "name"),
            text(flag, "state")
        )
    };
    let alarms = items(status, "alarms").iter().map(alarms::line).collect();
    let maintenance = per_node(at(status, "maintenance_status"), maintenance_lines);
    parts.extend([
        ("Running Nodes", names(status, "running_nodes")),
        ("Versions", per_node(at(status, "versions"), version_lines)),
        ("CPU Cores", cores.iter().map(core_line).collect()),
        ("Maintenance status", maintenance),
        ("Alarms", or_none(alarms)),
        (
            "Network Partitions",
            or_none(per_node(at(status, "partitions"), partition_lines)),
        ),
        (
            "Listeners",
            or_none(per_node(at(status, "listeners"), listener_lines)),
        ),
        (
            "Feature flags",
            or_none(flags.iter().map(flag_line).collect()),
        ),
    ]);
    sections(&parts)
}

fn names(status: &Json, key: &str) -> Vec<String> {
    let mut names: Vec<String> = texts(status, key).into_iter().map(str::to_owned).collect();
    names.sort_unstable();
    names
}

fn version_lines(node: &str, version: &Json) -> Vec<String> {
    let (name, number) = (
        text(version, "rabbitmq_name"),
        text(version, "rabbitmq_version"),
    );
    let platform = match text(version, "product_name") {
        "" => format!("Erlang {}", text(version, "erlang_version")),
        product => format!("{product} {}", text(version, "product_version")),
    };
    vec![format!("{node}: {name} {number} on {platform}")]
}

fn maintenance_lines(node: &str, state: &Json) -> Vec<String> {
    vec![format!(
        "Node: {node}, status: {}",
        state.as_str().unwrap_or("unknown")
    )]
}

fn partition_lines(node: &str, peers: &Json) -> Vec<String> {
    let peers = peers.as_array().into_iter().flatten();
    let peers: Vec<&str> = peers.filter_map(Json::as_str).collect();
    vec![format!(
        "Node {node} cannot communicate with {}",
        peers.join(", ")
    )]
}

fn listener_lines(node: &str, found: &Json) -> Vec<String> {
    let found = found.as_array().into_iter().flatten();
    let line =
        |listener: &Json| format!("Node: {node}, {}", lower_first(&listeners::line(listener)));
    found.map(line).collect()
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

fn value(status: &Json, flags: &[Json], cores: &[(String, u64)]) -> Term {
    let listeners = at(status, "listeners")
        .as_object()
        .into_iter()
        .flatten()
        .map(|(node, found)| {
            let found = found.as_array().into_iter().flatten();
            (
                node.clone(),
                Term::List(found.map(listeners::value).collect()),
            )
        });
    let cores = cores
        .iter()
        .map(|(node, count)| (node.clone(), Term::Int((*count).into())));
    Term::map([
        (
            "alarms",
            Term::List(items(status, "alarms").iter().map(alarms::value).collect()),
        ),
        ("cluster_name", Term::of_json(at(status, "cluster_name"))),
        ("cpu_cores", Term::Map(cores.collect())),
        ("disk_nodes", Term::of_words(at(status, "disk_nodes"))),
        (
            "feature_flags",
            Term::List(flags.iter().map(Term::of_json).collect()),
        ),
        ("listeners", Term::Map(listeners.collect())),
        (
            "maintenance_status",
            Term::of_json(at(status, "maintenance_status")),
        ),
        ("partitions", Term::of_json(at(status, "partitions"))),
        ("ram_nodes", Term::of_words(at(status, "ram_nodes"))),
        ("running_nodes", Term::of_json(at(status, "running_nodes"))),
        ("versions", Term::of_json(at(status, "versions"))),
    ])
}

fn set_name(call: &mut Call<'_>) -> Result<Output, Failure> {
    let body = json!({"name": call.arg(0)});
    call.put(&["cluster-name"], body)?.good()?;
    Ok(Output::Done)
}

fn join(call: &mut Call<'_>) -> Result<Output, Failure> {
    let body = json!({"node": call.arg(0)});
    ask_for(call, &["internal", "cluster", "join"], body, "join_cluster")
}

fn forget(call: &mut Call<'_>) -> Result<Output, Failure> {
    if call.flag("offline") {
        return refuse(
            "forget_cluster_node --offline is not supported: ask a node of \
             the cluster that runs",
        );
    }
    let node = call.arg(0).to_owned();
    let status = call.get(&["internal", "cluster-status"])?;
    if !texts(&status, "disk_nodes")
        .iter()
        .any(|known| cluster::handshake::is_same_node(known, &node))
    {
        return refuse("{:not_a_cluster_node, 'The node selected is not in the cluster.'}");
    }
    if texts(&status, "running_nodes")
        .iter()
        .any(|known| cluster::handshake::is_same_node(known, &node))
    {
        return refuse(&format!(
            "RabbitMQ on node {node} must be stopped with 'rabbitmqctl -n \
             {node} stop_app' before it can be removed"
        ));
    }
    ask_for(
        call,
        &["internal", "cluster", "forget"],
        json!({"node": node}),
        "forget_cluster_node",
    )
}

fn change_type(call: &mut Call<'_>) -> Result<Output, Failure> {
    match call.arg(0) {
        "ram" => refuse(
            "all nodes of Warren keep the metadata on disk: there are no \
             ram nodes",
        ),
        _ => Ok(Output::Text("Node type is already disc".to_owned())),
    }
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
