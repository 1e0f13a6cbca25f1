"""A module is tried before it is trained: what it does, and which way of computing it does the same.

    twice the same samples     does it draw random numbers?
    a sample alone, in a batch do the samples of a batch influence each other?
    buffers before and after   what does training change besides the parameters?
    a fast way, the module     outputs, and one gradient of a batch with a filler row: equal?

A fast way that differs, or that raises, isn't used. The slowest one is the module itself, so there always is one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from p2pl_async.errors import P2plError
from p2pl_async.learning.dense import DenseNetwork
from p2pl_async.learning.layout import VectorLayout, tensor
from p2pl_async.learning.networks import ModuleItself, Network, Vmapped

if TYPE_CHECKING:
    from p2pl_async.learning.losses import TrainingLoss

_WIDE = 64  # channels at and above which batching a convolution over devices doesn't pay on a CPU
_SAMPLES = 4  # of the data, on which modules are tried
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}  # largest difference, as a share of the largest value


@dataclass(frozen=True)
class Findings:
    """What a module does besides computing a function of parameters and one sample."""

    draws: bool  # whether it draws from torch's generator, in training or in evaluation mode
    mixes: bool  # whether the samples of a batch influence each other in training mode
    changing: tuple[str, ...]  # buffers that a forward pass in training mode changes
    saved_values: int  # values that a forward pass of one sample keeps for the gradient


class Unfit(P2plError):
    """A module can't be trained here; the text says why."""


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch draw from a stream of its own, and restore its generators afterwards."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        if gpus:
            torch.cuda.manual_seed(seed)
        yield


def examine(module: nn.Module, x: Tensor, n_classes: int) -> Findings:
    """Return what a module does; its buffers are as before afterwards.

    Args:
        module: of the model.
        x: at least one sample of the data, (n, *shape).
        n_classes: width that its outputs must have.

    Raises:
        Unfit: if the outputs are no logits, don't depend on parameters, or differ between two equal passes.
        Exception: whatever the module raises.
    """
    x = _several(x)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    changing: dict[str, None] = {}

    def outputs_of(samples: Tensor, mode: Literal["train", "eval"]) -> tuple[Tensor, bool]:
        """Return the outputs, and whether numbers were drawn; restore the buffers."""
        module.train(mode == "train")
        with seeded(0, x.device):
            start = _generator_state(x.device)
            outputs = _checked(module(samples), len(samples), n_classes)
            drew = not torch.equal(start, _generator_state(x.device))
        changed = _restore(module, before)
        if mode == "train":
            changing.update(dict.fromkeys(changed))
        return outputs, drew

    with torch.no_grad():
        trained, draws = outputs_of(x, "train")
        tested, draws_in_tests = outputs_of(x, "eval")
        if not (_close(outputs_of(x, "train")[0], trained) and _close(outputs_of(x, "eval")[0], tested)):
            raise Unfit("it gives the same samples other outputs a second time; random numbers must be torch's")
        try:
            alone = outputs_of(x[:1], "train")[0]
            mixes = not draws and not _close(alone, trained[:1])
        except (RuntimeError, ValueError):  # batch normalization refuses a sample alone
            mixes = True
    module.train()
    with seeded(0, x.device):
        saved = _saved_values(module, x)
    _restore(module, before)
    return Findings(draws or draws_in_tests, mixes, tuple(changing), saved)


def refusal(module: nn.Module, x: Tensor) -> str:
    """Return the error of a module that can't train on a batch; nothing if it can."""
    module.train()
    try:
        with torch.no_grad(), seeded(0, x.device):
            module(x)
    except (RuntimeError, ValueError) as error:
        return str(error)
    return ""


def choose(
    make: Callable[[torch.dtype], nn.Module],
    layout: VectorLayout,
    findings: Findings,
    loss: TrainingLoss,
    x: Tensor,
    y: Tensor,
) -> type[DenseNetwork] | type[Vmapped] | type[ModuleItself]:
    """Return the fastest kind of network that computes what the module does.

    They are compared in float64, in which equal networks differ by rounding alone: in float32 a ReLU whose input
    is nearly zero would turn rounding into another gradient.

    Args:
        make: returns the module, fresh, with tensors of a precision.
        layout: of its tensors.
        findings: about it.
        loss: to be minimized.
        x, y: samples to compare on, (n, *shape) and (n,) or (n, n_classes).
    """
    if not layout.plain or findings.draws or findings.mixes:
        return ModuleItself
    module = make(x.dtype)
    kinds: list[type[DenseNetwork] | type[Vmapped]] = [DenseNetwork] if DenseNetwork.fits(module) else []
    channels = [
        max(part.in_channels, part.out_channels)
        for part in module.modules()
        if isinstance(part, nn.modules.conv._ConvNd)
    ]
    if x.device.type == "cuda" or max(channels, default=0) < _WIDE:
        kinds.append(Vmapped)
    if not kinds:
        return ModuleItself
    x, y = _several(x), _several(y)
    for dtype in (torch.float64, x.dtype):
        starts = [_near(make(dtype), layout, seed) for seed in range(2)]
        try:
            alone = [_outcome(ModuleItself(make(dtype), layout, loss), [start], x.to(dtype), y) for start in starts]
        except RuntimeError:  # its forward pass makes tensors of a precision of its own
            continue
        wanted = [torch.cat(own) for own in zip(*alone, strict=True)]
        for kind in kinds:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("error", "There is a performance drop")  # vmap falls back to a loop
                    found = _outcome(kind(make(dtype), layout, loss), starts, x.to(dtype), y)
            except Exception:  # vmap refuses what it can't batch in many ways; the module itself has passed
                continue
            if all(map(_close, found, wanted)):
                return kind
        break
    return ModuleItself


@torch.no_grad()
def _outcome(network: Network, starts: Sequence[Sequence[Tensor]], x: Tensor, y: Tensor) -> list[Tensor]:
    """Return the outputs and gradients of some devices, each (k, ...), on a batch with a filler row of weight 0."""
    k, n = len(starts), len(x)
    w = [torch.stack(list(layers)) for layers in zip(*starts, strict=True)]
    if isinstance(network, ModuleItself):
        network.bind(w, None)
    outputs = network.logits(w, x).clone()
    filled = torch.cat([x, x[:1]]).expand(k, n + 1, *x.shape[1:]).contiguous()
    labels = torch.cat([y, y[:1]]).expand(k, n + 1, *y.shape[1:]).contiguous()
    labels = labels.to(x) if labels.is_floating_point() else labels
    weights = torch.full((k, n + 1), 1 / n, dtype=x.dtype, device=x.device)
    weights[:, n] = 0
    gradients = network.gradients(w, filled, network.targets(labels), weights)
    zeros = [torch.zeros_like(layer) for layer in w]
    return [outputs, *(zero if g is None else g.clone() for g, zero in zip(gradients, zeros, strict=True))]


def _near(module: nn.Module, layout: VectorLayout, seed: int) -> list[Tensor]:
    """Return parameters near a module's initial ones, so that none is zero."""
    generator = torch.Generator().manual_seed(seed)
    values = [tensor(module, name).detach() for name in layout.trained]
    return [value + 0.01 * torch.randn(value.shape, generator=generator).to(value) for value in values]


def _checked(outputs: object, n: int, n_classes: int) -> Tensor:
    """Return a module's outputs if they are logits of `n` samples."""
    if not isinstance(outputs, Tensor):
        raise Unfit(f"it gives a {type(outputs).__name__}, not a tensor")
    if outputs.shape != (n, n_classes):
        raise Unfit(f"it gives {n} samples outputs of shape {tuple(outputs.shape)}")
    return outputs


def _restore(module: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
    """Give the buffers the values that they had; return the names of those that had others."""
    changed = []
    for name, buffer in list(module.named_buffers()):
        if buffer.shape != before[name].shape or not torch.equal(buffer, before[name]):
            changed.append(name)
            buffer.data = before[name].clone()
    return changed


def _several(x: Tensor) -> Tensor:
    """Return the first samples, repeated if there are few."""
    return torch.cat([x[:_SAMPLES]] * _SAMPLES)[:_SAMPLES]


def _close(a: Tensor, b: Tensor) -> bool:
    """Whether tensors are equal but for rounding, measured by the largest value."""
    if a.shape != b.shape:
        return False
    a, b = a.nan_to_num(), b.nan_to_num()
    largest = torch.maximum(a.abs().max(), b.abs().max()) if a.numel() else a.sum()
    return not bool(((a - b).abs() > _TOLERANCE[a.dtype] * largest).any())


def _generator_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.random.get_rng_state()


def _saved_values(module: nn.Module, x: Tensor) -> int:
    """Return how many values a pass in training mode keeps for each sample, parameters left out."""
    own = {value.untyped_storage().data_ptr() for value in [*module.parameters(), *module.buffers()]}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        outputs = module(x)  # holds what was kept, so no address is used twice
    if not outputs.requires_grad:
        raise Unfit("its outputs don't depend on a parameter to train")
    return -(-sum(kept.values()) // (len(x) * x.element_size()))
