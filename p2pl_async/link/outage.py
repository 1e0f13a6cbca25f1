"""Outages: a link that is down carries nothing, and cuts off what is on the air.

A packet is lost if the link is down at any moment of its transmission. Sleeping radios and
links that come and go are outages; packets lost to noise are `loss`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, StrictBool

from p2pl_async.link.timeline import Timeline, geometric_scale
from p2pl_async.randomness import stream
from p2pl_async.settings import OneOf, Settings
from p2pl_async.units import PositiveSeconds, Probability


class Outage(Settings):
    """Base of every outage model."""

    def process(self, seed: int, src: int, dst: int) -> Timeline | None:
        """Return when one link is down (state 1), or None if it never is."""
        raise NotImplementedError


class NoOutage(Outage):
    """The link is always up."""

    kind: Literal["none"] = "none"

    def process(self, seed: int, src: int, dst: int) -> None:
        return None


class OnOff(Outage):
    """The link goes up and down for random stretches of time, with these means.

    With `shared`, both directions go down together; else each has a fate of its own.
    """

    kind: Literal["on-off"] = "on-off"
    up: PositiveSeconds = Field(description="mean time until the link goes down")
    down: PositiveSeconds = Field(description="mean time until it comes up again")
    shared: StrictBool = Field(default=False, description="both directions are down at the same times")

    def process(self, seed: int, src: int, dst: int) -> Timeline:
        share = self.down / (self.up + self.down)
        return Timeline(_generator(seed, src, dst, self.shared), (self.up, self.down), share)


class Slotted(Outage):
    """Time is cut into slots; in each, the link is down with probability p, independently.

    Slots start at 0 s on every link. With `shared`, both directions go down together.
    """

    kind: Literal["slotted"] = "slotted"
    p: Probability = Field(description="share of slots in which the link is down")
    slot: PositiveSeconds = Field(description="length of a slot")
    shared: StrictBool = Field(default=False, description="both directions are down in the same slots")

    def process(self, seed: int, src: int, dst: int) -> Timeline:
        scales = geometric_scale(self.p), geometric_scale(1.0 - self.p)
        return Timeline(_generator(seed, src, dst, self.shared), scales, self.p, self.slot)


def _generator(seed: int, src: int, dst: int, shared: bool) -> np.random.Generator:
    """Return the stream of one direction, or the one that both directions use."""
    return stream(seed, "outage-shared", min(src, dst), max(src, dst)) if shared else stream(seed, "outage", src, dst)


AnyOutage = Annotated[Outage, OneOf("outage", NoOutage, OnOff, Slotted)]
