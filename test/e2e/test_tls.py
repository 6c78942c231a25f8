# SPDX-License-Identifier: Apache-2.0
"""TLS between the real client and the real server: nobody reads or changes what passes, nobody goes
on without it where it was asked for, and a wrong peer gets nothing."""
import datetime
import os
import re
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness import Client, OpenError, Server, block_of, key_of
from raw import Raw, secret_of


@pytest.fixture
def made(tmp_path):
    server = Server(tmp_path, memory="576MiB")
    yield server
    server.end()


class Relay(threading.Thread):
    """Passes one server's bytes on, keeps them, and changes what `meddle` says."""

    def __init__(self, port, meddle=None):
        super().__init__(daemon=True)
        self.to = port
        self.meddle = meddle
        self.seen = [bytearray(), bytearray()]
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                near, _ = self.door.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            for way, (source, sink) in enumerate(((near, far), (far, near))):
                threading.Thread(target=self.carry, args=(way, source, sink), daemon=True).start()

    def carry(self, way, source, sink):
        try:
            while part := source.recv(65536):
                self.seen[way] += part
                sink.sendall(self.meddle(way, part) if self.meddle else part)
        except OSError:
            pass
        for peer in (source, sink):
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def end(self):
        self.door.close()


def url(server, port=None, tls="1", keyfile=None):
    return (f"ctxkv://default@127.0.0.1:{port or server.port}"
            f"?keyfile={keyfile or server.folder / 'secrets'}&tls={tls}")


def failures(server):
    text = server.run("stat", "--url", url(server)).stdout
    return int(re.search(r"^ctxkv_tls_failures_total (\d+)", text, re.M)[1])


def test_blocks_of_every_size_pass_and_nobody_reads_them(made):
    made.start()
    relay = Relay(made.port)
    blocks = {key_of(size): block_of(key_of(size), size)
              for size in (1, 100, 4096, 16384, 65536, 65537, 1 << 20, 2_000_000)}
    with Client(url(made, relay.port), lanes=4) as client:
        for key, block in blocks.items():
            assert client.put({key: block})[0][0] == 0
            assert client.get([key], len(block)) == [block]
        assert client.probe(list(blocks)) == [True] * len(blocks)
        assert client.drop(list(blocks)[:1]) == [0]
    seen = bytes(relay.seen[0]) + bytes(relay.seen[1])
    assert len(seen) > 6_000_000
    for key, block in blocks.items():
        assert key[:12] not in seen
        assert len(block) < 32 or block[:16] not in seen
    relay.end()
    text = made.run("stat", "--url", url(made)).stdout
    assert "\ntls 1\n" in text and "\ntls 0\n" not in text
    assert "\ntls 0\n" in made.run("stat", "--url", made.url()).stdout
    assert failures(made) == 0


def test_a_connection_is_handed_over_before_its_handshake(made):
    """Each reactor makes its own handshakes: the one that listens has read the preface only."""
    made.start("--reactors", "2", "--tls", "required")
    with Client(url(made), lanes=2) as client:
        for number in range(20):
            key = key_of("handed over", number)
            end = time.monotonic() + 10
            while client.put({key: block_of(key, 50_000)})[0][0] != 0:
                assert time.monotonic() < end  # its session is just being made
            assert client.get([key], 50_000) == [block_of(key, 50_000)]
    assert failures(made) == 0


def test_changed_bytes_never_reach_the_engine(made):
    """One bit in each 200 KB of either direction: operations fail, nothing false comes out."""
    made.start()
    count = [0, 0]

    def meddle(way, part):
        before, count[way] = count[way], count[way] + len(part)
        if before // 200_000 == count[way] // 200_000 or before < 20_000:
            return part
        at = (count[way] // 200_000) * 200_000 - before
        return part[:at] + bytes([part[at] ^ 1]) + part[at + 1:]

    relay = Relay(made.port, meddle)
    good = bad = 0
    with Client(url(made, relay.port), lanes=2, timeout_s=2) as client:
        for number in range(40):
            key = key_of("meddled", number)
            block = block_of(key, 50_000)
            client.put({key: block})
            got = client.get([key], 50_000)[0]
            assert isinstance(got, int) or got == block
            good += got == block
            bad += isinstance(got, int)
    relay.end()
    assert good > 0 and bad > 0
    assert "broke TLS" in made.output()


def test_a_wrong_secret_opens_nothing(made, tmp_path):
    made.start()
    (tmp_path / "wrong").write_text("default " + os.urandom(32).hex() + "\n", encoding="utf-8")
    (tmp_path / "nobody").write_text("nobody " + os.urandom(32).hex() + "\n", encoding="utf-8")
    for name in ("wrong", "nobody"):
        tenant = "default" if name == "wrong" else "nobody"
        target = url(made, keyfile=tmp_path / name).replace("default@", tenant + "@")
        done = made.run("stat", "--url", target, check=False)
        assert done.returncode == 1
        assert "authentication failed" in done.stderr
    assert failures(made) >= 2
    reasons = [line.rsplit(": ", 1)[1] for line in made.output().splitlines()
               if "failed the TLS handshake" in line]
    assert len(set(reasons)) == 1, "a wrong secret and an unknown tenant look alike"


def test_nobody_goes_on_without_tls(made):
    made.start("--tls", "off", "--shm-dir", "none")
    done = made.run("stat", "--url", url(made), check=False)
    assert done.returncode == 1 and "does not speak TLS" in done.stderr
    with pytest.raises(OpenError):
        Client(url(made), timeout_s=1, wait_s=1)
    assert made.counter("ctxkv_sessions_opened_total") == 1  # this stat's own
    made.stop()

    made.start("--tls", "required")
    done = made.run("stat", "--url", made.url(), check=False)
    assert done.returncode == 1 and "wants TLS" in done.stderr
    assert made.run("stat", "--url", url(made)).returncode == 0
    with pytest.raises((AssertionError, ConnectionError)):
        Raw(made.port, secret_of(made))


def test_a_certificate_is_not_a_key(made, tmp_path):
    """A server with some certificate, and without the secret, does not get so much as a HELLO."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made_certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
                        .public_key(key.public_key()).serial_number(1)
                        .not_valid_before(now - datetime.timedelta(days=1))
                        .not_valid_after(now + datetime.timedelta(days=1))
                        .sign(key, hashes.SHA256()))
    path = tmp_path / "pem"
    path.write_bytes(made_certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    door = socket.create_server(("127.0.0.1", 0))
    outcome = []

    def serve():
        peer, _ = door.accept()
        peer.settimeout(10)
        assert len(peer.recv(32, socket.MSG_WAITALL)) == 32
        try:
            with context.wrap_socket(peer, server_side=True) as wrapped:
                outcome.append(wrapped.recv(1000))
        except (ssl.SSLError, OSError) as error:
            outcome.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    done = made.run("stat", "--url", url(made, door.getsockname()[1]), check=False)
    thread.join(timeout=10)
    door.close()
    assert done.returncode == 1
    assert outcome and (isinstance(outcome[0], Exception) or outcome[0] == b""), outcome


def test_half_a_handshake_is_bounded_in_time_and_number(made):
    made.start("--hello-timeout", "300ms", "--pending-max", "8")
    preface = (b"ctxkv\r\n\x1a" + (1).to_bytes(2, "little") * 2 + b"\0\1" + b"\xff\xff" + bytes(16))
    before = made.resident()
    for rest in (b"", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\x3f\xff\x01\x01\xff\xff" + bytes(8000)):
        # Those that are refused may stay 5 s, and half a second until somebody looks.
        peers = [socket.create_connection(("127.0.0.1", made.port), timeout=30) for _ in range(20)]
        for peer in peers:
            try:
                peer.sendall(preface + rest)
            except OSError:
                pass
        for peer in peers:
            try:
                while peer.recv(4096):
                    pass
            except ConnectionError:
                pass
            peer.close()
    assert made.counter("ctxkv_hello_timeouts_total") >= 3
    assert made.resident() < before + (8 << 20)
    with Client(url(made)) as client:
        assert client.put({key_of("after"): b"x"})[0][0] == 0


def test_a_secret_is_rotated_under_tls(made, tmp_path):
    made.tenant("add", "alice")
    made.start("--tls", "required")
    (tmp_path / "old").write_text(f"alice {secret_of(made, 'alice').hex()}\n", encoding="utf-8")
    made.tenant("rotate", "alice")
    made.reload()
    (tmp_path / "new").write_text(f"alice {secret_of(made, 'alice').hex()}\n", encoding="utf-8")
    key = key_of("rotated")
    targets = [url(made, keyfile=tmp_path / name).replace("default@", "alice@")
               for name in ("old", "new")]
    with Client(targets[0]) as old, Client(targets[1]) as new:
        assert old.put({key: b"block"})[0][0] == 0
        assert new.get([key], 5) == [b"block"]
        made.tenant("finish", "alice")
        made.reload()
        assert new.get([key], 5) == [b"block"]
        for _ in range(5):
            assert isinstance(old.get([key], 5, timeout_s=1)[0], int)
    assert "authentication failed" in made.run("stat", "--url", targets[0], check=False).stderr


def test_an_idle_session_under_tls_is_small(made):
    """What docs/security.md states: at most 32 KiB of the server's for a lane, kernel apart."""
    made.start()
    with Client(url(made), lanes=1) as first:
        assert first.probe([key_of("x")]) == [False]
        before = made.resident()
        clients = [Client(url(made), lanes=1) for _ in range(40)]
        for client in clients:
            key = key_of("idle", id(client))
            assert client.put({key: block_of(key, 100_000)})[0][0] == 0
            assert client.get([key], 100_000) == [block_of(key, 100_000)]
        grown = made.resident() - before
        print(f"{grown / 40 / 1024:.1f} KiB a session")
        for client in clients:
            client.close()
    assert grown < 40 * (32 << 10), grown / 40
