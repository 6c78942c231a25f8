# SPDX-License-Identifier: Apache-2.0
"""Each peer into an environment of its own: packages of Debian unpacked below a folder, without
their services and without touching the system; packages of PyPI in a virtual environment."""
import pathlib
import shutil
import subprocess
import sys

from .peer import NotInstalled


def command(words, reason):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          check=False, timeout=1800)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no reason given"]
        raise NotInstalled(f"{reason}: {last[0][:200]}")
    return done.stdout


def debian(home, packages, program, may_install):
    """Path of the program: the system's own, or from its packages unpacked below home/root."""
    found = shutil.which(program)
    if found:
        return pathlib.Path(found)
    path = home / "root" / "usr" / "bin" / program
    if path.exists():
        return path
    if not may_install:
        raise NotInstalled("not here, and --no-install")
    archives = home / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    command(["apt-get", "install", "-y", "--no-install-recommends", "--download-only",
             "-o", f"Dir::Cache::archives={archives}", *packages],
            f"apt-get could not fetch {' '.join(packages)}")
    for package in sorted(archives.glob("*.deb")):
        command(["dpkg", "-x", package, home / "root"], f"dpkg could not unpack {package.name}")
    shutil.rmtree(archives)
    if not path.exists():
        raise NotInstalled(f"{' '.join(packages)} brought no {program}")
    return path


def debian_env(home):
    """Environment in which an unpacked program finds its libraries."""
    return {"LD_LIBRARY_PATH": str(home / "root" / "usr" / "lib" / "x86_64-linux-gnu")}


def venv(home, steps, may_install):
    """A virtual environment home/venv; steps: arguments of pip, one list each."""
    mark = home / "venv" / "complete"
    if mark.exists():
        return
    if not may_install:
        raise NotInstalled("not here, and --no-install")
    shutil.rmtree(home / "venv", ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    command([sys.executable, "-m", "venv", home / "venv"], "no virtual environment")
    for step in steps:
        command([home / "venv" / "bin" / "python", "-m", "pip", *step[:1], "-q", *step[1:]],
                f"pip {' '.join(step)}")
    mark.touch()


def pip_version(home, package):
    """What is installed of a package."""
    return command([home / "venv" / "bin" / "python", "-c",
                    "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))", package],
                   f"no version of {package}").strip()
