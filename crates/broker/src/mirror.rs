//! Mirrored queues: several nodes hold what one of them leads.
//!
//! The leader's queue writes batches as it would alone. [`Leader`] sends each of them round the ring of
//! the view's seats (`cluster::ring`) and says when it is complete: stored by every seat. A [`Follower`]
//! stores what comes. There is no queue at a follower; when it is its turn to lead, a queue starts from
//! its store, as after a restart.
//!
//! ```text
//!                    view: seats [A B C], catching up [D]
//!      queue --batch--> A ====> B ====> C          the ring: publications, marks, acknowledgements
//!        ^              |  <============+
//!        +--complete----+ ----- feed ------> D     what D lacks, and every batch meanwhile
//! ```
//!
//! A mirror that catches up says which sequences it holds. A sequence is of one message for good, as each
//! leader gives its own (docs/decisions/0004). So the leader has it remove what is not live, sends what
//! it lacks, and every batch in between, on one stream and in the order in which its own store has them.
//!
//! After a promotion of a mirror that lacked something, other copies may hold confirmed messages that are
//! nowhere else (`old` in the view). Their nodes are not fed: a feed removes what its leader has not. The
//! leader tells such a node what its lineage never had of what the node holds (`Packet::Missed`); the node
//! puts that into the queue again, and once it is confirmed the view calls the copy merged.
//!
//! Promises, with the views of the metadata log:
//! * what is complete is stored by every seat of the view in which it was completed;
//! * a mirror gets a seat only when it has stored everything complete, and from the moment its seat is
//!   proposed nothing is complete without it, whatever becomes of the proposal;
//! * a member that left a view completes nothing: it hears of the view, or nobody answers it;
//! * nothing is removed from an old copy before it is merged;
//! * whatever a follower is told to store, it stores in the order in which the leader did.

mod effects;
mod feed;
mod follower;
mod leader;
pub mod operation;
mod packet;
mod runs;
#[cfg(test)]
mod tests;

use cluster::metadata_log::NodeId;
use cluster::ring;

pub use effects::{Effects, PutBack, Report};
pub use follower::Follower;
pub use leader::{Care, Leader, Progress};
pub use packet::Packet;
pub use runs::Runs;

use crate::metadata::View;
use crate::mutant::{Mutant, breaks};

/// The ring of a view: its seats, in order.
fn ring_view(view: &View) -> ring::View {
    ring::View { version: view.epoch, members: view.seats.iter().map(|seat| ring::MemberId(seat.member())).collect() }
}

/// The member of the ring that sits on this node.
fn member_of(view: &View, node: NodeId) -> Option<ring::MemberId> {
    view.seats.iter().find(|seat| seat.node == node).map(|seat| ring::MemberId(seat.member()))
}

/// What asks the left neighbour for all that it has sent: it may have done so without being heard. The ring knows who
/// that is: who joins takes its view from the leader, and may hear of it from the metadata later.
fn ask_left(ring: &ring::Member) -> Option<(NodeId, Packet)> {
    let left = ring.left().filter(|_| !breaks(Mutant::NoRelink));
    left.map(|left| (node_of(left), Packet::Relink))
}

/// The right neighbour in the ring, if it sits on this node.
fn right_on(ring: &ring::Member, view: &View, node: NodeId) -> Option<ring::MemberId> {
    if breaks(Mutant::NeighboursOfMetadata) {
        return member_of(view, node);
    }
    ring.right().filter(|right| node_of(*right) == node)
}

/// The node on which a member sits: its number is part of the seat's.
fn node_of(member: ring::MemberId) -> NodeId {
    NodeId(member.0 & 0xFFFF)
}

/// Packets of the ring carry their sender, since its seat may be of a view that the receiver has not seen.
fn ring_packet(from: ring::MemberId, packet: &ring::Packet) -> Packet {
    let mut bytes = from.0.to_le_bytes().to_vec();
    packet.encode(&mut bytes);
    Packet::Ring(bytes.into())
}

fn open_ring_packet(bytes: &bytes::Bytes) -> Option<(ring::MemberId, ring::Packet)> {
    let from = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    let packet = ring::Packet::decode(bytes.slice(8..)).ok()?;
    Some((ring::MemberId(from), packet))
}
