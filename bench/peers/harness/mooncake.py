# SPDX-License-Identifier: Apache-2.0
"""Mooncake Store: a master, and a server process whose segment holds the blocks. Over TCP its
clients have no segment of their own, so that every block crosses the loopback as with the others;
over shared memory the server copies between its segment and a pool that client and server map.

Its eviction runs beside the puts and lets those that come too fast fail; so memory cells drop what
they no longer need, which is in its favour."""
from . import install
from .peer import Peer, free_port

PACKAGE = "mooncake-transfer-engine-non-cuda"
VERSION = "0.3.13.post1"
LEASE = "500ms"  # by default 10 s: what was read so recently is not evicted, and puts fail
SHM_THREADS = 2  # of the server for its clients, by default 1


class Tcp(Peer):
    name = "mooncake tcp"
    transport = "tcp"
    forgets = False
    is_shm = False

    def install(self):
        install.venv(self.home, [["install", f"{PACKAGE}=={VERSION}"]], self.context.may_install)

    def version(self):
        return install.pip_version(self.home, PACKAGE)

    def serve(self):
        programs = self.home / "venv" / "bin"
        master, metadata, service = free_port(), free_port(), free_port()
        self.target = {"is_shm": self.is_shm, "host": "127.0.0.1",
                       "master": f"127.0.0.1:{master}", "service": f"127.0.0.1:{service}",
                       "metadata": f"http://127.0.0.1:{metadata}/metadata"}
        log = self.spawn([programs / "mooncake_master", f"--rpc_port={master}",
                          "--rpc_address=127.0.0.1", "--enable_http_metadata_server=true",
                          "--http_metadata_server_host=127.0.0.1",
                          f"--http_metadata_server_port={metadata}",
                          "--metrics_host=127.0.0.1", f"--metrics_port={free_port()}",
                          f"--default_kv_lease_ttl={LEASE}"], "master")
        self.wait_for_port(master, log)
        self.wait_for_port(metadata, log)
        log = self.spawn([programs / "mooncake_client", "--host=127.0.0.1", f"--port={service}",
                          f"--threads={SHM_THREADS}",
                          f"--global_segment_size={self.setup.memory}",
                          f"--master_server_address={self.target['master']}",
                          f"--metadata_server={self.target['metadata']}", "--protocol=tcp"])
        self.wait_for_port(service, log)

    def client(self, index):
        return self.py_client("load_mooncake.py", self.target, index)


class Shm(Tcp):
    name = "mooncake shm"
    transport = "shm"
    is_shm = True
