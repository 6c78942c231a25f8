# SPDX-License-Identifier: Apache-2.0
"""Members by name: a name stands for every address it has, and is resolved again. The names are in a
hosts file that only these processes see (a mount namespace of their own), as a headless service's
would be. docs/operating/several-servers.md."""
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from harness import Server

NAME = "ctxkv-members.test"


def can_unshare():
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True,
                          check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_unshare(), reason="no mount namespace may be made here")

# What runs inside: a client by name, which reports its servers as often as it is asked to.
CHILD = """
import json, sys
from harness import Client, block_of, key_of
keys = [key_of("names", i) for i in range(120)]
with Client(sys.argv[1], timeout_s=3) as client:
    for line in sys.stdin:
        if line.strip() == "put":
            done = client.put({key: block_of(key, 3000) for key in keys})
            print(json.dumps(sorted({status for status, _ in done})), flush=True)
        elif line.strip() == "get":
            got = client.get(keys, 3000)
            right = sum(g == block_of(k, 3000) for g, k in zip(got, keys))
            wrong = sum(isinstance(g, bytes) and g != block_of(k, 3000) for g, k in zip(got, keys))
            print(json.dumps([right, wrong]), flush=True)
        else:
            print(json.dumps({a: s for a, (s, _) in client.servers().items()}), flush=True)
"""


class Named:
    """A client that knows its servers by a name of its own hosts file."""

    def __init__(self, hosts, url):
        self.hosts = hosts
        script = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, "sh", str(hosts), sys.executable, "-c", CHILD, url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)})

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def wait_for(self, states, seconds):
        end = time.monotonic() + seconds
        while sorted(self.ask("servers").values()) != sorted(states):
            assert time.monotonic() < end, self.ask("servers")
            time.sleep(0.2)

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


def start_at(server, address, port):
    """The server listens at an address of its own and the port that all have."""
    server.port = port
    server.start("--listen", f"{address}:{port}")


def write_hosts(path, addresses):
    path.write_text("127.0.0.1 localhost\n" + "".join(f"{a} {NAME}\n" for a in addresses),
                    encoding="ascii")


@pytest.fixture(name="servers")
def servers_fixture(tmp_path):
    made = []
    for _ in range(3):
        secrets = ("--secrets", made[0].folder / "secrets") if made else ()
        made.append(Server(tmp_path, memory="576MiB", extra_setup=secrets))
    yield made
    for server in made:
        server.end()


def test_a_name_stands_for_all_its_addresses_and_is_asked_again(tmp_path, servers):
    servers[0].start()
    port = servers[0].port
    servers[0].stop()
    addresses = [f"127.0.0.{i + 2}" for i in range(3)]
    for server, address in zip(servers[:2], addresses):
        start_at(server, address, port)
    hosts = tmp_path / "hosts"
    write_hosts(hosts, addresses[:2])
    client = Named(hosts, f"ctxkv://default@{NAME}:{port}?keyfile={servers[0].folder / 'secrets'}")
    try:
        assert client.ask("servers") == {f"{a}:{port}": "up" for a in addresses[:2]}
        assert client.ask("put") == [0]
        assert client.ask("get") == [120, 0]
        # One more pod: it has its share within a resolution, and the others keep what is theirs.
        start_at(servers[2], addresses[2], port)
        write_hosts(hosts, addresses)
        client.wait_for(["up"] * 3, 45)
        right, wrong = client.ask("get")
        assert wrong == 0 and 40 < right < 120
        assert client.ask("put") == [0]
        assert client.ask("get") == [120, 0]
        # A pod less: its places go to the others at once, not after 60 s.
        write_hosts(hosts, addresses[1:])
        client.wait_for(["up"] * 2, 45)
        assert client.ask("put") == [0]
        assert client.ask("get") == [120, 0]
    finally:
        client.end()


def test_a_name_that_nobody_knows_is_said_clearly(servers):
    servers[0].start()
    done = Server.run("stat", "--url", f"ctxkv://default@no-such-name.test:{servers[0].port}?keyfile="
                      f"{servers[0].folder / 'secrets'}", "--timeout", "2s", check=False)
    assert done.returncode != 0
    assert "no-such-name.test" in done.stderr
