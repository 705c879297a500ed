//! Packets on the one connection between two nodes.
//!
//! ```text
//!  send(Control, p) --> [p p p]--.  first, always             .--> assembly of Control --> receive
//!                                 >--> frame, frame, frame --<
//!  send(Data, p) -----> [p p p]--'  a chunk when nothing else '--> assembly of Data ----> receive
//! ```
//!
//! Promises: the packets of a lane come out at the other end unchanged and in their order; a packet
//! of Control waits for no more of Data than what [`Link::fill`] has already handed out, so a driver
//! that asks for little at a time keeps heartbeats and votes ahead of bulk; what one incoming packet
//! may hold in memory is limited, and known from its first frame. Between lanes there is no order.
//!
//! A packet up to the size of a frame travels whole; a larger one says its length first and comes in
//! chunks. The first packet either side sends is its [`Hello`], on Control; [`agree`] judges it.
//!
//! Pure: bytes in, bytes out. `docs/formats/node-port.md` has the bytes. Whoever sends looks at
//! [`Link::queued_bytes`]: nothing here limits what is queued.

mod hello;

use std::collections::VecDeque;
use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

pub use hello::{
    Agreed, ClusterId, Generation, Hello, HelloError, Incarnation, Incompatible, Versions, agree,
};

/// Length, then lane and flags.
const HEAD_BYTES: usize = 5;
/// What a packet in several frames begins with: its length.
const TOTAL_BYTES: usize = 4;
const LANE_MASK: u8 = 0x0f;
const BEGINS: u8 = 0x10;
const ENDS: u8 = 0x20;

/// Which packets a packet may overtake: Control passes Data at the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// What keeps the cluster alive and must be quick: heartbeats, the metadata log, views.
    Control,
    /// What may be large: operations of queues, synchronization.
    Data,
}

impl Lane {
    fn code(self) -> u8 {
        match self {
            Lane::Control => 0,
            Lane::Data => 1,
        }
    }

    fn from_code(code: u8) -> Option<Lane> {
        match code {
            0 => Some(Lane::Control),
            1 => Some(Lane::Data),
            _ => None,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lane::Control => "control",
            Lane::Data => "data",
        })
    }
}

/// Bytes for the other node, in pieces that are not copied before they are on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    first: Bytes,
    rest: Vec<Bytes>,
    len: usize,
}

impl Packet {
    /// A packet without bytes, to be added to.
    #[must_use]
    pub fn new() -> Packet {
        Packet::default()
    }

    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.len += piece.len();
        if self.first.is_empty() {
            self.first = piece;
        } else {
            self.rest.push(piece);
        }
    }

    /// Bytes of all pieces together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if it has no bytes. Such a packet can be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl From<Bytes> for Packet {
    fn from(piece: Bytes) -> Packet {
        Packet::from_iter([piece])
    }
}

impl From<Vec<u8>> for Packet {
    fn from(bytes: Vec<u8>) -> Packet {
        Packet::from(Bytes::from(bytes))
    }
}

impl FromIterator<Bytes> for Packet {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Packet {
        let mut packet = Packet::new();
        for piece in pieces {
            packet.push(piece);
        }
        packet
    }
}

/// Sizes of frames and packets, in bytes. Both ends need the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// Largest content of a frame: how much of Data can be ahead of Control.
    pub frame_bytes_max: usize,
    /// Largest packet of the lane Control.
    pub control_bytes_max: usize,
    /// Largest packet of the lane Data: a large message and what is said about it.
    pub data_bytes_max: usize,
}

impl Default for LinkLimits {
    fn default() -> LinkLimits {
        LinkLimits {
            frame_bytes_max: 64 << 10,
            control_bytes_max: 16 << 20,
            data_bytes_max: 600 << 20,
        }
    }
}

impl LinkLimits {
    /// The largest packet that may travel on this lane.
    #[must_use]
    pub fn packet_bytes_max(&self, lane: Lane) -> usize {
        match lane {
            Lane::Control => self.control_bytes_max,
            Lane::Data => self.data_bytes_max,
        }
    }
}

/// What is wrong with what the other node sent. The connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// A frame is larger than frames may be.
    #[error("frame of {bytes} bytes is over the limit of {max}")]
    FrameTooLarge {
        /// What its head says.
        bytes: usize,
        /// See [`LinkLimits::frame_bytes_max`].
        max: usize,
    },
    /// A packet is larger than packets of its lane may be.
    #[error("{lane} packet of {bytes} bytes is over the limit of {max}")]
    PacketTooLarge {
        /// Where it came.
        lane: Lane,
        /// What its first frame says.
        bytes: usize,
        /// See [`LinkLimits::packet_bytes_max`].
        max: usize,
    },
    /// A lane of a later version.
    #[error("unknown lane {0}")]
    UnknownLane(u8),
    /// Flags of a later version.
    #[error("unknown flags {0:#04x} of a frame")]
    UnknownFlags(u8),
    /// A first frame has no room for the length of its packet.
    #[error("{0} packet begins without its length")]
    NoLength(Lane),
    /// A first frame, while an earlier packet of the lane is not complete.
    #[error("{0} packet begins inside another")]
    Nested(Lane),
    /// A later frame, without a first one.
    #[error("{0} packet goes on that has not begun")]
    NotBegun(Lane),
    /// A packet that ends before or goes on after the length it began with.
    #[error("{lane} packet of {bytes} bytes comes with another length")]
    OtherLength {
        /// Where it came.
        lane: Lane,
        /// What its first frame says.
        bytes: usize,
    },
}

/// What an operator may see of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// Bytes handed out for the socket so far.
    pub sent_bytes: u64,
    /// Bytes taken from the socket so far, of whole frames.
    pub received_bytes: u64,
    /// Packets of both lanes that were sent as a whole.
    pub sent_packets: u64,
    /// Packets of both lanes that were received as a whole.
    pub received_packets: u64,
}

/// Packets of one lane that wait to be sent.
#[derive(Debug, Default)]
struct Outgoing {
    /// The pieces of all packets in a row, without empty ones.
    pieces: VecDeque<Bytes>,
    lengths: VecDeque<usize>,
    /// Bytes of the first packet that are on their way.
    begun: usize,
}

impl Outgoing {
    /// Writes the next frame; how much of its packet is in it, and whether that ends it. There must
    /// be a packet.
    fn write_frame(
        &mut self,
        lane: Lane,
        frame_bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> (usize, bool) {
        let total = *self.lengths.front().expect("only called with a packet");
        let left = total - self.begun;
        let mut flags = lane.code();
        let mut length = left;
        let mut chunk = left;
        if self.begun == 0 {
            flags |= BEGINS;
        }
        if left > frame_bytes_max {
            length = frame_bytes_max;
            chunk = if self.begun == 0 {
                length - TOTAL_BYTES
            } else {
                length
            };
        } else {
            flags |= ENDS;
        }
        out.extend_from_slice(&to_u32(length).to_le_bytes());
        out.push(flags);
        if flags & (BEGINS | ENDS) == BEGINS {
            out.extend_from_slice(&to_u32(total).to_le_bytes());
        }
        self.write(chunk, out);
        self.begun += chunk;
        let ends = flags & ENDS != 0;
        if ends {
            self.lengths.pop_front();
            self.begun = 0;
        }
        (chunk, ends)
    }

    fn write(&mut self, mut bytes: usize, out: &mut Vec<u8>) {
        while bytes > 0 {
            let piece = self
                .pieces
                .front_mut()
                .expect("pieces are as long as their packets");
            let part = bytes.min(piece.len());
            out.extend_from_slice(&piece[..part]);
            bytes -= part;
            if part == piece.len() {
                self.pieces.pop_front();
            } else {
                piece.advance(part);
            }
        }
    }
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).expect("limits are below 4 GiB")
}

/// A packet of which not everything is there.
#[derive(Debug)]
struct Assembly {
    bytes: BytesMut,
    total: usize,
}

impl Assembly {
    /// Adds a chunk; the packet when this was its end.
    fn add(mut self, lane: Lane, chunk: &[u8], ends: bool) -> Result<Step, LinkError> {
        let reached = self.bytes.len() + chunk.len();
        if reached > self.total || ends != (reached == self.total) {
            return Err(LinkError::OtherLength {
                lane,
                bytes: self.total,
            });
        }
        self.bytes.extend_from_slice(chunk);
        if ends {
            Ok(Step::Whole(self.bytes.freeze()))
        } else {
            Ok(Step::Part(self))
        }
    }
}

enum Step {
    Whole(Bytes),
    Part(Assembly),
}

/// Both directions of a connection between two nodes.
#[derive(Debug)]
pub struct Link {
    limits: LinkLimits,
    /// By lane.
    outgoing: [Outgoing; 2],
    /// By lane.
    incoming: [Option<Assembly>; 2],
    status: LinkStatus,
}

impl Link {
    /// A link over a fresh connection.
    ///
    /// # Panics
    /// When the limits leave no room for content, or do not fit the format.
    #[must_use]
    pub fn new(limits: LinkLimits) -> Link {
        assert!(
            limits.frame_bytes_max > TOTAL_BYTES,
            "a frame has room for a length and more"
        );
        let largest = limits
            .frame_bytes_max
            .max(limits.control_bytes_max)
            .max(limits.data_bytes_max);
        let _ = to_u32(largest);
        Link {
            limits,
            outgoing: <[Outgoing; 2]>::default(),
            incoming: [None, None],
            status: LinkStatus::default(),
        }
    }

    /// Queues a packet.
    ///
    /// # Panics
    /// When it is larger than [`LinkLimits::packet_bytes_max`].
    pub fn send(&mut self, lane: Lane, packet: Packet) {
        let max = self.limits.packet_bytes_max(lane);
        assert!(
            packet.len <= max,
            "{lane} packet of {} bytes, at most {max} may be sent",
            packet.len
        );
        let outgoing = &mut self.outgoing[usize::from(lane.code())];
        outgoing.lengths.push_back(packet.len);
        if !packet.first.is_empty() {
            outgoing.pieces.push_back(packet.first);
            outgoing.pieces.extend(packet.rest);
        }
        self.status.queued_bytes += HEAD_BYTES + packet.len;
    }

    /// Adds frames for the socket to `out` until nothing is queued or `budget` bytes are reached;
    /// the last frame may go beyond. All of Control comes before any of Data, so the smaller the
    /// budget, the sooner a packet of Control sent afterwards is on its way.
    pub fn fill(&mut self, out: &mut Vec<u8>, budget: usize) {
        let start = out.len();
        while out.len() - start < budget {
            let is_waiting =
                |lane: &Lane| !self.outgoing[usize::from(lane.code())].lengths.is_empty();
            let Some(lane) = [Lane::Control, Lane::Data].into_iter().find(is_waiting) else {
                break;
            };
            let outgoing = &mut self.outgoing[usize::from(lane.code())];
            let (chunk, ends) = outgoing.write_frame(lane, self.limits.frame_bytes_max, out);
            self.status.queued_bytes -= chunk;
            if ends {
                self.status.queued_bytes -= HEAD_BYTES;
                self.status.sent_packets += 1;
            }
        }
        self.status.sent_bytes += to_u64(out.len() - start);
    }

    /// Takes whole frames from the input; the next packet that is complete, and the lane it came on.
    /// To be called until there is none. A packet that came in one frame shares the input's memory.
    ///
    /// # Errors
    /// When what came is not of this protocol or over a limit. The link is of no more use then.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<(Lane, Bytes)>, LinkError> {
        while let Some((lane, flags, length)) = self.look(input)? {
            if input.len() < HEAD_BYTES + length {
                return Ok(None);
            }
            self.status.received_bytes += to_u64(HEAD_BYTES + length);
            input.advance(HEAD_BYTES);
            let content = input.split_to(length);
            if let Some(packet) = self.accept(lane, flags, content)? {
                self.status.received_packets += 1;
                return Ok(Some((lane, packet)));
            }
        }
        Ok(None)
    }

    /// The head of the next frame, if it is there, checked.
    fn look(&self, input: &[u8]) -> Result<Option<(Lane, u8, usize)>, LinkError> {
        let Some((&[a, b, c, d, flags], _)) = input.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = from_u32([a, b, c, d]);
        let max = self.limits.frame_bytes_max;
        if length > max {
            return Err(LinkError::FrameTooLarge { bytes: length, max });
        }
        let code = flags & LANE_MASK;
        let lane = Lane::from_code(code).ok_or(LinkError::UnknownLane(code))?;
        let unknown = flags & !(LANE_MASK | BEGINS | ENDS);
        if unknown != 0 {
            return Err(LinkError::UnknownFlags(unknown));
        }
        Ok(Some((lane, flags, length)))
    }

    /// Takes the content of a frame; the packet if that completes one.
    fn accept(
        &mut self,
        lane: Lane,
        flags: u8,
        mut content: BytesMut,
    ) -> Result<Option<Bytes>, LinkError> {
        let ends = flags & ENDS != 0;
        let begins = flags & BEGINS != 0;
        let unfinished = self.incoming[usize::from(lane.code())].take();
        let assembly = match unfinished {
            Some(_) if begins => return Err(LinkError::Nested(lane)),
            None if !begins => return Err(LinkError::NotBegun(lane)),
            Some(unfinished) => unfinished,
            None => {
                let total = if ends {
                    content.len()
                } else {
                    let head = content.first_chunk::<TOTAL_BYTES>();
                    from_u32(*head.ok_or(LinkError::NoLength(lane))?)
                };
                let max = self.limits.packet_bytes_max(lane);
                if total > max {
                    return Err(LinkError::PacketTooLarge {
                        lane,
                        bytes: total,
                        max,
                    });
                }
                if ends {
                    return Ok(Some(content.freeze()));
                }
                content.advance(TOTAL_BYTES);
                Assembly {
                    bytes: BytesMut::with_capacity(total),
                    total,
                }
            }
        };
        match assembly.add(lane, &content, ends)? {
            Step::Whole(packet) => Ok(Some(packet)),
            Step::Part(assembly) => {
                self.incoming[usize::from(lane.code())] = Some(assembly);
                Ok(None)
            }
        }
    }

    /// Bytes that wait to be sent, with a frame's head for each packet.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.status.queued_bytes
    }

    /// True if nothing waits to be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outgoing
            .iter()
            .all(|outgoing| outgoing.lengths.is_empty())
    }

    /// What an operator may see.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.status
    }
}

fn from_u32(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_le_bytes(bytes)).expect("at least 32 bits")
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("at most 64 bits")
}

#[cfg(test)]
mod tests;
