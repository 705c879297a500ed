//! Every history of a queue on three nodes, with one message or two: nodes come and go, mirrors come, catch
//! up and go, the lead moves and is taken over, with and without a mirror in sync.
//!
//! The views are the real ones, changed by the real rules; what copies hold is played. A state is what is
//! left of a view without its counters, who is up, and who holds which message. From each state everything
//! that may happen is tried, until nothing new comes. There is no depth to it and no chance.

use std::collections::{HashMap, VecDeque};

use cluster::metadata_log::NodeId;

use super::super::view::{Bereaved, View, ViewChange};
use crate::mutant::{Mutant, breaking};

const NODES: usize = 3;
/// Messages are bits.
const MESSAGES: u8 = 0b11;

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    seats: Vec<u64>,
    catching_up: Vec<u64>,
    old: Vec<u64>,
    recoverable: Vec<u64>,
    running: bool,
    up: [bool; NODES],
    /// What the store of each node holds.
    holds: [u8; NODES],
    published: u8,
    confirmed: u8,
    /// The leader has what earlier leaders left at the copies in sync.
    gathered: bool,
}

#[derive(Clone)]
struct World {
    view: View,
    state: State,
}

fn all() -> impl Iterator<Item = NodeId> {
    (1..=NODES as u64).map(NodeId)
}

fn at(node: NodeId) -> usize {
    node.0 as usize - 1
}

impl World {
    fn new() -> World {
        let view = View::new([NodeId(1)], true);
        let state = State {
            seats: Vec::new(),
            catching_up: Vec::new(),
            old: Vec::new(),
            recoverable: Vec::new(),
            running: true,
            up: [true; NODES],
            holds: [0; NODES],
            published: 0,
            confirmed: 0,
            gathered: true,
        };
        let mut world = World { view, state };
        world.note();
        world
    }

    /// Keeps of the view what decides its future.
    fn note(&mut self) {
        let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
        self.state.seats = self.view.seats.iter().map(|seat| seat.node.0).collect();
        self.state.catching_up = numbers(&self.view.catching_up);
        self.state.old = numbers(&self.view.old);
        self.state.recoverable = numbers(&self.view.recoverable);
        self.state.running = self.view.is_running();
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.state.up[at(node)]
    }

    /// The leader, if it serves.
    fn leader(&self) -> Option<NodeId> {
        let leader = self.view.leader();
        (self.view.is_running() && self.is_up(leader)).then_some(leader)
    }

    fn seats(&self) -> impl Iterator<Item = NodeId> {
        self.view.seats.iter().map(|seat| seat.node)
    }

    /// What all copies in sync hold.
    fn common(&self) -> u8 {
        self.seats().fold(MESSAGES, |held, seat| held & self.state.holds[at(seat)])
    }

    fn with_view(&self, view: View) -> World {
        let mut next = World { view, state: self.state.clone() };
        if next.view.leader() != self.view.leader() || next.view.led_since != self.view.led_since {
            next.state.gathered = false;
        }
        // A copy that nobody has to keep goes, as soon as its node is up.
        let idle: Vec<NodeId> = all().filter(|node| next.is_up(*node) && !next.view.holds(*node)).collect();
        for node in idle {
            next.state.holds[at(node)] = 0;
        }
        next.note();
        next
    }

    fn with(&self, change: impl FnOnce(&mut State)) -> World {
        let mut next = self.clone();
        change(&mut next.state);
        next
    }

    /// Everything that may happen next, by name.
    #[expect(clippy::too_many_lines, reason = "all that may happen, one after the other")]
    fn futures(&self, promotes: bool) -> Vec<(String, World)> {
        let mut futures = Vec::new();
        let mut may = |what: String, world: World| futures.push((what, world));
        let change = |change| self.view.changed(change, |node| self.is_up(node)).ok().map(|view| self.with_view(view));
        for node in all() {
            let (number, held) = (at(node), self.state.holds[at(node)]);
            if self.is_up(node) {
                let down = self.with(|state| state.up[number] = false);
                if let Some(view) = self.view.without(node, Bereaved { promotes, durable: true }) {
                    may(format!("{node} dies"), down.with_view(view));
                }
            } else {
                let up = self.with(|state| state.up[number] = true);
                let view = self.view.with(node, |other| up.is_up(other)).unwrap_or_else(|| up.view.clone());
                may(format!("{node} comes"), up.with_view(view));
            }
            if let Some(next) = change(ViewChange::AddMirror(node)) {
                may(format!("{node} mirrors"), next);
            }
            for what in [ViewChange::Evict(node), ViewChange::DropMirror(node)] {
                // What the reconciler never asks for.
                let keeps = matches!(what, ViewChange::DropMirror(_)) && (self.view.old.contains(&node) || !self.is_up(node));
                if let Some(next) = change(what).filter(|_| !keeps) {
                    may(format!("{what:?}"), next);
                }
            }
            for unclean in [false, true] {
                if unclean && !promotes {
                    continue;
                }
                if let Some(next) = change(ViewChange::Promote { node, unclean }) {
                    may(format!("{node} is promoted, unclean: {unclean}"), next);
                }
            }
            let Some(leader) = self.leader().filter(|_| self.state.gathered) else { continue };
            let led = self.state.holds[at(leader)];
            let is_old = self.view.old.contains(&node);
            if self.is_up(node) && node != leader && self.view.is_member(node) {
                if self.view.is_in_sync(node) && held | led != held {
                    may(format!("{node} stores what the ring brings"), self.with(|state| state.holds[number] |= led));
                } else if !self.view.is_in_sync(node) && !is_old {
                    may(format!("{node} removes what its leader lacks"), self.with(|state| state.holds[number] &= led));
                    may(format!("{node} is fed"), self.with(|state| state.holds[number] = led));
                } else if is_old {
                    may(format!("{node} puts back"), self.with(|state| state.holds[at(leader)] |= held));
                }
            }
            // From the moment a seat is proposed nothing is complete without it.
            if held & led == led && held & !led == 0
                && let Some(next) = change(ViewChange::InSync(node))
            {
                may(format!("{node} is in sync"), next);
            }
            if led & self.common() == led
                && let Some(next) = change(ViewChange::Transfer(node))
            {
                may(format!("{node} is handed the lead"), next);
            }
            if held & self.common() == held
                && let Some(next) = change(ViewChange::Merged(node))
            {
                may(format!("{node} is merged"), next);
            }
        }
        if let Some(leader) = self.leader() {
            if !self.state.gathered && self.seats().all(|seat| self.is_up(seat)) {
                let seats: Vec<NodeId> = self.seats().collect();
                let left = seats.iter().fold(0, |held, seat| held | self.state.holds[at(*seat)]);
                let gather = |state: &mut State| {
                    state.gathered = true;
                    seats.iter().for_each(|seat| state.holds[at(*seat)] = left);
                };
                may(format!("{leader} gathers"), self.with(gather));
            }
            let next = (self.state.published + 1) & MESSAGES;
            if self.state.gathered && self.state.published != MESSAGES {
                let publish = |state: &mut State| {
                    state.published |= next;
                    state.holds[at(leader)] |= next;
                };
                may("a publish".to_owned(), self.with(publish));
            }
            let complete = self.common() & !self.state.confirmed;
            if self.state.gathered && complete != 0 {
                may("a confirm".to_owned(), self.with(|state| state.confirmed |= complete));
            }
        }
        futures
    }

    /// What must hold in every state.
    fn check(&self, promotes: bool) -> Result<(), String> {
        if !promotes && !self.view.old.is_empty() {
            return Err("a mirror that may lack something leads, which the policy does not want".to_owned());
        }
        let kept = |nodes: &mut dyn Iterator<Item = NodeId>| nodes.fold(0, |held, node| held | self.state.holds[at(node)]);
        let confirmed = self.state.confirmed;
        let lost = confirmed & !kept(&mut self.view.holders());
        if lost != 0 {
            return Err(format!("no copy that stays holds {lost:02b}, which was confirmed"));
        }
        let seats = self.seats().collect::<Vec<_>>();
        if seats.is_empty() {
            return Err("nobody has a seat".to_owned());
        }
        // What the lineage has: a promotion out of sync leaves the rest to old copies, which are merged.
        let old = kept(&mut self.view.old.iter().copied());
        for seat in seats {
            let lacks = confirmed & !self.state.holds[at(seat)] & !old;
            if lacks != 0 {
                return Err(format!("{seat} is in sync and lacks {lacks:02b}, which was confirmed"));
            }
        }
        Ok(())
    }
}

/// Visits every state; how many there are, or the shortest way to one that is wrong.
fn explore(promotes: bool) -> Result<usize, String> {
    let first = World::new();
    let mut came_from: HashMap<State, Option<(State, String)>> = HashMap::from([(first.state.clone(), None)]);
    let mut next = VecDeque::from([first]);
    while let Some(world) = next.pop_front() {
        if let Err(wrong) = world.check(promotes) {
            let (mut told, mut state) = (vec![wrong], &world.state);
            while let Some((before, what)) = &came_from[state] {
                told.push(what.clone());
                state = before;
            }
            told.reverse();
            return Err(told.join("; "));
        }
        for (what, future) in world.futures(promotes) {
            if !came_from.contains_key(&future.state) {
                came_from.insert(future.state.clone(), Some((world.state.clone(), what)));
                next.push_back(future);
            }
        }
    }
    Ok(came_from.len())
}

#[test]
fn no_history_of_three_nodes_loses_what_was_confirmed() {
    for promotes in [false, true] {
        let states = explore(promotes).unwrap_or_else(|wrong| panic!("promotes uncleanly: {promotes}: {wrong}"));
        println!("{states} states, promotes uncleanly: {promotes}");
        assert!(states > 10_000, "only {states} states: something does not happen any more");
    }
}

#[test]
fn a_broken_rule_loses_something_in_some_history() {
    for mutant in [Mutant::PromoteCatchingUp, Mutant::PromoteWhoeverReturns, Mutant::TransferToCatchingUp] {
        assert!(breaking(mutant, || explore(false).is_err()), "{mutant:?} does no harm");
    }
}
