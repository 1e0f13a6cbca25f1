"""Named random streams: one per purpose and owner, so a new draw changes no other number.

`stream(7, "loss", 3, 12)` is always the same generator, in any process and whatever else
the run draws. Philox is counter-based, so streams with different keys are independent.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import functools
import itertools
import zlib
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import ArrayLike, NDArray

_WORD = 0xFFFFFFFF  # 32 bits


def stream(seed: int, purpose: str, *owner: int) -> np.random.Generator:
    """Return the generator of one purpose and owner.

    Args:
        seed: the run's seed, 0 or more.
        purpose: the use of the numbers, such as "loss".
        owner: a device id, or the two ids of a link.
    """
    key: Any = _Seed(seed, zlib.crc32(purpose.encode()), owner)  # numpy's stubs know its own sequence alone
    return np.random.Generator(np.random.Philox(key))


class _Seed(ISeedSequence):
    """What `numpy.random.SeedSequence(seed, spawn_key=(purpose, *owner))` is, but a stream takes 13 µs instead of 32.

    A run of 10,000 devices opens some 100,000 streams. What they have in common, seed and purpose, is mixed once.
    """

    __slots__ = ("_owner", "_purpose", "_seed")

    def __init__(self, seed: int, purpose: int, owner: tuple[int, ...]) -> None:
        self._seed, self._purpose, self._owner = seed, purpose, owner

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[Any]:
        """Return the words that numpy's own sequence gives."""
        seed, owner = self._seed, self._owner
        wanted = n_words * np.dtype(dtype).itemsize // 4
        unusual = max(seed, *owner, 0) > _WORD or min(seed, *owner, 0) < 0
        if unusual or len(owner) > _MOST_OWNERS or wanted > len(_OUTPUTS):
            return np.random.SeedSequence(seed, spawn_key=(self._purpose, *owner)).generate_state(n_words, dtype)
        pool = list(_mixed(seed, self._purpose))
        hashes = iter(_HASHES[20:])
        for word in owner:
            _mix(pool, word, hashes)
        words = []
        for word, (flip, factor) in zip(itertools.cycle(pool), _OUTPUTS[:wanted], strict=False):
            word = (word ^ flip) * factor & _WORD
            words.append(word ^ word >> 16)
        return np.array(words, np.uint32).view(dtype)


def _constants(first: int, factor: int, count: int) -> list[tuple[int, int]]:
    """Return what each of SeedSequence's hashes flips and multiplies by: powers of a factor."""
    powers = [first * pow(factor, n, _WORD + 1) & _WORD for n in range(count + 1)]
    return list(itertools.pairwise(powers))


_MOST_OWNERS = 3
_HASHES = _constants(0x43B0D7E5, 0x931E8875, 20 + 4 * _MOST_OWNERS)
_OUTPUTS = _constants(0x8B51F9DD, 0x58F38DED, 8)


def _mix(pool: list[int], word: int, hashes: Iterator[tuple[int, int]]) -> None:
    """Mix a word into each word of SeedSequence's pool."""
    for i, old in enumerate(pool):
        flip, factor = next(hashes)
        new = (word ^ flip) * factor & _WORD
        new = 0xCA01F9DD * old - 0x4973F715 * (new ^ new >> 16) & _WORD
        pool[i] = new ^ new >> 16


@functools.lru_cache(maxsize=256)
def _mixed(seed: int, purpose: int) -> tuple[int, ...]:
    """Return SeedSequence's pool after the words of a seed and a purpose."""
    hashes = iter(_HASHES)
    pool = []
    for word in (seed, 0, 0, 0):
        flip, factor = next(hashes)
        word = (word ^ flip) * factor & _WORD
        pool.append(word ^ word >> 16)
    for source, target in itertools.permutations(range(4), 2):
        one = [pool[target]]
        _mix(one, pool[source], hashes)
        pool[target] = one[0]
    _mix(pool, purpose, hashes)
    return tuple(pool)


def draws(
    generator: np.random.Generator, transform: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
) -> Iterator[float]:
    """Return an endless sequence: uniforms in [0, 1), each passed through `transform`.

    They are drawn in growing blocks (8 to 128), so that `next()` costs 0.07 µs instead of 0.5 µs. Blocks of 512 save
    0.03 µs more and take 4 kB of each link for each of its sequences: memory that grows for the first 1,000 messages.
    Each number takes one uniform, so the sequence doesn't depend on the block sizes.
    """
    # Of many links few are in the cache of the processor: a chain is smaller than a generator that yields each number,
    # and an array than a list.
    return itertools.chain.from_iterable(_blocks(generator, transform))


_LARGEST = 128  # numbers in a block


def _blocks(
    generator: np.random.Generator, transform: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None
) -> Iterator[array[float]]:
    size = 8
    while True:
        yield _block(
            generator, transform, size
        )  # made elsewhere: what a local variable names here would stay in memory
        size = min(2 * size, _LARGEST)


def _block(
    generator: np.random.Generator, transform: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None, size: int
) -> array[float]:
    block = generator.random(size)
    values = block if transform is None else np.asarray(transform(block), np.float64)
    return array("d", values.tobytes())


class Substreams:
    """A stream cut into pieces, one for each message of a link.

    Philox is a counter: piece i begins at i * 2^64, and no message draws that many numbers. So the
    draws of a message don't depend on the fate of messages before it.

    Args:
        seed: the run's seed; the stream is opened at the first piece.
        purpose: the use of the numbers, as in `stream`.
        owner: a device id, or the two ids of a link.
    """

    __slots__ = ("_counter", "_generator", "_number", "_open", "_philox", "_start", "_there")

    _generator: np.random.Generator

    def __init__(self, seed: int, purpose: str, *owner: int) -> None:
        self._open = functools.partial(stream, seed, purpose, *owner)
        self._start: Any = None
        self._number = 0
        self._there = False  # whether the generator is in the piece begun last

    @property
    def current(self) -> np.random.Generator:
        """The generator, in the piece begun last."""
        if not self._there:
            self._go()
        return self._generator

    def begin(self, number: int) -> None:
        """Choose a piece; the generator moves to its start at the first draw."""
        self._number = number
        self._there = False

    def _go(self) -> None:
        if self._start is None:
            self._generator = self._open()
            self._philox = self._generator.bit_generator
            self._start = self._philox.state
            self._counter = self._start["state"]["counter"]
        self._counter[0], self._counter[1] = 0, self._number
        self._philox.state = self._start  # 1 µs; a new generator takes 20
        self._there = True


def uniforms_at(seed: int, purpose: str, a: ArrayLike, b: ArrayLike, c: ArrayLike) -> NDArray[np.float64]:
    """Return random numbers that are looked up by coordinates, not drawn one after another.

    `uniforms_at(7, "fading", 3, 12, block)` is always the same number, in whatever order numbers are
    looked up: a random function, for quantities without an order of their own (of places, pairs of
    devices, intervals of time). It keeps no state and works on whole arrays.

    Args:
        seed: the run's seed, 0 or more.
        purpose: the use of the numbers, as in `stream`.
        a: first coordinate, a whole number from 0 to 2**32 - 1; arrays broadcast.
        b: second coordinate, likewise.
        c: third coordinate, a whole number from 0 to 2**64 - 1.

    Returns:
        Uniform in (0, 1), never 0 or 1; the shape that the coordinates broadcast to.

    Source: the generator Philox4x32-10 of Salmon et al., with the coordinates as its counter.
    """
    shape = np.broadcast_shapes(np.shape(a), np.shape(b), np.shape(c))
    third = np.asarray(c, dtype=np.uint64).reshape(-1) if np.shape(c) == () else np.asarray(c, dtype=np.uint64)
    first, second = (np.asarray(word, dtype=np.uint64) for word in (a, b))
    words = _philox((first, second, third & np.uint64(_WORD), third >> np.uint64(32)), _key(seed, purpose), np.uint64)
    numbers = ((words[0] << np.uint64(20) | words[1] >> np.uint64(12)) + 0.5) * 2.0**-52
    return np.asarray(numbers, dtype=np.float64).reshape(shape)


def uniform_at(seed: int, purpose: str, a: int, b: int, c: int) -> float:
    """Return one number of `uniforms_at`, in a fifth of the time."""
    words = _philox((a, b, c & _WORD, c >> 32), _key(seed, purpose), int)
    # 52 bits and a half: the largest of these numbers is below 1 and loses no bit to rounding.
    return float(((words[0] << 20 | words[1] >> 12) + 0.5) * 2.0**-52)


@functools.lru_cache(maxsize=256)
def _key(seed: int, purpose: str) -> tuple[int, int]:
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()),))
    first, second = sequence.generate_state(2).tolist()
    return first, second


def _philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int], whole: type[Any]) -> tuple[Any, Any, Any, Any]:
    """Return the four words of Philox4x32-10; counter and words are `whole`: ints, or arrays of uint64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    low, half = whole(_WORD), whole(32)
    for _ in range(10):
        first, second = c0 * whole(0xD2511F53), c2 * whole(0xCD9E8D57)
        c0, c1, c2, c3 = second >> half ^ c1 ^ whole(k0), second & low, first >> half ^ c3 ^ whole(k1), first & low
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3
