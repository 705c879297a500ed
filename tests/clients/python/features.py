"""What pika, an unmodified client, may rely on. Called with the name of one function."""

import os
import sys

import pika


def connect(**parameters):
    return pika.BlockingConnection(
        pika.ConnectionParameters(
            host=os.environ["AMQP_HOST"], port=int(os.environ["AMQP_PORT"]), **parameters
        )
    )


def equal(found, expected):
    assert found == expected, f"expected {expected!r}, found {found!r}"


def declare_publish_get():
    channel = connect().channel()
    equal(channel.queue_declare("orders").method.message_count, 0)
    channel.basic_publish("", "orders", b"one", pika.BasicProperties(content_type="text/plain"))
    channel.basic_publish("", "orders", b"two")
    method, properties, body = channel.basic_get("orders")
    equal((method.routing_key, method.redelivered, method.message_count), ("orders", False, 1))
    equal((properties.content_type, body), ("text/plain", b"one"))
    channel.basic_ack(method.delivery_tag)
    method, _, body = channel.basic_get("orders", auto_ack=True)
    equal((method.message_count, body), (0, b"two"))
    equal(channel.basic_get("orders"), (None, None, None))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
