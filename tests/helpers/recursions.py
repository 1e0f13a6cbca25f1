"""What synchronous methods do on perfect links, as recursions of matrices in float64: the oracles of their tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.scenario import Scenario

Gradient = Callable[[np.ndarray], np.ndarray]


def models_after(kind: str, w: np.ndarray, x: np.ndarray, g: Gradient, eta: float, rounds: int) -> np.ndarray:
    """Return the models after so many rounds.

    Args:
        kind: of the protocol.
        w: mixing matrix, (n, n).
        x: initial models, (n, p).
        g: models -> gradients of all devices, each at its own model.
        eta: step size.
        rounds: how many.
    """
    y, m = g(x), 0 * x
    for _ in range(rounds):
        if kind == "dgd":
            x = w @ x - eta * g(x)
        elif kind == "cta":
            x = w @ x
            x = x - eta * g(x)
        elif kind == "atc":
            x = w @ (x - eta * g(x))
        elif kind == "diging":
            x, old = w @ x - eta * y, x
            y = w @ y + g(x) - g(old)
        elif kind == "qgm":
            x, old = w @ (x - eta * (0.9 * m + g(x))), x
            m = 0.9 * m + 0.1 * (old - x) / eta
    return x


class Quadratics:
    """A device's loss is 1/2 (x - c)^T H (x - c), H well away from singular."""

    def __init__(self, n: int, size: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        roots = random.normal(size=(n, size, size))
        self.h = roots @ roots.transpose(0, 2, 1) / size + 0.5 * np.eye(size)
        self.c = random.normal(size=(n, size))
        self.x = random.normal(size=(n, size))  # where devices begin

    def of(self, k: int, x: np.ndarray) -> np.ndarray:
        """Return device k's gradient at its model, (size,)."""
        return self.h[k] @ (x - self.c[k])

    def all(self, x: np.ndarray) -> np.ndarray:
        """Return all devices' gradients, (n, size)."""
        return np.stack([self.of(k, row) for k, row in enumerate(x)])

    def minimum(self) -> np.ndarray:
        """Return where the sum of all losses is least, (size,)."""
        return np.linalg.solve(self.h.sum(axis=0), np.einsum("kij,kj->i", self.h, self.c))


class Linear:
    """The linear models that a scenario on the digits trains: squared error, full batches."""

    def __init__(self, scenario: Scenario) -> None:
        from p2pl_async.learning.trainer import Trainer

        world = build_world(scenario)
        self.out_neighbors = world.out_neighbors
        assert world.dataset is not None
        self._parts, labels = world.parts, world.dataset.y_train
        self._x, self._y = world.dataset.x_train.reshape(len(labels), -1).astype(float), np.eye(10)[labels]
        trainer = Trainer(world.dataset, world.parts, scenario.model, scenario.train, scenario.seed)
        self.start = np.stack([trainer.initial_params(k) for k in range(len(world.parts))])

    def all(self, models: np.ndarray) -> np.ndarray:
        """Return the gradients X^T (X w + b - y) / N of all devices, each at its own model."""
        rows = []
        for part, model in zip(self._parts, models, strict=True):
            weight, bias = model[:640].reshape(10, 64), model[640:]
            residual = (self._x[part] @ weight.T + bias - self._y[part]) / len(part)
            rows.append(np.concatenate([(residual.T @ self._x[part]).ravel(), residual.sum(axis=0)]))
        return np.stack(rows)
