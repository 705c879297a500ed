//! How a node with an empty folder begins: as a cluster of its own, or as a member of one that its
//! configuration lets it find (RabbitMQ, "Cluster Formation and Peer Discovery").

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::ProcessHost;
use super::ask::Ask;
use crate::clock;
use crate::config::{NodeName, PeerDiscovery};
use crate::identity::Identity;

/// Who this node will be.
pub(crate) enum Beginning {
    /// It was somebody already, or founds a cluster.
    Ready(Identity),
    /// It should ask this node to be taken in.
    Join(String),
    /// It was on the side of a partition that gave way, which was of this generation.
    Return { identity: Identity, to: String, generation: u64 },
}

/// Reads who this node is, or finds out who it shall be.
pub(crate) async fn begin(host: &Arc<ProcessHost>) -> Result<Beginning> {
    let name = host.config.node_name.to_string();
    if let Some(identity) = Identity::load(&host.config.data_dir)? {
        anyhow::ensure!(
            identity.name == name,
            "the data folder {} is that of node {}, not of {name}; start it under its name, or give this node \
             another folder",
            host.config.data_dir.display(),
            identity.name
        );
        if let Some((to, generation)) = crate::returning::wants_back(&host.config.data_dir)? {
            return Ok(Beginning::Return { identity, to, generation });
        }
        return Ok(Beginning::Ready(identity));
    }
    let formation = &host.config.cluster.formation;
    let mut found = candidates(host).await;
    if found.iter().all(|other| *other == name) {
        return Ok(Beginning::Ready(Identity::founder(&name, clock::random)));
    }
    for _ in 0..formation.discovery_retry_limit {
        if let Some(beginning) = choose(host, &name, &found).await {
            return Ok(beginning);
        }
        tokio::time::sleep(formation.discovery_retry_interval).await;
        found = candidates(host).await;
    }
    tracing::warn!("peer discovery found nobody to join: node {name} begins a cluster of its own");
    Ok(Beginning::Ready(Identity::founder(&name, clock::random)))
}

/// The nodes that the configuration names, this one included or not.
pub(crate) async fn candidates(host: &ProcessHost) -> Vec<String> {
    let formation = &host.config.cluster.formation;
    let mut names: Vec<String> = match formation.peer_discovery_backend {
        PeerDiscovery::ClassicConfig => formation.nodes.iter().map(ToString::to_string).collect(),
        PeerDiscovery::Dns => resolve(host).await,
    };
    names.sort();
    names.dedup();
    names
}

/// One node for each address of the name; the node's own prefix and port go with all of them.
async fn resolve(host: &ProcessHost) -> Vec<String> {
    let Some(name) = &host.config.cluster.formation.dns_hostname else { return Vec::new() };
    let own = &host.config.node_name;
    let port = own.port().unwrap_or(25672);
    let Ok(addresses) = tokio::net::lookup_host((name.as_str(), port)).await else { return Vec::new() };
    let node = |ip: std::net::IpAddr| {
        let ip = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        let suffix = own.port().map_or_else(String::new, |port| format!(":{port}"));
        format!("{}@{ip}{suffix}", own.name()).parse::<NodeName>().ok()
    };
    addresses.filter_map(|address| node(address.ip().to_canonical())).map(|name| name.to_string()).collect()
}

/// What a candidate says of itself.
struct Seen {
    name: String,
    members: usize,
    running: bool,
    uptime: u64,
}

/// The largest cluster first, then who has run longest, then by name: so all that start together choose
/// the same. `None`: ask again later.
async fn choose(host: &ProcessHost, own: &str, found: &[String]) -> Option<Beginning> {
    let ask = Ask { own_name: own, cookie: &host.cookie, patience: Duration::from_secs(3) };
    let mut seen = Vec::new();
    for name in found {
        if name == own {
            let uptime = u64::try_from(host.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            seen.push(Seen { name: name.clone(), members: 0, running: false, uptime });
        } else if let Ok(answer) = ask.post(name, "/api/peer/who", &json!({})).await {
            seen.push(Seen {
                name: name.clone(),
                members: answer["members"].as_array().map_or(0, Vec::len),
                running: answer["app"] == "running",
                uptime: answer["uptime_millis"].as_u64().unwrap_or(0),
            });
        }
    }
    let joinable = seen.iter().filter(|seen| seen.name != own && seen.running);
    if let Some(best) = joinable.max_by(|a, b| (a.members, a.uptime, &b.name).cmp(&(b.members, b.uptime, &a.name))) {
        return Some(Beginning::Join(best.name.clone()));
    }
    // Nobody runs yet: the first by name that answers founds, when enough have been seen to be sure.
    let listed = found.iter().any(|name| name == own);
    let first = seen.iter().map(|seen| seen.name.as_str()).min();
    let enough = seen.len() >= 2 || found.len() < 2;
    let founding = listed && first == Some(own) && enough;
    founding.then(|| Beginning::Ready(Identity::founder(own, clock::random)))
}
