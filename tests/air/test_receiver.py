"""A receiver holds one frame at a time, and what it takes to survive others: capture, LoRa's rejection."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.powers import FixedPowers, SixDecibels, TextbookOqpsk

from p2pl_async.radio.phy import Lora, Phy
from p2pl_async.testing import Cell

LORA = SixDecibels()  # the rejection of frames of one spreading factor
NOISE = TextbookOqpsk()  # other frames are noise


def heard(powers: list[float], starts: list[float], *, phy: Phy = LORA, **medium: object) -> set[int]:
    """Return which of the senders 1, 2, ... device 0 receives; frames take 1 s, at these powers in dBm."""
    table = np.full((len(powers) + 1, len(powers) + 1), -60.0)
    table[1:, 0] = powers
    waves = FixedPowers(table, noise=-117.0, phy=phy)
    cell = Cell(
        {"kind": "aloha", "collision": "sinr", **medium}, len(powers) + 1, link={"rate": "8 kbit/s"}, propagation=waves
    )
    for sender, start in enumerate(starts, 1):
        cell.offer(start, sender, [0], 1000)
    cell.run()
    return {outcome.src for outcome in cell.outcomes if not outcome.verdict.cause}


@pytest.mark.parametrize(("second", "starts", "survivors"), [
    (0.0, [0.0, 0.5], set()),  # equal frames destroy each other
    (5.9, [0.0, 0.5], set()),
    (6.0, [0.0, 0.5], {2}),  # the stronger captures the receiver, which then loses the first
    (6.0, [0.5, 0.0], {2}),
    (-6.0, [0.0, 0.5], {1}),
    (0.0, [0.0, 1.0], {1, 2}),
])  # fmt: skip
def test_lora_frames_of_one_spreading_factor_need_6_db(second, starts, survivors) -> None:
    assert heard([-80.0, -80.0 + second], starts) == survivors


@pytest.mark.parametrize("collision", ["capture", "sinr"])
def test_capture_is_against_the_sum_of_all_others(collision) -> None:
    """Two interferers of -7 dB each are -4 dB together; one after the other they are -7 dB."""
    assert heard([-70.0, -77.0], [0.0, 0.2], collision=collision) == {1}
    assert heard([-70.0, -77.0, -77.0], [0.0, 0.2, 0.4], collision=collision) == set()
    assert heard([-70.0, -77.0, -77.0], [0.5, 0.0, 1.2], collision=collision) == {1}


@pytest.mark.parametrize(("collision", "phy"), [("sinr", NOISE), ("sinr", LORA), ("capture", NOISE)])
def test_no_receiver_holds_two_frames_at_once(collision, phy) -> None:
    """At any distance in time and power, of two frames that overlap at most one is received, on every phy."""
    for apart in (0.0, 0.01, 0.5, 0.99):
        for second in np.arange(-12.0, 12.5, 1.5):
            more = {"collision": collision, "capture": "0 dB"} if collision == "capture" else {"collision": collision}
            assert len(heard([-80.0, -80.0 + second], [0.0, apart], phy=phy, **more)) <= 1


@pytest.mark.parametrize("collision", ["sinr", "capture", "overlap"])
def test_lora_cells_deliver_what_aloha_does(collision) -> None:
    """20 senders at equal power, G = 0.43: none of 19 others begins within a frame of one's own: exp(-2 G 19 / 20)."""
    n, load, airtime = 20, 0.43, 0.1
    table = np.full((n + 1, n + 1), -80.0)
    waves = FixedPowers(table, noise=-117.0, phy=LORA)
    cell = Cell(
        {"kind": "aloha", "collision": collision}, n + 1, link={"rate": "8 kbit/s"}, propagation=waves, seed=3
    )  # fmt: skip
    for sender in range(1, n + 1):
        cell.poisson(load / airtime / n, sender, [0], 100, 150)
    cell.run(150 * n * airtime / load * 0.9)
    expected = math.exp(-2 * load * (n - 1) / n)
    # Collisions come in groups: 5 standard errors, doubled.
    assert cell.share() == pytest.approx(expected, abs=10 * math.sqrt(0.25 / len(cell.outcomes)))


def test_who_transmits_when_a_frame_begins_can_hold_the_next() -> None:
    """Device 0 sends until 1 s; a frame from 0.9 s on is lost to it, and does not keep it from the one at 1.1 s."""
    table = np.full((3, 3), -60.0)
    table[1, 0], table[2, 0] = -80.0, -70.0
    waves = FixedPowers(table, noise=-117.0, phy=LORA)
    cell = Cell(
        {"kind": "aloha", "collision": "sinr", "capture": "30 dB"}, 3, link={"rate": "8 kbit/s"}, propagation=waves
    )
    cell.offer(0.0, 0, [1], 1000)
    cell.offer(0.9, 1, [0], 1000)
    cell.offer(1.1, 2, [0], 1000)
    cell.run()
    assert {outcome.src: outcome.verdict.cause for outcome in cell.outcomes if outcome.src} == {1: "half-duplex", 2: ""}


def test_a_weak_frame_for_a_receiver_is_received_among_strangers_it_does_not_notice() -> None:
    """Carrier sense at -85 dBm is no sensitivity: a frame of -90 dBm survives an interferer of -120 dBm."""
    from p2pl_async.air.hearing import PowerHearing

    table = np.full((3, 3), -90.0)
    table[2, 0] = -120.0
    waves = FixedPowers(table)
    cell = Cell(
        {"kind": "aloha", "collision": "sinr"}, 3, link={"rate": "8 kbit/s"}, propagation=waves,
        hearing=PowerHearing(waves, -85.0),
    )  # fmt: skip
    cell.offer(0.0, 1, [0], 1000)
    cell.offer(0.5, 2, [1], 1000)
    cell.run()
    assert next(outcome.verdict.cause for outcome in cell.outcomes if outcome.src == 1) == ""


class TwoFactors:
    """Devices 1 and 2 use spreading factors of their own choice: what `[medium] rates` gives LoRa devices."""

    is_constant = True
    is_selective = False
    phy = Lora()

    def __init__(self, signal: float, other: float, factors: tuple[int, int]) -> None:
        self._row = np.array([-60.0, signal, other])
        self._snrs = {k: _middle(factor) for k, factor in enumerate(factors, 1)}

    def powers(self, src: int, at: float, channel: int = 0) -> np.ndarray:
        return np.full(3, self._row[src])

    def distance(self, src: int, dst: int, at: float) -> float:
        return math.nan

    def noise(self, dst: int) -> float:
        return -150.0

    def foreseen_snr(self, src: int, dst: int, at: float, channel: int = 0) -> tuple[float, None]:
        return self._snrs[src], None


def _middle(factor: int) -> float:
    """Return an SNR at which the fastest usable spreading factor is this one."""
    return {7: -6.0, 8: -9.0, 9: -12.0, 10: -15.0, 11: -17.5, 12: -19.5}[factor]


@pytest.mark.parametrize(("mine", "others", "rejection"), [(7, 12, -20.0), (9, 8, -27.0), (12, 7, -36.0)])
@pytest.mark.parametrize("margin", [-1.0, 1.0])
def test_lora_survives_other_spreading_factors_that_are_stronger_by_the_table(mine, others, rejection, margin) -> None:
    """Source: C. Goursaud, J.-M. Gorce, 2015, table 2: rows are the frame's factor."""
    waves = TwoFactors(-100.0, -100.0 - rejection - margin, (mine, others))
    medium = {"kind": "aloha", "collision": "sinr", "airtime": "lora", "rates": "ideal"}
    cell = Cell(medium, 3, propagation=waves)
    cell.offer(0.0, 1, [0], 20)
    cell.offer(0.01, 2, [0], 20)
    outcomes = {outcome.src: outcome.verdict for outcome in cell.run().outcomes}
    assert outcomes[1].signal is not None
    assert outcomes[1].signal.phy.sf == mine
    assert outcomes[1].cause == ("" if margin > 0 else "collision")
    assert outcomes[2].cause == "collision"  # the receiver holds the first frame
