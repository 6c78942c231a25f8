# SPDX-License-Identifier: Apache-2.0
"""The binary as a person meets it: help, nearest words, refusals that say what to do, exit codes."""
import json
import os
import re
import resource
import shutil
import signal
import socket
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


def files_of(folder):
    """{path below folder: content}."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file()}


CONFIGURATION = ("secrets", "admin-token", "server.yaml")


def configuration_of(folder):
    return {name: (folder / name).read_bytes() for name in CONFIGURATION}


def test_force_is_for_media_and_nothing_else(server):
    """A running server's, then a stopped one's: tenants keep their secrets either way."""
    before = configuration_of(server.folder)
    server.start()
    words = ("setup", server.store, "--size", "600MiB", "--force", "--dir", server.folder)
    done = run(*words)
    assert done.returncode == 1 and "in use" in done.stderr
    assert configuration_of(server.folder) == before
    server.stop()
    done = run(*words)
    assert done.returncode == 0, done.stderr
    for name in CONFIGURATION:
        assert f"{server.folder / name} (kept)" in done.stdout
    assert configuration_of(server.folder) == before
    server.start()
    assert server.counter("ctxkv_sessions") >= 1


def test_new_files_keep_the_old_beside_them(server):
    before = configuration_of(server.folder)
    done = run("setup", server.store, "--size", "600MiB", "--force", "--replace-files", "--dir", server.folder,
               "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
    assert done.returncode == 0 and ".old" in done.stdout, done.stderr
    for name, text in before.items():
        assert (server.folder / f"{name}.old").read_bytes() == text
    assert (server.folder / "secrets").read_bytes() != before["secrets"]
    assert stat.S_IMODE(os.stat(server.folder / "secrets").st_mode) == 0o600
    server.start()


def test_a_setup_that_fails_leaves_nothing(server, tmp_path):
    """Over a wrong option, a medium in use after one that is not, a folder that is not there."""
    server.start()
    place = server.folder / "more"
    place.mkdir()
    for words, says in [(("a.store",), "with a size it is made"),
                        (("--media", "a.store,b.store", "--size", "1MiB"), "segments"),
                        (("no/a.store", "--size", "600MiB"), f"the folder {place}/no does not exist"),
                        (("--media", f"a.store,{server.store}", "--size", "600MiB", "--force"), "in use"),
                        (("--media", "a.store,a.store", "--size", "600MiB"), "named twice")]:
        done = run("setup", *words, "--dir", "x/y/conf", cwd=place)
        assert done.returncode != 0 and says in done.stderr, (words, done.stderr)
        assert not list(place.iterdir()), words
    # While the media are written: as on a file system that is full.
    done = run("setup", "a.store", "--size", "600MiB", "--dir", "x/y/conf", cwd=place, restore_signals=False,
               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20)))
    assert done.returncode == 1 and "cannot be given its size" in done.stderr, done.stderr
    assert not list(place.iterdir())
    done = run("setup", "a.store", "--size", "600MiB", "--sparse", "--dir", "conf", cwd=place)
    assert done.returncode == 0, done.stderr
    assert set(files_of(place)) == {"a.store", "conf/admin-token", "conf/client.url", "conf/secrets",
                                    "conf/server.yaml"}


def test_a_setup_that_was_killed_is_repeated(tmp_path):
    """In the middle of writing a file once: without --force. One that has ended is not."""
    place = tmp_path / "killed"
    place.mkdir()
    words = ["setup", "a.store", "--size", "2GiB", "--dir", "conf", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen([BINARY, *words], cwd=place, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while not (place / "conf" / "server.yaml.new").exists() and time.monotonic() < end:
        time.sleep(0.001)
    process.kill()
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert not (place / "conf" / "server.yaml").exists()
    words[3] = "600MiB"
    done = run(*words, "--sparse", cwd=place)
    assert done.returncode == 0, done.stderr
    assert not list((place / "conf").glob("*.new"))
    again = run(*words, cwd=place)
    assert again.returncode == 1 and "--force would erase" in again.stderr


def test_a_kept_configuration_says_what_is_set_up(server):
    """What the command line wants otherwise is refused; what it leaves open comes from the file."""
    words = ("--dir", server.folder, "--size", "600MiB", "--force", "--sparse")
    before = configuration_of(server.folder)
    for more in (("--media", server.folder / "b"), ("--listen", "127.0.0.1:9999"), ("--memory", "1GiB"),
                 ("--secrets", server.folder / "server.yaml")):
        done = run("setup", *words, *more)
        assert done.returncode == 1 and f"{server.folder / 'server.yaml'} is kept" in done.stderr, done.stderr
    assert configuration_of(server.folder) == before and not (server.folder / "b").exists()
    assert run("setup", *words).returncode == 0
    (server.folder / "secrets").unlink()
    assert run("setup", *words).returncode == 0
    server.start()


def test_setup_can_reuse_secrets(server, tmp_path):
    done = run("setup", "--memory", "576MiB", "--dir", tmp_path / "c", "--secrets",
               server.folder / "secrets")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "c" / "secrets").exists()
    assert str(server.folder / "secrets") in (tmp_path / "c" / "server.yaml").read_text()


def test_setup_refuses_what_start_would(server, tmp_path):
    secrets = tmp_path / "secrets"
    shutil.copy(server.folder / "secrets", secrets)
    loose = tmp_path / "loose"
    shutil.copy(secrets, loose)
    os.chmod(loose, 0o644)
    for words, says in [(("--listen", "10.0.0.1"), "ADDRESS:PORT"), (("--listen", "here:9900"), "ADDRESS:PORT"),
                        (("--admin-listen", "here:9901"), "ADDRESS:PORT"),
                        (("--secrets", loose), "chmod 600"), (("--admin-token", loose), "chmod 600"),
                        (("--secrets", tmp_path / "none"), "cannot read"),
                        (("--secrets", secrets, "--tenant", "alice"), "no tenant alice"),
                        (("--tenant", "a/b"), "no tenant's name")]:
        done = run("setup", "--memory", "576MiB", "--dir", tmp_path / "c", *words)
        assert done.returncode != 0 and says in done.stderr, (words, done.stderr)
        assert not (tmp_path / "c").exists()


def test_what_setup_writes_holds_in_every_folder(tmp_path):
    """Paths are full ones; the URL names the address where the server listens."""
    (tmp_path / "in").mkdir()
    done = run("setup", "--memory", "576MiB", "--dir", "conf", "--listen", "127.0.0.2:19910", cwd=tmp_path / "in")
    assert done.returncode == 0, done.stderr
    secrets = tmp_path / "in" / "conf" / "secrets"
    assert (secrets.parent / "client.url").read_text() == f"ctxkv://default@127.0.0.2:19910?keyfile={secrets}\n"
    yaml = (secrets.parent / "server.yaml").read_text()
    assert f'\nsecrets: "{secrets}"' in yaml and f'\nadmin-token: "{secrets.parent}/admin-token"' in yaml
    done = run("setup", "--memory", "576MiB", "--dir", "other", "--secrets", "in/conf/secrets",
               "--listen", "127.0.0.1:0", cwd=tmp_path)
    assert done.returncode == 0 and "port is chosen at each start" in done.stdout
    assert f'\nsecrets: "{secrets}"' in (tmp_path / "other" / "server.yaml").read_text()
    assert not (tmp_path / "other" / "client.url").exists()
    done = run("setup", "--memory", "576MiB", "--dir", "any", cwd=tmp_path)
    assert "@localhost:9900?" in (tmp_path / "any" / "client.url").read_text()


def free_ports(address, count):
    socks = [socket.create_server((address, 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return ports


def test_commands_find_a_server_at_its_own_address(tmp_path):
    """An address that is not localhost, ports that are not the usual ones; an empty CTXKV_URL is none."""
    port, admin = free_ports("127.0.0.2", 2)
    environment = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(tmp_path), "CTXKV_URL": ""}
    words = ("setup", "--memory", "576MiB", "--listen", f"127.0.0.2:{port}", "--admin-listen", f"127.0.0.2:{admin}")
    assert run(*words, env=environment).returncode == 0
    with open(tmp_path / "log", "w+", encoding="utf-8") as log:
        process = subprocess.Popen([BINARY, "start", "--no-supervise", "--shm-dir", "none"], env=environment,
                                   stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while "ready" not in (tmp_path / "log").read_text() and time.monotonic() < end:
            time.sleep(0.01)
        for command in (("stat",), ("admin", "status"), ("admin", "health", "--all"), ("doctor",)):
            done = run(*command, env=environment)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
        del environment["XDG_CONFIG_HOME"]
        done = run("admin", "status", "--dir", tmp_path / "ctxkv", env=environment)
        assert done.returncode == 0, done.stderr
        # A second one there is told whose fault it is.
        done = run("start", "--no-supervise", "--dir", tmp_path / "ctxkv", "--admin-listen", "none", env=environment)
        assert done.returncode == 1 and "ss -ltnp" in done.stderr, done.stderr
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_refusals_say_what_to_change(server, tmp_path):
    assert run("-h").stdout == run("--help").stdout
    done = run("start", "--dir", server.folder, "--listen", "127.0.0.1")
    assert done.returncode == 1 and "ADDRESS:PORT" in done.stderr
    done = run("start", "--dir", server.folder, "--listen", "192.0.2.1:0")
    assert done.returncode == 1 and "no address of this host" in done.stderr
    image = tmp_path / "image"
    image.write_bytes(b"x" * (2 << 20))
    done = run("drive", "inspect", image)
    assert done.returncode == 2 and "no ctxkv store" in done.stderr and "setup" not in done.stderr
    done = run("stat", "--url", f"ctxkv://default@no-such-host.invalid?keyfile={server.folder / 'secrets'}")
    assert done.returncode == 1 and "No route to host" not in done.stderr, done.stderr


def test_long_lists_fit(tmp_path):
    """16 media by their ids, and a URL of 64 hosts, all of which are asked."""
    media = [f"/dev/disk/by-id/nvme-eui.{i:032x}-a-drive-with-a-long-name" for i in range(16)]
    done = run("setup", "--media", ",".join(media), "--dir", tmp_path / "c")
    assert done.returncode == 1 and f"{media[0]}: does not exist" in done.stderr
    hosts = [f"127.0.100.{i}" for i in range(100, 164)]
    url = f"ctxkv://default@{','.join(f'{host}:19900' for host in hosts)}?keyfile=/nonexistent"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CTXKV_URL": url}
    done = run("admin", "health", "--all", env=environment)
    assert len(url) > 1100 and [host for host in hosts if f"{host}:9901" not in done.stderr] == []
    assert run("admin", "health", "--all", "--url", url, env=environment).stderr == done.stderr


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


def test_memory_mode_takes_the_blocks_that_setup_was_asked_for(tmp_path):
    done = run("setup", "--memory", "64MiB", "--block-max", "32MiB", "--dir", tmp_path / "a")
    assert done.returncode == 1 and "smaller segments or blocks" in done.stderr
    assert not (tmp_path / "a").exists()
    made = Server(tmp_path, memory="256MiB", extra_setup=("--block-max", "12MiB"))
    try:
        made.start()
        assert re.search(r"^store .*largest block 12(\.0+)? MiB$", made.output(), re.M), made.output()
        made.stop()
    finally:
        made.end()


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
