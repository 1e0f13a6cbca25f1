"""Shipped scenarios do what was recorded of them in `goldens.json`: `tools/goldens.py` compares them all.

Here are those that take a second or two; protocols are in `protocols/test_protocol_contract.py`. Learned numbers, and
whatever follows from them, are compared only where products of matrices give the bits of the recording machine.
"""

from __future__ import annotations

from typing import Any

import pytest
from goldens import ROOT, TABLE, differences, load, observe_scenario, scenarios
from helpers.recorded import ELSEWHERE, GOLDENS, SAME_MACHINE

from p2pl_async.basics.settings import kind_of
from p2pl_async.protocols import PROTOCOLS

LONG = {
    "fedavg-mnist-100",
    "p2pl-mnist-100",
    "quickstart",
    "resnet-20",
    "radios/ble",
    "radios/wifi-rates",
    "reproductions/sparse-push-loss",
    "reproductions/sparse-push-mnist",
    "walkers",
}
"""Scenarios that take 4 to 30 s even if shortened."""


def depends_on_learned_numbers(name: str) -> bool:
    """Return whether what devices send, and when, follows from the numbers that they learn."""
    scenario = load(name)
    protocol, stop = scenario.protocol, scenario.stop
    synchronizes = getattr(getattr(protocol, "sync", None), "kind", "none") != "none"  # who has the largest norm
    compresses = hasattr(protocol, "compressor")  # which entries are largest
    return protocol.trains and (synchronizes or compresses or stop.accuracy is not None)


def without_params(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: without_params(value) if isinstance(value, dict) else value
        for key, value in row.items()
        if key != "params"
    }


@pytest.mark.parametrize("name", [name for name in scenarios() if name not in LONG])
def test_a_scenario_does_what_was_recorded(name: str) -> None:
    expected = GOLDENS[name]
    if not SAME_MACHINE:
        if depends_on_learned_numbers(name):
            pytest.skip(f"its network depends on learned numbers, {ELSEWHERE}")
        expected = without_params(expected)
    found = observe_scenario(name)
    assert differences({name: expected}, {name: found if SAME_MACHINE else without_params(found)}) == []


def test_every_scenario_and_protocol_is_recorded_and_nothing_else() -> None:
    assert set(GOLDENS) == {*scenarios(), *(f"protocol {kind_of(cls)}" for cls in PROTOCOLS)}
    assert set(scenarios()) >= LONG
    assert ROOT / "tests" in TABLE.parents


def test_a_difference_is_told_with_both_values() -> None:
    recorded = {"a": {"sent": 1, "local": {"sent": 2}}, "gone": {}}
    found = {"a": {"sent": 1, "local": {"sent": 3}}, "new": {}}
    assert differences(recorded, found) == ["a: local.sent: 2 -> 3", "gone: is gone", "new: is new"]
