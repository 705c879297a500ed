//! Shapes: what RabbitMQ answers has the keys and types that ours has.
//!
//! `testdata/shapes.txt` holds the keys of real answers. Every one of them must be in our answer to the
//! same request, with the same type, but for the few that are listed here with a reason.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use serde_json::{Value as Json, json};

use super::Api;

/// Keys that are left out on purpose. A `*` stands for the whole path before the key.
const ABSENT: &[(&str, &str)] = &[
    (
        "*exchange_types[].internal_purpose",
        "no exchange type is for internal use only",
    ),
    (
        "*backing_queue_status.avg_ack_egress_rate",
        "rates are in message_stats",
    ),
    (
        "*backing_queue_status.avg_ack_ingress_rate",
        "rates are in message_stats",
    ),
    (
        "*backing_queue_status.avg_egress_rate",
        "rates are in message_stats",
    ),
    (
        "*backing_queue_status.avg_ingress_rate",
        "rates are in message_stats",
    ),
    (
        "*backing_queue_status.delta",
        "describes a store that Warren does not have",
    ),
    (
        "*backing_queue_status.delta[]",
        "describes a store that Warren does not have",
    ),
    (
        "*backing_queue_status.mirror_seen",
        "describes a protocol that Warren does not have",
    ),
    (
        "*backing_queue_status.mirror_senders",
        "describes a protocol that Warren does not have",
    ),
    (
        "*backing_queue_status.next_deliver_seq_id",
        "describes a store that Warren does not have",
    ),
    (
        "*backing_queue_status.next_seq_id",
        "describes a store that Warren does not have",
    ),
    (
        "*backing_queue_status.q1",
        "describes a store that Warren does not have",
    ),
    (
        "*backing_queue_status.q2",
        "describes a store that Warren does not have",
    ),
    (
        "*backing_queue_status.q3",
        "describes a store that Warren does not have",
    ),
    (
        "*backing_queue_status.q4",
        "describes a store that Warren does not have",
    ),
    (
        "*backing_queue_status.target_ram_count",
        "describes a store that Warren does not have",
    ),
    (
        "parameters[].vhost",
        "3.13 leaves it out of the definitions of one virtual host",
    ),
    (
        "binary.connection_channels",
        "binaries are not counted by owner",
    ),
    (
        "binary.connection_other",
        "binaries are not counted by owner",
    ),
    (
        "binary.connection_readers",
        "binaries are not counted by owner",
    ),
    (
        "binary.connection_writers",
        "binaries are not counted by owner",
    ),
    ("binary.mgmt_db", "binaries are not counted by owner"),
    ("binary.msg_index", "binaries are not counted by owner"),
    ("binary.plugins", "binaries are not counted by owner"),
    ("binary.queue_procs", "binaries are not counted by owner"),
    (
        "binary.queue_slave_procs",
        "binaries are not counted by owner",
    ),
    (
        "binary.quorum_queue_dlx_procs",
        "binaries are not counted by owner",
    ),
    (
        "binary.quorum_queue_procs",
        "binaries are not counted by owner",
    ),
    (
        "binary.stream_queue_coordinator_procs",
        "binaries are not counted by owner",
    ),
    (
        "binary.stream_queue_procs",
        "binaries are not counted by owner",
    ),
    (
        "binary.stream_queue_replica_reader_procs",
        "binaries are not counted by owner",
    ),
];

/// Types that differ on purpose: `[]` where RabbitMQ means an empty object.
const LISTS_FOR_OBJECTS: &[&str] = &["listeners[].socket_opts"];

/// A node with one of everything.
async fn shop() -> Api {
    let api = Api::new();
    api.put("/cluster-name", json!({"name": "shop"})).await;
    api.put(
        "/vhosts/demo",
        json!({"description": "demo vhost", "tags": "production,eu"}),
    )
    .await;
    let alice = json!({"password": "alice", "tags": ["monitoring", "policymaker"]});
    api.put("/users/alice", alice).await;
    let patterns = json!({"configure": "^alice\\.", "write": ".*", "read": ".*"});
    api.put("/permissions/demo/alice", patterns).await;
    let topic = json!({"exchange": "amq.topic", "write": "^a\\.", "read": ".*"});
    api.put("/topic-permissions/demo/alice", topic).await;
    api.put("/vhost-limits/demo/max-queues", json!({"value": 1000}))
        .await;
    api.put("/vhost-limits/demo/max-connections", json!({"value": 100}))
        .await;
    api.put("/user-limits/alice/max-channels", json!({"value": 50}))
        .await;
    let definition = json!({"ha-mode": "all", "ha-sync-mode": "automatic", "max-length": 100_000});
    let policy = json!({
        "pattern": "^(orders|lazy)", "apply-to": "queues", "priority": 5, "definition": definition,
    });
    api.put("/policies/%2F/ha-orders", policy).await;
    let policy = json!({"pattern": ".*", "apply-to": "queues", "definition": {"max-length": 9}});
    api.put("/operator-policies/%2F/cap", policy).await;
    let shovel =
        json!({"value": {"src-uri": "amqp://", "src-queue": "dead", "dest-uri": "amqp://"}});
    api.put("/parameters/shovel/%2F/sh1", shovel).await;
    let upstream = json!({"value": {"uri": "amqp://"}});
    api.put("/parameters/federation-upstream/%2F/up1", upstream)
        .await;
    declare_objects(&api).await;
    use_objects(&api).await;
    api
}

async fn declare_objects(api: &Api) {
    let orders = json!({
        "durable": true, "arguments": {"x-max-priority": 10, "x-message-ttl": 60_000},
    });
    api.put("/queues/%2F/orders", orders).await;
    let lazy = json!({"durable": true, "arguments": {"x-queue-mode": "lazy"}});
    api.put("/queues/%2F/lazy", lazy).await;
    api.put("/queues/demo/alice.q", json!({"auto_delete": true}))
        .await;
    for (exchange, kind) in [
        ("dlx", "fanout"),
        ("unrouted", "fanout"),
        ("hash", "x-consistent-hash"),
    ] {
        api.put(
            &format!("/exchanges/%2F/{exchange}"),
            json!({"type": kind, "durable": true}),
        )
        .await;
    }
    let alternate = json!({"alternate-exchange": "unrouted"});
    let events = json!({"type": "topic", "durable": true, "arguments": alternate});
    api.put("/exchanges/%2F/events", events).await;
    api.put(
        "/exchanges/demo/events",
        json!({"type": "topic", "durable": true}),
    )
    .await;
    let bind = async |path: &str, key: &str| {
        let arguments = json!({"routing_key": key, "arguments": {}});
        api.post(&format!("/bindings/%2F/e/{path}"), arguments)
            .await;
    };
    bind("events/q/orders", "orders.#").await;
    bind("events/e/dlx", "#.fail").await;
    bind("dlx/q/lazy", "").await;
    api.post(
        "/bindings/demo/e/events/q/alice.q",
        json!({"routing_key": "a"}),
    )
    .await;
}

async fn use_objects(api: &Api) {
    api.node.connect(1, "guest");
    api.node.consume("orders", 1);
    for _ in 0..2 {
        api.post(
            "/exchanges/%2F/events/publish",
            json!({
                "routing_key": "orders.1", "payload": "hello", "payload_encoding": "string",
                "properties": {
                    "delivery_mode": 2, "message_id": "m1", "content_type": "application/json",
                    "headers": {"h1": "v1"},
                },
            }),
        )
        .await;
    }
    let get = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    api.post("/queues/%2F/orders/get", get).await;
    api.management.sample().await;
    api.node.state().now += 5000;
    api.management.sample().await;
}

/// The types at every path of an answer.
fn types(json: &Json, path: &str, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let (name, below): (&str, Vec<(String, &Json)>) = match json {
        Json::Null => ("null", Vec::new()),
        Json::Bool(_) => ("boolean", Vec::new()),
        Json::Number(_) => ("number", Vec::new()),
        Json::String(_) => ("string", Vec::new()),
        Json::Array(items) => (
            "list",
            items.iter().map(|it| (format!("{path}[]"), it)).collect(),
        ),
        Json::Object(object) => {
            let dot = if path.is_empty() { "" } else { "." };
            let entry = |(key, value)| (format!("{path}{dot}{key}"), value);
            ("object", object.iter().map(entry).collect())
        }
    };
    let path = if path.is_empty() { "." } else { path };
    found.entry(path.to_owned()).or_default().insert(name);
    for (path, json) in below {
        types(json, &path, found);
    }
}

/// The entry of [`ABSENT`] that excuses a path.
fn excuse(path: &str) -> Option<&'static str> {
    let excuses = |absent: &&str| match absent.strip_prefix('*') {
        Some(tail) => path.ends_with(tail),
        None => path == *absent,
    };
    ABSENT.iter().map(|(absent, _)| *absent).find(excuses)
}

/// What a line of the file asks for and our answer lacks.
fn complaint(
    line: &str,
    found: &BTreeMap<String, BTreeSet<&'static str>>,
    excused: &mut BTreeSet<&'static str>,
) -> Option<String> {
    let (path, wanted) = line.rsplit_once(' ').unwrap();
    let Some(types) = found.get(path) else {
        let excuse = excuse(path);
        excused.extend(excuse);
        return excuse.is_none().then(|| format!("{path} is missing"));
    };
    let agrees = |ours: &&str| {
        *ours == "null"
            || wanted
                .split('|')
                .any(|wanted| wanted == "null" || wanted == *ours)
    };
    let is_list = LISTS_FOR_OBJECTS.contains(&path) && types.contains("object");
    (!is_list && !types.iter().all(agrees))
        .then(|| format!("{path} is {types:?}, should be {wanted}"))
}

#[tokio::test]
async fn answers_have_the_shape_of_rabbitmqs() {
    let api = shop().await;
    let shapes = include_str!("../../testdata/shapes.txt");
    let mut complaints = Vec::new();
    let mut excused = BTreeSet::new();
    let mut requests = 0;
    for block in shapes.split("\n\n").skip(1) {
        let (request, shape) = block.split_once('\n').unwrap();
        let (status, keys) = shape.split_once('\n').unwrap_or((shape, ""));
        let mut parts = request.splitn(3, ' ');
        let method = Method::from_bytes(parts.next().unwrap().as_bytes()).unwrap();
        let (path, body) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        let answer = api.call(method, path, body).await;
        if format!("= {}", answer.status.as_u16()) != status.trim() {
            complaints.push(format!("{request}: {} {}", answer.status, answer.body));
            continue;
        }
        let mut found = BTreeMap::new();
        types(&answer.body, "", &mut found);
        let all = keys
            .lines()
            .filter_map(|line| complaint(line, &found, &mut excused));
        complaints.extend(all.map(|complaint| format!("{request}: {complaint}")));
        requests += 1;
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(requests > 80, "{requests}");
    assert_eq!(
        excused.len(),
        ABSENT.len(),
        "some are not absent: {excused:?}"
    );
}

/// What rabbitmqadmin 2 reads strictly: one field less, and its command fails.
#[tokio::test]
async fn fields_that_strict_clients_need_are_there() {
    let api = shop().await;
    for (path, fields) in [
        (
            "/overview",
            "cluster_name node erlang_full_version erlang_version rabbitmq_version product_name \
             product_version statistics_db_event_queue churn_rates queue_totals object_totals \
             message_stats listeners",
        ),
        (
            "/nodes/warren@here",
            "name uptime run_queue processors os_pid fd_total proc_total mem_limit mem_alarm \
             disk_free_limit disk_free_alarm rates_mode enabled_plugins being_drained",
        ),
        (
            "/queues/%2F/orders",
            "name vhost type durable auto_delete exclusive arguments",
        ),
        (
            "/exchanges/%2F/events",
            "name vhost type durable auto_delete arguments",
        ),
        (
            "/consumers",
            "consumer_tag consumer_timeout active ack_required prefetch_count exclusive \
             arguments queue channel_details",
        ),
        (
            "/channels",
            "number name connection_details vhost state consumer_count confirm \
             prefetch_count messages_unacknowledged messages_unconfirmed",
        ),
        (
            "/connections",
            "name node protocol user connected_at client_properties",
        ),
        (
            "/feature-flags",
            "name state desc doc_url stability provided_by",
        ),
        (
            "/definitions",
            "users vhosts permissions parameters policies queues exchanges bindings",
        ),
    ] {
        let answer = api.get(path).await;
        let object = if answer.is_array() {
            &answer[0]
        } else {
            &answer
        };
        for field in fields.split_whitespace() {
            assert!(object.get(field).is_some(), "{path} has no {field}");
        }
    }
    let memory = api.get("/nodes/warren@here/memory").await;
    for field in ["metadata_store", "metadata_store_ets", "mnesia", "strategy"] {
        assert!(memory["memory"].get(field).is_some(), "{field}");
    }
    assert!(api.get("/consumers").await[0]["consumer_timeout"].is_u64());
}
