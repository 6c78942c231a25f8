# SPDX-License-Identifier: Apache-2.0
"""bench/peers: what it says about a store is true, and a store that is broken cannot end the run.

One small run with ctxkv, files, and three that are not what they should be: a "redis" that answers
every get with zeros and knows every key, a "memcached" that does not start, and a Mooncake that is
not installed.
"""
import json
import os
import subprocess
import sys

import pytest

from harness import BINARY, TOP

LIAR = """#!{python}
import socketserver, sys
if "--version" in sys.argv:
    print("Redis server v=0.0.1 of a test")
    sys.exit()
SIZE = 65536

class Handler(socketserver.StreamRequestHandler):
    def word(self):
        return self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2]

    def handle(self):
        while line := self.rfile.readline():
            command = [self.word() for _ in range(int(line[1:]))][0]
            self.wfile.write({{b"SET": b"+OK\\r\\n", b"EXISTS": b":1\\r\\n"}}.get(
                command, b"$%d\\r\\n%s\\r\\n" % (SIZE, bytes(SIZE))))

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

Server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
DEAD = """#!/bin/sh
case $* in --version) echo memcached 0.0.1 ;; *) echo "of no use today"; exit 3 ;; esac
"""

TURNS = """
import subprocess, time
from harness.peer import Peer

def state(process):
    time.sleep(0.1)
    with open(f"/proc/{process.pid}/stat", encoding="utf-8") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0]

class Restless(Peer):
    works_on = True

for kind in Peer, Restless:
    peer = kind(None)
    peer.servers = [subprocess.Popen(["sleep", "60"])]
    with peer.turn():
        within = state(peer.servers[0])
    print(within, state(peer.servers[0]))
    with peer.turn():
        peer.stop()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the document, the report) of one run."""
    folder = tmp_path_factory.mktemp("peers")
    programs = folder / "programs"
    programs.mkdir()
    for name, text in (("redis-server", LIAR.format(python=sys.executable)), ("memcached", DEAD)):
        (programs / name).write_text(text, encoding="ascii")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        [TOP / "bench" / "peers" / "run", BINARY, "--no-install", "--installs", folder / "none",
         "--peers", "ctxkv tcp,files,redis,memcached,mooncake tcp", "--sizes", "64KiB",
         "--medium-sizes", "64KiB", "--working-set", "4MiB", "--data", "32MiB", "--rounds", "2",
         "--clients", "1,2", "--probes", "20", "--json", folder / "rows.json", "--out", folder / "report.md"],
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}, capture_output=True,
        text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr  # ctxkv did nothing wrong: what others do is a row
    return (json.loads((folder / "rows.json").read_text("utf-8")),
            (folder / "report.md").read_text("utf-8"))


def rows(run, peer, kind="rate"):
    return [row for row in run[0]["rows"] if row["peer"] == peer and row["kind"] == kind]


def test_every_cell_of_sound_stores_is_measured_and_verified(run):
    cells = {(row["mode"], row["op"], row["clients"]) for row in rows(run, "ctxkv tcp")}
    assert cells == {(mode, op, clients) for mode in ("memory", "medium") for op in ("put", "get")
                     for clients in (1, 2)}
    for peer in ("ctxkv tcp", "files buffered"):
        for row in rows(run, peer):
            assert row["error"] is None and row["wrong"] == row["failed"] == 0, row
            assert row["done"] == row["asked"] > 0 and all(row["rates"]), row
            assert row["client_cpu"] > 0 and (row["server_cpu"] > 0) == (peer == "ctxkv tcp"), row
        probe, = rows(run, peer, "probe")
        assert probe["wrong"] == probe["missing"] == probe["failed"] == 0 and all(probe["p50_us"])


def test_what_is_left_is_counted(run):
    for peer in ("ctxkv tcp", "files buffered", "files O_DIRECT"):
        kept, = rows(run, peer, "kept")
        assert kept["filled"] == kept["restarted"] == 1 and kept["wrong"] == 0, kept
        assert 0 <= kept["under_way"] <= 1, kept
    growth = rows(run, "ctxkv tcp", "growth")
    assert [row["mode"] for row in growth] == ["memory", "medium"]
    assert all(row["most"] >= row["ready"] > 1 << 20 for row in growth)


def test_a_store_that_lies_is_found_out_and_no_rival(run):
    gets = [row for row in rows(run, "redis") if row["op"] == "get"]
    assert gets and all(row["wrong"] == row["done"] > 0 for row in gets)
    assert rows(run, "redis", "probe")[0]["wrong"] > 0
    assert "wrong**" in run[1]
    losses = run[1].split("## Who took part", maxsplit=1)[0]
    assert not any("| redis |" in line and line.startswith("| get") for line in losses.splitlines())


def test_a_store_that_does_not_start_is_a_row(run):
    assert rows(run, "memcached")
    for row in rows(run, "memcached"):
        assert "of no use today" in row["error"] and not row["rates"]
    assert "| memcached | tcp | failed: the server ended: of no use today |" in run[1]


def test_a_store_that_is_not_installed_is_a_row(run):
    about, = (peer for peer in run[0]["peers"] if peer["name"] == "mooncake tcp")
    assert about["reason"] == "not here, and --no-install"
    assert "| mooncake tcp | tcp | not installed: not here, and --no-install |" in run[1]
    assert not rows(run, "mooncake tcp")


def test_where_ctxkv_loses_stands_first(run):
    headings = [line for line in run[1].splitlines() if line.startswith("## ")]
    assert headings[0] == "## Where ctxkv loses"


def test_nothing_is_left_behind(run):
    del run
    for folder in ("/dev/shm", "/var/tmp"):
        assert not [name for name in os.listdir(folder) if name.startswith("ctxkv-peers-")]


def test_who_works_on_between_its_turns_stands_still():
    done = subprocess.run([sys.executable, "-c", TURNS], cwd=TOP / "bench" / "peers", capture_output=True, text=True,
                          timeout=60, check=True)
    assert done.stdout.split() == ["S", "S", "S", "T"], done.stderr
