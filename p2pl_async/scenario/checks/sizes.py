"""Sizes: how many links a topology has, estimated before any is made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pydantic_core import InitErrorDetails

from p2pl_async.basics.limits import MOST_LINKS
from p2pl_async.basics.settings import line
from p2pl_async.topology.base import TopologySettings
from p2pl_async.topology.random_graphs import BarabasiAlbert, ErdosRenyi, RandomGeometric, RandomRegular, WattsStrogatz
from p2pl_async.topology.shapes import Complete


def check_links(
    topology: TopologySettings, count: int, keys: Sequence[str] = ("topology",)
) -> Iterator[InitErrorDetails]:
    """Yield the problem of a topology, the value of these keys, with more links than fit into memory."""
    links = _links(topology, count)
    if links > MOST_LINKS:
        text = f"makes about {links:.3g} links of {count} devices, must be at most {MOST_LINKS}; take fewer devices or "
        yield line(keys, text + 'a sparser topology, such as { kind = "random-regular", degree = 8 }')


def _links(topology: TopologySettings, n: int) -> float:
    """Return about how many links there are, each direction counted; of graphs not named here, a few per device."""
    match topology:
        case Complete():
            return n * (n - 1)
        case RandomRegular():
            return n * topology.degree
        case ErdosRenyi():
            return topology.p * n * (n - 1)
        case WattsStrogatz():
            return n * topology.neighbors
        case BarabasiAlbert():
            return 2 * n * topology.attach
        case RandomGeometric():
            return n * (n - 1) * min(1.0, math.pi * topology.radius**2)
    return 0.0
