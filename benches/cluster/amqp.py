"""A small AMQP 0-9-1 client: what the parts need that `warren perf` does not tell.

It waits for each answer; workers.py has those that do not.
"""

import socket
import struct

from .tools import Failure


def short(text):
    return struct.pack(">B", len(text)) + text.encode()


def method(channel, number, arguments=b""):
    payload = struct.pack(">HH", *number) + arguments
    return struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce"


class Client:
    """A connection with one channel."""

    def __init__(self, node, timeout=60):
        self.socket = socket.create_connection((node.address, node.port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.socket.sendall(b"AMQP\0\0\x09\x01")
        self.expect((10, 10))
        self.send((10, 11), struct.pack(">I", 0) + short("PLAIN") + struct.pack(">I", 12) + b"\0guest\0guest" + short("en_US"), 0)
        channels, frame, _ = struct.unpack(">HIH", self.expect((10, 30))[:8])
        self.send((10, 31), struct.pack(">HIH", channels, frame, 0), 0)
        self.call((10, 40), short("/") + b"\0\0", (10, 41), 0)
        self.call((20, 10), b"\0", (20, 11))

    def close(self):
        self.socket.close()

    def send(self, number, arguments, channel=1):
        self.socket.sendall(method(channel, number, arguments))

    def frames(self):
        """The frames that have arrived whole: kind and payload."""
        start = 0
        try:
            while len(self.buffer) >= start + 8:
                kind, _, size = struct.unpack_from(">BHI", self.buffer, start)
                if len(self.buffer) < start + 8 + size:
                    break
                payload = bytes(self.buffer[start + 7 : start + 7 + size])
                start += 8 + size
                if kind == 1 and payload[:4] in (b"\0\x0a\0\x32", b"\0\x14\0\x28"):
                    raise Failure(f"the node has closed the connection or channel: {payload[7:7 + payload[6]].decode()}")
                yield kind, payload
        finally:
            del self.buffer[:start]

    def receive(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise Failure("the node has closed the connection without a word")
        self.buffer += data

    def expect(self, number):
        wanted = struct.pack(">HH", *number)
        while True:
            for kind, payload in self.frames():
                if kind == 1 and payload[:4] == wanted:
                    return payload[4:]
            self.receive()

    def call(self, number, arguments, answer, channel=1):
        self.send(number, arguments, channel)
        return self.expect(answer)

    def declare_queue(self, name):
        self.call((50, 10), b"\0\0" + short(name) + b"\x02" + bytes(4), (50, 11))

    def declare_exchange(self, name):
        self.call((40, 10), b"\0\0" + short(name) + short("fanout") + b"\x02" + bytes(4), (40, 11))

    def purge(self, queue):
        self.call((50, 30), b"\0\0" + short(queue) + b"\0", (50, 31))

    def delete_queue(self, queue):
        self.call((50, 40), b"\0\0" + short(queue) + b"\0", (50, 41))

    def confirm_select(self):
        self.call((85, 10), b"\0", (85, 11))

    def consume(self, queue, prefetch):
        self.call((60, 10), struct.pack(">IHB", 0, prefetch, 0), (60, 11))
        self.call((60, 20), b"\0\0" + short(queue) + short("bench") + b"\0" + bytes(4), (60, 21))


def publish_frames(queue, body):
    """A persistent message to a queue."""
    header = struct.pack(">HHQHB", 60, 0, len(body), 0x1000, 2)
    return (
        method(1, (60, 40), b"\0\0" + short("") + short(queue) + b"\0")
        + struct.pack(">BHI", 2, 1, len(header)) + header + b"\xce"
        + struct.pack(">BHI", 3, 1, len(body)) + body + b"\xce"
    )
