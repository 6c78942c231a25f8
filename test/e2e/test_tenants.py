# SPDX-License-Identifier: Apache-2.0
"""Tenants: the command that edits the secrets file, and that nobody sees another's blocks, whatever
operation and whatever bytes he tries."""
import os
import stat
import struct
import threading
import time

import pytest

from harness import Client, Server, block_of, key_of
from raw import (BITMAP, CANCEL, DECLARE, DROP, GET, GRANT, LEASE, NOTICE, PROBE, PUT, RENEW, REPLY,
                 REPORT, STAT, TEXT, UNDECLARE, Raw, domain_id, request, secret_of)

DENIED = -2041


@pytest.fixture
def town(tmp_path):
    """A server with alice, mallory, a reader and a domain that some share."""
    made = Server(tmp_path, memory="576MiB")
    made.tenant("add", "alice", "--domains", "club:read+write")
    made.tenant("add", "mallory")
    made.tenant("add", "reader", "--rights", "read", "--domains", "club")
    made.start()
    yield made
    made.end()


# --- the command ---


def test_the_file_is_edited_as_told(tmp_path):
    made = Server(tmp_path, memory="576MiB")
    path = made.folder / "secrets"
    comment = path.read_text(encoding="utf-8").splitlines()[0]
    first = made.tenant("add", "alice", "--quota", "2GiB", "--sessions", "9",
                        "--domains", "club:read+write,lab").stdout
    line = next(row for row in first.splitlines() if row.startswith("key file"))
    assert path.read_text(encoding="utf-8").splitlines()[-1].startswith(line.split(None, 2)[2])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "club read+write, lab read, quota 2 GiB, 9 sessions" in made.tenant("list").stdout
    old = secret_of(made, "alice")
    made.tenant("rotate", "alice")
    words = path.read_text(encoding="utf-8").splitlines()[-1].split()
    assert words[2] == old.hex() and words[1] != old.hex()
    assert made.tenant("rotate", "alice", check=False).returncode == 1
    made.tenant("set", "alice", "--rights", "read", "--quota", "0")
    made.tenant("finish", "alice")
    assert old.hex() not in path.read_text(encoding="utf-8")
    assert made.tenant("finish", "alice", check=False).returncode == 1
    listed = made.tenant("list").stdout
    assert "alice            read, club read+write, lab read, 9 sessions, secret" in listed
    assert words[1] not in listed
    made.tenant("remove", "alice")
    assert "alice" not in made.tenant("list").stdout
    assert path.read_text(encoding="utf-8").splitlines()[0] == comment
    made.end()


def test_mistakes_leave_the_file_alone(tmp_path):
    made = Server(tmp_path, memory="576MiB")
    path = made.folder / "secrets"
    made.tenant("add", "alice", "--domains", "club")
    before = path.read_text(encoding="utf-8")
    for words in (["add", "alice"], ["add", "club"], ["add", "bad/name"], ["remove", "nobody"],
                  ["add", "bob", "--domains", "a,a"], ["add", "bob", "--domains", "alice"],
                  ["set", "alice", "--domains", "x:write"]):
        done = made.tenant(*words, check=False)
        assert done.returncode == 1 and done.stderr.startswith("ctxkv: "), words
    assert path.read_text(encoding="utf-8") == before
    assert os.listdir(made.folder).count("secrets.new") == 0
    made.tenant("remove", "alice")
    assert made.tenant("remove", "default", check=False).returncode == 1
    made.end()


# --- across tenants ---


def get_item(key, size):
    return key + bytes(16) + struct.pack("<IIHHI", 0, size, 0, 0, 0)


def put_item(key, size, inline):
    return key + bytes(16) + struct.pack("<QIIIHH", 0, 0, size, 0, 0, int(inline))


def operations(key, domain, ns):
    """Every operation, once: (kind, count, body, payload)."""
    head = request(domain=domain, ns=ns)
    return [
        (PROBE, 1, head + key, b""),
        (LEASE, 1, head + key, b""),
        (GET, 1, head + get_item(key, 1000), b""),
        (PUT, 1, head + put_item(key, 1000, False), b""),
        (PUT, 1, head + put_item(key, 1000, True), b"x" * 1000),
        (DROP, 1, head + key, b""),
        (DROP, 0, head, b""),
        (RENEW, 0, request(domain=domain, ns=ns, lease=1), b""),
        (CANCEL, 1, head + struct.pack("<Q", 1 << 40), b""),
        (DECLARE, 0, head + struct.pack("<IHHQQII", 1, 3, 1, 10, 0, 0, 0), b""),
        (UNDECLARE, 0, head + struct.pack("<II", 1, 0), b""),
        (REPORT, 0, head + struct.pack("<QQQQ", 1, 1, 1, 1), b""),
        (STAT, 0, head, b""),
    ]


def answer(raw, number):
    """The status of a request, or of its first item; its text."""
    while True:
        kind, fields, body = raw.receive()
        if kind == NOTICE or fields[6] != number:
            continue
        assert kind != GRANT, "memory was reserved for it"
        if kind == REPLY:
            return struct.unpack("<i", body[4:8])[0], b""
        if kind == BITMAP:
            assert not any(body[24:])
            return struct.unpack("<i", body[8:12])[0], b""
        assert kind == TEXT
        return struct.unpack("<i", body[:4])[0], body[8:]


def test_no_operation_reaches_another_tenant(town):
    key = key_of("secret plans")
    block = block_of(key, 1000)
    with Client(town.url("alice")) as alice:
        ns = bytes(alice.ns)
        assert alice.put({key: block})[0][0] == 0
        mallory = Raw(town.port, secret_of(town, "mallory"), tenant=b"mallory")
        number = 0
        for name in (b"alice", b"club", b"default", b"nobody"):
            for kind, count, body, payload in operations(key, domain_id(name), ns):
                number += 1
                mallory.send(kind, body, payload, request=number, count=count)
                assert answer(mallory, number) == (DENIED, b""), (name, kind)
        assert alice.get([key], 1000) == [block]
        # Under its own domain it may do all that, and reaches nothing of alice's.
        for kind, count, body, payload in operations(key, domain_id(b"mallory"), ns):
            if kind != PUT or payload:
                number += 1
                mallory.send(kind, body, payload, request=number, count=count)
                assert answer(mallory, number)[0] != DENIED, kind
        assert alice.get([key], 1000) == [block]


def test_rights_hold_for_every_operation(town):
    key = key_of("shared plans")
    with Client(town.url("alice")) as alice, Client(town.url("reader")) as reader:
        ns = bytes(alice.ns)
        raw = Raw(town.port, secret_of(town, "reader"), tenant=b"reader")
        number = 0
        for domain in (domain_id(b"club"), domain_id(b"reader"), bytes(16)):
            for kind, count, body, payload in operations(key, domain, ns):
                number += 1
                raw.send(kind, body, payload, request=number, count=count)
                status = answer(raw, number)[0]
                assert (status == DENIED) == (kind in (PUT, DROP)), (kind, status)
        assert reader.put({key: b"x"})[0][0] == DENIED
        # What alice puts into the shared domain the reader reads.
        alice.domain("club")
        reader.domain("club")
        assert alice.put({key: block_of(key, 5000)})[0][0] == 0
        assert reader.get([key], 5000) == [block_of(key, 5000)]
        assert reader.drop([key]) == [DENIED]
        reader.domain(None)
        assert reader.get([key], 5000) == [-2001]


def test_sessions_are_limited_by_tenant(tmp_path):
    made = Server(tmp_path, memory="576MiB")
    made.tenant("add", "few", "--sessions", "2")
    made.start()
    secret = secret_of(made, "few")
    held = [Raw(made.port, secret, tenant=b"few") for _ in range(2)]
    assert [raw.welcome[0] for raw in held] == [4, 4]
    assert Raw(made.port, secret, tenant=b"few").welcome[0] == 5
    assert Raw(made.port, secret_of(made)).welcome[0] == 4
    made.end()


# --- a new file while the server runs ---


class Worker(threading.Thread):
    """A client that puts and gets without a pause; failures are kept."""

    def __init__(self, url, name):
        super().__init__()
        self.client = Client(url)
        self.label = name
        self.done = 0
        self.failures = []
        self.is_ended = threading.Event()
        self.start()

    def run(self):
        while not self.is_ended.is_set():
            key = key_of(self.label, self.done)
            block = block_of(key, 200_000)
            put = self.client.put({key: block})[0][0]
            got = self.client.get([key], 200_000)[0]
            if put != 0 or got != block:
                self.failures.append((put, got if isinstance(got, int) else "bytes"))
                time.sleep(0.01)
            self.done += 1

    def goes_on(self, count=20):
        """So many more operations, none of them failed."""
        until = self.done + count
        end = time.monotonic() + 20
        while self.done < until and time.monotonic() < end:
            time.sleep(0.01)
        assert self.done >= until and self.failures == [], self.failures[:3]

    def end(self):
        self.is_ended.set()
        self.join(timeout=30)
        self.client.close()


def test_a_secret_is_rotated_under_load(tmp_path):
    made = Server(tmp_path, memory="576MiB")
    made.tenant("add", "alice")
    made.tenant("add", "bob")
    for name in ("old", "other"):
        tenant = "alice" if name == "old" else "bob"
        (tmp_path / name).write_text(f"{tenant} {secret_of(made, tenant).hex()}\n")
    made.start()
    old = Worker(made.url("alice", tmp_path / "old"), "old")
    other = Worker(made.url("bob", tmp_path / "other"), "other")
    try:
        made.tenant("rotate", "alice")
        made.reload()
        old.goes_on()
        (tmp_path / "new").write_text(f"alice {secret_of(made, 'alice').hex()}\n")
        new = Worker(made.url("alice", tmp_path / "new"), "new")
        for worker in (old, new, other):
            worker.goes_on()
        # Again and again the same file: nobody notices.
        for _ in range(20):
            made.reload()
        for worker in (old, new, other):
            worker.goes_on()
        made.tenant("finish", "alice")
        made.reload()
        new.goes_on()
        other.goes_on()
        end = time.monotonic() + 20
        while len(old.failures) < 5 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(old.failures) >= 5, "the old secret still opens the door"
        assert "its secret was removed" in made.output()
        made.tenant("remove", "bob")
        made.reload()
        new.goes_on()
        assert "its tenant was removed" in made.output()
        new.end()
        assert new.failures == []
    finally:
        old.end()
        other.end()
        made.end()


def test_a_bad_file_changes_nothing(tmp_path):
    made = Server(tmp_path, memory="576MiB")
    made.start()
    path = made.folder / "secrets"
    good = path.read_text(encoding="utf-8")
    key = key_of("kept")
    with Client(made.url()) as client:
        assert client.put({key: block_of(key, 1000)})[0][0] == 0
        for number, bad in enumerate(("", "default\n", good + "x y\n", good + good)):
            path.write_text(bad, encoding="utf-8")
            made.reload(refused=number + 1)
            assert client.get([key], 1000) == [block_of(key, 1000)]
        path.write_text(good, encoding="utf-8")
        path.chmod(0o644)
        made.reload(refused=5)
        path.unlink()
        made.reload(refused=6)
        assert client.get([key], 1000) == [block_of(key, 1000)]
        path.write_text(good, encoding="utf-8")
        path.chmod(0o600)
        made.reload()
    with Client(made.url()) as client:
        assert client.get([key], 1000) == [block_of(key, 1000)]
    assert good.split()[-1] not in made.output()
    made.end()
