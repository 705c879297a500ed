//! The configuration of a node, and what can be changed while it runs.

use serde_json::{Value as Json, json};

use super::refuse;
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse, Unfit};
use crate::format::Formatter;
use crate::json::text;
use crate::options::{flag, text as text_switch};
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "environment",
        Tools::BOTH,
        Section::Configuration,
        environment,
    )
    .any_app()
    .about("Shows the configuration that is in force")
    .formatter(Formatter::Erlang)
    .banner(|call| format!("Application environment of node {} ...", call.node())),
    command(
        "set_vm_memory_high_watermark",
        Tools::CTL,
        Section::Configuration,
        set_watermark,
    )
    .about(
        "Sets where the memory alarm is raised, until the node is \
         started again",
    )
    .usage("set_vm_memory_high_watermark <fraction> | absolute <value>")
    .details(&[
        ("<fraction>", "a share of the machine's memory, from 0 to 1"),
        ("absolute <value>", "a size, as 1GB or 512MiB"),
    ])
    .args(1, 2)
    .check(check_watermark)
    .banner(|call| match call.arg(0) {
        "absolute" => format!(
            "Setting memory threshold on {} to {} bytes ...",
            call.node(),
            call.arg(1)
        ),
        share => format!("Setting memory threshold on {} to {share} ...", call.node()),
    }),
    command(
        "set_disk_free_limit",
        Tools::CTL,
        Section::Configuration,
        set_disk_limit,
    )
    .about(
        "Sets where the disk alarm is raised, until the node is started \
         again",
    )
    .usage("set_disk_free_limit <disk_limit> | mem_relative <fraction>")
    .details(&[
        ("<disk_limit>", "a size, as 1GB or 512MiB"),
        (
            "mem_relative <fraction>",
            "a multiple of the machine's memory",
        ),
    ])
    .args(1, 2)
    .check(check_disk_limit)
    .banner(|call| match call.arg(0) {
        "mem_relative" => {
            format!(
                "Setting disk free limit on {} to {} times the total RAM ...",
                call.node(),
                call.arg(1)
            )
        }
        size => format!(
            "Setting disk free limit on {} to {size} bytes ...",
            call.node()
        ),
    }),
    command(
        "activate_free_disk_space_monitoring",
        Tools::BOTH,
        Section::Monitoring,
        |_| Ok(Output::Done),
    )
    .about("Disk space is always watched")
    .banner(|call| {
        format!(
            "[Re-]activating free disk space monitoring on node {}...",
            call.node()
        )
    }),
    command(
        "deactivate_free_disk_space_monitoring",
        Tools::BOTH,
        Section::Monitoring,
        |_| {
            refuse(
                "free disk space is always watched; lower the limit with \
                 set_disk_free_limit instead",
            )
        },
    )
    .about("Disk space is always watched")
    .banner(|call| {
        format!(
            "Deactivating free disk space monitoring on node {}...",
            call.node()
        )
    }),
    command("force_gc", Tools::CTL, Section::Operations, |call| {
        call.get(&["internal", "status"])?;
        Ok(Output::Done)
    })
    .about("Does nothing: Warren collects no garbage")
    .timed()
    .banner(|call| {
        format!(
            "Will ask all processes on node {} to schedule a full sweep GC",
            call.node()
        )
    }),
    command("os_env", Tools::DIAGNOSTICS, Section::Configuration, os_env)
        .any_app()
        .about(
            "Lists the variables of the environment that the node was \
             started with",
        )
        .timed()
        .banner(|call| {
            format!(
                "Listing RabbitMQ-specific environment variables defined on \
                 node {}...",
                call.node()
            )
        }),
    command(
        "command_line_arguments",
        Tools::DIAGNOSTICS,
        Section::Configuration,
        arguments,
    )
    .any_app()
    .about("Shows the command line that the node was started with")
    .check(|call| match call.is_json() {
        true => Err(Misuse::Formatter.into()),
        false => Ok(()),
    })
    .banner(|call| format!("Command line arguments of node {} ...", call.node())),
    command(
        "certificates",
        Tools::DIAGNOSTICS,
        Section::Configuration,
        certificates,
    )
    .about("Shows the certificates of a node")
    .formatter(Formatter::Erlang)
    .banner(|call| format!("Certificates of node {} ...", call.node())),
    command(
        "list_node_auth_attempt_stats",
        Tools::BOTH,
        Section::Monitoring,
        auth_attempts,
    )
    .about("Counts the logins of a node")
    .usage("list_node_auth_attempts [--by-source]")
    .details(&[(
        "--by-source",
        "by address and user; Warren does not keep these",
    )])
    .switches(&[flag("by-source")])
    .table()
    .banner(|call| {
        format!(
            "Listing authentication\n attempts for node \"{}\" ...",
            call.node()
        )
    }),
    command(
        "resolve_hostname",
        Tools::DIAGNOSTICS,
        Section::Configuration,
        resolve,
    )
    .about("Resolves a host name on this machine")
    .offline()
    .usage("resolve_hostname <hostname> [--address-family <ipv4 | ipv6>]")
    .details(&[
        ("--address-family", "ipv4 or ipv6; ipv4 unless given"),
        ("--offline", "always so: names are resolved here"),
    ])
    .switches(&[text_switch("address-family").short('a'), flag("offline")])
    .args(1, 1)
    .check(|call| match family(call).to_ascii_lowercase().as_str() {
        "ipv4" | "ipv6" => Ok(()),
        _ => {
            let text = format!(
                "unsupported IP address family {}. Valid values are: ipv4, ipv6",
                family(call)
            );
            Err(Misuse::bad(text).into())
        }
    })
    .banner(|call| {
        format!(
            "Resolving hostname {} to {} addresses...",
            call.arg(0),
            family(call)
        )
    }),
];

fn environment(call: &mut Call<'_>) -> Result<Output, Failure> {
    let found = call.get(&["internal", "environment"])?;
    let entries = found.as_object().into_iter().flatten();
    let pairs = entries
        .map(|(key, value)| (key.clone(), Term::of_json(value)))
        .collect();
    Ok(Output::Value(Term::Pairs(pairs)))
}

/// A size with a unit, as RabbitMQ reads it: powers of 1024 without `B`, of 1000 with it.
fn size(text: &str) -> Result<u64, Misuse> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| Misuse::Bad(None))?;
    let scale = match unit {
        "" => 1,
        "k" | "kiB" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        unit if unit.starts_with('.') => {
            return Err(Misuse::bad("The threshold should be an integer."));
        }
        _ => return Err(Misuse::bad("Invalid units.")),
    };
    number.checked_mul(scale).ok_or(Misuse::Bad(None))
}

fn fraction(text: &str) -> Result<f64, Misuse> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    text.parse()
        .ok()
        .filter(|number: &f64| starts_well && number.is_finite())
        .ok_or(Misuse::Bad(None))
}

fn check_watermark(call: &Call<'_>) -> Result<(), Unfit> {
    match (call.arg(0), call.args.get(1)) {
        ("absolute", None) => Err(Misuse::NotEnough(None).into()),
        ("absolute", Some(text)) => Ok(size(text).map(|_| ())?),
        (_, Some(_)) => Err(Misuse::TooMany.into()),
        (text, None) if (0.0..=1.0).contains(&fraction(text)?) => Ok(()),
        _ => Err(Misuse::bad("The threshold should be a fraction between 0.0 and 1.0").into()),
    }
}

fn set_watermark(call: &mut Call<'_>) -> Result<Output, Failure> {
    let body = match (
        size(call.args.last().map_or("", String::as_str)),
        fraction(call.arg(0)),
    ) {
        (Ok(bytes), Err(_)) => json!({"absolute": bytes}),
        (_, share) => json!({"relative": share.unwrap_or_default()}),
    };
    call.put(&["internal", "memory-watermark"], body)?.good()?;
    Ok(Output::Done)
}

fn check_disk_limit(call: &Call<'_>) -> Result<(), Unfit> {
    match (call.arg(0), call.args.get(1)) {
        ("mem_relative", None) => Err(Misuse::NotEnough(None).into()),
        ("mem_relative", Some(text)) if fraction(text)? >= 0.0 => Ok(()),
        ("mem_relative", Some(_)) => Err(Misuse::Bad(None).into()),
        (_, Some(_)) => Err(Misuse::TooMany.into()),
        (text, None) => Ok(size(text).map(|_| ()).map_err(|_| Misuse::Bad(None))?),
    }
}

fn set_disk_limit(call: &mut Call<'_>) -> Result<Output, Failure> {
    let body = match call.args.get(1) {
        Some(text) => json!({"relative": fraction(text).unwrap_or_default()}),
        None => json!({"absolute": size(call.arg(0)).unwrap_or_default()}),
    };
    call.put(&["internal", "disk-free-limit"], body)?.good()?;
    Ok(Output::Done)
}

fn os_env(call: &mut Call<'_>) -> Result<Output, Failure> {
    let Some(found) = call.find(&["internal", "os-env"])? else {
        return refuse("the node does not tell its environment");
    };
    let variables = found.as_object().cloned().unwrap_or_default();
    if variables.is_empty() {
        let text = format!(
            "Node {} reported no relevant environment variables.",
            call.node()
        );
        return Ok(Output::Text(text));
    }
    let line =
        |(name, value): (&String, &Json)| format!("{name}={}", value.as_str().unwrap_or_default());
    let lines: Vec<String> = variables.iter().map(line).collect();
    let json = Term::map([
        ("result", Term::text("ok")),
        ("node", Term::text(call.node())),
        ("variables", Term::of_json(&found)),
    ]);
    Ok(Output::Both(lines.join("\n"), json))
}

fn arguments(call: &mut Call<'_>) -> Result<Output, Failure> {
    let Some(found) = call.find(&["internal", "arguments"])? else {
        return refuse("the node does not tell its command line");
    };
    let words: Vec<&str> = found
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    Ok(Output::Text(words.join(" ")))
}

fn certificates(call: &mut Call<'_>) -> Result<Output, Failure> {
    let Some(found) = call.find(&["internal", "certificates"])? else {
        return refuse(
            "the node does not tell its certificates; see \
             check_certificate_expiration",
        );
    };
    let items = found.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(match items.is_empty() {
        true => Output::Value(Term::map([])),
        false => Output::Value(Term::List(items.iter().map(Term::of_json).collect())),
    })
}

fn auth_attempts(call: &mut Call<'_>) -> Result<Output, Failure> {
    let status = call.get(&["internal", "status"])?;
    let mut path = vec!["auth", "attempts", text(&status, "node_name")];
    if call.flag("by-source") {
        path.push("source");
    }
    let found = call.list(&path)?;
    let keys = [
        "protocol",
        "auth_attempts",
        "auth_attempts_failed",
        "auth_attempts_succeeded",
    ];
    let row = |item: &Json| -> crate::term::Row {
        let value = |key: &str| Term::of_json(item.get(key).unwrap_or(&Json::Null));
        keys.iter()
            .map(|key| ((*key).to_owned(), value(key)))
            .collect()
    };
    let rows: Vec<crate::term::Row> = found.iter().map(row).collect();
    if call.is_json() {
        let maps = rows
            .into_iter()
            .map(|row| Term::Map(row.into_iter().collect()));
        return Ok(Output::Value(Term::map([
            ("result", Term::text("ok")),
            ("node", Term::text(call.node())),
            ("attempts", Term::List(maps.collect())),
        ])));
    }
    Ok(match rows.is_empty() {
        true => Output::Text(format!(
            "Node {} reported no authentication attempt stats",
            call.node()
        )),
        false => Output::List(rows),
    })
}

fn family<'a>(call: &'a Call<'_>) -> &'a str {
    call.options.text("address-family").unwrap_or("IPv4")
}

fn resolve(call: &mut Call<'_>) -> Result<Output, Failure> {
    let is_v4 = family(call).eq_ignore_ascii_case("ipv4");
    let host = call.arg(0).to_owned();
    let found = call.outside.resolve(&host);
    let found: Vec<String> = found
        .iter()
        .filter(|address| address.is_ipv4() == is_v4)
        .map(ToString::to_string)
        .collect();
    if found.is_empty() {
        let text = "Hostname does not resolve (resolution failed with an nxdomain)";
        return Err(Failure::new(crate::failure::DATA, text));
    }
    Ok(Output::Text(found.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("60MB", Ok(60_000_000)),
            ("1GiB", Ok(1 << 30)),
            ("2G", Ok(2 << 30)),
            ("500", Ok(500)),
            ("abc", Err(Misuse::Bad(None))),
            ("1XB", Err(Misuse::bad("Invalid units."))),
            (
                "1.5GB",
                Err(Misuse::bad("The threshold should be an integer.")),
            ),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn fractions_are_numbers() {
        assert_eq!(fraction("0.4"), Ok(0.4));
        assert_eq!(fraction("-1"), Ok(-1.0));
        assert!(fraction("inf").is_err() && fraction("x").is_err() && fraction("nan").is_err());
    }
}
