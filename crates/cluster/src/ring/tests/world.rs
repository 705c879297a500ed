//! Members of a ring in a world that misbehaves, and what must be true of them at any time.
//!
//! The world has a consensus log that decides views, processes that install them when they like,
//! links that break and lose what is on them, disks that are late, deaths, evictions of the living,
//! and newcomers. It keeps a naive model beside every member: what was delivered, stored, told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ::bytes::Bytes;
use stdx::Rng;

use crate::ring::{Effect, Handover, Member, MemberId, Mutant, Packet, View};

const MEMBERS_MAX: usize = 5;

/// What one process knows of one publisher, from its effects alone.
#[derive(Clone, Debug, Default)]
struct Known {
    delivered: u64,
    stored: u64,
    settled: u64,
    died: bool,
}

struct Process {
    member: Member,
    alive: bool,
    stopped: bool,
    /// Of the decided views, the one it is in.
    installed: usize,
    known: BTreeMap<MemberId, Known>,
    /// Own publications: sent, stored here, reported complete.
    sent: u64,
    stored: u64,
    completed: u64,
}

impl Process {
    fn runs(&self) -> bool {
        self.alive && !self.stopped
    }

    /// How much of a publisher was delivered here, or sent by it.
    fn holds(&self, me: MemberId, publisher: MemberId) -> u64 {
        if me == publisher {
            return self.sent;
        }
        self.known
            .get(&publisher)
            .map_or(0, |known| known.delivered)
    }

    fn has_stored(&self, me: MemberId, publisher: MemberId) -> u64 {
        if me == publisher {
            return self.stored;
        }
        self.known.get(&publisher).map_or(0, |known| known.stored)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Down,
    /// It is up again, and its sender does not know that it ever was down.
    Untold,
}

struct Link {
    state: State,
    packets: VecDeque<Vec<u8>>,
}

pub(super) struct World {
    rng: Rng,
    mutant: Option<Mutant>,
    views: Vec<View>,
    processes: BTreeMap<MemberId, Process>,
    /// Members of a view that have not started yet. True: founders.
    waiting: BTreeMap<MemberId, bool>,
    links: BTreeMap<(MemberId, MemberId), Link>,
    last_id: u64,
    /// Up to which number the publications of each publisher are known to be complete: reported so
    /// by the publisher, or settled by the head after its death.
    complete: BTreeMap<MemberId, u64>,
}

pub(super) fn payload(publisher: MemberId, number: u64) -> Bytes {
    let mut payload = publisher.0.to_be_bytes().to_vec();
    payload.resize(8 + number as usize % 3, b'.');
    payload.extend_from_slice(&number.to_be_bytes());
    payload.into()
}

impl World {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let mut rng = Rng::new(seed);
        let founders = 1 + rng.below(MEMBERS_MAX as u64);
        let view = View {
            version: 1 + rng.below(5),
            members: (1..=founders).map(MemberId).collect(),
        };
        let mut world = World {
            rng,
            mutant,
            waiting: view.members.iter().map(|&member| (member, true)).collect(),
            views: vec![view],
            processes: BTreeMap::new(),
            links: BTreeMap::new(),
            last_id: founders,
            complete: BTreeMap::new(),
        };
        world.found(MemberId(1));
        for member in 2..=founders {
            if !world.rng.one_in(5) {
                world.found(MemberId(member));
            }
        }
        world
    }

    /// One life: trouble for some time, then none until nothing moves.
    pub(super) fn live(mut self) {
        for _ in 0..50 + self.rng.below(300) {
            self.step();
            self.check();
        }
        self.heal();
        self.check_rest();
        // And once more, in a view that everybody has had for long.
        for id in self.good() {
            self.broadcast_from(id);
        }
        self.rest();
        self.check_rest();
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..40 => self.deliver_some(),
            40..56 => self.broadcast(),
            56..76 => self.store(),
            76..83 => self.install_somewhere(),
            83..85 => self.lose_link(),
            85..88 => self.reopen_link(),
            88..91 => self.tell_of_link(),
            91..93 => self.kill(),
            93..95 => self.decide_removals(),
            95..97 => self.decide_addition(),
            97..99 => self.start_somebody(),
            _ => match self.rng.below(3) {
                0 => self.evict(),
                1 => self.shuffle(),
                _ => self.decide_exchange(),
            },
        }
    }

    // Choices

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.rng.below(from.len() as u64) as usize;
        from.get(index).copied()
    }

    fn pick_running(&mut self) -> Option<MemberId> {
        let running: Vec<MemberId> = self.running().collect();
        self.pick(&running)
    }

    fn running(&self) -> impl Iterator<Item = MemberId> + '_ {
        let running = self.processes.iter().filter(|(_, process)| process.runs());
        running.map(|(&id, _)| id)
    }

    fn newest(&self) -> &View {
        self.views.last().unwrap()
    }

    /// Members of the newest view that run.
    fn good(&self) -> Vec<MemberId> {
        self.running()
            .filter(|id| self.newest().members.contains(id))
            .collect()
    }

    fn links_in(&self, state: State) -> Vec<(MemberId, MemberId)> {
        let links = self.links.iter().filter(|(_, link)| link.state == state);
        links.map(|(&ends, _)| ends).collect()
    }

    // What members do

    fn found(&mut self, id: MemberId) {
        let views = self.views.iter().enumerate();
        let with: Vec<usize> = views
            .filter(|(_, view)| view.members.contains(&id))
            .map(|(index, _)| index)
            .collect();
        self.waiting.remove(&id);
        let installed = self.pick(&with).unwrap();
        let member = Member::new(id, self.views[installed].clone());
        self.start(id, member, installed, BTreeMap::new());
    }

    fn join(&mut self, id: MemberId, feeder: MemberId) {
        self.waiting.remove(&id);
        let from = &self.processes[&feeder];
        let mut bytes = Vec::new();
        from.member.handover().encode(&mut bytes);
        let handover = Handover::decode(bytes.into()).unwrap();
        assert_eq!(handover, from.member.handover());
        // The copy on the side: all that was delivered there, and what the feeder sent itself.
        let mut known = from.known.clone();
        known.remove(&id);
        let own = Known {
            delivered: from.sent,
            settled: from.completed,
            ..Known::default()
        };
        known.insert(feeder, own);
        known.values_mut().for_each(|known| known.stored = 0);
        let installed = from.installed;
        let member = Member::join(id, handover);
        for (publisher, number) in member.held() {
            let copied = known.get(&publisher).map_or(0, |known| known.delivered);
            assert_eq!(number, copied, "the handover fits the copy");
        }
        self.start(id, member, installed, known);
    }

    fn start(
        &mut self,
        id: MemberId,
        mut member: Member,
        installed: usize,
        mut known: BTreeMap<MemberId, Known>,
    ) {
        member.mutant = self.mutant;
        for &other in self.views[installed]
            .members
            .iter()
            .filter(|&&other| other != id)
        {
            known.entry(other).or_default();
        }
        let process = Process {
            member,
            alive: true,
            stopped: false,
            installed,
            known,
            sent: 0,
            stored: 0,
            completed: 0,
        };
        assert!(self.processes.insert(id, process).is_none());
    }

    fn start_somebody(&mut self) {
        let waiting: Vec<MemberId> = self.waiting.keys().copied().collect();
        if let Some(id) = self.pick(&waiting) {
            self.try_start(id);
        }
    }

    fn try_start(&mut self, id: MemberId) -> bool {
        if self.waiting[&id] {
            self.found(id);
            return true;
        }
        let fits = |feeder: &MemberId| self.processes[feeder].member.view().members.contains(&id);
        let feeders: Vec<MemberId> = self.running().filter(fits).collect();
        match self.pick(&feeders) {
            Some(feeder) => self.join(id, feeder),
            None => return false,
        }
        true
    }

    /// Calls a member and obeys.
    fn call(&mut self, id: MemberId, call: impl FnOnce(&mut Member, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        call(
            &mut self.processes.get_mut(&id).unwrap().member,
            &mut effects,
        );
        let sends = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Send { .. }))
            .count();
        assert!(sends <= 1, "one packet a call");
        for effect in effects {
            self.obey(id, effect);
        }
    }

    fn obey(&mut self, id: MemberId, effect: Effect) {
        match effect {
            Effect::Send { to, packet } => self.send(id, to, &packet),
            Effect::Deliver {
                publisher,
                first,
                payloads,
            } => {
                self.delivered(id, publisher, first, &payloads);
            }
            Effect::Completed { up_to } => self.completed(id, up_to),
            Effect::Settled { publisher, up_to } => self.settled(id, publisher, up_to),
            Effect::Born(publisher) => {
                let known = &mut self.processes.get_mut(&id).unwrap().known;
                assert!(
                    known.insert(publisher, Known::default()).is_none(),
                    "born once"
                );
                assert_ne!(publisher, id, "its own birth is no news");
            }
            Effect::Died(publisher) => self.died(id, publisher),
            Effect::Stopped => {
                let process = self.processes.get_mut(&id).unwrap();
                process.stopped = true;
                let view = &self.views[process.installed];
                assert!(!view.members.contains(&id), "only who is out stops");
            }
            Effect::Diverged => panic!("member {id:?} has diverged"),
        }
    }

    fn send(&mut self, from: MemberId, to: MemberId, packet: &Packet) {
        let known = self.processes.contains_key(&to);
        let link = self.links.entry((from, to)).or_insert_with(|| Link {
            state: if known { State::Up } else { State::Down },
            packets: VecDeque::new(),
        });
        if link.state != State::Down {
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            link.packets.push_back(bytes);
        }
    }

    fn delivered(&mut self, id: MemberId, publisher: MemberId, first: u64, payloads: &[Bytes]) {
        let known = self
            .processes
            .get_mut(&id)
            .unwrap()
            .known
            .get_mut(&publisher);
        let known = known.expect("born before it is heard");
        assert!(!known.died, "nothing is heard of the dead");
        assert!(!payloads.is_empty());
        for (number, delivered) in (first..).zip(payloads) {
            assert_eq!(number, known.delivered + 1, "gapless at {id:?}");
            assert_eq!(*delivered, payload(publisher, number));
            known.delivered = number;
        }
        assert!(
            known.delivered <= self.processes[&publisher].sent,
            "nothing is invented"
        );
    }

    fn completed(&mut self, id: MemberId, up_to: u64) {
        let process = self.processes.get_mut(&id).unwrap();
        assert!(up_to > process.completed && up_to <= process.sent);
        process.completed = up_to;
        assert!(process.member.completed() >= up_to);
        for other in &self.views[self.processes[&id].installed].members {
            let stored = self.stored_at(*other, id);
            assert!(
                stored >= up_to,
                "complete at {id:?}: {up_to}, stored at {other:?}: {stored}"
            );
        }
        self.complete.insert(id, up_to);
    }

    fn stored_at(&self, id: MemberId, publisher: MemberId) -> u64 {
        let process = self.processes.get(&id);
        process.map_or(0, |process| process.has_stored(id, publisher))
    }

    fn settled(&mut self, id: MemberId, publisher: MemberId, up_to: u64) {
        let process = self.processes.get_mut(&id).unwrap();
        let known = process.known.get_mut(&publisher).unwrap();
        assert!(up_to > known.settled && up_to <= known.delivered);
        known.settled = up_to;
        if self
            .complete
            .get(&publisher)
            .is_some_and(|&complete| complete >= up_to)
        {
            return;
        }
        // The first to settle it is the head of a view that the publisher is not in.
        let view = &self.views[self.processes[&id].installed];
        assert!(
            !view.members.contains(&publisher),
            "only the publisher settles"
        );
        for other in &view.members {
            let stored = self.stored_at(*other, publisher);
            assert!(stored >= up_to, "settled before {other:?} had stored it");
        }
        self.complete.insert(publisher, up_to);
    }

    fn died(&mut self, id: MemberId, publisher: MemberId) {
        let process = self.processes.get_mut(&id).unwrap();
        assert!(!self.views[process.installed].members.contains(&publisher));
        let known = process
            .known
            .get_mut(&publisher)
            .expect("born before it dies");
        assert!(!known.died, "dies once");
        known.died = true;
        let delivered = known.delivered;
        if !self.newest().members.contains(&id) {
            return;
        }
        for other in self.good() {
            if let Some(known) = self.processes[&other].known.get(&publisher) {
                assert!(
                    known.delivered <= delivered,
                    "{other:?} has more of the dead than {id:?}"
                );
                assert!(
                    !known.died || known.delivered == delivered,
                    "survivors agree"
                );
            }
        }
    }

    // What happens to them

    fn deliver_some(&mut self) {
        let full = self
            .links
            .iter()
            .filter(|(_, link)| !link.packets.is_empty());
        let full: Vec<(MemberId, MemberId)> = full.map(|(&ends, _)| ends).collect();
        if let Some(ends) = self.pick(&full) {
            self.deliver(ends);
        }
    }

    fn deliver(&mut self, ends: (MemberId, MemberId)) {
        let bytes = self
            .links
            .get_mut(&ends)
            .unwrap()
            .packets
            .pop_front()
            .unwrap();
        if self
            .processes
            .get(&ends.1)
            .is_some_and(|process| process.alive)
        {
            let packet = Packet::decode(bytes.into()).unwrap();
            self.call(ends.1, |member, out| member.receive(ends.0, packet, out));
        }
    }

    fn broadcast(&mut self) {
        if let Some(id) = self.pick_running() {
            self.broadcast_from(id);
        }
    }

    fn broadcast_from(&mut self, id: MemberId) {
        let process = self.processes.get_mut(&id).unwrap();
        let first = process.sent + 1;
        let last = process.sent + 1 + self.rng.below(3);
        process.sent = last;
        let payloads: Vec<Bytes> = (first..=last).map(|number| payload(id, number)).collect();
        self.call(id, |member, out| {
            assert_eq!(member.broadcast_all(&payloads, out), last)
        });
    }

    fn store(&mut self) {
        let Some(id) = self.pick_running() else {
            return;
        };
        let process = &self.processes[&id];
        let late: Vec<MemberId> = process.known.keys().copied().chain([id]).collect();
        let late: Vec<MemberId> = late
            .into_iter()
            .filter(|&publisher| process.holds(id, publisher) > process.has_stored(id, publisher))
            .collect();
        let Some(publisher) = self.pick(&late) else {
            return;
        };
        let stored = self.processes[&id].has_stored(id, publisher);
        let more = self.processes[&id].holds(id, publisher) - stored;
        let number = stored + 1 + self.rng.below(more);
        self.store_up_to(id, publisher, number);
    }

    fn store_up_to(&mut self, id: MemberId, publisher: MemberId, number: u64) {
        let process = self.processes.get_mut(&id).unwrap();
        match id == publisher {
            true => process.stored = number,
            false => process.known.get_mut(&publisher).unwrap().stored = number,
        }
        self.call(id, |member, out| member.stored(publisher, number, out));
    }

    fn install_somewhere(&mut self) {
        let last = self.views.len() - 1;
        let running = self.running();
        let late: Vec<MemberId> = running
            .filter(|id| self.processes[id].installed < last)
            .collect();
        if let Some(id) = self.pick(&late) {
            self.install(id);
        }
    }

    fn install(&mut self, id: MemberId) {
        let process = self.processes.get_mut(&id).unwrap();
        let ahead = (self.views.len() - 1 - process.installed) as u64;
        let steps = if self.rng.one_in(4) {
            1 + self.rng.below(ahead)
        } else {
            1
        };
        process.installed += steps as usize;
        // Who is out does not come back, so a member that was out of a view between stops.
        let passed = process.installed - steps as usize..=process.installed;
        let out_at = passed
            .clone()
            .find(|&index| !self.views[index].members.contains(&id));
        process.installed = out_at.unwrap_or(process.installed);
        let view = self.views[process.installed].clone();
        self.call(id, |member, out| member.install(view, out));
    }

    fn lose_link(&mut self) {
        let up: Vec<_> = self.links_in(State::Up);
        if let Some(ends) = self.pick(&up) {
            let link = self.links.get_mut(&ends).unwrap();
            link.state = State::Down;
            link.packets.clear();
        }
    }

    fn reopen_link(&mut self) {
        let down = self.links_in(State::Down);
        if let Some(ends) = self.pick(&down) {
            self.reopen(ends);
        }
    }

    fn reopen(&mut self, ends: (MemberId, MemberId)) {
        if self.processes.contains_key(&ends.1) {
            self.links.get_mut(&ends).unwrap().state = State::Untold;
        }
    }

    fn tell_of_link(&mut self) {
        let untold = self.links_in(State::Untold);
        if let Some(ends) = self.pick(&untold) {
            self.tell(ends);
        }
    }

    fn tell(&mut self, ends: (MemberId, MemberId)) {
        self.links.get_mut(&ends).unwrap().state = State::Up;
        if self.processes[&ends.0].runs() {
            self.call(ends.0, |member, out| member.reconnected(ends.1, out));
        }
    }

    /// Ends a process. What it has sent may arrive or not.
    fn kill(&mut self) {
        let good = self.good();
        let Some(id) = self.pick_running() else {
            return;
        };
        if good.iter().all(|&other| other == id) {
            return;
        }
        self.processes.get_mut(&id).unwrap().alive = false;
        for (ends, link) in &mut self.links {
            if ends.1 == id {
                link.packets.clear();
            } else if ends.0 == id && !link.packets.is_empty() {
                let kept = self.rng.below(link.packets.len() as u64 + 1);
                link.packets.truncate(kept as usize);
            }
        }
    }

    // What consensus decides

    fn decide(&mut self, members: Vec<MemberId>) {
        let steps = if self.rng.one_in(10) { 2 } else { 1 };
        let version = self.newest().version + steps;
        self.views.push(View { version, members });
    }

    /// Takes some or all of the dead out.
    fn decide_removals(&mut self) {
        let all = self.rng.one_in(2);
        let mut members = self.newest().members.clone();
        let before = members.len();
        for member in self.newest().members.clone() {
            let dead = self
                .processes
                .get(&member)
                .is_some_and(|process| !process.alive);
            if dead && (all || self.rng.one_in(2)) {
                members.retain(|&other| other != member);
            }
        }
        if members.len() < before {
            self.decide(members);
        }
    }

    fn decide_addition(&mut self) {
        let mut members = self.newest().members.clone();
        if members.len() < MEMBERS_MAX {
            self.last_id += 1;
            let place = self.rng.below(members.len() as u64 + 1);
            members.insert(place as usize, MemberId(self.last_id));
            self.waiting.insert(MemberId(self.last_id), false);
            self.decide(members);
        }
    }

    /// Takes out somebody who may be alive, or has never started.
    fn evict(&mut self) {
        let members = self.newest().members.clone();
        let Some(member) = self.pick(&members) else {
            return;
        };
        if self.good().iter().any(|&other| other != member) {
            self.waiting.remove(&member);
            self.decide(
                members
                    .into_iter()
                    .filter(|&other| other != member)
                    .collect(),
            );
        }
    }

    /// Takes the dead out and somebody in, in one view.
    fn decide_exchange(&mut self) {
        let newcomer = MemberId(self.last_id + 1);
        let gone = |id: &MemberId| self.processes.get(id).is_some_and(|process| !process.alive);
        let mut members = self.newest().members.clone();
        members.retain(|member| !gone(member));
        if members.len() < MEMBERS_MAX {
            self.last_id += 1;
            let place = self.rng.below(members.len() as u64 + 1);
            members.insert(place as usize, newcomer);
            self.waiting.insert(newcomer, false);
            self.decide(members);
        }
    }

    fn shuffle(&mut self) {
        let mut members = self.newest().members.clone();
        for last in (1..members.len()).rev() {
            members.swap(last, self.rng.below(last as u64 + 1) as usize);
        }
        self.decide(members);
    }

    // Checks

    /// What must be true between any two events.
    fn check(&self) {
        for (&id, process) in self.processes.iter().filter(|(_, process)| process.runs()) {
            let member = &process.member;
            assert_eq!(
                member.view(),
                &self.views[process.installed],
                "a view is what was decided"
            );
            for (&publisher, kept) in &member.publishers {
                let holds = process.holds(id, publisher);
                assert_eq!(kept.received(), holds, "delivered is kept, in order");
                let living = self.processes.get(&publisher).is_some_and(Process::runs);
                if living && kept.living {
                    let completed = self.processes[&publisher].completed;
                    assert!(kept.settled <= completed, "only the publisher settles");
                }
            }
            self.check_link(id, member);
        }
    }

    /// Where nothing is under way, the right neighbour has all that the left one has.
    fn check_link(&self, id: MemberId, member: &Member) {
        let Some(right) = member.right else { return };
        let Some(process) = self.processes.get(&right) else {
            return;
        };
        let quiet = self
            .links
            .get(&(id, right))
            .is_some_and(|link| link.state == State::Up && link.packets.is_empty());
        let same = process.runs() && process.member.view().version == member.view().version;
        if !quiet || !same || member.relink {
            return;
        }
        for (publisher, number) in member.held() {
            let there = process.holds(right, publisher);
            assert!(
                there >= number,
                "{right:?} lacks {number} of {publisher:?} that {id:?} has"
            );
        }
        assert!(
            process.member.left_phase >= member.phase,
            "the phase has arrived"
        );
    }

    // The end

    /// Ends all trouble and lets everything go on until nothing moves.
    fn heal(&mut self) {
        for _ in 0..MEMBERS_MAX {
            self.decide_removals();
        }
        let gone: BTreeSet<MemberId> = self
            .processes
            .iter()
            .filter(|(_, process)| !process.alive)
            .map(|(&id, _)| id)
            .collect();
        let mut members = self.newest().members.clone();
        members.retain(|member| !gone.contains(member));
        self.decide(members);
        self.rest();
    }

    fn rest(&mut self) {
        for round in 0.. {
            assert!(round < 2000, "it never comes to rest");
            if !self.go_on() {
                return;
            }
        }
    }

    /// True if anything has moved.
    fn go_on(&mut self) -> bool {
        let mut moved = false;
        for id in self.waiting.keys().copied().collect::<Vec<_>>() {
            moved |= self.try_start(id);
        }
        for id in self.running().collect::<Vec<_>>() {
            if self.processes[&id].runs() && self.processes[&id].installed + 1 < self.views.len() {
                self.install(id);
                moved = true;
            }
        }
        for ends in self.links_in(State::Down) {
            self.reopen(ends);
        }
        for ends in self.links_in(State::Untold) {
            self.tell(ends);
            moved = true;
        }
        for ends in self.links.keys().copied().collect::<Vec<_>>() {
            while !self.links[&ends].packets.is_empty() {
                self.deliver(ends);
                self.check();
                moved = true;
            }
        }
        for id in self.running().collect::<Vec<_>>() {
            let publishers = self.processes[&id].known.keys().copied().chain([id]);
            for publisher in publishers.collect::<Vec<_>>() {
                let holds = self.processes[&id].holds(id, publisher);
                if self.processes[&id].has_stored(id, publisher) < holds {
                    self.store_up_to(id, publisher, holds);
                    moved = true;
                }
            }
        }
        moved
    }

    /// What must be true when nothing moves any more.
    fn check_rest(&self) {
        assert!(self.waiting.is_empty(), "all have started");
        let view = self.newest();
        for &id in &view.members {
            let process = &self.processes[&id];
            assert!(process.runs(), "{id:?} is in the ring");
            assert_eq!(process.installed, self.views.len() - 1);
            assert_eq!(
                process.completed, process.sent,
                "all broadcasts of {id:?} are complete"
            );
            let member = &process.member;
            assert_eq!(member.pending_bytes(), 0, "{id:?} keeps nothing");
            assert!(member.early.is_empty());
            let mut members = view.members.clone();
            members.sort_unstable();
            let kept: Vec<MemberId> = member.publishers.keys().copied().collect();
            assert_eq!(kept, members, "the dead are cleared at {id:?}");
            for (publisher, known) in &process.known {
                let living = view.members.contains(publisher);
                assert_eq!(
                    known.died, !living,
                    "deaths are told, {publisher:?} at {id:?}"
                );
                assert_eq!(known.settled, known.delivered, "all is settled");
            }
        }
        for (&publisher, process) in &self.processes {
            let mut held = view
                .members
                .iter()
                .map(|id| self.processes[id].holds(*id, publisher));
            let first = held.next().unwrap();
            assert!(
                held.all(|other| other == first),
                "survivors agree on {publisher:?}"
            );
            let complete = self.complete.get(&publisher).copied().unwrap_or(0);
            assert!(process.completed <= complete);
            assert!(first >= complete, "what was complete is kept");
        }
    }
}
