//! What the operator alone may do.

use axum::http::Method;
use serde_json::{Value as Json, json};

use super::Api;
use super::fake::NODE;

#[tokio::test]
async fn users_are_added_once_and_keep_their_tags() {
    let api = Api::new();
    let bob = json!({"password": "one"});
    let path = "/internal/users/bob";
    assert_eq!(
        api.operate(Method::POST, path, bob.clone()).await.status,
        201
    );
    let again = api.operate(Method::POST, path, bob).await;
    assert_eq!(
        (again.status.as_u16(), &again.body["reason"]),
        (400, &json!("user 'bob' already exists"))
    );
    let tags = json!({"tags": ["monitoring", "management"]});
    assert_eq!(
        api.operate(Method::PUT, "/internal/users/bob/tags", tags)
            .await
            .status,
        204
    );
    let login = async |password: &str| {
        let login = json!({"username": "bob", "password": password});
        let answer = api
            .operate(Method::POST, "/internal/authenticate-user", login)
            .await;
        answer.body["authenticated"].clone()
    };
    assert_eq!(
        (login("one").await, login("two").await),
        (json!(true), json!(false))
    );
    let path = "/internal/users/bob/password";
    assert_eq!(
        api.operate(Method::PUT, path, json!({"password": "two"}))
            .await
            .status,
        204
    );
    assert_eq!(
        (login("one").await, login("two").await),
        (json!(false), json!(true))
    );
    assert_eq!(
        api.get("/users/bob").await["tags"],
        json!(["monitoring", "management"])
    );
    assert_eq!(api.operate(Method::PUT, path, json!({})).await.status, 204);
    assert_eq!(
        (login("two").await, login("").await),
        (json!(false), json!(false))
    );
    let path = "/internal/users/no/password";
    assert_eq!(api.operate(Method::PUT, path, json!({})).await.status, 404);
}

#[tokio::test]
async fn queues_say_how_much_they_lost() {
    let api = Api::new();
    api.node.connect(1, "guest");
    api.node.declare_exclusive("q", 1);
    let message = json!({
        "routing_key": "q", "properties": {}, "payload": "", "payload_encoding": "string",
    });
    for _ in 0..3 {
        api.post("/exchanges/%2F/amq.default/publish", message.clone())
            .await;
    }
    let purge = api
        .operate(Method::DELETE, "/internal/queues/%2F/q/contents", json!({}))
        .await;
    assert_eq!(purge.body, json!({"messages": 3}));
    api.post("/exchanges/%2F/amq.default/publish", message)
        .await;
    let path = "/internal/queues/%2F/q?if-empty=true";
    assert_eq!(
        api.operate(Method::DELETE, path, json!({})).await.status,
        400
    );
    let delete = api
        .operate(Method::DELETE, "/internal/queues/%2F/q", json!({}))
        .await;
    assert_eq!(delete.body, json!({"messages": 1}));
    let again = api
        .operate(Method::DELETE, "/internal/queues/%2F/q", json!({}))
        .await;
    assert_eq!(again.status, 404);
}

#[tokio::test]
async fn limits_go_all_at_once() {
    let api = Api::new();
    for limit in ["max-queues", "max-connections"] {
        api.put(&format!("/vhost-limits/%2F/{limit}"), json!({"value": 5}))
            .await;
    }
    for limit in ["max-channels", "max-connections"] {
        api.put(&format!("/user-limits/guest/{limit}"), json!({"value": 5}))
            .await;
    }
    for (path, list) in [
        ("/internal/vhost-limits/%2F", "/vhost-limits"),
        ("/internal/user-limits/guest", "/user-limits"),
    ] {
        assert_eq!(api.get(list).await.as_array().unwrap().len(), 1);
        assert_eq!(
            api.operate(Method::DELETE, path, json!({})).await.status,
            204
        );
        assert_eq!(api.get(list).await, json!([]));
    }
}

#[tokio::test]
async fn connections_are_closed_in_numbers() {
    let api = Api::new();
    for id in 1..=4 {
        api.node.connect(id, "guest");
    }
    let close = async |body: Json| {
        let path = "/internal/close-connections";
        api.operate(Method::POST, path, body).await.body["closed"].clone()
    };
    assert_eq!(close(json!({"reason": "r", "vhost": "other"})).await, 0);
    assert_eq!(
        close(json!({"reason": "r", "user": "guest", "limit": 1})).await,
        1
    );
    assert_eq!(
        close(json!({"reason": "r", "limit": 0, "node": NODE})).await,
        3
    );
    assert_eq!(close(json!({"reason": "r"})).await, 0);
}

#[tokio::test]
async fn the_node_is_told() {
    let api = Api::new();
    for (method, path, body, status) in [
        (
            Method::PUT,
            "/internal/memory-watermark",
            json!({"relative": 0.5}),
            204,
        ),
        (
            Method::PUT,
            "/internal/memory-watermark",
            json!({"relative": 1.5}),
            400,
        ),
        (
            Method::PUT,
            "/internal/memory-watermark",
            json!({"absolute": 1000}),
            204,
        ),
        (
            Method::PUT,
            "/internal/disk-free-limit",
            json!({"relative": 1.5}),
            204,
        ),
        (
            Method::PUT,
            "/internal/disk-free-limit",
            json!({"absolute": -1}),
            400,
        ),
        (Method::PUT, "/internal/disk-free-limit", json!({}), 400),
        (
            Method::PUT,
            "/internal/log-level",
            json!({"level": "debug"}),
            204,
        ),
        (
            Method::PUT,
            "/internal/log-level",
            json!({"level": "loud"}),
            400,
        ),
        (Method::POST, "/rebalance/queues", json!({}), 204),
        (Method::POST, "/internal/stop", json!({}), 204),
    ] {
        assert_eq!(
            api.operate(method, path, body.clone()).await.status,
            status,
            "{path} {body}"
        );
    }
    assert_eq!(
        api.node.state().log,
        [
            "memory Relative(0.5)",
            "memory Absolute(1000)",
            "disk Relative(1.5)",
            "level debug",
            "rebalance All true true None false",
            "stop",
        ]
    );
}

#[tokio::test]
async fn status_has_what_the_command_line_shows() {
    let api = Api::new();
    let status = api
        .operate(Method::GET, "/internal/status", json!({}))
        .await
        .body;
    for key in [
        "os",
        "pid",
        "uptime",
        "is_under_maintenance",
        "rabbitmq_version",
        "erlang_version",
        "active_plugins",
        "data_directory",
        "config_files",
        "log_files",
        "alarms",
        "memory",
        "vm_memory_high_watermark_limit",
        "file_descriptors",
        "disk_free",
        "disk_free_limit",
        "totals",
        "listeners",
    ] {
        assert!(status.get(key).is_some(), "{key}");
    }
    assert_eq!(status["listeners"][0]["interface"], "[::]");
    assert_eq!(status["is_booted"], true);
    assert_eq!(status["vm_memory_high_watermark_setting"], 0.4);
    let shares = status["memory"].as_object().unwrap();
    let sum: u64 = shares.values().filter_map(Json::as_u64).sum();
    assert_eq!(sum, 1_000_000, "the shares add up to what is used");
    let cluster = api
        .operate(Method::GET, "/internal/cluster-status", json!({}))
        .await
        .body;
    assert_eq!(cluster["running_nodes"], json!([NODE]));
    let environment = api
        .operate(Method::GET, "/internal/environment", json!({}))
        .await
        .body;
    assert_eq!(environment, json!({"heartbeat": "60"}));
}
