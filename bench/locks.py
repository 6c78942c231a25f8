# SPDX-License-Identifier: Apache-2.0
"""Where a process waits for locks, by `perf`: the share of its samples in symbols of locks."""
import pathlib
import re
import shutil
import subprocess

LINE = re.compile(r"\s*([\d.]+)%\s+\[(.)\]\s+(\S+)")
# Of the process, whether it has to wait or not; and its system calls to wait.
OWN = re.compile(r"pthread_(mutex|rwlock|spin|cond)|lll_lock|futex")
# Of the kernel, when it has to wait: a lock that is free costs as much as what it guards.
KERNEL = re.compile(r"lock_slowpath|rwsem_|mutex_(spin|lock_slow)|osq_lock")


def shares(text):
    """(percent in the process's own locks, in the kernel's) of what `perf report` says."""
    own = kernel = 0.0
    for line in text.splitlines():
        found = LINE.match(line)
        if not found:
            continue
        percent, where, symbol = float(found[1]), found[2], found[3]
        if OWN.search(symbol):
            own += percent
        elif where == "k" and KERNEL.search(symbol):
            kernel += percent
    return own, kernel


def profile(pid, seconds, path):
    """(text of the report, None), or (None, why there is none)."""
    if shutil.which("perf") is None:
        return None, "perf is not installed"
    try:
        done = subprocess.run(["perf", "record", "-e", "cpu-clock", "-F", "499", "-p", str(pid), "-o", path, "--",
                               "sleep", str(seconds)], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            return None, "perf record: " + (done.stderr.strip().splitlines() or ["failed"])[-1]
        done = subprocess.run(["perf", "report", "-i", path, "--stdio", "--no-children", "-F", "overhead,sym"],
                              capture_output=True, text=True, timeout=120, check=False)
        if not any(map(LINE.match, done.stdout.splitlines())):
            return None, "perf report found no samples"
        return done.stdout, None
    finally:
        pathlib.Path(path).unlink(missing_ok=True)
