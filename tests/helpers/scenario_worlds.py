"""The world of a scenario, run with a protocol of a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2pl_async.device import NO_OBSERVER, Observer
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.experiment.probing import probe_world
from p2pl_async.protocols.base import Protocol
from p2pl_async.scenario.scenario import Scenario

LEAST: dict[str, Any] = {"protocol": {"kind": "p2pl"}, "stop": {"rounds": 1}}


def world_run(
    tables: Mapping[str, Any], protocol: Protocol, *, until: float, observer: Observer = NO_OBSERVER
) -> Emulation:
    """Run a protocol in the world of a scenario, given as tables without `[protocol]` and `[stop]`."""
    scenario = Scenario.model_validate({**LEAST, **tables})
    world = probe_world(scenario)
    emulation = Emulation(
        world.out_neighbors,
        world.make_link,
        scenario.seed,
        make_air=world.make_air if world.airs.shared else None,
        neighborhood=world.neighborhood,
        observer=observer,
    )
    emulation.run(protocol, until=until)
    return emulation
