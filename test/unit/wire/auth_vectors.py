#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the vectors of test_auth.c, from docs/protocol.md alone.

Standard library only: HMAC and SHA-256 from hashlib, AES-128 and GHASH written out here after FIPS
197 and NIST SP 800-38D, so that nothing is shared with what is tested.
"""

import hashlib
import hmac


def seq(first: int, size: int) -> bytes:
    """size bytes that count up from first."""
    return bytes((first + i) & 255 for i in range(size))


def le(size: int, value: int) -> bytes:
    return value.to_bytes(size, "little")


def sign(key: bytes, *parts: bytes) -> bytes:
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def xtime(a: int) -> int:
    return (a << 1) ^ (0x11B if a & 0x80 else 0)


def gf_mul(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = xtime(a)
        b >>= 1
    return product


def sbox_make() -> list[int]:
    box = []
    for a in range(256):
        inverse = next((b for b in range(256) if gf_mul(a, b) == 1), 0)
        value = 0x63
        for shift in range(5):
            value ^= ((inverse << shift) | (inverse >> (8 - shift))) & 255
        box.append(value)
    return box


SBOX = sbox_make()


def aes128(key: bytes, block: bytes) -> bytes:
    """One block, encrypted."""
    words = [list(key[i : i + 4]) for i in range(0, 16, 4)]
    rcon = 1
    for i in range(4, 44):
        word = list(words[i - 1])
        if i % 4 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = xtime(rcon)
        words.append([a ^ b for a, b in zip(words[i - 4], word)])
    keys = [sum(words[4 * r : 4 * r + 4], []) for r in range(11)]

    state = [a ^ b for a, b in zip(block, keys[0])]
    for r in range(1, 11):
        state = [SBOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if r < 10:
            mixed = []
            for c in range(0, 16, 4):
                col = state[c : c + 4]
                for i in range(4):
                    mixed.append(
                        gf_mul(col[i], 2)
                        ^ gf_mul(col[(i + 1) % 4], 3)
                        ^ col[(i + 2) % 4]
                        ^ col[(i + 3) % 4]
                    )
            state = mixed
        state = [a ^ b for a, b in zip(state, keys[r])]
    return bytes(state)


def ghash(h: int, data: bytes) -> int:
    y = 0
    for i in range(0, len(data), 16):
        y ^= int.from_bytes(data[i : i + 16], "big")
        product, v = 0, h
        for bit in range(127, -1, -1):
            if y >> bit & 1:
                product ^= v
            v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
        y = product
    return y


def gmac(key: bytes, iv: bytes, aad: bytes) -> bytes:
    assert len(iv) == 12
    h = int.from_bytes(aes128(key, bytes(16)), "big")
    padded = aad + bytes(-len(aad) % 16)
    lengths = (8 * len(aad)).to_bytes(8, "big") + bytes(8)
    mask = int.from_bytes(aes128(key, iv + b"\0\0\0\1"), "big")
    return (ghash(h, padded + lengths) ^ mask).to_bytes(16, "big")


def show(name: str, value: bytes) -> None:
    print(f"{name:18} {value.hex()}")


def main() -> None:
    # FIPS 197 appendix C.1, and the GCM specification's test case 1.
    assert aes128(seq(0, 16), bytes.fromhex("00112233445566778899aabbccddeeff")).hex() == (
        "69c4e0d86a7b0430d8cdb78070b4c55a"
    )
    assert gmac(bytes(16), bytes(12), b"").hex() == "58e2fccefa7e3061367f1d57a4e7455a"

    secret = seq(0x01, 32)
    client_nonce, server_nonce = seq(0x40, 32), seq(0x60, 32)
    secret_id = sign(secret, b"ctxkv secret id")[:8]

    def transcript(mode: int, session: int, lane: int) -> bytes:
        preface = (
            b"ctxkv\r\n\x1a" + le(2, 1) + le(2, 1) + le(1, mode) + le(1, 0) + le(2, 0xFFFF)
            + le(8, 0x1122334455667788) + le(8, session)
        )
        hello = (
            b"acme".ljust(64, b"\0") + client_nonce + secret_id + le(4, 1) + le(2, lane)
            + le(2, 0) + le(8, 0)
        )
        challenge = (
            le(2, 1) + le(2, 0) + le(4, 0) + server_nonce + seq(0xB0, 16)
            + le(8, 0x1122334455667788)
        )
        assert (len(preface), len(hello), len(challenge)) == (32, 120, 64)
        return preface + hello + challenge

    new = transcript(0, 0, 0)
    session_key = sign(secret, b"ctxkv session key", new)
    join = transcript(1, 0x0102030405060708, 3)

    show("secret id", secret_id)
    show("server proof", sign(secret, b"ctxkv server proof", new))
    show("client proof", sign(secret, b"ctxkv client proof", new))
    show("session key", session_key)
    show("join server proof", sign(session_key, b"ctxkv server proof", join))
    show("join client proof", sign(session_key, b"ctxkv client proof", join))

    def frame(kind: int, body: bytes, payload_size: int, request: int, credit: int) -> bytes:
        return (
            b"CXV1" + le(1, kind) + le(1, 0) + le(2, 0) + le(4, len(body)) + le(4, payload_size)
            + le(8, request) + le(4, credit) + le(4, 0) + body
        )

    def macs(name: str, lane: int, direction: int, frames: list[bytes]) -> None:
        key = sign(
            session_key, b"ctxkv lane key", le(2, lane), le(1, direction), client_nonce,
            server_nonce,
        )[:16]
        for sequence, signed in enumerate(frames):
            show(f"{name} frame {sequence}", gmac(key, bytes(4) + le(8, sequence), signed))

    stat = frame(20, bytes(32) + le(8, 10**9) + bytes(16), 0, 18, 0)
    data = frame(35, le(4, 1) + le(4, 0) + le(8, 1 << 20), 1 << 20, 10, 0)
    notice = frame(36, bytes(64), 0, 0, 5)
    bare = frame(77, b"", 0, 0, 0)
    macs("lane 0 c2s", 0, 1, [stat, data, bare])
    macs("lane 0 s2c", 0, 2, [notice])
    macs("lane 3 c2s", 3, 1, [stat])

    show("domain", hashlib.sha256(b"ctxkv domain acme").digest()[:16])
    show("namespace", hashlib.sha256(b"ctxkv namespace model=llama;dtype=bf16").digest()[:16])


if __name__ == "__main__":
    main()
