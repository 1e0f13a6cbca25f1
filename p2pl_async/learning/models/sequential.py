"""Models of sequences: LSTM and transformer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.models.base import Model
from p2pl_async.learning.models.images import image

if TYPE_CHECKING:
    from torch import nn


class SequenceModel(Model):
    """What models of sequences have in common: how a sample becomes a sequence of steps."""

    time: Literal["first", "last"] = Field(
        default="first",
        description="where a sample has its steps; first: (steps, features), or an image row by row; last: "
        "(features, steps)",
    )
    vocabulary: PositiveInt | None = Field(
        default=None, description="samples are sequences of words, numbers below this; none: of real numbers"
    )

    def steps_of(self, shape: tuple[int, ...], width: int) -> tuple[nn.Module, int, int]:
        """Return the layer that makes sequences, their number of steps, and of features.

        Args:
            shape: of a sample.
            width: of the vector that stands for a word.
        """
        from p2pl_async.learning.models.layers import Sequences

        axis = len(shape) if self.time == "last" else max(1, len(shape) - 1)
        layer = Sequences(axis, self.vocabulary, width)
        if self.vocabulary is not None:
            return layer, math.prod(shape), width
        return layer, shape[axis - 1], math.prod(shape) // shape[axis - 1]


class Lstm(SequenceModel):
    """Long short-term memory: reads a sample step by step, and classifies by its last state."""

    kind: Literal["lstm"] = "lstm"
    hidden: PositiveInt = Field(default=64, description="width of the state")
    layers: PositiveInt = Field(default=1, description="LSTMs on top of each other")
    embedding: PositiveInt = Field(default=8, description="width of a word's vector; only with vocabulary")

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return steps -> LSTM -> last state -> linear."""
        from torch import nn

        from p2pl_async.learning.models.layers import LastState

        steps, _, features = self.steps_of(shape, self.embedding)
        return nn.Sequential(steps, LastState(features, self.hidden, self.layers), nn.Linear(self.hidden, n_classes))


class Transformer(SequenceModel):
    """Small transformer encoder with learned positions; with `patch`, a vision transformer."""

    kind: Literal["transformer"] = "transformer"
    width: PositiveInt = Field(default=64, description="width of the vector of a step")
    heads: PositiveInt = Field(default=4, description="attention heads; they share the width")
    layers: PositiveInt = Field(default=2, description="encoder layers, each with a hidden layer of 4 times the width")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of values that each dropout sets to zero")
    patch: PositiveInt | None = Field(
        default=None, description="side of the squares that images are cut into, as steps; none: steps as by `time`"
    )

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}")
        if self.patch is not None and self.vocabulary is not None:
            raise ValueError("patch is for images and vocabulary for words; leave out one of them")
        return self

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return steps -> linear -> positions -> encoder with normalization first -> mean over steps -> linear.

        Raises:
            ScenarioError: if images can't be cut into squares of `patch` pixels a side.

        Source: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017; A. Dosovitskiy et al., "An Image is
        Worth 16x16 Words", ICLR 2021 (patches).
        """
        from torch import nn

        from p2pl_async.learning.models.layers import Encoder, Patches, channels_first

        if self.patch is None:
            layer, steps, features = self.steps_of(shape, self.width)
            first = [layer]
        else:
            channels, height, width = image(shape, self.patch, self.kind)
            if height % self.patch or width % self.patch:
                text = f"must divide the sides of the images, {height} x {width} pixels"
                raise ScenarioError("model", [Problem("model.patch", text, self.patch)])
            steps, features = height * width // self.patch**2, channels * self.patch**2
            first = [*channels_first(shape), Patches(self.patch)]
        if self.vocabulary is None:
            first.append(nn.Linear(features, self.width))
        encoder = Encoder(steps, self.width, self.heads, self.layers, self.dropout)
        return nn.Sequential(*first, encoder, nn.Linear(self.width, n_classes))
