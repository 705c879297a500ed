//! Virtual hosts.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::Name;
use broker::metadata::{Command, Vhost, VhostSpec};
use serde_json::{Value as Json, json};

use super::{Outcome, connections, object, tags_from_json};
use crate::access;
use crate::counters::{self, Lengths, Rates};
use crate::error::Error;
use crate::list;
use crate::node::VhostCounters;
use crate::observe::lengths_by_vhost;
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::stats::{Key, Ranges};

/// What is known of virtual hosts beside the metadata.
struct Facts {
    /// Node names and whether they run.
    nodes: Vec<(Name, bool)>,
    /// `None` when statistics are not wanted.
    stats: Option<Stats>,
}

struct Stats {
    counters: BTreeMap<Name, VhostCounters>,
    lengths: BTreeMap<Name, Lengths>,
    ranges: Ranges,
}

/// `GET /api/vhosts`
pub(crate) async fn index(request: Request) -> Outcome {
    let facts = Facts::gather(&request).await?;
    let visible =
        |vhost: &&Arc<Vhost>| access::is_visible(&request.identity, &request.tables, &vhost.name);
    let vhosts: Vec<_> = request.tables.vhosts.values().filter(visible).collect();
    list::paged(
        &request.query,
        vhosts,
        |vhost| ("", &vhost.name),
        |vhost| render(&request, vhost, &facts),
    )
}

/// `GET /api/vhosts/:vhost`
pub(crate) async fn show(request: Request) -> Outcome {
    let facts = Facts::gather(&request).await?;
    let shown = render(&request, request.vhost()?, &facts);
    list::one(&request.query, shown)
}

/// `PUT /api/vhosts/:vhost`
pub(crate) async fn put(request: Request) -> Outcome {
    let name = request.param("vhost");
    let body = request.json()?;
    let queue_type = match body.optional_text("default_queue_type")? {
        Some(queue_type) => Some(queue_type),
        // The field's name in 3.11.
        None => body.optional_text("defaultqueuetype")?,
    };
    if let Some(queue_type) = queue_type.filter(|queue_type| !is_served(queue_type)) {
        return Err(Error::bad_request(format!(
            "default queue type '{queue_type}' is not served: choose 'classic', and replicate queues with a \
             policy (ha-mode)"
        )));
    }
    let existed = request.tables.vhosts.contains_key(name);
    let spec = VhostSpec {
        name: Name::from(name),
        description: body.optional_text("description")?.map(str::to_owned),
        tags: body
            .get("tags")
            .filter(|tags| !tags.is_null())
            .map(tags_from_json)
            .transpose()?,
        default_queue_type: queue_type
            .filter(|name| *name != "undefined")
            .map(Name::from),
        tracing: body.boolean("tracing")?,
    };
    request.node().propose(Command::PutVhost(spec)).await?;
    if let (false, Some(user)) = (existed, request.identity.user()) {
        grant_everything(&request, name, user).await?;
    }
    Ok(Reply::put(existed))
}

/// Whether queues can be declared in a virtual host with this default. What is no queue type at all the metadata
/// refuses.
pub(crate) fn is_served(queue_type: &str) -> bool {
    !matches!(queue_type, "quorum" | "stream")
}

/// Whoever makes a virtual host over the API may use it at once.
async fn grant_everything(request: &Request, vhost: &str, user: &Name) -> Result<(), Error> {
    let everything = || ".*".to_owned();
    let command = Command::SetPermission {
        vhost: Name::from(vhost),
        user: Name::clone(user),
        configure: everything(),
        write: everything(),
        read: everything(),
    };
    request.node().propose(command).await?;
    Ok(())
}

/// `DELETE /api/vhosts/:vhost`
pub(crate) async fn delete(request: Request) -> Outcome {
    let name = Name::clone(&request.vhost()?.name);
    request
        .node()
        .propose(Command::DeleteVhost { name })
        .await?;
    Ok(Reply::no_content())
}

/// `POST /api/vhosts/:vhost/start/:node`: a virtual host runs wherever its node runs.
pub(crate) async fn start(request: Request) -> Outcome {
    request.vhost()?;
    let node = request.param("node");
    let nodes = request.node().nodes().await;
    if nodes
        .iter()
        .any(|known| *known.name == *node && known.running)
    {
        return Ok(Reply::no_content());
    }
    Err(Error::bad_request(format!(
        "Request to node {node} failed with nodedown"
    )))
}

/// `GET /api/vhosts/:vhost/connections`
pub(crate) async fn connections(request: Request) -> Outcome {
    request.vhost()?;
    connections::index(request).await
}

impl Facts {
    async fn gather(request: &Request) -> Result<Facts, Error> {
        let node = request.node();
        let nodes = node.nodes().await;
        let nodes = nodes
            .into_iter()
            .map(|node| (node.name, node.running))
            .collect();
        if request.stats_disabled() {
            return Ok(Facts { nodes, stats: None });
        }
        let ranges = Ranges::of(&request.query, node.now())?;
        let totals = node.totals().await;
        let counters = totals
            .vhosts
            .into_iter()
            .map(|vhost| (Name::clone(&vhost.vhost), vhost));
        let lengths = lengths_by_vhost(&request.tables, &node.queue_statuses().await);
        Ok(Facts {
            nodes,
            stats: Some(Stats {
                counters: counters.collect(),
                lengths,
                ranges,
            }),
        })
    }
}

fn render(request: &Request, vhost: &Vhost, facts: &Facts) -> Json {
    let state = |running: &bool| if *running { "running" } else { "nodedown" };
    let cluster_state: serde_json::Map<String, Json> = facts
        .nodes
        .iter()
        .map(|(node, running)| (node.to_string(), json!(state(running))))
        .collect();
    let mut metadata = object(json!({"description": vhost.description, "tags": vhost.tags}));
    if let Some(queue_type) = &vhost.default_queue_type {
        metadata.insert("default_queue_type".to_owned(), json!(queue_type));
    }
    let mut shown = object(json!({
        "name": vhost.name,
        "description": vhost.description,
        "tags": vhost.tags,
        "default_queue_type": vhost.default_queue_type.as_deref().unwrap_or("undefined"),
        "metadata": metadata,
        "tracing": vhost.tracing,
        "protected_from_deletion": false,
        "cluster_state": cluster_state,
    }));
    if let Some(Stats {
        counters,
        lengths,
        ranges,
    }) = &facts.stats
    {
        let unused = VhostCounters::default();
        let counters = counters.get(&vhost.name).unwrap_or(&unused);
        let lengths = lengths.get(&vhost.name).copied().unwrap_or_default();
        let sampler = request.app.sampler();
        let series = sampler.series(&Key::Vhost(Name::clone(&vhost.name)));
        let rates = |range| Rates { series, range };
        counters::put_lengths(&mut shown, lengths, rates(ranges.lengths));
        counters::put_vhost_messages(&mut shown, &counters.messages, rates(ranges.messages));
        counters::put_vhost_octets(&mut shown, counters, rates(ranges.octets));
    }
    Json::Object(shown)
}
