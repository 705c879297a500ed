//! The process around the broker: with and without a running application.

use axum::http::Method;
use serde_json::{Value as Json, json};

use super::fake::NODE;
use super::{Answer, Api};
use crate::host::{AppState, HostFailure, LastKnown, host_router};

/// An API whose application is in this state; its process is asked.
fn with_app(app: AppState) -> Api {
    let mut api = Api::new();
    api.node.state().app = Some(app);
    api.node.state().last_known = LastKnown {
        cluster_name: "shop".to_owned(),
        disc_nodes: vec!["hare@here".into(), NODE.into()],
        ram_nodes: vec!["ram@here".into()],
        witness_nodes: vec!["witness@here".into()],
    };
    api.router = host_router(api.node.clone());
    api
}

/// Everything that changes something: path, body, what the process is asked, status.
fn changes() -> Vec<(&'static str, Json, &'static str, u16)> {
    vec![
        ("app/start", json!({}), "start app", 204),
        ("app/stop", json!({}), "stop app", 204),
        ("reset", json!({}), "reset false", 204),
        ("reset", json!({"force": true}), "reset true", 204),
        ("cluster/join", json!({"node": "a@b"}), "join a@b disc", 200),
        (
            "cluster/join",
            json!({"node": "a@b:7", "kind": "ram"}),
            "join a@b:7 ram",
            200,
        ),
        ("cluster/kind", json!({"kind": "disk"}), "kind disc", 200),
        ("cluster/force-boot", json!({}), "force boot", 204),
        (
            "cluster/forget-offline",
            json!({"node": "a@b"}),
            "forget offline a@b",
            204,
        ),
        ("cluster/leave", json!({}), "leave false false", 204),
        (
            "cluster/leave",
            json!({"drain": true, "force": true}),
            "leave true true",
            204,
        ),
        ("stop", json!({}), "stop", 204),
    ]
}

#[tokio::test]
async fn the_process_obeys_whether_the_application_runs_or_not() {
    for api in [Api::new(), with_app(AppState::Stopped)] {
        for (path, body, asked, status) in changes() {
            let path = format!("/internal/{path}");
            let answer = api.operate(Method::POST, &path, body).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
            assert_eq!(api.node.state().log.last().unwrap(), asked, "{path}");
        }
        let ask = async |path: &str| api.operate(Method::GET, path, json!({})).await.body;
        assert_eq!(
            ask("/internal/arguments").await,
            json!(["warren", "server"])
        );
        assert_eq!(
            ask("/internal/os-env").await,
            json!({"WARREN_NODENAME": NODE})
        );
        assert_eq!(ask("/version").await, "3.13.7");
    }
}

#[tokio::test]
async fn what_has_happened_is_told() {
    let api = Api::new();
    let post = async |path: &str, body: Json| {
        let path = format!("/internal/cluster/{path}");
        api.operate(Method::POST, &path, body).await
    };
    let join = async |node: &str| post("join", json!({"node": node})).await.body;
    assert_eq!(join("new@here").await, json!({"already": false}));
    assert_eq!(join("known@here").await, json!({"already": true}));
    for (kind, changed) in [("ram", true), ("disc", false)] {
        let answer = post("kind", json!({"kind": kind})).await;
        assert_eq!(answer.body, json!({"changed": changed}));
    }
    assert_eq!(post("kind", json!({"kind": "tape"})).await.status, 400);
    assert_eq!(post("join", json!({})).await.status, 400);
}

#[tokio::test]
async fn without_an_application_the_node_says_what_it_remembers() {
    let why = "waiting for hare@here".to_owned();
    let api = with_app(AppState::Starting { why });
    let ask = async |path: &str| {
        let path = format!("/internal/{path}");
        api.operate(Method::GET, &path, json!({})).await.body
    };
    let app = json!({"state": "starting", "why": "waiting for hare@here"});
    let status = ask("status").await;
    assert_eq!(
        (&status["is_booted"], &status["pid"], &status["app"]),
        (&json!(false), &json!(29_290), &app)
    );
    let cluster = ask("cluster-status").await;
    assert_eq!(cluster["cluster_name"], "shop");
    assert_eq!(cluster["disk_nodes"], json!(["hare@here", NODE]));
    assert_eq!(cluster["ram_nodes"], json!(["ram@here"]));
    assert_eq!(cluster["witness_nodes"], json!(["witness@here"]));
    assert_eq!(cluster["running_nodes"], json!([]));
    assert_eq!(cluster["app"], app);
    assert_eq!(ask("app").await["state"], "starting");
}

#[tokio::test]
async fn without_an_application_members_are_forgotten_offline_only() {
    let api = with_app(AppState::Stopped);
    for (node, error) in [
        ("hare@here", "offline_node_no_offline_flag"),
        ("ram@here:25673", "offline_node_no_offline_flag"),
        ("nosuch@here", "not_a_cluster_node"),
    ] {
        let path = "/internal/cluster/forget";
        let answer = api.operate(Method::POST, path, json!({"node": node})).await;
        assert_eq!(answer.body["error"], error);
    }
    assert!(api.node.state().log.is_empty());
}

#[tokio::test]
async fn everything_else_is_answered_with_the_state_of_the_application() {
    let why = "this node is in a minority".to_owned();
    let api = with_app(AppState::Paused { why });
    let expected = json!({
        "error": "app_not_running",
        "reason": "this command requires the 'rabbit' app to be running on the target node. Start \
                   it with 'rabbitmqctl start_app'.",
        "exit_code": 64,
        "state": "paused",
        "why": "this node is in a minority",
    });
    for (method, path) in [
        (Method::GET, "/queues"),
        (Method::PUT, "/cluster-name"),
        (Method::POST, "/internal/drain"),
        (Method::GET, "/internal/environment"),
    ] {
        let answer = api.operate(method, path, json!({})).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (503, &expected));
    }
    // Whoever has not proved the cookie can do nothing.
    for path in ["/internal/stop", "/internal/app/start"] {
        let answer = api.call(Method::POST, path, "").await;
        assert_eq!((answer.status.as_u16(), &answer.body), (503, &expected));
    }
    assert!(api.node.state().log.is_empty());
    let answer = api.operate(Method::GET, "/internal/stop", json!({})).await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn refusals_have_the_words_and_exit_codes_of_rabbitmqs_tools() {
    let (a, b) = ("a@here", "b@here");
    let api = Api::new();
    for (refusal, status, code, reason) in [
        (
            HostFailure::WithItself(a.into()),
            400,
            70,
            "Error: cannot cluster node with itself: a@here",
        ),
        (
            HostFailure::InconsistentCluster {
                thinker: a.into(),
                dissident: b.into(),
            },
            400,
            69,
            "{:inconsistent_cluster, 'node a@here thinks it\\'s clustered with node b@here, but \
             b@here disagrees'}",
        ),
        (
            HostFailure::ClusteringOnlyDiscNode,
            400,
            69,
            "{:clustering_only_disc_node, 'You cannot cluster a node if it is the only disc node \
             in its existing  cluster.'}",
        ),
        (
            HostFailure::Incompatible("hare's is newer".to_owned()),
            400,
            69,
            "{:incompatible_version, 'hare\\'s is newer'}",
        ),
        (
            HostFailure::Unreachable {
                node: a.into(),
                why: "timed out".to_owned(),
            },
            503,
            69,
            "unable to perform an operation on node 'a@here': timed out",
        ),
        (
            HostFailure::Temporary("no majority".to_owned()),
            503,
            75,
            "no majority",
        ),
        (HostFailure::Broken("half".to_owned()), 500, 70, "half"),
        (HostFailure::BadData("bad".to_owned()), 400, 65, "bad"),
        (HostFailure::Misconfigured("set".to_owned()), 400, 78, "set"),
        (
            HostFailure::InNoCluster(a.into()),
            400,
            69,
            "node a@here is in no cluster",
        ),
    ] {
        api.node.state().refusal = Some(refusal);
        let Answer {
            status: found,
            body,
            ..
        } = api
            .operate(Method::POST, "/internal/reset", json!({}))
            .await;
        assert_eq!(
            (found.as_u16(), &body["exit_code"], &body["reason"]),
            (status, &json!(code), &json!(reason))
        );
    }
}
