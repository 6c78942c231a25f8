# SPDX-License-Identifier: Apache-2.0
"""Figures of "as fast as the machine": shared memory and TCP beside their floors, CPU time, latency,
memory, a store that is nearly full, one that has just started.

Clients do their work in the calling thread (`bench --caller-driven`), so that a client is a thread,
as either side of a floor is. A reactor, not pinned, unless said otherwise.
"""
import os
import pathlib
import re
import time

from server import Server, bench_rows, drop_caches, gib, make_floor, verdict

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


def cells(run, server, transport, *arguments, working_set="1GiB", clients=1):
    rows = bench_rows(run, server, "--caller-driven", "--cpu-of", server.process.pid,
                      "--clients", clients, *arguments, transport=transport, working_set=working_set,
                      duration=run.cell)
    for row in rows:
        row["is_right"] = row["failures"] == row["wrong"] == 0 and row["transport"] == transport
    return rows


def ratio(floor):
    return f"{floor['ratio']:.2f} ({floor['ratio_min']:.2f}-{floor['ratio_max']:.2f})"


def us(ns):
    return f"{ns / 1e3:.1f} us"


def cpu(row):
    """Both sides together."""
    return row["cpu_s_per_gib"] + row["server_cpu_s_per_gib"]


# --- shared memory ---


def figure_shm_memory(run):
    """get and put over shared memory beside memcpy."""
    yield "\n### Over shared memory, from memory, beside memcpy\n"
    yield ("`verify` = `none`, a reactor, clients in the calling thread, 8 in flight of each; memcpy by one "
           "thread over the same shared mappings, touched before. get at least 0.95 of it, put 0.90; 64 KiB, 32 "
           "in flight: 0.85 of its copies a second.\n")
    yield "| op | size | clients | GiB/s | memcpy | ratio (lowest-highest) | a second | CPU s/GiB, both | memcpy's | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    sizes = (512 * KIB, 2 * MIB, 16 * MIB) if run.is_quick else (512 * KIB, MIB, 2 * MIB, 4 * MIB, 16 * MIB)
    server = start(run, "shm-memory", ["--memory", "5GiB", "--segment-size", "256MiB"], "--verify", "none")
    for clients in (1, 4):
        for row in cells(run, server, "shm", "--ops", "put,get", "--sizes", sizes_of(*sizes), clients=clients):
            yield shm_row(row, 0.95 if row["op"] == "get" else 0.90)
    for row in cells(run, server, "shm", "--ops", "get", "--sizes", "64KiB", "--batch", 32):
        yield shm_row(row, 0.85)
    server.end()


def shm_row(row, bar):
    floor = row["memcpy"]
    is_ok = row["is_right"] and floor["ratio"] >= bar
    return (f"| {row['op']} | {name_of(row['size'])} | {row['clients']} | {gib(row['bytes_per_s'])} | "
            f"{gib(floor['bytes_per_s'])} | {ratio(floor)} | {row['bytes_per_s'] / row['size']:,.1f} | "
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
    yield ("256 MiB of buffers. Beside the same direct I/O by io_uring (size, depth; puts: an fdatasync every 8). "
           "get at least 0.97 of it with `verify` = `none` and 0.95 with `medium`; put durable 0.95; CPU of both "
           "sides together at most 0.01 s a GiB for get with `none`. On the drive and on a file in memory (tmpfs).\n")
    yield "| op | file on | verify | size | GiB/s | bare | ratio (lowest-highest) | CPU s/GiB, both | bare | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    sizes = (MIB, 16 * MIB) if run.is_quick else (MIB, 4 * MIB, 16 * MIB)
    for medium, folder in media_of(run, (2 * data + 2) << 30):
        floor, store = folder / f"ctxkv-floor-{os.getpid()}", folder / f"ctxkv-store-{os.getpid()}"
        try:
            make_floor(floor, data << 29)
            for ops, verify in (("get", "none"), ("get,put-durable", "medium")):
                server = start(run, "shm-medium", [store, "--size", f"{data}GiB", "--segment-size", "64MiB"],
                               "--buffers", "256MiB",
                               "--verify", verify)
                for row in cells(run, server, "shm", "--ops", ops, "--sizes", sizes_of(*sizes), "--floor-file",
                                 floor, working_set=f"{data << 8}MiB"):
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
    is_ok = row["is_right"] and floor["ratio"] >= bar
    if verify == "none":
        is_ok = is_ok and cpu(row) <= 0.01
    return (f"{head} {gib(floor['bytes_per_s'])} | {ratio(floor)} | {cpu(row):.4f} | "
            f"{floor['cpu_s_per_gib']:.4f} | {verdict(is_ok)} |")


# --- latency ---


def figure_latency(run):
    """One at a time: probes, small gets, gets of 2 MiB."""
    entries = 200_000 if run.is_quick else 1_000_000
    yield "\n### One at a time, both sides awake\n"
    yield (f"A client in the calling thread, `--spin 50us`, {entries:,} blocks of 4 KiB in the index. A probe asks "
           "for 256 keys, half of them present. The ping-pong moves the same bytes between two threads over a bare "
           "loopback connection, asleep in between and awake; the faster counts. Probe: shm at most 10 us, TCP the "
           "ping-pong + 12 us; 4 KiB: shm 15 us, TCP 1.3 of the ping-pong; 2 MiB: p50 at most 1.1 of the "
           "ping-pong (shm: of memcpy), p99 at most 3 times p50; from the medium: the drive's p50 + 15 us.\n")
    yield "| op | over | size | p50 | p99 | floor p50 | floor p99 | asleep p50 | at most | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    server = start(run, "latency", ["--memory", f"{4 * entries // 700_000 + 3}GiB", "--segment-size", "64MiB"],
                   "--verify", "none", "--spin", "50us", "--index-entries", 2 * entries)
    server.command("bench", "--url", server.url, "--ops", "fill", "--sizes", "4KiB", "--fill", entries,
                   "--working-set", "256MiB", "--batch", 256)
    for transport in run.transport:
        for row in cells(run, server, transport, "--ops", "probe,get", "--sizes", "4KiB", "--batch", 1, "--lanes", 1,
                         working_set="256MiB"):
            yield latency_row(row, transport)
        for row in cells(run, server, transport, "--ops", "get", "--sizes", "2MiB", "--batch", 1, "--lanes", 1,
                         working_set="512MiB"):
            yield latency_row(row, transport)
    server.end()
    yield from latency_medium(run)


def latency_row(row, transport):
    asleep, awake = row["pingpong"], row["pingpong_awake"]
    floor = min((asleep, awake), key=lambda one: one["p50_ns"])
    if row["op"] == "probe":
        most = 10_000 if transport == "shm" else floor["p50_ns"] + 12_000
    elif row["size"] >= MIB:
        floor = row["memcpy"] if transport == "shm" else floor
        most = 1.1 * floor["p50_ns"]
    else:
        most = 15_000 if transport == "shm" else 1.3 * floor["p50_ns"]
    is_ok = row["is_right"] and row["p50_ns"] <= most
    if row["op"] == "get" and row["size"] >= MIB:
        is_ok = is_ok and row["p99_ns"] <= 3 * row["p50_ns"]
    what = "256 keys" if row["op"] == "probe" else name_of(row["size"])
    return (f"| {row['op']} | {transport} | {what} | {us(row['p50_ns'])} | {us(row['p99_ns'])} | "
            f"{us(floor['p50_ns'])} | {us(floor['p99_ns'])} | {us(asleep['p50_ns'])} | {us(most)} | "
            f"{verdict(is_ok)} |")


def latency_medium(run):
    """4 KiB from the file: a working set beyond the cache."""
    floor, store = run.folder / "latency.floor", run.folder / "latency.store"
    make_floor(floor, 1 << 30)
    server = start(run, "latency-medium", [store, "--size", "3GiB"], "--buffers", "64MiB", "--verify", "none",
                   "--spin", "50us")
    for transport in run.transport:
        for row in cells(run, server, transport, "--ops", "get", "--sizes", "4KiB", "--batch", 1, "--lanes", 1,
                         "--floor-file", floor, working_set="512MiB"):
            bare = row.get("drive")
            head = f"| get from the file | {transport} | 4 KiB | {us(row['p50_ns'])} | {us(row['p99_ns'])} |"
            if bare is None:
                yield f"{head} {SKIPPED}: no direct I/O there | | | | |"
                continue
            most = bare["p50_ns"] + 15_000
            yield (f"{head} {us(bare['p50_ns'])} | {us(bare['p99_ns'])} | | {us(most)} | "
                   f"{verdict(row['is_right'] and row['p50_ns'] <= most)} |")
    server.end()
    store.unlink()
    floor.unlink()


# --- TCP ---


def figure_tcp_limit(run):
    """get and put over loopback TCP beside the bare pair, CPU time too."""
    yield "\n### Over loopback TCP to the limit, from memory\n"
    yield ("A client in the calling thread, 8 in flight. At least 0.95 of a bare socket pair with as many "
           "connections (`verify` = `all`: 0.85); 64 MiB at least 0.97 of the best size; CPU of both sides together "
           "at most 1.10 of the pair's with `none`.\n")
    yield ("| op | verify | size | lanes | GiB/s | socket pair | ratio (lowest-highest) | CPU s/GiB, both | pair's | "
           "CPU, of the pair's | |")
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    sizes = (64 * KIB, 2 * MIB, 64 * MIB) if run.is_quick else (64 * KIB, 512 * KIB, 2 * MIB, 16 * MIB, 64 * MIB)
    for verify in ("none", "all"):
        server = start(run, "tcp-limit", ["--memory", "5GiB", "--segment-size", "256MiB"], "--verify", verify)
        for lanes in run.lanes:
            rows = cells(run, server, "tcp", "--ops", "put,get" if verify == "none" else "get", "--sizes",
                         sizes_of(*sizes), "--lanes", lanes)
            for row in rows:
                best = max(other["bytes_per_s"] for other in rows if other["op"] == row["op"])
                yield tcp_row(row, verify, lanes, best)
        server.end()


def tcp_row(row, verify, lanes, best):
    floor = row["socket"]
    is_ok = row["is_right"] and floor["ratio"] >= (0.95 if verify == "none" else 0.85)
    if row["size"] == 64 * MIB:
        is_ok = is_ok and row["bytes_per_s"] >= 0.97 * best
    part = cpu(row) / floor["cpu_s_per_gib"]
    if verify == "none":
        is_ok = is_ok and part <= 1.10
    return (f"| {row['op']} | {verify} | {name_of(row['size'])} | {lanes} | {gib(row['bytes_per_s'])} | "
            f"{gib(floor['bytes_per_s'])} | {ratio(floor)} | {cpu(row):.3f} | {floor['cpu_s_per_gib']:.3f} | "
            f"{part:.2f} | {verdict(is_ok)} |")


# --- more than memory ---


def figure_big(run):
    """Far more data than memory, random gets."""
    data, buffers = (2 << 10, "128MiB") if run.is_quick else (8 << 10, "512MiB")
    yield f"\n### {data >> 10} GiB of data on {buffers} of memory, random gets of 2 MiB\n"
    yield ("8 in flight, `verify` = `medium`. At least 0.95 of the smaller of the bare drive (direct I/O at random "
           "places of the same file, same depth) and the transport: the socket pair, or memcpy.\n")
    yield "| over | GiB/s | drive | transport | ratio to the smaller (lowest-highest) | p99 | CPU s/GiB, both | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    store = run.folder / "big.store"
    server = start(run, "big", [store, "--size", f"{data * 5 // 4}MiB"], "--buffers", buffers)
    for transport in run.transport:
        for row in cells(run, server, transport, "--ops", "get", "--sizes", "2MiB", "--random", "--floor-file",
                         store, working_set=f"{data}MiB"):
            way = row["memcpy" if transport == "shm" else "socket"]
            drive = row.get("drive", way)
            smaller = min((drive, way), key=lambda floor: floor["bytes_per_s"])
            yield (f"| {transport} | {gib(row['bytes_per_s'])} | {gib(drive['bytes_per_s'])} | "
                   f"{gib(way['bytes_per_s'])} | {ratio(smaller)} | {row['p99_ns'] / 1e6:.2f} ms | {cpu(row):.3f} | "
                   f"{verdict(row['is_right'] and smaller['ratio'] >= 0.95)} |")
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
           "puts come at 256 MiB/s. Every block that was got stays; p99 at most 3 times that without puts.\n")
    yield "| over | puts, GiB/s | p50 alone | beside | p99 alone | beside | ratio | written a byte put | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    store = run.folder / "near-full.store"
    server = start(run, "near-full", [store, "--size", "3GiB"], "--buffers", "256MiB")
    server.command("bench", "--url", server.url, "--ops", "fill", "--sizes", "2MiB", "--fill", 1700, "--working-set",
                   "256MiB")
    for transport in run.transport:
        alone, beside = cells(run, server, transport, "--ops", "get,mixed", "--sizes", "2MiB", "--write-rate",
                              "256MiB", "--no-floors", working_set="256MiB")
        stat = server.stat()
        written = stat["ctxkv_store_written_bytes_total"] / stat["ctxkv_store_put_bytes_total"]
        part = beside["p99_ns"] / alone["p99_ns"]
        times = [us(row[name]) for name in ("p50_ns", "p99_ns") for row in (alone, beside)]
        is_ok = alone["is_right"] and beside["is_right"] and part <= 3
        yield (f"| {transport} | {gib(beside['written_bytes_per_s'])} | {' | '.join(times)} | {part:.2f} | "
               f"{written:.3f} | {verdict(is_ok)} |")
    server.end()
    store.unlink()


def figure_cold(run):
    """The first gets after a restart, index and cache cold."""
    data = 512 if run.is_quick else 2048
    yield "\n### Gets of 64 KiB right after a restart, index and cache cold\n"
    yield (f"{data} MiB of blocks on the drive, 8 in flight, each got once: right after a clean stop and a start, and "
           "again then. Every block is there; cold at least 0.8 of warm.\n")
    yield "| over | ready | cold, GiB/s | p50 | p99 | warm, GiB/s | ratio | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    store = run.folder / "cold.store"
    server = start(run, "cold", [store, "--size", f"{data * 2 + 1024}MiB"], "--buffers", "64MiB")
    for keys, transport in enumerate(run.transport, 1):
        words = ("--caller-driven", "--ops", "get", "--sizes", "64KiB", "--keys", keys,
                 "--no-floors")
        put = bench_rows(run, server, *words, transport=transport, working_set=f"{data}MiB", duration="100ms", rounds=1)
        server.end()
        drop_caches()
        ready = server.start()[0]
        cold, warm = (bench_rows(run, server, *words, transport=transport, working_set=f"{data}MiB", duration="1s",
                                 rounds=1)[0]
                      for _ in range(2))
        part = cold["bytes_per_s"] / warm["bytes_per_s"]
        is_ok = not any(row["failures"] or row["wrong"] for row in (*put, cold, warm)) and part >= 0.8
        yield (f"| {transport} | {ready:.2f} s | {gib(cold['bytes_per_s'])} | {us(cold['p50_ns'])} | "
               f"{us(cold['p99_ns'])} | {gib(warm['bytes_per_s'])} | {part:.2f} | {verdict(is_ok)} |")
    server.end()
    store.unlink()


FIGURES = {"shm-memory": figure_shm_memory, "shm-medium": figure_shm_medium, "latency": figure_latency,
           "tcp-limit": figure_tcp_limit, "big": figure_big, "memory": figure_memory,
           "near-full": figure_near_full, "cold": figure_cold}
