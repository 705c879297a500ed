#!/usr/bin/env python3
"""Compares Warren with RabbitMQ by PerfTest, RabbitMQ's own load generator.

    benches/perftest.py                          builds Warren, fetches PerfTest, prints a table
    benches/perftest.py target/release/warren --rounds 3 --seconds 10

Each run has a fresh broker, and rounds alternate, as in compare.py. PerfTest shares the machine with
the broker, and is itself the limit where the broker is quick: the table says how much of a broker
one gets who measures so, compare.py what the broker takes.

Needs Linux, Python 3.9, Java 11 and, for the first run, Maven.
"""

import argparse
import glob
import os
import re
import shutil
import statistics
import subprocess

import compare
from compare import Failure, RabbitMQ, Warren, progress

VERSION = "2.22.1"
LOADS = ["-s 16 -a", "-s 1024 -a", "-s 1024 -f persistent -c 200 -A 50 -q 500", "-s 1024 -a -r 1000"]

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>warren</groupId><artifactId>perftest</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>com.rabbitmq</groupId><artifactId>perf-test</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""


def jars():
    """The folder of PerfTest and what it needs, from Maven the first time."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folder = os.path.join(root, "target", "perftest", VERSION)
    if not glob.glob(os.path.join(folder, "perf-test-*.jar")):
        if not shutil.which("mvn"):
            raise Failure("PerfTest comes through Maven: install it (Debian: maven), or give --jars")
        progress(f"fetching PerfTest {VERSION}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "pom.xml"), "w") as file:
            file.write(POM)
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
        fetched = subprocess.run(
            ["mvn", "-B", "-q", copy, f"-DoutputDirectory={folder}"], cwd=folder, capture_output=True, text=True
        )
        if fetched.returncode != 0:
            raise Failure(f"Maven has no PerfTest for us:\n{fetched.stdout[-2000:]}")
    return folder


def number(pattern, output):
    found = re.findall(pattern, output)
    return float(found[-1]) if found else None


def perftest(folder, broker, load, seconds):
    """One run: messages sent and received a second, and the consumers' median latency in µs."""
    command = ["java", "-cp", os.path.join(folder, "*"), "com.rabbitmq.perf.PerfTest"]
    command += ["-h", broker.uri(), "-u", "perftest", "-z", str(seconds), *load.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    sent = number(r"sending rate avg: (\d+)", done.stdout)
    received = number(r"receiving rate avg: (\d+)", done.stdout)
    if done.returncode != 0 or received is None:
        raise Failure(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-2000:]}")
    latency = re.findall(r"consumer latency min/median/\S+ ([\d/]+) (\S+)", done.stdout)
    return sent, received, microseconds(*latency[-1]) if latency else None


def microseconds(values, unit):
    median = float(values.split("/")[1])
    return median * {"µs": 1, "us": 1, "ms": 1000}.get(unit, 1)


def median(runs, place):
    values = [run[place] for run in runs if run[place] is not None]
    return statistics.median(values) if values else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("warren", nargs="?", help="the program warren; built by cargo if missing")
    parser.add_argument("--jars", help="a folder with PerfTest's jar and those that it needs")
    parser.add_argument("--rounds", type=int, default=2, help="default %(default)s")
    parser.add_argument("--seconds", type=int, default=8, help="length of a run, default %(default)s")
    options = parser.parse_args()
    Warren.binary = os.path.abspath(options.warren) if options.warren else compare.build()
    RabbitMQ.server = RabbitMQ.find()
    brokers = [Warren] + ([RabbitMQ] if RabbitMQ.server else [])
    folder = options.jars or jars()
    rows = []
    for load in LOADS:
        runs = {kind: [] for kind in brokers}
        for _ in range(options.rounds):
            for kind in brokers:
                with kind() as broker:
                    runs[kind].append(perftest(folder, broker, load, options.seconds))
                progress(f"{load}: {kind.name}: {runs[kind][-1]}")
        row = [f"`{load}`"]
        for kind in reversed(brokers):
            sent, received, latency = (median(runs[kind], place) for place in range(3))
            delay = f", {latency / 1000:,.2f} ms" if latency is not None else ""
            row.append(f"{sent:,.0f} sent, {received:,.0f} received{delay}")
        if len(brokers) == 2:
            row.append(f"{median(runs[Warren], 1) / median(runs[RabbitMQ], 1):.1f} ×")
        rows.append(row)
    head = [f"PerfTest {VERSION}"] + [f"{kind.version()}, messages/s and median latency" for kind in reversed(brokers)]
    head += ["Warren receives"] if len(brokers) == 2 else []
    for row in [head, ["---"] + ["---:"] * (len(head) - 1), *rows]:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    compare.end_with(main)
