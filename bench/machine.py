# SPDX-License-Identifier: Apache-2.0
"""Figures of "as fast as the machine": shared memory and TCP beside their floors, CPU time, latency,
memory, a store that is nearly full, one that has just started.

Clients do their work in the calling thread (`bench --caller-driven`), so that a client is a thread,
as either side of a floor is. A reactor, not pinned, unless said otherwise.
"""
import os
import pathlib
import re

import pairs
from server import INTERVAL, Server, beside_puts, bench_rows, drop_caches, gib, make_floor, median, us, verdict

KIB, MIB = 1 << 10, 1 << 20
SKIPPED = "not measured"


def name_of(size):
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def sizes_of(*sizes):
    return ",".join(f"{size // KIB}KiB" for size in sizes)


def start(run, name, medium, *options):
    server = Server(run.binary, run.folder / name, medium, ["--shm-dir", run.folder / "shm", *options])
    server.printed = server.start()[1]
    return server


def cells(run, server, transport, *arguments, clients=1, **more):
    rows = bench_rows(run, server, "--caller-driven", "--cpu-of", server.process.pid,
                      "--clients", clients, *arguments, transport=transport, **more)
    for row in rows:
        row["is_right"] = row["failures"] == row["wrong"] == 0 and row["transport"] == transport
    return rows


def cpu(row):
    """Both sides together."""
    return row["cpu_s_per_gib"] + row["server_cpu_s_per_gib"]


# --- shared memory ---


def figure_shm_memory(run):
    """get and put over shared memory beside memcpy."""
    yield "\n### Over shared memory, from memory, beside memcpy\n"
    yield ("`verify` = `none`, a reactor, clients in the calling thread, 8 in flight of each; memcpy by one "
           "thread over the same shared mappings, touched before. get at least 0.95 of it, put 0.90; 64 KiB, 32 "
           f"in flight: 0.85 of its copies a second. {run.rounds} rounds; {INTERVAL}\n")
    yield "| op | size | clients | GiB/s | memcpy | ratio | a second | CPU s/GiB, both | memcpy's | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    sizes = (512 * KIB, 2 * MIB, 16 * MIB) if run.is_quick else (512 * KIB, MIB, 2 * MIB, 4 * MIB, 16 * MIB)
    server = start(run, "shm-memory", ["--memory", "5GiB", "--segment-size", "256MiB"], "--verify", "none")
    for clients in (1, 4):
        for row in cells(run, server, "shm", "--ops", "put,get", "--sizes", sizes_of(*sizes), "--floor-only", "memcpy",
                         clients=clients):
            yield shm_row(row, 0.95 if row["op"] == "get" else 0.90)
    for row in cells(run, server, "shm", "--ops", "get", "--sizes", "64KiB", "--batch", 32, "--floor-only", "memcpy"):
        yield shm_row(row, 0.85)
    server.end()


def shm_row(row, bar):
    floor = row["memcpy"]
    ratio = pairs.to_floor(row, "memcpy")
    is_ok = row["is_right"] and ratio.median >= bar
    return (f"| {row['op']} | {name_of(row['size'])} | {row['clients']} | {gib(row['bytes_per_s'])} | "
            f"{gib(floor['bytes_per_s'])} | {ratio} | {row['bytes_per_s'] / row['size']:,.1f} | "
            f"{cpu(row):.3f} | {floor['cpu_s_per_gib']:.3f} | {verdict(is_ok)} |")


def media_of(run, size):
    """(name, folder) of where files lie: the drive, and memory where there is room for one."""
    yield "drive", run.folder
    folder = pathlib.Path("/dev/shm")
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize if folder.is_dir() else 0
    if free > size and os.stat(folder).st_dev != os.stat(run.folder).st_dev:
        yield "tmpfs", folder


def figure_shm_medium(run):
    """get from the medium and durable puts, over shared memory."""
    data = 3 if run.is_quick else 4
    yield "\n### Over shared memory, from and to a file, queue 8\n"
    yield ("64 MiB of buffers: with more, a walk that is repeated is copied from the cache. Beside the same "
           "direct I/O by io_uring (size, depth; puts: an fdatasync every 8). "
           "get at least 0.97 of it with `verify` = `none` and 0.95 with `medium`; put durable 0.95; CPU of both "
           "sides together at most 0.01 s a GiB for get with `none` (the median of the rounds: in its first a region is "
           "registered with io_uring, once). On the drive and on a file in memory (tmpfs). "
           f"{run.rounds} rounds; {INTERVAL}\n")
    yield "| op | file on | verify | size | GiB/s | bare | ratio | CPU s/GiB, both | bare | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    sizes = (MIB, 16 * MIB) if run.is_quick else (MIB, 4 * MIB, 16 * MIB)
    for medium, folder in media_of(run, (2 * data + 2) << 30):
        floor, store = folder / f"ctxkv-floor-{os.getpid()}", folder / f"ctxkv-store-{os.getpid()}"
        try:
            make_floor(floor, data << 29)
            for ops, verify in (("get", "none"), ("get,put-durable", "medium")):
                server = start(run, "shm-medium", [store, "--size", f"{data}GiB", "--segment-size", "64MiB"],
                               "--buffers", "64MiB", "--verify", verify)
                for row in cells(run, server, "shm", "--ops", ops, "--sizes", sizes_of(*sizes), "--floor-file",
                                 floor, "--floor-only", "drive", working_set=f"{data << 8}MiB"):
                    yield medium_row(row, medium, verify)
                server.end()
                store.unlink()
        finally:
            floor.unlink(missing_ok=True)
            store.unlink(missing_ok=True)


def medium_row(row, medium, verify):
    floor = row.get("drive")
    head = f"| {row['op']} | {medium} | {verify} | {name_of(row['size'])} | {gib(row['bytes_per_s'])} |"
    if floor is None:
        return f"{head} | {SKIPPED}: no direct I/O there | {cpu(row):.3f} | | |"
    bar = 0.97 if verify == "none" else 0.95
    ratio = pairs.to_floor(row, "drive")
    is_ok = row["is_right"] and ratio.median >= bar
    both = median(pairs.cpu(row))
    if verify == "none":
        is_ok = is_ok and both <= 0.01
    return (f"{head} {gib(floor['bytes_per_s'])} | {ratio} | {both:.4f} | "
            f"{median(pairs.of(floor, 'cpu_s_per_gib')):.4f} | {verdict(is_ok)} |")


# --- latency ---


def figure_latency(run):
    """One at a time: probes, small gets, gets of 2 MiB."""
    entries = 200_000 if run.is_quick else 1_000_000
    yield "\n### One at a time, both sides awake\n"
    yield (f"A client in the calling thread, `--spin 50us`, {entries:,} blocks of 4 KiB in the index. A probe asks "
           "for 256 keys, half of them present. The ping-pong moves the same bytes between two threads over a bare "
           "loopback connection, asleep in between and awake; the faster counts. Probe: shm at most 10 us, TCP the "
           "ping-pong + 12 us; 4 KiB: shm 15 us, TCP 1.3 of the ping-pong; 2 MiB: p50 at most 1.1 of the "
           "ping-pong (shm: of memcpy), p99 at most 3 times p50; from the medium: the drive's p50 + 15 us. The ratio is p50 to what is allowed, by "
           f"rounds ({run.rounds}): at most 1; {INTERVAL}\n")
    yield "| op | over | size | p50 | p99 | floor p50 | floor p99 | asleep p50 | at most | ratio | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    server = start(run, "latency", ["--memory", f"{4 * entries // 700_000 + 3}GiB", "--segment-size", "64MiB"],
                   "--verify", "none", "--spin", "50us", "--index-entries", 2 * entries)
    server.bench("--ops", "fill", "--sizes", "4KiB", "--fill", entries, "--working-set", "256MiB", "--batch", 256)
    for transport in run.transport:
        for row in cells(run, server, transport, "--ops", "probe,get", "--sizes", "4KiB", "--batch", 1, "--lanes", 1,
                         "--floor-only", "pingpong", working_set="256MiB"):
            yield latency_row(row, transport)
        for row in cells(run, server, transport, "--ops", "get", "--sizes", "2MiB", "--batch", 1, "--lanes", 1,
                         "--floor-only", "pingpong,memcpy", working_set="512MiB"):
            yield latency_row(row, transport)
    server.end()
    yield from latency_medium(run)


def latency_row(row, transport):
    asleep, awake = row["pingpong"], row["pingpong_awake"]
    floor = min((asleep, awake), key=lambda one: one["p50_ns"])
    times, more = 0, 15_000
    if row["op"] == "probe":
        times, more = (0, 10_000) if transport == "shm" else (1, 12_000)
    elif row["size"] >= MIB:
        floor = row["memcpy"] if transport == "shm" else floor
        times, more = 1.1, 0
    elif transport == "tcp":
        times, more = 1.3, 0
    most, ratio = latency_ratio(row, floor, times, more)
    is_ok = row["is_right"] and ratio.median <= 1
    if row["op"] == "get" and row["size"] >= MIB:
        is_ok = is_ok and row["p99_ns"] <= 3 * row["p50_ns"]
    what = "256 keys" if row["op"] == "probe" else name_of(row["size"])
    return (f"| {row['op']} | {transport} | {what} | {us(row['p50_ns'])} | {us(row['p99_ns'])} | "
            f"{us(floor['p50_ns'])} | {us(floor['p99_ns'])} | {us(asleep['p50_ns'])} | {us(most)} | "
            f"{ratio} | {verdict(is_ok)} |")


def latency_ratio(row, floor, times, more):
    """(what p50 may be, p50 to it): so many times the floor's, and so many ns more."""
    most = [times * p50 + more for p50 in pairs.of(floor, "p50_ns")]
    return times * floor["p50_ns"] + more, pairs.to_most(pairs.of(row, "p50_ns"), most)


def latency_medium(run):
    """4 KiB from the file: a working set beyond the cache."""
    floor, store = run.folder / "latency.floor", run.folder / "latency.store"
    make_floor(floor, 1 << 30)
    server = start(run, "latency-medium", [store, "--size", "3GiB"], "--buffers", "64MiB", "--verify", "none",
                   "--spin", "50us")
    for transport in run.transport:
        for row in cells(run, server, transport, "--ops", "get", "--sizes", "4KiB", "--batch", 1, "--lanes", 1,
                         "--floor-file", floor, "--floor-only", "drive", working_set="512MiB"):
            bare = row.get("drive")
            head = f"| get from the file | {transport} | 4 KiB | {us(row['p50_ns'])} | {us(row['p99_ns'])} |"
            if bare is None:
                yield f"{head} {SKIPPED}: no direct I/O there | | | | | |"
                continue
            most, ratio = latency_ratio(row, bare, 1, 15_000)
            yield (f"{head} {us(bare['p50_ns'])} | {us(bare['p99_ns'])} | | {us(most)} | {ratio} | "
                   f"{verdict(row['is_right'] and ratio.median <= 1)} |")
    server.end()
    store.unlink()
    floor.unlink()


# --- TCP ---


def figure_tcp_limit(run):
    """get and put over loopback TCP beside the bare pair, CPU time too."""
    yield "\n### Over loopback TCP to the limit, from memory\n"
    yield ("A client in the calling thread, 8 in flight. At least 0.95 of a bare socket pair with as many "
           "connections (`verify` = `all`: 0.85); 64 MiB at least 0.97 of the best size; CPU of both sides together "
           "at most 1.10 of the pair's with `none`. "
           f"{run.rounds} rounds, each with all sizes in turn; {INTERVAL}\n")
    yield ("| op | verify | size | lanes | GiB/s | socket pair | ratio | CPU s/GiB, both | pair's | "
           "ratio of CPU | ratio to the best size | |")
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    sizes = (64 * KIB, 2 * MIB, 64 * MIB) if run.is_quick else (64 * KIB, 512 * KIB, 2 * MIB, 16 * MIB, 64 * MIB)
    for verify in ("none", "all"):
        server = start(run, "tcp-limit", ["--memory", f"{2 * len(sizes) if run.is_quick else 8}GiB", "--segment-size", "256MiB"],
                       "--verify", verify)
        for lanes in run.lanes:
            rows = cells(run, server, "tcp", "--ops", "put,get" if verify == "none" else "get", "--sizes",
                         sizes_of(*sizes), "--lanes", lanes, "--floor-only", "socket")
            for row in rows:
                yield limit_row(row, [other for other in rows if other["op"] == row["op"]], verify, lanes)
        server.end()


def limit_row(row, same, verify, lanes):
    """same: the row and its other sizes."""
    floor, to_best = row["socket"], ""
    ratio = pairs.to_floor(row, "socket")
    is_ok = row["is_right"] and ratio.median >= (0.95 if verify == "none" else 0.85)
    if row["size"] == 64 * MIB:
        to_best, _ = pairs.to_best(row, same)
        is_ok = is_ok and to_best.median >= 0.97
    part = pairs.to_most(pairs.cpu(row), pairs.of(floor, "cpu_s_per_gib"))
    if verify == "none":
        is_ok = is_ok and part.median <= 1.10
    return (f"| {row['op']} | {verify} | {name_of(row['size'])} | {lanes} | {gib(row['bytes_per_s'])} | "
            f"{gib(floor['bytes_per_s'])} | {ratio} | {cpu(row):.3f} | {floor['cpu_s_per_gib']:.3f} | "
            f"{part} | {to_best} | {verdict(is_ok)} |")


# --- more than memory ---


def figure_big(run):
    """Far more data than memory, random gets."""
    data, buffers = (2 << 10, "128MiB") if run.is_quick else (8 << 10, "512MiB")
    yield f"\n### {data >> 10} GiB of data on {buffers} of memory, random gets of 2 MiB\n"
    yield ("8 in flight, `verify` = `medium`. At least 0.95 of the smaller of the bare drive (direct I/O at random "
           "places of the same file, same depth) and the transport: the socket pair, or memcpy. "
           f"{run.rounds} rounds; {INTERVAL}\n")
    yield "| over | GiB/s | drive | transport | ratio to the smaller | p99 | CPU s/GiB, both | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    store = run.folder / "big.store"
    server = start(run, "big", [store, "--size", f"{data * 5 // 4}MiB"], "--buffers", buffers)
    for transport in run.transport:
        for row in cells(run, server, transport, "--ops", "get", "--sizes", "2MiB", "--random", "--floor-file",
                         store, "--floor-only", f"drive,{'memcpy' if transport == 'shm' else 'socket'}", working_set=f"{data}MiB"):
            way = "memcpy" if transport == "shm" else "socket"
            if "drive" not in row:
                yield f"| {transport} | {gib(row['bytes_per_s'])} | {SKIPPED}: no direct I/O there | | | | | |"
                continue
            smaller = min(("drive", way), key=lambda name: row[name]["bytes_per_s"])  # pylint: disable=W0640
            ratio = pairs.to_floor(row, smaller)
            yield (f"| {transport} | {gib(row['bytes_per_s'])} | {gib(row['drive']['bytes_per_s'])} | "
                   f"{gib(row[way]['bytes_per_s'])} | {ratio} | {row['p99_ns'] / 1e6:.2f} ms | {cpu(row):.3f} | "
                   f"{verdict(row['is_right'] and ratio.median >= 0.95)} |")
    server.end()
    store.unlink()


# --- memory of the server ---

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def memory_of(server):
    """Resident bytes, huge pages (which are not among them) included."""
    text = pathlib.Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return sum(int(kib) << 10 for kib in re.findall(r"^(?:VmRSS|HugetlbPages):\s+(\d+) kB", text, re.M))


def figure_memory(run):
    """What the server takes, what it said, and what it has after a load."""
    yield "\n### Memory of the server process\n"
    yield "Resident when ready beside what `start` printed, and after gets and puts by 4 clients: within 1 %.\n"
    yield "| when | MiB | printed, MiB | ratio | |\n| --- | --- | --- | --- | --- |"
    server = start(run, "memory", ["--memory", "3GiB"], "--verify", "none")
    number, unit = re.search(r"^memory\s+([\d.]+) (\w+) in all", server.printed, re.M).groups()
    printed = float(number) * UNITS[unit]
    ready = memory_of(server)
    yield memory_row("ready", ready, printed, printed)
    for transport in run.transport:
        cells(run, server, transport, "--ops", "put,get", "--sizes", "64KiB,2MiB", "--no-floors", clients=4,
              working_set="512MiB")
        yield memory_row(f"after a load over {transport}, beside ready", memory_of(server), printed, ready)
    server.end()


def memory_row(when, size, printed, base):
    return (f"| {when} | {size / MIB:,.1f} | {printed / MIB:,.1f} | {size / base:.3f} | "
            f"{verdict(0.99 <= size / base <= 1.01)} |")


# --- full, and just started ---


def figure_near_full(run):
    """Reclaim all the time."""
    yield "\n### A full store: gets and puts of 2 MiB while reclaim works all the time\n"
    yield ("A store of 3 GiB on the drive, filled once over before; gets of 256 MiB of blocks, 8 in flight, while "
           "puts come at 256 MiB/s. Every block that was got stays; p99 at most 3 times that without puts, which is "
           f"measured before or behind it in turn, {run.rounds} times; {INTERVAL}\n")
    yield "| over | puts, GiB/s | p50 alone | beside | p99 alone | beside | ratio | written a byte put | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    store = run.folder / "near-full.store"
    server = start(run, "near-full", [store, "--size", "3GiB"], "--buffers", "256MiB")
    server.bench("--ops", "fill", "--sizes", "2MiB", "--fill", 1700, "--working-set", "256MiB")
    for keys, transport in enumerate(run.transport, 1):
        times = beside_puts(run, server, "--caller-driven", "--sizes", "2MiB", "--write-rate", "256MiB", keys=keys,
                            transport=transport, working_set="256MiB")
        stat = server.stat()
        written = stat["ctxkv_store_written_bytes_total"] / stat["ctxkv_store_put_bytes_total"]
        yield (f"| {transport} | {gib(times.written)} | {times.cells} | {times.ratio} | {written:.3f} | "
               f"{verdict(times.is_right and times.ratio.median <= 3)} |")
    server.end()
    store.unlink()


def figure_cold(run):
    """The first gets after a restart, index and cache cold."""
    data, rounds = (512, 3) if run.is_quick else (2048, run.rounds)
    yield "\n### Gets of 64 KiB right after a restart, index and cache cold\n"
    yield (f"{data} MiB of blocks on the drive, 64 MiB of buffers, 8 in flight: for a short time right after a clean "
           f"stop and a start, and the same blocks again then; {rounds} restarts. Every block is there; cold at "
           f"least 0.8 of warm; {INTERVAL}\n")
    yield "| over | ready | cold, GiB/s | p50 | p99 | warm, GiB/s | ratio | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    store = run.folder / "cold.store"
    server = start(run, "cold", [store, "--size", f"{data * 2 + 1024}MiB"], "--buffers", "64MiB")
    for keys, transport in enumerate(run.transport, 1):
        def gets(duration, words=("--caller-driven", "--ops", "get", "--sizes", "64KiB", "--keys", keys,
                                  "--no-floors"), over=transport):
            row, = bench_rows(run, server, *words, transport=over, working_set=f"{data}MiB", duration=duration,
                              rounds=1)
            return row
        rows = [gets("100ms")]  # puts them
        ready = []
        for _ in range(rounds):
            server.end()
            drop_caches()
            ready.append(server.start()[0])
            # Less than once through all of them, at up to 2 GiB/s.
            rows += [gets(f"{data // 4}ms"), gets(f"{data // 4}ms")]
        yield cold_row(rows, ready, transport)
    server.end()
    store.unlink()


def cold_row(rows, ready, transport):
    """rows: that which put, then one cold and one warm in turn."""
    cold, warm = rows[1::2], rows[2::2]
    rates = [[row["bytes_per_s"] for row in side] for side in (cold, warm)]
    ratio = pairs.ratio_of(pairs.divided(*rates))
    is_ok = (not any(row["failures"] or row["wrong"] for row in rows) and ratio.median >= 0.8 and
             all(row["set_found"] for row in rows[1:]))
    return (f"| {transport} | {median(ready):.2f} s | {gib(median(rates[0]))} | "
            f"{us(median([row['p50_ns'] for row in cold]))} | {us(median([row['p99_ns'] for row in cold]))} | "
            f"{gib(median(rates[1]))} | {ratio} | {verdict(is_ok)} |")


FIGURES = {"shm-memory": figure_shm_memory, "shm-medium": figure_shm_medium, "latency": figure_latency,
           "tcp-limit": figure_tcp_limit, "big": figure_big, "memory": figure_memory,
           "near-full": figure_near_full, "cold": figure_cold}
