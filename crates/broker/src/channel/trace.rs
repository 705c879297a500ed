//! The firehose: copies of what is published and delivered in a virtual host whose tracing is on.
//!
//! A copy goes to the exchange `amq.rabbitmq.trace` under `publish.<exchange>` or `deliver.<queue>`, its
//! properties in the headers, as RabbitMQ's does. Copies are not traced themselves, nor confirmed.
//! While tracing is off, a publish costs nothing (the tables that its route was found in say so), and a batch
//! of deliveries one comparison.

use amqp::{Properties, ShortStr, Table, Value};

use super::{Channel, Scope};
use crate::exchange::{Routing, route};
use crate::id::QueueId;
use crate::message::Message;
use crate::metadata::Vhost;
use crate::queue::{ChannelKey, Publish, Publisher};

const EXCHANGE: &str = "amq.rabbitmq.trace";

/// Whether the virtual host was traced, by which tables.
#[derive(Debug, Default)]
pub(super) struct Traced(Option<(u64, bool)>);

impl Channel {
    pub(super) fn is_traced(&mut self, scope: &Scope<'_>) -> bool {
        let tables = &scope.context.tables;
        match self.traced.0 {
            Some((revision, traced)) if revision == tables.revision => traced,
            _ => {
                let traced = tables.vhosts.get(scope.vhost).is_some_and(|vhost| vhost.tracing);
                self.traced.0 = Some((tables.revision, traced));
                traced
            }
        }
    }

    #[cold]
    pub(super) fn trace_publish(
        &self,
        scope: &mut Scope<'_>,
        vhost: &Vhost,
        message: &Message,
        keys: &[&[u8]],
        targets: &[QueueId],
    ) {
        let queues = &scope.context.tables.queues;
        let names = targets.iter().filter_map(|id| Some(bytes(queues.get(id)?.name.as_bytes())));
        let routed = Value::Array(names.collect());
        let copy = Copy { prefix: "publish.", about: message.exchange(), message, keys };
        copy.send(scope, self.key, vhost, |headers| add(headers, "routed_queues", routed));
    }
}

/// A message leaves for a client.
#[cold]
pub(super) fn delivery(scope: &mut Scope<'_>, channel: ChannelKey, queue: QueueId, message: &Message, redelivered: bool) {
    let tables = std::sync::Arc::clone(&scope.context.tables);
    let (Some(vhost), Some(queue)) = (tables.vhosts.get(scope.vhost), tables.queues.get(&queue)) else { return };
    let key = message.routing_key();
    let copy = Copy { prefix: "deliver.", about: queue.name.as_bytes(), message, keys: &[key] };
    copy.send(scope, channel, vhost, |headers| add(headers, "redelivered", Value::I32(i32::from(redelivered))));
}

struct Copy<'a> {
    prefix: &'static str,
    /// The exchange or the queue.
    about: &'a [u8],
    message: &'a Message,
    keys: &'a [&'a [u8]],
}

impl Copy<'_> {
    fn send(&self, scope: &mut Scope<'_>, channel: ChannelKey, vhost: &Vhost, more: impl FnOnce(&mut Table)) {
        let Some(exchange) = vhost.exchanges.get(EXCHANGE) else { return };
        let original = self.message;
        if original.exchange() == EXCHANGE.as_bytes() {
            return;
        }
        let mut headers = Table::new();
        add(&mut headers, "exchange_name", bytes(original.exchange()));
        add(&mut headers, "routing_keys", Value::Array(self.keys.iter().map(|key| bytes(key)).collect()));
        add(&mut headers, "properties", Value::Table(described(original)));
        add(&mut headers, "node", bytes(scope.limits.node.as_bytes()));
        add(&mut headers, "vhost", bytes(scope.vhost.as_bytes()));
        let connection = format!("{} -> {}", scope.peer.address, scope.peer.host);
        add(&mut headers, "connection", bytes(connection.as_bytes()));
        add(&mut headers, "channel", Value::I32(i32::from(channel.number)));
        add(&mut headers, "user", bytes(scope.user.as_bytes()));
        more(&mut headers);
        let properties = Properties { headers: Some(headers), ..Properties::default() };
        let mut key = [self.prefix.as_bytes(), self.about].concat();
        key.truncate(amqp::short_str::SHORT_STR_BYTES_MAX);
        let copy = Message::new(EXCHANGE.as_bytes(), &key, &properties.to_bytes(), original.body());
        let Some(copy) = copy else { return };
        let view = copy.view();
        let routing = Routing { keys: &[&key], properties: &view, random: 0 };
        let mut targets = Vec::new();
        route(&scope.context.tables, vhost, exchange, &routing, &mut targets);
        for queue in targets {
            let publish = Publish { message: copy.clone(), number: 0 };
            scope.fx.publish(queue.id, Publisher::Channel(channel), publish);
        }
    }
}

/// The properties of a message as a table.
fn described(message: &Message) -> Table {
    let mut table = Table::new();
    let Ok(properties) = Properties::decode(message.properties()) else { return table };
    let texts = [
        ("content_type", properties.content_type),
        ("content_encoding", properties.content_encoding),
        ("correlation_id", properties.correlation_id),
        ("reply_to", properties.reply_to),
        ("expiration", properties.expiration),
        ("message_id", properties.message_id),
        ("type", properties.message_type),
        ("user_id", properties.user_id),
        ("app_id", properties.app_id),
        ("cluster_id", properties.cluster_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            add(&mut table, name, bytes(text.as_bytes()));
        }
    }
    if let Some(headers) = properties.headers {
        add(&mut table, "headers", Value::Table(headers));
    }
    for (name, number) in [("delivery_mode", properties.delivery_mode), ("priority", properties.priority)] {
        if let Some(number) = number {
            add(&mut table, name, Value::I32(i32::from(number)));
        }
    }
    if let Some(seconds) = properties.timestamp {
        add(&mut table, "timestamp", Value::I64(i64::try_from(seconds).unwrap_or(i64::MAX)));
    }
    table
}

fn bytes(bytes: &[u8]) -> Value {
    Value::LongStr(bytes.to_vec())
}

fn add(table: &mut Table, name: &str, value: Value) {
    table.insert(ShortStr::truncated(name), value);
}
