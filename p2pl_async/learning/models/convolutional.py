"""Convolutional models without shortcuts: LeNet, a CNN of any size, VGG-11."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from p2pl_async.basics.settings import mistake
from p2pl_async.learning.models.base import Model
from p2pl_async.learning.models.images import Normalization, image

if TYPE_CHECKING:
    from torch import nn

_VGG_11 = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


class LeNet(Model):
    """Small convolutional network of LeNet's size for images (8 x 8 digits, 28 x 28 MNIST)."""

    kind: Literal["lenet"] = "lenet"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return two 5 x 5 convolutions (6 and 16 channels, each halved by max-pooling), then 120 and 84 units.

        Args:
            shape: (height, width) or (channels, height, width), at least 4 pixels a side.
            n_classes: width of the output.

        Raises:
            ScenarioError: if the samples aren't images.

        Source: Y. LeCun et al., "Gradient-based learning applied to document recognition",
        Proc. IEEE 1998; ReLU and max-pooling in place of its sigmoids and subsampling.
        """
        from torch import nn

        from p2pl_async.learning.models.layers import channels_first

        channels, height, width = image(shape, 4, self.kind)
        return nn.Sequential(
            *channels_first(shape),
            nn.Conv2d(channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * (height // 4) * (width // 4), 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, n_classes),
        )


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise mistake("must be odd, so that a convolution keeps the size of an image")
    return kernel


class Cnn(Model):
    """Convolutions, each with pooling, then dense layers; on MNIST the default is the CNN of the FedAvg paper."""

    kind: Literal["cnn"] = "cnn"
    channels: tuple[PositiveInt, ...] = Field(
        default=(32, 64), min_length=1, description="output channels of each convolution"
    )
    kernel: Annotated[PositiveInt, AfterValidator(_odd)] = Field(
        default=5, description="side of the convolutions' kernels, an odd number; they keep an image's size"
    )
    pooling: Literal["max", "average", "none"] = Field(
        default="max", description="what halves the sides after each convolution; none: they stay"
    )
    hidden: tuple[PositiveInt, ...] = Field(default=(512,), description="width of each dense layer before the last")
    norm: Normalization = "none"
    dimensions: Literal[1, 2] = Field(
        default=2, description="2: samples are images; 1: they are signals, (channels, length)"
    )

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return (convolution -> normalization -> ReLU -> pooling) for each of `channels`, then dense layers.

        Args:
            shape: (height, width) or (channels, height, width); with `dimensions = 1` (channels, length).
            n_classes: width of the output.

        Raises:
            ScenarioError: if the samples have another shape, or no pixel is left after pooling.

        Source: B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
        AISTATS 2017 (the default sizes).
        """
        from torch import nn

        from p2pl_async.learning.models.layers import channels_last, convolution

        halvings = 0 if self.pooling == "none" else len(self.channels)
        inputs, *sides = image(shape, 2**halvings, self.kind, dimensions=self.dimensions)
        layers = channels_last(shape) if self.dimensions == 2 else []
        pools = {
            ("max", 1): nn.MaxPool1d, ("max", 2): nn.MaxPool2d,
            ("average", 1): nn.AvgPool1d, ("average", 2): nn.AvgPool2d,
        }  # fmt: skip
        for outputs in self.channels:
            layers += [*convolution(inputs, outputs, self.kernel, self.norm, dimensions=self.dimensions), nn.ReLU()]
            if self.pooling != "none":
                layers.append(pools[self.pooling, self.dimensions](2))
            inputs = outputs
        layers.append(nn.Flatten())
        inputs *= math.prod(side >> halvings for side in sides)
        for outputs in self.hidden:
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
            inputs = outputs
        return nn.Sequential(*layers, nn.Linear(inputs, n_classes))


class Vgg11(Model):
    """VGG-11 for images of 32 x 32 pixels: eight 3 x 3 convolutions and one dense layer, 9.2 million parameters."""

    kind: Literal["vgg-11"] = "vgg-11"
    norm: Normalization = "group"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return configuration A of the paper with one dense layer, as is usual for CIFAR-10.

        Args:
            shape: (height, width) or (channels, height, width), at least 32 pixels a side.
            n_classes: width of the output.

        Raises:
            ScenarioError: if the samples are other ones.

        Source: K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
        ICLR 2015.
        """
        from torch import nn

        from p2pl_async.learning.models.layers import channels_last, convolution

        inputs, height, width = image(shape, 32, self.kind)
        layers = channels_last(shape)
        for outputs in _VGG_11:
            if isinstance(outputs, int):
                layers += [*convolution(inputs, outputs, 3, self.norm), nn.ReLU()]
                inputs = outputs
            else:
                layers.append(nn.MaxPool2d(2))
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * (height // 32) * (width // 32), n_classes))
