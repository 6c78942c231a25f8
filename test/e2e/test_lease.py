# SPDX-License-Identifier: Apache-2.0
"""Leases, through the real binary: by hand (raw.py), and by libctxkv."""
import time

from harness import MISS, Client, Server, block_of, key_of
from raw import ALL, Raw, secret_of

SIZE = 1 << 20


def fill(client, count, first=0):
    keys = [key_of("lease", first + i) for i in range(count)]
    for key in keys:
        assert client.put({key: block_of(key, SIZE)})[0][0] == 0
    return keys


def test_a_lease_keeps_its_blocks_until_it_ends(tmp_path):
    server = Server(tmp_path, memory="96MiB", extra_setup=("--segment-size", "16MiB"))
    try:
        server.start("--idle-timeout", "1s")
        with Client(server.url()) as client:
            ns = bytes(client.ns)
            keys = fill(client, 8)
            lane = Raw(server.port, secret_of(server))
            held, bits, leased, granted = lane.lease(keys[:2] + [key_of("none")] + keys[2:4], 1,
                                                     60_000, ns=ns)
            assert (bits, leased, granted) == ([1, 1, 0, 1, 1], 2, 60_000) and held != 0
            everything = lane.lease(keys[:4], 2, 60_000, flags=ALL, ns=ns)
            assert everything[2] == 4 and everything[0] not in (0, held)
            assert server.counter("ctxkv_store_leased_bytes") == 4 * SIZE
            assert lane.renew(everything[0], 3, 0) == 0
            assert lane.renew(everything[0], 4, 1000) == -MISS
            fill(client, 150, first=100)
            assert client.probe(keys[:2]) == [True] * 2
            assert client.get(keys[:2], SIZE) == [block_of(key, SIZE) for key in keys[:2]]

            # It ends with its session, and then its blocks go like any.
            lane.socket.close()
            end = time.monotonic() + 10
            while server.counter("ctxkv_leases") > 0 and time.monotonic() < end:
                time.sleep(0.1)
            assert server.counter("ctxkv_store_leased_blocks") == 0
            fill(client, 150, first=300)
            assert client.probe(keys[:2]) == [False] * 2
        server.stop()
    finally:
        server.end()


def test_a_lease_through_the_library(memory_server):
    with Client(memory_server.url()) as client:
        keys = fill(client, 4)
        held, here = client.lease(keys + [key_of("none")], 60_000)
        assert held != 0 and here == [True] * 4 + [False]
        assert memory_server.counter("ctxkv_store_leased_blocks") == 4
        assert client.get(keys, SIZE, lease=held) == [block_of(key, SIZE) for key in keys]
        assert client.renew(held, 30_000) == 0
        assert client.renew(held, 0) == 0
        assert memory_server.counter("ctxkv_leases") == 0
        assert client.renew(held, 30_000) == -MISS

        # Beyond its deadline, without a word.
        client.lease(keys, 50)
        end = time.monotonic() + 10
        while memory_server.counter("ctxkv_leases") > 0 and time.monotonic() < end:
            time.sleep(0.05)
        assert memory_server.counter("ctxkv_leases_expired_total") == 1


def test_what_has_expired_is_read_under_a_lease_only(memory_server):
    with Client(memory_server.url()) as client:
        key = key_of("ttl")
        lane = Raw(memory_server.port, secret_of(memory_server))
        put_with_ttl(lane, key, b"x" * 4096, 1, bytes(client.ns))
        held, _ = client.lease([key], 60_000)
        time.sleep(2.1)
        assert client.get([key], 4096)[0] == -MISS
        assert client.get([key], 4096, lease=held)[0] == b"x" * 4096
        assert client.drop([key]) == [0]
        assert client.get([key], 4096, lease=held)[0] == -MISS


def put_with_ttl(lane, key, data, ttl_s, ns):
    import struct

    from raw import PUT, REPLY, request
    item = key + bytes(16) + struct.pack("<QIIIHH", 0, 0, len(data), ttl_s, 0, 1)
    lane.send(PUT, request(ns=ns) + item, data, request=1, count=1)
    while True:
        kind, _, body = lane.receive()
        if kind == REPLY:
            assert struct.unpack("<Ii", body[:8])[1] == 0
            return


def test_bench_measures_leases_and_reads_beside_writes(memory_server):
    import json

    done = memory_server.run("bench", "--url", memory_server.url(), "--ops", "lease,mixed", "--sizes",
                             "64KiB", "--working-set", "16MiB", "--write-rate", "16MiB", "--rounds", 1,
                             "--duration", "300ms", "--no-floors", "--sequential", "--json")
    lease, mixed = json.loads(done.stdout)
    assert lease["op"] == "lease" and lease["ops_per_s"] > 0 and lease["failures"] == 0
    assert mixed["op"] == "mixed" and mixed["wrong"] == 0 and mixed["failures"] == 0
    assert mixed["written_bytes_per_s"] > 0 and mixed["p99_ns"] > 0
    refused = memory_server.run("bench", "--url", memory_server.url(), "--ops", "mixed", check=False)
    assert refused.returncode != 0 and "--write-rate" in refused.stderr
