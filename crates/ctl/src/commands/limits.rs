//! Limits of users and virtual hosts.

use serde_json::{Map, Value as Json, json};

use super::json_arg;
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::json::text;
use crate::options::{flag, text as text_switch};
use crate::output::Output;
use crate::term::{Row, Term};
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] = &[
    command("set_user_limits", Tools::CTL, Section::Users, set_user)
        .about("Limits the connections and channels of a user")
        .usage("set_user_limits <username> <definition>")
        .details(&[
            ("<username>", "the name of the user"),
            (
                "<definition>",
                "JSON: {\"max-connections\": 10, \"max-channels\": 100}; -1 is \
                 no limit",
            ),
        ])
        .args(2, 2)
        .banner(|call| {
            format!(
                "Setting user limits to \"{}\" for user \"{}\" ...",
                call.arg(1),
                call.arg(0)
            )
        }),
    command("clear_user_limits", Tools::CTL, Section::Users, clear_user)
        .about("Lifts a limit of a user, or all")
        .usage("clear_user_limits <username> <limit_type> | all")
        .details(&[
            ("<username>", "the name of the user"),
            ("<limit_type>", "max-connections, max-channels or all"),
        ])
        .args(2, 2)
        .banner(|call| match call.arg(1) {
            "all" => format!("Clearing all limits for user \"{}\" ...", call.arg(0)),
            limit => format!(
                "Clearing \"{limit}\" limit for user \"{}\" ...",
                call.arg(0)
            ),
        }),
    command("list_user_limits", Tools::BOTH, Section::Users, list_user)
        .about("Lists the limits of a user, or of all")
        .usage("list_user_limits [--user <username>] [--global]")
        .details(&[
            ("--user <username>", "the name of the user"),
            ("--global", "lists all users that have limits"),
        ])
        .switches(&[flag("global"), text_switch("user")])
        .table()
        .banner(|call| match call.flag("global") {
            true => "Listing limits for all users ...".to_owned(),
            false => format!(
                "Listing limits for user \"{}\" ...",
                call.options.text("user").unwrap_or("guest")
            ),
        }),
    command(
        "set_vhost_limits",
        Tools::CTL,
        Section::VirtualHosts,
        set_vhost,
    )
    .about("Limits the connections and queues of a virtual host")
    .usage("set_vhost_limits [--vhost <vhost>] <definition>")
    .details(&[
        (
            "<definition>",
            "JSON: {\"max-connections\": 10, \"max-queues\": 100}; -1 is no \
             limit",
        ),
        super::VHOST,
    ])
    .args(1, 1)
    .banner(|call| {
        format!(
            "Setting vhost limits to \"{}\" for vhost \"{}\" ...",
            call.arg(0),
            call.vhost()
        )
    }),
    command(
        "clear_vhost_limits",
        Tools::CTL,
        Section::VirtualHosts,
        clear_vhost,
    )
    .about("Lifts the limits of a virtual host")
    .usage("clear_vhost_limits [--vhost <vhost>]")
    .details(&[super::VHOST])
    .banner(|call| format!("Clearing vhost \"{}\" limits ...", call.vhost())),
    command(
        "list_vhost_limits",
        Tools::BOTH,
        Section::VirtualHosts,
        list_vhost,
    )
    .about("Lists the limits of a virtual host, or of all")
    .usage(
        "list_vhost_limits [--vhost <vhost>] [--global] \
         [--no-table-headers]",
    )
    .details(&[
        super::VHOST,
        ("--global", "lists all virtual hosts that have limits"),
        super::NO_HEADERS,
    ])
    .switches(&[flag("global")])
    .table()
    .banner(|call| match call.flag("global") {
        true => "Listing limits for all vhosts ...".to_owned(),
        false => format!("Listing limits for vhost \"{}\" ...", call.vhost()),
    }),
];

/// Limits as an argument gives them, or the complaint of RabbitMQ.
fn definition(text: &str) -> Result<Map<String, Json>, Failure> {
    match json_arg(text)? {
        Json::Object(limits) => Ok(limits),
        other => Err(Failure::refused(format!(
            "Validation failed\n\nlimits should be an object, actually was \
             {other}\n"
        ))),
    }
}

fn set_user(call: &mut Call<'_>) -> Result<Output, Failure> {
    let user = call.arg(0).to_owned();
    let limits = definition(call.arg(1))?;
    if !call.has_user(&user)? {
        return Err(Failure::no_user(&user));
    }
    for (name, value) in limits {
        call.put(&["user-limits", &user, &name], json!({"value": value}))?
            .good()?;
    }
    Ok(Output::Done)
}

fn clear_user(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (user, limit) = (call.arg(0).to_owned(), call.arg(1).to_owned());
    if !call.has_user(&user)? {
        return Err(Failure::no_user(&user));
    }
    let answer = match limit.as_str() {
        "all" => call.delete(&["internal", "user-limits", &user])?,
        limit => call.delete(&["user-limits", &user, limit])?,
    };
    answer.good().map(|_| Output::Done)
}

fn rows(found: &[Json], key: &str) -> Output {
    let row = |item: &Json| -> Row {
        let limits = item.get("value").unwrap_or(&Json::Null).to_string();
        vec![
            (key.to_owned(), Term::text(text(item, key))),
            ("limits".to_owned(), Term::text(limits)),
        ]
    };
    Output::List(found.iter().map(row).collect())
}

fn list_user(call: &mut Call<'_>) -> Result<Output, Failure> {
    if call.flag("global") {
        return Ok(rows(&call.list(&["user-limits"])?, "user"));
    }
    let user = call.options.text("user").unwrap_or("guest").to_owned();
    let Some(found) = call.find(&["user-limits", &user])? else {
        return Err(Failure::no_user(&user));
    };
    let limits = found.get(0).and_then(|item| item.get("value"));
    Ok(Output::Text(
        limits.map_or_else(|| "{}".to_owned(), Json::to_string),
    ))
}

fn set_vhost(call: &mut Call<'_>) -> Result<Output, Failure> {
    let limits = definition(call.arg(0))?;
    let vhost = call.require_vhost()?;
    let body = json!({"value": limits});
    call.put(&["parameters", "vhost-limits", &vhost, "limits"], body)?
        .good()?;
    Ok(Output::Done)
}

fn clear_vhost(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.vhost().to_owned();
    let answer = call.delete(&["internal", "vhost-limits", &vhost])?;
    if answer.status == 404 || answer.reason() == "vhost_not_found" {
        return Err(Failure::refused("Parameter does not exist"));
    }
    answer.good().map(|_| Output::Done)
}

fn list_vhost(call: &mut Call<'_>) -> Result<Output, Failure> {
    if call.flag("global") {
        return Ok(rows(&call.list(&["vhost-limits"])?, "vhost"));
    }
    let vhost = call.require_vhost()?;
    let found = call.list(&["vhost-limits", &vhost])?;
    Ok(match found.first().and_then(|item| item.get("value")) {
        Some(limits) => Output::Wrapped(limits.to_string()),
        None => Output::List(Vec::new()),
    })
}
