"""Each kind of medium at work: how devices get the channel, which one radios are on, and who disturbs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from p2pl_async.air.access import Access, AlohaAccess, CsmaCaAccess, DcfAccess, IdealAccess, TdmaAccess
from p2pl_async.air.advertising import AdvertisingAccess, Scanning
from p2pl_async.air.connections import ConnectionAccess, PacedAir
from p2pl_async.air.hearing import Waves
from p2pl_async.air.interference import Interference, Places
from p2pl_async.air.settings import (
    Aloha,
    BleAdvertising,
    BleConnections,
    CsmaCa,
    Dcf,
    Disturbed,
    Ideal,
    SharedMedium,
    Tdma,
    Tsch,
)
from p2pl_async.air.sidelink import Mode2Access, Subchannels
from p2pl_async.air.sidelink_settings import NrMode2
from p2pl_async.air.slotframes import CellsOfReceivers, TschAccess
from p2pl_async.air.transmission import Sender
from p2pl_async.air.tuning import OwnChannels, TunedByAccess, Tuning


def tuning_of(settings: SharedMedium, senders: Sequence[Sender], seed: int, own: Sequence[int] | None) -> Tuning | None:
    """Return where radios are; None if all are on one channel.

    Args:
        settings: of the medium.
        senders: of all devices.
        seed: of the run.
        own: the channel of each device; None: as the settings say.
    """
    if isinstance(settings, BleConnections):
        return TunedByAccess(len(senders))
    if isinstance(settings, BleAdvertising):
        return Scanning(settings, len(senders), seed)
    if isinstance(settings, NrMode2):
        return Subchannels(len(senders))
    channels = settings.hops if isinstance(settings, Tsch) else getattr(settings, "channels", None)
    if channels is None:
        return None
    own = channels.owned(len(senders), seed) if own is None else own
    if isinstance(settings, Tsch) and settings.cells == "receiver-based":
        return CellsOfReceivers(settings, own, senders)
    return OwnChannels(channels, own, senders, isinstance(settings, Dcf))


def interference_of(settings: SharedMedium, propagation: Waves | None, seed: int) -> Interference | None:
    """Return what other systems send in the same band; None if there are none."""
    if propagation is None or not isinstance(settings, Disturbed) or not settings.interferer:
        return None
    return Interference(settings.interferer, cast("Places", propagation), settings.sense, seed)


def access_of(settings: SharedMedium, air: PacedAir, seed: int, tuning: Tuning | None) -> Access:
    """Return how devices get the channel, on a medium whose radios are where `tuning` says."""
    if isinstance(settings, BleAdvertising):
        assert isinstance(tuning, Scanning)
        return AdvertisingAccess(air, settings, seed, tuning)
    if isinstance(settings, NrMode2):
        assert isinstance(tuning, Subchannels)
        return Mode2Access(air, settings, seed, tuning)
    if isinstance(settings, BleConnections):
        assert isinstance(tuning, TunedByAccess)
        return ConnectionAccess(air, settings, seed, tuning)
    if isinstance(settings, Tsch):
        return TschAccess(air, settings, seed)
    if isinstance(settings, Ideal):
        return IdealAccess(air)
    if isinstance(settings, CsmaCa):
        return CsmaCaAccess(air, settings, seed)
    if isinstance(settings, Dcf):
        return DcfAccess(air, settings, seed)
    if isinstance(settings, Tdma):
        return TdmaAccess(air, settings)
    if isinstance(settings, Aloha):
        return AlohaAccess(air, settings, seed)
    return Access(air)
