"""Rates and processor time under load, beside RabbitMQ."""

from .amqp import Client
from .rabbitmq import RabbitMQ
from .tools import Background, median, perf, progress, table
from .warren import Warren

PERSISTENT = "-s 1024 -f persistent -c 200 -q 500 -A 50"
SMALL = "-s 16 -a"
WINDOW_1 = "-s 1024 -f persistent -c 1 -a"
WINDOW_1_ACKED = "-s 1024 -f persistent -c 1 -q 500 -A 50"
SLOW = "-s 1024 -f persistent -c 10 -q 50 -A 10 -r 100"

THROUGH_LEADER = "1 KiB persistent, on three nodes, through its leader"
THROUGH_OTHER = "1 KiB persistent, on three nodes, through another node"
ONE_BY_ONE = "1 KiB persistent, on three nodes, confirm window 1, auto-ack"
ONE_BY_ONE_ACKED = "1 KiB persistent, on three nodes, confirm window 1, ack every 50"

# Title, the node that the load connects to (1 leads all queues), queue, load.
MIRRORED = [
    (THROUGH_LEADER, 0, "mirrored", PERSISTENT),
    (THROUGH_OTHER, 1, "mirrored", PERSISTENT),
    (ONE_BY_ONE, 0, "mirrored", WINDOW_1),
    (ONE_BY_ONE_ACKED, 0, "mirrored", WINDOW_1_ACKED),
]
PLAIN = [
    ("16 B auto-ack, unmirrored, through its owner", 0, "plain", SMALL),
    ("16 B auto-ack, unmirrored, through another node", 1, "plain", SMALL),
    ("1 KiB persistent, unmirrored, through its owner", 0, "plain", PERSISTENT),
    ("1 KiB persistent, unmirrored, through another node", 1, "plain", PERSISTENT),
]
BESIDE = [PLAIN[0], PLAIN[2]]
WITH_SLOW = ", while a mirrored queue beside takes 100 msg/s"


class Load:
    """One cluster and what was found of it: rate and processor time of each case, round by round."""

    def __init__(self, cluster, options):
        self.cluster, self.options, self.found = cluster, options, {}
        self.client = Client(cluster.nodes[0])
        cluster.mirror("mirrored")
        for queue in ("plain", "mirrored", "mirrored-slow"):
            self.client.declare_queue(queue)
        cluster.wait_in_sync("mirrored")
        cluster.wait_in_sync("mirrored-slow")

    def run(self, case, suffix=""):
        title, place, queue, load = case
        report = perf(self.options.binary, self.cluster.nodes[place], queue, load + " --warmup 1", self.options.seconds, self.cluster.pids())
        self.client.purge(queue)
        rate, cost = report["received_per_second"], report["broker"]["cpu_us_per_message"]
        progress(f"  {self.cluster.name}: {title}{suffix}: {rate:,.0f} msg/s, {cost:.1f} µs")
        self.found.setdefault(title + suffix, []).append((rate, cost))

    def result(self, title):
        return [median(column) for column in zip(*self.found[title])]


def measure(options):
    """Rates and processor time, Warren and RabbitMQ in alternating rounds."""
    with Warren(options) as ours:
        if not options.rabbitmq:
            return run(options, Load(ours, options), None)
        with RabbitMQ(options) as theirs:
            return run(options, Load(ours, options), Load(theirs, options))


def run(options, ours, theirs):
    for number in range(options.rounds):
        progress(f"round {number + 1}")
        for case in PLAIN:
            ours.run(case)
        for case in MIRRORED:
            ours.run(case)
            if theirs:
                theirs.run(case)
        with Background(options.binary, ours.cluster.nodes[0], "mirrored-slow", SLOW):
            for case in BESIDE:
                ours.run(case, WITH_SLOW)
    rows = []
    for title in ours.found:
        rate, cost = ours.result(title)
        rows.append([title, f"{rate:,.0f} msg/s", f"{cost:.1f} µs a message"])
    table(["load", "received", "processor time of all nodes"], rows)
    if theirs:
        rows = []
        for title in theirs.found:
            (rate, cost), (their_rate, their_cost) = ours.result(title), theirs.result(title)
            rows.append([title, f"{their_rate:,.0f} msg/s", f"{rate / their_rate:.1f} ×", f"{their_cost:.1f} µs", f"{their_cost / cost:.1f} × less"])
        table(["load", f"{RabbitMQ.version()}", "Warren", "its processor time", "Warren"], rows)
    rows = []
    for title, *_ in BESIDE:
        alone, beside = ours.result(title), ours.result(title + WITH_SLOW)
        rows.append([title + WITH_SLOW, "loses nothing", f"{beside[0] / alone[0]:.0%} of the rate alone"])
    for title in (PLAIN[0][0], PLAIN[2][0]):
        owner, other = ours.result(title), ours.result(title.replace("its owner", "another node"))
        rows.append([f"{title.split(',')[0]}, through another node", "≥ 70 %", f"{other[0] / owner[0]:.0%} of the owner's rate"])
    table(["goal", "wanted", "measured"], rows)
