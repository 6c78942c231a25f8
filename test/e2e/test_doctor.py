# SPDX-License-Identifier: Apache-2.0
"""doctor: each fault is provoked on the real host, and named with what to change; a well one is well.

What cannot be provoked without changing the machine (an old kernel, a governor, a rotating drive) is
shown to the judging functions in test/unit/cmd/test_doctor.c."""
import ctypes
import errno
import json
import os
import platform
import resource
import socket
import struct
import subprocess

import pytest

from harness import BINARY, Server


def doctor(*options, preexec=None, **environment):
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}
    done = subprocess.run([BINARY, "doctor", "--json", *map(str, options)], env=clean, timeout=60,
                          capture_output=True, text=True, check=False, preexec_fn=preexec)
    report = json.loads(done.stdout)
    fails = [row for row in report["rows"] if row["verdict"] == "fail"]
    assert report["fail"] == len(fails) and done.returncode == (1 if fails else 0), done.stderr
    for row in report["rows"]:
        assert row["verdict"] != "warn" or row["advice"], row
    return report["rows"]


def find(rows, name, verdict, words):
    """The row of this name and verdict that has the words, text or advice."""
    for row in rows:
        if row["name"] == name and row["verdict"] == verdict and words in row["text"] + row["advice"]:
            return row
    raise AssertionError(f"no {verdict} {name} '{words}' in {json.dumps(rows, indent=1)}")


def fails(rows):
    return [row["name"] for row in rows if row["verdict"] == "fail"]


def test_a_well_server_is_well(server):
    server.start()
    rows = doctor("--dir", server.folder, "--url", server.url())
    assert fails(rows) == []
    find(rows, "medium", "ok", "in use by a running server")
    find(rows, "reached", "ok", f"127.0.0.1:{server.port}")
    assert [row["text"] for row in rows if row["name"] == "latency" and "a round trip" in row["text"]]
    find(rows, "tenants", "ok", "1")
    find(rows, "key file", "ok", "for its owner only")
    text = Server.run("doctor", "--dir", server.folder, "--url", server.url()).stdout
    assert " to mend" in text and "0 to mend" in text


def test_a_clients_host_needs_no_server(tmp_path):
    rows = doctor(HOME=str(tmp_path))
    assert fails(rows) == []
    find(rows, "server", "ok", "client's host")
    find(rows, "url", "warn", "CTXKV_URL")


def test_configuration_faults(server, tmp_path):
    find(doctor("--dir", tmp_path / "nothing"), "server", "fail", "ctxkv setup")
    config = tmp_path / "server.yaml"
    config.write_text("bufers: 1GiB\n", encoding="utf-8")
    find(doctor("--config", config), "server", "fail", "not right")
    yaml = (server.folder / "server.yaml").read_text(encoding="utf-8")
    config.write_text(yaml + 'buffers: "1 TiB"\n', encoding="utf-8")
    find(doctor("--config", config), "memory", "fail", "lower buffers")
    for more, name, words in [('index-entries: "10000000000"', "memory", "index-entries"),
                              ('reactors: "2"', "media", "only 1 shards"), ('cpus: "x"', "options", "refuse"),
                              ('admin-listen: "here"', "options", "refuse")]:
        key = more.split(":")[0]
        config.write_text("\n".join(line for line in yaml.splitlines() if not line.startswith(f"{key}:"))
                          + f"\n{more}\n", encoding="utf-8")
        find(doctor("--config", config), name, "fail", words)
        done = Server.run("start", "--config", config, "--no-supervise", check=False)
        assert done.returncode == 1, f"doctor refuses {more}, start does not"
    config.write_text(yaml.replace('listen: "127.0.0.1:0"', 'listen: "192.0.2.1:9900"'),
                      encoding="utf-8")
    find(doctor("--config", config), "address", "fail", "cannot be listened on")


def test_a_taken_port_is_named(server, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = tmp_path / "server.yaml"
        yaml = (server.folder / "server.yaml").read_text(encoding="utf-8")
        config.write_text(yaml.replace("127.0.0.1:0", f"127.0.0.1:{port}"), encoding="utf-8")
        find(doctor("--config", config), "address", "warn", "is taken")


def test_media_faults(server, tmp_path):
    def with_medium(path):
        config = tmp_path / "server.yaml"
        yaml = (server.folder / "server.yaml").read_text(encoding="utf-8")
        config.write_text(yaml.replace(str(server.store), str(path)), encoding="utf-8")
        return doctor("--config", config)

    find(with_medium(tmp_path / "gone"), "medium", "fail", "is the drive in?")
    find(with_medium(tmp_path), "medium", "fail", "neither")
    other = tmp_path / "other"
    other.write_bytes(b"x" * (2 << 20))
    find(with_medium(other), "medium", "fail", "no ctxkv store")
    with open(server.store, "r+b") as file:
        file.seek(4096)
        file.write(b"damage")
    find(doctor("--dir", server.folder), "medium", "warn", "one of the two copies")
    os.truncate(server.store, 100 << 20)
    find(doctor("--dir", server.folder), "medium", "fail", "has shrunk")


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="/dev/shm is no tmpfs here")
def test_a_medium_on_tmpfs_is_named(tmp_path):
    path = f"/dev/shm/ctxkv-doctor-{os.getpid()}"
    try:
        done = Server.run("setup", path, "--size", "600MiB", "--sparse", "--dir", tmp_path / "c",
                          check=False)
        assert done.returncode == 0, done.stderr
        find(doctor("--dir", tmp_path / "c"), "medium", "warn", "tmpfs")
    finally:
        os.unlink(path)


def test_key_file_faults(server, tmp_path):
    secrets = server.folder / "secrets"
    os.chmod(secrets, 0o644)
    row = find(doctor("--dir", server.folder), "key file", "fail", "can be read by others")
    assert f"chmod 600 {secrets}" in row["advice"]
    os.chmod(secrets, 0o600)
    secrets.write_text("default nonsense\n", encoding="utf-8")
    find(doctor("--dir", server.folder), "key file", "fail", "line")
    secrets.unlink()
    find(doctor("--dir", server.folder), "key file", "fail", "ctxkv setup")


def test_url_faults(memory_server, tmp_path):
    find(doctor("--url", "http://x"), "url", "fail", "ctxkv://")
    find(doctor("--url", "ctxkv://a b"), "reached", "fail", "no host name has")
    two = memory_server.url().replace("127.0.0.1", "127.0.0.1:1,127.0.0.1", 1)
    rows = doctor("--url", two)
    assert [row["verdict"] for row in rows if row["name"] == "reached"] == ["fail", "ok"]
    missing = tmp_path / "no"
    find(doctor("--url", memory_server.url(keyfile=missing)), "key file", "fail", "No such file")
    wrong = tmp_path / "wrong"
    wrong.write_text("default " + "00" * 32 + "\n", encoding="utf-8")
    os.chmod(wrong, 0o600)
    rows = doctor("--url", memory_server.url(keyfile=wrong))
    find(rows, "reached", "fail", "key file must be the server's")
    memory_server.kill()
    find(doctor(CTXKV_URL=memory_server.url()), "reached", "fail", "is 'ctxkv start' running there")


def test_a_small_memlock_limit_is_named(server):
    def limit():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))

    find(doctor("--dir", server.folder, preexec=limit), "memlock", "warn", "LimitMEMLOCK=infinity")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter names x86-64's numbers")
def test_a_seccomp_profile_without_io_uring_is_named():
    """As under Docker: io_uring_setup (425) is answered EPERM."""
    def instruction(code, jump_true, jump_false, value):
        return struct.pack("HBBI", code, jump_true, jump_false, value)

    program = (instruction(0x20, 0, 0, 0) + instruction(0x15, 0, 1, 425) +
               instruction(0x06, 0, 0, 0x00050000 | errno.EPERM) + instruction(0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 4, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)

    def forbid():
        assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
        assert libc.prctl(22, 2, filter_) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

    find(doctor(preexec=forbid), "io_uring", "warn", "seccomp")
