//! Nodes go and come back, and queues with them.

use super::*;
use crate::mutant::{Mutant, notices};

type Settings<'a> = &'a [(&'a str, &'a str)];

/// Three nodes, and a word for each.
fn three() -> (Fixture, [NodeId; 3]) {
    let mut fixture = Fixture::new();
    let nodes = [NodeId(1), fixture.node("b"), fixture.node("c")];
    (fixture, nodes)
}

fn all() -> Table {
    table(&[("ha-mode", "all".into())])
}

fn with(entries: Settings<'_>) -> Table {
    entries
        .iter()
        .fold(all(), |table, (key, value)| table.with(key, *value))
}

#[test]
fn the_next_seat_leads_when_the_leader_goes() {
    let (mut fixture, [a, b, c]) = three();
    fixture.mirrored("q", all());
    assert_eq!(fixture.seats("q"), [a, b, c]);
    fixture.take_changes();
    fixture.down(a, false);
    assert_eq!(fixture.seats("q"), [b, c]);
    let view = fixture.view("q");
    assert_eq!((view.epoch, view.lineage), (2, 0));
    assert_eq!(view.recoverable, [a]);
    let id = fixture.id("q");
    assert_eq!(
        fixture.take_changes(),
        [Change::NodesChanged, Change::ViewChanged(id)]
    );
    fixture.down(b, true);
    assert_eq!(fixture.seats("q"), [c]);
    assert!(fixture.view("q").mirrored);
    // Whoever comes back has lost its seat, and has to catch up like any other.
    fixture.up(a);
    assert_eq!(fixture.seats("q"), [c]);
    fixture.check_restores();
}

#[test]
fn one_entry_ends_what_does_not_outlive_its_node() {
    let (mut fixture, [a, b, _]) = three();
    let on_b = |name: &str, is_durable| QueueSpec {
        durable: is_durable,
        node: "b".into(),
        ..durable(name)
    };
    fixture.done(declare(on_b("durable", true)));
    fixture.done(declare(on_b("transient", false)));
    let mut mine = exclusive("mine", ConnectionId::of(b, 1, 5).0);
    mine.node = NODE.into();
    fixture.done(declare(mine));
    fixture.done(declare(exclusive("other", ConnectionId::of(a, 1, 5).0)));
    fixture.down(b, false);
    let queues = names(fixture.vhost().queues.keys()).join(" ");
    assert_eq!(queues, "durable other");
    let view = fixture.view("durable");
    assert_eq!((view.status, view.leader()), (ViewStatus::Stopped, b));
    fixture.up(b);
    let view = fixture.view("durable");
    assert_eq!((view.status, view.epoch), (ViewStatus::Running, 3));
    assert_eq!(view.seats, [Seat { node: b, since: 3 }]);
    assert!(!view.mirrored);
    fixture.check_restores();
}

#[test]
fn exclusive_queues_that_outlive_their_node_are_found() {
    notices(
        Mutant::KeepExclusive,
        one_entry_ends_what_does_not_outlive_its_node,
    );
}

#[test]
fn a_mirrored_transient_queue_moves_and_ends_with_its_last_node() {
    let (mut fixture, [a, b, c]) = three();
    fixture.done(set_policy(policy("ha", "^q$", all())));
    let spec = QueueSpec {
        durable: false,
        ..durable("q")
    };
    fixture.done(place(spec, 1));
    fixture.down(a, false);
    fixture.down(b, false);
    assert_eq!(fixture.seats("q"), [c]);
    fixture.down(c, false);
    assert!(fixture.vhost().queues.get("q").is_none());
}

/// Whether a mirror that is not in sync takes over, by policy and by how the leader went.
#[test]
fn the_policy_says_whether_a_mirror_out_of_sync_takes_over() {
    let (shutdown, failure) = ("ha-promote-on-shutdown", "ha-promote-on-failure");
    let cases: [(Settings<'_>, bool, bool); 6] = [
        (&[], true, false),
        (&[], false, true),
        (&[(shutdown, "always")], true, true),
        (&[(failure, "when-synced")], false, false),
        // Who wants no loss after a crash wants none after a stop.
        (
            &[(shutdown, "always"), (failure, "when-synced")],
            true,
            false,
        ),
        (&[(failure, "always")], true, false),
    ];
    for (settings, clean, promotes) in cases {
        let (mut fixture, [a, b, c]) = three();
        fixture.mirrored("q", with(settings));
        fixture.change("q", ViewChange::Evict(b));
        fixture.change("q", ViewChange::DropMirror(c));
        let before = fixture.view("q");
        fixture.down(a, clean);
        let view = fixture.view("q");
        assert_eq!(view.epoch, before.epoch + 1);
        if promotes {
            assert_eq!(fixture.seats("q"), [b], "{settings:?} {clean}");
            assert_eq!((view.lineage, &view.old[..]), (1, &[a][..]));
            assert!(view.is_running() && view.catching_up.is_empty());
        } else {
            assert_eq!(fixture.seats("q"), [a], "{settings:?} {clean}");
            assert_eq!((view.lineage, view.status), (0, ViewStatus::Stopped));
            assert_eq!(view.catching_up, [b]);
        }
        fixture.check_restores();
    }
}

#[test]
fn a_mirror_out_of_sync_that_leads_after_a_stop_is_found() {
    notices(
        Mutant::PromoteAtStop,
        the_policy_says_whether_a_mirror_out_of_sync_takes_over,
    );
}

#[test]
fn a_queue_that_ends_for_want_of_a_mirror_in_sync_is_found() {
    notices(
        Mutant::EndUnsynced,
        the_policy_says_whether_a_mirror_out_of_sync_takes_over,
    );
}

#[test]
fn an_old_copy_is_merged_before_its_node_is_in_sync() {
    let (mut fixture, [a, b, c]) = three();
    fixture.mirrored("q", all());
    fixture.change("q", ViewChange::Evict(b));
    fixture.change("q", ViewChange::DropMirror(c));
    fixture.down(a, false);
    fixture.up(a);
    assert_eq!(fixture.view("q").old, [a]);
    fixture.change("q", ViewChange::AddMirror(a));
    let why = fixture.not_changed("q", ViewChange::InSync(a));
    assert!(
        why.ends_with("the old copy of the node is not merged"),
        "{why}"
    );
    fixture.change("q", ViewChange::Merged(a));
    fixture.change("q", ViewChange::InSync(a));
    assert_eq!(fixture.seats("q"), [b, a]);
    assert!(fixture.view("q").old.is_empty());
}

#[test]
fn a_node_with_an_old_copy_is_a_mirror_until_that_is_merged() {
    let (mut fixture, [a, b, c]) = three();
    let one = || table(&[("ha-mode", "exactly".into()), ("ha-params", 1_i64.into())]);
    fixture.mirrored("q", all());
    fixture.change("q", ViewChange::Evict(b));
    fixture.change("q", ViewChange::DropMirror(c));
    fixture.down(a, false);
    fixture.change("q", ViewChange::AddMirror(c));
    fixture.change("q", ViewChange::InSync(c));
    // Nobody wants more than the leader now.
    fixture.done(set_policy(policy("ha", "^q$", one())));
    let step = |fixture: &Fixture| {
        let id = fixture.id("q");
        let steps = fixture.tables().next_steps(Some(&[id]), 1);
        steps.first().map(|step| step.change)
    };
    assert_eq!(step(&fixture), Some(ViewChange::DropMirror(c)));
    fixture.change("q", ViewChange::DropMirror(c));
    assert_eq!(step(&fixture), None);
    fixture.up(a);
    assert_eq!(step(&fixture), Some(ViewChange::AddMirror(a)));
    fixture.change("q", ViewChange::AddMirror(a));
    assert_eq!(step(&fixture), None);
    fixture.change("q", ViewChange::Merged(a));
    assert_eq!(step(&fixture), Some(ViewChange::DropMirror(a)));
    fixture.change("q", ViewChange::DropMirror(a));
    assert!(!fixture.view("q").holds(a));
    fixture.check_restores();
}

#[test]
fn a_stopped_queue_waits_for_whoever_holds_everything() {
    let (mut fixture, [a, b, c]) = three();
    fixture.mirrored("q", with(&[("ha-promote-on-failure", "when-synced")]));
    fixture.down(b, false);
    fixture.down(a, false);
    fixture.down(c, false);
    assert_eq!(fixture.seats("q"), [c]);
    // These were out before the last one went: it may have taken more.
    fixture.up(a);
    fixture.up(b);
    assert!(!fixture.view("q").is_running());
    fixture.up(c);
    let view = fixture.view("q");
    assert!(view.is_running());
    assert_eq!(view.leader(), c);
    assert_eq!(view.recoverable, [b, a]);
}

#[test]
fn a_queue_that_stays_stopped_is_found() {
    notices(
        Mutant::StayStopped,
        a_stopped_queue_waits_for_whoever_holds_everything,
    );
}

#[test]
fn a_queue_that_runs_with_whoever_comes_first_is_found() {
    notices(
        Mutant::PromoteWhoeverReturns,
        a_stopped_queue_waits_for_whoever_holds_everything,
    );
}

#[test]
fn the_first_of_a_stopped_list_to_return_leads_and_the_others_catch_up() {
    let (mut fixture, [a, b, c]) = three();
    fixture.mirrored("q", all());
    fixture.change("q", ViewChange::Stop);
    fixture.down(a, true);
    fixture.down(b, true);
    assert_eq!(fixture.seats("q"), [a, b, c]);
    fixture.up(b);
    let view = fixture.view("q");
    assert_eq!(fixture.seats("q"), [b]);
    assert_eq!(view.catching_up, [c]);
    assert_eq!(view.recoverable, [a]);
    assert_eq!(view.seats[0].since, view.epoch);
}

#[test]
fn the_last_copies_of_a_node_are_named_before_it_is_forgotten() {
    let (mut fixture, [_, b, _]) = three();
    for name in ["one", "two"] {
        let mut spec = durable(name);
        spec.node = "b".into();
        fixture.done(declare(spec));
    }
    fixture.down(b, false);
    let forget = |force| Command::ForgetNode { node: b, force };
    let refused = fixture.refused(forget(false));
    let queues = ["one", "two"].map(|name| format!("queue '{name}' in vhost '/'"));
    let queues = queues.to_vec();
    assert_eq!(refused, Refusal::LastCopies { queues, total: 2 });
    fixture.done(forget(true));
    assert!(fixture.vhost().queues.is_empty());
    fixture.check_restores();
}

#[test]
fn a_queue_of_a_forgotten_node_is_taken_up_by_the_first_that_went_before_it() {
    let (mut fixture, [a, b, c]) = three();
    let d = fixture.node("d");
    fixture.mirrored(
        "q",
        table(&[
            ("ha-mode", "nodes".into()),
            (
                "ha-params",
                vec![NODE.into(), "b".into(), Value::from("c")].into(),
            ),
        ]),
    );
    for node in [b, c, a] {
        fixture.down(node, false);
    }
    assert_eq!(fixture.view("q").recoverable, [b, c]);
    let force = true;
    fixture.done(Command::ForgetNode { node: a, force });
    let view = fixture.view("q");
    assert_eq!((view.leader(), view.status), (b, ViewStatus::Stopped));
    assert_eq!((view.lineage, &view.old[..]), (1, &[c][..]));
    fixture.up(c);
    assert!(!fixture.view("q").is_running());
    fixture.up(b);
    assert!(fixture.view("q").is_running());
    assert!(fixture.tables().nodes.is_up(d));
    fixture.check_restores();
}

#[test]
fn a_live_copy_takes_up_the_queue_of_a_forgotten_node_at_once() {
    let (mut fixture, [a, b, c]) = three();
    fixture.mirrored("q", with(&[("ha-promote-on-failure", "when-synced")]));
    fixture.down(b, false);
    fixture.change("q", ViewChange::Evict(c));
    fixture.down(a, false);
    let (node, force) = (a, true);
    fixture.done(Command::ForgetNode { node, force });
    let view = fixture.view("q");
    assert_eq!((view.leader(), view.status), (c, ViewStatus::Running));
    assert_eq!((view.lineage, &view.old[..]), (1, &[b][..]));
    assert!(view.recoverable.is_empty());
}

#[test]
fn a_forgotten_node_is_forgotten_by_every_view() {
    let (mut fixture, [a, b, c]) = three();
    fixture.mirrored("q", all());
    fixture.down(b, false);
    fixture.down(c, false);
    for node in [b, c] {
        let force = false;
        fixture.done(Command::ForgetNode { node, force });
    }
    assert!(fixture.view("q").recoverable.is_empty());
    assert_eq!(fixture.tables().seating.queues(b).count(), 0);
    assert_eq!(fixture.seats("q"), [a]);
}

#[test]
fn after_an_unclean_promotion_every_other_copy_is_an_old_one() {
    let (mut fixture, [a, b, c]) = three();
    let d = fixture.node("d");
    fixture.mirrored("q", all());
    // One went while it was in sync, two have fallen behind, one of them further than the other.
    fixture.down(d, false);
    fixture.change("q", ViewChange::Evict(b));
    fixture.change("q", ViewChange::Evict(c));
    fixture.down(a, false);
    let view = fixture.view("q");
    assert_eq!(fixture.seats("q"), [b]);
    assert_eq!(view.catching_up, [c]);
    assert_eq!(view.old, [a, c, d]);
    assert!(view.recoverable.is_empty());
    fixture.not_changed("q", ViewChange::InSync(c));
    fixture.change("q", ViewChange::Merged(c));
    fixture.change("q", ViewChange::InSync(c));
    fixture.check_restores();
}

#[test]
fn the_last_in_sync_that_is_back_before_anybody_noticed_leads_again() {
    let (mut fixture, [a, b, c]) = three();
    for (name, is_durable) in [("q", true), ("t", false)] {
        fixture.done(set_policy(policy("ha", "", all())));
        let spec = QueueSpec {
            durable: is_durable,
            ..durable(name)
        };
        fixture.done(place(spec, 1));
        fixture.change(name, ViewChange::Evict(b));
        fixture.change(name, ViewChange::DropMirror(c));
    }
    fixture.up(a);
    let view = fixture.view("q");
    assert_eq!((fixture.seats("q"), view.lineage), (vec![a], 0));
    assert_eq!(view.catching_up, [b]);
    // What a transient queue held on that node is gone.
    assert_eq!(
        (fixture.seats("t"), fixture.view("t").lineage),
        (vec![b], 1)
    );
}
