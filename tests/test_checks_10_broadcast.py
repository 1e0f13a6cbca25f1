"""One transmission for many receivers: air time once, reception apart, no acknowledgment, basic rate."""

from __future__ import annotations

import math
from math import comb

import numpy as np
import pytest

from p2pl_async.testing import Cell


def sent(k: int, p: float, count: int, **medium) -> Cell:
    cell = Cell({"kind": "half-duplex", **medium}, k + 1, link={"rate": "1 Mbit/s", "loss": p, "arq": {"retries": 3}})
    for number in range(count):
        cell.offer(10.0 * number, 0, list(range(1, k + 1)), 1000)
    return cell.run()


@pytest.mark.parametrize(("k", "p"), [(4, 0.1), (10, 0.1), (8, 0.3)])
def test_receivers_lose_independently(k, p) -> None:
    """P(all) = (1 - p)^k; rounds until all have it sum_j (-1)^(j+1) C(k, j) / (1 - p^j)."""
    count = 6000
    cell = sent(k, p, count)
    heard = np.array([not outcome.verdict.cause for outcome in cell.outcomes]).reshape(count, k)
    everybody = (1 - p) ** k
    assert heard.all(axis=1).mean() == pytest.approx(everybody, abs=5 * math.sqrt(everybody * (1 - everybody) / count))

    rounds, missing, waited = [], np.ones(k, bool), 0
    for row in heard:
        waited += 1
        missing &= ~row
        if not missing.any():
            rounds.append(waited)
            missing, waited = np.ones(k, bool), 0
    expected = sum((-1) ** (j + 1) * comb(k, j) / (1 - p**j) for j in range(1, k + 1))
    assert expected == pytest.approx({(4, 0.1): 1.388, (10, 0.1): 1.758, (8, 0.3): 2.759}[k, p], abs=5e-4)
    assert np.mean(rounds) == pytest.approx(expected, abs=5 * np.std(rounds) / math.sqrt(len(rounds)))


def test_it_is_on_the_air_once_unacknowledged_and_charged_once() -> None:
    cell = sent(5, 0.2, 100)
    assert len(cell.on_air) == 100
    assert not any(outcome.verdict.acknowledged for outcome in cell.outcomes)
    assert sum(outcome.verdict.packets for outcome in cell.outcomes) == 100
    assert sum(outcome.verdict.air_seconds for outcome in cell.outcomes) == pytest.approx(100 * 8e-3)


def test_it_goes_at_the_basic_rate() -> None:
    cell = sent(5, 0.0, 1, broadcast_rate="100 kbit/s")
    cell.offer(20.0, 0, [1], 1000)
    cell.run()
    assert [end - start for start, end, _ in cell.on_air] == pytest.approx([80e-3, 8e-3])


def test_one_by_one_each_copy_is_acknowledged_and_repeated() -> None:
    cell = sent(3, 0.3, 1000, broadcast="one-by-one", broadcast_rate="1 kbit/s")
    assert [outcome.dst for outcome in cell.outcomes[:3]] == [1, 2, 3]
    delivered = np.mean([not outcome.verdict.cause for outcome in cell.outcomes])
    assert delivered == pytest.approx(1 - 0.3**4, abs=5 * math.sqrt(0.0081 / 3000))
    packets = [outcome.verdict.packets for outcome in cell.outcomes]
    assert np.mean(packets) == pytest.approx((1 - 0.3**4) / 0.7, abs=0.1)
    assert len(cell.on_air) == sum(packets)
