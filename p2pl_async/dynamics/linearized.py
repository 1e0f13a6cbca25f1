"""Squared loss of devices whose model is linear in its parameters: exactly, or around the initial ones.

Device q holds rows S_q of the data. With u_q its parameters minus the common initial ones, its
loss and gradient are

    L_q = |r + J u_q|^2 / (2 N_q) over its rows,    g_q = H_q u_q + b_q,
    H_q = J_q^T J_q / N_q,    b_q = J_q^T r_q / N_q,    r = f_0 - y,

J the Jacobian of the outputs. Two forms have the same operations, so later code works with either:

    ParameterForm   u_q itself, from a Jacobian J: exact for affine models, any start
    KernelForm      coefficients a_q with u_q = J^T a_q, from K = J J^T alone: no array has the size of the parameters

Source: arXiv:2409.15267, sections on the linearized model; the kernel form is the usual one of kernel regression.
"""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Array


@dataclass(frozen=True)
class Task:
    """The regression that every device solves.

    Attributes:
        owner: device of each row, (R,), ascending from 0 without gaps.
        n_samples: training samples of each device, (Q,).
        residual: outputs minus targets before training, (R, m).
    """

    owner: NDArray[np.int64]
    n_samples: NDArray[np.int64]
    residual: Array

    def __post_init__(self) -> None:
        steps = np.diff(self.owner, prepend=0)
        complete = len(self.owner) and self.owner[0] == 0 and self.owner[-1] == len(self.n_samples) - 1
        if not complete or not np.isin(steps, (0, 1)).all():
            raise ValueError("owner must be ascending device ids from 0, every device with a row at least")
        if self.residual.ndim != 2 or len(self.residual) != len(self.owner):
            raise ValueError(f"residual must have shape ({len(self.owner)}, m), has {self.residual.shape}")

    @property
    def devices(self) -> int:
        """Number of devices, Q."""
        return len(self.n_samples)

    @functools.cached_property
    def rows(self) -> list[slice]:
        """The rows of each device."""
        ends = np.searchsorted(self.owner, np.arange(self.devices + 1))
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]


class Form(ABC):
    """Gradients, outputs and norms for states of all devices, (Q, D, m)."""

    def __init__(self, task: Task, size: int) -> None:
        self.task = task
        self.shape = (task.devices, size, task.residual.shape[1])

    @abstractmethod
    def gradient(self, state: Array) -> Array:
        """Return H s + b of every device, (Q, D, m)."""

    @abstractmethod
    def hessian(self, device: int) -> Array:
        """Return H_q as a matrix, (D, D)."""

    @abstractmethod
    def outputs(self, state: Array) -> Array:
        """Return the change of the outputs on all training rows, (..., Q, R, m) for states (..., Q, D, m)."""

    @abstractmethod
    def square(self, state: Array, outputs: Array) -> Array:
        """Return the squared norm of each device's u, (..., Q), for states and their `outputs`."""

    @property
    @abstractmethod
    def kernel(self) -> Array:
        """J J^T, (R, R)."""

    def zeros(self) -> Array:
        """Return the state before any training."""
        return np.zeros(self.shape, self.task.residual.dtype)

    def losses(self, outputs: Array) -> Array:
        """Return each device's mean loss on the training rows of all devices, (..., Q), from its `outputs`."""
        misfit = outputs + self.task.residual
        return np.asarray((misfit**2).sum((-2, -1)) / (2 * self.task.n_samples.sum()))


class ParameterForm(Form):
    """The state is u, (Q, P, m): for models whose Jacobian fits into memory.

    Args:
        task: the regression.
        features: the Jacobian J, (R, P).
    """

    def __init__(self, task: Task, features: Array) -> None:
        super().__init__(task, features.shape[1])
        self.features = features

    def gradient(self, state: Array) -> Array:
        """Return J_q^T (J_q u_q + r_q) / N_q of every device."""
        result = np.empty(self.shape, state.dtype)
        for q, rows in enumerate(self.task.rows):
            own = self.features[rows]
            result[q] = own.T @ (own @ state[q] + self.task.residual[rows]) / self.task.n_samples[q]
        return result

    def hessian(self, device: int) -> Array:
        """Return J_q^T J_q / N_q."""
        own = self.features[self.task.rows[device]]
        return np.asarray(own.T @ own / self.task.n_samples[device])

    def outputs(self, state: Array) -> Array:
        """Return J u_q."""
        return product(self.features, state)

    def square(self, state: Array, outputs: Array) -> Array:
        """Return |u_q|^2."""
        return np.asarray((state**2).sum((-2, -1)))

    @functools.cached_property
    def kernel(self) -> Array:
        """J J^T."""
        return np.asarray(self.features @ self.features.T)


class KernelForm(Form):
    """The state is a, (Q, R, m), with u_q = J^T a_q: for wide networks.

    Args:
        task: the regression.
        kernel: K = J J^T, (R, R).
    """

    def __init__(self, task: Task, kernel: Array) -> None:
        super().__init__(task, len(kernel))
        self._kernel = kernel

    @property
    def kernel(self) -> Array:
        """K."""
        return self._kernel

    def gradient(self, state: Array) -> Array:
        """Return (K a_q + r)[S_q] / N_q in every device's own rows, 0 elsewhere."""
        result = np.zeros(self.shape, state.dtype)
        for q, rows in enumerate(self.task.rows):
            result[q, rows] = (self._kernel[rows] @ state[q] + self.task.residual[rows]) / self.task.n_samples[q]
        return result

    def hessian(self, device: int) -> Array:
        """Return the rows S_q of K / N_q, 0 in all others."""
        result = np.zeros_like(self._kernel)
        rows = self.task.rows[device]
        result[rows] = self._kernel[rows] / self.task.n_samples[device]
        return result

    def outputs(self, state: Array) -> Array:
        """Return K a_q."""
        return product(self._kernel, state)

    def square(self, state: Array, outputs: Array) -> Array:
        """Return a_q^T K a_q."""
        return np.asarray((state * outputs).sum((-2, -1)))


def compressed(task: Task, kernel: Array, rank: int | None = None, tolerance: float = 1e-13) -> ParameterForm:
    """Return the parameter form with the fewest features that give this kernel.

    Args:
        task: the regression.
        kernel: K, (R, R).
        rank: number of features to keep, the strongest: an approximation.
        tolerance: eigenvalues of K below this share of the largest count as 0.
    """
    if rank is None or rank >= len(kernel) // 4:
        values, vectors = np.linalg.eigh(np.asarray(kernel, np.float64))
        values, vectors = values[-rank:] if rank else values, vectors[:, -rank:] if rank else vectors
    else:
        values, vectors = _strongest(kernel, rank)
    kept = values > tolerance * values[-1]
    return ParameterForm(task, vectors[:, kept] * np.sqrt(values[kept]))


def _strongest(kernel: Array, rank: int) -> tuple[Array, Array]:
    """Return the largest eigenvalues, ascending, and their eigenvectors, by subspace iteration.

    Lanczos' method takes ten times as long for hundreds of them. Source: N. Halko, P. Martinsson and
    J. Tropp, SIAM Review 2011.
    """
    basis = np.random.Generator(np.random.Philox(0)).standard_normal((len(kernel), rank + 20)).astype(kernel.dtype)
    for _ in range(5):
        basis = np.linalg.qr(kernel @ basis)[0]
    small = basis.T @ kernel @ basis
    values, vectors = np.linalg.eigh(np.asarray((small + small.T) / 2, np.float64))
    return values[-rank:], (basis @ vectors)[:, -rank:]


def consensus_distance(form: Form, state: Array, outputs: Array) -> Array:
    """Return sqrt(1/Q sum_q |u_q - mean u|^2), (...,) for states (..., Q, D, m) and their outputs."""
    state, outputs = (x - x.mean(-3, keepdims=True) for x in (state, outputs))
    return np.asarray(np.sqrt(np.maximum(form.square(state, outputs), 0).mean(-1)))


def product(matrix: Array, states: Array) -> Array:
    """Return `matrix @ states` for (r, D) and (..., D, m) as one product, which reads the matrix once: (..., r, m)."""
    *before, size, columns = states.shape
    flat = np.moveaxis(states, -2, 0).reshape(size, -1)
    return np.moveaxis((matrix @ flat).reshape(len(matrix), *before, columns), 0, -2)


def slices(parts: Sequence[NDArray[np.int64]], outputs: int) -> NDArray[np.int64]:
    """Return the owner of each row, for samples in the order of `parts` with so many rows each."""
    return np.repeat(np.arange(len(parts)), [len(part) * outputs for part in parts])
