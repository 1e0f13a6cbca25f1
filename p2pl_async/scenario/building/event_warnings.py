"""Warnings for the author of a scenario, to read before trusting a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from p2pl_async.basics.machine import cores
from p2pl_async.hardware.compute import Compute
from p2pl_async.link import LinkSettings
from p2pl_async.radio import RadioModel
from p2pl_async.scenario.events import Event, label
from p2pl_async.scenario.scenario import Scenario


def warn_of_late_events(events: Sequence[Event], end: float | None) -> list[str]:
    """Return a warning for each event at or after the end of the run."""
    if end is None:
        return []
    told = enumerate(events)
    return [f"{label(index, event)} happens after the end of the run" for index, event in told if event.at >= end]


def warn_of_radio(scenario: Scenario) -> list[str]:
    """Return a warning if noise spoils whole messages, as packets have no largest size."""
    airs: list[tuple[str, LinkSettings, RadioModel | None]] = [("link", scenario.link, scenario.radio)]
    airs += [(f"air.{name}.link", air.link, air.radio) for name, air in scenario.air.items()]
    return [
        f"without [{table}] mtu each message is one packet, however long, and noise spoils long packets first; "
        'give mtu = "127 B", or that of your radio'
        for table, link, radio in airs
        if radio is not None and link.mtu is None and radio.phy.by_length
    ]


_UNEQUAL = 3.0  # times as many samples on one device as on another


def warn_of_unequal_data(computes: Sequence[Compute], samples: Sequence[int]) -> list[str]:
    """Return a warning if devices hold unequal amounts of data, and yet take as long for a pass over them.

    Args:
        computes: each device's compute settings.
        samples: each device's number of training samples.
    """
    held = [count for compute, count in zip(computes, samples, strict=True) if compute.per_epoch is not None]
    if not held or max(held) < _UNEQUAL * min(held):
        return []
    return [
        f"devices hold {min(held)} to {max(held)} samples, and compute.per_epoch gives all the same time a pass, so "
        f"a step takes {max(held) / min(held):.0f} times longer where there are few; "
        'write compute.per_sample = "5 ms" for devices of equal speed'
    ]


def warn_of_workers(workers: int | Literal["auto"]) -> list[str]:
    """Return a warning if more processes train than this machine has cores."""
    if workers == "auto" or workers <= cores():
        return []
    return [f"train.workers = {workers} is more than the {cores()} cores here, which makes training slower, not faster"]


def warn_of_energy(scenario: Scenario, *, measured: bool) -> list[str]:
    """Return a warning if energy is measured and sending takes no time."""
    free = scenario.link.rate is None and not any("rate" in override.table for override in scenario.link.override)
    if not measured or any(medium.shared for medium in scenario.media) or not free:
        return []
    return ['links have no rate, so that sending takes no time and no energy; give link.rate = "250 kbit/s"']
