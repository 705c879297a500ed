//! Queues: listed, declared, deleted, purged, synchronized.

pub(crate) mod mirrors;
mod render;

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::metadata::{Command, Outcome as Applied, Queue, QueueSpec};
use broker::permission::{Resource, Right};
use broker::{Name, QueueId};
use serde_json::Value as Json;

use super::{Outcome, cluster, consumers, is_same_node, object};
use crate::error::Error;
use crate::host::HostFailure;
use crate::list;
use crate::node::{Failure, QueueReport};
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::stats::Ranges;
use crate::value::{Object, arguments_from_json};

use render::definition;

/// `GET /api/queues`, `/detailed` and `/:vhost`. All three show everything.
pub(crate) async fn index(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let vhosts = request.vhosts()?;
    let queues: Vec<&Arc<Queue>> = vhosts
        .into_iter()
        .flat_map(|vhost| vhost.queues.values())
        .collect();
    if request.stats_disabled() {
        let totals = request.wants_queue_totals();
        let reports = if totals {
            reports(&request).await
        } else {
            BTreeMap::new()
        };
        return list::paged(
            &request.query,
            queues,
            |queue| (&queue.vhost, &queue.name),
            |queue| render::short(&request.tables, queue, totals.then(|| reports.get(&queue.id)).flatten()),
        );
    }
    let reports = reports(&request).await;
    let owners = render::Owners::of(&request).await;
    list::paged(
        &request.query,
        queues,
        |queue| (&queue.vhost, &queue.name),
        |queue| {
            Json::Object(render::full(
                &request,
                queue,
                reports.get(&queue.id),
                &owners,
                ranges,
            ))
        },
    )
}

/// `GET /api/queues/:vhost/:queue`
pub(crate) async fn show(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let queue = request.queue()?;
    let report = request.node().queue_status(queue.id).await;
    if request.stats_disabled() {
        let report = report.as_ref().filter(|_| request.wants_queue_totals());
        return list::one(&request.query, render::short(&request.tables, queue, report));
    }
    let owners = render::Owners::of(&request).await;
    let mut shown = render::full(&request, queue, report.as_ref(), &owners, ranges);
    let consumers = match &report {
        Some(report) => consumers::of_queue(&request, queue, &report.status).await,
        None => Vec::new(),
    };
    shown.insert("consumer_details".to_owned(), Json::Array(consumers));
    // Flows between one channel or exchange and one queue are not counted (rates mode `basic`).
    shown.insert("deliveries".to_owned(), Json::Array(Vec::new()));
    shown.insert("incoming".to_owned(), Json::Array(Vec::new()));
    list::one(&request.query, Json::Object(shown))
}

async fn reports(request: &Request) -> BTreeMap<QueueId, QueueReport> {
    let all = request.node().queue_statuses().await.into_iter();
    all.filter_map(|report| Some((report.queue?, report)))
        .collect()
}

/// `PUT /api/queues/:vhost/:queue`
pub(crate) async fn put(request: Request) -> Outcome {
    let vhost = Name::clone(&request.vhost_for_change()?.name);
    let name = request.param("queue");
    let body = request.json()?;
    let spec = QueueSpec {
        name: checked_name(name)?,
        durable: body.boolean("durable")?.unwrap_or(false),
        auto_delete: body.boolean("auto_delete")?.unwrap_or(false),
        exclusive: false,
        connection: None,
        arguments: body
            .get("arguments")
            .map(arguments_from_json)
            .transpose()?
            .unwrap_or_default(),
        node: declaring_node(&request, &body).await?,
    };
    let existed = request.tables.queue(&vhost, name).is_some();
    request.permit(Right::Configure, Resource::Queue(name))?;
    if let (false, Some(target)) = (existed, spec.arguments.get("x-dead-letter-exchange")) {
        request.permit(Right::Read, Resource::Queue(name))?;
        request.permit(
            Right::Write,
            Resource::Exchange(target.as_str().unwrap_or_default()),
        )?;
    }
    match request
        .node()
        .propose(Command::DeclareQueue { vhost, spec })
        .await?
    {
        Applied::Declared(declared) => Ok(Reply::put(!declared.created)),
        _ => Ok(Reply::put(existed)),
    }
}

/// The node that is to declare a queue: as in the body, else this one.
async fn declaring_node(request: &Request, body: &Object) -> Result<Name, Error> {
    let Some(name) = body.optional_text("node")? else {
        return Ok(request.node().name());
    };
    let nodes = request.node().nodes().await;
    let found = nodes
        .into_iter()
        .find(|node| is_same_node(&node.name, name));
    match found.filter(|node| node.running) {
        Some(node) => Ok(node.name),
        None => Err(Error::bad_request(format!(
            "Node {name} could not be contacted"
        ))),
    }
}

fn checked_name(name: &str) -> Result<Name, Error> {
    if name.len() > amqp::short_str::SHORT_STR_BYTES_MAX {
        return Err(Error::bad_request("queue name is longer than 255 bytes"));
    }
    Ok(Name::from(name))
}

/// `DELETE /api/queues/:vhost/:queue`
pub(crate) async fn delete(request: Request) -> Outcome {
    let queue = request.queue()?;
    request.permit(Right::Configure, Resource::Queue(&queue.name))?;
    refuse_exclusive(queue)?;
    let (if_unused, if_empty) = (
        request.query.flag("if-unused"),
        request.query.flag("if-empty"),
    );
    request
        .node()
        .delete_queue(queue.id, if_unused, if_empty)
        .await?;
    Ok(Reply::no_content())
}

/// `DELETE /api/queues/:vhost/:queue/contents`
pub(crate) async fn purge(request: Request) -> Outcome {
    let queue = request.queue()?;
    request.permit(Right::Read, Resource::Queue(&queue.name))?;
    refuse_exclusive(queue)?;
    request.node().purge(queue.id).await?;
    Ok(Reply::no_content())
}

/// An exclusive queue belongs to its connection; the operator may touch it all the same.
pub(crate) fn refuse_exclusive(queue: &Queue) -> Result<(), Error> {
    if queue.exclusive.is_none() {
        return Ok(());
    }
    let (vhost, name) = (Name::clone(&queue.vhost), Name::clone(&queue.name));
    Err(broker::metadata::Refusal::ExclusiveOwner { vhost, name }.into())
}

/// `POST /api/queues/:vhost/:queue/actions`
pub(crate) async fn act(request: Request) -> Outcome {
    let queue = request
        .queue()
        .map_err(|_| Error::not_found("queue_not_found"))?;
    let body = request.json()?;
    let start = cluster::wants_sync(&body)?;
    match request.node().synchronize(queue.id, start).await {
        // As RabbitMQ, which does not wait for the queue to answer.
        Ok(_) | Err(Failure::Host(HostFailure::NotMirrored)) => Ok(Reply::no_content()),
        Err(failure) => Err(failure.into()),
    }
}

/// A queue as definitions carry it.
pub(crate) fn to_definition(queue: &Queue) -> Json {
    let mut shown = object(definition(queue));
    shown.retain(|key, _| key != "exclusive" && key != "type");
    Json::Object(shown)
}
