"""Testing a protocol, ours or one of your own: small worlds, random worlds, and laws that hold in all of them.

    emulation = emulate(Gossip(), ring(5), link={"loss": "20 %"}, until=60)
    values = [device.params for device in emulation.devices]

Random worlds come from `p2pl_async.testing.strategies`, which needs Hypothesis (`p2pl-async[testing]`):

    @given(worlds())
    def test_it_survives_any_weather(world):
        with world.run(Gossip()) as emulation:
            check_laws(emulation)
"""

from p2pl_async.testing.cell import Cell, Outcome
from p2pl_async.testing.diagram import diagram
from p2pl_async.testing.laws import check_laws, hull, mass, mean_kept
from p2pl_async.testing.random_world import RandomWorld
from p2pl_async.testing.small import FixedLearner, Neighbors, complete, emulate, ring
from p2pl_async.testing.witness import Witness

__all__ = [
    "Cell",
    "FixedLearner",
    "Neighbors",
    "Outcome",
    "RandomWorld",
    "Witness",
    "check_laws",
    "complete",
    "diagram",
    "emulate",
    "hull",
    "mass",
    "mean_kept",
    "ring",
]
