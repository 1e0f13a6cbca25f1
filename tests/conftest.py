"""Shared settings of the tests."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator

# On busy cores two threads for a tiny matrix take longer than one, and each of pytest-xdist's workers would start
# its own. Before torch and numpy are imported; processes that a test starts inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets what it starts in the background ignore Ctrl-C, and so would the runs that tests end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, settings

from p2pl_async.transport.inbox import Inbox

# Reproducible and without a database or deadlines: a slow machine fails no test.
settings.register_profile(
    "p2pl", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("p2pl")


gc.disable()  # until all is loaded, most of which is there to stay


def pytest_collection_finish() -> None:
    """Keep all that has been loaded out of every later search for garbage: thousands of cases, and torch."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module")
def inboxes_stay_open() -> Iterator[None]:
    """Let devices whose protocol has ended keep what arrives: tests of sums count what nobody has added yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inbox, "close", lambda inbox: None)
        yield
