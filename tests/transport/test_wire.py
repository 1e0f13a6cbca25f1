"""Messages to bytes and back: bytes that no honest peer would send, messages of which only a part arrives,
and messages that arrive spoiled.
"""

from __future__ import annotations

import contextlib
import math
import struct
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from p2pl_async import Device, Protocol
from p2pl_async.errors import ProtocolError, RemoteError
from p2pl_async.messages import Message, Vector
from p2pl_async.testing import complete, emulate
from p2pl_async.trace import Record
from p2pl_async.transport.wire import MAX_BYTES, SharedBytes, decode, encode, encode_and_read, encode_shared, head_size


@dataclass(frozen=True, slots=True)
class Speech(Message, tag="test-speech"):
    text: str


@dataclass(frozen=True, slots=True)
class Everything(Message, tag="test-everything"):
    i: int
    f: float
    b: bool
    s: str
    raw: bytes
    w: Vector
    any_array: np.ndarray
    counts: NDArray[np.int32]
    ids: tuple[int, ...]
    maybe: float | None


ARRAYS = hnp.arrays(
    st.sampled_from([np.dtype(code) for code in ("?", "i1", "u2", "<i4", ">i8", "f2", "<f4", ">f8")]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


@st.composite
def everything(draw: st.DrawFn) -> Everything:
    floats = st.floats(allow_nan=False)
    return Everything(
        draw(st.integers(-(2**63), 2**64 - 1)),
        draw(floats),
        draw(st.booleans()),
        draw(st.text()),
        draw(st.binary()),
        draw(hnp.arrays(np.float32, st.integers(0, 50))),
        draw(ARRAYS),
        draw(hnp.arrays(np.int32, st.integers(0, 5))),
        tuple(draw(st.lists(st.integers(0, 100)))),
        draw(st.none() | floats),
    )


@given(everything(), st.integers(0, 2**40), st.integers(0, 2**40))
def test_decoding_gives_back_the_message(message: Everything, sender: int, number: int) -> None:
    data = encode(message, sender, number)
    copy = decode(data)
    assert isinstance(copy, Everything)
    assert (copy.sender, copy.number) == (sender, number)
    for name in ("i", "f", "b", "s", "raw", "ids", "maybe"):
        assert getattr(copy, name) == getattr(message, name)
    for name in ("w", "any_array", "counts"):
        sent, got = getattr(message, name), getattr(copy, name)
        assert got.dtype == sent.dtype.newbyteorder("<")
        assert got.shape == sent.shape
        np.testing.assert_array_equal(got, sent)
        assert not got.flags.writeable
    assert encode(copy, sender, number) == data


@dataclass(frozen=True)
class Scalars(Message, tag="test-scalars"):
    count: int
    share: float
    flag: bool
    text: str
    raw: bytes


@dataclass(frozen=True)
class Picky(Message, tag="test-picky"):
    x: int

    def __post_init__(self) -> None:
        if self.x == 0:
            raise ValueError("nothing")


@given(
    st.builds(
        Scalars, st.integers(-(2**63), 2**64 - 1), st.floats(), st.booleans(),
        st.text(st.characters(exclude_categories=["Cs"])), st.binary(),
    ),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
)  # fmt: skip
def test_scalars_are_read_without_decoding_as_decoding_reads_them(message: Scalars, sender: int, number: int) -> None:
    data, found = encode_and_read(message, sender, number, 2.5)
    plain = decode(data, 2.5)
    assert data == encode(message, sender, number)
    assert found is not message
    assert repr(found) == repr(plain)
    assert found is not None
    assert (found.sender, found.number, found.sent) == (sender, number, 2.5)


def test_what_only_decoding_tells_is_decoded() -> None:
    """Arrays, what the class itself refuses, and a class of which there is a newer version."""
    refused = Picky(1)
    object.__setattr__(refused, "x", 0)
    assert encode_and_read(refused, 0, 0, 0.0)[1] is None
    assert encode_and_read(Picky(1), 0, 0, 0.0)[1] == Picky(1)
    assert encode_and_read(Two(1, np.zeros(1, np.float32), np.zeros(1, np.float32)), 0, 0, 0.0)[1] is None

    def version() -> type[Message]:
        @dataclass(frozen=True)
        class Edited(Message, tag="test-edited-twice"):
            x: int = 1

        return Edited

    older, newer = version(), version()
    assert encode_and_read(older(), 0, 0, 0.0)[1] is None
    assert type(decode(encode(older(), 0, 0))) is newer


@given(st.binary(max_size=200))
@example(b"")
@example(msgpack.packb(["params"]))
@example(msgpack.packb([["unhashable"], 0, 0]))
@example(msgpack.packb(["test-everything", 0, 0]))
@example(msgpack.packb(["params", 0, 0, 0, 0, 1, 1, msgpack.ExtType(1, b"")]))
@example(msgpack.packb(["params", 0, 0, 0, 0, 1, 1, msgpack.ExtType(1, msgpack.packb(("f4", (2**40,))))]))
@example(msgpack.packb(["params", 0, 0, 0, 0, 1, 1, msgpack.ExtType(1, msgpack.packb(("f4", (0,))))]) + b"\xc6")
@example(b"\x91" * 5000 + b"\xc0")
def test_random_bytes_give_only_a_remote_error(data: bytes) -> None:
    with pytest.raises(RemoteError):
        decode(data)


@given(everything(), st.data())
def test_damaged_frames_give_a_message_or_a_remote_error(message: Everything, data: st.DataObject) -> None:
    frame = bytearray(encode(message, 1, 2))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(frame)))
    for damaged in (bytes(frame), bytes(frame[:cut])):
        with contextlib.suppress(RemoteError):
            assert isinstance(decode(damaged), Message)


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (["no-such-tag", 0, 0], "unknown message 'no-such-tag'"),
        (["test-everything", -1, 0], "sender and number"),
        (["test-everything", 0, 0, 1], "1 fields, expected 10"),
        (["global", 0, 0, 1, True, "not an array"], "global.w='not an array' doesn't fit"),
        (["global", 0, 0, True, True, b""], "global.round=True doesn't fit"),
    ],
)
def test_what_is_wrong_is_said(frame: list[object], text: str) -> None:
    import p2pl_async.protocols.fedavg  # noqa: F401  # registers "global"

    with pytest.raises(RemoteError, match=text):
        decode(msgpack.packb(frame))


def test_an_oversized_frame_is_refused_unread() -> None:
    class Long(bytes):
        def __len__(self) -> int:
            return MAX_BYTES + 1

    with pytest.raises(RemoteError, match="longer than"):
        decode(Long(b"\xc0"))


def framed(described: object, *payloads: bytes) -> bytes:
    """Return a frame of FedAvg's model message with this array description and these data behind it."""
    extension = msgpack.ExtType(1, msgpack.packb(described))
    return msgpack.packb(["global", 0, 0, 1, True, extension]) + b"".join(
        struct.pack(">BI", 0xC6, len(payload)) + payload for payload in payloads
    )


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (framed(("f4", (10,)), b"\0" * 36), r"array of \(10,\) float32 in 36 bytes"),
        (framed(("f4", (10,)), b"\0" * 300), "in 300 bytes"),
        (framed(("f4", (10,))), "global.w=.* doesn't fit"),
        (framed(("f4", (0,)), b"", b""), "1 arrays described, 2 sent"),
        (framed(("f4", (1,)), b"\0" * 4) + b"\0", "bytes after the fields that are no array"),
        (framed(("f4", (1,)), b"\0" * 4)[:-1], "1 bytes are missing"),
        (framed(("O", (1,)), b"\0" * 8), "without dtype"),
        (framed(("f4", (-1,)), b""), r"array of shape \(-1,\)"),
        (framed(("f4", (2**40, 2**40)), b""), "in 0 bytes"),
        (framed(("f4", 3), b""), "without dtype"),
        (framed(["f4"], b""), "without dtype"),
        (framed(("f4", (1,) * 9), b"\0" * 4), "without dtype"),
    ],
)
def test_an_array_that_lies_is_refused(frame: bytes, text: str) -> None:
    import p2pl_async.protocols.fedavg  # noqa: F401  # registers "global"

    with pytest.raises(RemoteError, match=text):
        decode(frame)


@pytest.mark.parametrize("cut", [1, 5, 100, 4 * 2000])
def test_an_array_that_breaks_off_is_refused(cut: int) -> None:
    frame = encode(
        Everything(0, 0.0, True, "x", b"", np.zeros(2000, "f4"), np.zeros(2), np.zeros(2, "i4"), (), None), 0, 0
    )
    with pytest.raises(RemoteError):
        decode(frame[:-cut])


def test_a_frame_is_a_sequence_of_msgpack_objects() -> None:
    w = np.arange(5, dtype=np.float32)
    frame = encode(Everything(7, 0.0, True, "x" * 2000, b"", w, np.zeros((2, 3)), np.zeros(0, "i4"), (), None), 3, 4)
    unpacker = msgpack.Unpacker()
    unpacker.feed(frame)
    fields, *payloads = list(unpacker)
    assert fields[:4] == ["test-everything", 3, 4, 7]
    assert len(payloads) == 3
    assert payloads[0].endswith(w.tobytes())
    assert decode(frame).s == "x" * 2000  # type: ignore[attr-defined]


def test_arrays_are_read_in_place_and_aligned() -> None:
    w = np.arange(1001, dtype=np.float32)
    data = encode(Everything(0, 0.0, True, "x", b"", w, w.astype("f8"), w.astype("i4"), (), None), 0, 0)
    message = decode(data)
    assert isinstance(message, Everything)
    assert all(array.flags.aligned for array in (message.w, message.any_array, message.counts))
    assert len(data) < 4 * 1001 + 8 * 1001 + 4 * 1001 + 200


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"i": 1.5}, r"Everything.i=1.5 doesn't fit"),
        ({"w": [1.0]}, r"Everything.w=\[1.0\] doesn't fit"),
        ({"w": np.zeros(3, np.int64)}, "doesn't fit"),
        ({"i": 2**70}, "can't be encoded"),
        ({"any_array": np.array([None])}, "can't be encoded"),
    ],
)
def test_a_message_that_cannot_be_sent_is_the_senders_error(change: dict[str, object], text: str) -> None:
    fields = dict(
        i=1, f=1.0, b=True, s="", raw=b"", w=np.zeros(2, "f4"), any_array=np.zeros(1), counts=np.zeros(1, "i4"),
        ids=(), maybe=None,
    )  # fmt: skip
    with pytest.raises(ProtocolError, match=text):
        encode(Everything(**{**fields, **change}), 0, 0)  # type: ignore[arg-type]


def test_a_field_of_a_type_that_cannot_travel_is_named() -> None:
    @dataclass(frozen=True)
    class Bad(Message, tag="test-bad"):
        table: dict[str, Any]

    with pytest.raises(ProtocolError, match=r"Bad\.table has type"):
        encode(Bad({}), 0, 0)


def test_two_message_types_cannot_share_a_tag() -> None:
    with pytest.raises(ProtocolError, match=r"tag=.test-everything. of .* is taken by"):

        class Other(Message, tag="test-everything"):
            pass


# --- Arrays that can't change are not copied


@dataclass(frozen=True, slots=True)
class Two(Message, tag="wire-two"):
    n: int
    w: Vector
    v: Vector


def constant(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@given(st.integers(0, 40), st.integers(0, 9))
def test_a_shared_frame_is_the_same_frame(n: int, m: int) -> None:
    message = Two(7, constant(np.arange(n, dtype=np.float32)), constant(np.arange(float(m))))
    shared = encode_shared(message, 3, 4)
    assert isinstance(shared, SharedBytes)
    assert bytes(shared) == encode(message, 3, 4)
    assert len(shared) == len(bytes(shared))
    assert head_size(shared) == head_size(bytes(shared))
    for heard, plain in ((decode(shared), decode(bytes(shared))), (decode(shared, corrupted=True), None)):
        assert isinstance(heard, Two)
        assert (heard.n, heard.w.tolist(), heard.v.tolist()) == (7, message.w.tolist(), message.v.tolist())
        assert (heard.sender, heard.number) == (3, 4)
        assert plain is None or isinstance(plain, Two)
        assert plain is None or (heard.w.dtype, heard.w.shape) == (plain.w.dtype, plain.w.shape)
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            heard.w.flags.writeable = True


def test_a_shared_frame_keeps_its_arrays_where_they_are() -> None:
    w = constant(np.zeros(1000, np.float32))
    heard = decode(encode_shared(Two(1, w, constant(np.zeros(1))), 0, 0))
    assert isinstance(heard, Two)
    assert np.shares_memory(heard.w, w)
    again = encode_shared(Two(1, heard.w, heard.v), 0, 0)  # passed on
    assert isinstance(again, SharedBytes)
    assert np.shares_memory(again.arrays[0], w)


def test_what_somebody_could_still_write_to_is_copied() -> None:
    fine = constant(np.zeros(4))
    writable = np.zeros(4)
    view = constant(writable[:])  # read-only, but what it shows isn't
    other = constant(np.frombuffer(bytearray(32)))
    for w in (writable, view, other):
        assert type(encode_shared(Two(1, w, fine), 0, 0)) is bytes
        assert type(encode_shared(Two(1, fine, w), 0, 0)) is bytes


def test_arrays_of_another_layout_are_sent_as_copies_that_nobody_has() -> None:
    wide = constant(np.arange(8.0).reshape(4, 2))[:, 0]
    heard = decode(encode_shared(Two(1, wide, constant(np.arange(3, dtype=">f8"))), 0, 0))
    assert isinstance(heard, Two)
    assert (heard.w.tolist(), heard.v.tolist()) == ([0.0, 2.0, 4.0, 6.0], [0.0, 1.0, 2.0])


@dataclass(frozen=True, slots=True)
class Model(Message, tag="partial-model", partial=True):
    round: int
    w: Vector
    note: str
    v: Vector


@dataclass(frozen=True, slots=True)
class Whole(Message, tag="partial-whole"):
    w: Vector


def model(n: int = 40, m: int = 7) -> Model:
    return Model(3, np.arange(1, n + 1, dtype=np.float32), "hello", np.arange(1.0, m + 1))


def places(data: bytes) -> dict[str, int]:
    """Return where the arrays of `model()` begin: by looking for what they hold."""
    return {"w": data.index(model().w.tobytes()), "v": data.index(model().v.tobytes())}


@given(st.data())
def test_what_is_missing_is_zero_and_masked_and_nothing_else(draws: st.DataObject) -> None:
    data = encode(model(), sender=5, number=9)
    limits = st.integers(head_size(data), len(data))
    cuts = sorted(draws.draw(st.sets(limits, min_size=2, max_size=8)))
    missing = list(zip(cuts[::2], cuts[1::2], strict=False))
    arrived = bytearray(data)
    for start, end in missing:
        arrived[start:end] = b"\xff" * (end - start)  # whatever is there
    heard = decode(bytes(arrived), missing=missing)
    assert isinstance(heard, Model)
    assert (heard.round, heard.note, heard.sender, heard.number) == (3, "hello", 5, 9)
    assert heard.missing == tuple(missing)
    for field, place in places(data).items():
        sent, got, mask = getattr(model(), field), getattr(heard, field), heard.mask(field)
        gone = [
            any(start < place + (i + 1) * sent.itemsize and end > place + i * sent.itemsize for start, end in missing)
            for i in range(sent.size)
        ]
        assert mask.tolist() == gone
        assert (got[~mask] == sent[~mask]).all()
        assert not got[mask].any()


@pytest.mark.parametrize("cut", [0, 1])
def test_an_entry_of_which_a_part_is_missing_is_zero_as_a_whole(cut: int) -> None:
    data = encode(model(), 0, 0)
    place = places(data)["w"]
    heard = decode(data, missing=[(place + 8 + cut, place + 24 - cut)])
    assert isinstance(heard, Model)
    assert heard.w.tolist() == [1, 2, 0, 0, 0, 0, *range(7, 41)]
    assert np.flatnonzero(heard.mask("w")).tolist() == [2, 3, 4, 5]
    assert not heard.mask("v").any()


def test_a_whole_message_has_nothing_missing() -> None:
    heard = decode(encode(model(), 0, 0))
    assert (heard.missing, heard.corrupted) == ((), False)
    assert not heard.mask("w").any()
    assert not model().mask("v").any()


def test_only_arrays_have_masks() -> None:
    for field in ("round", "nothing"):
        with pytest.raises(ProtocolError, match=rf"mask\('{field}'\) needs a field of Model that is an array"):
            model().mask(field)


def test_the_head_has_all_but_the_arrays() -> None:
    data = encode(model(), 0, 0)
    assert head_size(data) < places(data)["w"] <= head_size(data) + 12
    long = Model(1, np.zeros(3, np.float32), "x" * 2000, np.zeros(2))
    assert head_size(encode(long, 0, 0)) > 2000
    with pytest.raises(RemoteError):
        decode(data, missing=[(2, 9)])  # nothing is made of a message without its fields


def test_a_corrupted_message_says_so() -> None:
    heard = decode(encode(model(), 0, 0), corrupted=True)
    assert heard.corrupted
    assert heard.missing == ()


def test_types_keep_whether_parts_of_them_are_of_use() -> None:
    assert Model.partial
    assert not Whole.partial


# --- In a protocol


class Average(Protocol):
    """Everybody tells its vector again and again; a device keeps, entry by entry, the mean of what has arrived."""

    kind: str = "average-of-parts"
    trains = False
    n: int = 600
    times: int = 30

    async def run(self, device: Device) -> None:
        own = np.full(self.n, float(device.id))
        total, count = own.copy(), np.ones(self.n)
        for i in range(self.times):
            device.broadcast(Model(i, own, "", np.zeros(1)))
            await device.sleep(1.0)
            while (heard := device.receive_nowait(Model)) is not None:
                there = ~heard.mask("w")
                total[there] += heard.w[there]
                count[there] += 1
                device.record("entries_missing", float(np.count_nonzero(~there)))
        device.params = total / count


LINK: dict[str, Any] = {"rate": "1 Mbit/s", "mtu": "500 B", "header": "20 B", "loss": "20 %"}


@pytest.mark.parametrize("more", [{}, {"arq": {"retries": 0}}, {"fec": {"data": 5, "parity": 1}}])
def test_a_protocol_uses_what_arrived(more: dict[str, Any]) -> None:
    """The mean over four devices is 1.5 at each entry; parts of 11 fragments at 20 % loss still tell it."""
    records: list[Record] = []
    measured: list[float] = []
    emulation = emulate(
        Average(), complete(4), link={**LINK, **more}, seed=3, sink=records.append,
        record=lambda device, metric, value: measured.append(value),
    )  # fmt: skip
    trace = emulation.trace
    fates = [record.verdict.cause for record in records]
    assert trace.partial == trace.counts.partial == fates.count("partial") > 100
    assert trace.delivered == fates.count("")
    assert trace.counts.sent == trace.delivered + trace.partial + trace.counts.n_lost == 4 * 3 * 30
    assert "partial" not in trace.counts.lost
    assert sum(path.partial for path in emulation.transport.paths()) == trace.partial
    assert all(record.verdict.arrival < math.inf for record in records if record.verdict.cause == "partial")
    assert len(measured) == trace.delivered + trace.partial
    assert np.count_nonzero(measured) == trace.partial
    for device in emulation.devices:
        assert device.params is not None
        others = (6 - device.id) / 3
        # Each entry has own + the k of 90 that came, of three devices: near the mean of the others, always inside.
        assert abs(float(device.params.mean()) - others) < 0.25
        assert device.params.min() > 0.5
        assert device.params.max() < 2.5


def test_a_message_that_doesn_t_ask_for_parts_is_lost_with_one_fragment() -> None:
    class Told(Protocol):
        kind: str = "told-whole"
        trains = False

        async def run(self, device: Device) -> None:
            for _ in range(20):
                device.broadcast(Whole(np.zeros(600)))
                await device.sleep(1.0)

    trace = emulate(Told(), complete(3), link=LINK).trace
    assert trace.partial == 0
    assert trace.counts.lost["loss"] > 60


def test_spoiled_messages_are_delivered_if_the_link_does_so() -> None:
    """A packet is spoiled with 5 %: a message of 11 with 1 - 0.95^11; else such a packet is a lost one."""

    class Listen(Protocol):
        kind: str = "listen-spoiled"
        trains = False

        async def run(self, device: Device) -> None:
            for _ in range(400):
                device.broadcast(Whole(np.ones(600)))
                await device.sleep(1.0)
                while (heard := device.receive_nowait(Whole)) is not None:
                    assert heard.w.tolist() == [1.0] * 600
                    device.record("corrupted", heard.corrupted)

    measured: list[float] = []
    link = {"mtu": "500 B", "header": "20 B", "corrupt": "5 %", "deliver_corrupted": True, "duplicate": "10 %"}
    trace = emulate(Listen(), complete(2), link=link, record=lambda _, __, value: measured.append(value)).trace
    expected = 1 - 0.95**11
    assert trace.delivered == 800
    assert trace.corrupted / 800 == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / 800))
    assert sum(measured) >= trace.corrupted - 2  # copies of a spoiled message are spoiled
    trace = emulate(Listen(), complete(2), link={**link, "deliver_corrupted": False}).trace
    assert trace.corrupted == 0
    assert trace.counts.lost["corrupt"] / 800 == pytest.approx(expected, abs=5 * math.sqrt(expected / 800))


def test_a_message_longer_than_receivers_read_is_the_senders_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pl_async.transport.wire.MAX_BYTES", 1000)
    everything = Everything(
        0, 0.0, False, "", b"", np.zeros(250, np.float32), np.zeros(0), np.zeros(0, np.int32), (), None
    )
    for message in (Speech("x" * 1001), everything):
        with pytest.raises(
            ProtocolError, match=r"takes 1\d\d\d bytes, more than the 1000 that a receiver reads; send it"
        ):
            encode(message, 0, 0)


def test_the_tag_of_a_base_of_messages_is_a_remote_error() -> None:
    class Base(Message, tag="wire-base"):
        """A family of messages."""

    with pytest.raises(RemoteError, match="unknown message 'wire-base'"):
        decode(msgpack.packb(("wire-base", 0, 0)))
