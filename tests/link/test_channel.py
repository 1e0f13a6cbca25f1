"""Fragments, the fast path that draws how many are lost instead of which, and erasure codes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp

from p2pl_async.link import Link, LinkSettings, Verdict
from p2pl_async.link.channel import Channel
from p2pl_async.link.sending import blocks, once, repeated

BURSTY = {"kind": "gilbert-elliott", "good": "3 s", "bad": "1 s", "loss_good": "2 %", "loss_bad": "70 %"}


def verdicts(table: dict[str, Any], size: int, count: int, every: float = 1e4, seed: int = 1) -> list[Verdict]:
    made = Link(0, 1, LinkSettings.model_validate(table), seed)
    return [made.judge(size, i * every) for i in range(count)]


def share(found: list[Verdict]) -> float:
    return float(np.mean([not verdict.cause for verdict in found]))


def error(p: float, n: int) -> float:
    """Five standard errors of a share p of n; at least those of one case in n."""
    return 5 * math.sqrt(max(p * (1 - p), 1 / n) / n)


@pytest.mark.parametrize(
    ("size", "payload", "loss", "retries", "fragments", "expected"),
    [
        (1_000_000, 102, 0.01, 0, 9804, 2e-43),
        (1_000_000, 102, 0.01, 3, 9804, 0.99990),
        (1_000_000, 102, 0.10, 3, 9804, 0.3751),
        (5_000_000, 1460, 0.01, 0, 3425, 1e-15),
        (5_000_000, 1460, 0.05, 3, 3425, 0.9788),
        (5_000_000, 1460, 0.10, 7, 3425, 0.99997),
    ],
)
def test_a_message_survives_if_all_its_fragments_do(
    size: int, payload: int, loss: float, retries: int, fragments: int, expected: float
) -> None:
    """P = (1 - q)^n, q being what the retries leave of the loss: p^(m + 1)."""
    survived = (1 - loss ** (retries + 1)) ** fragments
    assert survived == pytest.approx(expected, rel=0.3 if expected < 0.01 else 2e-4)
    n = 3000
    table = {"mtu": f"{payload + 20} B", "header": "20 B", "loss": loss, "arq": {"retries": retries}}
    found = verdicts(table, size, n)
    assert share(found) == pytest.approx(survived, abs=error(survived, n))
    arrived = [verdict for verdict in found if not verdict.cause]
    assert all(verdict.packets - verdict.packets_lost == fragments for verdict in arrived)


def test_the_last_fragment_is_short() -> None:
    """10,000 B in fragments of 100 B that carry 90: 111 full ones and one of 10 B + 10 B header."""
    table = {"rate": "8 kbit/s", "mtu": "100 B", "header": "10 B"}
    (verdict,) = verdicts(table, 10_000, 1)
    assert (verdict.packets, verdict.air_bytes) == (112, 11_120)
    assert verdict.arrival == pytest.approx(11.12)


# --- The fast path


KINDS: dict[str, dict[str, Any]] = {
    "plain": {"loss": "2 %"},
    "bursts": {"loss": BURSTY},
    "outages": {"outage": {"kind": "on-off", "up": "3 s", "down": "1 s"}, "loss": "1 %"},
    "retries": {"loss": "30 %", "arq": {"retries": 2, "turnaround": "3 ms"}},
    "retries in bursts": {"loss": BURSTY, "arq": {"retries": 12, "turnaround": "3 ms"}},
    "retries through outages": {
        "outage": {"kind": "on-off", "up": "2 s", "down": "500 ms"},
        "loss": "10 %",
        "arq": {"retries": "unlimited", "turnaround": "3 ms", "timeout": "700 ms"},
    },
    "lost acknowledgments": {"loss": "10 %", "arq": {"retries": 3, "turnaround": "3 ms", "ack_loss": "20 %"}},
    "backoff": {"loss": BURSTY, "arq": {"retries": 7, "turnaround": "3 ms", "backoff": "5 ms", "growth": 2}},
    "go-back-n": {"loss": "5 %", "arq": {"retries": 5, "turnaround": "70 ms", "kind": "go-back-n", "window": 8}},
    "go-back-n in bursts": {
        "loss": BURSTY,
        "arq": {"retries": 30, "turnaround": "70 ms", "kind": "go-back-n", "window": 8},
    },
    "held": {
        "outage": {"kind": "on-off", "up": "3 s", "down": "1 s", "when_off": "hold"},
        "loss": "5 %",
        "arq": {"retries": 9, "turnaround": "3 ms"},
    },
    "corruption": {"corrupt": "3 %", "loss": "3 %", "arq": {"retries": 2}},
    "a rate in steps": {
        "rate": {"kind": "schedule", "steps": [["0 s", "80 kbit/s"], ["1 s", "20 kbit/s"]], "end": "loop"},
        "loss": "10 %",
        "arq": {"retries": 3, "turnaround": "3 ms"},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_path_has_the_law_of_one_fragment_at_a_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kolmogorov distance of completion times, of transmissions and of losses; equal shares delivered, equal causes."""
    table = {"rate": "80 kbit/s", "mtu": "100 B", "order": "free", **KINDS[kind]}
    n, size = 700, 14_950
    found = []
    for threshold, seed in ((20, 1), (10**9, 2)):
        monkeypatch.setattr(once, "AGGREGATE", threshold)
        monkeypatch.setattr(repeated, "AGGREGATE", threshold)
        monkeypatch.setattr(blocks, "AGGREGATE", threshold)
        found.append(verdicts(table, size, n, every=1000.37, seed=seed))
    fast, plain = found
    limit = 1.63 * math.sqrt(2 / n)
    arrived = [[v.arrival - i * 1000.37 for i, v in enumerate(each) if not v.cause] for each in found]
    assert abs(len(arrived[0]) - len(arrived[1])) <= 5 * math.sqrt(2 * n * 0.25)
    if min(map(len, arrived)) > 50:
        times = [np.round(each, 9) for each in arrived]
        assert ks_2samp(*times).statistic < 1.63 * math.sqrt(1 / len(times[0]) + 1 / len(times[1]))
    for column in ("packets", "packets_lost", "air_bytes"):
        values = [[getattr(v, column) for v in each] for each in found]
        assert ks_2samp(*values).statistic < limit, column
    for cause in {v.cause for v in fast + plain}:
        shares = [np.mean([v.cause == cause for v in each]) for each in found]
        assert shares[0] == pytest.approx(shares[1], abs=5 * math.sqrt(0.5 / n)), cause
    assert np.mean([v.air_seconds for v in fast]) == pytest.approx(
        np.mean([v.air_seconds for v in plain]),
        abs=5 * float(np.std([v.air_seconds for v in plain])) * math.sqrt(2 / n) + 1e-9,
    )


def test_a_block_that_does_not_fit_is_cut_where_its_stretch_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a margin, half of the blocks end too late, and have to be taken apart."""
    table = {"rate": "80 kbit/s", "mtu": "100 B", **KINDS["retries in bursts"]}
    n, found = 700, []
    for threshold, margin, seed in ((20, 0.0, 1), (10**9, 6.0, 2)):
        monkeypatch.setattr(once, "AGGREGATE", threshold)
        monkeypatch.setattr(repeated, "AGGREGATE", threshold)
        monkeypatch.setattr(blocks, "AGGREGATE", threshold)
        monkeypatch.setattr(blocks, "_MARGIN", margin)
        found.append(verdicts(table, 14_950, n, every=1000.37, seed=seed))
    times = [np.array([v.arrival - i * 1000.37 for i, v in enumerate(each) if not v.cause]) for each in found]
    assert ks_2samp(*times).statistic < 1.63 * math.sqrt(1 / len(times[0]) + 1 / len(times[1]))
    packets = [[v.packets for v in each] for each in found]
    assert ks_2samp(*packets).statistic < 1.63 * math.sqrt(2 / n)


@pytest.mark.parametrize("kind", ["plain", "bursts", "retries", "retries in bursts", "go-back-n", "backoff"])
def test_what_a_message_costs_does_not_depend_on_its_size(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million fragments, only those near a change of the weather are looked at."""
    looked = 0
    original = Channel.fates

    def count(self: Channel, starts: Any, ends: Any, size: int) -> Any:
        nonlocal looked
        looked += len(starts)
        return original(self, starts, ends, size)

    monkeypatch.setattr(Channel, "fates", count)
    table = {"rate": "1 Gbit/s", "mtu": "100 B", **KINDS[kind]}
    if "arq" in table:
        table["arq"] = {**table["arq"], "retries": 50, "growth": 1}
    if table["loss"] == BURSTY:
        table["loss"] = {**BURSTY, "good": "300 s", "bad": "100 s"}
    (verdict,) = verdicts(table, 10**8, 1)
    assert verdict.packets >= 10**6
    assert looked < 100_000


# --- Erasure codes


@pytest.mark.parametrize(("sent", "loss"), [(736, 0.05), (891, 0.2)])
def test_any_k_of_n_packets_give_the_message(sent: int, loss: float) -> None:
    """P = P(Bin(n, 1 - p) >= k): 685 packets and as many more as make it 99 %."""
    n, data = 1500, 685
    survived = float(binom.sf(data - 1, sent, 1 - loss))
    assert survived == pytest.approx(0.99, abs=0.004)
    table = {"mtu": "100 B", "loss": loss, "rate": "8 kbit/s", "fec": {"data": data, "parity": sent - data}}
    found = verdicts(table, 68_450, n)
    assert share(found) == pytest.approx(survived, abs=error(survived, n))
    assert {verdict.packets for verdict in found} == {sent}
    assert {verdict.air_bytes for verdict in found} == {68_450 + 100 * (sent - data)}


def test_each_group_must_be_rebuilt_from_its_own_packets() -> None:
    """Two groups of four and one of two, each with two of parity."""
    n, loss = 6000, 0.25
    table = {"mtu": "100 B", "loss": loss, "fec": {"data": 4, "parity": 2}}
    survived = float(binom.sf(3, 6, 1 - loss) ** 2 * binom.sf(1, 4, 1 - loss))
    assert share(verdicts(table, 1000, n)) == pytest.approx(survived, abs=error(survived, n))


def test_a_message_is_there_as_soon_as_enough_is() -> None:
    """Without losses the parity isn't waited for; it is sent all the same."""
    made = Link(
        0, 1, LinkSettings.model_validate({"mtu": "100 B", "rate": "8 kbit/s", "fec": {"data": 4, "parity": 2}}), 1
    )
    verdict = made.judge(550, 0.0)  # four and two packets in two groups, the last one of 50 B, and 2 x 2 of parity
    assert verdict.arrival == pytest.approx(0.75)
    assert (verdict.air_bytes, made.sending_until) == (950, pytest.approx(0.95))


def test_a_single_packet_is_sent_several_times() -> None:
    n, loss = 6000, 0.4
    table = {"loss": loss, "fec": {"data": 5, "parity": 2}}
    found = verdicts(table, 60, n)
    assert share(found) == pytest.approx(1 - loss**3, abs=error(loss**3, n))
    assert {verdict.air_bytes for verdict in found} == {180}


# --- Against ns-3


def test_messages_of_a_hundred_fragments_as_in_ns3() -> None:
    """Ring of 8, 100 kB in 1000 B, 1 % loss: ns-3 completes 305 of 800 messages and 79,244 of 80,000 fragments."""
    complete = fragments = 0
    delays = []
    for k in range(8):
        for j in ((k - 1) % 8, (k + 1) % 8):
            table = {"mtu": "1000 B", "rate": "1 Mbit/s", "latency": "10 ms", "loss": "1 %"}
            made = Link(k, j, LinkSettings.model_validate(table), 1)
            for i in range(50):
                verdict = made.judge(100_000, 2.0 * i)
                complete += not verdict.cause
                fragments += verdict.packets - verdict.packets_lost
                delays.append(verdict.arrival - 2.0 * i)
    assert complete / 800 == pytest.approx(305 / 800, abs=5 * math.sqrt(2 * 0.38 * 0.62 / 800))
    assert fragments / 80_000 == pytest.approx(79_244 / 80_000, abs=5 * math.sqrt(2 * 0.01 / 80_000))
    assert {round(delay, 9) for delay in delays if delay < math.inf} == {0.81}  # the latest fragment of ns-3's
