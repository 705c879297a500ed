//! Counters, rates and history as answers show them.

use axum::http::Method;
use serde_json::json;

use super::Api;

async fn publish(api: &Api, count: usize) {
    for _ in 0..count {
        let message = json!({
            "routing_key": "q", "properties": {}, "payload": "", "payload_encoding": "string",
        });
        api.post("/exchanges/%2F/amq.default/publish", message)
            .await;
    }
}

async fn tick(api: &Api) {
    api.node.state().now += 5000;
    api.management.sample().await;
}

#[tokio::test]
async fn message_stats_appear_with_the_first_event() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({})).await;
    tick(&api).await;
    assert!(
        api.get("/queues/%2F/q")
            .await
            .get("message_stats")
            .is_none()
    );
    let overview = api.get("/overview").await;
    assert!(
        overview["message_stats"].get("publish").is_none(),
        "{overview}"
    );
    publish(&api, 10).await;
    tick(&api).await;
    publish(&api, 1).await;
    let stats = api.get("/queues/%2F/q").await["message_stats"].clone();
    // The count is of this moment, the rate of the last interval.
    assert_eq!(
        stats,
        json!({"publish": 11, "publish_details": {"rate": 2.0}})
    );
    for path in ["/overview", "/vhosts/%2F"] {
        let stats = &api.get(path).await["message_stats"];
        assert_eq!(stats["publish_details"]["rate"], 2.0, "{path}");
        assert_eq!(stats["confirm"], 0, "{path}");
    }
    publish(&api, 4).await;
    tick(&api).await;
    let exchange = api.get("/exchanges/%2F/amq.default").await;
    assert_eq!(exchange["message_stats"]["publish_in"], 15);
    assert_eq!(
        exchange["message_stats"]["publish_out_details"]["rate"],
        1.0
    );
    assert!(
        api.get("/exchanges/%2F/amq.topic")
            .await
            .get("message_stats")
            .is_none()
    );
}

#[tokio::test]
async fn history_is_shown_when_asked_for() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({})).await;
    tick(&api).await;
    for _ in 0..3 {
        publish(&api, 5).await;
        tick(&api).await;
    }
    let queue = api.get("/queues/%2F/q?lengths_age=10&lengths_incr=5").await;
    let details = &queue["messages_details"];
    let samples: Vec<_> = details["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["sample"].clone())
        .collect();
    // The moments asked for are whole multiples of five seconds, each a little after a sample.
    assert_eq!(samples, [json!(10), json!(5), json!(0)]);
    assert_eq!(details["rate"], 1.0);
    assert_eq!(
        (&details["avg"], &details["avg_rate"]),
        (&json!(5.0), &json!(1.0))
    );
    assert!(
        queue["message_stats"]["publish_details"]
            .get("samples")
            .is_none()
    );
    let refused = api
        .refused(Method::GET, "/queues?lengths_age=0&lengths_incr=5", "")
        .await;
    let reason = "Invalid range parameters: age 0, incr 5";
    assert_eq!(
        refused,
        (400, json!({"error": "bad_request", "reason": reason}))
    );
    api.delete("/reset").await;
    let queue = api.get("/queues/%2F/q").await;
    assert_eq!(queue["messages_details"], json!({"rate": 0.0}));
}

#[tokio::test]
async fn statistics_can_be_left_out() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({})).await;
    publish(&api, 3).await;
    let queue = &api.get("/queues?disable_stats=true").await[0];
    assert!(queue.get("messages").is_none() && queue["name"] == "q");
    let queue = &api
        .get("/queues?disable_stats=true&enable_queue_totals=true")
        .await[0];
    assert_eq!(
        (&queue["messages"], queue.get("message_stats")),
        (&json!(3), None)
    );
    let overview = api.get("/overview?disable_stats=true").await;
    assert_eq!(overview["disable_stats"], true);
    assert_eq!(overview["object_totals"]["queues"], 1);
    assert!(overview.get("message_stats").is_none());
}

#[tokio::test]
async fn channels_and_connections_have_their_counters() {
    let api = Api::new();
    let name = api
        .node
        .connect(1, "guest")
        .replace(' ', "%20")
        .replace('>', "%3E");
    tick(&api).await;
    {
        let mut state = api.node.state();
        let status = &mut state.connections[0].status;
        status.received_bytes += 500;
        status.channels[0].counters.publish += 15;
    }
    tick(&api).await;
    let connection = api.get(&format!("/connections/{name}")).await;
    assert_eq!(connection["recv_oct_details"]["rate"], 100.0);
    let channel = &api.get("/channels").await[0];
    assert_eq!(channel["message_stats"]["publish"], 22);
    assert_eq!(channel["message_stats"]["publish_details"]["rate"], 3.0);
    let node = api.get("/nodes/warren@here").await;
    assert_eq!(node["mem_used_details"], json!({"rate": 0.0}));
}
