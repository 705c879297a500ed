"""Waiting, tables, the clock of the disk, and `warren perf` as a load."""

import json
import os
import statistics
import subprocess
import sys
import time


class Failure(Exception):
    """Something that ends a part, in words for the user."""


def progress(text):
    print(text, file=sys.stderr, flush=True)


def until(what, ask, seconds=60, pause=0.1):
    """The first answer of `ask` that is true; errors count as not yet."""
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            found = ask()
            if found:
                return found
            last = found
        except (OSError, KeyError, ValueError, Failure) as error:
            last = error
        time.sleep(pause)
    raise Failure(f"not within {seconds} s: {what} (last answer: {last})")


def table(head, rows):
    """A Markdown table; all columns but the first are figures."""
    print("\n| " + " | ".join(head) + " |\n|---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def goal(reached):
    return "reached" if reached else "**missed**"


def median(values):
    return statistics.median(values)


def quantile(values, share):
    """The value below which that share of all lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def time_text(seconds):
    if seconds < 0.01:
        return f"{seconds * 1e6:,.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:,.0f} ms"
    return f"{seconds:,.2f} s"


def fdatasyncs(folder, count):
    """How long a written block takes to reach the disk, over blocks that are there: the least that a commit costs."""
    path = os.path.join(folder, "fdatasync")
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.write(file, bytes(4096 * count))
        os.fsync(file)
        found = []
        for number in range(count):
            start = time.perf_counter()
            os.pwrite(file, b"x" * 4096, 4096 * number)
            os.fdatasync(file)
            found.append(time.perf_counter() - start)
        return found
    finally:
        os.close(file)
        os.unlink(path)


def perf(binary, node, queue, load, seconds=0, pids=(), patience=300):
    """A run of `warren perf` on a queue that is there; its report."""
    command = [binary, "perf", "--uri", f"amqp://guest:guest@{node.address}:{node.port}", "--json"]
    command += f"-u {queue} -p -z {seconds} {load}".split()
    if pids:
        command += ["--broker-pid", ",".join(map(str, pids))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + patience)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{' '.join(command)}: has not ended within {seconds + patience:.0f} s") from error
    if done.returncode:
        raise Failure(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


class Background:
    """A `warren perf` beside what is measured, from `with` to its end."""

    def __init__(self, binary, node, queue, load):
        uri = f"amqp://guest:guest@{node.address}:{node.port}"
        self.command = [binary, "perf", "--uri", uri, *f"-u {queue} -p {load}".split()]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        return self

    def __exit__(self, kind, *_):
        ended = self.process.poll() is not None
        self.process.kill()
        self.process.wait()
        if ended and kind is None:
            raise Failure(f"{' '.join(self.command)}: has ended too early; run it by hand to see why")
