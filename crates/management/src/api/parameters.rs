//! Runtime parameters of virtual hosts, and global ones.
//!
//! Limits of virtual hosts are also parameters (`vhost-limits`/`limits`), and so are operator policies
//! in lists, because definitions carry them so. User policies are not.

use std::sync::Arc;

use broker::Name;
use broker::metadata::{Command, PolicyKind, Vhost};
use serde_json::{Value as Json, json};

use super::{Outcome, limits, policies};
use crate::error::Error;
use crate::list;
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::value::{value_from_json, value_to_json};

const LIMITS: &str = "vhost-limits";
const OPERATOR_POLICY: &str = "operator_policy";

/// `GET /api/parameters`, `/:component`, `/:component/:vhost`
pub(crate) async fn index(request: Request) -> Outcome {
    let component = request.find_param("component");
    let vhosts = request.vhosts()?;
    let items = vhosts.into_iter().flat_map(all_of);
    let wanted = items.filter(|item| component.is_none_or(|wanted| item["component"] == wanted));
    list::whole(&request.query, wanted.collect(), &["vhost", "name"])
}

/// `GET /api/parameters/:component/:vhost/:name`
pub(crate) async fn show(request: Request) -> Outcome {
    list::one(&request.query, find(&request)?)
}

/// `PUT /api/parameters/:component/:vhost/:name`
pub(crate) async fn put(request: Request) -> Outcome {
    let vhost = request.vhost_for_change()?;
    let body = request.json()?;
    let (component, name) = (request.param("component"), request.param("name"));
    let command = command_from_json(&vhost.name, component, name, body.required("value")?)?;
    let existed = find(&request).is_ok();
    request.node().propose(command).await?;
    Ok(Reply::put(existed))
}

/// `DELETE /api/parameters/:component/:vhost/:name`
pub(crate) async fn delete(request: Request) -> Outcome {
    let vhost = Name::clone(&request.vhost()?.name);
    let (component, name) = (
        request.param("component"),
        Name::from(request.param("name")),
    );
    if matches!(component, "policy" | OPERATOR_POLICY) {
        return Err(Error::bad_request(
            "policies may not be cleared using this method",
        ));
    }
    find(&request)?;
    let command = match component {
        LIMITS => Command::ClearVhostLimits { vhost, limit: None },
        component => Command::ClearParameter {
            vhost,
            component: Name::from(component),
            name,
        },
    };
    request.node().propose(command).await?;
    Ok(Reply::no_content())
}

/// `GET /api/global-parameters`
pub(crate) async fn global_index(request: Request) -> Outcome {
    list::whole(&request.query, globals(&request), &["name"])
}

/// `GET /api/global-parameters/:name`
pub(crate) async fn global_show(request: Request) -> Outcome {
    let value = request.tables.global_parameters.get(request.param("name"));
    let value = value_to_json(value.ok_or_else(Error::object_not_found)?);
    list::one(
        &request.query,
        json!({"name": request.param("name"), "value": value}),
    )
}

/// `PUT /api/global-parameters/:name`
pub(crate) async fn global_put(request: Request) -> Outcome {
    let name = Name::from(request.param("name"));
    let value = value_from_json(request.json()?.required("value")?)?;
    let existed = request.tables.global_parameters.contains_key(&name);
    request
        .node()
        .propose(Command::SetGlobalParameter { name, value })
        .await?;
    Ok(Reply::put(existed))
}

/// `DELETE /api/global-parameters/:name`
pub(crate) async fn global_delete(request: Request) -> Outcome {
    let name = Name::from(request.param("name"));
    if !request.tables.global_parameters.contains_key(&name) {
        return Err(Error::object_not_found());
    }
    request
        .node()
        .propose(Command::ClearGlobalParameter { name })
        .await?;
    Ok(Reply::no_content())
}

/// All global parameters.
pub(crate) fn globals(request: &Request) -> Vec<Json> {
    let all = request.tables.global_parameters.iter();
    all.map(|(name, value)| json!({"name": name, "value": value_to_json(value)}))
        .collect()
}

/// All parameters of a virtual host.
pub(crate) fn all_of(vhost: &Arc<Vhost>) -> Vec<Json> {
    let show = |component: &str, name: &str, value: Json| json!({"value": value, "vhost": vhost.name, "component": component, "name": name});
    let mut items: Vec<Json> = vhost
        .parameters
        .iter()
        .map(|((component, name), value)| show(component, name, value_to_json(value)))
        .collect();
    for (name, policy) in policies::of_kind(vhost, PolicyKind::Operator) {
        let mut value = policies::render(&vhost.name, policy);
        if let Json::Object(value) = &mut value {
            value.retain(|key, _| key != "name" && key != "vhost");
        }
        items.push(show(OPERATOR_POLICY, name, value));
    }
    let limits = limits::vhost_limits_to_json(&vhost.limits);
    if !limits.is_empty() {
        items.push(show(LIMITS, "limits", Json::Object(limits)));
    }
    items
}

/// What to propose so that a virtual host has this parameter.
pub(crate) fn command_from_json(
    vhost: &Name,
    component: &str,
    name: &str,
    value: &Json,
) -> Result<Command, Error> {
    let vhost = Name::clone(vhost);
    match component {
        "policy" => Err(Error::bad_request(
            "policies may not be set using this method",
        )),
        OPERATOR_POLICY => {
            let body = value
                .as_object()
                .ok_or_else(|| Error::bad_request("value is not an object"))?;
            let policy = policies::spec_from_json(name, body)?;
            Ok(Command::SetPolicy {
                vhost,
                kind: PolicyKind::Operator,
                policy,
            })
        }
        LIMITS => Ok(Command::SetVhostLimits {
            vhost,
            limits: limits::limits_from_json(value)?,
        }),
        component => Ok(Command::SetParameter {
            vhost,
            component: Name::from(component),
            name: Name::from(name),
            value: value_from_json(value)?,
        }),
    }
}

/// The parameter in the path.
fn find(request: &Request) -> Result<Json, Error> {
    let (component, name) = (request.param("component"), request.param("name"));
    all_of(request.vhost()?)
        .into_iter()
        .find(|item| item["component"] == component && item["name"] == name)
        .ok_or_else(Error::object_not_found)
}
