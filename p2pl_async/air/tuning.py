"""Channels at work: on which one each radio listens, and on which one a frame goes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from p2pl_async.air.channel_settings import Channels
from p2pl_async.air.transmission import Sender, Transmission
from p2pl_async.basics.arrays import Bools
from p2pl_async.basics.timeline import rounding
from p2pl_async.messages import DeviceId

ASLEEP = -1  # in place of a channel


class Tuning(Protocol):
    """Where each radio is.

    Attributes:
        wide: whether a radio listens on all channels at once, whatever the others below say.
        own: of each device, what tells on which channel to send to it.
    """

    wide: bool = False
    own: Sequence[int]

    def to_send(self, sender: Sender, instant: float) -> int:
        """Return the channel of a sender's next frame; if it has none, of its radio."""

    def of(self, device: DeviceId, instant: float) -> int:
        """Return the channel on which a device's radio listens."""

    def listening(self, channel: int, instant: float) -> Bools:
        """Return which radios listen on a channel, shape (n,)."""


class OwnChannels(Tuning):
    """Radios that listen on channels of their own, which may hop.

    Args:
        settings: of the channels.
        own: the channel of each device, its offset with hopping.
        senders: of all devices.
        waits_there: whether a radio that has a frame to send stays on that frame's channel while it waits, as where
            it must watch the channel all the time; else it listens on its own until it assesses the other.
    """

    def __init__(self, settings: Channels, own: Sequence[int], senders: Sequence[Sender], waits_there: bool) -> None:
        self.own = own
        self._owns = np.array(own, np.int64)
        self._senders = senders
        self._waits_there = waits_there
        self._hopping = settings.hopping
        if self._hopping is not None:
            self._sequence = self._hopping.sequence or tuple(range(settings.count))
            self._hops = np.array(self._sequence, np.int64)

    def at(self, own: int, instant: float) -> int:
        """Return the channel at an instant of radios whose own channel is `own`."""
        if self._hopping is None:
            return own
        return self._sequence[(self._dwells(instant) + own) % len(self._sequence)]

    def to_send(self, sender: Sender, instant: float) -> int:
        """Return the channel of a sender's next frame; if it has none, of its radio."""
        waiting = sender.waiting
        return self.at(waiting[0].channel if waiting else self.own[sender.device], instant)

    def of(self, device: DeviceId, instant: float) -> int:
        """Return the channel on which a device's radio listens."""
        if self._waits_there:
            return self.to_send(self._senders[device], instant)
        return self.at(self.own[device], instant)

    def listening(self, channel: int, instant: float) -> Bools:
        """Return which radios listen on a channel, shape (n,)."""
        if self._waits_there:
            return np.array([self.to_send(sender, instant) == channel for sender in self._senders])
        if self._hopping is None:
            return np.asarray(self._owns == channel)
        return np.asarray(self._hops[(self._owns + self._dwells(instant)) % len(self._hops)] == channel)

    def _dwells(self, instant: float) -> int:
        assert self._hopping is not None
        return int((instant + rounding(instant)) // self._hopping.dwell)


class TunedByAccess(Tuning):
    """Radios that the medium's access tunes, and that else sleep.

    Args:
        n: number of devices.
    """

    def __init__(self, n: int) -> None:
        self.own = [0] * n
        self._tuned = np.full(n, ASLEEP, np.int64)

    def tune(self, device: DeviceId, channel: int | None) -> None:
        """Put a radio on a channel from now on; None: let it sleep."""
        self._tuned[device] = ASLEEP if channel is None else channel

    def to_send(self, sender: Sender, instant: float) -> int:
        return int(self._tuned[sender.device])

    def of(self, device: DeviceId, instant: float) -> int:
        return int(self._tuned[device])

    def listening(self, channel: int, instant: float) -> Bools:
        return np.asarray(self._tuned == channel)


def begin(tuning: Tuning, transmission: Transmission) -> None:
    """Find the receivers that listen elsewhere when a transmission begins."""
    start, channel = transmission.start, transmission.channel
    if tuning.wide:
        return
    deaf = [device for device in transmission.receivers if tuning.of(device, start) != channel]
    if deaf:
        transmission.deaf = transmission.deaf.union(deaf)


def meet(tuning: Tuning, transmission: Transmission, other: Transmission) -> bool:
    """Tell whether a transmission that begins may disturb one on the air, or be disturbed; see who misses one of them.

    They do on one channel. On two, who transmits misses the other, and who already receives one misses what
    begins on the other, unless it is wide; who awaits an acknowledgment is where that comes.
    """
    if transmission.channel == other.channel:
        return True
    both = set() if tuning.wide else set(transmission.receivers).intersection(other.receivers)
    if both:
        away = other if transmission.message is None else transmission
        away.deaf = away.deaf.union(both)
    return other.src in transmission.receivers or transmission.src in other.receivers
