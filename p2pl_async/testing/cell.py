"""Radios on shared air, driven by the calendar alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from p2pl_async.air import AnyMedium, SharedMedium
from p2pl_async.air.air import Air
from p2pl_async.air.hearing import GraphHearing
from p2pl_async.clock import VirtualClock
from p2pl_async.link import Link, LinkSettings, Verdict
from p2pl_async.testing.small import complete


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
            self.clock.deadline_to_sleep_time(until)
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

    def _decided(
        self, token: tuple[float, int, Sequence[int]], places: Sequence[int], verdicts: Sequence[Verdict]
    ) -> None:
        sent, src, targets = token
        for k, verdict in zip(places, verdicts, strict=True):
            self.outcomes.append(Outcome(sent, src, targets[k], self.clock.now, verdict))
