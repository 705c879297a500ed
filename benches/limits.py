#!/usr/bin/env python3
"""What one node of Warren takes: a long backlog and its restart, many connections and queues, a large message.

    benches/limits.py                          builds Warren, measures everything, prints a table
    benches/limits.py target/release/warren --parts backlog --messages 1000000

Each part has a fresh broker. Memory is the resident set of the process. Needs Linux and Python 3.9.
"""

import argparse
import json
import os
import resource
import signal
import struct
import time
import urllib.request

import compare
from cluster.amqp import Client, short
from compare import Failure, Run, Warren, progress


class Address:
    """Where a client connects to."""

    def __init__(self, broker):
        self.address = "127.0.0.1"
        self.port = broker.amqp_port


def resident(broker):
    with open(f"/proc/{broker.process.pid}/status") as file:
        kibibytes = next(line.split()[1] for line in file if line.startswith("VmRSS:"))
    return int(kibibytes) * 1024


def mebibytes(size):
    return f"{size / 2**20:,.0f} MiB"


def messages_in(client, queue):
    answer = client.call((50, 10), b"\0\0" + short(queue) + b"\x01" + bytes(4), (50, 11))
    return struct.unpack_from(">I", answer, 1 + len(queue))[0]


def backlog(options, broker):
    run, count = Run(options, broker), options.messages
    client = Client(Address(broker))
    before = resident(broker)
    fill = f"-u limits -y 0 -s 16 -f persistent -ad false -c 5000 -C {count}"
    filled = run.perf(fill.split())
    if messages_in(client, "limits") != count:
        raise Failure("messages are missing")
    full = resident(broker)
    client.close()
    broker.process.send_signal(signal.SIGTERM)
    broker.process.wait()
    broker.start()
    client = Client(Address(broker))
    left = messages_in(client, "limits")
    seconds = time.monotonic() - broker.started
    if left != count:
        raise Failure(f"{count - left} messages are gone after the restart")
    again = resident(broker)
    drained = run.perf(f"-u limits -x 0 -f persistent -ad false -q 1000 -A 100 -D {count}".split())
    confirmed, received = filled["confirmed_per_second"], drained["received_per_second"]
    yield f"{count:,} persistent messages of 16 B in one queue, confirmed", f"{confirmed:,.0f} messages/s"
    memory = f"{(full - before) / count:.1f} B a message ({mebibytes(before)} before, {mebibytes(full)} with them"
    yield "memory for them", f"{memory}, {mebibytes(again)} after a restart)"
    yield "restart with them, until a client has counted them", f"{seconds:.2f} s"
    yield "taking them out, prefetch 1,000, ack every 100", f"{received:,.0f} messages/s"


def connections(options, broker):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(options.connections, hard - 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 100), hard))
    before = resident(broker)
    clients = [Client(Address(broker)) for _ in range(count)]
    after = resident(broker)
    # The first is served as before.
    clients[0].declare_queue("limits")
    for client in clients:
        client.close()
    each = f"{(after - before) / count / 1024:.1f} KiB each"
    yield f"{count:,} idle connections with a channel", f"{each} ({mebibytes(before)} before, {mebibytes(after)} with them)"


def queues(options, broker):
    client = Client(Address(broker))
    before, count = resident(broker), options.queues
    begun = time.monotonic()
    for number in range(count):
        client.declare_queue(f"limits-{number}")
    seconds = time.monotonic() - begun
    after = resident(broker)
    each = f"{(after - before) / count / 1024:.1f} KiB each"
    yield f"{count:,} durable queues", f"{each} ({mebibytes(before)} before, {mebibytes(after)} with them)"
    yield "declaring one, one after the other", f"{seconds / count * 1e6:,.0f} µs"


def large(options, broker):
    size = 100 * 2**20
    done = Run(options, broker).perf(f"-u limits -s {size} -f persistent -ad false -C 1 -D 1 -c 1".split())
    confirmed, received = (done[key]["p50"] / 1e6 for key in ("confirm_latency_us", "consumer_latency_us"))
    yield "one persistent message of 100 MiB", f"confirmed after {confirmed:.2f} s, received after {received:.2f} s"


def definitions(options, broker):
    count = options.queues
    names = [{"name": f"limits-{number}", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}} for number in range(count)]
    address = f"http://127.0.0.1:{broker.other_port}/api/definitions"
    headers = {"Content-Type": "application/json", "Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="}
    body = json.dumps({"queues": names}).encode()
    begun = time.monotonic()
    urllib.request.urlopen(urllib.request.Request(address, body, headers, method="POST"), timeout=300).close()
    seconds = time.monotonic() - begun
    if messages_in(Client(Address(broker)), f"limits-{count - 1}") != 0:
        raise Failure("the last queue is not empty")
    yield f"definitions with {count:,} durable queues imported", f"{seconds:.2f} s, {mebibytes(resident(broker))} then"


PARTS = {"backlog": backlog, "connections": connections, "queues": queues, "definitions": definitions, "large": large}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("warren", nargs="?", help="the program warren; built by cargo if missing")
    parser.add_argument("--parts", default=",".join(PARTS), help="default %(default)s")
    parser.add_argument("--messages", type=int, default=10_000_000, help="of the backlog, default %(default)s")
    parser.add_argument("--connections", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--queues", type=int, default=10_000, help="default %(default)s")
    options = parser.parse_args()
    Warren.binary = os.path.abspath(options.warren) if options.warren else compare.build()
    options.perf = [Warren.binary, "perf"]
    print("| what | measured |\n|---|---|", flush=True)
    for part in options.parts.split(","):
        if part not in PARTS:
            raise Failure(f"no part is called {part!r}; there are {', '.join(PARTS)}")
        progress(f"{part} ...")
        with Warren() as broker:
            for what, measured in PARTS[part](options, broker):
                print(f"| {what} | {measured} |", flush=True)


if __name__ == "__main__":
    compare.end_with(main)
