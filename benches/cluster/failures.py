"""What a publisher notices when the node of a queue's leader is killed, stopped or frozen."""

import time

from .amqp import Client
from .tools import Failure, goal, median, progress, quantile, table, time_text, until
from .warren import Node, Warren, freeze, thaw
from .workers import Publisher

QUEUE = "mirrored"


class Scene:
    """A mirrored queue, and a publisher with window 1 through a node that stays."""

    def __init__(self, cluster, options):
        self.cluster, self.options = cluster, options
        cluster.mirror(QUEUE)
        Client(cluster.nodes[0]).declare_queue(QUEUE)
        cluster.wait_in_sync(QUEUE)
        self.gaps, self.downs, self.complaints = [], [], []

    def once(self, strike, heal, down_after, watch=1.5):
        """Strikes the leader; the gap of the confirms, and when another node has shown it as down."""
        leader = self.cluster.leader(QUEUE, self.through())
        others = [node for node in self.cluster.nodes if node is not leader]
        through, watching = others
        publisher = Publisher(through, QUEUE).begin()
        time.sleep(1.5)
        begin = time.monotonic()
        strike(leader)
        try:
            down = self.cluster.wait_shown_down(leader, watching, begin, down_after)
        except Failure as failure:
            down = None
            self.complaints.append(str(failure))
        time.sleep(max(0, watch - (time.monotonic() - begin)))
        # What was sent into the silence is waited for.
        confirms = publisher.end(90)
        gap = confirms.longest(begin, time.monotonic())
        if confirms.complaint():
            self.complaints.append(confirms.complaint())
        heal(leader)
        leader.forget_connection()
        healed = time.monotonic()
        until("the node is back in sync", lambda: self.cluster.in_sync(QUEUE, self.cluster.nodes.index(through)) == 2, 120)
        until("all nodes run", self.cluster.all_run)
        client = Client(through)
        client.purge(QUEUE)
        client.close()
        shown = "not seen" if down is None else time_text(down)
        progress(f"  {leader.name}: gap {time_text(gap)}, shown as down after {shown}, back in sync {time_text(time.monotonic() - healed)} after")
        self.gaps.append(gap)
        if down is not None:
            self.downs.append(down)

    def through(self):
        return next(place for place, node in enumerate(self.cluster.nodes) if node.process.poll() is None)

    def print(self, what, gap_goal, down_goal):
        rows = []
        for title, values, wanted in (("next confirm", self.gaps, gap_goal), ("another node shows it as down", self.downs, down_goal)):
            if values and wanted:
                text = f"median {time_text(median(values))}, 99 % {time_text(quantile(values, 0.99))}, worst of {len(values)} {time_text(max(values))}"
                rows.append([f"{what}: {title} ≤ {wanted} s", text, goal(max(values) <= wanted)])
        table(["goal", "measured", ""], rows)
        for complaint in self.complaints:
            print(f"- {what}: {complaint}", flush=True)


def kill(options):
    """kill -9 of the leader's node."""
    with Warren(options) as cluster:
        scene = Scene(cluster, options)
        for _ in range(options.kills):
            scene.once(Node.kill, Node.start, 10)
        scene.print("`kill -9` of the leader", 1, 0.3)


def stop(options):
    """The leader's node stops in good order."""
    with Warren(options) as cluster:
        scene, idle = Scene(cluster, options), []

        def strike(node):
            # A client that does not answer: the node waits for it before it ends.
            idle.append(Client(node))
            node.terminate()

        def heal(node):
            node.wait_ended()
            node.start()
            idle.clear()

        for _ in range(options.stops):
            scene.once(strike, heal, 30, watch=3)
        scene.print("the leader's node stops in good order", 0.2, None)


def silent(options):
    """The leader's node is suspended, as if its host had died, and wakes up later."""
    with Warren(options) as cluster:
        scene = Scene(cluster, options)
        for _ in range(options.freezes):
            scene.once(freeze, thaw, 20, watch=8)
        scene.print("the leader's node falls silent", 5, 3)
