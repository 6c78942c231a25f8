# SPDX-License-Identifier: Apache-2.0
"""How many clients a server takes: as many as `sessions-max` says, idle and busy ones beside each
other, and who has closed is forgotten at once. Most are raw sockets: a session each, no thread."""
import concurrent.futures
import time

import pytest
from harness import Client, Server, block_of, key_of
from raw import REFUSE, WELCOME, Raw, secret_of

SIZE = 200_000


@pytest.fixture
def made(tmp_path):
    made = Server(tmp_path, memory="576MiB")
    yield made
    made.end()


def sessions_of(server):
    return server.counter("ctxkv_sessions") - 1  # the one that asks


def wait_for(server, count):
    end = time.monotonic() + 10
    while (now := sessions_of(server)) != count:
        assert time.monotonic() < end, now
        time.sleep(0.05)


def open_raw(server, count):
    secret = secret_of(server)
    clients = [Raw(server.port, secret) for _ in range(count)]
    assert all(client.welcome[0] == WELCOME for client in clients)
    return clients


def close_all(clients):
    for client in clients:
        client.socket.close()


def test_the_default_takes_256_and_the_next_is_told_why(made):
    made.start("--reactors", 1)
    clients = open_raw(made, 256)
    kind, _, body = Raw(made.port, secret_of(made)).welcome
    assert kind == REFUSE
    assert b"256 sessions" in body and b"--sessions-max" in body, body
    refused = made.run("stat", "--url", made.url(), check=False)
    assert refused.returncode == 1
    assert "--sessions-max" in refused.stderr, refused.stderr
    close_all(clients[:1])
    wait_for(made, 255)
    close_all(clients[1:])
    wait_for(made, 0)


def test_clients_that_come_and_go_lock_nobody_out(made):
    made.start("--reactors", 1, "--sessions-max", 8)
    for _ in range(20):
        made.run("stat", "--url", made.url())
    # Those that move to shared memory leave nothing behind, either.
    with Client(made.url()) as client:
        assert client.stat().transport.decode() == "shm"
        wait_for(made, 1)
        assert made.counter("ctxkv_sessions_shm") >= 1


def work(client, number):
    """Puts and gets of one client; the seconds of the slowest."""
    slowest = 0
    for i in range(10):
        key = key_of("busy", number, i)
        block = block_of(key, SIZE)
        begin = time.monotonic()
        assert client.put({key: block})[0][0] == 0
        assert client.get([key], SIZE) == [block]
        slowest = max(slowest, time.monotonic() - begin)
    return slowest


def test_500_idle_and_50_busy(made):
    """Fifty work while five hundred say nothing: all of it succeeds, and the five hundred are still
    there afterwards."""
    made.start("--reactors", 1, "--sessions-max", 600)
    idle = open_raw(made, 500)
    busy = [Client(f"{made.url()}&transport=tcp", timeout_s=10) for _ in range(50)]
    assert sessions_of(made) == 550
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        slowest = list(pool.map(work, busy, range(50)))
    print(f"slowest put and get {max(slowest):.2f} s")
    assert made.counter("ctxkv_busy_requests_total") == 0
    assert sessions_of(made) == 550
    for client in idle[::100]:
        assert client.lease([b"k" * 32], 1, 0)[1] == [0]
    for client in busy:
        client.close()
    close_all(idle)
    wait_for(made, 0)
