//! What the whole cluster looks like, and who we are.

use broker::Name;
use broker::metadata::{Command, Tables};
use serde_json::{Value as Json, json};

use super::{Outcome, is_same_node, nodes, object};
use crate::access;
use crate::counters::{self, Lengths, Rates};
use crate::error::Error;
use crate::identity::Identity;
use crate::list;
use crate::node::{RebalanceKind, RebalanceRequest, Totals};
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::stats::{Key, Ranges};
use crate::value::{Object, value_to_json};
use crate::{ERLANG_VERSION, PRODUCT_NAME, RABBITMQ_VERSION};

/// `GET /api/overview`
pub(crate) async fn show(request: Request) -> Outcome {
    let status = request.node().status().await;
    let disable_stats = request.stats_disabled();
    let mut overview = object(json!({
        "management_version": RABBITMQ_VERSION,
        "rates_mode": request.rates_mode(),
        "sample_retention_policies": {
            "global": [600, 3600, 28_800, 86_400], "basic": [600, 3600], "detailed": [600],
        },
        "exchange_types": nodes::exchange_types(),
        "product_version": status.version,
        "product_name": PRODUCT_NAME,
        "rabbitmq_version": RABBITMQ_VERSION,
        "cluster_name": cluster_name(&request),
        "cluster_tags": request.tables.global_parameters.get("cluster_tags").map_or_else(
            || json!({}), value_to_json),
        "erlang_version": ERLANG_VERSION,
        "erlang_full_version": nodes::erlang_full_version(&status),
        "release_series_support_status": "supported",
        "disable_stats": disable_stats,
        "is_op_policy_updating_enabled": true,
        "enable_queue_totals": request.wants_queue_totals(),
        "node": request.node().name(),
    }));
    if disable_stats {
        overview.insert("object_totals".to_owned(), object_totals(&request).await);
        return list::one(&request.query, Json::Object(overview));
    }
    let ranges = Ranges::of(&request.query, request.node().now())?;
    put_stats(&request, &mut overview, ranges).await;
    if request.identity.is_monitor() {
        let all = request.node().nodes().await;
        let running: Vec<_> = all.iter().filter(|node| node.running).collect();
        overview.insert("listeners".to_owned(), nodes::listeners(&running));
        overview.insert("contexts".to_owned(), nodes::contexts(&running, true));
    }
    list::one(&request.query, Json::Object(overview))
}

/// Counters and totals: of the cluster, or of the virtual hosts that the user sees.
async fn put_stats(request: &Request, overview: &mut Object, ranges: Ranges) {
    let totals = request.node().totals().await;
    let statuses = request.node().queue_statuses().await;
    let monitor = request.identity.is_monitor();
    let mut lengths = Lengths::default();
    for report in &statuses {
        let queue = report
            .queue
            .and_then(|queue| request.tables.queues.get(&queue));
        let visible = |vhost: &str| access::is_visible(&request.identity, &request.tables, vhost);
        if monitor || queue.is_some_and(|queue| visible(&queue.vhost)) {
            lengths.add(&report.status);
        }
    }
    let object_totals = object_totals(request).await;
    let messages = if monitor {
        totals.messages.clone()
    } else {
        visible_messages(&totals, &request.identity, &request.tables)
    };
    let sampler = request.app.sampler();
    // Rates of the cluster are for those who see the cluster.
    let series = sampler.series(&Key::Cluster).filter(|_| monitor);
    let rates = |range| Rates { series, range };
    overview.insert(
        "message_stats".to_owned(),
        counters::cluster_messages(&messages, rates(ranges.messages)),
    );
    overview.insert(
        "churn_rates".to_owned(),
        counters::churn(&totals.churn, rates(ranges.messages)),
    );
    let mut queue_totals = Object::new();
    counters::put_lengths(&mut queue_totals, lengths, rates(ranges.lengths));
    overview.insert("queue_totals".to_owned(), Json::Object(queue_totals));
    overview.insert("object_totals".to_owned(), object_totals);
    overview.insert("statistics_db_event_queue".to_owned(), json!(0));
}

fn visible_messages(totals: &Totals, who: &Identity, tables: &Tables) -> broker::status::Counters {
    let mut sum = broker::status::Counters::default();
    for vhost in totals
        .vhosts
        .iter()
        .filter(|vhost| access::is_visible(who, tables, &vhost.vhost))
    {
        sum += &vhost.messages;
    }
    sum
}

async fn object_totals(request: &Request) -> Json {
    let tables = &request.tables;
    let visible = |vhost: &str| access::is_visible(&request.identity, tables, vhost);
    let mut queues = 0;
    let mut exchanges = 0;
    for vhost in tables.vhosts.values().filter(|vhost| visible(&vhost.name)) {
        queues += vhost.queues.size();
        exchanges += vhost.exchanges.size();
    }
    let mut connections = 0;
    let mut channels = 0;
    let mut consumers = 0;
    for report in request.node().connections().await {
        if visible(&report.status.vhost) {
            connections += 1;
            channels += report.status.channels.len();
            let of_channels = report
                .status
                .channels
                .iter()
                .map(|channel| u64::from(channel.consumers));
            consumers += of_channels.sum::<u64>();
        }
    }
    json!({
        "channels": channels,
        "connections": connections,
        "consumers": consumers,
        "exchanges": exchanges,
        "queues": queues,
    })
}

/// The cluster's name, the same on all of its nodes.
pub(crate) fn cluster_name(request: &Request) -> Json {
    match request.tables.cluster_name() {
        Some(name) => json!(name),
        None => json!(request.node().name()),
    }
}

/// `GET /api/cluster-name`
pub(crate) async fn show_cluster_name(request: Request) -> Outcome {
    Ok(Reply::ok(json!({"name": cluster_name(&request)})))
}

/// `PUT /api/cluster-name`
pub(crate) async fn put_cluster_name(request: Request) -> Outcome {
    let value = amqp::Value::from(request.json()?.text("name")?);
    let name = Name::from("cluster_name");
    request
        .node()
        .propose(Command::SetGlobalParameter { name, value })
        .await?;
    Ok(Reply::no_content())
}

/// `GET /api/whoami`
pub(crate) async fn whoami(request: Request) -> Outcome {
    let tags = match (&request.identity, request.tables.users.get(&request.user())) {
        (Identity::User { .. }, Some(user)) => user.tags.clone(),
        _ => vec![Name::from("administrator")],
    };
    let mut answer = object(json!({
        "name": request.user(),
        "tags": tags,
        "is_internal_user": true,
    }));
    if let Some(minutes) = request.app.settings.login_session_timeout {
        answer.insert("login_session_timeout".to_owned(), json!(minutes));
    }
    Ok(Reply::ok(Json::Object(answer)))
}

/// `GET /api/version`
pub(crate) async fn version(_: Request) -> Outcome {
    Ok(Reply::ok(json!(RABBITMQ_VERSION)))
}

/// `GET /api/extensions`
pub(crate) async fn extensions(_: Request) -> Outcome {
    Ok(Reply::ok(json!([{"javascript": "dispatcher.js"}])))
}

/// `GET /api/auth`: how browsers log in. There is Basic authentication only.
pub(crate) async fn auth(_: Request) -> Outcome {
    Ok(Reply::ok(json!({
        "oauth_enabled": false,
        "enable_uaa": false,
        "uaa_client_id": "",
        "uaa_location": "",
    })))
}

/// `DELETE /api/reset` and `/:node`: forgets the history of all counters.
pub(crate) async fn reset(request: Request) -> Outcome {
    if let Some(name) = request.find_param("node") {
        let nodes = request.node().nodes().await;
        if !nodes.iter().any(|node| node.running && is_same_node(&node.name, name)) {
            return Err(Error::object_not_found());
        }
    }
    request.app.forget_samples();
    Ok(Reply::no_content())
}

/// `POST /api/rebalance/queues`: answered before leaders have moved
pub(crate) async fn rebalance(request: Request) -> Outcome {
    let wanted = RebalanceRequest::new(RebalanceKind::All, ".*", ".*");
    let mut wanted = wanted.expect("these are patterns");
    wanted.wait = false;
    request.node().rebalance(wanted).await?;
    Ok(Reply::no_content())
}

/// `GET /api/config/effective`
pub(crate) async fn configuration(request: Request) -> Outcome {
    let entries = request.node().environment().into_iter();
    let object: Object = entries
        .map(|(key, value)| (key, Json::String(value)))
        .collect();
    list::one(&request.query, Json::Object(object))
}
