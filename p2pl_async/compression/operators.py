"""Compressors: settings chosen by `kind`, each a function from a vector to a `Payload`.

They work tensor by tensor, on the slices of `device.layers`. Randomness comes from the device's own
stream.

Source: A. Koloskova, S. Stich and M. Jaggi, "Decentralized stochastic optimization and gossip
algorithms with compressed communication", ICML 2019, for the notion of a contraction
E |C(v) - v|^2 <= (1 - omega) |v|^2, which error feedback and differences need.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, StrictBool

from p2pl_async.basics.arrays import Ints
from p2pl_async.basics.plugins import door
from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import Probability
from p2pl_async.compression.payload import Dense, Levels, Payload, Sparse
from p2pl_async.messages import Vector

_BLOCK = 1 << 15  # entries, of which a few arrays fit the cache
_SAMPLED = 1 << 11  # entries that stand for all of a tensor, about
_LEAST_STEP = 1e-31  # entries of a tensor with a smaller one count as 0: their places would overflow float32
Sparsity = Annotated[Probability, Field(lt=1)]


class Compressor(Settings, abc.ABC):
    """Base of compressors."""

    kind: str

    @abc.abstractmethod
    def compress(self, v: Vector, layers: Sequence[slice], random: np.random.Generator) -> Payload:
        """Return a compressed `v`, shape (n_params,); `v` is not changed."""

    @abc.abstractmethod
    def quality(self, layers: Sequence[slice]) -> float:
        """Return omega, the share of a vector's squared norm that is kept at least, in (0, 1]."""

    def averaging_rate(self, layers: Sequence[slice]) -> float:
        """Return an averaging rate, in (0, 1], that is stable with error feedback.

        On a directed ring of 8 without gradients, rates a few times higher diverge; lower rates take longer
        and end closer to agreement.
        """
        return self.quality(layers)

    @property
    @abc.abstractmethod
    def models_per_message(self) -> float:
        """Approximate size of a payload, in uncompressed vectors of 32 bits."""

    @property
    def contracts(self) -> bool:
        """Whether it is a contraction, as error feedback and differences require."""
        return True


class Identity(Compressor):
    """No compression: every value, unchanged."""

    kind: Literal["none"] = "none"

    def compress(self, v: Vector, layers: Sequence[slice], random: np.random.Generator) -> Payload:
        """Return all of `v`."""
        return Dense(v.copy())

    def quality(self, layers: Sequence[slice]) -> float:
        """Return 1."""
        return 1.0

    @property
    def models_per_message(self) -> float:
        """1."""
        return 1.0


class TopK(Compressor):
    """Keep the largest entries of each tensor by magnitude, at least one; of equals the first."""

    kind: Literal["top-k"] = "top-k"
    sparsity: Sparsity = Field(default=0.99, description="share of each tensor's entries that is left out")

    def compress(self, v: Vector, layers: Sequence[slice], random: np.random.Generator) -> Payload:
        """Return the largest entries; NaN is never kept."""
        chosen = [layer.start + largest(np.abs(v[layer]), kept(layer, self.sparsity)) for layer in layers]
        indices = np.concatenate(chosen)
        return Sparse(v.size, indices, v[indices])

    def quality(self, layers: Sequence[slice]) -> float:
        """Return k / d."""
        return _share(layers, self.sparsity)

    @property
    def models_per_message(self) -> float:
        """4 bytes for the value of each entry that is kept, and one or two for its place."""
        return min(1.0, 1.4 * (1 - self.sparsity))


class RandomK(Compressor):
    """Keep entries of each tensor drawn at random; `unbiased` multiplies them by d / k."""

    kind: Literal["random-k"] = "random-k"
    sparsity: Sparsity = Field(default=0.99, description="share of each tensor's entries that is left out")
    unbiased: StrictBool = Field(
        default=False, description="scale kept entries so that their expectation is the vector; excludes error feedback"
    )

    @property
    def contracts(self) -> bool:
        """Whether entries are kept without scaling."""
        return not self.unbiased

    def compress(self, v: Vector, layers: Sequence[slice], random: np.random.Generator) -> Payload:
        """Return entries drawn at random."""
        chosen, factors = [], []
        for layer in layers:
            d, k = _length(layer), kept(layer, self.sparsity)
            chosen.append(layer.start + np.sort(random.choice(d, k, replace=False)))
            factors.append(np.full(k, d / k if self.unbiased else 1.0, v.dtype))
        indices = np.concatenate(chosen)
        return Sparse(v.size, indices, v[indices] * np.concatenate(factors))

    def quality(self, layers: Sequence[slice]) -> float:
        """Return k / d."""
        return _share(layers, self.sparsity)

    def averaging_rate(self, layers: Sequence[slice]) -> float:
        """Return k / 2d: entries wait longer than with top-k."""
        return self.quality(layers) / 2

    @property
    def models_per_message(self) -> float:
        """4 bytes for the value of each entry that is kept, and one or two for its place."""
        return min(1.0, 1.4 * (1 - self.sparsity))


class Qsgd(Compressor):
    """Round each entry at random to one of L levels of its tensor's norm (QSGD).

    `unbiased`: sign(v) |v|_2 round(L |v| / |v|_2) / L. Otherwise that is divided by
    1 + min(d / L^2, sqrt(d) / L), which makes it a contraction.

    Source: D. Alistarh et al., "QSGD: Communication-efficient SGD via gradient quantization and
    encoding", NeurIPS 2017.
    """

    kind: Literal["qsgd"] = "qsgd"
    levels: Annotated[int, Field(ge=1, le=127)] = Field(default=16, description="levels above 0")
    unbiased: StrictBool = Field(
        default=False, description="leave out the factor that makes it a contraction; excludes error feedback"
    )

    @property
    def contracts(self) -> bool:
        """Whether the rounded entries are scaled down."""
        return not self.unbiased

    def compress(self, v: Vector, layers: Sequence[slice], random: np.random.Generator) -> Payload:
        """Return the levels, and a scale for each tensor."""
        steps = [float(np.linalg.norm(v[layer].astype(np.float64))) / self.levels for layer in layers]
        shrink = [1.0 if self.unbiased else 1 / self._variance(layer) for layer in layers]
        scales = [step * factor for step, factor in zip(steps, shrink, strict=True)]
        return _rounded(v, layers, steps, scales, self.levels, random)

    def _variance(self, layer: slice) -> float:
        d = _length(layer)
        return 1 + min(d / self.levels**2, math.sqrt(d) / self.levels)

    def quality(self, layers: Sequence[slice]) -> float:
        """Return the least 1 / (1 + min(d / L^2, sqrt(d) / L)) of any tensor."""
        return min(1 / self._variance(layer) for layer in layers)

    def averaging_rate(self, layers: Sequence[slice]) -> float:
        """Return a third of the quality."""
        return self.quality(layers) / 3

    @property
    def models_per_message(self) -> float:
        """The bits of a level."""
        return (2 * self.levels).bit_length() / 32


class Int8(Compressor):
    """Round each entry at random to one of 255 levels up to its tensor's largest magnitude; unbiased."""

    kind: Literal["int8"] = "int8"

    def compress(self, v: Vector, layers: Sequence[slice], random: np.random.Generator) -> Payload:
        """Return the levels, and max |v| / 127 of each tensor; no entry is off by more than that."""
        scales = [float(abs(np.maximum(v[layer].max(), -v[layer].min()))) / 127 for layer in layers]
        return _rounded(v, layers, scales, scales, 127, random)

    def quality(self, layers: Sequence[slice]) -> float:
        """Return 1: the error is some thousandth of a vector whose entries have one order of magnitude."""
        return 1.0

    @property
    def models_per_message(self) -> float:
        """8 bits for each entry."""
        return 8 / 32


class Sign(Compressor):
    """Keep the sign of each entry, and the mean magnitude of each tensor: one bit each."""

    kind: Literal["sign"] = "sign"

    def compress(self, v: Vector, layers: Sequence[slice], random: np.random.Generator) -> Payload:
        """Return sign(v) mean |v|; the sign of 0 is +."""
        levels = np.where(v >= 0, 1, -1).astype(np.int8)
        scales = np.array([np.abs(v[layer]).mean(dtype=np.float64) for layer in layers], np.float32)
        return Levels(levels, scales, layers, 1, v.dtype, binary=True)

    def quality(self, layers: Sequence[slice]) -> float:
        """Return 2 / pi, what it keeps of normal entries (of a tensor with one entry that isn't 0 it keeps 1 / d)."""
        return 2 / math.pi

    def averaging_rate(self, layers: Sequence[slice]) -> float:
        """Return 0.02: at 0.1 errors outgrow the models."""
        return 0.02

    @property
    def models_per_message(self) -> float:
        """1 bit for each entry."""
        return 1 / 32


AnyCompressor = Annotated[
    Compressor, OneOf("compressor", Identity, TopK, RandomK, Qsgd, Int8, Sign, outside=door(Compressor))
]


class ErrorFeedback:
    """Adds the error of earlier messages to the next: v = x + e, q = C(v), e = v - q.

    Args:
        compressor: C, a contraction.
        layers: slices of the tensors.
        like: a vector of the shape and dtype of x.
        random: the stream that C draws from.

    Attributes:
        e: the error so far, shape (n_params,).
    """

    def __init__(
        self, compressor: Compressor, layers: Sequence[slice], like: Vector, random: np.random.Generator
    ) -> None:
        self.e = np.zeros_like(like)
        self._compressor = compressor
        self._layers = layers
        self._random = random

    def compress(self, x: Vector) -> Payload:
        """Return the compressed x + e, and keep the error."""
        v = x + self.e
        q = self._compressor.compress(v, self._layers, self._random)
        q.add_to(v, -1.0)
        self.e = v
        return q


def kept(layer: slice, sparsity: float) -> int:
    """Return how many entries of a tensor are kept: floor((1 - s) d), at least 1."""
    return max(1, math.floor((1 - sparsity) * _length(layer) + 1e-9))  # 0.1 * 100 is 9.999999999999998


def largest(magnitudes: Vector, k: int) -> Ints:
    """Return the positions of the k largest, ascending; of equals the first. NaN is never among them."""
    if k == 1 and not np.isnan(magnitudes[best := int(magnitudes.argmax())]):
        return np.array([best])
    # Most entries of a long vector are far too small: sorting out the others takes a quarter of the time of all.
    found = np.flatnonzero(magnitudes >= _least_worth_a_look(magnitudes, k))
    if found.size < k:
        found = np.flatnonzero(~np.isnan(magnitudes))
    if found.size <= k:
        return found
    values = magnitudes[found]
    least = np.partition(values, values.size - k)[values.size - k]
    chosen = values > least
    chosen[np.flatnonzero(values == least)[: k - np.count_nonzero(chosen)]] = True
    largest: Ints = found[chosen]
    return largest


def _least_worth_a_look(magnitudes: Vector, k: int) -> float:
    """Return a magnitude that a few more than k entries reach, most likely, judging by some of them."""
    some = magnitudes[:: max(1, magnitudes.size // _SAMPLED) | 1]  # odd, as rows of a matrix are often of even length
    expected = k * some.size / magnitudes.size
    rank = math.ceil(expected + 4 * math.sqrt(expected) + 4)
    if magnitudes.size < 4 * _SAMPLED or 2 * rank > some.size:
        return 0.0
    return float(np.partition(some, some.size - rank)[some.size - rank])


def _rounded(
    v: Vector,
    layers: Sequence[slice],
    steps: Sequence[float],
    scales: Sequence[float],
    most: int,
    random: np.random.Generator,
) -> Levels:
    """Return v / step rounded at random, so that its expectation is v / step, with a scale for each tensor.

    A level has 24 binary places. An entry is rounded up if they and 24 random bits carry: its expectation is exact but
    for what lies beyond them, less than 2^-24 of a level. The first 16 bits are each entry's own; the last 8 are
    common to all, as they decide on one of 65,536 entries: 64 bits drawn serve four entries.
    """
    levels = np.zeros(v.size, np.int8)
    bits = random.integers(0, 1 << 64, v.size // 4 + 2, np.uint64)
    own, common = bits.view(np.uint16), np.int32(bits[-1] & np.uint64(0xFF))
    ratios = np.empty(min(_BLOCK, v.size), v.dtype)
    places, carries = np.empty((2, ratios.size), np.int32)
    for layer, step in zip(layers, steps, strict=True):
        if not (step > _LEAST_STEP and math.isfinite(step)):
            continue
        factor = _factor(step, most, v.dtype)
        for start in range(layer.start, layer.stop, _BLOCK):
            block = slice(start, min(start + _BLOCK, layer.stop))
            size = v[block].size  # a vector that is too short is for its receivers to refuse
            place, carry = places[:size], carries[:size]
            np.multiply(v[block], factor, out=ratios[:size])
            np.copyto(place, ratios[:size], casting="unsafe")
            np.copyto(carry, own[start : start + size])
            carry <<= 8
            place += common
            place += carry
            place >>= 24
            np.copyto(levels[block], place, casting="unsafe")
    return Levels(levels, np.array(scales, np.float32), layers, most, v.dtype)


def _factor(step: float, most: int, dtype: np.dtype[Any]) -> Any:
    """Return 2^24 / step, rounded so that no entry of up to `most` steps has more than `most` levels: a scalar."""
    limit = dtype.type(most * step)
    factor = dtype.type(most * 2.0**24 / float(limit))
    while limit * factor > most << 24:
        factor = np.nextafter(factor, dtype.type(0))
    return factor


def _length(layer: slice) -> int:
    return int(layer.stop - layer.start)


def _share(layers: Sequence[slice], sparsity: float) -> float:
    """Return the share of entries kept of the tensor of which least is kept: that much is certain, whatever the vector.

    The share of all entries is larger where many small tensors keep their one entry at least.
    """
    return min(kept(layer, sparsity) / _length(layer) for layer in layers)
