"""The air that devices share: media, channel access, collisions, air time and duty cycles.

Settings, the `[medium]` table, are exported here; the medium itself is `air.air.Air`.
"""

from __future__ import annotations

from p2pl_async.air.airtime import AirTime, LoRa, Ofdm, Serial
from p2pl_async.air.settings import (
    Ack,
    Aloha,
    AnyMedium,
    Contended,
    CsmaCa,
    Dcf,
    Dedicated,
    DutyCycleLimit,
    HalfDuplex,
    Ideal,
    Medium,
    SensedMedium,
    SharedMedium,
)

__all__ = [
    "Ack",
    "AirTime",
    "Aloha",
    "AnyMedium",
    "Contended",
    "CsmaCa",
    "Dcf",
    "Dedicated",
    "DutyCycleLimit",
    "HalfDuplex",
    "Ideal",
    "LoRa",
    "Medium",
    "Ofdm",
    "SensedMedium",
    "Serial",
    "SharedMedium",
]
