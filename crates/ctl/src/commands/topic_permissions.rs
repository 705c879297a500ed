//! Permissions on routing keys of topic exchanges.

use serde_json::{Value as Json, json};

use super::permissions::blame;
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::json::text;
use crate::output::Output;
use crate::term::{Row, Term};
use crate::tool::Tools;

const USER: (&str, &str) = ("<username>", "the name of the user");

pub(super) const COMMANDS: &[Command] = &[
    command("set_topic_permissions", Tools::CTL, Section::Access, set)
        .about("Sets which routing keys of a topic exchange a user may use")
        .usage(
            "set_topic_permissions [--vhost <vhost>] <username> <exchange> \
             <write> <read>",
        )
        .details(&[
            USER,
            ("<exchange>", "the topic exchange"),
            (
                "<write>",
                "regular expression of routing keys that may be published with",
            ),
            (
                "<read>",
                "regular expression of routing keys that may be bound with",
            ),
            super::VHOST,
        ])
        .args(4, 4)
        .banner(|call| {
            let (user, exchange, vhost) = (call.arg(0), call.arg(1), call.vhost());
            format!(
                "Setting topic permissions on \"{exchange}\" for user \
                 \"{user}\" in vhost \"{vhost}\" ..."
            )
        }),
    command(
        "clear_topic_permissions",
        Tools::CTL,
        Section::Access,
        clear,
    )
    .about("Takes topic permissions from a user, of one exchange or all")
    .usage(
        "clear_topic_permissions [--vhost <vhost>] <username> \
         [<exchange>]",
    )
    .details(&[
        USER,
        ("<exchange>", "the topic exchange; all when left out"),
        super::VHOST,
    ])
    .args(1, 2)
    .banner(|call| {
        let (user, vhost) = (call.arg(0), call.vhost());
        match call.args.get(1) {
            Some(exchange) => {
                format!(
                    "Clearing topic permissions on \"{exchange}\" for user \
                     \"{user}\" in vhost \"{vhost}\" ..."
                )
            }
            None => format!(
                "Clearing topic permissions for user \"{user}\" in vhost \
                 \"{vhost}\" ..."
            ),
        }
    }),
    command("list_topic_permissions", Tools::BOTH, Section::Access, list)
        .about("Lists topic permissions in a virtual host")
        .usage("list_topic_permissions [--vhost <vhost>] [--no-table-headers]")
        .details(&[super::VHOST, super::NO_HEADERS])
        .timed()
        .table()
        .banner(|call| {
            format!(
                "Listing topic permissions for vhost \"{}\" ...",
                call.vhost()
            )
        }),
    command(
        "list_user_topic_permissions",
        Tools::BOTH,
        Section::Access,
        list_of_user,
    )
    .about("Lists the topic permissions of a user")
    .usage("list_user_topic_permissions [--no-table-headers] <username>")
    .details(&[USER, super::NO_HEADERS])
    .timed()
    .table()
    .args(1, 1)
    .banner(|call| format!("Listing topic permissions for user \"{}\" ...", call.arg(0))),
];

fn set(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (user, vhost) = (call.arg(0).to_owned(), call.vhost().to_owned());
    let body = json!({"exchange": call.arg(1), "write": call.arg(2), "read": call.arg(3)});
    let answer = call.put(&["topic-permissions", &vhost, &user], body)?;
    if matches!(answer.status, 400 | 404) {
        blame(call, &user, &vhost)?;
    }
    answer.good().map(|_| Output::Done)
}

fn clear(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (user, vhost) = (call.arg(0).to_owned(), call.vhost().to_owned());
    let exchange = call.args.get(1).cloned();
    let mut path = vec!["topic-permissions", &vhost, &user];
    path.extend(exchange.as_deref());
    let answer = call.delete(&path)?;
    if answer.status == 404 {
        blame(call, &user, &vhost)?;
        return Ok(Output::Done);
    }
    answer.good().map(|_| Output::Done)
}

fn rows(found: &[Json], first: &str) -> Output {
    let row = |permission: &Json| -> Row {
        let columns = [first, "exchange", "write", "read"];
        columns
            .iter()
            .map(|key| ((*key).to_owned(), Term::text(text(permission, key))))
            .collect()
    };
    Output::List(found.iter().map(row).collect())
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.require_vhost()?;
    Ok(rows(
        &call.list(&["vhosts", &vhost, "topic-permissions"])?,
        "user",
    ))
}

fn list_of_user(call: &mut Call<'_>) -> Result<Output, Failure> {
    let user = call.arg(0).to_owned();
    match call.find(&["users", &user, "topic-permissions"])? {
        Some(Json::Array(found)) => Ok(rows(&found, "vhost")),
        _ => Err(Failure::no_user(&user)),
    }
}
