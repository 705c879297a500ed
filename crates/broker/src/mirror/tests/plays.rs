//! Bugs that random lives met too seldom to wait for, each as a short play; with the rule broken again the
//! play must fail.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use cluster::metadata_log::NodeId;
use stdx::Time;
use store::{Batch, Seq};

use super::super::operation::{self, Sessions};
use super::super::{Care, Effects, Follower, Leader, Packet, Report, Runs};
use super::world::QUEUE;
use crate::id::ConnectionId;
use crate::metadata::{View, ViewChange};
use crate::mutant::{Mutant, breaking, notices};
use crate::queue::{Session, level_key};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const NOW: Time = Time::START;

fn message() -> Batch {
    let mut batch = Batch::new();
    batch.enqueue(level_key(QUEUE, 0), Seq(1), &[b"payload"]);
    batch
}

fn session() -> Sessions {
    Sessions::from([(ConnectionId(5), Session { last: 1, ..Session::default() })])
}

fn after(view: &View, change: ViewChange) -> View {
    view.after(change, |_| true).expect("the change is possible")
}

fn holds(play: fn() -> bool, rule: Mutant) {
    assert!(play(), "the play fails");
    assert!(!breaking(rule, play), "nobody notices {rule:?}");
}

/// A leader that node two mirrors without being in sync, and has asked for a feed.
fn leader_with_feed(out: &mut Effects) -> Leader {
    let view = after(&View::new([ONE], true), ViewChange::AddMirror(TWO));
    let care = Care { automatic: true, patience: Duration::from_secs(2), ..Care::default() };
    let mut leader = Leader::found(QUEUE, ONE, &view, Sessions::new(), care);
    leader.receive(NOW, TWO, Packet::Wants { feed: 1, epoch: view.epoch, holds: Vec::new() }, out);
    leader
}

/// The leader writes while its store is asked what it holds, and dies when the mirror has the first step
/// alone: the mirror must not think that it has what came behind.
#[test]
fn a_feed_begins_with_the_sessions_of_what_it_brings() {
    let play = || {
        let mut out = Effects::default();
        let mut leader = leader_with_feed(&mut out);
        leader.write(NOW, &message(), session(), Some(1), &mut out);
        let mut out = Effects::default();
        leader.surveyed(NOW, TWO, 1, Vec::new(), None, &mut out);
        sessions_told(&out) == [0, 1]
    };
    holds(play, Mutant::SessionsAheadOfData);
}

/// How many sessions the steps tell that a mirror is sent.
fn sessions_told(out: &Effects) -> Vec<usize> {
    let steps = out.to_peers.iter().filter_map(|(_, packet)| match packet {
        Packet::Step { operation, .. } => operation::decode(operation),
        _ => None,
    });
    steps.map(|(_, sessions)| sessions.len()).collect()
}

/// A leader whose mirror has asked for a second feed, and lacks the one message that there is; and the report of a
/// batch since.
fn leader_with_second_feed(out: &mut Effects) -> (Leader, Report) {
    let mut before = Effects::default();
    let mut leader = leader_with_feed(&mut before);
    let report = leader.write(NOW, &message(), session(), Some(1), &mut before);
    leader.stored(report, &mut before);
    leader.receive(NOW, TWO, Packet::Wants { feed: 2, epoch: leader.view().epoch, holds: Vec::new() }, &mut before);
    leader.surveyed(NOW, TWO, 2, vec![(0, Runs::new([(Seq(1), Seq(1))]))], None, out);
    let another = Sessions::from([(ConnectionId(6), Session { last: 1, ..Session::default() })]);
    let report = leader.write(NOW, &Batch::new(), another, Some(2), out);
    (leader, report)
}

/// The leader may die with a part of the backlog on its way to a mirror whose seat was committed meanwhile: until the
/// backlog is behind it, the mirror must not think that it has what publishers send again.
#[test]
fn a_feed_tells_of_publishers_behind_the_backlog() {
    let play = || {
        let mut out = Effects::default();
        let (mut leader, _) = leader_with_second_feed(&mut out);
        leader.loaded(NOW, TWO, 2, 0, &[(Seq(1), Bytes::from_static(b"payload"))], &mut out);
        sessions_told(&out) == [0, 0, 0, 2]
    };
    holds(play, Mutant::SessionsAheadOfBacklog);
}

/// It may never get the backlog, and be promoted though it lacks it.
#[test]
fn a_feed_tells_of_publishers_when_all_before_it_is_complete() {
    let mut out = Effects::default();
    let (mut leader, report) = leader_with_second_feed(&mut out);
    leader.stored(report, &mut out);
    assert_eq!(out.complete, Some(2));
    leader.tick(NOW, &mut out);
    assert_eq!(sessions_told(&out), [0, 0, 2]);
    leader.loaded(NOW, TWO, 2, 0, &[(Seq(1), Bytes::from_static(b"payload"))], &mut out);
    assert_eq!(sessions_told(&out), [0, 0, 2, 0]);
}

/// A mirror that was evicted begins anew: what it had alone is removed, and it must not remember that it
/// was published.
#[test]
fn a_mirror_forgets_the_sessions_of_what_is_removed() {
    let play = || {
        let mut out = Effects::default();
        let view = View::new([ONE, TWO], true);
        let mut leader = Leader::found(QUEUE, ONE, &view, Sessions::new(), Care::default());
        let mut follower = Follower::new(NOW, QUEUE, TWO, &view, true, 1, &mut Effects::default());
        leader.write(NOW, &message(), session(), Some(1), &mut out);
        for (_, packet) in out.to_peers {
            follower.receive(NOW, ONE, packet, &mut Effects::default());
        }
        let mut out = Effects::default();
        follower.view_changed(NOW, &after(&view, ViewChange::Evict(TWO)), &mut out);
        let feed = out.survey[0].1;
        follower.surveyed(NOW, feed, Vec::new(), &mut out);
        let operation = operation::encode(Batch::new().as_bytes(), &Sessions::new());
        follower.receive(NOW, ONE, Packet::Step { feed, number: 1, operation }, &mut out);
        follower.take_over().1.is_empty()
    };
    holds(play, Mutant::KeepStaleSessions);
}

/// A leader, and a mirror that joins; nothing between them is lost.
fn joined() -> (Leader, Follower) {
    let mut view = after(&View::new([ONE], true), ViewChange::AddMirror(TWO));
    let (mut of_leader, mut of_mirror) = (Effects::default(), Effects::default());
    let mut leader = Leader::found(QUEUE, ONE, &view, Sessions::new(), Care { automatic: true, ..Care::default() });
    let report = leader.write(NOW, &Batch::new(), session(), Some(1), &mut of_leader);
    leader.stored(report, &mut of_leader);
    let mut mirror = Follower::new(NOW, QUEUE, TWO, &view, false, 1, &mut of_mirror);
    while !of_leader.is_empty() || !of_mirror.is_empty() {
        let (from_leader, from_mirror) = (std::mem::take(&mut of_leader), std::mem::take(&mut of_mirror));
        for (_, packet) in from_leader.to_peers {
            mirror.receive(NOW, ONE, packet, &mut of_mirror);
        }
        for (node, feed) in from_leader.survey {
            leader.surveyed(NOW, node, feed, Vec::new(), None, &mut of_leader);
        }
        for (_, packet) in from_mirror.to_peers {
            leader.receive(NOW, TWO, packet, &mut of_leader);
        }
        for (_, feed) in from_mirror.survey {
            mirror.surveyed(NOW, feed, Vec::new(), &mut of_mirror);
        }
        for (_, report) in from_mirror.store {
            mirror.stored(report, &mut of_mirror);
        }
        for (_, change) in from_leader.proposals {
            view = after(&view, change);
            leader.view_changed(&view, &mut of_leader);
            mirror.view_changed(NOW, &view, &mut of_mirror);
        }
        leader.tick(NOW, &mut of_leader);
    }
    assert!(mirror.is_member(), "{}", mirror.describe());
    (leader, mirror)
}

/// What a publisher sends again to the next leader would be taken twice.
#[test]
fn a_mirror_that_joins_is_told_what_publishers_have_sent() {
    let play = || joined().1.take_over().1 == session();
    holds(play, Mutant::WelcomeWithoutSessions);
}

#[test]
fn a_mirror_that_leads_knows_what_publishers_have_sent() {
    let play = || joined().1.take_over().1 == session();
    holds(play, Mutant::ForgetSessions);
}

/// A seat is proposed, and again after the view has changed. The refusal of the first proposal comes late:
/// the second one may still happen, so nothing completes without the mirror.
#[test]
fn a_late_refusal_says_nothing_of_a_later_proposal() {
    let play = || {
        let mut out = Effects::default();
        let mut leader = leader_with_feed(&mut out);
        leader.surveyed(NOW, TWO, 1, Vec::new(), None, &mut out);
        leader.receive(NOW, TWO, Packet::Has { feed: 1, number: 1 }, &mut out);
        leader.tick(NOW, &mut out);
        let first = leader.view().epoch;
        let later = after(leader.view(), ViewChange::AddMirror(NodeId(3)));
        leader.view_changed(&later, &mut out);
        leader.tick(NOW, &mut out);
        leader.tick(NOW, &mut out);
        assert_eq!(out.proposals, [first, later.epoch].map(|epoch| (epoch, ViewChange::InSync(TWO))));
        leader.refused(NOW, first, ViewChange::InSync(TWO));
        let report = leader.write(NOW, &message(), Sessions::new(), Some(1), &mut out);
        leader.stored(report, &mut out);
        // Overdue, and before the seat is proposed a third time.
        leader.tick(NOW + Duration::from_secs(1), &mut out);
        out.complete.is_none()
    };
    holds(play, Mutant::HeedLateRefusals);
}

/// The proposal of a seat may be committed while its leader hears nothing of it, and whoever has the seat lead next:
/// a leader that slept since must not serve with the leases of the others alone.
#[test]
fn who_may_have_a_seat_by_now_is_a_possible_successor() {
    let mut out = Effects::default();
    let mut leader = leader_with_feed(&mut out);
    leader.surveyed(NOW, TWO, 1, Vec::new(), None, &mut out);
    assert_eq!(leader.possible_successors().count(), 0);
    leader.receive(NOW, TWO, Packet::Has { feed: 1, number: 1 }, &mut out);
    leader.tick(NOW, &mut out);
    assert_eq!(leader.possible_successors().collect::<Vec<_>>(), [TWO]);
    leader.refused(NOW, leader.view().epoch, ViewChange::InSync(TWO));
    assert_eq!(leader.possible_successors().count(), 0);
    leader.view_changed(&after(leader.view(), ViewChange::InSync(TWO)), &mut out);
    assert!(leader.possible_successors().any(|node| node == TWO));
}

/// A leader that waits for the leases of one before it gives no seats: they are proposed when it may serve.
#[test]
fn a_seat_taken_back_is_proposed_again() {
    let mut out = Effects::default();
    let mut leader = leader_with_feed(&mut out);
    leader.surveyed(NOW, TWO, 1, Vec::new(), None, &mut out);
    leader.receive(NOW, TWO, Packet::Has { feed: 1, number: 1 }, &mut out);
    leader.tick(NOW, &mut out);
    let seat = [(leader.view().epoch, ViewChange::InSync(TWO))];
    assert_eq!(out.proposals, seat);
    leader.take_back_seats(NOW, &mut out);
    assert!(out.proposals.is_empty());
    assert_eq!(leader.possible_successors().count(), 0);
    leader.tick(NOW + Duration::from_secs(5), &mut out);
    assert_eq!(out.proposals, seat);
}

/// `ha-ack-mode: async`.
#[test]
fn a_leader_that_reports_alone_waits_for_its_own_disk_only() {
    let reports = |reports_alone| {
        let mut out = Effects::default();
        let care = Care { reports_alone, ..Care::default() };
        let mut leader = Leader::found(QUEUE, ONE, &View::new([ONE, TWO], true), Sessions::new(), care);
        let report = leader.write(NOW, &message(), Sessions::new(), Some(1), &mut out);
        assert_eq!(out.complete, None, "nothing is stored anywhere");
        leader.stored(report, &mut out);
        assert!(!leader.is_quiet(), "the mirror lacks it");
        assert_eq!(leader.first_incomplete(), Some(Seq(1)));
        out.complete
    };
    assert_eq!((reports(false), reports(true)), (None, Some(1)));
}

/// `mirroring_sync_max_throughput`.
#[test]
fn a_mirror_gets_no_more_of_the_backlog_in_a_second_than_it_may() {
    let payload = vec![0; 1000];
    let mut out = Effects::default();
    let mut leader = leader_with_feed(&mut out);
    let care = Care { automatic: true, backlog_per_second: NonZeroU64::new(10_000), ..Care::default() };
    leader.set_care(care);
    leader.surveyed(NOW, TWO, 1, vec![(0, Runs::new([(Seq(1), Seq(100))]))], None, &mut out);
    let (mut now, mut next, mut sent) = (NOW, 1, 0);
    while now.since(NOW) < Duration::from_secs(2) {
        leader.tick(now, &mut out);
        for (_, id, load) in std::mem::take(&mut out.loads) {
            assert!(load.bytes <= 10_000 / 4, "several in a second");
            let found: Vec<_> = (next..next + 2).map(|seq| (Seq(seq), payload.clone().into())).collect();
            next += 2;
            sent += 2000;
            leader.loaded(now, TWO, id, 0, &found, &mut out);
        }
        for (_, packet) in std::mem::take(&mut out.to_peers) {
            if let Packet::Step { feed, number, .. } = packet {
                leader.receive(now, TWO, Packet::Has { feed, number }, &mut out);
            }
        }
        now = now + Duration::from_millis(50);
    }
    assert!((15_000..=24_000).contains(&sent), "{sent} bytes in two seconds");
}

/// A part of the backlog takes five milliseconds, and so long the mirror waits for the next one while the queue
/// is in use.
#[test]
fn a_queue_in_use_has_its_disks_to_itself_for_half_of_the_time() {
    let parts_in_a_second = |in_use: bool| {
        let mut out = Effects::default();
        let mut leader = leader_with_feed(&mut out);
        leader.set_care(Care { automatic: true, ..Care::default() });
        let use_it = |leader: &mut Leader, now: Time, out: &mut Effects| {
            if in_use {
                let report = leader.write(now, &Batch::new(), Sessions::new(), None, out);
                leader.stored(report, out);
            }
        };
        use_it(&mut leader, NOW, &mut out);
        leader.surveyed(NOW, TWO, 1, vec![(0, Runs::new([(Seq(1), Seq(1_000_000))]))], None, &mut out);
        let (mut now, mut next, mut parts) = (NOW, 1, 0);
        while now.since(NOW) < Duration::from_secs(1) {
            use_it(&mut leader, now, &mut out);
            leader.tick(now, &mut out);
            let mut steps = Vec::new();
            for (_, id, load) in std::mem::take(&mut out.loads) {
                assert_eq!(load.bytes, if in_use { 128 << 10 } else { 1 << 20 });
                leader.loaded(now, TWO, id, 0, &[(Seq(next), vec![0; 1000].into())], &mut out);
                (next, parts) = (next + 1, parts + 1);
            }
            for (_, packet) in std::mem::take(&mut out.to_peers) {
                if let Packet::Step { feed, number, .. } = packet {
                    steps.push(Packet::Has { feed, number });
                }
            }
            now = now + Duration::from_millis(5);
            for has in steps {
                leader.receive(now, TWO, has, &mut out);
            }
        }
        parts
    };
    assert!((195..=200).contains(&parts_in_a_second(false)));
    assert!((95..=100).contains(&parts_in_a_second(true)));
}

#[test]
fn a_mirror_that_is_fed_at_the_cost_of_its_queue_is_found() {
    notices(Mutant::FeedAtFullSpeed, a_queue_in_use_has_its_disks_to_itself_for_half_of_the_time);
}

/// The first step of a feed says what goes, and only what the leader does not have goes.
#[test]
fn a_mirror_that_comes_back_keeps_what_its_leader_has() {
    let play = || {
        let mut out = Effects::default();
        let view = after(&View::new([ONE], true), ViewChange::AddMirror(TWO));
        let mut leader = Leader::found(QUEUE, ONE, &view, Sessions::new(), Care { automatic: true, ..Care::default() });
        let holds = vec![(0, Runs::new([(Seq(1), Seq(9))]))];
        leader.receive(NOW, TWO, Packet::Wants { feed: 1, epoch: view.epoch, holds }, &mut out);
        leader.surveyed(NOW, TWO, 1, vec![(0, Runs::new([(Seq(3), Seq(12))]))], None, &mut out);
        let mut removed = Vec::new();
        for (_, packet) in &out.to_peers {
            if let Packet::Step { operation, .. } = packet {
                let (batch, _) = operation::decode(operation).expect("a step");
                operation::removals(&batch, |_, first, last| removed.push((first, last)));
            }
        }
        removed == [(Seq(1), Seq(2))] && out.loads[0].2.from == Seq(10)
    };
    holds(play, Mutant::WipeBeforeRefill);
}

/// A mirror answers nothing, and its queue goes on.
#[test]
fn what_waits_for_a_mirror_is_bounded() {
    let play = || {
        let mut out = Effects::default();
        let mut leader = leader_with_feed(&mut out);
        leader.surveyed(NOW, TWO, 1, vec![(0, Runs::new([(Seq(1), Seq(9))]))], None, &mut out);
        let payload = vec![0; 1 << 20];
        let sent = (10..110).filter(|seq| {
            let mut batch = Batch::new();
            batch.enqueue(level_key(QUEUE, 0), Seq(*seq), &[&payload]);
            let mut out = Effects::default();
            let report = leader.write(NOW, &batch, Sessions::new(), None, &mut out);
            leader.stored(report, &mut out);
            out.to_peers.iter().any(|(to, packet)| *to == TWO && matches!(packet, Packet::Step { .. }))
        });
        sent.count() < 80
    };
    holds(play, Mutant::FeedWithoutBound);
}

/// The leader dies when a mirror has its seat and was not made a member of the ring. The mirror has all
/// that is complete: it leaves the others of the old ring behind.
#[test]
fn who_has_to_lead_without_a_place_in_the_ring_founds_another() {
    let play = || {
        let mut out = Effects::default();
        let view = View::new([ONE, NodeId(3)], true);
        let view = after(&after(&view, ViewChange::AddMirror(TWO)), ViewChange::InSync(TWO));
        let mut follower = Follower::new(NOW, QUEUE, TWO, &view, false, 1, &mut out);
        let mut view = after(&view, ViewChange::Transfer(TWO));
        follower.view_changed(NOW, &view, &mut out);
        while let Some((_, change)) = out.proposals.pop() {
            view = after(&view, change);
            follower.view_changed(NOW, &view, &mut out);
        }
        follower.can_lead()
    };
    holds(play, Mutant::StayWithoutRing);
}

/// Node one goes, and node three before it has led: node one may hold leases for longer.
#[test]
fn whoever_led_is_waited_for_though_another_was_to_lead_since() {
    let first = View::new([ONE, NodeId(3), TWO], true);
    let mut follower = Follower::new(NOW, QUEUE, TWO, &first, true, 1, &mut Effects::default());
    let second = first.after_loss(ONE).expect("node three leads");
    follower.view_changed(NOW, &second, &mut Effects::default());
    let third = second.after_loss(NodeId(3)).expect("node two leads");
    follower.view_changed(NOW, &third, &mut Effects::default());
    assert_eq!(third.leader(), TWO);
    assert_eq!(follower.leaders_before().collect::<Vec<_>>(), [ONE, NodeId(3)]);
}

/// Takes packets between the two, whose disks are quick, until none is left.
fn exchange(leader: &mut Leader, out: &mut Effects, follower: &mut Follower, answers: &mut Effects) {
    while !out.to_peers.is_empty() || !answers.to_peers.is_empty() || !answers.store.is_empty() {
        for (_, packet) in std::mem::take(&mut out.to_peers).into_iter().filter(|(to, _)| *to == TWO) {
            follower.receive(NOW, ONE, packet, answers);
        }
        for (_, report) in std::mem::take(&mut answers.store) {
            follower.stored(report, answers);
        }
        for (_, packet) in std::mem::take(&mut answers.to_peers).into_iter().filter(|(to, _)| *to == ONE) {
            leader.receive(NOW, TWO, packet, out);
        }
    }
}

/// A leader of this view and node two, which lacks nothing and for which a seat is proposed; each with its effects.
fn about_to_join(view: &View) -> (Leader, Effects, Follower, Effects) {
    let (mut out, mut answers) = (Effects::default(), Effects::default());
    let care = Care { automatic: true, ..Care::default() };
    let mut leader = Leader::found(QUEUE, ONE, view, Sessions::new(), care);
    let mut follower = Follower::new(NOW, QUEUE, TWO, view, false, 1, &mut answers);
    let feed = answers.survey.pop().expect("it asks what it holds").1;
    follower.surveyed(NOW, feed, Vec::new(), &mut answers);
    exchange(&mut leader, &mut out, &mut follower, &mut answers);
    leader.surveyed(NOW, TWO, feed, Vec::new(), None, &mut out);
    exchange(&mut leader, &mut out, &mut follower, &mut answers);
    leader.tick(NOW, &mut out);
    (leader, out, follower, answers)
}

/// A mirror hears late of its seat, and of the death of its neighbour after that. What the leader sent it as
/// its next neighbour came when it was no member of the ring yet.
#[test]
fn who_has_another_neighbour_asks_for_what_it_could_not_hear() {
    let play = || {
        let view = after(&View::new([ONE, NodeId(3)], true), ViewChange::AddMirror(TWO));
        let (mut leader, mut out, mut follower, mut answers) = about_to_join(&view);
        assert_eq!(out.proposals, [(view.epoch, ViewChange::InSync(TWO))]);
        let joined = after(&view, ViewChange::InSync(TWO));
        let left_alone = joined.after_loss(NodeId(3)).expect("two are left");
        leader.view_changed(&joined, &mut out);
        leader.view_changed(&left_alone, &mut out);
        exchange(&mut leader, &mut out, &mut follower, &mut answers);
        assert!(!follower.is_member(), "it has not heard of its seat");
        follower.view_changed(NOW, &joined, &mut answers);
        follower.view_changed(NOW, &left_alone, &mut answers);
        exchange(&mut leader, &mut out, &mut follower, &mut answers);
        assert!(follower.is_member());
        let report = leader.write(NOW, &message(), Sessions::new(), Some(1), &mut out);
        leader.stored(report, &mut out);
        exchange(&mut leader, &mut out, &mut follower, &mut answers);
        out.complete == Some(1)
    };
    holds(play, Mutant::AskOneNeighbour);
}

/// Nothing of what a leader of three writes comes to its mirrors: it goes to the second, which sends it on to the third.
#[test]
fn the_first_that_lacks_something_is_given_up_and_those_behind_it_get_their_time() {
    const THREE: NodeId = NodeId(3);
    let (patience, second) = (Care::default().patience, Duration::from_secs(1));
    let mut out = Effects::default();
    let view = View::new([ONE, TWO, THREE], true);
    let mut leader = Leader::found(QUEUE, ONE, &view, Sessions::new(), Care::default());
    let report = leader.write(NOW, &message(), Sessions::new(), Some(1), &mut out);
    leader.stored(report, &mut out);
    let mut lives = |leader: &mut Leader, from: Time, until: Time| {
        let mut now = from;
        let mut given_up = Vec::new();
        while now < until {
            now = now + second / 5;
            leader.tick(now, &mut out);
            for (to, packet) in std::mem::take(&mut out.to_peers) {
                if let Packet::Probe { .. } = packet {
                    leader.receive(now, to, Packet::Progress { number: 0 }, &mut out);
                }
            }
            given_up.append(&mut out.proposals);
        }
        given_up
    };
    assert_eq!(lives(&mut leader, NOW, NOW + (patience - second)), []);
    let evicted = lives(&mut leader, NOW + (patience - second), NOW + (patience + second));
    assert_eq!(evicted, [(view.epoch, ViewChange::Evict(TWO))]);
    let left = after(&view, ViewChange::Evict(TWO));
    leader.view_changed(&left, &mut Effects::default());
    // The third hears the leader itself from here on.
    let others = patience + patience / 2;
    assert_eq!(lives(&mut leader, NOW + (patience + second), NOW + (others - second)), []);
    let evicted = lives(&mut leader, NOW + (others - second), NOW + (others + second));
    assert_eq!(evicted, [(left.epoch, ViewChange::Evict(THREE))]);
}

/// The mirror came by a feed and a handover, and nothing was published since.
#[test]
fn a_mirror_that_was_handed_the_ring_says_how_far_it_is() {
    let play = || {
        let (_, mut mirror) = joined();
        let mut out = Effects::default();
        mirror.receive(NOW, ONE, Packet::Probe { number: 1 }, &mut out);
        out.to_peers.contains(&(ONE, Packet::Progress { number: 1 }))
    };
    holds(play, Mutant::CountRingOnly);
}

/// No link broke, and a packet between neighbours came to nobody.
#[test]
fn what_is_lost_inside_of_a_node_is_asked_for() {
    let play = || {
        let (mut out, mut answers) = (Effects::default(), Effects::default());
        let view = View::new([ONE, TWO], true);
        let mut leader = Leader::found(QUEUE, ONE, &view, Sessions::new(), Care::default());
        let mut follower = Follower::new(NOW, QUEUE, TWO, &view, true, 1, &mut answers);
        exchange(&mut leader, &mut out, &mut follower, &mut answers);
        let report = leader.write(NOW, &message(), Sessions::new(), Some(1), &mut out);
        leader.stored(report, &mut out);
        out.to_peers.clear();
        let report = leader.write(NOW, &message(), Sessions::new(), Some(2), &mut out);
        leader.stored(report, &mut out);
        exchange(&mut leader, &mut out, &mut follower, &mut answers);
        assert_eq!(out.complete, None);
        leader.tick(NOW + Care::default().patience / 2, &mut out);
        exchange(&mut leader, &mut out, &mut follower, &mut answers);
        out.complete == Some(2)
    };
    holds(play, Mutant::WaitForWhatIsLost);
}

/// Two mirrors get their seats at once. The first is made a member by a leader that knows of both, sends to the second
/// before that is one, and is asked for it again before its own metadata says that there is a second.
#[test]
fn who_joins_heeds_a_neighbour_of_which_its_metadata_does_not_know_yet() {
    const THREE: NodeId = NodeId(3);
    let play = || {
        let view = after(&after(&View::new([ONE], true), ViewChange::AddMirror(TWO)), ViewChange::AddMirror(THREE));
        let (mut leader, mut out, mut follower, mut answers) = about_to_join(&view);
        let joined = after(&view, ViewChange::InSync(TWO));
        leader.view_changed(&after(&joined, ViewChange::InSync(THREE)), &mut out);
        follower.view_changed(NOW, &joined, &mut answers);
        exchange(&mut leader, &mut out, &mut follower, &mut answers);
        assert!(follower.is_member());
        answers.to_peers.clear();
        follower.receive(NOW, THREE, Packet::Relink, &mut answers);
        answers.to_peers.iter().any(|(to, packet)| *to == THREE && matches!(packet, Packet::Ring(_)))
    };
    holds(play, Mutant::NeighboursOfMetadata);
}

/// A mirror has stored everything, and what says so never comes.
#[test]
fn a_ring_that_stands_still_is_made_anew() {
    let mut out = Effects::default();
    let view = View::new([ONE, TWO], true);
    let mut leader = Leader::found(QUEUE, ONE, &view, Sessions::new(), Care::default());
    let report = leader.write(NOW, &message(), Sessions::new(), Some(1), &mut out);
    leader.stored(report, &mut out);
    let mut now = NOW;
    while out.proposals.is_empty() && now.since(NOW) < Duration::from_secs(60) {
        now = now + Duration::from_millis(200);
        leader.tick(now, &mut out);
        for (to, packet) in std::mem::take(&mut out.to_peers) {
            if let Packet::Probe { number } = packet {
                leader.receive(now, to, Packet::Progress { number }, &mut out);
            }
        }
    }
    assert_eq!(out.proposals, [(view.epoch, ViewChange::Evict(TWO))]);
    assert!(now.since(NOW) > Care::default().patience);
}
