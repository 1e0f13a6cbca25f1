"""Keys, messages and the join of the max-norm synchronization.

A key is (norm, origin) for each segment of a model; the larger one wins, lexicographically. Keys with their models are
a join-semilattice: merging is idempotent, commutative and associative, so it doesn't matter in which order, or
how often, devices hear of each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.mixing import is_finite, is_like

Key = tuple[tuple[float, int], ...]  # per segment (norm, origin); one segment unless `scope = "layer"`

_SAME_NORM = 1e-4  # relative difference of a claimed norm from the model's, at most


class SyncMessage(Message):
    """Base of the two messages of the synchronization."""


@dataclass(frozen=True, slots=True)
class NormKey(SyncMessage, tag="norm-key"):
    """A beacon: which initial model the sender holds, and what it knows of others."""

    norms: NDArray[np.float64]  # (n_segments,)
    origins: NDArray[np.int32]  # (n_segments,)
    level: int  # every device so many hops before the sender has held this key
    done: bool  # the sender trains
    ask: int  # the device whose model it would like; -1: none
    held: NDArray[np.uint8]  # where links come and go: the devices known to have held this key, a bit each; else empty


@dataclass(frozen=True, slots=True)
class NormModel(SyncMessage, tag="norm-model"):
    """The model that the sender holds, with its key."""

    norms: NDArray[np.float64]
    origins: NDArray[np.int32]
    done: bool  # it is the sender's current model, and the synchronization is over
    w: Vector  # (n_params,)


Sent = NormKey | NormModel
SYNC_TAGS = (NormKey.tag, NormModel.tag)


class Candidate:
    """The best initial model known to a device: a join-semilattice under `merge`.

    Args:
        w: the device's own initial model, shape (n_params,).
        origin: the device.
        segments: parts of the model that are adopted separately.
    """

    def __init__(self, w: Vector, origin: DeviceId, segments: Sequence[slice]) -> None:
        self.w = w
        self.segments = tuple(segments)
        self.key: Key = tuple((norm(w[part]), origin) for part in self.segments)

    def merge(self, key: Key, w: Vector) -> bool:
        """Adopt every segment whose key is larger in the other; tell whether there was one."""
        larger = [index for index, (mine, theirs) in enumerate(zip(self.key, key, strict=True)) if theirs > mine]
        if not larger:
            return False
        if len(larger) == len(self.segments):
            self.w = w
        else:
            self.w = self.w.copy()
            for index in larger:
                self.w[self.segments[index]] = w[self.segments[index]]
        self.key = tuple(map(max, self.key, key))
        return True

    def key_in(self, message: Sent) -> Key | None:
        """Return the key in a message; None if the message can't be used."""
        size = (len(self.segments),)
        if message.norms.shape != size or message.origins.shape != size or not np.isfinite(message.norms).all():
            return None
        key = tuple(zip(message.norms.tolist(), message.origins.tolist(), strict=True))
        return key if isinstance(message, NormKey) or self._fits(message, key) else None

    def _fits(self, message: NormModel, key: Key) -> bool:
        """Tell whether a model has the right shape, is finite, and has the norms that its key claims."""
        w = message.w
        if not is_like(w, self.w) or not is_finite(w):
            return False
        parts = zip(self.segments, key, strict=True)
        return message.done or all(math.isclose(norm(w[part]), told, rel_tol=_SAME_NORM) for part, (told, _) in parts)


def norm(w: Vector) -> float:
    """Return the Frobenius norm, added up in float64."""
    return math.sqrt(float(np.einsum("i,i->", w, w, dtype=np.float64)))


def arrays_of(key: Key) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the norms and the origins of a key."""
    norms, origins = zip(*key, strict=True)
    found = np.array(norms, np.float64), np.array(origins, np.int32)
    for array in found:
        array.flags.writeable = False  # so that sending them, and a model beside them, needs no copy
    return found
