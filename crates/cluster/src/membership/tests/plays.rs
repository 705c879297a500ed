//! Node 1 among peers 2 and 3, told step by step.

use super::super::*;

const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Play {
    machine: Membership,
    now: Time,
    /// Rounds of the pings that were sent, with to whom.
    pings: Vec<(NodeId, u64)>,
    /// Leases granted with the answers that were sent, with to whom.
    pongs: Vec<(NodeId, Duration)>,
    /// Peers that were said to be heard with the last ping.
    heard: BTreeSet<NodeId>,
    /// Everything else, in words.
    said: Vec<String>,
}

impl Play {
    /// Node 1 has just started for the seventh time and expects 2 and 3.
    fn new() -> Play {
        Play::with(None)
    }

    fn with(mutant: Option<Mutant>) -> Play {
        let settings = Settings {
            mutant,
            ..Settings::default()
        };
        let mut play = Play {
            machine: Membership::new(NodeId(1), Incarnation(7), settings, Time::START),
            now: Time::START,
            pings: Vec::new(),
            pongs: Vec::new(),
            heard: BTreeSet::new(),
            said: Vec::new(),
        };
        play.hear(Event::Peers(vec![NodeId(1), TWO, THREE]));
        play
    }

    /// As `new`, and both peers have answered in their first lives; 10 s have passed.
    fn settled() -> Play {
        let mut play = Play::new();
        play.connect(TWO, 1);
        play.connect(THREE, 1);
        play.pass(10_000, &[TWO, THREE]);
        play.expect(&["2 reachable in life 1", "3 reachable in life 1"]);
        play
    }

    fn hear(&mut self, event: Event) {
        let mut out = Vec::new();
        self.machine.handle(self.now, event, &mut out);
        for effect in out {
            match effect {
                Effect::Send {
                    to,
                    packet: Packet::Ping { round, hears },
                } => {
                    self.pings.push((to, round));
                    self.heard = hears;
                }
                Effect::Send {
                    to,
                    packet: Packet::Pong { lease, .. },
                } => self.pongs.push((to, lease)),
                Effect::Reachable { peer, incarnation } => {
                    self.said
                        .push(format!("{peer} reachable in life {incarnation}"));
                }
                Effect::Suspected { peer } => self.said.push(format!("{peer} suspected")),
                Effect::Unsuspected { peer } => self.said.push(format!("{peer} unsuspected")),
                Effect::Unreachable {
                    peer,
                    incarnation,
                    certain,
                } => {
                    let life = incarnation.map_or("unknown".to_owned(), |life| life.to_string());
                    let verdict = if certain { "dead" } else { "unreachable" };
                    self.said.push(format!("{peer} {verdict} in life {life}"));
                }
            }
        }
    }

    fn connect(&mut self, peer: NodeId, life: u64) {
        let incarnation = Incarnation(life);
        self.hear(Event::Connected { peer, incarnation });
    }

    fn disconnect(&mut self, peer: NodeId) {
        self.hear(Event::Disconnected {
            peer,
            refused: false,
        });
    }

    /// The last ping to a peer.
    fn last_ping(&self, peer: NodeId) -> u64 {
        let last = self.pings.iter().rev().find(|(to, _)| *to == peer);
        last.expect("a ping").1
    }

    fn answer(&mut self, from: NodeId, round: u64) {
        let lease = millis(2000);
        self.hear(Event::Heartbeat(from, Packet::Pong { round, lease }));
    }

    /// A peer asks and hears these; the lease it is granted.
    fn asked_by(&mut self, from: NodeId, hears: &[NodeId]) -> Option<Duration> {
        let hears = hears.iter().copied().collect();
        self.pongs.clear();
        self.hear(Event::Heartbeat(from, Packet::Ping { round: 1, hears }));
        self.pongs.pop().map(|(_, lease)| lease)
    }

    /// Time passes with a tick whenever it is due; `answering` peers answer at once.
    fn pass(&mut self, millis: u64, answering: &[NodeId]) {
        let end = self.now + Duration::from_millis(millis);
        while self.machine.deadline() <= end {
            self.now = self.machine.deadline();
            self.tick(answering);
        }
        self.now = end;
    }

    fn tick(&mut self, answering: &[NodeId]) {
        self.hear(Event::Tick);
        assert!(self.machine.deadline() > self.now);
        for peer in answering {
            self.answer(*peer, self.last_ping(*peer));
        }
    }

    /// What was said since the last look.
    #[track_caller]
    fn expect(&mut self, said: &[&str]) {
        assert_eq!(self.said, said);
        self.said.clear();
    }
}

#[test]
fn a_peer_is_reachable_when_it_has_answered() {
    let mut play = Play::new();
    assert_eq!(play.machine.state(TWO), PeerState::Awaited);
    play.connect(TWO, 1);
    play.expect(&[]);
    play.answer(TWO, play.last_ping(TWO));
    play.expect(&["2 reachable in life 1"]);
    play.pass(500, &[TWO]);
    play.expect(&[]);
    assert_eq!(play.heard, [TWO].into());
}

#[test]
fn peers_are_asked_ten_times_a_second() {
    let mut play = Play::settled();
    play.pings.clear();
    play.pass(1000, &[TWO, THREE]);
    assert_eq!(play.pings.len(), 20);
}

#[test]
fn silence_is_suspected_and_then_a_verdict() {
    let mut play = Play::settled();
    play.pass(1000, &[THREE]);
    play.expect(&[]);
    play.pass(100, &[THREE]);
    play.expect(&["2 suspected"]);
    assert_eq!(play.heard, [THREE].into());
    play.pass(1900, &[THREE]);
    play.expect(&[]);
    play.pass(100, &[THREE]);
    play.expect(&["2 unreachable in life 1"]);
    play.pass(60_000, &[THREE]);
    play.expect(&[]);
}

#[test]
fn a_late_answer_ends_suspicion() {
    let mut play = Play::settled();
    play.pass(1500, &[THREE]);
    play.expect(&["2 suspected"]);
    play.pass(2000, &[TWO, THREE]);
    play.expect(&["2 unsuspected"]);
}

#[test]
fn an_unreachable_peer_is_asked_less_often_and_returns_with_an_answer() {
    let mut play = Play::settled();
    play.pass(3200, &[THREE]);
    play.pings.clear();
    play.pass(5000, &[THREE]);
    play.expect(&["2 suspected", "2 unreachable in life 1"]);
    assert_eq!(play.pings.iter().filter(|(to, _)| *to == TWO).count(), 5);
    play.answer(TWO, play.last_ping(TWO));
    play.expect(&["2 reachable in life 1"]);
}

#[test]
fn a_peer_that_never_comes_is_unreachable_without_a_life() {
    let mut play = Play::new();
    play.pass(2900, &[]);
    play.hear(Event::Refused { peer: TWO });
    play.expect(&[]);
    play.pass(100, &[]);
    play.expect(&[
        "2 unreachable in life unknown",
        "3 unreachable in life unknown",
    ]);
}

#[test]
fn a_link_that_breaks_and_returns_is_nothing_to_speak_of() {
    let mut play = Play::settled();
    for _ in 0..10 {
        play.disconnect(TWO);
        play.pass(400, &[THREE]);
        play.connect(TWO, 1);
        play.pass(400, &[TWO, THREE]);
    }
    play.expect(&[]);
}

#[test]
fn a_link_that_returns_without_answers_does_not_hide_silence() {
    let mut play = Play::settled();
    for _ in 0..4 {
        play.disconnect(TWO);
        play.pass(400, &[THREE]);
        play.connect(TWO, 1);
        play.pass(400, &[THREE]);
    }
    play.expect(&["2 suspected", "2 unreachable in life 1"]);
}

#[test]
fn a_refused_connection_after_a_broken_one_is_death_at_once() {
    let mut play = Play::settled();
    play.disconnect(TWO);
    play.expect(&[]);
    play.hear(Event::Refused { peer: TWO });
    play.expect(&["2 dead in life 1"]);
    play.hear(Event::Refused { peer: TWO });
    play.pass(10_000, &[THREE]);
    play.expect(&[]);

    play.hear(Event::Disconnected {
        peer: THREE,
        refused: true,
    });
    play.expect(&["3 dead in life 1"]);
}

#[test]
fn a_refused_connection_beside_an_open_one_means_nothing() {
    let mut play = Play::settled();
    play.hear(Event::Refused { peer: TWO });
    play.pass(1000, &[TWO, THREE]);
    play.expect(&[]);
}

#[test]
fn a_suspicion_may_become_certain() {
    let mut play = Play::settled();
    play.pass(4000, &[THREE]);
    play.expect(&["2 suspected", "2 unreachable in life 1"]);
    play.disconnect(TWO);
    play.hear(Event::Refused { peer: TWO });
    play.expect(&["2 dead in life 1"]);
}

#[test]
fn another_life_ends_the_one_before() {
    let mut play = Play::settled();
    let old_ping = play.last_ping(TWO);
    play.disconnect(TWO);
    play.connect(TWO, 2);
    play.expect(&["2 dead in life 1"]);
    assert_eq!(play.machine.lease_until(TWO), None);
    // Its predecessor's answer is not its own.
    play.answer(TWO, old_ping);
    play.expect(&[]);
    play.answer(TWO, play.last_ping(TWO));
    play.expect(&["2 reachable in life 2"]);
    // The old life's last connection comes late: nothing on it counts.
    play.disconnect(TWO);
    play.connect(TWO, 1);
    play.answer(TWO, play.last_ping(TWO));
    assert_eq!(play.asked_by(TWO, &[]), None);
    play.pass(3100, &[THREE]);
    play.expect(&["2 suspected", "2 unreachable in life 2"]);
}

#[test]
fn a_life_known_to_be_dead_is_not_reported_again() {
    let mut play = Play::settled();
    play.disconnect(TWO);
    play.hear(Event::Refused { peer: TWO });
    play.connect(TWO, 2);
    play.answer(TWO, play.last_ping(TWO));
    play.expect(&["2 dead in life 1", "2 reachable in life 2"]);
}

#[test]
fn a_link_in_one_direction_is_noticed_at_both_ends() {
    // 2 is heard asking, but answers nothing, as our pings do not reach it.
    let mut play = Play::settled();
    for _ in 0..31 {
        play.pass(100, &[THREE]);
        play.asked_by(TWO, &[THREE]);
    }
    play.expect(&["2 suspected", "2 unreachable in life 1"]);
    // It is answered, and may count on nothing.
    assert_eq!(play.asked_by(TWO, &[THREE]), Some(Duration::ZERO));
    // The other end sees the same: no answers. That it hears us ask changes nothing there either.
}

#[test]
fn who_hears_whom_is_known_while_it_is_fresh() {
    let mut play = Play::settled();
    play.asked_by(THREE, &[NodeId(1), TWO]);
    assert_eq!(play.machine.heard_by(THREE), [NodeId(1), TWO].into());
    play.pass(900, &[TWO, THREE]);
    assert_eq!(play.machine.heard_by(THREE), [NodeId(1), TWO].into());
    play.pass(200, &[TWO, THREE]);
    assert_eq!(play.machine.heard_by(THREE), BTreeSet::new());
}

#[test]
fn after_its_own_sleep_a_node_gives_everybody_a_fresh_round() {
    let mut play = Play::settled();
    play.pass(200, &[]);
    let before = play.machine.lease_until(TWO).unwrap();
    play.now = play.now + millis(30_000);
    play.tick(&[]);
    play.expect(&[]);
    assert!(before < play.now, "the lease is over");
    play.pass(900, &[]);
    play.expect(&[]);
    play.pass(200, &[TWO]);
    play.expect(&["2 suspected", "3 suspected", "2 unsuspected"]);
}

#[test]
fn silence_before_the_own_sleep_does_not_count_either() {
    let mut play = Play::settled();
    play.pass(2900, &[THREE]);
    play.expect(&["2 suspected"]);
    play.now = play.now + millis(5000);
    play.tick(&[THREE]);
    play.pass(2900, &[THREE]);
    play.expect(&[]);
    play.pass(100, &[THREE]);
    play.expect(&["2 unreachable in life 1"]);
}

#[test]
fn a_lease_counts_from_the_ping_for_its_holder_and_from_the_answer_for_its_granter() {
    let mut holder = Play::settled();
    holder.pass(100, &[THREE]);
    let sent_at = holder.now;
    let round = holder.last_ping(TWO);

    let mut granter = Play::settled();
    granter.now = sent_at + millis(40);
    assert_eq!(granter.asked_by(TWO, &[]), Some(millis(2000)));
    assert_eq!(granter.machine.granted_until(TWO), sent_at + millis(2040));

    holder.now = sent_at + millis(90);
    holder.answer(TWO, round);
    assert_eq!(
        holder.machine.lease_until(TWO),
        Some(sent_at + millis(1980))
    );
}

#[test]
fn an_answer_without_a_lease_does_not_end_one() {
    let mut play = Play::settled();
    let before = play.machine.lease_until(TWO);
    play.pass(100, &[]);
    let round = play.last_ping(TWO);
    let lease = Duration::ZERO;
    play.hear(Event::Heartbeat(TWO, Packet::Pong { round, lease }));
    assert_eq!(play.machine.lease_until(TWO), before);
    play.expect(&[]);
}

#[test]
fn leases_are_withheld_on_request() {
    let mut play = Play::settled();
    play.asked_by(TWO, &[]);
    let granted = play.machine.granted_until(TWO);
    play.machine.withhold(TWO, true);
    play.pass(100, &[TWO, THREE]);
    assert_eq!(play.asked_by(TWO, &[]), Some(Duration::ZERO));
    assert_eq!(play.machine.granted_until(TWO), granted);
    assert!(play.machine.status()[0].withheld);
    play.machine.withhold(TWO, false);
    assert_eq!(play.asked_by(TWO, &[]), Some(millis(2000)));
}

#[test]
fn a_young_life_waits_for_what_an_earlier_one_may_have_granted() {
    let play = Play::new();
    for peer in [TWO, THREE, NodeId(99)] {
        assert_eq!(play.machine.granted_until(peer), Time::START + millis(2000));
    }
}

#[test]
fn a_grant_outlives_its_place_in_the_list() {
    let mut play = Play::settled();
    play.asked_by(TWO, &[]);
    let granted = play.now + millis(2000);
    play.hear(Event::Peers(vec![THREE]));
    assert_eq!(play.machine.state(TWO), PeerState::Unknown);
    play.pass(100, &[THREE]);
    assert_eq!(play.machine.granted_until(TWO), granted);
    // Whoever is not listed is answered, granted nothing, and no verdict is passed on it.
    assert_eq!(play.asked_by(TWO, &[]), Some(Duration::ZERO));
    play.pass(10_000, &[THREE]);
    play.expect(&[]);
    play.hear(Event::Peers(vec![TWO, THREE]));
    play.pass(200, &[TWO, THREE]);
    play.expect(&["2 reachable in life 1"]);
}

#[test]
fn a_peer_that_is_listed_after_it_connected_is_asked() {
    let mut play = Play::new();
    let four = NodeId(4);
    play.connect(four, 3);
    assert!(play.pings.is_empty());
    assert_eq!(play.asked_by(four, &[]), Some(Duration::ZERO));
    play.hear(Event::Peers(vec![four]));
    play.pass(100, &[four]);
    play.expect(&["4 reachable in life 3"]);
}

/// An answer to a ping of our earlier life is under way while we start again.
fn answer_to_an_earlier_life(mutant: Option<Mutant>) {
    let rounds = |life| {
        let settings = Settings {
            mutant,
            ..Settings::default()
        };
        let mut machine = Membership::new(NodeId(1), Incarnation(life), settings, Time::START);
        let mut out = Vec::new();
        machine.handle(Time::START, Event::Peers(vec![TWO]), &mut out);
        let incarnation = Incarnation(1);
        let connected = Event::Connected {
            peer: TWO,
            incarnation,
        };
        machine.handle(Time::START, connected, &mut out);
        match out.pop() {
            Some(Effect::Send {
                packet: Packet::Ping { round, .. },
                ..
            }) => (machine, round),
            other => panic!("no ping but {other:?}"),
        }
    };
    let (_, round) = rounds(7);
    let (mut machine, _) = rounds(8);
    let lease = millis(2000);
    let answer = Event::Heartbeat(TWO, Packet::Pong { round, lease });
    machine.handle(Time::START, answer, &mut Vec::new());
    assert_eq!(machine.lease_until(TWO), None, "a lease of an earlier life");
}

#[test]
fn an_answer_to_an_earlier_life_is_nothing() {
    answer_to_an_earlier_life(None);
}

#[test]
#[should_panic(expected = "a lease of an earlier life")]
fn rounds_used_twice_are_found() {
    answer_to_an_earlier_life(Some(Mutant::ReuseRounds));
}

/// The answer to a question of long ago arrives; the link is not what it was then.
fn old_answer(mutant: Option<Mutant>) {
    let mut play = Play::with(mutant);
    play.connect(TWO, 1);
    let round = play.last_ping(TWO);
    play.pass(5000, &[]);
    play.answer(TWO, round);
    assert_eq!(play.machine.state(TWO), PeerState::Unreachable);
}

#[test]
fn an_old_answer_is_nothing() {
    old_answer(None);
}

#[test]
#[should_panic(expected = "Reachable")]
fn old_answers_that_count_are_found() {
    old_answer(Some(Mutant::OldAnswersCount));
}

#[test]
fn net_ticktime_shortens_silence_and_not_leases() {
    let settings = Settings::default().capped(Duration::from_secs(60));
    assert_eq!(settings.failure_timeout, Duration::from_secs(3));
    let settings = Settings::default().capped(Duration::from_secs(1));
    assert_eq!(settings.failure_timeout, Duration::from_secs(1));
    assert_eq!(settings.suspect_after, millis(500));
    assert_eq!(settings.lease, Duration::from_secs(2));
}

#[test]
fn status_shows_all_that_counts() {
    let mut play = Play::settled();
    play.asked_by(TWO, &[THREE]);
    play.pass(100, &[THREE]);
    let status = play.machine.status();
    assert_eq!(
        status[0],
        PeerStatus {
            peer: TWO,
            incarnation: Some(Incarnation(1)),
            state: PeerState::Reachable,
            connected: true,
            silent_since: Some(play.now),
            lease_until: Some(Time::from_millis(11_980)),
            granted_until: Time::from_millis(12_000),
            withheld: false,
            hears: [THREE].into(),
        }
    );
    assert_eq!(status.len(), 2);
}
