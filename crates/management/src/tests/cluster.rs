//! Several nodes: how they are shown, and what the operator does to them and to mirrored queues.

use std::time::Duration;

use axum::http::Method;
use broker::metadata::{Command, ViewChange};
use serde_json::{Value as Json, json};

use super::Api;
use super::fake::NODE;
use crate::host::{HostFailure, NodeKind};
use crate::node::{MetadataRole, MirrorReport};

/// Three nodes: this one, a ram node, and one that is down.
fn three() -> Api {
    let api = Api::new();
    let mut state = api.node.state();
    state.add_node("ram@here");
    state.add_node("gone@here");
    state.stop_node("gone@here");
    state.nodes[1].kind = NodeKind::Ram;
    state.nodes[1].being_drained = true;
    state.cluster.members[0].leads_metadata = true;
    state.cluster.members[1].kind = NodeKind::Ram;
    state.cluster.members[1].role = MetadataRole::Learner;
    state.cluster.members[2].verdict_age = Duration::from_millis(1500);
    let peers = vec!["gone@here".into()];
    state.cluster.partitions.insert(NODE.into(), peers);
    drop(state);
    api
}

#[tokio::test]
async fn the_status_of_a_cluster_has_rabbitmqs_keys_and_ours() {
    let api = three();
    api.node.state().nodes[1].memory_alarm = true;
    let path = "/internal/cluster-status";
    let status = api.operate(Method::GET, path, json!({})).await.body;
    assert_eq!(status["disk_nodes"], json!([NODE, "gone@here"]));
    assert_eq!(status["ram_nodes"], json!(["ram@here"]));
    assert_eq!(status["running_nodes"], json!([NODE, "ram@here"]));
    assert_eq!(status["partitions"], json!({NODE: ["gone@here"]}));
    let alarm = json!([{"node": "ram@here", "resource": "memory"}]);
    assert_eq!(status["alarms"], alarm);
    assert_eq!(
        status["maintenance_status"],
        json!({NODE: "not under maintenance", "ram@here": "marked for maintenance"})
    );
    assert_eq!(status["listeners"]["ram@here"][0]["port"], 5672);
    assert_eq!(status["app"], json!({"state": "running", "why": ""}));
    assert_eq!(status["metadata"]["quorum"], true);
    let members = status["members"].as_array().unwrap();
    let shown = |key: &str| -> Json { members.iter().map(|member| member[key].clone()).collect() };
    assert_eq!(shown("role"), json!(["voter", "learner", "voter"]));
    assert_eq!(shown("leads_metadata"), json!([true, false, false]));
    assert_eq!(shown("state"), json!(["own", "alive", "down"]));
    assert_eq!(shown("state_age_millis"), json!([0, 0, 1500]));
    assert_eq!(shown("type"), json!(["disc", "ram", "disc"]));
}

#[tokio::test]
async fn nodes_that_are_down_are_listed_with_little() {
    let api = three();
    let nodes = api.get("/nodes").await;
    let down = json!({
        "name": "gone@here", "type": "disc", "running": false, "being_drained": false,
    });
    assert_eq!(nodes[0], down);
    assert_eq!(
        (&nodes[1]["type"], &nodes[1]["being_drained"]),
        (&json!("ram"), &json!(true))
    );
    let overview = api.get("/overview").await;
    assert_eq!(overview["node"], NODE);
    let listeners = overview["listeners"].as_array().unwrap();
    let of = |name: &str| listeners.iter().filter(|it| it["node"] == name).count();
    assert_eq!((of(NODE), of("ram@here"), of("gone@here")), (4, 4, 0));
    let vhost = api.get("/vhosts/%2F").await;
    assert_eq!(
        vhost["cluster_state"],
        json!({NODE: "running", "ram@here": "running", "gone@here": "nodedown"})
    );
}

#[tokio::test]
async fn learners_do_not_count_for_the_majority() {
    let api = three();
    let path = "/health/checks/node-is-quorum-critical";
    assert_eq!(api.refused(Method::GET, path, "").await.0, 503);
    for node in ["third@here", "fourth@here"] {
        api.node.state().add_node(node);
    }
    // Of four voters one is down, so it is two that are left.
    assert_eq!(api.refused(Method::GET, path, "").await.0, 503);
    api.node.state().cluster.members[2].role = MetadataRole::Learner;
    assert_eq!(api.get(path).await, json!({"status": "ok"}));
}

#[tokio::test]
async fn the_cluster_is_changed_by_the_operator() {
    let api = Api::new();
    for (path, body) in [
        (
            "cluster/forget",
            json!({"node": "gone@here", "force": true}),
        ),
        ("cluster/forget", json!({"node": "gone@here"})),
        ("drain", json!({})),
        ("revive", json!({})),
        ("listeners/suspend", json!({})),
        ("listeners/resume", json!({})),
        ("cluster/heal", json!({})),
    ] {
        let path = format!("/internal/{path}");
        let answer = api.operate(Method::POST, &path, body).await;
        assert_eq!(answer.status, 204, "{path}: {}", answer.body);
    }
    assert_eq!(
        api.node.state().log,
        [
            "forget gone@here true",
            "forget gone@here false",
            "drain true",
            "drain false",
            "suspend true",
            "suspend false",
            "heal",
        ]
    );
    let peers = api.operate(Method::GET, "/internal/peers", json!({})).await;
    assert_eq!(peers.body, json!([NODE]));
    let refusal = HostFailure::StillRunning("gone@here".into());
    api.node.state().refusal = Some(refusal);
    let body = json!({"node": "gone@here"});
    let answer = api
        .operate(Method::POST, "/internal/cluster/forget", body)
        .await;
    let reason = "RabbitMQ on node gone@here must be stopped with 'rabbitmqctl -n gone@here \
                  stop_app' before it can be removed";
    let expected = json!({"error": "failed_to_remove_node", "reason": reason, "exit_code": 69});
    assert_eq!((answer.status.as_u16(), answer.body), (400, expected));
}

#[tokio::test]
async fn leaders_are_spread_as_the_request_says() {
    let api = three();
    let rebalance = async |body: Json| api.operate(Method::POST, "/internal/rebalance", body).await;
    let answer = rebalance(json!({"type": "all"})).await;
    assert_eq!(answer.body[0], json!({"node": NODE, "classic": 1}));
    rebalance(json!({
        "type": "classic", "queue_pattern": "^f", "target": "ram@here",
    }))
    .await;
    assert_eq!(
        rebalance(json!({"type": "all", "vhost_pattern": "("}))
            .await
            .status,
        400
    );
    assert_eq!(rebalance(json!({"type": "some"})).await.status, 400);
    api.node.state().refusal = Some(HostFailure::RebalanceInProgress);
    let refused = rebalance(json!({"type": "all"})).await.body;
    assert_eq!(refused["reason"], "rebalance_in_progress");
    assert_eq!(
        api.node.state().log[..2],
        [
            "rebalance All true true None true",
            "rebalance Classic false true Some(\"ram@here\") true",
        ]
    );
}

#[tokio::test]
async fn mirrors_say_how_far_they_are() {
    let api = three();
    let policy = json!({"pattern": "^m", "definition": {"ha-mode": "all"}});
    api.put("/policies/%2F/ha", policy).await;
    for queue in ["m", "plain"] {
        api.put(&format!("/queues/%2F/{queue}"), json!({})).await;
    }
    let mirror = MirrorReport {
        node: "ram@here".into(),
        sync_messages_left: Some(7),
        sync_bytes_left: Some(700),
        sync_strategy: "incremental",
    };
    {
        let mut state = api.node.state();
        state.mirrors.insert("m".into(), vec![mirror]);
        let tables = state.metadata.tables();
        let (record, ram) = (tables.queue("/", "m").unwrap(), tables.nodes.named("ram@here").unwrap());
        let change = ViewChange::AddMirror(ram.id);
        state.apply(Command::ChangeView { queue: record.id, epoch: record.view.epoch, change });
    }
    let queue = api.get("/queues/%2F/m").await;
    assert_eq!(queue["node"], NODE);
    assert_eq!(queue["slave_nodes"], json!(["ram@here"]));
    assert_eq!(queue["synchronised_slave_nodes"], json!([]));
    assert_eq!(queue["recoverable_slaves"], json!([]));
    let detail = json!([{
        "node": "ram@here", "synchronised": false, "sync_messages_left": 7,
        "sync_bytes_left": 700, "sync_strategy": "incremental",
    }]);
    assert_eq!(queue["mirror_details"], detail);
    let plain = api.get("/queues/%2F/plain").await;
    assert_eq!(plain.get("slave_nodes"), None);
}

#[tokio::test]
async fn synchronizing_what_is_not_mirrored_is_an_error_for_the_operator_alone() {
    let api = Api::new();
    let policy = json!({"pattern": "^m", "definition": {"ha-mode": "all"}});
    api.put("/policies/%2F/ha", policy).await;
    for queue in ["m", "plain"] {
        api.put(&format!("/queues/%2F/{queue}"), json!({})).await;
    }
    let (sync, cancel) = (json!({"action": "sync"}), json!({"action": "cancel_sync"}));
    let ask = async |queue: &str, action: &Json| {
        let path = format!("/internal/queues/%2F/{queue}/sync");
        api.operate(Method::POST, &path, action.clone()).await
    };
    assert_eq!(ask("m", &sync).await.body, json!({"result": "ok"}));
    let idle = json!({"result": "not_syncing"});
    assert_eq!(ask("m", &cancel).await.body, idle);
    assert_eq!(ask("plain", &cancel).await.body, idle);
    let refused = ask("plain", &sync).await.body;
    assert_eq!(
        (&refused["reason"], &refused["exit_code"]),
        (&json!("not_mirrored"), &json!(69))
    );
    assert_eq!(ask("nosuch", &sync).await.status, 404);
    api.post("/queues/%2F/plain/actions", sync).await;
    let path = "/internal/queues/%2F/m/leader";
    let body = json!({"node": "ram@here"});
    assert_eq!(api.operate(Method::POST, path, body).await.status, 204);
    let last = api.node.state().log.last().cloned().unwrap();
    assert!(last.starts_with("transfer ") && last.ends_with(" ram@here"));
}

#[tokio::test]
async fn queues_are_declared_on_nodes_that_run() {
    let api = three();
    let on = |node: &str| json!({"node": node, "durable": true}).to_string();
    for (name, node) in [("there", "ram@here"), ("here", NODE)] {
        api.put(&format!("/queues/%2F/{name}"), json!({"node": node}))
            .await;
        let queue = api.get(&format!("/queues/%2F/{name}")).await;
        assert_eq!(queue["node"], node);
    }
    for node in ["gone@here", "nosuch@here"] {
        let (status, body) = api
            .refused(Method::PUT, "/queues/%2F/nowhere", &on(node))
            .await;
        let reason = format!("Node {node} could not be contacted");
        assert_eq!((status, &body["reason"]), (400, &json!(reason)));
    }
}
