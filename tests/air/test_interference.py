"""Outside interference against closed forms: noise to receivers, and a busy channel to senders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from p2pl_async.air import AnyMedium, LoRa
from p2pl_async.air.hearing import PowerHearing
from p2pl_async.air.interferers import Bursts, Interferer, RecordedActivity
from p2pl_async.air.settings import CsmaCa
from p2pl_async.radio import Motion, Propagation, RadioSettings, Track
from p2pl_async.testing import Cell

LINK = {"rate": "250 kbit/s"}
AIRTIME = 100 * 32e-6  # of 100 bytes
NEAR, FAR = ["10 m", "1 m"], ["9 km", "0 m"]


def waves(**radio: Any) -> Propagation:
    """Two devices, 10 m apart."""
    settings = RadioSettings.model_validate({"phy": "802.15.4", "shadowing": "none", **radio})
    return Propagation(settings, Motion([Track.still((0.0, 0.0)), Track.still((10.0, 0.0))]), 1)


def interferer(activity: dict[str, Any], position: list[str] = NEAR, power: str = "20 dBm") -> dict[str, Any]:
    return {"position": position, "power": power, "activity": activity}


def cell(activity: dict[str, Any], frames: int, kind: str = "aloha", **more: Any) -> Cell:
    """Device 0 sends frames to device 1, at random instants far apart."""
    place = {key: more.pop(key) for key in ("position", "power") if key in more}
    source = interferer(activity, **place)
    if "covers" in more:
        source["channels"] = more.pop("covers")
    medium = {"kind": kind, "collision": "sinr", "interferer": [source], **more}
    propagation = waves()
    hearing = PowerHearing(propagation, medium.get("sense", -85.0)) if kind == "csma-ca" else None
    found = Cell({**medium, **({"sense": "-85 dBm"} if hearing else {})}, 2, link=LINK, hearing=hearing,
                 propagation=propagation)  # fmt: skip
    found.poisson(1.0, 0, [1], 100, frames)
    return found.run()


BURSTS = {"kind": "bursts", "on": "4 ms", "off": "16 ms"}


def test_a_frame_survives_if_no_burst_meets_it() -> None:
    """Exponential: silent at its start, and for as long as it lasts."""
    found, law = cell(BURSTS, 3000), 0.8 * math.exp(-AIRTIME / 16e-3)
    assert found.share() == pytest.approx(law, abs=5 * math.sqrt(law * (1 - law) / 3000))
    assert found.share() + found.share("interference") == 1


def test_periodic_bursts_leave_the_gaps_that_a_frame_fits_into() -> None:
    constant = {key: {"kind": "constant", "mean": value} for key, value in (("on", "4 ms"), ("off", "16 ms"))}
    found, law = cell({"kind": "bursts", **constant}, 3000), (16e-3 - AIRTIME) / 20e-3
    assert found.share() == pytest.approx(law, abs=5 * math.sqrt(law * (1 - law) / 3000))


def test_a_sender_finds_the_channel_busy_while_an_interferer_sends() -> None:
    """One look of 128 us: clear if no burst meets it."""
    found = cell(BURSTS, 3000, "csma-ca", max_backoffs=0)
    law = 1 - 0.8 * math.exp(-128e-6 / 16e-3)
    assert found.share("access") == pytest.approx(law, abs=5 * math.sqrt(law * (1 - law) / 3000))


def test_a_weak_interferer_is_noise_of_its_power(tmp_path: Path) -> None:
    path = tmp_path / "activity.csv"
    path.write_text("start,end\n0,1000000\n")
    propagation = waves()
    received = float(propagation.powers(0, 0.0)[1]) + 0.2  # a ratio at which some frames are lost
    at_receiver = float(propagation.powers_from((10.0, 1.0), 0.0, 0.0)[1])
    found = cell({"kind": "recorded", "path": str(path)}, 4000, power=f"{received - at_receiver} dBm")
    noise = 10 * math.log10(10 ** (received / 10) + 10 ** (propagation.noise(1) / 10))
    law = 1 - float(propagation.phy.error(propagation.powers(0, 0.0)[1] - noise, 100))
    assert 0.2 < law < 0.9
    assert found.share() == pytest.approx(law, abs=5 * math.sqrt(law * (1 - law) / 4000))


def test_a_recorded_activity_is_followed_to_the_instant_and_again_in_each_period(tmp_path: Path) -> None:
    path = tmp_path / "activity.csv"
    path.write_text("start,end\n1000,1010\n")
    activity = {"kind": "recorded", "path": str(path), "unit": "ms", "period": "2 s"}
    medium = {"kind": "aloha", "collision": "sinr", "interferer": [interferer(activity)]}
    found = Cell(medium, 2, link=LINK, propagation=waves())
    instants = [1.0 - 1.1 * AIRTIME, 1.0 - 0.5 * AIRTIME, 1.0099, 1.0101, 3.005, 4.5]
    for at in instants:
        found.offer(at, 0, [1], 100)
    found.run()
    assert [outcome.verdict.cause for outcome in found.outcomes] == ["", "interference", "interference", "",
                                                                     "interference", ""]  # fmt: skip


LORA = {"kind": "lora", "sf": 7}
LORA_TIME = LoRa(sf=7).seconds(20, None)


def lora_cell(activity: dict[str, Any], power: str, frames: int) -> Cell:
    """Device 0 sends frames of 20 bytes to device 1, at random instants far apart."""
    source = interferer(activity, power=power)
    medium = {"kind": "aloha", "collision": "sinr", "airtime": LORA, "interferer": [source]}
    found = Cell(medium, 2, link={"rate": "5 kbit/s"}, propagation=waves(phy=LORA, power="0 dBm"))
    found.poisson(0.5, 0, [1], 20, frames)
    return found.run()


def test_a_frame_of_lora_survives_if_no_burst_of_another_system_meets_it() -> None:
    found = lora_cell({"kind": "bursts", "on": "40 ms", "off": "160 ms"}, "60 dBm", 2000)
    law = 0.8 * math.exp(-LORA_TIME / 160e-3)
    assert found.share() == pytest.approx(law, abs=5 * math.sqrt(law * (1 - law) / 2000))
    assert found.share() + found.share("interference") == 1


@pytest.mark.parametrize("above", [-9.0, -9.8, -10.6])
def test_another_system_is_noise_to_lora_which_receives_below_it(above: float, tmp_path: Path) -> None:
    """Chirps of its own kind it must exceed by 6 dB, and noise hardly: by the ratio at which it loses 1 %."""
    path = tmp_path / "activity.csv"
    path.write_text("start,end\n0,10000000\n")
    propagation = waves(phy=LORA, power="0 dBm")
    received = float(propagation.powers(0, 0.0)[1])
    at_receiver = float(propagation.powers_from((10.0, 1.0), 0.0, 0.0)[1])
    found = lora_cell({"kind": "recorded", "path": str(path)}, f"{received - above - at_receiver} dBm", 2000)
    law = 1 - float(propagation.phy.error(above, 20))
    assert found.share() == pytest.approx(law, abs=5 * math.sqrt(law * (1 - law) / 2000) + 1e-3)


def test_an_interferer_out_of_reach_changes_nothing() -> None:
    assert cell(BURSTS, 300, position=FAR, power="-40 dBm").share() == 1


def test_what_a_receiver_tells_of_a_frame_includes_the_interference() -> None:
    signals = [outcome.verdict.signal for outcome in cell(BURSTS, 200).outcomes]
    sinrs = {round(signal.sinr) for signal in signals if signal is not None}
    assert len(sinrs) > 1


def test_every_key_changes_what_happens(tmp_path: Path) -> None:
    path = tmp_path / "activity.csv"
    path.write_text("start,end\n0,5\n")
    recorded = {"kind": "recorded", "path": str(path), "period": "20 s"}

    def fates(activity: dict[str, Any], **more: Any) -> list[str]:
        return [outcome.verdict.cause for outcome in cell(activity, 400, **more).outcomes]

    assert set(Interferer.model_fields) == {"position", "power", "activity", "channels"}
    assert fates(BURSTS) not in [fates(BURSTS, position=FAR), fates(BURSTS, power="-60 dBm"), fates(recorded)]
    assert fates(BURSTS, channels=2, covers=[0]) == fates(BURSTS) != fates(BURSTS, channels=2, covers=[1])
    assert set(Bursts.model_fields) == {"kind", "on", "off"}
    assert fates(BURSTS) not in [fates({**BURSTS, "on": "9 ms"}), fates({**BURSTS, "off": "50 ms"})]
    assert set(RecordedActivity.model_fields) == {"kind", "path", "unit", "period"}
    changed = [{**recorded, "unit": "ms"}, {**recorded, "period": "9 s"}]
    assert fates(recorded) not in [fates(each) for each in changed]


@pytest.mark.parametrize(
    ("medium", "says"),
    [
        ({"kind": "csma-ca"}, 'interferer is noise, and needs collision = "sinr"'),
        ({"kind": "aloha", "collision": "capture"}, 'needs collision = "sinr"'),
        ({"kind": "dcf", "collision": "sinr"}, "Extra inputs|interferer"),
        ({"kind": "half-duplex"}, "interferer"),
    ],
)
def test_media_that_cannot_have_interferers_refuse_them(medium: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(AnyMedium).validate_python({**medium, "interferer": [interferer(BURSTS)]})


def test_a_medium_without_interferers_asks_for_none() -> None:
    assert CsmaCa().interferer == ()
    assert np.isfinite(waves().powers_from((5.0, 5.0), 0.0, 0.0)).all()
