"""Every loss that a scenario can name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from p2pl_async.basics.plugins import door
from p2pl_async.basics.settings import OneOf
from p2pl_async.link.loss.base import LossModel
from p2pl_async.link.loss.in_time import GilbertElliott
from p2pl_async.link.loss.independent import Bernoulli, NoLoss
from p2pl_async.link.loss.per_packet import BurstError, FourState, GilbertPackets
from p2pl_async.link.loss.recorded import RecordedLoss
from p2pl_async.link.shorthand import number_or_kind

_KINDS = (NoLoss, Bernoulli, GilbertElliott, GilbertPackets, FourState, BurstError, RecordedLoss)


def _shorthand(value: Any) -> Mapping[str, Any]:
    return {"kind": "bernoulli", "p": number_or_kind(value, "loss", "5 %", _KINDS)}


AnyLoss = Annotated[LossModel, OneOf("loss", *_KINDS, shorthand=_shorthand, outside=door(LossModel))]
