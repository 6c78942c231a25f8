# SPDX-License-Identifier: Apache-2.0
"""A server and an engine as two containers of one host have them: process namespaces of their own, a
/dev/shm of its own, another user. They share the sockets' directory, and shared memory works all the same."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from harness import Server
from test_shm_client import until

NOBODY = 65534
INSIDE = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]


def can_unshare():
    return os.geteuid() == 0 and shutil.which("setpriv") is not None and \
        subprocess.run([*INSIDE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_unshare(), reason="no process namespace may be made here")

# The engine: does what it is told, a line each, and says what came of it.
ENGINE = """
import json, os, sys
from harness import DURABLE, GET, PUT, Client, block_of, key_of
from test_shm_client import BLOCK, RELEASE, RESULT, Memory, Slow, run_in
memory = Memory(8 * BLOCK)
key = key_of("containers")
slow = None
with Client(sys.argv[1], timeout_s=2) as client:
    served = client.region_info(client.declare(memory.address, memory.size)).served
    print(json.dumps([os.getpid(), os.getuid(), client.stat().transport.decode(), served.decode()]), flush=True)
    for line in sys.stdin:
        said = None
        if line == "put\\n":
            memory.bytes[:BLOCK] = block_of(key, BLOCK)
            said = run_in(client, PUT, key, memory, flags=DURABLE, timeout_s=5)
        elif line == "get\\n":
            memory.bytes[BLOCK:2 * BLOCK] = bytes(BLOCK)
            status = run_in(client, GET, key, memory, offset=BLOCK, timeout_s=5)
            said = [status, memory.bytes[BLOCK:2 * BLOCK] == block_of(key, BLOCK)]
        elif line == "ask\\n":
            slow = Slow(client, GET, key, memory, offset=BLOCK, timeout_s=0.3)
            said = [slow.wait(RESULT, 5), slow.wait(RELEASE, 0.5)]
        elif line == "released\\n":
            said = slow.wait(RELEASE, 10)
        elif line == "transport\\n":
            said = client.stat().transport.decode()
        print(json.dumps(said), flush=True)
"""


class Engine:
    """A client in its container, of user nobody in the group of the sockets."""

    def __init__(self, url, group):
        script = f'mount -t tmpfs none /dev/shm && exec setpriv --reuid {NOBODY} --regid {NOBODY} --groups {group} "$@"'
        self.process = subprocess.Popen(
            [*INSIDE, "sh", "-c", script, "sh", sys.executable, "-B", "-c", ENGINE, url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)})

    def hear(self):
        return json.loads(self.process.stdout.readline())

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.hear()

    def kill(self):
        if self.process.poll() is None:
            os.kill(child_of(self.process), signal.SIGKILL)
        self.process.wait(timeout=30)


def child_of(process):
    """The id, seen from here, of what runs inside."""
    return int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii"))


@pytest.fixture(name="server", params=["memory", "drive"])
def _server(request):
    server = Server(None, memory="256MiB" if request.param == "memory" else None)
    server.start(inside=INSIDE)
    yield server
    server.end()


@pytest.fixture(name="engine")
def _engine(server):
    run = server.folder / "run"
    keyfile = server.folder / "engine.key"
    shutil.copy(server.folder / "secrets", keyfile)
    os.chown(keyfile, NOBODY, NOBODY)
    for folder in (server.folder, run):
        folder.chmod(0o755)
    engine = Engine(server.url(keyfile=keyfile), next(run.glob("*.sock")).stat().st_gid)
    yield engine
    engine.kill()


def test_blocks_pass_in_place(server, engine):
    pid, user, transport, served = engine.hear()
    assert pid == 1, "the first of its namespace"
    assert user == NOBODY
    assert transport == "shm"
    assert served == "shm: in place"
    assert engine.ask("put") == 0
    assert engine.ask("get") == [0, True]
    assert server.counter("ctxkv_sessions_shm") >= 2  # the engine's, and of the one that asks


@pytest.mark.parametrize("server", ["memory"], indirect=True)  # a drive that is let at memory takes longer
def test_the_death_of_the_server_is_seen(server, engine):
    """By its pidfd, which means the same process in both namespaces: memory is released."""
    engine.hear()
    assert engine.ask("put") == 0
    os.kill(child_of(server.process), signal.SIGSTOP)
    assert engine.ask("ask") == [True, False]
    os.kill(child_of(server.process), signal.SIGKILL)
    assert engine.ask("released") is True
    server.process.wait(timeout=30)
    server.process = None
    server.start(inside=INSIDE)
    until(lambda: engine.ask("put") == 0 and engine.ask("transport") == "shm", 20)
    assert engine.ask("get") == [0, True]


def test_the_death_of_the_engine_is_seen(server, engine):
    engine.hear()
    assert engine.ask("put") == 0
    engine.kill()
    until(lambda: server.counter("ctxkv_sessions_shm") == 1)  # of the one that asks
