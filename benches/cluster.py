#!/usr/bin/env python3
"""What a cluster of three nodes on this machine costs, with `warren perf` as the load.

    cargo build --release && python3 benches/cluster.py

Measures in alternating rounds, and prints medians:
- an unmirrored queue through its owner and through a node that does not own it,
- the same mirrored on all nodes (`ha-mode: all`), 1 KiB persistent, confirm window 200, ack every 50,
- confirm window 1, mirrored,
and then the gap between two confirms when the leader of a mirrored queue is killed (kill -9), `--kills`
times; the node is started again each time.

Processor time is user and system time of all three nodes for a message received.
"""

import argparse
import base64
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

PERSISTENT = "-s 1024 -f persistent -c 200 -q 500 -A 50"
SMALL = "-s 16 -a"
WINDOW_1 = "-s 1024 -f persistent -c 1 -a"


def api(node, method, path, body=None):
    request = urllib.request.Request(f"http://{node}:15672/api/{path}", method=method)
    request.add_header("authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    request.add_header("content-type", "application/json")
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(request, data, timeout=20) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def until(what, ask, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = ask()
            if found:
                return found
        except (OSError, urllib.error.URLError, KeyError, ValueError):
            pass
        time.sleep(0.1)
    sys.exit(f"not within {seconds} s: {what}")


class Node:
    """One node, on a loopback address of its own with the usual ports."""

    def __init__(self, binary, folder, number):
        self.binary, self.address = binary, f"127.0.77.{number}"
        self.folder = os.path.join(folder, str(number))
        os.mkdir(self.folder)
        self.name = f"warren@{self.address}"
        self.config = os.path.join(self.folder, "rabbitmq.conf")
        peers = "".join(f"cluster_formation.classic_config.nodes.{n} = warren@127.0.77.{n}\n" for n in (1, 2, 3))
        with open(self.config, "w", encoding="ascii") as file:
            file.write(
                f"listeners.tcp.1 = {self.address}:5672\nmanagement.tcp.ip = {self.address}\n"
                f"distribution.listener.interface = {self.address}\nlog.console = false\n"
                f"cluster_formation.peer_discovery_backend = classic_config\n{peers}"
            )

    def start(self):
        environment = dict(
            os.environ,
            WARREN_NODENAME=self.name,
            WARREN_COOKIE="benchmark",
            WARREN_DATA_DIR=os.path.join(self.folder, "data"),
            WARREN_LOG_BASE=os.path.join(self.folder, "log"),
        )
        with open(os.path.join(self.folder, "output"), "ab") as out:
            command = [self.binary, "server", "--config-file", self.config]
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)

    def cpu(self):
        """Seconds of processor time so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def perf(binary, node, queue, load, seconds):
    command = [binary, "perf", "--uri", f"amqp://guest:guest@{node.address}", "--json"]
    command += f"-u {queue} -p -z {seconds} {load}".split()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def declare(node, queue):
    api(node.address, "PUT", f"queues/%2F/{queue}", {"durable": True, "node": node.name})


def in_sync(node, queue, count):
    shown = api(node.address, "GET", f"queues/%2F/{queue}")
    return len(shown.get("synchronised_slave_nodes", [])) == count


class Confirms(threading.Thread):
    """One publisher with window 1 through a node that stays; keeps the longest time between two confirms."""

    def __init__(self, binary, node, queue, seconds):
        super().__init__()
        self.arguments = (binary, node, queue, WINDOW_1 + " -y 0", seconds)

    def run(self):
        self.report = perf(*self.arguments)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", default="target/release/warren")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=5)
    options.add_argument("--kills", type=int, default=10)
    options = options.parse_args()
    binary = os.path.abspath(options.binary)
    folder = tempfile.mkdtemp(prefix="warren-cluster-")
    nodes = [Node(binary, folder, number) for number in (1, 2, 3)]
    try:
        for node in nodes:
            node.start()
        running = lambda: sum(node["running"] for node in api(nodes[0].address, "GET", "nodes")) == 3
        until("three nodes run", running)
        measure(binary, nodes, options)
        failover(binary, nodes, options)
    finally:
        for node in nodes:
            node.process.kill()
            node.process.wait()
        subprocess.run(["rm", "-rf", folder], check=False)


def measure(binary, nodes, options):
    declare(nodes[0], "plain")
    api(nodes[0].address, "PUT", "policies/%2F/mirrored", {"pattern": "^mirrored", "definition": {"ha-mode": "all", "ha-sync-mode": "automatic"}})
    declare(nodes[0], "mirrored")
    until("the mirrors are in sync", lambda: in_sync(nodes[0], "mirrored", 2))
    cases = [
        ("16 B auto-ack, unmirrored, through its owner", 0, "plain", SMALL),
        ("16 B auto-ack, unmirrored, through another node", 1, "plain", SMALL),
        ("1 KiB persistent, unmirrored, through its owner", 0, "plain", PERSISTENT),
        ("1 KiB persistent, unmirrored, through another node", 1, "plain", PERSISTENT),
        ("1 KiB persistent, on three nodes, through its leader", 0, "mirrored", PERSISTENT),
        ("1 KiB persistent, on three nodes, through another node", 1, "mirrored", PERSISTENT),
        ("1 KiB persistent, on three nodes, confirm window 1", 0, "mirrored", WINDOW_1),
    ]
    found = {title: [] for title, *_ in cases}
    for _ in range(options.rounds):
        for title, place, queue, load in cases:
            before = sum(node.cpu() for node in nodes)
            report = perf(binary, nodes[place], queue, load, options.seconds)
            cost = sum(node.cpu() for node in nodes) - before
            received = report["received_per_second"]
            found[title].append((received, cost / max(1, received * options.seconds) * 1e6))
            api(nodes[0].address, "DELETE", f"queues/%2F/{queue}/contents")
    print("| load | received | processor time of all nodes |\n|---|---:|---:|")
    for title, values in found.items():
        rate, cost = (statistics.median(column) for column in zip(*values))
        print(f"| {title} | {rate:,.0f} msg/s | {cost:.1f} µs a message |", flush=True)


def failover(binary, nodes, options):
    """Kills the leader of a mirrored queue under a publisher that is connected to another node."""
    gaps = []
    for _ in range(options.kills):
        leader = api(nodes[2].address, "GET", "queues/%2F/mirrored")["node"]
        victim = next(node for node in nodes if node.name == leader)
        other = next(node for node in nodes if node is not victim)
        publisher = Confirms(binary, other, "mirrored", 5)
        publisher.start()
        time.sleep(2.5)
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait()
        publisher.join()
        gaps.append(publisher.report["confirm_latency_us"]["max"] / 1e6)
        victim.start()
        until("the node is back", lambda: in_sync(other, "mirrored", 2))
        api(other.address, "DELETE", "queues/%2F/mirrored/contents")
    if gaps:
        gaps.sort()
        print(f"\nkill -9 of the leader, {len(gaps)} times: the longest wait for a confirm, median {statistics.median(gaps):.2f} s, worst {gaps[-1]:.2f} s")


if __name__ == "__main__":
    main()
