"""What changes of the metadata cost: many declarations at once, and one commit after the other."""

import time

from .amqp import Client
from .rabbitmq import RabbitMQ
from .tools import fdatasyncs, goal, median, progress, table, time_text
from .warren import Warren
from .workers import Declarer, declare_all

KINDS = {"plain": "unmirrored", "mirrored": "mirrored on three nodes"}


def measure(options):
    """Declarations through three nodes, and a commit beside one fdatasync."""
    with Warren(options) as ours:
        commits(ours, "three nodes")
        if options.rabbitmq:
            with RabbitMQ(options) as theirs:
                rates(options, ours, theirs)
        else:
            rates(options, ours, None)
    with Warren(options, count=1) as ours:
        commits(ours, "one node")


def rates(options, ours, theirs):
    clusters = [ours, theirs] if theirs else [ours]
    found, names = {}, iter(range(1 << 30))
    for cluster in clusters:
        cluster.mirror("mirrored")
    for _ in range(options.declare_rounds):
        for clients in options.declare_clients:
            for kind in KINDS:
                for cluster in clusters:
                    queues = [f"{kind}-{next(names)}" for _ in range(options.declarations)]
                    nodes = cluster.nodes * clients
                    seconds = declare_all([Declarer(node, queues[place :: len(nodes)]) for place, node in enumerate(nodes)])
                    found.setdefault((clients, kind), {}).setdefault(cluster.name, []).append(len(queues) / seconds)
                    progress(f"  {cluster.name}: {len(queues)} {kind} queues, {clients} connections a node: {seconds:.2f} s")
    rows = []
    for (clients, kind), rates in found.items():
        many = "one connection" if clients == 1 else f"{clients} connections"
        row = [f"{options.declarations:,} durable queues, {KINDS[kind]}, declared through three nodes at once, {many} each"]
        row += [f"{median(values):,.0f} /s" for values in rates.values()]
        if theirs:
            times = median(rates["Warren"]) / median(rates["RabbitMQ"])
            row += [f"{times:.1f} ×", goal(times >= 20)]
        rows.append(row)
    table(["declared", "Warren", RabbitMQ.version(), "Warren is faster by", "goal: 20 ×"] if theirs else ["declared", "Warren"], rows)


def commits(cluster, title):
    """Latencies of one client that declares one thing after the other, between times of the disk alone."""
    disk, found = [], {"exchange.declare": [], "queue.declare": []}
    clients = [Client(node) for node in cluster.nodes]
    for number in range(12):
        disk += fdatasyncs(cluster.folder, 50)
        client = clients[number % len(clients)]
        for kind, call in (("exchange.declare", client.declare_exchange), ("queue.declare", client.declare_queue)):
            for each in range(50):
                start = time.perf_counter()
                call(f"commit-{number}-{each}")
                found[kind].append(time.perf_counter() - start)
    for client in clients:
        client.close()
    rows = []
    for kind, values in found.items():
        times = median(values) / median(disk)
        rows.append([f"{kind}, {title}, median", time_text(median(values)), time_text(median(disk)), f"{times:.1f} ×", goal(times <= 3)])
    table(["metadata commit", "takes", "one fdatasync", "", "goal: 3 ×"], rows)
