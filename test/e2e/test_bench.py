# SPDX-License-Identifier: Apache-2.0
"""ctxkv bench: CPU time beside that of the floors, an open loop, and what it refuses."""
import json


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
    assert probe["pingpong"]["ops_per_s"] > 0


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


def test_what_makes_no_sense_is_refused(memory_server):
    for words, said in ((("--rate", 10, "--batch", 3), "--batch"),
                        (("--rate", 10, "--floor-file", "/dev/null"), "--floor-file"),
                        (("--rate", 1), "less than one operation"),
                        (("--rate", 1000, "--ops", "get,fill"), "fill"),
                        (("--cpu-of", 4194304), "no such process")):
        done = bench(memory_server, *words, check=False)
        assert done.returncode == 2 and said in done.stderr
