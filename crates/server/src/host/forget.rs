//! `forget_cluster_node --offline`: a node that does not run gives up another member, so that it can start
//! although that one, which stopped later, will not come back.
//!
//! The metadata log is founded anew from what this node has, and `forgotten.json` says who is to go. The
//! first start forgets them in one entry with being up itself: their queues are taken up by what is there
//! then ([`broker::metadata::Command::ForgetNode`]). The file counts in the generation of that log alone: a
//! node that comes back into another gives up nobody there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use broker::Name;
use broker::metadata::{Command, NodeKind, Tables};
use cluster::handshake::is_same_node;
use management::host::{AppState, HostFailure};
use serde::{Deserialize, Serialize};

use super::ProcessHost;
use crate::data_folder::replace;
use crate::identity::Identity;

/// In the data folder.
pub(super) const FILE: &str = "forgotten.json";

/// See the file's head.
#[derive(Debug, Serialize, Deserialize)]
struct Forgotten {
    generation: u64,
    nodes: Vec<String>,
}

impl ProcessHost {
    pub(crate) async fn forget_offline(self: &Arc<Self>, node: &str) -> Result<(), HostFailure> {
        let _one = self.changing.lock().await;
        if matches!(*self.state.borrow(), AppState::Running | AppState::Paused { .. }) {
            return Err(HostFailure::OnlineNodeOfflineFlag);
        }
        let own = self.own_name();
        let members = self.members();
        let member = members.iter().find(|member| is_same_node(member, node));
        let member = member.ok_or(HostFailure::NotAClusterNode)?;
        if *member == own {
            return Err(HostFailure::Refused("a node does not forget itself: reset it".to_owned()));
        }
        let identity = self.identity()?.filter(|identity| identity.kind() == NodeKind::Disc);
        let identity = identity.ok_or(HostFailure::RemovingNodeFromOfflineNode)?;
        if self.somebody_runs(&members).await {
            return Err(HostFailure::RemovingNodeFromOfflineNode);
        }
        let starts = !self.is_stopped();
        if starts {
            self.order_stop().await?;
        }
        let done = self.found_without(&identity, member);
        if starts {
            self.order_start().await?;
        }
        done
    }

    async fn somebody_runs(&self, members: &[String]) -> bool {
        let own = self.own_name();
        let ask = self.asking(&own, Duration::from_secs(1));
        let nothing = serde_json::json!({});
        for member in members.iter().filter(|member| **member != own) {
            if ask.post(member, "/api/peer/who", &nothing).await.is_ok_and(|who| who["app"] == "running") {
                return true;
            }
        }
        false
    }

    /// Founds the log anew, to be one that does not have this member when the node is up.
    fn found_without(&self, identity: &Identity, member: &str) -> Result<(), HostFailure> {
        let broken = |error: anyhow::Error| HostFailure::Broken(format!("{error:#}"));
        let folder = &self.config.data_dir;
        let earlier = read(folder).map_err(broken)?;
        let earlier = earlier.filter(|earlier| earlier.generation == identity.generation);
        let mut nodes = earlier.map_or_else(Vec::new, |earlier| earlier.nodes);
        nodes.push(member.to_owned());
        let generation = self.next_generation(identity);
        // In front of the log that it belongs to, and of no effect without it.
        replace(folder, FILE, &Forgotten { generation, nodes }).map_err(broken)?;
        self.found_anew(identity, generation)?;
        self.unremember(member);
        Ok(())
    }
}

/// What gives up, as soon as this node is up in a log of this generation, those that it was told to forget.
pub(crate) fn commands(data_dir: &Path, tables: &Tables, generation: u64) -> Result<Vec<Command>> {
    let Some(forgotten) = read(data_dir)?.filter(|forgotten| forgotten.generation == generation) else {
        return Ok(Vec::new());
    };
    let members = forgotten.nodes.iter().filter_map(|name| tables.nodes.named(name));
    let commands = members.flat_map(|member| {
        let (node, incarnation) = (member.id, member.incarnation);
        let down = member.is_up().then_some(Command::NodeDown { node, incarnation, clean: false });
        down.into_iter().chain([Command::ForgetNode { node, force: true }])
    });
    Ok(commands.collect())
}

/// They are forgotten: says what became of their queues, from how it was `before` and is `after`.
pub(crate) fn done(data_dir: &Path, before: &Tables, after: &Tables) {
    let Ok(Some(forgotten)) = read(data_dir) else { return };
    for member in forgotten.nodes.iter().filter_map(|name| before.nodes.named(name)) {
        let led = before.queues.values().filter(|queue| queue.view.leader() == member.id);
        let (mut taken_up, mut ended, mut uncleanly): (u64, Vec<Name>, Vec<Name>) = (0, Vec::new(), Vec::new());
        for queue in led {
            match after.queues.get(&queue.id) {
                Some(now) => {
                    taken_up += 1;
                    if now.view.lineage > queue.view.lineage {
                        uncleanly.push(Arc::clone(&queue.name));
                    }
                }
                None => ended.push(Arc::clone(&queue.name)),
            }
        }
        tracing::warn!("node {} is forgotten: of its queues {taken_up} are led elsewhere, {} ended", member.name, ended.len());
        for queue in uncleanly.iter().take(100) {
            tracing::warn!("queue '{queue}' goes on from a copy that was not in sync: what only {} had is lost", member.name);
        }
        for queue in ended.iter().take(100) {
            tracing::warn!("queue '{queue}' was on node {} alone and ended", member.name);
        }
    }
    if let Err(error) = std::fs::remove_file(data_dir.join(FILE)) {
        tracing::warn!("cannot delete {}: {error}", data_dir.join(FILE).display());
    }
}

fn read(data_dir: &Path) -> Result<Option<Forgotten>> {
    let path = data_dir.join(FILE);
    match std::fs::read(&path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
