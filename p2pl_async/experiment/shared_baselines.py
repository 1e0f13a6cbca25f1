"""Baselines that runs share: a run takes one that another run has computed, if all that it depends on is the same.

    baselines/<digest>/     the result of a baseline, complete; put there in one step
    baselines/<digest>.lock held while it is computed: who needs the same one waits, and then takes it

A baseline depends on the data, the model, the training, the seed, and on when and how long the devices of the main
run trained; the one of devices that train alone also on those devices. It sends nothing: links and protocols count
only by what they made of the trainings.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from p2pl_async.experiment.plan import RunPlan
from p2pl_async.experiment.replaying import Replay
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.lock import file_lock
from p2pl_async.results.run import Run, load_run
from p2pl_async.results.table import writing
from p2pl_async.scenario.identity import digests, package_version
from p2pl_async.scenario.reading.load import dump
from p2pl_async.scenario.scenario import Scenario

_OF_DEVICES = frozenset(
    {"devices", "topology", "churn", "clocks", "energy", "event", "radio", "mobility", "medium", "air", "relay"}
)
_OF_RUNS = frozenset({"name", "link", "protocol", "baselines", "stop"})


class SharedBaselines:
    """A folder of baselines.

    Args:
        path: the folder; made when the first one is put there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def one(self, scenario: Scenario, plan: RunPlan) -> Iterator[SharedBaseline]:
        """Hold the baseline of a plan: nobody else computes the same one meanwhile.

        Raises:
            ScenarioError: if the folder can't be written.
        """
        key = identity(scenario, plan)
        with contextlib.ExitStack() as stack:
            with writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(file_lock(self.path / f"{key}.lock"))
            yield SharedBaseline(self.path / key, scenario)


class SharedBaseline:
    """One of them.

    Args:
        path: its folder, if it is there.
        scenario: of the run that wants it.
    """

    def __init__(self, path: Path, scenario: Scenario) -> None:
        self._path = path
        self._scenario = scenario

    def take(self, folder: RunFolder, warnings: list[str]) -> Run | None:
        """Copy it into the folder of a run's baseline, with that run's scenario; None if it isn't there."""
        if not self._path.is_dir():
            return None
        with writing(folder.path):
            shutil.copytree(self._path, folder.path, dirs_exist_ok=True)
        taken = load_run(folder.path)
        folder.write_text("scenario.toml", dump(self._scenario))
        folder.write_summary(taken.summary | {"scenario": self._scenario.name, "warnings": warnings})
        return load_run(folder.path)

    def put(self, folder: RunFolder) -> None:
        """Keep the one that was computed."""
        part = self._path.with_name(f"{self._path.name}-{secrets.token_hex(4)}.part")
        with writing(part):
            shutil.copytree(folder.path, part)
            part.rename(self._path)


def identity(scenario: Scenario, plan: RunPlan) -> str:
    """Return the digest of all that the result of a baseline depends on."""
    assert isinstance(plan.protocol, Replay)
    left_out = _OF_RUNS | (frozenset() if len(plan.parts) > 1 else _OF_DEVICES)
    if scenario.energy is not None or any(group.energy is not None for group in scenario.devices.group.values()):
        left_out -= {"link"}  # radios that sleep
    parts = [plan.label, plan.interval, package_version(), *digests(scenario, left_out)]
    told = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for trainings in plan.protocol.trainings:
        told.update(len(trainings.starts).to_bytes(8, "little"))
        told.update(trainings.starts.tobytes() + trainings.steps.tobytes())
    return told.hexdigest()[:20]
