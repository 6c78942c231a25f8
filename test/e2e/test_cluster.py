# SPDX-License-Identifier: Apache-2.0
"""Several servers with one secrets file: a block is where its place is, a dead server costs its own
blocks only, and after 60 s others have its places until it is back. docs/operating/several-servers.md.
"""
import json
import re
import subprocess
import time

import pytest

from harness import BINARY, TOP, UNREACHABLE, Client, Server, block_of, key_of

SIZE = 50_000
COUNT = 240


@pytest.fixture(name="servers")
def servers_fixture(tmp_path):
    """Four servers on files with the first one's secrets; three are started."""
    made = []
    for _ in range(4):
        secrets = ("--secrets", made[0].folder / "secrets") if made else ()
        made.append(Server(tmp_path, size="600MiB", extra_setup=("--sparse", *secrets)))
    for server in made[:3]:
        server.start()
    yield made
    for server in made:
        server.end()


def url_of(servers):
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"ctxkv://default@{hosts}?keyfile={servers[0].folder / 'secrets'}"


def address_of(server):
    return f"127.0.0.1:{server.port}"


def wait_for(client, server, state, seconds):
    end = time.monotonic() + seconds
    while client.servers()[address_of(server)][0] != state:
        assert time.monotonic() < end, client.servers()
        time.sleep(0.1)


def check(client, keys, size=SIZE):
    """Every block is right or a miss. Returns the keys that were there."""
    got = client.get(keys, size)
    for key, bytes_or_status in zip(keys, got):
        assert isinstance(bytes_or_status, int) or bytes_or_status == block_of(key, size)
    return {key for key, value in zip(keys, got) if not isinstance(value, int)}


def test_a_dead_server_costs_its_blocks_and_others_take_its_places(servers):
    keys = [key_of("cluster", i) for i in range(COUNT)]
    blocks = {key: block_of(key, SIZE) for key in keys}
    with Client(url_of(servers[:3]), timeout_s=3) as client:
        assert [state for state, _ in client.servers().values()] == ["up"] * 3
        assert all(status == 0 for status, _ in client.put(blocks, durable=True))
        assert check(client, keys) == set(keys)
        # Each of them alone has its share, and all of them together each block once.
        alone = []
        for server in servers[:3]:
            with Client(server.url(keyfile=servers[0].folder / "secrets"), timeout_s=3) as one:
                alone.append(check(one, keys))
        assert sum(map(len, alone)) == COUNT
        assert all(len(part) > COUNT / 6 for part in alone)

        victim = servers[1]
        victim.kill()
        died = time.monotonic()
        wait_for(client, victim, "out", 20)
        assert check(client, keys) == set(keys) - alone[1]
        row = client.servers()[address_of(victim)][1]
        assert 0 < row.leaves_ns <= 60e9
        # Its puts are dropped, and that takes no time.
        lost = {key: blocks[key] for key in alone[1]}
        begin = time.monotonic()
        assert {status for status, _ in client.put(lost)} == {-UNREACHABLE}
        assert time.monotonic() - begin < 2.5  # not the deadline
        # A drop cannot be promised while somebody may have the block.
        assert client.drop([key_of("none")]) == [-UNREACHABLE]

        wait_for(client, victim, "away", 75)
        assert time.monotonic() - died > 50
        assert check(client, keys) == set(keys) - alone[1]
        assert all(status == 0 for status, _ in client.put(lost))
        assert check(client, keys) == set(keys)

        # Back with its disk: the places are its own at once, and so are its blocks.
        victim.start()
        wait_for(client, victim, "up", 20)
        assert check(client, keys) == set(keys)
        assert client.drop(keys[:5]) == [0] * 5
        assert check(client, keys) == set(keys[5:])


def test_commands_of_one_server_say_so(servers):
    """Of several servers: which one `stat` is of, and that a drop is at one of them only."""
    addresses = [address_of(server) for server in servers[:3]]
    text = Server.run("stat", "--url", url_of(servers[:3])).stdout
    told = re.match(r"# of (\S+), 1 of 3 servers; of all: ctxkv admin status --all\n", text)
    assert told and told[1] in addresses, text
    values = json.loads(Server.run("stat", "--json", "--url", url_of(servers[:3])).stdout)
    assert values["address"] in addresses and values["servers"] == 3
    admins = ",".join(server.admin() for server in servers[:3])
    drop = ("admin", "drop", "--admin", admins, "--admin-token", servers[0].folder / "admin-token",
            "--domain", "default", "--namespace-text", "x")
    done = Server.run(*drop)
    assert "1 of 3 servers" in done.stderr and "--all" in done.stderr
    assert done.stdout.count("dropped: ") == 1


def test_a_new_server_takes_its_share_and_nothing_else(servers):
    keys = [key_of("new", i) for i in range(COUNT)]
    blocks = {key: block_of(key, SIZE) for key in keys}
    with Client(url_of(servers[:3]), timeout_s=3) as client:
        assert all(status == 0 for status, _ in client.put(blocks))
    servers[3].start()
    with Client(url_of(servers), timeout_s=3) as client:
        assert len(client.servers()) == 4
        there = check(client, keys)
        moved = set(keys) - there
        assert COUNT / 8 < len(moved) < COUNT / 2.5
        assert all(status == 0 for status, _ in client.put({key: blocks[key] for key in moved}))
        assert check(client, keys) == set(keys)
    servers[3].stop()
    # With the new one gone again the places are where they were, and so are the blocks.
    with Client(url_of(servers[:3]), timeout_s=3) as client:
        assert check(client, keys) == set(keys)


def test_a_server_with_another_secret_is_out_and_the_others_go_on(tmp_path, servers):
    stranger = Server(tmp_path, memory="576MiB")
    stranger.start()
    try:
        keys = [key_of("stranger", i) for i in range(60)]
        with Client(url_of([*servers[:2], stranger]), timeout_s=3) as client:
            assert client.servers()[address_of(stranger)][0] == "unknown"
            assert all(s == 0 for s, _ in client.put({k: block_of(k, 1000) for k in keys}))
            assert check(client, keys, 1000) == set(keys)
    finally:
        stranger.end()


def test_a_replay_over_three_servers_outlives_one(servers):
    """What was loaded is right to the last byte, and puts to the dead server are dropped, in time.
    How many hits are left depends on whether it had the block that all prompts begin with:
    docs/decisions/0007-places-of-runs.md."""
    process = subprocess.Popen(
        [BINARY, "replay", TOP / "traces" / "mooncake_conversation.jsonl.zst", "--scale", "2560",
         "--requests", "6000", "--json", "--url", url_of(servers[:3])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    was_running = process.poll() is None
    servers[2].kill()
    out, err = process.communicate(timeout=240)
    assert was_running and process.returncode == 0, err
    result = json.loads(out)
    assert result["wrong_blocks"] == 0
    assert result["put_failures"] > 0
    assert result["put_blocks"] > result["put_failures"]
