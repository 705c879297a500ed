//! All commands, one file per noun.

mod alarms;
mod bindings;
mod channels;
mod checks;
mod cluster;
mod cluster_status;
mod configuration;
mod connections;
mod consumers;
mod definitions;
mod erlang;
mod exchanges;
mod features;
mod help;
mod limits;
mod listeners;
mod logs;
mod memory;
mod nodes;
mod parameters;
mod permissions;
mod plugins;
mod policies;
mod queues;
mod replicas;
mod report;
mod status;
mod topic_permissions;
mod upgrade;
mod users;
mod vhosts;

use serde_json::Value as Json;

use crate::call::Call;
use crate::command::Command;
use crate::failure::Failure;
use crate::output::Output;

/// The tables of all nouns.
pub(crate) const TABLES: &[&[Command]] = &[
    alarms::COMMANDS,
    bindings::COMMANDS,
    channels::COMMANDS,
    checks::COMMANDS,
    cluster::COMMANDS,
    cluster_status::COMMANDS,
    configuration::COMMANDS,
    connections::COMMANDS,
    consumers::COMMANDS,
    definitions::COMMANDS,
    erlang::COMMANDS,
    exchanges::COMMANDS,
    features::COMMANDS,
    help::COMMANDS,
    limits::COMMANDS,
    listeners::COMMANDS,
    logs::COMMANDS,
    memory::COMMANDS,
    nodes::COMMANDS,
    parameters::COMMANDS,
    permissions::COMMANDS,
    plugins::COMMANDS,
    policies::COMMANDS,
    queues::COMMANDS,
    replicas::COMMANDS,
    report::COMMANDS,
    status::COMMANDS,
    topic_permissions::COMMANDS,
    upgrade::COMMANDS,
    users::COMMANDS,
    vhosts::COMMANDS,
];

const VHOST: (&str, &str) = ("--vhost <vhost>", "the virtual host, / unless given");
const NO_HEADERS: (&str, &str) = ("--no-table-headers", "leaves the names of the columns out");

/// Reads a JSON argument.
fn json_arg(text: &str) -> Result<Json, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::refused(format!("JSON decoding error. Reason: {error}")))
}

/// Asks for something that not every node can do. `what` begins the sentence of a refusal.
fn ask_for(
    call: &mut Call<'_>,
    segments: &[&str],
    body: Json,
    what: &str,
) -> Result<Output, Failure> {
    let answer = call.post(segments, body)?;
    if answer.status == 404 {
        return Err(Failure::refused(format!(
            "{what} is not supported by node {}",
            call.node()
        )));
    }
    answer.good().map(|_| Output::Done)
}

/// Refuses what Warren has no use for.
fn refuse(reason: &str) -> Result<Output, Failure> {
    Err(Failure::refused(reason))
}
