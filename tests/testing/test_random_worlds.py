"""Random worlds: laws hold in them with every protocol that ships, and a failure leaves a scenario that repeats it.

The suite tries `P2PL_WORLDS` of them, 40 by default; `tools/soak.py` tries many more on all cores.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pl_async import load_scenario, run
from p2pl_async.basics.settings import kind_of
from p2pl_async.errors import DeviceFailed, InvariantError
from p2pl_async.protocols import PROTOCOLS
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.testing import RandomWorld, check_laws, hull, ring
from p2pl_async.testing.chatter import Chatter
from p2pl_async.testing.shipped import inhabited, undaunted
from p2pl_async.testing.strategies import faults, graphs, links, worlds

WORLDS = int(os.environ.get("P2PL_WORLDS", "40"))
SMALL = {"devices": {"count": 3}, "seed": 4, "stop": {"virtual_time": "5 s"}}


@settings(max_examples=WORLDS, suppress_health_check=list(HealthCheck))
@given(inhabited())
def test_laws_hold_in_random_worlds(case) -> None:
    world, protocol = case
    with world.run(protocol) as emulation:
        check_laws(emulation)


def test_a_failure_leaves_a_scenario_that_repeats_it_and_a_diagram(tmp_path: Path) -> None:
    world = RandomWorld({**SMALL, "link": {"latency": "10 ms", "loss": "20 %"}}, folder=tmp_path)
    with pytest.raises(AssertionError) as caught, world.run(Chatter(period="300 ms")) as emulation:
        raise AssertionError("as told")
    (path,) = tmp_path.iterdir()
    assert str(path) in caught.value.__notes__[0]
    assert "the end" in caught.value.__notes__[0]
    assert run(load_scenario(path)).summary["trace_digest"] == emulation.trace.digest()
    assert len(path.read_text().splitlines()) < 25


def test_a_protocol_that_trains_leaves_what_it_learned_from(tmp_path: Path) -> None:
    world = RandomWorld(SMALL, folder=tmp_path)
    with world.run(P2PL(sync="none")) as emulation:
        hull(emulation)
        check_laws(emulation)
    path = world.write(P2PL(sync="none"))
    assert load_scenario(path).protocol == P2PL(sync="none")
    assert run(load_scenario(path)).summary["trace_digest"] == emulation.trace.digest()


@pytest.mark.parametrize("cls", PROTOCOLS, ids=kind_of)
def test_every_protocol_can_be_set_up_to_wait_for_no_lost_message(cls) -> None:
    """Its contract can be asked for with those settings too, as that of OSGP with a timeout could not."""
    assert undaunted(cls).contract is not None


class Stuck(Chatter):
    kind: str = "stuck"

    async def run(self, device) -> None:
        while True:
            sum(range(1000))


def test_a_run_without_end_is_ended(tmp_path: Path) -> None:
    world = RandomWorld(SMALL, folder=tmp_path, seconds=0.2)
    with pytest.raises((InvariantError, DeviceFailed), match=r"has not ended within 0\.2 s"), world.run(Stuck()):
        pass


@given(graphs(directed=False), graphs(3, 3))
def test_graphs_are_connected_and_go_both_ways_if_asked(both, directed) -> None:
    assert all(k in both[j] for k, others in enumerate(both) for j in others)
    assert len(directed) == 3
    assert all(directed)


@settings(max_examples=30)
@given(links(loss=0.0, repeat=False, reorder=False), st.integers(1, 3).flatmap(lambda n: faults(n, crash=False)))
def test_narrow_strategies_leave_out_what_they_say(link, table) -> None:
    assert not {"loss", "corrupt", "outage", "queue", "duplicate", "order"} & link.keys()
    assert not {"churn", "energy"} & table.keys()
    assert all(event["kind"] not in ("crash", "restart") for event in table.get("event", ()))


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(worlds(loss=0.0, shared=False, topologies=["ring"], min_size=3, max_size=3, rounds=3))
def test_narrow_worlds_leave_out_what_they_say(world) -> None:
    scenario = world.scenario(Chatter())
    assert scenario.medium.kind == "dedicated"
    assert scenario.topology.kind == "ring"
    assert (scenario.devices.count, scenario.stop.rounds) == (len(ring(3)), 3)
    assert scenario.link.loss.kind == "none"
