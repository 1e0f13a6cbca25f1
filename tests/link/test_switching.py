"""Two states that alternate in virtual time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async.basics.randomness import stream
from p2pl_async.link.switching import Memoryless, geometric_scale


def markov(first: float = 2.0, second: float = 0.5, seed: int = 1) -> Memoryless:
    return Memoryless(stream(seed, "test"), (first, second), second / (first + second))


def slots(p: float, slot: float = 0.25, seed: int = 1) -> Memoryless:
    return Memoryless(stream(seed, "test"), (geometric_scale(p), geometric_scale(1 - p)), p, slot)


def test_share_of_time_in_each_state_is_that_of_the_mean_stays() -> None:
    times = np.arange(0.0, 100_000.0, 0.5)
    states = markov().states(times)
    # Samples 0.5 s apart have correlation exp(-0.5 (1/2 + 1/0.5)) = 0.287.
    rho = math.exp(-0.5 * 2.5)
    error = math.sqrt(0.2 * 0.8 * (1 + rho) / (1 - rho) / len(times))
    assert states.mean() == pytest.approx(0.2, abs=5 * error)


@pytest.mark.parametrize("distance", [0.1, 0.4, 1.0])
def test_correlation_of_states_decays_with_the_sum_of_both_rates(distance: float) -> None:
    pairs = np.arange(0.0, 400_000.0, 20.0)  # 20 s apart: independent
    states = markov().states(np.column_stack((pairs, pairs + distance)).ravel()).reshape(-1, 2)
    expected = math.exp(-distance * (1 / 2 + 1 / 0.5))
    assert np.corrcoef(states[:, 0], states[:, 1])[0, 1] == pytest.approx(expected, abs=5 / math.sqrt(len(pairs)))


def test_the_start_is_stationary() -> None:
    down = np.mean([markov(seed=seed).at(0.0).value for seed in range(2000)])
    assert down == pytest.approx(0.2, abs=5 * math.sqrt(0.2 * 0.8 / 2000))


def test_residual_wait_for_the_other_state_is_that_of_a_random_arrival() -> None:
    """Availability A, mean stay down D: somebody who comes at any moment waits (1 - A) D."""
    weather = markov()
    arrivals = np.arange(0.0, 200_000.0, 20.0).tolist()
    waits = [weather.at(at).until - at if weather.at(at).value else 0.0 for at in arrivals]
    second_moment = 0.2 * 2 * 0.5**2
    assert np.mean(waits) == pytest.approx(0.2 * 0.5, abs=5 * math.sqrt(second_moment / len(waits)))


def test_mean_stays_are_those_asked_for() -> None:
    weather, ends, states = markov(), [], []
    now = 0.0
    for _ in range(4000):
        state, now = weather.at(now)
        states.append(state)
        ends.append(now)
    stays = np.diff(ends)
    for state, mean in ((0, 2.0), (1, 0.5)):
        own = stays[np.array(states[1:]) == state]
        assert own.mean() == pytest.approx(mean, abs=5 * mean / math.sqrt(len(own)))


def test_slots_are_independent_coins_on_a_common_raster() -> None:
    states = slots(0.3).states(np.arange(40_000.0) * 0.25 + 0.1)
    assert states.mean() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / len(states)))
    assert np.corrcoef(states[:-1], states[1:])[0, 1] == pytest.approx(0, abs=5 / math.sqrt(len(states)))
    early, late = np.arange(1000.0) * 0.25, np.nextafter(np.arange(1.0, 1001.0) * 0.25, 0)
    assert (slots(0.3).states(early) == slots(0.3).states(late)).all()


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_slots_that_never_change(p: float) -> None:
    timeline = slots(p)
    assert [timeline.at(now).value for now in (0.0, 1.0, 1e9)] == [p] * 3
    assert (timeline.states(np.array([1e9, 2e9])) == bool(p)).all()


@given(
    seed=st.integers(0, 50),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    vector=st.lists(st.integers(1, 6), min_size=1),
    slotted=st.booleans(),
)
def test_one_by_one_and_in_vectors_give_the_same_states(
    seed: int, gaps: list[float], vector: list[int], slotted: bool
) -> None:
    def make() -> Memoryless:
        return slots(0.4, seed=seed) if slotted else markov(1.0, 0.7, seed)

    times = np.cumsum(gaps)
    one_by_one = make()
    scalar = [one_by_one.at(now).value for now in times.tolist()]
    mixed, found, i = make(), [], 0
    for turn in range(len(times)):
        width = vector[turn % len(vector)]
        if i >= len(times):
            break
        if width == 1:
            found.append(mixed.at(float(times[i])).value)
        else:
            found.extend(mixed.states(times[i : i + width]).astype(int).tolist())
            width = len(times[i : i + width])
        i += width
    assert found == scalar
    assert make().states(times).astype(int).tolist() == scalar


@given(seed=st.integers(0, 50), starts=st.lists(st.floats(0, 30), min_size=1), length=st.floats(0, 2))
def test_an_interval_is_touched_if_any_moment_of_it_is(seed: int, starts: list[float], length: float) -> None:
    begin = np.sort(np.array(starts))
    touched = markov(1.0, 0.3, seed).touched(begin, begin + length)
    for start, found in zip(begin.tolist(), touched.tolist(), strict=True):
        alone = markov(1.0, 0.3, seed)
        assert found == (alone.at(start).value == 1 or alone.at(start).until < start + length)


def test_memory_stays_bounded_over_a_million_switches() -> None:
    weather = markov()
    for now in np.linspace(0, 1e6, 200).tolist():
        weather.at(now)
    assert len(weather._switches) <= 1024
    for start in np.linspace(1e6, 2e6, 50).tolist():
        weather.states(np.linspace(start, start + 10, 20))
    assert len(weather._switches) <= 1024


@pytest.mark.parametrize("slot", [None, 0.5])
def test_a_memoryless_process_is_the_same_whether_it_was_asked_in_between_or_not(slot, monkeypatch) -> None:
    monkeypatch.setattr("p2pl_async.link.switching._EPOCH", 8)

    def process() -> Memoryless:
        return Memoryless(stream(1, "epochs"), (3.0, 2.0), 0.4, slot)

    asked, instants = process(), np.arange(0.0, 4000.0, 0.37)
    states = [asked.at(float(at)).value for at in instants]
    for start in (0, 300, 3000, 9000):
        fresh = process()
        assert [fresh.at(float(at)).value for at in instants[start:]] == states[start:]
        assert process().states(instants[start:]).tolist() == [bool(state) for state in states[start:]]


def test_ten_years_of_silence_cost_no_draws_and_keep_the_law() -> None:
    """Stays of 2 and 1 s on average: 300 million of them are not drawn, and a third of the time is bad."""
    year, bad = 365 * 86400.0, []
    for seed in range(3000):
        process = Memoryless(stream(seed, "silence"), (2.0, 1.0), 1 / 3)
        bad.append(process.at(10 * year).value)
        state, until = process.at(10 * year + 1)
        assert until > 10 * year + 1
        assert process.at(until).value == 1 - state
    assert np.mean(bad) == pytest.approx(1 / 3, abs=5 * math.sqrt(2 / 9 / 3000))
