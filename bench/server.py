# SPDX-License-Identifier: Apache-2.0
"""What the figures share: a server of their own, a cell of `ctxkv bench`, a floor's file. Needs nothing
but Python and the binary."""
import dataclasses
import json
import mmap
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

import pairs

BENCH_OURS = ("--evict", "--keep")  # the store is the figure's
INTERVAL = "a ratio is the median of those of the rounds, with its 95 % interval (order statistics)."


class Server:
    """setup and start in a folder; ended by end()."""

    def __init__(self, binary, folder, setup, start=()):
        self.binary, self.folder, self.options = binary, folder, list(start)
        self.process = None
        shutil.rmtree(folder, ignore_errors=True)
        self.command("setup", *setup, "--dir", folder, "--listen", "127.0.0.1:0",
                     "--admin-listen", "none")

    commands = []  # what was run, of all servers
    running = []  # servers to be ended, should a figure break off

    def note(self, *arguments):
        text = " ".join(["ctxkv", *map(str, arguments)]).replace(str(self.folder.parent), "$T")
        text = re.sub(r"ctxkv://\S+", "$URL", text)
        if text not in self.commands:
            self.commands.append(text)

    def bench(self, *arguments, timeout=900):
        """Into a store of our own: its blocks stay for who comes next, and may push out older ones. Rows with
        failures are the figure's to judge."""
        return self.command("bench", "--url", self.url, *arguments, *BENCH_OURS, timeout=timeout,
                            has_rows="--json" in arguments)

    def command(self, *arguments, timeout=900, has_rows=False):
        self.note(*arguments)
        done = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True,
                              timeout=timeout, check=False)
        if done.returncode != 0 and not (has_rows and done.returncode == 1 and done.stdout.endswith("]\n")):
            sys.exit(f"ctxkv {' '.join(map(str, arguments))}: {done.returncode}\n"
                     f"{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, timeout=120):
        """Returns (seconds to ready, what the server printed)."""
        log = self.folder / "server.log"
        begin = time.monotonic()
        with open(log, "w", encoding="utf-8") as out:
            # Figures are of one reactor, unless they ask for more.
            words = ["start", "--no-supervise", "--dir", self.folder, "--listen", "127.0.0.1:0",
                     *([] if "--reactors" in self.options else ["--reactors", "1"]), *map(str, self.options)]
            self.note(*words)
            self.process = subprocess.Popen([self.binary, *words], stdout=out, stderr=subprocess.STDOUT)
        self.running.append(self)
        while time.monotonic() < begin + timeout:
            text = log.read_text(encoding="utf-8")
            ready = re.search(r"^ready\s+(\S+)", text, re.M)
            if ready:
                self.url = f"ctxkv://default@{ready[1]}?keyfile={self.folder}/secrets"
                return time.monotonic() - begin, text
            if self.process.poll() is not None:
                sys.exit("the server ended:\n" + text)
            time.sleep(0.005)
        sys.exit("the server was not ready")

    def stat(self):
        return json.loads(self.command("stat", "--json", "--url", self.url))

    def end(self, number=signal.SIGTERM):
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=60)
            self.process = None
            self.running.remove(self)


def verdict(is_ok):
    return "ok" if is_ok else "**short**"


def median(values):
    return statistics.median(values)


def gib(value):
    return f"{value / 2**30:.2f}"


def us(ns):
    return f"{ns / 1e3:.1f} us"


def bench_rows(run, server, *arguments, transport="tcp", working_set=None, duration=None, rounds=None):
    """Rows of ctxkv bench."""
    return json.loads(server.bench(
        "--transport", transport, "--rounds", rounds or run.rounds, "--duration",
        duration or run.duration, "--json", "--working-set", working_set or run.working_set, *arguments))


@dataclasses.dataclass
class BesidePuts:
    """What gets take alone, and beside a writer."""
    written: float  # bytes a second
    cells: str  # p50 alone and beside, p99 alone and beside
    ratio: pairs.Ratio  # of p99
    is_right: bool


def beside_puts(run, server, *arguments, keys, **more):
    """Gets alone and beside a writer one behind the other, which first in turn, as often as there are rounds."""
    rows = {"get": [], "mixed": []}
    for turn in range(run.rounds):
        ops = "get,mixed" if turn % 2 == 0 else "mixed,get"
        for row in bench_rows(run, server, "--ops", ops, "--keys", keys, "--no-floors", *arguments, rounds=1,
                              duration=run.turn, **more):
            rows[row["op"]].append(row)
            row["is_right"] = row["failures"] == row["wrong"] == 0 and (turn == 0 or row["set_found"])
    times = {(name, op): [row[name] for row in rows[op]] for name in ("p50_ns", "p99_ns") for op in rows}
    return BesidePuts(median([row["written_bytes_per_s"] for row in rows["mixed"]]),
                      " | ".join(f"{median(values) / 1e6:.2f} ms" for values in times.values()),
                      pairs.ratio_of(pairs.divided(times["p99_ns", "mixed"], times["p99_ns", "get"])),
                      all(row["is_right"] for side in rows.values() for row in side))


def make_floor(path, size):
    """A file written once, around the page cache where the file system can."""
    step = 4 << 20
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
    try:
        fd = os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError:
        fd = os.open(path, flags, 0o600)
    with mmap.mmap(-1, step) as zeros:  # on a page's boundary, as direct I/O wants it
        os.posix_fallocate(fd, 0, size)
        for at in range(0, size, step):
            os.pwrite(fd, zeros, at)
    os.fsync(fd)
    os.close(fd)


def drop_caches():
    """The floor must not read from the page cache; direct I/O does not use it anyway."""
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    except OSError:
        pass
