"""Received powers as a test wants them."""

from __future__ import annotations

import math

import numpy as np


class FixedPowers:
    """Powers as given, in dBm, shape (n, n); frames at 802.15.4's error rate, and LoRa's rejection if given.

    Source of the rate: IEEE 802.15.4-2006, E.4.1.8.
    """

    def __init__(self, powers: np.ndarray, noise: float = -101.0, rejection: float | None = None) -> None:
        self._powers = powers
        self._noise = noise
        self.rejection = rejection

    def powers(self, src: int, at: float) -> np.ndarray:
        return self._powers[src]

    def noise(self, dst: int) -> float:
        return self._noise

    def error(self, src: int, dst: int, size: int, sinr: float) -> float:
        ratio = 10 ** (sinr / 10)
        k = np.arange(2, 17)
        terms = (-1.0) ** k * np.array([math.comb(16, i) for i in k]) * np.exp(20 * ratio * (1 / k - 1))
        return float(1 - (1 - np.clip(8 / 15 / 16 * terms.sum(), 0, 1)) ** (8 * size))
