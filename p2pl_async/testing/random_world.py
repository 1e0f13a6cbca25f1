"""A random world: a scenario without a protocol, in which a test runs one; a failure leaves a scenario file."""

from __future__ import annotations

import contextlib
import inspect
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from p2pl_async.basics.settings import kind_of
from p2pl_async.errors import InvariantError
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.experiment.measured_run import MeasuredRun
from p2pl_async.experiment.plan import main_plan
from p2pl_async.protocols import PROTOCOLS, Protocol
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.reading.plain import without_none
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing.diagram import diagram
from p2pl_async.testing.witness import Witness

_LEARNING: dict[str, Any] = {
    "data": {"dataset": {"kind": "p2pl_async.testing.dots:Dots"}},
    "model": {"kind": "softmax"},
    # Steps far below what float32 resolves: training takes its time and moves nothing.
    "train": {"learning_rate": 1e-30},
    "evaluate": {"every": "1 h"},
}


class RandomWorld:
    """A scenario without a protocol.

    Args:
        table: the tables of a scenario, all but `[protocol]`. If the protocol trains, it trains a model of six
            parameters, which training doesn't move unless the table has a `[train]` of its own.
        folder: where scenarios that failed are written.
        seconds: of CPU time, after which a run counts as one that never ends.
    """

    def __init__(
        self, table: Mapping[str, Any], *, folder: Path = Path(".hypothesis", "worlds"), seconds: float = 60.0
    ) -> None:
        self.table = dict(table)
        self._folder = folder
        self._seconds = seconds

    def __repr__(self) -> str:
        import tomli_w

        return f"RandomWorld:\n{tomli_w.dumps(self.table)}"

    def scenario(self, protocol: Protocol) -> Scenario:
        """Return the scenario with this protocol; pydantic's ValidationError if there is no such scenario."""
        return Scenario.model_validate({**(_LEARNING if protocol.trains else {}), **self.table, "protocol": protocol})

    @contextlib.contextmanager
    def run(self, protocol: Protocol) -> Iterator[Emulation]:
        """Run the protocol in this world, and give the emulation to the block, as it is at the end.

        If the run or the block fails, the scenario is written into a file that `p2pl run` repeats, and the error
        tells its path and shows a diagram of the last messages. Hypothesis tries the smallest world that fails
        last, so that the file is of that one.

        Raises:
            DeviceFailed: if the protocol raises.
            Deadlock: if every device waits and nothing is left to happen.
            Livelock: if devices go on and on at one instant.
            InvariantError: if the run takes longer than any of its kind should.
        """
        emulation: Emulation | None = None
        try:
            measured = self._measured(protocol)
            emulation = measured.rig.emulation
            Witness(emulation, lambda: self._again(protocol))
            with _limited(self._seconds):
                measured.run()
            yield emulation
        except Exception as error:
            path = self.write(protocol, type(error).__name__)
            shown = "" if emulation is None else f"\n\n{diagram(emulation)}"
            error.add_note(f"repeat it: p2pl run {path}{shown}")
            raise

    def write(self, protocol: Protocol, name: str = "world") -> Path:
        """Write the scenario with this protocol into a file, and return its path."""
        import tomli_w

        settings = protocol.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        kind = _kind(type(protocol))
        table = {"name": name, **self.table, **(_LEARNING if protocol.trains else {}), **self.table}
        table["protocol"] = {**settings, "kind": kind}
        path = self._folder / f"{kind.rpartition(':')[2]}-{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tomli_w.dumps(without_none(table)), encoding="utf-8")
        return path

    def _measured(self, protocol: Protocol) -> MeasuredRun:
        world = build_world(self.scenario(protocol))
        return MeasuredRun(world, main_plan(world, None))

    def _again(self, protocol: Protocol) -> Emulation:
        measured = self._measured(protocol)
        Witness(measured.rig.emulation)
        measured.run()
        return measured.rig.emulation


def _kind(cls: type[Protocol]) -> str:
    """Return how a scenario names a protocol's class."""
    if cls in PROTOCOLS:
        return kind_of(cls)
    if cls.__module__.partition(".")[0] == "p2pl_async":
        return f"{cls.__module__}:{cls.__name__}"
    return f"{Path(inspect.getfile(cls)).resolve().as_posix()}:{cls.__name__}"


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise InvariantError in a block that takes longer; only in the main thread, of a system with timers."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: object) -> None:
        raise InvariantError(f"the run has not ended within {seconds:g} s of CPU time")

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds, min(seconds, 1.0))  # again and again, for each device that goes on
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
