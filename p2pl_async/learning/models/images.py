"""Samples as images or signals: what convolutional models ask of their shape, and their choice of normalization."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from p2pl_async.errors import Problem, ScenarioError

Norm = Literal["group", "batch", "none"]

Normalization = Annotated[
    Norm, Field(description="normalization after each convolution: groups of 16 channels, batches, or none")
]
"""The `norm` key of models of images."""


def image(shape: tuple[int, ...], least: int, kind: str, *, dimensions: int = 2) -> tuple[int, ...]:
    """Return (channels, height, width) of images, or (channels, length) of signals.

    Args:
        shape: of a sample.
        least: pixels that each side must have.
        kind: of the model, for the error.
        dimensions: 2 for images, 1 for signals.

    Raises:
        ScenarioError: if the samples are something else, or too small.
    """
    whole = (1, *shape) if dimensions == len(shape) == 2 else shape
    if len(whole) == dimensions + 1 and min(whole[1:]) >= least:
        return whole
    found = f"the data has samples of shape {shape}"
    if dimensions == 1:
        text = f"needs signals (channels, length) of a length of at least {least}, {found}; leave out model.dimensions"
    else:
        text = f'needs images of at least {least} x {least} pixels, {found}; use kind = "mlp"'
    raise ScenarioError("model", [Problem("model.kind", text, kind)])
