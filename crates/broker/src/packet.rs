//! What nodes say to each other about queues, as bytes.
//!
//! An event for a queue travels to the node that leads it; an event for a channel travels to the node
//! of its connection. Messages travel as they lie in memory, which is as they lay on the publisher's
//! wire. Numbers are little-endian; the page `docs/formats/node-port.md` has the layout.
//!
//! Whatever bytes come, decoding gives a packet or [`BadPacket`]: it never panics, and it allocates no
//! more than a small multiple of what came.

mod reader;
mod writer;

use amqp::Table;
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use store::Seq;

use crate::id::{ConnectionId, QueueId};
use crate::message::Message;
use crate::metadata::Tables;
use crate::mutant::{Mutant, breaks};
use crate::queue::{
    ChannelEvent, ChannelKey, Consume, ConsumeError, ConsumerKey, DeleteError, Delivery, Publish, QueueEvent,
    QueueReply,
};
use reader::Reader;
use writer::Writer;

/// What one node tells another about queues and channels.
#[derive(Clone, Debug)]
pub enum Packet {
    /// For the queue's leader, which the receiver is as far as the sender knows. `attempt` is how often the
    /// sender has looked for it.
    ToQueue { queue: QueueId, attempt: u64, event: QueueEvent },
    /// For a channel, a desk or an agent of the receiver.
    ToChannel { event: ChannelEvent },
    /// The receiver sent something for a queue that is not led here as far as the sender knows.
    NotLeader { queue: QueueId, attempt: u64 },
    /// An answer by direct reply-to, with the proof that its name was genuine.
    DirectReply { channel: ChannelKey, proof: u64, message: Message },
}

/// Bytes that are no packet of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of a peer cannot be read: {0}")]
pub struct BadPacket(pub &'static str);

/// Bytes that an event takes on its way, roughly: enough to reserve, and to count windows.
#[must_use]
pub fn size_hint(event: &QueueEvent) -> usize {
    match event {
        QueueEvent::Publish { messages, .. } | QueueEvent::Session { messages, .. } => {
            messages.iter().map(|p| p.message.as_bytes().len() + 16).sum()
        }
        QueueEvent::Ack { runs, .. } | QueueEvent::Taken { runs, .. } => 16 * runs.len(),
        _ => 64,
    }
}

/// Whether this is a message from a node that does not lead the queue any more, as far as the tables say; or that has
/// led before and leads again. Its successor gives it out too, flagged, and may have been faster. Nobody is subscribed
/// where the tables of this node have not said that the leader is.
#[must_use]
pub fn is_overtaken(tables: &Tables, from: NodeId, event: &ChannelEvent) -> bool {
    let (queue, since) = match event {
        ChannelEvent::Deliver { queue, since, .. } => (queue, *since),
        ChannelEvent::Replied { queue, reply: QueueReply::Got(Some(_)), .. } => (queue, u64::MAX),
        _ => return false,
    };
    let view = tables.queues.get(queue).map(|record| &record.view);
    let is_earlier = |led_since| since < led_since && !breaks(Mutant::HeedEarlierTerms);
    view.is_some_and(|view| view.leader() != from || is_earlier(view.led_since))
}

impl Packet {
    /// Appends the bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Packet::ToQueue { queue, attempt, event } => encode_to_queue(out, *queue, *attempt, event),
            Packet::ToChannel { event } => encode_to_channel(out, event),
            Packet::NotLeader { queue, attempt } => {
                Writer(out).u8(2).u64(queue.0).u64(*attempt);
            }
            Packet::DirectReply { channel, proof, message } => {
                Writer(out).u8(3).channel(*channel).u64(*proof).bytes(message.as_bytes());
            }
        }
    }

    /// Reads the bytes back.
    ///
    /// # Errors
    /// When they are not one whole packet.
    pub fn decode(bytes: &Bytes) -> Result<Packet, BadPacket> {
        let mut r = Reader::new(bytes);
        let packet = match r.u8()? {
            0 => Packet::ToQueue { queue: QueueId(r.u64()?), attempt: r.u64()?, event: queue_event(&mut r)? },
            1 => Packet::ToChannel { event: channel_event(&mut r)? },
            2 => Packet::NotLeader { queue: QueueId(r.u64()?), attempt: r.u64()? },
            3 => Packet::DirectReply { channel: r.channel()?, proof: r.u64()?, message: r.message()? },
            _ => return Err(BadPacket("unknown kind")),
        };
        r.end()?;
        Ok(packet)
    }
}

/// As [`Packet::ToQueue`], without giving the event away.
pub fn encode_to_queue(out: &mut Vec<u8>, queue: QueueId, attempt: u64, event: &QueueEvent) {
    out.reserve(size_hint(event) + 64);
    let mut w = Writer(out);
    w.u8(0).u64(queue.0).u64(attempt);
    match event {
        QueueEvent::Session { session, settled, follows, again, messages } => {
            w.u8(0).u64(session.0).u64(*settled).u64(*follows).u8(u8::from(*again)).count(messages.len());
            for publish in messages {
                w.u64(publish.number).bytes(publish.message.as_bytes());
            }
        }
        QueueEvent::Consume(ask) => encode_consume(&mut w, ask),
        QueueEvent::Cancel { consumer, reply } => drop(w.u8(2).consumer(*consumer).u8(u8::from(*reply))),
        QueueEvent::Get { channel, no_ack } => drop(w.u8(3).channel(*channel).u8(u8::from(*no_ack))),
        QueueEvent::Ack { channel, runs } => drop(w.u8(4).channel(*channel).runs(runs)),
        QueueEvent::Taken { channel, runs } => drop(w.u8(14).channel(*channel).runs(runs)),
        QueueEvent::Reject { channel, seqs, requeue } => {
            w.u8(5).channel(*channel).u8(u8::from(*requeue)).seqs(seqs);
        }
        QueueEvent::Surplus { channel, seqs } => drop(w.u8(6).channel(*channel).seqs(seqs)),
        QueueEvent::Resume { channel } => drop(w.u8(7).channel(*channel)),
        QueueEvent::Prefetch { consumer, prefetch, limited } => {
            w.u8(8).consumer(*consumer).u32(*prefetch).u8(u8::from(*limited));
        }
        QueueEvent::Credit { consumer, bytes } => drop(w.u8(9).consumer(*consumer).u64(*bytes)),
        QueueEvent::ChannelClosed { channel, seqs } => drop(w.u8(10).channel(*channel).seqs(seqs)),
        QueueEvent::Inspect { channel } => drop(w.u8(11).channel(*channel)),
        QueueEvent::Purge { channel } => drop(w.u8(12).channel(*channel)),
        QueueEvent::Delete { channel, if_unused, if_empty } => {
            w.u8(13).channel(*channel).u8(u8::from(*if_unused)).u8(u8::from(*if_empty));
        }
        // What concerns one node only is never sent: agents and drivers keep it.
        QueueEvent::Publish { .. }
        | QueueEvent::Stored { .. }
        | QueueEvent::Loaded { .. }
        | QueueEvent::DeadLettered { .. }
        | QueueEvent::Settings(_)
        | QueueEvent::NodeLost { .. }
        | QueueEvent::Tick
        | QueueEvent::Stop => drop(w.u8(255)),
    }
}

fn encode_consume(w: &mut Writer<'_>, ask: &Consume) {
    let flags = u8::from(ask.no_ack) | u8::from(ask.exclusive) << 1 | u8::from(ask.again) << 2 | u8::from(ask.limited) << 3;
    w.u8(1).consumer(ask.consumer).u8(flags).u32(ask.prefetch).u64(ask.priority.cast_unsigned()).bytes(&ask.tag);
    let mut arguments = Vec::new();
    ask.arguments.encode(&mut arguments);
    w.bytes(&arguments);
}

fn queue_event(r: &mut Reader<'_>) -> Result<QueueEvent, BadPacket> {
    Ok(match r.u8()? {
        0 => {
            let (session, settled, follows, again) = (ConnectionId(r.u64()?), r.u64()?, r.u64()?, r.flag()?);
            let count = r.count(12)?;
            let mut messages = Vec::with_capacity(count);
            for _ in 0..count {
                let number = r.u64()?;
                messages.push(Publish { message: r.message()?, number });
            }
            QueueEvent::Session { session, settled, follows, again, messages }
        }
        1 => QueueEvent::Consume(Box::new(consume(r)?)),
        2 => QueueEvent::Cancel { consumer: r.consumer()?, reply: r.flag()? },
        3 => QueueEvent::Get { channel: r.channel()?, no_ack: r.flag()? },
        4 => QueueEvent::Ack { channel: r.channel()?, runs: r.runs()? },
        14 => QueueEvent::Taken { channel: r.channel()?, runs: r.runs()? },
        5 => {
            let (channel, requeue) = (r.channel()?, r.flag()?);
            QueueEvent::Reject { channel, seqs: r.seqs()?, requeue }
        }
        6 => QueueEvent::Surplus { channel: r.channel()?, seqs: r.seqs()? },
        7 => QueueEvent::Resume { channel: r.channel()? },
        8 => QueueEvent::Prefetch { consumer: r.consumer()?, prefetch: r.u32()?, limited: r.flag()? },
        9 => QueueEvent::Credit { consumer: r.consumer()?, bytes: r.u64()? },
        10 => QueueEvent::ChannelClosed { channel: r.channel()?, seqs: r.seqs()? },
        11 => QueueEvent::Inspect { channel: r.channel()? },
        12 => QueueEvent::Purge { channel: r.channel()? },
        13 => QueueEvent::Delete { channel: r.channel()?, if_unused: r.flag()?, if_empty: r.flag()? },
        _ => return Err(BadPacket("unknown event for a queue")),
    })
}

/// No channel acknowledges more at once: a bound on the work one packet can ask for.
const RUN_MAX: u64 = 1 << 24;

fn consume(r: &mut Reader<'_>) -> Result<Consume, BadPacket> {
    let (consumer, flags, prefetch, priority) = (r.consumer()?, r.u8()?, r.u32()?, r.u64()?.cast_signed());
    let tag = r.bytes()?.into();
    // Behind the length that a table carries with it.
    let table = r.bytes()?.get(4..).ok_or(BadPacket("arguments of a consumer without a length"))?;
    let arguments = Table::decode(table).map_err(|_| BadPacket("arguments of a consumer"))?;
    Ok(Consume {
        consumer,
        tag,
        no_ack: flags & 1 != 0,
        exclusive: flags & 2 != 0,
        again: flags & 4 != 0,
        limited: flags & 8 != 0,
        prefetch,
        priority,
        arguments,
    })
}

/// As [`Packet::ToChannel`], without giving the event away.
pub fn encode_to_channel(out: &mut Vec<u8>, event: &ChannelEvent) {
    let mut w = Writer(out);
    w.u8(1);
    match event {
        ChannelEvent::Deliver { queue, channel, since, items } => {
            w.u8(0).u64(queue.0).channel(*channel).u64(*since).count(items.len());
            for item in items {
                w.delivery(item);
            }
        }
        ChannelEvent::Confirmed { channel, runs } => {
            w.u8(1).channel(*channel).count(runs.len());
            for (first, last) in runs {
                w.u64(*first).u64(*last);
            }
        }
        ChannelEvent::Rejected { channel, numbers } => {
            w.u8(2).channel(*channel).count(numbers.len());
            for number in numbers {
                w.u64(*number);
            }
        }
        ChannelEvent::Replied { channel, queue, reply } => encode_reply(w.u8(3).channel(*channel).u64(queue.0), reply),
        ChannelEvent::ConsumerCancelled { channel, number } => drop(w.u8(4).channel(*channel).u32(*number)),
        ChannelEvent::Resubscribed { channel, number, accepted } => {
            w.u8(5).channel(*channel).u32(*number).u8(u8::from(*accepted));
        }
        ChannelEvent::Resumed { channel, queue } => drop(w.u8(7).channel(*channel).u64(queue.0)),
        // Said by a node to its own connections.
        ChannelEvent::QueueMoved { channel, queue } => drop(w.u8(6).channel(*channel).u64(queue.0)),
        ChannelEvent::QueueDown { channel, queue, for_good } => {
            w.u8(8).channel(*channel).u64(queue.0).u8(u8::from(*for_good));
        }
    }
}

fn encode_reply(w: &mut Writer<'_>, reply: &QueueReply) {
    match reply {
        QueueReply::Got(None) => drop(w.u8(0)),
        QueueReply::Got(Some((delivery, left))) => drop(w.u8(1).u64(*left).delivery(delivery)),
        QueueReply::Consuming(Ok(())) => drop(w.u8(2)),
        QueueReply::Consuming(Err(ConsumeError::ExclusiveUse)) => drop(w.u8(3)),
        QueueReply::Cancelled(number) => drop(w.u8(4).u32(*number)),
        QueueReply::Inspected { messages, consumers } => drop(w.u8(5).u64(*messages).u32(*consumers)),
        QueueReply::Purged { messages } => drop(w.u8(6).u64(*messages)),
        QueueReply::Deletable(Ok(messages)) => drop(w.u8(7).u64(*messages)),
        QueueReply::Deletable(Err(DeleteError::InUse)) => drop(w.u8(8)),
        QueueReply::Deletable(Err(DeleteError::NotEmpty)) => drop(w.u8(9)),
        QueueReply::Gone => drop(w.u8(10)),
        QueueReply::Down => drop(w.u8(11)),
    }
}

fn channel_event(r: &mut Reader<'_>) -> Result<ChannelEvent, BadPacket> {
    Ok(match r.u8()? {
        0 => {
            let (queue, channel, since) = (QueueId(r.u64()?), r.channel()?, r.u64()?);
            let count = r.count(20)?;
            let mut items = Vec::with_capacity(count);
            for _ in 0..count {
                items.push(r.delivery()?);
            }
            ChannelEvent::Deliver { queue, channel, since, items }
        }
        1 => {
            let channel = r.channel()?;
            let count = r.count(16)?;
            let mut runs = Vec::with_capacity(count);
            for _ in 0..count {
                runs.push((r.u64()?, r.u64()?));
            }
            ChannelEvent::Confirmed { channel, runs }
        }
        2 => {
            let channel = r.channel()?;
            let count = r.count(8)?;
            let mut numbers = Vec::with_capacity(count);
            for _ in 0..count {
                numbers.push(r.u64()?);
            }
            ChannelEvent::Rejected { channel, numbers }
        }
        3 => ChannelEvent::Replied { channel: r.channel()?, queue: QueueId(r.u64()?), reply: reply(r)? },
        4 => ChannelEvent::ConsumerCancelled { channel: r.channel()?, number: r.u32()? },
        5 => ChannelEvent::Resubscribed { channel: r.channel()?, number: r.u32()?, accepted: r.flag()? },
        6 => ChannelEvent::QueueMoved { channel: r.channel()?, queue: QueueId(r.u64()?) },
        7 => ChannelEvent::Resumed { channel: r.channel()?, queue: QueueId(r.u64()?) },
        8 => ChannelEvent::QueueDown { channel: r.channel()?, queue: QueueId(r.u64()?), for_good: r.flag()? },
        _ => return Err(BadPacket("unknown event for a channel")),
    })
}

fn reply(r: &mut Reader<'_>) -> Result<QueueReply, BadPacket> {
    Ok(match r.u8()? {
        0 => QueueReply::Got(None),
        1 => {
            let left = r.u64()?;
            QueueReply::Got(Some((Box::new(r.delivery()?), left)))
        }
        2 => QueueReply::Consuming(Ok(())),
        3 => QueueReply::Consuming(Err(ConsumeError::ExclusiveUse)),
        4 => QueueReply::Cancelled(r.u32()?),
        5 => QueueReply::Inspected { messages: r.u64()?, consumers: r.u32()? },
        6 => QueueReply::Purged { messages: r.u64()? },
        7 => QueueReply::Deletable(Ok(r.u64()?)),
        8 => QueueReply::Deletable(Err(DeleteError::InUse)),
        9 => QueueReply::Deletable(Err(DeleteError::NotEmpty)),
        10 => QueueReply::Gone,
        11 => QueueReply::Down,
        _ => return Err(BadPacket("unknown reply")),
    })
}

impl Reader<'_> {
    fn channel(&mut self) -> Result<ChannelKey, BadPacket> {
        Ok(ChannelKey { connection: ConnectionId(self.u64()?), number: self.u16()?, life: self.u32()? })
    }

    fn consumer(&mut self) -> Result<ConsumerKey, BadPacket> {
        Ok(ConsumerKey { channel: self.channel()?, number: self.u32()? })
    }

    fn seqs(&mut self) -> Result<Vec<Seq>, BadPacket> {
        let count = self.count(8)?;
        (0..count).map(|_| Ok(Seq(self.u64()?))).collect()
    }

    fn runs(&mut self) -> Result<Vec<(Seq, Seq)>, BadPacket> {
        let count = self.count(16)?;
        let mut runs = Vec::with_capacity(count);
        for _ in 0..count {
            let (first, last) = (self.u64()?, self.u64()?);
            if first > last || last - first > RUN_MAX {
                return Err(BadPacket("a run of sequences that ends before it begins, or never"));
            }
            runs.push((Seq(first), Seq(last)));
        }
        Ok(runs)
    }

    fn message(&mut self) -> Result<Message, BadPacket> {
        Message::from_bytes(self.bytes()?).map_err(|_| BadPacket("bytes that are not a message"))
    }

    fn delivery(&mut self) -> Result<Delivery, BadPacket> {
        let (seq, consumer, redelivered, held) = (Seq(self.u64()?), self.u32()?, self.flag()?, self.flag()?);
        let count = self.u32()?;
        Ok(Delivery { message: self.message()?, seq, consumer, redelivered, held, count })
    }
}

impl Writer<'_> {
    fn channel(&mut self, key: ChannelKey) -> &mut Self {
        self.u64(key.connection.0).u16(key.number).u32(key.life)
    }

    fn consumer(&mut self, key: ConsumerKey) -> &mut Self {
        self.channel(key.channel).u32(key.number)
    }

    fn seqs(&mut self, seqs: &[Seq]) -> &mut Self {
        self.count(seqs.len());
        for seq in seqs {
            self.u64(seq.0);
        }
        self
    }

    fn runs(&mut self, runs: &[(Seq, Seq)]) -> &mut Self {
        self.count(runs.len());
        for (first, last) in runs {
            self.u64(first.0).u64(last.0);
        }
        self
    }

    fn delivery(&mut self, item: &Delivery) -> &mut Self {
        self.u64(item.seq.0).u32(item.consumer).u8(u8::from(item.redelivered));
        self.u8(u8::from(item.held)).u32(item.count);
        self.bytes(item.message.as_bytes())
    }
}

#[cfg(test)]
mod tests;
