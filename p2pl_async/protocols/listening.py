"""Whom a mix waits for: `barrier`, `cache` or `fresh`.

A message carries its sender's round and consensus step, its version. What arrives is sorted here
by the state contract: the newest version of each neighbor counts, older ones and repetitions are
dropped, so loss, duplication and reordering only make things stale.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import PositiveSeconds, Seconds
from p2pl_async.device import Device
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.base import Contract
from p2pl_async.protocols.mixing import Peer

Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Params(Message, tag="params"):
    """The sender's parameters, and what mixing weights need to know of it."""

    round: int
    step: int  # of the consensus phase
    n_samples: int
    degree: int  # number of the sender's in-neighbors
    w: Vector  # (n_params,)


class Ears:
    """What one device has heard: the newest of each neighbor, and what came since the last mix.

    Messages that can't be mixed with `like` (another shape or dtype, no sample count, not from an
    in-neighbor) are refused, counted and forgotten; no peer can end a device with one.
    """

    def __init__(self, device: Device, like: Vector) -> None:
        self.device = device
        self.newest: dict[DeviceId, Params] = {}
        self.fresh: dict[DeviceId, Params] = {}  # newest since the last mix
        self.versions: dict[Version, dict[DeviceId, Params]] = {}  # for the barrier: of now and later
        self.arrived: dict[DeviceId, int] = {}  # this device's round in which the newest came
        self.late = 0  # older than what was known, or a repetition
        self._shape, self._dtype = like.shape, like.dtype
        self._neighbors = frozenset(device.all_in_neighbors)

    def drain(self) -> None:
        """Hear everything that has arrived."""
        while (message := self.device.receive_nowait(Params)) is not None:
            self.hear(message)

    def hear(self, message: Params) -> None:
        """Take a message: it is new, late, or refused."""
        if not self._usable(message):
            self.device.record("refused", 1)
            return
        sender, version = message.sender, (message.round, message.step)
        self.versions.setdefault(version, {}).setdefault(sender, message)
        known = self.newest.get(sender)
        if known is not None and version <= (known.round, known.step):
            self.late += 1
            return
        self.newest[sender] = self.fresh[sender] = message
        self.arrived[sender] = self.device.round

    def refuse(self, sender: DeviceId) -> None:
        """Forget what a neighbor sent: it can't be mixed after all."""
        self.newest.pop(sender, None)
        self.device.record("refused", 1)

    def take_version(self, version: Version) -> dict[DeviceId, Params]:
        """Return the messages of this version, and forget those before it."""
        found = self.versions.pop(version, {})
        self.versions = {later: heard for later, heard in self.versions.items() if later > version}
        return found

    def take_fresh(self) -> dict[DeviceId, Params]:
        """Return the newest message of each neighbor that has sent one since the last mix."""
        fresh, self.fresh = self.fresh, {}
        self.versions.clear()
        return fresh

    def peers(self, heard: Iterable[DeviceId] = ()) -> dict[DeviceId, Peer]:
        """Return what is known of every in-neighbor, and of those `heard` that no longer are.

        One never heard of counts as like this device.
        """
        now = self.device.in_neighbors
        like_me = Peer(self.device.n_samples, len(now))
        return {
            j: Peer(self.newest[j].n_samples, self.newest[j].degree) if j in self.newest else like_me
            for j in sorted({*now, *heard})
        }

    def lead(self) -> int:
        """Return how many rounds this device is ahead of the in-neighbor known to be last."""
        rounds = [self.newest[j].round if j in self.newest else 0 for j in self.device.in_neighbors]
        return self.device.round - min(rounds, default=self.device.round)

    def _usable(self, message: Params) -> bool:
        w = message.w
        return (
            message.sender in self._neighbors
            and w.shape == self._shape
            and w.dtype == self._dtype
            and message.n_samples > 0
            and message.degree >= 0
        )


class Barrier(Settings):
    """Wait for this round's message from every in-neighbor, or the timeout: synchronous rounds."""

    kind: Literal["barrier"] = "barrier"
    timeout: PositiveSeconds | None = Field(
        default=None, description="How long one consensus step waits at most; without it a lost message is a deadlock"
    )

    async def listen(self, ears: Ears, version: Version) -> Mapping[DeviceId, Params]:
        """Return what was heard of this version: from everybody, or when the time is up."""
        everybody = set(ears.device.in_neighbors)
        ears.drain()
        with ears.device.timeout(math.inf if self.timeout is None else self.timeout):
            while not everybody <= ears.versions.get(version, {}).keys():
                ears.hear(await ears.device.receive(Params))
        return ears.take_version(version)


class Cache(Settings):
    """Never wait: mix the newest copy of every in-neighbor, up to a maximum age.

    A copy ages by this device's rounds since it came. Its sender's round says nothing of that: a
    slow neighbor's is far behind however new its copy is.
    """

    kind: Literal["cache"] = "cache"
    max_age: NonNegativeInt | None = Field(
        default=None,
        description="This device's rounds since the copy came: 0 mixes what came since the last mix; no limit if None",
    )
    wait: Seconds = Field(default=0.0, description="How long to listen after sending, before mixing")

    async def listen(self, ears: Ears, version: Version) -> Mapping[DeviceId, Params]:
        """Return the newest copy of each neighbor that is young enough."""
        await _listen_for(ears, self.wait)
        ears.take_fresh()
        oldest = -math.inf if self.max_age is None else version[0] - self.max_age
        return {j: ears.newest[j] for j in ears.device.in_neighbors if j in ears.newest and ears.arrived[j] >= oldest}


class Fresh(Settings):
    """Never wait: mix what has arrived since the last mix. No rounds, no copy mixed twice."""

    kind: Literal["fresh"] = "fresh"
    wait: Seconds = Field(default=0.0, description="How long to listen after sending, before mixing")

    async def listen(self, ears: Ears, version: Version) -> Mapping[DeviceId, Params]:
        """Return the newest message of each neighbor that came since the last mix."""
        await _listen_for(ears, self.wait)
        return ears.take_fresh()


async def _listen_for(ears: Ears, seconds: float) -> None:
    if seconds > 0:
        await ears.device.sleep(seconds)
    ears.drain()


Mode = Annotated[Barrier | Cache | Fresh, OneOf("mode", Barrier, Cache, Fresh)]


def waiting(contract: Contract, mode: Mode | None) -> Contract:
    """Return a protocol's contract given whom it waits for: a barrier without a timeout can't bear losses.

    Args:
        contract: what the protocol itself needs.
        mode: whom it waits for; None for everybody without a timeout.
    """
    if mode is not None and (not isinstance(mode, Barrier) or mode.timeout is not None):
        return contract
    return dataclasses.replace(
        contract,
        loss="a device waits for ever for a message that was lost, and the run ends as a deadlock",
        repair=contract.repair or 'write mode = { kind = "barrier", timeout = "10 s" }',
    )
