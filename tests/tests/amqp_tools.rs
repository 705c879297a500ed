//! Debian's amqp-tools: the C client behind a shell.

use std::process::Command;
use std::time::Duration;

use black_box::{Node, Output, run};

fn call(node: &Node, tool: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(tool);
    command.arg("--url").arg(node.uri("")).args(arguments);
    run(&mut command, Duration::from_secs(30))
}

#[test]
fn declare_publish_get_consume_delete() {
    let node = Node::start();
    assert_eq!(call(&node, "amqp-declare-queue", &["--durable", "--queue", "letters"]).success().trim(), "letters");
    for body in ["one", "two", "three"] {
        let _ = call(&node, "amqp-publish", &["--persistent", "--routing-key", "letters", "--body", body]).success();
    }
    assert_eq!(call(&node, "amqp-get", &["--queue", "letters"]).success(), "one");
    assert_eq!(call(&node, "amqp-consume", &["--queue", "letters", "--count", "2", "cat"]).success(), "twothree");
    assert_eq!(call(&node, "amqp-get", &["--queue", "letters"]).status.code(), Some(2), "an empty queue");
    assert_eq!(call(&node, "amqp-delete-queue", &["--queue", "letters"]).success().trim(), "0");
}

#[test]
fn refusals_reach_the_shell() {
    let node = Node::start();
    let output = call(&node, "amqp-get", &["--queue", "nosuch"]);
    assert!(!output.status.success());
    assert!(output.stderr.contains("NOT_FOUND - no queue 'nosuch' in vhost '/'"), "{output:?}");
}
