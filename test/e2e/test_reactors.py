# SPDX-License-Identifier: Apache-2.0
"""A server of several media and reactors with the real binary: what it refuses and how it says so,
what it keeps over kill -9, what it takes, and who watches it."""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import BINARY, MISS, OFFLINE, Client, Server, block_of, key_of

SIZE = "600MiB"
BLOCK = 256 * 1024


@pytest.fixture(name="pair")
def _pair():
    server = Server(None, media=("a", "b"), size=SIZE)
    yield server
    server.end()


def refusal(server, *options):
    """What start says when it refuses."""
    done = server.run("start", "--dir", server.folder, "--listen", "127.0.0.1:0", "--no-supervise",
                      *options, check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr


def put_and_get(server, count, put=True):
    """How many of count blocks are there; those are right."""
    keys = [key_of("reactors", number) for number in range(count)]
    with Client(server.url()) as client:
        if put:
            blocks = {key: block_of(key, BLOCK) for key in keys}
            assert all(status == 0 for status, _ in client.put(blocks, durable=True))
        found = 0
        for key, got in zip(keys, client.get(keys, BLOCK)):
            assert isinstance(got, int) or got == block_of(key, BLOCK)
            found += not isinstance(got, int)
        return found


@pytest.mark.parametrize("reactors", [1, 2])
def test_two_media_are_one_server_and_survive_kill_9(pair, reactors):
    pair.start("--reactors", reactors)
    assert re.search(rf"^reactors +{reactors} for 2 shards on 2 media", pair.output(), re.M)
    assert put_and_get(pair, 40) == 40
    pair.kill()
    pair.start("--reactors", 3 - reactors)  # shards go where they are run
    assert put_and_get(pair, 40, put=False) == 40
    pair.stop()


def test_a_missing_medium_refuses_and_names_the_option(pair):
    pair.start()
    put_and_get(pair, 40)
    pair.stop()
    os.rename(pair.media[1], pair.folder / "elsewhere")
    text = refusal(pair)
    assert str(pair.media[1]) in text and "--degraded" in text
    pair.start("--degraded")
    assert re.search(r"^degraded +1 of 2 shards", pair.output(), re.M)
    left = put_and_get(pair, 40, put=False)
    assert 5 <= left <= 35  # about half of them have their shard on the other
    assert pair.counter("ctxkv_store_offline") == 1
    pair.stop()
    os.rename(pair.folder / "elsewhere", pair.media[1])
    pair.start()
    assert put_and_get(pair, 40, put=False) == 40
    pair.stop()


def test_media_that_are_not_one_server_are_refused(pair):
    stranger = Server(None, size=SIZE)
    try:
        both = f"{pair.media[0]},{stranger.store}"
        assert "belongs to another server" in refusal(pair, "--media", both)
        one = f"{pair.media[0]},{pair.media[0]}"
        assert "named twice" in refusal(pair, "--media", one)
        half = f"{pair.media[0]}"
        assert "--degraded" in refusal(pair, "--media", half)
        link = pair.folder / "link"
        link.symlink_to(pair.media[0])
        assert "in use" in refusal(pair, "--media", f"{pair.media[0]},{link}")
        subprocess.run(["cp", "--sparse=always", pair.media[0], pair.folder / "copy"], check=True)
        assert "copy" in refusal(pair, "--media", f"{pair.media[0]},{pair.folder / 'copy'}")
    finally:
        stranger.end()


def test_more_memory_than_there_is_is_refused_with_the_sum(pair):
    text = refusal(pair, "--buffers", "1000GiB")
    asked = float(re.search(r"ask for (\d+\.\d) GiB of memory, the machine has", text)[1])
    assert 1000 <= asked < 1010, text  # with the cache's tables, under a hundredth of the buffers
    text = refusal(pair, "--reactors", "3")
    assert "3 reactors, but only 2 shards" in text
    assert "no list of CPUs" in refusal(pair, "--cpus", "x")


def test_a_medium_that_fails_goes_offline_alone(pair):
    pair.start("--reactors", "2")
    assert put_and_get(pair, 60) == 60
    pair.stop()
    pair.start("--io-errors-max", "4", "--reactors", "2")  # nothing is in the cache
    os.truncate(pair.media[1], 2**20)  # a drive that is gone but for its first blocks
    left = put_and_get(pair, 60, put=False)
    assert 10 <= left <= 50
    wait_for(lambda: pair.counter("ctxkv_store_offline") == 1)
    wait_for(lambda: "server degraded: 1 shards offline" in pair.output())
    assert len(re.findall(r"shard \w+ offline, I/O failed", pair.output())) == 1
    # The other medium goes on, puts for the failed one are refused.
    keys = [key_of("more", number) for number in range(40)]
    with Client(pair.url()) as client:
        done = client.put({key: block_of(key, BLOCK) for key in keys}, durable=True)
        assert {status for status, _ in done} == {0, -OFFLINE}
        stored = [key for key, (status, _) in zip(keys, done) if status == 0]
        assert client.get(stored, BLOCK) == [block_of(key, BLOCK) for key in stored]
    pair.kill(signal.SIGTERM)
    # Its label says that it was larger: start refuses it, and goes on without when told to.
    assert "has shrunk" in refusal(pair)
    pair.start("--degraded")
    with Client(pair.url()) as client:
        assert client.get(stored, BLOCK) == [block_of(key, BLOCK) for key in stored]
    pair.stop()


def admin(server, *arguments):
    endpoint = re.search(r"^admin\s+http://([^/]+)/", server.output(), re.M)[1]
    return server.run("admin", *arguments, "--admin", endpoint, "--dir", server.folder, check=False)


def copy(source, target):
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


class Reader(threading.Thread):
    """Gets blocks all the time; how often, and what came instead of one."""

    def __init__(self, server, keys):
        super().__init__()
        self.url, self.keys = server.url(), keys
        self.rounds, self.wrong, self.is_ending = 0, [], False
        self.start()

    def run(self):
        with Client(self.url) as client:
            while not self.is_ending:
                got = client.get(self.keys, BLOCK)
                self.wrong += [key for key, block in zip(self.keys, got)
                               if block != block_of(key, BLOCK)]
                self.rounds += 1

    def end(self):
        self.is_ending = True
        self.join()
        return self.rounds, self.wrong


def test_a_medium_that_failed_comes_back_by_a_reload(pair):
    pair.start("--reactors", "2")
    keys = [key_of("reactors", number) for number in range(60)]
    assert put_and_get(pair, 60) == 60
    pair.stop()
    pair.start("--io-errors-max", "4", "--reactors", "2")  # nothing is in the cache
    kept, older = pair.folder / "kept", pair.folder / "older"
    copy(pair.media[1], older)
    with Client(pair.url()) as client:
        assert client.drop(keys[:10]) == [0] * 10
    copy(pair.media[1], kept)
    os.truncate(pair.media[1], 2**20)  # a drive that is gone but for its first blocks
    assert 5 <= put_and_get(pair, 60, put=False) <= 45
    wait_for(lambda: "server degraded: 1 shards offline" in pair.output())
    with Client(pair.url()) as client:
        here = [key for key, got in zip(keys, client.get(keys, BLOCK)) if not isinstance(got, int)]
        # What is away cannot be dropped: it would come back.
        away = [key for key in keys[10:] if key not in here]
        assert client.drop(away) == [-OFFLINE] * len(away)
        lease, _ = client.lease(here, 60000)
        reader = Reader(pair, here)
        # As long as it is not what it was, it stays away, and that is what is said.
        done = admin(pair, "reload")
        assert done.returncode == 1 and "has shrunk" in done.stderr, done
        copy(older, pair.media[1])
        done = admin(pair, "reload")
        assert done.returncode == 1 and "older copy" in done.stderr, done
        assert client.get(keys[:10], BLOCK) == [-MISS] * 10
        assert pair.counter("ctxkv_store_offline") == 1
        copy(kept, pair.media[1])
        assert pair.run("drive", "check", pair.media[1], check=False).returncode in (0, 1)
        done = admin(pair, "reload")
        assert done.returncode == 0 and "is back: 1 shards" in done.stdout, done
        assert client.get(keys, BLOCK) == [-MISS] * 10 + [block_of(key, BLOCK) for key in keys[10:]]
        assert client.renew(lease, 0) == 0
        rounds, wrong = reader.end()
        assert rounds > 3 and wrong == []
        assert client.put({keys[3]: block_of(keys[3], BLOCK)}, durable=True)[0][0] == 0
        assert client.drop(away[:3]) == [0] * 3
    assert pair.counter("ctxkv_store_offline") == 0
    assert pair.counter("ctxkv_store_returned_total") == 1
    wait_for(lambda: "server whole again" in pair.output())
    assert "ready" in admin(pair, "health").stdout
    assert "tenants 1: 0 new" in admin(pair, "reload").stdout  # nothing is away
    pair.kill()
    pair.start()
    with Client(pair.url()) as client:
        gone = set(keys[:10]) - {keys[3]} | set(away[:3])
        assert client.get(keys, BLOCK) == [-MISS if key in gone else block_of(key, BLOCK)
                                           for key in keys]
    pair.stop()


def test_a_missing_medium_comes_in_by_sighup(pair):
    pair.start()
    put_and_get(pair, 40)
    pair.stop()
    os.rename(pair.media[1], pair.folder / "elsewhere")
    pair.start("--degraded")
    assert 5 <= put_and_get(pair, 40, put=False) <= 35
    os.rename(pair.folder / "elsewhere", pair.media[1])
    pair.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "server whole again" in pair.output())
    assert put_and_get(pair, 40, put=False) == 40
    assert put_and_get(pair, 80) == 80
    pair.stop()


def test_a_device_that_is_pulled_goes_offline_alone_and_comes_back(pair):
    if os.geteuid() != 0 or not shutil.which("losetup"):
        pytest.skip("needs root and losetup")
    found = subprocess.run(["losetup", "--find", "--show", pair.media[1]], capture_output=True,
                           text=True, check=False)
    if found.returncode != 0:
        pytest.skip("no loop device: " + found.stderr)
    device = found.stdout.strip()
    try:
        media = ("--media", f"{pair.media[0]},{device}")
        pair.start(*media)
        assert put_and_get(pair, 60) == 60
        pair.stop()
        pair.start(*media, "--io-errors-max", "4")  # nothing is in the cache
        copy(pair.media[1], pair.folder / "kept")
        os.truncate(pair.media[1], 0)
        subprocess.run(["losetup", "--set-capacity", device], check=True)
        assert 10 <= put_and_get(pair, 60, put=False) <= 50
        wait_for(lambda: pair.counter("ctxkv_store_offline") == 1)
        copy(pair.folder / "kept", pair.media[1])
        subprocess.run(["losetup", "--set-capacity", device], check=True)
        done = admin(pair, "reload")
        assert done.returncode == 0 and f"{device} is back" in done.stdout, done
        assert put_and_get(pair, 60, put=False) == 60
        pair.stop()
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)


def printed_memory(server):
    size = re.search(r"^memory +([\d.]+) ([KMG])iB in all", server.output(), re.M)
    return float(size[1]) * {"K": 2**10, "M": 2**20, "G": 2**30}[size[2]]


def test_the_memory_printed_is_the_memory_taken(pair):
    pair.start("--reactors", "2", "--index-entries", "200000", "--buffers", "128MiB")
    announced = printed_memory(pair)
    begin = pair.resident()
    assert 0.95 * announced <= begin <= 1.05 * announced + 16 * 2**20
    put_and_get(pair, 60)
    assert pair.resident() <= begin + 8 * 2**20
    pair.stop()


def children(pid):
    return [int(one) for one in
            pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("not in time")


def ready_count(server):
    return len(re.findall(r"^ready ", server.output(), re.M))


def test_the_parent_starts_a_dead_or_frozen_server_again(pair):
    probe = socket.socket()
    probe.bind(("127.0.0.1", 0))
    pair.port = probe.getsockname()[1]  # a restart by the parent keeps the port that it was given
    probe.close()
    pair.start("--watchdog", "2s", "--index-entries", "200000", "--buffers", "32MiB",
               supervise=True)
    put_and_get(pair, 10)
    parent = pair.process.pid
    (first,) = children(parent)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: ready_count(pair) == 2)
    assert put_and_get(pair, 10, put=False) == 10
    (second,) = children(parent)
    os.kill(second, signal.SIGSTOP)
    wait_for(lambda: ready_count(pair) == 3)
    assert re.search(r"has stood still for 2\.00 s|has stood still for 2 s", pair.output())
    assert put_and_get(pair, 10, put=False) == 10
    pair.stop()
    assert not pathlib.Path(f"/proc/{second}").exists()


def test_a_configuration_error_is_not_tried_again(pair):
    done = pair.run("start", "--dir", pair.folder, "--listen", "192.0.2.1:0", check=False)
    assert done.returncode == 1
    assert done.stderr.count("cannot start") == 1


def notify_start(pair, path, watchdog_us):
    environment = dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC=str(watchdog_us))
    return subprocess.Popen([BINARY, "start", "--dir", pair.folder, "--listen", "127.0.0.1:0",
                             "--index-entries", "100000", "--buffers", "32MiB"],
                            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_systemd_is_told_and_fed_while_the_loops_turn(pair):
    path = str(pair.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(20)
        process = notify_start(pair, path, 2_000_000)
        try:
            assert b"READY=1" in notify.recv(4096)
            for _ in range(3):
                assert notify.recv(4096) == b"WATCHDOG=1"
            os.kill(process.pid, signal.SIGSTOP)
            notify.settimeout(1.5)
            with pytest.raises(TimeoutError):
                while True:
                    notify.recv(4096)
            os.kill(process.pid, signal.SIGCONT)
            process.terminate()
            notify.settimeout(20)
            while b"STOPPING=1" not in notify.recv(4096):
                pass
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
            process.wait()


def test_a_reader_of_the_log_that_stops_does_not_stop_the_server(pair):
    """Standard error is a pipe that nobody reads; strangers make lines for it all the time."""
    read_end, write_end = os.pipe()
    log = open(pair.folder / "server.log", "w+", encoding="utf-8")
    pair.process = subprocess.Popen(
        [BINARY, "start", "--dir", pair.folder, "--listen", "127.0.0.1:0", "--no-supervise",
         "--index-entries", "100000", "--buffers", "32MiB"], stdout=log, stderr=write_end)
    pair.log = log
    os.close(write_end)
    try:
        wait_for(lambda: ready_count(pair) == 1)
        pair.port = int(re.search(r"^ready +127\.0\.0\.1:(\d+)", pair.output(), re.M)[1])
        for _ in range(40):  # each costs the server a line; the pipe holds 64 KiB
            for _ in range(60):
                with socket.create_connection(("127.0.0.1", pair.port)) as stranger:
                    stranger.sendall(b"GET / HTTP/1.0\r\n\r\n" + bytes(64))
            time.sleep(0.05)
        assert put_and_get(pair, 5) == 5
    finally:
        os.close(read_end)
        pair.kill(signal.SIGTERM)
