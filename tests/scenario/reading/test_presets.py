"""Radios by name: what one hop over each of them takes, without loss, against the arithmetic of its standard."""

from __future__ import annotations

import pytest

from p2pl_async import load_scenario
from p2pl_async.air import LoRa, Ofdm, Serial
from p2pl_async.experiment.probing import Probed, probe_link, probe_world
from p2pl_async.scenario.reading.presets import LINK_PRESETS
from p2pl_async.testing import Cell

SCENARIO = """
[devices]
count = 3
[topology]
kind = "complete"
[link]
preset = "{preset}"
loss = "none"
outage = "none"
[protocol]
kind = "p2pl"
[stop]
rounds = 1
"""


def probe(folder, preset: str, size: int, count: int) -> Probed:
    path = folder / "s.toml"
    path.write_text(SCENARIO.format(preset=preset))
    return probe_link(probe_world(load_scenario(path)), 0, 1, size=size, count=count)


@pytest.mark.parametrize(("sf", "size", "seconds"), [
    (7, 20, 56.58e-3), (12, 20, 1.3189), (7, 235, 0.3689), (12, 64, 2.7935)
])  # fmt: skip
def test_the_air_time_of_lora(sf, size, seconds) -> None:
    assert LoRa(sf=sf).seconds(size, None) == pytest.approx(seconds, rel=1e-4)


def test_the_air_time_of_802154_and_of_ofdm() -> None:
    assert Serial().seconds(6 + 25 + 102, 250e3) == pytest.approx(133 * 32e-6)
    assert Ofdm().seconds(1536, 26e6) == pytest.approx(36e-6 + 119 * 4e-6)  # 104 bits per symbol
    assert Ofdm().seconds(1536, 65e6) == pytest.approx(36e-6 + 48 * 4e-6)


@pytest.mark.parametrize(("preset", "goodput", "tolerance", "size"), [
    ("wifi_n_adhoc", 18.2e6, 0.02, 500_000),
    ("ble5_2m", 1.40e6, 0.03, 200_000),
    ("ble_connections", 1.37e6, 0.03, 200_000),
    ("zigbee_154", 119e3, 0.02, 50_000),
    ("lte_m", 375e3, 0.03, 1_000_000),
    ("nb_iot", 26e3, 0.03, 1_000_000),
    ("nr_sidelink", 10e6, 0.03, 1_000_000),
    ("lossy_mesh", 119e3, 0.02, 50_000),
])  # fmt: skip
def test_the_goodput_of_a_hop_without_loss(tmp_path, preset, goodput, tolerance, size) -> None:
    found = probe(tmp_path, preset, size, 3)
    assert found.loss == 0
    assert found.goodput == pytest.approx(goodput, rel=tolerance)


@pytest.mark.parametrize(("preset", "payload", "goodput"), [("lora_sf7", 222, 4.81e3), ("lora_sf12", 51, 146)])
def test_lora_sends_fast_and_then_keeps_silent(tmp_path, preset, payload, goodput) -> None:
    """Full speed within the hour's budget; 1 % of it in the long run."""
    burst = probe(tmp_path, preset, 9 * payload, 1)
    assert 8 * burst.size / burst.seconds == pytest.approx(goodput, rel=0.03)
    # Fewer and longer ones, up to the budget of an hour: the sender looks at its radio once in a part of a message.
    long = probe(tmp_path, preset, *((36 * payload, 15) if preset == "lora_sf7" else (9 * payload, 12)))
    assert long.goodput == pytest.approx(goodput / 100, rel=0.2)  # the first hour's budget is spent at once
    assert long.air_seconds / long.seconds < 0.0125


@pytest.mark.parametrize(("preset", "goodput"), [("wifi_n_adhoc", 5.5e6), ("zigbee_154", 129e3)])
def test_a_broadcast_goes_at_the_basic_rate_without_acknowledgment(tmp_path, preset, goodput) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO.format(preset=preset))
    scenario = load_scenario(path)
    link = {**scenario.link.model_dump(mode="json", exclude={"override"}, exclude_none=True), "latency": "0 s"}
    cell = Cell(scenario.medium.model_dump(mode="json", exclude_none=True), 3, link=link)
    cell.offer(0.0, 0, [1, 2], 200_000)
    cell.run()
    assert [outcome.verdict.cause for outcome in cell.outcomes] == ["", ""]
    assert 8 * 200_000 / cell.outcomes[0].verdict.arrival == pytest.approx(goodput, rel=0.02)


def test_every_preset_is_described_with_its_source() -> None:
    assert set(LINK_PRESETS) == {
        "wifi_n_adhoc", "ble5_2m", "ble_connections", "ble_advertising", "zigbee_154",
        "lora_sf7", "lora_sf12", "lte_m", "nb_iot", "nr_sidelink", "lossy_mesh",
    }  # fmt: skip
    for preset in LINK_PRESETS.values():
        assert preset.line.endswith(".")
        assert len(preset.line) <= 90
        assert len(preset.source) > 20
