"""Small worlds, put together by hand: neighbors, links, and a learner without data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import trio
from pydantic import TypeAdapter

from p2pl_async.air import AnyMedium, SharedMedium
from p2pl_async.air.air import Air
from p2pl_async.air.hearing import GraphHearing
from p2pl_async.clock import VirtualClock
from p2pl_async.device import Observer
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.downtime import Presence, watches
from p2pl_async.hardware.hardware import Hardware, downtimes_of
from p2pl_async.learner import Learner
from p2pl_async.link import Link, LinkSettings
from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.base import Protocol
from p2pl_async.testing.witness import Witness
from p2pl_async.topology.neighborhood import Neighborhood
from p2pl_async.trace import Record
from p2pl_async.transport.relaying import Relaying

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
    watched: bool = False,
    relaying: Relaying | None = None,
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
        relaying: how devices pass messages on, and over which links; None: links go to all out-neighbors.
        watched: whether a `Witness` keeps all messages, for `check_laws` and `diagram`.

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

    direct = out_neighbors if relaying is None else relaying.out_neighbors
    shared = TypeAdapter(AnyMedium).validate_python(dict(medium or {"kind": "dedicated"}))

    def make_air(
        clock: VirtualClock, round_of: Callable[[DeviceId], int], back: Callable[[DeviceId, DeviceId], Link]
    ) -> Air:
        assert isinstance(shared, SharedMedium)
        now = None
        if neighborhood is not None:

            def now(device: DeviceId, at: float) -> Sequence[DeviceId]:
                return neighborhood.outgoing(device, at, round_of(device))

        presence = None if downtimes is None else Presence(downtimes)
        return Air(shared, clock, len(out_neighbors), GraphHearing(direct, now), seed, back=back, presence=presence)

    emulation = Emulation(
        out_neighbors,
        make_link,
        seed,
        make_air=make_air if shared.shared else None,
        neighborhood=neighborhood,
        learner=learner,
        rounds=rounds,
        hardware=hardware,
        relaying=relaying,
        observer=Observer(record=record, sink=sink),
    )
    if watched:
        Witness(emulation)
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
