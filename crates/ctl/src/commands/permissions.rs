//! Permissions of users in virtual hosts.

use serde_json::{Value as Json, json};

use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, NO_USER};
use crate::json::text;
use crate::output::Output;
use crate::term::{Row, Term};
use crate::tool::Tools;

const PATTERNS: [(&str, &str); 3] = [
    (
        "<conf>",
        "regular expression of names that may be declared and deleted",
    ),
    (
        "<write>",
        "regular expression of names that may be published to",
    ),
    (
        "<read>",
        "regular expression of names that may be consumed from",
    ),
];
const USER: (&str, &str) = ("<username>", "the name of the user");

pub(super) const COMMANDS: &[Command] = &[
    command("set_permissions", Tools::CTL, Section::Access, set)
        .about("Sets what a user may do in a virtual host")
        .usage(
            "set_permissions [--vhost <vhost>] <username> <conf> <write> \
             <read>",
        )
        .details(&[USER, PATTERNS[0], PATTERNS[1], PATTERNS[2], super::VHOST])
        .args(4, 4)
        .banner(|call| {
            format!(
                "Setting permissions for user \"{}\" in vhost \"{}\" ...",
                call.arg(0),
                call.vhost()
            )
        }),
    command(
        "set_permissions_globally",
        Tools::CTL,
        Section::Access,
        set_globally,
    )
    .about("Sets what a user may do in all virtual hosts")
    .usage("set_permissions_globally <username> <conf> <write> <read>")
    .details(&[USER, PATTERNS[0], PATTERNS[1], PATTERNS[2]])
    .args(4, 4)
    .banner(|call| {
        format!(
            "Setting permissions for user \"{}\" in all virtual hosts ...",
            call.arg(0)
        )
    }),
    command("clear_permissions", Tools::CTL, Section::Access, clear)
        .about("Takes all permissions in a virtual host from a user")
        .usage("clear_permissions [--vhost <vhost>] <username>")
        .details(&[USER, super::VHOST])
        .args(1, 1)
        .banner(|call| {
            format!(
                "Clearing permissions for user \"{}\" in vhost \"{}\" ...",
                call.arg(0),
                call.vhost()
            )
        }),
    command("list_permissions", Tools::BOTH, Section::Access, list)
        .about("Lists permissions in a virtual host")
        .usage("list_permissions [--vhost <vhost>] [--no-table-headers]")
        .details(&[super::VHOST, super::NO_HEADERS])
        .timed()
        .table()
        .banner(|call| format!("Listing permissions for vhost \"{}\" ...", call.vhost())),
    command(
        "list_user_permissions",
        Tools::BOTH,
        Section::Access,
        list_of_user,
    )
    .about("Lists the permissions of a user")
    .usage("list_user_permissions [--no-table-headers] <username>")
    .details(&[USER, super::NO_HEADERS])
    .timed()
    .table()
    .args(1, 1)
    .banner(|call| format!("Listing permissions for user \"{}\" ...", call.arg(0))),
];

/// The user or else the virtual host is missing.
pub(super) fn blame(call: &mut Call<'_>, user: &str, vhost: &str) -> Result<(), Failure> {
    let json = |call: &Call<'_>, message: &str| {
        Term::map([
            ("message", Term::text(message)),
            ("node", Term::text(call.node())),
            ("result", Term::text("error")),
        ])
    };
    if !call.has_user(user)? {
        let text = format!("User {user} does not exist");
        return Err(Failure::new(NO_USER, &text).with_json(json(call, &text)));
    }
    if !call.has_vhost(vhost)? {
        let text = format!("Virtual host {vhost} does not exist");
        return Err(Failure::refused(&text).with_json(json(call, &text)));
    }
    Ok(())
}

fn set(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.vhost().to_owned();
    set_in(call, &vhost)?;
    Ok(Output::Done)
}

fn set_in(call: &mut Call<'_>, vhost: &str) -> Result<(), Failure> {
    let user = call.arg(0).to_owned();
    let body = json!({"configure": call.arg(1), "write": call.arg(2), "read": call.arg(3)});
    let answer = call.put(&["permissions", vhost, &user], body)?;
    if matches!(answer.status, 400 | 404) {
        blame(call, &user, vhost)?;
    }
    answer.good().map(|_| ())
}

fn set_globally(call: &mut Call<'_>) -> Result<Output, Failure> {
    for vhost in call.list(&["vhosts"])? {
        set_in(call, text(&vhost, "name"))?;
    }
    Ok(Output::Done)
}

fn clear(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (user, vhost) = (call.arg(0).to_owned(), call.vhost().to_owned());
    let answer = call.delete(&["permissions", &vhost, &user])?;
    if answer.status == 404 {
        // There was nothing to take, which is fine where both exist.
        blame(call, &user, &vhost)?;
        return Ok(Output::Done);
    }
    answer.good().map(|_| Output::Done)
}

fn row(permission: &Json, columns: &[&str]) -> Row {
    columns
        .iter()
        .map(|key| ((*key).to_owned(), Term::text(text(permission, key))))
        .collect()
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.require_vhost()?;
    let found = call.list(&["vhosts", &vhost, "permissions"])?;
    let columns = ["user", "configure", "write", "read"];
    Ok(Output::List(
        found
            .iter()
            .map(|permission| row(permission, &columns))
            .collect(),
    ))
}

fn list_of_user(call: &mut Call<'_>) -> Result<Output, Failure> {
    let user = call.arg(0).to_owned();
    let Some(Json::Array(found)) = call.find(&["users", &user, "permissions"])? else {
        return Err(Failure::no_user(&user));
    };
    let columns = ["vhost", "configure", "write", "read"];
    Ok(Output::List(
        found
            .iter()
            .map(|permission| row(permission, &columns))
            .collect(),
    ))
}
