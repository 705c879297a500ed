//! Messages by hand: publish one, look at a few.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::Name;
use broker::permission::{Resource, Right};
use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::{Outcome, object, queues};
use crate::access;
use crate::error::Error;
use crate::identity::Identity;
use crate::node::{Fetched, Publish, Settle};
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::value::{Object, properties_from_json, properties_to_json, text};

/// Messages fetched in one request at most; more would have to be held in memory at once.
const GET_MAX: i64 = 100_000;

/// `POST /api/exchanges/:vhost/:exchange/publish`
pub(crate) async fn publish(request: Request) -> Outcome {
    let vhost = request.vhost_for_change()?;
    let name = request.exchange_param("exchange");
    let exchange = vhost
        .exchanges
        .get(name)
        .ok_or_else(|| Error::not_found("exchange_not_found"))?;
    let body = request.json()?;
    let routing_key = body.text("routing_key")?.as_bytes().to_vec();
    let properties = properties_from_json(body.required("properties")?)?;
    let payload = payload_from_json(&body)?;
    request.permit(Right::Write, Resource::Exchange(name))?;
    if exchange.internal {
        return Err(Error::not_authorised(&format!(
            "ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '{}'",
            vhost.name
        )));
    }
    access::check_topic(
        &request.identity,
        &request.tables,
        &vhost.name,
        Right::Write,
        &exchange.name,
        &routing_key,
    )?;
    check_user_id(&request.identity, properties.user_id.as_deref())?;
    let message = Publish {
        vhost: Name::clone(&vhost.name),
        exchange: Name::clone(&exchange.name),
        routing_key,
        user: request.user(),
        trusted: request.identity.user().is_none(),
        properties,
        payload,
    };
    let routed = request.node().publish(message).await?;
    Ok(Reply::ok(json!({"routed": routed})))
}

fn payload_from_json(body: &Object) -> Result<Bytes, Error> {
    let payload = body.required("payload")?;
    let encoding = body.text("payload_encoding")?;
    let payload = payload
        .as_str()
        .ok_or_else(|| Error::bad_request("payload_not_string"))?;
    match encoding {
        "string" => Ok(Bytes::copy_from_slice(payload.as_bytes())),
        "base64" => STANDARD
            .decode(payload)
            .map(Bytes::from)
            .map_err(|_| Error::bad_request(json!(["not_base64", payload]))),
        other => Err(Error::bad_request(json!(["unsupported_encoding", other]))),
    }
}

/// The property `user_id` must be the truth.
fn check_user_id(who: &Identity, user_id: Option<&[u8]>) -> Result<(), Error> {
    match (who, user_id) {
        (Identity::User { name, .. }, Some(claimed)) if claimed != name.as_bytes() => {
            Err(Error::bad_request(format!(
                "406 PRECONDITION_FAILED - user_id property set to '{}' but authenticated user was \
                 '{name}'",
                text(claimed)
            )))
        }
        _ => Ok(()),
    }
}

/// `POST /api/queues/:vhost/:queue/get`
pub(crate) async fn get(request: Request) -> Outcome {
    let vhost = request.vhost_for_change()?;
    let queue = vhost.queues.get(request.param("queue"));
    let queue = queue.ok_or_else(|| Error::not_found("queue_not_found"))?;
    let body = request.json()?;
    let settle = match body.text("ackmode")? {
        "ack_requeue_false" => Settle::Ack,
        "ack_requeue_true" | "reject_requeue_true" => Settle::Requeue,
        "reject_requeue_false" => Settle::Reject,
        other => return Err(Error::bad_request(json!(["unknown_ackmode", other]))),
    };
    let count = body
        .whole("count")?
        .ok_or_else(|| Error::key_missing("count"))?;
    let base64 = match body.text("encoding")? {
        "auto" => false,
        "base64" => true,
        _ => {
            return Err(Error::bad_request(
                "Unsupported encoding. Please use auto or base64.",
            ));
        }
    };
    let truncate = body
        .whole("truncate")?
        .map(|bytes| usize::try_from(bytes).unwrap_or(0));
    request.permit(Right::Read, Resource::Queue(&queue.name))?;
    queues::refuse_exclusive(queue)?;
    let count = u32::try_from(count.clamp(0, GET_MAX)).expect("the limit fits");
    let messages = request.node().get(queue.id, count, settle).await?;
    Ok(Reply::ok(
        messages
            .iter()
            .map(|message| render(message, base64, truncate))
            .collect(),
    ))
}

fn render(message: &Fetched, base64: bool, truncate: Option<usize>) -> Json {
    let mut shown = object(json!({
        "payload_bytes": message.payload.len(),
        "redelivered": message.redelivered,
        "exchange": message.exchange,
        "routing_key": text(&message.routing_key),
        "message_count": message.message_count,
        "properties": properties_to_json(&message.properties),
    }));
    let length = truncate.map_or(message.payload.len(), |bytes| {
        bytes.min(message.payload.len())
    });
    let payload = &message.payload[..length];
    let (payload, encoding) = match std::str::from_utf8(payload) {
        Ok(text) if !base64 => (text.to_owned(), "string"),
        _ => (STANDARD.encode(payload), "base64"),
    };
    shown.insert("payload".to_owned(), json!(payload));
    shown.insert("payload_encoding".to_owned(), json!(encoding));
    Json::Object(shown)
}
