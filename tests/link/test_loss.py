"""Loss against closed forms: shares of lost packets, lengths of bursts, correlation in time.

Tolerances are 5 standard errors. Losses that come in bursts count as fewer independent ones:
the variance of the share of n packets is K L (1 - L) / n.
"""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from p2pl_async.basics.randomness import stream
from p2pl_async.link import Link, LinkSettings
from p2pl_async.link.loss.base import CAUSES, LossModel, LossProcess
from p2pl_async.link.loss.kinds import AnyLoss
from p2pl_async.link.loss.per_packet import GilbertPackets, _Chain

N = 200_000
FEWER = 40_000
BURSTY = {"kind": "gilbert-elliott", "good": "2 s", "bad": "500 ms"}

ANY: TypeAdapter[LossModel] = TypeAdapter(AnyLoss)


def process(table: Any, seed: int = 1, src: int = 0, dst: int = 1) -> LossProcess:
    made = ANY.validate_python(table).process(seed, src, dst)
    assert made is not None
    return made


def lost(table: Any, n: int = N, every: float = 0.01, seed: int = 1) -> Any:
    """Return whether each of n packets is lost, shape (n,)."""
    return process(table, seed).fates(stream(seed, "loss").random(n), np.arange(n, dtype=float) * every) != 0


def runs(of: Any) -> Any:
    """Return the lengths of runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], of.astype(int), [0]))))
    return edges[1::2] - edges[::2]


def near(share: float, n: int = N, k: float = 1.0) -> Any:
    return pytest.approx(share, abs=5 * math.sqrt(k * share * (1 - share) / n))


def near_mean(values: Any, mean: float) -> Any:
    return pytest.approx(mean, abs=5 * values.std() / math.sqrt(len(values)))


# --- Bernoulli


def test_bernoulli_loses_p_and_its_runs_are_geometric() -> None:
    found = lost("30 %")
    assert found.mean() == near(0.3)
    lengths = runs(found)
    assert lengths.mean() == pytest.approx(1 / 0.7, abs=5 * math.sqrt(0.3) / 0.7 / math.sqrt(len(lengths)))
    assert (lengths == 1).mean() == near(0.7, len(lengths))


# --- Gilbert-Elliott per packet

CHAINS = [
    {"p": 0.05, "r": 0.4, "h": 0.2, "k": 0.99},
    {"p": 0.02, "r": 0.25},
    {"p": 0.9, "r": 0.8, "h": 0.3, "k": 0.9},
    {"p": 0.1, "r": 1.0},
]


def law(p: float, r: float, h: float = 0.0, k: float = 1.0) -> tuple[float, float, float]:
    """Return loss, mean run of losses, and K of a Gilbert-Elliott chain."""
    bad, lost_good, lost_bad, rho = p / (p + r), 1 - k, 1 - h, 1 - p - r
    loss = bad * lost_bad + (1 - bad) * lost_good
    both = (1 - bad) * lost_good * ((1 - p) * lost_good + p * lost_bad) + bad * lost_bad * (
        (1 - r) * lost_bad + r * lost_good
    )
    k_factor = 1 + 2 * bad * (1 - bad) * (lost_bad - lost_good) ** 2 * rho / ((1 - rho) * loss * (1 - loss))
    return loss, loss / (loss - both), k_factor


@pytest.mark.parametrize("chain", CHAINS)
def test_gilbert_elliott_loses_what_its_stationary_state_says(chain: dict[str, float]) -> None:
    loss, run, k = law(**chain)
    found = lost({"kind": "gilbert-packets", **chain})
    assert found.mean() == near(loss, k=k)
    lengths = runs(found)
    assert lengths.mean() == near_mean(lengths, run)


def test_the_numbers_of_a_known_chain() -> None:
    loss, run, _ = law(**CHAINS[0])
    assert (loss, run) == (pytest.approx(0.09778, abs=5e-6), pytest.approx(1.800, abs=5e-4))


def test_a_simple_gilbert_chain_has_geometric_bursts_and_gaps() -> None:
    found = lost({"kind": "gilbert-packets", "p": 0.02, "r": 0.25})
    bursts, gaps = runs(found), runs(~found)
    assert bursts.mean() == near_mean(bursts, 4)
    assert gaps.mean() == near_mean(gaps, 50)
    assert (bursts == 1).mean() == near(0.25, len(bursts))


def test_the_spread_of_the_loss_is_that_of_k() -> None:
    """The factor that all tolerances here rest on, itself: variance of the mean of 500 packets."""
    chain = {"p": 0.02, "r": 0.25}
    loss, _, k = law(**chain)
    means = lost({"kind": "gilbert-packets", **chain}, 500 * 2000).reshape(2000, 500).mean(axis=1)
    assert means.var() == pytest.approx(k * loss * (1 - loss) / 500, rel=5 * math.sqrt(2 / 2000))


def test_gilbert_elliott_from_loss_and_burst_length() -> None:
    design = GilbertPackets(loss="10 %", burst=4)
    assert design.rates == (pytest.approx(0.1 * 0.25 / 0.9), 0.25)
    found = lost(design)
    assert found.mean() == near(0.1, k=law(*design.rates)[2])
    lengths = runs(found)
    assert lengths.mean() == near_mean(lengths, 4)


def test_an_impossible_burst_length_says_which_is_possible() -> None:
    """Losing 80 % means at least 4 in a row on average."""
    with pytest.raises(ValidationError, match=r"burst=2 is impossible .* at least 4 in a row .* write burst = 4 or"):
        ANY.validate_python({"kind": "gilbert-packets", "loss": "80 %", "burst": 2})
    assert GilbertPackets(loss="80 %", burst=4).rates[0] <= 1


# --- Gilbert-Elliott in time


@pytest.mark.parametrize("every", [0.02, 0.3, 5.0])
def test_in_time_the_loss_does_not_depend_on_the_packet_rate(every: float) -> None:
    table = {"kind": "gilbert-elliott", "good": "2 s", "bad": "500 ms", "loss_good": "2 %", "loss_bad": "90 %"}
    loss = 0.2 * 0.9 + 0.8 * 0.02
    rho = math.exp(-every * 2.5)
    k = 1 + 2 * 0.16 * 0.88**2 * rho / ((1 - rho) * loss * (1 - loss))
    assert lost(table, every=every).mean() == near(loss, k=k)


@pytest.mark.parametrize("distance", [0.1, 0.4, 1.0])
def test_in_time_states_are_correlated_by_their_distance(distance: float) -> None:
    """Frames d apart: exp(-d (1 / good + 1 / bad)); what comes 20 s later is another world."""
    pairs = np.arange(0.0, 800_000.0, 20.0)
    times = np.column_stack((pairs, pairs + distance)).ravel()
    table = {"kind": "gilbert-elliott", "good": "2 s", "bad": "500 ms"}
    found = (process(table).fates(np.zeros(len(times)), times) != 0).reshape(-1, 2)
    assert np.corrcoef(found.T)[0, 1] == pytest.approx(math.exp(-distance * 2.5), abs=5 / math.sqrt(len(pairs)))


# --- Four states

STATES = [
    {"p13": 0.03, "p31": 0.4, "p32": 0.3, "p23": 0.5, "p14": 0.01},
    {"p13": 0.05, "p31": 0.25},
    {"p13": 0.0, "p31": 1.0, "p14": 0.2},
]


@pytest.mark.parametrize("chain", STATES)
def test_four_states_lose_what_their_closed_form_says(chain: dict[str, float]) -> None:
    full = {"p32": 0.0, "p23": 1.0, "p14": 0.0, **chain}
    gap = 1 / (1 + full["p14"] + full["p13"] / full["p31"] * (1 + full["p32"] / full["p23"]))
    found = process({"kind": "four-state", **chain}).fates(np.zeros(N), np.zeros(N))
    in_burst, alone = found == CAUSES.index("burst"), found == CAUSES.index("loss")
    # Tolerance from the spread between 200 batches, which knows about bursts.
    for what, share in ((in_burst, gap * full["p13"] / full["p31"]), (alone, gap * full["p14"])):
        assert what.mean() == pytest.approx(share, abs=5 * what.reshape(200, -1).mean(axis=1).std() / math.sqrt(200))
    assert (runs(alone) == 1).all()


def test_four_states_without_the_middle_ones_are_a_simple_gilbert_chain() -> None:
    bursts = runs(lost({"kind": "four-state", "p13": 0.05, "p31": 0.25}))
    assert bursts.mean() == near_mean(bursts, 4)


# --- Bursts as in ns-3


def test_burst_error_loses_what_its_sum_says() -> None:
    """Lost is what lies fewer than B packets after the latest beginning: 0.1189 for e = 5 %, B = 1 .. 4."""
    e = 0.05
    share = sum(e * (1 - e) ** k * (4 - k) / 4 for k in range(4))
    assert share == pytest.approx(0.1189, abs=5e-5)
    found = lost({"kind": "burst-error", "rate": "5 %"})
    assert found.mean() == pytest.approx(share, abs=5 * found.reshape(200, -1).mean(axis=1).std() / math.sqrt(200))


def test_a_burst_that_begins_within_another_takes_its_place() -> None:
    """Were bursts to last till their end, one of exactly 3 would lose 1 - (1 - e)^3; and so it does."""
    found = lost({"kind": "burst-error", "rate": "20 %", "least": 3, "most": 3})
    assert found.mean() == pytest.approx(1 - 0.8**3, abs=5 * math.sqrt(3 * 0.25 / N))
    assert runs(found)[1:-1].min() == 3


# --- Against ns-3 3.37: a ring of 8 devices, 2000 broadcasts each of 1000 bytes, 1 Mbit/s, 10 ms


@pytest.mark.parametrize(
    ("table", "received", "k"),
    [
        ({"kind": "bernoulli", "p": 0.1}, 28842, 1.0),
        ({"kind": "burst-error", "rate": 0.05}, 28316, 2.5),
        ({"kind": "gilbert-packets", "p": 0.05, "r": 0.4}, 28425, law(0.05, 0.4)[2]),
        ({"kind": "gilbert-packets", "p": 0.05, "r": 0.4, "h": 0.2, "k": 0.99}, 28859, law(0.05, 0.4, 0.2, 0.99)[2]),
    ],
)
def test_a_ring_loses_what_it_loses_in_ns3(table: Any, received: int, k: float) -> None:
    """Both are samples of 32,000 packets, so their difference has twice the variance of one."""
    settings = LinkSettings.model_validate({"loss": table, "rate": "1 Mbit/s", "latency": "10 ms"})
    verdicts = []
    for src in range(8):
        for dst in ((src - 1) % 8, (src + 1) % 8):
            made = Link(src, dst, settings, 1)
            verdicts += [made.judge(1000, 0.1 * i) for i in range(2000)]
    arrived = [i for i, verdict in enumerate(verdicts) if not verdict.cause]
    loss = 1 - received / 32_000
    assert 1 - len(arrived) / 32_000 == near(loss, 32_000, 2 * k)
    delays = [verdicts[i].arrival - 0.1 * (i % 2000) for i in arrived]
    assert delays == pytest.approx([0.018] * len(delays))


# --- What every loss must keep to

EVERY: list[Any] = [
    "30 %",
    {"kind": "gilbert-elliott", "good": "2 s", "bad": "500 ms", "loss_good": "10 %", "loss_bad": "60 %"},
    {"kind": "gilbert-packets", "p": 0.1, "r": 0.3, "h": 0.2, "k": 0.9},
    {"kind": "four-state", **STATES[0]},
    {"kind": "burst-error", "rate": "10 %", "least": 2, "most": 7},
]


@given(
    table=st.sampled_from(EVERY),
    steps=st.lists(st.tuples(st.integers(1, 90), st.floats(0, 1)), min_size=1, max_size=12),
)
def test_however_packets_are_asked_for_their_fates_are_the_same(table: Any, steps: list[tuple[int, float]]) -> None:
    """One by one, in trains, and after looking farther ahead than was sent."""
    n = sum(size for size, _ in steps)
    uniforms, times = stream(1, "loss").random(n + 90), np.arange(n + 90.0) * 0.11
    together = [CAUSES[code] for code in process(table).fates(uniforms[:n], times[:n])]
    made = process(table)
    found: list[Any] = []
    for looked, share in steps:
        at = len(found)
        sent = max(1, round(share * looked))
        if sent == 1:
            found.append(made.fate(float(uniforms[at]), float(times[at])))
        else:
            codes = made.fates(uniforms[at : at + looked], times[at : at + looked])
            made.passed(sent)
            found += [CAUSES[code] for code in codes[:sent]]
    assert found == together[: len(found)]


@pytest.mark.parametrize("table", EVERY[:2])
def test_odds_say_what_the_fates_do(table: Any) -> None:
    """While odds hold, each packet is lost exactly if its uniform lies below their probability."""
    uniforms, times = stream(1, "loss").random(3000), np.arange(3000.0) * 0.11
    fates = process(table).fates(uniforms, times)
    made = process(table)
    for uniform, at, fate in zip(uniforms.tolist(), times.tolist(), fates.tolist(), strict=True):
        odds, until = made.at(at)
        assert odds is not None
        assert until > at
        assert CAUSES[fate] == (odds.cause if uniform < odds.p else "")


@pytest.mark.parametrize("table", EVERY[2:])
def test_losses_per_packet_have_no_odds(table: Any) -> None:
    assert process(table).at(0.0).value is None


@pytest.mark.parametrize("table", EVERY[1:])
def test_links_and_seeds_have_bursts_of_their_own(table: Any) -> None:
    def fates(seed: int, src: int, dst: int) -> Any:
        return process(table, seed, src, dst).fates(np.full(500, 0.5), np.arange(500.0) * 0.5).tolist()

    assert len({str(fates(*who)) for who in ((1, 0, 1), (1, 1, 0), (1, 0, 2), (2, 0, 1))}) == 4


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (1.5, "must be a probability between 0 and 1; for 1.5 percent"),
        ({"kind": "bernoulli", "p": "120 %"}, '"0 %" to "100 %"'),
        ({**BURSTY, "bad": "0 s"}, "must be above 0 s"),
        ({"kind": "gilbert-elliott", "good": "2 s"}, "bad"),
        ("bernouli", 'did you mean "bernoulli"'),
        ({"kind": "gilbert-packets"}, "needs p and r"),
        ({"kind": "gilbert-packets", "p": 0.1}, "needs p and r"),
        ({"kind": "gilbert-packets", "p": 0.1, "r": 0.2, "loss": 0.1, "burst": 2}, "needs p and r"),
        ({"kind": "gilbert-packets", "loss": 0.1, "burst": 2, "h": 0.1}, "h and k go with p and r"),
        ({"kind": "gilbert-packets", "loss": 1.0, "burst": 2}, "loss must be below 100 %"),
        ({"kind": "gilbert-packets", "loss": 0.1, "burst": 0.5}, "greater than or equal to 1"),
        ({"kind": "gilbert-packets", "p": 0, "r": 0}, "must not both be 0"),
        ({"kind": "four-state", "p13": 0.1, "p31": 0.7, "p32": 0.4}, "p31 and p32 must not exceed 100 %"),
        ({"kind": "four-state", "p13": 0.7, "p31": 0.7, "p14": 0.4}, "p13 and p14 must not exceed 100 %"),
        ({"kind": "four-state", "p13": 0.1, "p31": 0}, "p31 must be above 0"),
        ({"kind": "burst-error", "rate": 0.1, "least": 5}, "least, 5, must not be above most, 4"),
    ],
)
def test_impossible_losses_are_refused(table: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ANY.validate_python(table)


def fates(table: Any, every: float, n: int = FEWER, seed: int = 1) -> Any:
    return process(table, seed).fates(stream(seed, "loss").random(n), np.arange(n, dtype=float) * every)


def test_loss_has_a_short_form_and_can_be_none() -> None:
    assert ANY.validate_python("5 %") == ANY.validate_python({"kind": "bernoulli", "p": 0.05})
    assert ANY.validate_python("none").process(1, 0, 1) is None
    assert ANY.validate_python("0 %").process(1, 0, 1) is None


@pytest.mark.parametrize("every", [0.02, 0.1, 1.0, 7.0])
def test_bursty_loss_does_not_depend_on_how_often_one_sends(every: float) -> None:
    rho = math.exp(-every * (1 / 2 + 1 / 0.5))
    error = math.sqrt(0.2 * 0.8 * (1 + rho) / (1 - rho) / FEWER)
    assert (fates(BURSTY, every) != 0).mean() == pytest.approx(0.2, abs=5 * error)


def test_bursts_last_as_long_as_the_bad_state() -> None:
    lengths = runs(fates(BURSTY, 0.01) != 0) * 0.01
    # Seen every 10 ms a stay of mean T becomes a geometric number of packets, its mean hardly longer;
    # short good stays between two packets join a few bursts.
    assert lengths.mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(lengths)) + 0.01)


def test_losses_a_distance_apart_are_correlated_as_the_states_are() -> None:
    lost = fates(BURSTY, 0.4) != 0
    expected = math.exp(-0.4 * (1 / 2 + 1 / 0.5))
    assert np.corrcoef(lost[:-1], lost[1:])[0, 1] == pytest.approx(expected, abs=5 * 1.5 / math.sqrt(FEWER))


def test_both_states_can_lose_some_packets_and_the_cause_tells_them_apart() -> None:
    table = {**BURSTY, "loss_good": "10 %", "loss_bad": "60 %"}
    found = fates(table, 10.0)
    shares = [np.mean(found == CAUSES.index(cause)) for cause in ("loss", "burst")]
    assert shares == pytest.approx([0.8 * 0.1, 0.2 * 0.6], abs=5 * math.sqrt(0.1 / FEWER))


@pytest.mark.parametrize("table", ["30 %", BURSTY, {**BURSTY, "loss_good": "10 %", "loss_bad": "60 %"}])
def test_one_by_one_and_in_vectors_give_the_same_fates(table: Any) -> None:
    uniforms, times = stream(1, "loss").random(500), np.arange(500.0) * 0.11
    together = [CAUSES[code] for code in process(table).fates(uniforms, times)]
    alone = process(table)
    assert [alone.fate(u, at) for u, at in zip(uniforms.tolist(), times.tolist(), strict=True)] == together


def test_a_larger_probability_loses_the_same_packets_and_more() -> None:
    few, many = fates("10 %", 1.0) != 0, fates("20 %", 1.0) != 0
    assert (many >= few).all()
    assert many.sum() > few.sum()


def test_links_have_bursts_of_their_own() -> None:
    times = np.arange(500.0) * 0.5
    weather = {
        (src, dst): process(BURSTY, 1, src, dst).fates(np.zeros(500), times).tolist()
        for src, dst in ((0, 1), (1, 0), (0, 2))
    }
    assert weather[0, 1] != weather[1, 0]
    assert weather[0, 1] != weather[0, 2]


def test_packets_that_nothing_looked_at_are_passed_over_by_the_law_of_the_chain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After n steps the states are correlated by (1 - p - r)^n, and none of those in between is drawn."""
    drawn, draw, n, seeds = 0, _Chain.draw, 70_000, 3000

    def counted(chain: _Chain, count: int) -> Any:
        nonlocal drawn
        drawn += count
        return draw(chain, count)

    monkeypatch.setattr(_Chain, "draw", counted)
    pairs = []
    for seed in range(seeds):
        one = process({"kind": "gilbert-packets", "p": 1e-5, "r": 2e-5}, seed)
        first = one.fate(0.5, 0.0)
        one.skip(n - 1, 0.0)
        pairs.append((bool(first), bool(one.fate(0.5, 1.0))))
    before, after = np.array(pairs).T
    assert drawn == 2 * 64 * seeds
    assert after.mean() == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / seeds))
    assert np.corrcoef(before, after)[0, 1] == pytest.approx((1 - 3e-5) ** n, abs=4 / math.sqrt(seeds))
