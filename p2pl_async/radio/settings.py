"""The `[radio]` table of a scenario: transmitters, receivers, and the waves between them.

power + gains - path loss - shadowing - hardware + fading  =  received power (dBm)
received power - (thermal noise in the bandwidth + noise figure)  =  SNR (dB)  ->  phy  ->  loss
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, StrictBool, field_validator, model_validator

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.settings import OneOf, Settings, Short, mistake, word
from p2pl_async.basics.units import (
    DecibelMilliwatts,
    Decibels,
    Hertz,
    Meters,
    PositiveMeters,
    PositiveMetersPerSecond,
    PositiveSeconds,
    SpreadDecibels,
)
from p2pl_async.radio.phy import AnyPhy, Lora, Nr, Oqpsk

SPEED_OF_LIGHT = 299_792_458.0  # m/s
_COHERENCE = 0.423  # of the inverse of the largest Doppler shift; T. S. Rappaport, "Wireless communications", eq. 5.40


class PathLoss(Settings):
    """Base of every path loss."""

    def loss(self, distance: ArrayLike, frequency: float) -> Floats:
        """Return the path loss at distances in meters and a frequency in Hz, in dB; any shape."""
        raise NotImplementedError


class LogDistance(PathLoss):
    """Loses 10 n dB per tenfold distance: n is 2 in free space, 2.2 in line of sight, 3 to 4 indoors without.

    Below the reference distance the loss is the reference loss.
    """

    kind: Literal["log-distance"] = "log-distance"
    exponent: Annotated[float, Field(gt=0, le=10)] = Field(default=3.0, description="n, the path-loss exponent")
    reference_distance: PositiveMeters = Field(default=1.0, description="distance of the reference loss")
    reference_loss: Decibels | None = Field(
        default=None, description="loss at the reference distance; by default that of free space"
    )

    def loss(self, distance: ArrayLike, frequency: float) -> Floats:
        nearest = self.reference_distance
        base = free_space_loss(nearest, frequency) if self.reference_loss is None else self.reference_loss
        decades = np.log10(np.maximum(np.asarray(distance, dtype=np.float64), nearest) / nearest)
        return np.asarray(base + 10 * self.exponent * decades, dtype=np.float64)


class FreeSpace(PathLoss):
    """Loses power by spreading in all directions alone (Friis); below 1 m the loss is that of 1 m."""

    kind: Literal["free-space"] = "free-space"

    def loss(self, distance: ArrayLike, frequency: float) -> Floats:
        return free_space_loss(np.maximum(np.asarray(distance, dtype=np.float64), 1.0), frequency)


def free_space_loss(distance: ArrayLike, frequency: float) -> Floats:
    """Return 20 log10(4 pi d f / c), in dB."""
    ratio = np.asarray(distance, dtype=np.float64) * (4 * math.pi * frequency / SPEED_OF_LIGHT)
    return np.asarray(20 * np.log10(ratio), dtype=np.float64)


class Shadowing(Settings):
    """Loss by walls and trees between a pair of devices: normal in dB, the same both ways.

    It changes as the two move: after paths that sum to `moved` meters, the correlation is
    exp(-moved / decorrelation). By default each pair has its own; if `correlated`, it follows from the two places, so
    that links whose ends lie a and b meters apart have the correlation exp(-(a + b) / decorrelation), and who returns
    finds the same again.

    Sources: M. Gudmundson, "Correlation model for shadow fading", Electronics Letters 27, 1991; Z. Wang, E. K. Tameh,
    A. R. Nix, "Joint shadowing process in urban peer-to-peer radio channels", IEEE Trans. Veh. Technol. 57, 2008.
    """

    sd: SpreadDecibels = Field(default=4.0, description="standard deviation; 2 to 8 dB are usual")
    decorrelation: PositiveMeters = Field(
        default=20.0, description="movement after which the correlation is 1/e; 20 m outdoors, 3 m indoors"
    )
    correlated: StrictBool = Field(
        default=False, description="whether links whose ends are near each other are shadowed alike"
    )


class Fading(Settings):
    """Base of every fading: power varies as echoes meet in and out of phase."""

    kind: str

    def block(self, frequency: float) -> float | None:
        """Return the duration of a gain, in seconds: 0 for one frame, None if there is no fading."""
        raise NotImplementedError

    def gains(self, uniforms: Floats) -> Floats:
        """Return the powers, of mean 1, that follow from numbers in (0, 1); any shape."""
        raise NotImplementedError

    def band(self, channel: int) -> int:
        """Return the number of the channels that fade as one does."""
        return 0


class NoFading(Fading):
    """The power is steady."""

    kind: Literal["none"] = "none"

    def block(self, frequency: float) -> None:
        return None


class _Echoes(Fading):
    """Base of fadings by echoes; the gain of a pair is the same both ways.

    It is drawn anew in each coherence time, which follows from `speed` as 0.423 c / (v f); without
    both, it is drawn for each frame. Of `[medium] channels`, as many neighboring ones as `coherent_channels` fade
    alike, and others independently: a block in frequency, as the coherence time is one in time. Who hops then meets
    deep fades now and then, not all the time.

    Source: T. S. Rappaport, "Wireless communications", section 5.4: the coherence bandwidth is about 1 / (5 x rms delay
    spread), 4 MHz for 50 ns indoors, less than the 5 MHz from one channel of 802.15.4 to the next.
    """

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("coherence", "speed"),)

    coherence: PositiveSeconds | None = Field(default=None, description="how long a gain lasts")
    speed: PositiveMetersPerSecond | None = Field(
        default=None, description="speed of the devices or their surroundings, for the coherence time"
    )
    coherent_channels: Annotated[Annotated[int, Field(strict=True, ge=1)] | None, *word("all")] = Field(
        default=None,
        description="how many neighboring channels fade alike: coherence bandwidth over channel spacing; 1: each by "
        'itself, "all": the channel makes no difference',
    )

    @model_validator(mode="after")
    def _check(self) -> _Echoes:
        if self.coherence is not None and self.speed is not None:
            raise mistake("takes only one of coherence and speed, as the other follows from it")
        return self

    def band(self, channel: int) -> int:
        return 0 if self.coherent_channels is None else max(channel, 0) // self.coherent_channels

    def block(self, frequency: float) -> float:
        if self.speed is not None:
            return _COHERENCE * SPEED_OF_LIGHT / (self.speed * frequency)
        return 0.0 if self.coherence is None else self.coherence


class Rayleigh(_Echoes):
    """Many echoes and no line of sight: power times an exponential variable of mean 1, the same both ways.

    The gain is drawn anew in each coherence time, which follows from `speed` as 0.423 c / (v f); without
    both, it is drawn for each frame.
    """

    kind: Literal["rayleigh"] = "rayleigh"

    def gains(self, uniforms: Floats) -> Floats:
        return np.asarray(-np.log(uniforms), dtype=np.float64)


class Rician(_Echoes):
    """A line of sight among echoes: its power is `k` above that of all echoes together; else as "rayleigh".

    The power is a noncentral chi-square variable of two degrees of freedom, scaled to mean 1.
    Source: A. Goldsmith, "Wireless communications", section 3.2.2.
    """

    kind: Literal["rician"] = "rician"
    k: Decibels = Field(default=6.0, description="power of the line of sight over that of the echoes, -20 to 20 dB")

    @field_validator("k")
    @classmethod
    def _check_k(cls, value: float) -> float:
        if not -20 <= value <= 20:
            raise mistake('must be -20 to 20 dB; below, fading is of kind "rayleigh", and above, "none"')
        return value

    def gains(self, uniforms: Floats) -> Floats:
        from scipy.special import chndtrix

        k = 10 ** (self.k / 10)
        return np.asarray(chndtrix(uniforms, 2, 2 * k) / (2 * (1 + k)), dtype=np.float64)


class Nakagami(_Echoes):
    """Power times a gamma variable of mean 1 and variance 1 / m: m = 1 is "rayleigh", larger is milder.

    Source: M. Nakagami, "The m-distribution", 1960.
    """

    kind: Literal["nakagami"] = "nakagami"
    m: Annotated[float, Field(ge=0.5, le=100)] = Field(default=2.0, description="shape, from 0.5, the most severe, on")

    def gains(self, uniforms: Floats) -> Floats:
        from scipy.special import gammaincinv

        return np.asarray(gammaincinv(self.m, uniforms) / self.m, dtype=np.float64)


class Asymmetry(Settings):
    """Production spread of a radio's power and sensitivity: drawn once per device, in dB."""

    tx: SpreadDecibels = Field(default=0.0, description="standard deviation of the transmit power; 1 to 2 dB are usual")
    rx: SpreadDecibels = Field(default=0.0, description="standard deviation of the received power")


AnyPathLoss = Annotated[PathLoss, OneOf("path loss", LogDistance, FreeSpace)]
AnyFading = Annotated[Fading, OneOf("fading", NoFading, Rayleigh, Rician, Nakagami)]
Position = tuple[Meters, Meters] | tuple[Meters, Meters, Meters]


class RadioModel(Settings):
    """Radios of one kind, and the propagation between them, wherever they are."""

    phy: AnyPhy = Field(default=Oqpsk(), description="modulation: how loss follows from SNR")
    frequency: Hertz | None = Field(default=None, description="carrier; by default the usual one of the phy")
    bandwidth: Hertz | None = Field(default=None, description="noise bandwidth; by default the usual one of the phy")
    power: DecibelMilliwatts = Field(default=0.0, description="transmit power at the antenna")
    noise_figure: SpreadDecibels | None = Field(
        default=None, description="noise that a receiver adds to the thermal noise; by default the usual one of the phy"
    )
    antenna_gain: Decibels = Field(default=0.0, description="of each device's antenna, sending and receiving")
    path_loss: AnyPathLoss = Field(default=LogDistance(), description="how power falls with distance")
    shadowing: Annotated[Annotated[Shadowing, Short("sd")] | None, *word("none")] = Field(
        default=Shadowing(), description="additional loss of each pair, by obstacles"
    )
    fading: AnyFading = Field(default=NoFading(), description="how power varies from moment to moment")
    asymmetry: Asymmetry = Field(default=Asymmetry(), description="spread among radios of one make")

    @model_validator(mode="after")
    def _check(self) -> RadioModel:
        if self.bandwidth is not None and isinstance(self.phy, Lora | Nr):
            raise mistake("bandwidth contradicts phy: noise has the bandwidth of the signal, phy.bandwidth")
        return self

    @property
    def carrier(self) -> float:
        """The frequency in Hz."""
        return self.phy.typical_frequency if self.frequency is None else self.frequency

    @property
    def noise_bandwidth(self) -> float:
        """The bandwidth in Hz."""
        return self.phy.typical_bandwidth if self.bandwidth is None else self.bandwidth


class RadioSettings(RadioModel):
    """The radios of all devices, and the propagation between them.

    Positions are those given here, or those of `[mobility]`, or those of the topology, which the area
    scales from the unit square to meters.
    """

    area: PositiveMeters | tuple[PositiveMeters, PositiveMeters] | None = Field(
        default=None, description="side of the square that devices are in, or width and height"
    )
    positions: Annotated[tuple[Position, ...], Field(min_length=1)] | None = Field(
        default=None, description="where each device is: x, y and, if given, z, in order of id"
    )

    @property
    def sides(self) -> tuple[float, float] | None:
        """Width and height of the area, in meters."""
        return (self.area, self.area) if isinstance(self.area, float) else self.area
