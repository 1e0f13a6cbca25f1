"""Memory that this process and its workers share: a data set, and the parameters that go to and fro.

It is a file in memory without a name, which a worker inherits by its descriptor. It is gone with the last process that
has it, however that ends; and it isn't in /dev/shm, which is small in containers.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_ALIGNED = 4096  # bytes, so that what isn't used of a file takes no memory


@dataclass(frozen=True, slots=True)
class Shared:
    """Arrays in a file that processes share.

    Attributes:
        file: descriptor, the same in all of them.
        size: bytes.
        places: name -> where an array begins, its type and its shape.
    """

    file: int
    size: int
    places: Mapping[str, tuple[int, str, tuple[int, ...]]]

    @classmethod
    def make(cls, wanted: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> Shared:
        """Return new memory for arrays of these types and shapes, filled with zeros; `close` frees it.

        Pages that are never written to take no memory.
        """
        places, size = {}, 0
        for name, (dtype, shape) in wanted.items():
            places[name] = (size, dtype.str, shape)
            size += -(-int(dtype.itemsize * np.prod(shape, dtype=object)) // _ALIGNED) * _ALIGNED
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("p2pl_async")
        else:
            with tempfile.TemporaryFile() as unnamed:
                file = os.dup(unnamed.fileno())
        os.ftruncate(file, size)
        return cls(file, size, places)

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Shared:
        """Return new memory with copies of arrays."""
        shared = cls.make({name: (array.dtype, array.shape) for name, array in arrays.items()})
        for name, place in shared.arrays().items():
            place[...] = arrays[name]
        return shared

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name, where they lie, each time in a new mapping."""
        mapped = mmap.mmap(self.file, self.size)
        return {
            name: np.frombuffer(mapped, dtype, int(np.prod(shape, dtype=object)), start).reshape(shape)
            for name, (start, dtype, shape) in self.places.items()
        }

    def close(self) -> None:
        """Close the file here; mappings of it stay."""
        os.close(self.file)


class Tray:
    """A place for the vectors of one work: what it starts from, then its results.

    Args:
        w: parameters, (rows, n_params).
        v: momentum, likewise.
        d: drifts, likewise.
    """

    __slots__ = ("_d", "_v", "_w")

    def __init__(self, w: Array, v: Array, d: Array) -> None:
        self._w, self._v, self._d = w, v, d

    def put(self, params: Sequence[Array], velocities: Sequence[Array | None], drifts: Sequence[Array]) -> None:
        """Copy vectors into the tray; None is left out."""
        for rows, vectors in ((self._w, params), (self._v, velocities), (self._d, drifts)):
            for row, vector in zip(rows, vectors, strict=False):  # there may be none
                if vector is not None:
                    row[:] = vector

    def params(self, count: int) -> list[Array]:
        """Return the parameters of so many jobs, where they lie."""
        return list(self._w[:count])

    def velocities(self, there: Sequence[bool]) -> list[Array | None]:
        """Return the momentum of those jobs that have one, where it lies."""
        return [row if has else None for row, has in zip(self._v, there, strict=False)]

    def drifts(self, count: int) -> list[Array]:
        """Return so many drifts, where they lie."""
        return list(self._d[:count])


def trays(shared: Shared) -> list[Tray]:
    """Return the trays in shared memory that `tray_memory` has made."""
    found = shared.arrays()
    return [Tray(*rows) for rows in zip(found["w"], found["v"], found["d"], strict=True)]


def tray_memory(count: int, rows: int, n_params: int, dtype: np.dtype[Any]) -> Shared:
    """Return memory for so many trays, each for so many vectors (n_params,) of a kind."""
    return Shared.make(dict.fromkeys("wvd", (dtype, (count, rows, n_params))))
