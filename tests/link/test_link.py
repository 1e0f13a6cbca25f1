"""What happens to messages on one link."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.timeline import Stretch
from p2pl_async.link import Arq, Link, LinkSettings, Verdict
from p2pl_async.link.switching import Memoryless

BURSTY = {"kind": "gilbert-elliott", "good": "2 s", "bad": "500 ms"}
LOGNORMAL = {"kind": "lognormal", "mean": "20 ms", "sd": "10 ms"}
ON_OFF = {"kind": "on-off", "up": "3 s", "down": "1 s"}


def link(src: int = 0, dst: int = 1, seed: int = 1, **table: Any) -> Link:
    return Link(src, dst, LinkSettings.model_validate(table), seed)


def send(made: Link, sizes: list[int], every: float) -> list[Verdict]:
    return [made.judge(size, i * every) for i, size in enumerate(sizes)]


def test_a_link_without_settings_is_perfect() -> None:
    assert link().judge(800, 3.0) == Verdict(arrival=3.0, packets=1, air_bytes=800)


def test_latency_delays_the_arrival() -> None:
    assert link(latency="20 ms").judge(800, 3.0).arrival == 3.02


def test_a_lost_message_never_arrives() -> None:
    assert link(loss="100 %").judge(800, 0.0) == Verdict(cause="loss", packets=1, packets_lost=1, air_bytes=800)


def test_a_message_lost_in_the_bad_state_is_lost_to_a_burst() -> None:
    verdicts = send(link(loss=BURSTY), [10] * 400, 0.1)
    assert {verdict.cause for verdict in verdicts} == {"", "burst"}


# --- Rate and queue


def test_messages_leave_one_after_another() -> None:
    made = link(rate="8 kbit/s", latency="1 s")  # 1000 bytes per second
    assert made.judge(500, 0.0).arrival == 1.5
    assert made.sending_until == 0.5
    assert made.judge(1000, 0.0).arrival == 2.5
    assert made.sending_until == 1.5
    assert made.judge(1000, 10.0).arrival == 12.0


def test_the_header_is_sent_too() -> None:
    verdict = link(rate="8 kbit/s", header="20 B").judge(480, 0.0)
    assert (verdict.arrival, verdict.air_bytes) == (0.5, 500)


def test_a_full_queue_refuses_and_counts_what_is_being_sent() -> None:
    made = link(rate="8 kbit/s", queue={"messages": 2})
    causes = [made.judge(1000, now).cause for now in (0.0, 0.0, 0.0, 0.999, 1.0, 1.0)]
    assert causes == ["", "", "queue", "queue", "", "queue"]
    assert made.judge(1000, 1.0) == Verdict(cause="queue")
    assert made.sending_until == 3.0


def test_a_queue_can_be_limited_in_bytes_with_headers() -> None:
    made = link(rate="8 kbit/s", mtu="110 B", header="10 B", queue={"size": "330 B"})
    assert [made.judge(size, 0.0).cause for size in (200, 100, 1)] == ["", "", "queue"]


def test_mean_wait_is_that_of_an_md1_queue() -> None:
    """Poisson arrivals at load rho wait rho T / (2 (1 - rho)) on average, and a share 1 - rho not at all."""
    rho, n, made = 0.5, 40_000, link(rate="8 kbit/s")
    sent = np.cumsum(stream(1, "test").exponential(1 / rho, n))
    waits = np.array([made.judge(1000, now).arrival - 1.0 - now for now in sent.tolist()])
    # Waits are correlated over a few busy periods: about 10 messages count as one.
    assert waits.mean() == pytest.approx(rho / (2 * (1 - rho)), abs=5 * waits.std() / math.sqrt(n / 10))
    assert (waits < 1e-9).mean() == pytest.approx(1 - rho, abs=5 * 0.5 / math.sqrt(n / 10))


def md1k_loss(rho: float, room: int) -> float:
    """Return the share of messages that a queue with constant service and `room` places refuses.

    Stationary chain of what a departing message leaves behind (0 .. room - 1 messages), then
    the renewal argument for what an arriving one finds.
    """
    arrivals = [math.exp(-rho) * rho**k / math.factorial(k) for k in range(room + 1)]
    chain = np.zeros((room, room))
    for left in range(room):
        begin = max(left - 1, 0)  # an empty link first waits for a message
        for k in range(room - begin - 1):
            chain[left, begin + k] = arrivals[k]
        chain[left, room - 1] = 1 - chain[left, : room - 1].sum()
    equations = np.vstack((chain.T - np.eye(room), np.ones(room)))
    share = np.linalg.lstsq(equations, np.append(np.zeros(room), 1.0), rcond=None)[0]
    return float(1 - 1 / (share[0] + rho))


def test_a_saturated_link_refuses_what_exceeds_its_rate() -> None:
    """Load 1.25, 11 places: 0.2024 refused (ns-3, 10 waiting and one being sent)."""
    rho, n, made = 1.25, 40_000, link(rate="8 kbit/s", queue={"messages": 11})
    sent = np.cumsum(stream(1, "test").exponential(1 / rho, n))
    refused = np.mean([made.judge(1000, now).cause == "queue" for now in sent.tolist()])
    assert md1k_loss(rho, 11) == pytest.approx(0.2024, abs=0.002)
    assert refused == pytest.approx(md1k_loss(rho, 11), abs=0.01)


# --- Fragments


def test_fragments_carry_a_header_each_and_the_last_is_short() -> None:
    made = link(rate="8 kbit/s", mtu="110 B", header="10 B")
    verdict = made.judge(250, 0.0)
    assert (verdict.packets, verdict.air_bytes) == (3, 280)
    assert verdict.arrival == pytest.approx(0.28)
    assert made.judge(200, 1.0).packets == 2
    assert made.judge(100, 2.0).packets == 1
    assert made.judge(0, 3.0).packets == 1


@pytest.mark.parametrize("loss", ["1 %", "5 %"])
def test_a_lost_fragment_loses_the_whole_message(loss: str) -> None:
    n, q, sends = 30, float(loss.split()[0]) / 100, 4000
    verdicts = send(link(loss=loss, mtu="100 B"), [3000] * sends, 1.0)
    survived = (1 - q) ** n
    assert np.mean([not verdict.cause for verdict in verdicts]) == pytest.approx(
        survived, abs=5 * math.sqrt(survived * (1 - survived) / sends)
    )
    assert all((verdict.packets_lost > 0) == (verdict.cause == "loss") for verdict in verdicts)
    assert np.mean([verdict.packets_lost for verdict in verdicts]) == pytest.approx(
        n * q, abs=5 * math.sqrt(n * q / sends)
    )


def test_a_burst_takes_fragments_that_follow_each_other() -> None:
    """100 fragments take 10 s, a burst half a second: lost fragments are few states, not many coins."""
    made = link(loss=BURSTY, rate="8 kbit/s", mtu="100 B")
    weather = Memoryless(stream(1, "burst", 0, 1), (2.0, 0.5), 0.2)
    for i in range(20):
        verdict = made.judge(10_000, 10.0 * i)
        starts = 10.0 * i + 0.1 * np.arange(100.0)
        assert verdict.packets_lost == np.count_nonzero(weather.states(starts))


# --- ARQ


def one_at_a_time(
    weather: Memoryless, arq: Arq, sizes: list[int], byte: float, now: float
) -> tuple[int, int, float, bool]:
    """Send packets with retries one after the other, over a channel that loses all or nothing.

    Returns:
        Transmissions, how many were lost, the end of the last one, and whether all got through.
    """
    used = lost = 0
    window = arq.window or 1
    start = now
    end = now
    for packet, size in enumerate(sizes):
        took = size * byte
        gap = max(0.0, (took + arq.turnaround) / window - took)
        first, wait = start, arq.backoff
        for attempt in itertools.count():
            if attempt > arq.most_tries - 1 or (arq.timeout is not None and start - first > arq.timeout + 1e-9):
                return used, lost, end, False
            used += 1
            end = start + took
            if not weather.at(start).value:
                break
            lost += 1
            used += min(window, len(sizes) - packet) - 1
            start += window * (took + gap) + wait
            wait *= arq.growth
        start = end + gap
    return used, lost, end, True


arqs = st.builds(
    lambda kind, **more: Arq(kind=kind, window=None if kind == "stop-and-wait" else 4, **more),
    st.sampled_from(["stop-and-wait", "go-back-n"]),
    retries=st.integers(0, 30) | st.none(),
    turnaround=st.sampled_from(["0 s", "13 ms", "900 ms"]),
    backoff=st.sampled_from(["0 s", "20 ms"]),
    timeout=st.sampled_from(["none", "100 ms", "1 s"]).map(lambda text: None if text == "none" else text),
) | st.builds(
    Arq, retries=st.integers(0, 6), backoff=st.just("5 ms"), growth=st.floats(1, 4), turnaround=st.just("3 ms")
)


@given(
    fragments=st.integers(0, 40) | st.integers(100, 900),
    short=st.integers(0, 99),
    arq=arqs,
    good=st.floats(0.05, 30),
    bad=st.floats(0.01, 1),
)
@effort(max_examples=60)
def test_retries_are_the_same_as_one_packet_at_a_time(
    fragments: int, short: int, arq: Arq, good: float, bad: float
) -> None:
    """Many at once, a stretch of equal chances at once, or one by one: in weather that loses all or nothing."""
    table = {"kind": "gilbert-elliott", "good": f"{good} s", "bad": f"{bad} s"}
    made = Link(0, 1, LinkSettings(rate="8 kbit/s", mtu="100 B", arq=arq, loss=table), 1)
    verdict = made.judge(100 * fragments + 1 + short, 0.5)
    sizes = [100] * fragments + [1 + short]
    weather = Memoryless(stream(1, "burst", 0, 1), (good, bad), bad / (good + bad))
    used, lost, end, arrived = one_at_a_time(weather, arq, sizes, 0.001, 0.5)
    assert (verdict.packets, verdict.packets_lost, verdict.cause) == (used, lost, "" if arrived else "retries")
    assert verdict.arrival == (pytest.approx(end) if arrived else math.inf)
    assert verdict.acknowledged == arrived


def test_retries_make_the_residual_loss_small() -> None:
    """Frame loss 10 %, 3 retries: a fragment is lost with 1e-4, 400 of them survive together with 0.9608."""
    n, sends = 400, 1500
    verdicts = send(link(loss="10 %", mtu="100 B", arq={"retries": 3}), [100 * n] * sends, 1.0)
    survived = (1 - 0.1**4) ** n
    arrived = [verdict for verdict in verdicts if not verdict.cause]
    assert len(arrived) / sends == pytest.approx(survived, abs=5 * math.sqrt(survived * (1 - survived) / sends))
    assert {verdict.cause for verdict in verdicts} == {"", "retries"}
    # Attempts given success: 1/(1-p) - (m+1) p^(m+1) / (1 - p^(m+1)) per fragment.
    expected = 1 / 0.9 - 4 * 1e-4 / (1 - 1e-4)
    deviation = math.sqrt(0.1) / 0.9
    assert np.mean([verdict.packets / n for verdict in arrived]) == pytest.approx(
        expected, abs=5 * deviation / math.sqrt(n * len(arrived))
    )


def test_retries_cost_time_and_bytes() -> None:
    made = link(loss="100 %", rate="8 kbit/s", arq={"retries": 2, "turnaround": "100 ms"})
    assert made.judge(1000, 0.0) == Verdict(cause="retries", packets=3, packets_lost=3, air_bytes=3000, air_seconds=3.0)
    assert made.sending_until == pytest.approx(3.3)
    made = link(rate="8 kbit/s", arq={"retries": 2, "turnaround": "100 ms"})
    assert made.judge(1000, 0.0) == Verdict(arrival=1.0, packets=1, air_bytes=1000, air_seconds=1.0, acknowledged=True)
    assert made.sending_until == pytest.approx(1.1)


def test_no_retries_still_waits_for_each_acknowledgment() -> None:
    made = link(rate="8 kbit/s", mtu="100 B", arq={"retries": 0, "turnaround": "50 ms"})
    assert made.judge(250, 0.0).arrival == pytest.approx(0.35)
    verdict = link(loss="100 %", mtu="100 B", arq={"retries": 0}).judge(250, 0.0)
    assert (verdict.cause, verdict.packets) == ("retries", 1)


def test_after_a_fragment_is_given_up_the_rest_is_not_sent() -> None:
    verdict = link(loss="100 %", mtu="100 B", arq={"retries": 2}).judge(10_000, 0.0)
    assert (verdict.cause, verdict.packets, verdict.packets_lost, verdict.air_bytes) == ("retries", 3, 3, 300)


def test_retries_outlive_a_burst_only_if_they_wait_long_enough() -> None:
    """Attempts d apart in a bad stay of mean b are all lost with exp(-d m / b) once the first is."""

    def lost(turnaround: str) -> float:
        made = link(loss={**BURSTY, "good": "50 s"}, arq={"retries": 3, "turnaround": turnaround})
        verdicts = send(made, [10] * 20_000, 20.0)
        first = sum(verdict.packets_lost > 0 for verdict in verdicts)
        return sum(verdict.cause == "retries" for verdict in verdicts) / first

    error = 5 * 0.5 / math.sqrt(20_000 * 0.5 / 50.5)
    assert lost("0 s") == 1
    assert lost("100 ms") == pytest.approx(math.exp(-0.3 / 0.5), abs=error)
    assert lost("1 s") == pytest.approx(math.exp(-3 / 0.5), abs=error)


# --- Outages


def test_a_link_that_is_down_loses_everything() -> None:
    made = link(outage={"kind": "slotted", "p": "100 %", "slot": "1 s"})
    assert made.judge(10, 0.0).cause == "outage"


def test_an_outage_cuts_off_what_is_on_the_air() -> None:
    """A transmission of 1 s from a random moment survives only if the link stays up all along."""
    made = link(outage=ON_OFF, rate="8 kbit/s")
    n = 10_000
    lost = np.mean([made.judge(1000, 30.0 * i).cause == "outage" for i in range(n)])
    survived = 0.75 * math.exp(-1 / 3)
    assert lost == pytest.approx(1 - survived, abs=5 * math.sqrt(survived * (1 - survived) / n))


def test_an_outage_takes_the_fragments_that_it_touches() -> None:
    made = link(outage=ON_OFF, rate="8 kbit/s", mtu="100 B")
    down = Memoryless(stream(1, "outage", 0, 1), (3.0, 1.0), 0.25)
    for i in range(400):
        verdict = made.judge(210, 2.0 * i)
        starts = 2.0 * i + 0.1 * np.arange(3.0)
        ends = np.append(starts[:-1] + 0.1, starts[-1] + 0.01)
        assert verdict.packets_lost == np.count_nonzero(down.touched(starts, ends))
        assert verdict.cause == ("outage" if verdict.packets_lost else "")


# --- Order and duplicates


def test_messages_arrive_in_order_unless_set_free() -> None:
    """Two packets 5 ms apart with jitter uniform over 20 ms swap with probability (1 - 5/20)^2 / 2."""
    jitter = {"kind": "uniform", "low": "0 s", "high": "20 ms"}

    def swaps(order: str) -> float:
        made = link(latency=jitter, order=order)
        pairs = [(made.judge(1, i).arrival, made.judge(1, i + 0.005).arrival) for i in range(10_000)]
        return float(np.mean([second < first for first, second in pairs]))

    assert swaps("fifo") == 0
    assert swaps("free") == pytest.approx(0.75**2 / 2, abs=5 * 0.45 / math.sqrt(10_000))


def test_fifo_holds_a_fast_message_behind_a_slow_one() -> None:
    held = send(link(latency=LOGNORMAL), [1] * 500, 0.001)
    free = send(link(latency=LOGNORMAL, order="free"), [1] * 500, 0.001)
    assert [verdict.arrival for verdict in held] == np.maximum.accumulate(
        [verdict.arrival for verdict in free]
    ).tolist()


def test_duplicates_arrive_again_and_later() -> None:
    verdicts = send(link(latency=LOGNORMAL, duplicate="20 %"), [1] * 10_000, 1.0)
    copies = [verdict.copy - verdict.arrival for verdict in verdicts if verdict.copy < math.inf]
    assert len(copies) / 10_000 == pytest.approx(0.2, abs=5 * 0.4 / 100)
    assert min(copies) == 0  # a copy that would be faster comes with the first
    assert max(copies) > 0.01


def test_a_lost_message_has_no_copy() -> None:
    assert link(duplicate="100 %", loss="100 %").judge(1, 0.0).copy == math.inf


# --- Common random numbers

EVERYTHING: dict[str, Any] = {
    "latency": LOGNORMAL, "loss": "20 %", "rate": "100 kbit/s", "queue": {"messages": 20}, "mtu": "100 B",
    "header": "10 B", "arq": {"retries": 1}, "outage": ON_OFF, "duplicate": "10 %", "order": "free",
}  # fmt: skip


def delays(table: dict[str, Any]) -> list[float]:
    """Return the delay of each message, nan where it is lost."""
    made = link(**{"order": "free", **table})
    found = []
    for i in range(300):
        verdict = made.judge(50 if i % 3 else 250, i * 1.0)
        found.append(verdict.arrival - i if verdict.arrival < math.inf else math.nan)
    return found


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "20 %"},
        {"loss": BURSTY},
        {"outage": ON_OFF},
        {"duplicate": "30 %"},
        {"mtu": "100 B"},
        {"mtu": "100 B", "loss": "10 %", "arq": {"retries": 2}},
    ],
)
def test_other_parameters_change_no_latency(change: dict[str, Any]) -> None:
    before, after = np.array(delays({"latency": LOGNORMAL})), np.array(delays({"latency": LOGNORMAL, **change}))
    arrived = ~np.isnan(after)
    assert arrived.any()
    assert (before[arrived] == after[arrived]).all()


def test_a_refused_message_takes_its_draws_all_the_same() -> None:
    def lost(**table: Any) -> list[str]:
        verdicts = send(
            link(rate="8 kbit/s", loss="30 %", mtu="500 B", latency=LOGNORMAL, **table), [200, 900] * 100, 0.5
        )
        return [verdict.cause for verdict in verdicts]

    with_room, without = lost(), lost(queue={"messages": 2})
    assert "queue" in without
    assert all(a == b for a, b in zip(with_room, without, strict=True) if b != "queue")


def test_long_messages_move_no_draw_of_short_ones() -> None:
    alone, among = link(loss="30 %", mtu="100 B"), link(loss="30 %", mtu="100 B")
    first = [alone.judge(50, i).cause for i in range(100)]
    second = []
    for i in range(100):
        second.append(among.judge(50, i).cause)
        among.judge(500, i)
    assert first == second


def test_each_direction_and_each_seed_has_draws_of_its_own() -> None:
    def arrivals(src: int, dst: int, seed: int) -> list[Verdict]:
        return send(link(src, dst, seed, latency=LOGNORMAL, loss="10 %"), [1] * 20, 1.0)

    assert arrivals(0, 1, 1) == arrivals(0, 1, 1)
    assert len({tuple(arrivals(*owner)) for owner in ((0, 1, 1), (1, 0, 1), (0, 2, 1), (0, 1, 2))}) == 4


# --- Laws that every link keeps

WHEN_OFF = ["drop", "hold"]
durations = st.sampled_from(["1 ms", "30 ms", "2 s"])
tables = st.fixed_dictionaries(
    {
        "latency": st.sampled_from(["10 ms", {"kind": "uniform", "low": "10 ms", "high": "50 ms"}])
        | st.just({"kind": "normal", "mean": "20 ms", "sd": "20 ms", "least": "10 ms"}),
        "loss": st.sampled_from(["none", "20 %"])
        | st.fixed_dictionaries({"kind": st.just("gilbert-elliott"), "good": durations, "bad": durations}),
        "rate": st.sampled_from(["80 kbit/s", "8 Mbit/s"]),
        "queue": st.sampled_from(
            ["unlimited", {"messages": 3}, {"size": "5 kB"}, {"packets": 20}, {"lifetime": "50 ms"}]
        ),
        "mtu": st.sampled_from(["unlimited", "100 B", "1500 B"]),
        "header": st.sampled_from(["0 B", "28 B"]),
        "repair": st.sampled_from(
            [
                {},
                {"fec": {"data": 4, "parity": 2}},
                {"arq": {"retries": 0}},
                {"arq": {"retries": 3, "turnaround": "2 ms"}},
                {"arq": {"retries": 3, "ack_loss": "30 %", "backoff": "1 ms", "growth": 2}},
                {"arq": {"retries": "unlimited", "turnaround": "2 ms", "timeout": "300 ms"}},
                {"arq": {"retries": 3, "turnaround": "9 ms", "kind": "go-back-n", "window": 4}},
                {"arq": {"retries": 3, "turnaround": "9 ms", "kind": "selective-repeat", "window": 4}},
            ]
        ),
        "corrupt": st.sampled_from(["0 %", "5 %"]),
        "outage": st.just("none")
        | st.fixed_dictionaries(
            {
                "kind": st.just("on-off"),
                "up": durations,
                "down": durations,
                "when_off": st.sampled_from(["drop", "hold"]),
            }
        )
        | st.just({"kind": "slotted", "p": "20 %", "slot": "50 ms"}),
        "order": st.sampled_from(["fifo", "free"]),
        "duplicate": st.sampled_from([0, 0.3]),
    }
)


@given(
    table=tables,
    seed=st.integers(0, 20),
    sizes=st.lists(st.integers(0, 6000), min_size=1, max_size=15),
    needed=st.sampled_from([None, 1]),
)
def test_laws_of_every_link(table: dict[str, Any], seed: int, sizes: list[int], needed: int | None) -> None:
    """Conservation of packets and bytes, causality, order, one transmitter."""
    table = {key: value for key, value in table.items() if key != "repair"} | table["repair"]
    if table.get("arq", {}).get("kind") == "selective-repeat":
        assume(not isinstance(table["outage"], dict) or table["outage"].get("when_off") != "hold")
    made = link(seed=seed, **table)
    settings = LinkSettings.model_validate(table)
    assert isinstance(settings.rate, float)
    arq, parity = settings.arq, settings.fec.parity if settings.fec else 0
    free, arrived = 0.0, 0.0
    for i, size in enumerate(sizes):
        now = 0.1 * i
        verdict = made.judge(size, now, needed)
        payload = math.inf if settings.mtu is None else settings.mtu - settings.header
        fragments = max(1, math.ceil(size / payload))
        least = size + fragments * settings.header
        if verdict.cause in ("queue", "expired"):
            assert verdict == Verdict(cause=verdict.cause)
            assert settings.queue is not None
            assert (verdict.cause == "expired") == (settings.queue.lifetime is not None)
            assert made.sending_until == free
            continue
        got_through = verdict.packets - verdict.packets_lost
        air = verdict.air_bytes * 8 / settings.rate
        assert verdict.air_seconds == pytest.approx(air)
        assert 0 <= verdict.packets_lost <= verdict.packets
        start = max(now, free)
        assert made.sending_until >= start + air - 1e-9
        if settings.queue is not None and settings.queue.lifetime is not None:
            assert start - now <= settings.queue.lifetime + 1e-9
        if verdict.acknowledged:
            assert arq is not None
            assert verdict.cause == ""
        if verdict.arrival == math.inf:
            assert verdict.copy == math.inf
            assert verdict.missing == ()
            # A sender that loses ACKs gives up on what has arrived, and on all that was to follow.
            assert verdict.packets_lost >= 1 or (arq is not None and arq.ack_loss > 0)
            assert (verdict.cause == "retries") == (arq is not None)
        else:
            whole = verdict.cause == ""
            assert verdict.cause == ("" if whole else "partial")
            assert (verdict.missing == ()) == whole
            gone = sum(math.ceil((end - first) / payload) for first, end in verdict.missing)
            assert got_through >= fragments - gone
            assert gone < fragments
            assert gone == 0 or (needed is not None and verdict.missing[0][0] >= needed)
            sooner = 0.0 if parity or (arq is not None and arq.ack_loss) else air
            assert verdict.arrival >= start + max(sooner, 8 * (size if whole else 0) / settings.rate) + 0.01 - 1e-9
            assert verdict.copy >= verdict.arrival
            assert settings.order == "free" or verdict.arrival >= arrived
            arrived = max(arrived, verdict.arrival)
            if whole and not parity and arq is None:
                assert got_through == fragments
            if arq is not None and not arq.ack_loss and arq.kind != "go-back-n":
                assert got_through == fragments - gone
        if arq is None:
            groups = -(-fragments // settings.fec.data) if settings.fec else 0
            assert verdict.packets == fragments + groups * parity
            full = settings.mtu if fragments > 1 and settings.mtu is not None else least
            assert verdict.air_bytes <= least + groups * parity * full
        free = made.sending_until


# --- Settings


def test_settings_survive_being_written_and_read() -> None:
    for settings in (LinkSettings(), LinkSettings.model_validate(EVERYTHING)):
        assert LinkSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_words_switch_off_what_the_default_has() -> None:
    off = {
        "rate": "unlimited",
        "queue": "unlimited",
        "mtu": "unlimited",
        "arq": "none",
        "loss": "none",
        "outage": "none",
    }
    assert LinkSettings.model_validate(off) == LinkSettings()


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"queue": {"messages": 3}}, "queue needs a rate"),
        ({"mtu": "20 B", "header": "20 B"}, "header, 20 B, must be smaller than mtu, 20 B"),
        ({"order": "lifo"}, "'fifo' or 'free'"),
        ({"rate": "2 Mbit"}, "unknown unit"),
        ({"rate": "0 bit/s"}, "above 0"),
        ({"duplicate": 2}, "for 2 percent"),
        ({"lose": "2 %"}, "lose"),
    ],
)
def test_impossible_links_are_refused(table: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        LinkSettings.model_validate(table)


# --- Changes, what takes a link down, radios, shared media


class Always:
    """Down, or not, at all times."""

    def __init__(self, down: bool) -> None:
        self.down = down

    def at(self, now: float) -> Stretch[int]:
        return Stretch(int(self.down), math.inf)

    def touched(self, starts: Any, ends: Any) -> Any:
        return np.full(starts.shape, self.down)


class Noisy:
    """A radio that loses every packet that is sent before an instant."""

    def __init__(self, until: float) -> None:
        self.until = until

    def error_rate(self, at: float, size: int) -> float:
        return float(at < self.until)

    def error_rates(self, at: Any, size: int) -> Any:
        return (at < self.until).astype(float)

    def error_at(self, sinr: float, size: int, phy: Any = None) -> float:
        return float(sinr < 10)

    def heard(self, at: float) -> tuple[float, float, float]:
        return -70.0 - at, 20.0 - at, 15.0

    def lost_until(self, at: float, size: int) -> float:
        return max(at, self.until)

    def delay(self, at: float) -> float:
        return 0.0


def with_more(seed: int = 1, *, more: dict[str, Any], **table: Any) -> Link:
    return Link(0, 1, LinkSettings.model_validate(table), seed, **more)


@pytest.mark.parametrize("size", [50, 500])
def test_what_takes_a_link_down_is_the_cause(size: int) -> None:
    made = with_more(mtu="100 B", more={"down": [("sleep", lambda: Always(False)), ("crash", lambda: Always(True))]})
    assert made.judge(size, 0.0).cause == "crash"
    made = with_more(mtu="100 B", more={"down": [("sleep", lambda: Always(False))]})
    assert made.judge(size, 0.0).cause == ""


@pytest.mark.parametrize("size", [50, 500])
def test_a_radio_loses_packets_to_noise(size: int) -> None:
    made = with_more(mtu="100 B", more={"radio": Noisy(1.0)})
    assert [made.judge(size, now).cause for now in (0.0, 0.9, 1.0)] == ["noise", "noise", ""]


def test_settings_change_for_what_is_sent_from_then_on() -> None:
    changes = [(1.0, LinkSettings.model_validate({"rate": "16 kbit/s", "latency": "1 s"}))]
    made = with_more(rate="8 kbit/s", more={"changes": changes})
    assert [made.judge(900, now).arrival for now in (0.0, 0.5, 3.0)] == [0.9, 1.4, 3.0 + 0.45 + 1.0]
    changes = [(1.0, LinkSettings.model_validate({"loss": "100 %"})), (2.0, LinkSettings())]
    made = with_more(more={"changes": changes})
    assert [made.judge(1, now).cause for now in (0.0, 0.9, 1.0, 1.9, 2.0)] == ["", "", "loss", "loss", ""]


def test_a_medium_asks_what_a_receiver_heard_and_when() -> None:
    made = link(latency="20 ms", loss="100 %")
    assert made.hear(10, 0.0, 1.0) == "loss"
    assert link(outage={"kind": "slotted", "p": "100 %", "slot": "1 s"}).hear(10, 0.0, 1.0) == "outage"
    made = with_more(more={"radio": Noisy(1.0)})
    assert [made.hear(10, at, at + 0.1) for at in (0.0, 1.0)] == ["noise", ""]
    assert [made.hear(10, at, at + 0.1, error) for at, error in ((2.0, 1.0), (3.0, 0.0))] == ["noise", ""]
    free, held = link(latency=LOGNORMAL, order="free"), link(latency=LOGNORMAL)
    arrivals = [free.travel(i * 0.001) for i in range(50)]
    assert [held.travel(i * 0.001) for i in range(50)] == np.maximum.accumulate(arrivals).tolist()


def test_what_a_receiver_hears_takes_as_many_draws_whatever_becomes_of_it() -> None:
    plain = link(loss="30 %")
    noisy = with_more(loss="30 %", more={"radio": Noisy(10.0), "down": [("sleep", lambda: Always(False))]})
    heard = [(plain.hear(1, at, at), noisy.hear(1, at, at)) for at in np.arange(0.0, 20.0, 0.1).tolist()]
    assert {there for here, there in heard[:100] if not here} == {"noise"}
    assert all(here == there for here, there in heard[100:])
    assert {here for here, _ in heard} == {"", "loss"}


def test_a_part_of_a_message_arrives_if_that_is_of_use() -> None:
    made, whole = link(loss="50 %", mtu="100 B", header="10 B"), link(loss="50 %", mtu="100 B", header="10 B")
    seen = set()
    for i in range(400):
        verdict, other = made.judge(1000, i, needed=90), whole.judge(1000, i)
        assert (verdict.packets_lost > 0) == (other.cause == "loss")
        seen.add(verdict.cause)
        if verdict.cause == "partial":
            assert verdict.arrival == i
            assert all(start % 90 == 0 and (end % 90 == 0 or end == 1000) for start, end in verdict.missing)
            assert all(first[1] < second[0] for first, second in itertools.pairwise(verdict.missing))
            assert sum(math.ceil((end - start) / 90) for start, end in verdict.missing) == verdict.packets_lost
            assert verdict.missing[0][0] >= 90
        else:
            assert verdict[1:8] == other[1:8]
            assert verdict.missing == ()
    assert seen == {"loss", "partial"}  # all twelve of a message arrive once in 4096
