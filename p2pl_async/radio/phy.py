"""Modulations: from the ratio of signal to noise, and the length of a frame, to the probability of losing it.

    SNR or SINR (dB), bytes on the air  ->  packet error rate (PER)

Every formula takes arrays and keeps its digits for rare losses: a PER of 1e-12 doesn't become 0.
Data sheets describe some receivers by a sensitivity, a received power. Here such a receiver has the
SNR of that power over the noise of the receiver it was measured with, so that noise figure, bandwidth
and interferers act on it as on all others.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, field_validator

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.settings import OneOf, Settings, mistake
from p2pl_async.basics.units import DecibelMilliwatts, Decibels, Hertz

THERMAL_NOISE = -174.0  # dBm per Hz, at 290 K
_COMBINATIONS = np.array([(-1) ** k * math.comb(16, k) for k in range(2, 17)], dtype=np.float64)
_EXPONENTS = np.array([1 / k - 1 for k in range(2, 17)])


def noise_power(bandwidth: float, noise_figure: ArrayLike) -> Floats:
    """Return the noise of a receiver in dBm: thermal noise in `bandwidth` (Hz), plus `noise_figure` (dB)."""
    return THERMAL_NOISE + 10 * math.log10(bandwidth) + np.asarray(noise_figure, dtype=np.float64)


class Phy(Settings):
    """Base of every modulation: a radio's usual frequency, bandwidth and noise figure, and its error rate."""

    typical_frequency: ClassVar[float]  # Hz
    typical_noise_figure: ClassVar[float]  # dB
    by_length: ClassVar[bool] = True  # whether longer frames are lost more often
    rejection: ClassVar[float | None] = None  # dB that a frame needs above others of its kind; None: they are noise

    @property
    def typical_bandwidth(self) -> float:
        """The noise bandwidth of the usual receiver, in Hz."""
        raise NotImplementedError

    @property
    def modes(self) -> tuple[Phy, ...]:
        """The modulations that such a radio can choose from, slowest first; only this one by default."""
        return (self,)

    @property
    def bit_rate(self) -> float:
        """Bits per second that it carries; nan if the link says so."""
        return math.nan

    def rejects(self, other: Phy) -> float | None:
        """Return how many dB above frames of another modulation one of this survives; None: they are noise."""
        return self.rejection

    def error(self, snr: ArrayLike, size: ArrayLike) -> Floats:
        """Return the packet error rate.

        Args:
            snr: signal over noise, or over noise and interference, in dB, in the receiver's bandwidth.
            size: bytes on the air; arrays broadcast.

        Returns:
            Probabilities, of the shape that the arguments broadcast to.
        """
        raise NotImplementedError

    def mean_error(self, snr: ArrayLike, size: float, gains: Floats) -> Floats:
        """Return the packet error rate averaged over fading, for a mean SNR in dB.

        `gains` are equally likely ones; with 256 of Rayleigh fading, the mean is within 0.004 of the integral.
        """
        faded = np.asarray(snr, dtype=np.float64)[..., None] + 10 * np.log10(gains)
        mean: Floats = np.mean(self.error(faded, size), axis=-1)
        return mean


def _of_bits(bit_error_rate: Floats, size: ArrayLike) -> Floats:
    """Return the error rate of frames of `size` bytes, which need all their bits."""
    return -np.expm1(8 * np.asarray(size, dtype=np.float64) * np.log1p(-bit_error_rate))


class Oqpsk(Phy):
    """802.15.4 at 2.4 GHz: O-QPSK with 32 chips per symbol, 250 kbit/s.

    Source: IEEE 802.15.4-2006, E.4.1.8.
    """

    kind: Literal["802.15.4"] = "802.15.4"

    typical_frequency = 2.44e9
    typical_noise_figure = 10.0

    @property
    def typical_bandwidth(self) -> float:
        return 2e6

    def error(self, snr: ArrayLike, size: ArrayLike) -> Floats:
        linear = 10 ** (np.asarray(snr, dtype=np.float64) / 10)
        terms = np.exp(20 * linear[..., None] * _EXPONENTS) @ _COMBINATIONS
        return _of_bits(np.clip(terms / 30, 0.0, 0.5), size)


class Ble(Phy):
    """Bluetooth Low Energy: GFSK, referenced to the sensitivity, at which 0.1 % of the bits are wrong.

    Sources: Bluetooth Core, RF PHY test (a PER of 30.8 % at the sensitivity); non-coherent FSK.
    """

    kind: Literal["ble"] = "ble"
    rate: Literal["1m", "2m", "coded"] = Field(
        default="1m", description='1 or 2 Mbit/s, or "coded": 125 kbit/s with 8 symbols per bit'
    )
    sensitivity: DecibelMilliwatts | None = Field(
        default=None, description="received power of a bit error rate of 0.1 %; -95 (1m), -92 (2m), -103 dBm (coded)"
    )

    typical_frequency = 2.44e9
    typical_noise_figure = 10.0

    @property
    def typical_bandwidth(self) -> float:
        return 2e6 if self.rate == "2m" else 1e6

    @property
    def _least_power(self) -> float:
        return {"1m": -95.0, "2m": -92.0, "coded": -103.0}[self.rate] if self.sensitivity is None else self.sensitivity

    def error(self, snr: ArrayLike, size: ArrayLike) -> Floats:
        above = np.asarray(snr, dtype=np.float64) - _reference(self, self._least_power)
        return _of_bits(np.exp(-12.43 / 2 * 10 ** (above / 10)) / 2, size)


_LORA_SENSITIVITY = {  # dBm at a PER of 1 %, for SF6 to SF12
    125e3: (-121.0, -124.0, -127.0, -130.0, -133.0, -135.0, -137.0),
    250e3: (-118.0, -122.0, -125.0, -128.0, -130.0, -132.0, -135.0),
    500e3: (-111.0, -116.0, -119.0, -122.0, -125.0, -128.0, -129.0),
}
_LORA_WIDTH = 0.5  # dB
_LORA_REJECTION = (  # dB above frames of SF7 to SF12, for a frame of SF7 (first row) to SF12
    (6.0, -16.0, -18.0, -19.0, -19.0, -20.0),
    (-24.0, 6.0, -20.0, -22.0, -22.0, -22.0),
    (-27.0, -27.0, 6.0, -23.0, -25.0, -25.0),
    (-30.0, -30.0, -30.0, 6.0, -26.0, -28.0),
    (-33.0, -33.0, -33.0, -33.0, 6.0, -29.0),
    (-36.0, -36.0, -36.0, -36.0, -36.0, 6.0),
)


class Lora(Phy):
    """LoRa: chirps of 2^sf chips, referenced to the sensitivity, at which 1 % of the frames are lost.

    The loss falls from almost all to almost none within 4 dB, whatever the length of a frame. A frame
    survives others of its spreading factor if it is 6 dB stronger than all of them together: their chirps
    are no noise. Those of another factor may be 16 to 36 dB stronger, by a table.

    Sources: Semtech SX1272/73 data sheet, rev. 2, page 19; the width of the fall is an assumption. C. Goursaud,
    J.-M. Gorce, "Dedicated networks for IoT: PHY / MAC state of the art and challenges", 2015, for the rejection.
    """

    kind: Literal["lora"] = "lora"
    sf: Annotated[int, Field(strict=True, ge=6, le=12)] = Field(default=7, description="spreading factor")
    bandwidth: Hertz = Field(default=125e3, description="width of the chirps: 125, 250 or 500 kHz")
    sensitivity: DecibelMilliwatts | None = Field(
        default=None, description="received power at which 1 % of the frames are lost; by default that of an SX1272"
    )

    typical_frequency = 868e6
    typical_noise_figure = 6.0
    by_length = False
    rejection: ClassVar[float] = 6.0

    @field_validator("bandwidth")
    @classmethod
    def _check_bandwidth(cls, value: float) -> float:
        if value not in _LORA_SENSITIVITY:
            raise mistake("must be 125, 250 or 500 kHz")
        return value

    @property
    def typical_bandwidth(self) -> float:
        return self.bandwidth

    @property
    def _least_power(self) -> float:
        if self.sensitivity is not None:
            return self.sensitivity
        return _LORA_SENSITIVITY[self.bandwidth][self.sf - 6]

    @property
    def modes(self) -> tuple[Lora, ...]:
        better = self._least_power - _LORA_SENSITIVITY[self.bandwidth][self.sf - 6]  # than the usual receiver
        usual = _LORA_SENSITIVITY[self.bandwidth]
        return tuple(
            self.model_copy(update={"sf": sf, "sensitivity": usual[sf - 6] + better}) for sf in range(12, 6, -1)
        )

    @property
    def bit_rate(self) -> float:
        return float(self.sf * self.bandwidth / 2**self.sf * 4 / 5)

    def rejects(self, other: Phy) -> float:
        if not isinstance(other, Lora) or min(self.sf, other.sf) < 7:
            return self.rejection
        return _LORA_REJECTION[self.sf - 7][other.sf - 7]

    def error(self, snr: ArrayLike, size: ArrayLike) -> Floats:
        half = _reference(self, self._least_power) - _LORA_WIDTH * math.log(99)  # where half of the frames are lost
        loss = _logistic((half - np.asarray(snr, dtype=np.float64)) / _LORA_WIDTH)
        return np.broadcast_to(loss, np.broadcast_shapes(loss.shape, np.shape(size))).copy()


_WIFI_HALF = (0.31, 3.31, 5.79, 8.93, 12.02, 16.22, 17.52, 18.80)  # dB at which half of the 1458 B frames are lost
_WIFI_WIDTH = (0.26, 0.27, 0.275, 0.325, 0.327, 0.373, 0.368, 0.363)  # dB
_WIFI_SIZE = 1458  # bytes
_WIFI_RATE = (6.5e6, 13e6, 19.5e6, 26e6, 39e6, 52e6, 58.5e6, 65e6)  # bit/s


class Wifi(Phy):
    """Wi-Fi with OFDM in 20 MHz: 802.11n MCS 0 to 7; MCS 0 is also the 6 Mbit/s of 802.11a.

    A logistic curve per MCS, fitted to link simulations at 1458 B: `PER = 1 / (1 + exp(x))` with x the
    SNR above its half, in widths. Other lengths are computed as if bits were lost independently, which is
    accurate up to a PER of 10 %. Above, that would let short frames through any noise, so the curve is
    `1 / (1 + exp(x + ln(1458 / L) + 1.3))`.

    Source: fitted to the table of ns-3 3.37, at 1458 and 100 B; other tables differ by 3 to 5 dB,
    for which there is `shift`.
    """

    kind: Literal["wifi"] = "wifi"
    mcs: Annotated[int, Field(strict=True, ge=0, le=7)] = Field(default=0, description="modulation and coding, 0 to 7")
    shift: Decibels = Field(default=0.0, description="additional SNR that this receiver needs")

    typical_frequency = 5.18e9
    typical_noise_figure = 7.0

    @property
    def typical_bandwidth(self) -> float:
        return 20e6

    @property
    def modes(self) -> tuple[Wifi, ...]:
        return tuple(self.model_copy(update={"mcs": mcs}) for mcs in range(8))

    @property
    def bit_rate(self) -> float:
        return _WIFI_RATE[self.mcs]

    def error(self, snr: ArrayLike, size: ArrayLike) -> Floats:
        half, width = _WIFI_HALF[self.mcs] + self.shift, _WIFI_WIDTH[self.mcs]
        above = (np.asarray(snr, dtype=np.float64) - half) / width
        share = np.asarray(size, dtype=np.float64) / _WIFI_SIZE
        # ln(1 - PER) of a frame of 1458 B is -ln(1 + e^-x); the rest is its power.
        return np.maximum(-np.expm1(-np.logaddexp(0.0, -above) * share), _logistic(np.log(share) - above - 1.3))


_NR_BITS_AND_CODE = (  # bits of a symbol, and code rate times 1024
    *((2, rate) for rate in (120, 157, 193, 251, 308, 379, 449, 526, 602, 679)),
    *((4, rate) for rate in (340, 378, 434, 490, 553, 616, 658)),
    *((6, rate) for rate in (438, 466, 517, 567, 616, 666, 719, 772, 822, 873, 910, 948)),
)
_NR_OF_SHANNON = 0.75  # share of log2(1 + SNR) that is reached
_NR_USED = 0.86  # share of symbols that carry data
_NR_WIDTH = 0.5  # dB


class Nr(Phy):
    """5G NR, also its sidelink: MCS 0 to 28, from QPSK to 64-QAM.

    Half of the frames are lost where the attenuated bound of Shannon, 0.75 log2(1 + SNR), is the efficiency
    of the MCS, whatever their length: within 2 dB, almost all or almost none.

    Sources: 3GPP TS 38.214, table 5.1.3.1-1; TS 38.306, 4.1.2 (14 % of the symbols carry no data); the form of
    the bound is that of TR 36.942, A.2. Its factor and the width of the fall are assumptions.
    """

    kind: Literal["nr"] = "nr"
    mcs: Annotated[int, Field(strict=True, ge=0, le=28)] = Field(default=4, description="modulation and coding")
    bandwidth: Hertz = Field(default=20e6, description="width of the resource blocks in use")

    typical_frequency = 5.9e9
    typical_noise_figure = 9.0
    by_length = False

    @property
    def efficiency(self) -> float:
        """Bits per second in a hertz."""
        bits, code = _NR_BITS_AND_CODE[self.mcs]
        return bits * code / 1024

    @property
    def typical_bandwidth(self) -> float:
        return self.bandwidth

    @property
    def modes(self) -> tuple[Nr, ...]:
        # MCS 17 is left out: it carries less than MCS 16.
        return tuple(self.model_copy(update={"mcs": mcs}) for mcs in range(29) if mcs != 17)

    @property
    def bit_rate(self) -> float:
        return _NR_USED * self.efficiency * self.bandwidth

    def error(self, snr: ArrayLike, size: ArrayLike) -> Floats:
        half = 10 * math.log10(2 ** (self.efficiency / _NR_OF_SHANNON) - 1)
        loss = _logistic((half - np.asarray(snr, dtype=np.float64)) / _NR_WIDTH)
        return np.broadcast_to(loss, np.broadcast_shapes(loss.shape, np.shape(size))).copy()


class Threshold(Phy):
    """An ideal receiver: every frame above an SNR is received, and none below.

    With path loss alone its range is exactly its link budget: the unit disk of textbooks.
    """

    kind: Literal["threshold"] = "threshold"
    snr: Decibels = Field(description="least SNR of a frame that is received")

    typical_frequency = 2.44e9
    typical_noise_figure = 10.0
    by_length = False

    @property
    def typical_bandwidth(self) -> float:
        return 2e6

    def error(self, snr: ArrayLike, size: ArrayLike) -> Floats:
        lost = np.asarray(snr, dtype=np.float64) < self.snr
        return np.broadcast_to(lost, np.broadcast_shapes(lost.shape, np.shape(size))).astype(np.float64)


def _reference(phy: Phy, sensitivity: float) -> float:
    """Return the SNR, in dB, of a sensitivity at the receiver that it was measured with."""
    return float(sensitivity - noise_power(phy.typical_bandwidth, phy.typical_noise_figure))


def _logistic(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)), dtype=np.float64)


AnyPhy = Annotated[Phy, OneOf("phy", Oqpsk, Ble, Lora, Wifi, Nr, Threshold)]
