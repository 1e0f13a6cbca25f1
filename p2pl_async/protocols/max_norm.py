"""Max-norm synchronization: every device starts from the initial model of the largest norm.

Averaging unrelated random initial models shrinks their variance and stalls training, so all devices
adopt one of them. The state is a key (norm, origin) and a model; merging keeps the larger key,
lexicographically. That is a join, so loss, duplication and reordering cost nothing but time.

    start, and every `anti_entropy`:   broadcast my key (norm, origin)
    a key below mine arrives:          send my model there
    a key above mine arrives:          answer with my key, which asks for the model
    a model above mine arrives:        adopt it, forward it at once

The origin computes the norm once, in float64, and it travels with the model: every device compares the
same numbers and ends with a bitwise equal model.

Source: arXiv:2310.18861, start-up phase; the asynchronous form (a join with anti-entropy) is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.device import Device
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.mixing import is_finite, is_like

Key = tuple[tuple[float, int], ...]  # per segment (norm, origin); one segment unless `scope = "layer"`


class SyncMessage(Message):
    """Base of the two messages of the synchronization."""


@dataclass(frozen=True, slots=True)
class NormKey(SyncMessage, tag="norm-key"):
    """The key of the initial model that the sender holds."""

    norms: NDArray[np.float64]  # (n_segments,)
    origins: NDArray[np.int32]  # (n_segments,)
    done: bool  # the sender has left the synchronization and needs no answer


@dataclass(frozen=True, slots=True)
class NormModel(SyncMessage, tag="norm-model"):
    """The model that the sender holds, with its key."""

    norms: NDArray[np.float64]
    origins: NDArray[np.int32]
    w: Vector  # (n_params,)


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
        self.key: Key = tuple((_norm(w[part]), origin) for part in self.segments)

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


class MaxNormSync(Settings):
    """Adopt the initial model of the largest norm among all devices (P2PL's start-up phase)."""

    kind: Literal["max-norm"] = "max-norm"
    anti_entropy: PositiveSeconds = Field(default=1.0, description="Time between two broadcasts of a device's key")
    quiet: PositiveInt = Field(
        default=3,
        description="A device is done once its key and all its neighbors' keys were equal for so many of these times",
    )
    timeout: PositiveSeconds = Field(
        default=60.0, description="A device is done after this time at the latest, even without agreement"
    )
    scope: Literal["model", "layer"] = Field(
        default="model", description="Compare norms of whole models, or adopt each parameter tensor by its own norm"
    )

    async def run(self, device: Device, w: Vector) -> Synchronized:
        """Take part until done; return the device's state, which also answers later messages.

        A device that resumes after a crash with its old model has taken part already.
        """
        if device.resumed:
            return await NoSync().run(device, w)
        segments = [slice(0, w.size)] if self.scope == "model" else device.layers
        sync = Synchronized(device, Candidate(w, device.id, segments))
        start = device.now
        next_tick = start
        while not sync.agreed(self.quiet * self.anti_entropy) and device.now < start + self.timeout:
            if device.now >= next_tick:
                sync.tell_key()
                next_tick += self.anti_entropy
            with device.timeout(min(next_tick, start + self.timeout) - device.now):
                sync.hear(await device.receive(SyncMessage))
        sync.finish()
        return sync


class NoSync(Settings):
    """Start from the device's own initial model."""

    kind: Literal["none"] = "none"

    async def run(self, device: Device, w: Vector) -> Synchronized:
        """Return at once."""
        sync = Synchronized(device, Candidate(w, device.id, [slice(0, w.size)]))
        sync.done = True
        return sync


Sync = Annotated[
    MaxNormSync | NoSync,
    OneOf("synchronization", MaxNormSync, NoSync),
    Field(description="How devices agree on one initial model before they train"),
]
"""The `sync` key of protocols whose devices start from one model."""


class Synchronized:
    """One device's state in the synchronization: its candidate, its neighbors' keys, and how it answers."""

    def __init__(self, device: Device, candidate: Candidate) -> None:
        self.candidate = candidate
        self.done = False
        self.late = 0  # larger models that came after this device had begun to train
        self._device = device
        self._heard: dict[DeviceId, Key] = {}
        self._changed = device.now
        sources = frozenset(device.all_in_neighbors)
        self._targets = frozenset(device.all_out_neighbors)
        self._one_way = [j for j in device.all_out_neighbors if j not in sources]  # they can't ask for the model

    @property
    def w(self) -> Vector:
        """The model held, shape (n_params,)."""
        return self.candidate.w

    def agreed(self, quiet_s: float) -> bool:
        """Tell whether every in-neighbor's key has equaled this device's for `quiet_s` seconds."""
        return (
            all(self._heard.get(j) == self.candidate.key for j in self._device.all_in_neighbors)
            and self._device.now - self._changed >= quiet_s
        )

    def tell_key(self) -> None:
        """Broadcast the key; neighbors that can't answer get the model itself."""
        idle = [j for j in self._one_way if not self._device.is_sending(j)]  # the key itself keeps a radio busy
        # Keys go to all, also to neighbors that are out of range: keys are small, and sending them costs little.
        self._device.send(self._device.all_out_neighbors, self._key())
        if idle:
            self._device.send(idle, self._model())

    def hear(self, message: SyncMessage) -> None:
        """Answer a message of the synchronization."""
        key = self._read_key(message)
        if key is None or (isinstance(message, NormModel) and not self._fits(message.w)):
            self._device.record("refused", 1)
            return
        sender = message.sender
        if self._heard.get(sender) != key:
            self._heard[sender] = key
            self._changed = self._device.now
        if isinstance(message, NormModel):
            if self.done:
                if any(map(_larger, key, self.candidate.key)):
                    self.late += 1
                    self._device.record("maxnorm_late", 1)
            elif self.candidate.merge(key, message.w):
                self._changed = self._device.now
                self._device.send([j for j in self._device.out_neighbors if j != sender], self._model())
        elif sender in self._targets:
            assert isinstance(message, NormKey)
            if any(map(_larger, self.candidate.key, key)):
                if not self._device.is_sending(sender):
                    self._device.send(sender, self._model())
            elif (self.done and not message.done) or (not self.done and key != self.candidate.key):
                self._device.send(sender, self._key())

    def serve(self) -> None:
        """Answer the messages that have arrived; a device that trains answers between its rounds."""
        while (message := self._device.receive_nowait(SyncMessage)) is not None:
            self.hear(message)

    def finish(self) -> None:
        """Leave the synchronization; record the time, and the norm agreed on (summed over segments)."""
        self.done = True
        self._device.record("sync_s", self._device.now)
        self._device.record("sync_norm", math.fsum(norm for norm, _ in self.candidate.key))

    def _key(self) -> NormKey:
        norms, origins = zip(*self.candidate.key, strict=True)
        return NormKey(np.array(norms, np.float64), np.array(origins, np.int32), self.done)

    def _model(self) -> NormModel:
        norms, origins = zip(*self.candidate.key, strict=True)
        return NormModel(np.array(norms, np.float64), np.array(origins, np.int32), self.candidate.w)

    def _read_key(self, message: SyncMessage) -> Key | None:
        assert isinstance(message, NormKey | NormModel)
        size = (len(self.candidate.segments),)
        if message.norms.shape != size or message.origins.shape != size or not np.isfinite(message.norms).all():
            return None
        return tuple(zip(message.norms.tolist(), message.origins.tolist(), strict=True))

    def _fits(self, w: Vector) -> bool:
        return is_like(w, self.candidate.w) and is_finite(w)


def _norm(w: Vector) -> float:
    """Return the Frobenius norm, added up in float64."""
    return math.sqrt(float(np.einsum("i,i->", w, w, dtype=np.float64)))


def _larger(mine: tuple[float, int], theirs: tuple[float, int]) -> bool:
    return mine > theirs
