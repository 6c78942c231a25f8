# SPDX-License-Identifier: Apache-2.0
"""ctxkv bench: CPU time beside that of the floors, cells that take turns, runs that find their blocks
again, an open loop, what it refuses, and what it does to a store that is in use."""
import json
import re
import signal
import subprocess
import time

import pytest

from harness import BINARY, Client, Server, block_of, key_of


def bench(server, *more, check=True):
    return server.run("bench", "--url", server.url(), "--rounds", 3, "--duration", "300ms", "--working-set",
                      "16MiB", *more, check=check)


def test_cpu_time_of_both_sides_stands_beside_the_floors(memory_server):
    get, probe = json.loads(bench(memory_server, "--ops", "get,probe", "--sizes", "64KiB", "--batch", 1, "--json",
                                  "--cpu-of", memory_server.process.pid).stdout)
    for value in (get["cpu_s_per_gib"], get["server_cpu_s_per_gib"], get["socket"]["cpu_s_per_gib"],
                  get["pingpong"]["cpu_s_per_gib"]):
        assert value > 0
    for row in (get, probe):
        assert row["failures"] == 0
        for floor in (row, row["pingpong"], row["pingpong_awake"]):
            assert 0 < floor["p50_ns"] <= floor["p90_ns"] <= floor["p99_ns"] <= floor["p999_ns"]
    assert get["memcpy"]["p50_ns"] > 0
    alone, = json.loads(bench(memory_server, "--ops", "get", "--sizes", "64KiB", "--batch", 1, "--json",
                              "--floor-only", "memcpy").stdout)
    assert alone["memcpy"]["bytes_per_s"] > 0 and "socket" not in alone and "pingpong" not in alone
    assert probe["pingpong"]["ops_per_s"] > 0


def test_sizes_take_turns_on_working_sets_that_are_put_once(memory_server):
    def put_bytes():
        return memory_server.counter("ctxkv_store_put_bytes_total")

    before = put_bytes()
    rows = json.loads(bench(memory_server, "--ops", "get", "--sizes", "64KiB,512KiB,2MiB", "--clients", 4,
                            "--json", "--cpu-of", memory_server.process.pid).stdout)
    assert put_bytes() - before == 3 * (16 << 20)
    for row in rows:
        assert row["group"] == 0 and row["failures"] == row["wrong"] == 0
        for measured in (row, row["socket"], row["memcpy"]):
            rates = measured["by_round"]["bytes_per_s"]
            assert len(rates) == 3 and min(rates) > 0
            assert measured["bytes_per_s"] == sorted(rates)[1]
        assert len(row["by_round"]["p99_ns"]) == len(row["by_round"]["server_cpu_s_per_gib"]) == 3


def test_working_sets_that_do_not_fit_together_come_one_after_the_other(memory_server):
    rows = json.loads(bench(memory_server, "--ops", "put,get", "--sizes", "256KiB,1MiB", "--json", "--no-floors",
                            "--working-set", "300MiB").stdout)
    assert [(row["op"], row["group"]) for row in rows] == [("put", 0), ("put", 0), ("get", 1), ("get", 2)]
    for row in rows:
        assert row["failures"] == row["wrong"] == 0 and row["operations"] > 0


def test_an_open_loop_begins_what_is_due(memory_server):
    get, = json.loads(bench(memory_server, "--ops", "get", "--sizes", "4KiB", "--rate", 500, "--clients", 2,
                            "--json").stdout)
    # Three rounds of 100 ms, less their first millisecond.
    assert 147 <= get["operations"] <= 150 and get["failures"] == 0
    assert "socket" not in get


def test_an_open_loop_that_the_server_cannot_follow_says_so(memory_server):
    get, = json.loads(bench(memory_server, "--ops", "get", "--sizes", "2MiB", "--rate", 100000, "--rounds", 1,
                            "--json", check=False).stdout)
    # Each of 300 ms is answered, or has failed and waited for a second at least.
    assert get["operations"] + get["failures"] >= 29000
    assert get["failures"] > 0 and get["p999_ns"] > 1e9
    assert get["error"] == "not begun in time"


def test_a_later_run_finds_the_blocks_of_its_keys(memory_server):
    def put_bytes():
        return memory_server.counter("ctxkv_store_put_bytes_total")

    words = ("--ops", "get", "--sizes", "64KiB", "--keys", 7, "--random", "--json")
    before = put_bytes()
    for run in range(2):
        get, = json.loads(bench(memory_server, *words).stdout)
        assert get["failures"] == get["wrong"] == 0 and get["operations"] > 0
        assert get["set_found"] == (run == 1)
        if run == 0:
            after = put_bytes()
            assert after >= before + (16 << 20)
    assert put_bytes() == after


def test_what_makes_no_sense_is_refused(memory_server):
    for words, said in ((("--rate", 10, "--batch", 3), "--batch"),
                        (("--rate", 10, "--floor-file", "/dev/null"), "--floor-file"),
                        (("--rate", 1), "less than one operation"),
                        (("--rate", 1000, "--ops", "get,fill"), "fill"),
                        (("--keys", 1, "--ops", "put"), "--keys"),
                        (("--cpu-of", 4194304), "no such process"),
                        (("--floor-only", "socket,disk"), "pingpong"),
                        (("--shard", 1, "--ops", "get,probe"), "--shard")):
        done = bench(memory_server, *words, check=False)
        assert done.returncode == 2 and said in done.stderr


def test_a_shard_alone_is_read(tmp_path):
    server = Server(tmp_path, media=("one", "two"))
    server.start()
    try:
        words = ("--ops", "get", "--sizes", "64KiB", "--keys", 3, "--no-floors", "--json", "--clients", 2)
        whole, = json.loads(bench(server, *words).stdout)
        assert whole["failures"] == whole["wrong"] == 0
        blocks = []
        for shard in (1, 2):
            row, = json.loads(bench(server, *words, "--shard", shard).stdout)
            assert row["failures"] == row["wrong"] == 0 and row["operations"] > 0 and row["set_found"]
            blocks.append(row["blocks"])
        # Each block is in one of them; each client has as many.
        assert 250 <= sum(blocks) <= whole["blocks"] == 256 and min(blocks) > 64
        done = bench(server, *words, "--shard", 3, check=False)
        assert done.returncode == 1 and "--shard 3" in done.stderr
    finally:
        server.end()


# --- a store that is in use ---

SIZE = 1 << 20
BOTH = ("--ops", "put,get,probe", "--sizes", "64KiB,2MiB", "--no-floors")


def others(server, count):
    """Blocks of somebody else."""
    blocks = {key_of("others", i): block_of(key_of("others", i), SIZE) for i in range(count)}
    with Client(server.url()) as client:
        for key, block in blocks.items():
            assert client.put({key: block})[0][0] == 0
    return blocks


def are_whole(server, blocks):
    with Client(server.url()) as client:
        return all(client.get([key], SIZE) == [block] for key, block in blocks.items())


def blocks_of(server, count):
    """Blocks in the store, as soon as there are so many: a drop is answered before it has counted them."""
    end = time.monotonic() + 5
    while server.counter("ctxkv_store_blocks") != count and time.monotonic() < end:
        time.sleep(0.01)
    return server.counter("ctxkv_store_blocks")


@pytest.fixture(params=["memory", "medium"])
def used_server(request, tmp_path):
    server = (Server(tmp_path, memory="576MiB") if request.param == "memory" else
              Server(tmp_path, size="576MiB"))
    server.start()
    yield server
    server.end()


def test_blocks_of_others_are_not_pushed_out(used_server):
    blocks = others(used_server, 200)
    # It has room beside them: puts end before they need more.
    rows = json.loads(bench(used_server, *BOTH, "--duration", "900ms", "--json").stdout)
    assert len(rows) == 5 and all(row["operations"] > 0 and row["failures"] == 0 for row in rows)
    assert used_server.counter("ctxkv_store_forgotten_total") == 0
    assert blocks_of(used_server, 200) == 200 and are_whole(used_server, blocks)

    # It has not.
    before = used_server.counter("ctxkv_store_put_bytes_total")
    for words in (BOTH, ("--ops", "fill", "--sizes", "1MiB", "--fill", 500),
                  ("--ops", "mixed", "--sizes", "1MiB", "--write-rate", "2GiB")):
        done = bench(used_server, *words, "--working-set", "128MiB", check=False)
        assert done.returncode == 1 and "--evict" in done.stderr and "200 blocks" in done.stderr
        assert done.stdout == ""
    assert used_server.counter("ctxkv_store_put_bytes_total") == before
    assert are_whole(used_server, blocks)

    # Who wants it gets it.
    bench(used_server, *BOTH, "--working-set", "128MiB", "--duration", "900ms", "--evict")
    assert not are_whole(used_server, blocks)


def test_what_a_quota_makes_room_for_is_told(tmp_path):
    server = Server(tmp_path, memory="576MiB")
    secrets = server.folder / "secrets"
    secrets.write_text(secrets.read_text(encoding="utf-8").rstrip() + " quota=64MiB\n", encoding="utf-8")
    try:
        server.start()
        blocks = others(server, 40)
        done = bench(server, *BOTH, check=False)
        assert "forgot" in done.stderr and not are_whole(server, blocks)
    finally:
        server.end()


def test_nothing_of_bench_stays(used_server):
    bench(used_server, *BOTH)
    assert blocks_of(used_server, 0) == 0
    bench(used_server, *BOTH, "--keep")
    assert used_server.counter("ctxkv_store_blocks") > 0
    # What an earlier run has left is not others'.
    bench(used_server, *BOTH)
    assert blocks_of(used_server, 0) == 0


def test_nothing_of_bench_stays_after_an_interrupt(used_server):
    blocks = others(used_server, 3)
    words = ["bench", "--url", used_server.url(), "--ops", "get", "--sizes", "64KiB", "--working-set", "16MiB",
             "--duration", "60s", "--no-floors"]
    with subprocess.Popen([BINARY, *words], stdout=subprocess.PIPE, text=True) as process:
        assert blocks_of(used_server, 3 + 256) == 3 + 256
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert blocks_of(used_server, 3) == 3 and are_whole(used_server, blocks)


def test_what_fails_is_in_the_exit_code(memory_server):
    done = bench(memory_server, "--ops", "put", "--sizes", "4KiB,64MiB", "--no-floors", check=False)
    assert done.returncode == 1 and "64 MiB is larger" in done.stderr and "4 KiB" in done.stdout
    # Nobody has asked for it.
    done = bench(memory_server, "--ops", "probe,put", "--no-floors")
    assert "64 MiB larger" in done.stdout


@pytest.mark.parametrize("is_json", [False, True])
def test_a_server_that_dies_is_in_the_exit_code(memory_server, is_json):
    words = ["bench", "--url", memory_server.url(), "--ops", "get", "--sizes", "64KiB", "--working-set", "16MiB",
             "--duration", "3s", "--rounds", "3", "--no-floors", "--timeout", "1s", *["--json"] * is_json]
    with subprocess.Popen([BINARY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert blocks_of(memory_server, 256) == 256
        memory_server.kill()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "stay in the store" in err
    if is_json:
        row, = json.loads(out)
        assert row["failures"] > 0 and row["error"]
    else:
        assert re.search(r"[1-9]\d* failed \(the first: [a-z ]+\), 0 wrong", out), out
