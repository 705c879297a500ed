//! What is sampled of each kind of object, and how it is shown with its rates.
//!
//! A group of message counters appears in `message_stats` when one of the group has counted something;
//! an object without any has no `message_stats` at all. Values are of the moment, rates come from the
//! samples.

use broker::status::{ChannelStatus, ConnectionStatus, Counters, QueueStatus};
use serde_json::{Value as Json, json};

use crate::node::{Churn, ExchangeCounters, NodeStatus, Totals, VhostCounters};
use crate::stats::{self, Range, Series};
use crate::value::Object;

/// A column: its name and how it is read.
type Column<T> = (&'static str, fn(&T) -> u64);

/// The columns of `message_stats`; the groups are slices of it.
const MESSAGES: &[Column<Counters>] = &[
    ("publish", |c| c.publish),
    ("confirm", |c| c.confirm),
    ("return_unroutable", |c| c.return_unroutable),
    ("drop_unroutable", |c| c.drop_unroutable),
    ("get", |c| c.get),
    ("get_no_ack", |c| c.get_no_ack),
    ("deliver", |c| c.deliver),
    ("deliver_no_ack", |c| c.deliver_no_ack),
    ("redeliver", |c| c.redeliver),
    ("ack", |c| c.ack),
    ("deliver_get", |c| {
        c.deliver + c.deliver_no_ack + c.get + c.get_no_ack
    }),
    ("get_empty", |c| c.get_empty),
    ("disk_reads", |c| c.disk_reads),
    ("disk_writes", |c| c.disk_writes),
];

/// A part of [`MESSAGES`] that is shown or absent as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Group {
    from: usize,
    to: usize,
}

const PUBLISHED: Group = Group { from: 0, to: 4 };
/// A queue sees what is published to it and nothing of confirms.
const ENQUEUED: Group = Group { from: 0, to: 1 };
const DELIVERED: Group = Group { from: 4, to: 12 };
const DISK: Group = Group { from: 12, to: 14 };

/// Messages in queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub(crate) ready: u64,
    pub(crate) unacked: u64,
}

const LENGTHS: &[Column<Lengths>] = &[
    ("messages", |l| l.ready + l.unacked),
    ("messages_ready", |l| l.ready),
    ("messages_unacknowledged", |l| l.unacked),
];

impl Lengths {
    pub(crate) const fn of(status: &QueueStatus) -> Lengths {
        Lengths {
            ready: status.messages_ready,
            unacked: status.messages_unacked,
        }
    }

    /// Adds what a queue holds.
    pub(crate) const fn add(&mut self, status: &QueueStatus) {
        self.ready += status.messages_ready;
        self.unacked += status.messages_unacked;
    }
}

const CHURN: &[Column<Churn>] = &[
    ("channel_closed", |c| c.channels_closed),
    ("channel_created", |c| c.channels_created),
    ("connection_closed", |c| c.connections_closed),
    ("connection_created", |c| c.connections_created),
    ("queue_created", |c| c.queues_created),
    ("queue_declared", |c| c.queues_declared),
    ("queue_deleted", |c| c.queues_deleted),
];

const VHOST_OCTETS: &[Column<VhostCounters>] = &[
    ("recv_oct", |v| v.received_bytes),
    ("send_oct", |v| v.sent_bytes),
];

const CONNECTION: &[Column<ConnectionStatus>] = &[
    ("recv_oct", |c| c.received_bytes),
    ("send_oct", |c| c.sent_bytes),
];

const EXCHANGE: &[Column<ExchangeCounters>] = &[
    ("publish_in", |x| x.publish_in),
    ("publish_out", |x| x.publish_out),
];

const NODE: &[Column<NodeStatus>] = &[
    ("mem_used", |n| n.memory_used),
    ("fd_used", |n| n.fds_used),
    ("sockets_used", |n| n.sockets_used),
    ("proc_used", |n| n.tasks),
    ("disk_free", |n| n.disk_free),
    // Memory is given back at once; nothing is collected.
    ("gc_num", |_| 0),
    ("gc_bytes_reclaimed", |_| 0),
    ("context_switches", |n| n.context_switches),
    ("io_read_count", |n| n.disk.reads),
    ("io_read_bytes", |n| n.disk.read_bytes),
    ("io_write_count", |n| n.disk.writes),
    ("io_write_bytes", |n| n.disk.write_bytes),
    ("io_sync_count", |n| n.disk.syncs),
];

fn read<'a, T>(columns: &'a [Column<T>], of: &'a T) -> impl Iterator<Item = u64> + 'a {
    columns.iter().map(move |(_, column)| column(of))
}

/// The rows that are sampled. Their order is the order in which the functions below show them.
pub(crate) mod row {
    use super::*;

    pub(crate) fn cluster(totals: &Totals, lengths: Lengths) -> Vec<u64> {
        read(LENGTHS, &lengths)
            .chain(read(MESSAGES, &totals.messages))
            .chain(read(CHURN, &totals.churn))
            .collect()
    }

    pub(crate) fn vhost(counters: &VhostCounters, lengths: Lengths) -> Vec<u64> {
        read(LENGTHS, &lengths)
            .chain(read(MESSAGES, &counters.messages))
            .chain(read(VHOST_OCTETS, counters))
            .collect()
    }

    pub(crate) fn queue(status: &QueueStatus) -> Vec<u64> {
        let lengths = Lengths::of(status);
        read(LENGTHS, &lengths)
            .chain(read(MESSAGES, &status.counters))
            .collect()
    }

    pub(crate) fn channel(status: &ChannelStatus) -> Vec<u64> {
        read(MESSAGES, &status.counters).collect()
    }

    pub(crate) fn connection(status: &ConnectionStatus) -> Vec<u64> {
        read(CONNECTION, status).collect()
    }

    pub(crate) fn exchange(counters: &ExchangeCounters) -> Vec<u64> {
        read(EXCHANGE, counters).collect()
    }

    pub(crate) fn node(status: &NodeStatus) -> Vec<u64> {
        read(NODE, status)
            .chain(read(CHURN, &status.churn))
            .collect()
    }
}

/// Samples to take rates from, and the history to show.
#[derive(Clone, Copy)]
pub(crate) struct Rates<'a> {
    pub(crate) series: Option<&'a Series>,
    pub(crate) range: Option<Range>,
}

fn put_columns<T>(
    object: &mut Object,
    columns: &[Column<T>],
    of: &T,
    first: usize,
    rates: Rates<'_>,
) {
    for (index, (name, column)) in columns.iter().enumerate() {
        let series = rates.series.map(|series| (series, first + index));
        stats::put(object, name, json!(column(of)), series, rates.range);
    }
}

/// Puts `messages`, `messages_ready` and `messages_unacknowledged`.
pub(crate) fn put_lengths(object: &mut Object, lengths: Lengths, rates: Rates<'_>) {
    put_columns(object, LENGTHS, &lengths, 0, rates);
}

/// Puts `recv_oct` and `send_oct` of a virtual host.
pub(crate) fn put_vhost_octets(object: &mut Object, counters: &VhostCounters, rates: Rates<'_>) {
    put_columns(
        object,
        VHOST_OCTETS,
        counters,
        LENGTHS.len() + MESSAGES.len(),
        rates,
    );
}

/// Puts `recv_oct` and `send_oct` of a connection.
pub(crate) fn put_connection_octets(
    object: &mut Object,
    status: &ConnectionStatus,
    rates: Rates<'_>,
) {
    put_columns(object, CONNECTION, status, 0, rates);
}

/// Puts what is measured of a node.
pub(crate) fn put_node(object: &mut Object, status: &NodeStatus, rates: Rates<'_>) {
    put_columns(object, NODE, status, 0, rates);
    put_columns(object, CHURN, &status.churn, NODE.len(), rates);
}

/// The object `churn_rates`.
pub(crate) fn churn(churn: &Churn, rates: Rates<'_>) -> Json {
    let mut object = Object::new();
    put_columns(
        &mut object,
        CHURN,
        churn,
        LENGTHS.len() + MESSAGES.len(),
        rates,
    );
    Json::Object(object)
}

/// The object `message_stats` of the cluster; always there.
pub(crate) fn cluster_messages(counters: &Counters, rates: Rates<'_>) -> Json {
    let mut object = messages(counters, &[PUBLISHED, DELIVERED], LENGTHS.len(), rates);
    put_group(&mut object, counters, DISK, LENGTHS.len(), rates);
    Json::Object(object)
}

/// Puts `message_stats` of a virtual host, if there are any.
pub(crate) fn put_vhost_messages(object: &mut Object, counters: &Counters, rates: Rates<'_>) {
    put_messages(
        object,
        messages(counters, &[PUBLISHED, DELIVERED], LENGTHS.len(), rates),
    );
}

/// Puts `message_stats` of a queue, if there are any.
pub(crate) fn put_queue_messages(object: &mut Object, counters: &Counters, rates: Rates<'_>) {
    put_messages(
        object,
        messages(counters, &[ENQUEUED, DELIVERED], LENGTHS.len(), rates),
    );
}

/// Puts `message_stats` of a channel, if there are any.
pub(crate) fn put_channel_messages(object: &mut Object, counters: &Counters, rates: Rates<'_>) {
    put_messages(
        object,
        messages(counters, &[PUBLISHED, DELIVERED], 0, rates),
    );
}

/// Puts `message_stats` of an exchange, if there are any.
pub(crate) fn put_exchange_messages(
    object: &mut Object,
    counters: &ExchangeCounters,
    rates: Rates<'_>,
) {
    let mut shown = Object::new();
    if read(EXCHANGE, counters).any(|count| count > 0) {
        put_columns(&mut shown, EXCHANGE, counters, 0, rates);
    }
    put_messages(object, shown);
}

fn put_messages(object: &mut Object, messages: Object) {
    if !messages.is_empty() {
        object.insert("message_stats".to_owned(), Json::Object(messages));
    }
}

/// The groups that have counted something. `first` is where [`MESSAGES`] begin in the sampled row.
fn messages(counters: &Counters, groups: &[Group], first: usize, rates: Rates<'_>) -> Object {
    let mut object = Object::new();
    for group in groups {
        let columns = &MESSAGES[group.from..group.to];
        if read(columns, counters).any(|count| count > 0) {
            put_group(&mut object, counters, *group, first, rates);
        }
    }
    object
}

fn put_group(
    object: &mut Object,
    counters: &Counters,
    group: Group,
    first: usize,
    rates: Rates<'_>,
) {
    put_columns(
        object,
        &MESSAGES[group.from..group.to],
        counters,
        first + group.from,
        rates,
    );
}
