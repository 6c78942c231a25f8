# SPDX-License-Identifier: Apache-2.0
"""vLLM's `fs` tier code: its thread pool and its batch functions (the C ones where the wheel has
them), as its FileSystemTierManager uses them; a job is a batch's share of a walk."""
import functools
import os
import queue

import pyload
from vllm.v1.kv_offload.tiering.fs import io
from vllm.v1.kv_offload.tiering.fs.thread_pool import DualQueueThreadPool

try:
    from vllm.fs_io_C import batch_lookup
except ImportError:
    batch_lookup = None

THREADS = 16  # of each kind, the tier's default


class Store(pyload.Store):
    def __init__(self, target, memory):
        super().__init__(target, memory)
        self.view = memoryview(memory)
        self.pool = DualQueueThreadPool(THREADS, THREADS)
        self.jobs = 0
        self.use(target)

    def use(self, target):
        self.folder = target["folder"]
        self.is_direct = io.probe_o_direct(self.folder)
        for number in range(256):
            os.makedirs(f"{self.folder}/{number:02x}", exist_ok=True)

    def path(self, name):
        return f"{self.folder}/{name[:2]}/{name}.bin"

    def task(self, move, walk, index, done):
        """One block; a failure is the block's own."""
        try:
            move([self.path(walk.names[index])], self.view, [walk.addresses[index] - self.base],
                 walk.size, self.is_direct)
            walk.status[index] = pyload.OK
        except FileNotFoundError:
            walk.status[index] = pyload.MISSING
        except Exception:
            walk.status[index] = pyload.FAILED
            raise
        finally:
            done.put(index)

    def run(self, enqueue, move, walk):
        """walk.batch jobs of a block in flight."""
        done = queue.SimpleQueue()
        in_flight = 0
        for index in range(len(walk.names)):
            if walk.is_over():
                break
            if in_flight == walk.batch:
                done.get()
                in_flight -= 1
            self.jobs += 1
            enqueue(self.jobs, 1, [functools.partial(self.task, move, walk, index, done)])
            in_flight += 1
        for _ in range(in_flight):
            done.get()
        self.pool.wait_idle()
        self.pool.get_finished()

    def put(self, walk):
        self.run(self.pool.enqueue_store, io.batch_store_block, walk)

    def get(self, walk):
        self.run(self.pool.enqueue_load, io.batch_load_block, walk)

    def probe(self, keys):
        paths = [self.path(name) for name in keys]
        if batch_lookup is not None:
            return list(batch_lookup(paths))
        return [os.path.exists(path) for path in paths]

    def drop(self, names):
        for name in names:
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))


pyload.main(Store)
