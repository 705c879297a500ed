//! A learner without which nothing is answered: how two nodes share one log.
//!
//! Two voters would need each other for everything. So one votes and the other is its *synchronous
//! learner*: the leader answers a proposal only when the learner has the entry on its disk too, and
//! either disk alone holds all that was answered. A learner that makes no progress for a while is
//! *lagging*: nobody waits for it until it holds everything again.
//!
//! ```text
//! in step --- no progress --> lagging --- a fast round --> returning --- holds all --> in step
//!                                ^---------- no progress ------'
//! ```
//!
//! Invariant: in step, the learner's disk holds every answered entry. Returning, proposals wait for
//! it already, and what was answered before lies at or below the index it has to reach.

use std::time::Duration;

use cluster::metadata_log::NodeId;
use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::types::{LogId, Raft};

/// The learner that is waited for and where it stands, as the leader sees it.
pub(crate) struct Synchronous {
    standing: watch::Sender<Standing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    learner: Option<NodeId>,
    /// The term in which this node learned the rest.
    term: u64,
    held: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    InStep,
    Lagging,
    /// Up to which index it has to hold everything; none while that is being found out.
    Returning(Option<u64>),
}

/// What the leader's engine says of the learner.
struct Sight {
    term: u64,
    last: u64,
    held: u64,
    /// How long it has replied to nothing.
    silence: Option<Duration>,
}

/// What is remembered between two looks.
struct Watcher {
    since: Instant,
    progress: Instant,
    round: Instant,
    round_upto: u64,
}

impl Synchronous {
    pub(crate) fn new() -> Self {
        let (standing, _) = watch::channel(Standing {
            learner: None,
            term: 0,
            held: 0,
            phase: Phase::InStep,
        });
        Synchronous { standing }
    }

    pub(crate) fn set(&self, learner: Option<NodeId>) {
        self.renew(|standing| std::mem::replace(&mut standing.learner, learner) != learner);
    }

    /// Begins anew where `update` has changed whom or what the standing is about.
    fn renew(&self, update: impl FnOnce(&mut Standing) -> bool) {
        self.standing.send_if_modified(|standing| {
            let changes = update(standing);
            if changes {
                (standing.held, standing.phase) = (0, Phase::InStep);
            }
            changes
        });
    }

    /// The learner, and whether it is not waited for or does not hold everything yet.
    pub(crate) fn status(&self) -> (Option<NodeId>, bool) {
        let standing = *self.standing.borrow();
        (
            standing.learner,
            standing.learner.is_some() && standing.phase != Phase::InStep,
        )
    }

    /// Waits until the learner holds the entry at `id`, or is not waited for. False where this node
    /// has lost the lead meanwhile, so that it does not learn about it.
    pub(crate) async fn holds(&self, id: &LogId) -> bool {
        let term = id.leader_id.term;
        if self.standing.borrow().learner.is_none() {
            return true;
        }
        let mut standing = self.standing.subscribe();
        let settled = standing.wait_for(|standing| {
            standing.learner.is_none()
                || standing.term > term
                || standing.term == term
                    && (standing.phase == Phase::Lagging || standing.held >= id.index)
        });
        match settled.await {
            Ok(standing) => standing.learner.is_none() || standing.term == term,
            Err(_) => false,
        }
    }

    /// Keeps the standing true while this node leads; ends with the engine.
    pub(crate) async fn attend(&self, raft: Raft, lag: Duration) {
        let (mut server, mut data) = (raft.server_metrics(), raft.data_metrics());
        let mut standing = self.standing.subscribe();
        let mut watcher = Watcher::new();
        let mut seen = *standing.borrow_and_update();
        loop {
            let now = *standing.borrow_and_update();
            if (now.learner, now.term) != (seen.learner, seen.term) {
                watcher = Watcher::new();
            }
            let leads = server.borrow_watched().state == ServerState::Leader;
            let sight = now.learner.filter(|_| leads).map(|id| sight(&raft, id));
            match sight {
                Some(sight) => self.look(&mut watcher, now, &sight, lag),
                None => self.forget(server.borrow_watched().vote.leader_id.term),
            }
            seen = *self.standing.borrow();
            if seen.phase == Phase::Returning(None) {
                // Read behind everything that was answered without the learner.
                let last = raft.with_raft_state(|state| state.log_ids.last().map(|id| id.index));
                let Ok(last) = last.await else { return };
                self.standing.send_if_modified(|standing| {
                    let same = *standing == seen;
                    if same {
                        standing.phase = Phase::Returning(Some(last.unwrap_or(0)));
                    }
                    same
                });
                continue;
            }
            tokio::select! {
                changed = data.changed(), if sight_matters(&seen, leads) => {
                    if changed.is_err() { return }
                }
                () = tokio::time::sleep(lag / 4), if sight_matters(&seen, leads) => {}
                changed = server.changed() => if changed.is_err() { return },
                changed = standing.changed() => if changed.is_err() { return },
            }
        }
    }

    /// What is known of the learner is of no use in another term.
    fn forget(&self, term: u64) {
        self.renew(|standing| std::mem::replace(&mut standing.term, term) != term);
    }

    fn look(&self, watcher: &mut Watcher, before: Standing, sight: &Sight, lag: Duration) {
        if before.term != sight.term {
            *watcher = Watcher::new();
            self.forget(sight.term);
        }
        self.standing.send_if_modified(|standing| {
            if standing.learner != before.learner {
                return false;
            }
            let next = watcher.judge(*standing, sight, lag);
            if next.phase != standing.phase {
                tell(&next);
            }
            let changes = *standing != next;
            *standing = next;
            changes
        });
    }
}

fn tell(standing: &Standing) {
    let Some(learner) = standing.learner else { return };
    match standing.phase {
        Phase::InStep => tracing::info!("{learner} holds all metadata, and is waited for before changes are answered"),
        Phase::Lagging => tracing::warn!("{learner} does not keep up with the metadata: changes are answered without it"),
        Phase::Returning(_) => tracing::info!("{learner} gets the metadata that it lacks"),
    }
}

fn sight_matters(standing: &Standing, leads: bool) -> bool {
    leads && standing.learner.is_some()
}

fn sight(raft: &Raft, learner: NodeId) -> Sight {
    let term = raft.server_metrics().borrow_watched().vote.leader_id.term;
    let data = raft.data_metrics();
    let data = data.borrow_watched();
    let held = data
        .replication
        .as_ref()
        .and_then(|all| all.get(&learner.0));
    let heard = data.heartbeat.as_ref().and_then(|all| all.get(&learner.0));
    Sight {
        term,
        last: data.last_log.map_or(0, |id| id.index),
        held: held.copied().flatten().map_or(0, |id| id.index),
        silence: heard.copied().flatten().map(|heard| heard.elapsed()),
    }
}

impl Watcher {
    fn new() -> Self {
        let now = Instant::now();
        Watcher {
            since: now,
            progress: now,
            round: now,
            round_upto: u64::MAX,
        }
    }

    fn judge(&mut self, standing: Standing, sight: &Sight, lag: Duration) -> Standing {
        let now = Instant::now();
        let held = standing.held.max(sight.held);
        if held > standing.held || held >= sight.last {
            self.progress = now;
        }
        let silence = sight.silence.unwrap_or(lag).min(now - self.since);
        let stuck = now - self.progress >= lag || silence >= lag;
        let phase = match standing.phase {
            Phase::InStep | Phase::Returning(_) if stuck => {
                self.round = now;
                self.round_upto = sight.last;
                Phase::Lagging
            }
            Phase::InStep => Phase::InStep,
            Phase::Returning(Some(upto)) if held >= upto => Phase::InStep,
            Phase::Returning(upto) => Phase::Returning(upto),
            // A round is fast when what comes in meanwhile will take no time worth mentioning.
            Phase::Lagging if held >= self.round_upto => {
                let fast = now - self.round < lag / 2;
                self.round = now;
                self.round_upto = sight.last;
                if fast && !stuck {
                    Phase::Returning(None)
                } else {
                    Phase::Lagging
                }
            }
            Phase::Lagging => Phase::Lagging,
        };
        Standing {
            held,
            phase,
            ..standing
        }
    }
}
