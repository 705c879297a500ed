"""A small AMQP 0-9-1 client: what the parts need that `warren perf` does not tell.

`Client` does one thing after the other. `Publisher` and `Consumer` are processes of their own that note
when each confirm and each delivery came, by the clock that all processes of the machine share.
"""

import multiprocessing
import select
import signal
import socket
import struct
import time
from array import array

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


class Worker(multiprocessing.get_context("fork").Process):
    """A process that works until it is asked for what it has found."""

    def __init__(self, node, queue):
        super().__init__(daemon=True)
        self.node, self.queue = node, queue
        self.ours, self.theirs = multiprocessing.get_context("fork").Pipe()

    def run(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.client = Client(self.node)
            self.theirs.send(self.work())
        except (OSError, Failure) as error:
            self.theirs.send(Failure(f"{type(self).__name__} at {self.node.name}: {error}"))

    def begin(self):
        self.start()
        return self

    def end(self, seconds=60):
        """Asks the process to stop; what it has found."""
        self.ours.send("stop")
        try:
            if not self.ours.poll(seconds):
                raise Failure(f"{type(self).__name__} at {self.node.name} has no result after {seconds} s")
            found = self.ours.recv()
        finally:
            self.kill()
            self.join()
        if isinstance(found, Failure):
            raise found
        return found

    def stopping(self):
        return self.theirs.poll()


class Publisher(Worker):
    """Publishes 1 KiB with confirms: so many a second, or else the next one when the last is confirmed.

    Finds when messages were due or sent, and when they were confirmed; `None` for a refused one.
    """

    def __init__(self, node, queue, rate=None, patience=20):
        super().__init__(node, queue)
        self.rate, self.patience = rate, patience

    def work(self):
        client, frames = self.client, publish_frames(self.queue, bytes(1024))
        client.confirm_select()
        sent, confirmed, refused = array("d"), array("d"), 0
        first, settled, start, last = 1, 0, time.monotonic(), None
        step = 1 / self.rate if self.rate else None
        while True:
            now = time.monotonic()
            if last is None and self.stopping():
                last = now
            if last is not None and (settled == len(sent) or now - last > self.patience):
                break
            wait = 0.05
            if last is None:
                due = 0
                if step is None:
                    due = int(settled == len(sent))
                    if due:
                        sent.append(now)
                        confirmed.append(0)
                else:
                    while start + len(sent) * step <= now:
                        sent.append(start + len(sent) * step)
                        confirmed.append(0)
                        due += 1
                    wait = max(0, start + len(sent) * step - time.monotonic())
                if due:
                    client.socket.sendall(frames * due)
            if not select.select([client.socket], [], [], wait)[0]:
                continue
            client.receive()
            now = time.monotonic()
            for kind, payload in client.frames():
                if kind != 1 or payload[:4] not in (b"\0\x3c\0\x50", b"\0\x3c\0\x78"):
                    continue
                tag, many = struct.unpack_from(">Q?", payload, 4)
                for each in range(first if many else tag, tag + 1):
                    if not confirmed[each - 1]:
                        confirmed[each - 1] = now if payload[3] == 0x50 else -1
                        refused += payload[3] != 0x50
                        settled += 1
                while first <= len(sent) and confirmed[first - 1]:
                    first += 1
        return Confirms(sent, confirmed, refused, len(sent) - settled)


class Confirms:
    """What a publisher has found."""

    def __init__(self, sent, confirmed, refused, missing):
        self.pairs = [pair for pair in zip(sent, confirmed) if pair[1] > 0]
        self.count, self.refused, self.missing = len(sent), refused, missing

    def longest(self, begin=0, end=float("inf")):
        """The longest time between two confirms that has a part in the given time."""
        return longest_gap([confirmed for _, confirmed in self.pairs], begin, end)

    def latencies(self, begin=0, end=float("inf")):
        return [confirmed - sent for sent, confirmed in self.pairs if begin <= sent < end]

    def complaint(self):
        if self.refused or self.missing:
            return f"{self.refused} of {self.count} publishes were refused and {self.missing} never answered"
        return None


def longest_gap(times, begin=0, end=float("inf")):
    times = sorted(times)
    # Silence up to the end counts as well.
    if times and end != float("inf") and times[-1] < end:
        times.append(end)
    gaps = [b - a for a, b in zip(times, times[1:]) if b > begin and a < end]
    if not gaps:
        raise Failure("nothing was confirmed or delivered in the time that counts")
    return max(gaps)


class Consumer(Worker):
    """Acknowledges so many messages a second, one by one, and notes when the next one comes for each.

    Finds times of deliveries, and pairs of an acknowledgement and the delivery that filled its place.
    """

    def __init__(self, node, queue, rate, prefetch=50):
        super().__init__(node, queue)
        self.rate, self.prefetch = rate, prefetch

    def work(self):
        client, step = self.client, 1 / self.rate
        delivered, acked = array("d"), array("d")
        client.consume(self.queue, self.prefetch)
        start = time.monotonic()
        while not self.stopping():
            now = time.monotonic()
            tags = []
            while start + (len(acked) + len(tags)) * step <= now and len(acked) + len(tags) < len(delivered):
                tags.append(len(acked) + len(tags) + 1)
            if tags:
                client.socket.sendall(b"".join(method(1, (60, 80), struct.pack(">QB", tag, 0)) for tag in tags))
                acked.extend([now] * len(tags))
            elif len(acked) == len(delivered):
                # There was nothing to acknowledge: what is late now stays late.
                start = now - len(acked) * step
            wait = min(0.05, max(0, start + len(acked) * step - time.monotonic()))
            if not select.select([client.socket], [], [], wait)[0]:
                continue
            client.receive()
            now = time.monotonic()
            for kind, payload in client.frames():
                if kind == 1 and payload[:4] == b"\0\x3c\0\x3c":
                    delivered.append(now)
                elif kind == 1 and payload[:4] == b"\0\x3c\0\x1e":
                    raise Failure("the node has cancelled the consumer")
        return Deliveries(delivered, acked, self.prefetch)


class Deliveries:
    """What a consumer has found."""

    def __init__(self, delivered, acked, prefetch):
        self.times, self.acked = list(delivered), len(acked)
        self.pairs = list(zip(acked, delivered[prefetch:]))

    def longest(self, begin=0, end=float("inf")):
        return longest_gap(self.times, begin, end)

    def latencies(self, begin=0, end=float("inf")):
        return [delivered - acked for acked, delivered in self.pairs if begin <= acked < end]
