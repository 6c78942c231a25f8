# SPDX-License-Identifier: Apache-2.0
"""Clients of the server's host: they find its sockets by themselves, and TCP where they cannot."""
import os
import pathlib
import socket
import stat
import struct
import subprocess
import time

import pytest

from harness import BINARY, Client, Server, block_of, key_of


@pytest.fixture
def quiet(tmp_path):
    """A server in memory mode, not yet started; ended after the test."""
    made = Server(tmp_path, memory="576MiB")
    yield made
    made.end()


def transport(server, url=None):
    """What `ctxkv stat` says the client came by."""
    text = server.run("stat", "--url", url or server.url()).stdout
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)["transport"]


def sockets(server):
    """Paths of the server's sockets, as they lie there."""
    return sorted((server.folder / "run").glob("*.sock"))


def test_a_client_of_this_host_uses_shared_memory(quiet):
    """Nothing is set: start says where, the client goes there, blocks pass, metrics count it."""
    quiet.start("--reactors", 2)
    assert "shm        " + str(quiet.folder / "run") in quiet.output()
    paths = sockets(quiet)
    assert len(paths) == 2
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert transport(quiet) == "shm"
    blocks = {key_of("shm", i): block_of(key_of("shm", i), 65536 + i) for i in range(50)}
    with Client(quiet.url()) as client:
        client.put(blocks)
        for key, block in blocks.items():
            assert bytes(client.get([key], len(block))[0]) == block
        assert quiet.counter("ctxkv_sessions_shm") >= 1
    quiet.stop()
    assert not sockets(quiet)


def test_without_the_directory_clients_come_over_tcp(quiet):
    """none is said, and nothing is made."""
    quiet.start("--shm-dir", "none")
    assert "shm        none: not asked for" in quiet.output()
    assert transport(quiet) == "tcp"


def test_a_socket_in_use_stays_and_is_said(quiet, tmp_path):
    """Another server listens where ours would: ours goes on over TCP. A dead one's is replaced."""
    run = quiet.folder / "run"
    quiet.start()
    port = quiet.port
    quiet.kill()
    left = sockets(quiet)
    assert left, "a killed server leaves its socket"
    quiet.start()
    assert transport(quiet) == "shm"
    quiet.stop()
    run.mkdir(exist_ok=True)
    (run / f"{port}.0.sock").write_text("no socket\n", encoding="utf-8")
    quiet.start()
    assert "clients of this host come by the other transports" in quiet.output()
    assert "shm        none: its sockets cannot be made" in quiet.output()
    assert transport(quiet) == "tcp"
    assert (run / f"{port}.0.sock").read_text(encoding="utf-8") == "no socket\n"


def test_a_configuration_that_cannot_be_is_refused(quiet):
    """A group that does not exist, a directory that cannot be made."""
    for options, why in ((["--shm-group", "nobody-has-this-name"], "there is no group"),
                         (["--shm-dir", "/proc/none/such"], "cannot make /proc/none/such")):
        done = subprocess.run([BINARY, "start", "--dir", quiet.folder, "--no-supervise",
                               *options], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 1
        assert why in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_the_group_decides_who_may_connect(quiet):
    """A user of the group uses shared memory, another one goes on over TCP, and is told."""
    group = 54321
    quiet.start("--shm-group", group)
    path = sockets(quiet)[0]
    assert path.stat().st_gid == group
    key = pathlib.Path(quiet.folder) / "secrets"
    quiet.folder.chmod(0o755)
    key.chmod(0o644)

    def as_user(groups):
        def become():
            os.setgroups(groups)
            os.setgid(65534)
            os.setuid(65534)
        done = subprocess.run([BINARY, "stat", "--url", quiet.url()], capture_output=True,
                              text=True, timeout=30, check=False, preexec_fn=become)
        return done.stdout, done.stderr

    text, errors = as_user([group])
    assert "transport shm" in text, errors
    text, errors = as_user([])
    assert "transport tcp" in text, errors


def lingering():
    """A descriptor whose last close waits for 100 s, and the other end, to be kept."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        mine = socket.create_connection(door.getsockname())
        other, _ = door.accept()
    mine.setblocking(False)
    try:
        while True:
            mine.send(bytes(65536))
    except BlockingIOError:
        pass
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 100))
    return mine, other


def test_a_descriptor_that_waits_at_its_close_holds_nobody(quiet):
    """Strangers pass what waits when it is closed: the one reactor goes on, and the server ends."""
    quiet.start("--reactors", 1, "--watchdog", "5s", supervise=True)
    path = str(sockets(quiet)[0])
    preface = b"ctxkv\r\n\x1a" + struct.pack("<HHBBHQQ", 1, 1, 0, 0, 0xFFFF, 0, 0)
    key = key_of("waits")
    kept = []
    with Client(quiet.url()) as client:
        client.put({key: block_of(key, 65536)})
        for behind in (False, True):  # as the memory of a preface; behind what ends the connection
            mine, other = lingering()
            stranger = socket.socket(socket.AF_UNIX)
            stranger.connect(path)
            socket.send_fds(stranger, [b"x" * 32 + b"y" * 24 if behind else preface],
                            [mine.fileno()])
            mine.close()
            kept += [other, stranger]
            stranger.settimeout(10)
            try:
                while stranger.recv(100):
                    pass
            except ConnectionResetError:
                pass
            begin = time.monotonic()
            assert client.get([key], 65536) == [block_of(key, 65536)]
            assert time.monotonic() - begin < 3
        assert quiet.counter("ctxkv_descriptors_waiting") >= 1
        time.sleep(6)  # the watchdog would have said so
        assert client.get([key], 65536) == [block_of(key, 65536)]
    begin = time.monotonic()
    quiet.stop()
    assert time.monotonic() - begin < 10
