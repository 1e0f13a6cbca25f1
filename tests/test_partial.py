"""Messages of which only a part arrives, and messages that arrive spoiled: what protocols see of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async import Device, Message, Protocol
from p2pl_async.errors import ProtocolError, RemoteError
from p2pl_async.messages import Vector
from p2pl_async.testing import complete, emulate
from p2pl_async.trace import Record
from p2pl_async.transport.wire import decode, encode, head_size


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
        touched = got[mask]  # an entry is zero but for those of its bytes that are there
        assert all(value == 0 or 0 < abs(value) < 50 or not math.isfinite(value) for value in touched.tolist())


def test_an_entry_whose_bytes_are_all_missing_is_zero() -> None:
    data = encode(model(), 0, 0)
    place = places(data)["w"]
    heard = decode(data, missing=[(place + 8, place + 24)])
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
    fates = [record.cause for record in records]
    assert trace.partial == trace.counts.partial == fates.count("partial") > 100
    assert trace.delivered == fates.count("")
    assert trace.counts.sent == trace.delivered + trace.partial + trace.counts.n_lost == 4 * 3 * 30
    assert "partial" not in trace.counts.lost
    assert sum(path.partial for path in emulation.transport.paths()) == trace.partial
    assert all(record.arrival < math.inf for record in records if record.cause == "partial")
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
