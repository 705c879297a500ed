//! From a command line to an exit code.

use crate::call::Call;
use crate::command::{self, Command};
use crate::failure::{DATA, Failure, Misuse, UNAVAILABLE, USAGE, Unfit};
use crate::format::{Formatter, Style, render};
use crate::help;
use crate::options::{self, Options};
use crate::output::Output;
use crate::outside::Outside;
use crate::suggest::suggest;
use crate::target::{InvalidName, Target};
use crate::tool::Tool;

/// Runs a command line without the name of the tool.
pub(crate) fn execute(tool: Tool, words: &[String], outside: &mut dyn Outside) -> u8 {
    match run(tool, words, outside) {
        Ok(()) => 0,
        Err(Failure { code, text, .. }) => {
            if let Some(text) = text {
                outside.complain(&format!("{text}\n"));
            }
            code
        }
    }
}

fn run(tool: Tool, words: &[String], outside: &mut dyn Outside) -> Result<(), Failure> {
    let plain: Vec<&str> = words.iter().map(String::as_str).collect();
    let owned = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    match plain.as_slice() {
        [] => return Err(Failure::plain(USAGE, help::of_tool(tool))),
        ["--help"] => {
            outside.print(&format!("{}\n", help::of_tool(tool)));
            return Ok(());
        }
        ["--version"] => return run(tool, &owned(&["version"]), outside),
        ["--auto-complete", rest @ ..] => {
            let mut words = vec!["autocomplete"];
            words.extend(rest);
            return run(tool, &owned(&words), outside);
        }
        _ => {}
    }
    let general = options::parse(words, &[]);
    let tool = general
        .options
        .text("script-name")
        .and_then(Tool::of_name)
        .unwrap_or(tool);
    let Some(name) = general.args.first() else {
        return Err(Failure::plain(USAGE, help::of_tool(tool)));
    };
    match command::find(tool, name) {
        Some(command) => run_command(tool, command, words, outside),
        None => Err(Failure::plain(USAGE, unknown(tool, name, true))),
    }
}

/// The text for a command that is not there.
pub(crate) fn unknown(tool: Tool, name: &str, with_usage: bool) -> String {
    let names = command::all(tool).into_iter().map(|command| command.name);
    match suggest(name, names) {
        Some(meant) => format!("\nCommand '{name}' not found. \nDid you mean '{meant}'? \n"),
        None if with_usage => format!("\nCommand '{name}' not found. \n{}", help::of_tool(tool)),
        None => format!("\nCommand '{name}' not found."),
    }
}

fn run_command(
    tool: Tool,
    command: &'static Command,
    words: &[String],
    outside: &mut dyn Outside,
) -> Result<(), Failure> {
    let parsed = options::parse(words, command.switches);
    let misuse =
        |misuse: Misuse| misuse.failure(tool, command, words, "Error (argument validation)");
    if !parsed.invalid.is_empty() {
        return Err(misuse(Misuse::Options(parsed.invalid)));
    }
    if parsed.options.flag("help") {
        outside.print(&format!("{}\n", help::of_command(tool, command)));
        return Ok(());
    }
    let formatter = match parsed.options.text("formatter").map(Formatter::of_name) {
        None => command.formatter,
        Some(Some(formatter)) => formatter,
        Some(None) => return Err(misuse(Misuse::Formatter)),
    };
    let target = target(&parsed.options, outside).map_err(|invalid| bad_name(command, &invalid))?;
    let seconds = parsed
        .options
        .whole("timeout")
        .and_then(|seconds| u64::try_from(seconds).ok());
    let began = outside.now();
    let mut call = Call {
        tool,
        command,
        args: parsed.args.into_iter().skip(1).collect(),
        words: words.to_vec(),
        options: parsed.options,
        target,
        formatter,
        timeout: seconds
            .map(|seconds| seconds.saturating_mul(1000))
            .or(command.timeout),
        began,
        outside,
    };
    let fit = command.check_arity(call.args.len()).map_err(Unfit::from);
    match fit.and_then(|()| (command.check)(&call)) {
        Ok(()) => {}
        Err(Unfit::Misuse(it)) => return Err(misuse(it)),
        Err(Unfit::Failure(failure)) => return Err(failure),
    }
    // A node that cannot be reached is told before anything is announced.
    if command.needs_node && !(command.goes_alone)(&call) {
        call.connect().map_err(|trouble| call.explain(&trouble))?;
        call.check_app()?;
    }
    if !call.is_quiet() && !formatter.is_for_programs() {
        let banner = (command.banner)(&call);
        if !banner.is_empty() {
            call.say(&banner);
        }
    }
    if call.flag("dry-run") {
        return Ok(());
    }
    let output = (command.run)(&mut call).map_err(|failure| for_programs(failure, formatter))?;
    show(&mut call, &output);
    Ok(())
}

fn show(call: &mut Call<'_>, output: &Output) {
    let variables = call.outside.variables();
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| variables.get(*name));
    let locale = locale.map(|locale| locale.to_ascii_lowercase().replace('-', ""));
    let style = Style {
        node: call.node().to_owned(),
        without_headers: call.flag("silent")
            || call.options.find_flag("table-headers") == Some(false),
        pad_to_header: call.flag("pad-to-header"),
        is_unicode: locale.is_some_and(|locale| locale.contains("utf8")),
        is_quiet: call.is_quiet(),
    };
    call.outside.print(&render(output, call.formatter, &style));
}

/// Failures that have a form for programs take it.
fn for_programs(failure: Failure, formatter: Formatter) -> Failure {
    match &failure.json {
        Some(json) if formatter == Formatter::Json => {
            Failure::plain(UNAVAILABLE, json.to_json().to_string())
        }
        _ => failure,
    }
}

fn bad_name(command: &Command, invalid: &InvalidName) -> Failure {
    let text = format!(
        "Error: operation {} failed due to invalid node name (node: {}, \
         reason: {}).\nA node is given as name, name@host or \
         name@host:port.",
        command.name, invalid.node, invalid.reason
    );
    Failure::plain(DATA, text)
}

/// The node that is meant: by option, by variable, or the usual one of this machine.
fn target(options: &Options, outside: &dyn Outside) -> Result<Target, InvalidName> {
    let variables = outside.variables();
    let variable = |name: &str| {
        let names = [format!("WARREN_{name}"), format!("RABBITMQ_{name}")];
        names
            .iter()
            .find_map(|name| variables.get(name))
            .filter(|value| !value.is_empty())
            .cloned()
    };
    let host = outside.host_name();
    let is_long = options.flag("longnames") || variable("USE_LONGNAME").as_deref() == Some("true");
    let host = if is_long {
        &host
    } else {
        host.split('.').next().unwrap_or_default()
    };
    let host = if host.is_empty() { "localhost" } else { host };
    let node = options
        .text("node")
        .map(str::to_owned)
        .or_else(|| variable("NODENAME"));
    let port = variable("DIST_PORT").and_then(|port| port.parse().ok());
    Target::parse(node.as_deref().unwrap_or("warren"), host, port)
}
