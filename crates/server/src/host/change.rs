//! Changes of the data folder while the application is stopped: joining, leaving, beginning anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use management::host::{HostFailure, Joined, NodeKind};
use serde_json::json;

use super::ask::Ask;
use super::facts::MEMBERS;
use super::peer_routes::{Admission, Candidate};
use super::{ProcessHost, address_of, forget};
use crate::clock;
use crate::config::{NodeName, PeerDiscovery};
use crate::identity::Identity;

/// A member that is asked to take this node back in is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

fn broken(error: &dyn std::fmt::Display) -> HostFailure {
    HostFailure::Broken(error.to_string())
}

impl ProcessHost {
    pub(super) fn own_name(&self) -> String {
        self.config.node_name.to_string()
    }

    pub(super) fn identity(&self) -> Result<Option<Identity>, HostFailure> {
        Identity::load(&self.config.data_dir).map_err(|error| broken(&format!("{error:#}")))
    }

    pub(super) fn ask<'a>(&'a self, own_name: &'a str) -> Ask<'a> {
        self.asking(own_name, Duration::from_secs(15))
    }

    /// Deletes all that the node has; it is blank afterwards.
    fn wipe(&self) -> Result<(), HostFailure> {
        for name in ["node.json", "metadata", "messages", MEMBERS, forget::FILE] {
            let path = self.config.data_dir.join(name);
            remove(&path).map_err(|error| broken(&format!("cannot delete {}: {error}", path.display())))?;
        }
        Ok(())
    }

    /// Has another node take this one in, and becomes the member it is told to be. The application must
    /// be stopped; what the node had is deleted once it is taken in.
    pub(crate) async fn become_member(&self, seed: &str, ram: bool) -> Result<(), HostFailure> {
        let own = self.own_name();
        let witness = self.config.is_witness();
        let ram = ram && !witness;
        let identity = Identity { ram, witness, ..Identity::founder(&own, clock::random) };
        let candidate = self.candidate(&identity, 0);
        let body = serde_json::to_value(&candidate).map_err(|error| broken(&error))?;
        let answer = self.ask(&own).post(seed, "/api/peer/admit", &body).await?;
        let admission: Admission = serde_json::from_value(answer).map_err(|error| broken(&error))?;
        self.wipe()?;
        self.remember_admission(&admission, identity.kind());
        let identity = Identity {
            cluster: admission.cluster,
            generation: admission.generation,
            node: admission.node,
            founder: false,
            contacts: admission.members,
            ..identity
        };
        identity.save(&self.config.data_dir).map_err(|error| broken(&format!("{error:#}")))
    }

    fn refuse_to_witness(&self) -> Result<(), HostFailure> {
        let why = "this node is a witness: metadata_witness names it";
        if self.config.is_witness() { Err(HostFailure::Refused(why.to_owned())) } else { Ok(()) }
    }

    fn candidate(&self, identity: &Identity, generation: u64) -> Candidate {
        let (name, address) = (self.own_name(), address_of(&self.config.node_name));
        let Identity { disk, ram, witness, .. } = *identity;
        Candidate { name, address, disk, ram, witness, generation }
    }

    /// Has a node of the side that stayed take this one back in. What its queues hold stays where it is.
    pub(crate) async fn become_member_again(&self, identity: Identity, to: &str, generation: u64) -> Result<(), HostFailure> {
        let own = self.own_name();
        let candidate = self.candidate(&identity, generation);
        let body = serde_json::to_value(&candidate).map_err(|error| broken(&error))?;
        let answer = self.ask(&own).post(to, "/api/peer/admit", &body).await?;
        let admission: Admission = serde_json::from_value(answer).map_err(|error| broken(&error))?;
        let path = self.config.data_dir.join("metadata");
        remove(&path).map_err(|error| broken(&format!("cannot delete {}: {error}", path.display())))?;
        let identity = Identity {
            cluster: admission.cluster,
            generation: admission.generation,
            node: admission.node,
            founder: false,
            contacts: admission.members,
            ..identity
        };
        let saved = identity.save(&self.config.data_dir).and_then(|()| crate::returning::taken_in(&self.config.data_dir, admission.held));
        saved.map_err(|error| broken(&format!("{error:#}")))
    }

    /// Waits until it shows that both sides of a partition have given way: the member that this node asks to be
    /// taken back in asks the same of this one, which has the lower name; or it has been taken into the generation
    /// of this one before that gave way as well. Then this node goes on as before.
    pub(crate) async fn is_waited_for_by(&self, member: &str, generation: u64) {
        let own = self.own_name();
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let Ok(who) = self.ask(&own).post(member, "/api/peer/who", &json!({})).await else { continue };
            let asks = who["returns_to"] == own.as_str() && own.as_str() < member;
            if asks || who["generation"].as_u64() == Some(generation) {
                return;
            }
        }
    }

    pub(super) async fn join_cluster(self: &Arc<Self>, seed: &str, kind: NodeKind) -> Result<Joined, HostFailure> {
        let _one = self.changing.lock().await;
        let own = self.own_name();
        if seed == own {
            return Err(HostFailure::WithItself(seed.into()));
        }
        if kind == NodeKind::Ram {
            self.refuse_to_witness()?;
        }
        let name: NodeName = seed.parse().map_err(|error| HostFailure::BadData(format!("node name '{seed}' {error}")))?;
        let was_running = !self.is_stopped();
        let who = self.ask(&own).post(&name.to_string(), "/api/peer/who", &json!({})).await?;
        let names = |value: &serde_json::Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
        };
        let theirs = names(&who["members"]);
        let ours = self.members();
        if theirs.contains(&own) && ours.iter().any(|member| member == seed) {
            return Ok(Joined { already: true });
        }
        if ours.len() > 1 && self.is_only_disc() {
            return Err(HostFailure::ClusteringOnlyDiscNode);
        }
        if theirs.contains(&own) {
            let (thinker, dissident) = (seed.into(), own.as_str().into());
            return Err(HostFailure::InconsistentCluster { thinker, dissident });
        }
        if who["app"] != "running" {
            let why = "its application does not run".to_owned();
            return Err(HostFailure::Unreachable { node: seed.into(), why });
        }
        if was_running {
            self.order_stop().await?;
        }
        let joined = self.change_cluster(seed, kind, ours.len() > 1).await;
        if was_running {
            self.order_start().await?;
        }
        joined
    }

    /// Leaves the old cluster, if there is one, and enters another.
    async fn change_cluster(&self, seed: &str, kind: NodeKind, leaves: bool) -> Result<Joined, HostFailure> {
        if leaves {
            self.say_goodbye(true).await?;
            self.wipe()?;
        }
        self.become_member(seed, kind == NodeKind::Ram).await?;
        Ok(Joined { already: false })
    }

    pub(super) async fn begin_anew(self: &Arc<Self>, force: bool) -> Result<(), HostFailure> {
        let _one = self.changing.lock().await;
        if !self.is_stopped() {
            return Err(HostFailure::AppRunning);
        }
        if !force {
            // Whoever resets a node knows that what it has goes with it.
            self.say_goodbye(true).await?;
        }
        self.wipe()
    }

    /// Has some other member note that this node is one no longer.
    async fn say_goodbye(&self, force: bool) -> Result<(), HostFailure> {
        let own = self.own_name();
        let others: Vec<String> = self.members().into_iter().filter(|member| *member != own).collect();
        if others.is_empty() {
            return Ok(());
        }
        if self.is_only_disc() {
            return Err(HostFailure::ResettingOnlyDiscNode);
        }
        let mut last = HostFailure::NoRunningClusterNodes;
        for other in others {
            if !self.runs(&other).await {
                continue;
            }
            match self.ask(&own).post(&other, "/api/peer/leave", &json!({"name": own, "force": force})).await {
                Ok(_) => return Ok(()),
                Err(HostFailure::Unreachable { .. }) => {}
                Err(refused) => last = refused,
            }
        }
        Err(last)
    }

    /// Whether the application of another node runs.
    async fn runs(&self, node: &str) -> bool {
        let who = self.ask(&self.own_name()).post(node, "/api/peer/who", &json!({})).await;
        who.is_ok_and(|who| who["app"] == "running")
    }

    /// A node of its cluster, as far as this node knows, that runs and does not know of it; if there is one
    /// that does, nobody.
    pub(crate) async fn disowned_by(&self) -> Option<String> {
        let own = self.own_name();
        let ask = Ask { patience: Duration::from_secs(1), ..self.ask(&own) };
        let mut by = None;
        for other in self.members().into_iter().filter(|member| *member != own) {
            let Ok(who) = ask.post(&other, "/api/peer/who", &json!({})).await else { continue };
            if who["app"] != "running" {
                continue;
            }
            if who["members"].as_array().into_iter().flatten().any(|member| *member == *own) {
                return None;
            }
            by = Some(other);
        }
        by
    }

    pub(super) async fn rejoin_as(self: &Arc<Self>, kind: NodeKind) -> Result<bool, HostFailure> {
        let _one = self.changing.lock().await;
        if !self.is_stopped() {
            return Err(HostFailure::AppRunning);
        }
        let own = self.own_name();
        let others: Vec<String> = self.members().into_iter().filter(|member| *member != own).collect();
        if others.is_empty() {
            return Err(HostFailure::NotClustered);
        }
        self.refuse_to_witness()?;
        let ram = kind == NodeKind::Ram;
        if self.identity()?.is_some_and(|identity| identity.ram == ram) {
            return Ok(false);
        }
        if ram && self.is_only_disc() {
            return Err(HostFailure::ResettingOnlyDiscNode);
        }
        for other in &others {
            if self.runs(other).await {
                self.say_goodbye(false).await?;
                self.become_member(other, ram).await?;
                return Ok(true);
            }
        }
        Err(HostFailure::NoOnlineClusterNodes)
    }

    pub(super) async fn leave_cluster(self: &Arc<Self>, drain: bool, force: bool) -> Result<(), HostFailure> {
        let _one = self.changing.lock().await;
        if self.members().len() < 2 {
            return Err(HostFailure::InNoCluster(self.own_name().as_str().into()));
        }
        if let Some(node) = self.node() {
            let clients = node.connections.read().len();
            if clients > 0 && !force && !drain {
                return Err(HostFailure::Refused(format!(
                    "{clients} clients are connected to this node; close them, or leave with --drain or --force"
                )));
            }
            if drain {
                crate::maintenance::drain(&node, true).await.map_err(HostFailure::Temporary)?;
            }
        }
        let runs = !self.is_stopped();
        if runs {
            self.order_stop().await?;
        }
        if let Err(refused) = self.say_goodbye(force).await {
            if runs {
                self.order_start().await?;
            }
            return Err(refused);
        }
        self.wipe()?;
        if !runs {
            return Ok(());
        }
        if self.discovers_others() {
            tracing::warn!("this node has left its cluster; its application stays stopped, for peer discovery would take it back");
            return Ok(());
        }
        self.order_start().await
    }

    /// Whether a blank node looks for others to join.
    fn discovers_others(&self) -> bool {
        let formation = &self.config.cluster.formation;
        match formation.peer_discovery_backend {
            PeerDiscovery::ClassicConfig => formation.nodes.iter().any(|node| *node != self.config.node_name),
            PeerDiscovery::Dns => formation.dns_hostname.is_some(),
        }
    }

    pub(super) async fn boot_by_force(self: &Arc<Self>) -> Result<(), HostFailure> {
        let _one = self.changing.lock().await;
        if matches!(*self.state.borrow(), management::host::AppState::Running) {
            return Err(HostFailure::AppRunning);
        }
        let starts = !self.is_stopped();
        if starts {
            self.order_stop().await?;
        }
        let done = self.identity().and_then(|identity| match identity {
            Some(identity) => self.found_anew(&identity, self.next_generation(&identity)),
            None => Ok(()),
        });
        if starts {
            self.order_start().await?;
        }
        done
    }

    /// Makes the metadata log one whose only voter is this node, in a new generation.
    pub(super) fn found_anew(&self, identity: &Identity, generation: u64) -> Result<(), HostFailure> {
        let folder = self.config.data_dir.join("metadata");
        let name = self.own_name();
        let refounded = consensus::refound(&folder, identity.id(), &name, Some(generation));
        refounded.map_err(|error| broken(&error))?;
        let identity = Identity { generation, founder: true, ..identity.clone() };
        identity.save(&self.config.data_dir).map_err(|error| broken(&format!("{error:#}")))
    }

    /// The generation of a log that this node founds.
    pub(super) fn next_generation(&self, identity: &Identity) -> u64 {
        crate::partition::own_generation(identity.generation, &identity.name, self.members())
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
