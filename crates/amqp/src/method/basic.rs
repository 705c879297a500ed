//! Class basic, 60. Publishing, consuming, fetching and acknowledging messages.
//!
//! Each declaration lists the arguments in the order they travel; `method.rs` says how it is read.

use crate::field::Table;
use crate::short_str::ShortStr;

class! {
    /// Limits what is delivered and not acknowledged.
    Qos = (60, 10) "basic.qos" {
        /// Limit in bytes; 0 is none.
        prefetch_size: u32,
        /// Limit in messages; 0 is none.
        prefetch_count: u16,
        /// For the channel as a whole, not for each consumer to come.
        global: bool,
    }

    /// The limit is set.
    QosOk = (60, 11) "basic.qos-ok" {}

    /// Starts a consumer.
    Consume = (60, 20) "basic.consume" [u16] {
        /// The queue; empty for the last one declared on the channel.
        queue: ShortStr,
        /// Name of the consumer; empty for one that the server chooses.
        consumer_tag: ShortStr,
        /// Not what this connection published. RabbitMQ takes no notice of it.
        no_local: bool,
        /// Deliveries count as acknowledged.
        no_ack: bool,
        /// No other consumer.
        exclusive: bool,
        /// No answer is wanted.
        no_wait: bool,
        /// Further settings, `x-priority` and so on.
        arguments: Table,
    }

    /// The consumer runs.
    ConsumeOk = (60, 21) "basic.consume-ok" {
        /// Its name.
        consumer_tag: ShortStr,
    }

    /// Ends a consumer. RabbitMQ sends it to clients as well.
    Cancel = (60, 30) "basic.cancel" {
        /// The consumer.
        consumer_tag: ShortStr,
        /// No answer is wanted.
        no_wait: bool,
    }

    /// The consumer has ended.
    CancelOk = (60, 31) "basic.cancel-ok" {
        /// The consumer.
        consumer_tag: ShortStr,
    }

    /// Gives a message to an exchange.
    Publish = (60, 40) "basic.publish" + content [u16] {
        /// The exchange; empty for the default one.
        exchange: ShortStr,
        /// The routing key.
        routing_key: ShortStr,
        /// Send it back if no queue takes it.
        mandatory: bool,
        /// Send it back if no consumer takes it at once.
        immediate: bool,
    }

    /// Gives an unroutable message back.
    Return = (60, 50) "basic.return" + content {
        /// Why, as a number.
        reply_code: u16,
        /// Why, in words.
        reply_text: ShortStr,
        /// Where it was published.
        exchange: ShortStr,
        /// The routing key it had.
        routing_key: ShortStr,
    }

    /// Gives a message to a consumer.
    Deliver = (60, 60) "basic.deliver" + content {
        /// The consumer.
        consumer_tag: ShortStr,
        /// Number of the delivery on this channel.
        delivery_tag: u64,
        /// It may have been delivered before.
        redelivered: bool,
        /// Where it was published.
        exchange: ShortStr,
        /// The routing key it had.
        routing_key: ShortStr,
    }

    /// Asks for one message.
    Get = (60, 70) "basic.get" [u16] {
        /// The queue; empty for the last one declared on the channel.
        queue: ShortStr,
        /// The message counts as acknowledged.
        no_ack: bool,
    }

    /// The message asked for.
    GetOk = (60, 71) "basic.get-ok" + content {
        /// Number of the delivery on this channel.
        delivery_tag: u64,
        /// It may have been delivered before.
        redelivered: bool,
        /// Where it was published.
        exchange: ShortStr,
        /// The routing key it had.
        routing_key: ShortStr,
        /// Messages still in the queue.
        message_count: u32,
    }

    /// There is no message.
    GetEmpty = (60, 72) "basic.get-empty" {} [ShortStr]

    /// Acknowledges deliveries; from the server, confirms publishes.
    Ack = (60, 80) "basic.ack" {
        /// The delivery or publish.
        delivery_tag: u64,
        /// This one and all before it.
        multiple: bool,
    }

    /// Refuses one delivery.
    Reject = (60, 90) "basic.reject" {
        /// The delivery.
        delivery_tag: u64,
        /// Put it back into the queue.
        requeue: bool,
    }

    /// `recover` without an answer.
    RecoverAsync = (60, 100) "basic.recover-async" {
        /// Put the messages back into their queues.
        requeue: bool,
    }

    /// Gives all unacknowledged deliveries of the channel back.
    Recover = (60, 110) "basic.recover" {
        /// Put the messages back into their queues.
        requeue: bool,
    }

    /// They are given back.
    RecoverOk = (60, 111) "basic.recover-ok" {}

    /// RabbitMQ: refuses deliveries; from the server, refuses publishes.
    Nack = (60, 120) "basic.nack" {
        /// The delivery or publish.
        delivery_tag: u64,
        /// This one and all before it.
        multiple: bool,
        /// Put them back into the queue.
        requeue: bool,
    }
}
