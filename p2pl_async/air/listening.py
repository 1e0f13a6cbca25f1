"""Which radios listen to a frame: what receiving costs them is their own affair, whether or not they get it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2pl_async.air.transmission import Transmission
from p2pl_async.air.tuning import Tuning
from p2pl_async.messages import DeviceId

OnReceive = Callable[[Sequence[DeviceId], float, float], object]


class Listening:
    """Tells of every frame which devices listen to it.

    Args:
        on_receive: called with (devices, start, end) of each frame; None: nobody wants to know.
        tuning: the channels of radios; None: all are on one.
    """

    def __init__(self, on_receive: OnReceive | None, tuning: Tuning | None) -> None:
        self._on_receive = on_receive
        self._tuning = tuning

    def over(self, transmission: Transmission) -> None:
        """Called when a transmission ends."""
        if self._on_receive is None:
            return
        listeners = transmission.audience.order
        if self._tuning is not None or transmission.src in transmission.audience.ids:
            listeners = tuple(device for device in listeners if self._hears(device, transmission))
        self._on_receive(listeners, transmission.start, transmission.end)

    def listened(self, device: DeviceId, start: float, end: float) -> None:
        """Called when a device, which has listened since an instant whenever it didn't send, goes to sleep."""
        if self._on_receive is not None:
            self._on_receive((device,), start, end)

    def _hears(self, device: DeviceId, transmission: Transmission) -> bool:
        """Tell whether a device's radio was on the channel of another's transmission when it began."""
        if device == transmission.src:
            return False
        if self._tuning is None:
            return True
        if device in transmission.receivers:
            return device not in transmission.deaf
        return self._tuning.of(device, transmission.start) == transmission.channel
