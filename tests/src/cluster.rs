//! Several nodes that are one broker.
//!
//! All of them have the address of the test process and ports of their own, so clusters of tests that
//! run at once do not meet. Nodes are named by their place, from 0. In a network each has an address and
//! a namespace of its own.

use std::fmt::Write as _;
use std::ops::{Index, IndexMut};
use std::process::Command;
use std::time::Duration;

use crate::http::try_http;
use crate::network::Network;
use crate::node::Node;
use crate::program::{Output, run};
use crate::until::until;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the file's head.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    network: Option<Network>,
}

impl Cluster {
    /// Starts so many nodes and joins all to the first.
    #[must_use]
    #[track_caller]
    pub fn start(count: usize) -> Cluster {
        Cluster::configured(count, "")
    }

    /// The same, with `settings` for all of them.
    #[must_use]
    #[track_caller]
    pub fn configured(count: usize, settings: &str) -> Cluster {
        Cluster::apart(count, settings).joined()
    }

    /// The same in a network that can be cut.
    #[must_use]
    #[track_caller]
    pub fn in_network(count: usize, settings: &str) -> Cluster {
        Cluster::placed(count, settings, |node| node).launched().joined()
    }

    /// The same, where each node has a disk of so many MiB for its data.
    #[must_use]
    #[track_caller]
    pub fn on_disks(count: usize, mebibytes: u32, settings: &str) -> Cluster {
        Cluster::placed(count, settings, |node| node.with_disk(mebibytes)).launched().joined()
    }

    /// Two nodes in a network that can be cut, and after them a witness.
    #[must_use]
    #[track_caller]
    pub fn with_witness(settings: &str) -> Cluster {
        let mut cluster = Cluster::placed(3, settings, |node| node);
        let at = cluster[2].node_port();
        for place in 0..3 {
            cluster[place].configure(&format!("metadata_witness = {at}\n"));
            cluster[place].launch();
        }
        for place in 0..2 {
            cluster[place].wait_for_line("stop with");
        }
        let _ = cluster[1].ctl(&["join_cluster", cluster[0].name()]).success();
        // As soon as there are two it is asked in.
        cluster[2].wait_for_line("stop with");
        cluster.wait_for_running(3);
        cluster
    }

    fn placed(count: usize, settings: &str, equip: impl Fn(Node) -> Node) -> Cluster {
        let network = Network::of(count);
        // The test is on none of the nodes' hosts.
        let settings = format!("loopback_users = none\n{settings}");
        let places = 0..count;
        let node = |place| equip(Node::placed(network.address(place), Some(network.namespace(place)), &settings));
        let nodes = places.map(node).collect();
        Cluster { nodes, network: Some(network) }
    }

    /// What its nodes reach each other through.
    ///
    /// # Panics
    /// If it was not started in a network.
    #[must_use]
    #[track_caller]
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("a cluster in a network")
    }

    #[track_caller]
    fn joined(self) -> Cluster {
        for node in &self.nodes[1..] {
            let _ = node.ctl(&["join_cluster", self[0].name()]).success();
        }
        self.wait_for_running(self.nodes.len());
        self
    }

    #[track_caller]
    fn launched(mut self) -> Cluster {
        for node in &mut self.nodes {
            node.launch();
        }
        for node in &mut self.nodes {
            node.wait_for_line("stop with");
        }
        self
    }

    /// Starts so many nodes that do not know each other.
    #[must_use]
    #[track_caller]
    pub fn apart(count: usize, settings: &str) -> Cluster {
        let nodes = (0..count).map(|_| Node::prepared(settings)).collect();
        Cluster { nodes, network: None }.launched()
    }

    /// Nodes that are not started and are to find each other by a list, in its order, with `settings` for
    /// all of them.
    #[must_use]
    pub fn listed(count: usize, settings: &str) -> Cluster {
        let mut nodes: Vec<Node> = (0..count).map(|_| Node::prepared(settings)).collect();
        nodes.sort_by(|a, b| a.name().cmp(b.name()));
        let mut list = "cluster_formation.peer_discovery_backend = classic_config\n".to_owned();
        for (place, node) in nodes.iter().enumerate() {
            let _ = writeln!(list, "cluster_formation.classic_config.nodes.{} = {}", place + 1, node.name());
        }
        for node in &nodes {
            node.configure(&list);
        }
        Cluster { nodes, network: None }
    }

    /// Waits until the nodes whose processes run say that so many nodes run.
    #[track_caller]
    pub fn wait_for_running(&self, count: usize) {
        for node in self.nodes.iter().filter(|node| node.is_up()) {
            until(&format!("{} says that {count} nodes run", node.name()), || {
                let asked = try_http(node.http(), "GET", "/api/nodes?columns=running", "");
                let (status, body) = asked.ok()?;
                (status == 200 && body.matches("\"running\":true").count() == count).then_some(())
            });
        }
    }

    /// All nodes.
    pub fn iter(&self) -> std::slice::Iter<'_, Node> {
        self.nodes.iter()
    }
}

impl Index<usize> for Cluster {
    type Output = Node;

    fn index(&self, place: usize) -> &Node {
        &self.nodes[place]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, place: usize) -> &mut Node {
        &mut self.nodes[place]
    }
}

impl Cluster {
    /// Runs `warren ctl` on all nodes at once.
    #[track_caller]
    pub fn ctl_everywhere(&self, arguments: &[&str]) -> Vec<Output> {
        let commands: Vec<Command> = self.iter().map(|node| node.ctl_command(arguments)).collect();
        std::thread::scope(|scope| {
            let start = |mut command| scope.spawn(move || run(&mut command, PATIENCE));
            let running: Vec<_> = commands.into_iter().map(start).collect();
            running.into_iter().map(|run| run.join().expect("it ends")).collect()
        })
    }
}

impl Node {
    /// Runs `warren ctl` on this node.
    #[must_use]
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        run(&mut self.ctl_command(arguments), PATIENCE)
    }

    fn ctl_command(&self, arguments: &[&str]) -> Command {
        let arguments: Vec<&str> = ["ctl", "-q", "-n", self.name()].iter().chain(arguments).copied().collect();
        self.command(&arguments)
    }
}
