# SPDX-License-Identifier: Apache-2.0
"""The admin endpoint and the command that asks it, at real servers: what docs/operating/admin.md,
metrics.md and saving.md say an operator can do."""
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
import urllib.error
import urllib.request

import pytest

from harness import BINARY, TOP, Client, OpenError, Server, block_of, key_of

CLOSING = -2021
MISS = -2001


def run(*arguments, **options):
    return Server.run(*arguments, check=False, **options)


def endpoint(server):
    """HOST:PORT of a started server's endpoint."""
    return server.admin()


def ask(server, path, method="GET", body=None, token=None):
    """(status, body) of one request."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://{endpoint(server)}{path}", method=method,
                                     data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def admin(server, *arguments, token=True):
    """ctxkv admin at one server."""
    with_token = ["--dir", server.folder] if token else ["--dir", "/nonexistent"]
    return run("admin", *arguments, "--admin", endpoint(server), *with_token)


def state(server):
    return json.loads(ask(server, "/v1/ready")[1])["state"]


def test_setup_writes_a_token_and_start_names_the_endpoint(memory_server):
    token = memory_server.folder / "admin-token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\n", token.read_text(encoding="utf-8"))
    assert f"changes by the token in {token}" in memory_server.output()
    assert ask(memory_server, "/v1/health") == (200, '{\n "state": "ready"\n}')


def test_what_cannot_be_safe_refuses_to_start(server):
    def refused(*options):
        done = run("start", "--dir", server.folder, "--no-supervise", *options)
        assert done.returncode == 1, done.stdout
        return done.stderr

    os.chmod(server.folder / "admin-token", 0o644)
    assert "chmod 600" in refused()
    os.chmod(server.folder / "admin-token", 0o600)
    assert "admin-token" in refused("--admin-listen", "0.0.0.0:0", "--admin-token", "")
    assert "127.0.0.1:9901" in refused("--admin-listen", "everywhere")
    server.start()
    assert "in use" in refused("--admin-listen", endpoint(server), "--listen", "127.0.0.1:0")


def test_no_endpoint_when_none_is_wanted(server):
    server.start("--admin-listen", "none")
    assert re.search(r"^admin\s+none$", server.output(), re.M)


def test_the_token_opens_what_changes_and_other_addresses(server):
    server.start("--admin-listen", "0.0.0.0:0")
    token = (server.folder / "admin-token").read_text(encoding="utf-8").strip()
    port = endpoint(server).split(":")[1]
    for path in ("/v1/status", "/metrics", "/v1/health"):
        assert ask(server, path)[0] == 401
        assert ask(server, path, token=token[:-1] + "x")[0] == 401
        assert ask(server, path, token=token)[0] == 200
    done = run("admin", "status", "--admin", f"127.0.0.1:{port}", "--dir", "/nonexistent")
    assert done.returncode == 1 and "--admin-token" in done.stderr
    wrong = server.folder / "wrong"
    wrong.write_text("0" * 64 + "\n", encoding="utf-8")
    done = run("admin", "status", "--admin", f"127.0.0.1:{port}", "--admin-token", wrong)
    assert done.returncode == 1 and "not this server's" in done.stderr
    done = run("admin", "status", "--admin", f"127.0.0.1:{port}", "--dir", server.folder)
    assert done.returncode == 0 and "ready" in done.stdout
    done = run("admin", "status", "--admin", "127.0.0.1:1", "--dir", server.folder)
    assert done.returncode == 1 and "refused" in done.stderr


def test_metrics_pass_promtool(memory_server):
    with Client(memory_server.url()) as client:
        client.put({key_of(1): block_of(key_of(1), 100000)})
        client.get([key_of(1), key_of(2)], 100000)
        client.report(1000, 100, 0.5, 2.0)
        text = ask(memory_server, "/metrics")[1]
    assert re.search(r'^ctxkv_get_hits_total\{reactor="0"\} 1$', text, re.M)
    assert re.search(r'^ctxkv_get_time_seconds_count\{reactor="0"\} 1$', text, re.M)
    assert re.search(r'^ctxkv_saving_gpu_seconds\{tenant="default",namespace="[0-9a-f]{32}"\} 19.5$',
                     text, re.M)
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_the_alert_rules_pass_promtool_and_name_metrics_that_exist(memory_server):
    rules = TOP / "deploy" / "prometheus" / "ctxkv.rules.yml"
    names = set(re.findall(r"\bctxkv_\w+", rules.read_text(encoding="utf-8")))
    names |= set(re.findall(r"\bctxkv_\w+", (TOP / "deploy" / "grafana" / "ctxkv.json").read_text(
        encoding="utf-8")))
    with Client(memory_server.url()) as client:
        client.get([key_of(1)], 1000)
        client.report(1000, 100, 0.5, 2.0)
        client.get([key_of(1)], 1000)
        text = ask(memory_server, "/metrics")[1]
    there = set(re.findall(r"^(?:# TYPE )?(ctxkv_\w+)", text, re.M))
    assert names <= there, names - there
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_savings_are_shown_everywhere_and_to_their_tenant(memory_server):
    with Client(memory_server.url()) as client:
        assert client.report(1_000_000, 100_000, 20, 50) == 0
        assert client.report(1, 1, 1e7, 1) < 0  # no report is 115 days long
    done = admin(memory_server, "savings")
    assert done.returncode == 0 and "default" in done.stdout
    row = json.loads(admin(memory_server, "savings", "--json").stdout)["savings"][0]
    assert row["gpu_seconds_saved"] == pytest.approx(480)
    assert row["dollars_saved"] == pytest.approx(480 / 3600 * 3)
    stat = json.loads(run("stat", "--json", "--url", memory_server.url()).stdout)
    assert stat[f"saving_{row['namespace']}_gpu_seconds_saved"] == pytest.approx(480)


def test_status_sessions_and_tenants(server):
    server.start("--reactors", "1")
    with Client(server.url()) as client:
        client.put({key_of(1): block_of(key_of(1), 100000)}, durable=True)
        status = json.loads(admin(server, "status", "--json").stdout)
        assert status["state"] == "ready" and status["shards"][0]["state"] == "online"
        assert status["totals"]["ctxkv_put_stored_total"] == 1
        assert status["configuration"]["verify"] == "medium"
        assert status["media"][0]["path"] == str(server.media[0])
        sessions = json.loads(admin(server, "sessions", "--json").stdout)["sessions"]
        # What it came by has ended when it moved to shared memory.
        assert [(row["tenant"], row["transport"]) for row in sessions] == [("default", "shm")]
        assert status["session_count"] == 1 and status["transports"] == {"shm": 1}
        assert "127.0.0.1" in admin(server, "sessions").stdout
        tenants = json.loads(admin(server, "tenants", "--json").stdout)["tenants"]
        assert tenants[0]["name"] == "default" and tenants[0]["sessions"] >= 1
        assert [(row["name"], row["used_bytes"]) for row in tenants] == [("default", 100000)]
        assert "oldest block" in admin(server, "status").stdout


def test_drain_under_load_loses_nothing(server):
    """Puts until the server says no; everything that was acknowledged is served while it drains,
    and is there after the restart."""
    server.start()
    stored = []
    refused = []

    def load():
        with Client(server.url()) as client:
            for i in range(100000):
                key = key_of("load", i)
                status = client.put({key: block_of(key, 50000)}, durable=True)[0][0]
                if status < 0:
                    refused.append(status)
                    return
                stored.append(key)

    with Client(server.url()) as reader:
        thread = threading.Thread(target=load)
        thread.start()
        while len(stored) < 20 and thread.is_alive():
            time.sleep(0.01)
        assert state(server) == "ready"
        assert admin(server, "drain").returncode == 0
        thread.join(timeout=60)
        assert refused and state(server) == "draining"
        assert ask(server, "/v1/ready")[0] == 503 and ask(server, "/v1/health")[0] == 200
        assert admin(server, "health").returncode == 1
        for key in stored:
            assert reader.get([key], 50000) == [block_of(key, 50000)]
    server.stop()
    server.start()
    with Client(server.url()) as client:
        for key in stored:
            assert client.get([key], 50000) == [block_of(key, 50000)]


def test_drop_of_a_namespace_and_of_a_key(server):
    server.start()
    keys = [key_of(i) for i in range(3)]
    with Client(server.url()) as client:
        for text in ("e2e", "other"):
            client.namespace(text)
            client.put({key: block_of(key, 9000) for key in keys}, durable=True)
        client.namespace("e2e")
        done = admin(server, "drop", "--domain", "default", "--namespace-text", "e2e", "--key",
                     keys[1].hex())
        assert done.returncode == 0 and "dropped: 1 block\n" in done.stdout, done
        assert client.probe(keys) == [True, False, True]
        assert admin(server, "drop", "--domain", "default", "--namespace-text", "e2e",
                     token=False).returncode == 1
        assert client.probe(keys) == [True, False, True]
        done = admin(server, "drop", "--domain", "nobody", "--namespace-text", "e2e")
        assert done.returncode == 1 and "no tenant and no shared domain" in done.stderr, done
        done = admin(server, "drop", "--domain", "default", "--namespace-text", "e2f")
        assert done.returncode == 0 and "no block of it was here" in done.stdout, done
        assert client.probe(keys) == [True, False, True]
        done = admin(server, "drop", "--domain", "default", "--namespace-text", "e2e")
        assert done.returncode == 0 and "dropped: 2 blocks, 17.58 KiB" in done.stdout, done
        assert client.probe(keys) == [False, False, False]
        client.namespace("other")
        assert client.probe(keys) == [True, True, True]
        row, = json.loads(admin(server, "savings", "--json").stdout)["savings"]
        assert (row["tenant"], row["blocks"], row["payload_bytes"]) == ("default", 3, 27000)
        ns = row["namespace"]
        assert re.search(rf"default +{ns} +3 ", admin(server, "savings").stdout)
        server.kill()
        server.start()
        assert admin(server, "drop", "--domain", "default", "--namespace", ns).returncode == 0
    with Client(server.url()) as client:
        client.namespace("e2e")
        assert client.probe(keys) == [False, False, False]
        client.namespace("other")
        assert client.probe(keys) == [False, False, False]
    done = admin(server, "drop", "--domain", "default")
    assert done.returncode == 2 and "--namespace" in done.stderr


def test_reload_takes_the_secrets_file_as_it_is_now(server):
    server.start()
    server.tenant("add", "bob")
    with pytest.raises(OpenError):
        Client(server.url("bob"))
    done = admin(server, "reload")
    assert done.returncode == 0 and "tenants 2: 1 new, 0 gone, 0 changed" in done.stdout
    Client(server.url("bob")).close()  # it is answered when it is done
    names = [row["name"] for row in json.loads(admin(server, "tenants", "--json").stdout)["tenants"]]
    assert names == ["default", "bob"]
    # A file that is no good changes nothing, and is said to who asked.
    secrets = (server.folder / "secrets").read_text(encoding="utf-8")
    (server.folder / "secrets").write_text(secrets + "carol nonsense\n", encoding="utf-8")
    done = admin(server, "reload")
    assert done.returncode == 1 and "those of before stay" in done.stderr and "carol" not in done.stdout
    assert re.search(r"line \d+", done.stderr), done.stderr
    (server.folder / "secrets").write_text(secrets, encoding="utf-8")
    Client(server.url("bob")).close()
    server.tenant("set", "bob", "--rights", "read")
    assert "tenants 2: 0 new, 0 gone, 1 changed" in admin(server, "reload").stdout
    key = key_of("of bob")
    server.tenant("set", "bob", "--rights", "read+write")
    assert admin(server, "reload").returncode == 0
    with Client(server.url("bob")) as client:
        assert client.put({key: block_of(key, 50000)}, durable=True)[0][0] == 0
    server.tenant("remove", "bob")
    assert "tenants 1: 0 new, 1 gone, 0 changed" in admin(server, "reload").stdout
    # What a tenant has in the store stays told when it is gone, and over a restart.
    for _ in range(2):
        rows = json.loads(admin(server, "tenants", "--json").stdout)["tenants"]
        assert [(row["name"], row["used_bytes"]) for row in rows] == [("default", 0), ("(gone)", 50000)]
        assert 'ctxkv_tenant_used_bytes{tenant="(gone)"} 50000' in ask(server, "/metrics")[1]
        assert re.search(r"\(gone\) .* 48\.83 KiB", admin(server, "tenants").stdout)
        server.stop()
        server.start()


@pytest.fixture
def three(tmp_path):
    made = [Server(tmp_path, memory="576MiB") for _ in range(3)]
    for server in made:
        server.start()
    yield made
    for server in made:
        server.end()


def every(servers):
    return ["--all", "--admin", ",".join(map(endpoint, servers)), "--dir", servers[0].folder]


def test_all_servers_in_one_table(three):
    odd = three[1]
    odd.stop()
    odd.start("--verify", "all")
    done = run("admin", "status", *every(three))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[1:4]] == ["ready"] * 3
    assert f"verify: medium, but all at {endpoint(odd)}" in done.stdout
    where = every(three)
    three[2].kill()
    done = run("admin", "status", *where)
    assert done.returncode == 1
    assert "unreachable" in done.stdout and "refused" in done.stderr
    rows = json.loads(run("admin", "status", "--json", *where).stdout)
    assert [row.get("state") for row in rows] == ["ready", "ready", None] and "error" in rows[2]


def read_terminal(fd, until, seconds=20):
    """What the terminal shows until a condition of its text holds."""
    text = ""
    end = time.monotonic() + seconds
    while not until(text):
        assert time.monotonic() < end, text
        if select.select([fd], [], [], 0.2)[0]:
            try:
                text += os.read(fd, 65536).decode()
            except OSError:  # the other side is closed
                break
    return text


def test_the_live_view_redraws_and_leaves_the_terminal_clean(memory_server):
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 90, 0, 0))
        os.execv(BINARY, [str(BINARY), "admin", "status", "--all", "--watch", "--interval", "200ms",
                          "--admin", endpoint(memory_server), "--dir", str(memory_server.folder)])
    try:
        text = read_terminal(fd, lambda t: t.count("\x1b[H") >= 4)
        assert "\x1b[?25l" in text and "ready" in text and "B/s" in text
        assert text.count("\x1b[J") >= 3
        os.write(fd, b"\x03")
        # No line is wider than the terminal.
        shown = re.sub(r"\x1b\[\??[0-9]*[A-Za-z]", "", text).replace("\r", "").split("\n")
        assert max(map(len, shown)) <= 90
        text = read_terminal(fd, lambda t: "\x1b[?25h" in t)
        assert text.rstrip().endswith("\x1b[?25h")
        _, status = os.waitpid(pid, 0)
        pid = 0
        assert os.waitstatus_to_exitcode(status) == 130
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(fd)


def test_a_watch_without_a_terminal_writes_plain_text(memory_server):
    watch = subprocess.Popen([BINARY, "admin", "status", "--watch", "--interval", "200ms", "--admin",
                              endpoint(memory_server)], stdout=subprocess.PIPE, text=True)
    lines = [watch.stdout.readline() for _ in range(4)]
    watch.send_signal(signal.SIGINT)
    rest = watch.communicate(timeout=20)[0]
    assert watch.returncode == 130
    assert "\x1b" not in "".join(lines) + rest and "ready" in "".join(lines)


def test_the_page_stands_alone(memory_server):
    status, page = ask(memory_server, "/")
    assert status == 200 and "<title>ctxkv</title>" in page
    # Nothing is fetched from anywhere but this server.
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    chromium = shutil.which("chromium")
    if chromium is None or "CTXKV_LONG" not in os.environ:
        pytest.skip("the page in a browser: CTXKV_LONG=1, and Debian's chromium")
    with Client(memory_server.url()) as client:
        client.put({key_of(1): block_of(key_of(1), 100000)})
        client.get([key_of(1), key_of(2)], 100000)
        client.report(1_000_000, 100_000, 20, 50)
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000",
         "--dump-dom", f"http://{endpoint(memory_server)}/"], capture_output=True, text=True,
        timeout=120, check=False)
    assert '<span id="state" class="state ready">ready</span>' in done.stdout
    assert re.search(r'<b id="hits">50.0 %</b>', done.stdout)
    assert re.search(r'<b id="saved">8.0 min</b>', done.stdout)
    assert "<polyline" in done.stdout
    assert not re.search(r"\bNaN\b|undefined", re.sub(r"<script>.*</script>", "", done.stdout,
                                                      flags=re.S))


def children_of(pid):
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            yield int(path.parent.name)


def test_a_restart_by_its_parent_keeps_the_endpoint(server):
    """kill -9 of the serving process: the parent starts it again, on the same admin port."""
    server.start()
    where = endpoint(server)
    server.stop()
    server.start("--admin-listen", where, supervise=True)
    serving = list(children_of(server.process.pid))
    assert len(serving) == 1
    os.kill(serving[0], signal.SIGKILL)
    end = time.monotonic() + 30
    while True:
        try:
            if list(children_of(server.process.pid)) != serving and state(server) == "ready":
                break
        except (OSError, urllib.error.URLError):
            pass
        assert time.monotonic() < end, server.output()
        time.sleep(0.05)
    server.stop()
