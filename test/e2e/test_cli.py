# SPDX-License-Identifier: Apache-2.0
"""The binary as a person meets it: help, nearest words, refusals that say what to do, exit codes."""
import json
import os
import re
import signal
import stat
import subprocess
import time

import pytest

from harness import BINARY, Server, TOP


def run(*arguments, **more):
    return Server.run(*arguments, check=False, **more)


def test_help_is_there_for_every_command():
    top = run("--help")
    assert top.returncode == 0
    for command in ("setup", "start", "stat", "bench", "replay", "version"):
        assert command in top.stdout
        done = run(command, "--help")
        assert done.returncode == 0 and "example:" in done.stdout


def test_help_names_a_command():
    assert run("help", "setup").stdout == run("setup", "--help").stdout
    assert run("help").stdout == run("--help").stdout
    done = run("help", "setpu")
    assert done.returncode == 2 and "did you mean 'setup'" in done.stderr


def test_the_manual_page_has_every_command_and_option():
    page = run("version", "--man").stdout
    assert page.count(".SS ctxkv ") == len(re.findall(r"^  [a-z]+ ", run("help").stdout, re.M))
    assert ".B \\-\\-segment\\-size \\fIVALUE" in page
    lines = page.splitlines()
    assert not [line for line in lines if line[:1] in ".'" and not re.match(r"\.(\\\"|[A-Z]|nf|fi)", line)]


def test_wrong_words_name_the_nearest():
    assert "did you mean 'replay'" in run("reply").stderr
    done = run("start", "--bufers", "1GiB")
    assert done.returncode == 2 and "did you mean 'buffers'" in done.stderr
    done = run("start", "--verify", "some")
    assert done.returncode == 2 and "none|medium|all" in done.stderr
    assert run("start", "--queue-depth").returncode == 2
    assert run("bench", "--lanes", "99").returncode == 2
    assert run("version", "extra").returncode == 2


def test_version_as_text_and_json():
    assert run("version").stdout.startswith("ctxkv 0.")
    assert json.loads(run("version", "--json").stdout)["disk"] == 1


def test_the_reference_page_is_up_to_date():
    page = (TOP / "docs" / "reference" / "options.md").read_text(encoding="utf-8")
    assert run("version", "--reference").stdout == page


def test_the_metrics_page_is_up_to_date():
    page = (TOP / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert run("version", "--reference-metrics").stdout == page


def test_setup_writes_secrets_for_its_owner_only(server):
    mode = stat.S_IMODE(os.stat(server.folder / "secrets").st_mode)
    assert mode == 0o600
    assert "default " in (server.folder / "secrets").read_text(encoding="utf-8")


def test_setup_refuses_what_holds_data(server, tmp_path):
    again = run("setup", server.store, "--size", "600MiB", "--dir", tmp_path / "c1")
    assert again.returncode == 1 and "--force" in again.stderr
    other = server.folder / "other"
    other.write_bytes(b"somebody's data" * 1000)
    foreign = run("setup", other, "--size", "600MiB", "--dir", tmp_path / "c2")
    assert foreign.returncode == 1 and "--force" in foreign.stderr
    assert other.read_bytes()[:15] == b"somebody's data"
    small = run("setup", server.folder / "small", "--size", "16MiB", "--dir", tmp_path / "c3")
    assert small.returncode == 1 and "segments" in small.stderr


def test_setup_refuses_what_is_in_use(server, tmp_path):
    server.start()
    done = run("setup", server.store, "--size", "600MiB", "--force", "--dir", tmp_path / "c")
    assert done.returncode == 1 and "in use" in done.stderr
    second = run("start", "--dir", server.folder, "--listen", "127.0.0.1:0")
    assert second.returncode == 1 and "in use" in second.stderr


def test_setup_can_reuse_secrets(server, tmp_path):
    done = run("setup", "--memory", "576MiB", "--dir", tmp_path / "c", "--secrets",
               server.folder / "secrets")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "c" / "secrets").exists()
    assert str(server.folder / "secrets") in (tmp_path / "c" / "server.yaml").read_text()


def test_start_refuses_and_says_what_to_change(server, tmp_path):
    done = run("start", "--dir", tmp_path / "nothing")
    assert done.returncode == 1 and "ctxkv setup" in done.stderr
    yaml = (server.folder / "server.yaml").read_text(encoding="utf-8")
    config = tmp_path / "server.yaml"
    for text, words in [(yaml + "bufers: 1GiB\n", "did you mean 'buffers'"),
                        (yaml + "verify: sometimes\n", "none|medium|all"),
                        (yaml + "buffers: 1MiB\n", "four times the largest block")]:
        config.write_text(text, encoding="utf-8")
        done = run("start", "--config", config)
        assert done.returncode == 1 and words in done.stderr, done.stderr
    os.chmod(server.folder / "secrets", 0o644)
    done = run("start", "--dir", server.folder)
    assert done.returncode == 1 and "chmod 600" in done.stderr


def test_start_tells_its_memory_and_stops_on_a_signal(server):
    server.start()
    assert "memory" in server.output() and "index" in server.output()
    assert server.kill(signal.SIGINT) == 0
    server.start()
    server.stop()


@pytest.mark.parametrize("supervise", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_takes_long_is_given_up_at_once(server, number, supervise):
    """Its secrets never come: it would wait for ever, and is told to end before it is ready."""
    os.rename(server.folder / "secrets", server.folder / "kept")
    os.mkfifo(server.folder / "secrets", 0o600)
    watch = [] if supervise else ["--no-supervise"]
    log = server.folder / "early.log"
    with open(log, "w", encoding="utf-8") as out, subprocess.Popen(
            [BINARY, "start", "--dir", server.folder, *watch], stdout=out,
            stderr=subprocess.STDOUT) as process:
        try:
            time.sleep(1)  # by then it stands there; early is told the same
            begin = time.monotonic()
            process.send_signal(number)
            assert process.wait(timeout=10) == 0, log.read_text(encoding="utf-8")
            assert time.monotonic() - begin < 3
        finally:
            process.kill()
    text = log.read_text(encoding="utf-8")
    assert "given up before it was ready" in text and "\nready" not in text
    os.replace(server.folder / "kept", server.folder / "secrets")
    server.start()
    server.stop()


def test_memory_mode_has_no_buffers(memory_server):
    """What is printed is what was taken, and what has no meaning is refused."""
    shown = re.search(r"buffers ([\d.]+) MiB \(([\d.]+) MiB a reactor\)", memory_server.output())
    reactors = int(re.search(r"^reactors +(\d+)", memory_server.output(), re.M)[1])
    assert abs(float(shown[1]) / reactors - float(shown[2])) < 0.1, memory_server.output()
    memory_server.stop()
    done = run("start", "--dir", memory_server.folder, "--buffers", "256MiB")
    assert done.returncode == 1 and "memory mode" in done.stderr


def test_stat_as_text_and_json(memory_server):
    assert memory_server.counter("ctxkv_sessions") >= 1
    values = json.loads(run("stat", "--json", "--url", memory_server.url()).stdout)
    assert values["ctxkv_sessions"] >= 1
    address = f"127.0.0.1:{memory_server.port}"
    assert values["address"] == address and values["servers"] == 1
    text = run("stat", "--url", memory_server.url()).stdout
    assert text.startswith(f"# of {address}\n")


def test_commands_without_a_server_say_so(memory_server):
    url = memory_server.url()
    memory_server.kill()
    done = run("stat", "--url", url)
    assert done.returncode == 1 and "no session" in done.stderr


def test_no_configuration_names_setup(tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run([BINARY, "stat"], env=environment, capture_output=True, text=True,
                          timeout=30, check=False)
    assert done.returncode == 1
    assert "ctxkv setup" in done.stderr and "keyfile=" in done.stderr


def test_cost_shows_every_step_with_its_numbers():
    done = run("cost")
    assert done.returncode == 0 and "2.23 million dollars a year" in done.stdout
    report = json.loads(run("cost", "--gpus", "256", "--json").stdout)
    assert 4.4e6 < report["recompute_tax"] < 4.5e6
    assert all(step["formula"] and step["numbers"] for step in report["steps"])
    wrong = run("cost", "--miss-rate", "5", "--store-miss-rate", "10")
    assert wrong.returncode == 2 and "store-miss-rate" in wrong.stderr
