"""Kernels of gradients: structured, and by Jacobians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from p2pl_async.dynamics import kernels
from p2pl_async.errors import PredictionError


def made(*layers: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Return flatten and these layers."""
    return nn.Sequential(nn.Flatten(), *layers).to(dtype)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


SHAPE = (3, 4)
NETWORKS = {
    "linear": lambda: made(nn.Linear(12, 3)),
    "relu": lambda: made(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3)),
    "three layers": lambda: made(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 7, bias=False), nn.ReLU(), nn.Linear(7, 3)),
    "no bias": lambda: made(nn.Linear(12, 3, bias=False)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv2d(1, 2, 2), nn.GELU(), nn.Flatten(), nn.Linear(12, 3)
    ).double(),
}


def samples(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *SHAPE))


def by_autograd(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """Return the Jacobian one output at a time, (n * outputs, n_params)."""
    parameters = list(module.parameters())
    outputs = module(torch.tensor(x)).flatten()
    rows = [torch.autograd.grad(output, parameters, retain_graph=True) for output in outputs]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).numpy()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("other", [False, True], ids=["square", "test rows"])
def test_the_kernel_is_the_gram_of_the_gradients(name, other) -> None:
    module = NETWORKS[name]()
    x, z = samples(6, 0), samples(4, 1)
    columns = by_autograd(module, z if other else x)
    expected = by_autograd(module, x) @ columns.T
    found = kernels.gradient_gram(module, x, z if other else None)
    values = np.kron(found.values, np.eye(3)) if found.shared else found.values
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-12)
    assert found.shared == (name == "linear") == kernels.is_linear(module)


def test_blocks_of_jacobians_are_the_whole() -> None:
    module, x, z = NETWORKS["convolution"](), torch.tensor(samples(7, 0)), torch.tensor(samples(5, 1))
    for block in (1, 2, 3, 7):
        for columns in (None, z):
            right = kernels.jacobian(module, x if columns is None else columns)
            np.testing.assert_allclose(
                kernels._jacobian_gram(module, x, columns, block, 3), kernels.jacobian(module, x) @ right.T, atol=1e-12
            )


def test_blocks_of_a_dense_network_are_the_whole(monkeypatch) -> None:
    module, x = NETWORKS["three layers"](), samples(9, 0)
    whole = kernels.gradient_gram(module, x).values
    monkeypatch.setattr(kernels, "_BLOCK_BYTES", 500)  # two samples at a time
    np.testing.assert_allclose(kernels.gradient_gram(module, x).values, whole, rtol=1e-13)


def test_the_precision_is_that_of_the_module() -> None:
    module = NETWORKS["relu"]()
    exact = kernels.gradient_gram(module, samples(5, 0)).values
    single = kernels.gradient_gram(module.float(), samples(5, 0)).values
    assert (exact.dtype, single.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(single, exact, rtol=1e-4, atol=1e-4)


def test_columns_and_combinations_of_the_jacobian() -> None:
    module, x = NETWORKS["three layers"](), samples(5, 0)
    whole = by_autograd(module, x)
    last = whole.shape[1] - 1
    np.testing.assert_allclose(
        kernels.parameter_columns(module, x, [0, 110, last]), whole[:, [0, 110, last]], atol=1e-13
    )
    weights = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_allclose(kernels.combined_gradient(module, x, weights), weights.ravel() @ whole, atol=1e-12)


def test_parameters_go_in_and_come_out() -> None:
    module = NETWORKS["relu"]()
    w = kernels.flat_parameters(module)
    other = kernels.with_parameters(NETWORKS["relu"](), w.astype(np.float32))
    np.testing.assert_array_equal(kernels.flat_parameters(other), w.astype(np.float32))
    np.testing.assert_allclose(
        kernels.outputs_of(other, samples(3, 0)), kernels.outputs_of(module, samples(3, 0)), atol=1e-5
    )


@pytest.mark.parametrize("name", ["three layers", "convolution"])
def test_a_kernel_that_does_not_fit_says_what_it_needs(name) -> None:
    with pytest.raises(PredictionError, match=r"kernel of 18 x 18 needs .*GiB, more than .*data.train_samples"):
        kernels.gradient_gram(NETWORKS[name](), samples(6, 0), most_bytes=2000)
