"""Compressed vectors and their bytes: the result of a compressor, the content of a message.

    vector -> compressor -> Payload -> encode -> bytes of the message field -> decode -> Payload
                                                                                (RemoteError if spoiled)

There are three forms. `Dense` has every value; `Sparse` some values with their positions; `Levels` a small
integer for every entry, times a scale of its tensor. Bytes are self-describing except for facts that both
ends know: the number of entries, the slices of the tensors, and the dtype.

    byte 0     form: 0 dense, 1 sparse, 2 levels
    dense      every value, little-endian
    sparse     index coding, count (varint), positions, values; used only if shorter than dense
    levels     largest level, whether zeros are left out (0, or 1 + index coding and a count), positions
               then, scales (float32), levels in as few bits as they take

Reading trusts no peer: a decoded payload fits the vector and is finite, or there is a RemoteError.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import DTypeLike, NDArray

from p2pl_async.basics.arrays import Ints
from p2pl_async.compression.indices import Raw, decode_indices, encode_indices
from p2pl_async.compression.packing import ByteReader, bits_of, joined, pack, packed_size, unpack, varint
from p2pl_async.errors import RemoteError
from p2pl_async.messages import Vector

_DENSE, _SPARSE, _LEVELS = range(3)
_BLOCK = 1 << 15  # entries, of which a few arrays fit the cache
_ALL = 0  # levels of every entry, zeros included


class Payload(abc.ABC):
    """A compressed vector.

    Attributes:
        size: entries of the vector that it represents.
    """

    size: int

    @abc.abstractmethod
    def add_to(self, x: Vector, factor: float = 1.0) -> None:
        """Add `factor` times the vector to `x`, in place."""

    @abc.abstractmethod
    def times(self, factor: float) -> Payload:
        """Return `factor` times this."""

    @abc.abstractmethod
    def encode(self) -> Raw:
        """Return the bytes, shape (n,)."""

    @property
    @abc.abstractmethod
    def paper_bytes(self) -> float:
        """Bytes as papers count them: 4 for a value, 4 for an index, nothing for headers."""

    @property
    @abc.abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the vector."""

    def plus(self, x: Vector) -> Vector:
        """Return `x` plus the vector, newly made."""
        found: Vector = x.copy()
        self.add_to(found)
        return found

    def dense(self) -> Vector:
        """Return the vector itself, newly made, shape (size,)."""
        x = np.zeros(self.size, self.dtype)
        self.add_to(x)
        return x


class Dense(Payload):
    """Every value.

    Args:
        values: shape (size,).
    """

    def __init__(self, values: Vector) -> None:
        self.values = values
        self.size = values.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    def add_to(self, x: Vector, factor: float = 1.0) -> None:
        """Add `factor` times the values to `x`, in place."""
        x += self.values if factor == 1 else x.dtype.type(factor) * self.values

    def times(self, factor: float) -> Dense:
        """Return `factor` times this."""
        return Dense(self.dtype.type(factor) * self.values)

    def encode(self) -> Raw:
        """Return the form and the values."""
        return joined(bytes([_DENSE]), self.values)

    @property
    def paper_bytes(self) -> float:
        """4 bytes for each value."""
        return 4.0 * self.size


class Sparse(Payload):
    """Some values and their positions; all others are 0.

    Args:
        size: entries of the whole vector.
        indices: strictly ascending positions, shape (k,).
        values: shape (k,).
    """

    def __init__(self, size: int, indices: Ints, values: Vector) -> None:
        self.size = size
        self.indices = indices
        self.values = values

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    def add_to(self, x: Vector, factor: float = 1.0) -> None:
        """Add `factor` times the values to `x`, in place."""
        x[self.indices] += self.values if factor == 1 else x.dtype.type(factor) * self.values

    def times(self, factor: float) -> Sparse:
        """Return `factor` times this."""
        return Sparse(self.size, self.indices, self.dtype.type(factor) * self.values)

    def encode(self) -> Raw:
        """Return positions in their smallest coding, and values; or all values, if that is shorter."""
        coding, positions = encode_indices(self.indices, self.size)
        data = joined(bytes([_SPARSE, coding]) + varint(self.indices.size), positions, self.values)
        return data if data.size <= self.size * self.dtype.itemsize else Dense(self.dense()).encode()

    @property
    def paper_bytes(self) -> float:
        """8 bytes for each value and its index, at most 4 for each entry of the vector."""
        return 4.0 * min(2 * self.indices.size, self.size)


class Levels(Payload):
    """A small integer for each entry, times a scale of its tensor.

    Args:
        levels: shape (size,), int8, from -most to most; without zeros if `most` is 1 and `binary`.
        scales: of each tensor, shape (len(layers),), float32.
        layers: slices of the tensors.
        most: largest absolute level, 1 to 127.
        dtype: of the vector.
        binary: whether levels are only -1 and 1: one bit each.
    """

    def __init__(
        self,
        levels: NDArray[np.int8],
        scales: NDArray[np.float32],
        layers: Sequence[slice],
        most: int,
        dtype: DTypeLike,
        *,
        binary: bool = False,
    ) -> None:
        self.size = levels.size
        self.levels = levels
        self.scales = scales
        self.layers = layers
        self.most = most
        self.binary = binary
        self._dtype = np.dtype(dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the vector."""
        return self._dtype

    def add_to(self, x: Vector, factor: float = 1.0) -> None:
        """Add `factor` times levels times scales to `x`, in place."""
        self._add(x, factor, x)

    def plus(self, x: Vector) -> Vector:
        """Return `x` plus levels times scales, newly made in one pass."""
        found = x.copy() if sum(layer.stop - layer.start for layer in self.layers) < x.size else np.empty_like(x)
        self._add(x, 1.0, found)
        return found

    def _add(self, x: Vector, factor: float, out: Vector) -> None:
        change = np.empty(min(_BLOCK, self.size), x.dtype)
        for layer, scale in zip(self.layers, self.scales.tolist(), strict=True):
            for start in range(layer.start, layer.stop, _BLOCK):
                block = slice(start, min(start + _BLOCK, layer.stop))
                part = change[: self.levels[block].size]
                np.copyto(part, self.levels[block])  # takes less than a product of two types
                part *= x.dtype.type(factor * scale)
                np.add(x[block], part, out=out[block])

    def times(self, factor: float) -> Levels:
        """Return `factor` times this: other scales."""
        scales = (factor * self.scales).astype(np.float32)
        return Levels(self.levels, scales, self.layers, self.most, self._dtype, binary=self.binary)

    def encode(self) -> Raw:
        """Return scales, and levels in as few bits as they take; without zeros, if that is shorter."""
        if self.binary:
            return joined(bytes([_LEVELS, 0, _ALL]), self.scales.astype("<f4"), np.packbits(self.levels > 0))
        scales = self.scales.astype("<f4")
        longest = 3 + scales.nbytes + packed_size(self.size, self.most)
        present = self.levels != 0  # their places are found four times as fast as those of integers
        if 2 * np.count_nonzero(present) <= self.size:
            chosen = np.flatnonzero(present)
            coding, positions = encode_indices(chosen, self.size)
            head = bytes([_LEVELS, self.most, 1 + coding]) + varint(chosen.size) + varint(positions.size)
            if len(head) + positions.size + scales.nbytes + packed_size(chosen.size, self.most) < longest:
                return joined(head, positions, scales, pack(self.levels[chosen], self.most))
        return joined(bytes([_LEVELS, self.most, _ALL]), scales, pack(self.levels, self.most))

    @property
    def paper_bytes(self) -> float:
        """The bits of every level, and 4 bytes for each scale."""
        bits = 1 if self.binary else bits_of(self.most)
        return bits * self.size / 8 + 4.0 * len(self.layers)


def total(payloads: Sequence[Payload]) -> Payload:
    """Return the sum of at least one payload, added up in float64; sparse if all of them are."""
    if len(payloads) == 1:
        return payloads[0]
    size, dtype = payloads[0].size, payloads[0].dtype
    sparse = [payload for payload in payloads if isinstance(payload, Sparse)]
    if len(sparse) == len(payloads):
        everywhere = np.concatenate([payload.indices for payload in sparse])
        indices, owner = np.unique(everywhere, return_inverse=True)
        weights = np.concatenate([payload.values for payload in sparse])
        values = np.bincount(owner, weights=weights, minlength=indices.size)
        return Sparse(size, indices, values.astype(dtype))
    x = np.zeros(size, np.float64)
    for payload in payloads:
        payload.add_to(x)
    return Dense(x.astype(dtype))


# id of bytes that never change -> the bytes, the facts that both ends know, and the payload that they stand for
_known: dict[int, tuple[ref[Raw], tuple[object, ...], Payload]] = {}


_FORMS: dict[type[Payload], int] = {Dense: _DENSE, Sparse: _SPARSE, Levels: _LEVELS}


def encode(payload: Payload, layers: Sequence[slice]) -> Raw:
    """Return the bytes of a payload, read-only; to `decode` them finds it again, as long as they are there."""
    data = payload.encode()
    if _FORMS.get(type(payload)) == data[0] and _is_finite(payload):
        _know(data, (payload.size, tuple(layers), payload.dtype), payload)
    return data


def _know(data: Raw, facts: tuple[object, ...], payload: Payload) -> None:
    number = id(data)
    _known[number] = ref(data, lambda _: _known.pop(number, None)), facts, payload


def _is_finite(payload: Payload) -> bool:
    """Tell whether values are finite, and their squares: larger ones are as good as infinite, as sums of them soon are.

    The values are entries of the vector, or scales of its tensors in float32.
    """
    values = payload.values if isinstance(payload, Dense | Sparse) else payload.scales  # type: ignore[attr-defined]
    return float(np.abs(values).max(initial=0.0)) < math.sqrt(np.finfo(payload.dtype).max)


def decode(data: Raw, size: int, layers: Sequence[slice], dtype: DTypeLike) -> Payload:
    """Return the payload in a peer's bytes: finite, and of the expected size and dtype.

    Bytes that devices of one process have from each other give all of them the same payload, which nobody changes.

    Args:
        data: from `encode`, shape (n,).
        size: entries of the vector.
        layers: slices of its tensors.
        dtype: of its values, float32 or float64.

    Raises:
        RemoteError: if the bytes aren't such a payload.
    """
    base = data.base
    if not isinstance(base, np.ndarray) or base.flags.writeable or base.base is not None or base.size != data.size:
        return _decode(data, size, layers, dtype)
    facts = size, tuple(layers), np.dtype(dtype)
    known = _known.get(id(base))
    if known is not None and known[0]() is base and known[1] == facts:
        return known[2]
    payload = _decode(data, size, layers, dtype)
    _know(base, facts, payload)
    return payload


def _decode(data: Raw, size: int, layers: Sequence[slice], dtype: DTypeLike) -> Payload:
    if data.ndim != 1 or data.dtype != np.uint8 or data.size < 1:
        raise RemoteError("a payload must be a row of bytes")
    reader = ByteReader(data)
    form = reader.byte()
    value_type = np.dtype(dtype).newbyteorder("<")
    payload: Payload
    if form == _DENSE:
        payload = Dense(reader.rest(size, value_type).astype(dtype, copy=False))
    elif form == _SPARSE:
        coding, count = reader.byte(), reader.varint(size)
        indices = decode_indices(coding, reader.all_but(count * value_type.itemsize), count, size)
        payload = Sparse(size, indices, reader.rest(count, value_type).astype(dtype, copy=False))
    elif form == _LEVELS:
        payload = _read_levels(reader, size, layers, dtype)
    else:
        raise RemoteError(f"unknown form {form} of a payload")
    if not _is_finite(payload):
        raise RemoteError("a payload has values that aren't finite, or whose squares aren't")
    return payload


def _read_levels(reader: ByteReader, size: int, layers: Sequence[slice], dtype: DTypeLike) -> Levels:
    most, left_out = reader.byte(), reader.byte()
    if most > 127 or (most == 0 and left_out != _ALL):
        raise RemoteError(f"levels up to {most} don't exist")
    if left_out == _ALL:
        scales = reader.take(len(layers), np.dtype("<f4"))
        if most == 0:
            bits = np.unpackbits(reader.rest(-(-size // 8), np.dtype(np.uint8)))[:size]
            signs: NDArray[np.int8] = (2 * bits.astype(np.int8) - 1).astype(np.int8)
            return Levels(signs, scales, layers, 1, dtype, binary=True)
        levels = unpack(reader.rest(packed_size(size, most), np.dtype(np.uint8)), size, most)
        return Levels(levels, scales, layers, most, dtype)
    count, length = reader.varint(size), reader.varint(reader.left)
    indices = decode_indices(left_out - 1, reader.take(length, np.dtype(np.uint8)), count, size)
    scales = reader.take(len(layers), np.dtype("<f4"))
    levels = np.zeros(size, np.int8)
    levels[indices] = unpack(reader.rest(packed_size(count, most), np.dtype(np.uint8)), count, most)
    return Levels(levels, scales, layers, most, dtype)
