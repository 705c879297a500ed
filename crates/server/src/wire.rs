//! Packets between nodes, by kind: which lane they take and who gets them.
//!
//! The first byte tells the kind. Packets of queues and channels are `broker::packet`'s; the rest is
//! listed here. `docs/formats/node-port.md` has the layout of all.

use bytes::Bytes;
use cluster::link::Lane;

use crate::alarms::Shortage;

/// Kinds above those of `broker::packet`.
const HEARTBEAT: u8 = 0x10;
const CALL: u8 = 0x11;
const REPLY: u8 = 0x12;
const STANDING: u8 = 0x13;
const GIVE_WAY: u8 = 0x14;
const REPLICA: u8 = 0x20;

/// What a call asks of the other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// The metadata log's own conversation.
    Metadata,
    /// Questions about queues, connections and the node, for listings.
    Listing,
    /// Answered when the tables there are of this revision or a later one, with the one they are of.
    Seen,
}

impl Service {
    fn code(self) -> u8 {
        match self {
            Service::Metadata => 0,
            Service::Listing => 1,
            Service::Seen => 2,
        }
    }

    fn from_code(code: u8) -> Option<Service> {
        match code {
            0 => Some(Service::Metadata),
            1 => Some(Service::Listing),
            2 => Some(Service::Seen),
            _ => None,
        }
    }

    /// Listings may be long: they wait behind nothing and hold nothing up on the lane of data.
    pub(crate) fn lane(self) -> Lane {
        match self {
            Service::Metadata | Service::Seen => Lane::Control,
            Service::Listing => Lane::Data,
        }
    }
}

/// A packet, as far as it must be known to hand it on.
#[derive(Debug)]
pub(crate) enum Packet {
    /// Of `broker::packet`.
    Broker(Bytes),
    Heartbeat(Bytes),
    Call { call: u64, service: Service, body: Bytes },
    Reply { call: u64, body: Bytes },
    /// Where the sender's side of the cluster stands.
    Standing(Standing),
    /// An operator has decided: who is not of this generation gives way to it.
    GiveWay { generation: u64 },
    /// Between replicas of a queue.
    Replica { queue: u64, body: Bytes },
}

pub(crate) fn heartbeat(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + body.len());
    out.push(HEARTBEAT);
    out.extend_from_slice(body);
    out
}

pub(crate) fn call(call: u64, service: Service, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + body.len());
    out.push(CALL);
    out.extend_from_slice(&call.to_le_bytes());
    out.push(service.code());
    out.extend_from_slice(body);
    out
}

pub(crate) fn reply(call: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + body.len());
    out.push(REPLY);
    out.extend_from_slice(&call.to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// One side of a cluster, of which there may be several.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Standing {
    /// Of the metadata log.
    pub generation: u64,
    pub cluster: u64,
    /// Of clients, on the node that says so.
    pub connections: u64,
    /// In the queues that this node leads; earlier versions do not say.
    #[serde(default)]
    pub messages: Option<u64>,
    /// Nodes that are up and in reach.
    pub nodes: u64,
    /// The first of them by name.
    pub first: String,
    /// Of the node that says so; earlier versions do not say.
    #[serde(default)]
    pub shortage: Shortage,
}

impl Standing {
    /// The side with the highest rank stays: most connections, most nodes, first name.
    pub(crate) fn rank(self) -> (u64, u64, std::cmp::Reverse<String>, u64) {
        (self.connections, self.nodes, std::cmp::Reverse(self.first), self.generation)
    }
}

pub(crate) fn standing(standing: &Standing) -> Vec<u8> {
    let mut out = vec![STANDING];
    out.extend(serde_json::to_vec(standing).unwrap_or_default());
    out
}

pub(crate) fn give_way(generation: u64) -> Vec<u8> {
    let mut out = vec![GIVE_WAY];
    out.extend_from_slice(&generation.to_le_bytes());
    out
}

/// Begins a packet between replicas of a queue.
pub(crate) fn begin_replica(queue: u64) -> Vec<u8> {
    let mut out = vec![REPLICA];
    out.extend_from_slice(&queue.to_le_bytes());
    out
}

/// Looks at a packet. `None` is a kind of a later version, or cut.
pub(crate) fn open(mut bytes: Bytes) -> Option<Packet> {
    let number = |bytes: &mut Bytes| {
        let head = bytes.split_to_checked(8)?;
        Some(u64::from_le_bytes(head.as_ref().try_into().ok()?))
    };
    match *bytes.first()? {
        kind if kind < HEARTBEAT => Some(Packet::Broker(bytes)),
        HEARTBEAT => Some(Packet::Heartbeat(bytes.slice(1..))),
        CALL => {
            let _ = bytes.split_to(1);
            let call = number(&mut bytes)?;
            let service = Service::from_code(*bytes.first()?)?;
            Some(Packet::Call { call, service, body: bytes.slice(1..) })
        }
        REPLY => {
            let _ = bytes.split_to(1);
            let call = number(&mut bytes)?;
            Some(Packet::Reply { call, body: bytes })
        }
        STANDING => Some(Packet::Standing(serde_json::from_slice(&bytes[1..]).ok()?)),
        GIVE_WAY => {
            let _ = bytes.split_to(1);
            Some(Packet::GiveWay { generation: number(&mut bytes)? })
        }
        REPLICA => {
            let _ = bytes.split_to(1);
            let queue = number(&mut bytes)?;
            Some(Packet::Replica { queue, body: bytes })
        }
        _ => None,
    }
}

trait SplitChecked: Sized {
    fn split_to_checked(&mut self, count: usize) -> Option<Self>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, count: usize) -> Option<Bytes> {
        (self.len() >= count).then(|| self.split_to(count))
    }
}
