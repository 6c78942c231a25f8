# SPDX-License-Identifier: Apache-2.0
"""LMCache's local disk back end, in the process as its engine has it: blocks are memory objects of
its own pinned pool, put by submit_put_task() and got by batched_get_blocking(). O_DIRECT where the
medium is a drive. Its index is the process's: a client finds what it put itself."""
import asyncio
import queue
import threading

import pyload
import torch
from lmcache.utils import CacheEngineKey
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.memory_management import MemoryFormat
from lmcache.v1.metadata import LMCacheMetadata
from lmcache.v1.storage_backend.local_cpu_backend import LocalCPUBackend
from lmcache.v1.storage_backend.local_disk_backend import LocalDiskBackend

GIB = 2**30
PAGE = 4096
POOL_SPARE = 64 << 20
TOKENS = 256  # of a block: its shape is [2, layers, tokens, width]
THREADS = 8  # of the back end; by default 4


def key_of(name):
    return CacheEngineKey("peers", 1, 0, int(name, 16), torch.uint8)


class Store(pyload.Store):
    def __init__(self, target, memory):
        super().__init__(target, memory)
        self.metadata = LMCacheMetadata("peers", 1, 1, 0, 0, torch.uint8, (1, 2, TOKENS, 1, 1))
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.pool = LocalCPUBackend(self.config(target), self.metadata, dst_device="cpu")
        self.disk = None
        self.objects = []
        self.use(target)

    def config(self, target):
        return LMCacheEngineConfig.from_defaults(
            chunk_size=TOKENS, local_cpu=False,
            max_local_cpu_size=(len(self.memory) + POOL_SPARE) / GIB,
            local_disk=target["folder"], max_local_disk_size=4 * target["room"] / GIB,
            extra_config={"use_odirect": target["direct"], "disk_io_threads": THREADS,
                          "local_cpu.pinned_align_bytes": PAGE})

    def use(self, target):
        if self.disk is not None:
            self.disk.close()
        self.disk = LocalDiskBackend(self.config(target), self.loop, self.pool, dst_device="cpu",
                                     metadata=self.metadata)

    def room(self, walk, is_put):
        if not is_put:
            return
        self.objects = [self.pool.allocate(torch.Size([2, 1, TOKENS, walk.size // 2 // TOKENS]), torch.uint8,
                                           MemoryFormat.KV_2LTD, busy_loop=False)
                        for _ in walk.names]
        walk.addresses = [got.tensor.data_ptr() for got in self.objects]

    def put(self, walk):
        done = queue.SimpleQueue()
        in_flight = 0
        for index, name in enumerate(walk.names):
            if walk.is_over():
                break
            if in_flight == walk.batch:
                walk.status[done.get()] = pyload.OK
                in_flight -= 1
            self.disk.submit_put_task(key_of(name), self.objects[index],
                                      lambda _key, index=index: done.put(index))
            in_flight += 1
        for _ in range(in_flight):
            walk.status[done.get()] = pyload.OK

    def get(self, walk):
        for part in walk.batches():
            found = self.disk.batched_get_blocking([key_of(walk.names[i]) for i in part])
            for index, got in zip(part, found):
                walk.status[index] = pyload.MISSING if got is None else pyload.OK
                if got is not None:
                    self.objects.append(got)
                    walk.addresses[index] = got.tensor.data_ptr()

    def release(self, walk):
        for got in self.objects:
            got.ref_count_down()
        self.objects = []

    def keys(self, names):
        return [key_of(name) for name in names]

    def probe(self, keys):
        return [self.disk.contains(key) for key in keys]

    def drop(self, names):
        for name in names:
            self.disk.remove(key_of(name))
        self.disk.current_cache_size = sum(entry.size for entry in self.disk.dict.values())


pyload.main(Store)
