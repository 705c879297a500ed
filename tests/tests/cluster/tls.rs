//! TLS between nodes: what works with it, and who is kept out and told why.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use black_box::{Cluster, Node};
use tempfile::TempDir;

use super::{Client, agreed};
use crate::certificates::Authority;
use crate::methods::DURABLE;

/// How a connection ends that is refused because it comes without TLS.
const WANTS_TLS: u8 = 4;
const TOOL: u8 = 1;
const NODE_LINK: u8 = 2;

/// The files of nodes that verify each other, and the settings that name them.
struct Trust {
    _folder: TempDir,
    settings: String,
}

impl Trust {
    fn new() -> Trust {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let authority = Authority::new();
        authority.write(folder.path());
        authority.issue(folder.path(), "node", "a node");
        let at = folder.path().display();
        let settings = format!(
            "inter_node.ssl_options.cacertfile = {at}/ca.pem\n\
             inter_node.ssl_options.certfile = {at}/node.pem\n\
             inter_node.ssl_options.keyfile = {at}/node.key\n\
             inter_node.ssl_options.verify = verify_peer\n\
             inter_node.ssl_options.fail_if_no_peer_cert = true\n"
        );
        Trust { _folder: folder, settings }
    }
}

/// Begins a connection to the node port without TLS; the first byte of the answer.
fn knock(node: &Node, kind: u8) -> u8 {
    let mut hello = [&b"WARREN\x01"[..], &[kind], &[7; 32], &[5], b"x@box"].concat();
    let mut stream = TcpStream::connect(node.node_port()).expect("the node listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream.write_all(&hello).expect("the node reads");
    stream.read_exact(&mut hello[..1]).expect("the node answers");
    hello[0]
}

#[track_caller]
fn cannot_join(node: &Node, to: &Node, why: &str) {
    let output = node.ctl(&["join_cluster", to.name()]);
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(!output.status.success() && said.contains(why), "{why:?} awaited: {said}");
}

#[test]
fn a_cluster_with_tls_between_its_nodes_works_as_any_other() {
    let trust = Trust::new();
    let mut cluster = Cluster::configured(3, &trust.settings);
    let policy = r#"{"ha-mode":"all","ha-sync-mode":"automatic"}"#;
    let _ = cluster[2].ctl(&["set_policy", "ha-all", "^", policy]).success();
    let mut client = Client::of(&cluster[0]).confirms();
    client.declare("mirrored", DURABLE);
    agreed(&cluster, "/api/queues/%2f/mirrored?columns=name,synchronised_slave_nodes", |queue| {
        queue["synchronised_slave_nodes"].as_array().is_some_and(|mirrors| mirrors.len() == 2)
    });
    // Each is more than a record of TLS holds, all are more than is read at once.
    let bodies: Vec<String> = (b'a'..b'k').map(|letter| char::from(letter).to_string().repeat(100_000)).collect();
    for body in &bodies {
        assert!(client.publish("mirrored", body));
    }
    assert_eq!(knock(&cluster[0], NODE_LINK), WANTS_TLS);
    assert_eq!(knock(&cluster[0], TOOL), b'W');
    let status = cluster[1].ctl(&["cluster_status"]).success();
    assert!(status.contains(cluster[2].name()), "{status}");
    cluster[0].kill();
    cluster.wait_for_running(2);
    let mut other = Client::of(&cluster[1]);
    for body in bodies {
        assert!(other.get("mirrored") == Some(body));
    }
    cluster[0].resume();
    cluster.wait_for_running(3);
}

#[test]
fn a_node_with_a_certificate_of_another_authority_is_kept_out() {
    let mut nodes = [Trust::new(), Trust::new()].map(|trust| (Node::configured(&trust.settings), trust));
    let [(ours, _), (stranger, _)] = &mut nodes;
    cannot_join(stranger, ours, "its certificate leads to none in inter_node.ssl_options.cacertfile");
    ours.wait_for_line("it does not accept the certificate of this node");
}

#[test]
fn a_node_without_tls_is_kept_out_and_both_say_why() {
    let trust = Trust::new();
    let (mut secure, mut plain) = (Node::configured(&trust.settings), Node::start());
    cannot_join(&plain, &secure, "it wants TLS between nodes: inter_node.ssl_options");
    secure.wait_for_line("it speaks no TLS between nodes: inter_node.ssl_options is set here");
    cannot_join(&secure, &plain, "it speaks no TLS between nodes: inter_node.ssl_options is set here");
    plain.wait_for_line("it speaks TLS, and this node has none between nodes: inter_node.ssl_options");
}

#[test]
fn links_without_tls_end_when_one_node_wants_it() {
    let trust = Trust::new();
    let mut cluster = Cluster::start(2);
    cluster[1].stop();
    cluster[1].configure(&trust.settings);
    cluster[1].launch();
    cluster[1].wait_for_line("speaks no TLS, and this node wants TLS between nodes: inter_node.ssl_options");
    cluster[0].wait_for_line("it wants TLS between nodes: inter_node.ssl_options");
}
