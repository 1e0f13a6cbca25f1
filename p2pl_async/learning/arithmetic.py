"""How exactly torch multiplies float32 numbers: the settings `train.matmul` and `train.autocast`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from p2pl_async.learning.settings import MatMul

_OF_CONVOLUTIONS = {"highest": "none", "high": "tf32", "medium": "bf16"}


@contextmanager
def products(matmul: MatMul) -> Iterator[None]:
    """Let torch multiply matrices, and convolve, with this precision; sums are float32 in any case.

    It is a setting of the process, so the one from before comes back afterwards. A processor without the
    instructions for a lower precision takes the highest.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    of_cpu = getattr(torch.backends.mkldnn, "conv", None)  # since torch 2.9
    conv_before = getattr(of_cpu, "fp32_precision", None)
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = matmul != "highest"
    if of_cpu is not None:
        of_cpu.fp32_precision = _OF_CONVOLUTIONS[matmul]
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
        if of_cpu is not None:
            of_cpu.fp32_precision = conv_before


def in_bfloat16(module: nn.Module, device: torch.device) -> nn.Module:
    """Return a module whose forward pass runs under torch's autocast, with outputs of the type of its inputs.

    Parameters, gradients and steps stay float32. Inputs in float64 are computed as before.
    """
    forward = module.forward

    def under_autocast(x: Tensor) -> object:
        with torch.autocast(device.type, torch.bfloat16):
            outputs = forward(x)
        return outputs.to(x.dtype) if isinstance(outputs, Tensor) else outputs

    module.forward = under_autocast
    return module
