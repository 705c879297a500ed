//! Users. Password hashes are shown to administrators, in RabbitMQ's form, so that they can move.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::Name;
use broker::metadata::{Command, UserSpec};
use broker::user::{DEFAULT_HASHING, Hashing, User};
use serde_json::{Value as Json, json};

use super::{Outcome, limits, tags_from_json};
use crate::error::Error;
use crate::list;
use crate::node::Node;
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::value::Object;

/// `GET /api/users`
pub(crate) async fn index(request: Request) -> Outcome {
    let users: Vec<_> = request.tables.users.values().collect();
    list::paged(
        &request.query,
        users,
        |user| ("", &user.name),
        |user| render(user),
    )
}

/// `GET /api/users/without-permissions`
pub(crate) async fn without_permissions(request: Request) -> Outcome {
    let tables = &request.tables;
    let has_some = |user: &User| {
        tables
            .vhosts
            .values()
            .any(|vhost| vhost.permissions.contains_key(&user.name))
    };
    let users: Vec<_> = tables
        .users
        .values()
        .filter(|user| !has_some(user))
        .collect();
    list::paged(
        &request.query,
        users,
        |user| ("", &user.name),
        |user| render(user),
    )
}

/// `GET /api/users/:user`
pub(crate) async fn show(request: Request) -> Outcome {
    let user = request.tables.users.get(request.param("user"));
    list::one(
        &request.query,
        render(user.ok_or_else(Error::object_not_found)?),
    )
}

/// `PUT /api/users/:user`
pub(crate) async fn put(request: Request) -> Outcome {
    let name = request.param("user");
    let spec = spec_from_json(name, &request.json()?, request.node())?;
    let existed = request.tables.users.contains_key(name);
    request.node().propose(Command::PutUser(spec)).await?;
    Ok(Reply::put(existed))
}

/// `DELETE /api/users/:user`
pub(crate) async fn delete(request: Request) -> Outcome {
    let user = Name::from(request.param("user"));
    if !request.tables.users.contains_key(&user) {
        return Err(Error::object_not_found());
    }
    request.node().propose(Command::DeleteUser { user }).await?;
    Ok(Reply::no_content())
}

/// `POST /api/users/bulk-delete`
pub(crate) async fn bulk_delete(request: Request) -> Outcome {
    let body = request.json()?;
    let users = body.required("users")?.as_array();
    let users = users.ok_or_else(|| Error::bad_request("users is not a list"))?;
    let delete = |user: &Json| {
        let user = user
            .as_str()
            .ok_or_else(|| Error::bad_request(json!(["not_string", user])))?;
        Ok(Command::DeleteUser {
            user: Name::from(user),
        })
    };
    let commands = users
        .iter()
        .map(delete)
        .collect::<Result<Vec<_>, Error>>()?;
    request.node().propose(Command::Batch(commands)).await?;
    Ok(Reply::no_content())
}

/// `GET /api/auth/hash_password/:password`
pub(crate) async fn hash_password(request: Request) -> Outcome {
    let hash = default_hashing().hash(request.node().salt(), request.param("password").as_bytes());
    Ok(Reply::ok(json!({"ok": STANDARD.encode(hash)})))
}

fn default_hashing() -> Hashing {
    Hashing::by_name(DEFAULT_HASHING).expect("the default is one of the known algorithms")
}

pub(crate) fn render(user: &User) -> Json {
    json!({
        "name": user.name,
        "password_hash": STANDARD.encode(&user.password_hash),
        "hashing_algorithm": user.hashing_algorithm,
        "tags": user.tags,
        "limits": limits::user_limits_to_json(&user.limits),
    })
}

/// Reads a user as a request or a definitions file gives it: with a password, with the hash of one, or
/// with neither, in which case no password opens the account.
pub(crate) fn spec_from_json(
    name: &str,
    body: &Object,
    node: &dyn Node,
) -> Result<UserSpec, Error> {
    let tags = match (body.get("tags"), body.get("administrator")) {
        (Some(tags), _) => tags_from_json(tags)?,
        // The field of the oldest versions.
        (None, Some(Json::Bool(true))) => vec![Name::from("administrator")],
        (None, Some(_)) => Vec::new(),
        (None, None) => return Err(Error::bad_request("tags_not_present")),
    };
    let algorithm = match body.optional_text("hashing_algorithm")? {
        None => default_hashing(),
        Some(name) => Hashing::by_name(name)
            .ok_or_else(|| Error::bad_request(format!("unknown hashing algorithm: {name}")))?,
    };
    let password = body.optional_text("password")?;
    if let Some(password) = password {
        node.check_password(password).map_err(Error::bad_request)?;
    }
    let password_hash = match (password, body.optional_text("password_hash")?) {
        (Some(_), Some(_)) => {
            return Err(Error::bad_request(
                "both_password_and_password_hash_are_provided",
            ));
        }
        (Some("") | None, None) => Vec::new(),
        (Some(password), None) => algorithm.hash(node.salt(), password.as_bytes()),
        (None, Some(hash)) => STANDARD
            .decode(hash.trim())
            .map_err(|_| Error::bad_request("password_hash is not base64"))?,
    };
    Ok(UserSpec {
        name: Name::from(name),
        password_hash,
        hashing_algorithm: Name::from(algorithm.name()),
        tags,
        create_only: false,
    })
}
