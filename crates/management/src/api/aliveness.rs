//! The aliveness test: a message really goes through the broker.

use broker::Name;
use broker::metadata::{Command, QueueSpec};
use broker::permission::{Resource, Right};
use bytes::Bytes;
use serde_json::json;

use super::Outcome;
use crate::error::Error;
use crate::node::{Publish, Settle};
use crate::reply::Reply;
use crate::request::Request;

const QUEUE: &str = "aliveness-test";

/// `GET /api/aliveness-test/:vhost`: declares a queue, publishes a message to it and gets it back.
pub(crate) async fn test(request: Request) -> Outcome {
    let vhost = Name::clone(&request.vhost()?.name);
    request.permit(Right::Configure, Resource::Queue(QUEUE))?;
    request.permit(Right::Write, Resource::Exchange(""))?;
    request.permit(Right::Read, Resource::Queue(QUEUE))?;
    if pass_message(&request, &vhost).await? {
        return Ok(Reply::ok(json!({"status": "ok"})));
    }
    Ok(Reply::ok(
        json!({"status": "failed", "reason": "no message came back"}),
    ))
}

async fn pass_message(request: &Request, vhost: &Name) -> Result<bool, Error> {
    let node = request.node();
    let spec = QueueSpec {
        name: Name::from(QUEUE),
        durable: false,
        auto_delete: false,
        exclusive: false,
        connection: None,
        arguments: amqp::Table::new(),
        node: node.name(),
    };
    node.propose(Command::DeclareQueue {
        vhost: Name::clone(vhost),
        spec,
    })
    .await?;
    let Some(queue) = node.tables().queue(vhost, QUEUE).map(|queue| queue.id) else {
        return Ok(false);
    };
    let message = Publish {
        vhost: Name::clone(vhost),
        exchange: Name::from(""),
        routing_key: QUEUE.as_bytes().to_vec(),
        user: request.user(),
        trusted: true,
        properties: amqp::Properties::default(),
        payload: Bytes::from_static(b"test_message"),
    };
    let routed = node.publish(message).await?;
    let messages = node.get(queue, 1, Settle::Ack).await?;
    Ok(routed && !messages.is_empty())
}
