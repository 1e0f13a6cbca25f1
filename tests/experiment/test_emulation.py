"""Devices, messages and time together: conservation, causality, failures, hostile peers."""

from __future__ import annotations

import math
import random as python_random
from dataclasses import dataclass

import pytest
import trio
from helpers.strategies import lossy_links, strongly_connected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.errors import Deadlock, DeviceFailed, ProtocolError
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.link import Link, LinkSettings
from p2pl_async.messages import Message
from p2pl_async.protocols.base import Protocol
from p2pl_async.testing import complete, emulate, ring
from p2pl_async.trace import Record
from p2pl_async.transport.wire import encode


@dataclass(frozen=True, slots=True)
class Note(Message, tag="test-note"):
    text: str


@dataclass(frozen=True, slots=True)
class Other(Message, tag="test-other"):
    x: int


def protocol(function, **fields):
    """Return a protocol whose devices run `function(device)`."""

    class Ad(Protocol):
        trains = False
        kind: str = "ad-hoc"

        async def run(self, device) -> None:
            await function(device)

    return Ad()


async def chatter(device) -> None:
    """Send notes of random length at random times, and read what comes."""
    for _ in range(8):
        await trio.sleep(float(device.random.exponential(0.3)))
        device.broadcast(Note("x" * int(device.random.integers(0, 400))))
        while device.receive_nowait() is not None:
            pass


@given(
    strongly_connected(),
    lossy_links(),
    st.sampled_from([{}, {"mtu": "64 B", "header": "8 B"}, {"rate": "4 kbit/s", "queue": {"messages": 2}}]),
    st.sampled_from([{}, {"arq": {"retries": 2}, "mtu": "100 B", "rate": "20 kbit/s"}]),
    st.sampled_from([{}, {"outage": {"kind": "on-off", "up": "1 s", "down": "500 ms"}}]),
    st.integers(0, 1000),
    st.floats(0.1, 4),
)
def test_everything_sent_is_delivered_lost_by_a_cause_or_in_flight(
    graph, link, transmitter, arq, outage, seed, until
) -> None:
    records: list[Record] = []
    emulation = emulate(
        protocol(chatter),
        graph,
        link={**link, **transmitter, **arq, **outage},
        seed=seed,
        until=until,
        sink=records.append,
    )
    trace = emulation.trace
    assert trace.counts.sent == trace.delivered + trace.counts.n_lost + len(emulation.transport.in_flight())
    assert trace.counts.sent == len(records)
    assert (
        trace.counts.n_lost == sum(bool(record.verdict.cause) for record in records) == sum(trace.counts.lost.values())
    )
    ended = emulation.clock.now
    assert (
        sum(r.verdict.arrival < ended for r in records)
        <= trace.delivered
        <= sum(r.verdict.arrival <= ended for r in records)
    )
    for r in records:
        # Causality: nothing arrives before it was sent and, where there is a rate, serialized.
        air_s = 0 if "rate" not in {**transmitter, **arq} else 8 * r.size / (4e3 if "arq" not in arq else 20e3)
        assert r.verdict.arrival >= r.sent + air_s - 1e-12
        assert (r.verdict.arrival == math.inf) == bool(r.verdict.cause)
        assert r.verdict.packets >= r.verdict.packets_lost >= 0
        assert r.verdict.cause == "queue" or r.verdict.air_bytes >= (r.size if not r.verdict.cause else 1)
    paths = emulation.transport.paths()
    assert trace.counts.sent == sum(path.sent for path in paths)
    assert trace.delivered == sum(path.delivered for path in paths)


def test_in_flight_counts_what_the_end_cuts_off() -> None:
    async def run(device) -> None:
        device.broadcast(Note("late"))
        await trio.sleep(10)

    emulation = emulate(protocol(run), complete(4), link={"latency": "3 s"}, until=2)
    assert emulation.clock.now == 2
    assert len(emulation.transport.in_flight()) == 12
    assert emulation.trace.delivered == 0


def test_nobody_wakes_at_the_very_instant_at_which_a_run_is_cut_off() -> None:
    """trio orders tasks of one instant at random: in each of 20 runs, or the end would be another one."""

    async def run(device) -> None:
        while True:
            await trio.sleep(1)
            device.broadcast(Note("on the second"))

    for _ in range(20):
        emulation = emulate(protocol(run), complete(4), until=3)
        assert emulation.trace.counts.sent == 2 * 12
        assert emulation.clock.now == 3


def test_receive_by_type_leaves_the_others_and_keeps_their_order() -> None:
    seen = []

    async def run(device) -> None:
        if device.id == 0:
            for x in range(3):
                device.send(1, Note(str(x)))
                device.send(1, Other(x))
        else:
            seen.append((await device.receive(Other)).x)
            await trio.sleep(1)
            seen.append((await device.receive()).text)
            seen.append(device.receive_nowait(Other).x)
            seen.extend([(await device.receive()).text, (await device.receive()).text])
            seen.append((await device.receive()).x)
            assert device.receive_nowait() is None

    emulate(protocol(run), ring(2))
    assert seen == [0, "0", 1, "1", "2", 2]


def test_received_messages_know_their_sender_and_number() -> None:
    got = {}

    async def run(device) -> None:
        device.broadcast(Note("a"))
        device.broadcast(Note("b"))
        got[device.id] = [((m := await device.receive()).sender, m.number, m.text) for _ in range(4)]

    emulate(protocol(run), complete(3), link={"latency": "1 ms"})
    assert got[0] == [(1, 0, "a"), (2, 0, "a"), (1, 1, "b"), (2, 1, "b")] or got[0] == [
        (1, 0, "a"), (1, 1, "b"), (2, 0, "a"), (2, 1, "b"),
    ]  # fmt: skip


def test_a_message_that_arrives_exactly_at_the_timeout_is_in_time() -> None:
    heard = []

    async def run(device) -> None:
        if device.id == 0:
            device.send(1, Note("just in time"))
        else:
            with trio.move_on_after(0.5):
                heard.append((await device.receive(Note)).text)

    emulate(protocol(run), ring(2), link={"latency": "500 ms"})
    assert heard == ["just in time"]


def test_a_broadcast_is_encoded_once_and_its_message_shared() -> None:
    seen = []

    async def run(device) -> None:
        if device.id == 0:
            device.broadcast(Note("shared"))
        else:
            seen.append(await device.receive())

    emulate(protocol(run), complete(5))
    assert len(seen) == 4
    assert len({id(message) for message in seen}) == 1


def test_a_deadlock_says_who_waits_for_what() -> None:
    async def run(device) -> None:
        if device.id:
            await device.receive(Note)
        else:
            await device.receive()

    with pytest.raises(Deadlock, match=r"deadlock at 0 s.*\n.*device 0 .* waits for any message; it hears 1, 2\n"
                                       r".*device 1 .* waits for test-note; it hears 0, 2"):  # fmt: skip
        emulate(protocol(run), complete(3))


def test_a_lost_message_is_named_in_the_deadlock() -> None:
    async def run(device) -> None:
        device.broadcast(Note("?"))
        await device.receive(Note)

    with pytest.raises(Deadlock, match="2 messages were lost so far"):
        emulate(protocol(run), ring(2), link={"loss": "100 %"})


def test_a_run_may_end_while_passive_devices_wait() -> None:
    async def run(device) -> None:
        device.passive = device.id > 0
        if device.id:
            await device.receive()
        await trio.sleep(2)

    assert emulate(protocol(run), complete(3)).clock.now == 2


def test_an_exception_names_its_device_and_the_virtual_time() -> None:
    async def run(device) -> None:
        await trio.sleep(device.id)
        if device.id == 2:
            raise ValueError("boom")
        await trio.sleep(100)

    with pytest.raises(DeviceFailed, match=r"device 2 failed at 2 s: ValueError: boom") as failure:
        emulate(protocol(run), ring(4))
    assert isinstance(failure.value.__cause__, ValueError)


def test_of_failures_at_one_instant_the_lowest_device_is_named() -> None:
    async def run(device) -> None:
        await trio.sleep(1)
        raise ValueError(str(device.id))

    for _ in range(5):
        with pytest.raises(DeviceFailed, match="device 0 failed"):
            emulate(protocol(run), ring(20))


def test_sending_where_no_link_goes_is_a_protocol_error() -> None:
    async def run(device) -> None:
        device.send(3, Note("?"))

    with pytest.raises(DeviceFailed, match="device 0 has no link to 3; its links go to 1, 5"):
        emulate(protocol(run), ring(6))


def test_targets_may_be_what_the_device_drew() -> None:
    """numpy's integers and arrays: what `choice` gives."""

    async def run(device) -> None:
        one = device.random.choice(device.out_neighbors)
        several = device.random.choice(device.out_neighbors, size=2, replace=False)
        device.send(one, Note("one"))
        device.send(several, Note("several"))
        device.send(several[:0], Note("nobody"))
        await trio.sleep(1)

    emulation = emulate(protocol(run), complete(4))
    assert emulation.trace.delivered == 4 * 3
    assert len(emulation.trace.digest()) == 64


def test_learning_without_data_is_a_protocol_error() -> None:
    async def run(device) -> None:
        device.initial_params()

    with pytest.raises(DeviceFailed, match=r"no \[data\]") as failure:
        emulate(protocol(run), ring(2))
    assert isinstance(failure.value.__cause__, ProtocolError)


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=80), max_size=5), st.integers(0, 3))
def test_a_device_never_dies_of_what_a_peer_sends(garbage, seed) -> None:
    emulation = Emulation(ring(3), lambda src, dst: Link(src, dst, LinkSettings(), seed), seed)
    heard = []

    async def run(device) -> None:
        if device.id == 0:
            for number, data in enumerate(garbage):
                emulation.transport.send_bytes(0, [1], data, number, "garbage")
            await trio.sleep(1)
            device.send(1, Note("still there?"))
        elif device.id == 1:
            heard.append((await device.receive()).text)

    emulation.run(protocol(run))
    assert heard == ["still there?"]
    assert emulation.trace.malformed == len(garbage)
    assert emulation.trace.delivered == len(garbage) + 1


def test_a_message_in_another_devices_name_is_malformed() -> None:
    emulation = Emulation(complete(3), lambda src, dst: Link(src, dst, LinkSettings(), 0), 0)
    heard = []

    async def run(device) -> None:
        if device.id == 2:
            emulation.transport.send_bytes(2, [0], encode(Note("I am device 1"), 1, 7), 7, "note")
            device.send(0, Note("I am device 2"))
        elif device.id == 0:
            heard.append((await device.receive()).text)

    emulation.run(protocol(run))
    assert heard == ["I am device 2"]
    assert emulation.trace.malformed == 1


def test_devices_begin_at_their_start() -> None:
    began = {}

    async def run(device) -> None:
        began[device.id] = device.now

    emulate(protocol(run), ring(3), hardware=[Hardware(start=one) for one in [2.0, 0.0, 1.5]])
    assert began == {0: 2.0, 1: 0.0, 2: 1.5}


def test_rounds_end_a_device() -> None:
    async def run(device) -> None:
        while device.running:
            await trio.sleep(1)
            device.finish_round()

    emulation = emulate(protocol(run), ring(3), rounds=4)
    assert [device.round for device in emulation.devices] == [4, 4, 4]
    assert emulation.clock.now == 4


def test_the_digest_depends_on_content_and_not_on_the_order_of_tasks() -> None:
    """All devices send at the same instants; trio shuffles who runs first."""

    async def run(device) -> None:
        for _ in range(5):
            await trio.sleep(1)
            device.broadcast(Note("tick"))
            while device.receive_nowait() is not None:
                pass

    digests = set()
    for scheduler_seed in range(6):
        python_random.seed(scheduler_seed)
        trio._core._run._r.seed(scheduler_seed)
        digests.add(emulate(protocol(run), complete(6), link={"loss": "30 %"}, seed=1).trace.digest())
    assert len(digests) == 1
    assert emulate(protocol(run), complete(6), link={"loss": "30 %"}, seed=2).trace.digest() not in digests


def test_changing_one_link_changes_no_draw_of_another() -> None:
    def fates(changed: dict[str, object]) -> dict[tuple[int, int], list[tuple[float, str]]]:
        other = LinkSettings.model_validate(changed)
        same = LinkSettings.model_validate(
            {"latency": {"kind": "lognormal", "mean": "20 ms", "sd": "9 ms"}, "loss": "20 %"}
        )
        seen: dict[tuple[int, int], list[tuple[float, str]]] = {}
        emulate(
            protocol(chatter),
            complete(4),
            link=lambda src, dst: other if (src, dst) == (0, 1) else same,
            seed=3,
            sink=lambda r: seen.setdefault((r.src, r.dst), []).append((r.verdict.arrival - r.sent, r.verdict.cause)),
        )
        return seen

    first = fates({"loss": "90 %"})
    second = fates({"latency": {"kind": "uniform", "low": "1 s", "high": "2 s"}, "loss": "1 %", "duplicate": 0.5})
    assert first.pop((0, 1)) != second.pop((0, 1))
    assert first == second
