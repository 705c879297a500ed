//! Scenarios of pika, the Python client; each function of the script is a test here.

use black_box::{Node, python};

macro_rules! scenarios {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            python("features.py", stringify!($name), &Node::start());
        }
    )* };
}

scenarios! {
    declare_publish_get
    every_property_arrives
    empty_and_binary_bodies
    confirms
    mandatory_returns
    consume_and_ack
    prefetch_is_a_limit
    a_global_prefetch_is_shared_fairly
    requeue_keeps_order
    nack_without_requeue_drops
    a_closed_channel_gives_back
    recover_redelivers
    transactions
    topic_routing
    headers_routing
    fanout_and_direct_routing
    exchange_to_exchange
    alternate_exchange
    copies_by_header
    dead_letter_by_reject
    dead_letter_by_expiry
    dead_letter_round_is_counted
    queue_ttl
    queue_expiry
    max_length_drops_the_oldest
    max_length_refuses
    max_length_dead_letters
    priorities
    exclusive_queues
    auto_delete_queues
    cancel_is_told
    single_active_consumer
    consumer_priorities
    direct_reply_to
    purge_and_delete
    a_refusal_costs_one_channel
    server_says_what_it_can
}
