"""Emulate asynchronous peer-to-peer deep learning on wireless devices, in virtual time.

From top to bottom; imports point down:

cli/         the commands                       report/      what people see of recorded runs
experiment/  running a scenario, measuring it   prediction/  runs in closed form
testing/     small worlds for testing protocols study/       many runs that answer a question
scenario/    what a TOML file can say           protocols/   one algorithm per file
device       all that a protocol can see        transport/   messages between devices
importing/   other people's files               air/         the medium that devices share
link/        what happens to a message          radio/       powers, noise, places
hardware/    speed, clock, battery, downtime    topology/    who can hear whom
learning/    data, models, batched training     compression/ fewer bytes for a model
dynamics/    linear systems behind predictions  results/     a run's folder and tables
messages     what devices say                   basics/      units, settings, random streams
clock        virtual time: the event calendar   trace        what happened, and its digest
errors       whose fault it is
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2pl_async.errors import (
    Deadlock,
    DeviceFailed,
    Livelock,
    P2plError,
    PredictionError,
    Problem,
    ProtocolError,
    RemoteError,
    ScenarioError,
)

if TYPE_CHECKING:
    from p2pl_async.basics.settings import OneOf as OneOf
    from p2pl_async.basics.settings import Settings as Settings
    from p2pl_async.basics.units import BitsPerSecond as BitsPerSecond
    from p2pl_async.basics.units import Bytes as Bytes
    from p2pl_async.basics.units import PositiveSeconds as PositiveSeconds
    from p2pl_async.basics.units import Probability as Probability
    from p2pl_async.basics.units import Seconds as Seconds
    from p2pl_async.compression import Compressor as Compressor
    from p2pl_async.device import Device as Device
    from p2pl_async.experiment.running import run as run
    from p2pl_async.learning.data import Dataset as Dataset
    from p2pl_async.learning.data import DataSource as DataSource
    from p2pl_async.learning.losses import TrainingLoss as TrainingLoss
    from p2pl_async.learning.models import Model as Model
    from p2pl_async.learning.partition import Partition as Partition
    from p2pl_async.learning.scores import Score as Score
    from p2pl_async.link import Latency as Latency
    from p2pl_async.link import LossModel as LossModel
    from p2pl_async.link.loss.base import PacketLoss as PacketLoss
    from p2pl_async.messages import DeviceId as DeviceId
    from p2pl_async.messages import Message as Message
    from p2pl_async.messages import Vector as Vector
    from p2pl_async.prediction import predict as predict
    from p2pl_async.protocols.base import Protocol as Protocol
    from p2pl_async.results.run import Run as Run
    from p2pl_async.results.run import load_run as load_run
    from p2pl_async.scenario.reading.load import load_scenario as load_scenario
    from p2pl_async.scenario.scenario import Scenario as Scenario
    from p2pl_async.topology.base import TopologySettings as TopologySettings

__version__ = "0.2.0"

# Found when first asked for: `p2pl --help` needs none of them, and each costs the start of numpy, trio or pydantic.
_LATER = {
    "BitsPerSecond": "p2pl_async.basics.units",
    "Bytes": "p2pl_async.basics.units",
    "Compressor": "p2pl_async.compression",
    "DataSource": "p2pl_async.learning.data",
    "Dataset": "p2pl_async.learning.data",
    "Device": "p2pl_async.device",
    "DeviceId": "p2pl_async.messages",
    "Latency": "p2pl_async.link",
    "LossModel": "p2pl_async.link",
    "Message": "p2pl_async.messages",
    "Model": "p2pl_async.learning.models",
    "OneOf": "p2pl_async.basics.settings",
    "PacketLoss": "p2pl_async.link.loss.base",
    "Partition": "p2pl_async.learning.partition",
    "PositiveSeconds": "p2pl_async.basics.units",
    "Probability": "p2pl_async.basics.units",
    "Protocol": "p2pl_async.protocols.base",
    "Run": "p2pl_async.results.run",
    "Scenario": "p2pl_async.scenario.scenario",
    "Score": "p2pl_async.learning.scores",
    "Seconds": "p2pl_async.basics.units",
    "Settings": "p2pl_async.basics.settings",
    "TopologySettings": "p2pl_async.topology.base",
    "TrainingLoss": "p2pl_async.learning.losses",
    "Vector": "p2pl_async.messages",
    "load_run": "p2pl_async.results.run",
    "load_scenario": "p2pl_async.scenario.reading.load",
    "predict": "p2pl_async.prediction",
    "run": "p2pl_async.experiment.running",
}

__all__ = [
    "BitsPerSecond",
    "Bytes",
    "Compressor",
    "DataSource",
    "Dataset",
    "Deadlock",
    "Device",
    "DeviceFailed",
    "DeviceId",
    "Latency",
    "Livelock",
    "LossModel",
    "Message",
    "Model",
    "OneOf",
    "P2plError",
    "PacketLoss",
    "Partition",
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
    "Score",
    "Seconds",
    "Settings",
    "TopologySettings",
    "TrainingLoss",
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
