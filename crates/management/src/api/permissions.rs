//! Permissions of users in virtual hosts, and their permissions on topics.

use broker::Name;
use broker::metadata::Command;
use broker::permission::{Permission, TopicPermission};
use serde_json::{Value as Json, json};

use super::Outcome;
use crate::error::Error;
use crate::list;
use crate::reply::Reply;
use crate::request::{Fields, Request};

const ORDER: &[&str] = &["vhost", "user"];
const TOPIC_ORDER: &[&str] = &["vhost", "user", "exchange"];

/// `GET /api/permissions`
pub(crate) async fn index(request: Request) -> Outcome {
    let vhosts = request.tables.vhosts.values();
    let items = vhosts
        .flat_map(|vhost| vhost.permissions.values().map(|it| render(it)))
        .collect();
    list::whole(&request.query, items, ORDER)
}

/// `GET /api/vhosts/:vhost/permissions`
pub(crate) async fn of_vhost(request: Request) -> Outcome {
    let items = request
        .vhost()?
        .permissions
        .values()
        .map(|it| render(it))
        .collect();
    list::whole(&request.query, items, ORDER)
}

/// `GET /api/users/:user/permissions`
pub(crate) async fn of_user(request: Request) -> Outcome {
    let user = known_user(&request)?;
    let vhosts = request.tables.vhosts.values();
    let items = vhosts
        .filter_map(|vhost| vhost.permissions.get(&user))
        .map(|it| render(it));
    list::whole(&request.query, items.collect(), ORDER)
}

/// `GET /api/permissions/:vhost/:user`
pub(crate) async fn show(request: Request) -> Outcome {
    let permission = request.vhost()?.permissions.get(request.param("user"));
    list::one(
        &request.query,
        render(permission.ok_or_else(Error::object_not_found)?),
    )
}

/// `PUT /api/permissions/:vhost/:user`
pub(crate) async fn put(request: Request) -> Outcome {
    let (vhost, user) = known_pair(&request)?;
    let body = request.json()?;
    let existed = request
        .tables
        .vhosts
        .get(&vhost)
        .is_some_and(|vhost| vhost.permissions.contains_key(&user));
    let text = |key| body.text(key).map(str::to_owned);
    let (configure, write, read) = (text("configure")?, text("write")?, text("read")?);
    request
        .node()
        .propose(Command::SetPermission {
            vhost,
            user,
            configure,
            write,
            read,
        })
        .await?;
    Ok(Reply::put(existed))
}

/// `DELETE /api/permissions/:vhost/:user`
pub(crate) async fn delete(request: Request) -> Outcome {
    let user = Name::from(request.param("user"));
    let vhost = request.vhost()?;
    if !vhost.permissions.contains_key(&user) {
        return Err(Error::object_not_found());
    }
    let vhost = Name::clone(&vhost.name);
    request
        .node()
        .propose(Command::ClearPermission { vhost, user })
        .await?;
    Ok(Reply::no_content())
}

/// `GET /api/topic-permissions`
pub(crate) async fn topic_index(request: Request) -> Outcome {
    let vhosts = request.tables.vhosts.values();
    let items = vhosts
        .flat_map(|vhost| vhost.topic_permissions.values())
        .map(|it| render_topic(it));
    list::whole(&request.query, items.collect(), TOPIC_ORDER)
}

/// `GET /api/vhosts/:vhost/topic-permissions`
pub(crate) async fn topic_of_vhost(request: Request) -> Outcome {
    let items = request
        .vhost()?
        .topic_permissions
        .values()
        .map(|it| render_topic(it));
    list::whole(&request.query, items.collect(), TOPIC_ORDER)
}

/// `GET /api/users/:user/topic-permissions`
pub(crate) async fn topic_of_user(request: Request) -> Outcome {
    let user = known_user(&request)?;
    let vhosts = request.tables.vhosts.values();
    let items = vhosts
        .flat_map(|vhost| vhost.topic_permissions.values())
        .filter(|it| it.user == user)
        .map(|it| render_topic(it));
    list::whole(&request.query, items.collect(), TOPIC_ORDER)
}

/// `GET /api/topic-permissions/:vhost/:user`: a list, one for each exchange.
pub(crate) async fn topic_show(request: Request) -> Outcome {
    let user = request.param("user");
    let all = request.vhost()?.topic_permissions.values();
    let items: Vec<Json> = all
        .filter(|it| *it.user == *user)
        .map(|it| render_topic(it))
        .collect();
    if items.is_empty() {
        return Err(Error::object_not_found());
    }
    list::whole(&request.query, items, TOPIC_ORDER)
}

/// `PUT /api/topic-permissions/:vhost/:user`
pub(crate) async fn topic_put(request: Request) -> Outcome {
    let (vhost, user) = known_pair(&request)?;
    let body = request.json()?;
    let exchange = Name::from(body.text("exchange")?);
    let pair = (Name::clone(&user), Name::clone(&exchange));
    let existed = request
        .tables
        .vhosts
        .get(&vhost)
        .is_some_and(|vhost| vhost.topic_permissions.contains_key(&pair));
    let (write, read) = (
        body.text("write")?.to_owned(),
        body.text("read")?.to_owned(),
    );
    let command = Command::SetTopicPermission {
        vhost,
        user,
        exchange,
        write,
        read,
    };
    request.node().propose(command).await?;
    Ok(Reply::put(existed))
}

/// `DELETE /api/topic-permissions/:vhost/:user` and `…/:exchange`
pub(crate) async fn topic_delete(request: Request) -> Outcome {
    let vhost = Name::clone(&request.vhost()?.name);
    let user = Name::from(request.param("user"));
    let exchange = request.find_param("exchange").map(Name::from);
    let all = request.vhost()?.topic_permissions.values();
    let mut matching = all.filter(|it| {
        it.user == user
            && exchange
                .as_ref()
                .is_none_or(|exchange| it.exchange == *exchange)
    });
    if matching.next().is_none() {
        return Err(Error::object_not_found());
    }
    request
        .node()
        .propose(Command::ClearTopicPermission {
            vhost,
            user,
            exchange,
        })
        .await?;
    Ok(Reply::no_content())
}

fn known_user(request: &Request) -> Result<Name, Error> {
    let user = request.tables.users.get(request.param("user"));
    user.map(|user| Name::clone(&user.name))
        .ok_or_else(Error::object_not_found)
}

/// A permission connects what exists.
fn known_pair(request: &Request) -> Result<(Name, Name), Error> {
    let vhost = request.tables.vhosts.get(request.param("vhost"));
    let user = request.tables.users.get(request.param("user"));
    match (vhost, user) {
        (Some(vhost), Some(user)) => Ok((Name::clone(&vhost.name), Name::clone(&user.name))),
        _ => Err(Error::bad_request("vhost_or_user_not_found")),
    }
}

pub(crate) fn render(permission: &Permission) -> Json {
    json!({
        "user": permission.user,
        "vhost": permission.vhost,
        "configure": permission.configure.source,
        "write": permission.write.source,
        "read": permission.read.source,
    })
}

pub(crate) fn render_topic(permission: &TopicPermission) -> Json {
    json!({
        "user": permission.user,
        "vhost": permission.vhost,
        "exchange": permission.exchange,
        "write": permission.write,
        "read": permission.read,
    })
}
