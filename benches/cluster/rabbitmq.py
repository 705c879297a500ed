"""Nodes of RabbitMQ on this machine, joined to a cluster, with ports, names and an epmd of their own."""

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .tools import Failure, progress, until

FOLDER = "/usr/lib/rabbitmq/bin"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Node:
    address = "127.0.0.1"

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.name = f"bench{number}-{os.getpid()}@localhost"
        self.folder = os.path.join(cluster.folder, str(number))
        os.mkdir(self.folder)
        self.port, dist_port = free_ports(2)
        self.process = None
        config = os.path.join(self.folder, "rabbitmq.conf")
        with open(config, "w", encoding="ascii") as file:
            file.write(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        plugins = os.path.join(self.folder, "plugins")
        with open(plugins, "w", encoding="ascii") as file:
            file.write("[].\n")
        self.environment = dict(
            cluster.environment,
            RABBITMQ_NODENAME=self.name,
            RABBITMQ_CONFIG_FILE=config,
            RABBITMQ_DIST_PORT=str(dist_port),
            RABBITMQ_MNESIA_BASE=self.folder,
            RABBITMQ_LOG_BASE=self.folder,
            RABBITMQ_ENABLED_PLUGINS_FILE=plugins,
        )

    def start(self):
        with open(os.path.join(self.folder, "output"), "ab") as out:
            self.process = subprocess.Popen(
                [os.path.join(FOLDER, "rabbitmq-server")], env=self.environment, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )

    def listens(self):
        if self.process.poll() is not None:
            with open(os.path.join(self.folder, "output"), errors="replace") as file:
                raise Failure(f"{self.name} has ended: {file.read()[-1000:]}")
        socket.create_connection((self.address, self.port), timeout=1).close()
        return True

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def ctl(self, *arguments, seconds=120):
        command = [os.path.join(FOLDER, "rabbitmqctl"), "--node", self.name, "--quiet", *arguments]
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"rabbitmqctl {' '.join(arguments)} has not ended within {seconds} s") from error
        if done.returncode:
            raise Failure(f"rabbitmqctl {' '.join(arguments)}: {(done.stdout + done.stderr)[-1000:]}")
        return done.stdout


class RabbitMQ:
    """A cluster of three fresh nodes without plugins, from `with` to its end."""

    name = "RabbitMQ"

    def __init__(self, options):
        self.keep = options.keep

    @staticmethod
    def found():
        return os.access(os.path.join(FOLDER, "rabbitmq-server"), os.X_OK) and shutil.which("epmd")

    @staticmethod
    def version():
        folders = glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*")
        return "RabbitMQ " + (folders[0].rsplit("-", 1)[1] if folders else "")

    def __enter__(self):
        progress("three nodes of RabbitMQ start and join")
        self.folder = tempfile.mkdtemp(prefix="rabbitmq-cluster-")
        self.nodes, self.epmd = [], None
        try:
            port = str(free_ports(1)[0])
            self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "WARREN_"))}
            # The Erlang cookie is kept in the home folder.
            self.environment.update(HOME=self.folder, ERL_EPMD_PORT=port, ERL_EPMD_ADDRESS="127.0.0.1")
            self.epmd = subprocess.Popen(["epmd", "-port", port, "-address", "127.0.0.1"], env=self.environment, stderr=subprocess.DEVNULL)
            self.nodes = [Node(self, number) for number in (1, 2, 3)]
            first = self.nodes[0]
            # The first one makes the cookie.
            first.start()
            until(f"{first.name} listens", first.listens, 120)
            for node in self.nodes[1:]:
                node.start()
            for node in self.nodes[1:]:
                until(f"{node.name} listens", node.listens, 120)
            for node in self.nodes[1:]:
                node.ctl("stop_app")
                node.ctl("join_cluster", first.name)
                node.ctl("start_app")
            running = json.loads(first.ctl("cluster_status", "--formatter", "json"))["running_nodes"]
            if len(running) != 3:
                raise Failure(f"of RabbitMQ's nodes only {', '.join(running)} run")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            if node.process is not None:
                node.kill()
        if self.epmd is not None:
            self.epmd.kill()
            self.epmd.wait()
        if self.keep:
            print(f"data and logs are in {self.folder}", flush=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self):
        return [node.process.pid for node in self.nodes]

    def mirror(self, pattern):
        self.nodes[0].ctl("set_policy", "--apply-to", "queues", pattern, f"^{pattern}", '{"ha-mode":"all","ha-sync-mode":"automatic"}')

    def in_sync(self, queue):
        rows = json.loads(self.nodes[0].ctl("list_queues", "name", "synchronised_slave_pids", "--formatter", "json"))
        pids = next(row["synchronised_slave_pids"] for row in rows if row["name"] == queue)
        return len(pids or [])

    def wait_in_sync(self, queue, count=2, seconds=300):
        until(f"{count} mirrors of {queue} are in sync", lambda: self.in_sync(queue) == count, seconds, 0.5)
