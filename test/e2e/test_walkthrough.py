# SPDX-License-Identifier: Apache-2.0
"""docs/operating/walkthrough.md as it stands: every command of the page is run, each host a home and
a loopback address of its own, and what the page says comes of it is looked for. What hands do (power
is cut, a drive is pulled) is done at the page's marks."""
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import pytest

from harness import BINARY, TOP

PAGE = TOP / "docs" / "operating" / "walkthrough.md"
NET = "127.0.77."
SCP = """#!/bin/sh
# scp FILE... ADDRESS: as the walk needs it: into that host's home.
for last; do :; done
host=${last##*.}
while [ $# -gt 1 ]; do cp "$1" "$SCRATCH/host${host%:}/home/" && shift || exit 1; done
"""


class Walk:
    """The hosts, and what was printed so far."""

    def __init__(self, scratch):
        self.scratch = pathlib.Path(scratch)
        self.servers = {}
        self.exports = {}
        self.shown = {}  # section -> outputs of its blocks
        self.section = ""
        for i in range(1, 5):
            (self.scratch / f"host{i}" / "home").mkdir(parents=True)
            (self.scratch / f"host{i}" / "srv").mkdir()
        tools = self.scratch / "bin"
        tools.mkdir()
        (tools / "scp").write_text(SCP, encoding="utf-8")
        (tools / "scp").chmod(0o755)
        (tools / "ctxkv").symlink_to(BINARY)

    def environment(self, host):
        return {"PATH": f"{self.scratch}/bin:{os.environ['PATH']}", "SCRATCH": str(self.scratch),
                "HOME": str(self.scratch / host / "home")}

    def translate(self, text, host):
        return text.replace("10.0.0.", NET).replace("/srv/", f"{self.scratch}/{host}/srv/")

    def run(self, host, text, fails):
        script = "set -e\n" + "".join(self.exports.get(host, [])) + self.translate(text, host)
        self.exports.setdefault(host, []).extend(
            self.translate(line, host) for line in text.splitlines(True) if line.startswith("export "))
        done = subprocess.run(["sh", "-c", script], env=self.environment(host), cwd=TOP,
                              capture_output=True, text=True, timeout=240, check=False)
        assert (done.returncode != 0) == fails, f"{host}: {text}\n{done.stdout}{done.stderr}"
        self.shown.setdefault(self.section, []).append(done.stdout + done.stderr)

    def start(self, host, text):
        log = open(self.scratch / host / "log", "w+", encoding="utf-8")
        process = subprocess.Popen(["sh", "-c", "exec " + text.strip()], stdout=log, stderr=log,
                                   env=self.environment(host))
        self.servers[host] = process
        end = time.monotonic() + 60
        while not re.search(r"^ready ", self.log(host), re.M):
            assert process.poll() is None and time.monotonic() < end, self.log(host)
            time.sleep(0.05)

    def log(self, host):
        return (self.scratch / host / "log").read_text(encoding="utf-8")

    def kill(self, host):
        """The host is gone: the parent, which would start it again or have it end in order, and
        the server."""
        process = self.servers.pop(host)
        process.send_signal(signal.SIGSTOP)
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        for child in children.read_text(encoding="ascii").split():
            os.kill(int(child), signal.SIGKILL)
        process.kill()
        process.wait(timeout=30)

    def stop(self, host):
        process = self.servers.pop(host)
        process.terminate()
        process.wait(timeout=60)

    def hand(self, what, host):
        drive = self.scratch / (host or "host1") / "srv" / "b"
        if what == "kill":
            self.kill(host)
        elif what == "pull":
            # What the cache has is served without a drive: begin without it.
            self.stop(host)
            self.start(host, "ctxkv start --io-errors-max 4")
            os.rename(drive, str(drive) + ".kept")
            subprocess.run(["cp", "--sparse=always", str(drive) + ".kept", str(drive) + ".copy"],
                           check=True)
            # The one that the server has open; and no write may make it long again.
            os.truncate(str(drive) + ".kept", 1 << 20)
            self.freeze(True, str(drive) + ".kept")
        else:
            assert what == "restore"
            os.rename(str(drive) + ".copy", drive)

    @staticmethod
    def freeze(is_frozen, *paths):
        """Where the file system can; elsewhere a put before the first get makes it a drive of
        zeros, whose blocks miss but which is not degraded."""
        subprocess.run(["chattr", "+i" if is_frozen else "-i", *paths], check=False,
                       stderr=subprocess.DEVNULL)

    def end(self):
        for host in list(self.servers):
            self.kill(host)
        self.freeze(False, *map(str, self.scratch.glob("host*/srv/*.kept")))


@pytest.fixture(name="walk")
def walk_fixture():
    with tempfile.TemporaryDirectory(prefix="ctxkv-walk-", dir="/var/tmp") as scratch:
        walk = Walk(scratch)
        yield walk
        walk.end()


STEP = re.compile(r"^## (?P<section>[^\n]*)$|^<!-- test: (?P<hand>\w+) ?(?P<at>\w*) -->$"
                  r"|^```sh (?P<start>start )?(?P<hosts>[a-z0-9 ]+?)(?P<fails> fails)?\n"
                  r"(?P<text>.*?)^```$", re.M | re.S)


def rows_of(text):
    """Of `admin status --all`: endpoint -> state."""
    return dict(re.findall(rf"^({re.escape(NET)}\d+):\d+ +(\w+)", text, re.M))


def test_the_walk_of_the_page(walk):
    for step in STEP.finditer(PAGE.read_text(encoding="utf-8")):
        if step["section"]:
            walk.section = step["section"]
        elif step["hand"]:
            walk.hand(step["hand"], step["at"])
        elif step["start"]:
            for host in step["hosts"].split():
                walk.start(host, step["text"])
        else:
            walk.run(step["hosts"], step["text"], bool(step["fails"]))
    shown = walk.shown
    assert rows_of(shown["A client"][-1]) == {f"{NET}{i}": "ready" for i in (1, 2, 3)}
    dead, served, back = shown["One dies"]
    assert rows_of(dead)[f"{NET}2"] == "unreachable" and rows_of(dead)[f"{NET}1"] == "ready"
    assert "hit" in served
    assert rows_of(back) == {f"{NET}{i}": "ready" for i in (1, 2, 3)}
    assert rows_of(shown["One more"][-1]) == {f"{NET}{i}": "ready" for i in (1, 2, 3, 4)}
    assert "authentication failed" in shown["A new secret"][-1]
    pulled, healed = shown["A drive is pulled"]
    assert "is back: 1 shards" in healed
    assert rows_of(pulled)[f"{NET}3"] == "degraded"
    assert rows_of(healed) == {f"{NET}{i}": "ready" for i in (1, 2, 3, 4)}
    saved, dropped = shown["What it saves"]
    assert re.search(r"default +[0-9a-f]{32} +[1-9]\d* .* \d+\.\d\d h", saved), saved
    assert len(re.findall(r"dropped: [1-9]\d* blocks", dropped)) == 4, dropped
    assert re.search(r"default +[0-9a-f]{32} +0 ", dropped), dropped
