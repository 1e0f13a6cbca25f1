"""Parts of networks, as torch modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from p2pl_async.learning.models.images import Norm

_CHANNELS_PER_GROUP = 16  # as good as any in Wu and He, "Group Normalization", ECCV 2018, table 3


def channels_first(shape: tuple[int, ...]) -> list[nn.Module]:
    """Return the layers that give images (height, width) their one channel; none for others."""
    return [nn.Unflatten(1, (1, shape[0]))] if len(shape) == 2 else []


def channels_last(shape: tuple[int, ...]) -> list[nn.Module]:
    """Return the layers that give images their channels, and the memory format in which convolutions are fastest."""
    return [*channels_first(shape), ChannelsLast()]


def convolution(
    inputs: int, outputs: int, kernel: int, norm: Norm, *, stride: int = 1, dimensions: int = 2
) -> list[nn.Module]:
    """Return a convolution that keeps the size, but for its stride, and its normalization.

    It has a bias where nothing is normalized: elsewhere the normalization has one.
    """
    conv = nn.Conv1d if dimensions == 1 else nn.Conv2d
    layer = conv(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=norm == "none")
    if norm == "none":
        return [layer]
    if norm == "group":
        return [layer, nn.GroupNorm(math.gcd(outputs, max(1, outputs // _CHANNELS_PER_GROUP)), outputs)]
    return [layer, nn.BatchNorm1d(outputs) if dimensions == 1 else nn.BatchNorm2d(outputs)]


class ChannelsLast(nn.Module):
    """Images in the memory format in which a CPU convolves fastest: a pixel's channels beside each other.

    Attributes:
        on: False leaves images as they are, as vmap needs it, which knows no memory formats.
    """

    on = True

    def forward(self, x: Tensor) -> Tensor:
        """Return the same images."""
        return x.contiguous(memory_format=torch.channels_last) if self.on else x


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: relu(branch(x) + shortcut(x)).

    Args:
        inputs, outputs: channels.
        stride: of the first convolution.
        norm: after each convolution.
        project: whether a shortcut that changes the shape is a 1 x 1 convolution; else it leaves out
            pixels and adds channels of zeros, without parameters.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm, *, project: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *convolution(inputs, outputs, 3, norm, stride=stride), nn.ReLU(), *convolution(outputs, outputs, 3, norm)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            fill = Thinned(stride, outputs - inputs)
            self.shortcut = nn.Sequential(*convolution(inputs, outputs, 1, norm, stride=stride)) if project else fill

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        total: Tensor = self.branch(x) + self.shortcut(x)
        return total.relu_()  # in place: a step of ResNet-20 takes 4 % less time


class Thinned(nn.Module):
    """Takes every `stride`-th pixel, and adds channels of zeros on both sides."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride = stride
        self.sides = channels // 2, channels - channels // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the shortcut's output."""
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.sides))


class Sequences(nn.Module):
    """Turns samples into sequences (batch, steps, features).

    Args:
        axis: of a batch, where its steps are.
        vocabulary: number of words, if samples are sequences of their numbers; each gets a vector of its own.
        width: of that vector.
    """

    def __init__(self, axis: int, vocabulary: int | None, width: int) -> None:
        super().__init__()
        self.axis = axis
        self.words = None if vocabulary is None else nn.Embedding(vocabulary, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sequences."""
        if self.words is not None:
            try:
                vectors: Tensor = self.words(x.flatten(1).long())
            except IndexError as error:
                found = f"{int(x.min())} to {int(x.max())}"
                most = self.words.num_embeddings - 1
                raise ValueError(f"samples have words {found}, vocabulary allows 0 to {most}") from error
            return vectors
        return x.unsqueeze(2) if x.dim() == 2 else x.movedim(self.axis, 1).flatten(2)


class LastState(nn.Module):
    """An LSTM, of which the output of the last step is taken."""

    def __init__(self, features: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, hidden)."""
        outputs: Tensor = self.lstm(x)[0]
        return outputs[:, -1]


class Encoder(nn.Module):
    """Positions are added to the steps of a sequence, then torch's transformer encoder, then the mean over steps."""

    def __init__(self, steps: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(steps, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, width)."""
        outputs: Tensor = self.encoder(x + self.positions)
        return outputs.mean(1)


class Patches(nn.Module):
    """Cuts images into squares: (batch, channels, height, width) -> (batch, squares, channels * side * side)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Return the squares, row by row."""
        return nn.functional.unfold(x, self.side, stride=self.side).transpose(1, 2)
