"""What `p2pl check` says of a scenario before it runs."""

from __future__ import annotations

from typing import Any

from helpers.small_worlds import small

from p2pl_async.scenario.building.explain import explain_rate, explain_sync
from p2pl_async.scenario.building.world import build_world


def told(**how: Any) -> list[str]:
    return explain_sync(build_world(small(**how), learns=False))


def test_the_length_of_the_synchronization_is_foreseen() -> None:
    """Two hops on a ring of five; by `expected_s`, 9 s without loss, and 24 s where half is lost."""
    seconds = []
    for loss in ("0 %", "50 %"):
        (text,) = told(topology="ring", protocol={"sync": "max-norm"}, link={"latency": "1 s", "loss": loss})
        assert "and 2 times what a model takes" in text
        seconds.append(float(text.split("about ")[1].split(" s")[0]))
    assert seconds[0] == 9.0
    assert 18 < seconds[1] < 32


def test_the_worst_link_is_told_beside_the_usual_one() -> None:
    slow = [{"from": 0, "to": "*", "latency": "9 s"}]
    (text,) = told(
        topology="ring", protocol={"sync": "max-norm"}, link={"loss": "0 %", "latency": "1 s", "override": slow}
    )
    usual, worst = text.split("about ")[1].split(" s after")[0], text.split("as the worst, ")[1].split(")")[0]
    assert 9 < float(usual) < 60
    assert worst == "1.22 min"  # 2 hops of 4 x 9 s


def test_where_no_beacon_gets_through_it_has_no_end() -> None:
    (text,) = told(topology="ring", protocol={"sync": "max-norm"}, link={"loss": "100 %"})
    assert "no end" in text


def test_nothing_is_said_where_devices_do_not_synchronize() -> None:
    assert told(protocol={"sync": "none"}) == []


def test_the_rate_of_a_sender_who_knows_the_snr_is_told() -> None:
    """15 dBm over 20 m: 15 - 46.7 - 39.0 + 94.0 = 23.3 dB, which is enough for MCS 7; over 40 m 14.2 dB, for MCS 4."""
    places = [["0 m", "0 m"], ["20 m", "0 m"], ["0 m", "40 m"], ["9 m", "9 m"], ["0 m", "9 m"]]
    radio = {"phy": "wifi", "power": "15 dBm", "positions": places, "shadowing": "none"}
    medium = {"kind": "half-duplex", "airtime": "ofdm", "rates": "ideal"}
    world = build_world(small(topology="complete", link={}, radio=radio, medium=medium), learns=False)
    assert explain_rate(world, 0, 1, 1500) == [("rate", "65 Mbit/s")]
    assert explain_rate(world, 0, 2, 1500) == [("rate", "39 Mbit/s")]
    learned = small(topology="complete", link={}, radio=radio, medium={**medium, "rates": "minstrel"})
    assert explain_rate(build_world(learned, learns=False), 0, 1, 1500) == []
