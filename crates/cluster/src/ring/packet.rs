//! What travels from a member to its right neighbour, and what a joining member is handed.
//!
//! Pure data with a compact binary form (`docs/formats/ring.md`), whose version is the link's.
//! Decoding copies no payload: each is a slice of the bytes that came. Any input gives a packet or
//! an error, never a panic, and costs memory in proportion to its length.

use bytes::Bytes;

use super::{MemberId, View};

/// Numbers on the wire stay below this, so that one may be added to any without care.
const NUMBER_MAX: u64 = u64::MAX >> 2;

const WHOLE: u8 = 1;
const DEAD: u8 = 2;
const PHASE_SHIFT: u32 = 2;

const PART_PUBLICATIONS: u8 = 1;
const PART_SETTLED: u8 = 2;
const PART_MARK: u8 = 4;
const PART_DEATH_TOLD: u8 = 8;

/// What a member tells its right neighbour: everything new since its last packet, or everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Of the view that the sender had installed. `marks` and `phase` mean nothing in another.
    pub(super) version: u64,
    /// Counts the sender's packets, so that a loss is noticed.
    pub(super) number: u64,
    /// The parts hold all that the sender holds, so this packet needs none before it.
    pub(super) whole: bool,
    pub(super) phase: Phase,
    /// The sender, or somebody whom this view's phase has passed before, knows dead.
    pub(super) dead: bool,
    pub(super) parts: Vec<Part>,
}

/// What a packet says of one publisher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub publisher: MemberId,
    /// Everything up to here is complete and can be forgotten.
    pub settled: u64,
    /// Up to here, everybody from the publisher to the sender has stored it. Zero: nothing new.
    pub mark: u64,
    /// Number of the first payload.
    pub first: u64,
    pub payloads: Vec<Bytes>,
    /// In a handover: the death of this publisher was told already.
    pub death_told: bool,
}

/// How far the members of a view are with the publications of the dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Nothing yet.
    #[default]
    Start,
    /// On its way to gather: whom it has passed accepts nothing from the dead themselves.
    Gather,
    /// Whom it has passed holds everything of the dead that will ever be delivered.
    Seal,
    /// Whom it has passed has stored all that.
    Store,
    /// Whom it has passed has forgotten the payloads.
    Settle,
    /// Whom it has passed has forgotten the names.
    Clear,
}

impl Phase {
    const ALL: [Phase; 6] = [
        Phase::Start,
        Phase::Gather,
        Phase::Seal,
        Phase::Store,
        Phase::Settle,
        Phase::Clear,
    ];

    pub(super) fn next(self) -> Option<Phase> {
        Phase::ALL.get(self as usize + 1).copied()
    }
}

/// The state of a member in a view, for another that joins this view.
///
/// It must go together with a copy of everything that was delivered to the member it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    pub(super) view: View,
    pub(super) parts: Vec<Part>,
}

/// Bytes that are no packet or handover of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("ring packet is cut short after byte {0}")]
    Truncated(usize),
    /// They say what no member writes.
    #[error("ring packet makes no sense at byte {0}")]
    Malformed(usize),
}

impl Packet {
    /// Version of the view in which it was sent.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Bytes of all payloads in it.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.parts.iter().map(Part::payload_bytes).sum()
    }

    /// Appends the bytes of this packet to `to`.
    pub fn encode(&self, to: &mut Vec<u8>) {
        to.reserve(self.payload_bytes() + 24);
        let flags = flag(self.whole, WHOLE) | flag(self.dead, DEAD);
        to.push(flags | (self.phase as u8) << PHASE_SHIFT);
        write_number(to, self.version);
        write_number(to, self.number);
        write_parts(to, &self.parts);
    }

    /// Reads a packet that fills `bytes`. Payloads are slices of `bytes` and keep it alive.
    pub fn decode(bytes: Bytes) -> Result<Packet, DecodeError> {
        let mut reader = Reader { bytes, at: 0 };
        let head = reader.byte()?;
        let phase = Phase::ALL.get(usize::from(head >> PHASE_SHIFT));
        let phase = *phase.ok_or(DecodeError::Malformed(0))?;
        let packet = Packet {
            version: reader.number()?,
            number: reader.number()?,
            whole: head & WHOLE != 0,
            phase,
            dead: head & DEAD != 0,
            parts: reader.parts()?,
        };
        reader.end(packet)
    }
}

impl Handover {
    /// Whether this member is in the view that is handed over.
    #[must_use]
    pub fn seats(&self, member: MemberId) -> bool {
        self.view.members.contains(&member)
    }

    /// The view that the newcomer joins.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Appends the bytes of this handover to `to`.
    pub fn encode(&self, to: &mut Vec<u8>) {
        write_number(to, self.view.version);
        write_number(to, self.view.members.len() as u64);
        for member in &self.view.members {
            to.extend_from_slice(&member.0.to_be_bytes());
        }
        write_parts(to, &self.parts);
    }

    /// Reads a handover that fills `bytes`. Payloads are slices of `bytes` and keep it alive.
    pub fn decode(bytes: Bytes) -> Result<Handover, DecodeError> {
        let mut reader = Reader { bytes, at: 0 };
        let version = reader.number()?;
        let mut members = Vec::new();
        for _ in 0..reader.number()? {
            members.push(reader.member()?);
        }
        let handover = Handover {
            view: View { version, members },
            parts: reader.parts()?,
        };
        reader.end(handover)
    }
}

impl Part {
    pub(super) fn payload_bytes(&self) -> usize {
        self.payloads.iter().map(Bytes::len).sum()
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.push(
            flag(!self.payloads.is_empty(), PART_PUBLICATIONS)
                | flag(self.settled > 0, PART_SETTLED)
                | flag(self.mark > 0, PART_MARK)
                | flag(self.death_told, PART_DEATH_TOLD),
        );
        to.extend_from_slice(&self.publisher.0.to_be_bytes());
        if self.settled > 0 {
            write_number(to, self.settled);
        }
        if self.mark > 0 {
            write_number(to, self.mark);
        }
        if self.payloads.is_empty() {
            return;
        }
        write_number(to, self.first);
        write_number(to, self.payloads.len() as u64);
        for payload in &self.payloads {
            write_number(to, payload.len() as u64);
            to.extend_from_slice(payload);
        }
    }

    fn read(reader: &mut Reader) -> Result<Part, DecodeError> {
        let flags = reader.byte()?;
        if flags & !(PART_PUBLICATIONS | PART_SETTLED | PART_MARK | PART_DEATH_TOLD) != 0 {
            return Err(DecodeError::Malformed(reader.at - 1));
        }
        let mut part = Part {
            publisher: reader.member()?,
            death_told: flags & PART_DEATH_TOLD != 0,
            ..Part::default()
        };
        if flags & PART_SETTLED != 0 {
            part.settled = reader.number()?;
        }
        if flags & PART_MARK != 0 {
            part.mark = reader.number()?;
        }
        if flags & PART_PUBLICATIONS != 0 {
            let at = reader.at;
            part.first = reader.number()?;
            let count = reader.number()?;
            if part.first == 0 || count == 0 {
                return Err(DecodeError::Malformed(at));
            }
            for _ in 0..count {
                part.payloads.push(reader.payload()?);
            }
        }
        Ok(part)
    }
}

fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}

fn write_parts(to: &mut Vec<u8>, parts: &[Part]) {
    write_number(to, parts.len() as u64);
    for part in parts {
        part.write(to);
    }
}

/// Seven bits a byte, the lowest first; the high bit says that more follow.
fn write_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self
            .bytes
            .get(self.at)
            .ok_or(DecodeError::Truncated(self.at))?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let start = self.at;
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return match number {
                    0..=NUMBER_MAX => Ok(number),
                    _ => Err(DecodeError::Malformed(start)),
                };
            }
        }
        Err(DecodeError::Malformed(start))
    }

    fn member(&mut self) -> Result<MemberId, DecodeError> {
        let id = self.bytes[self.at..]
            .first_chunk()
            .ok_or(DecodeError::Truncated(self.at))?;
        self.at += size_of::<u64>();
        Ok(MemberId(u64::from_be_bytes(*id)))
    }

    fn payload(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.number()?;
        let rest = self.bytes.len() - self.at;
        match usize::try_from(length) {
            Ok(length) if length <= rest => {
                self.at += length;
                Ok(self.bytes.slice(self.at - length..self.at))
            }
            _ => Err(DecodeError::Truncated(self.at)),
        }
    }

    fn parts(&mut self) -> Result<Vec<Part>, DecodeError> {
        let mut parts = Vec::new();
        for _ in 0..self.number()? {
            parts.push(Part::read(self)?);
        }
        Ok(parts)
    }

    fn end<T>(self, value: T) -> Result<T, DecodeError> {
        if self.at == self.bytes.len() {
            Ok(value)
        } else {
            Err(DecodeError::Malformed(self.at))
        }
    }
}
