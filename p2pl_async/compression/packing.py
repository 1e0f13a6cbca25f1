"""How payloads become bytes: small integers in as few bits as they take, and a reader that trusts nobody."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pl_async.compression.indices import Raw
from p2pl_async.errors import RemoteError


class ByteReader:
    """Reads a payload from its front."""

    def __init__(self, data: Raw) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self._data.size - self._at

    def byte(self) -> int:
        return int(self.take(1, np.dtype(np.uint8))[0])

    def varint(self, most: int) -> int:
        """Return a count of at most `most`."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 35:
                raise RemoteError("a count is too wide")
        if value > most:
            raise RemoteError(f"a count of {value} is above {most}")
        return value

    def take(self, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the next `count` items."""
        end = self._at + count * dtype.itemsize
        if end > self._data.size:
            raise RemoteError(f"a payload ends {end - self._data.size} bytes early")
        part = self._data[self._at : end]
        self._at = end
        return np.frombuffer(part.tobytes(), dtype)

    def all_but(self, behind: int) -> Raw:
        """Return the next bytes, up to the last `behind`."""
        if behind > self.left:
            raise RemoteError(f"a payload ends {behind - self.left} bytes early")
        return self.take(self.left - behind, np.dtype(np.uint8))

    def rest(self, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the last items, of which there must be `count`."""
        if self.left != count * dtype.itemsize:
            raise RemoteError(f"{self.left} bytes of values, expected {count * dtype.itemsize}")
        return self.take(count, dtype)


def bits_of(most: int) -> int:
    """Return the bits that one level from -most to most takes."""
    return (2 * most).bit_length()


def packed_size(count: int, most: int) -> int:
    """Return the bytes that so many levels take."""
    return -(-bits_of(most) * count // 8)


def pack(levels: NDArray[np.int8], most: int) -> Raw:
    """Return levels as unsigned numbers of `bits_of(most)` bits, one after another.

    Eight numbers of b bits are b bytes: they are put together in a word, whose last b bytes are kept.
    """
    unsigned = levels.view(np.uint8) + np.uint8(most)  # modulo 256
    bits = bits_of(most)
    if bits == 8:
        return unsigned
    eights = np.zeros((-(-unsigned.size // 8), 8), np.uint64)
    eights.ravel()[: unsigned.size] = unsigned
    eights <<= _shifts(bits)
    words = np.bitwise_or.reduce(eights, axis=1)
    data: Raw = words.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - bits :]
    return data.ravel()[: packed_size(unsigned.size, most)]


def unpack(data: Raw, count: int, most: int) -> NDArray[np.int8]:
    """Invert `pack`."""
    bits = bits_of(most)
    if bits == 8:
        unsigned = data.astype(np.int16)
    else:
        padded = np.zeros((-(-count // 8), 8), np.uint8)
        given = np.zeros(len(padded) * bits, np.uint8)
        given[: data.size] = data
        padded[:, 8 - bits :] = given.reshape(-1, bits)
        words = padded.view(">u8").astype(np.uint64)
        digits = words >> _shifts(bits) & np.uint64((1 << bits) - 1)
        unsigned = digits.ravel()[:count].astype(np.int16)
    if count and int(unsigned.max()) > 2 * most:
        raise RemoteError(f"a level is above {most}")
    return (unsigned - most).astype(np.int8)


def _shifts(bits: int) -> NDArray[np.uint64]:
    """Return where each of eight numbers begins in a word, the first one highest, shape (8,)."""
    return np.arange(7 * bits, -1, -bits, dtype=np.uint64)


def varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def joined(head: bytes, *parts: NDArray[Any]) -> Raw:
    little = [np.ascontiguousarray(part, part.dtype.newbyteorder("<")).view(np.uint8) for part in parts]
    joined = np.concatenate([np.frombuffer(head, np.uint8), *little])
    joined.flags.writeable = False  # so that sending it needs no copy
    return joined
