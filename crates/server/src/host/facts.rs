//! The process as an operator sees it.

use std::sync::Arc;

use async_trait::async_trait;
use broker::Name;
use broker::metadata::NodeKind as Kind;
use management::host::{AppState, Host, HostFailure, Joined, LastKnown, NodeKind, ProcessFacts};
use serde::{Deserialize, Serialize};

use super::peer_routes::Admission;
use crate::data_folder::replace;
use crate::identity::Contact;
use super::{Order, ProcessHost};
use crate::node::Node;

/// In the data folder: who the members are.
pub(super) const MEMBERS: &str = "cluster.json";

/// The cluster as it was last seen: what there is to tell while the application is stopped.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    cluster_name: String,
    disc_nodes: Vec<String>,
    ram_nodes: Vec<String>,
    #[serde(default)]
    witness_nodes: Vec<String>,
}

impl Remembered {
    fn lists(&mut self) -> [&mut Vec<String>; 3] {
        [&mut self.disc_nodes, &mut self.ram_nodes, &mut self.witness_nodes]
    }
}

impl ProcessHost {
    /// Writes down who the members are.
    pub(crate) fn remember(&self, node: &Node) {
        let tables = node.tables.load();
        let of = |kind: Kind| -> Vec<String> {
            let members = tables.nodes.iter().filter(|member| member.kind == kind);
            let mut names: Vec<String> = members.map(|member| member.name.to_string()).collect();
            names.sort();
            names
        };
        let remembered = Remembered {
            cluster_name: tables.cluster_name().unwrap_or(&node.name).to_owned(),
            disc_nodes: of(Kind::Disc),
            ram_nodes: of(Kind::Ram),
            witness_nodes: of(Kind::Witness),
        };
        self.write_down(&remembered);
    }

    /// Writes down what a node is told that was just taken in.
    pub(super) fn remember_admission(&self, admission: &Admission, kind: Kind) {
        let own = self.config.node_name.to_string();
        let mut remembered = Remembered { cluster_name: admission.cluster_name.clone(), ..Remembered::default() };
        for Contact { name, .. } in &admission.members {
            let kind = match () {
                () if *name == own => kind,
                () if admission.ram_nodes.contains(name) => Kind::Ram,
                () if admission.witness_nodes.contains(name) => Kind::Witness,
                () => Kind::Disc,
            };
            let list = match kind {
                Kind::Disc => &mut remembered.disc_nodes,
                Kind::Ram => &mut remembered.ram_nodes,
                Kind::Witness => &mut remembered.witness_nodes,
            };
            list.push(name.clone());
        }
        for list in remembered.lists() {
            list.sort();
        }
        self.write_down(&remembered);
    }

    /// Writes down that a node is no member any more.
    pub(super) fn unremember(&self, node: &str) {
        let mut remembered = self.remembered();
        for list in remembered.lists() {
            list.retain(|member| member != node);
        }
        self.write_down(&remembered);
    }

    fn write_down(&self, remembered: &Remembered) {
        if let Err(error) = replace(&self.config.data_dir, MEMBERS, remembered) {
            tracing::warn!("{error:#}");
        }
    }

    fn remembered(&self) -> Remembered {
        let text = std::fs::read(self.config.data_dir.join(MEMBERS)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Names of all members as far as is known, this node among them.
    pub(super) fn members(&self) -> Vec<String> {
        if let Some(node) = self.node() {
            let tables = node.tables.load();
            if !tables.nodes.is_empty() {
                return tables.nodes.iter().map(|member| member.name.to_string()).collect();
            }
        }
        let Remembered { mut disc_nodes, ram_nodes, witness_nodes, .. } = self.remembered();
        disc_nodes.extend(ram_nodes);
        disc_nodes.extend(witness_nodes);
        disc_nodes
    }

    /// Whether the others have no disk.
    pub(super) fn is_only_disc(&self) -> bool {
        let own = self.config.node_name.to_string();
        let disc = match self.node() {
            Some(node) => {
                let tables = node.tables.load();
                let members = tables.nodes.iter().filter(|member| member.kind == Kind::Disc);
                members.map(|member| member.name.to_string()).collect()
            }
            None => self.remembered().disc_nodes,
        };
        disc.iter().all(|name| *name == own) && !disc.is_empty()
    }
}

#[async_trait]
impl Host for HostFace {
    fn name(&self) -> Name {
        self.0.config.node_name.to_string().into()
    }

    fn app(&self) -> AppState {
        self.0.state.borrow().clone()
    }

    fn process(&self) -> ProcessFacts {
        ProcessFacts {
            os_pid: std::process::id(),
            uptime: self.0.started.elapsed(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data_dir: self.0.config.data_dir.display().to_string(),
            log_files: crate::logging::files(&self.0.config),
            config_files: self.0.config.files.iter().map(|path| path.display().to_string()).collect(),
        }
    }

    fn last_known(&self) -> LastKnown {
        let Remembered { cluster_name, disc_nodes, ram_nodes, witness_nodes } = self.0.remembered();
        let own: Name = self.name();
        let names = |names: Vec<String>| -> Vec<Name> { names.into_iter().map(Name::from).collect() };
        let mut known = LastKnown {
            cluster_name,
            disc_nodes: names(disc_nodes),
            ram_nodes: names(ram_nodes),
            witness_nodes: names(witness_nodes),
        };
        if ![&known.disc_nodes, &known.ram_nodes, &known.witness_nodes].iter().any(|names| names.contains(&own)) {
            let list = if self.0.config.is_witness() { &mut known.witness_nodes } else { &mut known.disc_nodes };
            list.push(own);
            list.sort();
        }
        known
    }

    async fn start_app(&self) -> Result<(), HostFailure> {
        let _one = self.0.changing.lock().await;
        self.0.order_start().await
    }

    async fn stop_app(&self) -> Result<(), HostFailure> {
        let _one = self.0.changing.lock().await;
        self.0.order_stop().await
    }

    async fn reset(&self, force: bool) -> Result<(), HostFailure> {
        self.0.begin_anew(force).await
    }

    async fn join(&self, seed: Name, kind: NodeKind) -> Result<Joined, HostFailure> {
        self.0.join_cluster(&seed, kind).await
    }

    async fn change_kind(&self, kind: NodeKind) -> Result<bool, HostFailure> {
        self.0.rejoin_as(kind).await
    }

    async fn force_boot(&self) -> Result<(), HostFailure> {
        self.0.boot_by_force().await
    }

    async fn forget_offline(&self, node: Name) -> Result<(), HostFailure> {
        self.0.forget_offline(&node).await
    }

    async fn leave(&self, drain: bool, force: bool) -> Result<(), HostFailure> {
        self.0.leave_cluster(drain, force).await
    }

    fn stop(&self) {
        let _ = self.0.orders.send(Order::Exit);
    }

    fn os_env(&self) -> Vec<(String, String)> {
        let mut variables: Vec<(String, String)> = std::env::vars()
            .filter(|(name, _)| name.starts_with("WARREN_") || name.starts_with("RABBITMQ_"))
            .filter(|(name, _)| !name.contains("COOKIE") && !name.contains("PASS"))
            .collect();
        variables.sort();
        variables
    }

    fn arguments(&self) -> Vec<String> {
        std::env::args().collect()
    }
}

/// The process, as a value that can be shared.
pub(crate) struct HostFace(pub Arc<ProcessHost>);
