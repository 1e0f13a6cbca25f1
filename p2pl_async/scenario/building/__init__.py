"""From a scenario to the objects of a run: places, links, conditions of devices, the world."""
