//! Usages and the list of commands.

use crate::command::{Command, Section, all};
use crate::tool::Tool;

/// Bold on a terminal. RabbitMQ's tools write it into pipes too, and scripts expect it.
pub(crate) fn bold(text: &str) -> String {
    format!("\u{1b}[1m{text}\u{1b}[0m")
}

/// How a command is used, below a title.
pub(crate) fn usage(tool: Tool, command: &Command) -> String {
    let timeout = if command.has_timeout {
        " [--timeout <timeout>]"
    } else {
        ""
    };
    format!(
        "\n{}\n\n{} [--node <node>] [--longnames] [--quiet] {}{timeout}",
        bold("Usage"),
        tool.name(),
        command.usage
    )
}

/// All about one command.
pub(crate) fn of_command(tool: Tool, command: &Command) -> String {
    let mut parts = vec![usage(tool, command)];
    if !command.about.is_empty() {
        parts.push(format!("{}.\n", command.about));
    }
    if !command.details.is_empty() {
        let line = |(name, meaning): &(&str, &str)| format!("{name}\n\t{meaning}\n");
        let lines: Vec<String> = command.details.iter().map(line).collect();
        parts.push(format!(
            "{}\n\n{}",
            bold("Arguments and Options"),
            lines.join("\n")
        ));
    }
    parts.push(format!("{}\n\n{GENERAL}", bold("General Options")));
    parts.join("\n\n")
}

const GENERAL: &str = "Every command takes these; not every command has a use for \
    them.

short            | long          | \
    meaning
-----------------|---------------|--------------------------------
-?               | --help        | show this text
-n <node>        | --node <node> | the node to talk to: name, name@host or \
    name@host:port
-l               | --longnames   | complete a \
    name without host with the full name of this machine
-t <n>           | --timeout <n> | give up after so many seconds
-q               | --quiet       | print results only
-s               \
    | --silent      | print results only, tables without a \
    header
-p <vhost>       | --vhost       | the virtual host, / \
    unless given
                 | --formatter   | json, csv, \
    table, pretty_table or erlang
                 | \
    --no-table-headers | tables without a header
                 \
    | --erlang-cookie <cookie> | the cookie, if not in \
    WARREN_COOKIE or a file
";

/// The help of a tool: its form and its commands.
pub(crate) fn of_tool(tool: Tool) -> String {
    let name = tool.name();
    format!(
        "\n{}\n\n{name} [--node <node>] [--timeout <timeout>] \
         [--longnames] [--quiet] <command> [<command \
         options>]\n\nAvailable commands:\n{}Use '{name} help \
         <command>' to learn more about a specific command",
        bold("Usage"),
        commands(tool)
    )
}

/// The commands of a tool in sections.
pub(crate) fn commands(tool: Tool) -> String {
    let known = all(tool);
    let width = known
        .iter()
        .map(|command| command.name.len())
        .max()
        .unwrap_or_default();
    let mut sections: Vec<Section> = known.iter().map(|command| command.section).collect();
    sections.sort_unstable();
    sections.dedup();
    let mut out = String::new();
    for section in sections {
        out.push_str(&format!("\n{}:\n\n", bold(section.title())));
        for command in known.iter().filter(|command| command.section == section) {
            out.push_str(&format!("   {:width$}  {}\n", command.name, command.about));
        }
    }
    out + "\n"
}
