#!/usr/bin/env python3
"""What a cluster of three nodes on this machine costs and how it takes failures, beside RabbitMQ.

    cargo build --release && python3 benches/cluster.py
    python3 benches/cluster.py --parts kill,stop --kills 3

The parts, each with fresh nodes of its own; all of them by default:
PARTS
Each prints rows for docs/performance.md. Rounds alternate between Warren and RabbitMQ where both are
measured, and medians are shown. Processor time is user and system time of all three nodes with their
children, for a message received. RabbitMQ is looked for where Debian puts it; without it, or with
--no-rabbitmq, Warren is measured alone.

Needs Linux and Python 3.9, and nothing else. A part that fails does not keep the next ones from
running; the exit code tells.
"""

import argparse
import os
import signal
import sys
import time

from cluster import declare, failures, load, mirrors, workers
from cluster.rabbitmq import RabbitMQ
from cluster.tools import Failure, progress

PARTS = {
    "load": load.measure,
    "kill": failures.kill,
    "stop": failures.stop,
    "silent": failures.silent,
    "declare": declare.measure,
    "sync": mirrors.sync,
    "rejoin": mirrors.rejoin,
    "many": mirrors.many,
}


def arguments():
    about = "".join(f"  {name:<9}{part.__doc__.splitlines()[0]}\n" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        description=__doc__.replace("PARTS\n", about), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--binary", default="target/release/warren", help="default: %(default)s")
    add("--parts", default=",".join(PARTS), help="default: %(default)s")
    add("--no-rabbitmq", dest="rabbitmq", action="store_false", help="measure Warren alone")
    add("--keep", action="store_true", help="keep data and logs of the nodes")
    add("--rounds", type=int, default=3, help="rounds of load, default %(default)s")
    add("--seconds", type=int, default=5, help="length of each load, default %(default)s")
    add("--kills", type=int, default=30, help="default %(default)s")
    add("--stops", type=int, default=10, help="clean stops, default %(default)s")
    add("--freezes", type=int, default=10, help="suspended nodes, default %(default)s")
    add("--declarations", type=int, default=2000, help="queues declared through three nodes, default %(default)s")
    add("--declare-clients", default="1,8", help="connections to each node that declare at once, default %(default)s")
    add("--declare-rounds", type=int, default=1, help="default %(default)s")
    add("--messages", type=int, default=1_000_000, help="length of the queue that gets mirrors, default %(default)s")
    add("--rabbitmq-messages", type=int, default=100_000, help="the same for RabbitMQ, which takes long, default %(default)s")
    add("--backlog", type=int, default=100_000, help="length of the queue that a mirror comes back to, default %(default)s")
    add("--queues", type=int, default=10_000, help="queues whose node is killed at once, default %(default)s")
    options = parser.parse_args()
    options.parts = options.parts.split(",")
    options.declare_clients = [int(count) for count in options.declare_clients.split(",")]
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    options.binary = os.path.abspath(options.binary)
    if not os.access(options.binary, os.X_OK):
        parser.error(f"there is no program {options.binary}: build it with cargo build --release, or name it with --binary")
    if options.rabbitmq and not RabbitMQ.found():
        progress("there is no rabbitmq-server: Warren alone")
        options.rabbitmq = False
    return options


def main():
    options = arguments()
    failed = False
    for name in options.parts:
        progress(f"{name}: {PARTS[name].__doc__.splitlines()[0]}")
        begin = time.monotonic()
        try:
            PARTS[name](options)
        except (Failure, OSError) as failure:
            failed = True
            print(f"\n{name} failed: {failure}\n", flush=True)
        finally:
            workers.end_all()
        progress(f"{name} took {time.monotonic() - begin:.0f} s")
    sys.exit(failed)


if __name__ == "__main__":
    # Ended in any way, it ends what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
