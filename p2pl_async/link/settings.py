"""The `[link]` table of a scenario: everything that one direction between two devices does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, model_validator

from p2pl_async.basics.settings import Settings, mistake, word
from p2pl_async.basics.units import Bytes, PositiveBytes, Probability
from p2pl_async.link.arq import Arq
from p2pl_async.link.fec import Fec
from p2pl_async.link.latency import AnyLatency, Constant
from p2pl_async.link.loss.independent import NoLoss
from p2pl_async.link.loss.kinds import AnyLoss
from p2pl_async.link.outage import AnyOutage, NoOutage
from p2pl_async.link.queue import Queue
from p2pl_async.link.rate_over_time import Rate


class LinkSettings(Settings):
    """One direction between two devices; the default is a perfect link.

    Each key can be overridden for some links alone; `"unlimited"` and `"none"` switch off what
    the default sets.
    """

    latency: AnyLatency = Field(
        default=Constant(), description="how long a message travels once it has left the sender"
    )
    loss: AnyLoss = Field(default=NoLoss(), description="which packets don't arrive")
    rate: Rate = Field(
        default=None,
        description="bits per second, or how it changes in time; messages leave one after another",
    )
    queue: Annotated[Queue | None, *word("unlimited")] = Field(
        default=None, description="how much may wait for the transmitter; messages that don't fit are lost"
    )
    mtu: Annotated[PositiveBytes | None, *word("unlimited")] = Field(
        default=None, description="most bytes of a packet, header included; longer messages are sent in several packets"
    )
    header: Bytes = Field(default=0, description="bytes that each packet has in addition to its content")
    arq: Annotated[Arq | None, *word("none")] = Field(
        default=None, description="retries of lost packets by the link itself"
    )
    fec: Annotated[Fec | None, *word("none")] = Field(
        default=None,
        description="packets sent in addition, from which others that are lost can be rebuilt; one transmission to "
        "several devices has the most parity that any of their links asks for",
    )
    outage: AnyOutage = Field(default=NoOutage(), description="when the link is down altogether")
    order: Literal["fifo", "free"] = Field(
        default="fifo", description='"free": a message may overtake those sent before it on this link'
    )
    duplicate: Probability = Field(default=0.0, description="probability that a message that arrives does so twice")
    corrupt: Probability = Field(default=0.0, description="probability that a packet that arrives is spoiled")
    deliver_corrupted: StrictBool = Field(
        default=False, description="a spoiled message is delivered, marked so; else a spoiled packet counts as lost"
    )

    @property
    def mean_rate_bps(self) -> float | None:
        """The rate, on average if it changes in time; None: unlimited."""
        return self.rate if self.rate is None or isinstance(self.rate, float) else self.rate.mean_bps

    @model_validator(mode="after")
    def _check(self) -> LinkSettings:
        if self.arq is not None and self.fec is not None:
            raise mistake("arq and fec don't go together: lost packets are sent again or rebuilt; remove one of them")
        if self.arq is not None and self.arq.kind == "selective-repeat" and self.outage.holds:
            raise mistake('selective-repeat can\'t wait for the link; write when_off = "drop", or another kind of arq')
        if self.arq is not None and self.arq.retries is None and self.rate is None and not self.arq.waits:
            raise mistake("unlimited retries must take time; add a rate, or a turnaround to arq")
        if self.queue is not None and self.rate is None:
            raise mistake('queue needs a rate: without one nothing waits; add rate = "2 Mbit/s"')
        if self.mtu is not None and self.header >= self.mtu:
            raise mistake(f"header, {self.header} B, must be smaller than mtu, {self.mtu} B, which includes it")
        return self
