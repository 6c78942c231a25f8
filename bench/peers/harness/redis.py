# SPDX-License-Identifier: Apache-2.0
"""Redis as a cache: all keys may be evicted, nothing is saved."""
from . import install
from .peer import Peer, free_port


class Redis(Peer):
    name = "redis"
    transport = "tcp"

    def install(self):
        self.program = install.debian(self.home, ["redis-server"], "redis-server",
                                      self.context.may_install)
        self.env = install.debian_env(self.home)

    def version(self):
        text = install.command(["env", *(f"{k}={v}" for k, v in self.env.items()), self.program,
                                "--version"], "no version")
        return text.split("v=")[1].split()[0]

    def serve(self):
        self.port = free_port()
        log = self.spawn([self.program, "--port", self.port, "--bind", "127.0.0.1", "--save", "",
                          "--appendonly", "no", "--maxmemory", self.setup.memory,
                          "--maxmemory-policy", "allkeys-lru", "--dir", self.setup.folder],
                         env=self.env)
        self.wait_for_port(self.port, log)

    def client(self, index):
        return self.c_client("redis", f"127.0.0.1:{self.port}", index)
