"""Residual networks for images of 32 x 32 pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from p2pl_async.learning.models.base import Model
from p2pl_async.learning.models.images import Normalization, image

if TYPE_CHECKING:
    from torch import nn


class ResNet20(Model):
    """ResNet-20 of the residual networks' paper for CIFAR-10: 16, 32 and 64 channels, 0.27 million parameters."""

    kind: Literal["resnet-20"] = "resnet-20"
    norm: Normalization = "group"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return a convolution, three stages of three blocks, and a dense layer; shortcuts have no parameters.

        Args:
            shape: (height, width) or (channels, height, width), at least 4 pixels a side.
            n_classes: width of the output.

        Raises:
            ScenarioError: if the samples aren't images.

        Source: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2
        (shortcuts: option A).
        """
        return _residual(self, shape, n_classes, (16, 32, 64), 3, project=False)


class ResNet18(Model):
    """ResNet-18 for images of 32 x 32 pixels: 64 to 512 channels, 11.2 million parameters."""

    kind: Literal["resnet-18"] = "resnet-18"
    norm: Normalization = "group"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return a convolution, four stages of two blocks, and a dense layer; shortcuts are 1 x 1 convolutions.

        The first layer is a 3 x 3 convolution without pooling, as is usual for small images.

        Args:
            shape: (height, width) or (channels, height, width), at least 8 pixels a side.
            n_classes: width of the output.

        Raises:
            ScenarioError: if the samples aren't images.

        Source: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
        """
        return _residual(self, shape, n_classes, (64, 128, 256, 512), 2, project=True)


def _residual(
    model: ResNet20 | ResNet18,
    shape: tuple[int, ...],
    n_classes: int,
    stages: tuple[int, ...],
    blocks: int,
    *,
    project: bool,
) -> nn.Module:
    from torch import nn

    from p2pl_async.learning.models.layers import Residual, channels_last, convolution

    inputs = image(shape, 2 ** (len(stages) - 1), model.kind)[0]
    layers = [*channels_last(shape), *convolution(inputs, stages[0], 3, model.norm), nn.ReLU()]
    inputs = stages[0]
    for outputs in stages:
        for block in range(blocks):
            stride = 2 if block == 0 and outputs != stages[0] else 1
            layers.append(Residual(inputs, outputs, stride, model.norm, project=project))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, n_classes))
