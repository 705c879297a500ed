//! Virtual hosts.

use serde_json::{Map, Value as Json, json};

use crate::call::Call;
use crate::columns;
use crate::command::{Command, Section, command};
use crate::failure::{DATA, Failure, Misuse, SOFTWARE, USAGE, Unfit};
use crate::json::{flag, text, texts};
use crate::options::{Switch, text as text_switch};
use crate::output::Output;
use crate::term::{Term, quoted};
use crate::tool::Tools;

const COLUMNS: &[&str] = &[
    "name",
    "description",
    "tags",
    "default_queue_type",
    "tracing",
    "cluster_state",
];
const METADATA: &[Switch] = &[
    text_switch("description").short('d'),
    text_switch("tags"),
    text_switch("default-queue-type"),
];
const NAME: (&str, &str) = ("<vhost>", "the name of the virtual host");
const DETAILS: &[(&str, &str)] = &[
    NAME,
    ("--description <description>", "what it is for"),
    ("--tags <tag1,tag2>", "words, with commas between them"),
    (
        "--default-queue-type <quorum|classic|stream>",
        "the type of queues whose declaration names none",
    ),
];

pub(super) const COMMANDS: &[Command] = &[
    command("add_vhost", Tools::CTL, Section::VirtualHosts, add)
        .about("Makes a virtual host")
        .usage(
            "add_vhost <vhost> [--description <description> --tags \
             \"<tag1>,<tag2>,<...>\" --default-queue-type \
             <quorum|classic|stream>]",
        )
        .details(DETAILS)
        .switches(METADATA)
        .args(1, 1)
        .banner(|call| format!("Adding vhost \"{}\" ...", call.arg(0))),
    command(
        "update_vhost_metadata",
        Tools::CTL,
        Section::VirtualHosts,
        update,
    )
    .about(
        "Changes the description, tags or default queue type of a \
         virtual host",
    )
    .usage(
        "update_vhost_metadata <vhost> [--description <description>] \
         [--tags \"<tag1>,<tag2>,<...>\"] [--default-queue-type \
         <quorum|classic|stream>]",
    )
    .details(DETAILS)
    .switches(METADATA)
    .args(1, 1)
    .check(check_update)
    .banner(|call| format!("Updating metadata of vhost \"{}\" ...", call.arg(0))),
    command("delete_vhost", Tools::CTL, Section::VirtualHosts, delete)
        .about("Deletes a virtual host with all that is in it")
        .usage("delete_vhost <vhost>")
        .details(&[NAME])
        .args(1, 1)
        .banner(|call| format!("Deleting vhost \"{}\" ...", call.arg(0))),
    command("list_vhosts", Tools::BOTH, Section::Access, list)
        .about("Lists virtual hosts")
        .usage("list_vhosts [--no-table-headers] [<column> ...]")
        .details(&[
            (
                "<column>",
                "one of cluster_state, default_queue_type, description, name, \
                 tags, tracing",
            ),
            super::NO_HEADERS,
        ])
        .timed()
        .table()
        .args(0, usize::MAX)
        .check(|call| columns::check(call, COLUMNS))
        .banner(|_| "Listing vhosts ...".to_owned()),
    command(
        "set_vhost_tags",
        Tools::CTL,
        Section::VirtualHosts,
        set_tags,
    )
    .about("Sets the tags of a virtual host")
    .usage("set_vhost_tags <vhost> <tag> [...]")
    .details(&[NAME, ("<tag>", "a word; none removes all")])
    .args(1, usize::MAX)
    .banner(|call| {
        format!(
            "Setting tags for virtual host \"{}\" to [{}] ...",
            call.arg(0),
            call.args[1..].join(", ")
        )
    }),
    command("restart_vhost", Tools::CTL, Section::VirtualHosts, restart)
        .about("Starts a virtual host that is down on a node")
        .usage("restart_vhost [--vhost <vhost>]")
        .details(&[super::VHOST])
        .timed()
        .banner(|call| {
            format!(
                "Trying to restart vhost '{}' on node '{}' ...",
                call.vhost(),
                call.node()
            )
        }),
    command(
        "reconcile_vhosts",
        Tools::CTL,
        Section::VirtualHosts,
        reconcile,
    )
    .about("Makes sure that all virtual hosts are on all nodes")
    .timed()
    .banner(|_| {
        "Will try to initiate virtual host reconciliation on all \
         reachable cluster nodes..."
            .to_owned()
    }),
    command("trace_on", Tools::CTL, Section::VirtualHosts, |call| {
        trace(call, true)
    })
    .about(
        "Copies all messages of a virtual host to the exchange \
         amq.rabbitmq.trace",
    )
    .usage("trace_on [--vhost <vhost>]")
    .details(&[super::VHOST])
    .args(0, usize::MAX)
    .banner(|call| format!("Starting tracing for vhost \"{}\" ...", call.vhost())),
    command("trace_off", Tools::CTL, Section::VirtualHosts, |call| {
        trace(call, false)
    })
    .about("Ends the copying of trace_on")
    .usage("trace_off [--vhost <vhost>]")
    .details(&[super::VHOST])
    .args(0, usize::MAX)
    .banner(|call| format!("Stopping tracing for vhost \"{}\" ...", call.vhost())),
];

/// What the options say about a virtual host.
fn metadata(call: &Call<'_>) -> Map<String, Json> {
    let mut metadata = Map::new();
    for (option, key) in [
        ("description", "description"),
        ("tags", "tags"),
        ("default-queue-type", "default_queue_type"),
    ] {
        if let Some(value) = call.options.text(option) {
            metadata.insert(key.to_owned(), json!(value));
        }
    }
    metadata
}

fn put(call: &mut Call<'_>, vhost: &str, metadata: Map<String, Json>) -> Result<Output, Failure> {
    let answer = call.put(&["vhosts", vhost], Json::Object(metadata))?;
    let reason = answer.reason();
    if answer.status == 400 && reason.contains("is not served") {
        return Err(Failure::new(USAGE, reason));
    }
    if answer.status == 400 && reason.contains("queue type") {
        return Err(Failure::new(USAGE, "Unsupported default queue type"));
    }
    if answer.status == 400 && reason.contains("limit") {
        return Err(Failure::new(USAGE, reason));
    }
    answer.good().map(|_| Output::Done)
}

fn add(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.arg(0).to_owned();
    if call.has_vhost(&vhost)? {
        // As RabbitMQ: it is there, and stays as it is.
        return Ok(Output::Done);
    }
    let metadata = metadata(call);
    put(call, &vhost, metadata)
}

fn check_update(call: &Call<'_>) -> Result<(), Unfit> {
    if metadata(call).is_empty() {
        return Err(Misuse::NotEnough(None).into());
    }
    match call.options.text("default-queue-type") {
        None | Some("quorum" | "stream" | "classic") => Ok(()),
        Some(other) => {
            let text = format!(
                "Default queue type must be one of: quorum, stream, classic. \
                 Provided: {other}"
            );
            Err(Misuse::bad(text).into())
        }
    }
}

fn update(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.arg(0).to_owned();
    if !call.has_vhost(&vhost)? {
        return Err(Failure::no_vhost(&vhost));
    }
    let metadata = metadata(call);
    put(call, &vhost, metadata)
}

fn delete(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.arg(0).to_owned();
    let answer = call.delete(&["vhosts", &vhost])?;
    if answer.status == 404 {
        return Err(Failure::no_vhost(&vhost));
    }
    answer.good().map(|_| Output::Done)
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhosts = call.list(&["vhosts"])?;
    let columns = columns::asked(&call.args, &["name"]);
    let row = |vhost: &Json| columns::row(&columns, |column| value(vhost, column));
    Ok(Output::List(vhosts.iter().map(row).collect()))
}

fn value(vhost: &Json, column: &str) -> Term {
    match column {
        "tracing" => Term::flag(flag(vhost, "tracing")),
        "tags" => Term::List(texts(vhost, "tags").into_iter().map(Term::atom).collect()),
        "cluster_state" => {
            let state = vhost.get("cluster_state").and_then(Json::as_object);
            let pair = |(node, state): (&String, &Json)| (node.clone(), Term::of_words(state));
            Term::Pairs(state.into_iter().flatten().map(pair).collect())
        }
        column => Term::text(text(vhost, column)),
    }
}

fn set_tags(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.arg(0).to_owned();
    if !call.has_vhost(&vhost)? {
        return Err(Failure::new(
            DATA,
            format!("Virtual host \"{vhost}\" does not exist"),
        ));
    }
    let tags = json!(call.args[1..].join(","));
    put(call, &vhost, Map::from_iter([("tags".to_owned(), tags)]))
}

fn restart(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (vhost, node) = (call.vhost().to_owned(), call.node().to_owned());
    if !call.has_vhost(&vhost)? {
        let text = format!(
            "Failed to start vhost '{vhost}' on node '{node}'Reason: \
             {{:no_such_vhost, {}}}",
            quoted(&vhost)
        );
        return Err(Failure::new(SOFTWARE, text));
    }
    // A virtual host runs wherever its node runs, and this node has just answered.
    Ok(Output::Text(format!(
        "Vhost '{vhost}' is already running on node '{node}'"
    )))
}

fn reconcile(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.get(&["vhosts"])?;
    Ok(Output::Text(
        "Virtual hosts are part of the metadata that all nodes share: \
         nothing to reconcile."
            .to_owned(),
    ))
}

fn trace(call: &mut Call<'_>, is_on: bool) -> Result<Output, Failure> {
    let vhost = call.require_vhost()?;
    put(
        call,
        &vhost,
        Map::from_iter([("tracing".to_owned(), json!(is_on))]),
    )?;
    let state = if is_on { "enabled" } else { "disabled" };
    Ok(Output::Text(format!("Trace {state} for vhost {vhost}")))
}
