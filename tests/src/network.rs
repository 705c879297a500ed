//! A network in namespaces of its own, in which links between nodes can be cut, both ways or one.
//!
//! ```text
//!   the test --+
//!   node 0 ----+-- switch: forwards, or drops by who sends and to whom
//!   node 1 ----+
//! ```
//!
//! Every node has a namespace with one link into that of the switch. What is cut vanishes without a
//! word, as behind a firewall that drops. The test itself always reaches every node.
//!
//! It is made with `ip` (iproute2) by who may make namespaces: root, in a container with CAP_NET_ADMIN
//! and CAP_SYS_ADMIN. Several tests may have one each at once, and all of it goes when it goes out of
//! scope.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::program::run;

const PATIENCE: Duration = Duration::from_secs(20);
/// For measurements of networks, and so in nobody's use: RFC 2544.
const RANGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const RANGE_SIZE: u32 = 1 << 17;
/// Addresses of one network: the first is the test's, nodes follow.
const NETWORK_SIZE: u32 = 16;
/// Of the switch, on every link.
const GATEWAY: &str = "169.254.1.1";

/// See the file's head. Nodes are named by their place, from 0.
#[derive(Debug)]
pub struct Network {
    /// Of the switch's namespace.
    name: String,
    /// Of the test's link.
    link: String,
    base: u32,
    places: usize,
    /// From whom to whom nothing passes.
    cuts: Mutex<BTreeSet<(usize, usize)>>,
}

impl Network {
    /// A network of so many nodes.
    ///
    /// # Panics
    /// If namespaces cannot be made, with what is missing.
    #[must_use]
    #[track_caller]
    pub fn of(places: usize) -> Network {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        assert!(places + 2 < NETWORK_SIZE as usize, "a network has fewer nodes");
        let mut network = Network {
            name: format!("warren-{process}-{number}"),
            link: format!("w{process}-{number}"),
            base: 0,
            places,
            cuts: Mutex::default(),
        };
        remove_leftovers();
        if let Err(said) = ip(&format!("netns add {}", network.name)) {
            panic!("network namespaces are needed: run as root, with CAP_NET_ADMIN and CAP_SYS_ADMIN: {said}");
        }
        network.make_switch();
        network.claim_addresses(process.wrapping_mul(31).wrapping_add(number));
        (0..places).for_each(|place| network.make_place(place));
        network
    }

    fn make_switch(&self) {
        let Network { name, link, .. } = self;
        let forward = "mount -t proc proc /proc && echo 1 > /proc/sys/net/ipv4/ip_forward";
        let _ = run(Command::new("ip").args(["netns", "exec", name, "sh", "-c", forward]), PATIENCE).success();
        must(&format!("-n {name} link set lo up"));
        must(&format!("-n {name} addr add {GATEWAY}/32 dev lo"));
        must(&format!("link add {link} type veth peer name test netns {name}"));
        must(&format!("link set {link} up"));
        must(&format!("-n {name} link set test up"));
    }

    /// Takes the first part of the range that no other test has.
    fn claim_addresses(&mut self, begin: u32) {
        let count = RANGE_SIZE / NETWORK_SIZE;
        for n in 0..count {
            self.base = u32::from(RANGE) + (begin.wrapping_add(n) % count) * NETWORK_SIZE;
            let (first, test, link) = (Ipv4Addr::from(self.base), Ipv4Addr::from(self.base + 1), &self.link);
            must(&format!("addr add {test}/32 dev {link}"));
            match ip(&format!("route add {first}/28 via {GATEWAY} dev {link} onlink src {test}")) {
                Ok(()) => return must(&format!("-n {} route add {test}/32 dev test", self.name)),
                Err(said) => assert!(said.contains("File exists"), "{said}"),
            }
            must(&format!("addr del {test}/32 dev {link}"));
        }
        panic!("{count} networks are there already");
    }

    fn make_place(&self, place: usize) {
        let (name, namespace, at) = (&self.name, self.namespace(place), self.address(place));
        must(&format!("netns add {namespace}"));
        must(&format!("-n {name} link add node{place} type veth peer name switch netns {namespace}"));
        must(&format!("-n {name} link set node{place} up"));
        must(&format!("-n {name} route add {at}/32 dev node{place}"));
        must(&format!("-n {namespace} link set lo up"));
        must(&format!("-n {namespace} link set switch up"));
        must(&format!("-n {namespace} addr add {at}/32 dev switch"));
        must(&format!("-n {namespace} route add default via {GATEWAY} dev switch onlink"));
    }

    /// The namespace of a node.
    #[must_use]
    pub fn namespace(&self, place: usize) -> String {
        format!("{}-{place}", self.name)
    }

    /// The address of a node.
    #[must_use]
    pub fn address(&self, place: usize) -> IpAddr {
        Ipv4Addr::from(self.base + 2 + place as u32).into()
    }

    /// Nothing that one node sends reaches the other any more.
    #[track_caller]
    pub fn cut(&self, from: usize, to: usize) {
        if self.cuts.lock().unwrap_or_else(PoisonError::into_inner).insert((from, to)) {
            self.rule("add", from, to);
        }
    }

    /// Cuts a link both ways.
    #[track_caller]
    pub fn split(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Cuts a node off from all others.
    #[track_caller]
    pub fn isolate(&self, place: usize) {
        (0..self.places).filter(|other| *other != place).for_each(|other| self.split(place, other));
    }

    /// Everything passes again.
    #[track_caller]
    pub fn heal(&self) {
        let cuts = std::mem::take(&mut *self.cuts.lock().unwrap_or_else(PoisonError::into_inner));
        for (from, to) in cuts {
            self.rule("del", from, to);
        }
    }

    #[track_caller]
    fn rule(&self, verb: &str, from: usize, to: usize) {
        must(&format!("-n {} rule {verb} iif node{from} to {}/32 blackhole", self.name, self.address(to)));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Whatever of it is there.
        let _ = ip(&format!("link del {}", self.link));
        for place in 0..self.places {
            let _ = ip(&format!("netns del {}", self.namespace(place)));
        }
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// Removes what tests left that were killed.
fn remove_leftovers() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("warren-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

#[track_caller]
fn must(arguments: &str) {
    if let Err(said) = ip(arguments) {
        panic!("{said}");
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let done = Command::new("ip").args(arguments.split(' ')).output();
    let done = done.map_err(|error| format!("ip, of iproute2, does not start: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("ip {arguments}: {}", said.trim())) }
}
