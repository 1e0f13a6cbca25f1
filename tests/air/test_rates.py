"""Rate adaptation: each neighbor's modulation and coding, by SNR or by what was acknowledged."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers.powers import FixedPowers

from p2pl_async.air.airtime import Ofdm
from p2pl_async.air.rates import Rates
from p2pl_async.air.settings import HalfDuplex
from p2pl_async.errors import ScenarioError
from p2pl_async.radio.phy import Lora, Nr, Phy, Wifi
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing import Cell

WIFI = {"kind": "half-duplex", "airtime": "ofdm", "rates": "ideal"}


def rates_of(snrs: list[float], medium: dict[str, Any], phy: Phy, targets: list[int] | None = None) -> list[float]:
    """Return the rates, in bit/s, of one message to each neighbor, which hears device 0 at these SNRs; or to all."""
    table = np.full((len(snrs) + 1, len(snrs) + 1), -60.0)
    table[0, 1:] = np.array(snrs) - 101
    cell = Cell(medium, len(snrs) + 1, propagation=FixedPowers(table, phy=phy))
    if targets is None:
        for k in range(len(snrs)):
            cell.offer(10.0 * k, 0, [k + 1], 1458)
    else:
        cell.offer(0.0, 0, targets, 1458)
    return [out.verdict.signal.rate for out in cell.run().outcomes if out.verdict.signal is not None]


def test_the_ideal_rate_is_the_fastest_that_loses_few_enough() -> None:
    """At 1458 B half of the frames are lost at S50; 10 % are lost w ln 9 above it."""
    middle, width = (0.31, 3.31, 8.93, 18.80), (0.26, 0.27, 0.325, 0.363)
    snrs = [half + w * math.log(9) + gap for half, w in zip(middle, width, strict=True) for gap in (-0.01, 0.01)]
    expected = [6.5e6, 6.5e6, 6.5e6, 13e6, 19.5e6, 26e6, 58.5e6, 65e6]
    assert rates_of(snrs, WIFI, Wifi()) == expected


def test_a_margin_is_kept_in_reserve() -> None:
    held_back = {**WIFI, "rates": {"kind": "ideal", "margin": "10 dB"}}
    assert rates_of([25.0, 15.0], {**held_back}, Wifi()) == rates_of([15.0, 5.0], WIFI, Wifi())


def test_a_broadcast_goes_as_the_slowest_neighbor_needs_it_or_at_the_stated_rate() -> None:
    snrs = [30.0, 4.0, 15.0]
    assert rates_of(snrs, WIFI, Wifi(), [1, 2, 3]) == [13e6] * 3
    assert rates_of(snrs, WIFI, Wifi(), [1, 3]) == [39e6] * 2
    assert rates_of(snrs, {**WIFI, "broadcast_rate": "6 Mbit/s"}, Wifi(), [1, 3]) == [6e6] * 2


def test_a_frame_takes_the_time_and_the_errors_of_its_rate() -> None:
    """At 16.3 dB MCS 5 loses half of its frames and MCS 4 none; a stated loss of 60 % allows MCS 5."""
    for most_loss, rate, lost in (("60 %", 52e6, 1 / (1 + math.exp(0.08 / 0.373))), ("10 %", 39e6, 0.0)):
        medium = {**WIFI, "rates": {"kind": "ideal", "most_loss": most_loss}}
        cell = Cell(medium, 2, propagation=FixedPowers(np.full((2, 2), 16.3 - 101), phy=Wifi()))
        for k in range(2000):
            cell.offer(float(k), 0, [1], 1458)
        cell.run()
        assert cell.share("noise") == pytest.approx(lost, abs=5 * math.sqrt(0.25 / 2000))
        assert cell.on_air[0][1] == pytest.approx(36e-6 + 4e-6 * math.ceil((22 + 8 * 1458) / (4e-6 * rate)))


def test_lora_chooses_its_spreading_factor_and_pays_for_it() -> None:
    """Noise is -117 dBm: SF7 needs -124, SF9 -130, SF12 -137 dBm, for 1 % of loss; 20 B take 56.6 ms and 1319 ms."""
    medium = {"kind": "half-duplex", "airtime": "lora", "rates": {"kind": "ideal", "most_loss": "1.1 %"}}
    for power, sf, seconds in ((-123.9, 7, 56.58e-3), (-129.9, 9, 185.3e-3), (-136.9, 12, 1318.9e-3)):
        cell = Cell(medium, 2, propagation=FixedPowers(np.full((2, 2), power), noise=-117.0, phy=Lora()))
        cell.offer(0.0, 0, [1], 20)
        (outcome,) = cell.run().outcomes
        assert outcome.verdict.signal is not None
        assert outcome.verdict.signal.phy.sf == sf
        assert outcome.verdict.air_seconds == pytest.approx(seconds, abs=1e-4)


def test_nr_follows_the_attenuated_bound_of_shannon() -> None:
    """MCS 4 carries 2 x 308 / 1024 bit/s in a hertz; half of its frames are lost where 0.75 log2(1 + SNR) is that."""
    for mcs, efficiency in ((0, 0.2344), (4, 0.6016), (16, 2.5703), (28, 5.5547)):
        phy = Nr(mcs=mcs)
        assert phy.bit_rate == pytest.approx(0.86 * 20e6 * efficiency, rel=1e-3)
        half = 10 * math.log10(2 ** (efficiency / 0.75) - 1)
        assert phy.error([half - 4, half, half + 4], 100) == pytest.approx([1, 0.5, 0], abs=2e-3)
    modes = Nr().modes
    assert [mode.bit_rate for mode in modes] == sorted(mode.bit_rate for mode in modes)


MINSTREL = {**WIFI, "rates": "minstrel", "ack": {"size": "14 B", "airtime": "44 us", "delay": "16 us"}}
ARQ: dict[str, Any] = {"arq": {"retries": 7}}


def minstrel(snr: float, count: int = 3000, **link: Any) -> Cell:
    cell = Cell(MINSTREL, 2, link=link, propagation=FixedPowers(np.full((2, 2), snr - 101), phy=Wifi()), seed=3)
    for k in range(count):
        cell.offer(k * 5e-3, 0, [1], 1458)
    return cell.run()


@pytest.mark.parametrize(("snr", "rate"), [(1.5, 6.5e6), (10.0, 26e6), (40.0, 65e6)])
def test_minstrel_finds_the_rate_that_carries_most(snr: float, rate: float) -> None:
    late = minstrel(snr, **ARQ).outcomes[1000:]
    shares = np.mean([out.verdict.signal is not None and out.verdict.signal.rate == rate for out in late])
    assert shares > 0.85  # a tenth of the frames samples one of eight rates
    assert all(not out.verdict.cause for out in late)


def test_minstrel_without_acknowledgments_keeps_to_the_slowest_rate() -> None:
    assert {out.verdict.signal and out.verdict.signal.rate for out in minstrel(40.0, 300).outcomes} == {6.5e6}


def test_minstrel_carries_almost_as_much_as_knowing_the_snr() -> None:
    """Sampling costs nothing at the fastest rate; below it, half a tenth of the frames tries a faster one in vain."""
    seconds = [Ofdm().seconds(1458, mode.bit_rate) for mode in Wifi().modes]
    for snr, best, least, most in ((40.0, 7, 1.0, 1.0), (10.0, 3, 1.03, 1.2)):
        used = minstrel(snr, **ARQ).outcomes[1000:]
        mean = float(np.mean([out.verdict.air_seconds for out in used])) / seconds[best]
        assert least - 1e-9 <= mean <= most + 1e-9


def test_minstrel_samples_a_slower_rate_only_after_the_best_has_failed() -> None:
    """A first try is at the best rate or a faster one; a slower one is tried second, in place of the next best."""
    medium = HalfDuplex.model_validate(MINSTREL)
    rates = Rates(medium, FixedPowers(np.zeros((2, 2)), phy=Wifi()), 3)
    modes = [mode.bit_rate for mode in Wifi().modes]
    tries: list[list[int]] = [[], []]
    for k in range(4000):
        for tried in (0, 1):
            mode = rates.pick(0, [1], 1458, k * 5e-3, tried, True, None)
            assert mode.rate is not None
            place = modes.index(mode.rate)
            acknowledged = place < 3 or (place == 3 and k % 5 > 0)  # MCS 3 carries most
            rates.report(0, 1, mode, acknowledged)
            if k > 1000:
                tries[tried].append(place)
            if acknowledged:
                break
    assert set(tries[0]) == {3, 4, 5, 6, 7}
    assert 0.93 < tries[0].count(3) / len(tries[0]) < 0.97  # half of the samples are of faster ones
    assert set(tries[1]) == {0, 1, 2, 3}
    assert tries[1].count(2) > 0.8 * len(tries[1]) - tries[1].count(3)  # the next best, if nothing is sampled


LEAST = {"devices": {"count": 2}, "protocol": {"kind": "p2pl"}, "stop": {"rounds": 1}, "topology": "grid"}


@pytest.mark.parametrize(("tables", "text"), [
    ({}, "medium.rates.*needs received powers"),
    ({"radio": {"area": "10 m"}}, 'medium.rates.*"802.15.4" has one'),
    ({"radio": {"area": "10 m", "phy": "lora"}}, "medium.airtime.*must be of the kind"),
    ({"radio": {"area": "10 m", "phy": "wifi"}, "link": {"rate": "6 Mbit/s"}}, "link.rate.*is chosen by"),
])  # fmt: skip
def test_rates_that_cannot_adapt_are_refused(tables: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){text}") as error:
        Scenario.model_validate({**LEAST, "medium": WIFI, **tables})
    assert not isinstance(error.value, ScenarioError)
