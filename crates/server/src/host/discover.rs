//! How a node with an empty folder begins: as a cluster of its own, or as a member of one that its
//! configuration lets it find (RabbitMQ, "Cluster Formation and Peer Discovery").

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use management::host::AppState;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ProcessHost;
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
        ensure_kind(host, &identity)?;
        if let Some((to, generation)) = crate::returning::wants_back(&host.config.data_dir)? {
            host.tell_stance(Stance::Begun);
            return Ok(Beginning::Return { identity, to, generation });
        }
        host.tell_stance(Stance::Begun);
        return Ok(Beginning::Ready(identity));
    }
    host.tell_stance(Stance::Blank);
    let beginning = found_or_find(host, &name).await;
    if matches!(beginning, Beginning::Ready(_)) {
        host.tell_stance(Stance::Begun);
    }
    Ok(beginning)
}

/// What a folder holds is of a node with queues, or of a witness: neither goes on as the other.
fn ensure_kind(host: &ProcessHost, identity: &Identity) -> Result<()> {
    let folder = host.config.data_dir.display();
    let wanted = host.config.is_witness();
    anyhow::ensure!(
        identity.witness || !wanted,
        "metadata_witness names this node, and the data folder {folder} is that of a node with queues: take it out \
         of its cluster, and give it an empty data folder"
    );
    anyhow::ensure!(
        wanted || !identity.witness,
        "the data folder {folder} is that of a witness, and metadata_witness does not name this node: put it back, \
         or take the node out of its cluster and give it an empty data folder"
    );
    Ok(())
}

/// A witness founds nothing: it waits until it finds a cluster, is asked into one, or is told to join one.
async fn find(host: &ProcessHost, name: &str) -> Beginning {
    let why = "a witness waits for two nodes whose metadata_witness names it, or to be told to join a cluster".to_owned();
    tracing::info!("not in service yet: {why}");
    host.set(AppState::Starting { why });
    let mut invited = host.invitation.subscribe();
    loop {
        invited.mark_unchanged();
        if let Some(seed) = host.take_invitation() {
            return Beginning::Join(seed);
        }
        let found = candidates(host).await;
        if let Advice::Join(seed) = advise(name, &found, &look(host, name, &found).await) {
            return Beginning::Join(seed);
        }
        let again = host.config.cluster.formation.discovery_retry_interval;
        let _ = tokio::time::timeout(again, invited.changed()).await;
    }
}

async fn found_or_find(host: &ProcessHost, name: &str) -> Beginning {
    if host.config.is_witness() {
        return find(host, name).await;
    }
    let formation = &host.config.cluster.formation;
    let mut found = candidates(host).await;
    if found.iter().all(|other| other == name) {
        return Beginning::Ready(Identity::founder(name, clock::random));
    }
    for _ in 0..formation.discovery_retry_limit {
        match advise(name, &found, &look(host, name, &found).await) {
            Advice::Join(seed) => return Beginning::Join(seed),
            Advice::Found => {
                // Claim first, then look: of two that would found, whoever claims later sees the claim
                // of the other. So at most one goes on.
                host.tell_stance(Stance::Claims);
                if advise(name, &found, &look(host, name, &found).await) == Advice::Found {
                    return Beginning::Ready(Identity::founder(name, clock::random));
                }
                host.tell_stance(Stance::Blank);
            }
            Advice::Wait => {}
        }
        tokio::time::sleep(formation.discovery_retry_interval).await;
        found = candidates(host).await;
    }
    tracing::warn!("peer discovery found nobody to join: node {name} begins a cluster of its own");
    Beginning::Ready(Identity::founder(name, clock::random))
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

/// How far a node is with being a member of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stance {
    /// It has nothing, and looks for a cluster.
    Blank,
    /// The same, and it is about to found one if nobody else is.
    Claims,
    /// It is a member, or it does not know yet.
    Begun,
}

/// What a candidate says of itself.
#[derive(Clone, Debug)]
struct Seen {
    name: String,
    members: usize,
    running: bool,
    stance: Stance,
    witness: bool,
    uptime: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Advice {
    Join(String),
    Found,
    /// Ask again later.
    Wait,
}

/// Asks all candidates. Those whose application is stopped have no part in this.
async fn look(host: &ProcessHost, own: &str, found: &[String]) -> Vec<Seen> {
    let ask = host.asking(own, Duration::from_secs(3));
    let mut seen = Vec::new();
    for name in found.iter().filter(|name| *name != own) {
        let answer = match ask.post(name, "/api/peer/who", &json!({})).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::info!("peer discovery: {error}");
                continue;
            }
        };
        if answer["app"] == "stopped" {
            continue;
        }
        seen.push(Seen {
            name: name.clone(),
            members: answer["members"].as_array().map_or(0, Vec::len),
            running: answer["app"] == "running",
            stance: Stance::deserialize(&answer["stance"]).unwrap_or(Stance::Begun),
            witness: answer["witness"].as_bool().unwrap_or(false),
            uptime: answer["uptime_millis"].as_u64().unwrap_or(0),
        });
    }
    seen
}

/// The largest cluster is joined first, then who has run longest, then by name. Where nobody runs yet, the
/// first by name of those that answer and are no witness founds, unless one has begun already, and when at
/// least one other answers: a node that nobody reaches keeps nobody waiting, and founds nothing before it has given up.
fn advise(own: &str, found: &[String], others: &[Seen]) -> Advice {
    let joinable = others.iter().filter(|seen| seen.running);
    if let Some(best) = joinable.max_by(|a, b| (a.members, a.uptime, &b.name).cmp(&(b.members, b.uptime, &a.name))) {
        return Advice::Join(best.name.clone());
    }
    let listed = found.iter().any(|name| name == own);
    let gives_way = |seen: &Seen| seen.stance == Stance::Blank && (seen.witness || own < seen.name.as_str());
    if listed && !others.is_empty() && others.iter().all(gives_way) { Advice::Found } else { Advice::Wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, stance: Stance) -> Seen {
        Seen { name: name.to_owned(), members: 0, running: false, stance, witness: false, uptime: 0 }
    }

    fn advise_among(own: &str, others: &[Seen]) -> Advice {
        let names = ["a", "b", "c"].map(str::to_owned);
        advise(own, &names, others)
    }

    #[test]
    fn the_first_of_those_that_answer_founds() {
        let blank = |name| seen(name, Stance::Blank);
        assert_eq!(advise_among("a", &[blank("b"), blank("c")]), Advice::Found);
        assert_eq!(advise_among("b", &[blank("a"), blank("c")]), Advice::Wait);
        assert_eq!(advise_among("b", &[blank("c")]), Advice::Found);
        assert_eq!(advise_among("a", &[]), Advice::Wait);
        assert_eq!(advise_among("0", &[blank("a")]), Advice::Wait, "it is not in the list");
    }

    #[test]
    fn a_witness_is_not_waited_for() {
        let witness = Seen { witness: true, ..seen("a", Stance::Blank) };
        assert_eq!(advise_among("b", &[witness.clone(), seen("c", Stance::Blank)]), Advice::Found);
        assert_eq!(advise_among("c", &[witness.clone(), seen("b", Stance::Blank)]), Advice::Wait);
        // Of a cluster that is not up, or while it joins one.
        assert_eq!(advise_among("b", &[Seen { stance: Stance::Begun, ..witness }]), Advice::Wait);
    }

    #[test]
    fn whoever_is_at_it_already_is_waited_for() {
        for stance in [Stance::Claims, Stance::Begun] {
            assert_eq!(advise_among("a", &[seen("b", stance), seen("c", Stance::Blank)]), Advice::Wait);
        }
    }

    #[test]
    fn the_largest_that_runs_is_joined() {
        let runs = |name, members, uptime| Seen { members, running: true, uptime, ..seen(name, Stance::Begun) };
        let join = |others: &[Seen]| advise_among("a", others);
        assert_eq!(join(&[runs("b", 1, 9), runs("c", 2, 1)]), Advice::Join("c".to_owned()));
        assert_eq!(join(&[runs("b", 1, 1), runs("c", 1, 2)]), Advice::Join("c".to_owned()));
        assert_eq!(join(&[runs("b", 1, 1), runs("c", 1, 1)]), Advice::Join("b".to_owned()));
    }

    /// Two nodes in all orders of claiming and looking, from the moment their ports are open.
    #[test]
    fn of_two_that_look_at_once_one_founds() {
        // Each node opens its port, looks, claims, looks again; `None`: its port is closed.
        fn go_on(nodes: [(Option<Stance>, u8); 2], founders: &mut Vec<usize>) {
            let names = ["a", "b"];
            for place in [0, 1] {
                let (stance, step) = nodes[place];
                let other = nodes[1 - place].0.map(|stance| seen(names[1 - place], stance));
                let others: Vec<Seen> = other.into_iter().chain([seen("c", Stance::Blank)]).collect();
                let next = match step {
                    0 => (Some(Stance::Blank), 1),
                    1 if advise_among(names[place], &others) == Advice::Found => (stance, 2),
                    2 => (Some(Stance::Claims), 3),
                    3 if advise_among(names[place], &others) == Advice::Found => (Some(Stance::Begun), 4),
                    // It would try again; what it sees then is another order.
                    3 => (Some(Stance::Blank), 5),
                    _ => continue,
                };
                let mut after = nodes;
                after[place] = next;
                let count = after.iter().filter(|(stance, _)| *stance == Some(Stance::Begun)).count();
                assert!(count < 2, "two have founded");
                founders.extend((next.1 == 4).then_some(place));
                go_on(after, founders);
            }
        }
        let mut founders = Vec::new();
        go_on([(None, 0); 2], &mut founders);
        assert!(founders.contains(&0) && founders.contains(&1), "either may, if it comes first");
    }
}
