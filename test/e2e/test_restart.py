# SPDX-License-Identifier: Apache-2.0
"""Promise 5: what was acknowledged durable survives kill -9, also a hundred times; buffered survives a
clean stop; what was dropped stays dropped."""
import random

from harness import MISS, WAS_DURABLE, Client, block_of, key_of

SIZES = [1, 100, 4096, 16 * 1024, 70_000, 300_000, 1 << 20]


def test_durable_blocks_survive_a_hundred_kills(server):
    stored = {}
    chance = random.Random(1)
    for cycle in range(100):
        server.start()
        with Client(server.url()) as client:
            old = chance.sample(sorted(stored), min(8, len(stored)))
            for key in old:
                assert client.get([key], 1 << 20) == [block_of(key, stored[key])], f"cycle {cycle}"
            new = {}
            for i in range(3):
                key = key_of("kill", cycle, i)
                stored[key] = chance.choice(SIZES[:6])
                new[key] = block_of(key, stored[key])
            for status, flags in client.put(new, durable=True):
                assert status == 0 and flags & WAS_DURABLE
            # Buffered puts may be lost, but never be wrong.
            client.put({key_of("buffered", cycle): b"x" * 5000})
        server.kill()
    server.start()
    with Client(server.url()) as client:
        for key, size in stored.items():
            assert client.get([key], 1 << 20) == [block_of(key, size)]
        for cycle in range(100):
            got = client.get([key_of("buffered", cycle)], 8192)[0]
            assert got in (b"x" * 5000, -MISS)


def test_buffered_blocks_survive_a_clean_stop(server):
    server.start()
    blocks = {}
    for i, size in enumerate(SIZES * 3):
        key = key_of("clean", i)
        blocks[key] = block_of(key, size)
    with Client(server.url()) as client:
        assert all(status == 0 for status, _ in client.put(blocks))
    server.stop()
    server.start()
    with Client(server.url()) as client:
        assert client.get(list(blocks), 1 << 20) == list(blocks.values())


def test_dropped_blocks_stay_dropped(server):
    server.start()
    keys = [key_of("drop", i) for i in range(20)]
    with Client(server.url()) as client:
        client.put({key: block_of(key, 20_000) for key in keys}, durable=True)
        assert client.drop(keys[:10]) == [0] * 10
        assert client.probe(keys) == [False] * 10 + [True] * 10
    server.kill()
    server.start()
    with Client(server.url()) as client:
        assert client.probe(keys) == [False] * 10 + [True] * 10
        # A namespace goes at once, and stays gone.
        assert client.run(5, [])[0] == 0
        assert client.probe(keys) == [False] * 20
        assert client.put({keys[0]: b"new"}, durable=True)[0][0] == 0
    server.kill()
    server.start()
    with Client(server.url()) as client:
        assert client.probe(keys) == [True] + [False] * 19
        assert client.get(keys[:1], 100) == [b"new"]


def test_a_full_store_forgets_the_oldest_and_nothing_else(server):
    server.start()
    size = 1 << 20
    keys = [key_of("full", i) for i in range(900)]  # 900 MiB into 600 MiB
    with Client(server.url()) as client:
        for key in keys:
            status, _ = client.put({key: block_of(key, size)}, durable=True)[0]
            assert status == 0
        here = client.probe(keys)
        first = here.index(True)
        assert all(here[first:]), "only the oldest may be forgotten"
        assert len(keys) - first >= 450
        assert client.get(keys[-1:], size) == [block_of(keys[-1], size)]
    server.kill()
    server.start()
    with Client(server.url()) as client:
        again = client.probe(keys)
        # A forgotten segment that was not written again yet may be found again; nothing is lost.
        assert all(again[first:])
        for key in keys[again.index(True)::37]:
            assert client.get([key], size) == [block_of(key, size)]


