# SPDX-License-Identifier: Apache-2.0
"""The main job: a trace of requests through the real client, every byte checked, savings printed."""
import json
import signal
import subprocess
import time

from harness import BINARY, TOP, Server

TRACE = TOP / "traces" / "mooncake_conversation.jsonl.zst"


def replay(server, *options):
    done = Server.run("replay", TRACE, "--json", "--url", server.url(), *options)
    return json.loads(done.stdout)


def test_a_replay_hits_what_is_possible(memory_server):
    result = replay(memory_server, "--scale", 10240, "--requests", 300)
    assert result["wrong_blocks"] == 0 and result["failed_ops"] == 0
    assert result["requests"] == 300
    assert abs(result["hit_rate"] - result["ideal_hit_rate"]) < 1e-9
    assert result["prefill_avoided_s"] > 0 and result["gpu_hours"] > 0
    again = replay(memory_server, "--scale", 10240, "--requests", 300)
    assert again["hit_rate"] == 1.0


def test_what_a_replay_saves_can_be_read_and_dropped(memory_server):
    """An operator who reads the table can say what the store saved, and drop what it names."""
    def savings():
        done = Server.run("admin", "savings", "--json", "--dir", memory_server.folder, "--admin",
                          memory_server.admin())
        return json.loads(done.stdout)["savings"]

    assert savings() == []
    results = [replay(memory_server, "--scale", 10240, "--requests", 200, "--clients", 3)
               for _ in range(2)]
    row, = savings()
    assert row["tenant"] == "default" and row["reports"] >= 2
    assert row["blocks"] == results[0]["put_blocks"] - results[0]["put_existed"]
    assert row["payload_bytes"] == results[0]["put_bytes"]
    assert row["tokens_loaded"] == sum(r["load_blocks"] * r["block_tokens"] for r in results)
    assert row["tokens_recomputed"] > 0
    assert 0 < row["prefill_seconds"] < 2 * results[0]["prefill_without_s"]
    assert row["gpu_seconds_saved"] > 0 and row["load_seconds"] > 0
    done = Server.run("admin", "drop", "--dir", memory_server.folder, "--admin",
                      memory_server.admin(), "--domain", row["tenant"], "--namespace",
                      row["namespace"])
    assert f"dropped: {row['blocks']} blocks" in done.stdout
    assert savings()[0]["blocks"] == 0
    assert replay(memory_server, "--scale", 10240, "--requests", 1)["hit_rate"] == 0


def test_smaller_blocks_hit_the_same(memory_server):
    result = replay(memory_server, "--scale", 10240, "--requests", 100, "--block-tokens", 64)
    assert result["block_tokens"] == 64
    assert abs(result["hit_rate"] - result["ideal_hit_rate"]) < 1e-9


def test_a_kill_in_the_middle_loses_nothing_durable(server):
    server.start()
    journal = server.folder / "journal"
    running = subprocess.Popen(
        [BINARY, "replay", TRACE, "--json", "--url", server.url(), "--scale", "10240", "--requests",
         "400", "--durable", "--journal", str(journal), "--timeout", "2s"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        end = time.monotonic() + 30
        while not journal.exists() or len(journal.read_text().splitlines()) < 500:
            assert time.monotonic() < end and running.poll() is None
            time.sleep(0.01)
        server.kill(signal.SIGKILL)
        server.start()
        audit = journal.with_suffix(".now")
        audit.write_text(journal.read_text().rsplit("\n", 1)[0] + "\n")
        done = Server.run("replay", "--audit", audit, "--json", "--url", server.url())
        counts = json.loads(done.stdout)
        assert counts["durable"] >= 499 and counts["missing"] == 0 and counts["wrong"] == 0
        output, _ = running.communicate(timeout=60)
        assert running.returncode == 0
        assert json.loads(output)["wrong_blocks"] == 0
    finally:
        running.kill()


def test_a_replay_refuses_blocks_too_large(memory_server):
    done = Server.run("replay", TRACE, "--url", memory_server.url(), "--block-tokens", 512,
                      check=False)
    assert done.returncode == 1 and "--scale" in done.stderr


def test_an_interrupted_replay_says_what_it_has(memory_server):
    running = subprocess.Popen(
        [BINARY, "replay", TRACE, "--json", "--url", memory_server.url(), "--scale", "10240"],
        stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=20)
    assert running.returncode == 130
    assert json.loads(output)["wrong_blocks"] == 0
