"""Compression: what is kept, what it costs in bytes, and bytes from peers that mean harm."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from p2pl_async.compression import (
    AnyCompressor,
    Dense,
    ErrorFeedback,
    Identity,
    Int8,
    Levels,
    Qsgd,
    RandomK,
    Sign,
    Sparse,
    TopK,
    decode,
    encode,
)
from p2pl_async.compression.indices import CODINGS, decode_indices, encode_indices
from p2pl_async.compression.operators import kept, largest
from p2pl_async.errors import RemoteError

# The tensors of 784-200-200-10.
ENDS = np.cumsum([0, 156800, 200, 40000, 200, 2000, 10]).tolist()
LAYERS = tuple(slice(start, end) for start, end in itertools.pairwise(ENDS))
COMPRESSORS = [
    Identity(),
    TopK(sparsity=0.9),
    RandomK(sparsity=0.9),
    RandomK(sparsity=0.9, unbiased=True),
    Qsgd(levels=3),
    Qsgd(levels=100, unbiased=True),
    Int8(),
    Sign(),
]
compressors = pytest.mark.parametrize("compressor", COMPRESSORS, ids=lambda c: f"{c.kind}-{getattr(c, 'unbiased', '')}")


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def positions(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Strictly ascending positions in a vector, from none to all, near and far apart."""
    size = draw(st.one_of(st.integers(1, 300), st.sampled_from([65535, 65536, 65537, 200_000, 3_000_000])))
    count = draw(st.integers(0, min(size, 400)))
    random = stream(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        start = draw(st.integers(0, size - count))
        return np.arange(start, start + count, dtype=np.int64), size
    return np.sort(random.choice(size, count, replace=False)).astype(np.int64), size


vectors = st.tuples(
    st.integers(0, 2**32), st.integers(1, 400), st.sampled_from([np.float32, np.float64]), st.integers(-3, 3)
).map(lambda a: (10.0 ** a[3] * stream(a[0]).normal(size=a[1]) * (stream(a[0]).random(a[1]) < 0.7)).astype(a[2]))


def halves(v: np.ndarray) -> tuple[slice, ...]:
    cut = v.size // 2
    return (slice(0, cut), slice(cut, v.size)) if cut else (slice(0, v.size),)


# Index codings


@given(positions())
def test_every_coding_gives_the_positions_back_in_as_many_bytes_as_it_said(case) -> None:
    indices, size = case
    gaps = np.diff(indices, prepend=-1)
    for number, coding in enumerate(CODINGS):
        data = coding.write(indices, gaps, size)
        assert data.dtype == np.uint8
        assert coding.least(indices.size, size) <= data.size == coding.size(indices, gaps, size), coding.name
        assert np.array_equal(decode_indices(number, data, indices.size, size), indices), coding.name


@given(positions())
def test_the_smallest_coding_is_chosen(case) -> None:
    indices, size = case
    gaps = np.diff(indices, prepend=-1)
    number, data = encode_indices(indices, size)
    assert data.size == min(coding.write(indices, gaps, size).size for coding in CODINGS)
    assert np.array_equal(decode_indices(number, data, indices.size, size), indices)


@pytest.mark.parametrize(
    ("share", "name"), [(0.5, "bitmap"), (0.1, "gamma"), (0.02, "gaps"), (5e-5, "index16")], ids=str
)
def test_which_coding_wins_depends_on_how_much_is_kept(share, name) -> None:
    d = 199_210
    indices = np.sort(stream().choice(d, int(share * d), replace=False)).astype(np.int64)
    assert CODINGS[encode_indices(indices, d)[0]].name == name


def test_index32_wins_for_a_few_positions_far_apart() -> None:
    indices = np.array([0, 2**31, 2**32 - 1], np.int64)
    number, data = encode_indices(indices, 2**32)
    assert CODINGS[number].name in ("index32", "gaps")
    assert data.size <= 12
    assert np.array_equal(decode_indices(number, data, 3, 2**32), indices)


def test_gamma_codes_are_eliass() -> None:
    """5 is 00 1 01: two zeros, a one, and its two lowest bits, here the lowest first and behind all unary parts."""
    gamma = next(coding for coding in CODINGS if coding.name == "gamma")
    indices = np.array([0, 5, 6], np.int64)  # gaps 1, 5, 1
    data = gamma.write(indices, np.diff(indices, prepend=-1), 100)
    assert np.unpackbits(data)[:7].tolist() == [1, 0, 0, 1, 1, 1, 0]


@given(st.integers(-1, 6), st.binary(max_size=60), st.integers(0, 40), st.integers(1, 500))
def test_positions_that_say_nonsense_are_refused(coding, data, count, size) -> None:
    try:
        indices = decode_indices(coding, np.frombuffer(data, np.uint8), min(count, size), size)
    except RemoteError:
        return
    assert indices.size == min(count, size)
    assert indices.size == 0 or (indices[0] >= 0 and indices[-1] < size and (np.diff(indices) > 0).all())


# Payloads


@compressors
@given(v=vectors)
def test_what_is_decoded_is_what_was_compressed(compressor, v) -> None:
    layers = halves(v)
    before = v.copy()
    q = compressor.compress(v, layers, stream())
    data = q.encode()
    again = decode(data, v.size, layers, v.dtype)
    assert np.array_equal(v, before)
    assert again.dtype == v.dtype
    assert again.size == v.size
    assert np.array_equal(again.dense(), q.dense())
    assert np.array_equal(again.encode(), data)


@compressors
@given(v=vectors, factor=st.sampled_from([0.5, -1.0, 0.01, 3.0]))
def test_a_multiple_is_a_multiple(compressor, v, factor) -> None:
    q = compressor.compress(v, halves(v), stream())
    expected = factor * q.dense().astype(np.float64)
    np.testing.assert_allclose(q.times(factor).dense(), expected, rtol=3e-7)
    x = np.ones_like(v)
    q.add_to(x, factor)
    np.testing.assert_allclose(x - 1, expected, rtol=1e-5, atol=1e-5 * (1 + np.abs(expected).max()))


@compressors
@given(v=vectors)
def test_a_vector_plus_a_payload_is_a_copy_to_which_it_is_added(compressor, v) -> None:
    q = compressor.compress(v, halves(v), stream())
    x = stream(8).normal(size=v.size).astype(v.dtype)
    plain = x.copy()
    q.add_to(plain)
    assert np.array_equal(q.plus(x), plain)


@compressors
@given(data=st.data())
def test_spoiled_bytes_are_refused_or_read_as_something_that_fits(compressor, data) -> None:
    v = data.draw(vectors)
    layers = halves(v)
    good = compressor.compress(v, layers, stream()).encode()
    spoiled = good.copy()
    for _ in range(data.draw(st.integers(1, 4))):
        spoiled[data.draw(st.integers(0, good.size - 1))] = data.draw(st.integers(0, 255))
    spoiled = np.concatenate([spoiled, np.frombuffer(data.draw(st.binary(max_size=3)), np.uint8)])
    spoiled = spoiled[: data.draw(st.integers(0, spoiled.size))]
    try:
        payload = decode(spoiled, v.size, layers, v.dtype)
    except RemoteError:
        return
    with np.errstate(over="ignore"):
        x = payload.dense()
    assert x.shape == v.shape
    assert x.dtype == v.dtype


@given(st.binary(max_size=80), st.integers(1, 100))
def test_random_bytes_are_refused_or_fit(data, size) -> None:
    try:
        payload = decode(np.frombuffer(data, np.uint8), size, (slice(0, size),), np.float32)
    except RemoteError:
        return
    assert payload.size == size


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "payload", [Dense, lambda v: Sparse(3, np.arange(3), v), "levels"], ids=["dense", "sparse", "levels"]
)
def test_values_that_are_not_finite_are_refused(payload, value) -> None:
    v = np.array([1, value, 2], np.float32)
    if payload == "levels":
        q = Levels(np.ones(3, np.int8), v, [slice(k, k + 1) for k in range(3)], 3, np.float32)
    else:
        q = payload(v)
    with pytest.raises(RemoteError, match="aren't finite"):
        decode(q.encode(), 3, [slice(k, k + 1) for k in range(3)], np.float32)


def test_a_payload_of_another_size_or_dtype_is_refused() -> None:
    data = TopK(sparsity=0.5).compress(np.arange(10, dtype=np.float32), (slice(0, 10),), stream()).encode()
    assert isinstance(decode(data, 10, (slice(0, 10),), np.float32), Sparse)
    for size, dtype in [(5, np.float32), (10, np.float64)]:
        with pytest.raises(RemoteError):
            decode(data, size, (slice(0, size),), dtype)
    spoiled: list[Any] = [
        np.zeros(0, np.uint8), np.zeros((2, 2), np.uint8), np.zeros(3, np.int16), np.full(9, 7, np.uint8)
    ]  # fmt: skip
    for wrong in spoiled:
        with pytest.raises(RemoteError):
            decode(wrong, 10, (slice(0, 10),), np.float32)


def test_a_sparse_payload_that_would_be_longer_than_a_dense_one_becomes_dense() -> None:
    v = np.arange(1, 101, dtype=np.float32)
    everything = Sparse(100, np.arange(100), v)
    assert everything.encode().size == 401
    assert isinstance(decode(everything.encode(), 100, (slice(0, 100),), np.float32), Dense)
    half = Sparse(100, np.arange(0, 100, 2), v[::2])
    assert half.encode().size < 220


def test_bytes_of_the_two_layer_perceptron() -> None:
    """Sizes that follow from the formats alone, at d = 199,210 in six tensors."""
    v = stream(3).normal(size=LAYERS[-1].stop).astype(np.float32)
    d = v.size

    def size(compressor) -> int:
        return compressor.compress(v, LAYERS, stream()).encode().size

    assert size(Identity()) == 1 + 4 * d
    assert size(TopK(sparsity=0.999)) <= 2 + 2 + 4 * 2 + 201 * (2 + 4)  # 16-bit positions in 4 pages, or less
    assert size(Int8()) == 3 + 4 * 6 + d
    assert size(Sign()) == 3 + 4 * 6 + math.ceil(d / 8)
    kept_of_each = [kept(layer, 0.999) for layer in LAYERS]
    assert kept_of_each == [156, 1, 40, 1, 2, 1]
    paper = TopK(sparsity=0.999).compress(v, LAYERS, stream()).paper_bytes + 4
    assert 4 * (d + 1) / paper == pytest.approx(494, abs=0.5)  # what papers would report


# Compressors


@given(st.integers(0, 2**32), st.integers(1, 60), st.floats(0, 0.99))
def test_top_k_keeps_the_largest_of_each_tensor_and_of_equals_the_first(seed, size, sparsity) -> None:
    v = stream(seed).integers(-4, 5, size).astype(np.float32)
    layers = halves(v)
    q = TopK(sparsity=sparsity).compress(v, layers, stream())
    expected = []
    for layer in layers:
        order = sorted(range(layer.start, layer.stop), key=lambda i: (-abs(v[i]), i))
        expected += sorted(order[: max(1, math.floor((1 - sparsity) * (layer.stop - layer.start) + 1e-9))])
    assert isinstance(q, Sparse)
    assert q.indices.tolist() == expected
    assert np.array_equal(q.values, v[expected])


@pytest.mark.parametrize("kind", ["normal", "rows", "equal", "few", "nan"])
def test_in_a_long_vector_the_largest_are_those_that_sorting_all_finds(kind) -> None:
    """Only a part of a long one is sorted; "rows" has its large entries where the sample does not look."""
    v = stream(7).normal(size=50_000).astype(np.float32)
    if kind == "rows":
        v[np.arange(v.size) % 25 > 0] *= 1e-3
        v[3::25] *= 1e6
    elif kind == "equal":
        v = np.round(2 * v)
    elif kind == "few":
        v[np.abs(v) < 3] = 0
    elif kind == "nan":
        v[:: v.size // 50] = math.nan
    for k in (1, 2, 49, 500, 20_000, v.size):
        magnitudes = np.abs(v)
        plain = np.sort(np.lexsort((np.arange(v.size), -magnitudes))[: min(k, int((~np.isnan(v)).sum()))])
        np.testing.assert_array_equal(largest(magnitudes, k), plain)


def test_a_tenth_of_a_hundred_is_ten() -> None:
    assert kept(slice(50, 150), 0.9) == 10
    assert kept(slice(0, 3), 0.99) == 1


def test_top_k_never_keeps_what_is_no_number() -> None:
    v = np.array([1, math.nan, 3, math.nan, 2, 0, 0, 0], np.float32)
    for sparsity in (0.0, 0.3, 0.5, 0.9):
        q = TopK(sparsity=sparsity).compress(v, (slice(0, 8),), stream())
        assert isinstance(q, Sparse)
        assert np.isfinite(q.values).all()


@pytest.mark.parametrize(
    "compressor", [c for c in COMPRESSORS if c.contracts and c.kind != "sign"], ids=lambda c: c.kind
)
def test_a_contraction_keeps_its_share_of_the_norm(compressor) -> None:
    """E |C(v) - v|^2 <= (1 - omega) |v|^2, over 200 draws of a fixed vector, with 5 % for chance."""
    v = stream(1).normal(size=200)
    layers = halves(v)
    random = stream(2)
    errors = [np.sum((compressor.compress(v, layers, random).dense() - v) ** 2) for _ in range(200)]
    bound = (1 - compressor.quality(layers)) * np.sum(v**2)
    assert np.mean(errors) <= 1.05 * bound + 1e-3 * np.sum(v**2)


def test_sign_keeps_two_pi_th_of_normal_entries() -> None:
    v = stream(1).normal(size=100_000).astype(np.float32)
    layers = (slice(0, v.size),)
    left = np.sum((Sign().compress(v, layers, stream()).dense() - v) ** 2) / np.sum(v**2)
    assert left == pytest.approx(1 - Sign().quality(layers), abs=0.01)


@pytest.mark.parametrize(
    "compressor", [RandomK(sparsity=0.8, unbiased=True), Qsgd(levels=2, unbiased=True), Int8()], ids=lambda c: c.kind
)
def test_unbiased_means_the_mean_is_the_vector(compressor) -> None:
    """4,000 draws; each entry's mean within 5 of its standard errors."""
    v = stream(4).normal(size=40)
    random = stream(5)
    draws = np.stack([compressor.compress(v, halves(v), random).dense() for _ in range(4000)])
    error = draws.std(axis=0) / math.sqrt(len(draws)) + 1e-7
    assert (np.abs(draws.mean(axis=0) - v) < 5 * error).all()


class Counting:
    """In place of a stream: the first 16 bits of entry i are i, and the last 8 of each are those given."""

    def __init__(self, common: int) -> None:
        self._common = common

    def integers(self, low: int, high: int, size: int, dtype: type) -> np.ndarray:
        bits = np.arange(4 * size, dtype=np.uint16).view(np.uint64)
        bits[-1] = 0xABCDEF00 | self._common
        return bits


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", [0.3, -0.3, 126.99, -61.0078125, 1e-5, 17.0, 2**-24, -127.0])
def test_rounding_is_unbiased_over_all_bits_that_can_be_drawn(level, dtype) -> None:
    """65,536 equal entries and 256 draws hold each combination of 24 bits once: the mean has no chance in it.

    What it is off is what an entry has beyond 24 places of a level: 2^-31 of the largest entry at most. One of
    float32 is rounded by 2^-25 of it.
    """
    v = np.full(1 << 16, level, dtype)
    v = np.append(v, dtype(127))  # so that a level is 1
    total = 0
    for common in range(256):
        q = Int8().compress(v, (slice(0, v.size),), Counting(common))  # type: ignore[arg-type]
        assert isinstance(q, Levels)
        assert q.scales == 1
        total += int(q.levels[:-1].sum(dtype=np.int64))
    assert abs(total - float(v[0]) * 2**24) < 1


@pytest.mark.parametrize(
    "compressor", [Int8(), Qsgd(levels=3, unbiased=True), Qsgd(levels=127)], ids=["int8", "3", "127"]
)
@given(v=vectors)
def test_rounding_gives_one_of_the_two_levels_beside_each_entry(compressor, v) -> None:
    """What the plain formula allows: floor(v / step) or one more, and never more levels than there are."""
    layers = halves(v)
    q = compressor.compress(v, layers, stream())
    most = getattr(compressor, "levels", 127)
    assert isinstance(q, Levels)
    for layer in layers:
        whole = v[layer].astype(np.float64)
        size = np.abs(whole).max() if compressor.kind == "int8" else np.linalg.norm(whole)
        exact = whole / (size / most) if size else whole
        assert np.abs(q.levels[layer]).max() <= most
        assert (np.abs(q.levels[layer] - exact) < 1 + 1e-5 * most).all()


def test_entries_too_small_for_their_places_count_as_zeros() -> None:
    for size in (1e-38, 1e-30):
        v = np.full(8, size, np.float32)
        assert Int8().compress(v, (slice(0, 8),), stream()).dense().any() == (size > 1e-29)


@given(vectors)
def test_int8_is_off_by_less_than_a_level(v) -> None:
    layers = halves(v)
    off = np.abs(Int8().compress(v, layers, stream()).dense() - v)
    for layer in layers:
        assert off[layer].max() <= np.abs(v[layer]).max() / 127 * 1.0001


def test_a_quantized_vector_of_zeros_is_zero() -> None:
    for compressor in (Qsgd(), Int8(), Sign()):
        assert not compressor.compress(np.zeros(6, np.float32), (slice(0, 6),), stream()).dense().any()


def test_settings_say_what_is_wrong() -> None:
    adapter = TypeAdapter(AnyCompressor)
    assert adapter.validate_python({"kind": "top-k", "sparsity": "99.9 %"}) == TopK(sparsity=0.999)
    assert adapter.validate_python("none") == Identity()
    for wrong in ({"kind": "top-k", "sparsity": 1.0}, {"kind": "qsgd", "levels": 128}, {"kind": "qsgd", "levels": 0}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)
    assert not RandomK(unbiased=True).contracts
    assert not Qsgd(unbiased=True).contracts


# Error feedback


@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(1, 20), st.floats(0.1, 0.95))
def test_what_top_k_leaves_out_is_kept_bit_by_bit(seed, size, steps, sparsity) -> None:
    """e + q = x + e_old exactly: what is sent and what is left have no entry in common."""
    random = stream(seed)
    feedback = ErrorFeedback(TopK(sparsity=sparsity), (slice(0, size),), np.zeros(size, np.float32), random)
    for _ in range(steps):
        x = random.normal(size=size).astype(np.float32)
        before = feedback.e.copy()
        q = feedback.compress(x)
        assert np.array_equal(feedback.e + q.dense(), x + before)
        assert isinstance(q, Sparse)
        assert not feedback.e[q.indices].any()


@pytest.mark.parametrize("compressor", [c for c in COMPRESSORS if c.contracts], ids=lambda c: c.kind)
def test_all_that_was_sent_and_what_is_left_are_all_that_was_to_be_sent(compressor) -> None:
    random = stream(6)
    layers = (slice(0, 30), slice(30, 50))
    feedback = ErrorFeedback(compressor, layers, np.zeros(50), random)
    to_send, sent = np.zeros(50), np.zeros(50)
    for _ in range(100):
        x = random.normal(size=50)
        to_send += x
        sent += feedback.compress(x).dense()
    np.testing.assert_allclose(sent + feedback.e, to_send, atol=1e-10)
    assert np.abs(feedback.e).max() < 100


def test_the_averaging_rate_of_top_k_is_the_share_that_is_certain() -> None:
    """60 tensors of 2 keep one entry each: 1.55 % of all entries, and 0.1 % of the large tensor."""
    layers = [slice(0, 4000), *(slice(4000 + 2 * i, 4002 + 2 * i) for i in range(60))]
    assert TopK(sparsity=0.999).averaging_rate(layers) == 4 / 4000
    assert RandomK(sparsity=0.999).averaging_rate(layers) == 2 / 4000


def test_bytes_that_several_devices_receive_give_all_of_them_one_payload() -> None:
    layers = (slice(0, 8),)
    x = np.arange(8, dtype=np.float32)
    sent = encode(TopK(sparsity=0.5).compress(x, layers, np.random.default_rng(0)), layers)
    alone = decode(sent.copy(), 8, layers, np.float32)
    here, there = (decode(sent.view(), 8, layers, np.float32) for _ in range(2))
    assert here is there
    assert here is not alone
    np.testing.assert_array_equal(here.dense(), alone.dense())
    with pytest.raises(RemoteError):
        decode(sent.view(), 8, layers, np.float64)
