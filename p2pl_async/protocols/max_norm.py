"""Max-norm synchronization: every device starts from the initial model of the largest norm.

Averaging unrelated random initial models shrinks their variance and stalls training, so all devices
adopt one of them. The state is a key (norm, origin) and a model; merging keeps the larger key,
lexicographically. That is a join, so loss, duplication and reordering cost nothing but time.

    every `beacon`, or soon after a change   broadcast (my key, my level, whom I ask for a model)
    a beacon asks me and my key is larger    send my model there
    a larger model arrives                   adopt it; my level is 0 again
    my level reaches the diameter            train; from now on only answer

When is it over? Local quiet proves nothing: neighbors that agree may all wait for a larger model that
is still on its way. A level does. It is 0 when a device's key changes, and else 1 + the least level that
in-neighbors with this very key have told; one in-neighbor with another key, or not heard yet, holds it.
By induction, a device of level L knows that every device that has a path of at most L hops to it has held
its key at some time. Keys only grow, so those devices began with no larger one: at a level of the
graph's diameter the key is the largest of all, and everybody has held it. What beacons say are facts
about the past, which loss, delay, duplication and reordering can't make wrong.

Those who are done say so, and who is done wins: a device that hears it has either the same key, and is done
too, or comes late (it restarted, or was left out), and then takes over what the other trains.
A neighbor that is silent for `patience`, or for longer where links are slow (see `norm_neighbors`), is left
out, and that is recorded. Where links come and go with time, neighbors prove nothing: two devices that meet
would raise each other's levels without a third. There beacons carry the set of all devices known to have held
the key, and a device is done when all have, or when nothing new has been heard for the patience.

Neighbors over one-way links can't ask: they get models unasked, repeated more and more rarely.

The origin computes the norm once, in float64, and it travels with the model: every device compares the
same numbers and ends with a bitwise equal model.

Source: arXiv:2310.18861, start-up phase; the asynchronous form (a join with beacons and levels) is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.norm_keys import Candidate, Key, NormKey, NormModel, Sent, SyncMessage, arrays_of
from p2pl_async.protocols.norm_neighbors import NormNeighbors
from p2pl_async.protocols.norm_supply import Supply

if TYPE_CHECKING:
    from p2pl_async.device import Device

_SOON = 0.25  # of the time between beacons: how long news waits at most, so that neighbors don't all talk at once
_EARLY = 1e-6  # s; a device's own clock may end a pause a little too soon


class MaxNormSync(Settings):
    """Adopt the initial model of the largest norm among all devices (P2PL's start-up phase)."""

    kind: Literal["max-norm"] = "max-norm"
    beacon: PositiveSeconds = Field(
        default=1.0, description="Mean time between two beacons of a device; each time is drawn within 50 % of it"
    )
    patience: PositiveSeconds = Field(
        default=60.0,
        description="A neighbor silent for so long is left out, or for longer where messages are seen to take, or to "
        "pause, for long; where links come and go, more than devices take to meet again",
    )
    scope: Literal["model", "layer"] = Field(
        default="model", description="Compare norms of whole models, or adopt each parameter tensor by its own norm"
    )

    async def run(self, device: Device, w: Vector) -> Vector:
        """Take part until done; return the model to start from, shape (n_params,).

        From then on the device answers others by itself. One that goes on after a crash with what it had has
        taken part already.
        """
        segments = [slice(0, w.size)] if self.scope == "model" else device.layers
        part = Participant(device, Candidate(w, device.id, segments), self.beacon, self.patience)
        if not device.resumed:
            await part.take_part()
        part.leave()
        return part.candidate.w

    def expected_s(self, hops: int, delay: float, loss: float, transfer: float) -> float:
        """Return about how long the synchronization takes after the last device has begun, in seconds.

        Each hop takes a beacon, an answer that asks, and the model; then each level takes a beacon more. What is
        lost waits for the next beacon.

        Args:
            hops: diameter of the graph.
            delay: of a beacon, in seconds.
            loss: share of messages lost, below 1.
            transfer: seconds that a model takes on a link, without the delay.
        """
        again = loss / (1 - loss)  # messages lost for each that arrives
        hop = 3 * delay + transfer + self.beacon * _SOON + again * (4 * self.beacon + 2 * delay)
        level = delay + self.beacon * _SOON + 1.5 * again * self.beacon
        return hops * (hop + level)


class NoSync(Settings):
    """Start from the device's own initial model."""

    kind: Literal["none"] = "none"

    async def run(self, device: Device, w: Vector) -> Vector:
        """Return at once."""
        return w


Sync = Annotated[
    MaxNormSync | NoSync,
    OneOf("synchronization", MaxNormSync, NoSync),
    Field(description="How devices agree on one initial model before they train"),
]
"""The `sync` key of protocols whose devices start from one model."""


class Participant:
    """One device's part in the synchronization: what it holds, what that proves, whom it asks and answers."""

    def __init__(self, device: Device, candidate: Candidate, beacon: float, patience: float) -> None:
        self.candidate = candidate
        self.level = 0
        self._held = _set_of(device.id, device.hops + 1) if device.roams else np.empty(0, np.uint8)
        self.done = False
        self._confirmed = False  # heard of its own key from one who was done
        self.joined = False  # took over the model of one who was done
        self._device = device
        self._beacon = beacon
        self._left = self._grew = device.now
        self._next_beacon = device.now + self._draw(0.0, _SOON)
        self._neighbors = NormNeighbors(device, beacon, patience, candidate.w.nbytes)
        self._supply = Supply(device, self._neighbors, beacon, self._model)
        self._ask: DeviceId = -1
        self._targets = frozenset(device.all_out_neighbors)
        self._replies: set[DeviceId] = set()  # to whom one is about to be sent
        self._aware: set[DeviceId] = set()  # neighbors that are done too

    async def take_part(self) -> None:
        """Exchange beacons and models until this device's level proves that all hold what it holds."""
        device, supply = self._device, self._supply
        self._look()
        while not self.done:
            now = device.now + _EARLY
            if now >= supply.next_push:
                supply.push(wait=self._waits())
            if now >= self._next_beacon:
                self._tell()
            with device.timeout(min(self._next_beacon, supply.next_push) - now):
                self._hear(cast("Sent", await device.receive(SyncMessage)))
            self._look()

    def leave(self) -> None:
        """Begin to train: record when, and the norm agreed on (summed over segments); answer from now on."""
        device = self._device
        self.done, self._left, self._ask = True, device.now, -1
        self._aware.update(j for j, one in self._neighbors.heard.items() if one.done)
        device.record("sync_s", device.now)
        device.record("sync_norm", math.fsum(norm for norm, _ in self.candidate.key))
        device.record("sync_joined", self.joined)
        device.record("sync_left_out", self._left_out())
        while (message := device.receive_nowait(SyncMessage)) is not None:
            self._answer(cast("Sent", message))
        device.answer(NormKey, self._answer)
        device.answer(NormModel, self._answer)
        if not device.resumed:
            self._tell()
            device.later(self._draw(0.5, 1.5), self._remind)

    # Beacons

    def _tell(self) -> None:
        """Broadcast a beacon."""
        self._supply.tell(self._key())
        if self._ask >= 0:
            self._neighbors.asked(self._ask)
        self._next_beacon = self._device.now + self._draw(0.5, 1.5)

    def _news(self) -> None:
        """Have the next beacon sent soon."""
        self._next_beacon = min(self._next_beacon, self._device.now + self._draw(0.0, _SOON))

    def _draw(self, low: float, high: float) -> float:
        """Return a random part of the time between two beacons, in seconds."""
        return self._beacon * float(self._device.random.uniform(low, high))

    def _remind(self) -> None:
        """Go on to tell neighbors that this device is done, if they can't ask, or sleep when they are answered."""
        device, supply = self._device, self._supply
        targets = supply.one_way
        if self._neighbors.asleep and not device.roams:
            targets = [j for j in device.all_out_neighbors if j not in self._aware]
        if not targets or device.now > self._left + self._neighbors.patience:
            return
        if not device.all_in_neighbors and supply.is_due():
            supply.push(wait=self._waits())  # no level has shown that others have the model
        device.send([j for j in targets if not device.is_sending(j)], self._key())
        device.later(self._draw(0.5, 1.5), self._remind)

    # What is heard

    def _hear(self, message: Sent) -> None:
        """Take a message in while this device takes part."""
        key = self._key_in(message)
        if key is None:
            self._device.record("refused", 1)
            if isinstance(message, NormModel):
                self._neighbors.barred.add(message.sender)  # asking it again would never end
            return
        self._neighbors.note(message, key)
        if isinstance(message, NormModel):
            self._neighbors.answered(message.sender)
            if message.done:
                self.candidate.key, self.candidate.w, self.joined, self.done = key, message.w, True, True
            elif self.candidate.merge(key, message.w):
                self._changed()
        else:
            if self._held.size and key == self.candidate.key:
                self._unite(message.held)
            if message.ask == self._device.id:
                self._serve(message.sender, key)

    def _answer(self, message: Sent) -> None:
        """Answer a message that arrives once this device is done."""
        key = self._key_in(message)
        if key is None:
            self._device.record("refused", 1)
        elif message.done:
            self._aware.add(message.sender)
        elif message.sender not in self._targets:
            return
        elif isinstance(message, NormModel):
            if any(theirs > mine for mine, theirs in zip(self.candidate.key, key, strict=True)):
                self._device.record("maxnorm_late", 1)  # a larger model, of one who was left out or has restarted
        elif message.ask == self._device.id:
            self._serve(message.sender, key)
        elif message.sender not in self._replies:
            # Not at once: neighbors that all answer one beacon on shared air would drown each other, and a radio
            # that sleeps when the answer comes at once would sleep each time.
            wait = self._neighbors.asleep or _SOON * self._beacon
            self._replies.add(message.sender)
            self._device.later(wait * float(self._device.random.uniform(0.0, 1.0)), lambda: self._reply(message.sender))

    def _reply(self, target: DeviceId) -> None:
        """Tell one neighbor that this device is done."""
        self._replies.remove(target)
        if not self._device.is_sending(target):
            self._device.send(target, self._key())

    def _unite(self, held: NDArray[np.uint8]) -> None:
        """Add the devices that a neighbor knows to have held this key."""
        known = self._held | held
        if not np.array_equal(known, self._held):
            self._held, self._grew = known, self._device.now
            self._news()

    def _changed(self) -> None:
        """Begin anew with a larger key."""
        self.level = 0
        if self._held.size:
            self._held = _set_of(self._device.id, self._device.hops + 1)
        self._grew = self._device.now
        self._supply.changed()
        self._news()

    # Levels

    def _look(self) -> None:
        """See what the neighbors' keys prove, and whom to ask for a model."""
        if self.done:
            return  # it took over what others train: to a device that comes late keys prove nothing
        device, key, neighbors = self._device, self.candidate.key, self._neighbors
        if self._ask >= 0 and neighbors.is_in_vain(self._ask):
            neighbors.barred.add(self._ask)
        counted = neighbors.counted()
        heard = [neighbors.heard[j] for j in counted if j in neighbors.heard]
        finished = neighbors.finished(counted)
        if device.boots and finished:
            pass  # what they train is wanted, not what they began with, whatever their keys prove
        elif any(one.done and one.key == key for one in heard) and not device.boots:
            self.done = self._confirmed = True
        elif device.roams:
            self.done = not self._unheard_of() or device.now - self._grew >= neighbors.patience
        elif len(heard) == len(counted) and all(one.key == key for one in heard):
            proven = device.hops if not heard else 1 + min(one.level for one in heard)
            if proven > self.level:
                self.level = proven
                self._news()
            self.done = self.level >= device.hops
        if not self.done:
            self._ask_for(finished or neighbors.largest(counted, key))

    def _left_out(self) -> int:
        """Return how many devices this one did not wait for."""
        if self.joined:
            return 0
        if self._device.roams:
            return 0 if self._confirmed else self._unheard_of()
        return self._neighbors.left_out()

    def _unheard_of(self) -> int:
        """Return how many devices are not known to have held this key, where links come and go."""
        return self._device.hops + 1 - int(np.unpackbits(self._held).sum())

    def _waits(self) -> bool:
        """Tell whether a neighbor holds something larger."""
        return bool(self._neighbors.larger(self._neighbors.counted(), self.candidate.key))

    def _ask_for(self, better: Sequence[DeviceId]) -> None:
        """Ask one of these neighbors for its model; stay with the one asked before as long as it is heard."""
        heard, lively = self._neighbors.heard, self._device.now - self._neighbors.patience / 4
        if self._ask not in better or heard[self._ask].at < lively:
            chosen = max(better, key=lambda j: (heard[j].at >= lively, -j), default=-1)
            if chosen != self._ask:
                self._ask = chosen
                self._news()

    # Messages

    def _serve(self, target: DeviceId, theirs: Key) -> None:
        """Send a neighbor the model that it asks for, if it is larger than what it has, or trained already."""
        key = self.candidate.key
        if self.done or any(mine > other for mine, other in zip(key, theirs, strict=True)):
            self._supply.serve(target, key)

    def _key(self) -> NormKey:
        return NormKey(*arrays_of(self.candidate.key), self.level, self.done, self._ask, self._held)

    def _model(self) -> NormModel:
        w = self.candidate.w
        if self.done and self._device.params is not None:
            w = self._device.params
        return NormModel(*arrays_of(self.candidate.key), self.done, w)

    def _key_in(self, message: Sent) -> Key | None:
        """Return the key in a message; None if the message can't be used."""
        if isinstance(message, NormKey) and message.held.shape != self._held.shape:
            return None
        if isinstance(message, NormModel) and not self._device.takes(message.w):
            return None
        return self.candidate.key_in(message)


def _set_of(device: DeviceId, n: int) -> NDArray[np.uint8]:
    """Return the set of one of n devices, a bit each."""
    return np.packbits(np.arange(n) == device)
