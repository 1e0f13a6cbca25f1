"""Messages that devices pass on: `[relay]`, and the ways that messages take."""

from p2pl_async.relay.routes import Flood, Onward, Routes, ShortestPaths
from p2pl_async.relay.settings import AnyRelay, Flooding, Relay, ShortestPath

__all__ = ["AnyRelay", "Flood", "Flooding", "Onward", "Relay", "Routes", "ShortestPath", "ShortestPaths"]
