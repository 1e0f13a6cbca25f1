"""Scenarios: what a file can say, reading one, and what it says about each link."""

from p2pl_async.scenario.links import LinkTable
from p2pl_async.scenario.load import Loaded, dump, load_scenario, read_scenario
from p2pl_async.scenario.schema import Scenario

__all__ = ["LinkTable", "Loaded", "Scenario", "dump", "load_scenario", "read_scenario"]
