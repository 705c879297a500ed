#!/usr/bin/env python3
"""Compares Warren with RabbitMQ on this machine, with `warren perf` as the load.

    benches/compare.py                          builds Warren, runs everything, prints a table
    benches/compare.py target/release/warren    takes this Warren
    benches/compare.py --scenarios small,latency --rounds 1 --seconds 5
    benches/compare.py --write docs/performance.md

Every run has a broker of its own: freshly started, with its own ports and an empty data folder, and
alone on the machine but for the load. Rounds alternate between the brokers (Warren, RabbitMQ,
Warren, ...), so that what else the machine does meets both. The table shows the medians.

RabbitMQ is optional; it is looked for where Debian puts it. It runs with its default settings and
without plugins, which is less than Warren does: Warren always serves its management API.

Needs Linux and Python 3.9, and nothing else.
"""

import argparse
import glob
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BEGIN = "<!-- compare: begin -->"
END = "<!-- compare: end -->"
START_TIMEOUT = 120

# The queue of the first publish after a start.
FIRST = "-f persistent -u compare-first"

# What a producer without confirms may have in its socket. By default that is megabytes, which a
# broker would still be busy with when the run is over.
SMALL_SOCKET = ["--tcp-send-buffer-size", "65536"]


class Measure:
    """A figure of a run: where it stands in the report, and which direction is better."""

    def __init__(self, title, path, form, higher_is_better=False):
        self.title = title
        self.path = path
        self.form = form
        self.higher_is_better = higher_is_better

    def of(self, report):
        value = report
        for key in self.path.split("."):
            value = value[key] if value is not None else None
        return value

    def times_better(self, ours, theirs):
        """How many times better the first is."""
        better, worse = (ours, theirs) if self.higher_is_better else (theirs, ours)
        return better / worse if better and worse else None


def microseconds(value):
    if value < 10_000:
        return f"{value:,.0f} µs"
    return f"{value / 1000:,.1f} ms"


RECEIVED = Measure("received", "received_per_second", "{:,.0f} msg/s".format, True)
CONFIRMED = Measure("confirmed", "confirmed_per_second", "{:,.0f} msg/s".format, True)
CPU = Measure("broker CPU per message", "broker.cpu_us_per_message", "{:.2f} µs".format)
MEDIAN = Measure("latency, median", "consumer_latency_us.p50", microseconds)
P99 = Measure("latency, 99 %", "consumer_latency_us.p99", microseconds)
CONFIRM_MEDIAN = Measure("confirm latency, median", "confirm_latency_us.p50", microseconds)
CONFIRM_P99 = Measure("confirm latency, 99 %", "confirm_latency_us.p99", microseconds)
RESIDENT = Measure("memory (RSS)", "resident_mebibytes", "{:,.0f} MiB".format)
SECONDS = Measure("time", "seconds", "{:.2f} s".format)


class Scenario:
    """A load and what is shown of it. Without a load it is done by a method of `Run`."""

    def __init__(self, name, title, arguments, measures):
        self.name = name
        self.title = title
        self.arguments = arguments.split() if arguments is not None else None
        self.measures = measures


SCENARIOS = [
    Scenario(
        "small",
        "16 B, auto-ack, 1 producer, 1 consumer",
        "-u compare -s 16 -a",
        [RECEIVED, CPU],
    ),
    Scenario(
        "kib",
        "1 KiB, auto-ack, 1 producer, 1 consumer",
        "-u compare -s 1024 -a",
        [RECEIVED, CPU],
    ),
    Scenario(
        "persistent",
        "1 KiB persistent, confirm window 200, ack every 50",
        "-u compare -s 1024 -f persistent -ad false -c 200 -q 500 -A 50",
        [RECEIVED, CPU, CONFIRM_MEDIAN, CONFIRM_P99],
    ),
    Scenario(
        "fanout",
        "fan-out 1 to 10, 1 KiB, auto-ack",
        "-t fanout -e compare -y 10 -s 1024 -a",
        [RECEIVED, CPU],
    ),
    Scenario(
        "queues",
        "100 queues, 100 producers and consumers, 1 KiB, confirm window 10 each",
        "-qp compare-%d -qpf 1 -qpt 100 -x 100 -y 100 -s 1024 -a -c 10",
        [RECEIVED, CPU, MEDIAN, P99],
    ),
    Scenario(
        "shared",
        "4 producers, 4 consumers, one queue, 1 KiB, ack every 50",
        "-u compare -x 4 -y 4 -s 1024 -q 500 -A 50",
        [RECEIVED, CPU],
    ),
    Scenario(
        "latency",
        "1,000 msg/s, 1 KiB, auto-ack",
        "-u compare -s 1024 -a -r 1000",
        [MEDIAN, P99, CPU],
    ),
    Scenario(
        "confirm",
        "1 KiB persistent, confirm window 1, auto-ack",
        "-u compare -s 1024 -f persistent -ad false -c 1 -a",
        [CONFIRMED, CONFIRM_MEDIAN, CONFIRM_P99],
    ),
    Scenario(
        "disk",
        "1 KiB persistent, confirm window 1, no consumer: the disk decides",
        "-u compare -y 0 -s 1024 -f persistent -ad false -c 1",
        [CONFIRMED, CONFIRM_MEDIAN, CONFIRM_P99],
    ),
    Scenario("idle", "idle, 5 s after the start", None, [RESIDENT]),
    Scenario("start", "from start to first confirmed publish", None, [SECONDS]),
]


class Failure(Exception):
    """Something that ends the comparison, in words for the user."""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Broker:
    """A broker process with ports and a folder of its own, from `with` to its end."""

    name = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="compare-")
        self.amqp_port, self.other_port, self.node_port, self.metrics_port = free_ports(4)
        self.start()
        return self

    def start(self):
        """Starts the process, and waits until it listens."""
        log = open(os.path.join(self.folder, "output"), "wb")
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("RABBITMQ_", "WARREN_"))
        }
        environment.update(self.environment())
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command(),
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        try:
            self.wait_until_listening()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        # Nothing in the folder is worth an orderly end, and the whole group goes with it.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait_until_listening(self):
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.amqp_port), timeout=1).close()
                return
            except OSError:
                pass
            if self.process.poll() is not None:
                raise Failure(f"{self.name} ended at once:\n{self.output()}")
            if time.monotonic() - self.started > START_TIMEOUT:
                raise Failure(f"{self.name} does not listen:\n{self.output()}")
            time.sleep(0.002)

    def output(self):
        with open(os.path.join(self.folder, "output"), errors="replace") as file:
            return file.read()[-3000:]

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def uri(self):
        return f"amqp://127.0.0.1:{self.amqp_port}"


class Warren(Broker):
    name = "Warren"
    binary = None

    def command(self):
        return [self.binary, "server"]

    def environment(self):
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.amqp_port}",
            "management.tcp.ip = 127.0.0.1",
            f"management.tcp.port = {self.other_port}",
            "prometheus.tcp.ip = 127.0.0.1",
            f"prometheus.tcp.port = {self.metrics_port}",
        ]
        return {
            "WARREN_NODENAME": "compare@127.0.0.1",
            "WARREN_CONFIG_FILE": self.write("rabbitmq.conf", "\n".join(lines) + "\n"),
            "WARREN_DATA_DIR": os.path.join(self.folder, "data"),
            "WARREN_DIST_PORT": str(self.node_port),
        }

    @classmethod
    def version(cls):
        command = [cls.binary, "--version"]
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except subprocess.TimeoutExpired:
            return "Warren"
        words = found.stdout.split()
        return f"Warren {words[1]}" if len(words) > 1 else "Warren"


class RabbitMQ(Broker):
    name = "RabbitMQ"
    server = None
    plugins = ""

    def command(self):
        return [self.server]

    def environment(self):
        return {
            # The Erlang cookie is kept in the home folder.
            "HOME": self.folder,
            "RABBITMQ_NODENAME": f"compare-{os.getpid()}@localhost",
            "RABBITMQ_CONFIG_FILE": self.write(
                "rabbitmq.conf", f"listeners.tcp.1 = 127.0.0.1:{self.amqp_port}\n"
            ),
            "RABBITMQ_DIST_PORT": str(self.node_port),
            "RABBITMQ_MNESIA_BASE": self.folder,
            "RABBITMQ_LOG_BASE": self.folder,
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.write("plugins", f"[{self.plugins}].\n"),
        }

    @classmethod
    def find(cls):
        path = "/usr/lib/rabbitmq/bin/rabbitmq-server"
        return path if os.access(path, os.X_OK) else shutil.which("rabbitmq-server")

    @classmethod
    def version(cls):
        folders = glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*")
        return "RabbitMQ " + (folders[0].rsplit("-", 1)[1] if folders else "")


class Run:
    """One scenario on one fresh broker."""

    def __init__(self, options, broker):
        self.options = options
        self.broker = broker

    def perf(self, arguments):
        command = [*self.options.perf, "--uri", self.broker.uri(), "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"{' '.join(command)}\n{done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def report(self, scenario):
        """What the scenario has measured. Each run also tells how long the start took."""
        self.perf(f"{FIRST} -y 0 -C 1 -c 1".split())
        seconds = time.monotonic() - self.broker.started
        if scenario.name == "start":
            return {"seconds": seconds}
        pid = str(self.broker.process.pid)
        if scenario.name == "idle":
            time.sleep(5)
            look = self.perf(f"{FIRST} -x 0 -z 1 --broker-pid {pid}".split())
            return {"resident_mebibytes": look["broker"]["resident_bytes"] / 2**20}
        arguments = [*scenario.arguments, "-z", str(self.options.seconds)]
        if "-r" not in scenario.arguments:
            arguments += SMALL_SOCKET
        return self.perf(
            [*arguments, "--warmup", str(self.options.warmup), "--broker-pid", pid]
        )


def progress(text):
    print(text, file=sys.stderr, flush=True)


def describe(scenario, report):
    shown = []
    for measure in scenario.measures:
        value = measure.of(report)
        shown.append(f"{measure.title} {measure.form(value) if value is not None else 'none'}")
    return ", ".join(shown)


def run_all(options, brokers, scenarios):
    """All reports, by scenario and broker."""
    reports = {(s.name, b.name): [] for s in scenarios for b in brokers}
    for scenario in scenarios:
        progress(f"{scenario.name}: {scenario.title}")
        for number in range(options.rounds):
            for kind in brokers:
                with kind() as broker:
                    report = Run(options, broker).report(scenario)
                reports[scenario.name, kind.name].append(report)
                progress(f"  {number + 1} {kind.name}: {describe(scenario, report)}")
    return reports


def median(measure, reports):
    values = [value for value in map(measure.of, reports) if value is not None]
    return statistics.median(values) if values else None


def table(brokers, scenarios, reports):
    both = len(brokers) == 2
    names = [kind.name for kind in brokers]
    head = ["Scenario", "Measured", *names] + (["Warren is better by"] if both else [])
    rows = [head, ["---", "---"] + ["---:"] * (len(head) - 2)]
    for scenario in scenarios:
        title = scenario.title
        for measure in scenario.measures:
            values = [median(measure, reports[scenario.name, name]) for name in names]
            row = [title, measure.title]
            row += [measure.form(v) if v is not None else "–" for v in values]
            if both:
                times = measure.times_better(*values)
                row.append(f"{times:.1f} ×" if times is not None else "–")
            rows.append(row)
            title = ""
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def processor():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return models[0] if models else platform.machine()


def text_of(options, brokers, scenarios, reports):
    versions = " and ".join(kind.version() for kind in brokers)
    lines = [
        f"Measured on {time.strftime('%Y-%m-%d')} with `benches/compare.py`: {versions}, on"
        f" {os.cpu_count()} × {processor()}, Linux {platform.release()}; broker and load on the"
        f" same machine. Medians of rounds: {options.rounds}, each {options.seconds} s long after"
        f" {options.warmup} s of warm-up and on a freshly started broker. CPU is user and system"
        " time of the broker's processes per message received. Latencies at a fixed rate count"
        " from the time a message was due.",
        "",
        table(brokers, scenarios, reports),
    ]
    return "\n".join(lines)


def write_section(path, text):
    """Puts the text between the markers of a file, or makes the file."""
    section = f"{BEGIN}\n{text}\n{END}"
    if os.path.exists(path):
        with open(path) as file:
            old = file.read()
        if old.count(BEGIN) != 1 or old.count(END) != 1:
            raise Failure(f"{path} needs the lines {BEGIN} and {END}, once each")
        front, rest = old.split(BEGIN)
        new = front + section + rest.split(END)[1]
    else:
        new = f"# Performance\n\n{section}\n"
    with open(path, "w") as file:
        file.write(new)


def build():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    progress("cargo build --release --bin warren")
    done = subprocess.run(
        ["cargo", "build", "--release", "--bin", "warren", "--message-format", "json"],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        raise Failure("warren does not build")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "warren":
            return message["executable"]
    raise Failure("cargo has built no program warren")


def arguments():
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("warren", nargs="?", help="the program warren; built by cargo if missing")
    add("--perf", help="the load generator, if it is not warren itself")
    add("--rabbitmq", help="the script rabbitmq-server")
    add("--rabbitmq-plugins", default="", help="such as rabbitmq_management,rabbitmq_prometheus")
    add("--only", choices=["warren", "rabbitmq"], help="run one broker only")
    add("--scenarios", default=",".join(names), help="default: %(default)s")
    add("--rounds", type=int, default=3, help="runs of each scenario, default %(default)s")
    add("--seconds", type=int, default=10, help="length of a run, default %(default)s")
    add("--warmup", type=int, default=2, help="seconds before it, default %(default)s")
    add("--write", metavar="FILE", help=f"put the result between {BEGIN} and {END} as well")
    add("--raw", metavar="FILE", help="write all reports as JSON")
    options = parser.parse_args()
    wanted = options.scenarios.split(",")
    unknown = [name for name in wanted if name not in names]
    if unknown or min(options.rounds, options.seconds) < 1:
        parser.error(f"no such scenario: {', '.join(unknown)}" if unknown else "at least 1")
    return options, [scenario for scenario in SCENARIOS if scenario.name in wanted]


def choose_brokers(options):
    """Finds the programs; sets `options.perf` to the command of the load generator."""
    brokers = []
    if options.only != "rabbitmq" or not options.perf:
        Warren.binary = os.path.abspath(options.warren) if options.warren else build()
    if options.only != "rabbitmq":
        brokers.append(Warren)
    RabbitMQ.server = options.rabbitmq or RabbitMQ.find()
    RabbitMQ.plugins = options.rabbitmq_plugins
    if options.only != "warren" and RabbitMQ.server:
        brokers.append(RabbitMQ)
    elif options.only == "rabbitmq":
        raise Failure("there is no rabbitmq-server")
    elif options.only is None:
        progress("there is no rabbitmq-server: Warren alone")
    options.perf = [options.perf] if options.perf else [Warren.binary, "perf"]
    return brokers


def main():
    options, scenarios = arguments()
    brokers = choose_brokers(options)
    reports = run_all(options, brokers, scenarios)
    text = text_of(options, brokers, scenarios, reports)
    print(text)
    if options.raw:
        with open(options.raw, "w") as file:
            named = {f"{s} {b}": found for (s, b), found in reports.items()}
            json.dump(named, file, indent=2)
    if options.write:
        write_section(options.write, text)


def end_with(work):
    """Does it; a failure ends the program in words for the user."""
    try:
        work()
    except Failure as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    end_with(main)
