"""Which neighbors' messages a mixing step waits for: `barrier`, `cache` or `fresh`.

A message carries its sender's round and consensus step: its version. Only the newest version of each
neighbor counts; older ones and repetitions are dropped. So loss, duplication and reordering make
models stale and do nothing else, as the state contract says.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field, NonNegativeInt

from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import PositiveSeconds, Seconds
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.base import Contract
from p2pl_async.protocols.mixing import Peer, is_count
from p2pl_async.protocols.silence import Silence

if TYPE_CHECKING:
    from p2pl_async.device import Device

Version = tuple[int, int]

_IN_VAIN = 3  # waits for a neighbor, after which a barrier doesn't wait for it
_DEAF = 60.0, 10  # seconds, and own rounds, without a message, after which a device says that it hears nobody


@dataclass(frozen=True, slots=True)
class Params(Message, tag="params"):
    """The sender's parameters, and what mixing weights depend on."""

    round: int
    step: int  # of the consensus phase
    n_samples: int
    degree: int  # number of the sender's in-neighbors; 0 if it has heard none of them for long
    w: Vector  # (n_params,)


class Known(NamedTuple):
    """What the newest message of a neighbor tells, without its model."""

    round: int
    step: int
    n_samples: int
    degree: int


class Received:
    """The messages one device has received since the last mix, and what the newest of each neighbor tells.

    Messages that can't be mixed with `like` (another shape or dtype, no sample count, not from an
    in-neighbor) are refused, counted and forgotten, so no peer can end a device with one.

    A device that hears nobody would draw all others to its model, as one that never averages theirs. It says that its
    degree is 0, and a neighbor that has a link to it leaves its model out. One without links to it has
    degree 0 too, and is averaged: nobody has a link to it.

    Args:
        device: that receives.
        like: a model that those received are to be like.
        copies: whether to keep the newest message of each neighbor, which may be mixed again. Without, a model is
            forgotten once it is mixed: those of 10,000 devices take 1.5 GiB.
    """

    def __init__(self, device: Device, like: Vector, *, copies: bool) -> None:
        self.device = device
        self.newest: dict[DeviceId, Known] = {}
        self.copies: dict[DeviceId, Params] = {}
        self._keeps_copies = copies
        self.fresh: dict[DeviceId, Params] = {}  # the newest since the last mix
        self.versions: dict[Version, dict[DeviceId, Params]] = {}  # the current version and later ones, for barriers
        self.unusable: dict[Version, set[DeviceId]] = {}  # senders of refused messages of these versions
        self.arrived: dict[DeviceId, int] = {}  # this device's round in which the newest came
        self.late = 0  # messages no newer than one known already
        self._silence = Silence(device, 0.0)
        self._targets = frozenset() if device.roams else frozenset(device.all_out_neighbors)
        self._last, self._last_round = device.now, device.round  # when something came
        self._pause = 0.0  # s; the longest between two arrivals of late
        self._missed: Counter[DeviceId] = Counter()  # how often a neighbor was waited for in vain since it was heard
        self._like = like.shape, like.dtype  # not the model, which would stay in memory for the whole run
        self._neighbors = frozenset(device.all_in_neighbors)

    def drain(self) -> None:
        """Take every message that has arrived."""
        while (message := self.device.receive_nowait(Params)) is not None:
            self.add(message)

    def add(self, message: Params) -> None:
        """Take a message: it is new, late, or refused."""
        sender, version = message.sender, (message.round, message.step)
        if not self._usable(message):
            self.device.record("refused", 1)
            self.unusable.setdefault(version, set()).add(sender)
            return
        now = self.device.now
        self._pause = max(now - self._last, self._pause / 2)
        self._last, self._last_round = now, self.device.round
        if message.degree == 0 and sender in self._targets:
            self._leave_out(sender, version)
            return
        self.versions.setdefault(version, {}).setdefault(sender, message)
        known = self.newest.get(sender)
        if known is not None and version <= (known.round, known.step):
            self.late += 1
            return
        self._silence.hear(sender, message.round)
        self._missed.pop(sender, None)
        self.newest[sender] = Known(message.round, message.step, message.n_samples, message.degree)
        self.fresh[sender] = message
        if self._keeps_copies:
            self.copies[sender] = message
        self.arrived[sender] = self.device.round

    def _leave_out(self, deaf: DeviceId, version: Version) -> None:
        """Don't mix, nor wait for, the models of a neighbor that hears nobody."""
        self.device.record("deaf", 1)
        self.unusable.setdefault(version, set()).add(deaf)
        for known in (self.newest, self.copies, self.fresh):
            known.pop(deaf, None)

    @property
    def degree(self) -> int:
        """How many neighbors this device says to have: 0 if it has heard none for long, although there are some."""
        device, (seconds, rounds) = self.device, _DEAF
        silent = self._targets and device.round - self._last_round >= rounds
        return 0 if silent and device.now - self._last > max(seconds, 3 * self._pause) else len(device.in_neighbors)

    def miss(self, neighbors: Iterable[DeviceId]) -> None:
        """Note that these neighbors were waited for in vain."""
        self._missed.update(neighbors)

    def is_silent(self, j: DeviceId) -> bool:
        """Tell whether a neighbor was waited for in vain several times, and is silent for longer than it usually is."""
        return self._missed[j] >= _IN_VAIN and self._silence.has(j)

    def refuse(self, sender: DeviceId) -> None:
        """Forget a neighbor's newest message, which can't be mixed after all."""
        self.newest.pop(sender, None)
        self.copies.pop(sender, None)
        self.device.record("refused", 1)

    def take_version(self, version: Version) -> dict[DeviceId, Params]:
        """Return the messages of this version, and forget earlier ones."""
        found = self.versions.pop(version, {})
        self.unusable = {later: senders for later, senders in self.unusable.items() if later > version}
        self.versions = {later: heard for later, heard in self.versions.items() if later > version}
        return found

    def told(self, version: Version) -> set[DeviceId]:
        """Return who has sent a message of this version; one that can't be used is no longer waited for."""
        return self.versions.get(version, {}).keys() | self.unusable.get(version, set())

    def take_fresh(self) -> dict[DeviceId, Params]:
        """Return the newest message of each neighbor that has sent one since the last mix."""
        fresh, self.fresh = self.fresh, {}
        self.versions.clear()
        self.unusable.clear()
        return fresh

    def peers(self, heard: Iterable[DeviceId] = ()) -> dict[DeviceId, Peer]:
        """Return sample count and degree of every in-neighbor, and of those in `heard` that no longer are neighbors.

        A neighbor never heard is assumed to be like this device.
        """
        now = self.device.in_neighbors
        like_me = Peer(self.device.n_samples, len(now))
        return {
            j: Peer(self.newest[j].n_samples, self.newest[j].degree) if j in self.newest else like_me
            for j in sorted({*now, *heard})
        }

    def lead(self) -> int:
        """Return how many rounds this device is ahead of its slowest in-neighbor, as far as known."""
        rounds = [self.newest[j].round if j in self.newest else 0 for j in self.device.in_neighbors]
        return self.device.round - min(rounds, default=self.device.round)

    def _usable(self, message: Params) -> bool:
        return (
            message.sender in self._neighbors
            and (message.w.shape, message.w.dtype) == self._like
            and message.n_samples > 0
            and is_count(message.round, message.step, message.n_samples, message.degree)
            and self.device.takes(message.w)
        )


class Barrier(Settings):
    """Wait for this round's message from every in-neighbor, or the timeout: synchronous rounds.

    A neighbor whose model was waited for in vain three times, and for three times its pause between two rounds, is not
    waited for until it is heard again.
    """

    kind: Literal["barrier"] = "barrier"
    timeout: PositiveSeconds | None = Field(
        default=None,
        description="How long a consensus step waits at most; without a timeout a lost message is a deadlock",
    )

    async def listen(self, received: Received, version: Version) -> Mapping[DeviceId, Params]:
        """Return the messages of this version, once every in-neighbor's is there or the time is up."""
        received.drain()
        everybody = {j for j in received.device.in_neighbors if not received.is_silent(j)}
        if not everybody <= received.told(version):
            with received.device.timeout(math.inf if self.timeout is None else self.timeout):
                while not everybody <= received.told(version):
                    received.add(await received.device.receive(Params))
            received.miss(everybody - received.told(version))
        return received.take_version(version)


class Cache(Settings):
    """Never wait: mix the newest copy of every in-neighbor, up to a maximum age.

    A copy's age is the number of this device's rounds since it came. Its sender's round doesn't tell: the
    round of a slow neighbor is far behind, however new the copy is.
    """

    kind: Literal["cache"] = "cache"
    max_age: NonNegativeInt | None = Field(
        default=None,
        description="Age limit, in this device's rounds: 0 mixes only copies since the last mix; no limit if None",
    )
    wait: Seconds = Field(default=0.0, description="How long to listen after sending, before mixing")

    async def listen(self, received: Received, version: Version) -> Mapping[DeviceId, Params]:
        """Return the newest copy of each neighbor that is young enough."""
        await _listen_for(received, self.wait)
        received.take_fresh()
        oldest = -math.inf if self.max_age is None else version[0] - self.max_age
        copies, arrived = received.copies, received.arrived
        return {j: copies[j] for j in received.device.in_neighbors if j in copies and arrived[j] >= oldest}


class Fresh(Settings):
    """Never wait: mix the messages since the last mix. There are no common rounds, and no copy is mixed twice."""

    kind: Literal["fresh"] = "fresh"
    wait: Seconds = Field(default=0.0, description="How long to listen after sending, before mixing")

    async def listen(self, received: Received, version: Version) -> Mapping[DeviceId, Params]:
        """Return the newest message of each neighbor that came since the last mix."""
        await _listen_for(received, self.wait)
        return received.take_fresh()


async def _listen_for(received: Received, seconds: float) -> None:
    if seconds > 0:
        await received.device.sleep(seconds)
    received.drain()


Mode = Annotated[Barrier | Cache | Fresh, OneOf("mode", Barrier, Cache, Fresh)]


def mixes_again(mode: Mode, on_missing: str) -> bool:
    """Tell whether a neighbor's model may be mixed that was mixed before."""
    return isinstance(mode, Cache) or on_missing == "cache"


def waiting(contract: Contract, mode: Mode | None) -> Contract:
    """Return a protocol's contract given its mode: a barrier without a timeout doesn't tolerate loss.

    Args:
        contract: what the protocol itself requires.
        mode: which messages it waits for; None for all, without a timeout.
    """
    if mode is not None and (not isinstance(mode, Barrier) or mode.timeout is not None):
        return contract
    return dataclasses.replace(
        contract,
        loss="a device never stops waiting for a message that was lost, and the run ends as a deadlock",
        repair=contract.repair or 'write mode = { kind = "barrier", timeout = "10 s" }',
    )
