//! Limits of virtual hosts and of users.

use broker::Name;
use broker::metadata::{Command, Refusal, VhostLimits};
use broker::user::UserLimits;
use serde_json::{Value as Json, json};

use super::Outcome;
use crate::access;
use crate::error::Error;
use crate::list;
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::value::{Object, not_a_number};

/// `GET /api/vhost-limits` and `/:vhost`: those that have limits.
pub(crate) async fn vhost_index(request: Request) -> Outcome {
    let vhosts = match request.find_param("vhost") {
        Some(_) => vec![request.vhost()?],
        None => request.tables.vhosts.values().collect(),
    };
    let shown = vhosts
        .into_iter()
        .filter(|vhost| access::is_visible(&request.identity, &request.tables, &vhost.name))
        .map(|vhost| (&vhost.name, vhost_limits_to_json(&vhost.limits)))
        .filter(|(_, limits)| !limits.is_empty())
        .map(|(vhost, limits)| json!({"vhost": vhost, "value": limits}));
    list::whole(&request.query, shown.collect(), &["vhost"])
}

/// `PUT /api/vhost-limits/:vhost/:name`
pub(crate) async fn put_vhost(request: Request) -> Outcome {
    let vhost = Name::clone(&request.vhost_for_change()?.name);
    let limits = vec![limit(&request, Error::invalid)?];
    request
        .node()
        .propose(Command::SetVhostLimits { vhost, limits })
        .await?;
    Ok(Reply::no_content())
}

/// `DELETE /api/vhost-limits/:vhost/:name`
pub(crate) async fn delete_vhost(request: Request) -> Outcome {
    let vhost = Name::clone(&request.vhost_for_change()?.name);
    let limit = Some(Name::from(request.param("name")));
    request
        .node()
        .propose(Command::ClearVhostLimits { vhost, limit })
        .await?;
    Ok(Reply::no_content())
}

/// `GET /api/user-limits` and `/:user`: those that have limits. Who is no administrator sees its own.
pub(crate) async fn user_index(request: Request) -> Outcome {
    let named = request.find_param("user");
    if named.is_some_and(|user| !request.tables.users.contains_key(user)) {
        return Err(Error::object_not_found());
    }
    let visible = |user: &str| {
        named.is_none_or(|named| named == user)
            && access::check_owner(&request.identity, user, true).is_ok()
    };
    let shown = request
        .tables
        .users
        .values()
        .filter(|user| visible(&user.name))
        .map(|user| (&user.name, user_limits_to_json(&user.limits)))
        .filter(|(_, limits)| !limits.is_empty())
        .map(|(user, limits)| json!({"user": user, "value": limits}));
    list::whole(&request.query, shown.collect(), &["user"])
}

/// `PUT /api/user-limits/:user/:name`
pub(crate) async fn put_user(request: Request) -> Outcome {
    let user = known_user(&request)?;
    let limits = vec![limit(&request, of_user)?];
    request
        .node()
        .propose(Command::SetUserLimits { user, limits })
        .await?;
    Ok(Reply::no_content())
}

/// `DELETE /api/user-limits/:user/:name`
pub(crate) async fn delete_user(request: Request) -> Outcome {
    let user = known_user(&request)?;
    let limit = Some(Name::from(request.param("name")));
    request
        .node()
        .propose(Command::ClearUserLimits { user, limit })
        .await?;
    Ok(Reply::no_content())
}

fn known_user(request: &Request) -> Result<Name, Error> {
    let user = request.tables.users.get(request.param("user"));
    user.map(|user| Name::clone(&user.name))
        .ok_or_else(|| Error::not_found("user_not_found"))
}

/// The limit in the path with the value in the body.
fn limit(request: &Request, refusal: fn(&str) -> Error) -> Result<(Name, i64), Error> {
    let name = request.param("name");
    let body = request.json()?;
    Ok((Name::from(name), number(name, body.required("value")?, refusal)?))
}

/// A limit, or the refusal of this kind of limit.
fn number(name: &str, value: &Json, refusal: fn(&str) -> Error) -> Result<i64, Error> {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and limits are checked")]
    let whole = |number: f64| (number.fract() == 0.0).then_some(number as i64);
    let found = value.as_i64().or_else(|| value.as_f64().and_then(whole));
    found.ok_or_else(|| refusal(&not_a_number(name, value)))
}

/// Limits of users are no parameters: what is wrong with one is said as it is.
fn of_user(reason: &str) -> Error {
    Refusal::Invalid(reason.to_owned()).into()
}

/// Reads limits as a definitions file gives them.
pub(crate) fn limits_from_json(json: &Json) -> Result<Vec<(Name, i64)>, Error> {
    let object = json
        .as_object()
        .ok_or_else(|| Error::bad_request("limits is not an object"))?;
    let limit = |(name, value): (&String, &Json)| {
        Ok((Name::from(name.as_str()), number(name, value, Error::invalid)?))
    };
    object.iter().map(limit).collect()
}

pub(crate) fn vhost_limits_to_json(limits: &VhostLimits) -> Object {
    present([
        ("max-connections", limits.max_connections),
        ("max-queues", limits.max_queues),
    ])
}

pub(crate) fn user_limits_to_json(limits: &UserLimits) -> Object {
    present([
        ("max-connections", limits.max_connections),
        ("max-channels", limits.max_channels),
    ])
}

fn present(limits: [(&str, Option<u64>); 2]) -> Object {
    limits
        .into_iter()
        .filter_map(|(name, limit)| Some((name.to_owned(), json!(limit?))))
        .collect()
}
