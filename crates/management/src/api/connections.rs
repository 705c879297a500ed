//! Client connections. Users see their own, monitors all; closing others' takes an administrator.

use broker::status::{ConnectionStatus, TlsStatus};
use serde_json::{Value as Json, json};

use super::{Outcome, channels, object, put_runtime};
use crate::access;
use crate::counters::{self, Rates};
use crate::error::Error;
use crate::list;
use crate::node::ConnectionReport;
use crate::reply::Reply;
use crate::request::Request;
use crate::stats::{Key, Ranges};
use crate::value::{table_to_json, text};

/// The reason that clients are told unless the request has a header `X-Reason`.
const REASON: &str = "Closed via management plugin";

/// `GET /api/connections`, also of one virtual host
pub(crate) async fn index(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let shown = visible(&request).await;
    list::paged(
        &request.query,
        shown,
        |report| ("", &report.status.name),
        |report| render(&request, report, ranges),
    )
}

/// `GET /api/connections/:connection`
pub(crate) async fn show(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let report = find(&request, false).await?;
    list::one(&request.query, render(&request, &report, ranges))
}

/// `DELETE /api/connections/:connection`
pub(crate) async fn close(request: Request) -> Outcome {
    let report = find(&request, true).await?;
    let reason = request.header("x-reason").unwrap_or(REASON);
    request
        .node()
        .close_connection(report.status.id, reason)
        .await;
    Ok(Reply::no_content())
}

/// `GET /api/connections/:connection/channels`
pub(crate) async fn channels(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let report = find(&request, false).await?;
    let numbers: Vec<u16> = report
        .status
        .channels
        .iter()
        .map(|channel| channel.number)
        .collect();
    let all = numbers
        .iter()
        .filter_map(|number| channels::render(&request, &report, *number, ranges));
    list::whole(&request.query, all.collect(), &["number"])
}

/// `GET /api/connections/username/:username`
pub(crate) async fn of_user(request: Request) -> Outcome {
    let user = request.param("username");
    access::check_owner(&request.identity, user, false)?;
    let mut reports = request.node().connections().await;
    reports.retain(|report| *report.status.user == *user);
    list::paged(
        &request.query,
        reports,
        |report| (&report.status.vhost, &report.status.name),
        |report| {
            json!({
                "name": report.status.name,
                "vhost": report.status.vhost,
                "user": report.status.user,
                "node": report.node,
            })
        },
    )
}

/// `DELETE /api/connections/username/:username`
pub(crate) async fn close_of_user(request: Request) -> Outcome {
    let user = request.param("username");
    access::check_owner(&request.identity, user, true)?;
    let reason = request.header("x-reason").unwrap_or(REASON);
    for report in request.node().connections().await {
        if *report.status.user == *user {
            request
                .node()
                .close_connection(report.status.id, reason)
                .await;
        }
    }
    Ok(Reply::no_content())
}

/// The connections that a list shows.
pub(crate) async fn visible(request: &Request) -> Vec<ConnectionReport> {
    let mut reports = request.node().connections().await;
    let header = request.header("x-vhost").filter(|name| !name.is_empty());
    let vhost = request.find_param("vhost").or(header);
    let user = request
        .identity
        .user()
        .filter(|_| !request.identity.is_monitor());
    reports.retain(|report| {
        vhost.is_none_or(|vhost| *report.status.vhost == *vhost)
            && user.is_none_or(|user| report.status.user == *user)
    });
    reports
}

/// The connection in the path, if the user may see it or (`write`) close it.
async fn find(request: &Request, write: bool) -> Result<ConnectionReport, Error> {
    let name = request.param("connection");
    let mut reports = request.node().connections().await.into_iter();
    let report = reports.find(|report| *report.status.name == *name);
    let report = report.ok_or_else(Error::object_not_found)?;
    access::check_owner(&request.identity, &report.status.user, write)?;
    Ok(report)
}

/// The connection as other objects point to it.
pub(crate) fn details(status: &ConnectionStatus) -> Json {
    json!({
        "name": status.name,
        "peer_host": status.peer.ip().to_canonical().to_string(),
        "peer_port": status.peer.port(),
    })
}

fn render(request: &Request, report: &ConnectionReport, ranges: Ranges) -> Json {
    let status = &report.status;
    let mut shown = object(json!({
        "name": status.name,
        "node": report.node,
        "vhost": status.vhost,
        "user": status.user,
        "user_who_performed_action": status.user,
        "type": "network",
        "protocol": "AMQP 0-9-1",
        "state": status.state,
        "auth_mechanism": status.auth_mechanism,
        "client_properties": table_to_json(&status.client_properties),
        "channels": status.channels.len(),
        "channel_max": status.channel_max,
        "frame_max": status.frame_max,
        "timeout": status.heartbeat,
        "connected_at": status.connected_at,
        "host": status.host.ip().to_canonical().to_string(),
        "port": status.host.port(),
        "peer_host": status.peer.ip().to_canonical().to_string(),
        "peer_port": status.peer.port(),
        "recv_cnt": status.received_reads,
        "send_cnt": status.sent_writes,
        "send_pend": status.send_pending_bytes,
    }));
    if let Some(name) = status.client_properties.get("connection_name") {
        let name = name.as_bytes().map(text);
        shown.insert("user_provided_name".to_owned(), json!(name));
    }
    shown.append(&mut object(tls(status.tls.as_deref())));
    put_runtime(&mut shown);
    let sampler = request.app.sampler();
    let series = sampler.series(&Key::Connection(status.id));
    counters::put_connection_octets(
        &mut shown,
        status,
        Rates {
            series,
            range: ranges.octets,
        },
    );
    Json::Object(shown)
}

fn tls(status: Option<&TlsStatus>) -> Json {
    let plain = TlsStatus::default();
    let tls = status.unwrap_or(&plain);
    json!({
        "ssl": status.is_some(),
        "ssl_protocol": tls.protocol,
        "ssl_key_exchange": tls.key_exchange,
        "ssl_cipher": tls.cipher,
        "ssl_hash": tls.hash,
        "peer_cert_subject": tls.peer_cert_subject.as_deref().unwrap_or_default(),
        "peer_cert_issuer": tls.peer_cert_issuer.as_deref().unwrap_or_default(),
        "peer_cert_validity": tls.peer_cert_validity.as_deref().unwrap_or_default(),
    })
}
