//! Definitions: everything but messages, in RabbitMQ's file format, out and in.
//!
//! Left out are what exists by itself (the default exchange, `amq.*`, implied bindings) and what ends
//! with a connection (exclusive queues). Password hashes travel as they are.

mod import;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Multipart};
use axum::http::header::CONTENT_TYPE;
use broker::Name;
use broker::metadata::{Binding, Destination, Exchange, PolicyKind, Queue, Vhost};
use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::{Outcome, bindings, exchanges, object, overview, parameters, permissions, policies};
use super::{queues, users};
use crate::error::Error;
use crate::reply::Reply;
use crate::request::Request;
use crate::value::Object;
use crate::{PRODUCT_NAME, RABBITMQ_VERSION};

/// `GET /api/definitions`
pub(crate) async fn export(request: Request) -> Outcome {
    let mut shown = header(&request, "cluster").await;
    shown.insert(
        "original_cluster_name".to_owned(),
        overview::cluster_name(&request),
    );
    let tables = &request.tables;
    let vhosts: Vec<&Arc<Vhost>> = tables.vhosts.values().collect();
    let mut put = |key: &str, items: Vec<Json>| shown.insert(key.to_owned(), Json::Array(items));
    put(
        "users",
        tables
            .users
            .values()
            .map(|user| users::render(user))
            .collect(),
    );
    put(
        "vhosts",
        vhosts.iter().map(|vhost| vhost_definition(vhost)).collect(),
    );
    let all = |of: fn(&Arc<Vhost>) -> Vec<Json>| vhosts.iter().flat_map(|it| of(it)).collect();
    put(
        "permissions",
        all(|it| {
            it.permissions
                .values()
                .map(|p| permissions::render(p))
                .collect()
        }),
    );
    put(
        "topic_permissions",
        all(|it| {
            it.topic_permissions
                .values()
                .map(|p| permissions::render_topic(p))
                .collect()
        }),
    );
    put("parameters", all(parameters::all_of));
    put("global_parameters", parameters::globals(&request));
    put("policies", all(policies_of));
    put("queues", all(queues_of));
    put("exchanges", all(exchanges_of));
    put("bindings", all(bindings_of));
    Ok(download(&request, Json::Object(shown)))
}

/// `GET /api/definitions/:vhost`: entries do not name the virtual host, so that they can be put into
/// another.
pub(crate) async fn export_vhost(request: Request) -> Outcome {
    let vhost = request.tables.vhosts.get(request.param("vhost"));
    let vhost = vhost.ok_or_else(|| Error::bad_request("vhost_not_found"))?;
    let mut shown = header(&request, "single_virtual_host").await;
    shown.insert("original_vhost_name".to_owned(), json!(vhost.name));
    for (key, mut items) in [
        ("parameters", parameters::all_of(vhost)),
        ("policies", policies_of(vhost)),
        ("queues", queues_of(vhost)),
        ("exchanges", exchanges_of(vhost)),
        ("bindings", bindings_of(vhost)),
    ] {
        for item in items.iter_mut().filter_map(Json::as_object_mut) {
            item.shift_remove("vhost");
        }
        shown.insert(key.to_owned(), Json::Array(items));
    }
    Ok(download(&request, Json::Object(shown)))
}

async fn header(request: &Request, format: &str) -> Object {
    object(json!({
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": PRODUCT_NAME,
        "product_version": request.node().status().await.version,
        "rabbitmq_definition_format": format,
    }))
}

fn download(request: &Request, body: Json) -> Reply {
    let reply = Reply::ok(body);
    match request.query.get("download") {
        Some(name) => reply.with_file_name(name),
        None => reply,
    }
}

fn vhost_definition(vhost: &Vhost) -> Json {
    let mut metadata = object(json!({"description": vhost.description, "tags": vhost.tags}));
    let mut shown = object(json!({
        "name": vhost.name,
        "description": vhost.description,
        "tags": vhost.tags,
    }));
    if let Some(queue_type) = &vhost.default_queue_type {
        metadata.insert("default_queue_type".to_owned(), json!(queue_type));
        shown.insert("default_queue_type".to_owned(), json!(queue_type));
    }
    if vhost.tracing {
        shown.insert("tracing".to_owned(), json!(true));
    }
    shown.insert("metadata".to_owned(), Json::Object(metadata));
    Json::Object(shown)
}

fn policies_of(vhost: &Arc<Vhost>) -> Vec<Json> {
    let all = policies::of_kind(vhost, PolicyKind::User).values();
    all.map(|policy| policies::render(&vhost.name, policy))
        .collect()
}

fn queues_of(vhost: &Arc<Vhost>) -> Vec<Json> {
    let lasting = |queue: &&Arc<Queue>| queue.exclusive.is_none();
    vhost
        .queues
        .values()
        .filter(lasting)
        .map(|queue| queues::to_definition(queue))
        .collect()
}

fn exchanges_of(vhost: &Arc<Vhost>) -> Vec<Json> {
    let declared = |it: &&Arc<Exchange>| !it.name.is_empty() && !it.name.starts_with("amq.");
    let all = vhost.exchanges.values().filter(declared);
    all.map(|exchange| exchanges::definition(exchange))
        .collect()
}

fn bindings_of(vhost: &Arc<Vhost>) -> Vec<Json> {
    let lasting = |binding: &Arc<Binding>| match &binding.destination {
        Destination::Exchange(_) => true,
        Destination::Queue(name) => vhost
            .queues
            .get(name)
            .is_some_and(|queue| queue.exclusive.is_none()),
    };
    let all = vhost.bindings.iter().filter(|binding| lasting(binding));
    all.map(|binding| bindings::definition(&vhost.name, binding))
        .collect()
}

/// `POST /api/definitions` and `/:vhost`: adds and updates, and deletes nothing. The body is the file
/// itself, or a browser's form with the file in the field `file`.
pub(crate) async fn import(request: Request) -> Outcome {
    let vhost = match request.find_param("vhost") {
        Some(_) => Some(Name::clone(&request.vhost_for_change()?.name)),
        None => None,
    };
    let form = request.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let (file, redirect) = if form.starts_with("multipart/form-data") {
        let form = read_form(&request).await?;
        let file = form.file.ok_or_else(|| Error::key_missing("file"))?;
        (file, form.redirect)
    } else {
        (request.body.clone(), None)
    };
    let definitions: Object = match &*file {
        b"" => Object::new(),
        bytes => {
            serde_json::from_slice(bytes).map_err(|_| Error::bad_request("failed_to_parse_json"))?
        }
    };
    import::apply(&request, &definitions, vhost.as_ref()).await?;
    match redirect {
        Some(location) => Ok(Reply::see_other(&location)),
        None => Ok(Reply::no_content()),
    }
}

/// What a browser sends.
#[derive(Default)]
struct Form {
    file: Option<Bytes>,
    /// Where the browser goes on, a path on this server.
    redirect: Option<String>,
}

async fn read_form(request: &Request) -> Result<Form, Error> {
    let invalid = || Error::bad_request("malformed multipart/form-data");
    let content_type = request.headers.get(CONTENT_TYPE).ok_or_else(invalid)?;
    let http = axum::http::Request::builder()
        .header(CONTENT_TYPE, content_type)
        .body(Body::from(request.body.clone()))
        .map_err(|_| invalid())?;
    let mut parts = Multipart::from_request(http, &())
        .await
        .map_err(|_| invalid())?;
    let mut form = Form::default();
    while let Some(field) = parts.next_field().await.map_err(|_| invalid())? {
        match field.name() {
            Some("file") => form.file = Some(field.bytes().await.map_err(|_| invalid())?),
            Some("redirect") => {
                let location = field.text().await.map_err(|_| invalid())?;
                // Another server's page is none of our business.
                let is_local = location.starts_with('/') && !location.starts_with("//");
                form.redirect = is_local.then_some(location);
            }
            _ => {}
        }
    }
    Ok(form)
}
