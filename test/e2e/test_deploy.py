# SPDX-License-Identifier: Apache-2.0
"""What is installed works from where it was installed; the binary needs what deploy/needed.txt names;
unit, image file and manifests agree with the binary and with each other."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness import BINARY, BUILD, Client, Server, TOP, block_of, key_of

DEPLOY = TOP / "deploy"


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          timeout=120, check=False, **more)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def needed():
    """{soname: package} of deploy/needed.txt."""
    lines = (DEPLOY / "needed.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


# --- what the binary needs ---


def test_the_binary_needs_what_the_list_names():
    have = set(re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "-d", BINARY)))
    assert have - set(needed()) == set(), "not in deploy/needed.txt"
    assert set(needed()) - have == set(), "in deploy/needed.txt and not needed"


def test_debian_packages_have_what_is_needed():
    for soname, package in needed().items():
        owners = subprocess.run(["dpkg", "-S", f"*/{soname}"], capture_output=True, text=True,
                                check=False).stdout
        assert re.search(rf"^{package}(:\w+)?: ", owners, re.M), f"{soname}: {owners}"


def packages_of(stage):
    """Packages that a stage of the Containerfile installs."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    found = re.findall(r"apt-get install -y --no-install-recommends ([^&\n]+)", text)
    return set(found[stage].split())


def test_the_image_has_what_build_and_binary_need():
    run_time = set(needed().values()) - {"libc6"}
    assert packages_of(1) == run_time
    dev = re.search(r'^packages="([^"]+)"', (TOP / "dev").read_text(encoding="utf-8"), re.M)[1].split()
    wanted = {name for name in dev if name.startswith("lib") and "cmocka" not in name}
    wanted |= {"meson", "ninja-build", "gcc", "pkg-config", "binutils", "python3"}
    assert packages_of(0) == wanted


def test_the_image_file_is_well_formed():
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    words = {"FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"}
    stages = 0
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, rest = line.split(" ", 1)
        assert word in words, line
        stages += word == "FROM"
        if word == "RUN":
            run("sh", "-nc", rest)
        if word in ("ENTRYPOINT", "CMD"):
            assert all(isinstance(part, str) for part in json.loads(rest))
    assert stages == 2 and re.search(r"^USER [1-9]\d*$", text, re.M), "not as root"
    assert "--from=build /out/usr/bin/ctxkv" in text


# --- installed ---


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The build, installed below a folder of its own; its prefix there."""
    root = tmp_path_factory.mktemp("installed")
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", root)
    prefix = root / "usr" / "local"
    assert prefix.is_dir()
    return root, prefix


def one(prefix, pattern):
    found = list(prefix.rglob(pattern))
    assert len(found) == 1, f"{pattern}: {found}"
    return found[0]


def test_everything_is_installed(installed):
    _, prefix = installed
    for pattern in ("bin/ctxkv", "libctxkv.so.0", "libctxkv.a", "include/ctxkv.h", "ctxkv.pc",
                    "man1/ctxkv.1", "man3/ctxkv.3", "system/ctxkv.service", "sysusers.d/ctxkv.conf",
                    "doc/ctxkv/README.md", "examples/minimal.c", "examples/ctxkv.yaml"):
        one(prefix, pattern)
    for page in (TOP / "docs").rglob("*.md"):
        assert (prefix / "share/doc/ctxkv" / page.relative_to(TOP)).is_file()
    assert len(list(prefix.rglob("*.h"))) == 1
    assert run(prefix / "bin/ctxkv", "version").startswith("ctxkv ")


@pytest.mark.skipif(shutil.which("man") is None, reason="no man here")
def test_the_manual_pages_have_no_warnings(installed):
    for page in ("ctxkv.1", "ctxkv.3"):
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", one(installed[1], page)],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0 and done.stderr == "" and "ctxkv" in done.stdout


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_the_example_builds_and_runs_against_the_prefix(installed, memory_server, tmp_path, kind):
    root, prefix = installed
    environment = {**os.environ, "PKG_CONFIG_PATH": str(one(prefix, "ctxkv.pc").parent),
                   "PKG_CONFIG_SYSROOT_DIR": str(root)}
    more = ["--static"] if kind == "static" else []
    flags = run("pkg-config", "--cflags", "--libs", *more, "ctxkv", env=environment).split()
    # Names of the system's libraries are not below the root.
    flags = [flag for flag in flags if flag != f"-L{root}/usr/lib/x86_64-linux-gnu"]
    if kind == "static":
        flags = ["-l:libctxkv.a" if flag == "-lctxkv" else flag for flag in flags]
    program = tmp_path / "minimal"
    run("cc", "-Wall", "-Werror", one(prefix, "examples/minimal.c"), *flags, "-o", program)
    libraries = {"LD_LIBRARY_PATH": str(one(prefix, "libctxkv.so.0").parent)}
    if kind == "static":
        libraries = {}
        assert "libctxkv" not in run("readelf", "-d", program)
    out = run(program, env={**os.environ, **libraries, "CTXKV_URL": memory_server.url()})
    assert "1048576" in out or "read" in out, out


# --- systemd ---


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_unit_is_right_and_closed(installed, tmp_path):
    text = one(installed[1], "ctxkv.service").read_text(encoding="utf-8")
    assert "ExecStart=/usr/local/bin/ctxkv start" in text and "@" not in re.sub(r"@\w+-?\w*", "", text)
    unit = tmp_path / "ctxkv.service"
    unit.write_text(text.replace("/usr/local/bin/ctxkv", str(BINARY)), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    run("systemd-analyze", "security", "--offline=yes", "--threshold=20", unit)  # 2.0 of 10


def wait_for(path, pattern):
    """The number that a pattern finds in a growing file."""
    for _ in range(600):
        found = re.search(pattern, path.read_text(encoding="utf-8"), re.M)
        if found:
            return int(found[1])
        time.sleep(0.1)
    raise AssertionError(path.read_text(encoding="utf-8"))


def syscall_set(name):
    """The calls of a set such as @system-service, sets in it included."""
    calls = set()
    for line in run("systemd-analyze", "syscall-filter", name).splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            calls |= syscall_set(word)
        elif word and not word.startswith("#"):
            calls.add(word)
    return calls


@pytest.mark.skipif(shutil.which("systemd-analyze") is None or shutil.which("strace") is None,
                    reason="no systemd-analyze or strace here")
def test_the_unit_allows_every_call_that_a_server_makes(server, tmp_path):
    """Also io_uring's."""
    text = (DEPLOY / "systemd" / "ctxkv.service.in").read_text(encoding="utf-8")
    allowed = syscall_set("@default")
    for minus, names in re.findall(r"^SystemCallFilter=(~?)(.+)$", text, re.M):
        for name in names.split():
            calls = syscall_set(name) if name.startswith("@") else {name}
            allowed = allowed - calls if minus else allowed | calls
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register"} <= allowed
    trace, log = tmp_path / "trace", tmp_path / "log"
    with open(log, "w", encoding="utf-8") as out:
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", trace, BINARY, "start", "--dir",
                                   server.folder, "--listen", "127.0.0.1:0"], stdout=out, stderr=out)
    try:
        server.port = wait_for(log, r"^ready\s+127\.0\.0\.1:(\d+)")
        key = key_of("deploy")
        with Client(server.url()) as client:
            assert client.put({key: block_of(key, 300_000)}, durable=True)[0][0] == 0
            assert client.get([key], 300_000)[0] == block_of(key, 300_000)
        os.kill(int(trace.read_text(errors="replace").split()[0]), signal.SIGTERM)
        assert tracer.wait(timeout=60) == 0
    finally:
        tracer.kill()
    used = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)[( ]", trace.read_text(errors="replace"), re.M))
    assert {"pwritev", "io_uring_enter"} & used and "sendmsg" in used, used
    assert used - allowed - {"execve"} == set()


# --- shared memory ---


def environments():
    """What each deployment sets for a server that has no login: {who: RUNTIME_DIRECTORY}."""
    unit = (DEPLOY / "systemd" / "ctxkv.service.in").read_text(encoding="utf-8")
    image = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    return {"unit": "/run/" + re.search(r"^RuntimeDirectory=(\w+)$", unit, re.M)[1],
            "image": re.search(r"^ENV RUNTIME_DIRECTORY=(\S+)$", image, re.M)[1]}


def test_every_deployment_has_a_directory_for_shared_memory(tmp_path):
    """The same in all; and a server makes its sockets where that says, although XDG_RUNTIME_DIR is not set."""
    assert set(environments().values()) == {"/run/ctxkv"}
    assert "mountPath: /run/ctxkv" in (DEPLOY / "kubernetes" / "ctxkv.yaml").read_text(encoding="utf-8")
    assert "install -d -m 0755 -o ctxkv -g ctxkv /run/ctxkv" in (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    place = tmp_path / "run"
    Server.run("setup", "--memory", "576MiB", "--dir", tmp_path / "c", "--listen", "127.0.0.1:0",
               "--admin-listen", "127.0.0.1:0")
    done = subprocess.run(["timeout", "-s", "TERM", "3", BINARY, "start", "--dir", tmp_path / "c"],
                          capture_output=True, text=True, timeout=60, check=False,
                          env={"PATH": os.environ["PATH"], "RUNTIME_DIRECTORY": f"{place}:/another"})
    assert re.search(rf"^shm +{place}/\S+\.sock, ", done.stdout, re.M), done.stdout + done.stderr


def test_the_page_makes_every_folder_that_setup_needs():
    """docs/operating/install.md, as a service: folders of the unit before the step that uses them."""
    page = (TOP / "docs" / "operating" / "install.md").read_text(encoding="utf-8")
    made = re.search(r"^install -d -m 0700 -o ctxkv -g ctxkv (.+)$", page, re.M)
    assert set(made[1].split()) == {"/etc/ctxkv", "/var/lib/ctxkv"}
    assert made.start() < page.index("ctxkv setup /var/lib/ctxkv/store")


# --- Kubernetes ---


def test_the_manifests_agree_with_themselves():
    yaml = pytest.importorskip("yaml")
    text = (DEPLOY / "kubernetes" / "ctxkv.yaml").read_text(encoding="utf-8")
    kinds = {document["kind"]: document for document in yaml.safe_load_all(text)}
    service, stateful = kinds["Service"], kinds["StatefulSet"]
    assert service["spec"]["clusterIP"] == "None"
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    pod = stateful["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == stateful["spec"]["selector"]["matchLabels"]
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    volumes = {v["name"] for v in spec["volumes"]}
    volumes |= {v["metadata"]["name"] for v in stateful["spec"]["volumeClaimTemplates"]}
    for container in spec["containers"] + spec["initContainers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        more = {"add": ["CHOWN"]} if container["name"] == "run-directory" else {}
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], **more}
    ports = {port["containerPort"] for port in spec["containers"][0]["ports"]}
    assert ports == {port["port"] for port in service["spec"]["ports"]} == {9900, 9901}
    assert [c["name"] for c in spec["initContainers"]] == ["setup", "run-directory"]
    script = spec["initContainers"][0]["args"][0]
    run("sh", "-n", "-c", script)


def test_the_manifests_set_up_works_and_is_done_once(tmp_path):
    """The script of the init container, with its folders below tmp_path; then a server starts."""
    yaml = pytest.importorskip("yaml")
    text = (DEPLOY / "kubernetes" / "ctxkv.yaml").read_text(encoding="utf-8")
    spec = next(d for d in yaml.safe_load_all(text) if d["kind"] == "StatefulSet")
    script = spec["spec"]["template"]["spec"]["initContainers"][0]["args"][0]
    store = pathlib.Path("/var/tmp") / f"ctxkv-deploy-{os.getpid()}"
    for name in ("secret", "config"):
        (tmp_path / name).mkdir()
    store.mkdir()
    try:
        Server.run("setup", "--memory", "576MiB", "--dir", tmp_path / "made")
        for name in ("secrets", "admin-token"):
            shutil.copy(tmp_path / "made" / name, tmp_path / "secret" / name)
            os.chmod(tmp_path / "secret" / name, 0o640)
        script = script.replace("/var/lib/ctxkv", str(store)).replace("/secret/", f"{tmp_path}/secret/")
        script = script.replace("/config/", f"{tmp_path}/config/").replace("0.0.0.0:9901", "127.0.0.1:0").replace("ctxkv setup", f"{BINARY} setup")
        environment = {"PATH": os.environ["PATH"], "SIZE": "600MiB"}
        run("/bin/sh", "-euc", script, env=environment)
        assert os.stat(tmp_path / "config" / "secrets").st_mode & 0o777 == 0o600
        before = Server.run("drive", "inspect", store / "store", "--json").stdout
        run("/bin/sh", "-euc", script, env=environment)
        assert Server.run("drive", "inspect", store / "store", "--json").stdout == before
        done = subprocess.run(["timeout", "-s", "TERM", "5", BINARY, "start", "--config",
                               store / "etc" / "server.yaml", "--listen", "127.0.0.1:0"],
                              capture_output=True, text=True, timeout=60, check=False)
        assert "ready" in done.stdout, done.stderr
    finally:
        shutil.rmtree(store)
