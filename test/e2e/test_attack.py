# SPDX-License-Identifier: Apache-2.0
"""Promise 7, and what arrives: bad frames end their session, never the server, and cost no memory."""
import os
import socket
import struct
import time

import pytest

from harness import Client, block_of, key_of
from raw import (BITMAP, GET, HELLO, PROBE, PUT, REFUSE, REPLY, WELCOME, Raw, header, request,
                 secret_of)


@pytest.fixture
def target(memory_server):
    """A server that must still serve an honest client after the test."""
    key = key_of("honest")
    with Client(memory_server.url()) as client:
        assert client.put({key: block_of(key, 100_000)})[0][0] == 0
        yield memory_server
        assert memory_server.process.poll() is None, memory_server.output()
        assert client.get([key], 100_000) == [block_of(key, 100_000)]


def put_item(key, size, flags=0):
    return key + bytes(16) + struct.pack("<QIIIHH", 0, 0, size, 0, 0, flags)


def get_item(key, size):
    return key + struct.pack("<QHHI", 0, 0, 0, 0) + struct.pack("<IIHHI", 0, size, 0, 0, 0)


def test_an_honest_raw_client_is_served(target):
    """The document is enough to write a client."""
    raw = Raw(target.port, secret_of(target))
    assert raw.server_proof_is_right
    assert raw.welcome[0] == WELCOME
    key = key_of("raw")
    raw.send(PUT, request() + put_item(key, 5, 1), b"hello", request=1, count=1)
    kind, _, body = raw.receive()
    assert kind == REPLY and struct.unpack("<Ii", body[:8]) == (0, 0)
    raw.send(PROBE, request() + key + bytes(32), request=2, count=2)
    kind, _, body = raw.receive()
    assert kind == BITMAP and body[24] == 1


def test_a_wrong_secret_is_refused(target):
    raw = Raw(target.port, os.urandom(32))
    assert not raw.server_proof_is_right
    assert raw.welcome[0] == REFUSE


def test_an_unknown_tenant_looks_like_a_wrong_secret(target):
    raw = Raw(target.port, secret_of(target), tenant=b"nobody")
    assert not raw.server_proof_is_right
    assert raw.welcome[0] == REFUSE


def test_strangers_do_not_fill_the_log(target):
    def knock():
        with socket.create_connection(("127.0.0.1", target.port), timeout=5) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n")
            try:
                assert peer.recv(1) == b""
            except ConnectionResetError:
                pass  # the server reads no further than a preface: the rest was still unread

    begin = time.monotonic()
    for _ in range(600):
        knock()
    seconds = time.monotonic() - begin
    told = target.output().count("no preface of ours")
    assert 0 < told <= 50 * (seconds + 2)
    if seconds < 10:
        assert told < 600
    time.sleep(1.1)
    knock()
    assert told == 600 or "lines left out" in target.output()


def test_requests_before_hello_end_the_connection(target):
    peer = socket.create_connection(("127.0.0.1", target.port), timeout=5)
    preface = b"ctxkv\r\n\x1a" + struct.pack("<HHBBHQQ", 1, 1, 0, 0, 0xFFFF, 0, 0)
    body = request() + key_of("honest")
    peer.sendall(preface + header(PROBE, 1, 1, body) + bytes(16) + body)
    data = b""
    while part := peer.recv(4096):
        data += part
    assert BITMAP not in data[4:5]


def test_a_flipped_bit_ends_the_session(target):
    for at in (4, 20, 40, 60, 110):
        raw = Raw(target.port, secret_of(target))
        frame = bytearray(raw.frame(PROBE, request() + key_of("x"), request=1, count=1))
        frame[at] ^= 1
        raw.socket.sendall(frame)
        assert raw.is_closed(), f"byte {at}"


def test_a_replayed_frame_ends_the_session(target):
    raw = Raw(target.port, secret_of(target))
    frame = raw.frame(PROBE, request() + key_of("x"), request=1, count=1)
    raw.socket.sendall(frame)
    assert raw.receive()[0] == BITMAP
    raw.socket.sendall(frame)
    assert raw.is_closed()


def test_a_frame_of_another_session_ends_this_one(target):
    first = Raw(target.port, secret_of(target))
    second = Raw(target.port, secret_of(target))
    second.socket.sendall(first.frame(PROBE, request() + key_of("x"), request=1, count=1))
    assert second.is_closed()


def test_a_length_of_a_gigabyte_is_refused_at_once(target):
    before = target.resident()
    for field in ({"body_size": 1 << 30}, {"payload_size": 1 << 30}):
        raw = Raw(target.port, secret_of(target))
        head = header(PUT, 1, 1, b"", **field)
        raw.socket.sendall(head + raw.mac(0, head, b"") + bytes(4096))
        assert raw.is_closed()
    peer = socket.create_connection(("127.0.0.1", target.port), timeout=5)
    preface = b"ctxkv\r\n\x1a" + struct.pack("<HHBBHQQ", 1, 1, 0, 0, 0xFFFF, 0, 0)
    peer.sendall(preface + header(HELLO, body_size=1 << 30) + bytes(16))
    peer.settimeout(5)
    assert peer.recv(4096) is not None
    assert target.resident() < before + (8 << 20)


def test_a_truncated_frame_is_forgotten(target):
    for cut in (1, 31, 47, 60, 100):
        raw = Raw(target.port, secret_of(target))
        raw.socket.sendall(raw.frame(GET, request() + get_item(key_of("x"), 10), request=1,
                                     count=1)[:cut])
        raw.socket.close()


def test_a_body_that_does_not_add_up_ends_the_session(target):
    for count, body in [(2, request() + bytes(32)), (1, request()), (0, request()[:20]),
                        (1, request() + bytes(33))]:
        raw = Raw(target.port, secret_of(target))
        raw.send(PROBE, body, request=1, count=count)
        assert raw.is_closed(), (count, len(body))


def test_noise_ends_the_connection(target):
    for _ in range(20):
        peer = socket.create_connection(("127.0.0.1", target.port), timeout=10)
        peer.sendall(os.urandom(300))
        peer.settimeout(10)
        try:
            while peer.recv(4096):
                pass
        except ConnectionError:
            pass
        peer.close()


def test_connections_that_say_nothing_are_bounded(target):
    silent = [socket.create_connection(("127.0.0.1", target.port)) for _ in range(300)]
    with Client(target.url(), timeout_s=8, wait_s=8) as client:
        end = 20
        while client.probe([key_of("honest")]) != [True] and end:
            end -= 1
        assert end, "an honest client was kept out"
    for peer in silent:
        peer.close()


def test_a_slow_reader_costs_the_server_no_memory(target):
    key = key_of("slow")
    with Client(target.url()) as client:
        assert client.put({key: block_of(key, 2_000_000)})[0][0] == 0
        raw = Raw(target.port, secret_of(target))
        before = target.resident()
        for i in range(100):
            raw.send(GET, request(20) + get_item(key, 2_000_000), request=1 + i, count=1)
        # It never reads; others are served and memory stays flat.
        for i in range(20):
            assert client.get([key], 2_000_000) == [block_of(key, 2_000_000)]
        assert target.resident() < before + (16 << 20)
        raw.socket.close()
