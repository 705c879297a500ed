//! Scenarios of amqplib, the JavaScript client; each function of the script is a test here.

use black_box::{Node, javascript};

macro_rules! scenarios {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            javascript("features.js", stringify!($name), &Node::start());
        }
    )* };
}

scenarios! {
    declare_publish_get
    confirms
    refused_publishes_are_nacked
    mandatory_returns
    consume_and_ack
    requeue_keeps_order
    prefetch_per_consumer_and_per_channel
    topic_routing
    headers_routing
    exchange_to_exchange
    alternate_exchange
    dead_letters
    priorities_and_lengths
    single_active_consumer
    direct_reply_to
    cancel_is_told
    a_refusal_costs_one_channel
    exclusive_queues
    large_bodies
    wrong_password
}
