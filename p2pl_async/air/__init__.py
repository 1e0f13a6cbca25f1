"""The air that devices share: media, channel access, collisions, air time and duty cycles.

Settings, the `[medium]` table, are exported here; the medium itself is `air.air.Air`.
"""

from __future__ import annotations

from p2pl_async.air.airtime import AirTime, LoRa, Ofdm, Serial
from p2pl_async.air.any_medium import AnyMedium
from p2pl_async.air.channel_settings import Channels, Hopping
from p2pl_async.air.rate_settings import IdealRates, Minstrel
from p2pl_async.air.settings import (
    Ack,
    Aggregate,
    Aloha,
    BleAdvertising,
    BleConnections,
    Contended,
    CsmaCa,
    Dcf,
    Dedicated,
    DutyCycleLimit,
    HalfDuplex,
    Ideal,
    Medium,
    Rts,
    SensedMedium,
    SharedMedium,
    Tdma,
    Tsch,
)
from p2pl_async.air.sidelink_settings import NrMode2

__all__ = [
    "Ack",
    "Aggregate",
    "AirTime",
    "Aloha",
    "AnyMedium",
    "BleAdvertising",
    "BleConnections",
    "Channels",
    "Contended",
    "CsmaCa",
    "Dcf",
    "Dedicated",
    "DutyCycleLimit",
    "HalfDuplex",
    "Hopping",
    "Ideal",
    "IdealRates",
    "LoRa",
    "Medium",
    "Minstrel",
    "NrMode2",
    "Ofdm",
    "Rts",
    "SensedMedium",
    "Serial",
    "SharedMedium",
    "Tdma",
    "Tsch",
]
