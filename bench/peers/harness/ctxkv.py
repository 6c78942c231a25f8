# SPDX-License-Identifier: Apache-2.0
"""ctxkv itself: server and library of this tree."""
import os
import re
import subprocess

from .peer import NotInstalled, Peer, PeerFailed

SEGMENTS_MIN = 32
SPARE = 1.1  # room for headers, and for the segment that is being written


class Tcp(Peer):
    name = "ctxkv tcp"
    transport = "tcp"
    start_words = ()

    def version(self):
        done = subprocess.run([self.context.binary, "version"], capture_output=True, text=True,
                              check=False)
        return done.stdout.split("\n", maxsplit=1)[0]

    def setup_words(self):
        setup = self.setup
        segment = 1 << max(24, (4 * setup.block - 1).bit_length())  # a block is at most a quarter
        if setup.mode == "memory":
            return ["--memory", setup.memory, "--segment-size", segment]
        return ["--media", setup.folder / "store", "--block-max", setup.block,
                "--size", int(max(setup.room, SEGMENTS_MIN * segment) * SPARE)]

    def serve(self):
        folder = self.setup.folder
        if not (folder / "secrets").exists():
            done = subprocess.run(
                [str(word) for word in (self.context.binary, "setup", *self.setup_words(), "--dir",
                                        folder, "--listen", "127.0.0.1:0", "--admin-listen",
                                        "none")],
                capture_output=True, text=True, check=False, timeout=300)
            if done.returncode != 0:
                raise PeerFailed(f"setup: {done.stderr.strip()[-300:]}")
        # In memory as many threads as memcached has, where cores are there: what start takes by
        # default for a store of 64 GiB.
        words = (["--reactors", min(4, max(1, len(os.sched_getaffinity(0)) // 4))]
                 if self.setup.mode == "memory" else ["--buffers", self.setup.memory])
        log = self.spawn([self.context.binary, "start", "--no-supervise", "--dir", folder,
                          "--listen", "127.0.0.1:0", *words, *self.start_words])
        self.wait_for(lambda: re.search(rb"^ready\s+(\S+)", log.read_bytes(), re.M), log)
        self.address = re.search(rb"^ready\s+(\S+)", log.read_bytes(), re.M)[1].decode()

    def client(self, index):
        url = f"ctxkv://default@{self.address}?keyfile={self.setup.folder}/secrets"
        return self.c_client("ctxkv", f"{url}&transport={self.transport}", index)


class Shm(Tcp):
    name = "ctxkv shm"
    transport = "shm"
    maps_clients = True

    def install(self):
        done = subprocess.run([self.context.binary, "start", "--help"], capture_output=True,
                              text=True, check=False)
        if "--shm-dir" not in done.stdout:
            raise NotInstalled("this build has no shared memory")

    def serve(self):
        self.start_words = ("--shm-dir", self.setup.folder)
        super().serve()
