//! Consumers, found with the queues that they consume from.

use std::collections::BTreeMap;

use broker::ConnectionId;
use broker::metadata::Queue;
use broker::status::{ConsumerStatus, QueueStatus};
use serde_json::{Value as Json, json};

use super::{Outcome, channels};
use crate::list;
use crate::node::ConnectionReport;
use crate::request::Request;
use crate::value::{table_to_json, text};

type Connections = BTreeMap<ConnectionId, ConnectionReport>;

/// `GET /api/consumers` and `/:vhost`
pub(crate) async fn index(request: Request) -> Outcome {
    let vhosts: Vec<_> = request
        .vhosts()?
        .into_iter()
        .map(|vhost| &vhost.name)
        .collect();
    let connections = connections(&request).await;
    let mut items = Vec::new();
    for report in request.node().queue_statuses().await {
        let queue = report
            .queue
            .and_then(|queue| request.tables.queues.get(&queue));
        let Some(queue) = queue.filter(|queue| vhosts.contains(&&queue.vhost)) else {
            continue;
        };
        items.extend(of_status(&request, queue, &report.status, &connections));
    }
    let mine = |item: &Json| {
        let user = request.identity.user();
        request.identity.is_monitor()
            || user.is_some_and(|user| item["channel_details"]["user"] == **user)
    };
    items.retain(mine);
    list::whole(
        &request.query,
        items,
        &["channel_details.connection_name", "consumer_tag"],
    )
}

/// The consumers of one queue.
pub(crate) async fn of_queue(request: &Request, queue: &Queue, status: &QueueStatus) -> Vec<Json> {
    if status.consumers.is_empty() {
        return Vec::new();
    }
    of_status(request, queue, status, &connections(request).await)
}

/// The consumers of one channel, in any queue.
pub(crate) async fn of_channel(
    request: &Request,
    connection: ConnectionId,
    number: u16,
) -> Vec<Json> {
    let connections = connections(request).await;
    let mut items = Vec::new();
    for report in request.node().queue_statuses().await {
        let queue = report
            .queue
            .and_then(|queue| request.tables.queues.get(&queue));
        let Some(queue) = queue else { continue };
        let of_channel = report.status.consumers.iter();
        let of_channel =
            of_channel.filter(|it| it.connection == connection && it.channel == number);
        items.extend(of_channel.map(|consumer| render(request, queue, consumer, &connections)));
    }
    items
}

async fn connections(request: &Request) -> Connections {
    let all = request.node().connections().await.into_iter();
    all.map(|report| (report.status.id, report)).collect()
}

fn of_status(
    request: &Request,
    queue: &Queue,
    status: &QueueStatus,
    connections: &Connections,
) -> Vec<Json> {
    let all = status.consumers.iter();
    all.map(|consumer| render(request, queue, consumer, connections))
        .collect()
}

fn render(
    request: &Request,
    queue: &Queue,
    consumer: &ConsumerStatus,
    connections: &Connections,
) -> Json {
    let timeout = queue.settings.consumer_timeout;
    let timeout = timeout
        .unwrap_or(request.app.settings.consumer_timeout)
        .as_millis();
    let channel = match connections.get(&consumer.connection) {
        Some(report) => channels::details(report, consumer.channel),
        // The connection ended in between.
        None => json!({}),
    };
    json!({
        "arguments": table_to_json(&consumer.arguments),
        "ack_required": consumer.ack_required,
        "active": consumer.active,
        "activity_status": consumer.activity,
        "channel_details": channel,
        "consumer_tag": text(&consumer.tag),
        "consumer_timeout": u64::try_from(timeout).unwrap_or(u64::MAX),
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch_count,
        "queue": {"name": queue.name, "vhost": queue.vhost},
    })
}
