"""How many devices an engine computes at once: more share the cost of calling torch, fewer stay in a core's cache.

The size follows the machine, so no result may depend on it: see `stacked`.

Measured, per device and step, one thread. On a Xeon with 2 MiB of L2 cache, in groups of 1 / 2 / 4 / 8:
784-200-200-10 with batches of 10 takes 167 / 177 / 187 / 190 us, with momentum 249 / 292 / 306 us in the first three;
784-64-10 with batches of 32 takes 119 / 107 / 106 / 112 us. On an EPYC with 512 KiB, in groups of 1 / 4 / 8 / 16, the
first takes 265 / 232 / 262 / 600 us, and the last 182 / 136 / 129 / 157 us: there the next cache is what counts.
"""

from __future__ import annotations

import functools
from pathlib import Path

_L2 = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")  # such as "2048K"
_LARGE_L2 = 2**20  # bytes, from which a group is to fit it
_SHARE = 5 / 8  # of it, for the parameters and samples of a group
_DENSE_BYTES = {"cpu": 5 * 2**19, "cuda": 2 * 2**30}  # of a group, where the L2 cache is smaller
_FEW_DENSE = 3  # devices that are worth twice as much there
_LEAST = 4  # devices in a stack, as one that is alone costs as much as two
_GROUP_BYTES = {"cpu": 32 * 2**20, "cuda": 2 * 2**30}  # a module under vmap takes milliseconds to call
_HELD_BYTES = {"cpu": 128 * 2**20, "cuda": 4 * 2**30}  # intermediate values of a group's forward pass, at most
_BATCH_BYTES = {"cpu": 64 * 2**20, "cuda": 4 * 2**30}  # features of one step of a group, at most
_LARGEST_GROUP = {"cpu": 128, "cuda": 4096}
_EVALUATED_VALUES = 2**22  # logits and hidden values held at once while evaluating, per layer


@functools.cache
def l2_bytes() -> int:
    """Return the size of a core's L2 cache, 0 if the system doesn't tell it."""
    try:
        return int(_L2.read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return 0


def of_dense(where: str, each: int, batch: int, *, apart: bool) -> int:
    """Return how many devices with a dense network are computed at once.

    Args:
        where: "cpu" or "cuda".
        each: bytes of a device's parameters, their momentum and its samples.
        batch: bytes of its samples.
        apart: whether products are taken device by device, so that one may be alone.
    """
    budget, least = _DENSE_BYTES[where], 1 if apart else _LEAST
    if where == "cpu" and l2_bytes() >= _LARGE_L2:
        budget = int(_SHARE * l2_bytes())
    else:
        least = max(least, min(_FEW_DENSE, 2 * budget // each))
    return _within(where, max(least, budget // each), batch, least)


def of_modules(where: str, params: int, held: int, batch: int) -> int:
    """Return how many devices are computed at once under vmap.

    Args:
        where: "cpu" or "cuda".
        params: bytes of a device's parameters.
        held: bytes of the intermediate values of its batch.
        batch: bytes of its samples.
    """
    fitting = min(_GROUP_BYTES[where] // (2 * params), _HELD_BYTES[where] // max(1, held))
    return _within(where, fitting, batch, _LEAST)


def _within(where: str, fitting: int, batch: int, least: int) -> int:
    return max(least, min(fitting, _BATCH_BYTES[where] // batch, _LARGEST_GROUP[where]))


def evaluated_rows(where: str, group: int, *, widest: int | None, held: int) -> int:
    """Return how many test samples a group's models are tested on at once.

    Args:
        where: "cpu" or "cuda".
        group: number of models.
        widest: values of a dense network's widest layer; None for another module.
        held: bytes of a sample's intermediate values.
    """
    if widest is not None:
        return max(64, min(1000, _EVALUATED_VALUES // (group * widest)))
    return max(1, min(1000, _HELD_BYTES[where] // max(1, held * group)))
