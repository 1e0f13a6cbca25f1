"""The `[medium]` table: how devices share the air."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from p2pl_async.air.airtime import AnyAirTime, Serial
from p2pl_async.air.channel_settings import MOST_CHANNELS, Channel, Channels, Hopping
from p2pl_async.air.interferers import Interferer
from p2pl_async.air.rate_settings import AnyRateControl
from p2pl_async.basics.limits import MOST_ITEMS
from p2pl_async.basics.settings import Settings, Short, mistake, word
from p2pl_async.basics.units import (
    BitsPerSecond,
    Bytes,
    DecibelMilliwatts,
    PositiveBytes,
    PositiveSeconds,
    Probability,
    Seconds,
    SpreadDecibels,
    show_seconds,
)
from p2pl_async.link.queue import Queue

BLE_CHANNELS = 37  # for data
BLE_ADVERTISING_CHANNELS = 3
BLOCK = 64  # frames that a block acknowledgment tells of
Small = Annotated[int, Field(strict=True, ge=0, le=16)]


class Medium(Settings):
    """Base of every medium."""

    kind: str
    shared: ClassVar[bool] = True


class Dedicated(Medium):
    """Every link has a channel and a transmitter of its own; links don't disturb each other."""

    kind: Literal["dedicated"] = "dedicated"
    shared: ClassVar[bool] = False


class DutyCycleLimit(Settings):
    """A regulator's limit on the share of time that a device may transmit."""

    share: Probability = Field(description="share of time on the air, such as 1 % in most of EU 868 MHz")
    mode: Literal["window", "per-frame"] = Field(
        default="window",
        description='"window": at most the share of any window, bursts allowed; "per-frame": silent after each frame',
    )
    window: PositiveSeconds = Field(default=3600.0, description="length of the window")

    @model_validator(mode="after")
    def _check(self) -> DutyCycleLimit:
        if self.share == 0:
            raise mistake("share must be above 0 %, or no frame may ever be sent")
        return self


class Ack(Settings):
    """An acknowledgment frame: the receiver of a frame answers, on the same air."""

    size: PositiveBytes = Field(description="bytes on the air")
    airtime: PositiveSeconds = Field(description="how long it occupies the channel")
    delay: Seconds = Field(default=0.0, description="from the end of a frame to its acknowledgment (SIFS)")


class SharedMedium(Medium):
    """Base of media in which a device has one radio for all its messages: a broadcast is one transmission."""

    airtime: AnyAirTime = Field(default=Serial(), description="how long a frame occupies the channel")
    broadcast: Literal["once", "one-by-one"] = Field(
        default="once",
        description='a message to several devices is sent "once", without acknowledgments; or "one-by-one", each copy '
        "acknowledged and repeated as its link says",
    )
    broadcast_rate: Annotated[BitsPerSecond | None, *word("slowest")] = Field(
        default=None, description='rate of messages to several devices; "slowest": the lowest of their links'
    )
    rates: Annotated[AnyRateControl | None, *word("none")] = Field(
        default=None,
        description="how a sender adapts its rate to each neighbor; needs a [radio] phy of several rates",
    )
    queue: Annotated[Queue | None, *word("unlimited")] = Field(
        default=None, description="limits of what waits for a device's radio; a message that doesn't fit is lost"
    )
    ack: Annotated[Ack | None, *word("none")] = Field(
        default=None, description="acknowledgments, for links with arq; if none, they take no air time and never fail"
    )
    spacing: Seconds = Field(default=0.0, description="how long a device pauses between two frames of its own (IFS)")
    duty_cycle: Annotated[DutyCycleLimit | None, *word("none")] = Field(
        default=None, description="a limit on the time on the air"
    )


class HalfDuplex(SharedMedium):
    """One radio per device, which can't receive while it transmits; devices don't disturb each other otherwise."""

    kind: Literal["half-duplex"] = "half-duplex"


class SensedMedium(SharedMedium):
    """Base of media in which devices notice each other's transmissions."""

    sense: DecibelMilliwatts | None = Field(
        default=None,
        description="power from which a device notices a transmission (CCA threshold), if there is a [radio]; "
        "by default, a device notices those that have a link to it",
    )


class Ideal(SensedMedium):
    """A perfect scheduler: devices in range of each other take turns, first come first served, without a gap."""

    kind: Literal["ideal"] = "ideal"


class Contended(SensedMedium):
    """Base of media in which transmissions may collide."""

    collision: Literal["overlap", "capture", "sinr"] = Field(
        default="overlap",
        description='"overlap": any overlap destroys both; "capture": the one that is stronger by `capture` survives; '
        '"sinr": interference is noise to the radio\'s error model (the last two need [radio])',
    )
    capture: SpreadDecibels = Field(default=6.0, description="how much stronger a frame must be to capture a receiver")
    channels: Annotated[Annotated[Channels, Short("count")] | None, *word("one")] = Field(
        default=None, description='orthogonal channels; "one": all radios share one'
    )


class Disturbed(Contended):
    """Base of media that other systems may disturb."""

    interferer: Annotated[tuple[Interferer, ...], Field(max_length=MOST_ITEMS)] = Field(
        default=(), description='other systems that send in the same band; needs [radio] and collision = "sinr"'
    )

    @model_validator(mode="after")
    def _check_interferer(self) -> Disturbed:
        if self.interferer and self.collision != "sinr":
            raise mistake('interferer is noise, and needs collision = "sinr"')
        last = -1 if self.channels is None else self.channels.count - 1
        for index, one in enumerate(self.interferer):
            if one.channels is not None and max(one.channels) > last:
                known = 'channels are "one": add channels = 16' if last < 0 else f"the last of channels is {last}"
                raise mistake(f"interferer[{index}].channels has {max(one.channels)}, and {known}")
        return self


class CsmaCa(Disturbed):
    """Unslotted CSMA/CA of 802.15.4: random backoff, one look at the channel, then transmit."""

    kind: Literal["csma-ca"] = "csma-ca"
    min_exponent: Small = Field(default=3, description="macMinBE: the first backoff is 0 to 2^this - 1 slots")
    max_exponent: Small = Field(default=5, description="macMaxBE: a backoff is at most 0 to 2^this - 1 slots")
    max_backoffs: Small = Field(
        default=4, description="macMaxCSMABackoffs: busy looks before a frame is dropped, less 1"
    )
    slot: PositiveSeconds = Field(default=320e-6, description="aUnitBackoffPeriod: unit of the backoff")
    cca_time: PositiveSeconds = Field(default=128e-6, description="how long the channel is assessed")
    turnaround: Seconds = Field(default=192e-6, description="from a clear channel to the first byte")

    @model_validator(mode="after")
    def _check(self) -> CsmaCa:
        if self.min_exponent > self.max_exponent:
            raise mistake(f"min_exponent, {self.min_exponent}, must not be above max_exponent, {self.max_exponent}")
        return self


class Aggregate(Settings):
    """How many frames of a message to one device share a preamble and an acknowledgment."""

    frames: Annotated[int, Field(strict=True, ge=2, le=BLOCK)] = Field(
        default=BLOCK, description="most frames of one transmission"
    )
    longest: PositiveSeconds = Field(
        default=5.484e-3, description="most air time of one transmission of several frames"
    )


class Rts(Settings):
    """Requests to send, before frames to one device; defaults are those of 802.11a at 6 Mbit/s."""

    over: Bytes = Field(default=0, description="bytes on the air from which on a sender asks first")
    size: PositiveBytes = Field(default=20, description="bytes of a request")
    airtime: PositiveSeconds = Field(default=52e-6, description="how long a request occupies the channel")
    clearance: Ack = Field(
        default=Ack.model_validate({"size": "14 B", "airtime": "44 us", "delay": "16 us"}),
        description="the answer (CTS); the frame follows after its delay once more",
    )


class Dcf(Contended):
    """Distributed coordination of 802.11: count down slots while the channel is idle, double the window on failure."""

    kind: Literal["dcf"] = "dcf"
    slot: PositiveSeconds = Field(default=9e-6, description="slot time")
    difs: PositiveSeconds = Field(default=34e-6, description="idle time before counting begins")
    eifs: Annotated[PositiveSeconds | None, *word("auto")] = Field(
        default=None,
        description='idle time after frames that collide at a device; "auto": `difs` after the time of an ack',
    )
    aggregate: Annotated[Aggregate | None, *word("none")] = Field(
        default=None, description="frames of a message to one device that are sent together (A-MPDU, block ack)"
    )
    rts: Annotated[Rts | None, *word("none")] = Field(
        default=None,
        description="requests to send (RTS, CTS): who hears the answer keeps silent",
    )
    min_window: Annotated[int, Field(strict=True, ge=0)] = Field(default=15, description="CWmin: 0 to this many slots")
    max_window: Annotated[int, Field(strict=True, ge=0)] = Field(default=1023, description="CWmax")

    @model_validator(mode="after")
    def _check(self) -> Dcf:
        if self.min_window > self.max_window:
            raise mistake(f"min_window, {self.min_window}, must not be above max_window, {self.max_window}")
        if self.channels is not None and self.channels.hopping is not None:
            raise mistake("channels.hopping is not for dcf, whose radios watch one channel; leave it out")
        return self


class Aloha(Disturbed):
    """Transmit without listening, at once or at the next slot."""

    kind: Literal["aloha"] = "aloha"
    slot: PositiveSeconds | None = Field(
        default=None, description="transmissions start at multiples of this; without it, pure ALOHA"
    )
    backoff: PositiveSeconds = Field(default=1.0, description="mean wait before a retry, for links with arq")


class Tdma(Disturbed):
    """Time is divided into frames of slots, and each device sends in its own slot: device k in slot k, modulo `slots`.

    A transmission and its acknowledgment fit a slot, and several do if they are short. Devices that share a slot
    collide as in ALOHA, where they meet.
    """

    kind: Literal["tdma"] = "tdma"
    slot: PositiveSeconds = Field(description="length of a slot")
    slots: Annotated[Annotated[int, Field(strict=True, ge=1)] | None, *word("devices")] = Field(
        default=None, description='slots of a frame; "devices": one for each device'
    )


class Tsch(Disturbed):
    """Time-slotted channel hopping of 802.15.4: slotframes whose cells belong to all, to senders or to receivers.

    A slot carries one frame and its acknowledgment. In a cell that several senders share, frames collide, and a sender
    without an acknowledgment lets a random number of such cells pass. Radios hop in every slot; a channel of one's own
    is the channel offset of the cells in which one listens.
    """

    kind: Literal["tsch"] = "tsch"
    slot: PositiveSeconds = Field(default=10e-3, description="length of a timeslot")
    slotframe: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        default=7, description="length of the slotframe, in slots"
    )
    cells: Literal["minimal", "sender-based", "receiver-based"] = Field(
        default="minimal",
        description="who sends in which slot of the slotframe: all in slot 0 (RFC 8180); device k in slot k modulo "
        "slotframe; whoever sends to device k in that slot (Orchestra)",
    )
    tx_offset: Seconds = Field(default=2.12e-3, description="from the beginning of a slot to its frame (TsTxOffset)")
    rx_wait: Seconds = Field(
        default=2.2e-3, description="how long a radio listens in a cell where no frame comes (TsRxWait); costs energy"
    )
    min_exponent: Small = Field(default=1, description="macMinBE: after a failure 0 to 2^this - 1 shared cells pass")
    max_exponent: Small = Field(default=7, description="macMaxBE: after many failures")
    sequence: Annotated[
        Annotated[tuple[Channel, ...], Field(min_length=1, max_length=MOST_CHANNELS)] | None, *word("ascending")
    ] = Field(default=None, description='hopping sequence; "ascending": all channels in order')
    ack: Annotated[Ack | None, *word("none")] = Field(
        default=Ack.model_validate({"size": "25 B", "airtime": "800 us", "delay": "1 ms"}),
        description="acknowledgments, for links with arq; if none, they take no air time and never fail",
    )
    channels: Annotated[Annotated[Channels, Short("count")] | None, *word("one")] = Field(
        default=Channels(count=16), description='orthogonal channels; "one": no hopping'
    )

    def cell(self, src: int, dst: int) -> int:
        """Return the slot of the slotframe in which a device may send to another."""
        return {"minimal": 0, "sender-based": src, "receiver-based": dst}[self.cells] % self.slotframe

    @property
    def hops(self) -> Channels:
        """The channels, as they are hopped over."""
        channels = self.channels or Channels(count=1)
        return channels.model_copy(update={"hopping": Hopping.model_construct(dwell=self.slot, sequence=self.sequence)})

    @model_validator(mode="after")
    def _check(self) -> Tsch:
        if self.min_exponent > self.max_exponent:
            raise mistake(f"min_exponent, {self.min_exponent}, must not be above max_exponent, {self.max_exponent}")
        if self.channels is not None and self.channels.hopping is not None:
            raise mistake("channels.hopping follows from slot and sequence; leave it out")
        last = 0 if self.channels is None else self.channels.count - 1
        if max(self.sequence or (0,)) > last:
            raise mistake(f"sequence has channel {max(self.sequence or ())}, and the last of channels is {last}")
        if self.spacing or self.duty_cycle is not None:
            key = "spacing" if self.spacing else "duty_cycle"
            raise mistake(f"{key} is for media without slotframes; leave it out")
        return self


class BleConnections(Disturbed):
    """Connections of Bluetooth LE: each pair of neighbors meets every interval, on 37 channels in turn.

    At each event central and peripheral send in turns, until neither has more or a packet is lost; the next packet of
    the other acknowledges. Which of the two is central, and when their first event is, is drawn for each pair. A
    broadcast goes to each neighbor over its connection.
    """

    kind: Literal["ble-connections"] = "ble-connections"
    broadcast: Literal["one-by-one"] = Field(default="one-by-one", description="a copy over each connection")
    interval: PositiveSeconds = Field(
        default=30e-3, description="connection interval, from one event to the next: 7.5 ms to 4 s"
    )
    latency: Annotated[int, Field(strict=True, ge=0, le=499)] = Field(
        default=0,
        description="peripheral latency: events in a row that a peripheral with nothing to send sleeps through",
    )
    supervision: PositiveSeconds = Field(
        default=4.0,
        description="supervision timeout: after so long without a packet from the other, a connection is lost, with "
        "all that waits for it; the next message makes it anew",
    )
    ack: Ack = Field(
        default=Ack.model_validate({"size": "11 B", "airtime": "44 us", "delay": "150 us"}),
        description="the empty packet of who has nothing to send, after the time between two packets (T_IFS)",
    )
    channels: Annotated[Annotated[Channels, Short("count")] | None, *word("one")] = Field(
        default=Channels(count=37), description="data channels in use, of 37; each connection hops by itself"
    )

    @property
    def data_channels(self) -> int:
        """Number of channels in use."""
        return 1 if self.channels is None else self.channels.count

    @model_validator(mode="after")
    def _check(self) -> BleConnections:
        if not 7.5e-3 <= self.interval <= 4 or abs(self.interval / 1.25e-3 - round(self.interval / 1.25e-3)) > 1e-6:
            raise mistake("interval must be from 7.5 ms to 4 s, in steps of 1.25 ms")
        if self.channels is not None and self.channels.count > BLE_CHANNELS:
            raise mistake(f"channels.count must be at most {BLE_CHANNELS}, the data channels of Bluetooth LE")
        if self.channels is not None and (self.channels.own != "same" or self.channels.hopping is not None):
            raise mistake("channels takes only a count, as each connection hops by itself; leave own and hopping out")
        if self.spacing or self.duty_cycle is not None:
            key = "spacing" if self.spacing else "duty_cycle"
            raise mistake(f"{key} is for media without connection events; leave it out")
        return self


class BleAdvertising(Disturbed):
    """Advertising of Bluetooth LE: each packet is sent on three channels in several events; who scans may hear it.

    An event follows the one before after the interval and a random delay of up to 10 ms. A scanner listens on one
    channel in each window, in turn. Nothing is acknowledged, and a message to one device is advertised like others.
    """

    kind: Literal["ble-advertising"] = "ble-advertising"
    broadcast: Literal["once"] = Field(default="once", description="the same packets for all neighbors")
    interval: PositiveSeconds = Field(
        default=100e-3, description="advertising interval, from one event to the next: 20 ms to 10.24 s"
    )
    events: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(
        default=3, description="advertising events of each packet"
    )
    scan_interval: PositiveSeconds = Field(
        default=100e-3, description="from one scan window to the next: up to 40.96 s"
    )
    window: Annotated[PositiveSeconds | None, *word("scan_interval")] = Field(
        default=None, description='scan window; "scan_interval": a radio scans all the time'
    )
    channels: Annotated[Annotated[Channels, Short("count")] | None, *word("one")] = Field(
        default=Channels(count=3), description="advertising channels in use, of 3"
    )

    @property
    def advertising_channels(self) -> int:
        """Number of channels in use."""
        return 1 if self.channels is None else self.channels.count

    @property
    def scan_window(self) -> float:
        """Length of a scan window, in seconds."""
        return self.scan_interval if self.window is None else self.window

    @model_validator(mode="after")
    def _check(self) -> BleAdvertising:
        if not 20e-3 <= self.interval <= 10.24:
            raise mistake("interval must be from 20 ms to 10.24 s")
        if self.scan_interval > 40.96:
            raise mistake("scan_interval must be at most 40.96 s")
        if self.scan_window > self.scan_interval:
            raise mistake(f"window must not be above scan_interval, {show_seconds(self.scan_interval)}")
        if self.channels is not None and self.channels.count > BLE_ADVERTISING_CHANNELS:
            raise mistake(f"channels.count must be at most {BLE_ADVERTISING_CHANNELS}: 37, 38 and 39 in Bluetooth LE")
        if self.channels is not None and (self.channels.own != "same" or self.channels.hopping is not None):
            raise mistake("channels takes only a count, as scanners take turns on all; leave own and hopping out")
        if self.ack is not None:
            raise mistake("ack has no effect, as nothing is acknowledged; leave it out")
        if self.duty_cycle is not None:
            raise mistake("duty_cycle is for media without advertising events; make interval longer")
        return self
