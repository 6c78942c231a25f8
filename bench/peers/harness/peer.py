# SPDX-License-Identifier: Apache-2.0
"""What every peer is to the harness: a store that is installed, started, loaded by one or more
client processes, stopped and killed.

A module of peers/ has a class that derives from Peer and says how to install, to start a server (or
that there is none) and to start a client; the rest is here. A client is a process that takes
commands on its standard input (load/load.c); what it measures is its own, what the server uses
besides is read from /proc. Whatever a peer does wrong is a PeerFailed: the harness makes a row
"failed" of it and goes on with the others. Processes are ended by their own process id.
"""
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parents[1]
PATIENCE_S = 60  # for a start, an end, and an answer beyond its own limit
SERVER_SPARE = 256 << 20
IMPORT_S = 240  # for clients that import much, several at once


class NotInstalled(Exception):
    """The peer is not here; why."""


class PeerFailed(Exception):
    """The peer did something that it should not have; what."""


@dataclasses.dataclass
class Setup:
    """How a store is set up: from nothing, in an empty folder of its own."""
    mode: str  # "memory" or "medium"
    folder: pathlib.Path  # memory: on tmpfs, for stores that are files
    memory: int  # bytes for blocks in memory; medium: so much, and no more, of the data
    room: int  # bytes that the store as a whole may keep
    block: int  # bytes of each block


@dataclasses.dataclass
class Sample:
    """One measurement of all clients at once."""
    bytes: int
    seconds: float
    done: int
    missing: int
    failed: int
    wrong: int
    client_cpu_s: float
    server_cpu_s: float
    tried: list  # blocks that each client began

    @property
    def rate(self):
        return self.bytes / self.seconds if self.seconds > 0 else 0.0


@dataclasses.dataclass
class Context:
    """What the run gives to all peers."""
    binary: pathlib.Path  # ctxkv
    load: pathlib.Path  # peers_load
    content: pathlib.Path  # libpeers_content.so
    installs: pathlib.Path  # a folder for each peer's own environment
    scratch: pathlib.Path  # on disk: logs
    may_install: bool
    run: int
    batch: int
    client_memory: list  # bytes of each client's blocks


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def end_process(process, number=signal.SIGTERM):
    """Signal, wait, and SIGKILL for one that does not end."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tail(path, lines=3):
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    return " / ".join(text.splitlines()[-lines:])[-400:]


class Client:
    """A client process: commands in, a line of JSON each out."""

    def __init__(self, command, log, env=None):
        self.log = log
        self.pending = b""
        with open(log, "wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=errors, env={**os.environ, **(env or {})})

    def say(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise PeerFailed(f"the client ended: {tail(self.log)}") from error

    def hear(self, timeout_s):
        end = time.monotonic() + timeout_s
        while b"\n" not in self.pending:
            ready, _, _ = select.select([self.process.stdout], [], [],
                                        max(0, end - time.monotonic()))
            if not ready:
                raise PeerFailed(f"no answer in {timeout_s:.0f} s: {tail(self.log)}")
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                raise PeerFailed(f"the client ended: {tail(self.log)}")
            self.pending += got
        line, self.pending = self.pending.split(b"\n", 1)
        return json.loads(line)

    def end(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        end_process(self.process, signal.SIGKILL)
        self.process.stdout.close()


class Peer:
    """See the head of this file. Derived classes set what is upper-case or says so."""

    name = ""  # of the row
    transport = ""
    modes = ("memory", "medium")
    why_not = ""  # why it lacks a mode
    has_server = True
    forgets = True  # makes room by itself; else the harness drops what it no longer needs
    maps_clients = False  # the shared memory in its processes is the memory of its clients
    works_on = False  # its servers have work of their own between its turns: they stand still then
    is_cached = False  # the kernel's page cache counts as its memory: bounded by a cgroup

    def __init__(self, context):
        self.context = context
        self.setup = None
        self.servers = []
        self.clients = []
        self.group = None
        self.rss_ready = 0

    # --- what a derived class says ---

    def install(self):
        """Make it be here, or raise NotInstalled. May fetch only if context.may_install."""

    def version(self):
        return ""

    def serve(self):
        """Start self.setup's server(s) with self.spawn(); return when they are ready. Called again
        after stop or kill, on the same folder."""

    def client(self, index):
        """(command, environment) of a client."""
        raise NotImplementedError

    # --- turns ---

    @contextlib.contextmanager
    def turn(self):
        """What it does is done in its own time, not in the others'."""
        self.tell(signal.SIGCONT)
        try:
            yield
        finally:
            self.tell(signal.SIGSTOP)

    def tell(self, number):
        for process in self.servers if self.works_on else ():
            if process.poll() is None:
                process.send_signal(number)

    # --- starting and ending ---

    @property
    def home(self):
        """Where it is installed."""
        return self.context.installs / self.name.split()[0]

    def log(self, what):
        return self.context.scratch / f"{self.name.replace(' ', '-')}.{what}.log"

    def spawn(self, command, what="server", env=None):
        """A server process, its output in a log; returns the log's path."""
        log = self.log(what)
        with open(log, "wb") as out:
            self.servers.append(subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}))
        return log

    def wait_for(self, is_ready, log, what="the server"):
        end = time.monotonic() + PATIENCE_S
        while not is_ready():
            if self.servers[-1].poll() is not None:
                raise PeerFailed(f"{what} ended: {tail(log)}")
            if time.monotonic() > end:
                raise PeerFailed(f"{what} was not ready in {PATIENCE_S} s: {tail(log)}")
            time.sleep(0.01)

    def wait_for_port(self, port, log):
        def is_open():
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0
        self.wait_for(is_open, log)

    def place(self, setup):
        self.setup = setup
        shutil.rmtree(setup.folder, ignore_errors=True)
        setup.folder.mkdir(parents=True)

    def start(self, setup):
        """Empty, with all clients."""
        self.place(setup)
        self.serve()
        self.clients_start()
        self.rss_ready = self.rss()
        self.group_make()

    def clients_start(self, count=None):
        for index in range(count or len(self.context.client_memory)):
            command, env = self.client(index)
            self.clients.append(Client([str(word) for word in command],
                                       self.log(f"client{index}"), env))
        for client in self.clients:
            client.hear(IMPORT_S)

    def clients_end(self):
        for client in self.clients:
            client.end()
        self.clients = []

    def stop(self, number=signal.SIGTERM):
        self.clients_end()
        for process in reversed(self.servers):
            end_process(process, number)
        self.servers = []

    def kill(self):
        """All that belongs to it, at once: for a store without a server the clients are it."""
        for process in [*self.servers, *(client.process for client in self.clients)]:
            process.kill()
        self.stop(signal.SIGKILL)

    def restart(self):
        """After stop() or kill(): on what is there, with one client."""
        self.serve()
        self.clients_start(1)
        self.group_fill()

    def rest(self):
        """The setup is over."""
        self.end()

    def end(self):
        """Nothing stays: no process, no file."""
        self.kill()
        self.group_end()
        if self.setup is not None:
            shutil.rmtree(self.setup.folder, ignore_errors=True)

    # --- loading ---

    def c_client(self, backend, target, index):
        """A client by load/load.c."""
        return [self.context.load, backend, target, self.context.run, self.context.batch,
                self.context.client_memory[index]], None

    def py_client(self, module, target, index, env=None):
        """A client of clients/, run by the peer's own Python."""
        return [self.home / "venv" / "bin" / "python", HERE / "clients" / module,
                json.dumps(target), self.context.run, self.context.batch,
                self.context.client_memory[index], self.context.content], env

    def command(self, lines, limit_s=0.0):
        """A line to each of the first clients; their answers."""
        for client, line in zip(self.clients, lines):
            client.say(line)
        return [client.hear(limit_s + PATIENCE_S) for client, _ in zip(self.clients, lines)]

    def measure(self, lines, limit_ms):
        cpu = self.cpu_s()
        answers = self.command(lines, limit_ms / 1e3)
        cpu = self.cpu_s() - cpu

        def total(name):
            return sum(answer[name] for answer in answers)
        seconds = (max(answer["end_ns"] for answer in answers) -
                   min(answer["begin_ns"] for answer in answers)) / 1e9
        return Sample(bytes=total("bytes"), seconds=seconds, done=total("done"),
                      missing=total("missing"), failed=total("failed"), wrong=total("wrong"),
                      client_cpu_s=total("cpu_ns") / 1e9, server_cpu_s=cpu,
                      tried=[answer["done"] + answer["missing"] + answer["failed"]
                             for answer in answers])

    def put(self, ranges, size, limit_ms):
        """ranges: (first, count) of each client."""
        return self.measure([f"put {size} {limit_ms} {first} {count}" for first, count in ranges],
                            limit_ms)

    def get(self, ranges, size, limit_ms, count, turn):
        """count blocks for each client out of its range (first, span)."""
        return self.measure([f"get {size} {limit_ms} {first} {span} {count} {turn}"
                             for first, span in ranges], limit_ms)

    def probe(self, first, span, calls):
        return self.command([f"probe {first} {span} {calls}"])[0]

    def drop(self, ranges):
        if not self.forgets:
            self.command([f"drop {first} {count}" for first, count in ranges])

    # --- what it uses ---

    def rss(self):
        """Bytes of memory of the servers; not what they have mapped of their clients' (maps_clients)."""
        total = 0
        for process in self.servers:
            text = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M))
            total += int(sizes.get("VmRSS", 0)) * 1024
            if self.maps_clients:
                total -= int(sizes.get("RssShmem", 0)) * 1024
        return total

    def cpu_s(self):
        """CPU seconds of the servers, to the nanosecond where the kernel says so."""
        total = 0.0
        for process in self.servers:
            for task in pathlib.Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    total += int(task.read_text(encoding="ascii").split()[0]) / 1e9
        return total

    # --- a bound for the page cache ---

    def pids(self):
        return [process.pid for process in
                [*self.servers, *(client.process for client in self.clients)]]

    def group_make(self):
        """Medium mode, through the page cache: all processes in a cgroup that allows setup.memory;
        what they have already (a client's blocks) stays charged to where they were. A server, whose
        blocks have that much already, has buffers and some page cache besides. Where it is not
        possible the report says so."""
        if self.setup.mode != "medium" or not self.is_cached:
            return
        root = pathlib.Path("/sys/fs/cgroup/memory")
        limit = "memory.limit_in_bytes"
        if not root.is_dir():
            root, limit = pathlib.Path("/sys/fs/cgroup"), "memory.max"
        group = root / f"ctxkv-peers-{os.getpid()}-{self.name.replace(' ', '-')}"
        try:
            group.mkdir(exist_ok=True)
            self.group = group
            self.group_fill()
            spare = SERVER_SPARE if self.has_server else 0
            (group / limit).write_text(str(self.setup.memory + spare), encoding="ascii")
        except OSError:
            self.group_end()

    def group_fill(self):
        if self.group is not None:
            for pid in self.pids():
                (self.group / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def group_end(self):
        if self.group is not None:
            for _ in range(50):  # its processes have ended, but the kernel may not know yet
                with contextlib.suppress(OSError):
                    self.group.rmdir()
                    break
                time.sleep(0.1)
            self.group = None
