//! Definitions: out of one node and into another.

use axum::body::Body;
use axum::http::Method;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use serde_json::{Value as Json, json};

use super::{Api, request_as};

/// What a RabbitMQ 3.10 node exports, shortened.
fn exported_by_rabbitmq() -> Json {
    json!({
        "rabbit_version": "3.10.8",
        "rabbitmq_version": "3.10.8",
        "product_name": "RabbitMQ",
        "users": [
            {
                "name": "ops",
                "password_hash": "XZcDf1ELrWVXUpeKyVshqPcY9hjFOKY45+mq7S+xgoNFSIHz",
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": ["administrator"],
                "limits": {"max-channels": 50},
            },
            {"name": "nobody", "password_hash": "", "tags": ""},
        ],
        "vhosts": [
            {"name": "/"},
            {"name": "demo", "metadata": {"description": "d", "tags": ["eu"]}},
        ],
        "permissions": [
            {"user": "ops", "vhost": "demo", "configure": "^a", "write": ".*", "read": ""},
        ],
        "topic_permissions": [
            {"user": "ops", "vhost": "demo", "exchange": "amq.topic", "write": "^a", "read": ".*"},
        ],
        "parameters": [
            {
                "component": "operator_policy", "vhost": "/", "name": "cap",
                "value": {
                    "pattern": ".*", "definition": {"max-length": 9}, "priority": 0,
                    "apply-to": "queues",
                },
            },
            {
                "component": "vhost-limits", "vhost": "demo", "name": "limits",
                "value": {"max-queues": 1000, "max-connections": 100},
            },
        ],
        "global_parameters": [{"name": "cluster_name", "value": "shop"}],
        "policies": [
            {
                "vhost": "/", "name": "ha", "pattern": "^orders", "apply-to": "queues",
                "definition": {"ha-mode": "exactly", "ha-params": 2, "max-length": 100},
                "priority": 5,
            },
        ],
        "queues": [
            {
                "name": "orders", "vhost": "/", "durable": true, "auto_delete": false,
                "arguments": {"x-max-priority": 10, "x-message-ttl": 60_000},
            },
        ],
        "exchanges": [
            {
                "name": "events", "vhost": "/", "type": "topic", "durable": true,
                "auto_delete": false, "internal": false,
                "arguments": {"alternate-exchange": "amq.fanout"},
            },
        ],
        "bindings": [
            {
                "source": "events", "vhost": "/", "destination": "orders",
                "destination_type": "queue", "routing_key": "orders.#", "arguments": {"x": 1},
            },
            {
                "source": "events", "vhost": "/", "destination": "amq.fanout",
                "destination_type": "exchange", "routing_key": "#", "arguments": {},
            },
        ],
    })
}

/// Every entry of `part` is in `whole`, with at least the same fields.
fn assert_contains(whole: &Json, part: &Json) {
    for (section, items) in part.as_object().unwrap() {
        let Json::Array(items) = items else { continue };
        for item in items {
            let same = |other: &&Json| {
                item.as_object().unwrap().iter().all(|(key, value)| {
                    other.get(key) == Some(value)
                        || key == "tags" && *value == "" && other[key] == json!([])
                        || key == "metadata"
                })
            };
            let found = whole[section].as_array().unwrap().iter().find(same);
            assert!(
                found.is_some(),
                "{section} lacks {item}: {}",
                whole[section]
            );
        }
    }
}

#[tokio::test]
async fn what_rabbitmq_exports_is_imported_and_exported_again() {
    let api = Api::new();
    let file = exported_by_rabbitmq();
    let answer = api
        .call(Method::POST, "/definitions", &file.to_string())
        .await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    let exported = api.get("/definitions").await;
    assert_contains(&exported, &file);
    assert_eq!(exported["rabbitmq_definition_format"], "cluster");
    let demo = api.get("/vhosts/demo").await;
    assert_eq!(
        (&demo["description"], &demo["tags"]),
        (&json!("d"), &json!(["eu"]))
    );

    // Once more, into the same node: nothing changes.
    let before = api.node.state().fingerprint();
    api.post("/definitions", exported.clone()).await;
    assert_eq!(api.get("/definitions").await, exported);
    assert_eq!(api.node.state().fingerprint().1, before.1);

    // And into another.
    let other = Api::new();
    other.post("/definitions", exported.clone()).await;
    assert_eq!(other.get("/definitions").await, exported);
}

#[tokio::test]
async fn exports_leave_out_what_exists_by_itself() {
    let api = Api::new();
    api.node.connect(1, "guest");
    api.node.declare_exclusive("mine", 1);
    api.put("/queues/%2F/q", json!({})).await;
    api.node.bind("/", "amq.direct", "mine", "");
    let exported = api.get("/definitions").await;
    assert_eq!(exported["queues"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&exported["exchanges"], &exported["bindings"]),
        (&json!([]), &json!([]))
    );
}

#[tokio::test]
async fn one_virtual_host_moves_into_another() {
    let api = Api::new();
    api.post("/definitions", exported_by_rabbitmq()).await;
    let exported = api.get("/definitions/%2F").await;
    assert_eq!(exported["original_vhost_name"], "/");
    assert!(exported["queues"][0].get("vhost").is_none());
    assert!(exported.get("users").is_none());
    api.put("/vhosts/copy", json!({})).await;
    api.post("/definitions/copy", exported.clone()).await;
    let mut copy = api.get("/definitions/copy").await;
    copy["original_vhost_name"] = json!("/");
    assert_eq!(copy, exported);

    let refused = api
        .refused(Method::POST, "/definitions", &exported.to_string())
        .await;
    assert_eq!(refused.1["reason"], "invalid_definitions_file");
    assert_eq!(
        api.refused(Method::POST, "/definitions/no", "{}").await.0,
        404
    );
    assert_eq!(api.refused(Method::GET, "/definitions/no", "").await.0, 400);
}

#[tokio::test]
async fn a_bad_file_says_which_entry_is_bad() {
    let api = Api::new();
    for (file, reason) in [
        (
            json!({"users": [{"name": "x"}]}),
            "tags_not_present (users/x)",
        ),
        (json!({"users": {}}), "users is not a list"),
        (
            json!({"policies": [{
                "vhost": "/", "name": "p", "pattern": "(", "definition": {"expires": 1},
            }]}),
            "",
        ),
        (
            json!({"bindings": [{
                "vhost": "/", "source": "no", "destination": "amq.fanout",
                "destination_type": "exchange",
            }]}),
            "no exchange 'no' in vhost '/'",
        ),
    ] {
        let (status, body) = api
            .refused(Method::POST, "/definitions", &file.to_string())
            .await;
        assert_eq!(status, 400, "{file}");
        if !reason.is_empty() {
            assert_eq!(body["reason"], reason);
        }
    }
    let (_, body) = api.refused(Method::POST, "/definitions", "{").await;
    assert_eq!(body["reason"], "failed_to_parse_json");
}

#[tokio::test]
async fn old_hashes_are_md5() {
    let api = Api::new();
    for (version, algorithm) in [("3.5.7", "md5"), ("3.6.0", "sha256")] {
        let user =
            json!({"name": "u", "password_hash": "IECV6PZI/Invh0DL187KFpkO5Jc=", "tags": ""});
        api.post(
            "/definitions",
            json!({"rabbit_version": version, "users": [user]}),
        )
        .await;
        let shown = api.get("/users/u").await;
        assert_eq!(
            shown["hashing_algorithm"],
            format!("rabbit_password_hashing_{algorithm}")
        );
    }
}

#[tokio::test]
async fn a_browsers_form_is_taken_too() {
    let api = Api::new();
    for (redirect, status, location) in [
        ("", 204, None),
        ("/#/import-succeeded", 303, Some("/#/import-succeeded")),
        ("https://evil.example/", 204, None),
        ("//evil.example/", 204, None),
    ] {
        let file = json!({"vhosts": [{"name": "from-form"}]});
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"redirect\"\r\n\r\n{redirect}\r\n\
             --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.json\"\r\n\
             Content-Type: application/json\r\n\r\n{file}\r\n--b--\r\n"
        );
        let mut request = request_as("guest", Method::POST, "/definitions", "");
        request.headers_mut().insert(
            CONTENT_TYPE,
            "multipart/form-data; boundary=b".parse().unwrap(),
        );
        *request.body_mut() = Body::from(body);
        let answer = api.send(request).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        let to = answer.headers.get(LOCATION).map(|it| it.to_str().unwrap());
        assert_eq!(to, location);
        assert_eq!(api.get("/vhosts/from-form").await["name"], "from-form");
    }
}

#[tokio::test]
async fn an_imported_virtual_host_whose_default_type_is_not_served_has_classic_queues() {
    let api = Api::new();
    let file = json!({
        "vhosts": [
            {"name": "q", "default_queue_type": "quorum"},
            {"name": "s", "metadata": {"default_queue_type": "stream"}},
        ],
        "queues": [
            {"name": "orders", "vhost": "q", "durable": true, "auto_delete": false, "arguments": {}},
        ],
    });
    api.post("/definitions", file).await;
    for vhost in ["q", "s"] {
        let shown = api.get(&format!("/vhosts/{vhost}")).await;
        assert_eq!(shown["default_queue_type"], "classic");
    }
    assert_eq!(api.get("/queues/q/orders").await["type"], "classic");
}
