//! Settings of `rabbitmq.conf` that a user meets: what new virtual hosts come with, limits, proxies, passwords.

use black_box::{Method, Node, Wire, http, python};
use serde_json::Value as Json;

fn get(node: &Node, path: &str) -> Json {
    let (status, body) = http(node.http(), "GET", path, "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Declares a queue on channel 1; the broker's answer if it refuses.
fn declare(wire: &mut Wire, name: &str) -> Result<(), String> {
    wire.method(1, &Method::new(50, 10).short(0).text(name).octet(0).table(&[]));
    wire.take((50, 11)).map(drop).map_err(|closed| format!("{closed:?}"))
}

#[test]
fn a_new_virtual_host_comes_with_what_the_configuration_has_for_it() {
    let node = Node::configured(
        "vhost_max = 3\n\
         default_limits.vhosts.1.pattern = ^team-\n\
         default_limits.vhosts.1.max_queues = 1\n\
         default_policies.operator.short.vhost_pattern = ^team-\n\
         default_policies.operator.short.queue_pattern = ^tmp\n\
         default_policies.operator.short.apply_to = queues\n\
         default_policies.operator.short.expires = 60000\n\
         default_users.worker.vhost_pattern = ^team-\n\
         default_users.worker.password = a-secret\n\
         default_users.worker.configure = .*\n\
         default_users.worker.write = .*\n\
         default_users.worker.read = .*\n\
         default_users.worker.tags = monitoring\n",
    );
    for vhost in ["team-a", "other"] {
        node.put(&format!("/api/vhosts/{vhost}"), "{}");
    }
    let policy = &get(&node, "/api/operator-policies/team-a")[0];
    assert_eq!((&policy["name"], &policy["definition"]["expires"]), (&"short".into(), &60_000.into()));
    assert_eq!(get(&node, "/api/operator-policies/other"), Json::Array(Vec::new()));
    assert_eq!(get(&node, "/api/users/worker")["tags"], serde_json::json!(["monitoring"]));
    assert!(Wire::open_as(node.amqp(), "worker", "a-secret", "other").is_err());
    let mut wire = Wire::open_as(node.amqp(), "worker", "a-secret", "team-a").expect("the worker has its rights");
    declare(&mut wire, "one").expect("one is allowed");
    let refused = declare(&mut wire, "two").expect_err("two are not");
    assert!(refused.contains("queue limit in vhost 'team-a' (1) is reached"), "{refused}");
    let (status, answer) = http(node.http(), "PUT", "/api/vhosts/fourth", "{}");
    assert_eq!(status, 400);
    assert!(answer.contains("cannot create vhost 'fourth': vhost limit of 3 is reached"), "{answer}");
    node.put("/api/vhosts/other", r#"{"description":"that exists"}"#);
}

#[test]
fn the_queues_of_all_virtual_hosts_can_be_limited() {
    let node = Node::configured("cluster_queue_limit = 1\n");
    let mut wire = Wire::open(node.amqp());
    declare(&mut wire, "one").expect("one is allowed");
    declare(&mut wire, "one").expect("it is there");
    let refused = declare(&mut wire, "two").expect_err("two are not");
    assert!(refused.contains("cannot declare queue 'two': queue limit in cluster (1) is reached"), "{refused}");
}

#[test]
fn behind_a_proxy_the_client_is_who_the_proxy_says() {
    let node = Node::configured("proxy_protocol = true\n");
    node.put("/api/users/ann", r#"{"password":"a-secret","tags":""}"#);
    node.put("/api/permissions/%2f/ann", r#"{"configure":".*","write":".*","read":".*"}"#);
    let begin = |header: &[u8], user: &str, password: &str| {
        let mut wire = Wire::connect(node.amqp());
        wire.send(header);
        wire.send(b"AMQP\x00\x00\x09\x01");
        wire.expect((10, 10));
        wire.start_ok(user, password);
        wire
    };
    let far = b"PROXY TCP4 203.0.113.7 203.0.113.8 40000 5672\r\n";
    let mut wire = begin(far, "ann", "a-secret");
    wire.expect((10, 30));
    wire.method(0, &Method::new(10, 31).short(2047).long(131_072).short(0));
    wire.method(0, &Method::new(10, 40).text("/").text("").octet(0));
    wire.expect((10, 41));
    let connection = &get(&node, "/api/connections")[0];
    assert_eq!((&connection["peer_host"], &connection["peer_port"]), (&"203.0.113.7".into(), &40_000.into()));
    assert_eq!(connection["name"], "203.0.113.7:40000 -> 203.0.113.8:5672");
    // Guest is for loopback alone, and the proxy is not who asks.
    assert!(begin(far, "guest", "guest").take((10, 30)).is_err());
    let near = b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 5672\r\n";
    begin(near, "guest", "guest").expect((10, 30));
    // Version 2, in which a proxy speaks for itself.
    begin(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "guest", "guest").expect((10, 30));
    let mut without = Wire::connect(node.amqp());
    without.send(b"AMQP\x00\x00\x09\x01");
    assert!(without.next().is_none(), "who comes without a proxy is not let in");
}

#[test]
fn passwords_must_be_as_the_configuration_wants_them() {
    let node = Node::configured(
        "credential_validator.validation_backend = rabbit_credential_validator_min_password_length\n\
         credential_validator.min_length = 8\n",
    );
    let (status, answer) = http(node.http(), "PUT", "/api/users/ann", r#"{"password":"short","tags":""}"#);
    assert_eq!(status, 400);
    assert!(answer.contains("minimum required password length: 8"), "{answer}");
    node.put("/api/users/ann", r#"{"password":"long enough","tags":""}"#);
    let change = node.command(&["ctl", "change_password", "ann", "short"]).output().expect("ctl runs");
    assert!(!change.status.success());
}

#[test]
fn definitions_that_have_not_changed_are_not_imported_again() {
    let mut node = Node::prepared("definitions.skip_if_unchanged = true\n");
    let path = node.folder().join("definitions.json");
    let write = |queue: &str| {
        let text = format!(
            r#"{{"vhosts":[{{"name":"/"}}],
                "users":[{{"name":"guest","password":"guest","tags":"administrator"}}],
                "permissions":[{{"user":"guest","vhost":"/","configure":".*","write":".*","read":".*"}}],
                "queues":[{{"name":"{queue}","vhost":"/","durable":true,"auto_delete":false,"arguments":{{}}}}]}}"#
        );
        std::fs::write(&path, text).expect("the folder is ours");
    };
    write("one");
    let conf = node.folder().join("warren.conf");
    let mut settings = std::fs::read_to_string(&conf).expect("it was written");
    settings.push_str(&format!("definitions.local.path = {}\n", path.display()));
    std::fs::write(&conf, settings).expect("the folder is ours");
    let names = |node: &Node| -> Vec<String> {
        let queues = get(node, "/api/queues");
        queues.as_array().expect("a list").iter().map(|q| q["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    node.resume();
    assert_eq!(names(&node), ["one"]);
    assert_eq!(http(node.http(), "DELETE", "/api/queues/%2f/one", "").0, 204);
    node.stop();
    node.resume();
    assert!(names(&node).is_empty(), "it was imported again");
    node.stop();
    write("two");
    node.resume();
    assert_eq!(names(&node), ["two"]);
}

#[test]
fn channels_and_declarations_are_counted() {
    let node = Node::configured("management.rates_mode = none\n");
    let mut wire = Wire::open(node.amqp());
    declare(&mut wire, "one").expect("declared");
    declare(&mut wire, "one").expect("declared");
    wire.method(1, &Method::new(20, 40).short(200).text("").short(0).short(0));
    wire.expect((20, 41));
    let overview = get(&node, "/api/overview");
    let churn = &overview["churn_rates"];
    let counted = ["channel_created", "channel_closed", "queue_declared", "queue_created"].map(|name| &churn[name]);
    assert_eq!(counted, [1, 1, 2, 1], "{churn}");
    assert_eq!(overview["rates_mode"], "none");
}

#[test]
fn incoming_messages_are_stamped() {
    let node = Node::configured(
        "message_interceptors.incoming.set_header_timestamp.overwrite = false\n\
         message_interceptors.incoming.set_header_routing_node.overwrite = true\n",
    );
    python("features.py", "stamps", &node);
}

#[test]
fn the_log_can_be_consumed() {
    python("features.py", "log_lines", &Node::configured("log.exchange = true\n"));
}

#[test]
fn the_firehose_copies_what_is_published_and_delivered() {
    let node = Node::start();
    node.put("/api/vhosts/%2f", r#"{"tracing":true}"#);
    python("features.py", "firehose", &node);
}

#[test]
fn anonymous_clients_are_let_in_where_the_node_says_so() {
    for (settings, accepted) in [
        ("auth_mechanisms.1 = ANONYMOUS\n", true),
        ("auth_mechanisms.1 = ANONYMOUS\nanonymous_login_pass = wrong\n", false),
        ("", false),
    ] {
        let node = Node::configured(settings);
        let mut wire = Wire::connect(node.amqp());
        wire.send(b"AMQP\x00\x00\x09\x01");
        wire.expect((10, 10));
        wire.method(0, &Method::new(10, 11).table(&[]).text("ANONYMOUS").long_text(b"").text("en_US"));
        assert_eq!(wire.take((10, 30)).is_ok(), accepted, "{settings}");
    }
}
