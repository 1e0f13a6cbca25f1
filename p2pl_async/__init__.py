"""Emulate asynchronous peer-to-peer deep learning on wireless devices, in virtual time.

scenario/    what a TOML file can say       experiment  run(scenario) -> Run
course       one run, and what is measured  measures    scores of models, consensus distance
protocols/   one algorithm per file         results     a run's folder and tables; report/ draws them
device       all that a protocol can see    testing     small worlds for testing a protocol
emulation    devices as trio tasks          learning/   data, partitions, models, batched training
transport/   messages between devices       link/       what happens to a message on a link
prediction   runs in closed form            dynamics/   the linear systems behind them
topology     who can hear whom              mixing      mixing weights and the weighted mean
wire         message <-> bytes              clock       virtual time: the event calendar
churn        devices that crash and return  downtime    when a device is down, known ahead
clocks       each device's own, that drifts energy      joules by state, batteries that run out
trace        what happened, and its digest  randomness  one stream per purpose and owner
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2pl_async.device import Device
from p2pl_async.errors import (
    Deadlock,
    DeviceFailed,
    P2plError,
    PredictionError,
    Problem,
    ProtocolError,
    RemoteError,
    ScenarioError,
)
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.base import Protocol
from p2pl_async.settings import OneOf, Settings
from p2pl_async.units import BitsPerSecond, Bytes, PositiveSeconds, Probability, Seconds

if TYPE_CHECKING:
    from p2pl_async.experiment import run as run
    from p2pl_async.learning.data import Dataset as Dataset
    from p2pl_async.learning.data import DataSource as DataSource
    from p2pl_async.learning.models import Model as Model
    from p2pl_async.prediction import predict as predict
    from p2pl_async.results import Run as Run
    from p2pl_async.results import load_run as load_run
    from p2pl_async.scenario.load import load_scenario as load_scenario
    from p2pl_async.scenario.schema import Scenario as Scenario

__version__ = "0.2.0"

# Names from modules that a protocol doesn't need, found when first asked for: `import p2pl_async` stays quick.
_LATER = {
    "DataSource": "p2pl_async.learning.data",
    "Dataset": "p2pl_async.learning.data",
    "Model": "p2pl_async.learning.models",
    "Run": "p2pl_async.results",
    "Scenario": "p2pl_async.scenario.schema",
    "load_run": "p2pl_async.results",
    "load_scenario": "p2pl_async.scenario.load",
    "predict": "p2pl_async.prediction",
    "run": "p2pl_async.experiment",
}

__all__ = [
    "BitsPerSecond",
    "Bytes",
    "DataSource",
    "Dataset",
    "Deadlock",
    "Device",
    "DeviceFailed",
    "DeviceId",
    "Message",
    "Model",
    "OneOf",
    "P2plError",
    "PositiveSeconds",
    "PredictionError",
    "Probability",
    "Problem",
    "Protocol",
    "ProtocolError",
    "RemoteError",
    "Run",
    "Scenario",
    "ScenarioError",
    "Seconds",
    "Settings",
    "Vector",
    "load_run",
    "load_scenario",
    "predict",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LATER[name]), name)
