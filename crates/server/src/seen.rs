//! A client that is told of a change finds it on every node: who declares a queue here may publish to it
//! there at once, as with RabbitMQ, whose metadata are written on all running nodes in one step.
//!
//! A change is in force when a majority has it. The node that was asked then waits until the others that it
//! can speak to have caught up; one that takes long is not waited for.
//!
//! There is at most one question on its way to a peer, whoever waits: it is sent beside the proposal, for the
//! revision that comes next, so that the answer is mostly here when the outcome is, and an answer says how far
//! the peer has come, which is enough for all who wait for less.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::metadata::{Command, Outcome};
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::node::{Node, ProposeFailure};
use crate::peers::Peer;
use crate::wire::Service;

/// How long others may take to see a change before the client is told.
const PATIENCE: Duration = Duration::from_secs(1);
/// A question is forgotten after this time: nobody waits for its answer any more.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// How far the other nodes have come, as far as this one has asked.
#[derive(Default)]
pub(crate) struct Sights(Mutex<BTreeMap<NodeId, Arc<watch::Sender<Sight>>>>);

/// How far one peer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sight {
    era: Era,
    /// The tables there are of this revision, or a later one.
    seen: u64,
    /// The latest revision that somebody here waits for.
    wanted: u64,
    /// A question is on its way.
    asking: bool,
    /// How many questions were lost.
    lost: u64,
}

/// What a peer has said holds for one connection with it, and for one generation of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Era {
    life: u64,
    generation: u64,
}

impl Sight {
    /// Begins anew where the era is another one.
    fn enter(&mut self, era: Era) {
        if self.era != era {
            *self = Sight { era, lost: self.lost, ..Sight::default() };
        }
    }

    /// Whether a question is to be sent, for a revision that is waited for or will be.
    fn asks(&mut self, revision: u64) -> bool {
        let asks = !self.asking && self.seen < revision;
        self.asking |= asks;
        asks
    }

    /// Takes an answer, or that there is none, to a question of this era; what is to be asked next.
    fn answered(&mut self, era: Era, answer: Option<u64>) -> Option<u64> {
        if self.era != era {
            return None;
        }
        match answer {
            Some(revision) => self.seen = self.seen.max(revision),
            None => self.lost += 1,
        }
        self.asking = answer.is_some() && self.seen < self.wanted;
        self.asking.then_some(self.wanted)
    }
}

/// Proposes a change of metadata, and waits until every node that answers has seen it.
pub(crate) async fn propose(node: &Arc<Node>, command: Command) -> Result<Outcome, ProposeFailure> {
    let before = node.tables.load().revision;
    for peer in peers(node) {
        look(node, &peer, before + 1, false);
    }
    let outcome = node.propose(command).await?;
    let revision = node.tables.load().revision;
    if revision != before {
        wait_for_others(node, revision).await;
    }
    Ok(outcome)
}

/// Those that are waited for.
fn peers(node: &Node) -> Vec<Arc<Peer>> {
    let mut peers = node.peers.all();
    if !peers.is_empty() {
        let tables = node.tables.load();
        peers.retain(|peer| peer.life().is_some() && tables.nodes.is_up(peer.id) && node.reach.is_reachable(peer.id));
    }
    peers
}

async fn wait_for_others(node: &Arc<Node>, revision: u64) {
    let deadline = Instant::now() + PATIENCE;
    let looks: Vec<_> = peers(node).into_iter().map(|peer| (look(node, &peer, revision, true), peer)).collect();
    for ((mut sight, before), peer) in looks {
        let in_vain = |sight: &Sight| sight.era != before.era || sight.lost != before.lost;
        let seen = sight.wait_for(|sight| sight.seen >= revision || in_vain(sight));
        if tokio::time::timeout_at(deadline, seen).await.is_err() {
            tracing::debug!("node {} takes long to see revision {revision}", peer.name);
        }
    }
}

/// Has a peer asked whether it has seen a revision, unless that is known or about to be. Gives what is known, and
/// whatever comes later.
fn look(node: &Arc<Node>, peer: &Arc<Peer>, revision: u64, waits: bool) -> (watch::Receiver<Sight>, Sight) {
    let sight = Arc::clone(node.sights.0.lock().entry(peer.id).or_default());
    let era = Era { life: peer.life().unwrap_or_default(), generation: node.generation.load(Ordering::Acquire) };
    let (mut asks, mut known) = (false, Sight::default());
    sight.send_if_modified(|sight| {
        sight.enter(era);
        if waits {
            sight.wanted = sight.wanted.max(revision);
        }
        asks = sight.asks(revision);
        known = *sight;
        false
    });
    let receiver = sight.subscribe();
    if asks {
        tokio::spawn(ask(Arc::clone(node), Arc::clone(peer), sight, era, revision));
    }
    (receiver, known)
}

/// Asks until nobody waits for more than the peer has.
async fn ask(node: Arc<Node>, peer: Arc<Peer>, sight: Arc<watch::Sender<Sight>>, era: Era, first: u64) {
    let mut next = Some(first);
    while let Some(revision) = next.take() {
        let question = revision.to_le_bytes();
        let call = node.peers.call(&peer, Service::Seen, &question);
        let answer = tokio::time::timeout(FORGOTTEN + PATIENCE, call).await.ok().and_then(Result::ok);
        // Earlier versions answer with nothing when they have seen what they were asked for.
        let answer = answer.map(|body| body.as_ref().try_into().map_or(revision, u64::from_le_bytes));
        sight.send_modify(|sight| next = sight.answered(era, answer));
    }
}

/// Answers a peer when this node has seen the revision it asks about: with the revision that it has.
pub(crate) async fn answer(node: &Arc<Node>, question: &[u8]) -> Bytes {
    if let Ok(revision) = question.try_into().map(u64::from_le_bytes) {
        let mut changes = node.changes.subscribe();
        let seen = async {
            while node.tables.load().revision < revision && changes.changed().await.is_ok() {}
        };
        let _ = tokio::time::timeout(FORGOTTEN, seen).await;
    }
    Bytes::copy_from_slice(&node.tables.load().revision.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERA: Era = Era { life: 1, generation: 1 };

    fn sight() -> Sight {
        let mut sight = Sight::default();
        sight.enter(ERA);
        sight
    }

    #[test]
    fn one_question_serves_all_who_wait() {
        let mut sight = sight();
        assert!(sight.asks(5), "nothing is known");
        assert!(!sight.asks(5) && !sight.asks(9), "a question is on its way");
        sight.wanted = 9;
        assert_eq!(sight.answered(ERA, Some(6)), Some(9), "somebody waits for more");
        assert_eq!(sight.answered(ERA, Some(12)), None, "the peer has come further than anybody asked");
        assert!(!sight.asks(12), "that is known");
        assert!(sight.asks(13));
        assert_eq!(sight.answered(ERA, Some(11)), None, "nobody waits for 13");
        assert_eq!(sight.seen, 12, "what was said stays");
    }

    #[test]
    fn what_a_peer_has_said_holds_for_its_era_only() {
        let mut sight = sight();
        assert!(sight.asks(5));
        assert_eq!(sight.answered(ERA, Some(7)), None);
        let next = Era { life: 2, ..ERA };
        sight.enter(next);
        assert_eq!((sight.seen, sight.wanted, sight.asking), (0, 0, false));
        assert!(sight.asks(6));
        assert_eq!(sight.answered(ERA, Some(9)), None, "an answer of before");
        assert_eq!((sight.seen, sight.asking), (0, true));
        sight.enter(Era { generation: 2, ..next });
        assert!(!sight.asking);
    }

    #[test]
    fn a_lost_question_is_told_to_who_waits_and_asked_again_by_the_next() {
        let mut sight = sight();
        assert!(sight.asks(5));
        sight.wanted = 5;
        assert_eq!(sight.answered(ERA, None), None);
        assert_eq!(sight.lost, 1);
        assert!(sight.asks(5));
    }
}
