"""Neural tangent kernels: inner products of the gradients of a model's outputs at some parameters.

    K[(x, c), (z, d)] = grad f_c(x) . grad f_d(z)

Three ways, of which `gradient_gram` takes the first that fits:

    one linear layer                    (x . z + 1), one kernel for all outputs, whatever the parameters
    flatten, linear layers, ReLU, tanh  sum over layers of (activations . activations + 1) times
                                        (back-propagated . back-propagated); no array has the size of the parameters
    any other module                    blocks of the Jacobian, by torch.func

Source: A. Jacot et al., NeurIPS 2018; J. Lee et al., "Wide neural networks of any depth evolve as
linear models under gradient descent", NeurIPS 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from p2pl_async.basics.arrays import Array
from p2pl_async.errors import PredictionError

_BLOCK_BYTES = 1 << 28  # of one block of a Jacobian


class Gram(NamedTuple):
    """Kernel values, and the meaning of their rows.

    If `shared`, a row is a sample: each output has this kernel, and different outputs have 0. If not,
    row `n * n_outputs + c` is output c of sample n.
    """

    values: Array
    shared: bool


def is_linear(module: nn.Module) -> bool:
    """Whether the module is one linear layer with a bias, after flattening."""
    layers = _dense_layers(module)
    return layers is not None and len(layers) == 1 and layers[0].bias is not None


def gradient_gram(module: nn.Module, x: Array, z: Array | None = None, *, most_bytes: float = math.inf) -> Gram:
    """Return the kernel between samples at the module's present parameters.

    Args:
        module: samples (batch, *shape) -> outputs (batch, n_outputs); computed in its own precision.
        x: samples of the rows, (n, *shape).
        z: samples of the columns, (k, *shape); those of the rows by default.
        most_bytes: limit of the memory used at once.

    Returns:
        (n * n_outputs, k * n_outputs), or (n, k) if shared.

    Raises:
        PredictionError: if it doesn't fit into memory; says how much it needs.
    """
    dtype = next(module.parameters()).dtype
    rows, columns = _samples(x, dtype), None if z is None else _samples(z, dtype)
    if is_linear(module):
        flat = rows.flatten(1)
        other = flat if columns is None else columns.flatten(1)
        return Gram((flat @ other.T + 1).numpy(), shared=True)
    outputs = _outputs(module, rows)
    shape = (len(rows) * outputs, (len(rows) if columns is None else len(columns)) * outputs)
    item = torch.finfo(dtype).bits // 8
    layers = _dense_layers(module)
    if layers is not None:
        widest = max(layer.in_features for layer in layers)
        need = item * (shape[0] * shape[1] + (shape[0] + (columns is not None) * shape[1]) * 2 * widest)
        _check_memory("the kernel", shape, need, most_bytes)
        return Gram(_dense_gram(module, rows, columns).numpy(), shared=False)
    n_params = sum(p.numel() for p in module.parameters())
    block = max(1, int(min(_BLOCK_BYTES, most_bytes / 4)) // (item * n_params * outputs))
    need = item * (shape[0] * shape[1] + 3 * block * n_params * outputs)
    _check_memory("the kernel", shape, need, most_bytes)
    return Gram(_jacobian_gram(module, rows, columns, block, outputs).numpy(), shared=False)


def _check_memory(what: str, shape: tuple[int, ...], need: float, most: float) -> None:
    if need > most:
        size = " x ".join(f"{side:,}" for side in shape)
        raise PredictionError(
            f"{what} of {size} needs {need / 2**30:.3g} GiB, more than the {most / 2**30:.3g} GiB allowed; "
            "use fewer samples (data.train_samples, evaluate.samples), float32, or allow more memory"
        )


def _samples(x: Array, dtype: torch.dtype) -> Tensor:
    return torch.tensor(np.asarray(x), dtype=dtype)  # a copy: data sets are read-only


@torch.no_grad()
def _outputs(module: nn.Module, x: Tensor) -> int:
    return int(module(x[:1]).shape[1])


# Dense networks


def _dense_layers(module: nn.Module) -> list[nn.Linear] | None:
    """Return the linear layers of flatten -> linear -> (ReLU or tanh -> linear) ..., None for other modules."""
    if type(module) is not nn.Sequential or len(module) < 2:
        return None
    flat, *rest = list(module)
    if type(flat) is not nn.Flatten or (flat.start_dim, flat.end_dim) != (1, -1) or len(rest) % 2 == 0:
        return None
    linear = rest[::2]
    if any(type(layer) is not nn.Linear for layer in linear):
        return None
    if any(type(layer) not in (nn.ReLU, nn.Tanh) for layer in rest[1::2]):
        return None
    return [layer for layer in linear if isinstance(layer, nn.Linear)]


class _Signals(NamedTuple):
    """Signals at the linear layers of a dense network, forward and backward."""

    inputs: list[Tensor]  # inputs of each layer, (n, in)
    backs: list[Tensor | None]  # gradients of every output at each layer's outputs, (n * outputs, out); None: identity


@torch.no_grad()
def _signals(module: nn.Module, x: Tensor) -> _Signals:
    layers = _dense_layers(module)
    assert layers is not None
    activations = list(module.children())[2::2]
    inputs, slopes = [x.flatten(1)], []
    for layer, activation in zip(layers, activations, strict=False):
        h = activation(layer(inputs[-1]))
        slopes.append((h > 0).to(h.dtype) if isinstance(activation, nn.ReLU) else 1 - h * h)
        inputs.append(h)
    backs: list[Tensor | None] = [None]
    back: Tensor | None = None
    for layer, slope in zip(reversed(layers), reversed(slopes), strict=False):
        above = layer.weight[None] if back is None else back @ layer.weight
        back = above * slope[:, None, :]  # (n, outputs, in)
        backs.append(back.flatten(0, 1))
    return _Signals(inputs, backs[::-1])


@torch.no_grad()
def _dense_gram(module: nn.Module, x: Tensor, z: Tensor | None) -> Tensor:
    """Sum over layers of (inputs . inputs, + 1 with a bias) times (backs . backs)."""
    layers = _dense_layers(module)
    assert layers is not None
    rows = _signals(module, x)
    columns = rows if z is None else _signals(module, z)
    n, k, outputs = len(rows.inputs[0]), len(columns.inputs[0]), layers[-1].out_features
    gram = torch.zeros((n, outputs, k, outputs), dtype=x.dtype)
    for i, layer in enumerate(layers):
        forward = rows.inputs[i] @ columns.inputs[i].T
        if layer.bias is not None:
            forward += 1
        left, right = rows.backs[i], columns.backs[i]
        if left is None or right is None:  # the last layer, where every output has its own weights
            gram.diagonal(dim1=1, dim2=3).add_(forward[:, :, None])
            continue
        block = max(1, n // max(1, gram.numel() * gram.element_size() // _BLOCK_BYTES))
        for start in range(0, n, block):  # by blocks of rows, whose products fit into memory beside the kernel
            part = slice(start * outputs, (start + block) * outputs)
            product = (left[part] @ right.T).view(-1, outputs, k, outputs)
            gram[start : start + block].addcmul_(product, forward[start : start + block, None, :, None])
    return gram.view(n * outputs, k * outputs)


# Any module


def jacobian(module: nn.Module, x: Tensor) -> Tensor:
    """Return the gradients of every output at the present parameters, (n * n_outputs, n_params)."""
    names = [name for name, _ in module.named_parameters()]
    values = tuple(p.detach() for p in module.parameters())

    def outputs(w: tuple[Tensor, ...], sample: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(module, dict(zip(names, w, strict=True)), (sample[None],))
        return result[0]

    found = torch.func.vmap(torch.func.jacrev(outputs), in_dims=(None, 0))(values, x)
    return torch.cat([layer.flatten(2) for layer in found], 2).flatten(0, 1)


def _blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _jacobian_gram(module: nn.Module, x: Tensor, z: Tensor | None, block: int, outputs: int) -> Tensor:
    columns = x if z is None else z
    gram = torch.empty((len(x) * outputs, len(columns) * outputs), dtype=x.dtype)
    for rows in _blocks(len(x), block):
        left = jacobian(module, x[rows])
        into = slice(rows.start * outputs, rows.stop * outputs)
        for other in _blocks(len(columns), block):
            across = slice(other.start * outputs, other.stop * outputs)
            if z is None and other.start < rows.start:
                gram[into, across] = gram[across, into].T
            else:
                right = left if z is None and other == rows else jacobian(module, columns[other])
                gram[into, across] = left @ right.T
    return gram


# Columns and combinations of the Jacobian


def parameter_columns(module: nn.Module, x: Array, indices: Sequence[int]) -> Array:
    """Return the gradients of every output with respect to some parameters, (n * n_outputs, len(indices)).

    Args:
        module: the model at its present parameters.
        x: samples, (n, *shape).
        indices: of entries of the flat parameter vector.
    """
    parameters = list(module.parameters())
    # J^T v is linear in v: the gradient of one of its entries with respect to v is a column of J.
    with torch.enable_grad():
        outputs = module(_samples(x, parameters[0].dtype))
        v = torch.zeros_like(outputs, requires_grad=True)
        found = torch.autograd.grad(outputs, parameters, v, create_graph=True, materialize_grads=True)
        flat = torch.cat([layer.flatten() for layer in found])
        columns = [torch.autograd.grad(flat[index], v, retain_graph=True)[0].flatten() for index in indices]
    return torch.stack(columns, 1).numpy()


def combined_gradient(module: nn.Module, x: Array, coefficients: Array) -> Array:
    """Return sum over samples and outputs of coefficient times gradient, (n_params,).

    Args:
        module: the model at its present parameters.
        x: samples, (n, *shape).
        coefficients: (n, n_outputs).
    """
    parameters = list(module.parameters())
    samples = _samples(x, parameters[0].dtype)
    with torch.enable_grad():
        total = (module(samples) * torch.tensor(coefficients, dtype=parameters[0].dtype)).sum()
    gradients = torch.autograd.grad(total, parameters, materialize_grads=True)
    return torch.cat([g.flatten() for g in gradients]).numpy()


# Modules as functions of flat parameter vectors


def flat_parameters(module: nn.Module) -> Array:
    """Return a module's parameters, (n_params,)."""
    return np.asarray(nn.utils.parameters_to_vector(module.parameters()).detach().numpy())


def with_parameters(module: nn.Module, w: Array) -> nn.Module:
    """Give a module these parameters, and their precision; returns it."""
    vector = torch.tensor(w)
    module.to(vector.dtype)
    nn.utils.vector_to_parameters(vector, module.parameters())
    return module


@torch.no_grad()
def outputs_of(module: nn.Module, x: Array) -> Array:
    """Return the outputs on samples (n, *shape) in the module's precision, (n, n_outputs)."""
    return np.asarray(module(_samples(x, next(module.parameters()).dtype)).numpy())
