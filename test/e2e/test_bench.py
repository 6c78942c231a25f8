# SPDX-License-Identifier: Apache-2.0
"""ctxkv bench: CPU time beside that of the floors, cells that take turns, runs that find their blocks
again, an open loop, and what it refuses."""
import json

from harness import Server


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
                            "--json").stdout)
    # Each of 300 ms is answered, or has failed and waited for a second at least.
    assert get["operations"] + get["failures"] >= 29000
    assert get["failures"] > 0 and get["p999_ns"] > 1e9


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
