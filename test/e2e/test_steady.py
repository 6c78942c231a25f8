# SPDX-License-Identifier: Apache-2.0
"""Promise 6: fast writers, small buffers, a full medium. What was accepted is readable until reclaim
forgets it, and counted when it is; what is refused has a reason; memory stays what it was at start."""
import threading
import time

from harness import Client, Server, block_of, key_of

MIB = 1 << 20
WRITERS = 4
BATCH = 6
ROUNDS = 2.5  # times the medium is written over
BUSY, FULL, DEADLINE = 2022, 2023, 2004


class Writer(threading.Thread):
    """Puts blocks of its own as fast as it can. What was accepted goes to accepted, which all
    writers share: in that order."""

    def __init__(self, server, accepted, number, count):
        super().__init__()
        self.server = server
        self.number = number
        self.count = count
        self.accepted = accepted
        self.refused = {}
        self.failure = None

    def run(self):
        try:
            self.write()
        except BaseException as failure:  # pylint: disable=broad-except
            self.failure = failure  # for the test's own thread

    def write(self):
        with Client(self.server.url()) as client:
            for at in range(0, self.count, BATCH):
                keys = [key_of("steady", self.number, i) for i in range(at, at + BATCH)]
                # Of two, one waits for the medium.
                durable = (at // BATCH) % 2 == 0
                done = client.put({key: block_of(key, MIB) for key in keys}, durable=durable)
                for key, (status, _) in zip(keys, done):
                    if status == 0:
                        self.accepted.append(key)
                    else:
                        self.refused[-status] = self.refused.get(-status, 0) + 1


def test_fast_writers_lose_nothing_without_a_word(tmp_path, io):
    server = Server(tmp_path, size="544MiB", io=io, extra_setup=("--sparse",))
    try:
        server.start("--buffers", "64MiB")
        capacity = server.counter("ctxkv_store_capacity_bytes") // MIB
        accepted = []
        writers = [Writer(server, accepted, i, int(capacity * ROUNDS / WRITERS))
                   for i in range(WRITERS)]
        # The first session's structs and OpenSSL's own are touched by now.
        resident = [server.resident()]
        for writer in writers:
            writer.start()
        checked = 0
        with Client(server.url()) as client:
            while any(writer.is_alive() for writer in writers):
                checked += check_recent(client, accepted, capacity // 4)
                resident.append(server.resident())
                time.sleep(0.05)
            for writer in writers:
                writer.join()
                if writer.failure is not None:
                    raise writer.failure
            assert checked > 100
            check_account(server, client, accepted, capacity // 3)
        refused = {status for writer in writers for status in writer.refused}
        assert refused <= {BUSY, FULL, DEADLINE}
        assert len(accepted) > capacity * ROUNDS * 0.8
        assert max(resident) - min(resident) <= 0.01 * resident[0], resident
    finally:
        server.end()


def check_recent(client, accepted, last):
    """What was accepted lately is there, and right."""
    keys = accepted[-last:][::8]
    for key, block in zip(keys, client.get(keys, MIB) if keys else []):
        assert block == block_of(key, MIB)
    return len(keys)


def check_account(server, client, accepted, last):
    """At rest: every accepted block is there, or was counted when it was forgotten. The youngest are
    all there: reclaim takes the oldest."""
    here = []
    for at in range(0, len(accepted), 200):
        here += client.probe(accepted[at:at + 200])
    assert sum(here) == server.counter("ctxkv_store_blocks")
    assert len(accepted) - sum(here) == server.counter("ctxkv_store_forgotten_total")
    assert server.counter("ctxkv_store_corrupt_total") == 0
    assert all(here[-last:])
