# SPDX-License-Identifier: Apache-2.0
"""End to end: the real binary, the real client library, real files. See harness.py."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from harness import Server, uring_is_allowed  # noqa: E402


# What these files promise must hold however the medium is read and written; others run over the
# back end that `start` takes by itself.
OVER_EACH_BACK_END = {"test_attack", "test_failure", "test_restart", "test_steady"}


def pytest_generate_tests(metafunc):
    if "io" in metafunc.fixturenames:
        each = metafunc.module.__name__ in OVER_EACH_BACK_END
        metafunc.parametrize("io", ["uring", "posix"] if each else ["auto"])


@pytest.fixture
def server(tmp_path, io):
    """A server on a file store, not yet started; ended after the test."""
    if io == "uring" and not uring_is_allowed():
        pytest.skip("io_uring is not allowed here")
    made = Server(tmp_path, io=io)
    yield made
    made.end()


@pytest.fixture
def memory_server(tmp_path):
    """A server in memory mode, started."""
    made = Server(tmp_path, memory="576MiB")
    made.start()
    yield made
    made.end()
