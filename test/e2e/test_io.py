# SPDX-License-Identifier: Apache-2.0
"""Which back end `start` takes is told, with the reason; where io_uring is forbidden, it goes on."""
import ctypes
import re
import resource
import struct

import pytest

from harness import Client, block_of, key_of, uring_is_allowed

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
PR_CAPBSET_DROP, CAP_IPC_LOCK = 24, 14


def forbid_io_uring():
    """As a container's default profile does: io_uring_setup, _enter and _register give EPERM."""
    load, jump_ge, jump_gt, give = (0x20, 0x35, 0x25, 0x06)
    code = [(load, 0, 0, 0), (jump_ge, 0, 2, 425), (jump_gt, 1, 0, 427), (give, 0, 0, 0x00050001),
            (give, 0, 0, 0x7FFF0000)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(text)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER,
                                                           program) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def forbid_locked_memory():
    """A small RLIMIT_MEMLOCK, and no right to pass it over (CAP_IPC_LOCK) for what is executed."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0)  # root has it, others do not


def back_end(server):
    return re.search(r"^back end\s+(.*)", server.output(), re.M)[1]


def check_it_stores(server):
    key = key_of("io")
    with Client(server.url()) as client:
        assert client.put({key: block_of(key, 3_000_000)}, durable=True)[0][0] == 0
        assert client.get([key], 3_000_000) == [block_of(key, 3_000_000)]


def test_auto_takes_uring_where_it_may(server):
    if not uring_is_allowed():
        pytest.skip("io_uring is not allowed here")
    server.start()
    assert re.match(r"uring, [\d.]+ [KMG]iB of buffers registered, verify medium", back_end(server))
    check_it_stores(server)


def test_where_it_is_forbidden_threads_do_it_and_start_says_why(server):
    server.start(preexec=forbid_io_uring)
    assert back_end(server).startswith("posix (io_uring: not permitted here (seccomp or ")
    check_it_stores(server)
    server.stop()
    with pytest.raises(AssertionError, match="cannot begin: io_uring: not permitted here"):
        server.start("--io", "uring", preexec=forbid_io_uring)


def test_posix_by_name_needs_no_reason(server):
    server.start("--io", "posix")
    assert back_end(server).startswith("posix, verify")
    check_it_stores(server)


def test_a_small_memlock_limit_costs_speed_and_one_line(server):
    if not uring_is_allowed():
        pytest.skip("io_uring is not allowed here")
    server.start(preexec=forbid_locked_memory)
    assert back_end(server).startswith("uring, no buffers registered")
    assert server.output().count("RLIMIT_MEMLOCK is too small") == 1
    check_it_stores(server)
