//! What every request passes, whatever the route.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_TYPE, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use axum::http::{Method, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tower::ServiceExt;

use super::{Api, request_as};
use crate::{Peer, Settings};

fn header(answer: &super::Answer, name: impl axum::http::header::AsHeaderName) -> Option<&str> {
    answer
        .headers
        .get(name)
        .map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn who_cannot_log_in_is_asked_for_a_password() {
    let api = Api::new();
    for (name, value) in [
        ("X-Nothing", ""),
        ("Authorization", "Basic Z3Vlc3Q6d3Jvbmc="),
        ("Authorization", "Basic not-base64"),
        ("Authorization", "Bearer abc"),
    ] {
        let request = Request::get("/api/overview")
            .header(name, value)
            .body(Body::empty())
            .unwrap();
        let answer = api.send(request).await;
        assert_eq!(answer.status, 401, "{value}");
        assert_eq!(
            answer.body,
            json!({"error": "not_authorized", "reason": "Login failed"})
        );
        let challenge = header(&answer, WWW_AUTHENTICATE);
        assert_eq!(challenge, Some("Basic realm=\"RabbitMQ Management\""));
    }
}

#[tokio::test]
async fn a_user_without_a_tag_may_not_use_the_api() {
    let api = Api::new();
    api.node.add_user("bob", &["impersonator"]);
    let answer = api.call_as("bob", Method::GET, "/whoami", "").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.body["reason"], "Not management user");
    assert_eq!(header(&answer, WWW_AUTHENTICATE), None);
}

#[tokio::test]
async fn guest_comes_from_loopback_only() {
    let api = Api::new();
    for (peer, status) in [("127.0.0.1", 200), ("::1", 200), ("192.0.2.1", 401)] {
        let mut request = request_as("guest", Method::GET, "/whoami", "");
        request.extensions_mut().insert(Peer(peer.parse().unwrap()));
        let answer = api.send(request).await;
        assert_eq!(answer.status, status, "{peer}: {}", answer.body);
    }
}

#[tokio::test]
async fn answers_carry_the_usual_headers() {
    let answer = Api::new().call(Method::GET, "/overview", "").await;
    assert_eq!(header(&answer, CONTENT_TYPE), Some("application/json"));
    assert_eq!(header(&answer, CACHE_CONTROL), Some("no-cache"));
    assert_eq!(
        header(&answer, VARY),
        Some("accept, accept-encoding, origin")
    );
    assert_eq!(header(&answer, ACCESS_CONTROL_ALLOW_ORIGIN), None);
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_accept_that() {
    let api = Api::new();
    for (path, accepted, encoding) in [
        ("/overview", "gzip, deflate", Some("gzip")),
        ("/overview", "identity", None),
        ("/whoami", "gzip", None),
    ] {
        let mut request = request_as("guest", Method::GET, path, "");
        request
            .headers_mut()
            .insert(ACCEPT_ENCODING, accepted.parse().unwrap());
        let response = api.router.clone().oneshot(request).await.unwrap();
        let headers = response.headers();
        let found = headers.get(CONTENT_ENCODING).map(|v| v.to_str().unwrap());
        assert_eq!(found, encoding, "{path} {accepted}");
        assert_eq!(headers.get_all(VARY).iter().count(), 1);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let magic = body.starts_with(&[0x1f, 0x8b]);
        assert_eq!(magic, encoding.is_some(), "{path} {accepted}");
    }
}

#[tokio::test]
async fn a_method_that_is_not_served_is_answered_with_those_that_are() {
    let api = Api::new();
    let answer = api.call_as("", Method::GET, "/rebalance/queues", "").await;
    assert_eq!(
        (answer.status.as_u16(), header(&answer, ALLOW)),
        (405, Some("POST, OPTIONS"))
    );
    let answer = api.call_as("", Method::OPTIONS, "/queues/%2F/q", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        header(&answer, ALLOW),
        Some("HEAD, GET, PUT, DELETE, OPTIONS")
    );
    assert_eq!(header(&answer, ACCESS_CONTROL_ALLOW_METHODS), None);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let api = Api::new();
    let answer = api.call(Method::HEAD, "/overview", "").await;
    assert_eq!((answer.status.as_u16(), answer.body), (200, json!(null)));
    assert_eq!(
        api.call(Method::HEAD, "/queues/%2F/no", "").await.status,
        404
    );
}

#[tokio::test]
async fn trailing_slashes_and_encoded_names_find_their_route() {
    let api = Api::new();
    api.put("/queues/%2F/a%2Fb%20c", json!({})).await;
    assert_eq!(api.get("/queues/%2F/a%2Fb%20c/").await["name"], "a/b c");
    assert_eq!(api.get("/queues/%2F/").await.as_array().unwrap().len(), 1);
    assert_eq!(
        api.call(Method::GET, "/no/such/route", "").await.status,
        404
    );
    assert_eq!(
        api.call(Method::GET, "/queues/%2F/%FF", "").await.status,
        400
    );
}

#[tokio::test]
async fn a_path_prefix_stands_before_every_route() {
    let api = Api::with(Settings {
        path_prefix: "/rabbit".to_owned(),
        ..Settings::default()
    });
    let answer = api.call(Method::GET, "/whoami", "").await;
    assert_eq!(answer.status, 404);
    let mut request = request_as("guest", Method::GET, "/whoami", "");
    *request.uri_mut() = "/rabbit/api/whoami".parse().unwrap();
    assert_eq!(api.send(request).await.body["name"], "guest");
}

#[tokio::test]
async fn long_bodies_are_refused_and_those_of_strangers_never_read() {
    let api = Api::with(Settings {
        body_bytes_max: 1000,
        ..Settings::default()
    });
    let body = format!("{{\"arguments\": {{\"x\": \"{}\"}}}}", "x".repeat(1000));
    let answer = api.call(Method::PUT, "/queues/%2F/q", &body).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body["reason"],
        "Exceeded HTTP request body size limit"
    );

    let body = Full::new(Bytes::from("{}"));
    let body = body.map_frame(|frame| {
        if frame.is_data() {
            panic!("read")
        } else {
            frame
        }
    });
    let request = Request::put("/api/queues/%2F/q")
        .body(Body::new(body))
        .unwrap();
    assert_eq!(api.send(request).await.status, 401);
}

#[tokio::test]
async fn bodies_may_be_empty_or_strange_but_are_json_objects() {
    let api = Api::new();
    for (name, body) in [("a", ""), ("b", "null"), ("c", "undefined"), ("d", "{}")] {
        let answer = api
            .call(Method::PUT, &format!("/queues/%2F/{name}"), body)
            .await;
        assert_eq!(answer.status, 201, "{body}");
    }
    for (body, reason) in [
        ("{", "not_json"),
        ("[]", "not_json"),
        (
            "\"{}\"",
            "invalid payload: the request body JSON-decoded to a string. Is the input \
             doubly-JSON-encoded?",
        ),
    ] {
        let refused = api.refused(Method::PUT, "/queues/%2F/q", body).await;
        assert_eq!(
            refused,
            (400, json!({"error": "bad_request", "reason": reason}))
        );
    }
}

#[tokio::test]
async fn other_origins_are_admitted_when_the_configuration_lists_them() {
    let origins = vec!["https://ui.example".to_owned()];
    let listed = Api::with(Settings {
        cors_origins: origins,
        ..Settings::default()
    });
    let all = Api::with(Settings {
        cors_origins: vec!["*".to_owned()],
        ..Settings::default()
    });
    for (api, origin, admitted, credentials) in [
        (
            &listed,
            "https://ui.example",
            Some("https://ui.example"),
            Some("true"),
        ),
        (&listed, "https://evil.example", None, None),
        (&listed, "null", None, None),
        // Everybody, and therefore nobody with credentials.
        (&all, "https://evil.example", Some("*"), None),
    ] {
        for method in [Method::GET, Method::OPTIONS] {
            let mut request = request_as("guest", method.clone(), "/overview", "");
            request
                .headers_mut()
                .insert(ORIGIN, origin.parse().unwrap());
            let answer = api.send(request).await;
            assert_eq!(
                header(&answer, ACCESS_CONTROL_ALLOW_ORIGIN),
                admitted,
                "{origin}"
            );
            assert_eq!(
                header(&answer, ACCESS_CONTROL_ALLOW_CREDENTIALS),
                credentials,
                "{origin}"
            );
            let methods = admitted
                .filter(|_| method == Method::OPTIONS)
                .map(|_| "HEAD, GET, OPTIONS");
            assert_eq!(header(&answer, ACCESS_CONTROL_ALLOW_METHODS), methods);
        }
    }
}

#[tokio::test]
async fn configured_headers_are_on_every_answer() {
    let headers = vec![(
        "Strict-Transport-Security".to_owned(),
        "max-age=1".to_owned(),
    )];
    let api = Api::with(Settings {
        headers,
        ..Settings::default()
    });
    for path in ["/overview", "/no"] {
        let answer = api.call(Method::GET, path, "").await;
        assert_eq!(
            header(&answer, "strict-transport-security"),
            Some("max-age=1")
        );
    }
}

#[tokio::test]
async fn an_unavailable_broker_is_503() {
    let api = Api::new();
    api.node.state().unavailable = true;
    let refused = api.refused(Method::PUT, "/vhosts/v", "").await;
    assert_eq!(
        refused,
        (
            503,
            json!({"error": "service_unavailable", "reason": "no quorum"})
        )
    );
}

#[tokio::test]
async fn the_operator_needs_no_password_and_nobody_can_claim_to_be_it() {
    let api = Api::new();
    let answer = api.operate(Method::GET, "/users", json!({})).await;
    assert_eq!(answer.status, 200);
    let request = Request::get("/api/internal/status")
        .header(AUTHORIZATION, "Operator")
        .header("X-Identity", "Operator")
        .body(Body::empty())
        .unwrap();
    assert_eq!(api.send(request).await.status, 401);
    assert_eq!(
        api.call(Method::GET, "/internal/status", "").await.status,
        404
    );
}
