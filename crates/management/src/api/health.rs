//! Health checks: 200 with `{"status": "ok"}`, or 503 with what is wrong.

use serde_json::{Value as Json, json};

use super::queues::mirrors;
use super::{Outcome, object};
use crate::error::Error;
use crate::node::{Certificate, Member, MetadataRole, NodeStatus};
use crate::reply::Reply;
use crate::request::Request;
use crate::timestamp::date_time;

fn healthy() -> Outcome {
    Ok(Reply::ok(json!({"status": "ok"})))
}

fn failed(reason: &str, more: Json) -> Outcome {
    let mut body = object(json!({"status": "failed", "reason": reason}));
    body.append(&mut object(more));
    Ok(Reply::unhealthy(Json::Object(body)))
}

/// `GET /api/health/checks/alarms`
pub(crate) async fn alarms(request: Request) -> Outcome {
    let nodes = request.node().nodes().await;
    match alarms_of(&nodes) {
        alarms if alarms.is_empty() => healthy(),
        alarms => failed(
            "There are alarms in effect in the cluster",
            json!({"alarms": alarms}),
        ),
    }
}

/// `GET /api/health/checks/local-alarms`
pub(crate) async fn local_alarms(request: Request) -> Outcome {
    match alarms_of(&[request.node().status().await]) {
        alarms if alarms.is_empty() => healthy(),
        alarms => failed(
            "There are alarms in effect on the node",
            json!({"alarms": alarms}),
        ),
    }
}

/// The resource alarms that are in force.
pub(crate) fn alarms_of(nodes: &[NodeStatus]) -> Vec<Json> {
    let mut alarms = Vec::new();
    for node in nodes {
        for (resource, raised) in [
            ("memory", node.memory_alarm),
            ("disk", node.disk_free_alarm),
        ] {
            if raised {
                alarms.push(json!({"node": node.name, "resource": resource}));
            }
        }
    }
    alarms
}

/// `GET /api/health/checks/certificate-expiration/:within/:unit`
pub(crate) async fn certificate_expiration(request: Request) -> Outcome {
    let within = request.param("within").parse::<u64>();
    let within = within.map_err(|_| Error::bad_request("Invalid expiration value."))?;
    let days: u64 = match request.param("unit") {
        "days" => 1,
        "weeks" => 7,
        "months" => 30,
        "years" => 365,
        _ => {
            return Err(Error::bad_request(
                "Time unit not recognised. Use: days, weeks, months, years.",
            ));
        }
    };
    let span = within.saturating_mul(days).saturating_mul(86_400_000);
    let horizon = request.node().now().saturating_add(span);
    let mut certificates = request.node().certificates().await;
    certificates.retain(|certificate| certificate.not_after <= horizon);
    if certificates.is_empty() {
        return healthy();
    }
    let node = request.node().name();
    let expired: Vec<Json> = certificates
        .iter()
        .map(|it| certificate(&node, it))
        .collect();
    failed("Certificates expiring", json!({"expired": expired}))
}

/// A certificate, where it is shown and when it ends.
pub(crate) fn certificate(node: &str, certificate: &Certificate) -> Json {
    let mut shown = object(json!({
        "node": node,
        "protocol": certificate.listener.protocol,
        "interface": certificate.listener.interface,
        "port": certificate.listener.port,
    }));
    shown.insert(certificate.kind.to_owned(), json!(certificate.path));
    let expires = date_time(certificate.not_after);
    shown.insert(format!("{}_expires_on", certificate.kind), json!([expires]));
    Json::Object(shown)
}

/// `GET /api/health/checks/port-listener/:port`
pub(crate) async fn port_listener(request: Request) -> Outcome {
    let port = request.param("port").parse::<u16>();
    let port = port.map_err(|_| Error::bad_request("Invalid port"))?;
    let listeners = request.node().status().await.listeners;
    if listeners.iter().any(|listener| listener.port == port) {
        return Ok(Reply::ok(json!({"status": "ok", "port": port})));
    }
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.port).collect();
    failed(
        "No active listener",
        json!({"missing": port, "ports": ports}),
    )
}

/// `GET /api/health/checks/protocol-listener/:protocol`: one protocol, or several with commas of which
/// one is enough.
pub(crate) async fn protocol_listener(request: Request) -> Outcome {
    let listeners = request.node().status().await.listeners;
    let wanted: Vec<&str> = request
        .param("protocol")
        .split(',')
        .map(protocol_name)
        .collect();
    let found = wanted
        .iter()
        .find(|name| listeners.iter().any(|it| it.protocol == **name));
    if let Some(found) = found {
        return Ok(Reply::ok(json!({"status": "ok", "protocol": found})));
    }
    let protocols: Vec<&str> = listeners.iter().map(|listener| listener.protocol).collect();
    failed(
        "No active listener",
        json!({"missing": wanted.join(","), "protocols": protocols}),
    )
}

/// Protocols by the names that people use for them.
fn protocol_name(name: &str) -> &str {
    match name {
        "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp0_9_1" | "amqp10" | "amqp1.0" | "amqp1-0"
        | "amqp1_0" | "amqp" => "amqp",
        "amqps" | "amqp/ssl" | "amqp-ssl" | "amqp_ssl" => "amqp/ssl",
        "prometheus" | "http_prometheus" => "http/prometheus",
        other => other,
    }
}

/// `GET /api/health/checks/virtual-hosts`: a virtual host cannot be down while its node runs.
pub(crate) async fn virtual_hosts(_: Request) -> Outcome {
    healthy()
}

/// `GET /api/health/checks/node-is-quorum-critical`: whether the cluster would lose the majority of its
/// metadata without this node, or a queue its last copy.
pub(crate) async fn quorum_critical(request: Request) -> Outcome {
    let nodes = request.node().nodes().await;
    if nodes.len() < 2 {
        return Ok(Reply::ok(
            json!({"status": "ok", "reason": "single node cluster"}),
        ));
    }
    let facts = request.node().cluster().await;
    let is_voter = |member: &&Member| member.role == MetadataRole::Voter;
    let voters: Vec<&Member> = facts.members.iter().filter(is_voter).collect();
    let own = request.node().name();
    let runs = |member: &&&Member| member.running && member.name != own;
    let left = voters.iter().filter(runs).count();
    if voters.iter().any(|member| member.name == own) && left * 2 <= voters.len() {
        return failed(
            "There would be no majority of nodes left if the target node is shut down",
            json!({"queues": []}),
        );
    }
    mirror_critical(request).await
}

/// `GET /api/health/checks/node-is-mirror-sync-critical`: whether a mirrored queue has its only
/// synchronized copy here.
pub(crate) async fn mirror_critical(request: Request) -> Outcome {
    let nodes = request.node().nodes().await;
    if nodes.len() < 2 {
        return Ok(Reply::ok(
            json!({"status": "ok", "reason": "single node cluster"}),
        ));
    }
    match mirrors::last_copies(&request.tables, &request.node().name(), &nodes) {
        queues if queues.is_empty() => healthy(),
        queues => failed(
            "There are classic mirrored queues without online synchronised mirrors",
            json!({"queues": queues}),
        ),
    }
}

/// `GET /api/health/checks/is-in-service`
pub(crate) async fn in_service(request: Request) -> Outcome {
    let status = request.node().status().await;
    if status.in_service && !status.being_drained {
        return healthy();
    }
    not_in_service(&request)
}

/// With what the application waits for, where that is known.
fn not_in_service(request: &Request) -> Outcome {
    let text = "this rabbit node is not currently available to serve";
    let app = request.app.host.app();
    match app.why() {
        "" => failed(text, json!({})),
        why => failed(&format!("{text}: it is {}: {why}", app.name()), json!({})),
    }
}

/// `GET /api/health/checks/ready-to-serve-clients`
pub(crate) async fn ready_to_serve(request: Request) -> Outcome {
    let status = request.node().status().await;
    if !status.in_service || status.being_drained {
        return not_in_service(&request);
    }
    if !status
        .listeners
        .iter()
        .any(|it| matches!(it.protocol, "amqp" | "amqp/ssl"))
    {
        return failed("no active listeners for AMQP/AMQPS", json!({}));
    }
    below_limit(&request, &status).await
}

/// `GET /api/health/checks/below-node-connection-limit`
pub(crate) async fn below_connection_limit(request: Request) -> Outcome {
    let status = request.node().status().await;
    below_limit(&request, &status).await
}

async fn below_limit(request: &Request, status: &NodeStatus) -> Outcome {
    let Some(limit) = status.connection_limit else {
        return healthy();
    };
    let connections = request.node().connections().await;
    let local = connections
        .iter()
        .filter(|report| report.node == status.name)
        .count();
    if u64::try_from(local).is_ok_and(|local| local < limit) {
        return healthy();
    }
    failed(
        "node connection limit is reached",
        json!({"limit": limit, "connections": local}),
    )
}

/// `GET /api/health/checks/reached-target-cluster-size`
pub(crate) async fn target_cluster_size(request: Request) -> Outcome {
    let target = request
        .node()
        .status()
        .await
        .cluster_size_target
        .unwrap_or(1);
    let nodes = request.node().nodes().await;
    let online = nodes.iter().filter(|node| node.running).count();
    if u64::try_from(online).is_ok_and(|online| online >= target) {
        return healthy();
    }
    failed(
        &format!("target cluster size not reached: {online} of {target} nodes are online"),
        json!({"online": online, "target": target}),
    )
}

/// `GET /api/healthchecks/node` and `/:node`: the old check, which answers 200 in any case.
pub(crate) async fn node(request: Request) -> Outcome {
    let nodes = request.node().nodes().await;
    let own = request.node().name();
    let wanted = request.find_param("node").unwrap_or(&own);
    let node = nodes.into_iter().find(|node| *node.name == *wanted);
    let reason = match node {
        None => return Err(Error::object_not_found()),
        Some(node) if !node.running => "node is not running".to_owned(),
        Some(node) => match alarms_of(std::slice::from_ref(&node)) {
            alarms if alarms.is_empty() => return healthy(),
            alarms => {
                let resources = alarms.iter().filter_map(|alarm| alarm["resource"].as_str());
                let resources: Vec<&str> = resources.collect();
                format!("resource alarm(s) in effect:[{}]", resources.join(","))
            }
        },
    };
    Ok(Reply::ok(json!({"status": "failed", "reason": reason})))
}
