//! What an agent tells channels and leaders as leaders come and go.

use std::sync::Arc;

use cluster::metadata_log::NodeId;

use super::*;
use crate::mutant::notices;
use crate::queue::{Consume, ConsumerKey};

const QUEUE: QueueId = QueueId(7);

/// An agent, and a channel of its node.
struct Play {
    agent: Agent,
    channel: ChannelKey,
}

impl Play {
    fn new() -> Play {
        let connection = |serial| ConnectionId::of(NodeId(1), 1, serial);
        Play {
            agent: Agent::new(QUEUE, connection(1)),
            channel: ChannelKey { connection: connection(2), number: 1, life: 1 },
        }
    }

    fn hear(&mut self, event: AgentEvent) -> AgentEffects {
        self.hear_at(Time::START, event)
    }

    fn hear_at(&mut self, now: Time, event: AgentEvent) -> AgentEffects {
        let mut out = AgentEffects::default();
        self.agent.handle(now, event, &mut out);
        out
    }

    fn consume(&mut self, again: bool) -> AgentEffects {
        let ask = Consume {
            consumer: ConsumerKey { channel: self.channel, number: 1 },
            tag: Arc::from(&b"tag"[..]),
            no_ack: false,
            exclusive: false,
            prefetch: 0,
            limited: false,
            priority: 0,
            arguments: amqp::Table::new(),
            again,
        };
        self.hear(AgentEvent::Queue(QueueEvent::Consume(Box::new(ask))))
    }

    fn publish(&mut self, number: u64) -> AgentEffects {
        let from = Publisher::Channel(self.channel);
        let messages = vec![Publish { message: message(), number }];
        self.hear(AgentEvent::Queue(QueueEvent::Publish { from, messages }))
    }

    fn find(&mut self, life: u64) -> AgentEffects {
        self.hear(AgentEvent::Leader(Place::Attached { life }))
    }

    fn lose(&mut self) -> AgentEffects {
        self.hear(AgentEvent::Leader(Place::Waiting))
    }
}

fn message() -> Message {
    Message::new(b"", b"q", &amqp::Properties::default().to_bytes(), b"body").expect("short names")
}

/// Whether it has the leader asked for a consumer; whether again.
fn asks(out: &AgentEffects) -> Vec<bool> {
    let consumes = out.to_leader.iter().filter_map(|event| match event {
        QueueEvent::Consume(ask) => Some(ask.again),
        _ => None,
    });
    consumes.collect()
}

fn tells_that_it_moved(out: &AgentEffects) -> bool {
    out.to_connections.iter().any(|(_, event)| matches!(event, ChannelEvent::QueueMoved { .. }))
}

#[test]
fn a_consumer_that_waited_for_a_leader_hears_of_the_next_one() {
    let mut play = Play::new();
    assert!(asks(&play.consume(false)).is_empty(), "there is no leader to ask");

    assert_eq!(asks(&play.find(1)), [false]);
    play.hear(AgentEvent::Answered(play.channel, Some(Question::Consume)));

    play.lose();
    let next = play.find(2);
    assert!(tells_that_it_moved(&next), "its consumer was with the first leader");
    assert!(asks(&next).is_empty(), "the question is answered");
    assert_eq!(asks(&play.consume(true)), [true]);

    play.lose();
    assert!(tells_that_it_moved(&play.find(3)), "and with the second");
}

#[test]
fn a_consumer_that_two_leaders_were_asked_for_hears_of_the_third() {
    let mut play = Play::new();
    play.find(1);
    assert_eq!(asks(&play.consume(false)), [false]);
    play.lose();
    assert_eq!(asks(&play.find(2)), [false], "nobody has answered");
    play.hear(AgentEvent::Answered(play.channel, Some(Question::Consume)));
    play.lose();
    assert!(tells_that_it_moved(&play.find(3)));
}

/// Of two leaders that were asked for a consumer both have answered, the second when its cancellation was on its way.
#[test]
fn a_late_answer_to_an_earlier_question_does_not_end_the_present_one() {
    let mut play = consuming();
    let consumer = ConsumerKey { channel: play.channel, number: 1 };
    let cancel = || QueueEvent::Cancel { consumer, reply: true };
    play.hear(AgentEvent::Queue(cancel()));
    play.hear(AgentEvent::Answered(play.channel, Some(Question::Consume)));
    play.hear(AgentEvent::Answered(play.channel, Some(Question::Cancel(7))));
    play.lose();
    let asked = |out: AgentEffects| out.to_leader.iter().any(|event| event.question() == cancel().question());
    assert!(asked(play.find(2)), "the cancellation was lost with the first leader");
    play.hear(AgentEvent::Answered(play.channel, cancel().question()));
    play.lose();
    assert!(!asked(play.find(3)), "it is answered");
}

/// An agent with a consumer at the first leader.
fn consuming() -> Play {
    let mut play = Play::new();
    play.find(1);
    play.consume(false);
    play.hear(AgentEvent::Answered(play.channel, Some(Question::Consume)));
    play
}

fn end(play: &mut Play) -> AgentEffects {
    let mut out = AgentEffects::default();
    play.agent.end(&mut out);
    out
}

/// It asks again, and is cancelled, since there is no such queue.
#[test]
fn a_consumer_whose_queue_is_deleted_while_nobody_leads_hears_of_it_at_once() {
    for down in [false, true] {
        let mut play = consuming();
        play.lose();
        if down {
            play.hear(AgentEvent::Leader(Place::Down));
        }
        assert!(tells_that_it_moved(&end(&mut play)));
        assert!(!play.agent.has_consumers());
    }
}

/// What consumers are told of a queue that nobody leads: whether it is for good.
fn tells_that_it_is_down(out: &AgentEffects) -> Vec<bool> {
    let told = out.to_connections.iter().filter_map(|(_, event)| match event {
        ChannelEvent::QueueDown { for_good, .. } => Some(*for_good),
        _ => None,
    });
    told.collect()
}

#[test]
fn consumers_of_a_queue_that_is_down_hear_of_it_at_once_and_again_when_it_stays_so() {
    let mut play = consuming();
    play.lose();
    assert_eq!(tells_that_it_is_down(&play.hear(AgentEvent::Leader(Place::Down))), [false]);
    assert!(tells_that_it_is_down(&play.hear(AgentEvent::Leader(Place::Down))).is_empty(), "it is told once");
    let patient = play.hear_at(Time::START + (CONSUMER_PATIENCE - Duration::from_secs(1)), AgentEvent::Tick);
    assert!(tells_that_it_is_down(&patient).is_empty());
    assert_eq!(play.agent.deadline(), Some(Time::START + CONSUMER_PATIENCE));
    assert_eq!(tells_that_it_is_down(&play.hear_at(Time::START + CONSUMER_PATIENCE, AgentEvent::Tick)), [true]);
    assert!(!play.agent.has_consumers() && play.agent.deadline().is_none());
}

#[test]
fn consumers_of_a_queue_that_comes_back_in_time_go_on() {
    let mut play = consuming();
    play.hear(AgentEvent::Leader(Place::Down));
    assert!(tells_that_it_moved(&play.find(2)));
    assert!(tells_that_it_is_down(&play.hear_at(Time::START + CONSUMER_PATIENCE, AgentEvent::Tick)).is_empty());
}

/// What it has delivered comes first.
#[test]
fn a_consumer_whose_leader_is_there_hears_from_it_that_the_queue_is_deleted() {
    let mut play = consuming();
    assert!(!tells_that_it_moved(&end(&mut play)));
    assert!(play.agent.has_consumers());
    let mut later = AgentEffects::default();
    play.agent.end_consumers(&mut later);
    assert!(tells_that_it_moved(&later), "if the leader did not tell");
}

/// Of two packets on their way one comes before the receiver leads, and is refused; the other is heard.
#[test]
fn a_channel_that_ends_while_nobody_leads_is_no_consumer_of_whoever_has_heard_its_question() {
    let mut play = Play::new();
    play.find(1);
    assert_eq!(asks(&play.consume(false)), [false]);
    play.lose();
    let (channel, seqs) = (play.channel, vec![Seq(3)]);
    let ended = play.hear(AgentEvent::Queue(QueueEvent::ChannelClosed { channel, seqs }));
    assert!(ended.to_leader.is_empty(), "there is none");
    let told = play.find(2).to_leader;
    assert!(
        matches!(&told[..], [QueueEvent::ChannelClosed { channel: of, seqs }] if *of == channel && seqs[..] == [Seq(3)]),
        "{told:?}"
    );
    play.lose();
    assert!(play.find(3).to_leader.is_empty(), "it is told once");
}

/// It may have been the leader all the while, and hold it for the channel.
#[test]
fn what_a_channel_gives_back_while_nobody_leads_comes_to_the_next_leader_before_it_asks_again() {
    let mut play = consuming();
    play.lose();
    let channel = play.channel;
    let settled = [
        QueueEvent::Reject { channel, seqs: vec![Seq(1)], requeue: true },
        QueueEvent::Ack { channel, runs: vec![(Seq(2), Seq(3))] },
        QueueEvent::Surplus { channel, seqs: vec![Seq(4)] },
        QueueEvent::Taken { channel, runs: vec![(Seq(5), Seq(5))] },
        QueueEvent::Cancel { consumer: ConsumerKey { channel, number: 2 }, reply: false },
    ];
    for event in settled.clone() {
        assert!(play.hear(AgentEvent::Queue(event)).to_leader.is_empty());
    }
    // Void: a consumer that asks again has its whole credit.
    play.hear(AgentEvent::Queue(QueueEvent::Credit { consumer: ConsumerKey { channel, number: 1 }, bytes: 1 }));
    let told = play.find(2);
    assert_eq!(format!("{:?}", told.to_leader), format!("{settled:?}"));
    assert!(tells_that_it_moved(&told));
    play.lose();
    assert!(play.find(3).to_leader.is_empty(), "it is told once");
}

/// Numbers that were confirmed, and numbers that were refused.
fn reports(out: &AgentEffects) -> (Vec<u64>, Vec<u64>) {
    let (mut confirmed, mut refused) = (Vec::new(), Vec::new());
    for (_, event) in &out.to_connections {
        match event {
            ChannelEvent::Confirmed { runs, .. } => confirmed.extend(runs.iter().flat_map(|(first, last)| *first..=*last)),
            ChannelEvent::Rejected { numbers, .. } => refused.extend(numbers),
            _ => {}
        }
    }
    (confirmed, refused)
}

#[test]
fn what_nobody_can_take_is_refused() {
    let mut play = Play::new();
    let waiting = play.publish(1);
    assert_eq!(reports(&waiting), (vec![], vec![]));
    let down = play.hear(AgentEvent::Leader(Place::Down));
    assert_eq!(reports(&down), (vec![], vec![1]));
    assert_eq!(reports(&play.publish(2)), (vec![], vec![2]));
}

#[test]
fn a_confirm_of_what_nobody_took_is_found() {
    notices(Mutant::ConfirmWhileDown, what_nobody_can_take_is_refused);
}

/// Or its publisher would stand still for ever.
#[test]
fn a_publisher_may_send_again_as_much_as_was_reported_either_way() {
    let mut play = Play::new();
    play.find(1);
    let bytes = message().memory_bytes();
    assert_eq!(play.publish(1).released, 0);
    assert_eq!(play.publish(2).released, 0);
    let channel = play.channel;
    let confirmed = play.hear(AgentEvent::Report(ChannelEvent::Confirmed { channel, runs: vec![(1, 1)] }));
    assert_eq!(confirmed.released, bytes);
    play.lose();
    let down = play.hear(AgentEvent::Leader(Place::Down));
    assert_eq!(down.released, bytes);
    assert_eq!((play.publish(3).released, play.agent.kept_bytes()), (bytes, 0));
}

#[test]
fn room_that_is_lost_with_a_leader_is_found() {
    notices(Mutant::KeepRoom, a_publisher_may_send_again_as_much_as_was_reported_either_way);
}
