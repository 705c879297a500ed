//! Who may do what: every route with every kind of user, and every right that a write needs.
//!
//! What is expected is written down here by itself, route by route, and compared with what the router
//! does. A route that is missing from these lists fails the test.

use axum::http::Method;
use broker::metadata::Command;
use serde_json::json;

use super::{Answer, Api};
use crate::routes;

/// Users of the test, besides nobody (the empty name). All have permissions in `own`, none in `other`.
const USERS: [&str; 6] = [
    "",
    "none",
    "management",
    "policymaker",
    "monitoring",
    "administrator",
];

const OPEN: &str = "
    GET /version
    GET /auth
    GET /health/checks/is-in-service
    GET /health/checks/ready-to-serve-clients
    GET /health/checks/below-node-connection-limit
    GET /health/checks/reached-target-cluster-size";

const ANY_TAG: &str = "
    GET /overview
    GET /cluster-name
    GET /whoami
    GET /extensions
    GET /feature-flags
    GET /deprecated-features
    GET /deprecated-features/used
    GET /vhosts
    GET /connections
    GET /channels
    GET /consumers
    GET /health/checks/alarms
    GET /health/checks/local-alarms
    GET /health/checks/certificate-expiration/{within}/{unit}
    GET /health/checks/port-listener/{port}
    GET /health/checks/protocol-listener/{protocol}
    GET /health/checks/virtual-hosts
    GET /health/checks/node-is-quorum-critical
    GET /health/checks/node-is-mirror-sync-critical
    GET /healthchecks/node
    GET /healthchecks/node/{node}";

const MONITOR: &str = "
    GET /auth/attempts/{node}
    GET /auth/attempts/{node}/source
    GET /nodes
    GET /nodes/{node}
    GET /nodes/{node}/memory
    GET /nodes/{node}/memory/relative";

/// The object belongs to the user `management`.
const OWNER_OR_MONITOR: &str = "
    GET /connections/{connection}
    GET /connections/{connection}/channels
    GET /connections/username/{username}
    GET /channels/{channel}";

const OWNER_OR_ADMINISTRATOR: &str = "
    DELETE /connections/{connection}
    DELETE /connections/username/{username}";

const VHOST: &str = "
    GET /exchanges
    GET /exchanges/{vhost}
    GET /exchanges/{vhost}/{exchange}
    PUT /exchanges/{vhost}/{exchange}
    DELETE /exchanges/{vhost}/{exchange}
    POST /exchanges/{vhost}/{exchange}/publish
    GET /exchanges/{vhost}/{exchange}/bindings/source
    GET /exchanges/{vhost}/{exchange}/bindings/destination
    GET /queues
    GET /queues/detailed
    GET /queues/{vhost}
    GET /queues/{vhost}/{queue}
    PUT /queues/{vhost}/{queue}
    DELETE /queues/{vhost}/{queue}
    GET /queues/{vhost}/{queue}/bindings
    DELETE /queues/{vhost}/{queue}/contents
    POST /queues/{vhost}/{queue}/get
    GET /bindings
    GET /bindings/{vhost}
    GET /bindings/{vhost}/e/{source}/{dtype}/{destination}
    POST /bindings/{vhost}/e/{source}/{dtype}/{destination}
    GET /bindings/{vhost}/e/{source}/{dtype}/{destination}/{props}
    DELETE /bindings/{vhost}/e/{source}/{dtype}/{destination}/{props}
    GET /policies
    GET /policies/{vhost}
    GET /operator-policies
    GET /operator-policies/{vhost}
    GET /vhosts/{vhost}/connections
    GET /vhosts/{vhost}/channels
    GET /consumers/{vhost}
    GET /aliveness-test/{vhost}";

const VHOST_OR_MONITOR: &str = "
    GET /vhost-limits
    GET /vhost-limits/{vhost}
    GET /user-limits
    GET /user-limits/{user}";

const VHOST_POLICYMAKER: &str = "
    GET /policies/{vhost}/{name}
    PUT /policies/{vhost}/{name}
    DELETE /policies/{vhost}/{name}
    GET /parameters
    GET /parameters/{component}
    GET /parameters/{component}/{vhost}
    GET /parameters/{component}/{vhost}/{name}
    PUT /parameters/{component}/{vhost}/{name}
    DELETE /parameters/{component}/{vhost}/{name}";

const POLICYMAKER: &str = "
    GET /global-parameters
    GET /global-parameters/{name}
    PUT /global-parameters/{name}
    DELETE /global-parameters/{name}";

const ADMINISTRATOR: &str = "
    PUT /cluster-name
    GET /auth/hash_password/{password}
    PUT /feature-flags/{name}/enable
    GET /config/effective
    DELETE /reset
    DELETE /reset/{node}
    POST /rebalance/queues
    GET /definitions
    POST /definitions
    GET /definitions/{vhost}
    POST /definitions/{vhost}
    GET /all-configuration
    POST /all-configuration
    GET /vhosts/{vhost}
    PUT /vhosts/{vhost}
    DELETE /vhosts/{vhost}
    POST /vhosts/{vhost}/start/{node}
    GET /vhosts/{vhost}/permissions
    GET /vhosts/{vhost}/topic-permissions
    GET /users
    GET /users/without-permissions
    POST /users/bulk-delete
    GET /users/{user}
    PUT /users/{user}
    DELETE /users/{user}
    GET /users/{user}/permissions
    GET /users/{user}/topic-permissions
    GET /permissions
    GET /permissions/{vhost}/{user}
    PUT /permissions/{vhost}/{user}
    DELETE /permissions/{vhost}/{user}
    GET /topic-permissions
    GET /topic-permissions/{vhost}/{user}
    PUT /topic-permissions/{vhost}/{user}
    DELETE /topic-permissions/{vhost}/{user}
    DELETE /topic-permissions/{vhost}/{user}/{exchange}
    PUT /vhost-limits/{vhost}/{name}
    DELETE /vhost-limits/{vhost}/{name}
    PUT /user-limits/{user}/{name}
    DELETE /user-limits/{user}/{name}
    GET /operator-policies/{vhost}/{name}
    PUT /operator-policies/{vhost}/{name}
    DELETE /operator-policies/{vhost}/{name}
    POST /queues/{vhost}/{queue}/actions";

/// Whether the users, in their order, may use a route of each list: in `own`, and in `other`.
type Allowed = [bool; 6];
const EXPECTED: [(&str, Allowed, Allowed); 11] = {
    const ALL: Allowed = [true; 6];
    const TAGGED: Allowed = [false, false, true, true, true, true];
    const MONITORS: Allowed = [false, false, false, false, true, true];
    const POLICYMAKERS: Allowed = [false, false, false, true, false, true];
    const ADMINISTRATORS: Allowed = [false, false, false, false, false, true];
    const OWNER_TOO: Allowed = [false, false, true, false, true, true];
    const OWNER_AND_ADMINISTRATOR: Allowed = [false, false, true, false, false, true];
    [
        (OPEN, ALL, ALL),
        (ANY_TAG, TAGGED, TAGGED),
        (MONITOR, MONITORS, MONITORS),
        (OWNER_OR_MONITOR, OWNER_TOO, OWNER_TOO),
        (
            OWNER_OR_ADMINISTRATOR,
            OWNER_AND_ADMINISTRATOR,
            OWNER_AND_ADMINISTRATOR,
        ),
        (VHOST, TAGGED, ADMINISTRATORS),
        (VHOST_OR_MONITOR, TAGGED, MONITORS),
        (VHOST_POLICYMAKER, POLICYMAKERS, ADMINISTRATORS),
        (POLICYMAKER, POLICYMAKERS, POLICYMAKERS),
        (ADMINISTRATOR, ADMINISTRATORS, ADMINISTRATORS),
        ("", ALL, ALL),
    ]
};

fn prepared() -> Api {
    let api = Api::new();
    for vhost in ["own", "other"] {
        api.node.put_vhost(vhost);
        api.node.declare(vhost, "q");
    }
    for user in &USERS[1..] {
        let tags: &[&str] = if *user == "none" { &[] } else { &[user] };
        api.node.add_user(user, tags);
        api.node.grant(user, "own", ".*");
    }
    api.node.connect(1, "management");
    api
}

/// A path of the table with names in it that exist.
fn path_in(path: &str, vhost: &str) -> String {
    let mut filled = String::new();
    for segment in path.split('/').skip(1) {
        let segment = match segment {
            "{vhost}" => vhost,
            "{queue}" | "{destination}" | "{props}" => "q",
            "{source}" => "amq.default",
            "{exchange}" => "amq.direct",
            "{dtype}" => "q",
            "{node}" => super::fake::NODE,
            "{connection}" => "127.0.0.1:50001%20-%3E%20127.0.0.1:5672",
            "{channel}" => "127.0.0.1:50001%20-%3E%20127.0.0.1:5672%20(1)",
            "{username}" => "management",
            "{user}" => "none",
            "{within}" => "1",
            "{unit}" => "days",
            other if other.starts_with('{') => "x",
            other => other,
        };
        filled = format!("{filled}/{segment}");
    }
    filled
}

/// Refused for want of a tag, or of access to the virtual host. A missing AMQP permission comes later.
fn is_refused(answer: &Answer) -> bool {
    let reason = answer.body["reason"].as_str().unwrap_or_default();
    answer.status == 401 && !reason.starts_with("ACCESS_REFUSED")
}

#[tokio::test]
async fn every_route_admits_whom_it_should_and_changes_nothing_for_others() {
    let mut cells = 0;
    let mut api = prepared();
    for route in routes::table()
        .iter()
        .filter(|route| !route.path.starts_with("/internal/"))
    {
        let line = format!("{} {}", route.method, route.path);
        let lists: Vec<_> = EXPECTED
            .iter()
            .filter(|(list, ..)| list.lines().any(|known| known.trim() == line))
            .collect();
        let [(_, own, other)] = lists[..] else {
            panic!("{line} stands in {} lists", lists.len());
        };
        // Without a virtual host in the path there is none to be kept out of.
        let vhosts = if route.path.contains("{vhost}") {
            &["own", "other"][..]
        } else {
            &["own"]
        };
        for vhost in vhosts {
            let allowed = if *vhost == "own" { own } else { other };
            for (user, allowed) in USERS.iter().zip(allowed) {
                let before = api.node.state().fingerprint();
                let path = path_in(route.path, vhost);
                let answer = api.call_as(user, route.method.clone(), &path, "{}").await;
                let what = format!("{} {path} as '{user}': {answer:?}", route.method);
                assert_eq!(!is_refused(&answer), *allowed, "{what}");
                if api.node.state().fingerprint() != before {
                    assert!(allowed, "{what}");
                    api = prepared();
                }
                cells += 1;
            }
        }
    }
    assert!(cells > 930, "{cells} cells");
}

#[tokio::test]
async fn all_expected_routes_exist() {
    let known: Vec<String> = routes::table()
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    for line in EXPECTED
        .iter()
        .flat_map(|(list, ..)| list.lines())
        .map(str::trim)
    {
        assert!(
            line.is_empty() || known.iter().any(|known| known == line),
            "{line}"
        );
    }
}

#[tokio::test]
async fn internal_routes_do_not_exist_for_users() {
    for route in routes::table()
        .iter()
        .filter(|route| route.path.starts_with("/internal/"))
    {
        let api = prepared();
        let before = api.node.state().fingerprint();
        let path = path_in(route.path, "own");
        let answer = api
            .call_as("administrator", route.method.clone(), &path, "{}")
            .await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(api.node.state().fingerprint(), before);
    }
}

/// A request, and the rights that it needs on which objects.
struct Write {
    method: Method,
    path: &'static str,
    body: &'static str,
    needs: Vec<(&'static str, &'static str)>,
}

const MESSAGE: &str =
    r#"{"routing_key": "k", "properties": {}, "payload": "", "payload_encoding": "string"}"#;
const GET: &str = r#"{"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}"#;
const DEAD_LETTERS: &str = r#"{"arguments": {"x-dead-letter-exchange": "x"}}"#;
const ALTERNATE: &str = r#"{"type": "topic", "arguments": {"alternate-exchange": "x"}}"#;

fn writes() -> Vec<Write> {
    [
        ("PUT /queues/v/new", "{}", "configure new"),
        (
            "PUT /queues/v/new",
            DEAD_LETTERS,
            "configure new, read new, write x",
        ),
        ("PUT /queues/v/q", "{}", "configure q"),
        ("DELETE /queues/v/q", "", "configure q"),
        ("DELETE /queues/v/q/contents", "", "read q"),
        ("POST /queues/v/q/get", GET, "read q"),
        ("PUT /exchanges/v/new", "{}", "configure new"),
        (
            "PUT /exchanges/v/new",
            ALTERNATE,
            "configure new, read new, write x",
        ),
        ("DELETE /exchanges/v/x", "", "configure x"),
        ("POST /exchanges/v/x/publish", MESSAGE, "write x"),
        ("POST /bindings/v/e/x/q/q", "{}", "write q, read x"),
        ("POST /bindings/v/e/x/e/y", "{}", "write y, read x"),
        ("DELETE /bindings/v/e/x/q/q/k", "", "write q, read x"),
        (
            "GET /aliveness-test/v",
            "",
            "configure aliveness-test, write amq.default, read aliveness-test",
        ),
    ]
    .into_iter()
    .map(|(request, body, needs)| {
        let (method, path) = request.split_once(' ').unwrap();
        let needs = needs.split(", ").map(|need| need.split_once(' ').unwrap());
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Write {
            method,
            path,
            body,
            needs: needs.collect(),
        }
    })
    .collect()
}

/// A virtual host with a queue, two exchanges and a binding, and a user with these patterns.
fn with_patterns(tag: &str, rights: [&str; 3]) -> Api {
    let api = Api::new();
    api.node.put_vhost("v");
    api.node.declare("v", "q");
    for exchange in ["x", "y"] {
        api.node.declare_exchange("v", exchange, "topic");
    }
    api.node.bind("v", "x", "q", "k");
    api.node.add_user("u", &[tag]);
    api.node.state().apply(Command::SetPermission {
        vhost: "v".into(),
        user: "u".into(),
        configure: rights[0].to_owned(),
        write: rights[1].to_owned(),
        read: rights[2].to_owned(),
    });
    api
}

#[tokio::test]
async fn writes_need_the_rights_that_they_need_over_amqp() {
    for write in writes() {
        // Exactly what is needed is enough; all but one of the needs is not.
        for missing in (0..write.needs.len()).map(Some).chain([None]) {
            let mut rights = ["configure", "write", "read"].map(|right| {
                let names: Vec<_> = write
                    .needs
                    .iter()
                    .enumerate()
                    .filter(|(index, (needed, _))| Some(*index) != missing && *needed == right)
                    .map(|(_, (_, name))| format!("^{name}$"))
                    .collect();
                if names.is_empty() {
                    "^$".to_owned()
                } else {
                    names.join("|")
                }
            });
            for tag in ["management", "administrator"] {
                let patterns = rights.each_mut().map(|it| it.as_str());
                let api = with_patterns(tag, patterns);
                let before = api.node.state().fingerprint();
                let (method, path) = (write.method.clone(), write.path);
                let answer = api.call_as("u", method.clone(), path, write.body).await;
                let what = format!("{method} {path} with {rights:?} as {tag}: {answer:?}");
                match missing {
                    None => assert!(answer.status.is_success(), "{what}"),
                    Some(index) => {
                        let (right, name) = write.needs[index];
                        assert_eq!(answer.status, 401, "{what}");
                        let reason = answer.body["reason"].as_str().unwrap();
                        assert!(reason.starts_with(&format!("ACCESS_REFUSED - {right} access to")));
                        assert!(reason.contains(&format!("'{name}' in vhost 'v'")), "{what}");
                        assert_eq!(api.node.state().fingerprint(), before, "{what}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn topic_permissions_count() {
    let api = with_patterns("management", [".*", ".*", ".*"]);
    api.node.state().apply(Command::SetTopicPermission {
        vhost: "v".into(),
        user: "u".into(),
        exchange: "x".into(),
        write: "^mine\\.".to_owned(),
        read: "^shared\\.".to_owned(),
    });
    for (key, status) in [("mine.a", 200), ("shared.a", 401)] {
        let body = json!({
            "routing_key": key, "properties": {}, "payload": "", "payload_encoding": "string",
        });
        let path = "/exchanges/v/x/publish";
        let answer = api
            .call_as("u", Method::POST, path, &body.to_string())
            .await;
        assert_eq!(answer.status, status, "publish {key}");
    }
    for (key, status) in [("mine.a", 401), ("shared.a", 201)] {
        let body = json!({"routing_key": key}).to_string();
        let answer = api
            .call_as("u", Method::POST, "/bindings/v/e/x/q/q", &body)
            .await;
        assert_eq!(answer.status, status, "bind {key}");
    }
}

#[tokio::test]
async fn lists_show_what_the_user_may_see() {
    let api = prepared();
    api.node.connect(2, "administrator");
    let count = async |user: &str, path: &str| {
        let answer = api.call_as(user, Method::GET, path, "").await;
        answer
            .body
            .as_array()
            .unwrap_or_else(|| panic!("{path} as {user}: {answer:?}"))
            .len()
    };
    for (path, management, monitoring, administrator) in [
        ("/queues", 1, 1, 2),
        ("/vhosts", 1, 3, 3),
        ("/connections", 1, 2, 2),
        ("/channels", 1, 2, 2),
    ] {
        assert_eq!(count("management", path).await, management, "{path}");
        assert_eq!(count("monitoring", path).await, monitoring, "{path}");
        assert_eq!(count("administrator", path).await, administrator, "{path}");
    }
    let overview = api
        .call_as("management", Method::GET, "/overview", "")
        .await
        .body;
    assert_eq!(overview["object_totals"]["queues"], 1);
    assert!(overview.get("listeners").is_none());
}
