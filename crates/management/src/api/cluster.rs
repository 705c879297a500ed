//! The cluster for `warren ctl`: how it stands, and what the operator does to it and to the leaders of
//! queues.

use broker::Name;
use serde_json::{Value as Json, json};

use super::host::{self, put_app};
use super::internal::listeners;
use super::{Outcome, health, object, overview};
use crate::error::Error;
use crate::host::NodeKind;
use crate::node::{
    ClusterFacts, Member, NodeStatus, RebalanceKind, RebalanceRequest, Synchronized,
};
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::value::{Object, value_to_json};
use crate::{PRODUCT_NAME, RABBITMQ_VERSION};

/// `GET /api/internal/cluster-status`: what `cluster_status --formatter json` shows
pub(crate) async fn status(request: Request) -> Outcome {
    let nodes = request.node().nodes().await;
    let facts = request.node().cluster().await;
    let names = |kind: NodeKind| -> Vec<&Name> {
        let of_kind = nodes.iter().filter(|node| node.kind == kind);
        of_kind.map(|node| &node.name).collect()
    };
    let running: Vec<&NodeStatus> = nodes.iter().filter(|node| node.running).collect();
    let per_node = |show: &dyn Fn(&NodeStatus) -> Json| -> Object {
        running
            .iter()
            .map(|node| (node.name.to_string(), show(node)))
            .collect()
    };
    let mut partitions: Object = facts
        .partitions
        .iter()
        .map(|(node, peers)| (node.to_string(), json!(peers)))
        .collect();
    // Who is cut off from whom is what each says of itself.
    for node in running.iter().filter(|node| !node.partitions.is_empty()) {
        partitions.insert(node.name.to_string(), json!(node.partitions));
    }
    let mut shown = object(json!({
        "cluster_name": overview::cluster_name(&request),
        "cluster_tags": request.tables.global_parameters.get("cluster_tags").map(value_to_json),
        "disk_nodes": names(NodeKind::Disc),
        "ram_nodes": names(NodeKind::Ram),
        "witness_nodes": names(NodeKind::Witness),
        "running_nodes": running.iter().map(|node| &node.name).collect::<Vec<_>>(),
        "versions": per_node(&|node| json!({
            "rabbitmq_name": "RabbitMQ",
            "rabbitmq_version": RABBITMQ_VERSION,
            "product_name": PRODUCT_NAME,
            "product_version": node.version,
            "erlang_version": crate::ERLANG_VERSION,
        })),
        "alarms": health::alarms_of(&nodes),
        "partitions": partitions,
        "listeners": per_node(&listeners),
        "maintenance_status": per_node(&|node| json!(
            if node.being_drained { "marked for maintenance" } else { "not under maintenance" }
        )),
    }));
    put_app(&mut shown, &request.app.host.app());
    put_metadata(&mut shown, &facts);
    Ok(Reply::ok(Json::Object(shown)))
}

/// What RabbitMQ has no words for.
fn put_metadata(shown: &mut Object, facts: &ClusterFacts) {
    let show = |member: &Member| {
        json!({
            "node": member.name,
            "number": member.number,
            "type": member.kind.name(),
            "running": member.running,
            "being_drained": member.being_drained,
            "incarnation": member.incarnation,
            "role": member.role.name(),
            "leads_metadata": member.leads_metadata,
            "state": member.verdict.name(),
            "state_age_millis": u64::try_from(member.verdict_age.as_millis()).unwrap_or(u64::MAX),
        })
    };
    shown.insert(
        "metadata".to_owned(),
        json!({
            "cluster_id": facts.id,
            "generation": facts.generation,
            "quorum": facts.has_quorum,
            "partition_handling": facts.partition_handling,
        }),
    );
    let members: Vec<Json> = facts.members.iter().map(show).collect();
    shown.insert("members".to_owned(), Json::Array(members));
}

/// `POST /api/internal/cluster/forget` with `node` and `force`
pub(crate) async fn forget(request: Request) -> Outcome {
    let body = request.json()?;
    let force = body.boolean("force")?.unwrap_or(false);
    request.node().forget(host::node(&body)?, force).await?;
    Ok(Reply::no_content())
}

/// `POST /api/internal/drain`
pub(crate) async fn drain(request: Request) -> Outcome {
    request.node().drain(true).await?;
    Ok(Reply::no_content())
}

/// `POST /api/internal/revive`
pub(crate) async fn revive(request: Request) -> Outcome {
    request.node().drain(false).await?;
    Ok(Reply::no_content())
}

/// `POST /api/internal/listeners/suspend`
pub(crate) async fn suspend_listeners(request: Request) -> Outcome {
    request.node().suspend_listeners(true).await?;
    Ok(Reply::no_content())
}

/// `POST /api/internal/listeners/resume`
pub(crate) async fn resume_listeners(request: Request) -> Outcome {
    request.node().suspend_listeners(false).await?;
    Ok(Reply::no_content())
}

/// `GET /api/internal/peers`: a list of node names
pub(crate) async fn peers(request: Request) -> Outcome {
    Ok(Reply::ok(json!(request.node().discover_peers().await?)))
}

/// `POST /api/internal/cluster/heal`
pub(crate) async fn heal(request: Request) -> Outcome {
    request.node().heal_partition().await?;
    Ok(Reply::no_content())
}

/// `POST /api/internal/rebalance` with `type` (`all`, `classic`, `quorum`, `stream`) and perhaps
/// `vhost_pattern`, `queue_pattern` and `target`: a list of `node` and `classic`, when all have moved
pub(crate) async fn rebalance(request: Request) -> Outcome {
    let body = request.json()?;
    let kind = match body.text("type")? {
        "all" => RebalanceKind::All,
        "classic" => RebalanceKind::Classic,
        "quorum" => RebalanceKind::Quorum,
        "stream" => RebalanceKind::Stream,
        other => return Err(Error::bad_request(format!("unknown type: {other}"))),
    };
    let pattern = |key| {
        body.optional_text(key)
            .map(|pattern| pattern.unwrap_or(".*"))
    };
    let wanted = RebalanceRequest::new(kind, pattern("vhost_pattern")?, pattern("queue_pattern")?);
    let mut wanted = wanted.ok_or_else(|| Error::bad_request("invalid regular expression"))?;
    wanted.target = body.optional_text("target")?.map(Name::from);
    let rows = request.node().rebalance(wanted).await?;
    let rows = rows
        .iter()
        .map(|row| json!({"node": row.node, "classic": row.classic}));
    Ok(Reply::ok(Json::Array(rows.collect())))
}

/// `POST /api/internal/queues/:vhost/:queue/sync` with `action` (`sync` or `cancel_sync`): `result` is
/// `ok` or `not_syncing`
pub(crate) async fn synchronize(request: Request) -> Outcome {
    let queue = request.queue()?.id;
    let start = wants_sync(&request.json()?)?;
    let result = match request.node().synchronize(queue, start).await? {
        Synchronized::Done => "ok",
        Synchronized::NotSyncing => "not_syncing",
    };
    Ok(Reply::ok(json!({"result": result})))
}

/// Whether the action of a body is to synchronize, or to stop it.
pub(crate) fn wants_sync(body: &Object) -> Result<bool, Error> {
    match body.text("action")? {
        "sync" => Ok(true),
        "cancel_sync" => Ok(false),
        other => Err(Error::bad_request(json!(["unknown", other]))),
    }
}

/// `POST /api/internal/queues/:vhost/:queue/leader` with `node`
pub(crate) async fn transfer(request: Request) -> Outcome {
    let queue = request.queue()?.id;
    let to = host::node(&request.json()?)?;
    request.node().transfer(queue, to).await?;
    Ok(Reply::no_content())
}
