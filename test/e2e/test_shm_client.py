# SPDX-License-Identifier: Apache-2.0
"""Shared memory as clients see it, with the real binary and library: which way a client takes and what it says, memory
of engines in place and staged, and servers that die or stand still in the middle of it."""
import ctypes
import json
import mmap
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness import (BINARY, DEADLINE, DURABLE, GET, PUT, Client, Iov, Item, Op, OpenError, Server,
                     block_of, freeze, key_of, uring_is_allowed)
from test_io import forbid_locked_memory

BLOCK = 256 * 1024
RESULT, RELEASE = 1, 2

pytestmark = pytest.mark.skipif("--shm-dir" not in Server.run("start", "--help").stdout,
                                reason="the server has no door")


@pytest.fixture(name="server")
def _server():
    server = Server(None, memory="256MiB")
    server.start("--reactors", 1)
    yield server
    server.end()


@pytest.fixture(name="disk")
def _disk():
    server = Server(None)
    server.start()
    yield server
    server.end()


def door(server):
    """The directory of the server's sockets, and one of them."""
    run = server.folder / "run"
    return run, sorted(run.glob("*.sock"))[0]


class Memory:
    """Memory of an engine, at an address: a file of /dev/shm as vLLM and LMCache make them, or
    private. kind: linked, unlinked, closed (its descriptor), huge (reserved pages), private."""

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                          ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def __init__(self, size, kind="linked"):
        self.size = size
        self.path = pathlib.Path(f"/dev/shm/ctxkv-e2e-{os.getpid()}-{time.monotonic_ns()}")
        self.fd = -1
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        if kind == "huge":
            self.fd = os.memfd_create("pool", os.MFD_CLOEXEC | os.MFD_HUGETLB | os.MFD_HUGE_2MB)
        elif kind != "private":
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if self.fd >= 0:
            os.ftruncate(self.fd, size)
            flags = mmap.MAP_SHARED
        self.address = self.libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, self.fd, 0)
        assert self.address not in (None, ctypes.c_void_p(-1).value)
        self.bytes = (ctypes.c_char * size).from_address(self.address)
        if kind == "closed":
            os.close(self.fd)
            self.fd = -1
        elif kind == "unlinked":
            self.path.unlink()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.libc.munmap(self.address, self.size)
        if self.fd >= 0:
            os.close(self.fd)
        self.path.unlink(missing_ok=True)


class View:
    """Memory that is another's, at an address."""

    def __init__(self, address, size):
        self.address = address
        self.bytes = (ctypes.c_char * size).from_address(address)


class Slow:
    """An op that is submitted and watched: result and release apart."""

    def __init__(self, client, opcode, key, memory, offset=0, size=BLOCK, timeout_s=10.0, flags=0):
        self.client = client
        self.iov = Iov(base=memory.address + offset, size=size)
        self.item = Item(iov=ctypes.pointer(self.iov), iov_count=1)
        self.item.key[:] = key
        self.op = Op(opcode=opcode, flags=flags, items=ctypes.pointer(self.item), item_count=1,
                     timeout_ns=int(timeout_s * 1e9))
        self.op.ns[:] = client.ns
        pointer = ctypes.pointer(self.op)
        assert client.library.ctxkv_submit(client.handle, ctypes.byref(pointer), 1) == 1
        self.state = 0

    def wait(self, what, timeout_s):
        """Whether it has that by then."""
        event = (ctypes.c_uint64 * 2)()
        end = time.monotonic() + timeout_s
        while self.state & what != what and time.monotonic() < end:
            if self.client.library.ctxkv_poll(self.client.handle, event, 1) == 1:
                self.state |= event[1]
            else:
                time.sleep(0.001)
        return self.state & what == what

    def collect(self, count):
        """Take so many events, whoever's."""
        events = (ctypes.c_uint64 * (2 * count))()
        assert self.client.library.ctxkv_poll(self.client.handle, events, count) == count


def run_in(client, opcode, key, memory, offset=0, size=BLOCK, timeout_s=10.0, flags=0):
    slow = Slow(client, opcode, key, memory, offset, size, timeout_s, flags)
    assert slow.wait(RESULT | RELEASE, timeout_s + 5)
    return slow.item.status


# --- choice ---


def test_the_client_takes_it_by_itself_and_says_so(server):
    with Client(server.url()) as client:
        assert client.stat().transport == b"shm"
        assert client.stat().fallback == b""
        key = key_of("choice")
        assert client.put({key: block_of(key, BLOCK)}) == [(0, 0)]
        assert client.get([key], BLOCK) == [block_of(key, BLOCK)]
    text = server.run("stat", "--url", server.url()).stdout
    assert re.search(r"^client_transport shm$", text, re.M)
    assert "client_fallback" not in text


def test_the_url_chooses(server):
    with Client(server.url() + "&transport=tcp") as client:
        assert client.stat().transport == b"tcp"
    with Client(server.url() + "&transport=shm") as client:
        assert client.stat().transport == b"shm"
    with pytest.raises(OpenError) as refused:
        Client(server.url() + "&transport=udp")
    assert "auto, tcp or shm" in refused.value.message


def test_without_the_socket_it_is_tcp_said_aloud_and_comes_back(server):
    run, path = door(server)
    hidden = run.with_suffix(".hidden")
    run.rename(hidden)
    done = server.run("stat", "--url", server.url())
    assert re.search(r"^client_transport tcp$", done.stdout, re.M)
    assert re.search(rf"^client_fallback there is no {re.escape(str(path))} here", done.stdout, re.M)
    assert "shm is not used" in done.stderr
    with Client(server.url()) as client:
        assert client.stat().transport == b"tcp"
        key = key_of("hidden")
        assert client.put({key: block_of(key, BLOCK)}) == [(0, 0)]
        assert client.get([key], BLOCK) == [block_of(key, BLOCK)]
        row = client.servers()[f"127.0.0.1:{server.port}"][1]
        assert row.transport == b"tcp"
        assert str(path) in row.fallback.decode()
        hidden.rename(run)
        end = time.monotonic() + 10
        while client.stat().transport != b"shm" and time.monotonic() < end:
            time.sleep(0.05)
        assert client.stat().transport == b"shm"
        assert client.get([key], BLOCK) == [block_of(key, BLOCK)]


def test_shm_alone_is_refused_where_it_cannot_be(server):
    run, path = door(server)
    run.rename(run.with_suffix(".hidden"))
    with pytest.raises(OpenError) as refused:
        Client(server.url() + "&transport=shm")
    assert "shared memory" in refused.value.message
    assert str(path) in refused.value.message
    run.with_suffix(".hidden").rename(run)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root")
def test_another_user_without_the_group_stays_on_tcp(server):
    keyfile = server.folder / "other.key"
    shutil.copy(server.folder / "secrets", keyfile)
    os.chown(keyfile, 65534, 65534)
    os.chmod(server.folder, 0o755)
    os.chmod(door(server)[0], 0o755)
    url = server.url(keyfile=keyfile)
    other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
             str(BINARY), "stat", "--url", url]
    done = subprocess.run(other, capture_output=True, text=True, timeout=30, check=True)
    assert re.search(r"^client_transport tcp$", done.stdout, re.M)
    assert "no permission for" in done.stdout
    # In the group of the socket, it is let in.
    group = door(server)[1].stat().st_gid
    other[other.index("--clear-groups")] = "--groups"
    other.insert(other.index("--groups") + 1, str(group))
    done = subprocess.run(other, capture_output=True, text=True, timeout=30, check=True)
    assert re.search(r"^client_transport shm$", done.stdout, re.M)


# --- memory ---


@pytest.mark.parametrize("kind", ["linked", "unlinked", "closed", "private"])
def test_memory_of_an_engine_is_served_in_place_or_staged(server, kind):
    """vLLM: a /dev/shm file, unlinked, its descriptor open. LMCache: its descriptor closed, the
    path there."""
    with Memory(8 * BLOCK, kind) as memory, Client(server.url()) as client:
        region = client.declare(memory.address, memory.size)
        info = client.region_info(region)
        assert info.served == (b"shm: staged" if kind == "private" else b"shm: in place")
        assert info.is_direct == (kind != "private")
        before = client.stat().bytes_copied
        key = key_of("memory", kind)
        memory.bytes[:BLOCK] = block_of(key, BLOCK)
        assert run_in(client, PUT, key, memory) == 0
        assert run_in(client, GET, key, memory, offset=4 * BLOCK) == 0
        assert memory.bytes[4 * BLOCK:5 * BLOCK] == block_of(key, BLOCK)
        copied = client.stat().bytes_copied - before
        assert copied == (2 * BLOCK if kind == "private" else 0)
        assert client.undeclare(region) == 0


def test_memory_of_the_library_is_in_place(server):
    with Client(server.url()) as client:
        address = client.alloc(4 * 1024 * 1024)
        assert address % (2 * 1024 * 1024) == 0
        region = client.region_of(address, 4 * 1024 * 1024)
        assert client.region_info(region).served == b"shm: in place"
        client.free(address)


def pinned(server):
    """Bytes of the server's and its clients' memory that the kernel holds ready for I/O."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return int(re.search(r"^VmPin:\s+(\d+) kB$", status, re.M)[1]) * 1024


def until(condition, timeout_s=10):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("is_allowed", [True, False])
def test_memory_that_the_drive_reaches_is_held_ready(disk, is_allowed):
    """With io_uring and enough RLIMIT_MEMLOCK; without, all is as well."""
    if not is_allowed:
        disk.stop()
        disk.start(preexec=forbid_locked_memory)
    if disk.io == "posix" or not uring_is_allowed():
        pytest.skip("io_uring is not wanted or not allowed here")
    own = pinned(disk)
    size = 20 * 1024 * 1024
    with Memory(size) as memory, Client(disk.url()) as client:
        ctypes.memset(memory.address, 0, size)
        region = client.declare(memory.address, size)
        for i in range(3):
            key = key_of("pinned", i)
            memory.bytes[:BLOCK] = block_of(key, BLOCK)
            assert run_in(client, PUT, key, memory, flags=DURABLE if i > 0 else 0) == 0
            if i == 0:
                assert pinned(disk) == own  # copies need it not
                continue
            until(lambda: pinned(disk) == own + (size if is_allowed else 0))
            assert run_in(client, GET, key, memory, offset=BLOCK) == 0
            assert memory.bytes[BLOCK:2 * BLOCK] == block_of(key, BLOCK)
        assert client.undeclare(region) == 0
        until(lambda: pinned(disk) == own)
        assert disk.output().count("RLIMIT_MEMLOCK is too small") == (0 if is_allowed else 1)


# --- the end of a server ---


def test_kill_9_frees_what_was_in_flight(server):
    with Memory(8 * BLOCK) as memory, Client(server.url(), timeout_s=2) as client:
        client.declare(memory.address, memory.size)
        key = key_of("killed")
        memory.bytes[:BLOCK] = block_of(key, BLOCK)
        assert run_in(client, PUT, key, memory) == 0
        freeze(server.process.pid)
        get = Slow(client, GET, key, memory, offset=BLOCK, timeout_s=0.5)
        assert get.wait(RESULT, 5)
        assert get.item.status == -DEADLINE
        assert not get.wait(RELEASE, 1)
        server.kill()
        assert get.wait(RELEASE, 5)
        server.start()
        end = time.monotonic() + 20
        while run_in(client, PUT, key, memory, timeout_s=5) != 0:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert run_in(client, GET, key, memory, offset=BLOCK, timeout_s=5) == 0
        assert memory.bytes[BLOCK:2 * BLOCK] == block_of(key, BLOCK)


def test_a_server_that_wakes_up_writes_into_nobodys_memory(server):
    with Memory(8 * BLOCK) as memory, Memory(BLOCK, "private") as own, \
            Client(server.url(), timeout_s=2) as client:
        client.declare(memory.address, memory.size)
        key = key_of("frozen")
        memory.bytes[:BLOCK] = block_of(key, BLOCK)
        assert run_in(client, PUT, key, memory) == 0
        freeze(server.process.pid)
        try:
            placed = Slow(client, GET, key, memory, offset=BLOCK, timeout_s=0.3)
            staged = Slow(client, GET, key, own, timeout_s=0.3)
            time.sleep(1)
            assert staged.op.state == RESULT | RELEASE  # both at once
            assert placed.op.state == RESULT
        finally:
            server.process.send_signal(signal.SIGCONT)
        end = time.monotonic() + 10
        while placed.op.state != RESULT | RELEASE and time.monotonic() < end:
            time.sleep(0.001)
        assert placed.op.state == RESULT | RELEASE
        memory.bytes[BLOCK:2 * BLOCK] = b"\xee" * BLOCK
        time.sleep(0.3)
        assert memory.bytes[BLOCK:2 * BLOCK] == b"\xee" * BLOCK
        assert own.bytes[:] == bytes(BLOCK)
        placed.collect(2)
        assert run_in(client, GET, key, memory, offset=2 * BLOCK, timeout_s=5) == 0
        assert memory.bytes[2 * BLOCK:3 * BLOCK] == block_of(key, BLOCK)


def test_close_beside_a_frozen_server_is_bounded():
    """By the watchdog: it kills the server, and then all is released."""
    server = Server(None, memory="256MiB")
    try:
        server.start("--watchdog", "1s", supervise=True)
        with Memory(2 * BLOCK) as memory:
            client = Client(server.url(), timeout_s=2)
            client.declare(memory.address, memory.size)
            key = key_of("close")
            assert run_in(client, PUT, key, memory) == 0
            parent = server.process.pid
            children = pathlib.Path(f"/proc/{parent}/task/{parent}/children")
            freeze(int(children.read_text(encoding="ascii").split()[0]))
            get = Slow(client, GET, key, memory, offset=BLOCK, timeout_s=0.2)
            assert get.wait(RESULT, 5)
            begin = time.monotonic()
            client.close()
            assert time.monotonic() - begin < 10
            assert get.op.state & RELEASE
    finally:
        server.end()


# --- bench ---


@pytest.mark.parametrize("private", [False, True])
def test_bench_over_it_finds_every_byte_right(disk, private):
    more = ["--private"] if private else []
    done = disk.run("bench", "--url", disk.url(), "--transport", "shm", "--ops",
                    "put,put-durable,get,probe", "--sizes", "4KiB,64KiB,1MiB", "--working-set",
                    "16MiB", "--rounds", "1", "--duration", "200ms", "--clients", "2",
                    "--floors=false", "--json", *more, timeout=120)
    rows = json.loads(done.stdout)
    assert {row["op"] for row in rows} == {"put", "put-durable", "get", "probe"}
    for row in rows:
        assert row["failures"] == 0 and row["wrong"] == 0, row
        assert row["transport"] == "shm"
        assert row["served"] == ("shm: staged" if private else "shm: in place")


def test_a_region_that_was_cut_costs_the_server_no_memory(server):
    """A pool is cut to nothing while it is declared: gets into ever new parts of it fail, and the
    server takes no memory of its own for them."""
    size = 1 << 20
    key = key_of("cut")

    def get(client, memory, index):
        buffer = (ctypes.c_char * size).from_address(memory.address + index * size)
        return client.run(GET, [key], [buffer], timeout_s=0.2)[1][0].status

    with Memory(128 * size) as memory, Client(server.url()) as client:
        client.put({key: block_of(key, size)})
        client.declare(memory.address, memory.size)
        assert get(client, memory, 0) == 0
        assert memory.bytes[:size] == block_of(key, size)
        before = server.resident()
        os.ftruncate(memory.fd, 0)
        for index in range(1, 101):
            assert get(client, memory, index) < 0
        assert server.resident() < before + (32 << 20)
        assert "was cut: it is not used any more" in server.output()
        assert client.get([key], size) == [block_of(key, size)]
