//! What are plugins in RabbitMQ is built into Warren: always there, never switched.

use crate::call::{Call, request};
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse, SOFTWARE, Unfit};
use crate::json::text;
use crate::options::{Switch, flag};
use crate::output::Output;
use crate::outside::Method;
use crate::term::Term;
use crate::tool::Tools;

/// RabbitMQ's plugins whose features Warren has, and what they are.
const BUILT_IN: [(&str, &str); 6] = [
    (
        "rabbitmq_consistent_hash_exchange",
        "Exchange type that spreads messages by a hash",
    ),
    (
        "rabbitmq_delayed_message_exchange",
        "Exchange type that delays messages",
    ),
    ("rabbitmq_management", "HTTP API and management UI"),
    ("rabbitmq_management_agent", "Statistics for the HTTP API"),
    ("rabbitmq_prometheus", "Metrics for Prometheus"),
    (
        "rabbitmq_random_exchange",
        "Exchange type that picks a queue at random",
    ),
];

const WHERE: &[Switch] = &[flag("online"), flag("offline")];
const CHANGE: &[Switch] = &[flag("online"), flag("offline"), flag("all")];
const NAMES: (&str, &str) = ("<plugin1> [ <plugin2>]", "names of plugins");
const OFFLINE: (&str, &str) = ("--offline", "does not ask the node");

pub(super) const COMMANDS: &[Command] = &[
    command("list", Tools::PLUGINS, Section::Plugins, list)
        .about("Lists the plugins of RabbitMQ that are built in")
        .offline()
        .usage(
            "list [pattern] [--verbose] [--minimal] [--enabled] \
             [--implicitly-enabled]",
        )
        .details(&[
            (
                "<pattern>",
                "only those whose name matches this regular expression",
            ),
            ("--verbose", "says more"),
            ("--minimal", "says only names"),
            ("--enabled", "only enabled ones, which all are"),
            ("--implicitly-enabled", "only enabled ones, which all are"),
        ])
        .switches(&[
            flag("verbose").short('v'),
            flag("minimal").short('m'),
            flag("enabled").short('E'),
            flag("implicitly-enabled").short('e'),
        ])
        .args(0, 1)
        .check(|call| match call.flag("verbose") && call.flag("minimal") {
            true => Err(Misuse::bad("Cannot set both verbose and minimal").into()),
            false => pattern(call).map(|_| ()),
        })
        .banner(|call| {
            format!(
                "Listing plugins with pattern \"{}\" ...",
                call.args.first().map_or(".*", String::as_str)
            )
        }),
    command("enable", Tools::PLUGINS, Section::Plugins, enable)
        .about("Succeeds for what is built in")
        .offline()
        .usage("enable <plugin1> [ <plugin2>] | --all [--offline] [--online]")
        .details(&[NAMES, OFFLINE, ("--all", "all of them")])
        .switches(CHANGE)
        .args(0, usize::MAX)
        .check(check_change)
        .banner(|call| change_banner(call, "Enabling")),
    command("disable", Tools::PLUGINS, Section::Plugins, disable)
        .about("Fails for what is built in, which is always there")
        .offline()
        .usage("disable <plugin1> [ <plugin2>] | --all [--offline] [--online]")
        .details(&[NAMES, OFFLINE, ("--all", "all of them")])
        .switches(CHANGE)
        .args(0, usize::MAX)
        .check(check_change)
        .banner(|call| change_banner(call, "Disabling")),
    command("set", Tools::PLUGINS, Section::Plugins, enable)
        .about("Succeeds for what is built in; the rest of it stays as well")
        .offline()
        .usage("set <plugin1> [ <plugin2>] [--offline] [--online]")
        .details(&[NAMES, OFFLINE])
        .switches(WHERE)
        .args(0, usize::MAX)
        .banner(|call| change_banner(call, "Enabling")),
    command(
        "is_enabled",
        Tools::PLUGINS,
        Section::Monitoring,
        is_enabled,
    )
    .about("Fails when a plugin is not built in")
    .offline()
    .usage("is_enabled <plugin1> [ <plugin2>] [--offline] [--online]")
    .details(&[NAMES, OFFLINE])
    .switches(WHERE)
    .args(1, usize::MAX)
    .banner(|call| match call.flag("offline") {
        true => format!(
            "Inferring if {} from local environment...",
            plugins_are(&call.args)
        ),
        false => format!(
            "Asking node {} if {} enabled...",
            call.node(),
            plugins_are(&call.args)
        ),
    }),
    command("directories", Tools::PLUGINS, Section::Monitoring, |call| {
        Ok(Output::Text(format!(
            "Node {} loads no plugins from directories: they are built in",
            call.node()
        )))
    })
    .about("There are none: plugins are built in")
    .offline()
    .usage("directories [--offline] [--online]")
    .switches(WHERE)
    .banner(|call| format!("Listing plugin directories used by node {}", call.node())),
];

fn pattern(call: &Call<'_>) -> Result<regex::Regex, Unfit> {
    let pattern = call.args.first().map_or(".*", String::as_str);
    regex::Regex::new(pattern).map_err(|error| Misuse::bad(error.to_string()).into())
}

/// The version of the node, if it runs.
fn version(call: &mut Call<'_>) -> Option<String> {
    let answer = call
        .try_ask(&request(Method::Get, &["internal", "status"], None))
        .ok()?;
    (answer.status == 200).then(|| text(&answer.body, "product_version").to_owned())
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let pattern = pattern(call).map_err(|_| Failure::silent(SOFTWARE))?;
    let known: Vec<(&str, &str)> = BUILT_IN
        .into_iter()
        .filter(|(name, _)| pattern.is_match(name))
        .collect();
    if call.flag("minimal") {
        return Ok(Output::Lines(
            known.iter().map(|(name, _)| (*name).to_owned()).collect(),
        ));
    }
    let running = version(call);
    let own = env!("CARGO_PKG_VERSION");
    let mut lines = vec![
        " Configured: E = explicitly enabled; e = implicitly enabled".to_owned(),
        match &running {
            Some(_) => format!(" | Status: * = running on {}", call.node()),
            None => format!(
                " | Status: [failed to contact {} - status not shown]",
                call.node()
            ),
        },
        " |/".to_owned(),
    ];
    let width = known
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    let sign = if running.is_some() { '*' } else { ' ' };
    let shown = running.as_deref().unwrap_or(own);
    for (name, meaning) in &known {
        if call.flag("verbose") {
            lines.push(format!("[E{sign}] {name}"));
            lines.push(format!("     Version:     \t{shown}"));
            lines.push("     Dependencies:\t[]".to_owned());
            lines.push(format!("     Description: \t{meaning}"));
        } else {
            lines.push(format!("[E{sign}] {name:width$} {shown}"));
        }
    }
    let value = |(name, _): &(&str, &str)| {
        Term::map([
            ("name", Term::atom(*name)),
            ("enabled", Term::atom("enabled")),
            ("running", Term::flag(running.is_some())),
            ("version", Term::text(shown)),
        ])
    };
    let json = Term::map([
        ("format", Term::atom("normal")),
        ("plugins", Term::List(known.iter().map(value).collect())),
        (
            "status",
            Term::atom(if running.is_some() {
                "running"
            } else {
                "node_down"
            }),
        ),
    ]);
    Ok(Output::Both(lines.join("\n"), json))
}

fn check_change(call: &Call<'_>) -> Result<(), Unfit> {
    match (call.args.is_empty(), call.flag("all")) {
        (true, false) => Err(Misuse::NotEnough(None).into()),
        (false, true) => Err(Misuse::bad("Cannot set both --all and a list of plugins").into()),
        _ if call.flag("online") && call.flag("offline") => {
            Err(Misuse::bad("Cannot set both online and offline").into())
        }
        _ => Ok(()),
    }
}

fn change_banner(call: &Call<'_>, doing: &str) -> String {
    if call.flag("all") {
        return format!("{doing} ALL plugins on node {}", call.node());
    }
    let mut lines = vec![format!("{doing} plugins on node {}:", call.node())];
    lines.extend(call.args.iter().cloned());
    lines.join("\n")
}

fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|(known, _)| *known == name)
}

/// That nothing has changed, in RabbitMQ's words.
fn unchanged(call: &Call<'_>) -> Output {
    let mut lines = vec!["The following plugins have been configured:".to_owned()];
    lines.extend(BUILT_IN.iter().map(|(name, _)| format!("  {name}")));
    lines.push(format!(
        "Applying plugin configuration to {}...",
        call.node()
    ));
    lines.push("Plugin configuration unchanged.".to_owned());
    Output::Lines(lines)
}

fn enable(call: &mut Call<'_>) -> Result<Output, Failure> {
    let missing: Vec<String> = call
        .args
        .iter()
        .filter(|name| !is_built_in(name))
        .map(|name| format!(":{name}"))
        .collect();
    if !missing.is_empty() {
        return Err(Failure::new(
            SOFTWARE,
            format!("{{:plugins_not_found, [{}]}}", missing.join(", ")),
        ));
    }
    Ok(unchanged(call))
}

fn disable(call: &mut Call<'_>) -> Result<Output, Failure> {
    let fixed: Vec<&str> = BUILT_IN
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| call.flag("all") || call.args.iter().any(|arg| arg == name))
        .collect();
    if fixed.is_empty() {
        return Ok(unchanged(call));
    }
    Err(Failure::refused(format!(
        "built into Warren and cannot be disabled: {}",
        fixed.join(", ")
    )))
}

fn plugins_are(names: &[String]) -> String {
    match names {
        [name] => format!("plugin {name} is"),
        names => format!("plugins {} are", names.join(", ")),
    }
}

fn is_enabled(call: &mut Call<'_>) -> Result<Output, Failure> {
    let place = match call.flag("offline") {
        true => String::new(),
        false => {
            call.get(&["internal", "status"])?;
            format!(" on node {}", call.node())
        }
    };
    let missing: Vec<String> = call
        .args
        .iter()
        .filter(|name| !is_built_in(name))
        .cloned()
        .collect();
    let capital = |names: &[String]| plugins_are(names).replacen('p', "P", 1);
    let (names, result, outcome) = match missing.is_empty() {
        true => (&call.args, "ok", format!("enabled{place}")),
        false => {
            let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            (
                &missing,
                "error",
                format!(
                    "not enabled{place}. Enabled plugins and dependencies: {}",
                    known.join(", ")
                ),
            )
        }
    };
    let message = format!("{} {outcome}", capital(names));
    let json = Term::map([
        ("result", Term::text(result)),
        ("message", Term::text(&message)),
    ]);
    match result {
        "ok" => Ok(Output::Both(message, json)),
        _ => Err(Failure::refused(message).with_json(json)),
    }
}
