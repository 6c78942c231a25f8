# SPDX-License-Identifier: Apache-2.0
"""Files, a block each: what one would write oneself, and the floor of everything that is files."""
from .peer import Peer


class Buffered(Peer):
    """Through the page cache."""
    name = "files buffered"
    transport = "files"
    has_server = False
    forgets = False
    is_cached = True
    how = "buffered"

    def version(self):
        return "threads, one file a block, rename"

    def client(self, index):
        return self.c_client("files", f"{self.how}:{self.setup.folder}", index)


class Direct(Buffered):
    """O_DIRECT."""
    name = "files O_DIRECT"
    modes = ("medium",)
    why_not = "in memory it is the row above"
    is_cached = False
    how = "direct"
