//! `log.exchange`: lines of the log as messages in the topic exchange `amq.rabbitmq.log` of the default virtual
//! host, the level as routing key.
//!
//! Lines wait in a bounded list until the node serves. What does not fit is left out: logging never waits for
//! queues.

use std::sync::Arc;

use amqp::{Properties, ShortStr, Table, Value};
use broker::exchange::{Routing, route};
use broker::message::Message;
use broker::metadata::{Command, ExchangeSpec};

use crate::clock;
use crate::desk::Desk;
use crate::logging::{Line, Logs};
use crate::node::Node;

const EXCHANGE: &str = "amq.rabbitmq.log";

/// Publishes the lines of the log from now on, if the configuration says so.
pub(crate) fn start(node: &Arc<Node>, logs: &Logs) {
    if let Some(lines) = logs.lines() {
        tokio::spawn(run(Arc::clone(node), lines));
    }
}

async fn run(node: Arc<Node>, mut lines: tokio::sync::mpsc::Receiver<Line>) {
    let spec = ExchangeSpec {
        name: EXCHANGE.into(),
        kind: "topic".into(),
        durable: true,
        auto_delete: false,
        internal: true,
        arguments: Table::new(),
    };
    let vhost = node.config.access.default_vhost.as_str();
    if let Err(error) = node.propose(Command::DeclareExchange { vhost: vhost.into(), spec }).await {
        tracing::error!("the log is not published: exchange '{EXCHANGE}' in vhost '{vhost}': {error:?}");
        return;
    }
    let desk = Desk::open(&node);
    while let Some(line) = lines.recv().await {
        let headers = Table::new().with("node", Value::LongStr(node.name.as_bytes().to_vec()));
        let properties = Properties {
            content_type: Some(ShortStr::truncated("text/plain")),
            timestamp: Some(clock::unix_millis() / 1000),
            headers: Some(headers),
            ..Properties::default()
        };
        let key = line.level.as_bytes();
        let body = line.text.trim_end().as_bytes();
        let Some(message) = Message::new(EXCHANGE.as_bytes(), key, &properties.to_bytes(), body) else { continue };
        let tables = node.tables.load_full();
        let Some(vhost) = tables.vhosts.get(vhost) else { continue };
        let Some(exchange) = vhost.exchanges.get(EXCHANGE) else { continue };
        let view = message.view();
        let routing = Routing { keys: &[key], properties: &view, random: 0 };
        let mut targets = Vec::new();
        route(&tables, vhost, exchange, &routing, &mut targets);
        for queue in targets {
            desk.send(&node, queue.id, message.clone());
        }
    }
}
