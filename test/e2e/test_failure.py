# SPDX-License-Identifier: Apache-2.0
"""Promise 2: failure is a miss, within the deadline; and a client that dies or hangs hurts nobody."""
import multiprocessing
import os
import signal
import time

import pytest

from harness import (AUTH, DEADLINE, MISS, PEER, UNREACHABLE, Client, OpenError, Server, block_of,
                     freeze, key_of)


def test_a_missing_key_is_a_miss_at_once(memory_server):
    with Client(memory_server.url()) as client:
        begin = time.monotonic()
        assert client.get([key_of("never", i) for i in range(100)], 4096) == [-MISS] * 100
        assert time.monotonic() - begin < 1


def test_an_absent_server_is_a_miss_within_the_deadline(memory_server):
    url = memory_server.url()
    memory_server.kill()
    with Client(url, timeout_s=2, wait_s=0.1) as client:
        begin = time.monotonic()
        status = client.get([key_of(1)], 4096)[0]
        assert status in (-UNREACHABLE, -DEADLINE, -PEER)
        assert time.monotonic() - begin < 3
        # The breaker is open soon: no more waiting.
        for _ in range(10):
            client.get([key_of(1)], 4096)
        begin = time.monotonic()
        assert client.get([key_of(1)], 4096)[0] < 0
        assert time.monotonic() - begin < 0.5


def test_a_frozen_server_is_a_miss_at_the_deadline_and_comes_back(memory_server):
    key = key_of("frozen")
    with Client(memory_server.url()) as client:
        assert client.put({key: block_of(key, 100_000)})[0][0] == 0
        freeze(memory_server.process.pid)
        try:
            begin = time.monotonic()
            assert client.get([key], 100_000, timeout_s=1)[0] < 0
            assert 0.5 < time.monotonic() - begin < 2
        finally:
            memory_server.process.send_signal(signal.SIGCONT)
        end = time.monotonic() + 15
        got = None
        while time.monotonic() < end and got != block_of(key, 100_000):
            got = client.get([key], 100_000, timeout_s=1)[0]
            time.sleep(0.05)
        assert got == block_of(key, 100_000)


def test_a_restarted_server_is_found_again(server):
    server.start()
    key = key_of("again")
    with Client(server.url(), timeout_s=1) as client:
        assert client.put({key: b"bytes"}, durable=True)[0][0] == 0
        server.kill()
        assert client.get([key], 100)[0] != b"bytes"
        server.start()
        end = time.monotonic() + 15
        while client.get([key], 100)[0] != b"bytes":
            assert time.monotonic() < end, "the client did not come back"
            time.sleep(0.05)


def test_what_there_was_no_room_for_at_first_is_put_and_got_all_the_same(server):
    server.start("--operations-max", 64)
    blocks = {key_of("room", i): block_of(key_of("room", i), 4096) for i in range(1000)}
    with Client(server.url()) as client:
        assert [result[0] for result in client.put(blocks)] == [0] * len(blocks)
        assert client.get(list(blocks), 4096) == list(blocks.values())
        assert client.stat().retries > 0
    assert server.counter("ctxkv_busy_items_total") > 0


def _put_for_ever(url, ready):
    with Client(url) as client:
        for i in range(100_000):
            key = key_of("dying", i % 50)
            client.put({key: block_of(key, 2_000_000)})
            ready.set()
            client.drop([key])


def test_a_client_killed_in_a_put_leaves_the_key_usable(memory_server):
    context = multiprocessing.get_context("spawn")
    for attempt in range(5):
        ready = context.Event()
        process = context.Process(target=_put_for_ever, args=(memory_server.url(), ready))
        process.start()
        assert ready.wait(20)
        time.sleep(0.01 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)
        with Client(memory_server.url()) as client:
            for i in range(50):
                key = key_of("dying", i)
                assert client.put({key: block_of(key, 2_000_000)})[0][0] == 0
            keys = [key_of("dying", i) for i in range(50)]
            for key in keys:
                assert client.get([key], 2_000_000) == [block_of(key, 2_000_000)]
            client.drop(keys)


def test_a_frozen_client_delays_nobody(memory_server):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_put_for_ever, args=(memory_server.url(), ready))
    process.start()
    try:
        assert ready.wait(20)
        os.kill(process.pid, signal.SIGSTOP)
        with Client(memory_server.url()) as client:
            for i in range(30):
                key = key_of("other", i)
                begin = time.monotonic()
                assert client.put({key: block_of(key, 1_000_000)})[0][0] == 0
                assert client.get([key], 1_000_000) == [block_of(key, 1_000_000)]
                assert time.monotonic() - begin < 5
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)


def test_a_wrong_secret_is_said_clearly(memory_server, tmp_path):
    keyfile = tmp_path / "wrong"
    keyfile.write_text("default " + "ab" * 32 + "\n", encoding="utf-8")
    keyfile.chmod(0o600)
    with pytest.raises(OpenError) as error:
        Client(memory_server.url(keyfile=keyfile), timeout_s=1, wait_s=2)
    assert error.value.code == -AUTH and "wrong secret" in error.value.message
    # Who does not wait for a session has misses.
    with Client(memory_server.url(keyfile=keyfile), timeout_s=1, wait_s=0) as client:
        assert client.get([key_of(1)], 10)[0] in (-AUTH, -UNREACHABLE)
    done = Server.run("stat", "--url", memory_server.url(keyfile=keyfile), check=False)
    assert done.returncode == 1
    assert "authentication failed" in done.stderr


def test_a_bad_url_or_key_file_says_what_to_do(memory_server, tmp_path):
    for url, words in [("http://x", "ctxkv://"), ("ctxkv://a,,b", "no host"),
                       (f"ctxkv://default@127.0.0.1?keyfile={tmp_path}/none", "keyfile"),
                       (memory_server.url() + "&lanez=3", "lanez")]:
        with pytest.raises(OpenError) as error:
            Client(url)
        assert words in error.value.message, url


def test_a_block_beyond_the_largest_is_refused_with_both_numbers(memory_server):
    with Client(memory_server.url()) as client:
        key = key_of("huge")
        assert client.put({key: b"h" * (3 << 20)})[0][0] == -2040
        assert client.probe([key]) == [False]
