"""Small worlds for testing a protocol: ours, or one of your own.

emulation = emulate(Gossip(), ring(5), link={"loss": "20 %"}, until=60)
values = [device.params for device in emulation.devices]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import trio
from numpy.typing import NDArray
from pydantic import TypeAdapter

from p2pl_async.air import AnyMedium, SharedMedium
from p2pl_async.air.air import Air
from p2pl_async.air.hearing import GraphHearing
from p2pl_async.clock import VirtualClock
from p2pl_async.device import Learner, Neighborhood, Observer
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.downtime import down_at, watches
from p2pl_async.hardware.hardware import Hardware, downtimes_of
from p2pl_async.link import Link, LinkSettings, Verdict
from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.base import Protocol
from p2pl_async.trace import Record

Neighbors = Sequence[Sequence[DeviceId]]


def complete(n: int) -> list[list[DeviceId]]:
    """Return the out-neighbors of n devices that all hear each other."""
    return [[j for j in range(n) if j != k] for k in range(n)]


def ring(n: int) -> list[list[DeviceId]]:
    """Return the out-neighbors of a ring of n devices."""
    return [sorted({(k - 1) % n, (k + 1) % n} - {k}) for k in range(n)]


def emulate(
    protocol: Protocol,
    out_neighbors: Neighbors,
    *,
    medium: Mapping[str, Any] | None = None,
    neighborhood: Neighborhood | None = None,
    link: LinkSettings | Mapping[str, Any] | Callable[[DeviceId, DeviceId], LinkSettings] | None = None,
    seed: int = 0,
    learner: Learner | None = None,
    rounds: int | None = None,
    hardware: Sequence[Hardware] | None = None,
    until: float | None = None,
    record: Callable[[DeviceId, str, float], object] | None = None,
    sink: Callable[[Record], object] | None = None,
) -> Emulation:
    """Run a protocol on a few devices and return them as they are at the end.

    Args:
        protocol: run by every device.
        out_neighbors: for each device, who can ever hear it.
        neighborhood: the neighbors at each instant; all of them always, by default.
        link: settings of all links, a table as in a scenario, or (src, dst) -> settings;
            perfect by default.
        medium: a table as in a scenario, if devices share one; they hear those that have a link to them.
        seed: of links and devices.
        learner: trains the devices; see `FixedLearner`.
        rounds: number of rounds of each device.
        hardware: each device's, made for this run; its links are down when it is.
        until: when the run is cut off, in virtual seconds.
        record: takes (device, metric, value) of what the protocol measures.
        sink: takes the network's records.

    Raises:
        DeviceFailed: if the protocol raises.
        Deadlock: if every device waits and nothing is left to happen.
    """
    if callable(link):
        settings_of = link
    else:
        settings = link if isinstance(link, LinkSettings) else LinkSettings.model_validate(dict(link or {}))

        def settings_of(src: DeviceId, dst: DeviceId) -> LinkSettings:
            return settings

    downtimes = None if hardware is None else downtimes_of(hardware)

    def make_link(src: DeviceId, dst: DeviceId) -> Link:
        down = () if downtimes is None else watches(downtimes[src], downtimes[dst])
        return Link(src, dst, settings_of(src, dst), seed, down=down)

    shared = TypeAdapter(AnyMedium).validate_python(dict(medium or {"kind": "dedicated"}))

    def make_air(
        clock: VirtualClock, round_of: Callable[[DeviceId], int], back: Callable[[DeviceId, DeviceId], Link]
    ) -> Air:
        assert isinstance(shared, SharedMedium)
        now = None
        if neighborhood is not None:

            def now(device: DeviceId, at: float) -> Sequence[DeviceId]:
                return neighborhood.outgoing(device, at, round_of(device))

        is_down = None if downtimes is None else down_at(downtimes)
        return Air(
            shared, clock, len(out_neighbors), GraphHearing(out_neighbors, now), seed, back=back, is_down=is_down
        )

    emulation = Emulation(
        out_neighbors,
        make_link,
        seed,
        make_air=make_air if shared.shared else None,
        neighborhood=neighborhood,
        learner=learner,
        rounds=rounds,
        hardware=hardware,
        observer=Observer(record=record, sink=sink),
    )
    emulation.run(protocol, until=until)
    return emulation


class FixedLearner:
    """A learner without data: devices start from given parameters, training is a plain function.

    Args:
        params: the initial parameters of each device.
        seconds: virtual time that one training, or one gradient, takes, for all or for each device.
        step: (device, w) -> new w; by default training changes nothing.
        gradient: (device, w) -> gradient. Instead of `step`: training is then gradient descent, one step per
            epoch; and `Device.gradient` gives it.
        learning_rate: step size of that gradient descent.
        n_samples: sample counts that devices tell; all 1 by default.
    """

    def __init__(
        self,
        params: Sequence[Vector],
        *,
        seconds: float | Sequence[float] = 1.0,
        step: Callable[[DeviceId, Vector], Vector] | None = None,
        gradient: Callable[[DeviceId, Vector], Vector] | None = None,
        learning_rate: float = 0.1,
        n_samples: Sequence[int] | None = None,
    ) -> None:
        self._params = params
        self._seconds = [seconds] * len(params) if isinstance(seconds, int | float) else seconds
        if step is not None and gradient is not None:
            raise ValueError("FixedLearner takes one of step and gradient")
        self._step = step
        self._gradient = gradient
        self._learning_rate = learning_rate
        self._n_samples = [1] * len(params) if n_samples is None else n_samples

    def n_samples(self, device: DeviceId) -> int:
        """Return the sample count that was given."""
        return self._n_samples[device]

    @property
    def layers(self) -> tuple[slice, ...]:
        """Two halves, as if the model had two parameter tensors."""
        size = self._params[0].size
        return (slice(0, size // 2), slice(size // 2, size))

    def initial_params(self, device: DeviceId) -> Vector:
        """Return the parameters that were given."""
        return self._params[device]

    def batches_per_epoch(self, device: DeviceId) -> int:
        """Return 1: an epoch is a step."""
        return 1

    def learning_rate(self, device: DeviceId) -> float:
        """Return the step size that was given."""
        return self._learning_rate

    async def train(
        self, device: DeviceId, w: Vector, epochs: int | None, steps: int | None, drift: Vector | None = None
    ) -> Vector:
        """Return `w` after the steps, each followed by the drift, later; a given `step` is one for all of them."""
        await trio.sleep(self._seconds[device])
        for _ in range(1 if self._gradient is None else epochs or steps or 1):
            if self._gradient is not None:
                w = w - w.dtype.type(self._learning_rate) * self._gradient(device, w)
            elif self._step is not None:
                w = self._step(device, w)
            if drift is not None:
                w = w + drift
        return w

    async def gradient(self, device: DeviceId, w: Vector) -> Vector:
        """Return `gradient(device, w)`, later; zeros if none was given."""
        await trio.sleep(self._seconds[device])
        return np.zeros_like(w) if self._gradient is None else self._gradient(device, w)


class Outcome(NamedTuple):
    """The fate of one message at one receiver of a `Cell`."""

    sent: float
    src: int
    dst: int
    decided: float
    verdict: Verdict


class Cell:
    """A few radios on shared air, driven by the calendar alone: no tasks, no messages.

    Args:
        medium: a table as in a scenario.
        n: number of devices.
        link: a table as in a scenario, for all links.
        out_neighbors: for each device, those that hear it; all others by default.
        hearing: which devices hear each other, in place of `out_neighbors`.
        propagation: powers and error rates, for collisions that depend on them.
        seed: of everything.

    Attributes:
        outcomes: the fate of each message at each receiver, in the order of decisions.
        on_air: (start, end, device) of each transmission.
    """

    def __init__(
        self,
        medium: dict[str, Any],
        n: int,
        *,
        link: dict[str, Any] | None = None,
        out_neighbors: Sequence[Sequence[int]] | None = None,
        hearing: Any = None,
        propagation: Any = None,
        seed: int = 1,
    ) -> None:
        self.clock = VirtualClock()
        self.random = np.random.default_rng(seed)
        self.outcomes: list[Outcome] = []
        self.on_air: list[tuple[float, float, int]] = []
        self._link = LinkSettings.model_validate(link or {})
        self._links: dict[tuple[int, int], Link] = {}
        self._seed = seed
        self._offers = 0
        shared = TypeAdapter(AnyMedium).validate_python(medium)
        assert isinstance(shared, SharedMedium)
        self.air = Air(
            shared,
            self.clock,
            n,
            hearing or GraphHearing(out_neighbors or complete(n)),
            seed,
            back=self.link,
            propagation=propagation,
            on_transmit=lambda device, start, end: self.on_air.append((start, end, device)),
        )

    def link(self, src: int, dst: int) -> Link:
        """Return the link between two devices."""
        if (src, dst) not in self._links:
            self._links[src, dst] = Link(src, dst, self._link, self._seed)
        return self._links[src, dst]

    def set_link(self, src: int, dst: int, link: dict[str, Any]) -> None:
        """Give one link settings of its own, as a table, before anything is sent on it."""
        self._links[src, dst] = Link(src, dst, LinkSettings.model_validate(link), self._seed)

    def offer(self, at: float, src: int, targets: Sequence[int], size: int, needed: int | None = None) -> None:
        """Have a device send a message at an instant; a part of it is of use from `needed` bytes on."""
        self._offers += 1
        self.clock.schedule(at, src, -5, self._offers, self._send, (src, targets, size, needed))

    def poisson(self, rate: float, src: int, targets: Sequence[int], size: int, count: int) -> None:
        """Have a device send messages at random instants, so many in a second on average."""
        for at in np.cumsum(self.random.exponential(1 / rate, count)):
            self.offer(float(at), src, targets, size)

    def run(self, until: float = math.inf) -> Cell:
        """Run all events up to the instant `until`."""
        while self.clock.calendar and self.clock.calendar[0][0] <= until:
            self.clock.deadline_to_sleep_time(math.inf)
        return self

    def share(self, cause: str = "") -> float:
        """Return the share of messages that were lost for a reason, or that arrived."""
        return sum(outcome.verdict.cause == cause for outcome in self.outcomes) / len(self.outcomes)

    def delays(self) -> NDArray[np.float64]:
        """Return how long the messages that arrived took, in seconds."""
        return np.array([o.verdict.arrival - o.sent for o in self.outcomes if not o.verdict.cause])

    def _send(self, message: tuple[int, Sequence[int], int, int | None]) -> None:
        src, targets, size, needed = message
        links = [self.link(src, dst) for dst in targets]
        self.air.send(src, links, size, self._decided, (self.clock.now, src, targets), needed)

    def _decided(self, token: tuple[float, int, Sequence[int]], k: int, verdict: Verdict) -> None:
        sent, src, targets = token
        self.outcomes.append(Outcome(sent, src, targets[k], self.clock.now, verdict))
