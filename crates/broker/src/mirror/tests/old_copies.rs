//! A copy of another lineage: nothing is removed from it before it is merged.

use cluster::metadata_log::NodeId;
use stdx::Time;
use store::{Batch, Seq};

use crate::id::QueueId;
use crate::metadata::{View, ViewChange};
use crate::mirror::operation::{self, Sessions};
use crate::mirror::{Care, Effects, Follower, Leader, Packet, PutBack, Runs};

const QUEUE: QueueId = QueueId(1);
const OLD: NodeId = NodeId(1);
const LEADER: NodeId = NodeId(2);
const NOW: Time = Time::START;

/// A mirror that lacked something has taken over, and the node that led is back as a mirror.
fn view() -> View {
    let mut view = View::new([LEADER], true);
    (view.epoch, view.lineage) = (7, 1);
    view.old = vec![OLD];
    view.after(ViewChange::AddMirror(OLD), |_| true).expect("it is up")
}

fn merged(view: &View) -> View {
    view.after(ViewChange::Merged(OLD), |_| true).expect("its copy is old")
}

fn runs(list: &[(u64, u64)]) -> Vec<(u8, Runs)> {
    vec![(0, Runs::new(list.iter().map(|(first, last)| (Seq(*first), Seq(*last)))))]
}

/// The follower on the returned node, which has said what it holds; the number of that attempt.
fn follower(view: &View) -> (Follower, u64) {
    let mut out = Effects::default();
    let mut follower = Follower::new(NOW, QUEUE, OLD, view, false, 10, &mut out);
    let (_, feed) = out.survey.pop().expect("it asks its store");
    let mut out = Effects::default();
    follower.surveyed(NOW, feed, runs(&[(1, 9)]), &mut out);
    assert!(matches!(out.to_peers[..], [(LEADER, Packet::Wants { .. })]), "{:?}", out.to_peers);
    (follower, feed)
}

fn step(feed: u64) -> Packet {
    let operation = operation::encode(Batch::new().as_bytes(), &Sessions::new());
    Packet::Step { feed, number: 1, operation }
}

#[test]
fn a_leader_says_what_its_lineage_never_had_and_feeds_no_old_copy() {
    let view = view();
    let mut leader = Leader::found(QUEUE, LEADER, &view, Sessions::new(), Care { automatic: true, ..Care::default() });
    let mut out = Effects::default();
    leader.begin(&mut out);
    assert_eq!(out.survey, [(LEADER, 0)]);
    // Of these the first two have gone since.
    leader.surveyed(NOW, LEADER, 0, runs(&[(3, 6)]), None, &mut out);

    let mut out = Effects::default();
    leader.receive(NOW, OLD, Packet::Wants { feed: 11, epoch: 8, holds: runs(&[(1, 9)]) }, &mut out);
    assert_eq!(out.survey, [(OLD, 11)]);
    let mut out = Effects::default();
    leader.surveyed(NOW, OLD, 11, runs(&[(5, 6), (20, 30)]), None, &mut out);
    assert_eq!(out.to_peers, [(OLD, Packet::Missed { feed: 11, runs: runs(&[(1, 2), (7, 9)]) })]);
    assert_eq!(leader.progress().count(), 0);

    // Merged it is fed like any other, and only then loses what is no more.
    let mut out = Effects::default();
    leader.view_changed(&merged(&view), &mut out);
    leader.receive(NOW, OLD, Packet::Wants { feed: 12, epoch: 9, holds: runs(&[(1, 9)]) }, &mut out);
    leader.surveyed(NOW, OLD, 12, runs(&[(5, 6), (20, 30)]), None, &mut out);
    assert!(out.to_peers.iter().any(|(_, packet)| matches!(packet, Packet::Step { feed: 12, number: 1, .. })));
}

#[test]
fn nothing_is_removed_from_an_old_copy_before_it_is_merged() {
    let view = view();
    let (mut follower, feed) = follower(&view);
    let mut out = Effects::default();
    follower.receive(NOW, LEADER, step(feed), &mut out);
    assert!(out.is_empty(), "an old copy was told to store {:?}", out.store);
    let missed = runs(&[(1, 2)]);
    follower.receive(NOW, LEADER, Packet::Missed { feed, runs: missed.clone() }, &mut out);
    assert_eq!(out.put_back.take(), Some(PutBack { lineage: 1, runs: missed.clone() }));
    // Once is enough.
    follower.receive(NOW, LEADER, Packet::Missed { feed, runs: missed }, &mut out);
    follower.tick(NOW, &mut out);
    assert!(out.is_empty(), "{out:?}");

    follower.view_changed(NOW, &merged(&view), &mut out);
    let (_, feed) = out.survey.pop().expect("it asks for a feed now");
    follower.surveyed(NOW, feed, runs(&[(1, 9)]), &mut out);
    follower.receive(NOW, LEADER, step(feed), &mut out);
    assert_eq!(out.store.len(), 1);
}

#[test]
fn another_lineage_is_asked_anew_what_it_lacks() {
    let view = view();
    let (mut follower, feed) = follower(&view);
    let mut out = Effects::default();
    follower.receive(NOW, LEADER, Packet::Missed { feed, runs: runs(&[(1, 2)]) }, &mut out);
    let next = View { epoch: view.epoch + 1, lineage: 2, led_since: view.epoch + 1, ..view };
    let mut out = Effects::default();
    follower.view_changed(NOW, &next, &mut out);
    assert_eq!(out.survey.len(), 1);
}
