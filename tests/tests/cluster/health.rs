//! What a node that does not serve answers to health checks, to tools and to the HTTP API.

use std::net::TcpStream;

use black_box::{Cluster, Node, Output, http, try_http, until};

#[track_caller]
fn refused(output: &Output, code: i32, text: &str) {
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(text), "{text:?} awaited: {said}");
}

fn ready(node: &Node) -> (u16, String) {
    http(node.http(), "GET", "/api/health/checks/ready-to-serve-clients", "")
}

#[test]
fn a_node_that_does_not_serve_says_why() {
    let mut cluster = Cluster::configured(3, "cluster_partition_handling = pause_minority\n");
    assert_eq!(ready(&cluster[0]).0, 200);
    let _ = cluster[0].ctl(&["check_running"]).success();
    for place in [1, 2] {
        cluster[place].kill();
    }
    // Paused: its process answers, and its port for clients is closed.
    let why = "paused: too few nodes of the cluster are in reach";
    let said = until("the node is paused", || {
        let (status, body) = ready(&cluster[0]);
        (status == 503 && body.contains(why)).then_some(body)
    });
    assert!(said.contains(r#""status":"failed""#), "{said}");
    let port = cluster[0].amqp().port();
    for check in ["is-in-service".to_owned(), format!("port-listener/{port}"), "protocol-listener/amqp".to_owned()] {
        let (status, body) = http(cluster[0].http(), "GET", &format!("/api/health/checks/{check}"), "");
        assert_eq!(status, 503, "{check}: {body}");
    }
    refused(&cluster[0].ctl(&["check_running"]), 69, "is not running or has not fully booted");
    for command in [&["check_port_connectivity"][..], &["list_queues"], &["list_connections"]] {
        refused(&cluster[0].ctl(command), 64, why);
    }

    // Starting: it waits for a majority, and only its node port is open.
    cluster[0].kill();
    cluster[0].launch();
    until("the node starts", || {
        let output = cluster[0].ctl(&["is_booting"]);
        format!("{}{}", output.stdout, output.stderr).contains("is booting").then_some(())
    });
    refused(&cluster[0].ctl(&["check_running"]), 69, "is not running or has not fully booted");
    refused(&cluster[0].ctl(&["list_queues"]), 64, "The app is starting: ");
    assert!(try_http(cluster[0].http(), "GET", "/api/overview", "").is_err());

    for place in [1, 2] {
        cluster[place].launch();
    }
    cluster[0].wait_for_line("stop with");
    until("the node serves again", || (ready(&cluster[0]).0 == 200).then_some(()));
    let _ = cluster[0].ctl(&["check_running"]).success();
    let _ = cluster[0].ctl(&["check_port_connectivity"]).success();

    // Stopped by an operator.
    let _ = cluster[0].ctl(&["stop_app"]).success();
    refused(&cluster[0].ctl(&["check_running"]), 69, "is not running or has not fully booted");
    for command in [&["list_queues"][..], &["list_exchanges"], &["list_consumers"], &["check_port_connectivity"]] {
        refused(&cluster[0].ctl(command), 64, "this command requires the 'rabbit' app to be running");
    }
    assert!(TcpStream::connect(cluster[0].http()).is_err());
}

#[test]
fn the_end_of_a_pause_opens_no_port_that_an_operator_has_closed() {
    let mut cluster = Cluster::configured(3, "cluster_partition_handling = pause_minority\n");
    let opens = |cluster: &Cluster| TcpStream::connect(cluster[0].amqp()).is_ok();
    let _ = cluster[0].ctl(&["suspend_listeners"]).success();
    until("the port is closed", || (!opens(&cluster)).then_some(()));
    for place in [1, 2] {
        cluster[place].kill();
    }
    until("the node is paused", || ready(&cluster[0]).1.contains("paused").then_some(()));
    for place in [1, 2] {
        cluster[place].launch();
    }
    until("the pause ends", || (!ready(&cluster[0]).1.contains("paused")).then_some(()));
    assert!(!opens(&cluster));
    let _ = cluster[0].ctl(&["resume_listeners"]).success();
    until("the port is open", || opens(&cluster).then_some(()));
}
