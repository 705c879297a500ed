//! Bindings. The default exchange's bindings are not stored; lists show one for every queue.
//!
//! A binding between two objects is found by its properties key: the routing key, quoted, with a hash
//! of the arguments behind a `~` where there are any; `~` alone for an empty key. The hash is stable
//! for given arguments; clients take it from lists or from the answer to the request that made the
//! binding. They may send the key as it was shown or quoted once more.

use std::sync::Arc;

use amqp::Table;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker::Name;
use broker::metadata::{Binding, Command, Destination};
use broker::permission::{Resource, Right};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde_json::{Value as Json, json};

use super::{Outcome, queues};
use crate::access;
use crate::error::Error;
use crate::list;
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::value::{arguments_from_json, table_to_json, text};

const ORDER: &[&str] = &[
    "vhost",
    "source",
    "type",
    "destination",
    "routing_key",
    "properties_key",
];

/// What stays as it is in a quoted key.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b' ');

/// `GET /api/bindings` and `/:vhost`
pub(crate) async fn index(request: Request) -> Outcome {
    let mut items = Vec::new();
    for vhost in request.vhosts()? {
        let implied = vhost.queues.keys().map(implied);
        items.extend(implied.map(|binding| render(&vhost.name, &binding)));
        items.extend(
            vhost
                .bindings
                .iter()
                .map(|binding| render(&vhost.name, binding)),
        );
    }
    list::whole(&request.query, items, ORDER)
}

/// `GET /api/exchanges/:vhost/:exchange/bindings/source`
pub(crate) async fn of_source(request: Request) -> Outcome {
    let (vhost, source) = (request.vhost()?, &request.exchange()?.name);
    let mut bindings: Vec<_> = vhost.bindings_from(source).map(Arc::clone).collect();
    if source.is_empty() {
        bindings.extend(vhost.queues.keys().map(implied));
    }
    show_all(&request, &bindings)
}

/// `GET /api/exchanges/:vhost/:exchange/bindings/destination`
pub(crate) async fn of_destination(request: Request) -> Outcome {
    let destination = Destination::Exchange(Name::clone(&request.exchange()?.name));
    let bindings = request.vhost()?.bindings_to(&destination).map(Arc::clone);
    show_all(&request, &bindings.collect::<Vec<_>>())
}

/// `GET /api/queues/:vhost/:queue/bindings`
pub(crate) async fn of_queue(request: Request) -> Outcome {
    let queue = &request.queue()?.name;
    let destination = Destination::Queue(Name::clone(queue));
    let stored = request.vhost()?.bindings_to(&destination).map(Arc::clone);
    show_all(
        &request,
        &[implied(queue)]
            .into_iter()
            .chain(stored)
            .collect::<Vec<_>>(),
    )
}

/// `GET /api/bindings/:vhost/e/:source/{q,e}/:destination`
pub(crate) async fn of_pair(request: Request) -> Outcome {
    show_all(&request, &between(&request)?)
}

fn show_all(request: &Request, bindings: &[Arc<Binding>]) -> Outcome {
    let vhost = &request.vhost()?.name;
    let items = bindings
        .iter()
        .map(|binding| render(vhost, binding))
        .collect();
    list::whole(&request.query, items, ORDER)
}

/// `POST /api/bindings/:vhost/e/:source/{q,e}/:destination`
pub(crate) async fn create(request: Request) -> Outcome {
    let vhost = Name::clone(&request.vhost_for_change()?.name);
    let (source, destination) = pair(&request)?;
    let body = request.json()?;
    let routing_key = body
        .optional_text("routing_key")?
        .unwrap_or_default()
        .as_bytes()
        .to_vec();
    let arguments = body
        .get("arguments")
        .map(arguments_from_json)
        .transpose()?
        .unwrap_or_default();
    permit(&request, &vhost, &source, &destination, &routing_key)?;
    refuse_exclusive(&request, &source, &destination)?;
    let location = format!(
        "{}/{}",
        quote(request.param("destination").as_bytes()),
        properties_key(&routing_key, &arguments)
    );
    let command = Command::Bind {
        vhost,
        source,
        destination,
        routing_key,
        arguments,
    };
    request.node().propose(command).await?;
    Ok(Reply::created().at(&location))
}

/// `GET /api/bindings/:vhost/e/:source/{q,e}/:destination/:props`
pub(crate) async fn show(request: Request) -> Outcome {
    let binding = find(&request)?;
    list::one(&request.query, render(&request.vhost()?.name, &binding))
}

/// `DELETE /api/bindings/:vhost/e/:source/{q,e}/:destination/:props`
pub(crate) async fn delete(request: Request) -> Outcome {
    let vhost = Name::clone(&request.vhost()?.name);
    let binding = find(&request)?;
    let Binding {
        source,
        destination,
        routing_key,
        arguments,
    } = (*binding).clone();
    permit(&request, &vhost, &source, &destination, &routing_key)?;
    refuse_exclusive(&request, &source, &destination)?;
    let command = Command::Unbind {
        vhost,
        source,
        destination,
        routing_key,
        arguments,
    };
    request.node().propose(command).await?;
    Ok(Reply::no_content())
}

/// Whoever binds writes to the destination and reads from the source.
fn permit(
    request: &Request,
    vhost: &str,
    source: &Name,
    destination: &Destination,
    routing_key: &[u8],
) -> Result<(), Error> {
    request.permit(
        Right::Write,
        match destination {
            Destination::Queue(name) => Resource::Queue(name),
            Destination::Exchange(name) => Resource::Exchange(name),
        },
    )?;
    request.permit(Right::Read, Resource::Exchange(source))?;
    access::check_topic(
        &request.identity,
        &request.tables,
        vhost,
        Right::Read,
        source,
        routing_key,
    )
}

/// An exclusive queue is bound and unbound by its connection alone. That the default exchange takes no bindings
/// comes first.
fn refuse_exclusive(
    request: &Request,
    source: &str,
    destination: &Destination,
) -> Result<(), Error> {
    let Destination::Queue(name) = destination else {
        return Ok(());
    };
    match request.vhost_for_change()?.queues.get(name) {
        Some(queue) if !source.is_empty() => queues::refuse_exclusive(queue),
        _ => Ok(()),
    }
}

/// Source and destination in the path.
fn pair(request: &Request) -> Result<(Name, Destination), Error> {
    let destination = match request.param("dtype") {
        "q" => Destination::Queue(Name::from(request.param("destination"))),
        "e" => Destination::Exchange(Name::from(request.exchange_param("destination"))),
        _ => return Err(Error::object_not_found()),
    };
    Ok((Name::from(request.exchange_param("source")), destination))
}

/// The bindings between the two objects in the path.
fn between(request: &Request) -> Result<Vec<Arc<Binding>>, Error> {
    let (source, destination) = pair(request)?;
    let vhost = request.vhost()?;
    let mut bindings: Vec<_> = vhost
        .bindings_between(&source, &destination)
        .map(Arc::clone)
        .collect();
    if let (true, Destination::Queue(queue)) = (source.is_empty(), &destination) {
        bindings.extend(vhost.queues.contains_key(queue).then(|| implied(queue)));
    }
    Ok(bindings)
}

/// The binding in the path.
fn find(request: &Request) -> Result<Arc<Binding>, Error> {
    let props = request.param("props");
    let is_named = |binding: &Arc<Binding>| {
        let key = properties_key(&binding.routing_key, &binding.arguments);
        // Quoted twice, quoted once, or quoted without plus signs.
        key == props
            || percent_decode_str(&key).eq(props.bytes())
            || percent_decode_str(&key.replace('+', " ")).eq(props.bytes())
    };
    between(request)?
        .into_iter()
        .find(is_named)
        .ok_or_else(Error::object_not_found)
}

/// The binding that the default exchange has to every queue.
fn implied(queue: &Name) -> Arc<Binding> {
    Arc::new(Binding {
        source: Name::from(""),
        destination: Destination::Queue(Name::clone(queue)),
        routing_key: queue.as_bytes().to_vec(),
        arguments: Table::new(),
    })
}

fn render(vhost: &str, binding: &Binding) -> Json {
    let mut shown = super::object(definition(vhost, binding));
    let key = properties_key(&binding.routing_key, &binding.arguments);
    shown.insert("properties_key".to_owned(), json!(key));
    Json::Object(shown)
}

/// A binding as definitions carry it.
pub(crate) fn definition(vhost: &str, binding: &Binding) -> Json {
    let (destination, destination_type) = match &binding.destination {
        Destination::Queue(name) => (name, "queue"),
        Destination::Exchange(name) => (name, "exchange"),
    };
    json!({
        "source": binding.source,
        "vhost": vhost,
        "destination": destination,
        "destination_type": destination_type,
        "routing_key": text(&binding.routing_key),
        "arguments": table_to_json(&binding.arguments),
    })
}

fn properties_key(routing_key: &[u8], arguments: &Table) -> String {
    match (quote(routing_key), arguments.is_empty()) {
        (key, true) if key.is_empty() => "~".to_owned(),
        (key, true) => key,
        (key, false) => format!("{key}~{}", hash(arguments)),
    }
}

/// Six characters that stand for the arguments, whatever their order.
fn hash(arguments: &Table) -> String {
    let mut entries = arguments.0.clone();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut bytes = Vec::new();
    Table(entries).encode(&mut bytes);
    // FNV-1a.
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    URL_SAFE_NO_PAD.encode(hash.to_be_bytes())
}

fn quote(bytes: &[u8]) -> String {
    percent_encode(bytes, QUOTED).to_string().replace(' ', "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_keys() {
        let none = Table::new();
        assert_eq!(properties_key(b"", &none), "~");
        assert_eq!(properties_key(b"orders.#", &none), "orders.%23");
        assert_eq!(properties_key(b"a b~c", &none), "a+b%7Ec");
        let one = Table::new().with("x", 1i64);
        let key = properties_key(b"a.*", &one);
        assert!(key.starts_with("a.%2A~") && key.len() == 12, "{key}");
        assert!(properties_key(b"", &one).starts_with('~'));
    }

    #[test]
    fn the_hash_does_not_depend_on_order() {
        let ab = Table::new().with("a", 1i64).with("b", "x");
        let ba = Table::new().with("b", "x").with("a", 1i64);
        assert_eq!(hash(&ab), hash(&ba));
        assert_ne!(
            hash(&ab),
            hash(&Table::new().with("a", 2i64).with("b", "x"))
        );
    }
}
