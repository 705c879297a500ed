//! Publishing: checks, routing, and handing the message to its queues.
//!
//! Routes are remembered by (exchange, routing key) as long as the tables stay the same and the
//! answer depends on nothing else; rights are part of what is remembered. Publishes on one remembered route after the
//! other cost their exchange's counters one addition each: they are summed up when another route is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use amqp::method::basic;
use amqp::{ChannelError, ConnectionError, Error, Properties, PropertiesView, Value};
use stdx::{Lookup, Rng};

use super::rights::no_exchange;
use super::transaction::HeldPublish;
use super::{Channel, Mode, Scope, text};
use crate::connection::Stamps;
use crate::delay::{Delayed, delay_millis};
use crate::exchange::{Kind, Routing, route};
use crate::id::QueueId;
use crate::message::Message;
use crate::permission::{Resource, Right};
use crate::queue::{Publish, Publisher};
use crate::reply_to;
use crate::traffic::{Passed, Tally};

/// A publish with its content.
pub(crate) struct Incoming<'a> {
    pub publish: amqp::Publish<'a>,
    pub view: &'a PropertiesView<'a>,
    pub properties: &'a [u8],
    pub body: &'a [u8],
    /// The frames from the exchange name on, if they lie in one piece.
    pub wire: Option<&'a [u8]>,
}

/// Where messages went last time.
#[derive(Debug, Default)]
pub(super) struct RouteCache {
    revision: u64,
    last: Option<Last>,
    routes: Lookup<Vec<u8>, Arc<[QueueId]>>,
    scratch: Vec<Arc<crate::metadata::Queue>>,
    random: u64,
    tally: Tally,
}

/// The route that was taken last.
#[derive(Debug)]
struct Last {
    /// The exchange, and from `at` on the routing key.
    name: Vec<u8>,
    at: usize,
    targets: Arc<[QueueId]>,
    /// Publishes that have gone this way and are not in the tally yet.
    publishes: u64,
}

impl Last {
    fn exchange(&self) -> &[u8] {
        &self.name[..self.at]
    }

    fn count(&mut self, tally: &mut Tally) {
        let publish_in = std::mem::take(&mut self.publishes);
        if publish_in > 0 {
            let publish_out = publish_in * self.targets.len() as u64;
            tally.add(&self.name[..self.at], Passed { publish_in, publish_out });
        }
    }
}

/// Routes remembered by one channel.
const ROUTES_MAX: usize = 4096;

impl RouteCache {
    #[inline]
    fn find(&mut self, revision: u64, publish: &amqp::Publish<'_>) -> Option<Arc<[QueueId]>> {
        if self.revision != revision {
            self.revision = revision;
            self.forget_last();
            self.routes.clear();
            return None;
        }
        if let Some(last) = &self.last
            && last.exchange() == publish.exchange
            && &last.name[last.at..] == publish.routing_key
        {
            return Some(Arc::clone(&last.targets));
        }
        if self.routes.is_empty() {
            return None;
        }
        let key = route_key(publish);
        let targets = Arc::clone(self.routes.get(&key)?);
        self.set_last(publish, &targets);
        Some(targets)
    }

    fn set_last(&mut self, publish: &amqp::Publish<'_>, targets: &Arc<[QueueId]>) {
        let mut name = self.forget_last().unwrap_or_default();
        name.clear();
        name.extend_from_slice(publish.exchange);
        name.extend_from_slice(publish.routing_key);
        self.last = Some(Last { name, at: publish.exchange.len(), targets: Arc::clone(targets), publishes: 0 });
    }

    /// Gives its buffer back.
    fn forget_last(&mut self) -> Option<Vec<u8>> {
        let mut last = self.last.take()?;
        last.count(&mut self.tally);
        Some(last.name)
    }

    /// Counts a publish on the route that was found just now.
    #[inline]
    fn count_found(&mut self) {
        if let Some(last) = &mut self.last {
            last.publishes += 1;
        }
    }

    /// Counts a publish on any other route.
    pub(super) fn count(&mut self, exchange: &[u8], targets: usize) {
        self.tally.add(exchange, Passed { publish_in: 1, publish_out: targets as u64 });
    }

    /// Gives away what was counted of each exchange.
    pub(super) fn tell(&mut self, exchanges: &mut BTreeMap<Vec<u8>, Passed>) {
        if let Some(last) = &mut self.last {
            last.count(&mut self.tally);
        }
        self.tally.tell(exchanges);
    }

    fn remember(&mut self, publish: &amqp::Publish<'_>, targets: &Arc<[QueueId]>) {
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.insert(route_key(publish), Arc::clone(targets));
        self.set_last(publish, targets);
    }
}

fn route_key(publish: &amqp::Publish<'_>) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + publish.exchange.len() + publish.routing_key.len());
    key.push(publish.exchange.len() as u8);
    key.extend_from_slice(publish.exchange);
    key.extend_from_slice(publish.routing_key);
    key
}

impl Channel {
    /// Takes a publish. Refusals come before any effect.
    pub(crate) fn publish(&mut self, scope: &mut Scope<'_>, incoming: &Incoming<'_>) -> Result<(), Error> {
        let publish = &incoming.publish;
        if publish.immediate {
            return Err(ConnectionError::not_implemented("immediate=true").into());
        }
        if incoming.body.len() as u64 > scope.limits.message_bytes_max {
            return Err(ChannelError::precondition_failed(format_args!(
                "message size {} is larger than configured max size {}",
                incoming.body.len(),
                scope.limits.message_bytes_max
            ))
            .into());
        }
        let plain = incoming.view.headers().is_none()
            && incoming.view.reply_to().is_none()
            && incoming.view.user_id().is_none()
            && incoming.view.expiration().is_none();
        if plain && let Some(targets) = self.routes.find(scope.context.tables.revision, publish) {
            let Some(message) = make(incoming) else { return Err(not_a_message()) };
            if self.mode != Mode::Transaction {
                self.routes.count_found();
            }
            self.hand_out(scope, &targets, message, publish.mandatory);
            return Ok(());
        }
        self.publish_checked(scope, incoming)
    }

    /// The whole way, with every check.
    fn publish_checked(&mut self, scope: &mut Scope<'_>, incoming: &Incoming<'_>) -> Result<(), Error> {
        let publish = &incoming.publish;
        let view = incoming.view;
        let exchange_name = text(publish.exchange);
        scope.may(Right::Write, Resource::Exchange(&exchange_name))?;
        let vhost = Arc::clone(scope.vhost()?);
        let Some(exchange) = vhost.exchanges.get(exchange_name.as_str()) else {
            return Err(no_exchange(&exchange_name, scope.vhost));
        };
        if exchange.internal {
            return Err(ChannelError::access_refused(format_args!(
                "cannot publish to internal exchange '{exchange_name}' in vhost '{}'",
                scope.vhost
            ))
            .into());
        }
        scope.may_topic(Right::Write, exchange, publish.routing_key)?;
        if view.reply_to() == Some(reply_to::NAME) && !self.consumers.has_reply_consumer() {
            return Err(ChannelError::precondition_failed("fast reply consumer does not exist").into());
        }
        check_user_id(scope, view)?;
        check_expiration(view)?;
        let extra = extra_keys(view)?;
        for key in extra.iter().flatten() {
            scope.may_topic(Right::Write, exchange, key)?;
        }
        let Some(message) = self.prepare(scope, incoming, extra.is_some())? else { return Err(not_a_message()) };
        if publish.exchange.is_empty() && reply_to::is_reply_name(publish.routing_key) {
            return self.publish_direct_reply(scope, message, publish.mandatory);
        }
        if matches!(exchange.kind, Kind::Delayed(_))
            && self.mode != Mode::Transaction
            && let Some(millis) = delay_millis(view)
        {
            if vhost.tracing {
                self.trace_publish(scope, &vhost, &message, &[publish.routing_key], &[]);
            }
            let number = if self.mode == Mode::Confirm { self.expect(1) } else { 0 };
            self.counters.publish += 1;
            self.routes.count(publish.exchange, 0);
            let due = scope.context.unix_millis + millis;
            let delayed = Delayed { vhost: Arc::clone(scope.vhost), due, message };
            scope.fx.delays.push((delayed, Publisher::Channel(self.key), number));
            return Ok(());
        }
        let mut keys: Vec<&[u8]> = vec![publish.routing_key];
        keys.extend(extra.iter().flatten().map(Vec::as_slice));
        // What is remembered is neither traced nor stamped.
        let cacheable = extra.is_none() && !vhost.tracing && scope.limits.stamps == Stamps::default();
        let targets = self.route(scope, &vhost, exchange, &keys, view, cacheable.then_some(publish));
        if vhost.tracing {
            self.trace_publish(scope, &vhost, &message, &keys, &targets);
        }
        if self.mode != Mode::Transaction {
            self.routes.count(publish.exchange, targets.len());
        }
        self.hand_out(scope, &targets, message, publish.mandatory);
        Ok(())
    }

    fn route(
        &mut self,
        scope: &Scope<'_>,
        vhost: &crate::metadata::Vhost,
        exchange: &crate::metadata::Exchange,
        keys: &[&[u8]],
        view: &PropertiesView<'_>,
        remember: Option<&amqp::Publish<'_>>,
    ) -> Arc<[QueueId]> {
        let mut rng = Rng::new(scope.secret ^ self.routes.random);
        self.routes.random = rng.next();
        let routing = Routing { keys, properties: view, random: self.routes.random };
        let tables = &scope.context.tables;
        let mut found = std::mem::take(&mut self.routes.scratch);
        let routed = route(tables, vhost, exchange, &routing, &mut found);
        let targets: Arc<[QueueId]> = found.iter().map(|queue| queue.id).collect();
        found.clear();
        self.routes.scratch = found;
        if let Some(publish) = remember
            && routed.by_keys_alone
        {
            self.routes.remember(publish, &targets);
        }
        targets
    }

    /// Builds the message; rewrites what must not leave as it came (BCC, reply-to).
    fn prepare(
        &mut self,
        scope: &Scope<'_>,
        incoming: &Incoming<'_>,
        has_extra: bool,
    ) -> Result<Option<Message>, Error> {
        let fast_reply = incoming.view.reply_to() == Some(reply_to::NAME);
        let has_bcc = has_extra && incoming.view.headers().is_some_and(|h| h.contains("BCC"));
        let stamps = &scope.limits.stamps;
        if !fast_reply && !has_bcc && *stamps == Stamps::default() {
            return Ok(make(incoming));
        }
        let mut properties = Properties::decode(incoming.properties)?;
        if fast_reply {
            properties.reply_to = reply_to::make_name(self.key, scope.secret);
        }
        if has_bcc && let Some(headers) = &mut properties.headers {
            headers.remove("BCC");
        }
        stamp(stamps, &mut properties, scope.context.unix_millis, &scope.limits.node);
        let properties = properties.to_bytes();
        let publish = &incoming.publish;
        Ok(Message::new(publish.exchange, publish.routing_key, &properties, incoming.body))
    }

    /// Gives the message to its queues, or back to the publisher, or drops it.
    #[inline]
    pub(super) fn hand_out(&mut self, scope: &mut Scope<'_>, targets: &Arc<[QueueId]>, message: Message, mandatory: bool) {
        if self.mode == Mode::Transaction {
            self.transaction.hold(HeldPublish { targets: Arc::clone(targets), message, mandatory });
            return;
        }
        self.counters.publish += 1;
        if targets.is_empty() {
            self.unroutable(scope, &message, mandatory);
        }
        let number = match self.mode {
            Mode::Confirm => self.expect(targets.len() as u32),
            _ => 0,
        };
        let from = Publisher::Channel(self.key);
        if let [queue] = targets[..] {
            scope.fx.publish(queue, from, Publish { message, number });
            return;
        }
        for queue in targets.iter() {
            scope.fx.publish(*queue, from, Publish { message: message.clone(), number });
        }
    }

    pub(super) fn unroutable(&mut self, scope: &mut Scope<'_>, message: &Message, mandatory: bool) {
        if mandatory {
            self.counters.return_unroutable += 1;
            self.return_message(scope, message);
        } else {
            self.counters.drop_unroutable += 1;
        }
    }

    /// The return comes before the confirm.
    fn return_message(&mut self, scope: &mut Scope<'_>, message: &Message) {
        let name = |bytes: &[u8]| amqp::ShortStr::try_from(bytes).unwrap_or_default();
        scope.send(
            self.key.number,
            basic::Return {
                reply_code: 312,
                reply_text: amqp::ShortStr::truncated("NO_ROUTE"),
                exchange: name(message.exchange()),
                routing_key: name(message.routing_key()),
            },
        );
        message.write_content(scope.out, self.key.number, scope.frame_max);
    }

    fn publish_direct_reply(&mut self, scope: &mut Scope<'_>, message: Message, mandatory: bool) -> Result<(), Error> {
        self.counters.publish += 1;
        self.routes.count(message.exchange(), 0);
        match reply_to::read_name(message.routing_key()) {
            Some((key, proof)) => scope.fx.to_connections.push((key, proof, message)),
            None => self.unroutable(scope, &message, mandatory),
        }
        if self.mode == Mode::Confirm {
            self.expect(0);
        }
        Ok(())
    }
}

/// Writes what the configuration wants to see in each message.
fn stamp(stamps: &Stamps, properties: &mut Properties, unix_millis: u64, node: &str) {
    let mut header = |name: &str, overwrite: bool, value: Value| {
        let headers = properties.headers.get_or_insert_with(amqp::Table::new);
        if overwrite || !headers.contains(name) {
            headers.insert(amqp::ShortStr::truncated(name), value);
        }
    };
    if let Some(overwrite) = stamps.timestamp {
        header("timestamp_in_ms", overwrite, Value::I64(i64::try_from(unix_millis).unwrap_or(i64::MAX)));
    }
    if let Some(overwrite) = stamps.routing_node {
        header("x-routed-by", overwrite, Value::LongStr(node.as_bytes().to_vec()));
    }
    if let Some(overwrite) = stamps.timestamp
        && (overwrite || properties.timestamp.is_none())
    {
        properties.timestamp = Some(unix_millis / 1000);
    }
}

/// The message as it came.
#[inline]
fn make(incoming: &Incoming<'_>) -> Option<Message> {
    match incoming.wire {
        Some(wire) => Message::from_wire(wire, incoming.view),
        None => {
            let publish = &incoming.publish;
            Message::new(publish.exchange, publish.routing_key, incoming.properties, incoming.body)
        }
    }
}

#[cold]
fn not_a_message() -> Error {
    ConnectionError::internal_error("a decoded publish did not make a message").into()
}

fn check_user_id(scope: &Scope<'_>, view: &PropertiesView<'_>) -> Result<(), Error> {
    let Some(claimed) = view.user_id() else { return Ok(()) };
    if claimed == scope.user.as_bytes() || scope.trusted {
        return Ok(());
    }
    if scope.context.tables.users.get(scope.user).is_some_and(|user| user.is_impersonator()) {
        return Ok(());
    }
    Err(ChannelError::precondition_failed(format_args!(
        "user_id property set to '{}' but authenticated user was '{}'",
        text(claimed),
        scope.user
    ))
    .into())
}

/// `expiration` is a number of milliseconds in decimal digits.
fn check_expiration(view: &PropertiesView<'_>) -> Result<(), Error> {
    // Ten years; so much in RabbitMQ too.
    const MAX: i128 = 315_360_000_000;
    let Some(value) = view.expiration() else { return Ok(()) };
    let value = text(value);
    let digits = value.strip_prefix(['-', '+']).unwrap_or(&value);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let why = if end == 0 {
        "no_integer".to_owned()
    } else if end < digits.len() {
        format!("{{leftover_string,\"{}\"}}", &digits[end..])
    } else {
        let number = digits.parse::<i128>().unwrap_or(i128::MAX);
        if value.starts_with('-') && number > 0 {
            format!("{{value_negative,-{number}}}")
        } else if number > MAX {
            format!("{{value_too_large,{number}}}")
        } else {
            return Ok(());
        }
    };
    Err(ChannelError::precondition_failed(format_args!("invalid expiration '{value}': {why}")).into())
}

/// Routing keys of the headers CC and BCC; `None` when there is neither. What is no text in them is no key.
fn extra_keys(view: &PropertiesView<'_>) -> Result<Option<Vec<Vec<u8>>>, Error> {
    let Some(headers) = view.headers() else { return Ok(None) };
    let mut keys = None;
    for header in ["CC", "BCC"] {
        let Some(value) = headers.get(header) else { continue };
        let Some(values) = value.as_array() else { return Err(bad_header(header, &value)) };
        let keys = keys.get_or_insert_with(Vec::new);
        keys.extend(values.iter().filter_map(|value| match value {
            Value::LongStr(key) => Some(key.clone()),
            _ => None,
        }));
    }
    Ok(keys)
}

fn bad_header(header: &str, value: &Value) -> Error {
    ChannelError::precondition_failed(format_args!(
        "invalid message: {{unacceptable_type_in_header,\"{header}\",{}}}",
        value.type_name()
    ))
    .into()
}
