//! The API as a service: gates in front of the table of routes, and the answers on the wire.
//!
//! A request passes, in this order: path prefix and trailing slash, route, method (405), `OPTIONS`,
//! password and tag (401), body limit (400), handler. The body of a request that may not be made is
//! never read.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW,
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ORIGIN, SERVER, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::any;
use broker::Name;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower::ServiceExt;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use crate::access::Access;
use crate::error::Error;
use crate::host::Host;
use crate::identity::{Identity, Peer};
use crate::node::Node;
use crate::observe::observe;
use crate::reply::Reply;
use crate::request::{Query, Request};
use crate::routes::{self, Route};
use crate::settings::Settings;
use crate::stats::Sampler;

/// Answers longer than this are compressed for clients that accept gzip (RabbitMQ: Cowboy's `compress_threshold`).
const GZIP_ABOVE_BYTES: u64 = 300;

/// What all handlers share.
pub(crate) struct App {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) settings: Settings,
    sampler: RwLock<Sampler>,
}

impl App {
    /// The samples. Hold it for rendering only.
    pub(crate) fn sampler(&self) -> RwLockReadGuard<'_, Sampler> {
        self.sampler.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all samples.
    pub(crate) fn forget_samples(&self) {
        self.sampler
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// The HTTP API of a node.
#[derive(Clone)]
pub struct Management {
    app: Arc<App>,
}

impl Management {
    /// Builds the API of `node`, which runs in the process `host`.
    #[must_use]
    pub fn new(node: Arc<dyn Node>, host: Arc<dyn Host>, settings: Settings) -> Management {
        Management {
            app: Arc::new(App {
                node,
                host,
                settings,
                sampler: RwLock::default(),
            }),
        }
    }

    /// Takes a sample of all counters. Called every [`crate::SAMPLE_INTERVAL_MILLIS`].
    pub async fn sample(&self) {
        let node = &self.app.node;
        if self.app.settings.rates_mode == "none" {
            // Counts are gathered all the same, or nobody would empty where they are made.
            drop(node.totals().await);
            return;
        }
        let observations = observe(&**node).await;
        let mut sampler = self
            .app
            .sampler
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        sampler.sample(node.now(), observations);
    }

    /// The router of everything under `/api` (behind the path prefix); the server merges it with what
    /// else it serves. It looks for [`Peer`] and [`Identity::Operator`] in the extensions of a request.
    pub fn router(&self) -> Router {
        let mut inner = Router::new();
        for (path, routes) in routes::by_path() {
            let (app, routes) = (Arc::clone(&self.app), Arc::new(routes));
            let serve = move |request: axum::extract::Request| {
                let (app, routes) = (Arc::clone(&app), Arc::clone(&routes));
                async move { serve(app, &routes, request).await }
            };
            inner = inner.route(&path, any(serve));
        }
        let app = Arc::clone(&self.app);
        let inner = inner.fallback(move |headers: HeaderMap| {
            let answer = answer(&app.settings, &headers, Err(Error::object_not_found()));
            async move { answer }
        });
        let prefix = self.app.settings.path_prefix.clone();
        let paths = ["/api", "/api/", "/api/{*path}"].map(|path| format!("{prefix}{path}"));
        let normalized = move |mut request: axum::extract::Request| {
            *request.uri_mut() = normalize(request.uri(), &prefix);
            inner.clone().oneshot(request)
        };
        let add = |router: Router, path: &String| router.route(path, any(normalized.clone()));
        let gzip = CompressionLayer::new().gzip(true).compress_when(SizeAbove::new(GZIP_ABOVE_BYTES));
        paths.iter().fold(Router::new(), add).layer(gzip)
    }
}

/// Takes the prefix and trailing slashes off the path. A path without the prefix becomes `/`, which no
/// route has.
fn normalize(uri: &Uri, prefix: &str) -> Uri {
    let path = uri
        .path()
        .strip_prefix(prefix)
        .unwrap_or("")
        .trim_end_matches('/');
    let path = if path.is_empty() { "/" } else { path };
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    text.parse().unwrap_or_default()
}

/// Serves one request on a path that has these routes.
async fn serve(app: Arc<App>, routes: &[Route], request: axum::extract::Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (headers, method) = (parts.headers.clone(), parts.method.clone());
    let allowed = allowed_methods(routes);
    let mut response = if method == Method::OPTIONS {
        let mut response = answer(
            &app.settings,
            &headers,
            Ok(Reply::ok(serde_json::Value::Null)),
        );
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_TYPE);
        set_header(response.headers_mut(), ALLOW, &allowed);
        preflight(&app.settings, &headers, &allowed, response.headers_mut());
        response
    } else {
        let outcome = admit(Arc::clone(&app), routes, parts, body).await;
        let refused_method = outcome
            .as_ref()
            .is_err_and(|error| error.status == StatusCode::METHOD_NOT_ALLOWED);
        let mut response = answer(&app.settings, &headers, outcome);
        if refused_method {
            set_header(response.headers_mut(), ALLOW, &allowed);
        }
        response
    };
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

/// `HEAD, GET, PUT, OPTIONS`, in the order of the table.
fn allowed_methods(routes: &[Route]) -> String {
    let mut names: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
    if names.contains(&"GET") {
        names.insert(0, "HEAD");
    }
    names.push("OPTIONS");
    names.join(", ")
}

/// Lets a request through the gates to its handler.
async fn admit(
    app: Arc<App>,
    routes: &[Route],
    mut parts: Parts,
    body: Body,
) -> Result<Reply, Error> {
    let method = if parts.method == Method::HEAD {
        &Method::GET
    } else {
        &parts.method
    };
    let route = routes.iter().find(|route| route.method == *method);
    let route = route.ok_or_else(Error::method_not_allowed)?;
    let params = RawPathParams::from_request_parts(&mut parts, &())
        .await
        .map_err(|_| Error::bad_request("path is not UTF-8"))?;
    let params: Vec<(String, String)> = params
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let identity = match parts.extensions.get::<Identity>() {
        Some(identity) => identity.clone(),
        // What is open to everybody is served as to somebody without rights.
        None if route.access == Access::Open => Identity::User {
            name: Name::from(""),
            tags: Default::default(),
        },
        None => {
            let peer: Option<IpAddr> = parts.extensions.get::<Peer>().map(|peer| peer.0);
            Identity::authenticate(&parts.headers, peer, &*app.node).await?
        }
    };
    let tables = app.node.tables();
    let vhost = params
        .iter()
        .find(|(key, _)| key == "vhost")
        .map(|(_, value)| value.as_str());
    route.access.check(&identity, vhost, &tables)?;
    let body = read_body(body, app.settings.body_bytes_max).await?;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let headers = parts.headers;
    (route.handler)(Request {
        app,
        identity,
        tables,
        params,
        query,
        headers,
        body,
    })
    .await
}

pub(crate) async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, Error> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Error::bad_request("Exceeded HTTP request body size limit"))
        }
        Err(_) => Err(Error::bad_request("request body is incomplete")),
    }
}

/// Turns an outcome into bytes and headers.
pub(crate) fn answer(
    settings: &Settings,
    request: &HeaderMap,
    outcome: Result<Reply, Error>,
) -> Response<Body> {
    let (status, body, headers, challenge) = match outcome {
        Ok(reply) => (reply.status, reply.body, reply.headers, false),
        Err(error) => (
            error.status,
            Some(error.to_json().to_string()),
            Vec::new(),
            error.challenge,
        ),
    };
    let mut response = match body {
        Some(json) => (status, json).into_response(),
        None => status.into_response(),
    };
    let all = response.headers_mut();
    all.remove(CONTENT_TYPE);
    if !matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::CREATED | StatusCode::SEE_OTHER
    ) {
        set_header(all, CONTENT_TYPE, "application/json");
    }
    set_header(all, CACHE_CONTROL, "no-cache");
    set_header(all, VARY, "accept, accept-encoding, origin");
    set_header(all, SERVER, "Warren");
    set_header(all, X_CONTENT_TYPE_OPTIONS, "nosniff");
    set_header(
        all,
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    );
    if challenge {
        set_header(all, WWW_AUTHENTICATE, "Basic realm=\"RabbitMQ Management\"");
    }
    for (name, value) in &settings.headers {
        if let Ok(name) = HeaderName::try_from(name.as_str()) {
            set_header(all, name, value);
        }
    }
    for (name, value) in headers {
        all.insert(name, value);
    }
    allow_origin(settings, request, all);
    response
}

fn set_header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Admits the origin of the page that calls, when the configuration lists it. Credentials are admitted
/// for listed origins alone, never for all.
fn allow_origin(settings: &Settings, request: &HeaderMap, response: &mut HeaderMap) {
    let Some(origin) = request.get(ORIGIN).and_then(|origin| origin.to_str().ok()) else {
        return;
    };
    if origin != "null" && settings.cors_origins.iter().any(|listed| listed == origin) {
        set_header(response, ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        set_header(response, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    } else if settings.cors_origins.iter().any(|listed| listed == "*") {
        set_header(response, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    }
}

/// Answers a browser that asks before it calls from another origin.
fn preflight(settings: &Settings, request: &HeaderMap, allowed: &str, response: &mut HeaderMap) {
    if !response.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        return;
    }
    set_header(response, ACCESS_CONTROL_ALLOW_METHODS, allowed);
    if let Some(age) = settings.cors_max_age {
        set_header(response, ACCESS_CONTROL_MAX_AGE, &age.as_secs().to_string());
    }
    if let Some(headers) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        response.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
    }
}
