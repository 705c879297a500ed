//! Feature flags: all there are, and all enabled, as on a RabbitMQ 3.13 cluster.
//!
//! Warren has no flags of its own. Clients look for some of RabbitMQ's before they use what belongs to
//! them, and refuse to start without.

use serde_json::{Value as Json, json};

use super::Outcome;
use crate::error::Error;
use crate::list;
use crate::reply::Reply;
use crate::request::Request;

/// Name, description, whether it can still be switched.
const FLAGS: &[(&str, &str, bool)] = &[
    (
        "classic_mirrored_queue_version",
        "Support setting version for classic mirrored queues",
        true,
    ),
    (
        "classic_queue_type_delivery_support",
        "Deliveries of classic queues in mixed clusters",
        true,
    ),
    (
        "detailed_queues_endpoint",
        "A detailed queues HTTP API endpoint",
        false,
    ),
    (
        "direct_exchange_routing_v2",
        "Routing by index for direct exchanges",
        true,
    ),
    (
        "drop_unroutable_metric",
        "Count unroutable publishes to be dropped in stats",
        true,
    ),
    (
        "empty_basic_get_metric",
        "Count AMQP `basic.get` on empty queues in stats",
        true,
    ),
    ("feature_flags_v2", "Feature flags subsystem V2", true),
    (
        "implicit_default_bindings",
        "Default bindings are implicit",
        true,
    ),
    (
        "listener_records_in_ets",
        "Listeners are known per node",
        true,
    ),
    ("maintenance_mode_status", "Maintenance mode status", true),
    ("message_containers", "Messages of several protocols", false),
    ("quorum_queue", "Support queues of type `quorum`", true),
    ("stream_queue", "Support queues of type `stream`", true),
    (
        "tracking_records_in_ets",
        "Connections are known per node",
        true,
    ),
    (
        "user_limits",
        "Configure connection and channel limits for a user",
        true,
    ),
    (
        "virtual_host_metadata",
        "Virtual host metadata (description, tags, etc)",
        true,
    ),
];

/// `GET /api/feature-flags`
pub(crate) async fn index(request: Request) -> Outcome {
    let show = |(name, description, required): &(&str, &str, bool)| {
        json!({
            "name": name,
            "desc": description,
            "doc_url": "",
            "state": "enabled",
            "stability": if *required { "required" } else { "stable" },
            "provided_by": "rabbit",
        })
    };
    let items: Vec<Json> = FLAGS.iter().map(show).collect();
    list::whole(&request.query, items, &["name"])
}

/// `PUT /api/feature-flags/:name/enable`: all are enabled already.
pub(crate) async fn enable(request: Request) -> Outcome {
    let name = request.param("name");
    if name == "all" || FLAGS.iter().any(|(flag, ..)| *flag == name) {
        return Ok(Reply::no_content());
    }
    Err(Error::bad_request(format!(
        "unsupported feature flag: {name}"
    )))
}

/// `GET /api/deprecated-features` and `/used`: nothing is on its way out.
pub(crate) async fn deprecated(_: Request) -> Outcome {
    Ok(Reply::ok(json!([])))
}
