# SPDX-License-Identifier: Apache-2.0
"""load/load.c for stores whose client is a Python library: same commands, same answers, same content.

A client module has a Store class (below) and ends with pyload.main(ItsStore). Only the moving is
inside the clock. usage of such a module: MODULE TARGET RUN BATCH MEMORY LIBRARY.
"""
import ctypes
import json
import math
import mmap
import os
import resource
import sys
import time

SKIPPED, OK, MISSING, FAILED = range(4)
PROBE_KEYS = 256
IN_FLIGHT = 2 << 20
BATCH_SMALL = 32
ABSENT = 1 << 48
SCATTER_STEP = 2654435761


class Walk:
    """Blocks to move: names (hex keys), where their bytes are, and what became of each."""

    def __init__(self, numbers, names, size, limit_s, batch):
        self.numbers = numbers
        self.names = names
        self.size = size
        self.limit_s = limit_s
        self.batch = max(batch, min(BATCH_SMALL, IN_FLIGHT // max(size, 1)))
        self.until = 0.0  # set when the clock starts
        self.addresses = [0] * len(names)
        self.status = [SKIPPED] * len(names)

    def is_over(self):
        return time.monotonic() >= self.until

    def batches(self):
        """Index ranges of a batch of blocks each, until the time is up."""
        for begin in range(0, len(self.names), self.batch):
            if self.is_over():
                return
            yield range(begin, min(begin + self.batch, len(self.names)))

    def settle(self, indexes, outcomes):
        for index, status in zip(indexes, outcomes):
            self.status[index] = status


class Store:
    """What a client module implements. Memory: an anonymous mapping, address and size."""

    def __init__(self, target, memory):
        self.target = target
        self.memory = memory
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def use(self, target):
        """From now on another, empty place; only for clients that live on between setups."""
        raise NotImplementedError

    def room(self, walk, is_put):
        """Set walk.addresses: where content is written (put) or, if known before, arrives (get)."""
        del is_put
        walk.addresses = [self.base + i * walk.size for i in range(len(walk.names))]

    def put(self, walk):
        raise NotImplementedError

    def get(self, walk):
        raise NotImplementedError

    def keys(self, names):
        """What an engine has already when it asks; outside the clock."""
        return names

    def probe(self, keys):
        """A list of whether each is here."""
        raise NotImplementedError

    def drop(self, names):
        """Forget; not needed where the store does so by itself."""

    def release(self, walk):
        """The blocks were looked at."""


class Load:
    def __init__(self, store, run, batch, library):
        self.store = store
        self.run = run
        self.batch = batch
        self.content = ctypes.CDLL(library)
        self.content.peers_key.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p]
        for name in ("peers_fill", "peers_is_right"):
            getattr(self.content, name).argtypes = [ctypes.c_uint64, ctypes.c_uint64,
                                                    ctypes.c_void_p, ctypes.c_uint64]

    def name(self, number):
        key = ctypes.create_string_buffer(32)
        self.content.peers_key(self.run, number, key)
        return key.raw.hex()

    def walk(self, numbers, size=0, limit_ms=60000):
        numbers = list(numbers)
        return Walk(numbers, [self.name(number) for number in numbers], size, limit_ms / 1e3,
                    self.batch)

    @staticmethod
    def timed(move, walk):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        begin = time.monotonic_ns()
        walk.until = begin / 1e9 + walk.limit_s
        move(walk)
        end = time.monotonic_ns()
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
        done = walk.status.count(OK)
        return {"done": done, "bytes": done * walk.size, "missing": walk.status.count(MISSING),
                "failed": walk.status.count(FAILED), "wrong": 0, "begin_ns": begin, "end_ns": end,
                "cpu_ns": int(cpu * 1e9)}

    def put(self, size, limit_ms, first, count):
        walk = self.walk(range(first, first + count), size, limit_ms)
        self.store.room(walk, True)
        for number, address in zip(walk.numbers, walk.addresses):
            self.content.peers_fill(self.run, number, address, size)
        answer = self.timed(self.store.put, walk)
        self.store.release(walk)
        return answer

    def get(self, size, limit_ms, first, span, count, turn):
        step = SCATTER_STEP % span
        while math.gcd(step, span) != 1:
            step += 1
        begin = turn * (span // 3 + 1)
        walk = self.walk((first + (begin + i * step) % span for i in range(count)), size, limit_ms)
        self.store.room(walk, False)
        answer = self.timed(self.store.get, walk)
        for number, address, status in zip(walk.numbers, walk.addresses, walk.status):
            if status == OK and not self.content.peers_is_right(self.run, number, address, size):
                answer["wrong"] += 1
        self.store.release(walk)
        return answer

    def probe(self, first, span, calls):
        took, answer = [], {"done": calls, "missing": 0, "failed": 0, "wrong": 0, "cpu_ns": 0}
        for call in range(calls):
            names = [self.name(first + (call * PROBE_KEYS + i // 2) % span + i % 2 * ABSENT)
                     for i in range(PROBE_KEYS)]
            keys = self.store.keys(names)
            cpu, begin = time.process_time_ns(), time.monotonic_ns()
            here = self.store.probe(keys)
            took.append(time.monotonic_ns() - begin)
            answer["cpu_ns"] += time.process_time_ns() - cpu
            answer["missing"] += sum(not is_here for is_here in here[0::2])
            answer["wrong"] += sum(bool(is_here) for is_here in here[1::2])
        took.sort()
        return answer | {"p50_ns": took[calls // 2], "p99_ns": took[calls * 99 // 100]}

    def answer(self, line):
        name, _, rest = line.strip().partition(" ")
        if name == "use":
            self.store.use(json.loads(rest))
            return {"done": 0}
        return getattr(self, name)(*map(int, rest.split()))

    def drop(self, first, count):
        return self.timed(lambda walk: self.store.drop(walk.names),
                          self.walk(range(first, first + count)))


def main(store_class):
    target, run, batch, size, library = sys.argv[1:6]
    # Answers go to the real standard output; what libraries print there goes to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    memory = mmap.mmap(-1, int(size))
    memory.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, int(size), mmap.PAGESIZE):
        memory[at] = 1
    load = Load(store_class(json.loads(target), memory), int(run), int(batch), library)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        print(json.dumps(load.answer(line)), file=answers)
    answers.flush()
    os._exit(0)  # some libraries' threads do not end
