//! Reads all counters there are, for a sample.

use std::collections::BTreeMap;

use broker::Name;
use broker::metadata::Tables;

use crate::counters::{Lengths, row};
use crate::node::{Node, QueueReport, VhostCounters};
use crate::stats::{Key, Observation};

/// One observation of every object that is counted.
pub(crate) async fn observe(node: &dyn Node) -> Vec<Observation> {
    let queues = node.queue_statuses().await;
    let totals = node.totals().await;
    let tables = node.tables();
    let mut all = Vec::new();
    let mut put = |key: Key, numbers: Vec<u64>| all.push(Observation { key, numbers });
    let mut lengths = Lengths::default();
    for report in &queues {
        let Some(queue) = report.queue else { continue };
        lengths.add(&report.status);
        put(Key::Queue(queue), row::queue(&report.status));
    }
    put(Key::Cluster, row::cluster(&totals, lengths));
    for (vhost, lengths) in lengths_by_vhost(&tables, &queues) {
        let counters = totals
            .vhosts
            .iter()
            .find(|counters| counters.vhost == vhost);
        let unused = VhostCounters::default();
        put(
            Key::Vhost(vhost),
            row::vhost(counters.unwrap_or(&unused), lengths),
        );
    }
    for counters in &totals.exchanges {
        let key = Key::Exchange(
            Name::clone(&counters.vhost),
            Name::clone(&counters.exchange),
        );
        put(key, row::exchange(counters));
    }
    for report in node.connections().await {
        let id = report.status.id;
        put(Key::Connection(id), row::connection(&report.status));
        for channel in &report.status.channels {
            put(Key::Channel(id, channel.number), row::channel(channel));
        }
    }
    for status in node.nodes().await.iter().filter(|status| status.running) {
        put(Key::Node(Name::clone(&status.name)), row::node(status));
    }
    all
}

/// Messages in the queues of every virtual host, those without queues included.
pub(crate) fn lengths_by_vhost(tables: &Tables, queues: &[QueueReport]) -> BTreeMap<Name, Lengths> {
    let all = tables
        .vhosts
        .keys()
        .map(|name| (Name::clone(name), Lengths::default()));
    let mut lengths: BTreeMap<Name, Lengths> = all.collect();
    for report in queues {
        let queue = report.queue.and_then(|queue| tables.queues.get(&queue));
        if let Some(vhost) = queue.and_then(|queue| lengths.get_mut(&queue.vhost)) {
            vhost.add(&report.status);
        }
    }
    lengths
}
