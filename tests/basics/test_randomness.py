"""Random numbers that are looked up: the published generator, and independent of order, shape and neighbors."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from p2pl_async.basics.randomness import Substreams, _philox, stream, uniform_at, uniforms_at


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_generator_gives_the_published_answers(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    arrays = tuple(np.array([word], np.uint64) for word in counter)
    assert tuple(int(word[0]) for word in _philox(arrays, key, np.uint64)) == words  # type: ignore[arg-type]
    assert _philox(counter, key, int) == words  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_a_number_is_the_same_alone_and_in_any_array(a: int, b: int, c: int) -> None:
    alone = uniform_at(3, "x", a, b, c)
    assert uniforms_at(3, "x", a, b, c) == alone
    others = np.array([[0, a], [a, 5]], dtype=np.uint64)
    assert 0 < alone < 1
    assert uniforms_at(3, "x", others, b, np.uint64(c))[0, 1] == alone
    assert uniforms_at(3, "x", others, b, np.uint64(c)).shape == (2, 2)


def test_every_coordinate_the_seed_and_the_purpose_count() -> None:
    numbers = {
        uniform_at(*where)
        for where in [
            (1, "x", 0, 0, 0), (2, "x", 0, 0, 0), (1, "y", 0, 0, 0), (1, "x", 1, 0, 0), (1, "x", 0, 1, 0),
            (1, "x", 0, 0, 1), (1, "x", 0, 0, 2**32),
        ]
    }  # fmt: skip
    assert len(numbers) == 7


def test_numbers_are_uniform_and_neighbors_are_unrelated() -> None:
    table = uniforms_at(1, "x", np.arange(30)[:, None, None], np.arange(30)[:, None], np.arange(30))
    assert stats.kstest(table.ravel(), "uniform").pvalue > 0.01
    tolerance = 5 / np.sqrt(table.size)
    for axis in range(3):
        near = np.moveaxis(table, axis, 0)
        assert abs(np.corrcoef(near[1:].ravel(), near[:-1].ravel())[0, 1]) < tolerance


def test_a_piece_of_a_stream_is_the_same_whatever_others_drew() -> None:
    pieces, again = Substreams(7, "test", 3, 12), Substreams(7, "test", 3, 12)
    pieces.begin(5)
    five = pieces.current.random(9).tolist()
    pieces.begin(6)
    six = pieces.current.random(2).tolist() + pieces.current.random(7).tolist()
    pieces.begin(6)
    assert pieces.current.random(9).tolist() == six
    again.begin(6)
    again.begin(5)  # nothing was drawn from the one before
    assert again.current.random(9).tolist() == five
    assert len({*five, *six}) == 18


WORDS = st.one_of(st.sampled_from([0, 1, 2**32 - 1, 2**32]), st.integers(0, 2**32 - 1), st.integers(0, 2**70))


@given(WORDS, st.text(max_size=5), st.lists(WORDS, max_size=5))
def test_a_stream_is_the_one_of_numpys_seed_sequence(seed: int, purpose: str, owner: list[int]) -> None:
    theirs = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), *owner))
    ours = stream(seed, purpose, *owner)
    np.testing.assert_array_equal(ours.random(5), np.random.Generator(np.random.Philox(theirs)).random(5))
    found = ours.bit_generator.seed_seq
    for count, dtype in ((1, np.uint32), (5, np.uint32), (2, np.uint64), (9, np.uint64)):
        np.testing.assert_array_equal(found.generate_state(count, dtype), theirs.generate_state(count, dtype))


def test_a_stream_of_a_negative_owner_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        stream(1, "loss", -1)
