//! Help, version, completion.

use crate::RABBITMQ_VERSION;
use crate::call::Call;
use crate::command::{Command, Section, all, command, find};
use crate::failure::{Failure, USAGE};
use crate::format::Formatter;
use crate::help;
use crate::options::{GENERAL, flag};
use crate::output::Output;
use crate::run::unknown;
use crate::term::Term;
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] = &[
    command("help", Tools::ALL, Section::Help, show_help)
        .about("Shows how a command is used")
        .offline()
        .usage("help (<command> | [--list-commands])")
        .details(&[("--list-commands", "only lists the commands")])
        .switches(&[flag("list-commands")])
        .args(0, 1),
    command(
        "version",
        Tools::BOTH.and(Tools::PLUGINS),
        Section::Help,
        version,
    )
    .about("Shows the version of RabbitMQ that this tool is compatible with")
    .offline(),
    command(
        "autocomplete",
        Tools::BOTH.and(Tools::PLUGINS).and(Tools::QUEUES),
        Section::Help,
        autocomplete,
    )
    .about("Lists commands that begin with a prefix")
    .offline()
    .usage("autocomplete [prefix]")
    .timed()
    .args(1, usize::MAX),
];

fn show_help(call: &mut Call<'_>) -> Result<Output, Failure> {
    let tool = call.tool;
    let text = match call.args.first() {
        Some(name) => match find(tool, name) {
            Some(command) => help::of_command(tool, command),
            None => return Err(Failure::new(USAGE, unknown(tool, name, false))),
        },
        None if call.flag("list-commands") => help::commands(tool),
        None => help::of_tool(tool),
    };
    Ok(Output::Text(text))
}

fn version(call: &mut Call<'_>) -> Result<Output, Failure> {
    let version = Term::text(RABBITMQ_VERSION);
    Ok(match call.formatter {
        Formatter::Csv => Output::Rows(vec![vec![("version".to_owned(), version)]]),
        _ => Output::Both(
            RABBITMQ_VERSION.to_owned(),
            Term::map([
                ("node", Term::text(call.node())),
                ("result", Term::text("ok")),
                ("value", Term::map([("version", version)])),
            ]),
        ),
    })
}

fn autocomplete(call: &mut Call<'_>) -> Result<Output, Failure> {
    let Some(last) = call.args.last() else {
        return Ok(Output::Lines(Vec::new()));
    };
    let command = find(call.tool, call.arg(0));
    let mut found: Vec<String> = match (command, last.strip_prefix("--")) {
        (Some(command), Some(prefix)) => {
            let switches = command.switches.iter().chain(GENERAL);
            let names = switches
                .map(|switch| switch.name)
                .filter(|name| name.starts_with(prefix));
            names.map(|name| format!("--{name}")).collect()
        }
        (Some(_), None) if call.args.len() > 1 => Vec::new(),
        _ => {
            let names = all(call.tool).into_iter().map(|command| command.name);
            names
                .filter(|name| name.starts_with(last))
                .map(str::to_owned)
                .collect()
        }
    };
    found.sort_unstable();
    Ok(Output::Lines(found))
}
