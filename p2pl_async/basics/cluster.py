"""Ray, on this machine or on many: how to reach it."""

from __future__ import annotations

import os
from typing import Any

_STORE_BYTES = 100_000_000  # of the object store of a Ray of our own, unless more is asked for


def connect(address: str | None, cpus: int, store: int = _STORE_BYTES) -> Any:
    """Return the module `ray`, connected.

    A Ray that this starts itself listens on the loopback address only, has no dashboard, reports no usage, and ends
    with `ray.shutdown()`.

    Args:
        address: of a Ray that runs, "ray://host:port"; None starts one here.
        cpus: cores that a Ray of our own hands out.
        store: bytes of its object store.

    Raises:
        ImportError: if Ray is not installed.
        ConnectionError: if it can't be reached, or doesn't start.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if address is None:
            ray.init(
                num_cpus=cpus, include_dashboard=False, _node_ip_address="127.0.0.1",
                object_store_memory=max(store, _STORE_BYTES), log_to_driver=False, logging_level="error",
            )  # fmt: skip
        else:
            ray.init(address, log_to_driver=False)
    except (RuntimeError, ValueError) as error:
        raise ConnectionError(str(error)) from error
    return ray
