# SPDX-License-Identifier: Apache-2.0
"""The protocol by hand (docs/protocol.md), for frames that no honest client sends. Written from the
document, not from the C code: it is a second opinion on both."""
import hashlib
import hmac
import os
import socket
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = 0x31565843
HELLO, CHALLENGE, PROOF, WELCOME, REFUSE = 1, 2, 3, 4, 5
PROBE, LEASE, GET, PUT, DROP, RENEW, CANCEL = 10, 11, 12, 13, 14, 15, 16
DECLARE, UNDECLARE, REPORT, STAT = 17, 18, 19, 20
REPLY, BITMAP, TEXT, GRANT, DATA_GET, DATA_PUT, NOTICE = 30, 31, 32, 33, 34, 35, 36
ALL, WARM = 1, 2  # flags of LEASE


def header(kind, request=0, count=0, body=b"", payload_size=0, body_size=None, flags=0):
    size = len(body) if body_size is None else body_size
    return struct.pack("<IBBHIIQII", MAGIC, kind, flags, count, size, payload_size, request, 0, 0)


def request(budget_s=5, flags=0, ns=b"n" * 16, domain=bytes(16), lease=0, duration_ms=0):
    return ns + domain + struct.pack("<QQII", int(budget_s * 1e9), lease, flags, duration_ms)


def domain_id(name):
    return hashlib.sha256(b"ctxkv domain " + name).digest()[:16]


class Raw:
    """A lane: hello in the constructor, then frames as told."""

    def __init__(self, port, secret, tenant=b"default", timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.sent = 0
        self.keys = None
        preface = b"ctxkv\r\n\x1a" + struct.pack("<HHBBHQQ", 1, 1, 0, 0, 0xFFFF, 0, 0)
        self.nonce = os.urandom(32)
        secret_id = hmac.new(secret, b"ctxkv secret id", hashlib.sha256).digest()[:8]
        hello = tenant.ljust(64, b"\0") + self.nonce + secret_id + struct.pack("<IHHQ", 1, 0, 0, 0)
        self.socket.sendall(preface)
        self.send_plain(HELLO, hello)
        kind, _, challenge = self.receive()
        assert kind == CHALLENGE, (kind, challenge)
        self.transcript = preface + hello + challenge[:64]
        self.server_proof_is_right = hmac.compare_digest(
            self.proof(secret, b"server"), challenge[64:96])
        session = hmac.new(secret, b"ctxkv session key" + self.transcript, hashlib.sha256).digest()
        self.keys = [hmac.new(session, b"ctxkv lane key" + struct.pack("<HB", 0, way) + self.nonce +
                              challenge[8:40], hashlib.sha256).digest()[:16] for way in (1, 2)]
        self.send_plain(PROOF, self.proof(secret, b"client"))
        self.welcome = self.receive()

    def proof(self, secret, role):
        return hmac.new(secret, b"ctxkv " + role + b" proof" + self.transcript,
                        hashlib.sha256).digest()

    def mac(self, sequence, head, body):
        nonce = bytes(4) + struct.pack("<Q", sequence)
        return AESGCM(self.keys[0]).encrypt(nonce, b"", head + body)

    def send_plain(self, kind, body, **more):
        self.socket.sendall(header(kind, body=body, **more) + bytes(16) + body)

    def frame(self, kind, body, payload=b"", **more):
        """A frame with its MAC, as the next of the sequence."""
        head = header(kind, body=body, payload_size=len(payload), **more)
        whole = head + self.mac(self.sent, head, body) + body + payload
        self.sent += 1
        return whole

    def send(self, kind, body, payload=b"", **more):
        self.socket.sendall(self.frame(kind, body, payload, **more))

    def read(self, size):
        got = b""
        while len(got) < size:
            part = self.socket.recv(size - len(got))
            if not part:
                raise ConnectionError("closed")
            got += part
        return got

    def receive(self):
        """(kind, header fields, body)"""
        head = self.read(48)
        fields = struct.unpack("<IBBHIIQII", head[:32])
        assert fields[0] == MAGIC
        body = self.read(fields[4])
        self.read(fields[5])
        return fields[1], fields, body

    def lease(self, keys, number, duration_ms, flags=0, ns=b"n" * 16):
        """(id, bits, leased, granted ms)"""
        body = request(flags=flags, ns=ns, duration_ms=duration_ms) + b"".join(keys)
        self.send(LEASE, body, request=number, count=len(keys))
        kind, fields, body = self.receive()
        assert kind == BITMAP and fields[6] == number, (kind, fields)
        lease, status, leased, granted, zero = struct.unpack("<QiIII", body[:24])
        assert status == 0 and zero == 0
        bits = [body[24 + i // 8] >> i % 8 & 1 for i in range(len(keys))]
        return lease, bits, leased, granted

    def renew(self, lease, number, duration_ms):
        """The status."""
        self.send(RENEW, request(lease=lease, duration_ms=duration_ms), request=number)
        kind, fields, body = self.receive()
        assert kind == REPLY and fields[6] == number and fields[2] == 1, (kind, fields)
        return struct.unpack("<Ii", body[:8])[1]

    def is_closed(self, timeout=5):
        """Whether the server ends this connection soon."""
        self.socket.settimeout(timeout)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except socket.timeout:
            return False
        except OSError:
            return True


def secret_of(server, tenant="default"):
    for line in (server.folder / "secrets").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words and words[0] == tenant:
            return bytes.fromhex(words[1])
    raise AssertionError(f"no tenant {tenant}")
