//! The state of one node.

use serde_json::{Value as Json, json};

use super::memory::{is_unit, shares, size, unit};
use super::{alarms, listeners};
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse};
use crate::help::bold;
use crate::json::{flag, items, text, texts, whole};
use crate::options::text as text_switch;
use crate::output::Output;
use crate::term::{Term, float};
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] =
    &[command("status", Tools::BOTH, Section::Monitoring, status)
        .about("Shows the state of a node")
        .usage("status [--unit <unit>]")
        .details(&[("--unit <bytes | mb | mib | gb | gib>", "the unit of sizes")])
        .switches(&[text_switch("unit")])
        .timed()
        .timeout(60_000)
        .check(|call| match is_unit(unit(call)) {
            true => Ok(()),
            false => {
                let text = format!(
                    "unit '{}' is not supported. Please use one of: bytes, mb, mib, \
                     gb, gib, tb, tib",
                    unit(call)
                );
                Err(Misuse::Other(text).into())
            }
        })
        .banner(|call| format!("Status of node {} ...", call.node()))];

fn status(call: &mut Call<'_>) -> Result<Output, Failure> {
    let status = call.get(&["internal", "status"])?;
    Ok(Output::Both(
        describe(&status, call.node(), unit(call)),
        value(&status),
    ))
}

fn at<'a>(status: &'a Json, key: &str) -> &'a Json {
    status.get(key).unwrap_or(&Json::Null)
}

/// Sections of text, each below a bold title.
pub(super) fn sections(parts: &[(&str, Vec<String>)]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (index, (title, body)) in parts.iter().enumerate() {
        let gap = if index > 0 { "\n" } else { "" };
        lines.push(format!("{gap}{}\n", bold(title)));
        lines.extend(body.iter().cloned());
    }
    lines.join("\n")
}

fn bullets(items: Vec<&str>) -> Vec<String> {
    items.into_iter().map(|item| format!(" * {item}")).collect()
}

pub(super) fn or_none(lines: Vec<String>) -> Vec<String> {
    if lines.is_empty() {
        vec!["(none)".to_owned()]
    } else {
        lines
    }
}

fn describe(status: &Json, node: &str, unit: &str) -> String {
    let unit = unit.to_ascii_lowercase();
    let alarms = items(status, "alarms").iter().map(alarms::line).collect();
    let listeners = items(status, "listeners");
    let listeners = listeners.iter().map(listeners::line).collect();
    let directories = vec![
        format!("Node data directory: {}", text(status, "data_directory")),
        format!(
            "Raft data directory: {}",
            text(status, "raft_data_directory")
        ),
    ];
    sections(&[
        ("Runtime", runtime(status, node)),
        ("Plugins", plugins(status)),
        ("Data directory", directories),
        ("Config files", bullets(texts(status, "config_files"))),
        ("Log file(s)", bullets(texts(status, "log_files"))),
        ("Alarms", or_none(alarms)),
        ("Memory", memory(status, &unit)),
        ("File Descriptors", files(at(status, "file_descriptors"))),
        ("Free Disk Space", disk(status, &unit)),
        ("Totals", totals(at(status, "totals"))),
        ("Listeners", or_none(listeners)),
    ])
}

fn plugins(status: &Json) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Enabled plugin file: {}",
            text(status, "enabled_plugin_file")
        ),
        "Enabled plugins:\n".to_owned(),
    ];
    lines.extend(bullets(texts(status, "active_plugins")));
    lines
}

fn files(files: &Json) -> Vec<String> {
    let (used, limit) = (whole(files, "total_used"), whole(files, "total_limit"));
    let (sockets, sockets_limit) = (whole(files, "sockets_used"), whole(files, "sockets_limit"));
    vec![
        format!("Total: {used}, limit: {limit}"),
        format!("Sockets: {sockets}, limit: {sockets_limit}"),
    ]
}

fn disk(status: &Json, unit: &str) -> Vec<String> {
    let limit = size(whole(status, "disk_free_limit"), unit);
    let free = size(whole(status, "disk_free"), unit);
    vec![
        format!("Low free disk space watermark: {limit} {unit}"),
        format!("Free disk space: {free} {unit}"),
    ]
}

fn totals(totals: &Json) -> Vec<String> {
    vec![
        format!("Connection count: {}", whole(totals, "connection_count")),
        format!("Queue count: {}", whole(totals, "queue_count")),
        format!(
            "Virtual host count: {}",
            whole(totals, "virtual_host_count")
        ),
    ]
}

fn runtime(status: &Json, node: &str) -> Vec<String> {
    let processes = at(status, "processes");
    let mut lines = vec![
        format!("OS PID: {}", whole(status, "pid")),
        format!("OS: {}", os_name(status)),
        format!("Uptime (seconds): {}", whole(status, "uptime")),
        format!(
            "Is under maintenance?: {}",
            flag(status, "is_under_maintenance")
        ),
    ];
    for (title, key) in [
        ("Product name", "product_name"),
        ("Product version", "product_version"),
    ] {
        if !text(status, key).is_empty() {
            lines.push(format!("{title}: {}", text(status, key)));
        }
    }
    lines.extend([
        format!("RabbitMQ version: {}", text(status, "rabbitmq_version")),
        format!(
            "RabbitMQ release series support status: {}",
            text(status, "release_series_support_status")
        ),
        format!("Node name: {node}"),
        format!("Erlang configuration: {}", text(status, "erlang_version")),
        format!("Crypto library: {}", text(status, "crypto_lib_info")),
        format!(
            "Erlang processes: {} used, {} limit",
            whole(processes, "used"),
            whole(processes, "limit")
        ),
        format!("Scheduler run queue: {}", whole(status, "run_queue")),
        format!(
            "Cluster heartbeat timeout (net_ticktime): {}",
            whole(status, "net_ticktime")
        ),
    ]);
    lines
}

/// `linux` as `Linux`.
fn os_name(status: &Json) -> String {
    let name = text(status, "os");
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn memory(status: &Json, unit: &str) -> Vec<String> {
    let memory = at(status, "memory");
    let strategy = text(status, "vm_memory_calculation_strategy");
    let used = memory
        .get("total")
        .map_or(0, |total| whole(total, strategy));
    let setting = match watermark(status) {
        Term::Float(share) => format!("{} of available memory", float(share)),
        Term::Int(bytes) => format!(
            "{} {unit}",
            size(u64::try_from(bytes).unwrap_or_default(), unit)
        ),
        _ => "(not available)".to_owned(),
    };
    let limit = size(whole(status, "vm_memory_high_watermark_limit"), unit);
    let mut lines = vec![
        format!("Total memory used: {} {unit}", size(used, unit)),
        format!("Calculation strategy: {strategy}"),
        format!(
            "Memory high watermark setting: {setting}, computed to: {limit} \
             {unit}\n"
        ),
    ];
    lines.extend(shares(memory).iter().map(|share| {
        format!(
            "{}: {} {unit} ({} %)",
            share.name,
            size(share.bytes, unit),
            float(share.percent)
        )
    }));
    lines
}

/// The memory watermark: a share of the memory or bytes.
fn watermark(status: &Json) -> Term {
    let setting = at(status, "vm_memory_high_watermark_setting");
    let relative = setting
        .as_f64()
        .or_else(|| setting.get("relative").and_then(Json::as_f64));
    let absolute = setting.get("absolute").and_then(Json::as_u64);
    match (relative, absolute) {
        (Some(share), _) => Term::Float(share),
        (None, Some(bytes)) => Term::Int(bytes.into()),
        (None, None) => Term::nothing(),
    }
}

/// What programs read, with RabbitMQ's keys.
fn value(status: &Json) -> Term {
    const KEYS: [&str; 20] = [
        "active_plugins",
        "config_files",
        "data_directory",
        "disk_free",
        "disk_free_limit",
        "enabled_plugin_file",
        "erlang_version",
        "file_descriptors",
        "is_under_maintenance",
        "log_files",
        "memory",
        "net_ticktime",
        "pid",
        "processes",
        "product_name",
        "product_version",
        "rabbitmq_version",
        "raft_data_directory",
        "release_series_support_status",
        "run_queue",
    ];
    const MORE: [&str; 4] = [
        "totals",
        "uptime",
        "vm_memory_calculation_strategy",
        "vm_memory_high_watermark_limit",
    ];
    let entry = |key: &str| (key.to_owned(), Term::of_json(at(status, key)));
    let mut map: std::collections::BTreeMap<String, Term> =
        KEYS.into_iter().chain(MORE).map(entry).collect();
    map.insert(
        "alarms".to_owned(),
        Term::List(items(status, "alarms").iter().map(alarms::value).collect()),
    );
    map.insert(
        "listeners".to_owned(),
        Term::List(
            items(status, "listeners")
                .iter()
                .map(listeners::value)
                .collect(),
        ),
    );
    map.insert("os".to_owned(), Term::text(os_name(status)));
    map.insert(
        "crypto_lib_version".to_owned(),
        Term::text(text(status, "crypto_lib_info")),
    );
    let key = if matches!(watermark(status), Term::Int(_)) {
        "absolute"
    } else {
        "relative"
    };
    map.insert(
        "vm_memory_high_watermark_setting".to_owned(),
        Term::map([(key, watermark(status))]),
    );
    Term::Map(map)
}

/// Whether a node has started completely.
pub(super) fn is_booted(status: &Json) -> bool {
    status.get("is_booted").unwrap_or(&json!(true)) == &json!(true)
}
