//! Objects made, seen, used and deleted.

use axum::http::Method;
use axum::http::header::LOCATION;
use serde_json::{Value as Json, json};

use super::Api;
use super::fake::{NODE, node_status};
use crate::Settings;

fn bad_request(reason: impl Into<Json>) -> (u16, Json) {
    (
        400,
        json!({"error": "bad_request", "reason": reason.into()}),
    )
}

fn not_found() -> (u16, Json) {
    (
        404,
        json!({"error": "Object Not Found", "reason": "Not Found"}),
    )
}

#[tokio::test]
async fn a_queue_lives_and_dies() {
    let api = Api::new();
    let body = json!({"durable": true, "arguments": {"x-message-ttl": 60_000}});
    assert_eq!(api.put("/queues/%2F/q", body.clone()).await, 201);
    assert_eq!(api.put("/queues/%2F/q", body).await, 204);
    let queue = api.get("/queues/%2F/q").await;
    assert_eq!(queue["arguments"], json!({"x-message-ttl": 60_000}));
    assert_eq!(
        (&queue["node"], &queue["state"]),
        (&json!(NODE), &json!("running"))
    );
    assert_eq!(queue["type"], "classic");
    assert!(
        queue.get("slave_nodes").is_none(),
        "no policy asks for mirrors"
    );
    api.delete("/queues/%2F/q").await;
    assert_eq!(
        api.refused(Method::GET, "/queues/%2F/q", "").await,
        not_found()
    );
    assert_eq!(
        api.refused(Method::DELETE, "/queues/%2F/q", "").await,
        not_found()
    );
}

#[tokio::test]
async fn refusals_say_what_rabbitmq_says() {
    let api = Api::new();
    let queue = json!({"durable": true, "arguments": {"x-message-ttl": 60_000}});
    api.put("/queues/%2F/orders.new", queue).await;
    api.put(
        "/exchanges/%2F/events",
        json!({"type": "topic", "durable": true}),
    )
    .await;
    for (path, body, reason) in [
        (
            "/queues/%2F/bad2",
            r#"{"durable": true, "arguments": {"x-message-ttl": "abc"}}"#,
            "invalid arg 'x-message-ttl' for queue 'bad2' in vhost '/': \"expected integer, got \
             longstr\"",
        ),
        (
            "/queues/%2F/orders.new",
            r#"{"durable": true, "arguments": {}}"#,
            "inequivalent arg 'x-message-ttl' for queue 'orders.new' in vhost '/': received none \
             but current is the value '60000' of type 'long'",
        ),
        (
            "/exchanges/%2F/events",
            r#"{"type": "direct", "durable": true}"#,
            "inequivalent arg 'type' for exchange 'events' in vhost '/': received 'direct' but \
             current is 'topic'",
        ),
        (
            "/policies/%2F/bad",
            r#"{"pattern": ".*", "definition": {"nonsense": 1}}"#,
            "Validation failed\n\n[{&lt;&lt;\"nonsense\"&gt;&gt;,1}] are not recognised policy \
             settings\n",
        ),
        ("/permissions/no/guest", "{}", "vhost_or_user_not_found"),
        ("/users/x", r#"{"password": "x"}"#, "tags_not_present"),
    ] {
        let refused = api.refused(Method::PUT, path, body).await;
        assert_eq!(refused, bad_request(reason), "{path}");
    }
    let refused = api.refused(Method::PUT, "/queues/no/q", "{}").await;
    assert_eq!(
        refused,
        (
            404,
            json!({"error": "not_found", "reason": "vhost_not_found"})
        )
    );
    assert_eq!(
        api.refused(Method::GET, "/queues/no", "").await,
        not_found()
    );
}

#[tokio::test]
async fn fields_of_the_wrong_type_are_named() {
    let api = Api::new();
    for (path, body, reason) in [
        (
            "/queues/%2F/q",
            r#"{"durable": "maybe"}"#,
            json!(["not_boolean", "maybe"]),
        ),
        (
            "/queues/%2F/q",
            r#"{"arguments": 1}"#,
            json!("arguments is not an object"),
        ),
        (
            "/policies/%2F/p",
            r#"{"definition": {}}"#,
            json!("[{key_missing,pattern}]"),
        ),
        (
            "/policies/%2F/p",
            r#"{"pattern": 1}"#,
            json!(["not_string", 1]),
        ),
        (
            "/vhost-limits/%2F/max-queues",
            r#"{"value": "x"}"#,
            json!(
                "Validation failed\n\nmax-queues should be a number, actually was \
                 &lt;&lt;\"x\"&gt;&gt;\n"
            ),
        ),
        (
            "/user-limits/guest/max-channels",
            r#"{"value": 1.5}"#,
            json!("max-channels should be a number, actually was 1.5"),
        ),
        (
            "/vhosts/v",
            r#"{"default_queue_type": "quorum"}"#,
            json!(
                "default queue type 'quorum' is not served: choose 'classic', and replicate queues \
                 with a policy (ha-mode)"
            ),
        ),
        ("/vhosts/v", r#"{"tags": 1}"#, json!("invalid tags: 1")),
    ] {
        let refused = api.refused(Method::PUT, path, body).await;
        assert_eq!(refused, bad_request(reason), "{path}");
    }
}

#[tokio::test]
async fn deletes_have_conditions() {
    let api = Api::new();
    for queue in ["full", "used"] {
        api.put(&format!("/queues/%2F/{queue}"), json!({})).await;
    }
    api.node.connect(1, "guest");
    api.node.consume("used", 1);
    publish(&api, "full", json!({})).await;
    let path = "/queues/%2F/full?if-empty=true";
    let refused = api.refused(Method::DELETE, path, "").await;
    assert_eq!(refused, bad_request("queue 'full' in vhost '/' not empty"));
    let path = "/queues/%2F/used?if-unused=true";
    let refused = api.refused(Method::DELETE, path, "").await;
    assert_eq!(refused, bad_request("queue 'used' in vhost '/' in use"));
    api.delete("/queues/%2F/full/contents").await;
    assert_eq!(api.get("/queues/%2F/full").await["messages"], 0);
    api.delete("/queues/%2F/full?if-empty=true&if-unused=true")
        .await;

    api.put("/exchanges/%2F/x", json!({"type": "fanout"})).await;
    api.post("/bindings/%2F/e/x/q/used", json!({})).await;
    let (status, _) = api
        .refused(Method::DELETE, "/exchanges/%2F/x?if-unused=true", "")
        .await;
    assert_eq!(status, 400);
    api.delete("/exchanges/%2F/x").await;
}

#[tokio::test]
async fn exclusive_queues_are_left_to_their_connection() {
    let api = Api::new();
    api.node.connect(1, "guest");
    api.node.declare_exclusive("mine", 1);
    let queue = api.get("/queues/%2F/mine").await;
    assert_eq!(queue["exclusive"], true);
    assert_eq!(queue["owner_pid_details"]["peer_port"], 50_001);
    for path in ["/queues/%2F/mine", "/queues/%2F/mine/contents"] {
        assert_eq!(api.refused(Method::DELETE, path, "").await.0, 400, "{path}");
    }
    let locked = bad_request("cannot obtain exclusive access to locked queue 'mine' in vhost '/'");
    let path = "/bindings/%2F/e/amq.direct/q/mine";
    assert_eq!(api.refused(Method::POST, path, r#"{"routing_key": "k"}"#).await, locked);
    api.node.bind("/", "amq.direct", "mine", "k");
    let path = "/bindings/%2F/e/amq.direct/q/mine/k";
    assert_eq!(api.refused(Method::DELETE, path, "").await, locked);
    let default = api.refused(Method::POST, "/bindings/%2F/e/amq.default/q/mine", "{}").await;
    assert_eq!(default.0, 401, "{default:?}");
}

async fn publish(api: &Api, key: &str, properties: Json) -> Json {
    let message = json!({
        "routing_key": key, "properties": properties, "payload": "1aaa",
        "payload_encoding": "string",
    });
    api.post("/exchanges/%2F/amq.default/publish", message)
        .await
}

async fn get(api: &Api, queue: &str, body: Json) -> Json {
    api.post(&format!("/queues/%2F/{queue}/get"), body).await
}

#[tokio::test]
async fn messages_go_in_and_come_out() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({})).await;
    assert_eq!(
        publish(&api, "nowhere", json!({})).await,
        json!({"routed": false})
    );
    let headers = json!({"x-forwarding": [{"uri": "amqp://localhost/%2F/upstream"}]});
    let properties = json!({"delivery_mode": 2, "headers": headers});
    assert_eq!(
        publish(&api, "q", properties.clone()).await,
        json!({"routed": true})
    );
    publish(&api, "q", json!({})).await;

    let look = json!({"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let messages = get(&api, "q", look.clone()).await;
    assert_eq!(
        messages[0],
        json!({
            "payload_bytes": 4, "redelivered": false, "exchange": "", "routing_key": "q",
            "message_count": 1, "properties": properties, "payload": "1aaa",
            "payload_encoding": "string",
        })
    );
    assert_eq!(messages[1]["message_count"], 0);
    let take = json!({
        "count": "1", "ackmode": "ack_requeue_false", "encoding": "base64", "truncate": 2,
    });
    let taken = get(&api, "q", take).await;
    assert_eq!(taken.as_array().unwrap().len(), 1);
    assert_eq!(taken[0]["redelivered"], true);
    assert_eq!(
        (&taken[0]["payload"], &taken[0]["payload_bytes"]),
        (&json!("MWE="), &json!(4))
    );
    assert_eq!(get(&api, "q", look).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn payloads_are_text_or_base64() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({})).await;
    let message = |payload: Json, encoding: &str| {
        json!({
            "routing_key": "q", "properties": {}, "payload": payload, "payload_encoding": encoding,
        })
        .to_string()
    };
    let path = "/exchanges/%2F/amq.default/publish";
    for (payload, encoding, status) in [
        (json!("/w=="), "base64", 200),
        (json!("flibble"), "base64", 400),
        (json!("YWJjZA=="), "base99", 400),
        (json!(["no text"]), "string", 400),
    ] {
        let answer = api
            .call(Method::POST, path, &message(payload, encoding))
            .await;
        assert_eq!(answer.status, status, "{encoding}: {}", answer.body);
    }
    let take = json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"});
    let taken = get(&api, "q", take).await;
    assert_eq!(
        (&taken[0]["payload"], &taken[0]["payload_encoding"]),
        (&json!("/w=="), &json!("base64"))
    );
}

#[tokio::test]
async fn a_message_cannot_claim_another_user() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({})).await;
    assert_eq!(
        publish(&api, "q", json!({"user_id": "guest"})).await,
        json!({"routed": true})
    );
    let message = json!({
        "routing_key": "q", "properties": {"user_id": "foo"}, "payload": "",
        "payload_encoding": "string",
    });
    let path = "/exchanges/%2F/amq.default/publish";
    assert_eq!(
        api.refused(Method::POST, path, &message.to_string())
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn bindings_are_found_by_their_properties_key() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({})).await;
    api.put("/exchanges/%2F/x", json!({"type": "topic"})).await;
    let path = "/bindings/%2F/e/x/q/q";
    for (key, arguments) in [
        ("", json!({})),
        ("orders.#", json!({})),
        ("50% ~ off", json!({})),
        ("", json!({"a": "b"})),
        ("k", json!({"a": "b", "n": 1})),
        ("k", json!({"a": "c"})),
    ] {
        let body = json!({"routing_key": key, "arguments": arguments}).to_string();
        let answer = api.call(Method::POST, path, &body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let location = answer.headers[LOCATION].to_str().unwrap().to_owned();
        let shown = api.get(&format!("/bindings/%2F/e/x/q/{location}")).await;
        assert_eq!(
            (&shown["routing_key"], &shown["arguments"]),
            (&json!(key), &arguments)
        );
    }
    let all = api.get(path).await;
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 6);
    for (turn, binding) in all.iter().enumerate() {
        let key = binding["properties_key"].as_str().unwrap();
        // As it was shown, or quoted once more.
        let key = if turn % 2 == 0 {
            key.to_owned()
        } else {
            key.replace('%', "%25")
        };
        api.delete(&format!("{path}/{key}")).await;
    }
    assert_eq!(api.get(path).await, json!([]));
    assert_eq!(
        api.refused(Method::DELETE, "/bindings/%2F/e/x/q/q/k", "")
            .await,
        not_found()
    );
}

#[tokio::test]
async fn bindings_of_the_default_exchange_are_shown() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({})).await;
    let implied = json!({
        "source": "", "vhost": "/", "destination": "q", "destination_type": "queue",
        "routing_key": "q", "arguments": {}, "properties_key": "q",
    });
    for path in [
        "/bindings",
        "/bindings/%2F",
        "/queues/%2F/q/bindings",
        "/exchanges/%2F/amq.default/bindings/source",
        "/bindings/%2F/e/amq.default/q/q",
    ] {
        assert_eq!(api.get(path).await, json!([implied]), "{path}");
    }
    assert_eq!(api.get("/bindings/%2F/e/amq.default/q/q/q").await, implied);
    for (method, path, reason) in [
        (
            Method::POST,
            "/bindings/%2F/e/no/q/q",
            "no exchange 'no' in vhost '/'",
        ),
        (
            Method::POST,
            "/bindings/%2F/e/amq.direct/q/no",
            "no queue 'no' in vhost '/'",
        ),
    ] {
        let refused = api.refused(method, path, "{}").await;
        assert_eq!(
            refused,
            (404, json!({"error": "not_found", "reason": reason}))
        );
    }
}

#[tokio::test]
async fn a_virtual_host_is_open_to_who_made_it() {
    let api = Api::new();
    assert_eq!(
        api.put("/vhosts/v", json!({"tags": ["a", "b"], "tracing": true}))
            .await,
        201
    );
    assert_eq!(api.put("/vhosts/v", json!({"description": "d"})).await, 204);
    let vhost = api.get("/vhosts/v").await;
    assert_eq!(vhost["tags"], json!(["a", "b"]));
    assert_eq!(
        (&vhost["description"], &vhost["tracing"]),
        (&json!("d"), &json!(true))
    );
    assert_eq!(vhost["cluster_state"], json!({NODE: "running"}));
    assert_eq!(vhost["default_queue_type"], "undefined");
    assert_eq!(api.get("/permissions/v/guest").await["configure"], ".*");
    api.put("/queues/v/q", json!({})).await;
    api.delete("/vhosts/v").await;
    assert_eq!(api.refused(Method::GET, "/vhosts/v", "").await, not_found());
}

#[tokio::test]
async fn users_log_in_with_password_or_hash_and_not_without() {
    let api = Api::new();
    let hash = api.get("/auth/hash_password/secret").await["ok"].clone();
    for (user, body, status) in [
        (
            "plain",
            json!({"password": "plain", "tags": "management, monitoring"}),
            200,
        ),
        ("none", json!({"tags": "management"}), 401),
        (
            "empty",
            json!({"password": "", "tags": ["management"]}),
            401,
        ),
    ] {
        assert_eq!(api.put(&format!("/users/{user}"), body).await, 201);
        assert_eq!(
            api.call_as(user, Method::GET, "/whoami", "").await.status,
            status,
            "{user}"
        );
    }
    assert_eq!(
        api.get("/users/plain").await["tags"],
        json!(["management", "monitoring"])
    );
    api.put("/users/hashed", json!({"password_hash": hash, "tags": ""}))
        .await;
    assert_eq!(api.get("/users/hashed").await["password_hash"], hash);
    let login = json!({"username": "hashed", "password": "secret"});
    let answer = api
        .operate(Method::POST, "/internal/authenticate-user", login)
        .await;
    assert_eq!(answer.body, json!({"authenticated": true}));
    for body in [
        json!({"password_hash": "not base64!", "tags": ""}),
        json!({"password": "x", "password_hash": hash, "tags": ""}),
        json!({"password": "x", "hashing_algorithm": "rot13", "tags": ""}),
    ] {
        assert_eq!(
            api.refused(Method::PUT, "/users/x", &body.to_string())
                .await
                .0,
            400,
            "{body}"
        );
    }
    let without: Vec<Json> = api
        .get("/users/without-permissions")
        .await
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(without.len(), 4);
    api.post(
        "/users/bulk-delete",
        json!({"users": ["plain", "none", "nobody"]}),
    )
    .await;
    assert_eq!(api.get("/users").await.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn connections_are_closed_with_the_reason_given() {
    let api = Api::new();
    let name = api
        .node
        .connect(7, "guest")
        .replace(' ', "%20")
        .replace('>', "%3E");
    api.node.connect(8, "guest");
    assert_eq!(api.get("/connections").await.as_array().unwrap().len(), 2);
    let mut request =
        super::request_as("guest", Method::DELETE, &format!("/connections/{name}"), "");
    request
        .headers_mut()
        .insert("X-Reason", "maintenance".parse().unwrap());
    assert_eq!(api.send(request).await.status, 204);
    assert_eq!(
        api.call(Method::DELETE, &format!("/connections/{name}"), "")
            .await
            .status,
        404
    );
    api.delete("/connections/username/guest").await;
    let log = api.node.state().log.clone();
    assert_eq!(
        log,
        [
            "close 7 maintenance",
            "close 8 Closed via management plugin"
        ]
    );
}

#[tokio::test]
async fn mirrors_are_listed_where_a_policy_asks_for_them() {
    let api = Api::new();
    let policy = json!({"pattern": "^m", "definition": {"ha-mode": "all"}});
    api.put("/policies/%2F/ha", policy).await;
    api.put("/queues/%2F/m", json!({})).await;
    let queue = api.get("/queues/%2F/m").await;
    assert_eq!(queue["policy"], "ha");
    assert_eq!(
        queue["effective_policy_definition"],
        json!({"ha-mode": "all"})
    );
    assert_eq!(
        (&queue["slave_nodes"], &queue["recoverable_slaves"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(queue["synchronised_slave_nodes"], json!([]));
    api.post("/queues/%2F/m/actions", json!({"action": "sync"}))
        .await;
    api.post("/queues/%2F/m/actions", json!({"action": "cancel_sync"}))
        .await;
    let id = api.node.state().log.clone();
    assert!(
        id[0].starts_with("synchronize ") && id[0].ends_with(" true") && id[1].ends_with("false")
    );
    let refused = api
        .refused(
            Method::POST,
            "/queues/%2F/m/actions",
            "{\"action\": \"dance\"}",
        )
        .await;
    assert_eq!(refused, bad_request(json!(["unknown", "dance"])));
}

#[tokio::test]
async fn the_last_copy_of_a_mirrored_queue_makes_its_node_critical() {
    let api = Api::new();
    api.put(
        "/policies/%2F/ha",
        json!({"pattern": ".*", "definition": {"ha-mode": "all"}}),
    )
    .await;
    let path = "/health/checks/node-is-mirror-sync-critical";
    assert_eq!(api.get(path).await["reason"], "single node cluster");
    for peer in ["warren@b", "warren@c"] {
        api.node.state().add_node(peer);
    }
    assert_eq!(api.get(path).await, json!({"status": "ok"}));
    api.put("/queues/%2F/q", json!({})).await;
    let (status, body) = api.refused(Method::GET, path, "").await;
    assert_eq!(
        (status, &body["queues"][0]["readable_name"]),
        (503, &json!("queue 'q' in vhost '/'"))
    );
    // The metadata would lose its majority.
    api.delete("/queues/%2F/q").await;
    let path = "/health/checks/node-is-quorum-critical";
    assert_eq!(api.get(path).await, json!({"status": "ok"}));
    api.node.state().stop_node("warren@c");
    assert_eq!(api.refused(Method::GET, path, "").await.0, 503);
}

#[tokio::test]
async fn alarms_and_certificates_fail_their_checks() {
    let api = Api::new();
    api.node.state().nodes[0].memory_alarm = true;
    for path in ["/health/checks/alarms", "/health/checks/local-alarms"] {
        let (status, body) = api.refused(Method::GET, path, "").await;
        assert_eq!(status, 503);
        assert_eq!(
            body["alarms"],
            json!([{"node": NODE, "resource": "memory"}])
        );
    }
    let node = api.get("/healthchecks/node").await;
    assert_eq!(node["reason"], "resource alarm(s) in effect:[memory]");

    let listener = node_status(NODE).listeners[0].clone();
    let in_ten_days = super::fake::NOW + 10 * 86_400_000;
    api.node
        .state()
        .certificates
        .push(crate::node::Certificate {
            listener,
            kind: "certfile",
            path: "/etc/cert.pem".to_owned(),
            not_after: in_ten_days,
        });
    let path = "/health/checks/certificate-expiration";
    assert_eq!(
        api.get(&format!("{path}/9/days")).await,
        json!({"status": "ok"})
    );
    let (status, body) = api
        .refused(Method::GET, &format!("{path}/2/weeks"), "")
        .await;
    assert_eq!(status, 503);
    assert_eq!(
        body["expired"][0]["certfile_expires_on"],
        json!(["2026-11-30 23:31:51"])
    );
    let shown = api
        .operate(Method::GET, "/internal/certificates", json!({}))
        .await;
    assert_eq!(shown.body, body["expired"]);
    assert_eq!(
        api.refused(Method::GET, &format!("{path}/1/moons"), "")
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn the_aliveness_test_passes_a_message() {
    let api = Api::new();
    assert_eq!(
        api.get("/aliveness-test/%2F").await,
        json!({"status": "ok"})
    );
    let queue = api.get("/queues/%2F/aliveness-test").await;
    assert_eq!(
        (&queue["message_stats"]["publish"], &queue["messages"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(
        api.refused(Method::GET, "/aliveness-test/no", "").await,
        not_found()
    );
}

#[tokio::test]
async fn names_are_data_wherever_they_appear() {
    let api = Api::new();
    let name = "<script>alert(\"1\")</script>&'../";
    let quoted = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    api.put(&format!("/queues/%2F/{quoted}"), json!({})).await;
    assert_eq!(api.get("/queues").await[0]["name"], name);
    let (_, body) = api
        .refused(
            Method::PUT,
            &format!("/queues/%2F/{quoted}"),
            "{\"durable\": true}",
        )
        .await;
    assert!(body["reason"].as_str().unwrap().contains(name));
    let answer = api
        .call(
            Method::GET,
            &format!("/definitions?download={quoted}%0d%0aX:y"),
            "",
        )
        .await;
    let header = answer.headers["content-disposition"].to_str().unwrap();
    assert!(
        header.starts_with("attachment; filename=\"")
            && !header[22..header.len() - 1].contains('"')
    );
}

#[tokio::test]
async fn only_nodes_that_run_have_counters_to_forget() {
    let api = Api::new();
    api.delete("/reset").await;
    api.delete("/reset/warren@here").await;
    assert_eq!(api.refused(Method::DELETE, "/reset/nope", "").await, not_found());
}

#[tokio::test]
async fn mechanisms_are_those_of_the_configuration() {
    let mechanisms = async |offered: &[&'static str]| {
        let settings = Settings { auth_mechanisms: offered.to_vec(), ..Settings::default() };
        let nodes = Api::with(settings).get("/nodes").await;
        let shown = nodes[0]["auth_mechanisms"].as_array().unwrap().clone();
        let short = |it: &Json| (it["name"].as_str().unwrap().to_owned(), it["enabled"] == true);
        shown.iter().map(short).collect::<Vec<_>>()
    };
    let is = |name: &str, enabled: bool| (name.to_owned(), enabled);
    assert_eq!(mechanisms(&["PLAIN", "AMQPLAIN"]).await, [is("PLAIN", true), is("AMQPLAIN", true)]);
    assert_eq!(
        mechanisms(&["EXTERNAL", "PLAIN"]).await,
        [is("PLAIN", true), is("AMQPLAIN", false), is("EXTERNAL", true)]
    );
}
