//! A queue as JSON, with RabbitMQ's names for everything.

use std::collections::BTreeMap;

use broker::ConnectionId;
use broker::metadata::{Queue, Tables};
use serde_json::{Value as Json, json};

use super::mirrors;
use crate::api::{connections, object, put_runtime};
use crate::counters::{self, Lengths, Rates};
use crate::node::QueueReport;
use crate::request::Request;
use crate::stats::{Key, Ranges};
use crate::timestamp::rfc3339;
use crate::value::{Object, table_to_json, text};

/// What is fixed by the declaration.
pub(crate) fn definition(queue: &Queue) -> Json {
    json!({
        "name": queue.name,
        "vhost": queue.vhost,
        "type": queue_type(queue),
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "exclusive": queue.exclusive.is_some(),
        "arguments": table_to_json(&queue.arguments),
    })
}

/// `classic`, unless the queue's arguments say otherwise.
pub(crate) fn queue_type(queue: &Queue) -> &str {
    queue
        .arguments
        .get("x-queue-type")
        .and_then(|value| value.as_str())
        .unwrap_or("classic")
}

/// The owners of exclusive queues.
pub(crate) struct Owners(BTreeMap<ConnectionId, Json>);

impl Owners {
    /// Asks for connections only when there is an exclusive queue.
    pub(crate) async fn of(request: &Request) -> Owners {
        let exclusive = |queue: &std::sync::Arc<Queue>| queue.exclusive.is_some();
        if !request.tables.queues.values().any(exclusive) {
            return Owners(BTreeMap::new());
        }
        let all = request.node().connections().await.into_iter();
        Owners(
            all.map(|report| (report.status.id, connections::details(&report.status)))
                .collect(),
        )
    }
}

/// The definition, the node and the state, with totals when there is a report.
pub(crate) fn short(tables: &Tables, queue: &Queue, report: Option<&QueueReport>) -> Json {
    let mut shown = object(definition(queue));
    shown.insert(
        "state".to_owned(),
        json!(report.map_or_else(|| mirrors::state_by_tables(tables, queue), |report| report.state)),
    );
    shown.insert("policy".to_owned(), policy_name(queue.policy.as_ref()));
    mirrors::put(&mut shown, tables, queue, report);
    if let Some(report) = report {
        let lengths = Lengths::of(&report.status);
        shown.insert(
            "messages".to_owned(),
            json!(lengths.ready + lengths.unacked),
        );
        shown.insert("messages_ready".to_owned(), json!(lengths.ready));
        shown.insert("messages_unacknowledged".to_owned(), json!(lengths.unacked));
    }
    Json::Object(shown)
}

fn policy_name(policy: Option<&std::sync::Arc<broker::policy::Policy>>) -> Json {
    policy.map_or(Json::Null, |policy| json!(policy.spec.name))
}

/// Everything that lists show. Without a report the queue's node does not answer.
pub(crate) fn full(
    request: &Request,
    queue: &Queue,
    report: Option<&QueueReport>,
    owners: &Owners,
    ranges: Ranges,
) -> Object {
    let tables = &request.tables;
    let mut shown = object(definition(queue));
    shown.append(&mut object(json!({
        "state": mirrors::state(queue, report),
        "policy": policy_name(queue.policy.as_ref()),
        "operator_policy": policy_name(queue.operator_policy.as_ref()),
        "effective_policy_definition": table_to_json(&queue.effective_policy),
    })));
    if let Some(owner) = queue.exclusive.and_then(|owner| owners.0.get(&owner)) {
        shown.insert("owner_pid_details".to_owned(), owner.clone());
    }
    mirrors::put(&mut shown, tables, queue, report);
    put_runtime(&mut shown);
    let Some(report) = report else { return shown };
    put_contents(&mut shown, report);
    put_backing_queue(&mut shown, queue, report);
    let sampler = request.app.sampler();
    let series = sampler.series(&Key::Queue(queue.id));
    let rates = |range| Rates { series, range };
    counters::put_lengths(
        &mut shown,
        Lengths::of(&report.status),
        rates(ranges.lengths),
    );
    counters::put_queue_messages(&mut shown, &report.status.counters, rates(ranges.messages));
    shown
}

fn put_contents(shown: &mut Object, report: &QueueReport) {
    let status = &report.status;
    let messages = status.messages_ready + status.messages_unacked;
    let bytes = status.bytes_ready + status.bytes_unacked;
    let tag = |tag: &Option<Vec<u8>>| tag.as_ref().map(|tag| text(tag));
    shown.append(&mut object(json!({
        "consumers": status.consumers.len(),
        "consumer_capacity": status.consumer_capacity,
        "consumer_utilisation": status.consumer_capacity,
        "memory": status.memory,
        "message_bytes": bytes,
        "message_bytes_ready": status.bytes_ready,
        "message_bytes_unacknowledged": status.bytes_unacked,
        "message_bytes_persistent": status.bytes_persistent,
        "message_bytes_ram": status.bytes_ram,
        "message_bytes_paged_out": bytes.saturating_sub(status.bytes_ram),
        "messages_ram": status.messages_ram,
        "messages_ready_ram": status.messages_ram.saturating_sub(status.messages_unacked_ram),
        "messages_unacknowledged_ram": status.messages_unacked_ram,
        "messages_persistent": status.messages_persistent,
        "messages_paged_out": messages.saturating_sub(status.messages_ram),
        "head_message_timestamp": status.head_message_timestamp,
        "exclusive_consumer_tag": tag(&status.exclusive_consumer_tag),
        "single_active_consumer_tag": tag(&status.single_active_consumer_tag),
    })));
    if let Some(idle_since) = status.idle_since {
        shown.insert("idle_since".to_owned(), json!(rfc3339(idle_since)));
    }
}

fn put_backing_queue(shown: &mut Object, queue: &Queue, report: &QueueReport) {
    let mut backing = object(json!({
        "mode": if queue.settings.lazy { "lazy" } else { "default" },
        "version": 2,
        "len": report.status.messages_ready,
    }));
    if !report.status.priority_lengths.is_empty() {
        let lengths = report.status.priority_lengths.iter().enumerate();
        let lengths: Object = lengths
            .map(|(level, length)| (level.to_string(), json!(length)))
            .collect();
        backing.insert("priority_lengths".to_owned(), Json::Object(lengths));
    }
    shown.insert("backing_queue_status".to_owned(), Json::Object(backing));
    shown.insert("storage_version".to_owned(), json!(2));
}
