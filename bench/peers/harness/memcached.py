# SPDX-License-Identifier: Apache-2.0
"""memcached, and memcached with extstore: values on a drive, keys in memory."""
from . import install
from .peer import Peer, free_port

MIB = 1 << 20
ITEM_MAX = 32  # MiB; with extstore no more than a write buffer
# The thread that writes to the drive sleeps up to 1 s by default: more of a fast fill was lost then.
EXTSTORE = (f"ext_page_size=64,ext_wbuf_size={ITEM_MAX},ext_threads=8,ext_item_age=0,"
            "ext_max_sleep=1000")


class Memcached(Peer):
    name = "memcached"
    transport = "tcp"

    @property
    def home(self):
        return self.context.installs / "memcached"  # extstore is the same package

    def install(self):
        self.program = install.debian(self.home, ["memcached"], "memcached",
                                      self.context.may_install)
        self.env = install.debian_env(self.home)

    def version(self):
        text = install.command(["env", *(f"{k}={v}" for k, v in self.env.items()), self.program,
                                "--version"], "no version")
        return text.split()[-1]

    def options(self):
        return []

    def serve(self):
        self.port = free_port()
        # By default an item has 1 MiB at most.
        item = min(ITEM_MAX, max(1, self.setup.memory // MIB // 2))
        log = self.spawn([self.program, "-u", "root", "-l", "127.0.0.1", "-p", self.port, "-U", 0,
                          "-m", self.setup.memory // MIB, "-I", f"{item}m", *self.options()],
                         env=self.env)
        self.wait_for_port(self.port, log)

    def client(self, index):
        return self.c_client("memcached", f"127.0.0.1:{self.port}", index)


class Extstore(Memcached):
    name = "extstore"
    modes = ("medium",)
    why_not = "without a drive it is memcached"
    is_cached = True
    works_on = True  # it goes on writing and moving items, with up to half a core and the drive

    def options(self):
        size = -(-self.setup.room * 11 // 10 // MIB)
        return ["-o", f"{EXTSTORE},ext_path={self.setup.folder}/extstore:{size}m"]
