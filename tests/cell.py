"""A few radios on a shared medium, driven by the calendar alone: no tasks, no messages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from p2pl_async.air import AnyMedium
from p2pl_async.air.air import Air
from p2pl_async.air.reach import GraphReach
from p2pl_async.clock import VirtualClock
from p2pl_async.link import Link, LinkSettings, Verdict
from p2pl_async.testing import complete


class Outcome(NamedTuple):
    sent: float
    src: int
    dst: int
    decided: float
    verdict: Verdict


class Cell:
    """Args: a `[medium]` table, who has links to whom (everybody by default), a `[link]` table."""

    def __init__(
        self,
        medium: dict[str, Any],
        n: int,
        *,
        link: dict[str, Any] | None = None,
        out_neighbors: Sequence[Sequence[int]] | None = None,
        reach: Any = None,
        propagation: Any = None,
        seed: int = 1,
    ) -> None:
        self.clock = VirtualClock()
        self.random = np.random.default_rng(seed)
        self.outcomes: list[Outcome] = []
        self.on_air: list[tuple[float, float, int]] = []  # (start, end, device)
        self._link = LinkSettings.model_validate(link or {})
        self._links: dict[tuple[int, int], Link] = {}
        self._seed = seed
        self._offers = 0
        self.air = Air(
            TypeAdapter(AnyMedium).validate_python(medium),
            self.clock,
            n,
            reach or GraphReach(out_neighbors or complete(n)),
            seed,
            back=self.link,
            propagation=propagation,
            on_transmit=lambda device, start, end: self.on_air.append((start, end, device)),
        )

    def link(self, src: int, dst: int) -> Link:
        if (src, dst) not in self._links:
            self._links[src, dst] = Link(src, dst, self._link, self._seed)
        return self._links[src, dst]

    def offer(self, at: float, src: int, targets: Sequence[int], size: int) -> None:
        """Have a device send a message at an instant."""
        self._offers += 1
        self.clock.schedule(at, src, -5, self._offers, self._send, (src, targets, size))

    def poisson(self, rate: float, src: int, targets: Sequence[int], size: int, count: int) -> None:
        """Have a device send messages at random instants, so many in a second on average."""
        for at in np.cumsum(self.random.exponential(1 / rate, count)):
            self.offer(float(at), src, targets, size)

    def run(self, until: float = math.inf) -> Cell:
        """Let everything happen."""
        while self.clock.calendar and self.clock.calendar[0][0] <= until:
            self.clock.deadline_to_sleep_time(math.inf)
        return self

    def share(self, cause: str = "") -> float:
        """Return the share of messages that were lost for a reason, or that arrived."""
        return sum(outcome.verdict.cause == cause for outcome in self.outcomes) / len(self.outcomes)

    def delays(self) -> np.ndarray:
        """Return how long the messages that arrived took, in seconds."""
        return np.array([o.verdict.arrival - o.sent for o in self.outcomes if not o.verdict.cause])

    def _send(self, message: tuple[int, Sequence[int], int]) -> None:
        src, targets, size = message
        self.air.send(
            src, [self.link(src, dst) for dst in targets], size, self._decided, (self.clock.now, src, targets)
        )

    def _decided(self, token: tuple[float, int, Sequence[int]], k: int, verdict: Verdict) -> None:
        sent, src, targets = token
        self.outcomes.append(Outcome(sent, src, targets[k], self.clock.now, verdict))


class FixedPowers:
    """Powers as given, in dBm, shape (n, n); frames at 802.15.4's error rate.

    Source of the rate: IEEE 802.15.4-2006, E.4.1.8.
    """

    def __init__(self, powers: np.ndarray, noise: float = -101.0) -> None:
        self._powers = powers
        self._noise = noise

    def powers(self, src: int, at: float) -> np.ndarray:
        return self._powers[src]

    def noise(self, dst: int) -> float:
        return self._noise

    def error(self, src: int, dst: int, size: int, sinr: float) -> float:
        ratio = 10 ** (sinr / 10)
        k = np.arange(2, 17)
        terms = (-1.0) ** k * np.array([math.comb(16, i) for i in k]) * np.exp(20 * ratio * (1 / k - 1))
        return float(1 - (1 - np.clip(8 / 15 / 16 * terms.sum(), 0, 1)) ** (8 * size))
