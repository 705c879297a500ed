//! The node's sums of what its clients have counted, by virtual host and by exchange.
//!
//! Nothing is added message by message: a connection adds what its channels have counted when somebody asks for
//! the sums, and a channel that ends adds its rest. So the sums of the node never fall, whoever leaves, and who is
//! too busy to answer in time is a little late in them. What was deleted is forgotten, as in RabbitMQ, but for the
//! sum of all.

use std::collections::BTreeMap;

use broker::Name;
use broker::metadata::Tables;
use broker::status::Counters;
use broker::traffic::{Passed, Traffic};
use management::node::{ExchangeCounters, Totals, VhostCounters};
use parking_lot::Mutex;

/// Bytes that a connection has received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Octets {
    pub received: u64,
    pub sent: u64,
}

#[derive(Debug, Default)]
struct OfVhost {
    messages: Counters,
    octets: Octets,
    exchanges: BTreeMap<Name, Passed>,
}

#[derive(Debug, Default)]
struct Inner {
    messages: Counters,
    vhosts: BTreeMap<Name, OfVhost>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Sums(Mutex<Inner>);

impl Sums {
    /// Adds what clients of a virtual host have counted.
    pub(crate) fn add(&self, vhost: &Name, traffic: Traffic, octets: Octets) {
        let mut inner = self.0.lock();
        inner.messages += &traffic.messages;
        let sums = inner.vhosts.entry(Name::clone(vhost)).or_default();
        sums.messages += &traffic.messages;
        sums.octets.received += octets.received;
        sums.octets.sent += octets.sent;
        for (exchange, passed) in traffic.exchanges {
            let exchange = String::from_utf8_lossy(&exchange);
            match sums.exchanges.get_mut(&*exchange) {
                Some(known) => *known += passed,
                None => drop(sums.exchanges.insert(exchange.into(), passed)),
            }
        }
    }

    /// Adds messages that were got over HTTP. Those that stay got count as got without acknowledgement, as in
    /// RabbitMQ; who asked for more than there were has found the queue empty once.
    pub(crate) fn fetched(&self, vhost: &Name, asked: u32, found: usize, redelivered: usize, is_acked: bool) {
        let mut traffic = Traffic::default();
        let messages = &mut traffic.messages;
        *if is_acked { &mut messages.get_no_ack } else { &mut messages.get } = found as u64;
        messages.redeliver = redelivered as u64;
        messages.get_empty = u64::from(found < asked as usize);
        self.add(vhost, traffic, Octets::default());
    }

    /// Adds what a queue has read from and written to the disk.
    pub(crate) fn add_disk(&self, reads: u64, writes: u64) {
        let mut inner = self.0.lock();
        inner.messages.disk_reads += reads;
        inner.messages.disk_writes += writes;
    }

    /// The sums, of what is still in the tables.
    pub(crate) fn totals(&self, tables: &Tables) -> Totals {
        let mut inner = self.0.lock();
        let mut totals = Totals { messages: inner.messages.clone(), ..Totals::default() };
        inner.vhosts.retain(|name, sums| {
            let Some(vhost) = tables.vhosts.get(name) else { return false };
            sums.exchanges.retain(|exchange, _| vhost.exchanges.get(exchange).is_some());
            totals.exchanges.extend(sums.exchanges.iter().map(|(exchange, passed)| ExchangeCounters {
                vhost: Name::clone(name),
                exchange: Name::clone(exchange),
                publish_in: passed.publish_in,
                publish_out: passed.publish_out,
            }));
            totals.vhosts.push(VhostCounters {
                vhost: Name::clone(name),
                messages: sums.messages.clone(),
                received_bytes: sums.octets.received,
                sent_bytes: sums.octets.sent,
            });
            true
        });
        totals
    }
}

/// Adds the sums of another node.
pub(crate) fn merge(all: &mut Totals, more: Totals) {
    all.messages += &more.messages;
    let mut vhosts: BTreeMap<Name, VhostCounters> =
        std::mem::take(&mut all.vhosts).into_iter().map(|sums| (Name::clone(&sums.vhost), sums)).collect();
    for more in more.vhosts {
        let sums = vhosts.entry(Name::clone(&more.vhost)).or_default();
        sums.vhost = more.vhost;
        sums.messages += &more.messages;
        sums.received_bytes += more.received_bytes;
        sums.sent_bytes += more.sent_bytes;
    }
    all.vhosts = vhosts.into_values().collect();
    let key = |sums: &ExchangeCounters| (Name::clone(&sums.vhost), Name::clone(&sums.exchange));
    let mut exchanges: BTreeMap<(Name, Name), ExchangeCounters> =
        std::mem::take(&mut all.exchanges).into_iter().map(|sums| (key(&sums), sums)).collect();
    for more in more.exchanges {
        let sums = exchanges.entry(key(&more)).or_default();
        sums.publish_in += more.publish_in;
        sums.publish_out += more.publish_out;
        (sums.vhost, sums.exchange) = (more.vhost, more.exchange);
    }
    all.exchanges = exchanges.into_values().collect();
}

#[cfg(test)]
mod tests {
    use broker::metadata::{Command, Metadata, VhostSpec};

    use super::*;

    /// Sums of publishes to `exchange` of the virtual host `/`, each to two queues.
    fn published(sums: &Sums, exchange: &str, count: u64) {
        let mut traffic = Traffic::default();
        traffic.messages.publish = count;
        let passed = Passed { publish_in: count, publish_out: 2 * count };
        traffic.exchanges.insert(exchange.as_bytes().to_vec(), passed);
        sums.add(&"/".into(), traffic, Octets { received: 100, sent: 7 });
    }

    #[test]
    fn sums_stay_when_what_they_are_of_is_deleted_but_nobody_is_shown_it() {
        let mut metadata = Metadata::new();
        let vhost = VhostSpec { name: "/".into(), ..VhostSpec::default() };
        metadata.apply(1, &Command::PutVhost(vhost)).0.unwrap();
        let sums = Sums::default();
        published(&sums, "amq.fanout", 5);
        published(&sums, "gone", 3);
        sums.add_disk(1, 4);
        let totals = sums.totals(&metadata.tables());
        assert_eq!((totals.messages.publish, totals.messages.disk_reads, totals.messages.disk_writes), (8, 1, 4));
        let [vhost] = &totals.vhosts[..] else { panic!("{totals:?}") };
        assert_eq!((vhost.messages.publish, vhost.received_bytes, vhost.sent_bytes), (8, 200, 14));
        let [exchange] = &totals.exchanges[..] else { panic!("{totals:?}") };
        assert_eq!((&*exchange.exchange, exchange.publish_in, exchange.publish_out), ("amq.fanout", 5, 10));
        let without = sums.totals(&Metadata::new().tables());
        assert_eq!((without.messages.publish, without.vhosts.len(), without.exchanges.len()), (8, 0, 0));
    }

    #[test]
    fn sums_of_nodes_are_added_by_name() {
        let of = |vhost: &str, exchange: &str, count| {
            let (vhost, exchange): (Name, Name) = (vhost.into(), exchange.into());
            let messages = Counters { publish: count, ..Counters::default() };
            let of_vhost =
                VhostCounters { vhost: Name::clone(&vhost), messages: messages.clone(), received_bytes: count, sent_bytes: 1 };
            let of_exchange = ExchangeCounters { vhost, exchange, publish_in: count, publish_out: 1 };
            Totals { messages, vhosts: vec![of_vhost], exchanges: vec![of_exchange], ..Totals::default() }
        };
        let mut all = of("b", "x", 1);
        for more in [of("b", "y", 2), of("a", "x", 4), of("b", "x", 8)] {
            merge(&mut all, more);
        }
        assert_eq!(all.messages.publish, 15);
        let vhosts: Vec<_> =
            all.vhosts.iter().map(|it| (&*it.vhost, it.messages.publish, it.received_bytes, it.sent_bytes)).collect();
        assert_eq!(vhosts, [("a", 4, 4, 1), ("b", 11, 11, 3)]);
        let exchanges: Vec<_> =
            all.exchanges.iter().map(|it| (&*it.vhost, &*it.exchange, it.publish_in, it.publish_out)).collect();
        assert_eq!(exchanges, [("a", "x", 4, 1), ("b", "x", 9, 2), ("b", "y", 2, 1)]);
    }
}
