"""Index codings: the positions of a long vector's entries that are kept, in as few bytes as possible.

Positions are ascending integers. Five codings compete for each message; the size of each follows from
the positions without encoding them, so only the smallest is encoded:

    index32   4 bytes for each position
    index16   2 bytes for each, grouped into pages of 65,536 positions, and a count (LEB128) for each page
    gaps      distances to the position before, 7 bits per byte (LEB128)
    bitmap    one bit for each entry of the vector
    gamma     distances in Elias's gamma code, all unary parts first, then all binary parts: as many
              bits as if they alternated, but readable without a loop

Everything here is vectorized: loops go over bits or pages, never over positions.

Source: P. Elias, "Universal codeword sets and representations of the integers", IEEE TIT 1975.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Ints
from p2pl_async.errors import RemoteError

Raw = NDArray[np.uint8]

_PAGE = 1 << 16
_MOST_BITS = 40  # of a gap; no vector has 2^40 entries


class Coding(NamedTuple):
    """One way to write ascending positions.

    Attributes:
        name: its name in reports.
        least: (number of positions, entries of the vector) -> number of bytes that it takes at least.
        size: (positions, gaps, entries of the vector) -> number of bytes.
        write: (positions, gaps, entries of the vector) -> the bytes.
        read: (bytes, count, entries of the vector) -> positions, not checked yet; RemoteError if impossible.
    """

    name: str
    least: Callable[[int, int], int]
    size: Callable[[Ints, Ints, int], int]
    write: Callable[[Ints, Ints, int], Raw]
    read: Callable[[Raw, int, int], Ints]


def encode_indices(indices: Ints, size: int) -> tuple[int, Raw]:
    """Return the number of the smallest coding in `CODINGS` (of equals the first), and the encoded positions.

    Args:
        indices: strictly ascending positions, shape (k,), each at least 0 and below `size`.
        size: entries of the whole vector.
    """
    gaps = _gaps(indices)
    least = sorted((coding.least(indices.size, size), number) for number, coding in enumerate(CODINGS))
    best = math.inf, 0
    for bound, number in least:
        if (bound, number) < best:  # else it is longer than another, whatever the positions
            best = min(best, (CODINGS[number].size(indices, gaps, size), number))
    number = best[1]
    return number, CODINGS[number].write(indices, gaps, size)


def _gaps(indices: Ints) -> Ints:
    """Return the distance of each position to the one before, at least 1."""
    gaps = np.empty_like(indices)
    gaps[:1] = indices[:1] + 1
    np.subtract(indices[1:], indices[:-1], out=gaps[1:])
    return gaps


def decode_indices(coding: int, data: Raw, count: int, size: int) -> Ints:
    """Return the positions that a peer encoded, shape (count,), strictly ascending and below `size`.

    Raises:
        RemoteError: if the bytes aren't such positions.
    """
    if not 0 <= coding < len(CODINGS):
        raise RemoteError(f"unknown index coding {coding}")
    indices = CODINGS[coding].read(data, count, size)
    if indices.shape != (count,):
        raise RemoteError(f"{indices.size} positions, {count} announced")
    if count and (indices[0] < 0 or indices[-1] >= size or (count > 1 and int(np.diff(indices).min()) <= 0)):
        raise RemoteError(f"positions must ascend and lie below {size}")
    return indices


# Fixed width


def _write_32(indices: Ints, gaps: Ints, size: int) -> Raw:
    return indices.astype("<u4").view(np.uint8)


def _read_32(data: Raw, count: int, size: int) -> Ints:
    _expect(data, 4 * count)
    return np.frombuffer(data.tobytes(), "<u4").astype(np.int64)


def _pages(size: int) -> int:
    return -(-size // _PAGE)


def _page_counts(indices: Ints, size: int) -> Ints:
    return np.bincount(indices >> 16, minlength=_pages(size)).astype(np.int64)


def _size_16(indices: Ints, gaps: Ints, size: int) -> int:
    return _sevens_size(_page_counts(indices, size)) + 2 * indices.size


def _write_16(indices: Ints, gaps: Ints, size: int) -> Raw:
    low = (indices & 0xFFFF).astype("<u2").view(np.uint8)
    return np.concatenate([_to_sevens(_page_counts(indices, size)), low])


def _read_16(data: Raw, count: int, size: int) -> Ints:
    pages, split = _pages(size), data.size - 2 * count
    if split < 0:
        raise RemoteError(f"{count} positions don't fit into {data.size} bytes")
    counts = _from_sevens(data[:split], pages)
    if int(counts.sum()) != count:
        raise RemoteError(f"pages hold {int(counts.sum())} positions, {count} announced")
    low = np.frombuffer(data[split:].tobytes(), "<u2").astype(np.int64)
    high: Ints = np.repeat(np.arange(pages, dtype=np.int64) << 16, counts)
    return high + low


# Gaps, 7 bits a byte


def _write_gaps(indices: Ints, gaps: Ints, size: int) -> Raw:
    return _to_sevens(gaps)


def _read_gaps(data: Raw, count: int, size: int) -> Ints:
    return np.cumsum(_from_sevens(data, count)) - 1


def _widths(numbers: Ints) -> Ints:
    """Return how many bytes each number takes, 7 bits in each."""
    widths = np.ones(numbers.shape, np.int64)
    for limit in _limits(numbers, 7):
        widths += numbers >= limit
    return widths


def _sevens_size(numbers: Ints) -> int:
    """Return how many bytes `_to_sevens` takes."""
    return numbers.size + sum(int(np.count_nonzero(numbers >= limit)) for limit in _limits(numbers, 7))


def _limits(numbers: Ints, bits: int) -> list[int]:
    """Return the powers of 2^bits from the first to the last that some number reaches."""
    return [1 << width for width in range(bits, int(numbers.max(initial=0)).bit_length(), bits)]


def _to_sevens(numbers: Ints) -> Raw:
    """Return numbers with 7 bits a byte, the lowest first; all but a number's last byte have their high bit set."""
    widths = _widths(numbers)
    place = _places(widths)
    digits = np.repeat(numbers, widths) >> (7 * place) & 0x7F
    digits[place < np.repeat(widths, widths) - 1] |= 0x80
    return digits.astype(np.uint8)


def _from_sevens(data: Raw, count: int) -> Ints:
    """Invert `_to_sevens`: return `count` numbers, below 2^35."""
    ends = np.flatnonzero(data < 0x80)
    if ends.size != count or (data.size and data[-1] >= 0x80):
        raise RemoteError(f"{ends.size} numbers, {count} expected")
    if not count:
        return np.empty(0, np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    widths = ends - starts + 1
    if int(widths.max()) > 5:
        raise RemoteError("a number is too wide")
    digits = (data & 0x7F).astype(np.int64) << (7 * _places(widths))
    numbers: Ints = np.add.reduceat(digits, starts)
    return numbers


# One bit for each entry


def _write_bitmap(indices: Ints, gaps: Ints, size: int) -> Raw:
    bits = np.zeros(size, np.bool_)
    bits[indices] = True
    return np.packbits(bits)


def _read_bitmap(data: Raw, count: int, size: int) -> Ints:
    _expect(data, -(-size // 8))
    return np.flatnonzero(np.unpackbits(data).view(np.bool_)).astype(np.int64)


# Elias gamma: g has b = floor(log2 g) zeros, a one, then its lowest b bits


def _gamma_bits(gaps: Ints) -> Ints:
    widths = np.zeros(gaps.shape, np.int64)
    for limit in _limits(gaps, 1):
        widths += gaps >= limit
    return widths


def _gamma_size(indices: Ints, gaps: Ints, size: int) -> int:
    return -(-(gaps.size + 2 * sum(int(np.count_nonzero(gaps >= limit)) for limit in _limits(gaps, 1))) // 8)


def _write_gamma(indices: Ints, gaps: Ints, size: int) -> Raw:
    widths = _gamma_bits(gaps)
    unary = np.zeros(int(widths.sum()) + gaps.size, np.bool_)
    unary[np.cumsum(widths + 1) - 1] = True
    place = _places(widths)
    binary = np.repeat(gaps, widths) >> place & 1  # the lowest bit first
    return np.packbits(np.concatenate([unary, binary.astype(np.bool_)]))


def _read_gamma(data: Raw, count: int, size: int) -> Ints:
    bits = np.unpackbits(data)
    ones = np.flatnonzero(bits.view(np.bool_))[:count]  # ten times as fast as of integers
    if ones.size < count:
        raise RemoteError(f"{ones.size} gaps, {count} announced")
    if not count:
        _expect(data, 0)
        return np.empty(0, np.int64)
    widths = np.diff(ones, prepend=-1) - 1
    if int(widths.max()) > _MOST_BITS:
        raise RemoteError("a gap is too wide")
    first, total = int(ones[-1]) + 1, int(widths.sum())
    _expect(data, -(-(first + total) // 8))
    place = _places(widths)
    weighted = bits[first : first + total].astype(np.int64) << place
    owner: NDArray[Any] = np.repeat(np.arange(count), widths)
    # Sums of distinct powers of two below 2^40: exact as float64.
    low = np.bincount(owner, weights=weighted, minlength=count).astype(np.int64)
    return np.cumsum((np.int64(1) << widths) + low) - 1


def _places(widths: Ints) -> Ints:
    """Return 0, 1, ... widths[0] - 1, 0, 1, ... widths[1] - 1, and so on."""
    ends = np.cumsum(widths)
    total = int(ends[-1]) if widths.size else 0
    return np.arange(total, dtype=np.int64) - np.repeat(ends - widths, widths)


def _expect(data: Raw, size: int) -> None:
    if data.size != size:
        raise RemoteError(f"positions take {data.size} bytes, expected {size}")


CODINGS = (
    Coding("index32", lambda count, size: 4 * count, lambda indices, gaps, size: 4 * indices.size, _write_32, _read_32),
    Coding("index16", lambda count, size: 2 * count + _pages(size), _size_16, _write_16, _read_16),
    Coding("gaps", lambda count, size: count, lambda indices, gaps, size: _sevens_size(gaps), _write_gaps, _read_gaps),
    Coding(
        "bitmap",
        lambda count, size: -(-size // 8),
        lambda indices, gaps, size: -(-size // 8),
        _write_bitmap,
        _read_bitmap,
    ),
    Coding("gamma", lambda count, size: -(-count // 8), _gamma_size, _write_gamma, _read_gamma),
)
"""Every coding, by its number on the wire."""
