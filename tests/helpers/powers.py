"""Received powers as a test wants them."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from p2pl_async.radio.phy import Phy


class TextbookOqpsk(Phy):
    """The error rate of 802.15.4, written down anew. Source: IEEE 802.15.4-2006, E.4.1.8."""

    typical_frequency = 2.44e9
    typical_noise_figure = 10.0

    @property
    def typical_bandwidth(self) -> float:
        return 2e6

    def error(self, snr: object, size: object) -> np.ndarray:
        ratio = 10 ** (np.asarray(snr, dtype=float) / 10)
        k = np.arange(2, 17)
        terms = (-1.0) ** k * np.array([math.comb(16, i) for i in k]) * np.exp(20 * ratio[..., None] * (1 / k - 1))
        rate = 8 / 15 / 16 * terms.sum(-1)
        return np.asarray(1 - (1 - np.clip(rate, 0, 1)) ** (8 * np.asarray(size)))


class SixDecibels(TextbookOqpsk):
    """Frames survive others that are 6 dB weaker, as LoRa's do."""

    rejection: ClassVar[float | None] = 6.0


class FixedPowers:
    """Powers as given, in dBm, shape (n, n)."""

    is_constant = True
    is_selective = False

    def __init__(self, powers: np.ndarray, noise: float = -101.0, phy: Phy | None = None) -> None:
        self._powers = powers
        self._noise = noise
        self.phy = TextbookOqpsk() if phy is None else phy

    def powers(self, src: int, at: float, channel: int = 0) -> np.ndarray:
        return self._powers[src]

    def distance(self, src: int, dst: int, at: float) -> float:
        return math.nan

    def noise(self, dst: int) -> float:
        return self._noise

    def foreseen_snr(self, src: int, dst: int, at: float, channel: int = 0) -> tuple[float, None]:
        return float(self._powers[src, dst]) - self._noise, None
