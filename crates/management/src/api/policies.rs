//! Policies of users and of operators. What they may say is checked where they are applied.

use std::sync::Arc;

use broker::Name;
use broker::metadata::{Command, PolicyKind, PolicySpec, Vhost};
use broker::policy::Policy;
use rpds::RedBlackTreeMapSync;
use serde_json::{Value as Json, json};

use super::Outcome;
use crate::error::Error;
use crate::list;
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::value::{Object, not_a_number, table_from_json, table_to_json};

/// `GET /api/policies` and `/:vhost`
pub(crate) async fn index(request: Request) -> Outcome {
    list_of(&request, PolicyKind::User)
}

/// `GET /api/operator-policies` and `/:vhost`
pub(crate) async fn operator_index(request: Request) -> Outcome {
    list_of(&request, PolicyKind::Operator)
}

/// `GET /api/policies/:vhost/:name`
pub(crate) async fn show(request: Request) -> Outcome {
    show_one(&request, PolicyKind::User)
}

/// `GET /api/operator-policies/:vhost/:name`
pub(crate) async fn operator_show(request: Request) -> Outcome {
    show_one(&request, PolicyKind::Operator)
}

/// `PUT /api/policies/:vhost/:name`
pub(crate) async fn put(request: Request) -> Outcome {
    put_one(&request, PolicyKind::User).await
}

/// `PUT /api/operator-policies/:vhost/:name`
pub(crate) async fn operator_put(request: Request) -> Outcome {
    put_one(&request, PolicyKind::Operator).await
}

/// `DELETE /api/policies/:vhost/:name`
pub(crate) async fn delete(request: Request) -> Outcome {
    delete_one(&request, PolicyKind::User).await
}

/// `DELETE /api/operator-policies/:vhost/:name`
pub(crate) async fn operator_delete(request: Request) -> Outcome {
    delete_one(&request, PolicyKind::Operator).await
}

pub(crate) fn of_kind(vhost: &Vhost, kind: PolicyKind) -> &RedBlackTreeMapSync<Name, Arc<Policy>> {
    match kind {
        PolicyKind::User => &vhost.policies,
        PolicyKind::Operator => &vhost.operator_policies,
    }
}

fn list_of(request: &Request, kind: PolicyKind) -> Outcome {
    let vhosts = request.vhosts()?;
    let render = |vhost: &&Arc<Vhost>| {
        let all = of_kind(vhost, kind).values();
        all.map(|policy| render(&vhost.name, policy))
            .collect::<Vec<_>>()
    };
    list::whole(
        &request.query,
        vhosts.iter().flat_map(render).collect(),
        &["vhost", "name"],
    )
}

fn show_one(request: &Request, kind: PolicyKind) -> Outcome {
    let vhost = request.vhost()?;
    let policy = of_kind(vhost, kind).get(request.param("name"));
    let policy = policy.ok_or_else(Error::object_not_found)?;
    list::one(&request.query, render(&vhost.name, policy))
}

async fn put_one(request: &Request, kind: PolicyKind) -> Outcome {
    let vhost = request.vhost_for_change()?;
    let name = request.param("name");
    let policy = spec_from_json(name, &request.json()?)?;
    let existed = of_kind(vhost, kind).contains_key(name);
    let vhost = Name::clone(&vhost.name);
    request
        .node()
        .propose(Command::SetPolicy {
            vhost,
            kind,
            policy,
        })
        .await?;
    Ok(Reply::put(existed))
}

async fn delete_one(request: &Request, kind: PolicyKind) -> Outcome {
    let vhost = request.vhost()?;
    let name = Name::from(request.param("name"));
    if !of_kind(vhost, kind).contains_key(&name) {
        return Err(Error::object_not_found());
    }
    let vhost = Name::clone(&vhost.name);
    request
        .node()
        .propose(Command::ClearPolicy { vhost, kind, name })
        .await?;
    Ok(Reply::no_content())
}

pub(crate) fn render(vhost: &str, policy: &Policy) -> Json {
    let spec = &policy.spec;
    json!({
        "vhost": vhost,
        "name": spec.name,
        "pattern": spec.pattern,
        "apply-to": spec.apply_to,
        "definition": table_to_json(&spec.definition),
        "priority": spec.priority,
    })
}

/// Reads a policy as a request or a definitions file gives it.
pub(crate) fn spec_from_json(name: &str, body: &Object) -> Result<PolicySpec, Error> {
    let pattern = body.text("pattern")?.to_owned();
    let definition = match body.required("definition")? {
        Json::Object(definition) => table_from_json(definition)?,
        other => {
            return Err(Error::bad_request(json!([
                "definition is not an object",
                other
            ])));
        }
    };
    let priority = match body.get("priority") {
        Some(Json::Number(number)) if number.is_i64() => number.as_i64().unwrap_or_default(),
        None | Some(Json::Null) => 0,
        Some(other) => return Err(Error::invalid(&not_a_number("priority", other))),
    };
    let apply_to = body.optional_text("apply-to")?.unwrap_or("all");
    Ok(PolicySpec {
        name: Name::from(name),
        pattern,
        apply_to: Name::from(apply_to),
        priority,
        definition,
    })
}
