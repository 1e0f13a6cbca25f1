"""Fading: the law of the power, for each kind, and what a receiver with a threshold loses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from p2pl_async.radio import Motion, Propagation, RadioSettings, Track
from p2pl_async.radio.settings import Nakagami, Rayleigh, Rician
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing import Cell
from p2pl_async.testing.chatter import Chatter

LAWS: list[tuple[dict[str, Any], Any]] = [
    ({"kind": "rayleigh"}, stats.expon()),
    ({"kind": "nakagami", "m": 0.5}, stats.gamma(0.5, scale=2.0)),
    ({"kind": "nakagami", "m": 3.0}, stats.gamma(3.0, scale=1 / 3)),
    ({"kind": "rician", "k": "0 dB"}, stats.ncx2(2, 2.0, scale=1 / 4)),
    ({"kind": "rician", "k": "10 dB"}, stats.ncx2(2, 20.0, scale=1 / 22)),
]
NAMES = [" ".join(map(str, table.values())) for table, _ in LAWS]


def world(fading: dict[str, Any], n: int = 2, **more: Any) -> Propagation:
    """Return radios in a row, 50 m from the first; received at -90.9 dBm without fading."""
    tracks = [Track.still((0.0, 0.0)), *(Track.still((50.0, 1e-3 * k)) for k in range(n - 1))]
    return Propagation(RadioSettings.model_validate({"shadowing": "none", "fading": fading, **more}), Motion(tracks), 3)


@pytest.mark.parametrize(("table", "law"), LAWS, ids=NAMES)
def test_powers_follow_their_law(table: dict[str, Any], law: Any) -> None:
    waves = world(table, 3001)
    gains = 10 ** ((waves.powers(0, 1.0)[1:] - waves.mean_powers(0, 1.0)[1:]) / 10)
    assert float(stats.kstest(gains, law.cdf).statistic) * math.sqrt(3000) < 1.63
    one = [10 ** (waves.fade(0, 1, float(t)) / 10) for t in range(800)]  # by another way, in another block each
    assert float(stats.kstest(one, law.cdf).statistic) * math.sqrt(800) < 1.63


@pytest.mark.parametrize(("table", "law"), LAWS, ids=NAMES)
def test_a_threshold_loses_what_the_law_has_below_it(table: dict[str, Any], law: Any) -> None:
    waves = world(table, phy={"kind": "threshold", "snr": "0 dB"})
    for margin in (0.0, 5.0):
        assert waves.mean_error(margin, 100) == pytest.approx(float(law.cdf(10 ** (-margin / 10))), abs=0.004)


def test_all_ways_to_ask_give_one_answer_and_both_directions_fade_alike() -> None:
    waves = world({"kind": "rician", "coherence": "100 ms"})
    times = np.array([0.05, 0.09, 0.13])
    along = waves.pair_snrs(0, 1, times)
    assert along == pytest.approx([waves.snr(0, 1, float(t)) for t in times])
    assert along == pytest.approx([waves.snrs(0, float(t))[1] for t in times])
    assert waves.fade(0, 1, 0.05) == waves.fade(1, 0, 0.09) != waves.fade(0, 1, 0.13)


def test_the_kinds_meet_where_they_should() -> None:
    """m = 1, and a line of sight of next to nothing, are Rayleigh fading."""
    uniforms = np.linspace(0.01, 0.99, 50)
    rayleigh = Rayleigh().gains(1 - uniforms)
    assert Nakagami(m=1.0).gains(uniforms) == pytest.approx(rayleigh, rel=1e-9)
    assert Rician.model_validate({"k": "-20 dB"}).gains(uniforms) == pytest.approx(rayleigh, rel=0.02)
    with pytest.raises(ValidationError, match="must be -20 to 20 dB"):
        Rician.model_validate({"k": "25 dB"})


def test_channels_fade_apart_and_neighboring_ones_alike_as_far_as_said() -> None:
    """Of two channels in a coherence bandwidth, gains are the same, of others independent; the first is as without."""
    table = {"kind": "rayleigh", "coherence": "1 s"}
    waves = world({**table, "coherent_channels": 2}, 3001)

    def gains(channel: int) -> Any:
        return 10 ** ((waves.powers(0, 1.0, channel)[1:] - waves.mean_powers(0, 1.0)[1:]) / 10)

    assert np.array_equal(gains(0), gains(1))
    assert np.array_equal(waves.powers(0, 1.0), world(table, 3001).powers(0, 1.0))
    for channel in (2, 15, 1023):
        assert float(stats.kstest(gains(channel), stats.expon().cdf).statistic) * math.sqrt(3000) < 1.63
        assert abs(np.corrcoef(gains(0), gains(channel))[0, 1]) < 0.06
        found = waves.snr(7, 0, 1.0, channel) + waves.noise(0)
        assert found == pytest.approx(float(waves.powers(7, 1.0, channel)[0]), abs=1e-9)
    assert np.array_equal(gains(2), gains(3))
    assert np.array_equal(world(table).powers(0, 1.0, 5), world(table).powers(0, 1.0))


@pytest.mark.parametrize(("apart", "law"), [(1, 0.5**3), (16, 0.5)], ids=["each by itself", "all alike"])
def test_hopping_meets_a_fade_on_some_channels_only(apart: int, law: float) -> None:
    """Three tries of TSCH are on three channels: all are lost as p^3 if they fade apart, and as p if alike."""
    margin = -10 * math.log10(-math.log1p(-0.5))  # dB, at which half of the frames are below the threshold
    fading = {"kind": "rayleigh", "coherence": "30 s", "coherent_channels": apart}
    waves = world(fading, phy={"kind": "threshold", "snr": "0 dB"})
    phy = {"kind": "threshold", "snr": f"{waves.mean_snr(0, 1, 0.0) - margin} dB"}
    link = {"rate": "250 kbit/s", "arq": {"retries": 2}}
    cell = Cell({"kind": "tsch"}, 2, link=link, propagation=world(fading, phy=phy))
    for k in range(1000):
        cell.offer(60.0 * k + 1, 0, [1], 50)
    lost = 1 - cell.run().share()
    assert abs(lost - law) < 4 * math.sqrt(law * (1 - law) / 1000)


def test_channels_that_fade_apart_need_channels() -> None:
    table: dict[str, Any] = {
        "devices": {"count": 4}, "topology": "grid", "link": {"rate": "250 kbit/s"}, "protocol": Chatter(),
        "radio": {"area": "20 m", "fading": {"kind": "rayleigh", "coherent_channels": 1}}, "stop": {"rounds": 1},
    }  # fmt: skip
    with pytest.raises(ValidationError, match=r"coherent_channels\n.*as the medium has one channel"):
        Scenario.model_validate({**table, "medium": "csma-ca"})
    Scenario.model_validate({**table, "medium": {"kind": "csma-ca", "channels": 2}})
    air = {"far": {"radio": {"fading": {"kind": "rayleigh", "coherent_channels": 1}}}}
    devices = {"count": 4, "group": {"far": {"ids": 0, "airs": ["far"]}}}
    with pytest.raises(ValidationError, match=r"air\.far\.radio\.fading\.coherent_channels"):
        Scenario.model_validate({**table, "medium": {"kind": "csma-ca", "channels": 2}, "air": air, "devices": devices})
