"""Nodes of Warren, each on a loopback address of its own with the usual ports."""

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .tools import Failure, until


def free_network():
    """A loopback network that nobody listens in."""
    for network in range(77, 250):
        try:
            for number in (1, 2, 3):
                for port in (5672, 15672, 25672):
                    with socket.socket() as probe:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        probe.bind((f"127.0.{network}.{number}", port))
            return f"127.0.{network}"
        except OSError:
            continue
    raise Failure("the ports 5672, 15672 and 25672 are taken on all of loopback: stop what listens there")


class Node:
    port = 5672

    def __init__(self, binary, folder, network, number, count):
        self.binary, self.address = binary, f"{network}.{number}"
        self.folder = os.path.join(folder, str(number))
        os.mkdir(self.folder)
        self.name = f"warren@{self.address}"
        self.process = self.connection = None
        self.config = os.path.join(self.folder, "rabbitmq.conf")
        lines = [
            f"listeners.tcp.1 = {self.address}:5672",
            f"management.tcp.ip = {self.address}",
            f"prometheus.tcp.ip = {self.address}",
            f"distribution.listener.interface = {self.address}",
            "log.console = false",
            "cluster_formation.peer_discovery_backend = classic_config",
        ]
        lines += [f"cluster_formation.classic_config.nodes.{n} = warren@{network}.{n}" for n in range(1, count + 1)]
        with open(self.config, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")

    def start(self):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "WARREN_"))}
        environment.update(
            WARREN_NODENAME=self.name,
            WARREN_COOKIE="benchmark",
            WARREN_DATA_DIR=os.path.join(self.folder, "data"),
            WARREN_LOG_BASE=os.path.join(self.folder, "log"),
        )
        with open(os.path.join(self.folder, "output"), "ab") as out:
            command = [self.binary, "server", "--config-file", self.config]
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """Asks the node to stop in good order."""
        self.process.terminate()

    def wait_ended(self, seconds=60):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{self.name} has not stopped within {seconds} s") from error

    def api(self, what, path, body=None, seconds=20):
        """A request to the node's HTTP API, over a connection that stays."""
        headers = {"authorization": "Basic " + base64.b64encode(b"guest:guest").decode(), "content-type": "application/json"}
        data = json.dumps(body) if body is not None else None
        for fresh in (self.connection is None, True):
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection(self.address, 15672, timeout=seconds)
                self.connection.request(what, f"/api/{path}", data, headers)
                answer = self.connection.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self.forget_connection()
                # A node closes connections that were idle for long.
                if fresh or isinstance(error, TimeoutError):
                    raise Failure(f"{what} {path} at {self.name}: {error or type(error).__name__}") from error
        if answer.status >= 300:
            raise Failure(f"{what} {path} at {self.name}: {answer.status} {text.decode(errors='replace')[:500]}")
        return json.loads(text) if text else None

    def links(self):
        """The counters of the links with other nodes; a link that was lost and made anew counts from zero."""
        links = self.api("GET", f"nodes/{self.name}").get("cluster_links", [])
        return {(link["name"], link["sock_port"], link["peer_port"]): link["stats"] for link in links}

    def forget_connection(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def log(self):
        """The end of the node's log and of what it has printed."""
        text = ""
        for path in (os.path.join(self.folder, "log", f"{self.name}.log"), os.path.join(self.folder, "output")):
            if os.path.exists(path):
                with open(path, errors="replace") as file:
                    text += file.read()
        return text


class Warren:
    """A cluster of fresh nodes, from `with` to its end."""

    name = "Warren"

    def __init__(self, options, count=3):
        self.binary, self.keep, self.count = options.binary, options.keep, count

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="warren-cluster-")
        network = free_network()
        self.nodes = [Node(self.binary, self.folder, network, number, self.count) for number in range(1, self.count + 1)]
        try:
            for node in self.nodes:
                node.start()
            until("all nodes run", self.all_run)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.forget_connection()
            if node.process is not None:
                node.kill()
        if self.keep:
            print(f"data and logs are in {self.folder}", flush=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def all_run(self):
        for node in self.nodes:
            if node.process.poll() is not None:
                raise Failure(f"{node.name} has ended: {node.log()[-1000:]}")
        return all(sum(each["running"] for each in node.api("GET", "nodes")) == self.count for node in self.nodes)

    def pids(self):
        return [node.process.pid for node in self.nodes]

    def mirror(self, pattern, **keys):
        definition = {"ha-mode": "all", "ha-sync-mode": "automatic", **{key.replace("_", "-"): value for key, value in keys.items()}}
        self.nodes[0].api("PUT", f"policies/%2F/{pattern}", {"pattern": f"^{pattern}", "apply-to": "queues", "definition": definition})

    def queue(self, name, through=0):
        return self.nodes[through].api("GET", f"queues/%2F/{name}")

    def in_sync(self, queue, through=0):
        """How many mirrors have everything."""
        return len(self.queue(queue, through).get("synchronised_slave_nodes", []))

    def wait_in_sync(self, queue, count=2, through=0, seconds=120):
        until(f"{count} mirrors of {queue} are in sync", lambda: self.in_sync(queue, through) == count, seconds)

    def leader(self, queue, through=0):
        name = self.queue(queue, through)["node"]
        return next(node for node in self.nodes if node.name == name)

    def sent_bytes(self):
        """What the present links between nodes have carried."""
        found = {}
        for node in self.nodes:
            for link, stats in node.links().items():
                found[node.name, *link] = stats["send_bytes"]
        return found

    def wait_shown_down(self, victim, by, since, seconds=30):
        """Seconds from `since` until the other node shows the victim as down, asked every 10 ms."""
        def down():
            return any(node["name"] == victim.name and not node["running"] for node in by.api("GET", "nodes?columns=name,running"))
        until(f"{by.name} shows {victim.name} as down", down, seconds, 0.01)
        return time.monotonic() - since


def freeze(node):
    node.signal(signal.SIGSTOP)


def thaw(node):
    node.signal(signal.SIGCONT)
