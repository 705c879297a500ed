//! Everything that must be there before messages flow: exchange, queues, bindings, and the
//! connections with their channels.
//!
//! The order matters: queues first, since a producer would lose messages without them; consumers
//! second; producers last. Consumers are told to start as the last thing on their connection, and
//! the answers come to the worker, since deliveries may come between them.

use amqp::method::{basic, confirm, exchange, queue};
use amqp::{Method, ReplyCode, ShortStr, Table};

use crate::connection::{Connection, Role};
use crate::consumer::{self, Consumer};
use crate::failure::Failure;
use crate::options::Options;
use crate::producer::{self, Producer};
use crate::session::{Limits, Session, unexpected};
use crate::topology::{Source, Topology};

/// Makes connections, all alike but for their number.
pub(crate) struct Setup<'a> {
    pub(crate) options: &'a Options,
    pub(crate) topology: &'a Topology,
    pub(crate) id: &'a str,
}

impl Setup<'_> {
    fn session(&self, index: usize, name: &str) -> Result<Session, Failure> {
        let uris = self.options.uris();
        let uri = &uris[index % uris.len()];
        let wanted = Limits {
            frame_max: match self.options.framemax {
                0 => uri.frame_max.unwrap_or(0),
                frame_max => frame_max,
            },
            heartbeat: match self.options.heartbeat {
                0 => uri.heartbeat.unwrap_or(0),
                heartbeat => heartbeat,
            },
        };
        Session::open(uri, wanted, &format!("{} {name}", self.id))
    }

    /// Declares the exchange and the queues that have names.
    pub(crate) fn declare(&self) -> Result<(), Failure> {
        let mut session = self.session(0, "setup")?;
        session.open_channel(1)?;
        let exchange = exchange::Declare {
            exchange: ShortStr::truncated(&self.topology.exchange),
            kind: ShortStr::truncated(&self.options.kind),
            durable: true,
            ..exchange::Declare::default()
        };
        let given = exchange.exchange.is_empty() || exchange.exchange.starts_with(b"amq.");
        if !given
            && !self.exists(exchange::Declare {
                passive: true,
                ..exchange.clone()
            })?
        {
            match session.call(1, exchange)? {
                Method::ExchangeDeclareOk(_) => {}
                answer => return Err(unexpected("exchange.declare", &answer)),
            }
        }
        for queue in &self.topology.queues {
            let passive = queue::Declare {
                queue: ShortStr::truncated(&queue.name),
                passive: true,
                ..queue::Declare::default()
            };
            if !self.exists(passive)? {
                self.declare_queue(&mut session, 1, &queue.name)?;
            }
            self.bind(&mut session, 1, &queue.name, &queue.key)?;
        }
        session.close()
    }

    /// Whether something predeclared is there. It is asked on a connection of its own, since the
    /// answer no ends the channel. Without the option nothing counts as predeclared.
    fn exists(&self, passive: impl Into<Method>) -> Result<bool, Failure> {
        if !self.options.predeclared {
            return Ok(false);
        }
        let mut session = self.session(0, "check")?;
        session.open_channel(1)?;
        let exists = match session.call(1, passive) {
            Ok(_) => true,
            Err(Failure::Refused { code, .. }) if code == ReplyCode::NOT_FOUND.value() => false,
            Err(failure) => return Err(failure),
        };
        session.close()?;
        Ok(exists)
    }

    /// Declares a queue, and gives the name that it has then.
    fn declare_queue(
        &self,
        session: &mut Session,
        channel: u16,
        name: &str,
    ) -> Result<String, Failure> {
        let declare = queue::Declare {
            queue: ShortStr::truncated(name),
            durable: self.options.persistent(),
            auto_delete: self.options.auto_delete,
            arguments: self
                .options
                .queue_arguments()
                .expect("the options have been checked"),
            ..queue::Declare::default()
        };
        match session.call(channel, declare)? {
            Method::QueueDeclareOk(ok) => Ok(ok.queue.to_string()),
            answer => Err(unexpected("queue.declare", &answer)),
        }
    }

    fn bind(
        &self,
        session: &mut Session,
        channel: u16,
        queue: &str,
        key: &str,
    ) -> Result<(), Failure> {
        if self.topology.exchange.is_empty() || self.options.skip_binding_queues {
            return Ok(());
        }
        let bind = queue::Bind {
            queue: ShortStr::truncated(queue),
            exchange: ShortStr::truncated(&self.topology.exchange),
            routing_key: ShortStr::truncated(key),
            ..queue::Bind::default()
        };
        match session.call(channel, bind)? {
            Method::QueueBindOk(_) => Ok(()),
            answer => Err(unexpected("queue.bind", &answer)),
        }
    }

    /// Opens the connection of consumer `index`.
    pub(crate) fn consumer(&self, index: usize) -> Result<Connection, Failure> {
        let name = format!("consumer #{index}");
        let mut session = self.session(index, &name)?;
        let mut consumers = Vec::new();
        let mut consumes = Vec::new();
        for number in 0..self.options.consumer_channel_count {
            let channel = number + 1;
            session.open_channel(channel)?;
            self.limit_deliveries(&mut session, channel)?;
            let source = index * usize::from(self.options.consumer_channel_count);
            let queues = match self.topology.source(source + usize::from(number)) {
                Source::Named(queues) => queues.clone(),
                Source::Own { key } => {
                    let queue = self.declare_queue(&mut session, channel, "")?;
                    self.bind(&mut session, channel, &queue, key)?;
                    vec![queue]
                }
            };
            consumers.push(Consumer::new(&consumer::Settings {
                channel,
                queues: queues.len(),
                autoack: self.options.autoack,
                ack_every: self.options.multi_ack_every,
                limit: self.options.cmessages,
            }));
            consumes.extend(queues.into_iter().map(|queue| (channel, queue)));
        }
        for (number, (channel, queue)) in consumes.into_iter().enumerate() {
            let consume = basic::Consume {
                queue: ShortStr::truncated(&queue),
                consumer_tag: ShortStr::truncated(&number.to_string()),
                no_ack: self.options.autoack,
                arguments: Table::new(),
                ..basic::Consume::default()
            };
            session.send(channel, consume)?;
        }
        let channels = f64::from(self.options.consumer_channel_count);
        let rate = self.options.consumer_rate().map(|rate| rate * channels);
        Connection::new(session, name, Role::consumers(consumers, rate))
    }

    fn limit_deliveries(&self, session: &mut Session, channel: u16) -> Result<(), Failure> {
        for (count, global) in [(self.options.qos, false), (self.options.global_qos, true)] {
            if count == 0 {
                continue;
            }
            let qos = basic::Qos {
                prefetch_size: 0,
                prefetch_count: count,
                global,
            };
            match session.call(channel, qos)? {
                Method::BasicQosOk(_) => {}
                answer => return Err(unexpected("basic.qos", &answer)),
            }
        }
        Ok(())
    }

    /// Opens the connection of producer `index`.
    pub(crate) fn producer(&self, index: usize) -> Result<Connection, Failure> {
        let name = format!("producer #{index}");
        let mut session = self.session(index, &name)?;
        if self.options.tcp_send_buffer_size > 0 {
            session.limit_send_buffer(self.options.tcp_send_buffer_size)?;
        }
        let mut producers = Vec::new();
        let count = usize::from(self.options.producer_channel_count);
        for number in 0..self.options.producer_channel_count {
            let channel = number + 1;
            session.open_channel(channel)?;
            if self.options.confirm_window().is_some() {
                match session.call(channel, confirm::Select { no_wait: false })? {
                    Method::ConfirmSelectOk(_) => {}
                    answer => return Err(unexpected("confirm.select", &answer)),
                }
            }
            let agent = index * count + usize::from(number);
            producers.push(Producer::new(&producer::Settings {
                options: self.options,
                channel,
                exchange: &self.topology.exchange,
                routing_key: self.topology.key(agent),
                frame_max: session.limits().frame_max,
                turn: (agent, count * self.options.producers),
            }));
        }
        Connection::new(session, name, Role::Producers(producers))
    }
}
