//! The table of routes: method, path, who may, and what answers. The router is built from it, and so
//! is the test of who may do what.

use std::pin::Pin;
use std::sync::Arc;

use axum::http::Method;

use crate::access::Access;
use crate::access::Access::{
    Administrator, Management, Monitoring, Open, Operator, Owner, Policymaker, Vhost,
    VhostPolicymaker, VhostVisible,
};
use crate::api::*;
use crate::request::Request;

/// What answers requests on a route.
pub(crate) type Handler =
    Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// One line of the table.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) method: Method,
    /// Under `/api`; names in braces stand for one segment.
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) handler: Handler,
}

impl Route {
    fn new<F, A>(method: Method, path: &'static str, access: Access, handler: F) -> Route
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Outcome> + Send + 'static,
    {
        Route {
            method,
            path,
            access,
            handler: Arc::new(move |request| Box::pin(handler(request))),
        }
    }
}

macro_rules! routes {
    ($($method:ident $path:literal $access:ident $($handler:ident)::+;)*) => {
        vec![$(Route::new(Method::$method, $path, $access, $($handler)::+)),*]
    };
}

/// All routes.
pub(crate) fn table() -> Vec<Route> {
    [
        cluster_wide(),
        tenancy(),
        policies_and_parameters(),
        clients(),
        objects(),
        checks(),
        internal_only(),
        of_host(),
    ]
    .concat()
}

/// The routes of every path, behind `/api`, in the order of the table.
pub(crate) fn by_path() -> Vec<(String, Vec<Route>)> {
    let mut paths: Vec<(String, Vec<Route>)> = Vec::new();
    for route in table() {
        let path = format!("/api{}", route.path);
        match paths.iter_mut().find(|(known, _)| *known == path) {
            Some((_, routes)) => routes.push(route),
            None => paths.push((path, vec![route])),
        }
    }
    paths
}

fn cluster_wide() -> Vec<Route> {
    routes! {
        GET "/overview" Management overview::show;
        GET "/cluster-name" Management overview::show_cluster_name;
        PUT "/cluster-name" Administrator overview::put_cluster_name;
        GET "/whoami" Management overview::whoami;
        GET "/version" Open overview::version;
        GET "/extensions" Management overview::extensions;
        GET "/auth" Open overview::auth;
        GET "/auth/hash_password/{password}" Administrator users::hash_password;
        GET "/auth/attempts/{node}" Monitoring nodes::auth_attempts;
        GET "/auth/attempts/{node}/source" Monitoring nodes::auth_attempts_by_source;
        GET "/nodes" Monitoring nodes::index;
        GET "/nodes/{node}" Monitoring nodes::show;
        GET "/nodes/{node}/memory" Monitoring nodes::memory;
        GET "/nodes/{node}/memory/relative" Monitoring nodes::memory_relative;
        GET "/feature-flags" Management features::index;
        PUT "/feature-flags/{name}/enable" Administrator features::enable;
        GET "/deprecated-features" Management features::deprecated;
        GET "/deprecated-features/used" Management features::deprecated;
        GET "/config/effective" Administrator overview::configuration;
        DELETE "/reset" Administrator overview::reset;
        DELETE "/reset/{node}" Administrator overview::reset;
        POST "/rebalance/queues" Administrator overview::rebalance;
        GET "/definitions" Administrator definitions::export;
        POST "/definitions" Administrator definitions::import;
        GET "/definitions/{vhost}" Administrator definitions::export_vhost;
        POST "/definitions/{vhost}" Administrator definitions::import;
        GET "/all-configuration" Administrator definitions::export;
        POST "/all-configuration" Administrator definitions::import;
    }
}

fn tenancy() -> Vec<Route> {
    routes! {
        GET "/vhosts" Management vhosts::index;
        GET "/vhosts/{vhost}" Administrator vhosts::show;
        PUT "/vhosts/{vhost}" Administrator vhosts::put;
        DELETE "/vhosts/{vhost}" Administrator vhosts::delete;
        POST "/vhosts/{vhost}/start/{node}" Administrator vhosts::start;
        GET "/vhosts/{vhost}/permissions" Administrator permissions::of_vhost;
        GET "/vhosts/{vhost}/topic-permissions" Administrator permissions::topic_of_vhost;
        GET "/vhosts/{vhost}/connections" Vhost vhosts::connections;
        GET "/vhosts/{vhost}/channels" Vhost channels::of_vhost;
        GET "/users" Administrator users::index;
        GET "/users/without-permissions" Administrator users::without_permissions;
        POST "/users/bulk-delete" Administrator users::bulk_delete;
        GET "/users/{user}" Administrator users::show;
        PUT "/users/{user}" Administrator users::put;
        DELETE "/users/{user}" Administrator users::delete;
        GET "/users/{user}/permissions" Administrator permissions::of_user;
        GET "/users/{user}/topic-permissions" Administrator permissions::topic_of_user;
        GET "/permissions" Administrator permissions::index;
        GET "/permissions/{vhost}/{user}" Administrator permissions::show;
        PUT "/permissions/{vhost}/{user}" Administrator permissions::put;
        DELETE "/permissions/{vhost}/{user}" Administrator permissions::delete;
        GET "/topic-permissions" Administrator permissions::topic_index;
        GET "/topic-permissions/{vhost}/{user}" Administrator permissions::topic_show;
        PUT "/topic-permissions/{vhost}/{user}" Administrator permissions::topic_put;
        DELETE "/topic-permissions/{vhost}/{user}" Administrator permissions::topic_delete;
        DELETE "/topic-permissions/{vhost}/{user}/{exchange}" Administrator permissions::topic_delete;
        GET "/vhost-limits" VhostVisible limits::vhost_index;
        GET "/vhost-limits/{vhost}" VhostVisible limits::vhost_index;
        PUT "/vhost-limits/{vhost}/{name}" Administrator limits::put_vhost;
        DELETE "/vhost-limits/{vhost}/{name}" Administrator limits::delete_vhost;
        GET "/user-limits" VhostVisible limits::user_index;
        GET "/user-limits/{user}" VhostVisible limits::user_index;
        PUT "/user-limits/{user}/{name}" Administrator limits::put_user;
        DELETE "/user-limits/{user}/{name}" Administrator limits::delete_user;
    }
}

fn policies_and_parameters() -> Vec<Route> {
    routes! {
        GET "/policies" Vhost policies::index;
        GET "/policies/{vhost}" Vhost policies::index;
        GET "/policies/{vhost}/{name}" VhostPolicymaker policies::show;
        PUT "/policies/{vhost}/{name}" VhostPolicymaker policies::put;
        DELETE "/policies/{vhost}/{name}" VhostPolicymaker policies::delete;
        GET "/operator-policies" Vhost policies::operator_index;
        GET "/operator-policies/{vhost}" Vhost policies::operator_index;
        GET "/operator-policies/{vhost}/{name}" Administrator policies::operator_show;
        PUT "/operator-policies/{vhost}/{name}" Administrator policies::operator_put;
        DELETE "/operator-policies/{vhost}/{name}" Administrator policies::operator_delete;
        GET "/parameters" VhostPolicymaker parameters::index;
        GET "/parameters/{component}" VhostPolicymaker parameters::index;
        GET "/parameters/{component}/{vhost}" VhostPolicymaker parameters::index;
        GET "/parameters/{component}/{vhost}/{name}" VhostPolicymaker parameters::show;
        PUT "/parameters/{component}/{vhost}/{name}" VhostPolicymaker parameters::put;
        DELETE "/parameters/{component}/{vhost}/{name}" VhostPolicymaker parameters::delete;
        GET "/global-parameters" Policymaker parameters::global_index;
        GET "/global-parameters/{name}" Policymaker parameters::global_show;
        PUT "/global-parameters/{name}" Policymaker parameters::global_put;
        DELETE "/global-parameters/{name}" Policymaker parameters::global_delete;
    }
}

fn clients() -> Vec<Route> {
    routes! {
        GET "/connections" Management connections::index;
        GET "/connections/{connection}" Owner connections::show;
        DELETE "/connections/{connection}" Owner connections::close;
        GET "/connections/{connection}/channels" Owner connections::channels;
        GET "/connections/username/{username}" Owner connections::of_user;
        DELETE "/connections/username/{username}" Owner connections::close_of_user;
        GET "/channels" Management channels::index;
        GET "/channels/{channel}" Owner channels::show;
        GET "/consumers" Management consumers::index;
        GET "/consumers/{vhost}" Vhost consumers::index;
    }
}

fn objects() -> Vec<Route> {
    routes! {
        GET "/exchanges" Vhost exchanges::index;
        GET "/exchanges/{vhost}" Vhost exchanges::index;
        GET "/exchanges/{vhost}/{exchange}" Vhost exchanges::show;
        PUT "/exchanges/{vhost}/{exchange}" Vhost exchanges::put;
        DELETE "/exchanges/{vhost}/{exchange}" Vhost exchanges::delete;
        POST "/exchanges/{vhost}/{exchange}/publish" Vhost messages::publish;
        GET "/exchanges/{vhost}/{exchange}/bindings/source" Vhost bindings::of_source;
        GET "/exchanges/{vhost}/{exchange}/bindings/destination" Vhost bindings::of_destination;
        GET "/queues" Vhost queues::index;
        GET "/queues/detailed" Vhost queues::index;
        GET "/queues/{vhost}" Vhost queues::index;
        GET "/queues/{vhost}/{queue}" Vhost queues::show;
        PUT "/queues/{vhost}/{queue}" Vhost queues::put;
        DELETE "/queues/{vhost}/{queue}" Vhost queues::delete;
        GET "/queues/{vhost}/{queue}/bindings" Vhost bindings::of_queue;
        DELETE "/queues/{vhost}/{queue}/contents" Vhost queues::purge;
        POST "/queues/{vhost}/{queue}/get" Vhost messages::get;
        POST "/queues/{vhost}/{queue}/actions" Administrator queues::act;
        GET "/bindings" Vhost bindings::index;
        GET "/bindings/{vhost}" Vhost bindings::index;
        GET "/bindings/{vhost}/e/{source}/{dtype}/{destination}" Vhost bindings::of_pair;
        POST "/bindings/{vhost}/e/{source}/{dtype}/{destination}" Vhost bindings::create;
        GET "/bindings/{vhost}/e/{source}/{dtype}/{destination}/{props}" Vhost bindings::show;
        DELETE "/bindings/{vhost}/e/{source}/{dtype}/{destination}/{props}" Vhost bindings::delete;
    }
}

fn checks() -> Vec<Route> {
    routes! {
        GET "/health/checks/alarms" Management health::alarms;
        GET "/health/checks/local-alarms" Management health::local_alarms;
        GET "/health/checks/certificate-expiration/{within}/{unit}" Management
            health::certificate_expiration;
        GET "/health/checks/port-listener/{port}" Management health::port_listener;
        GET "/health/checks/protocol-listener/{protocol}" Management health::protocol_listener;
        GET "/health/checks/virtual-hosts" Management health::virtual_hosts;
        GET "/health/checks/node-is-quorum-critical" Management health::quorum_critical;
        GET "/health/checks/node-is-mirror-sync-critical" Management health::mirror_critical;
        GET "/health/checks/is-in-service" Open health::in_service;
        GET "/health/checks/ready-to-serve-clients" Open health::ready_to_serve;
        GET "/health/checks/below-node-connection-limit" Open health::below_connection_limit;
        GET "/health/checks/reached-target-cluster-size" Open health::target_cluster_size;
        GET "/healthchecks/node" Management health::node;
        GET "/healthchecks/node/{node}" Management health::node;
        GET "/aliveness-test/{vhost}" Vhost aliveness::test;
    }
}

fn internal_only() -> Vec<Route> {
    routes! {
        GET "/internal/status" Operator internal::status;
        GET "/internal/cluster-status" Operator cluster::status;
        POST "/internal/cluster/forget" Operator cluster::forget;
        POST "/internal/cluster/heal" Operator cluster::heal;
        POST "/internal/drain" Operator cluster::drain;
        POST "/internal/revive" Operator cluster::revive;
        POST "/internal/listeners/suspend" Operator cluster::suspend_listeners;
        POST "/internal/listeners/resume" Operator cluster::resume_listeners;
        GET "/internal/peers" Operator cluster::peers;
        POST "/internal/rebalance" Operator cluster::rebalance;
        POST "/internal/queues/{vhost}/{queue}/sync" Operator cluster::synchronize;
        POST "/internal/queues/{vhost}/{queue}/leader" Operator cluster::transfer;
        GET "/internal/environment" Operator internal::environment;
        POST "/internal/authenticate-user" Operator internal::authenticate_user;
        POST "/internal/users/{user}" Operator internal::add_user;
        PUT "/internal/users/{user}/password" Operator internal::change_password;
        PUT "/internal/users/{user}/tags" Operator internal::set_tags;
        DELETE "/internal/user-limits/{user}" Operator internal::clear_user_limits;
        DELETE "/internal/vhost-limits/{vhost}" Operator internal::clear_vhost_limits;
        DELETE "/internal/queues/{vhost}/{queue}" Operator internal::delete_queue;
        DELETE "/internal/queues/{vhost}/{queue}/contents" Operator internal::purge_queue;
        GET "/internal/certificates" Operator internal::certificates;
        GET "/internal/last-copies" Operator internal::last_copies;
        POST "/internal/close-connections" Operator internal::close_connections;
        PUT "/internal/memory-watermark" Operator internal::set_memory_watermark;
        PUT "/internal/disk-free-limit" Operator internal::set_disk_free_limit;
        PUT "/internal/log-level" Operator internal::set_log_level;
    }
}

/// What the process serves, whether the application runs or not.
fn of_host() -> Vec<Route> {
    let route = |route: host::HostRoute| {
        let handler = route.handler;
        Route::new(
            route.method,
            route.path,
            Operator,
            move |request: Request| {
                handler(host::HostRequest {
                    host: Arc::clone(&request.app.host),
                    body: request.body.clone(),
                })
            },
        )
    };
    host::table().into_iter().map(route).collect()
}
