# SPDX-License-Identifier: Apache-2.0
"""doc: the pages inside the binary are those of the tree; in a terminal through a pager; served on
loopback only, with nothing to be had but the pages."""
import http.client
import os
import pty
import re
import signal
import socket
import subprocess

import pytest

from harness import BINARY, Server, TOP


def run(*arguments):
    return Server.run("doc", *arguments, check=False)


def test_every_page_of_the_tree_is_listed_and_printed():
    listed = run().stdout
    for page in [TOP / "README.md", *(TOP / "docs").rglob("*.md")]:
        name = page.relative_to(TOP).as_posix().removeprefix("docs/").removesuffix(".md")
        assert re.search(rf"^{re.escape(name)} ", listed, re.M), name
        assert run(name).stdout == page.read_text(encoding="utf-8")
    assert run("drive").stdout.startswith("# Looking at a medium")


def test_a_wrong_name_names_the_nearest():
    done = run("quick-strat")
    assert done.returncode == 2 and "did you mean 'quick-start'" in done.stderr


def in_terminal(pager, *arguments):
    """What a terminal shows."""
    master, slave = pty.openpty()
    process = subprocess.Popen([BINARY, "doc", *arguments], stdout=slave, stderr=slave,
                               stdin=subprocess.DEVNULL, env={**os.environ, "PAGER": pager})
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait(timeout=30) == 0
    os.close(master)
    return shown.decode()


def test_a_terminal_gets_a_pager():
    assert in_terminal("sed s/^/seen:/", "cost").startswith("seen:# What recomputing costs")
    assert "# What recomputing costs" in in_terminal("no-such-pager-here", "cost")
    in_terminal("true", "protocol")  # it leaves at once: no signal kills us


@pytest.fixture
def served():
    process = subprocess.Popen([BINARY, "doc", "--serve", "--port", "0"], stdout=subprocess.PIPE,
                               text=True)
    port = int(re.match(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())[1])
    yield port
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def ask(port, path, method="GET", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=False)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), dict(answer.getheaders())


def test_pages_are_served_and_their_links_work(served):
    status, index, headers = ask(served, "/")
    assert status == 200 and "default-src 'none'" in headers["Content-Security-Policy"]
    links = re.findall(r'href="(/[^"]+\.md)"', index)
    assert len(links) > 10
    for link in links:
        status, page, _ = ask(served, link)
        assert status == 200 and "<h1>" in page
        for target in re.findall(r'href="([^"#:]+\.md)', page):
            path = os.path.normpath(os.path.join(os.path.dirname(link), target))
            wanted = 200 if (TOP / path[1:]).exists() else 404
            assert ask(served, path)[0] == wanted, f"{link} names {target}"


@pytest.mark.parametrize("path", ["/../../../etc/passwd", "/docs/../../etc/passwd", "/etc/passwd",
                                  "/%2e%2e/%2e%2e/etc/passwd", "/docs/%2e%2e/README.md", "//README.md",
                                  "/docs/", "/docs/design.md.txt", "/" + "a" * 3000])
def test_nothing_else_is_served(served, path):
    status, body, _ = ask(served, path)
    assert status in (400, 404, 414) and "root:" not in body
    assert ask(served, "/README.md")[0] == 200


def test_only_get_and_only_loopback(served):
    assert ask(served, "/", "POST", b"x" * 5000)[0] == 405
    assert ask(served, "/", "DELETE")[0] == 405
    assert ask(served, "/README.md", "HEAD")[0] == 200
    listening = subprocess.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True,
                               text=True, check=False).stdout
    at = [line.split()[1] for line in listening.splitlines() if f":{served:04X} 0000" in line]
    assert at == [f"0100007F:{served:04X}"], at


def test_a_taken_port_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("--serve", "--port", str(taken.getsockname()[1]))
        assert done.returncode == 1 and "--port" in done.stderr
