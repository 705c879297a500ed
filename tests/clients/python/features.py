"""What pika, an unmodified client, may rely on. Called with the name of one function."""

import os
import sys
import time

import pika
from pika.exceptions import (
    ChannelClosedByBroker,
    NackError,
    UnroutableError,
)

PERSISTENT = pika.BasicProperties(delivery_mode=2)


def connect(**parameters):
    return pika.BlockingConnection(
        pika.ConnectionParameters(
            host=os.environ["AMQP_HOST"], port=int(os.environ["AMQP_PORT"]), **parameters
        )
    )


def equal(found, expected):
    assert found == expected, f"expected {expected!r}, found {found!r}"


def queue(channel, name="", **arguments):
    """Declares a queue with `x_`-arguments given as keywords."""
    arguments = {"x-" + key.replace("_", "-"): value for key, value in arguments.items()}
    return channel.queue_declare(name, arguments=arguments).method.queue


def publish(channel, name, *bodies, **properties):
    for body in bodies:
        channel.basic_publish("", name, body, pika.BasicProperties(**properties))


def settled(channel, name):
    """How many messages are ready; all that was published on this channel before is in."""
    return channel.queue_declare(name, passive=True).method.message_count


def bodies(channel, name):
    """Everything that is ready."""
    found = []
    while True:
        method, _, body = channel.basic_get(name, auto_ack=True)
        if method is None:
            return found
        found.append(body)


def take(channel, name, count, limit=20):
    """Waits for `count` deliveries of a consumer, acked by nobody."""
    found = []
    for method, properties, body in channel.consume(name, inactivity_timeout=limit):
        assert method is not None, f"only {len(found)} of {count} deliveries came"
        found.append((method, properties, body))
        if len(found) == count:
            return found


def wait_until(condition, limit=20):
    """Asks again and again: some things happen by time, and a broker tells nobody."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"


def declare_publish_get():
    channel = connect().channel()
    equal(channel.queue_declare("orders").method.message_count, 0)
    publish(channel, "orders", b"one", content_type="text/plain")
    publish(channel, "orders", b"two")
    method, properties, body = channel.basic_get("orders")
    equal((method.routing_key, method.redelivered, method.message_count), ("orders", False, 1))
    equal((properties.content_type, body), ("text/plain", b"one"))
    channel.basic_ack(method.delivery_tag)
    method, _, body = channel.basic_get("orders", auto_ack=True)
    equal((method.message_count, body), (0, b"two"))
    equal(channel.basic_get("orders"), (None, None, None))


def every_property_arrives():
    channel = connect().channel()
    name = queue(channel)
    sent = pika.BasicProperties(
        content_type="a/b",
        content_encoding="gzip",
        headers={"text": "x", "number": 7, "list": [1, "two"], "table": {"yes": True}, "none": None},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="60000",
        message_id="m",
        timestamp=1234567890,
        type="t",
        user_id="guest",
        app_id="app",
    )
    channel.basic_publish("", name, b"x" * 300_000, sent)
    _, found, body = channel.basic_get(name)
    equal(vars(found), vars(sent))
    equal(len(body), 300_000)


def empty_and_binary_bodies():
    channel = connect().channel()
    name = queue(channel)
    publish(channel, name, b"", bytes(range(256)))
    equal(bodies(channel, name), [b"", bytes(range(256))])


def confirms():
    channel = connect().channel()
    channel.confirm_delivery()
    channel.queue_declare("safe", durable=True)
    for n in range(100):
        channel.basic_publish("", "safe", b"%d" % n, PERSISTENT)
    equal(bodies(channel, "safe"), [b"%d" % n for n in range(100)])
    # A message that no queue takes is confirmed too.
    channel.basic_publish("amq.direct", "nowhere", b"x")


def mandatory_returns():
    channel = connect().channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("amq.direct", "nowhere", b"x", mandatory=True)
    except UnroutableError as error:
        [returned] = error.messages
        method = returned.method
        equal((method.reply_code, method.reply_text), (312, "NO_ROUTE"))
        equal((method.exchange, method.routing_key, returned.body), ("amq.direct", "nowhere", b"x"))
        return
    raise AssertionError("nothing was returned")


def consume_and_ack():
    channel = connect().channel()
    name = queue(channel)
    publish(channel, name, *[b"%d" % n for n in range(20)])
    channel.basic_qos(prefetch_count=7)
    found = []
    for method, _, body in channel.consume(name, inactivity_timeout=20):
        found.append((method.delivery_tag, body))
        if len(found) % 5 == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if len(found) == 20:
            break
    equal(found, [(n + 1, b"%d" % n) for n in range(20)])
    channel.cancel()
    equal(settled(channel, name), 0)


def prefetch_is_a_limit():
    channel = connect().channel()
    name = queue(channel)
    publish(channel, name, *[b"x"] * 10)
    channel.basic_qos(prefetch_count=3)
    take(channel, name, 3)
    equal(settled(channel, name), 7)


def requeue_keeps_order():
    channel = connect().channel()
    name = queue(channel)
    publish(channel, name, b"1", b"2", b"3", b"4", b"5")
    tags = [channel.basic_get(name)[0].delivery_tag for _ in range(4)]
    channel.basic_ack(tags[1])
    channel.basic_nack(tags[3], requeue=True)
    channel.basic_reject(tags[0], requeue=True)
    channel.basic_nack(tags[2], requeue=True)
    found = [channel.basic_get(name, auto_ack=True) for _ in range(4)]
    equal([(body, method.redelivered) for method, _, body in found],
          [(b"1", True), (b"3", True), (b"4", True), (b"5", False)])


def nack_without_requeue_drops():
    channel = connect().channel()
    name = queue(channel)
    publish(channel, name, b"1", b"2", b"3")
    tag = [channel.basic_get(name)[0].delivery_tag for _ in range(3)][-1]
    channel.basic_nack(tag, multiple=True, requeue=False)
    equal(settled(channel, name), 0)


def a_closed_channel_gives_back():
    connection = connect()
    channel, other = connection.channel(), connection.channel()
    name = queue(channel)
    publish(channel, name, b"1", b"2")
    channel.basic_get(name)
    channel.basic_get(name)
    channel.close()
    found = [other.basic_get(name, auto_ack=True) for _ in range(2)]
    equal([(body, method.redelivered) for method, _, body in found], [(b"1", True), (b"2", True)])


def recover_redelivers():
    channel = connect().channel()
    name = queue(channel)
    publish(channel, name, b"1")
    channel.basic_get(name)
    channel.basic_recover(requeue=True)
    method, _, body = channel.basic_get(name)
    equal((method.redelivered, body), (True, b"1"))


def transactions():
    connection = connect()
    channel, other = connection.channel(), connection.channel()
    name = queue(channel)
    channel.tx_select()
    publish(channel, name, b"rolled back")
    channel.tx_rollback()
    publish(channel, name, b"1", b"2")
    equal(settled(other, name), 0)
    channel.tx_commit()
    equal(settled(other, name), 2)
    method, _, _ = channel.basic_get(name)
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    channel.basic_ack(method.delivery_tag)
    channel.tx_commit()
    channel.close()
    equal(bodies(other, name), [b"2"])


def topic_routing():
    channel = connect().channel()
    keys = {"a.*.c": [], "a.#": [], "#": [], "*.b": [], "#.c": []}
    names = {key: queue(channel) for key in keys}
    for key, name in names.items():
        channel.queue_bind(name, "amq.topic", key)
    for key in ["a", "a.b", "a.b.c", "a.x.y.c", "b", "", "a..c"]:
        channel.basic_publish("amq.topic", key, key.encode())
    found = {key: bodies(channel, name) for key, name in names.items()}
    equal(found, {
        "a.*.c": [b"a.b.c", b"a..c"],
        "a.#": [b"a", b"a.b", b"a.b.c", b"a.x.y.c", b"a..c"],
        "#": [b"a", b"a.b", b"a.b.c", b"a.x.y.c", b"b", b"", b"a..c"],
        "*.b": [b"a.b"],
        "#.c": [b"a.b.c", b"a.x.y.c", b"a..c"],
    })


def headers_routing():
    channel = connect().channel()
    both, one = queue(channel), queue(channel)
    channel.queue_bind(both, "amq.headers", "", {"x-match": "all", "a": 1, "b": "x"})
    channel.queue_bind(one, "amq.headers", "", {"x-match": "any", "a": 1, "b": "x"})
    for headers in [{"a": 1, "b": "x", "c": 2}, {"a": 1}, {"b": "y"}, {"a": 2, "b": "x"}]:
        properties = pika.BasicProperties(headers=headers)
        channel.basic_publish("amq.headers", "", repr(headers).encode(), properties)
    equal(bodies(channel, both), [b"{'a': 1, 'b': 'x', 'c': 2}"])
    equal(bodies(channel, one), [b"{'a': 1, 'b': 'x', 'c': 2}", b"{'a': 1}", b"{'a': 2, 'b': 'x'}"])


def fanout_and_direct_routing():
    channel = connect().channel()
    first, second = queue(channel), queue(channel)
    for name in (first, second):
        channel.queue_bind(name, "amq.fanout")
    channel.queue_bind(first, "amq.direct", "key")
    # Two ways to one queue are one message.
    channel.queue_bind(first, "amq.direct", "other")
    channel.basic_publish("amq.fanout", "whatever", b"all")
    channel.basic_publish("amq.direct", "key", b"one")
    equal(bodies(channel, first), [b"all", b"one"])
    equal(bodies(channel, second), [b"all"])
    channel.queue_unbind(first, "amq.direct", "key")
    channel.basic_publish("amq.direct", "key", b"unbound")
    equal(bodies(channel, first), [])


def exchange_to_exchange():
    channel = connect().channel()
    channel.exchange_declare("in", "topic")
    channel.exchange_declare("out", "fanout")
    name = queue(channel)
    channel.queue_bind(name, "out")
    channel.exchange_bind("out", "in", "a.#")
    channel.exchange_bind("in", "out")
    channel.basic_publish("in", "a.b", b"through")
    channel.basic_publish("in", "b", b"not")
    equal(bodies(channel, name), [b"through"])
    channel.exchange_unbind("out", "in", "a.#")
    channel.basic_publish("in", "a.b", b"unbound")
    equal(bodies(channel, name), [])


def alternate_exchange():
    channel = connect().channel()
    channel.confirm_delivery()
    channel.exchange_declare("lost", "fanout")
    channel.exchange_declare("main", "direct", arguments={"alternate-exchange": "lost"})
    found, rest = queue(channel), queue(channel)
    channel.queue_bind(found, "main", "key")
    channel.queue_bind(rest, "lost")
    channel.basic_publish("main", "key", b"found", mandatory=True)
    channel.basic_publish("main", "other", b"rest", mandatory=True)
    equal((bodies(channel, found), bodies(channel, rest)), ([b"found"], [b"rest"]))


def copies_by_header():
    channel = connect().channel()
    first, second, third = queue(channel), queue(channel), queue(channel)
    publish(channel, first, b"x", headers={"CC": [second], "BCC": [third]})
    for name in (first, second, third):
        _, properties, body = channel.basic_get(name, auto_ack=True)
        equal((properties.headers, body), ({"CC": [second]}, b"x"))


def dead_letter_by_reject():
    channel = connect().channel()
    channel.exchange_declare("dlx", "topic")
    dead = queue(channel)
    channel.queue_bind(dead, "dlx", "#")
    name = queue(channel, "source", dead_letter_exchange="dlx")
    channel.queue_bind(name, "amq.direct", "key")
    channel.basic_publish("amq.direct", "key", b"x", pika.BasicProperties(headers={"mine": 1}))
    channel.basic_reject(channel.basic_get(name)[0].delivery_tag, requeue=False)
    [(method, properties, body)] = take(channel, dead, 1)
    equal((method.exchange, method.routing_key, body), ("dlx", "key", b"x"))
    [death] = properties.headers["x-death"]
    del death["time"]
    equal(death, {"count": 1, "reason": "rejected", "queue": "source", "exchange": "amq.direct",
                  "routing-keys": ["key"]})
    equal({key: value for key, value in properties.headers.items() if key != "x-death"},
          {"mine": 1,
           "x-first-death-exchange": "amq.direct", "x-last-death-exchange": "amq.direct",
           "x-first-death-queue": "source", "x-last-death-queue": "source",
           "x-first-death-reason": "rejected", "x-last-death-reason": "rejected"})


def dead_letter_by_expiry():
    channel = connect().channel()
    dead = queue(channel)
    name = queue(channel, "short", dead_letter_exchange="", dead_letter_routing_key=dead)
    publish(channel, name, b"x", expiration="20")
    [(method, properties, body)] = take(channel, dead, 1)
    equal((method.exchange, method.routing_key, body), ("", dead, b"x"))
    equal(properties.expiration, None)
    [death] = properties.headers["x-death"]
    del death["time"]
    equal(death, {"count": 1, "reason": "expired", "queue": "short", "exchange": "",
                  "routing-keys": ["short"], "original-expiration": "20"})


def dead_letter_round_is_counted():
    channel = connect().channel()
    channel.queue_declare("work", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"})
    channel.queue_declare("wait", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work",
                                             "x-message-ttl": 1})
    publish(channel, "work", b"x")
    for turn in range(4):
        [(method, properties, _)] = take(channel, "work", 1)
        deaths = (properties.headers or {}).get("x-death", [])
        equal([(death["queue"], death["reason"], death["count"]) for death in deaths],
              [("wait", "expired", turn), ("work", "rejected", turn)] if turn else [])
        channel.basic_nack(method.delivery_tag, requeue=False)


def queue_ttl():
    channel = connect().channel()
    name = queue(channel, message_ttl=30)
    publish(channel, name, b"x", b"y")
    publish(channel, name, b"z", expiration="10")
    wait_until(lambda: settled(channel, name) == 0)
    # Zero is a message for whoever is there, and for nobody else.
    none = queue(channel, message_ttl=0)
    publish(channel, none, b"x")
    wait_until(lambda: settled(channel, none) == 0)


def queue_expiry():
    channel = connect().channel()
    channel.confirm_delivery()
    name = queue(channel, expires=50)

    def is_gone():
        # A publish is no use of the queue.
        try:
            channel.basic_publish("", name, b"x", mandatory=True)
            return False
        except UnroutableError:
            return True

    wait_until(is_gone)


def max_length_drops_the_oldest():
    channel = connect().channel()
    name = queue(channel, max_length=3)
    publish(channel, name, *[b"%d" % n for n in range(10)])
    equal(bodies(channel, name), [b"7", b"8", b"9"])
    name = queue(channel, max_length_bytes=10)
    publish(channel, name, b"aaaa", b"bbbb", b"cccc", b"dd")
    equal(bodies(channel, name), [b"bbbb", b"cccc", b"dd"])


def max_length_refuses():
    channel = connect().channel()
    channel.confirm_delivery()
    name = queue(channel, max_length=2, overflow="reject-publish")
    answers = []
    for n in range(4):
        try:
            channel.basic_publish("", name, b"%d" % n)
            answers.append("ack")
        except NackError:
            answers.append("nack")
    equal(answers, ["ack", "ack", "nack", "nack"])
    equal(bodies(channel, name), [b"0", b"1"])


def max_length_dead_letters():
    channel = connect().channel()
    dead = queue(channel)
    name = queue(channel, max_length=1, dead_letter_exchange="", dead_letter_routing_key=dead)
    publish(channel, name, b"old", b"new")
    [(_, properties, body)] = take(channel, dead, 1)
    equal((body, properties.headers["x-death"][0]["reason"]), (b"old", "maxlen"))
    equal(bodies(channel, name), [b"new"])


def priorities():
    channel = connect().channel()
    name = queue(channel, max_priority=5)
    for priority, body in [(1, b"low"), (5, b"high"), (9, b"above"), (0, b"none"), (5, b"high again")]:
        publish(channel, name, body, priority=priority)
    equal(bodies(channel, name), [b"high", b"above", b"high again", b"low", b"none"])


def exclusive_queues():
    mine, other = connect(), connect()
    channel = mine.channel()
    channel.queue_declare("mine", exclusive=True)
    try:
        other.channel().queue_declare("mine", passive=True)
        raise AssertionError("another connection sees it")
    except ChannelClosedByBroker as error:
        equal(error.reply_code, 405)
    mine.close()

    def is_free():
        try:
            other.channel().queue_declare("mine", exclusive=True)
            return True
        except ChannelClosedByBroker:
            return False

    wait_until(is_free)


def auto_delete_queues():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare("once", auto_delete=True)
    channel.basic_consume("once", lambda *_: None, consumer_tag="c")
    channel.basic_cancel("c")

    def is_gone():
        try:
            connection.channel().queue_declare("once", passive=True)
            return False
        except ChannelClosedByBroker as error:
            return error.reply_code == 404

    wait_until(is_gone)


def cancel_is_told():
    connection = connect()
    channel = connection.channel()
    name = queue(channel)
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    channel.basic_consume(name, lambda *_: None, consumer_tag="c")
    connection.channel().queue_delete(name)
    deadline = time.monotonic() + 20
    while not cancelled and time.monotonic() < deadline:
        connection.process_data_events(time_limit=1)
    equal(cancelled, ["c"])


def single_active_consumer():
    connection = connect()
    first, second = connection.channel(), connection.channel()
    name = queue(first, single_active_consumer=True)
    found = []
    first.basic_consume(name, lambda *call: found.append(("first", call[3])), auto_ack=True, consumer_tag="1")
    second.basic_consume(name, lambda *call: found.append(("second", call[3])), auto_ack=True, consumer_tag="2")

    def receive(count):
        deadline = time.monotonic() + 20
        while len(found) < count and time.monotonic() < deadline:
            connection.process_data_events(time_limit=1)

    publish(first, name, b"1", b"2", b"3")
    receive(3)
    first.basic_cancel("1")
    publish(first, name, b"4")
    receive(4)
    equal(found, [("first", b"1"), ("first", b"2"), ("first", b"3"), ("second", b"4")])


def consumer_priorities():
    connection = connect()
    low, high = connection.channel(), connection.channel()
    name = queue(low)
    found = []
    low.basic_consume(name, lambda *call: found.append(("low", call[3])), auto_ack=True)
    high.basic_qos(prefetch_count=2)
    high.basic_consume(name, lambda *call: found.append(("high", call[3])), arguments={"x-priority": 10})
    publish(low, name, b"1", b"2", b"3", b"4")
    deadline = time.monotonic() + 20
    while len(found) < 4 and time.monotonic() < deadline:
        connection.process_data_events(time_limit=1)
    equal(sorted(found), [("high", b"1"), ("high", b"2"), ("low", b"3"), ("low", b"4")])


def direct_reply_to():
    asking, answering = connect(), connect()
    client, server = asking.channel(), answering.channel()
    requests = queue(server)
    replies = []
    client.basic_consume("amq.rabbitmq.reply-to", lambda *call: replies.append(call[3]), auto_ack=True)
    publish(client, requests, b"question", reply_to="amq.rabbitmq.reply-to")
    [(_, properties, body)] = take(server, requests, 1)
    assert properties.reply_to.startswith("amq.rabbitmq.reply-to."), properties.reply_to
    server.basic_publish("", properties.reply_to, b"answer to " + body)
    deadline = time.monotonic() + 20
    while not replies and time.monotonic() < deadline:
        asking.process_data_events(time_limit=1)
    equal(replies, [b"answer to question"])


def purge_and_delete():
    channel = connect().channel()
    name = queue(channel)
    publish(channel, name, b"1", b"2", b"3")
    channel.basic_get(name)
    equal(channel.queue_purge(name).method.message_count, 2)
    publish(channel, name, b"4")
    equal(channel.queue_delete(name).method.message_count, 1)
    equal(channel.queue_delete(name).method.message_count, 0)


def a_refusal_costs_one_channel():
    connection = connect()
    channel, other = connection.channel(), connection.channel()
    try:
        channel.queue_declare("nosuch", passive=True)
        raise AssertionError("it exists")
    except ChannelClosedByBroker as error:
        equal((error.reply_code, error.reply_text), (404, "NOT_FOUND - no queue 'nosuch' in vhost '/'"))
    equal(other.queue_declare("").method.message_count, 0)


def a_global_prefetch_is_shared_fairly():
    channel = connect().channel()
    channel.basic_qos(prefetch_count=1, global_qos=True)
    first, second, unacked = queue(channel, "first"), queue(channel, "second"), queue(channel, "unacked")
    publish(channel, first, *[b"f"] * 20)
    publish(channel, second, *[b"s"] * 20)
    served = []

    def take_one(of, method, properties, body):
        served.append(of)
        if len(served) < 24:
            channel.basic_ack(method.delivery_tag)
        else:
            channel.stop_consuming()

    # Two queues on one channel, one of them with two consumers: nobody is left behind.
    for of, name in ("first", first), ("first again", first), ("second", second):
        channel.basic_consume(name, lambda _, *delivery, of=of: take_one(of, *delivery))
    channel.start_consuming()
    for of in "first", "first again", "second":
        assert served.count(of) >= 4, f"{of} was served {served.count(of)} times of {len(served)}"
    # One delivery is unacked: a consumer without acknowledgement waits, and is not forgotten.
    late = []
    channel = connect().channel()
    channel.basic_qos(prefetch_count=1, global_qos=True)
    publish(channel, unacked, b"held")
    held, free = queue(channel), queue(channel)
    publish(channel, held, b"1")
    channel.basic_consume(held, lambda _, method, *rest: late.append(method.delivery_tag))
    while not late:
        channel.connection.process_data_events(time_limit=20)
    channel.basic_consume(unacked, lambda _, method, *rest: late.append("held"), auto_ack=True)
    publish(channel, free, b"x")
    equal(settled(channel, free), 1)
    equal(late[1:], [])
    channel.basic_ack(late[0])
    while len(late) < 2:
        channel.connection.process_data_events(time_limit=20)
    equal(late[1:], ["held"])


def firehose():
    """Tracing is on in the virtual host."""
    channel = connect().channel()
    copies, name = queue(channel), queue(channel, "traced")
    channel.queue_bind(copies, "amq.rabbitmq.trace", "#")
    channel.exchange_declare("orders")
    channel.queue_bind(name, "orders", "key")
    properties = pika.BasicProperties(content_type="text/plain", headers={"a": 1})
    channel.basic_publish("orders", "key", b"body", properties)
    equal([body for _, _, body in take(channel, name, 1)], [b"body"])
    channel.cancel()
    for key in "publish.orders", "deliver.traced":
        method, properties, body = channel.basic_get(copies, auto_ack=True)
        equal((method.routing_key, method.exchange, body), (key, "amq.rabbitmq.trace", b"body"))
        headers = properties.headers
        equal((headers["exchange_name"], headers["routing_keys"]), ("orders", ["key"]))
        equal((headers["vhost"], headers["user"], headers["channel"]), ("/", "guest", 1))
        equal(headers["properties"], {"content_type": "text/plain", "headers": {"a": 1}})
        assert headers["node"] and " -> " in headers["connection"]
        if key.startswith("publish"):
            equal(headers["routed_queues"], ["traced"])
        else:
            equal(headers["redelivered"], 0)
    # Copies are not copied.
    equal(settled(channel, copies), 0)


def stamps():
    """`set_header_timestamp` keeps what is there, `set_header_routing_node` does not."""
    channel = connect().channel()
    name = queue(channel)
    publish(channel, name, b"1")
    publish(channel, name, b"2", headers={"timestamp_in_ms": 7, "x-routed-by": "me"}, timestamp=9)
    _, first, _ = channel.basic_get(name)
    _, second, _ = channel.basic_get(name)
    assert abs(first.headers["timestamp_in_ms"] / 1000 - time.time()) < 3600
    equal(first.timestamp, first.headers["timestamp_in_ms"] // 1000)
    equal((second.headers["timestamp_in_ms"], second.timestamp), (7, 9))
    assert first.headers["x-routed-by"] == second.headers["x-routed-by"] != "me"


def log_lines():
    """`log.exchange` is on."""
    channel = connect().channel()
    name = queue(channel)
    channel.queue_bind(name, "amq.rabbitmq.log", "info")
    connect(client_properties={"connection_name": "another"})
    for method, properties, body in channel.consume(name, auto_ack=True, inactivity_timeout=20):
        assert method is not None, "no line came"
        equal((method.routing_key, properties.content_type), ("info", "text/plain"))
        if b"user 'guest' authenticated" in body:
            return


def server_says_what_it_can():
    properties = connect()._impl.server_properties
    equal(sorted(properties["capabilities"]), [
        "authentication_failure_close", "basic.nack", "connection.blocked", "consumer_cancel_notify",
        "consumer_priorities", "direct_reply_to", "exchange_exchange_bindings", "per_consumer_qos",
        "publisher_confirms"])
    # Clients choose their ways by these: Kombu its prefetch, AnyEvent::RabbitMQ its confirms.
    equal((properties["product"], properties["version"]), ("RabbitMQ", "3.13.7"))
    equal(properties["implementation"], "Warren")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
