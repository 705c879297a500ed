//! The task of one agent, as the server's driver of that name has it.

use std::time::Duration;

use broker::QueueId;
use broker::agent::{Agent, AgentEffects, AgentEvent, Place};
use broker::queue::QueueEvent;
use cluster::metadata_log::NodeId;
use stdx::Time;

use super::network::Packet;
use super::node::{Actor, Handle, Mail, TaskId};
use super::world::World;

const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Whom the agent speaks to.
#[derive(Clone, Copy, Debug)]
enum Leader {
    Here(TaskId),
    There(NodeId),
    Nobody,
}

/// See the file's head.
pub(super) struct AgentDriver {
    node: NodeId,
    id: QueueId,
    pub(super) agent: Agent,
    fx: AgentEffects,
    leader: Leader,
    refusals: u64,
    asks_again: bool,
    is_new: bool,
}

impl AgentDriver {
    pub(super) fn start(world: &mut World, node: NodeId, id: QueueId) -> Handle {
        let task = world.new_task();
        let session = world.new_connection(node);
        world.process(node).desks.insert(session, task);
        let driver = AgentDriver {
            node,
            id,
            agent: Agent::new(id, session),
            fx: AgentEffects::default(),
            leader: Leader::Nobody,
            refusals: 1,
            asks_again: false,
            is_new: true,
        };
        world.spawn(node, task, Actor::Agent(Box::new(driver)));
        Handle { task, is_agent: true, life: 0 }
    }

    pub(super) fn run(&mut self, world: &mut World, mail: Vec<Mail>) -> Option<Time> {
        let now = world.clock(self.node);
        if std::mem::take(&mut self.is_new) {
            self.look_for_leader(world);
            self.obey(world);
        }
        let (reports, mail): (Vec<Mail>, Vec<Mail>) = mail.into_iter().partition(|mail| matches!(mail, Mail::Channel(_)));
        for report in reports {
            if let Mail::Channel(event) = report {
                self.agent.handle(now, AgentEvent::Report(event), &mut self.fx);
            }
        }
        if std::mem::take(&mut self.asks_again) {
            self.look_for_leader(world);
        }
        for mail in mail {
            match mail {
                Mail::Event(event) => self.agent.handle(now, AgentEvent::Queue(event), &mut self.fx),
                Mail::Answered(channel, question) => {
                    self.agent.handle(now, AgentEvent::Answered(channel, question), &mut self.fx);
                }
                Mail::Record(_) | Mail::Recheck => self.look_for_leader(world),
                Mail::NotLeader(from, attempt) => self.not_leader(world, from, attempt),
                Mail::Channel(_) | Mail::Stop | Mail::Mirror(_) | Mail::Close => {}
            }
        }
        self.agent.handle(now, AgentEvent::Tick, &mut self.fx);
        self.obey(world);
        let soon = self.asks_again.then(|| now + ASK_AGAIN);
        self.agent.deadline().into_iter().chain(soon).min()
    }

    fn look_for_leader(&mut self, world: &mut World) {
        let (leader, place) = self.find(world);
        self.leader = leader;
        self.agent.handle(world.clock(self.node), AgentEvent::Leader(place), &mut self.fx);
    }

    /// Where the tables and the links say that the leader is.
    fn find(&self, world: &mut World) -> (Leader, Place) {
        let process = world.process(self.node);
        let Some(record) = process.record(self.id) else { return (Leader::Nobody, Place::Waiting) };
        if !record.view.is_running() {
            return (Leader::Nobody, Place::Down);
        }
        let home = record.leader();
        if home == self.node {
            return match process.leading.get(&self.id) {
                Some(handle) => {
                    (Leader::Here(handle.task), Place::Attached { life: handle.life << 8 | self.refusals & 0xFF })
                }
                None => (Leader::Nobody, Place::Waiting),
            };
        }
        match process.line_lives.get(&home) {
            Some(life) => {
                let life = life.wrapping_mul(0x9E37_79B9).wrapping_add(record.view.led_since) << 8;
                (Leader::There(home), Place::Attached { life: life | self.refusals & 0xFF })
            }
            None if !process.tables.nodes.is_up(home) => (Leader::Nobody, Place::Down),
            None => (Leader::Nobody, Place::Waiting),
        }
    }

    fn not_leader(&mut self, world: &World, from: NodeId, attempt: u64) {
        let asked = match self.leader {
            Leader::There(peer) => peer,
            Leader::Here(_) => self.node,
            Leader::Nobody => return,
        };
        if world.breaks(super::Mutant::HeedNoRefusal) {
            return;
        }
        if asked == from && (attempt == 0 || attempt == self.refusals) {
            self.refusals += 1;
            self.leader = Leader::Nobody;
            self.agent.handle(world.clock(self.node), AgentEvent::Leader(Place::Waiting), &mut self.fx);
            self.asks_again = true;
        }
    }

    fn obey(&mut self, world: &mut World) {
        let mut refused = false;
        for event in std::mem::take(&mut self.fx.to_leader) {
            refused |= !self.tell_leader(world, event);
        }
        for (connection, event) in self.fx.to_connections.drain(..) {
            if let Some(task) = world.process(self.node).partner(connection) {
                let _ = world.push(self.node, task, Mail::Channel(event));
            }
        }
        self.fx.released = 0;
        if refused {
            self.not_leader(world, self.node, 0);
        }
    }

    fn tell_leader(&self, world: &mut World, event: QueueEvent) -> bool {
        match self.leader {
            Leader::Here(task) => world.push(self.node, task, Mail::Event(event)).is_ok(),
            Leader::There(peer) => {
                let mut bytes = Vec::new();
                broker::packet::encode_to_queue(&mut bytes, self.id, self.refusals, &event);
                world.send(self.node, peer, Packet::Broker(bytes));
                true
            }
            Leader::Nobody => true,
        }
    }
}
