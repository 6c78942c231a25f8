# SPDX-License-Identifier: Apache-2.0
"""Mooncake Store by its own library: batches into and from memory that its server reaches without
a copy of ours: registered (tcp), or of the pool that both sides map (shm)."""
import pyload
from mooncake.store import MooncakeDistributedStore

OBJECT_NOT_FOUND = -704
LOCAL_BUFFER = 16 << 20


class Store(pyload.Store):
    def __init__(self, target, memory):
        super().__init__(target, memory)
        self.store = MooncakeDistributedStore()
        code = self.open_shm() if self.target["is_shm"] else self.open_tcp()
        if code == 0:
            code = self.store.register_buffer(self.base, len(memory))
        if code != 0:
            raise SystemExit(f"Mooncake's setup: {code}")

    def open_tcp(self):
        """No segment of its own: the blocks live in the server's."""
        return self.store.setup(self.target["host"], self.target["metadata"], 0, LOCAL_BUFFER,
                                "tcp", "", self.target["master"])

    def open_shm(self):
        code = self.store.setup_dummy(len(self.memory) + LOCAL_BUFFER, LOCAL_BUFFER,
                                      self.target["service"])
        if code == 0:
            self.base = self.store.alloc_from_mem_pool(len(self.memory))
        return code

    def put(self, walk):
        for part in walk.batches():
            codes = self.store.batch_put_from([walk.names[i] for i in part],
                                              [walk.addresses[i] for i in part],
                                              [walk.size] * len(part))
            walk.settle(part, (pyload.OK if code == 0 else pyload.FAILED for code in codes))

    def get(self, walk):
        for part in walk.batches():
            codes = self.store.batch_get_into([walk.names[i] for i in part],
                                              [walk.addresses[i] for i in part],
                                              [walk.size] * len(part))
            walk.settle(part, (pyload.OK if code == walk.size else
                               pyload.MISSING if code == OBJECT_NOT_FOUND else pyload.FAILED
                               for code in codes))

    def probe(self, keys):
        return [code == 1 for code in self.store.batch_is_exist(keys)]

    def drop(self, names):
        self.store.batch_remove(names, True)


pyload.main(Store)
