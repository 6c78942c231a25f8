# SPDX-License-Identifier: Apache-2.0
"""drive: a store that a real server wrote, looked at offline; then damaged by hand at known places,
and each damage is found where it was done. What check says is lost, a server misses; nothing else."""
import json
import os
import signal

import pytest

from harness import Client, MISS, Server, block_of, key_of

PAGE, SUPERS, MIB = 4096, 16384, 1 << 20
SIZES = [5000, 20_000, 300_000, 1_000_000, 3_000_000]


def drive(action, store, *options):
    return Server.run("drive", action, store, *options, check=False, timeout=120)


def drive_json(action, store, *options):
    done = drive(action, store, "--json", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def rows(store, *options):
    done = drive("dump", store, "--json", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def fill(server, first, count, durable=True):
    """Blocks of all sizes; {key: size}."""
    keys = {key_of("drive", i): SIZES[i % len(SIZES)] for i in range(first, first + count)}
    with Client(server.url()) as client:
        for key, size in keys.items():
            status, _ = client.put({key: block_of(key, size)}, durable=durable)[0]
            assert status == 0
    return keys


@pytest.fixture
def stopped(server):
    """A store with 40 blocks, stopped cleanly; with its keys."""
    server.start()
    keys = fill(server, 0, 40)
    server.stop()
    return server, keys


def place(store, row):
    """Byte of the medium where the payload of a row of dump begins, and where its header does."""
    _, about = drive_json("inspect", store)
    shard = about["shard"][row["shard"]]
    segment = shard["offset"] + SUPERS + row["segment"] * shard["segment_size"]
    return segment + row["page"] * PAGE, segment + row["header"] * PAGE


def damage(store, offset, size=16):
    with open(store, "r+b") as file:
        file.seek(offset)
        before = file.read(size)
        file.seek(offset)
        file.write(bytes(b ^ 0x5A for b in before))


def served(server, keys):
    """The keys that a started server gives back right; all others are misses."""
    right = set()
    with Client(server.url()) as client:
        for key, size in keys.items():
            got = client.get([key], size)[0]
            assert got == block_of(key, size) or got in (-MISS, -2002), got
            if not isinstance(got, int):
                right.add(key.hex())
    return right


def first_segment(store):
    """What inspect says of the first shard, and of its first segment that has blocks."""
    _, about = drive_json("inspect", store)
    shard = about["shard"][0]
    return shard, next(s for s in shard["segments"] if s["blocks"] > 0)


def test_inspect_tells_what_a_clean_store_is(stopped):
    server, keys = stopped
    code, about = drive_json("inspect", server.store)
    assert code == 0 and about["label"] == ["whole", "whole"] and not about["in_use"]
    shard = about["shard"][0]
    assert shard["clean"] and shard["blocks"] == len(keys) and shard["scanned"] == 0
    assert shard["bytes"] == sum(keys.values())
    states = {segment["state"] for segment in shard["segments"]}
    assert "stopped" in states and "free" in states
    text = drive("inspect", server.store, "--segments")
    assert text.returncode == 0 and about["server"] in text.stdout and "clean" in text.stdout
    assert f"{len(keys)} blocks" in text.stdout


def test_looking_changes_nothing_and_a_sound_store_is_sound(stopped):
    server, keys = stopped
    before = server.store.read_bytes()
    code, report = drive_json("check", server.store)
    assert code == 0 and report["found"] == 0 and report["live"] == len(keys)
    assert report["bytes"] == sum(keys.values())
    assert drive("check", server.store, "--quick").returncode == 0
    assert drive("inspect", server.store).returncode == 0
    assert len(rows(server.store)) == len(keys)
    assert server.store.read_bytes() == before
    server.start()
    assert len(served(server, keys)) == len(keys)


def test_dump_lists_every_block_and_gives_its_payload(stopped, tmp_path):
    server, keys = stopped
    listed = {row["key"]: row for row in rows(server.store)}
    assert {key.hex(): size for key, size in keys.items()} == {
        key: row["size"] for key, row in listed.items()}
    key = next(iter(keys))
    out = tmp_path / "block"
    done = drive("dump", server.store, "--key", key.hex(), "--output", out)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == block_of(key, keys[key])
    assert os.stat(out).st_mode & 0o777 == 0o600
    again = drive("dump", server.store, "--key", key.hex(), "--output", out)
    assert again.returncode == 2 and "exists" in again.stderr
    assert drive("dump", server.store, "--key", "00" * 32).returncode == 1
    assert drive("dump", server.store, "--key", "0x12").returncode == 2
    table = drive("dump", server.store).stdout
    assert all(key.hex() in table for key in keys)


def test_a_wrong_payload_is_found_and_missed(stopped):
    server, keys = stopped
    row = next(r for r in rows(server.store) if r["size"] == 1_000_000)
    payload, _ = place(server.store, row)
    damage(server.store, payload + 200_000)
    code, report = drive_json("check", server.store)
    assert code == 1 and report["found"] == 1 and report["lost"] == 1
    found = report["findings"][0]
    assert found["key"] == row["key"] and found["what"] == "payload is wrong"
    assert found["wrong_offset"] == 200_000 // 65536 * 65536 and found["in_footer"]
    assert "payload is wrong" in drive("check", server.store).stdout
    assert drive("check", server.store, "--quick").returncode == 0
    done = drive("dump", server.store, "--key", row["key"])
    assert done.returncode == 1 and done.stdout == ""
    server.start()
    assert served(server, keys) == {k.hex() for k in keys} - {row["key"]}


def test_a_lost_header_is_found_and_the_block_is_served(stopped):
    server, keys = stopped
    row = next(r for r in rows(server.store) if r["size"] == 3_000_000)
    _, header = place(server.store, row)
    damage(server.store, header + 200)
    code, report = drive_json("check", server.store)
    assert code == 1 and report["lost"] == 0
    kinds = {(f["kind"], f["what"]) for f in report["findings"]}
    assert ("header", "record header torn") in kinds
    assert ("block", "its record header is gone: ranges of it miss") in kinds
    server.start()
    assert len(served(server, keys)) == len(keys)


def test_a_lost_footer_costs_nothing(stopped):
    server, keys = stopped
    shard, segment = first_segment(server.store)
    end = shard["offset"] + SUPERS + (segment["index"] + 1) * shard["segment_size"]
    damage(server.store, end - PAGE + 60)
    code, report = drive_json("check", server.store)
    assert code == 1 and report["lost"] == 0
    assert [f["what"] for f in report["findings"]] == ["footer"]
    # A clean stop says that nothing stands behind a footer; without one the segment is scanned.
    assert report["live"] == len(keys)
    server.start()
    assert len(served(server, keys)) == len(keys)


def test_a_lost_span_header_costs_its_segment_and_says_so(stopped):
    server, keys = stopped
    shard, segment = first_segment(server.store)
    damage(server.store, shard["offset"] + SUPERS + segment["index"] * shard["segment_size"] + 32)
    code, report = drive_json("check", server.store)
    assert code == 1 and report["live"] == len(keys) - segment["blocks"]
    assert {"kind": "segment", "what": "span header", "shard": 0,
            "segment": segment["index"]} in report["findings"]
    server.start()
    assert len(served(server, keys)) == report["live"]


@pytest.mark.parametrize("offset, what", [(16, "label"), (PAGE + 16, "label's copy"),
                                          (MIB + 40, "super slot 0"),
                                          (MIB + 8192 + 40, "super slot 1")])
def test_a_lost_copy_is_found_and_the_other_serves(stopped, offset, what):
    server, keys = stopped
    damage(server.store, offset)
    code, report = drive_json("check", server.store)
    assert code == 1 and [f["what"] for f in report["findings"]] == [what]
    assert report["live"] == len(keys)
    server.start()
    assert len(served(server, keys)) == len(keys)


def test_after_a_kill_it_tells_what_recovery_finds(server):
    server.start()
    keys = fill(server, 0, 30)
    server.kill(signal.SIGKILL)
    code, about = drive_json("inspect", server.store)
    assert code == 0 and not about["shard"][0]["clean"]
    assert about["shard"][0]["blocks"] == len(keys)
    assert about["shard"][0]["scanned"] > 0
    code, report = drive_json("check", server.store)
    assert code == 0 and report["live"] == len(keys)
    row = next(r for r in rows(server.store) if r["size"] == 300_000 and not r["in_footer"])
    payload, header = place(server.store, row)
    damage(server.store, payload)
    code, report = drive_json("check", server.store)
    assert code == 1 and report["lost"] == report["behind_no_footer"] == 1
    damage(server.store, header + 100)
    code, report = drive_json("check", server.store)
    assert code == 1 and report["live"] == len(keys) - 1
    assert [f["what"] for f in report["findings"]] == ["record header torn"]
    server.start()
    assert served(server, keys) == {k.hex() for k in keys} - {row["key"]}


def test_what_was_dropped_is_shown_only_when_asked_for(stopped):
    server, keys = stopped
    server.start()
    gone = next(iter(keys))
    with Client(server.url()) as client:
        assert client.drop([gone]) == [0]
    server.stop()
    assert gone.hex() not in {row["key"] for row in rows(server.store)}
    states = [row["state"] for row in rows(server.store, "--dead") if row["key"] == gone.hex()]
    assert sorted(states) == ["replaced", "tombstone"]
    # What is wrong in it is nobody's loss.
    row = next(r for r in rows(server.store, "--dead") if r["key"] == gone.hex() and r["size"] > 0)
    damage(server.store, place(server.store, row)[0])
    code, report = drive_json("check", server.store)
    assert code == 0 and report["dead"] == 1


def test_a_medium_in_use_is_said_to_be(server):
    server.start()
    fill(server, 0, 3)
    done = drive("inspect", server.store)
    assert done.returncode == 0 and "in use" in done.stdout
    for action in ("check", "dump"):
        done = drive(action, server.store)
        assert done.returncode == 2 and "in use" in done.stderr
    server.stop()
    server.start()  # nothing of a look is left in its way


def test_what_is_no_store_is_refused_with_a_reason(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"x" * (2 * MIB))
    for action in ("inspect", "check", "dump"):
        done = drive(action, other)
        assert done.returncode == 2 and "no ctxkv store" in done.stderr
    assert drive("inspect", tmp_path / "nothing").returncode == 2
    wrong = drive("mend", other)
    assert wrong.returncode == 2 and "inspect|check|dump" in wrong.stderr
    assert Server.run("drive", check=False).returncode == 2
