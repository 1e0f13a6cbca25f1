"""Every medium that a scenario can name."""

from __future__ import annotations

from typing import Annotated

from p2pl_async.air.settings import (
    Aloha,
    BleAdvertising,
    BleConnections,
    CsmaCa,
    Dcf,
    Dedicated,
    HalfDuplex,
    Ideal,
    Medium,
    Tdma,
    Tsch,
)
from p2pl_async.air.sidelink_settings import NrMode2
from p2pl_async.basics.settings import OneOf

_KINDS = (Dedicated, HalfDuplex, Ideal, CsmaCa, Dcf, Aloha, Tdma, Tsch, BleConnections, BleAdvertising, NrMode2)
AnyMedium = Annotated[Medium, OneOf("medium", *_KINDS)]
