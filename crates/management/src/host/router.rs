//! The router of a node without a running application.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Response};
use axum::routing::any;

use super::{Host, HostFailure};
use crate::api::host::{self, HostRequest, HostRoute};
use crate::error::Error;
use crate::identity::Identity;
use crate::reply::Reply;
use crate::service::{answer, read_body};
use crate::settings::Settings;

/// Serves what the operator may ask of the process; every other path, and everybody else, is answered
/// with 503: `error` is `app_not_running`, `state` and `why` say what the application is doing.
pub fn host_router(host: Arc<dyn Host>) -> Router {
    let settings = Arc::new(Settings::default());
    let mut paths: Vec<(&'static str, Vec<HostRoute>)> = Vec::new();
    for route in host::table().into_iter().chain(host::without_app()) {
        match paths.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, routes)) => routes.push(route),
            None => paths.push((route.path, vec![route])),
        }
    }
    let mut router = Router::new();
    for (path, routes) in paths {
        let (host, settings, routes) = (
            Arc::clone(&host),
            Arc::clone(&settings),
            Arc::<[HostRoute]>::from(routes),
        );
        let serve = move |request: axum::extract::Request| {
            let (host, settings, routes) = (
                Arc::clone(&host),
                Arc::clone(&settings),
                Arc::clone(&routes),
            );
            async move {
                let headers = request.headers().clone();
                let outcome = admit(host, &settings, &routes, request).await;
                answer(&settings, &headers, outcome)
            }
        };
        router = router.route(&format!("/api{path}"), any(serve));
    }
    router.fallback(move |headers: HeaderMap| {
        let response: Response<Body> = answer(&settings, &headers, Err(not_running(&*host)));
        async move { response }
    })
}

async fn admit(
    host: Arc<dyn Host>,
    settings: &Settings,
    routes: &[HostRoute],
    request: axum::extract::Request,
) -> Result<Reply, Error> {
    let (parts, body) = request.into_parts();
    if parts.extensions.get::<Identity>() != Some(&Identity::Operator) {
        return Err(not_running(&*host));
    }
    let route = routes.iter().find(|route| route.method == parts.method);
    let route = route.ok_or_else(Error::method_not_allowed)?;
    let body = read_body(body, settings.body_bytes_max).await?;
    (route.handler)(HostRequest { host, body }).await
}

fn not_running(host: &dyn Host) -> Error {
    let app = host.app();
    Error::from(HostFailure::AppStopped)
        .with("state", app.name())
        .with("why", app.why())
}
