# SPDX-License-Identifier: Apache-2.0
"""The figure of one slow medium among two: what reads of the other take, and that puts wait for it.

Both media are loop devices over files in memory. The I/O of the server's control group to one of them is
bounded by the kernel (blkio.throttle of cgroup v1, io.max of v2), which is what a throttled cloud drive
does: commands wait. That needs root, loop devices and a control group of one's own; where something of
it is missing, the figure says what, and measures nothing.
"""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pairs
from server import BENCH_OURS, INTERVAL, Server, bench_rows, gib, median, us, verdict

GROUPS = pathlib.Path("/sys/fs/cgroup")
SLOW = 32 << 20  # bytes a second
MEDIUM = 768 << 20
SET = "512MiB"
SETTLE = 1.0  # seconds until the slow medium's reader has many in flight
PUTS = 30000  # blocks of 16 KiB, half of them to the slow medium: many times what may be under way


class Missing(Exception):
    """What the figure needs and is not here."""


@contextlib.contextmanager
def loop_device(path, size):
    try:
        with open(path, "xb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise Missing(f"{size >> 20} MiB of room for {path}: {error}") from error
        done = subprocess.run(["losetup", "--show", "--find", path], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Missing(f"losetup: {done.stderr.strip()}")
        try:
            yield done.stdout.strip()
        finally:
            subprocess.run(["losetup", "--detach", done.stdout.strip()], check=False)
    finally:
        pathlib.Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def slow_group(device, kind="read"):
    """A group whose reads of the device, or writes to it, are bounded; empty again at the end."""
    number = os.stat(device).st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    is_v1 = (GROUPS / "blkio").is_dir()
    group = (GROUPS / "blkio" if is_v1 else GROUPS) / f"ctxkv-slow-{os.getpid()}"
    try:
        if not is_v1:
            (GROUPS / "cgroup.subtree_control").write_text("+io", encoding="ascii")
        group.mkdir()
    except OSError as error:
        raise Missing(f"a control group that bounds I/O: {error}") from error
    file, text = ((f"blkio.throttle.{kind}_bps_device", f"{name} {SLOW}") if is_v1
                  else ("io.max", f"{name} {kind[0]}bps={SLOW}"))
    try:
        try:
            (group / file).write_text(text, encoding="ascii")
        except OSError as error:
            raise Missing(f"a bound in {group}: {error}") from error
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


@contextlib.contextmanager
def slowed(run, server, kind="read"):
    """The server's I/O of that kind to the slow medium is bounded."""
    with slow_group(run.slow_device, kind) as procs:
        procs.write_text(str(server.process.pid), encoding="ascii")
        try:
            yield
        finally:
            (procs.parent.parent / "cgroup.procs").write_text(str(server.process.pid), encoding="ascii")


@contextlib.contextmanager
def reader_of(run, server, transport, words):
    """Many gets in flight, all the time, of what lies on the slow medium."""
    arguments = ["bench", "--url", server.url, "--transport", transport, *words, "--working-set", SET, "--shard", "2",
                 "--batch", "8", "--duration", "60s", "--rounds", "1", *BENCH_OURS]
    server.note(*arguments, "&")
    with subprocess.Popen([run.binary, *arguments], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(SETTLE)
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def alone_and_beside(run, server, transport, keys):
    """Rows of gets of the first medium: each with nobody else, and with the second being read."""
    words = ("--ops", "get", "--sizes", "2MiB", "--keys", str(keys), "--no-floors", "--random")
    gets = {"alone": [], "beside": []}
    bench_rows(run, server, *words, transport=transport, working_set=SET, rounds=1, duration="1s")  # puts them
    with slowed(run, server):
        for turn in range(run.rounds):
            for side in ("alone", "beside") if turn % 2 == 0 else ("beside", "alone"):
                with (reader_of(run, server, transport, words) if side == "beside"
                      else contextlib.nullcontext()) as reader:
                    gets[side] += bench_rows(run, server, *words, "--shard", 1, "--rate", 200,
                                             transport=transport, working_set=SET, rounds=1, duration="1s")
                    if reader is not None and reader.poll() is not None:
                        raise ValueError(f"the reader of the slow medium ended: {reader.returncode}")
    return gets


def puts_row(run, server, transport):
    """As many puts as the slow medium takes in seconds: all wait, none fails."""
    with slowed(run, server, "write"):
        row, = bench_rows(run, server, "--ops", "fill", "--sizes", "16KiB", "--fill", PUTS, "--batch", 256,
                          "--no-floors", transport=transport, working_set="256MiB", rounds=1)
    return (f"| {transport} | {PUTS:,} | {PUTS * 16384 / row['bytes_per_s']:.1f} s | {row['p50_ns'] / 1e6:.2f} ms | "
            f"{row['p99_ns'] / 1e6:.2f} ms | {row['failures']:,} | {verdict(row['failures'] == 0)} |")


def slow_row(gets, transport):
    alone, beside = ({name: [row[name] for row in gets[side]] for name in ("p50_ns", "p99_ns")}
                     for side in ("alone", "beside"))
    ratio = pairs.ratio_of(pairs.divided(beside["p99_ns"], alone["p99_ns"]))
    is_right = not any(row["failures"] or row["wrong"] or not row["set_found"]
                       for side in gets.values() for row in side)
    times = [us(median(side[name])) for name in ("p50_ns", "p99_ns") for side in (alone, beside)]
    return f"| {transport} | {' | '.join(times)} | {ratio} | {verdict(is_right and ratio.median <= 1.5)} |"


def figure_slow(run):
    """One slow medium among two."""
    yield "\n### One slow medium among two: gets of the other\n"
    yield (f"Two loop devices over files in memory, the second bounded to {gib(SLOW)} GiB/s by the kernel and read with "
           "8 gets in flight. Gets of 2 MiB of the first, 200 a second begun at even times: p99 at most 1.5 times "
           f"what it is while nobody reads the second, in turn, {run.rounds} times; {INTERVAL}\n")
    yield "| over | p50 alone | beside | p99 alone | beside | ratio | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    try:
        with contextlib.ExitStack() as stack:
            if os.geteuid() != 0:
                raise Missing("root's rights")
            if shutil.which("losetup") is None:
                raise Missing("losetup")
            media = [stack.enter_context(loop_device(f"/dev/shm/ctxkv-slow-{os.getpid()}-{index}", MEDIUM))
                     for index in (1, 2)]
            run.slow_device = media[1]
            server = Server(run.binary, run.folder / "slow", ["--media", ",".join(media)],
                            ["--shm-dir", run.folder / "shm", "--buffers", "64MiB", "--verify", "none"])
            server.start()
            stack.callback(server.end)
            transports = run.transport[:1] if run.is_quick else run.transport
            for keys, transport in enumerate(transports, 1):
                yield slow_row(alone_and_beside(run, server, transport, keys), transport)
            server.end()
            # Fewer blocks under way than a segment holds, and fewer than there are buffers for.
            server.options = ["--shm-dir", run.folder / "shm", "--operations-max", "512"]
            server.start()
            yield ("\nPuts of 16 KiB to both, 256 in flight, while writes to the second are bounded to "
                   f"{gib(SLOW)} GiB/s: they wait, and none fails.\n")
            yield "| over | puts | took | p50 | p99 | failed | |"
            yield "| --- | --- | --- | --- | --- | --- | --- |"
            for transport in transports:
                yield puts_row(run, server, transport)
    except Missing as error:
        yield f"| not measured: {error} | | | | | | |"


FIGURES = {"slow": figure_slow}
