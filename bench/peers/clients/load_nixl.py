# SPDX-License-Identifier: Apache-2.0
"""NIXL's POSIX back end: a file a block, opened and registered for each batch as SGLang's HiCache
does it; O_DIRECT where the medium is a drive. A block is renamed into place when it is written."""
import os
import time

import pyload
from nixl._api import nixl_agent, nixl_agent_config

NAP_S = 20e-6  # between looks at a transfer: its threads need the core


class Store(pyload.Store):
    def __init__(self, target, memory):
        super().__init__(target, memory)
        self.use(target)
        self.name = f"peers-{os.getpid()}"
        self.agent = nixl_agent(self.name, nixl_agent_config(backends=[]))
        self.agent.create_backend("POSIX", {})
        self.agent.register_memory([(self.base, len(memory), 0, "")], "DRAM")

    def use(self, target):
        self.folder = target["folder"]
        self.flags = os.O_DIRECT if target["direct"] else 0

    def path(self, name):
        return f"{self.folder}/{name}"

    def transfer(self, operation, walk, part, files):
        """Move the blocks of part to or from open files; whether it went well."""
        size = walk.size
        memory = self.agent.get_xfer_descs([(walk.addresses[i], size, 0) for i in part], "DRAM")
        registered = self.agent.register_memory([(0, size, fd, "") for fd in files], "FILE")
        handle = self.agent.initialize_xfer(operation, memory, registered.trim(), self.name)
        state = self.agent.transfer(handle)
        while state == "PROC":
            time.sleep(NAP_S)
            state = self.agent.check_xfer_state(handle)
        self.agent.release_xfer_handle(handle)
        self.agent.deregister_memory(registered)
        return state == "DONE"

    def move(self, operation, walk, part, paths, flags):
        files = [os.open(path, flags | self.flags, 0o600) for path in paths]
        try:
            return self.transfer(operation, walk, part, files)
        finally:
            for fd in files:
                os.close(fd)

    def put(self, walk):
        for part in walk.batches():
            paths = [self.path(walk.names[i]) for i in part]
            is_done = self.move("WRITE", walk, part, [path + ".new" for path in paths],
                                os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            if is_done:
                for path in paths:
                    os.rename(path + ".new", path)
            walk.settle(part, [pyload.OK if is_done else pyload.FAILED] * len(part))

    def get(self, walk):
        for part in walk.batches():
            here = [i for i in part if os.path.exists(self.path(walk.names[i]))]
            walk.settle(part, [pyload.MISSING] * len(part))
            if here:
                is_done = self.move("READ", walk, here, [self.path(walk.names[i]) for i in here],
                                    os.O_RDONLY)
                walk.settle(here, [pyload.OK if is_done else pyload.FAILED] * len(here))

    def probe(self, keys):
        found = self.agent.query_memory([(0, 0, 0, self.path(name)) for name in keys], "POSIX",
                                        "FILE")
        return [entry is not None for entry in found]

    def drop(self, names):
        for name in names:
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))


pyload.main(Store)
