"""Work: all that the results of a group of jobs follow from, so that any process can compute them.

Trainer  --- Work --->  Engine, here                        a job's state stays with the trainer:
         --- Work --->  Engine of a worker process          workers keep nothing between two works
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray
from pydantic import TypeAdapter

from p2pl_async.learning.job import groups
from p2pl_async.learning.models import AnyModel, Model
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.stacked import NOTHING, Engine, Own, Trained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2pl_async.learning.data import Dataset

Array = NDArray[Any]

_LARGEST = 8  # jobs: more keep a worker busy for longer than others can wait, fewer cost more each
_NUMBERS = 2**21  # parameters: a few large models keep a worker busy as long as many small ones
_EACH = 2  # works for each worker, at least, when all devices train at once: so that none is idle


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an engine is made from besides the data; see `Engine`."""

    model: Model
    model_seed: int
    settings: TrainSettings
    width: int
    lone: bool
    one_rate: bool

    def engine(self, dataset: Dataset) -> Engine:
        """Return a new engine.

        Raises:
            ScenarioError: if the model doesn't fit the data, or the accelerator is missing.
        """
        return Engine(
            self.model, self.model_seed, self.settings, dataset, self.width, lone=self.lone, one_rate=self.one_rate
        )

    def written(self) -> dict[str, Any]:
        """Return the recipe as plain values, in which classes of users are names as in a scenario."""
        return {
            "model": self.model.model_dump(mode="json", by_alias=True),
            "model_seed": self.model_seed,
            "settings": self.settings.model_dump(mode="json", by_alias=True),
            "width": self.width,
            "lone": self.lone,
            "one_rate": self.one_rate,
        }

    @classmethod
    def read(cls, written: dict[str, Any]) -> Self:
        """Return the recipe that was written; loads classes of users from their files.

        Raises:
            ValueError: if a class isn't there.
        """
        model: Model = TypeAdapter(AnyModel).validate_python(written["model"])
        settings = TrainSettings.model_validate(written["settings"])
        return cls(**{**written, "model": model, "settings": settings})


@dataclass(frozen=True, slots=True)
class Work:
    """Jobs of one kind, those with more steps first, computed by `Engine.train` or `Engine.gradients`."""

    gradient: bool
    params: Sequence[Array]
    batches: Sequence[Array]
    sizes: Sequence[Array]
    rates: Sequence[Array]
    velocities: Sequence[Array | None]
    drifts: Sequence[Array]
    shifts: Sequence[Array]
    own: Own = NOTHING
    keep: bool = False

    def compute(self, engine: Engine) -> Trained:
        """Return the results, in the order of the jobs; as many jobs as the engine takes are computed at once."""
        if len(self.params) > engine.group:
            found = [self._part(rows).compute(engine) for rows in groups(range(len(self.params)), engine.group)]
            vectors = [vector for part in found for vector in part.vectors]
            return Trained(vectors, [v for part in found for v in part.velocities or ()] or None, None)
        if self.gradient:
            return engine.gradients(self.params, self.batches, self.sizes, self.own, shifts=self.shifts)
        return engine.train(
            self.params, self.batches, self.sizes, self.rates, self.velocities, self.drifts, self.own,
            keep=self.keep, shifts=self.shifts,
        )  # fmt: skip

    def _part(self, jobs: Sequence[int]) -> Self:
        """Return the work of jobs that follow each other."""
        part = slice(jobs[0], jobs[-1] + 1)
        return replace(
            self,
            params=self.params[part],
            batches=self.batches[part],
            sizes=self.sizes[part],
            rates=self.rates[part],
            velocities=self.velocities[part],
            drifts=self.drifts[part],
            shifts=self.shifts[part],
        )


def jobs_in_work(engine: Engine, devices: int, workers: int) -> int:
    """Return how many jobs a work should have, at most, for so many workers.

    About 8, whether the engine computes them at once or not: each work costs a message. It is one where a module is
    computed alone, which takes long; fewer where models are large, or where devices are few.
    """
    if engine.alone:
        return 1
    fitting = max(engine.group, _NUMBERS // engine.n_params)
    share = max(2, math.ceil(devices / (_EACH * workers)))
    return min(_LARGEST, fitting, share)
