"""What the author of a scenario should know before trusting a run."""

from __future__ import annotations

from collections.abc import Sequence

from p2pl_async.scenario.building.device_conditions import consumption
from p2pl_async.scenario.events import (
    Event,
    label,
)
from p2pl_async.scenario.scenario import Scenario


def late(events: Sequence[Event], end: float | None) -> list[str]:
    """Return a warning for each event that the end of the run comes before."""
    if end is None:
        return []
    told = enumerate(events)
    return [f"{label(index, event)} happens after the end of the run" for index, event in told if event.at >= end]


def radio_warnings(scenario: Scenario) -> list[str]:
    """Return what the author of a scenario with radios should know before trusting it."""
    if scenario.radio is None or scenario.link.mtu is not None or not scenario.radio.phy.by_length:
        return []
    return [
        "without [link] mtu each message is one packet, however long, and noise spoils long packets first; "
        'give mtu = "127 B", or that of your radio'
    ]


def energy_warnings(scenario: Scenario) -> list[str]:
    """Return what makes the energy of a scenario mean less than it says."""
    free = scenario.link.rate is None and not any("rate" in override.table for override in scenario.link.override)
    if consumption(scenario) is None or scenario.medium.shared or not free:
        return []
    return ['links have no rate, so that sending takes no time and no energy; give link.rate = "250 kbit/s"']
