//! The node as the HTTP API and `ctl` see it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use amqp::Properties;
use async_trait::async_trait;
use broker::exchange::{Routing, route};
use broker::message::Message;
use broker::metadata::{Command, Outcome, Refusal, Tables};
use broker::queue::{DeleteError, QueueEvent, QueueReply};
use broker::status::{ConnectionStatus, Counters, QueueStatus};
use broker::{ConnectionId, Name, QueueId, user};
use bytes::Bytes;
use management::node::{
    AuthAttempts, Certificate, Churn, ConnectionReport, DiskCounters, Failure, Fetched, Login, Node as Api,
    NodeStatus, Publish, QueueReport, Settle, Totals, Watermark,
};
use tokio::sync::oneshot;

use crate::alarms;
use crate::clock;
use crate::config::{DiskLimit, MemoryWatermark};
use crate::desk::Desk;
use crate::node::{ConnectionMail, Node, ProposeFailure, QueueMail};
use crate::provision;

/// How long a task may take to tell its status.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the file's head.
pub(crate) struct Admin {
    node: Arc<Node>,
    desk: Desk,
    set_log_level: Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>,
}

impl Admin {
    pub(crate) fn new(
        node: Arc<Node>,
        set_log_level: Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>,
    ) -> Admin {
        let desk = Desk::open(&node);
        Admin { node, desk, set_log_level }
    }

    async fn status_of(&self, queue: QueueId) -> Option<QueueStatus> {
        let (reply, wait) = oneshot::channel();
        self.node.queue(queue)?.mailbox.push(QueueMail::Status(reply), 0).ok()?;
        tokio::time::timeout(PATIENCE, wait).await.ok()?.ok()
    }
}

fn unavailable(what: &str) -> Failure {
    Failure::Unavailable(what.to_owned())
}

fn report(status: QueueStatus) -> QueueReport {
    QueueReport { queue: status.id, state: "running", status, ..QueueReport::default() }
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
        match self.node.propose(command).await {
            Ok(outcome) => Ok(outcome),
            Err(ProposeFailure::Refused(refusal)) => Err(Failure::Refused(refusal)),
            Err(ProposeFailure::Unavailable(why)) => Err(Failure::Unavailable(why)),
        }
    }

    async fn queue_statuses(&self) -> Vec<QueueReport> {
        let handles: Vec<_> = self.node.queues.read().values().map(Arc::clone).collect();
        let mut waiting = Vec::with_capacity(handles.len());
        for handle in handles {
            let (reply, wait) = oneshot::channel();
            if handle.mailbox.push(QueueMail::Status(reply), 0).is_ok() {
                waiting.push(wait);
            }
        }
        let mut reports = Vec::with_capacity(waiting.len());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for wait in waiting {
            if let Ok(Ok(status)) = tokio::time::timeout_at(deadline, wait).await {
                reports.push(report(status));
            }
        }
        reports
    }

    async fn queue_status(&self, queue: QueueId) -> Option<QueueReport> {
        self.status_of(queue).await.map(report)
    }

    async fn connections(&self) -> Vec<ConnectionReport> {
        let handles: Vec<_> = self.node.connections.read().values().map(Arc::clone).collect();
        let mut waiting: Vec<oneshot::Receiver<ConnectionStatus>> = Vec::with_capacity(handles.len());
        for handle in handles {
            let (reply, wait) = oneshot::channel();
            if handle.mailbox.push(ConnectionMail::Status(reply), 0).is_ok() {
                waiting.push(wait);
            }
        }
        let mut reports = Vec::with_capacity(waiting.len());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for wait in waiting {
            if let Ok(Ok(status)) = tokio::time::timeout_at(deadline, wait).await
                && !status.vhost.is_empty()
            {
                reports.push(ConnectionReport { node: Arc::clone(&self.node.name), status });
            }
        }
        reports
    }

    async fn close_connection(&self, connection: ConnectionId, reason: &str) -> bool {
        let Some(handle) = self.node.connections.read().get(&connection).map(Arc::clone) else { return false };
        handle.mailbox.push(ConnectionMail::Close(reason.to_owned()), 0).is_ok()
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
        let tables = self.node.tables.load_full();
        let missing = || {
            let (vhost, name) = (Arc::clone(&publish.vhost), Arc::clone(&publish.exchange));
            Failure::Refused(Refusal::NoSuchExchange { vhost, name })
        };
        let vhost = tables.vhosts.get(&publish.vhost).ok_or_else(missing)?;
        let exchange = vhost.exchanges.get(&publish.exchange).ok_or_else(missing)?;
        let properties = publish.properties.to_bytes();
        let message = Message::new(publish.exchange.as_bytes(), &publish.routing_key, &properties, &publish.payload);
        let Some(message) = message else {
            return Err(Failure::Refused(Refusal::Invalid("the message has a name over 255 bytes".to_owned())));
        };
        let mut targets = Vec::new();
        let view = message.view();
        let routing = Routing { keys: &[&publish.routing_key], properties: &view, random: clock::random() };
        route(&tables, vhost, exchange, &routing, &mut targets);
        let mut taken = false;
        for queue in &targets {
            match self.desk.publish(&self.node, queue.id, message.clone()).await {
                Some(safe) => taken |= safe,
                None => return Err(unavailable("the queue did not answer in time")),
            }
        }
        Ok(taken)
    }

    async fn get(&self, queue: QueueId, count: u32, settle: Settle) -> Result<Vec<Fetched>, Failure> {
        let settle = |channel, seqs: Vec<store::Seq>| match settle {
            Settle::Ack => QueueEvent::Ack { channel, runs: seqs.into_iter().map(|s| (s, s)).collect() },
            Settle::Requeue => QueueEvent::Reject { channel, seqs, requeue: true },
            Settle::Reject => QueueEvent::Reject { channel, seqs, requeue: false },
        };
        let found = self.desk.get(&self.node, queue, count, settle).await;
        let found = found.ok_or_else(|| unavailable("the queue did not answer in time"))?;
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
            _ => Err(unavailable("the queue did not answer in time")),
        }
    }

    async fn delete_queue(&self, queue: QueueId, if_unused: bool, if_empty: bool) -> Result<u64, Failure> {
        let tables = self.node.tables.load_full();
        let Some(record) = tables.queues.get(&queue) else { return Ok(0) };
        let make = |channel| QueueEvent::Delete { channel, if_unused, if_empty };
        let why = match self.desk.question(&self.node, queue, make).await {
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

    async fn synchronize(&self, _queue: QueueId, _start: bool) -> Result<(), Failure> {
        Err(Failure::Refused(Refusal::NotImplemented("this queue has no mirrors to synchronise".to_owned())))
    }

    async fn rebalance(&self) -> Result<(), Failure> {
        // One node leads every queue: there is nothing to spread.
        Ok(())
    }

    async fn status(&self) -> NodeStatus {
        self.node_status()
    }

    async fn nodes(&self) -> Vec<NodeStatus> {
        vec![self.node_status()]
    }

    async fn totals(&self) -> Totals {
        let mut messages = Counters::default();
        for report in self.queue_statuses().await {
            messages += &report.status.counters;
        }
        Totals { messages, churn: self.churn(), ..Totals::default() }
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
        (self.set_log_level)(level).map_err(|why| Failure::Refused(Refusal::Invalid(why)))
    }

    fn stop(&self) {
        let node = Arc::clone(&self.node);
        // The answer to whoever asked leaves first.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            node.stop();
        });
    }
}

impl Admin {
    fn churn(&self) -> Churn {
        let c = &self.node.counters;
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Churn {
            connections_created: get(&c.connections_created),
            connections_closed: get(&c.connections_closed),
            channels_created: get(&c.channels_created),
            channels_closed: get(&c.channels_closed),
            queues_declared: get(&c.queues_declared),
            queues_created: get(&c.queues_created),
            queues_deleted: get(&c.queues_deleted),
        }
    }

    fn node_status(&self) -> NodeStatus {
        let node = &self.node;
        let resources = &node.resources;
        let counters = &node.counters;
        let (syncs, sync_nanos, written) = node.log.counters();
        let config = &node.config;
        NodeStatus {
            name: Arc::clone(&node.name),
            running: true,
            in_service: !node.is_stopping.load(Ordering::Acquire),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: Duration::from_millis(clock::now().as_millis()),
            os_pid: std::process::id(),
            memory_used: alarms::memory_used(),
            memory_limit: resources.memory_limit.load(Ordering::Relaxed),
            memory_alarm: resources.memory_alarm(),
            memory_total: resources.memory_total.load(Ordering::Relaxed),
            memory_watermark: match config.resources.vm_memory_high_watermark {
                MemoryWatermark::Relative(share) => Some(share),
                MemoryWatermark::Absolute(_) => None,
            },
            disk_free: resources.disk_free.load(Ordering::Relaxed),
            disk_free_limit: resources.disk_limit.load(Ordering::Relaxed),
            disk_free_alarm: resources.disk_alarm(),
            fds_used: count_files("/proc/self/fd"),
            fds_total: fd_limit(),
            sockets_used: node.connections.read().len() as u64,
            sockets_total: fd_limit(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64,
            processors: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            listeners: node.listeners.read().clone(),
            data_dir: config.data_dir.display().to_string(),
            log_files: config.log_file().map_or_else(|| vec!["stdout".to_owned()], |f| vec![f.display().to_string()]),
            config_files: config.files.iter().map(|f| f.display().to_string()).collect(),
            disk: DiskCounters {
                writes: syncs,
                write_bytes: written,
                syncs,
                sync_time: Duration::from_nanos(sync_nanos),
                ..DiskCounters::default()
            },
            churn: self.churn(),
            auth_attempts: vec![AuthAttempts {
                protocol: "amqp091",
                succeeded: counters.logins.load(Ordering::Relaxed),
                failed: counters.logins_failed.load(Ordering::Relaxed),
            }],
            voter: true,
            connection_limit: config.limits.connection_max,
            ..NodeStatus::default()
        }
    }
}

fn count_files(dir: &str) -> u64 {
    std::fs::read_dir(dir).map_or(0, |entries| entries.count() as u64)
}

fn fd_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0)
}

