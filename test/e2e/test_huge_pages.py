# SPDX-License-Identifier: Apache-2.0
"""Reserved huge pages (vm.nr_hugepages): the server's memory and the client's are of them while there are any, blocks
pass between them and the drive, and all are free again at the end. docs/operating/shared-memory.md."""
import os
import pathlib
import re

import pytest

from harness import DURABLE, GET, PUT, Client, Server, block_of, key_of
from test_shm_client import BLOCK, Memory, View, run_in, until

HUGE = 2 * 1024 * 1024
RESERVED = 320  # of the server's memory, and of clients and their staging areas
CTXKV_HUGE_PAGES = 2
LIMIT = pathlib.Path("/proc/sys/vm/nr_hugepages")


def pages(what):
    text = pathlib.Path("/proc/meminfo").read_text(encoding="ascii")
    return int(re.search(rf"^HugePages_{what}:\s+(\d+)$", text, re.M)[1])


@pytest.fixture(name="reserved")
def _reserved():
    """So many pages are reserved for the test; skipped where they are not to be had."""
    before = LIMIT.read_text(encoding="ascii")
    if os.geteuid() != 0 or pages("Total") != 0:
        pytest.skip("needs root, and a machine that has none reserved")
    try:
        LIMIT.write_text(str(RESERVED), encoding="ascii")
    except OSError:
        pytest.skip("the kernel's settings may not be changed here")
    try:
        if pages("Free") < RESERVED:
            pytest.skip("there are not so many huge pages here")
        yield
        until(lambda: pages("Free") == RESERVED)  # of the gone nothing is left
    finally:
        LIMIT.write_text(before, encoding="ascii")


def huge_of(process):
    """Bytes of reserved huge pages that the process has mapped for itself, and shares."""
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(re.search(r"^HugetlbPages:\s+(\d+) kB$", text, re.M)[1]) * 1024


def exchange(client, memory, word):
    """A block in and out, durable; its bytes are right."""
    key = key_of("huge", word)
    memory.bytes[:BLOCK] = block_of(key, BLOCK)
    assert run_in(client, PUT, key, memory, flags=DURABLE) == 0
    assert run_in(client, GET, key, memory, offset=4 * BLOCK) == 0
    assert memory.bytes[4 * BLOCK:5 * BLOCK] == block_of(key, BLOCK)


@pytest.mark.parametrize("memory", ["256MiB", None])
def test_both_sides_take_reserved_pages(reserved, memory):
    """In memory mode the blocks' own; with a drive its buffers, and direct I/O into the client's."""
    server = Server(None, memory=memory)
    try:
        server.start("--reactors", 1, *([] if memory else ["--buffers", "64MiB"]))
        taken = huge_of(server.process)
        assert taken >= (256 if memory else 64) * 1024 * 1024
        with Client(server.url(), flags=CTXKV_HUGE_PAGES) as client:
            address = client.alloc(8 * HUGE)
            assert address % HUGE == 0
            info = client.region_info(client.region_of(address, 8 * HUGE))
            assert (info.served, info.page_size) == (b"shm: in place", HUGE)
            exchange(client, View(address, 8 * HUGE), "alloc")
        server.stop()
    finally:
        server.end()


def test_an_engines_huge_pages_are_served_in_place(reserved):
    """A pool in hugetlbfs, declared: its descriptor is open."""
    server = Server(None)
    try:
        server.start("--reactors", 1, "--huge-pages=no")
        assert huge_of(server.process) == 0
        with Memory(4 * HUGE, "huge") as memory, Client(server.url()) as client:
            region = client.declare(memory.address, memory.size)
            assert client.region_info(region).served == b"shm: in place"
            exchange(client, memory, "engine")
            assert client.undeclare(region) == 0
        server.stop()
    finally:
        server.end()


def test_without_enough_it_is_normal_pages_and_said(reserved):
    server = Server(None, memory="256MiB")
    try:
        server.start("--huge-pages=no")
        with Client(server.url(), flags=CTXKV_HUGE_PAGES) as client:
            address = client.alloc((RESERVED + 1) * HUGE)
            assert client.region_info(client.region_of(address, HUGE)).page_size == 4096
            small = client.alloc(HUGE)
            assert client.region_info(client.region_of(small, HUGE)).page_size == HUGE
        server.stop()
    finally:
        server.end()
