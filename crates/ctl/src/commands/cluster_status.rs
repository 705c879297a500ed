//! How a cluster stands: `cluster_status`.
//!
//! RabbitMQ's sections and keys come first and are RabbitMQ's to the letter. What only Warren knows
//! follows, in sections and under keys of its own.

use serde_json::Value as Json;

use super::status::{or_none, sections};
use super::{alarms, listeners};
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::json::{flag, items, text, texts, whole};
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] =
    &[
        command("cluster_status", Tools::BOTH, Section::Cluster, status)
            .about("Shows the nodes of the cluster and what runs on them")
            .timed()
            .timeout(60_000)
            .any_app()
            .banner(|call| format!("Cluster status of node {} ...", call.node())),
    ];

fn at<'a>(status: &'a Json, key: &str) -> &'a Json {
    status.get(key).unwrap_or(&Json::Null)
}

fn status(call: &mut Call<'_>) -> Result<Output, Failure> {
    let status = call.get(&["internal", "cluster-status"])?;
    if !is_running(&status) {
        return Ok(Output::Both(last_known(&status), value(&status, &[], &[])));
    }
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

/// Whether the broker application runs. A node that does not say has nothing else.
fn is_running(status: &Json) -> bool {
    status
        .get("app")
        .is_none_or(|app| text(app, "state") == "running")
}

/// What a node whose application does not run remembers.
fn last_known(status: &Json) -> String {
    let app = at(status, "app");
    let mut state = vec![format!("State: {}", text(app, "state"))];
    if !text(app, "why").is_empty() {
        state.push(format!("Reason: {}", text(app, "why")));
    }
    let basics = vec![format!("Cluster name: {}", text(status, "cluster_name"))];
    let mut parts = vec![
        ("Basics", basics),
        ("Disk Nodes", names(status, "disk_nodes")),
    ];
    parts.extend(other_members(status));
    parts.push(("Running Nodes", vec!["(not known)".to_owned()]));
    parts.push(("Application", state));
    sections(&parts)
}

/// Sections for the members that are no disc nodes, if there are any.
fn other_members(status: &Json) -> Vec<(&'static str, Vec<String>)> {
    let sections = [
        ("RAM Nodes", "ram_nodes"),
        ("Witness Nodes", "witness_nodes"),
    ];
    let sections = sections.map(|(title, key)| (title, names(status, key)));
    let found = sections.into_iter().filter(|(_, names)| !names.is_empty());
    found.collect()
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
    parts.extend(other_members(status));
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
    if status.get("metadata").is_some() {
        parts.push(("Metadata", metadata(status)));
        let members = items(status, "members");
        parts.push(("Membership", members.iter().map(membership_line).collect()));
    }
    sections(&parts)
}

/// Who keeps the metadata, and whether they can be changed.
fn metadata(status: &Json) -> Vec<String> {
    let metadata = at(status, "metadata");
    let quorum = match flag(metadata, "quorum") {
        true => "yes",
        false => "no, changes wait for a majority of the voters",
    };
    let mut lines = vec![
        format!(
            "Cluster id: {}, generation: {}",
            text(metadata, "cluster_id"),
            whole(metadata, "generation")
        ),
        format!("Quorum: {quorum}"),
        format!(
            "Partition handling: {}",
            text(metadata, "partition_handling")
        ),
    ];
    lines.extend(items(status, "members").iter().map(|member| {
        let leads = match flag(member, "leads_metadata") {
            true => ", leader",
            false => "",
        };
        let witness = match text(member, "type") {
            "witness" => ", witness",
            _ => "",
        };
        let (node, role) = (text(member, "node"), text(member, "role"));
        format!(
            "Node: {node}, number: {}, role: {role}{witness}{leads}",
            whole(member, "number")
        )
    }));
    lines
}

fn membership_line(member: &Json) -> String {
    let (node, incarnation) = (text(member, "node"), whole(member, "incarnation"));
    match text(member, "state") {
        "own" => format!("Node: {node}, state: this node, incarnation: {incarnation}"),
        state => {
            let seconds = whole(member, "state_age_millis") / 1000;
            format!("Node: {node}, state: {state} for {seconds} s, incarnation: {incarnation}")
        }
    }
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
    let mut map = Term::map([
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
    ]);
    if let Term::Map(map) = &mut map {
        // RabbitMQ has none: what reads its answers need not know of them.
        let witnesses = at(status, "witness_nodes");
        if !items(status, "witness_nodes").is_empty() {
            map.insert("witness_nodes".to_owned(), Term::of_words(witnesses));
        }
        for key in ["app", "members", "metadata"] {
            if let Some(found) = status.get(key) {
                map.insert(key.to_owned(), Term::of_json(found));
            }
        }
    }
    map
}
