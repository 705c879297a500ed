"""Clients that are processes of their own, so that Python's cost in one does not slow the others.

They note when each confirm, delivery or answer came, by the clock that all processes share.
"""

import multiprocessing
import select
import signal
import struct
import time
from array import array

from .amqp import Client, method, publish_frames
from .tools import Failure

FORK = multiprocessing.get_context("fork")


class Worker(FORK.Process):
    """A process that works until it is asked for what it has found."""

    def __init__(self, node, queue):
        super().__init__(daemon=True)
        self.node, self.queue = node, queue
        self.ours, self.theirs = FORK.Pipe()

    def run(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
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
        return self.result(seconds)

    def result(self, seconds):
        """What the process has found when it is done."""
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

    Finds when messages were due or sent, and when they were confirmed.
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


class Burst(Worker):
    """Publishes one message to each of many queues at once; finds when each was confirmed, `None` if it was not."""

    def __init__(self, node, queues, patience=120):
        super().__init__(node, None)
        self.queues, self.patience = queues, patience

    def work(self):
        client, confirmed, refused = self.client, [None] * len(self.queues), set()
        client.confirm_select()
        end, first = time.monotonic() + self.patience, 1
        for begin in range(0, len(self.queues), 500):
            client.socket.sendall(b"".join(publish_frames(queue, bytes(16)) for queue in self.queues[begin : begin + 500]))
        while time.monotonic() < end and first <= len(self.queues):
            if not select.select([client.socket], [], [], 0.2)[0]:
                continue
            client.receive()
            now = time.monotonic()
            for kind, payload in client.frames():
                if kind == 1 and payload[:4] in (b"\0\x3c\0\x50", b"\0\x3c\0\x78"):
                    tag, many = struct.unpack_from(">Q?", payload, 4)
                    for each in range(first if many else tag, tag + 1):
                        if payload[3] == 0x78:
                            refused.add(each)
                        elif confirmed[each - 1] is None:
                            confirmed[each - 1] = now
                    while first <= len(self.queues) and (confirmed[first - 1] or first in refused):
                        first += 1
        return confirmed, len(refused)


class Declarer(Worker):
    """Declares queues one after the other; finds when it began, when it ended and how long each took."""

    def __init__(self, node, queues):
        super().__init__(node, None)
        self.queues = queues

    def work(self):
        # Connected, and waiting for the others.
        self.theirs.send("ready")
        self.theirs.recv()
        times = array("d", [time.monotonic()])
        for queue in self.queues:
            self.client.declare_queue(queue)
            times.append(time.monotonic())
        return times


def declare_all(workers, seconds=600):
    """Lets them all declare at once; how long it took from the first to the last."""
    for worker in workers:
        worker.begin()
    try:
        for worker in workers:
            ready = worker.ours.recv() if worker.ours.poll(60) else Failure("a connection was not made within 60 s")
            if isinstance(ready, Failure):
                raise ready
        end = time.monotonic() + seconds
        for worker in workers:
            worker.ours.send("go")
        found = [worker.result(max(1, end - time.monotonic())) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return max(times[-1] for times in found) - min(times[0] for times in found)


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


def end_all():
    """Ends the workers that a failed part has left."""
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


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

    Finds when messages were delivered, and when they were acknowledged.
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
