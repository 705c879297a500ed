"""What pika may rely on over TLS. Called with the name of one function."""

import os
import ssl
import sys

import pika
from pika.credentials import ExternalCredentials
from pika.exceptions import AMQPConnectionError


def context(with_certificate):
    folder = os.environ["CERTIFICATES"]
    made = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    if with_certificate:
        made.load_cert_chain(f"{folder}/client.pem", f"{folder}/client.key")
    return made


def connect(with_certificate, **parameters):
    options = pika.SSLOptions(context(with_certificate), os.environ["AMQP_HOST"])
    return pika.BlockingConnection(
        pika.ConnectionParameters(
            host=os.environ["AMQP_HOST"], port=int(os.environ["TLS_PORT"]), ssl_options=options, **parameters
        )
    )


def exchange_a_message(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name = channel.queue_declare("").method.queue
    body = bytes(range(256)) * 2000
    channel.basic_publish("", name, body, mandatory=True)
    _, _, found = channel.basic_get(name, auto_ack=True)
    assert found == body


def refused(**parameters):
    try:
        connect(**parameters)
    except (AMQPConnectionError, ssl.SSLError, OSError):
        return
    raise AssertionError("it was let in")


def login_by_password():
    exchange_a_message(connect(False))


def login_by_certificate():
    exchange_a_message(connect(True, credentials=ExternalCredentials()))


def no_login_without_a_certificate():
    refused(with_certificate=False, credentials=ExternalCredentials())


def no_login_as_nobody():
    """The name in the certificate is no user's."""
    refused(with_certificate=True, credentials=ExternalCredentials())
    exchange_a_message(connect(True))


def no_connection_without_a_certificate():
    refused(with_certificate=False)
    exchange_a_message(connect(True))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
