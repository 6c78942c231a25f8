# SPDX-License-Identifier: Apache-2.0
"""End to end: the real binary, the real client library, real files. See harness.py."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from harness import Server  # noqa: E402


@pytest.fixture
def server(tmp_path):
    """A server on a file store, not yet started; ended after the test."""
    made = Server(tmp_path)
    yield made
    made.end()


@pytest.fixture
def memory_server(tmp_path):
    """A server in memory mode, started."""
    made = Server(tmp_path, memory="576MiB")
    made.start()
    yield made
    made.end()
