//! Everything about a node in one text.

use crate::call::Call;
use crate::command::{Command, Section, command, find};
use crate::failure::{Failure, Misuse, UNAVAILABLE};
use crate::format::Formatter;
use crate::json::text;
use crate::output::Output;
use crate::tool::{Tool, Tools};

/// Commands about the node, with whether they are asked for all their columns.
const NODE: &[(&str, &[&str])] = &[
    ("status", &[]),
    ("cluster_status", &[]),
    ("environment", &[]),
    ("list_connections", super::connections::COLUMNS),
    ("list_channels", super::channels::COLUMNS),
    ("command_line_arguments", &[]),
    ("os_env", &[]),
];

/// Commands about each virtual host.
const VHOST: &[(&str, &[&str])] = &[
    ("list_queues", super::queues::COLUMNS),
    ("list_exchanges", super::exchanges::COLUMNS),
    ("list_bindings", super::bindings::COLUMNS),
    ("list_permissions", &[]),
    ("list_policies", &[]),
    ("list_global_parameters", &[]),
    ("list_parameters", &[]),
];

pub(super) const COMMANDS: &[Command] =
    &[command("report", Tools::BOTH, Section::Monitoring, report)
        .about("Shows everything about a node, for those who help")
        .formatter(Formatter::Report)
        .check(|call| match call.formatter {
            Formatter::Report => Ok(()),
            _ => Err(Misuse::Other("Only report formatter is supported".to_owned()).into()),
        })
        .banner(|call| format!("Reporting server status of node {} ...", call.node()))];

fn report(call: &mut Call<'_>) -> Result<Output, Failure> {
    let mut parts = Vec::new();
    for (name, columns) in NODE {
        parts.push(part(call, name, columns)?);
    }
    for vhost in call.list(&["vhosts"])? {
        call.options.set_text("vhost", text(&vhost, "name"));
        for (name, columns) in VHOST {
            parts.push(part(call, name, columns)?);
        }
    }
    Ok(Output::Report(parts))
}

/// What another command prints, with its banner.
fn part(
    call: &mut Call<'_>,
    name: &str,
    columns: &[&str],
) -> Result<(String, Output, Formatter), Failure> {
    let command = find(Tool::Warren, name).expect("the report asks for commands that exist");
    call.command = command;
    call.args = columns.iter().map(|column| (*column).to_owned()).collect();
    call.timeout = command.timeout;
    call.began = call.outside.now();
    let banner = (command.banner)(call);
    let output = match (command.run)(call) {
        Ok(output) => output,
        // One thing that the node cannot tell does not spoil the rest.
        Err(Failure {
            code: UNAVAILABLE,
            text: Some(text),
            ..
        }) => Output::Text(text),
        Err(failure) => return Err(failure),
    };
    Ok((banner, output, command.formatter))
}
