//! The process of a node: requests of the operator that need no running application.

use std::pin::Pin;
use std::sync::Arc;

use axum::http::Method;
use broker::Name;
use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::{Outcome, is_same_node, object};
use crate::error::Error;
use crate::host::{AppState, Host, HostFailure, NodeKind};
use crate::reply::Reply;
use crate::request::{self, Fields};
use crate::value::Object;
use crate::{PRODUCT_NAME, RABBITMQ_VERSION};

/// What a handler of this file works on.
pub(crate) struct HostRequest {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) body: Bytes,
}

impl HostRequest {
    fn json(&self) -> Result<Object, Error> {
        request::json(&self.body)
    }
}

type Answer = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One line of the table: for the operator alone, under `/api`.
pub(crate) struct HostRoute {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) handler: fn(HostRequest) -> Answer,
}

macro_rules! routes {
    ($($method:ident $path:literal $handler:ident;)*) => {
        vec![$(HostRoute {
            method: Method::$method,
            path: $path,
            handler: |request| Box::pin($handler(request)),
        }),*]
    };
}

/// What is served whether the application runs or not.
pub(crate) fn table() -> Vec<HostRoute> {
    routes! {
        GET "/internal/app" app;
        POST "/internal/app/start" start_app;
        POST "/internal/app/stop" stop_app;
        POST "/internal/stop" stop;
        POST "/internal/reset" reset;
        POST "/internal/cluster/join" join;
        POST "/internal/cluster/kind" change_kind;
        POST "/internal/cluster/force-boot" force_boot;
        POST "/internal/cluster/forget-offline" forget_offline;
        POST "/internal/cluster/leave" leave;
        GET "/internal/os-env" os_env;
        GET "/internal/arguments" arguments;
    }
}

/// What a running application serves itself, with more to tell.
pub(crate) fn without_app() -> Vec<HostRoute> {
    routes! {
        GET "/internal/status" status;
        GET "/internal/cluster-status" cluster_status;
        POST "/internal/cluster/forget" forget;
        GET "/version" version;
    }
}

/// `GET /api/internal/app`: `state` (`running`, `starting`, `stopped`, `paused`) and `why`
async fn app(request: HostRequest) -> Outcome {
    let app = request.host.app();
    Ok(Reply::ok(json!({
        "node": request.host.name(),
        "state": app.name(),
        "why": app.why(),
    })))
}

/// `POST /api/internal/app/start`
async fn start_app(request: HostRequest) -> Outcome {
    request.host.start_app().await?;
    Ok(Reply::no_content())
}

/// `POST /api/internal/app/stop`
async fn stop_app(request: HostRequest) -> Outcome {
    request.host.stop_app().await?;
    Ok(Reply::no_content())
}

/// `POST /api/internal/stop`: the process
async fn stop(request: HostRequest) -> Outcome {
    request.host.stop();
    Ok(Reply::no_content())
}

/// `POST /api/internal/reset` with `force`
async fn reset(request: HostRequest) -> Outcome {
    let force = request.json()?.boolean("force")?.unwrap_or(false);
    request.host.reset(force).await?;
    Ok(Reply::no_content())
}

/// `POST /api/internal/cluster/join` with `node` and `kind` (`disc` unless given): `already`
async fn join(request: HostRequest) -> Outcome {
    let body = request.json()?;
    let kind = body
        .optional_text("kind")?
        .map_or(Ok(NodeKind::Disc), kind)?;
    let joined = request.host.join(node(&body)?, kind).await?;
    Ok(Reply::ok(json!({"already": joined.already})))
}

/// `POST /api/internal/cluster/kind` with `kind`: `changed`
async fn change_kind(request: HostRequest) -> Outcome {
    let kind = kind(request.json()?.text("kind")?)?;
    let changed = request.host.change_kind(kind).await?;
    Ok(Reply::ok(json!({"changed": changed})))
}

/// `POST /api/internal/cluster/force-boot`
async fn force_boot(request: HostRequest) -> Outcome {
    request.host.force_boot().await?;
    Ok(Reply::no_content())
}

/// `POST /api/internal/cluster/forget-offline` with `node`
async fn forget_offline(request: HostRequest) -> Outcome {
    let node = node(&request.json()?)?;
    request.host.forget_offline(node).await?;
    Ok(Reply::no_content())
}

/// `POST /api/internal/cluster/forget` without an application: never done
async fn forget(request: HostRequest) -> Outcome {
    let node = node(&request.json()?)?;
    let known = request.host.last_known();
    let mut members = known
        .disc_nodes
        .iter()
        .chain(&known.ram_nodes)
        .chain(&known.witness_nodes);
    let is_member = members.any(|member| is_same_node(member, &node));
    Err(Error::from(match is_member {
        true => HostFailure::OfflineNodeNoOfflineFlag,
        false => HostFailure::NotAClusterNode,
    }))
}

/// `POST /api/internal/cluster/leave` with `drain` and `force`
async fn leave(request: HostRequest) -> Outcome {
    let body = request.json()?;
    let drain = body.boolean("drain")?.unwrap_or(false);
    let force = body.boolean("force")?.unwrap_or(false);
    request.host.leave(drain, force).await?;
    Ok(Reply::no_content())
}

/// `GET /api/internal/os-env`: an object of texts
async fn os_env(request: HostRequest) -> Outcome {
    let variables: Object = request
        .host
        .os_env()
        .into_iter()
        .map(|(name, value)| (name, Json::String(value)))
        .collect();
    Ok(Reply::ok(Json::Object(variables)))
}

/// `GET /api/internal/arguments`: a list of words
async fn arguments(request: HostRequest) -> Outcome {
    Ok(Reply::ok(json!(request.host.arguments())))
}

/// `GET /api/version`: the process is there
async fn version(_: HostRequest) -> Outcome {
    Ok(Reply::ok(json!(RABBITMQ_VERSION)))
}

/// `GET /api/internal/status` without an application: `is_booted` is false
async fn status(request: HostRequest) -> Outcome {
    let process = request.host.process();
    let app = request.host.app();
    let mut shown = object(json!({
        "os": std::env::consts::OS,
        "pid": process.os_pid,
        "product_name": PRODUCT_NAME,
        "product_version": process.version,
        "product_base_name": "RabbitMQ",
        "product_base_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "node_name": request.host.name(),
        "uptime": process.uptime.as_secs(),
        "data_directory": process.data_dir,
        "log_files": process.log_files,
        "config_files": process.config_files,
        "is_booted": false,
        "is_under_maintenance": false,
        "listeners": [],
        "alarms": [],
    }));
    put_app(&mut shown, &app);
    Ok(Reply::ok(Json::Object(shown)))
}

/// `GET /api/internal/cluster-status` without an application: the nodes that were members when this
/// one heard of them last
async fn cluster_status(request: HostRequest) -> Outcome {
    let known = request.host.last_known();
    let mut shown = object(json!({
        "cluster_name": known.cluster_name,
        "disk_nodes": known.disc_nodes,
        "ram_nodes": known.ram_nodes,
        "witness_nodes": known.witness_nodes,
        "running_nodes": [],
        "versions": {},
        "alarms": [],
        "partitions": {},
        "listeners": {},
        "maintenance_status": {},
    }));
    put_app(&mut shown, &request.host.app());
    Ok(Reply::ok(Json::Object(shown)))
}

/// What the application is doing, in every status.
pub(crate) fn put_app(shown: &mut Object, app: &AppState) {
    shown.insert(
        "app".to_owned(),
        json!({"state": app.name(), "why": app.why()}),
    );
}

fn kind(text: &str) -> Result<NodeKind, Error> {
    match text {
        "disc" | "disk" => Ok(NodeKind::Disc),
        "ram" => Ok(NodeKind::Ram),
        other => Err(Error::bad_request(format!("unknown kind of node: {other}"))),
    }
}

/// The node that a body names.
pub(crate) fn node(body: &Object) -> Result<Name, Error> {
    body.text("node").map(Name::from)
}
