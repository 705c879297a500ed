"""What mirrors cost that come, come back and take over: `sync`, `rejoin` and `many`."""

import time

from .amqp import Client
from .rabbitmq import RabbitMQ
from .tools import Failure, goal, perf, progress, quantile, table, time_text, until
from .warren import Warren
from .workers import Burst, Consumer, Declarer, Publisher, declare_all

# Messages a second of the publisher and the consumer beside.
RATE = 500

FILL = "-s 1024 -f persistent -y 0 -c 1000"

# Messages that tell how many bytes one takes between nodes.
CALIBRATION = 1000


def fill(options, node, queue, count):
    report = perf(options.binary, node, queue, f"{FILL} -C {count}", patience=120 + count / 1000)
    if report["confirmed"] != count:
        raise Failure(f"of {count} messages {report['confirmed']} were confirmed ({report['error'] or report['stop_reason']})")
    progress(f"  {count:,} messages in {report['seconds']:.0f} s")


def sync(options):
    """Mirrors are added to a long queue while it is used."""
    with Warren(options) as cluster:
        sync_of(options, cluster, options.messages)
    if options.rabbitmq:
        with RabbitMQ(options) as cluster:
            sync_of(options, cluster, options.rabbitmq_messages)


def sync_of(options, cluster, length):
    ours = cluster.name == "Warren"
    leader, second, third = cluster.nodes
    client = Client(leader)
    client.declare_queue("sync")
    fill(options, leader, "sync", length)
    # What the fill has left to do for the disk is not what is measured.
    time.sleep(3)
    publisher, consumer = Publisher(second, "sync", RATE, patience=60).begin(), Consumer(third, "sync", RATE).begin()
    time.sleep(1)
    before = time.monotonic()
    time.sleep(options.seconds * 2)
    sent = cluster.sent_bytes() if ours else None
    begin = time.monotonic()
    cluster.mirror("sync")
    # RabbitMQ's tool takes seconds of processor time: it is asked less often.
    until("both mirrors are in sync", lambda: cluster.in_sync("sync") == 2, 180 + length / 1000, 0.25 if ours else 3)
    end = time.monotonic()
    carried = sum(count - sent.get(link, 0) for link, count in cluster.sent_bytes().items()) if ours else None
    time.sleep(2)
    after = time.monotonic()
    confirms, deliveries = publisher.end(120), consumer.end()
    seconds = end - begin
    text = f"{length:,} messages of 1 KiB in {seconds:.1f} s"
    if carried is not None:
        text += f", {carried / 1e6:,.0f} MB between nodes, {carried / length / 1024:.2f} × the messages"
    progress(f"  {cluster.name}: {text}; p99 after it {time_text(quantile(confirms.latencies(end, after), 0.99))}")
    rows = []
    for title, found in (("confirms", confirms), ("deliveries", deliveries)):
        gaps = found.longest(before, begin), found.longest(begin, end)
        rows.append([f"longest gap between {title}", *map(time_text, gaps), "≤ 1 s", goal(gaps[1] <= 1)])
        p99 = [quantile(found.latencies(*span), 0.99) for span in ((before, begin), (begin, end))]
        rows.append([f"latency of {title}, 99 %", *map(time_text, p99), "≤ 2 × before", goal(p99[1] <= 2 * p99[0])])
    if confirms.complaint():
        print(f"- {cluster.name}: {confirms.complaint()}", flush=True)
    client.close()
    table([f"{cluster.name}: two mirrors are added to a queue in use, {text}", "before", "during", "goal", ""], rows)


def rejoin(options):
    """A mirror comes back to a long queue; what it is sent against what it lacks."""
    backlog = options.backlog
    with Warren(options) as cluster:
        cluster.mirror("rejoin")
        leader, second, victim = cluster.nodes
        client = Client(leader)
        client.declare_queue("rejoin")
        cluster.wait_in_sync("rejoin")
        each, extra = bytes_a_message(options, leader, victim)
        fill(options, leader, "rejoin", backlog - extra)
        until("the backlog counts", lambda: cluster.queue("rejoin")["messages"] == backlog, 30)
        victim.kill()
        victim.forget_connection()
        away = time.monotonic()
        publisher, consumer = Publisher(second, "rejoin", RATE).begin(), Consumer(leader, "rejoin", RATE).begin()
        time.sleep(10)
        taken = consumer.end().acked
        confirms = publisher.end()
        lacked = len(confirms.pairs)
        left = backlog - taken + lacked
        until("what was acknowledged is gone", lambda: cluster.queue("rejoin")["messages"] == left, 30)
        begin = time.monotonic()
        victim.start()
        told = wait_back(cluster, victim, leader)
        seconds = time.monotonic() - begin
        until("the node answers", lambda: victim.api("GET", "overview"), 30)
        received = received_bytes(victim)
        messages = cluster.queue("rejoin")["messages"]
        client.close()
    progress(f"  away {begin - away:.0f} s, {taken} taken meanwhile, {each:.0f} B a message while all is well, {told} left as the leader tells")
    table(
        ["a mirror comes back", "measured"],
        [
            [f"queue of {messages:,} messages of 1 KiB; it lacks", f"{lacked:,}"],
            ["messages left to send, the most that the leader told", "not seen" if told is None else f"{told:,}"],
            ["it received", f"{received / 1e6:.1f} MB, as much as {received / each:,.0f} messages take"],
            ["from the start of its process to in sync", time_text(seconds)],
            ["goal: it is sent what it lacks (≤ 1.1 ×)", f"{received / each / lacked:.2f} ×, {goal(received / each <= 1.1 * lacked)}"],
        ],
    )
    if messages != left:
        print(f"- the queue has {messages} messages, not {left}", flush=True)
    if confirms.complaint():
        print(f"- a mirror is away: {confirms.complaint()}", flush=True)


def bytes_a_message(options, leader, mirror):
    """What a message costs between nodes while all is well, and how many were sent to find out."""
    for number in range(1, 6):
        before = mirror.links()
        perf(options.binary, leader, "rejoin", f"{FILL} -C {CALIBRATION}")
        after = mirror.links()
        if before.keys() == after.keys():
            grown = sum(after[link]["recv_bytes"] - before[link]["recv_bytes"] for link in after)
            return grown / CALIBRATION, number * CALIBRATION
    raise Failure("the links between nodes do not last: the machine is too busy, run it again when it is quiet")


def received_bytes(node):
    return sum(stats["recv_bytes"] for stats in node.links().values())


def wait_back(cluster, victim, leader):
    """Waits until the mirror is in sync; the most messages that were left to send, if that was seen."""
    most, end = None, time.monotonic() + 120
    while time.monotonic() < end:
        shown = leader.api("GET", "queues/%2F/rejoin")
        for mirror in shown["mirror_details"]:
            if mirror["node"] == victim.name and mirror["sync_messages_left"]:
                most = max(most or 0, mirror["sync_messages_left"])
        if len(shown["synchronised_slave_nodes"]) == 2:
            return most
        time.sleep(0.02)
    raise Failure("the mirror is not in sync within 120 s")


def many(options):
    """The node that leads very many mirrored queues is killed."""
    names = [f"many-{number}" for number in range(options.queues)]
    with Warren(options) as cluster:
        cluster.mirror("many")
        victim, second, third = cluster.nodes
        seconds = declare_all([Declarer(victim, names[place::12]) for place in range(12)])
        progress(f"  {len(names):,} queues declared in {seconds:.1f} s")
        until("all queues are in sync", lambda: states(third)[1] == len(names), 300, 0.5)
        confirmed, refused = Burst(third, names).begin().result(150)
        if refused or None in confirmed:
            raise Failure(f"before the kill: {refused} of {len(names)} publishes were refused, {confirmed.count(None)} not confirmed")
        begin = time.monotonic()
        victim.kill()
        victim.forget_connection()
        burst = Burst(third, names).begin()
        running = until("all queues run on other nodes", lambda: time.monotonic() if states(second, victim)[0] == len(names) else None, 120, 0.25) - begin
        confirmed, refused = burst.result(150)
        last = max((each for each in confirmed if each), default=begin) - begin
        back = time.monotonic()
        victim.start()
        until("all mirrors are in sync again", lambda: states(second)[1] == len(names), 300, 0.5)
        back = time.monotonic() - back
        messages = [queue["messages"] for queue in second.api("GET", "queues?columns=messages", seconds=60)]
        gaps = [again(cluster, turn, len(names)) for turn in range(3)]
    rows = [
        ["all run on other nodes, asked every 250 ms", time_text(running), goal(running <= 5)],
        ["one message to each, published at once through another node: last confirm", time_text(last), goal(last <= 5)],
        ["killed node started again: all mirrors in sync", time_text(back), ""],
        [f"another node is killed while they come back: next confirm, worst of {len(gaps)}", time_text(max(gaps)), f"1 s: {goal(max(gaps) <= 1)}"],
    ]
    table([f"{len(names):,} mirrored queues, the node that leads all is killed", "measured", "goal: 5 s"], rows)
    unconfirmed, lost = confirmed.count(None), sum(count < 2 for count in messages)
    if refused or unconfirmed or (lost and lost > unconfirmed):
        print(f"- {refused} publishes were refused, {unconfirmed} not confirmed; {lost} queues have less than two messages", flush=True)


def again(cluster, turn, count):
    """Kills the leader of one queue while the mirrors of all come back to another node; the gap between its confirms."""
    back, victim, stays = (cluster.nodes[(turn + place) % 3] for place in range(3))
    through, queue = cluster.nodes.index(stays), f"many-again-{turn}"
    client = Client(victim)
    client.declare_queue(queue)
    cluster.wait_in_sync(queue, through=through)
    back.kill()
    back.forget_connection()
    until("the killed node's mirrors are out", lambda: states(stays)[1] == 0, 120, 0.25)
    publisher = Publisher(stays, queue, patience=150).begin()
    back.start()
    until("some mirrors are back", lambda: states(stays)[1], 120, 0.25)
    in_sync, begin = states(stays)[1], time.monotonic()
    victim.kill()
    victim.forget_connection()
    shown = cluster.wait_shown_down(victim, stays, begin)
    time.sleep(1)
    confirms = publisher.end(200)
    gap = confirms.longest(begin, time.monotonic())
    progress(f"  {in_sync:,} were back when {victim.name} was killed: gap {time_text(gap)}, shown as down after {time_text(shown)}")
    if confirms.complaint():
        print(f"- another node is killed while mirrors come back: {confirms.complaint()}", flush=True)
    victim.start()
    until("all mirrors are in sync again", lambda: states(stays)[1] == count + turn + 1, 300, 0.5)
    return gap


def states(node, victim=None):
    """How many queues run, on other nodes than the victim, and how many have two mirrors in sync."""
    queues = node.api("GET", "queues?columns=name,node,state,synchronised_slave_nodes", seconds=60)
    running = sum(queue.get("state") == "running" and (victim is None or queue["node"] != victim.name) for queue in queues)
    return running, sum(len(queue.get("synchronised_slave_nodes") or []) == 2 for queue in queues)
