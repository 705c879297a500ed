//! Debian's HAProxy in front of three nodes, with the example of docs/clustering.md.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use black_box::{Cluster, Node, Wire, address, free_port, http, until};

use crate::methods::{DECLARE_OK, DURABLE, PASSIVE, declare};

/// The page with the example.
const PAGE: &str = include_str!("../../docs/clustering.md");

struct Proxy {
    process: Child,
    at: SocketAddr,
}

impl Proxy {
    /// Runs the example, with addresses and ports of these nodes in place of its own.
    fn before(cluster: &Cluster) -> Proxy {
        let (_, example) = PAGE.split_once("```haproxy\n").expect("the page has an example");
        let (example, _) = example.split_once("```").expect("the example ends");
        let at = SocketAddr::new(address(), free_port());
        let replaced = |text: &str, old: &str, new: &str| {
            assert!(text.contains(old), "the example has no {old:?}:\n{text}");
            text.replace(old, new)
        };
        let mut configuration = replaced(example, "bind :5672", &format!("bind {at}"));
        for (host, node) in ["broker-a", "broker-b", "broker-c"].iter().zip(cluster.iter()) {
            let old = format!("{host}:5672 check port 15672");
            let new = format!("{} check port {}", node.amqp(), node.http().port());
            configuration = replaced(&configuration, &old, &new);
        }
        let path = cluster[0].folder().join("haproxy.cfg");
        std::fs::write(&path, configuration).unwrap();
        let mut command = Command::new("haproxy");
        let paths = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", paths).arg("-db").arg("-f").arg(&path).stdin(Stdio::null());
        let process = command.spawn().expect("haproxy is installed");
        Proxy { process, at }
    }

    /// Waits until a client is served.
    #[track_caller]
    fn client(&self) -> Wire {
        until("the proxy has a node for clients", || self.is_answered().then(|| Wire::open(self.at)))
    }

    /// Whether somebody behind it speaks AMQP.
    fn is_answered(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.at) else { return false };
        let said = stream.write_all(b"AMQP\x00\x00\x09\x01").and_then(|()| stream.read_exact(&mut [0; 1]));
        said.is_ok()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How many clients a node has.
fn clients(node: &Node) -> usize {
    let (status, body) = http(node.http(), "GET", "/api/connections?columns=node", "");
    assert_eq!(status, 200, "{body}");
    body.matches(node.name()).count()
}

#[test]
fn the_example_spreads_clients_over_nodes_that_serve() {
    let mut cluster = Cluster::start(3);
    let proxy = Proxy::before(&cluster);
    let mut first = proxy.client();
    first.method(1, &declare("shared", DURABLE, &[]));
    first.expect(DECLARE_OK);
    // As soon as all are known to be healthy each new client goes to the node with the fewest.
    let mut held = vec![first];
    until("each node has a client", || {
        held.push(proxy.client());
        cluster.iter().all(|node| clients(node) > 0).then_some(())
    });
    held.clear();

    // A node in maintenance gets nobody, whether or not the proxy has noticed.
    let _ = cluster[2].ctl(&["drain"]).success();
    let mut held: Vec<Wire> = (0..6).map(|_| proxy.client()).collect();
    for client in &mut held {
        client.method(1, &declare("shared", PASSIVE, &[]));
        client.expect(DECLARE_OK);
    }
    assert_eq!(clients(&cluster[2]), 0);
    let _ = cluster[2].ctl(&["revive"]).success();
    drop(held);

    // Nor does a dead one.
    cluster[1].kill();
    cluster.wait_for_running(2);
    let _still = proxy.client();
    until("the client is at a node that is left", || {
        (clients(&cluster[0]) + clients(&cluster[2]) == 1).then_some(())
    });
}
