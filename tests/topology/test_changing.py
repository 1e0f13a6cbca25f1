"""Protocols and whole runs on topologies that change with rounds, or with virtual time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.models import start, values
from helpers.small_worlds import run_watched, small, trace_of
from helpers.strategies import lossy_links
from helpers.sums import owed_totals, totals
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from p2pl_async.basics.randomness import stream
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.protocols.base import Protocol
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.protocols.p2pl_push import P2PLPush
from p2pl_async.protocols.rasgp import RASGP
from p2pl_async.protocols.sgp import SGP
from p2pl_async.testing import FixedLearner, emulate
from p2pl_async.topology.base import neighbors
from p2pl_async.topology.kinds import AnyTopology

pytestmark = pytest.mark.usefixtures("inboxes_stay_open")

KINDS = ["one-peer-exponential", "rotating-rings", "random-matchings"]


def on(protocol: Protocol, table: dict[str, Any], x0: list[np.ndarray], **how: Any) -> Emulation:
    """Run a protocol on a topology that changes."""
    topology = TypeAdapter(AnyTopology).validate_python(table)
    n = len(x0)
    seconds = how.pop("seconds", 1.0)
    return emulate(
        protocol,
        neighbors(topology.build(n, stream(1, "topology"))).outgoing,
        neighborhood=topology.neighborhood(n, stream(1, "topology")),
        learner=FixedLearner(x0, seconds=seconds),
        **how,
    )


changing = st.fixed_dictionaries(
    {"kind": st.sampled_from(KINDS)}, optional={"every": st.sampled_from(["700 ms", "3 s", "round"])}
)


def test_sgp_with_one_peer_at_a_time_has_the_mean_of_eight_after_three_rounds() -> None:
    x0 = start(8)
    emulation = on(SGP(sync="none"), {"kind": "one-peer-exponential"}, x0, rounds=3, seconds=[1 + k for k in range(8)])
    np.testing.assert_allclose(values(emulation), np.tile(np.mean(x0, axis=0), (8, 1)), atol=1e-14)
    assert emulation.trace.counts.sent == 3 * 8


def test_p2pl_on_matchings_averages_pairs() -> None:
    x0 = start(6)
    emulation = on(P2PL(sync="none", mode="barrier", weights="uniform"), {"kind": "random-matchings"}, x0, rounds=1)
    found = TypeAdapter(AnyTopology).validate_python("random-matchings").neighborhood(6, stream(1, "topology"))
    for k in range(6):
        assert found is not None
        (j,) = found.outgoing(k, 0.0, 0)
        np.testing.assert_allclose(values(emulation)[k], (x0[k] + x0[j]) / 2, atol=1e-15)


@settings(max_examples=40)
@given(
    changing, st.integers(2, 7), lossy_links(duplicate=False), st.sampled_from(["fresh", "hasty"]), st.integers(0, 99)
)
def test_sgp_keeps_its_mass_while_neighbors_change(table, n, link, mode, seed) -> None:
    mode = {"kind": "barrier", "timeout": "400 ms"} if mode == "hasty" else mode
    x0 = start(n, seed=seed)
    speeds = [0.3 + 0.2 * k for k in range(n)]
    emulation = on(SGP(sync="none", mode=mode), table, x0, link=link | {"loss": 0.0}, seconds=speeds, until=15.0)
    x, u = totals(emulation)
    np.testing.assert_allclose(x, np.sum(x0, axis=0), atol=1e-10)
    assert u == pytest.approx(n, abs=1e-10)


@settings(max_examples=40)
@given(changing, st.integers(2, 7), lossy_links(max_loss=0.9), st.sampled_from([RASGP, P2PLPush]), st.integers(0, 99))
def test_what_each_link_owes_is_accounted_for_while_neighbors_change(table, n, link, form, seed) -> None:
    x0 = start(n, seed=seed)
    speeds = [0.3 + 0.2 * k for k in range(n)]
    emulation = on(form(sync="none", mode="fresh"), table, x0, link=link, seconds=speeds, until=20.0)
    x, u = owed_totals(emulation)
    np.testing.assert_allclose(x, np.sum(x0, axis=0), atol=1e-10)
    assert u == pytest.approx(n, abs=1e-10)
    z = values(emulation)
    assert (z >= np.min(x0, axis=0) - 1e-9).all()
    assert (z <= np.max(x0, axis=0) + 1e-9).all()


@pytest.mark.parametrize("every", ["round", "1500 ms"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_average_is_exact_though_links_change_and_lose_most(kind, every) -> None:
    x0 = start(4)
    emulation = on(
        RASGP(sync="none"),
        {"kind": kind, "every": every},
        x0,
        link={"latency": "200 ms", "loss": "60 %", "duplicate": 0.2},
        seconds=[1.0, 1.1, 1.2, 1.3],
        until=400 if kind == "one-peer-exponential" else 900,
    )
    np.testing.assert_allclose(values(emulation), np.tile(np.mean(x0, axis=0), (4, 1)), atol=1e-6)


@pytest.mark.parametrize("every", ["round", "1500 ms"])
@pytest.mark.parametrize("kind", KINDS)
def test_devices_agree_on_one_initial_model_though_links_change(kind, every) -> None:
    x0 = start(6)
    emulation = on(P2PL(), {"kind": kind, "every": every}, x0, link={"latency": "50 ms"}, rounds=1)
    np.testing.assert_allclose(values(emulation), np.tile(max(x0, key=np.linalg.norm), (6, 1)), atol=1e-12)


@pytest.mark.parametrize("every", ["round", "2 s"])
def test_a_run_sends_to_whom_its_topology_says_at_the_time(every) -> None:
    result, _ = run_watched(
        small(
            topology={"kind": "one-peer-exponential", "every": every},
            protocol={"kind": "sgp", "sync": "none", "mode": "fresh"},
            devices={"compute": {"per_epoch": "10 s"}},
            stop={"rounds": 12},
        ),
        trace=True,
    )
    sends = trace_of(result).sort_values(["src", "number"])
    rounds = sends.number if every == "round" else np.floor(sends.sent_s / 2).astype(int)
    assert (sends.number.max(), len(sends)) == (11, 5 * 12)
    assert rounds.nunique() > 3
    hops = np.array([1, 2, 4])[rounds % 3]
    assert ((sends.dst - sends.src) % 5 == hops % 5).all()
    assert len(result.links) == 5 * 3  # all that there are at some time


def test_the_baseline_without_peers_runs_beside_it() -> None:
    result, (_, alone) = run_watched(
        small(
            topology={"kind": "random-matchings"},
            protocol={"kind": "sgp", "sync": "none", "steps": 3, "mode": "fresh"},
            baselines={"local": True},
        )
    )
    assert result.baselines["local"].summary["messages"]["sent"] == 0
    assert all(device.out_neighbors == () for device in alone)
