"""Air time: how long a frame of some bytes occupies the channel."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import PositiveSeconds, Seconds
from p2pl_async.radio.phy import Lora, Phy


class AirTime(Settings):
    """Base of every air time."""

    def seconds(self, size: int, rate: float | None) -> float:
        """Return the air time of one frame.

        Args:
            size: bytes of the frame, the link's header included.
            rate: bit/s; None for no limit.
        """
        raise NotImplementedError

    def of(self, phy: Phy) -> AirTime:
        """Return the air time of frames of a modulation, whose rate is the second argument of `seconds`."""
        return self

    def rate(self, rate: float | None) -> float | None:
        """Return the rate of a frame's bytes in bit/s, where the link's is `rate`."""
        return rate


class Serial(AirTime):
    """A fixed preamble, then all bytes at the link's rate (802.15.4, BLE)."""

    kind: Literal["serial"] = "serial"
    preamble: Seconds = Field(default=0.0, description="time before the first byte of each frame")

    def seconds(self, size: int, rate: float | None) -> float:
        return self.preamble + (0.0 if rate is None else 8 * size / rate)


class Ofdm(AirTime):
    """A preamble, then whole OFDM symbols: 16 bits of service field, the bytes and 6 tail bits (802.11).

    Source: IEEE 802.11-2020, 17.4.3 and 19.4.3.
    """

    kind: Literal["ofdm"] = "ofdm"
    preamble: Seconds = Field(default=36e-6, description="preamble and PHY header; 36 us for 802.11n, 20 us for 11a/g")
    symbol: PositiveSeconds = Field(default=4e-6, description="time of one symbol")

    def seconds(self, size: int, rate: float | None) -> float:
        if rate is None:
            return self.preamble
        # A rate is a whole number of bits in a symbol; its product with 4 us need not be, by the last digit.
        symbols = math.ceil((22 + 8 * size) / round(rate * self.symbol, 6))
        return self.preamble + symbols * self.symbol


class LoRa(AirTime):
    """LoRa's chirps: 12.25 symbols of preamble, then blocks of 4 to 12 bits per symbol at coding rate 4/5.

    The link's rate is not used. Source: Semtech SX1272/73 datasheet, section 4.1.1.7, with explicit
    header and CRC.
    """

    kind: Literal["lora"] = "lora"
    sf: Annotated[int, Field(strict=True, ge=7, le=12)] = Field(default=7, description="spreading factor, 7 to 12")
    bandwidth: Literal["125 kHz", "250 kHz", "500 kHz"] = Field(default="125 kHz", description="channel width")

    def seconds(self, size: int, rate: float | None) -> float:
        symbol = 2**self.sf / (1e3 * float(self.bandwidth.partition(" ")[0]))
        slow = 2 if symbol > 16e-3 else 0  # low data rate optimization carries two bits less in each symbol
        blocks = max(0, math.ceil((8 * size - 4 * self.sf + 44) / (4 * (self.sf - slow))))
        return float((8 + 4.25 + 8 + 5 * blocks) * symbol)

    def of(self, phy: Phy) -> AirTime:
        return self.model_copy(update={"sf": phy.sf}) if isinstance(phy, Lora) else self

    def rate(self, rate: float | None) -> float:
        return float(self.sf * 1e3 * float(self.bandwidth.partition(" ")[0]) / 2**self.sf * 4 / 5)


AnyAirTime = Annotated[AirTime, OneOf("air time", Serial, Ofdm, LoRa)]
