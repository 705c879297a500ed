//! Single steps of one view: what each does, and what it refuses.

use super::*;

fn three() -> (Fixture, [NodeId; 3]) {
    let mut fixture = Fixture::new();
    let nodes = [NodeId(1), fixture.node("b"), fixture.node("c")];
    fixture.mirrored("q", table(&[("ha-mode", "all".into())]));
    (fixture, nodes)
}

#[test]
fn a_mirror_enters_catches_up_falls_behind_and_leaves() {
    let (mut fixture, [a, b, c]) = three();
    fixture.change("q", ViewChange::DropMirror(b));
    assert_eq!(fixture.seats("q"), [a, c]);
    fixture.change("q", ViewChange::AddMirror(b));
    assert_eq!(fixture.view("q").catching_up, [b]);
    fixture.change("q", ViewChange::InSync(b));
    let view = fixture.view("q");
    assert_eq!(view.epoch, 4);
    assert_eq!(view.seats[2], Seat { node: b, since: 4 });
    assert_eq!(view.seats[2].member(), 4 << 16 | b.0);
    fixture.change("q", ViewChange::Evict(c));
    assert_eq!(fixture.seats("q"), [a, b]);
    assert_eq!(fixture.view("q").catching_up, [c]);
    fixture.change("q", ViewChange::DropMirror(c));
    assert_eq!(fixture.view("q").epoch, 6);
    assert!(!fixture.view("q").is_member(c));
    fixture.check_restores();
}

#[test]
fn a_change_of_another_epoch_or_another_life_is_refused() {
    let (mut fixture, [_, b, _]) = three();
    let queue = fixture.id("q");
    let change = |queue, epoch| Command::ChangeView {
        queue,
        epoch,
        change: ViewChange::Evict(b),
    };
    let stale = Refusal::StaleView { epoch: 1 };
    assert_eq!(fixture.refused(change(queue, 0)), stale);
    assert_eq!(fixture.refused(change(queue, 2)), stale);
    assert_eq!(fixture.done(change(queue, 1)), Outcome::Viewed { epoch: 2 });
    fixture.done(delete("q"));
    fixture.queue("q");
    assert_eq!(fixture.refused(change(queue, 2)), Refusal::QueueGone(queue));
}

#[test]
fn the_leader_hands_over_and_sits_last() {
    let (mut fixture, [a, b, c]) = three();
    fixture.change("q", ViewChange::Transfer(c));
    assert_eq!(fixture.seats("q"), [c, b, a]);
    assert_eq!(fixture.tables().seating.leaders(c), 1);
    assert_eq!(fixture.tables().seating.leaders(a), 0);
    // Nobody's seat is a new one: the ring goes on.
    assert!(fixture.view("q").seats.iter().all(|seat| seat.since == 1));
    fixture.check_restores();
}

#[test]
fn a_mirror_in_sync_takes_over_from_a_leader_that_does_not_answer() {
    let (mut fixture, [a, b, c]) = three();
    fixture.change(
        "q",
        ViewChange::Promote {
            node: b,
            unclean: false,
        },
    );
    let view = fixture.view("q");
    assert_eq!(fixture.seats("q"), [b]);
    assert_eq!(view.catching_up, [a, c]);
    assert_eq!((view.lineage, view.epoch), (0, 2));
}

#[test]
fn an_unclean_promotion_needs_a_stopped_queue_and_begins_a_lineage() {
    let (mut fixture, [a, b, c]) = three();
    let unclean = |node| ViewChange::Promote {
        node,
        unclean: true,
    };
    let why = fixture.not_changed("q", unclean(b));
    assert!(why.ends_with("a node in sync is alive"), "{why}");
    fixture.change("q", ViewChange::Evict(b));
    fixture.change("q", ViewChange::DropMirror(c));
    fixture.down(a, true);
    let why = fixture.not_changed("q", unclean(c));
    assert!(why.ends_with("the node has no copy"), "{why}");
    fixture.change("q", unclean(b));
    let view = fixture.view("q");
    assert_eq!((view.lineage, &view.old[..]), (1, &[a][..]));
    assert!(view.is_running());
}

#[test]
fn the_last_copy_in_sync_never_goes() {
    let mut fixture = Fixture::new();
    let (a, b) = (NodeId(1), fixture.node("b"));
    fixture.mirrored("q", table(&[("ha-mode", "all".into())]));
    fixture.change("q", ViewChange::Evict(b));
    for change in [
        ViewChange::Evict(a),
        ViewChange::DropMirror(a),
        ViewChange::Transfer(b),
        ViewChange::Promote {
            node: b,
            unclean: false,
        },
        ViewChange::Promote {
            node: b,
            unclean: true,
        },
    ] {
        fixture.not_changed("q", change);
        assert_eq!(fixture.seats("q"), [a]);
    }
}

#[test]
fn what_does_not_fit_the_view_is_refused() {
    let (mut fixture, [a, b, c]) = three();
    fixture.change("q", ViewChange::DropMirror(c));
    fixture.down(c, true);
    let cases = [
        (ViewChange::AddMirror(b), "the node is a member already"),
        (ViewChange::AddMirror(c), "the node is down"),
        (ViewChange::AddMirror(NodeId(9)), "the node is down"),
        (ViewChange::InSync(b), "the node is not catching up"),
        (ViewChange::Evict(a), "the node leads the queue"),
        (ViewChange::Evict(c), "the node is not in sync"),
        (ViewChange::DropMirror(a), "the node leads the queue"),
        (ViewChange::DropMirror(c), "the node is no mirror"),
        (ViewChange::Transfer(a), "the node leads the queue"),
        (ViewChange::Transfer(c), "the node is not in sync"),
        (ViewChange::Merged(a), "the node has no old copy"),
    ];
    for (change, expected) in cases {
        let why = fixture.not_changed("q", change);
        assert!(why.ends_with(expected), "{change:?}: {why}");
    }
    fixture.change("q", ViewChange::Stop);
    for change in [
        ViewChange::Stop,
        ViewChange::Transfer(b),
        ViewChange::Evict(b),
        ViewChange::AddMirror(c),
    ] {
        let why = fixture.not_changed("q", change);
        assert!(why.ends_with("the queue is stopped"), "{change:?}: {why}");
    }
}

#[test]
fn an_exclusive_queue_gets_no_mirrors() {
    let mut fixture = Fixture::new();
    let b = fixture.node("b");
    fixture.done(declare(exclusive("e", 1)));
    let why = fixture.not_changed("e", ViewChange::AddMirror(b));
    assert_eq!(why, "exclusive queues are not mirrored");
}

#[test]
fn a_queue_is_mirrored_from_the_policy_on_until_its_last_mirror_is_gone() {
    let mut fixture = Fixture::new();
    let b = fixture.node("b");
    fixture.queue("q");
    assert!(!fixture.view("q").mirrored);
    let all = policy("ha", "q", table(&[("ha-mode", "all".into())]));
    fixture.done(set_policy(all));
    let view = fixture.view("q");
    assert!(view.mirrored && view.epoch == 2);
    let id = fixture.id("q");
    let changes = fixture.take_changes();
    assert!(changes.contains(&Change::ViewChanged(id)));
    fixture.change("q", ViewChange::AddMirror(b));
    fixture.done(Command::ClearPolicy {
        vhost: "/".into(),
        kind: PolicyKind::User,
        name: "ha".into(),
    });
    assert!(fixture.view("q").mirrored);
    fixture.change("q", ViewChange::DropMirror(b));
    assert!(!fixture.view("q").mirrored);
    fixture.check_restores();
}
