"""The `[radio]` table of a scenario: what happens between two antennas.

power + gains - path loss - shadowing - hardware + fading  =  received power (dBm)
received power - (thermal noise in the bandwidth + noise figure)  =  SNR (dB)  ->  phy  ->  loss
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

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
from p2pl_async.radio.phy import AnyPhy, Lora, Oqpsk

SPEED_OF_LIGHT = 299_792_458.0  # m/s
_COHERENCE = 0.423  # of the inverse of the largest Doppler shift; T. S. Rappaport, "Wireless communications", eq. 5.40


class PathLoss(Settings):
    """Base of every path loss."""

    def loss(self, distance: ArrayLike, frequency: float) -> Floats:
        """Return how much weaker the signal is after so many meters, in dB; any shape."""
        raise NotImplementedError


class LogDistance(PathLoss):
    """Loses 10 n dB per tenfold distance: n is 2 in free space, 2.2 in sight, 3 to 4 indoors without.

    Nearer than the reference distance it is as at that.
    """

    kind: Literal["log-distance"] = "log-distance"
    exponent: Annotated[float, Field(gt=0, le=10)] = Field(default=3.0, description="n, the path-loss exponent")
    reference_distance: PositiveMeters = Field(default=1.0, description="where the reference loss was measured")
    reference_loss: Decibels | None = Field(
        default=None, description="loss at the reference distance; by default that of free space"
    )

    def loss(self, distance: ArrayLike, frequency: float) -> Floats:
        nearest = self.reference_distance
        base = free_space_loss(nearest, frequency) if self.reference_loss is None else self.reference_loss
        decades = np.log10(np.maximum(np.asarray(distance, dtype=np.float64), nearest) / nearest)
        return np.asarray(base + 10 * self.exponent * decades, dtype=np.float64)


class FreeSpace(PathLoss):
    """Loses what spreading in all directions costs (Friis); from 1 m on."""

    kind: Literal["free-space"] = "free-space"

    def loss(self, distance: ArrayLike, frequency: float) -> Floats:
        return free_space_loss(np.maximum(np.asarray(distance, dtype=np.float64), 1.0), frequency)


def free_space_loss(distance: ArrayLike, frequency: float) -> Floats:
    """Return 20 log10(4 pi d f / c), in dB."""
    ratio = np.asarray(distance, dtype=np.float64) * (4 * math.pi * frequency / SPEED_OF_LIGHT)
    return np.asarray(20 * np.log10(ratio), dtype=np.float64)


class Shadowing(Settings):
    """What walls and trees add to the path loss of a pair of devices: normal in dB, the same both ways.

    It changes as the two move: after they have gone `moved` meters in all it still has the
    correlation exp(-moved / decorrelation).

    Source: M. Gudmundson, "Correlation model for shadow fading", Electronics Letters 27, 1991.
    """

    sd: SpreadDecibels = Field(default=4.0, description="standard deviation; 2 to 8 dB are usual")
    decorrelation: PositiveMeters = Field(
        default=20.0, description="movement after which 1/e of it is left; 20 m outdoors, 3 m indoors"
    )


class Fading(Settings):
    """Base of every fading: how power varies as echoes meet in and out of phase."""

    def block(self, frequency: float) -> float | None:
        """Return how long a gain lasts, in seconds: 0 for one frame, None if there is no fading."""
        raise NotImplementedError


class NoFading(Fading):
    """The power is steady."""

    kind: Literal["none"] = "none"

    def block(self, frequency: float) -> None:
        return None


class Rayleigh(Fading):
    """Many echoes and no line of sight: power times an exponential variable of mean 1, both ways the same.

    Drawn anew in each coherence time, which `speed` gives as 0.423 c / (v f); with neither, for
    each frame.
    """

    kind: Literal["rayleigh"] = "rayleigh"
    coherence: PositiveSeconds | None = Field(default=None, description="how long a gain lasts")
    speed: PositiveMetersPerSecond | None = Field(
        default=None, description="how fast devices, or what is around them, move; gives the coherence time"
    )

    @model_validator(mode="after")
    def _check(self) -> Rayleigh:
        if self.coherence is not None and self.speed is not None:
            raise mistake("takes one of coherence and speed, for one follows from the other")
        return self

    def block(self, frequency: float) -> float:
        if self.speed is not None:
            return _COHERENCE * SPEED_OF_LIGHT / (self.speed * frequency)
        return 0.0 if self.coherence is None else self.coherence


class Asymmetry(Settings):
    """What production spread takes from a radio's power and sensitivity: drawn once per device, in dB."""

    tx: SpreadDecibels = Field(default=0.0, description="standard deviation of the transmit power; 1 to 2 dB are usual")
    rx: SpreadDecibels = Field(default=0.0, description="standard deviation of the received power")


AnyPathLoss = Annotated[PathLoss, OneOf("path loss", LogDistance, FreeSpace)]
AnyFading = Annotated[Fading, OneOf("fading", NoFading, Rayleigh)]
Position = tuple[Meters, Meters] | tuple[Meters, Meters, Meters]


class RadioSettings(Settings):
    """What every radio is, and what lies between them.

    Positions are those given here, or where the devices of `[mobility]` are, or those of the
    topology, which the area scales from its unit square to meters.
    """

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
        default=Shadowing(), description="what obstacles add to the path loss of each pair"
    )
    fading: AnyFading = Field(default=NoFading(), description="how power varies from moment to moment")
    asymmetry: Asymmetry = Field(default=Asymmetry(), description="how much radios of one make differ")
    area: PositiveMeters | tuple[PositiveMeters, PositiveMeters] | None = Field(
        default=None, description="side of the square that devices are in, or width and height"
    )
    positions: Annotated[tuple[Position, ...], Field(min_length=1)] | None = Field(
        default=None, description="where each device is: x, y and, if given, z, in order of id"
    )

    @model_validator(mode="after")
    def _check(self) -> RadioSettings:
        if self.bandwidth is not None and isinstance(self.phy, Lora):
            raise mistake("bandwidth contradicts phy: LoRa's noise bandwidth is that of its chirps, phy.bandwidth")
        return self

    @property
    def carrier(self) -> float:
        """The frequency in Hz."""
        return self.phy.typical_frequency if self.frequency is None else self.frequency

    @property
    def noise_bandwidth(self) -> float:
        """The bandwidth in Hz."""
        return self.phy.typical_bandwidth if self.bandwidth is None else self.bandwidth

    @property
    def sides(self) -> tuple[float, float] | None:
        """Width and height of the area, in meters."""
        return (self.area, self.area) if isinstance(self.area, float) else self.area
