//! Which queues there are, and who uses which: worked out before anything is declared.
//!
//! As PerfTest does it. With a pattern, the producer and consumer channels take the queues in turn
//! and each queue is bound with its own name. With named queues, every consumer consumes from all
//! of them and one routing key leads to all. Without names, each consumer channel has a queue of
//! its own, named by the broker and bound with the one key, so that each receives every message.

use crate::options::Options;

/// A queue that is declared before anybody uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) name: String,
    /// The key of its binding.
    pub(crate) key: String,
}

/// Where a consumer channel gets its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Queues that have names.
    Named(Vec<String>),
    /// A queue of its own, bound with this key.
    Own { key: String },
}

/// Queues and keys of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    /// The exchange that messages are published to; empty for the default one.
    pub(crate) exchange: String,
    /// Queues to declare and bind at the beginning.
    pub(crate) queues: Vec<Queue>,
    /// Routing keys that the producer channels take in turn.
    keys: Vec<String>,
    /// Queues that the consumer channels take in turn.
    sources: Vec<Source>,
}

impl Topology {
    /// Works it out; `generated` is a routing key nobody else uses.
    pub(crate) fn new(options: &Options, generated: &str) -> Topology {
        let exchange = options.exchange();
        let key = options.routing_key.clone();
        let sequence = options
            .queues_of_pattern()
            .expect("the options have been checked");
        if !sequence.is_empty() {
            let queues: Vec<Queue> = sequence
                .into_iter()
                .map(|name| Queue {
                    key: key.clone().unwrap_or_else(|| name.clone()),
                    name,
                })
                .collect();
            return Topology {
                exchange,
                keys: queues.iter().map(|queue| queue.key.clone()).collect(),
                sources: queues
                    .iter()
                    .map(|queue| Source::Named(vec![queue.name.clone()]))
                    .collect(),
                queues,
            };
        }
        // The default exchange takes the key for the name of the queue.
        let key = key.unwrap_or_else(|| match &options.queue[..] {
            [only] if exchange.is_empty() => only.clone(),
            _ => generated.to_owned(),
        });
        let source = if options.queue.is_empty() {
            Source::Own { key: key.clone() }
        } else {
            Source::Named(options.queue.clone())
        };
        let queue = |name: &String| Queue {
            name: name.clone(),
            key: key.clone(),
        };
        Topology {
            exchange,
            queues: options.queue.iter().map(queue).collect(),
            sources: vec![source],
            keys: vec![key],
        }
    }

    /// The routing key of a producer channel.
    pub(crate) fn key(&self, index: usize) -> &str {
        &self.keys[index % self.keys.len()]
    }

    /// The queues of a consumer channel.
    pub(crate) fn source(&self, index: usize) -> &Source {
        &self.sources[index % self.sources.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(arguments: &str) -> Topology {
        let arguments = arguments.split_whitespace().map(Into::into);
        Topology::new(
            &Options::parse(arguments).expect("right options"),
            "generated",
        )
    }

    fn queues(topology: &Topology) -> Vec<(&str, &str)> {
        let queues = topology.queues.iter();
        queues.map(|queue| (&*queue.name, &*queue.key)).collect()
    }

    #[test]
    fn without_names_each_consumer_has_its_own_queue() {
        let fanout = topology("-t fanout -e fan -y 10");
        assert_eq!(fanout.exchange, "fan");
        assert!(fanout.queues.is_empty());
        let own = Source::Own {
            key: "generated".to_owned(),
        };
        assert_eq!((fanout.source(0), fanout.source(9)), (&own, &own));
        assert_eq!(fanout.key(3), "generated");
    }

    #[test]
    fn named_queues_are_shared_by_all() {
        let shared = topology("-u a,b -x 4 -y 4");
        assert_eq!(shared.exchange, "direct");
        assert_eq!(queues(&shared), [("a", "generated"), ("b", "generated")]);
        let both = Source::Named(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!((shared.source(0), shared.source(3)), (&both, &both));

        let key = topology("-u a,b -k key");
        assert_eq!(queues(&key), [("a", "key"), ("b", "key")]);
        assert_eq!(key.key(1), "key");
    }

    #[test]
    fn default_exchange_routes_to_the_queue_by_name() {
        for exchange in ["amq.default", ""] {
            let arguments = ["-e", exchange, "-u", "a"].map(Into::into);
            let options = Options::parse(arguments.into_iter()).expect("right options");
            let direct = Topology::new(&options, "generated");
            assert_eq!((direct.exchange.as_str(), direct.key(0)), ("", "a"));
        }
    }

    #[test]
    fn pattern_gives_each_in_turn_its_queue() {
        let sequence = topology("-qp q-%02d -qpf 9 -qpt 11 -x 4 -y 4");
        assert_eq!(
            queues(&sequence),
            [("q-09", "q-09"), ("q-10", "q-10"), ("q-11", "q-11")]
        );
        assert_eq!(sequence.key(0), "q-09");
        assert_eq!(sequence.key(3), "q-09");
        let second = Source::Named(vec!["q-10".to_owned()]);
        assert_eq!((sequence.source(1), sequence.source(4)), (&second, &second));

        let one_key = topology("-qp q-%d -qpf 1 -qpt 2 -k all");
        assert_eq!(queues(&one_key), [("q-1", "all"), ("q-2", "all")]);
        assert_eq!(one_key.key(1), "all");
    }
}
