//! Exchange and queue methods, and `exchange.bind`: checks here, the change by commit, the answer after.

use std::sync::Arc;

use amqp::method::{exchange, queue};
use amqp::{ChannelError, ConnectionError, Error, Method, ShortStr};

use super::rights::{self, default_exchange, home_is_down, locked, name_of, no_exchange, no_queue};
use super::{Channel, Scope, Waiting};
use crate::exchange::Kind;
use crate::id::{Name, QueueId};
use crate::metadata::{self, Command, Destination, ExchangeSpec, Outcome, QueueSpec, Refusal};
use crate::permission::{Resource, Right};
use crate::queue::{Consume, ConsumeError, DeleteError, QueueEvent, QueueReply};

/// What is done when a commit is answered.
#[derive(Debug)]
pub(super) struct AfterCommit {
    pub method: (u16, u16),
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// Sends this, if anything.
    Reply(Option<Box<Method>>),
    QueueDeclared { name: Name, no_wait: bool },
    QueueDeleted { messages: u64, no_wait: bool },
}

impl AfterCommit {
    pub(super) fn deletes_queue(&self) -> bool {
        matches!(self.then, Then::QueueDeleted { .. })
    }
}

/// How it is known that a queue is there which is asked what it holds.
#[derive(Debug)]
pub(super) enum Declared {
    /// It should be there, and is not made.
    Passive,
    /// The tables of this node have it as the command wants it, or locked by another connection.
    Tables { command: Box<Command>, no_wait: bool, locked: bool },
    /// The command was accepted.
    Commit,
}

/// What is done when a queue has answered.
#[derive(Debug)]
pub(super) enum AfterReply {
    Declared { name: Name, by: Declared },
    Purged { no_wait: bool },
    Deletable { name: Name, no_wait: bool, if_empty: bool },
    Consume { number: u32, name: Name, no_wait: bool, again: Box<Consume> },
    Cancel { number: u32, tag: ShortStr, no_wait: bool },
    Get { name: Name, no_ack: bool },
}

impl AfterReply {
    /// Whether this can be the answer.
    pub(super) fn takes(&self, reply: &QueueReply) -> bool {
        match (self, reply) {
            (_, QueueReply::Gone | QueueReply::Down)
            | (AfterReply::Declared { .. }, QueueReply::Inspected { .. })
            | (AfterReply::Purged { .. }, QueueReply::Purged { .. })
            | (AfterReply::Deletable { .. }, QueueReply::Deletable(_))
            | (AfterReply::Consume { .. }, QueueReply::Consuming(_))
            | (AfterReply::Get { .. }, QueueReply::Got(_)) => true,
            // Of two leaders that were asked each may answer.
            (AfterReply::Cancel { number, .. }, QueueReply::Cancelled(of)) => number == of,
            _ => false,
        }
    }

    pub(super) fn method(&self) -> (u16, u16) {
        match self {
            AfterReply::Declared { .. } => (50, 10),
            AfterReply::Purged { .. } => (50, 30),
            AfterReply::Deletable { .. } => (50, 40),
            AfterReply::Consume { .. } => (60, 20),
            AfterReply::Cancel { .. } => (60, 30),
            AfterReply::Get { .. } => (60, 70),
        }
    }
}

impl Channel {
    /// Asks for a commit, unless everything is as the command wants it.
    fn propose(
        &mut self,
        scope: &mut Scope<'_>,
        command: Command,
        method: (u16, u16),
        then: Then,
    ) -> Result<(), Error> {
        let after = AfterCommit { method, then };
        if let Some(outcome) = scope.context.tables.already(&command) {
            return self.committed(scope, after, Ok(outcome));
        }
        scope.fx.propose = Some(command);
        self.waiting = Some(Waiting::Commit(after));
        Ok(())
    }

    fn reply_after(no_wait: bool, method: impl Into<Method>) -> Then {
        Then::Reply((!no_wait).then(|| Box::new(method.into())))
    }

    pub(super) fn exchange_declare(&mut self, scope: &mut Scope<'_>, m: exchange::Declare) -> Result<(), Error> {
        let name = name_of(&m.exchange);
        if m.passive {
            if name.is_empty() {
                return Err(default_exchange());
            }
            scope.exchange(&name)?;
            if !m.no_wait {
                scope.send(self.key.number, exchange::DeclareOk {});
            }
            return Ok(());
        }
        if !is_exchange_type(&name_of(&m.kind)) {
            return Err(refused(Refusal::UnknownExchangeType(name_of(&m.kind).into())));
        }
        if name.is_empty() {
            return Err(default_exchange());
        }
        scope.may(Right::Configure, Resource::Exchange(&name))?;
        if scope.vhost()?.exchanges.get(name.as_str()).is_none() {
            if name.starts_with("amq.") {
                let text = format_args!("exchange name '{name}' contains reserved prefix 'amq.*'");
                return Err(ChannelError::access_refused(text).into());
            }
            if let Some(alternate) = m.arguments.get("alternate-exchange").and_then(amqp::Value::as_str) {
                scope.may(Right::Read, Resource::Exchange(&name))?;
                scope.may(Right::Write, Resource::Exchange(alternate))?;
            }
        }
        let spec = ExchangeSpec {
            name: name.into(),
            kind: name_of(&m.kind).into(),
            durable: m.durable,
            auto_delete: m.auto_delete,
            internal: m.internal,
            arguments: m.arguments,
        };
        let command = Command::DeclareExchange { vhost: Arc::clone(scope.vhost), spec };
        let then = Channel::reply_after(m.no_wait, exchange::DeclareOk {});
        self.propose(scope, command, (40, 10), then)
    }

    pub(super) fn exchange_delete(&mut self, scope: &mut Scope<'_>, m: exchange::Delete) -> Result<(), Error> {
        let name = name_of(&m.exchange);
        if name.is_empty() {
            return Err(default_exchange());
        }
        if name.starts_with("amq.") {
            return Err(ChannelError::access_refused(format_args!(
                "deletion of system exchange '{name}' in vhost '{}' not allowed",
                scope.vhost
            ))
            .into());
        }
        scope.may(Right::Configure, Resource::Exchange(&name))?;
        let command =
            Command::DeleteExchange { vhost: Arc::clone(scope.vhost), name: name.into(), if_unused: m.if_unused };
        let then = Channel::reply_after(m.no_wait, exchange::DeleteOk {});
        self.propose(scope, command, (40, 20), then)
    }

    pub(super) fn exchange_bind(&mut self, scope: &mut Scope<'_>, m: exchange::Bind) -> Result<(), Error> {
        let (destination, source) = (name_of(&m.destination), name_of(&m.source));
        self.check_exchange_binding(scope, &destination, &source, &m.routing_key)?;
        let command = Command::Bind {
            vhost: Arc::clone(scope.vhost),
            source: source.into(),
            destination: Destination::Exchange(destination.into()),
            routing_key: m.routing_key.as_bytes().to_vec(),
            arguments: m.arguments,
        };
        let then = Channel::reply_after(m.no_wait, exchange::BindOk {});
        self.propose(scope, command, (40, 30), then)
    }

    pub(super) fn exchange_unbind(&mut self, scope: &mut Scope<'_>, m: exchange::Unbind) -> Result<(), Error> {
        let (destination, source) = (name_of(&m.destination), name_of(&m.source));
        self.check_exchange_binding(scope, &destination, &source, &m.routing_key)?;
        let command = Command::Unbind {
            vhost: Arc::clone(scope.vhost),
            source: source.into(),
            destination: Destination::Exchange(destination.into()),
            routing_key: m.routing_key.as_bytes().to_vec(),
            arguments: m.arguments,
        };
        let then = Channel::reply_after(m.no_wait, exchange::UnbindOk {});
        self.propose(scope, command, (40, 40), then)
    }

    fn check_exchange_binding(
        &self,
        scope: &Scope<'_>,
        destination: &str,
        source: &str,
        key: &ShortStr,
    ) -> Result<(), Error> {
        scope.may(Right::Write, Resource::Exchange(destination))?;
        if destination.is_empty() {
            return Err(default_exchange());
        }
        check_source(scope, source, key.as_bytes())?;
        scope.exchange(source)?;
        scope.exchange(destination).map(|_| ())
    }

    pub(super) fn queue_declare(&mut self, scope: &mut Scope<'_>, m: queue::Declare) -> Result<(), Error> {
        if m.queue.as_bytes().starts_with(crate::reply_to::NAME) {
            return self.declare_reply_queue(scope, &m);
        }
        if m.passive {
            let name: Name = name_of(&m.queue).into();
            let queue = scope.queue(&name)?;
            self.last_queue = Some(Arc::clone(&name));
            if !m.no_wait {
                self.inspect(scope, queue.id, name, Declared::Passive);
            }
            return Ok(());
        }
        let name = name_of(&m.queue);
        if name.starts_with("amq.") {
            return Err(ChannelError::access_refused(format_args!(
                "queue name '{name}' contains reserved prefix 'amq.*'"
            ))
            .into());
        }
        let name: Name = if name.is_empty() {
            self.queues_named += 1;
            crate::names::drawn("amq.gen-", scope.secret, self.key, self.queues_named).into()
        } else {
            name.into()
        };
        scope.may(Right::Configure, Resource::Queue(&name))?;
        let exists = scope.vhost()?.queues.get(&name).map(Arc::clone);
        let owner = exists.as_ref().and_then(|queue| queue.exclusive);
        let locked = owner.is_some_and(|owner| owner != scope.connection);
        let spec = QueueSpec {
            name: Arc::clone(&name),
            durable: m.durable,
            auto_delete: m.auto_delete,
            exclusive: m.exclusive,
            connection: Some(scope.connection),
            arguments: m.arguments,
            node: Arc::clone(&scope.limits.node),
        };
        let command = Command::DeclareQueue { vhost: Arc::clone(scope.vhost), spec };
        match exists {
            Some(queue) if locked || scope.context.tables.already(&command).is_some() => {
                self.declare_again(scope, &queue, locked, command, m.no_wait)
            }
            Some(_) => self.declare_anew(scope, name, command, m.no_wait),
            None => {
                check_dead_lettering(scope, &command)?;
                self.declare_anew(scope, name, command, m.no_wait)
            }
        }
    }

    /// The tables have it. A queue that deletes itself may be gone all the same: these may be tables of before.
    fn declare_again(
        &mut self,
        scope: &mut Scope<'_>,
        queue: &metadata::Queue,
        locked: bool,
        command: Command,
        no_wait: bool,
    ) -> Result<(), Error> {
        let name = Arc::clone(&queue.name);
        if locked && !queue.auto_delete {
            return Err(rights::locked(&name, scope.vhost));
        }
        if !locked {
            scope.fx.queues_declared += 1;
            self.last_queue = Some(Arc::clone(&name));
        }
        if !no_wait || queue.auto_delete {
            let command = Box::new(command);
            self.inspect(scope, queue.id, name, Declared::Tables { command, no_wait, locked });
        }
        Ok(())
    }

    /// Asks for a commit, whatever the tables say.
    fn declare_anew(&mut self, scope: &mut Scope<'_>, name: Name, command: Command, no_wait: bool) -> Result<(), Error> {
        if let Command::DeclareQueue { spec, .. } = &command {
            *scope.owns_exclusive |= spec.exclusive;
        }
        scope.fx.propose = Some(command);
        self.waiting = Some(Waiting::Commit(AfterCommit { method: (50, 10), then: Then::QueueDeclared { name, no_wait } }));
        Ok(())
    }

    /// Every declare of such a name is passive: it asks whether somebody waits for an answer.
    fn declare_reply_queue(&mut self, scope: &mut Scope<'_>, m: &queue::Declare) -> Result<(), Error> {
        let name = m.queue.as_bytes();
        if name != crate::reply_to::NAME && !self.may_be_waiting(scope, name) {
            return Err(no_queue(&name_of(&m.queue), scope.vhost));
        }
        self.last_queue = Some(name_of(&m.queue).into());
        if !m.no_wait {
            let ok = queue::DeclareOk { queue: m.queue.clone(), message_count: 0, consumer_count: 1 };
            scope.send(self.key.number, ok);
        }
        Ok(())
    }

    /// Of channels of other connections only they themselves know.
    fn may_be_waiting(&self, scope: &Scope<'_>, name: &[u8]) -> bool {
        match crate::reply_to::read_name(name) {
            Some((key, proof)) if key == self.key => {
                self.consumers.has_reply_consumer() && crate::reply_to::is_genuine(key, proof, scope.secret)
            }
            found => found.is_some(),
        }
    }

    fn inspect(&mut self, scope: &mut Scope<'_>, queue: QueueId, name: Name, by: Declared) {
        scope.fx.tell(queue, QueueEvent::Inspect { channel: self.key });
        self.waiting = Some(Waiting::Queue(queue, AfterReply::Declared { name, by }));
    }

    pub(super) fn queue_bind(&mut self, scope: &mut Scope<'_>, m: queue::Bind) -> Result<(), Error> {
        let name = self.queue_name(&m.queue)?;
        let key = binding_key(&m.queue, &m.routing_key, &name);
        let then = Channel::reply_after(m.no_wait, queue::BindOk {});
        let source = name_of(&m.exchange);
        self.check_queue_binding(scope, &name, &source, &key)?;
        let command = Command::Bind {
            vhost: Arc::clone(scope.vhost),
            source: source.into(),
            destination: Destination::Queue(name),
            routing_key: key,
            arguments: m.arguments,
        };
        self.propose(scope, command, (50, 20), then)
    }

    pub(super) fn queue_unbind(&mut self, scope: &mut Scope<'_>, m: queue::Unbind) -> Result<(), Error> {
        let name = self.queue_name(&m.queue)?;
        let source = name_of(&m.exchange);
        let key = binding_key(&m.queue, &m.routing_key, &name);
        scope.may(Right::Write, Resource::Queue(&name))?;
        check_source(scope, &source, &key)?;
        let vhost = scope.vhost()?;
        if !vhost.queues.contains_key(&name) || !vhost.exchanges.contains_key(source.as_str()) {
            // As RabbitMQ: taking away what is not there is no error.
            scope.send(self.key.number, queue::UnbindOk {});
            return Ok(());
        }
        scope.queue(&name)?;
        let command = Command::Unbind {
            vhost: Arc::clone(scope.vhost),
            source: source.into(),
            destination: Destination::Queue(name),
            routing_key: key,
            arguments: m.arguments,
        };
        self.propose(scope, command, (50, 50), Channel::reply_after(false, queue::UnbindOk {}))
    }

    fn check_queue_binding(&self, scope: &Scope<'_>, name: &str, source: &str, key: &[u8]) -> Result<(), Error> {
        scope.may(Right::Write, Resource::Queue(name))?;
        check_source(scope, source, key)?;
        scope.exchange(source)?;
        scope.queue(name).map(|_| ())
    }

    pub(super) fn queue_purge(&mut self, scope: &mut Scope<'_>, m: queue::Purge) -> Result<(), Error> {
        let name = self.queue_name(&m.queue)?;
        scope.may(Right::Read, Resource::Queue(&name))?;
        let queue = scope.queue(&name)?;
        scope.fx.tell(queue.id, QueueEvent::Purge { channel: self.key });
        self.waiting = Some(Waiting::Queue(queue.id, AfterReply::Purged { no_wait: m.no_wait }));
        Ok(())
    }

    pub(super) fn queue_delete(&mut self, scope: &mut Scope<'_>, m: queue::Delete) -> Result<(), Error> {
        let name = self.queue_name(&m.queue)?;
        scope.may(Right::Configure, Resource::Queue(&name))?;
        if scope.vhost()?.queues.get(&name).is_none() {
            // As RabbitMQ 3.x: deleting what is not there is no error.
            if !m.no_wait {
                scope.send(self.key.number, queue::DeleteOk { message_count: 0 });
            }
            return Ok(());
        }
        let queue = scope.queue(&name)?;
        let event = QueueEvent::Delete { channel: self.key, if_unused: m.if_unused, if_empty: m.if_empty };
        scope.fx.tell(queue.id, event);
        let after = AfterReply::Deletable { name, no_wait: m.no_wait, if_empty: m.if_empty };
        self.waiting = Some(Waiting::Queue(queue.id, after));
        Ok(())
    }

    /// A commit was answered.
    pub(super) fn committed(
        &mut self,
        scope: &mut Scope<'_>,
        after: AfterCommit,
        answer: Result<Outcome, Refusal>,
    ) -> Result<(), Error> {
        let outcome = answer.map_err(refused)?;
        match after.then {
            Then::Reply(None) => {}
            Then::Reply(Some(method)) => scope.send(self.key.number, *method),
            Then::QueueDeclared { name, no_wait } => {
                scope.fx.queues_declared += 1;
                self.last_queue = Some(Arc::clone(&name));
                let id = match outcome {
                    Outcome::Declared(declared) => declared.queue,
                    _ => None,
                };
                let Some(id) = id.filter(|_| !no_wait) else { return Ok(()) };
                self.inspect(scope, id, name, Declared::Commit);
            }
            Then::QueueDeleted { messages, no_wait } => {
                if !no_wait {
                    let message_count = u32::try_from(messages).unwrap_or(u32::MAX);
                    scope.send(self.key.number, queue::DeleteOk { message_count });
                }
            }
        }
        Ok(())
    }

    /// A queue has answered.
    pub(super) fn answered(
        &mut self,
        scope: &mut Scope<'_>,
        queue: QueueId,
        after: AfterReply,
        reply: QueueReply,
    ) -> Result<(), Error> {
        match (after, reply) {
            (AfterReply::Declared { name, by: Declared::Tables { locked: true, .. } }, QueueReply::Inspected { .. }) => {
                return Err(locked(&name, scope.vhost));
            }
            (AfterReply::Declared { by: Declared::Tables { no_wait: true, .. }, .. }, QueueReply::Inspected { .. }) => {}
            (AfterReply::Declared { name, .. }, QueueReply::Inspected { messages, consumers }) => {
                self.declared(scope, &name, messages, consumers);
            }
            (AfterReply::Purged { no_wait }, QueueReply::Purged { messages }) => {
                if !no_wait {
                    let message_count = u32::try_from(messages).unwrap_or(u32::MAX);
                    scope.send(self.key.number, queue::PurgeOk { message_count });
                }
            }
            (AfterReply::Deletable { name, no_wait, .. }, QueueReply::Deletable(verdict)) => {
                return self.deletable(scope, queue, name, no_wait, verdict);
            }
            (AfterReply::Consume { number, name, no_wait, again }, QueueReply::Consuming(verdict)) => {
                return self.consuming(scope, number, &name, no_wait, again, Some(verdict));
            }
            (AfterReply::Cancel { number, tag, no_wait }, _) => self.cancelled(scope, number, tag, no_wait),
            (AfterReply::Get { no_ack, .. }, QueueReply::Got(found)) => self.got(scope, queue, no_ack, found),
            (after, QueueReply::Down) => return self.queue_is_down(scope, queue, after),
            (after, _) => return self.queue_is_gone(scope, after),
        }
        Ok(())
    }

    fn declared(&self, scope: &mut Scope<'_>, name: &Name, messages: u64, consumers: u32) {
        let ok = queue::DeclareOk {
            queue: ShortStr::truncated(name),
            message_count: u32::try_from(messages).unwrap_or(u32::MAX),
            consumer_count: consumers,
        };
        scope.send(self.key.number, ok);
    }

    /// The node that holds the queue is down and nobody may take its place. A delete is carried out all
    /// the same, unless it asks for an empty queue: nobody can tell.
    fn queue_is_down(&mut self, scope: &mut Scope<'_>, queue: QueueId, after: AfterReply) -> Result<(), Error> {
        if let AfterReply::Consume { number, .. } = &after {
            self.forget_consumer(*number);
        }
        match after {
            AfterReply::Deletable { name, no_wait, if_empty } => {
                let verdict = if if_empty { Err(DeleteError::NotEmpty) } else { Ok(0) };
                self.deletable(scope, queue, name, no_wait, verdict)
            }
            AfterReply::Cancel { number, tag, no_wait } => {
                self.cancelled(scope, number, tag, no_wait);
                Ok(())
            }
            AfterReply::Declared { name, by: Declared::Tables { locked: true, .. } } => Err(locked(&name, scope.vhost)),
            AfterReply::Declared { by: Declared::Tables { no_wait: true, .. }, .. } => Ok(()),
            _ => Err(home_is_down(&scope.context.tables, queue)),
        }
    }

    fn deletable(
        &mut self,
        scope: &mut Scope<'_>,
        queue: QueueId,
        name: Name,
        no_wait: bool,
        verdict: Result<u64, DeleteError>,
    ) -> Result<(), Error> {
        let why = match verdict {
            Ok(messages) => {
                let vhost = Arc::clone(scope.vhost);
                let command = Command::DeleteQueue { vhost, name, only: Some(queue) };
                return self.propose(scope, command, (50, 40), Then::QueueDeleted { messages, no_wait });
            }
            Err(DeleteError::InUse) => "in use",
            Err(DeleteError::NotEmpty) => "not empty",
        };
        Err(ChannelError::precondition_failed(format_args!("queue '{name}' in vhost '{}' {why}", scope.vhost)).into())
    }

    /// The queue was deleted between the check and the question.
    fn queue_is_gone(&mut self, scope: &mut Scope<'_>, after: AfterReply) -> Result<(), Error> {
        match after {
            AfterReply::Deletable { no_wait, .. } => {
                if !no_wait {
                    scope.send(self.key.number, queue::DeleteOk { message_count: 0 });
                }
                Ok(())
            }
            AfterReply::Consume { number, name, no_wait, again } => {
                self.consuming(scope, number, &name, no_wait, again, None::<Result<(), ConsumeError>>)
            }
            AfterReply::Declared { name, by: Declared::Tables { command, no_wait, .. } } => {
                check_dead_lettering(scope, &command)?;
                self.declare_anew(scope, name, *command, no_wait)
            }
            AfterReply::Declared { name, by: Declared::Commit } => {
                // It was there when the command was accepted.
                self.declared(scope, &name, 0, 0);
                Ok(())
            }
            AfterReply::Declared { name, by: Declared::Passive } | AfterReply::Get { name, .. } => {
                Err(no_queue(&name, scope.vhost))
            }
            AfterReply::Purged { .. } => Err(ChannelError::not_found("the queue was deleted").into()),
            AfterReply::Cancel { number, tag, no_wait } => {
                self.cancelled(scope, number, tag, no_wait);
                Ok(())
            }
        }
    }
}

/// Rights on the source of a binding; whether it exists is seen later.
fn check_source(scope: &Scope<'_>, source: &str, key: &[u8]) -> Result<(), Error> {
    if source.is_empty() {
        return Err(default_exchange());
    }
    scope.may(Right::Read, Resource::Exchange(source))?;
    match scope.vhost()?.exchanges.get(source) {
        Some(exchange) => scope.may_topic(Right::Read, exchange, key),
        None => Ok(()),
    }
}

/// Rights that a queue needs which is to be made, for where its dead letters go.
fn check_dead_lettering(scope: &Scope<'_>, command: &Command) -> Result<(), Error> {
    let Command::DeclareQueue { spec, .. } = command else { return Ok(()) };
    if let Some(dlx) = spec.arguments.get("x-dead-letter-exchange").and_then(amqp::Value::as_str) {
        scope.may(Right::Read, Resource::Queue(&spec.name))?;
        scope.may(Right::Write, Resource::Exchange(dlx))?;
    }
    Ok(())
}

/// With neither queue nor key, the key is the queue's name (AMQP 0-9-1, queue.bind).
fn binding_key(queue: &ShortStr, key: &ShortStr, name: &str) -> Vec<u8> {
    if queue.as_bytes().is_empty() && key.as_bytes().is_empty() {
        name.as_bytes().to_vec()
    } else {
        key.as_bytes().to_vec()
    }
}

fn is_exchange_type(name: &str) -> bool {
    Kind::plain(name).is_some() || name == "x-delayed-message"
}

/// The one place where refusals of the metadata become AMQP errors.
fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::NoSuchVhost(name) => ConnectionError::not_allowed(format_args!("vhost {name} not found")).into(),
        Refusal::NoSuchExchange { vhost, name } => no_exchange(&name, &vhost),
        Refusal::NoSuchQueue { vhost, name } => no_queue(&name, &vhost),
        Refusal::Inequivalent(text)
        | Refusal::InvalidArgument(text)
        | Refusal::Invalid(text)
        | Refusal::LimitReached(text)
        | Refusal::InUse(text) => ChannelError::precondition_failed(text).into(),
        Refusal::NotImplemented(text) => ConnectionError::not_implemented(text).into(),
        Refusal::ExclusiveOwner { vhost, name } => locked(&name, &vhost),
        Refusal::AccessRefused(text) => ChannelError::access_refused(text).into(),
        Refusal::UnknownExchangeType(kind) => {
            ConnectionError::command_invalid(format_args!("unknown exchange type '{kind}'")).into()
        }
        Refusal::NoSuchUser(name) | Refusal::UserExists(name) | Refusal::NoSuchPolicy(name) => {
            ConnectionError::internal_error(format_args!("unexpected refusal about '{name}'")).into()
        }
        Refusal::NoSuchParameter
        | Refusal::InconsistentCluster(_)
        | Refusal::NoSuchNode(_)
        | Refusal::NodeIsUp(_)
        | Refusal::OnlyDiscNode(_)
        | Refusal::StaleIncarnation { .. }
        | Refusal::StaleView { .. }
        | Refusal::QueueGone(_)
        | Refusal::LastCopies { .. } => ConnectionError::internal_error("unexpected refusal").into(),
    }
}

