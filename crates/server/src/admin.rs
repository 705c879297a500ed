//! The node as the HTTP API and `ctl` see it. What concerns all nodes is gathered by [`crate::listing`].

mod cluster;
mod leaders;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use amqp::Properties;
use async_trait::async_trait;
use broker::channel::post::{Fate, Posting};
use broker::metadata::{Command, Outcome, Queue as Record, Refusal, Tables};
use broker::queue::{DeleteError, QueueEvent, QueueReply};
use broker::{ConnectionId, Name, QueueId, user};
use bytes::Bytes;
use management::host::HostFailure;
use management::node::{
    Certificate, ClusterFacts, ConnectionReport, Failure, Fetched, Login, Node as Api, NodeStatus, Publish, QueueReport,
    RebalanceRequest, RebalanceRow, Settle, Synchronized, Totals, Watermark,
};

use crate::alarms;
use crate::clock;
use crate::config::{DiskLimit, MemoryWatermark};
use crate::desk::{Desk, Found};
use crate::host::ProcessHost;
use crate::listing;
use crate::mirrors;
use crate::node::{Node, ProposeFailure};
use crate::provision;
use crate::seen;

/// See the file's head.
pub(crate) struct Admin {
    node: Arc<Node>,
    host: Arc<ProcessHost>,
    desk: Arc<Desk>,
    /// One rebalance at a time.
    rebalancing: Arc<tokio::sync::Mutex<()>>,
}

impl Admin {
    pub(crate) fn new(node: Arc<Node>, host: Arc<ProcessHost>) -> Admin {
        let desk = Arc::new(Desk::open(&node));
        Admin { node, host, desk, rebalancing: Arc::default() }
    }
}

fn unavailable(what: &str) -> Failure {
    Failure::Unavailable(what.to_owned())
}

fn is_down(tables: &Tables, record: &Record) -> Failure {
    let (node, name, vhost) = (tables.leader_name(record), &record.name, &record.vhost);
    Failure::Unavailable(format!(
        "home node '{node}' of durable queue '{name}' in vhost '{vhost}' is down or inaccessible"
    ))
}

#[async_trait]
impl Api for Admin {
    fn name(&self) -> Name {
        Arc::clone(&self.node.name)
    }

    fn now(&self) -> u64 {
        clock::unix_millis()
    }

    fn salt(&self) -> [u8; 4] {
        (clock::random() as u32).to_be_bytes()
    }

    fn check_password(&self, password: &str) -> Result<(), String> {
        provision::check_password(&self.node.config.access.credential_validator, password)
    }

    fn tables(&self) -> Arc<Tables> {
        self.node.tables.load_full()
    }

    async fn propose(&self, command: Command) -> Result<Outcome, Failure> {
        match seen::propose(&self.node, command).await {
            Ok(outcome) => Ok(outcome),
            Err(ProposeFailure::Refused(refusal)) => Err(Failure::Refused(refusal)),
            Err(ProposeFailure::Unavailable(why)) => Err(Failure::Unavailable(why)),
        }
    }

    async fn queue_statuses(&self) -> Vec<QueueReport> {
        listing::queues(&self.node).await
    }

    async fn queue_status(&self, queue: QueueId) -> Option<QueueReport> {
        listing::queue(&self.node, queue).await
    }

    async fn connections(&self) -> Vec<ConnectionReport> {
        listing::connections(&self.node).await
    }

    async fn close_connection(&self, connection: ConnectionId, reason: &str) -> bool {
        listing::close(&self.node, connection, reason).await
    }

    async fn authenticate(&self, user: &str, password: &[u8], peer: Option<IpAddr>) -> Login {
        let tables = self.node.tables.load_full();
        if !user::authenticate(tables.users.get(user).map(|u| &**u), password) {
            return Login::Refused;
        }
        let loopback_only = self.node.config.access.loopback_users.contains(user);
        let is_local = peer.is_none_or(|ip| ip.to_canonical().is_loopback());
        if loopback_only && !is_local { Login::LoopbackOnly } else { Login::Accepted }
    }

    async fn publish(&self, publish: Publish) -> Result<bool, Failure> {
        if publish.routing_key.len() > amqp::short_str::SHORT_STR_BYTES_MAX {
            return Err(Failure::Refused(Refusal::Invalid("the routing key is longer than 255 bytes".to_owned())));
        }
        let posting = Posting {
            user: &publish.user,
            trusted: publish.trusted,
            vhost: &publish.vhost,
            exchange: &publish.exchange,
            routing_key: &publish.routing_key,
            properties: &publish.properties,
            body: &publish.payload,
        };
        match self.desk.publish(&self.node, &posting).await {
            Ok(Some(Fate::Taken)) => Ok(true),
            Ok(Some(Fate::Unroutable)) => Ok(false),
            Ok(Some(Fate::Rejected)) => Err(Failure::Rejected),
            Ok(None) => Err(unavailable("the queue did not answer in time")),
            Err(error) => Err(error.into()),
        }
    }

    async fn get(&self, queue: QueueId, count: u32, settle: Settle) -> Result<Vec<Fetched>, Failure> {
        let is_acked = settle == Settle::Ack;
        let settle = move |channel, seqs: Vec<store::Seq>| match settle {
            Settle::Ack => QueueEvent::Ack { channel, runs: seqs.into_iter().map(|s| (s, s)).collect() },
            Settle::Requeue => QueueEvent::Reject { channel, seqs, requeue: true },
            Settle::Reject => QueueEvent::Reject { channel, seqs, requeue: false },
        };
        let (node, desk) = (Arc::clone(&self.node), Arc::clone(&self.desk));
        // A task of its own goes on when the client hangs up.
        let taking = tokio::spawn(async move { desk.get(&node, queue, count, settle).await });
        let found = match taking.await {
            Ok(Found::Messages(found)) => found,
            Ok(Found::Down) => return Err(self.down(queue)),
            Ok(Found::Nothing) | Err(_) => return Err(unavailable("the queue did not answer in time")),
        };
        if let Some(record) = self.node.tables.load().queues.get(&queue) {
            let redelivered = found.iter().filter(|(delivery, _)| delivery.redelivered).count();
            self.node.traffic.fetched(&record.vhost, count, found.len(), redelivered, is_acked);
        }
        let fetched = found.into_iter().map(|(delivery, left)| Fetched {
            redelivered: delivery.redelivered,
            exchange: String::from_utf8_lossy(delivery.message.exchange()).into(),
            routing_key: delivery.message.routing_key().to_vec(),
            properties: Properties::decode(delivery.message.properties()).unwrap_or_default(),
            payload: Bytes::copy_from_slice(delivery.message.body()),
            message_count: left,
        });
        Ok(fetched.collect())
    }

    async fn purge(&self, queue: QueueId) -> Result<u64, Failure> {
        match self.desk.question(&self.node, queue, |channel| QueueEvent::Purge { channel }).await {
            Some(QueueReply::Purged { messages }) => Ok(messages),
            Some(QueueReply::Down) => Err(self.down(queue)),
            _ => Err(unavailable("the queue did not answer in time")),
        }
    }

    async fn delete_queue(&self, queue: QueueId, if_unused: bool, if_empty: bool) -> Result<u64, Failure> {
        let tables = self.node.tables.load_full();
        let Some(record) = tables.queues.get(&queue) else { return Ok(0) };
        let make = |channel| QueueEvent::Delete { channel, if_unused, if_empty };
        let answer = match self.desk.question(&self.node, queue, make).await {
            // Nobody has its messages at hand: it goes with them.
            Some(QueueReply::Down) if if_empty => Some(QueueReply::Deletable(Err(DeleteError::NotEmpty))),
            Some(QueueReply::Down) => Some(QueueReply::Deletable(Ok(0))),
            answer => answer,
        };
        let why = match answer {
            Some(QueueReply::Deletable(Ok(messages))) => {
                let (vhost, name) = (Arc::clone(&record.vhost), Arc::clone(&record.name));
                self.propose(Command::DeleteQueue { vhost, name, only: Some(queue) }).await?;
                return Ok(messages);
            }
            Some(QueueReply::Deletable(Err(DeleteError::InUse))) => "in use",
            Some(QueueReply::Deletable(Err(DeleteError::NotEmpty))) => "not empty",
            Some(QueueReply::Gone) => return Ok(0),
            _ => return Err(unavailable("the queue did not answer in time")),
        };
        let text = format!("queue '{}' in vhost '{}' {why}", record.name, record.vhost);
        Err(Failure::Refused(Refusal::InUse(text)))
    }

    async fn synchronize(&self, queue: QueueId, start: bool) -> Result<Synchronized, Failure> {
        Ok(mirrors::synchronize(&self.node, queue, start).await?)
    }

    async fn rebalance(&self, wanted: RebalanceRequest) -> Result<Vec<RebalanceRow>, Failure> {
        let one = Arc::clone(&self.rebalancing).try_lock_owned().map_err(|_| HostFailure::RebalanceInProgress)?;
        if wanted.wait {
            return leaders::rebalance(&self.node, &wanted).await;
        }
        let node = Arc::clone(&self.node);
        tokio::spawn(async move {
            if let Err(error) = leaders::rebalance(&node, &wanted).await {
                tracing::warn!("queue leaders are not rebalanced: {error}");
            }
            drop(one);
        });
        Ok(Vec::new())
    }

    async fn transfer(&self, queue: QueueId, to: Name) -> Result<(), Failure> {
        leaders::transfer(&self.node, queue, &to).await
    }

    async fn cluster(&self) -> ClusterFacts {
        cluster::facts(&self.node)
    }

    async fn forget(&self, node: Name, force: bool) -> Result<(), Failure> {
        cluster::forget(&self.node, &node, force).await
    }

    async fn drain(&self, on: bool) -> Result<(), Failure> {
        // Whoever is sent away shall not come back at once.
        self.node.shut_by_operator(on);
        crate::maintenance::drain(&self.node, on).await.map_err(Failure::Unavailable)
    }

    async fn suspend_listeners(&self, on: bool) -> Result<(), Failure> {
        self.node.shut_by_operator(on);
        Ok(())
    }

    async fn heal_partition(&self) -> Result<(), Failure> {
        // Whom this node does not hear yet it heals with when they meet.
        if self.node.cut_off().is_empty() {
            return Err(HostFailure::Refused("the cluster is not partitioned".to_owned()).into());
        }
        self.node.heal.store(true, Ordering::Release);
        Ok(())
    }

    async fn discover_peers(&self) -> Result<Vec<Name>, Failure> {
        let found = crate::host::candidates(&self.host).await;
        Ok(found.into_iter().map(Name::from).collect())
    }

    async fn status(&self) -> NodeStatus {
        listing::own_status(&self.node)
    }

    async fn nodes(&self) -> Vec<NodeStatus> {
        listing::nodes(&self.node).await
    }

    async fn totals(&self) -> Totals {
        listing::totals(&self.node).await
    }

    async fn certificates(&self) -> Vec<Certificate> {
        let mut found = Vec::new();
        for (listener, tls) in self.node.tls.read().iter() {
            found.extend(tls.certificates().into_iter().map(|file| Certificate {
                listener: listener.clone(),
                kind: file.kind,
                path: file.path.display().to_string(),
                not_after: file.not_after,
            }));
        }
        found
    }

    fn environment(&self) -> Vec<(String, String)> {
        self.node.config.describe()
    }

    async fn set_memory_watermark(&self, limit: Watermark) -> Result<(), Failure> {
        let limit = match limit {
            Watermark::Relative(share) => MemoryWatermark::Relative(share),
            Watermark::Absolute(bytes) => MemoryWatermark::Absolute(bytes),
        };
        let resources = &self.node.resources;
        let bytes = alarms::memory_bytes(&limit, resources.memory_total.load(Ordering::Relaxed));
        resources.memory_limit.store(bytes, Ordering::Relaxed);
        alarms::check(&self.node);
        Ok(())
    }

    async fn set_disk_free_limit(&self, limit: Watermark) -> Result<(), Failure> {
        let limit = match limit {
            Watermark::Relative(share) => DiskLimit::Relative(share),
            Watermark::Absolute(bytes) => DiskLimit::Absolute(bytes),
        };
        let resources = &self.node.resources;
        let bytes = alarms::disk_bytes(&limit, resources.memory_total.load(Ordering::Relaxed));
        resources.disk_limit.store(bytes, Ordering::Relaxed);
        alarms::check(&self.node);
        Ok(())
    }

    async fn set_log_level(&self, level: &str) -> Result<(), Failure> {
        self.host.logs.set_level(level).map_err(|why| Failure::Refused(Refusal::Invalid(why)))
    }
}

impl Admin {
    fn down(&self, queue: QueueId) -> Failure {
        let tables = self.node.tables.load_full();
        match tables.queues.get(&queue) {
            Some(record) => is_down(&tables, record),
            None => Failure::Refused(Refusal::QueueGone(queue)),
        }
    }
}
