"""Stable step sizes, modes and their time constants, the limit, and the effect of each mixing weight.

Most of this rests on one observation: if the weights are reversible, `pi_i W_ij = pi_j W_ji` for some positive
pi (as Metropolis, uniform, and dataset-size weights on undirected graphs are), then scaling the devices by
sqrt(pi) makes W symmetric and doesn't change the gradients. With the symmetric W and L = max_q lambda_max(H_q):

    DGD         A = W - eta H is symmetric; stable for eta < 1 / lambda_max((I + W)^-1 H) exactly
    CTA, ATC    stable for eta < 2 / L; where W has no negative eigenvalue, exactly for
                eta < 1 / lambda_max(W (I + W)^-1 H); their eigenvalues are real if eta L <= 1 or W has none negative

(I + W)^-1 H and the like have the nonzero eigenvalues of an R x R matrix, the kernel times a number for each pair
of devices, so no state of all devices is needed. The bounds follow from an eigenvalue -1 of A, solved for eta.

Source: K. Yuan, Q. Ling and W. Yin, SIAM J. Optim. 2016 (DGD: eta < (1 + lambda_min(W)) / L). The exact bounds are
our derivation, tested against eigenvalues.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from p2pl_async.basics.arrays import Array
from p2pl_async.dynamics.linearized import Form, ParameterForm
from p2pl_async.dynamics.recursion import Rule, step
from p2pl_async.errors import PredictionError

DENSE = 1000  # states up to which dense eigenvalues and solutions are computed: about a second
_CLOSE = 1e-9


class StepRange(NamedTuple):
    """The stable step sizes: all below `largest`, and no others if `exact`."""

    largest: float
    exact: bool


def reversible(mixing: Array) -> tuple[Array, Array] | None:
    """Return the symmetric matrix W_s = diag(d) W diag(1/d) and the scaling d, or None if there is none.

    W must be row-stochastic, or another nonnegative matrix.
    """
    n = len(mixing)
    log = np.full(n, np.nan)
    for root in range(n):
        if not np.isnan(log[root]):
            continue
        log[root] = 0.0
        todo = [root]
        while todo:  # pi_j = pi_i W_ij / W_ji along a tree
            i = todo.pop()
            for j in np.flatnonzero(mixing[i]):
                if j == i or not np.isnan(log[j]):
                    continue
                if mixing[j, i] <= 0 or mixing[i, j] < 0:
                    return None
                log[j] = log[i] + math.log(mixing[i, j] / mixing[j, i])
                todo.append(int(j))
    scale = np.exp((log - log.mean()) / 2)
    symmetric = scale[:, None] * mixing / scale
    if not np.allclose(symmetric, symmetric.T, rtol=1e-10, atol=1e-14):
        return None
    return (symmetric + symmetric.T) / 2, scale


def curvature(form: Form) -> float:
    """Return L, the largest curvature of any device's loss."""
    return max(_top(_weighted(form, np.eye(form.task.devices))[rows, rows]) for rows in form.task.rows)


def stable_steps(form: Form, rule: Rule, mixing: Array) -> StepRange:
    """Return the stable step sizes.

    For weights that aren't reversible the bound is found by bisection of the spectral radius, if there are
    few enough states.

    Raises:
        PredictionError: for weights that aren't reversible with too many states.
    """
    found = reversible(mixing)
    if found is None:
        return _bisect(form, rule, mixing)
    symmetric, _ = found
    values, vectors = np.linalg.eigh(symmetric)
    if rule == "dgd":
        if values[0] <= -1 + 1e-12:
            return StepRange(0.0, True)
        pairs = (vectors / (1 + values)) @ vectors.T
        return StepRange(1 / _top(_weighted(form, pairs)), True)
    if values[0] < -1e-12:
        return StepRange(2 / curvature(form), False)
    pairs = (vectors * (values / (1 + values))) @ vectors.T
    return StepRange(1 / _top(_weighted(form, pairs)), True)


def real_spectrum(form: Form, rule: Rule, mixing: Array, eta: float) -> bool:
    """Whether all eigenvalues of a stable system (`check_stable`) are known to be real and between -1 and 1."""
    found = reversible(mixing)
    if found is None:
        return False
    return rule == "dgd" or eta * curvature(form) <= 1 or bool(np.linalg.eigvalsh(found[0])[0] >= -1e-12)


def check_stable(form: Form, rule: Rule, mixing: Array, eta: float) -> StepRange | None:
    """Check that `eta` is a stable step size; return the stable step sizes, or None if they are unknown.

    Raises:
        PredictionError: if `eta` is unstable.
    """
    steps = None if reversible(mixing) is None else stable_steps(form, rule, mixing)
    if steps is None or (not steps.exact and eta >= steps.largest):
        radius = spectral_radius(form, rule, mixing, eta)
        if radius > 1 + _CLOSE:
            least = "" if steps is None else f"; below {steps.largest:.4g} it is stable"
            raise PredictionError(
                f"train.learning_rate={eta:g} is unstable: errors grow {radius:.4g}-fold a round{least}"
            )
    elif eta >= steps.largest:
        raise PredictionError(
            f"train.learning_rate={eta:g} is unstable for {rule} with these weights and data; "
            f"it must be below {steps.largest:.4g}"
        )
    return steps


def system(form: Form, rule: Rule, mixing: Array, eta: float) -> tuple[Array, Array]:
    """Return A and c of one round s <- A s + c for a single column, (Q D, Q D) and (Q D, m).

    Raises:
        PredictionError: if there are more states than `DENSE`.
    """
    devices, size, columns = form.shape
    n = devices * size
    if n > DENSE:
        raise PredictionError(
            f"the system of {devices} devices times {size} has {n:,} states; a dense one is for up to {DENSE:,} "
            f"(this would take {n * n * 8 / 2**30:.3g} GiB and hours); use fewer samples, or compressed(..., rank=...)"
        )
    mix = np.kron(mixing, np.eye(size))
    descend = np.zeros((n, n))
    for q in range(devices):
        block = slice(q * size, (q + 1) * size)
        descend[block, block] = form.hessian(q)
    if rule == "dgd":
        matrix = mix - eta * descend
    else:
        adapt = np.eye(n) - eta * descend
        matrix = adapt @ mix if rule == "cta" else mix @ adapt
    return matrix, step(form, rule, mixing, eta, form.zeros()).reshape(n, columns)


def spectral_radius(form: Form, rule: Rule, mixing: Array, eta: float) -> float:
    """Return the largest absolute eigenvalue of A; directions that no data touches have the eigenvalue 1."""
    devices, size, _ = form.shape
    n = devices * size
    if n <= DENSE:
        return float(np.abs(np.linalg.eigvals(system(form, rule, mixing, eta)[0])).max())
    from scipy.sparse.linalg import LinearOperator, eigs

    offset = step(form, rule, mixing, eta, form.zeros())

    def apply(vector: Array) -> Array:
        state = np.zeros(form.shape)
        state[..., 0] = vector.reshape(devices, size)
        return np.asarray((step(form, rule, mixing, eta, state) - offset)[..., 0].ravel())

    operator = LinearOperator((n, n), apply, dtype=np.float64)
    values = eigs(operator, 4, which="LM", v0=_start(n), tol=1e-8, return_eigenvectors=False)
    return float(np.abs(values).max())


def limit(form: Form, rule: Rule, mixing: Array, eta: float) -> Array:
    """Return the limit of devices that begin at 0, (Q, D, m): the smallest solution of s = A s + c.

    Raises:
        PredictionError: if there are more states than `DENSE`.
    """
    from scipy.linalg import lstsq

    matrix, offset = system(form, rule, mixing, eta)
    solution = lstsq(np.eye(len(matrix)) - matrix, offset, cond=1e-12, lapack_driver="gelsy")[0]
    return np.asarray(solution.reshape(form.shape))


# Modes


@dataclass(frozen=True)
class Modes:
    """The modes of a system's errors: mode i shrinks by `values[i]` a round.

    Attributes:
        values: eigenvalues, slowest first, (n,).
        share: of the training loss above its limit, before training, in each mode, (n,); sums to 1.
        left, right: eigenvectors with left_i . right_j = 1 if i = j, else 0; (n, Q, D).
        rule, eta: of the system.
    """

    values: Array
    share: Array
    left: Array
    right: Array
    rule: Rule
    eta: float

    @property
    def time_constants(self) -> Array:
        """Rounds in which each mode falls to 1/e, (n,)."""
        with np.errstate(divide="ignore"):
            return np.asarray(-1 / np.log(np.abs(self.values)))

    def dominant(self, least: float = 0.01) -> int:
        """Return the slowest mode that holds at least so large a share of the loss, as an index."""
        return int(np.argmax(self.share >= min(least, float(self.share.max()))))


def modes(form: ParameterForm, rule: Rule, mixing: Array, eta: float) -> Modes:
    """Return the modes of a system with reversible weights and few states.

    Raises:
        PredictionError: if the weights aren't reversible, eigenvalues may be complex, or there are
            more states than `DENSE`.
    """
    found = reversible(mixing)
    devices, size, _ = form.shape
    matrix, offset = system(form, rule, mixing, eta)
    if found is None:
        raise PredictionError("modes need reversible mixing weights, which one-way links don't have")
    scale = np.repeat(found[1], size)[:, None]
    if rule == "dgd":
        values, vectors = np.linalg.eigh(_symmetric(scale * matrix / scale.T))
        right, left = vectors / scale, vectors * scale
    else:
        if eta * curvature(form) > 1:
            raise PredictionError(
                f"modes of {rule} need a step size of at most 1 / L = {1 / curvature(form):.4g}, not {eta:g}"
            )
        # A = S W or W S with S = I - eta H: similar to S^1/2 W S^1/2, device by device.
        roots, inverses = np.zeros((2, devices * size, devices * size))
        for q in range(devices):
            level, basis = np.linalg.eigh(np.eye(size) - eta * form.hessian(q))
            level = np.sqrt(np.maximum(level, 1e-300))
            block = slice(q * size, (q + 1) * size)
            roots[block, block], inverses[block, block] = (basis * level) @ basis.T, (basis / level) @ basis.T
        values, vectors = np.linalg.eigh(_symmetric(roots @ np.kron(found[0], np.eye(size)) @ roots))
        if rule == "cta":
            right, left = roots @ vectors / scale, inverses @ vectors * scale
        else:
            right, left = inverses @ vectors / scale, roots @ vectors * scale
    order = np.argsort(-np.abs(values))
    values, left, right = values[order], left[:, order].T, right[:, order].T
    away = np.abs(1 - values) > 1e-12  # modes that never move have no share
    amount = np.zeros((len(values), offset.shape[1]))
    amount[away] = (left[away] @ offset / (1 - values[away])[:, None]) ** 2  # of the limit, in each column of the state
    moved = np.einsum("qrd,nqd->nqr", _own_features(form), right.reshape(-1, devices, size))
    share = amount.sum(1) * (moved**2).sum((1, 2))
    total = share.sum()
    return Modes(
        values,
        share / total if total else share,
        left.reshape(-1, devices, size),
        right.reshape(-1, devices, size),
        rule,
        eta,
    )


def sensitivity(found: Modes, form: ParameterForm, mode: int) -> Array:
    """Return d lambda / d W_ij of one mode, (Q, Q): the change of its eigenvalue with each mixing weight.

    The usual first-order rule, left^T (dA / dW_ij) right.
    """
    left, right = found.left[mode], found.right[mode]
    if found.rule == "cta":
        left = _descended(form, found.eta, left)
    elif found.rule == "atc":
        right = _descended(form, found.eta, right)
    return np.asarray(left @ right.T)


def _descended(form: ParameterForm, eta: float, vectors: Array) -> Array:
    """Return (I - eta H_q) v_q of every device, (Q, D)."""
    return np.stack([own - eta * form.hessian(q) @ own for q, own in enumerate(vectors)])


def _own_features(form: ParameterForm) -> Array:
    """Return each device's rows of the Jacobian, divided by sqrt(N_q) and padded with zeros, (Q, r, D)."""
    rows = form.task.rows
    padded = np.zeros((len(rows), max(part.stop - part.start for part in rows), form.shape[1]))
    for q, part in enumerate(rows):
        padded[q, : part.stop - part.start] = form.features[part] / math.sqrt(form.task.n_samples[q])
    return padded


def _symmetric(matrix: Array) -> Array:
    return np.asarray((matrix + matrix.T) / 2)


def _weighted(form: Form, pairs: Array) -> Array:
    """Return the kernel times pairs[device, device] / sqrt(N N) of its rows, (R, R)."""
    owner = form.task.owner
    root = np.sqrt(form.task.n_samples)
    return np.asarray(form.kernel * (pairs / np.outer(root, root))[np.ix_(owner, owner)])


def _start(n: int) -> Array:
    return np.random.Generator(np.random.Philox(0)).standard_normal(n)


def _top(matrix: Array) -> float:
    """Return the largest eigenvalue of a symmetric matrix."""
    n = len(matrix)
    if n <= 100:
        return float(np.linalg.eigvalsh(matrix)[-1])
    from scipy.sparse.linalg import eigsh

    matrix = np.asarray(matrix, np.float64)
    return float(eigsh(matrix, 1, which="LA", v0=_start(n), tol=1e-9, return_eigenvectors=False)[0])


def _bisect(form: Form, rule: Rule, mixing: Array) -> StepRange:
    if form.shape[0] * form.shape[1] > DENSE // 3:
        raise PredictionError("the stable step sizes of weights that aren't reversible need fewer states")
    low, high = 0.0, 4 / curvature(form)
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        if spectral_radius(form, rule, mixing, middle) > 1 + _CLOSE:
            high = middle
        else:
            low = middle
    return StepRange(low, False)
