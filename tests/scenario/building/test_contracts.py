"""Which links keep a protocol's delivery contract, and what is said where they don't."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from helpers.small_worlds import small

from p2pl_async.basics.randomness import stream
from p2pl_async.device import Device
from p2pl_async.link import LinkSettings
from p2pl_async.protocols.asy_sonata import AsySonata
from p2pl_async.protocols.base import AVERAGED, FAULTS, INCREMENT, STATE, Contract, Protocol
from p2pl_async.protocols.choco_sgp import ChocoSGP
from p2pl_async.protocols.diging import DIGing
from p2pl_async.protocols.fedavg import FedAvg
from p2pl_async.protocols.gossip_learning import GossipLearning
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.protocols.rasgp import RASGP
from p2pl_async.scenario.building.contracts import faults, warn_of_contract
from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.building.world import build_world

FRAIL = Contract("increment", "mass goes", "mass comes", "mass turns", "mass stays", "use another")


class Frail(Protocol):
    """Can't bear anything."""

    kind: str = "frail"
    contract: ClassVar[Contract] = FRAIL

    async def run(self, device: Device) -> None:
        """Do nothing."""


class Unstated(Frail):
    """Says nothing of itself."""

    contract: ClassVar[None] = None  # type: ignore[assignment]


def told(protocol: Protocol, link: Mapping[str, Any], topology: str = "ring", **more: Any) -> list[str]:
    scenario = small(link=link, topology=topology, **more).model_copy(update={"protocol": protocol})
    graph = scenario.topology.build(5, stream(1, "topology"))
    return warn_of_contract(scenario, graph, LinkTable(scenario))


PERFECT = {"loss": "0 %", "latency": "20 ms"}
FREE = {"latency": {"kind": "uniform", "low": "1 ms", "high": "9 ms"}, "order": "free"}


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ({}, []),
        ({"loss": 0.0}, []),
        ({"loss": 0.1}, ["loss"]),
        ({"loss": {"kind": "gilbert-elliott", "good": "2 s", "bad": "1 s"}}, ["loss"]),
        ({"outage": {"kind": "on-off", "up": "9 s", "down": "1 s"}}, ["loss"]),
        ({"corrupt": 0.01}, ["loss"]),
        ({"rate": "1 Mbit/s"}, []),
        ({"rate": "1 Mbit/s", "queue": {"messages": 3}}, ["loss"]),
        ({"duplicate": 0.1}, ["duplication"]),
        ({"order": "free", "latency": "20 ms"}, []),
        ({**FREE, "order": "fifo"}, []),
        (FREE, ["reordering"]),
        ({**FREE, "duplicate": 0.1, "loss": 0.1}, ["loss", "duplication", "reordering"]),
    ],
    ids=str,
)
def test_faults_of_a_link(link: Mapping[str, Any], found: list[str]) -> None:
    assert faults(LinkSettings.model_validate(dict(link))) == found


def test_perfect_links_break_no_contract() -> None:
    assert told(Frail(), PERFECT) == []


@pytest.mark.parametrize(
    ("link", "topology", "need", "what"),
    [
        ({**PERFECT, "loss": "1 %"}, "ring", "lose nothing, and 10 of 10", "mass goes"),
        ({**PERFECT, "duplicate": 0.5}, "ring", "repeat nothing, and 10 of 10", "mass comes"),
        ({**PERFECT, **FREE}, "ring", "keep the order, and 10 of 10", "mass turns"),
        (PERFECT, "directed-ring", "have a link back, and 5 of 5", "mass stays"),
        ({**PERFECT, "override": [{"from": 0, "loss": "9 %"}]}, "ring", "lose nothing, and 2 of 10", "mass goes"),
    ],
)
def test_a_broken_contract_is_said_with_its_consequence_and_repair(
    link: Mapping[str, Any], topology: str, need: str, what: str
) -> None:
    assert told(Frail(), link, topology) == [f'protocol "frail" needs links that {need} may not: {what}; use another']


@pytest.mark.parametrize(
    "more",
    [
        {"churn": {"up": "10 min", "down": "1 min"}},
        {"devices": {"group": {"some": {"ids": [1], "churn": {"up": "10 min", "down": "1 min"}}}}},
        {"devices": {"leave": "9 s"}},
        {"link": {"rate": "1 Mbit/s"}, "medium": "aloha"},
    ],
    ids=["churn", "group", "leave", "medium"],
)
def test_losses_come_from_more_than_links(more: dict[str, Any]) -> None:
    found = told(Frail(), PERFECT | more.pop("link", {}), **more)
    assert [text for text in found if "lose nothing, and 10 of 10 may not" in text]


def test_every_fault_is_told_and_none_that_is_borne() -> None:
    worst = {**FREE, "loss": "1 %", "duplicate": 0.5}
    assert len(told(Frail(), worst, "directed-ring")) == len(FAULTS)
    assert told(P2PL(), worst, "directed-ring") == []
    assert told(Unstated(), worst, "directed-ring") == []


def absence(protocol: Protocol, src: str, dst: str) -> str:
    """Return what is said of device 3, none of whose messages come from `src` or reach `dst`."""
    override = [{"from": src, "to": dst, "loss": "100 %"}]
    scenario = small(link={**PERFECT, "override": override}, topology="ring").model_copy(update={"protocol": protocol})
    graph = scenario.topology.build(5, stream(1, "topology"))
    return "\n".join(warn_of_contract(scenario, graph, LinkTable(scenario)))


def test_a_deaf_device_is_told_with_what_becomes_of_the_others() -> None:
    assert "device 3 can't hear" in absence(P2PL(), "*", "3")
    assert "the others leave their models out" in absence(P2PL(), "*", "3")
    assert 'use protocol "p2pl-push"' in absence(GossipLearning(), "*", "3")
    assert "the others as if they weren't there" in absence(RASGP(), "*", "3")
    assert "the others as if they weren't there" in absence(ChocoSGP(delivery="absolute"), "*", "3")
    assert "can't hear" not in absence(P2PL(), "3", "*")


def test_a_mute_device_is_told() -> None:
    assert "device 3 can't be heard" in absence(P2PL(), "3", "*")
    assert "can't be heard" not in absence(P2PL(), "*", "3")


def test_departures_are_told_where_trackers_keep_what_they_left() -> None:
    for more in ({"churn": {"up": "2 min", "down": "20 s"}}, {"event": [{"kind": "crash", "devices": 1, "at": "1 s"}]}):
        assert any("stays there" in text for text in told(DIGing(), PERFECT, **more))
        assert not any("stays there" in text for text in told(AsySonata(), PERFECT, **more))
    assert not any("stays there" in text for text in told(DIGing(), PERFECT))


def test_departures_are_told_where_links_have_no_link_back() -> None:
    churn: dict[str, Any] = {"churn": {"up": "2 min", "down": "20 s"}}
    one_way: dict[str, Any] = {**churn, "topology": "directed-ring"}
    assert any("weights drain" in text for text in told(RASGP(), PERFECT, **one_way))
    assert any("stays there" in text for text in told(AsySonata(), PERFECT, **one_way))
    assert not any("drain" in text for text in told(RASGP(), PERFECT, **churn))
    assert not any("drain" in text for text in told(RASGP(), PERFECT, topology="directed-ring"))


def test_a_contract_may_depend_on_settings() -> None:
    barrier = {"kind": "barrier", "timeout": "1 s"}
    assert P2PL(mode="barrier").contract.loss
    assert not P2PL(mode=barrier).contract.loss
    assert P2PL().contract == P2PL(mode=barrier).contract == AVERAGED
    assert FedAvg().contract.loss
    assert "weigh more" in FedAvg.model_validate({"timeout": "5 s"}).contract.loss
    assert not FedAvg.model_validate({"timeout": "5 s", "missing": "last"}).contract.loss
    assert "deadlock" in told(P2PL(mode="barrier"), {**PERFECT, "loss": "1 %"})[0]


def test_a_world_warns() -> None:
    scenario = small(protocol={"mode": "barrier"})
    assert [text for text in build_world(scenario).warnings if "deadlock" in text]
    assert not build_world(small()).warnings


def test_a_contract_reads_as_a_line() -> None:
    assert str(STATE) == "state: any links"
    assert str(INCREMENT) == "increment: needs links that lose nothing, repeat nothing"
