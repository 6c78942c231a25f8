# SPDX-License-Identifier: Apache-2.0
"""What is measured, and in which order: rounds in which each peer has its turn, forwards and
backwards in turn, so that what the machine does meanwhile meets all of them alike.

Memory cells: a store that is full already (one that forgets by itself), each round puts a working
set of new blocks and gets them. Medium cells: rounds put the data, half by one client and half by
several; then rounds get scattered blocks of it; then the store is stopped and started, and killed
in the middle of a put. Every block that is got is checked, outside the clock.

Fair means: as many blocks in flight for all, in memory of the same kind of pages (load.c; a drive
that reads into small pages can be three times as slow), written in the same run, walked in the same
order, in memory of the same size. What is not alike stands in docs/peers.md.
"""
import dataclasses
import os
import pathlib
import shutil
import time
import traceback

from .peer import PeerFailed, Setup

ROUNDS_MIN = 2
KILL_AT = 0.4  # of the time that a put of the working set is expected to take


@dataclasses.dataclass
class Options:
    sizes: list  # bytes of a block, memory cells
    medium_sizes: list
    clients: list  # how many; the first is 1
    rounds: int
    working_set: int  # bytes that a round moves
    store: int  # bytes of a store in memory
    data: int  # bytes put in medium cells …
    memory: int  # … on so much memory
    limit_ms: int  # of one put or get
    probes: int  # calls of a round
    kept_size: int  # the block size at which restart and kill -9 are tried
    deadline: float  # monotonic; no cell begins later, and no round but the first ones


class Results:
    """rows: dicts, in the order of measuring; each has kind, peer and what tells its cell."""

    def __init__(self, say):
        self.rows = []
        self.say = say

    def add(self, kind, peer, **values):
        self.rows.append({"kind": kind, "peer": peer.name, "transport": peer.transport, **values})

    def cell(self, cell, peer, samples, error=None):
        """samples: in order of rounds, None for a round that failed."""
        good = [sample for sample in samples if sample is not None]
        gib = sum(sample.bytes for sample in good) / 2**30
        asked = sum(sample.done + sample.missing + sample.failed for sample in good)
        self.add("rate", peer, **cell, error=error,
                 rates=[sample.rate if sample else None for sample in samples],
                 server_cpu=sum(sample.server_cpu_s for sample in good) / gib if gib else None,
                 client_cpu=sum(sample.client_cpu_s for sample in good) / gib if gib else None,
                 asked=asked, done=sum(sample.done for sample in good),
                 failed=sum(sample.failed for sample in good),
                 wrong=sum(sample.wrong for sample in good))


class Field:
    """The peers that take part in a setup; one that fails leaves it, and its reason stays."""

    def __init__(self, peers, mode, results):
        self.results = results
        self.mode = mode
        self.errors = {}
        self.state = {peer.name: {} for peer in peers}
        self.all = [peer for peer in peers if mode in peer.modes]
        self.alive = list(self.all)

    def attempt(self, peer, step, *arguments):
        """step(peer, ...), or None when the peer fails; what it raises never ends the run."""
        try:
            with peer.turn():
                return step(peer, *arguments)
        except Exception as error:  # a peer's module is not trusted either
            if not isinstance(error, PeerFailed):
                traceback.print_exc()
            self.errors[peer.name] = str(error) or type(error).__name__
            self.results.say(f"{peer.name} failed: {self.errors[peer.name]}")
            self.alive.remove(peer)
            try:
                peer.end()
            except Exception:
                traceback.print_exc()
            return None

    def turns(self, number):
        """The peers still in it, for a round."""
        return list(self.alive) if number % 2 == 0 else list(reversed(self.alive))

    def start(self, setup_of):
        for peer in self.all:
            self.attempt(peer, lambda peer: peer.start(setup_of(peer)))

    def end(self):
        for peer in list(self.alive):
            self.attempt(peer, lambda peer: peer.rest())


# --- steps of one peer; state: its own dict ---


def put_new(peer, state, options, clients, size, total):
    """Put total bytes of blocks never put before, a share of each client; remembers the ranges."""
    count = max(1, total // size // clients)
    first = state.get("next", 0)
    state["next"] = first + count * clients
    ranges = [(first + index * count, count) for index in range(clients)]
    sample = peer.put(ranges, size, options.limit_ms)
    state["ranges"] = [(begin, tried) for (begin, _), tried in zip(ranges, sample.tried)]
    if min(sample.tried) == 0:
        raise PeerFailed(f"a client put nothing in {options.limit_ms / 1e3:.0f} s")
    return sample


def get_back(peer, state, options, clients, size, turn):
    """Get a working set out of what was put, scattered."""
    count = max(1, options.working_set // size // clients)
    ranges = state["ranges"][:clients]
    return peer.get(ranges, size, options.limit_ms, min(count, min(span for _, span in ranges)),
                    turn)


def memory_step(peer, state, options, clients, size, turn):
    """(put, get) of one round."""
    pair = (put_new(peer, state, options, clients, size, options.working_set),
            get_back(peer, state, options, clients, size, turn))
    state["rss"] = max(state.get("rss", 0), peer.rss())
    peer.drop(state["ranges"])
    return pair


def warm_up(peer, state, options, size):
    """A cache is full nearly all of its life; one that does not forget has had all its memory."""
    filled = []
    if not peer.has_server:
        return
    for _ in range(-(-options.store // options.working_set)):
        put_new(peer, state, options, 1, size, options.working_set)
        filled.append(state["ranges"])
    for ranges in filled:
        peer.drop(ranges)


def data_put(peer, state, options, clients, size, _turn):
    """A part of the half that so many clients put; a client's blocks are in a row."""
    part = max(1, options.working_set // size // clients)
    if clients not in state:
        span = options.data // 2 // size // clients + part
        first = state.get("next", 0)
        state["next"] = first + span * clients
        state[clients] = [(first + index * span, 0) for index in range(clients)]
    ranges = [(first + done, part) for first, done in state[clients]]
    sample = peer.put(ranges, size, options.limit_ms)
    state[clients] = [(first, done + tried)
                      for (first, done), tried in zip(state[clients], sample.tried)]
    if min(sample.tried) == 0:
        raise PeerFailed(f"a client put nothing in {options.limit_ms / 1e3:.0f} s")
    state["rss"] = max(state.get("rss", 0), peer.rss())
    return sample


def data_get(peer, state, options, clients, size, turn):
    state["ranges"] = state[clients]
    sample = get_back(peer, state, options, clients, size, turn)
    state["rss"] = max(state.get("rss", 0), peer.rss())
    return sample


def restart(peer, state, options, size):
    """Share of blocks that a stop and a start leave."""
    peer.stop()
    peer.restart()
    return data_get(peer, state, options, 1, size, 1)


def kill(peer, state, options, size):
    """kill -9 in the middle of a put: (what was acknowledged before, what was under way)."""
    begin = time.monotonic()
    sample = put_new(peer, state, options, 1, size, options.working_set)
    preparing = time.monotonic() - begin - sample.seconds
    before = state["ranges"]
    count = max(1, options.working_set // size)
    under_way = (state["next"], count)
    state["next"] += count
    peer.clients[0].say(f"put {size} {options.limit_ms} {under_way[0]} {count}")
    time.sleep(preparing + KILL_AT * sample.seconds)
    peer.kill()
    peer.restart()
    state["ranges"] = before
    acknowledged = get_back(peer, state, options, 1, size, 0)
    state["ranges"] = [under_way]
    return acknowledged, get_back(peer, state, options, 1, size, 0)


# --- cells ---


def rounds_run(field, step, clients, size, options, count):
    """count rounds, fewer when time is up; {peer: list of what its steps gave}, for all that began."""
    results = {peer.name: [] for peer in field.alive}
    for number in range(count):
        if number >= ROUNDS_MIN and time.monotonic() > options.deadline:
            field.results.say(f"out of time: {number} rounds instead of {count}")
            break
        for peer in field.turns(number):
            got = field.attempt(peer, step, field.state[peer.name], options, clients, size, number)
            if got is not None:
                results[peer.name].append(got)
    return results


def cell_add(field, op, size, clients, taken, gets):
    """kept: the share of what was put that the gets of the cell found."""
    for peer in field.all:
        cell = {"mode": field.mode, "op": op, "size": size, "clients": clients,
                "kept": share(gets.get(peer.name, []))}
        field.results.cell(cell, peer, taken.get(peer.name, []), field.errors.get(peer.name))


def memory_cells(peers, options, results, folder):
    for size in options.sizes:
        if time.monotonic() > options.deadline:
            results.say(f"out of time: no memory cells of {size >> 10} KiB")
            continue
        results.say(f"in memory, {size >> 10} KiB")
        field = Field(peers, "memory", results)
        field.start(lambda peer: Setup("memory", folder / peer.name.replace(" ", "-"),
                                       options.store, options.store, size))
        for peer in list(field.alive):
            field.attempt(peer, warm_up, field.state[peer.name], options, size)
        for clients in options.clients:
            taken = rounds_run(field, memory_step, clients, size, options, options.rounds)
            puts, gets = ({name: [pair[index] for pair in pairs] for name, pairs in taken.items()}
                          for index in (0, 1))
            cell_add(field, "put", size, clients, puts, gets)
            cell_add(field, "get", size, clients, gets, gets)
        if size == options.kept_size or len(options.sizes) == 1:
            probe_cells(field, options, size, results)
        memory_add(field, size, results)
        field.end()


def probe_step(peer, state, options, _clients, _size, _turn):
    first, span = state["ranges"][0]
    return peer.probe(first, span, options.probes)


def probe_cells(field, options, size, results):
    for peer in list(field.alive):
        field.attempt(peer, put_new, field.state[peer.name], options, 1, size, options.working_set)
    taken = rounds_run(field, probe_step, 1, size, options, options.rounds)
    for peer in field.all:
        answers = taken.get(peer.name, [])
        results.add("probe", peer, error=field.errors.get(peer.name),
                    p50_us=[answer["p50_ns"] / 1e3 for answer in answers],
                    p99_us=[answer["p99_ns"] / 1e3 for answer in answers],
                    missing=sum(answer["missing"] for answer in answers),
                    wrong=sum(answer["wrong"] for answer in answers),
                    failed=sum(answer["failed"] for answer in answers))
    for peer in list(field.alive):
        field.attempt(peer, lambda peer: peer.drop(field.state[peer.name]["ranges"]))


def memory_add(field, size, results):
    for peer in field.all:
        if peer.has_server and "rss" in field.state[peer.name]:
            results.add("growth", peer, mode=field.mode, size=size, ready=peer.rss_ready,
                        most=field.state[peer.name]["rss"])


def medium_cells(peers, options, results, folder):
    # Last the one whose stores are stopped and killed: clients that live on must start anew then.
    for size in sorted(options.medium_sizes, key=lambda size: size == options.kept_size):
        if time.monotonic() > options.deadline:
            results.say(f"out of time: no medium cells of {size >> 10} KiB")
            continue
        field = Field(peers, "medium", results)
        data = data_that_fits(options, folder, len(field.all))
        if data < options.data:
            results.say(f"the drive has room for {data >> 20} MiB a store only")
            options.data = data
        results.say(f"{options.data >> 20} MiB on {options.memory >> 20} MiB, {size >> 10} KiB")
        field.start(lambda peer: Setup("medium", folder / peer.name.replace(" ", "-"),
                                       options.memory,
                                       options.data + 4 * options.working_set, size))
        parts = max(1, options.data // len(options.clients) // options.working_set)
        puts = {clients: rounds_run(field, data_put, clients, size, options, parts)
                for clients in options.clients}
        os.sync()  # what the page cache owes the drive is not written while others read
        gets = {clients: rounds_run(field, data_get, clients, size, options, options.rounds)
                for clients in options.clients}
        for clients in options.clients:
            cell_add(field, "put", size, clients, puts[clients], gets[clients])
            cell_add(field, "get", size, clients, gets[clients], gets[clients])
        memory_add(field, size, results)
        if size == options.kept_size or len(options.medium_sizes) == 1:
            kept_cells(field, options, size, gets, results)
        for peer in field.all:
            if peer.is_cached and peer.group is None and peer.name not in field.errors:
                results.say(f"{peer.name}: its page cache is not bounded here (no cgroup)")
        field.end()


def data_that_fits(options, folder, stores):
    """Four fifths of the drive's free space at most, for all stores together."""
    free = shutil.disk_usage(folder).free * 4 // 5 // max(1, stores) - 4 * options.working_set
    return max(min(options.data, free), 2 * options.working_set)


def kept_cells(field, options, size, gets, results):
    for peer in field.all:
        row = {"error": None}
        if peer in field.alive:
            filled = gets[1].get(peer.name, [])
            row["filled"] = share(filled)
            state = field.state[peer.name]
            again = field.attempt(peer, restart, state, options, size)
            row["restarted"] = share([again])
            killed = field.attempt(peer, kill, state, options, size) if again else None
            if killed:
                row["killed"], row["under_way"] = share([killed[0]]), share([killed[1]])
            row["wrong"] = sum(sample.wrong for sample in [*filled, again, *(killed or ())]
                               if sample is not None)
        row["error"] = field.errors.get(peer.name)
        results.add("kept", peer, size=size, **row)


def share(samples):
    """Of the blocks asked for, those that came and were right."""
    samples = [sample for sample in samples if sample is not None]
    asked = sum(sample.done + sample.missing + sample.failed for sample in samples)
    return sum(sample.done - sample.wrong for sample in samples) / asked if asked else None


def folders(disk, shm):
    """(memory, medium) folders of this run, made."""
    made = []
    for parent in (shm, disk):
        path = pathlib.Path(parent) / f"ctxkv-peers-{time.time_ns()}"
        path.mkdir(parents=True)
        made.append(path)
    return made
