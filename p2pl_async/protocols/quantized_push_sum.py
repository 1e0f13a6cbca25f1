"""Quantized push-sum: push-sum of copies updated by quantized differences.

Source: H. Taheri, A. Mokhtari, H. Hassani, R. Pedarsani, "Quantized Decentralized Stochastic Learning
over Directed Graphs", ICML 2020: x_i <- x_i + sum_j p_ij h_j - h_i, z_i = x_i / u_i. That is CHOCO-SGP
with gamma = 1, for which coarse compressors are too inexact.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from p2pl_async.compression import AnyCompressor, Int8
from p2pl_async.protocols.choco_sgp import ChocoSGP


class QuantizedPushSum(ChocoSGP):
    """Push-sum by differences of 8 bits per entry, on one-way links (Taheri et al. 2020)."""

    kind: Literal["quantized-push-sum"] = "quantized-push-sum"  # type: ignore[assignment]
    compressor: AnyCompressor = Field(default=Int8(), description="What is sent of a difference")
    gamma: Annotated[float, Field(gt=0, le=1)] | None = Field(default=1.0, description="Consensus step size")
