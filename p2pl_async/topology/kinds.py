"""Every topology that a scenario can name."""

from __future__ import annotations

from typing import Annotated

from p2pl_async.basics.plugins import door
from p2pl_async.basics.settings import OneOf
from p2pl_async.topology.base import TopologySettings
from p2pl_async.topology.changing import OnePeerExponential, RandomMatchings, RotatingRings
from p2pl_async.topology.from_file import FromFile, RecordedLinks
from p2pl_async.topology.random_graphs import (
    BarabasiAlbert,
    ErdosRenyi,
    InRange,
    RandomGeometric,
    RandomRegular,
    WattsStrogatz,
)
from p2pl_async.topology.shapes import (
    Complete,
    DirectedRing,
    Exponential,
    Grid,
    Hypercube,
    PathGraph,
    Ring,
    Star,
    Torus,
)

AnyTopology = Annotated[
    TopologySettings,
    OneOf(
        "topology", Complete, Ring, DirectedRing, PathGraph, Star, Grid, Torus, Hypercube, Exponential, RandomRegular,
        ErdosRenyi, WattsStrogatz, BarabasiAlbert, RandomGeometric, InRange, OnePeerExponential, RotatingRings,
        RandomMatchings, FromFile, RecordedLinks, outside=door(TopologySettings),
    ),
]  # fmt: skip
