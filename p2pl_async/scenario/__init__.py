"""Scenarios: the tables of a file, reading one, checking it, and building the world of a run."""

from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.reading.load import Loaded, dump, load_scenario, read_scenario
from p2pl_async.scenario.scenario import Scenario

__all__ = ["LinkTable", "Loaded", "Scenario", "dump", "load_scenario", "read_scenario"]
