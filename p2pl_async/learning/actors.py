"""Ray actors that train beside the emulation, on this machine or on many: they fulfill `Workers`.

Each has an engine, the data set from the object store, and one core. Parameters and results travel through that store.
An actor that is lost, as its machine goes away, is told of in a warning; its works are computed here, and another takes
its place, wherever Ray has room for it. That happens a few times at most: what ends actors may go on.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pl_async.basics.cluster import connect
from p2pl_async.basics.machine import cores
from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from p2pl_async.learning.data import Dataset
    from p2pl_async.learning.stacked import Engine, Trained
    from p2pl_async.learning.work import Recipe, Work

_AHEAD = 4  # works that an actor has at once, so that it needn't wait for the emulation
_SUCCESSORS = 3  # actors that take the place of lost ones, at most


class RayActors:
    """Actors that compute works.

    Args:
        count: how many.
        address: of a Ray that runs, "ray://host:port"; None for one here, which ends with them.

    Raises:
        ScenarioError: if Ray is not installed, or can't be reached.
    """

    def __init__(self, count: int, address: str | None) -> None:
        try:
            self._ray = connect(address, max(count, cores()), 1 << 30)
        except ImportError as error:
            text = "needs the package ray: pip install 'p2pl-async[ray]'"
            raise ScenarioError("train", [Problem("train.on", text)]) from error
        except ConnectionError as error:
            raise ScenarioError(
                "train", [Problem("train.on", f"can't be reached: {error}", address or "ray")]
            ) from error
        self._count = count
        self._actors: list[Any] = []
        self._begun: dict[Any, Any] = {}  # what says that an actor has its engine -> the actor
        self._has: dict[Any, tuple[int, Any]] = {}  # what will be a result -> number of the work, actor
        self._recipe: dict[str, Any] | None = None
        self._make: Callable[[], Any] = lambda: None  # returns a new actor
        self._successors = 0  # that may still begin
        self._number = 0

    def due(self, seconds: float) -> bool:
        """Begin at once."""
        return True

    def start(self, recipe: Recipe, dataset: Dataset, engine: Engine, devices: int) -> int:
        """Begin to make engines like the one given; actors that have such engines stay.

        Returns:
            How many jobs a work has, at most.
        """
        from p2pl_async.learning.work import jobs_in_work

        size = jobs_in_work(engine, devices, self._count)
        written = recipe.written()
        if written == self._recipe:
            return size
        self._end()
        self._recipe = written
        arrays = {name: getattr(dataset, name) for name in ("x_train", "y_train", "x_test", "y_test")}
        data = self._ray.put(arrays)
        remote = self._ray.remote(num_cpus=1)(Actor).remote
        self._make = functools.partial(remote, written, dataset.name, dataset.n_classes, data)
        self._successors = _SUCCESSORS
        for _ in range(self._count):
            self._begin()
        return size

    def _begin(self) -> None:
        actor = self._make()
        self._begun[actor.ready.remote()] = actor

    @property
    def ready(self) -> bool:
        """Whether any of them can take works."""
        if self._begun:
            self._hear(list(self._begun), wait=False)
        return bool(self._actors)

    def submit(self, work: Work) -> int | None:
        """Give a work to the actor that has least to do; return its number, or None if all have enough."""
        load = [sum(actor is busy for _, busy in self._has.values()) for actor in self._actors]
        if not load or min(load) >= _AHEAD:
            return None
        actor = self._actors[load.index(min(load))]
        self._number += 1
        self._has[actor.compute.remote(work)] = self._number, actor
        return self._number

    def collect(self, *, wait: bool) -> Iterable[tuple[int, Trained | None]]:
        """Return works that have ended since the last call, by number; None for one that must be computed here.

        Args:
            wait: whether to wait until there is one, or until an actor becomes ready or is lost.
        """
        return self._hear([*self._has, *self._begun], wait=wait)

    def _hear(self, references: list[Any], *, wait: bool) -> list[tuple[int, Trained | None]]:
        found: list[tuple[int, Trained | None]] = []
        if not references:
            return found
        done, _ = self._ray.wait(references, num_returns=1 if wait else len(references), timeout=None if wait else 0)
        for reference in done:
            number, actor = self._has.pop(reference, (0, self._begun.pop(reference, None)))
            result = None
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                if not number or actor in self._actors:  # all of its works say so, the first is enough
                    self._lose(actor, error)
            except self._ray.exceptions.RayError:
                pass  # the work failed, which shows where it is computed again
            if number:
                found.append((number, result and _taken(result)))
            elif result:
                self._actors.append(actor)
        return found

    def _lose(self, actor: Any, error: Exception) -> None:
        self._actors = [other for other in self._actors if other is not actor]
        if getattr(error, "actor_init_failed", False):
            self._successors = 0  # others can't make the model either
        if self._successors:
            self._successors -= 1
            self._begin()
            left = "another takes its place"
        elif count := len(self._actors) + len(self._begun):
            left = "1 actor is left" if count == 1 else f"{count} actors are left"
        else:
            left = "training goes on in this process"
        why = str(error).strip().splitlines()[-1].strip()
        text = f"a Ray actor ended, its trainings are computed again, and {left}: {why}"
        warnings.warn(text, RuntimeWarning, 2)

    def _end(self) -> None:
        for actor in [*self._actors, *self._begun.values()]:
            self._ray.kill(actor)
        self._actors, self._begun, self._has, self._recipe = [], {}, {}, None

    def close(self) -> None:
        """End the actors, and the Ray that was started for them."""
        self._end()
        self._ray.shutdown()


class Actor:
    """What computes on Ray: an engine and its data."""

    def __init__(
        self, recipe: dict[str, Any], name: str, n_classes: int, data: dict[str, np.ndarray[Any, Any]]
    ) -> None:
        import torch

        torch.set_num_threads(1)
        from p2pl_async.learning.arithmetic import products
        from p2pl_async.learning.data import Dataset
        from p2pl_async.learning.work import Recipe

        read = Recipe.read(recipe)
        self._engine = read.engine(Dataset(name, **data, n_classes=n_classes))
        self._matmul, self._products = read.settings.matmul, products

    def ready(self) -> bool:
        """Return True: the engine is made."""
        return True

    def compute(self, work: Work) -> Trained:
        """Return the results of a work."""
        with self._products(self._matmul):
            return work.compute(self._engine)


def _taken(found: Trained) -> Trained:
    """Return results as read-only arrays outside the object store."""

    def own(vectors: list[Any]) -> list[Any]:
        copies = [vector.copy() for vector in vectors]
        for copy in copies:
            copy.setflags(write=False)
        return copies

    return found._replace(vectors=own(found.vectors), velocities=found.velocities and own(found.velocities))
