//! Three nodes on links that delay, hold, stop in one direction and break, with clocks that do not
//! run equally fast; nodes sleep, die and start again, leave the list of peers and return, and
//! withhold leases. After a while everything heals.
//!
//! What must hold all the time: a lease that its holder believes in is believed in by its granter,
//! for longer. A verdict has a cause, and a cause has a verdict. What is certain is true. Grants to
//! the unreachable end. After healing everybody is reachable, and stays so.

use super::super::*;
use stdx::Rng;

const NODES: usize = 3;
const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000 * MILLI;
const STEP: u64 = 5 * MILLI;
const TROUBLE_END: u64 = 40 * SECOND;
const HEALED: u64 = TROUBLE_END + 4 * SECOND;
const END: u64 = HEALED + 8 * SECOND;
/// Longest time a packet takes while its link works.
const DELAY_MAX: u64 = 150 * MILLI;

/// What has happened, so that a test can tell that its seeds are worth something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) suspected: u64,
    pub(super) unreachable: u64,
    pub(super) certain: u64,
    pub(super) reachable: u64,
    pub(super) leases_checked: u64,
    pub(super) sleeps: u64,
}

impl Report {
    pub(super) fn add(&mut self, other: &Report) {
        self.suspected += other.suspected;
        self.unreachable += other.unreachable;
        self.certain += other.certain;
        self.reachable += other.reachable;
        self.leases_checked += other.leases_checked;
        self.sleeps += other.sleeps;
    }
}

/// A node, in times of the world (microseconds).
struct Node {
    life: u64,
    started: u64,
    /// Thousandths by which its clock is fast, plus a thousand.
    rate: u64,
    machine: Option<Membership>,
    down_until: u64,
    asleep_until: u64,
    is_asleep: bool,
    inbox: Vec<Event>,
    /// How late its next tick is.
    late: u64,
}

/// How one node sees another, and the way from the one to the other.
#[derive(Clone, Default)]
struct Way {
    /// Packets to the other, first in first out.
    packets: VecDeque<(u64, Packet)>,
    cut_until: u64,
    delay: u64,
    connected: bool,
    /// The other is not in the list of peers.
    unlisted_until: u64,
    withheld_until: u64,
    is_unlisted: bool,
    is_withheld: bool,
    /// When the last answer was sent to the other.
    answered_at: u64,
    blocked: Vec<Blocked>,
    /// The life that was reported reachable and not unreachable since.
    open: Option<u64>,
    lost_since: Option<u64>,
}

/// What stands between a node and another at one step.
#[derive(Clone, Copy)]
struct Blocked {
    there: bool,
    back: bool,
    /// One of the two has no link to the other.
    apart: bool,
}

struct World {
    rng: Rng,
    settings: Settings,
    now: u64,
    nodes: Vec<Node>,
    ways: Vec<Vec<Way>>,
    awake: Vec<Vec<bool>>,
    report: Report,
}

fn id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn index(id: NodeId) -> usize {
    usize::try_from(id.0 - 1).unwrap()
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..NODES * NODES)
        .map(|pair| (pair / NODES, pair % NODES))
        .filter(|(x, y)| x != y)
}

/// Plays one seed; what went wrong, if anything did.
pub(super) fn run(seed: u64, mutant: Option<Mutant>) -> Result<Report, String> {
    let mut world = World::new(seed, mutant);
    while world.now < END {
        world.step().map_err(|what| {
            let at = world.now / MILLI;
            format!("seed {seed}, {at} ms: {what}")
        })?;
    }
    Ok(world.report)
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let mut rng = Rng::new(seed);
        let settings = Settings {
            mutant,
            ..Settings::default()
        };
        let node = |rng: &mut Rng| Node {
            life: 0,
            started: 0,
            rate: 996 + rng.below(9),
            machine: None,
            down_until: rng.below(2 * SECOND),
            asleep_until: 0,
            is_asleep: false,
            inbox: Vec::new(),
            late: 0,
        };
        let nodes = (0..NODES).map(|_| node(&mut rng)).collect();
        World {
            rng,
            settings,
            now: 0,
            nodes,
            ways: vec![vec![Way::default(); NODES]; NODES],
            awake: vec![Vec::new(); NODES],
            report: Report::default(),
        }
    }

    fn clock(&self, node: usize) -> Time {
        let node = &self.nodes[node];
        Time::from_nanos((self.now - node.started) * node.rate)
    }

    /// A node's time as the world's.
    fn global(&self, node: usize, time: Time) -> u64 {
        let node = &self.nodes[node];
        node.started + time.as_nanos() / node.rate
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.now < self.ways[from][to].cut_until
    }

    fn is_cut_somewhere(&self, x: usize, y: usize) -> bool {
        self.is_cut(x, y) || self.is_cut(y, x)
    }

    fn is_up(&self, node: usize) -> bool {
        self.nodes[node].machine.is_some()
    }

    fn is_awake(&self, node: usize) -> bool {
        self.is_up(node) && !self.nodes[node].is_asleep
    }

    fn step(&mut self) -> Result<(), String> {
        self.now += STEP;
        if self.now < TROUBLE_END {
            self.make_trouble();
        } else if self.now == TROUBLE_END {
            self.heal();
        }
        self.live_and_die()?;
        self.change_lists()?;
        self.connect_and_break()?;
        for (x, y) in pairs() {
            self.deliver(x, y)?;
        }
        for node in 0..NODES {
            self.wake(node)?;
            self.tick(node)?;
        }
        self.note_what_can_come();
        self.check()
    }

    fn make_trouble(&mut self) {
        if !self.rng.one_in(150) {
            return;
        }
        let x = index(NodeId(1 + self.rng.below(NODES as u64)));
        let y = (x + 1 + usize::from(self.rng.one_in(2))) % NODES;
        let until = self.now
            + self.rng.below(if self.rng.clone().one_in(2) {
                SECOND
            } else {
                12 * SECOND
            });
        match self.rng.below(9) {
            0 | 1 => self.ways[x][y].cut_until = until,
            2 => {
                self.ways[x][y].cut_until = until;
                self.ways[y][x].cut_until = until + self.rng.below(SECOND);
            }
            3 => self.nodes[x].asleep_until = until,
            4 => self.nodes[x].down_until = until,
            5 => {
                self.ways[x][y].connected = false;
                self.ways[y][x].connected = false;
                self.disconnected(x, y);
                self.disconnected(y, x);
            }
            6 => self.ways[x][y].delay = self.rng.below(DELAY_MAX),
            7 => self.ways[x][y].unlisted_until = until,
            _ => self.ways[x][y].withheld_until = until,
        }
    }

    fn heal(&mut self) {
        for node in &mut self.nodes {
            node.asleep_until = 0;
            node.down_until = 0;
        }
        for (x, y) in pairs() {
            let way = &mut self.ways[x][y];
            (way.cut_until, way.unlisted_until, way.withheld_until) = (0, 0, 0);
        }
    }

    fn disconnected(&mut self, x: usize, y: usize) {
        // What was under way is lost, or (now and then) comes over the next connection.
        if !self.rng.one_in(4) {
            self.ways[y][x].packets.clear();
        }
        let event = Event::Disconnected {
            peer: id(y),
            refused: false,
        };
        // Of what a node does at a hang-up nothing can fail here: it has no verdicts.
        self.hand_over(x, event)
            .expect("no verdict for a broken link");
    }

    fn live_and_die(&mut self) -> Result<(), String> {
        for x in 0..NODES {
            let is_down = self.now < self.nodes[x].down_until;
            if is_down && self.is_up(x) {
                let node = &mut self.nodes[x];
                node.machine = None;
                node.is_asleep = false;
                node.inbox.clear();
                for way in &mut self.ways[x] {
                    *way = Way {
                        delay: way.delay,
                        cut_until: way.cut_until,
                        answered_at: way.answered_at,
                        ..Way::default()
                    };
                }
            } else if !is_down && !self.is_up(x) {
                let node = &mut self.nodes[x];
                node.life += 1;
                node.started = self.now;
                let life = Incarnation(node.life);
                let machine = Membership::new(id(x), life, self.settings, Time::START);
                node.machine = Some(machine);
                self.list_peers(x)?;
            }
            let is_asleep = self.now < self.nodes[x].asleep_until && self.is_up(x);
            if is_asleep && !self.nodes[x].is_asleep {
                self.report.sleeps += 1;
                self.nodes[x].is_asleep = true;
            }
        }
        Ok(())
    }

    fn list_peers(&mut self, x: usize) -> Result<(), String> {
        let listed = |y: &usize| *y == x || !self.ways[x][*y].is_unlisted;
        let peers = (0..NODES).filter(listed).map(id).collect();
        self.hand_over(x, Event::Peers(peers))
    }

    fn change_lists(&mut self) -> Result<(), String> {
        for (x, y) in pairs().collect::<Vec<_>>() {
            if !self.is_awake(x) {
                continue;
            }
            let now = self.now;
            let way = &mut self.ways[x][y];
            let is_withheld = now < way.withheld_until;
            if is_withheld != way.is_withheld {
                way.is_withheld = is_withheld;
                let machine = self.nodes[x].machine.as_mut().unwrap();
                machine.withhold(id(y), is_withheld);
            }
            let is_unlisted = now < way.unlisted_until;
            if is_unlisted != way.is_unlisted {
                way.is_unlisted = is_unlisted;
                (way.open, way.lost_since) = (None, None);
                self.list_peers(x)?;
            }
        }
        Ok(())
    }

    fn connect_and_break(&mut self) -> Result<(), String> {
        for (x, y) in pairs().collect::<Vec<_>>() {
            if !self.is_up(x) || self.is_cut_somewhere(x, y) {
                continue;
            }
            let is_half_open = self.ways[x][y].connected && !self.ways[y][x].connected;
            if is_half_open {
                self.ways[x][y].connected = false;
                self.disconnected(x, y);
            }
            if !self.rng.one_in(20) {
                continue;
            }
            // A node that restarts its listener refuses, and lives.
            let is_listening = self.is_up(y) && !self.rng.one_in(50);
            if !is_listening && (!self.is_up(y) || self.ways[x][y].connected) {
                self.hand_over(x, Event::Refused { peer: id(y) })?;
            } else if self.is_awake(x) && self.is_awake(y) && !self.ways[x][y].connected {
                for (from, to) in [(x, y), (y, x)] {
                    self.ways[from][to].connected = true;
                    let incarnation = Incarnation(self.nodes[to].life);
                    self.hand_over(
                        from,
                        Event::Connected {
                            peer: id(to),
                            incarnation,
                        },
                    )?;
                }
            }
        }
        Ok(())
    }

    fn note_what_can_come(&mut self) {
        for (x, y) in pairs() {
            let there = self.is_cut(x, y) || !self.is_awake(y);
            let back = self.is_cut(y, x);
            let apart = !self.ways[x][y].connected || !self.ways[y][x].connected;
            self.ways[x][y].blocked.push(Blocked { there, back, apart });
        }
        for x in 0..NODES {
            let is_awake = self.is_awake(x);
            self.awake[x].push(is_awake);
        }
    }

    fn deliver(&mut self, from: usize, to: usize) -> Result<(), String> {
        while !self.is_cut(from, to) {
            let is_due = |(at, _): &mut (u64, Packet)| *at <= self.now;
            let Some((_, packet)) = self.ways[from][to].packets.pop_front_if(is_due) else {
                break;
            };
            let packet = Packet::decode(&packet.encode()).expect("what was encoded is decoded");
            self.hand_over(to, Event::Heartbeat(id(from), packet))?;
        }
        Ok(())
    }

    fn wake(&mut self, x: usize) -> Result<(), String> {
        if !self.nodes[x].is_asleep || self.now < self.nodes[x].asleep_until {
            return Ok(());
        }
        self.nodes[x].is_asleep = false;
        let inbox = std::mem::take(&mut self.nodes[x].inbox);
        if self.rng.one_in(2) {
            self.hand_over(x, Event::Tick)?;
        }
        for event in inbox {
            self.hand_over(x, event)?;
        }
        Ok(())
    }

    fn tick(&mut self, x: usize) -> Result<(), String> {
        let Some(machine) = &self.nodes[x].machine else {
            return Ok(());
        };
        let due = self.global(x, machine.deadline()) + self.nodes[x].late;
        if self.nodes[x].is_asleep || self.now < due {
            return Ok(());
        }
        self.nodes[x].late = self.rng.below(20 * MILLI);
        self.hand_over(x, Event::Tick)?;
        let deadline = self.nodes[x].machine.as_ref().unwrap().deadline();
        if deadline <= self.clock(x) && self.global(x, deadline) + STEP < self.now {
            return Err(format!("{x} spins"));
        }
        Ok(())
    }

    fn hand_over(&mut self, x: usize, event: Event) -> Result<(), String> {
        let now = self.clock(x);
        let node = &mut self.nodes[x];
        let Some(machine) = &mut node.machine else {
            return Ok(());
        };
        if node.is_asleep {
            node.inbox.push(event);
            return Ok(());
        }
        let mut out = Vec::new();
        machine.handle(now, event, &mut out);
        out.into_iter().try_for_each(|effect| self.obey(x, effect))
    }

    fn obey(&mut self, x: usize, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Send { to, packet } => {
                let way = &mut self.ways[x][index(to)];
                if matches!(packet, Packet::Pong { .. }) {
                    way.answered_at = self.now;
                }
                let last = way.packets.back().map_or(0, |(at, _)| *at);
                let at = self.now + way.delay + self.rng.below(10 * MILLI);
                way.packets.push_back((at.max(last), packet));
                Ok(())
            }
            Effect::Reachable { peer, incarnation } => self.reachable(x, index(peer), incarnation),
            Effect::Suspected { peer } => {
                self.report.suspected += 1;
                self.has_cause(x, index(peer))
            }
            Effect::Unsuspected { .. } => Ok(()),
            Effect::Unreachable {
                peer,
                incarnation,
                certain,
            } => self.unreachable(x, index(peer), incarnation, certain),
        }
    }

    fn reachable(&mut self, x: usize, y: usize, incarnation: Incarnation) -> Result<(), String> {
        self.report.reachable += 1;
        let way = &mut self.ways[x][y];
        if way.open.is_some() {
            return Err(format!("{x}: {y} is reachable twice"));
        }
        way.open = Some(incarnation.0);
        way.lost_since = None;
        if self.now - self.ways[y][x].answered_at > 3_100 * MILLI {
            return Err(format!("{x}: {y} is reachable by an old answer"));
        }
        Ok(())
    }

    fn unreachable(
        &mut self,
        x: usize,
        y: usize,
        incarnation: Option<Incarnation>,
        certain: bool,
    ) -> Result<(), String> {
        self.ways[x][y].open = None;
        self.ways[x][y].lost_since.get_or_insert(self.now);
        if certain {
            self.report.certain += 1;
            let is_alive = self.is_up(y) && incarnation == Some(Incarnation(self.nodes[y].life));
            return if is_alive {
                Err(format!("{x}: {y} is dead, but lives"))
            } else {
                Ok(())
            };
        }
        self.report.unreachable += 1;
        self.has_cause(x, y)
    }

    /// No answer came for a while: it must have been impossible at some moment of that while.
    fn has_cause(&self, x: usize, y: usize) -> Result<(), String> {
        let mut recent = self.recently(x, y, 1_500 * MILLI).iter();
        let had_trouble = recent.any(|blocked| blocked.there || blocked.back || blocked.apart);
        if had_trouble {
            Ok(())
        } else {
            Err(format!("{x}: no reason to suspect {y}"))
        }
    }

    /// What stood between two nodes during the last while.
    fn recently(&self, x: usize, y: usize, span: u64) -> &[Blocked] {
        let blocked = &self.ways[x][y].blocked;
        let steps = usize::try_from(span / STEP).unwrap();
        &blocked[blocked.len().saturating_sub(steps)..]
    }

    fn check(&mut self) -> Result<(), String> {
        for (x, y) in pairs().collect::<Vec<_>>() {
            if self.is_up(x) && self.is_up(y) {
                self.check_lease(x, y)?;
            }
            if self.is_awake(x) {
                self.check_grants_end(x, y)?;
                if self.now.is_multiple_of(20 * STEP) {
                    self.check_silence_is_noticed(x, y)?;
                }
                if self.now >= HEALED {
                    self.check_healed(x, y)?;
                }
            }
        }
        Ok(())
    }

    fn machine(&self, x: usize) -> &Membership {
        self.nodes[x]
            .machine
            .as_ref()
            .expect("only asked of a node that is up")
    }

    fn check_lease(&mut self, holder: usize, granter: usize) -> Result<(), String> {
        let Some(until) = self.machine(holder).lease_until(id(granter)) else {
            return Ok(());
        };
        let until = self.global(holder, until);
        if until <= self.now {
            return Ok(());
        }
        self.report.leases_checked += 1;
        let granted = self.global(granter, self.machine(granter).granted_until(id(holder)));
        if granted > until {
            return Ok(());
        }
        let (until, granted) = (until / MILLI, granted / MILLI);
        Err(format!(
            "{holder} holds a lease until {until}, {granter} granted it until {granted}"
        ))
    }

    fn check_grants_end(&self, x: usize, y: usize) -> Result<(), String> {
        let Some(lost_since) = self.ways[x][y].lost_since else {
            return Ok(());
        };
        let has_time_passed = self.now > lost_since.max(self.nodes[x].started) + 2_050 * MILLI;
        let granted_until = self.global(x, self.machine(x).granted_until(id(y)));
        if has_time_passed && granted_until > self.now {
            return Err(format!("{x} goes on granting leases to {y}"));
        }
        Ok(())
    }

    /// For long no answer was given, or none could come back: the peer is not called reachable any
    /// more. An answer to a ping of the last 3 s may have come at the beginning.
    fn check_silence_is_noticed(&self, x: usize, y: usize) -> Result<(), String> {
        let recent = self.recently(x, y, 7 * SECOND);
        let Some(start) = self.awake[x].len().checked_sub(recent.len()) else {
            return Ok(());
        };
        let is_long = u64::try_from(recent.len()).unwrap() == 7 * SECOND / STEP;
        let no_answer = self.now - self.ways[y][x].answered_at > 7 * SECOND;
        let no_way_back = recent.iter().all(|blocked| blocked.back);
        let was_awake = !self.awake[x][start..].contains(&false);
        if !is_long || !was_awake || !(no_answer || no_way_back) {
            return Ok(());
        }
        match self.machine(x).state(id(y)) {
            PeerState::Unreachable | PeerState::Dead | PeerState::Unknown => Ok(()),
            // May have been listed a moment ago.
            PeerState::Awaited => Ok(()),
            state @ (PeerState::Reachable | PeerState::Suspected) => {
                Err(format!("{x}: the silent {y} is {state:?}"))
            }
        }
    }

    fn check_healed(&self, x: usize, y: usize) -> Result<(), String> {
        let machine = self.machine(x);
        let state = machine.state(id(y));
        if state != PeerState::Reachable {
            return Err(format!("{x}: after healing {y} is {state:?}"));
        }
        if self.ways[x][y].open != Some(self.nodes[y].life) {
            return Err(format!("{x}: the life of {y} was not reported"));
        }
        if machine.lease_until(id(y)) <= Some(self.clock(x)) {
            return Err(format!("{x}: after healing no lease of {y}"));
        }
        Ok(())
    }
}
