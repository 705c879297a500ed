//! A message that comes from no client: one publish on a channel of its own, in confirm mode.
//!
//! It meets every rule that a client's publish meets, since the same code applies them. Whoever posts it obeys the
//! effects and hands on what queues report, until the fate is known.

use amqp::{Error, Properties, PropertiesView};

use super::{Channel, Incoming, Mode, Scope};
use crate::connection::{ConnectionEffects, Context, Limits, Peer};
use crate::id::Name;
use crate::queue::{ChannelEvent, ChannelKey};
use crate::traffic::Traffic;

/// What is posted, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Posting<'a> {
    pub user: &'a Name,
    /// No permission is asked for: an operator posts, or the node itself.
    pub trusted: bool,
    pub vhost: &'a Name,
    pub exchange: &'a str,
    pub routing_key: &'a [u8],
    pub properties: &'a Properties,
    pub body: &'a [u8],
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Everything that it was routed to holds it.
    Taken,
    Unroutable,
    /// A queue refused it.
    Rejected,
}

/// See the file's head.
#[derive(Debug)]
pub struct Post {
    channel: Channel,
    returned: bool,
}

impl Post {
    /// Publishes. `secret` is random: it draws the queue where an exchange picks one.
    ///
    /// # Errors
    /// What a client's channel, or its connection, would be closed with.
    pub fn publish(
        key: ChannelKey,
        context: &Context,
        limits: &Limits,
        secret: u64,
        posting: &Posting<'_>,
        fx: &mut ConnectionEffects,
    ) -> Result<Post, Error> {
        let mut channel = Channel::new(key, limits.message_bytes_max, context.now);
        channel.mode = Mode::Confirm;
        let nowhere = ([0, 0, 0, 0], 0).into();
        let peer = Peer { address: nowhere, host: nowhere, tls: None, certificate_name: None };
        let mut out = Vec::new();
        let mut scope = Scope {
            context,
            limits,
            connection: key.connection,
            peer: &peer,
            user: posting.user,
            vhost: posting.vhost,
            out: &mut out,
            fx,
            frame_max: limits.frame_max,
            secret,
            trusted: posting.trusted,
            owns_exclusive: &mut false,
            cancel_notify: false,
        };
        let properties = posting.properties.to_bytes();
        let view = PropertiesView::parse(&properties)?;
        let incoming = Incoming {
            publish: amqp::Publish {
                exchange: posting.exchange.as_bytes(),
                routing_key: posting.routing_key,
                mandatory: true,
                immediate: false,
            },
            view: &view,
            properties: &properties,
            body: posting.body,
            wire: None,
        };
        channel.publish(&mut scope, &incoming)?;
        // So early a channel says nothing but that it returns the message.
        Ok(Post { channel, returned: !out.is_empty() })
    }

    /// A queue reports.
    pub fn hear(&mut self, event: &ChannelEvent) {
        match event {
            ChannelEvent::Confirmed { runs, .. } => {
                for number in runs.iter().flat_map(|(first, last)| *first..=*last) {
                    self.channel.safe(number);
                }
            }
            ChannelEvent::Rejected { numbers, .. } => {
                for number in numbers {
                    self.channel.rejected(*number);
                }
            }
            _ => {}
        }
    }

    /// What was counted of it, when its fate is known.
    #[must_use]
    pub fn counted(mut self) -> Traffic {
        self.channel.flush_reports(&mut Vec::new());
        let mut traffic = Traffic::default();
        self.channel.tell_traffic(&mut traffic);
        traffic
    }

    /// `None` while queues have something to report.
    #[must_use]
    pub fn fate(&self) -> Option<Fate> {
        match self.channel.is_safe()? {
            false => Some(Fate::Rejected),
            true if self.returned => Some(Fate::Unroutable),
            true => Some(Fate::Taken),
        }
    }
}
