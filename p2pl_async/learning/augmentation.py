"""Augmentation: images are shifted and mirrored at random, anew each time that they are trained on.

Draws come from a stream of the device and the job, in the order of its samples. So results don't depend on
which jobs are computed together, nor on when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, StrictBool

from p2pl_async.basics.settings import Settings
from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from torch import Tensor

Shifts = NDArray[np.int64]


class Augment(Settings):
    """The `[data.augment]` table: random changes of images in training."""

    crop: NonNegativeInt = Field(
        default=0, description="most pixels by which an image is shifted each way, black pixels coming in; 4 is common"
    )
    flip: StrictBool = Field(default=False, description="every other image, at random, is mirrored left to right")

    @property
    def changes(self) -> bool:
        """Whether anything is changed."""
        return self.crop > 0 or self.flip

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse samples that are no images; ScenarioError."""
        if self.changes and (len(shape) not in (2, 3) or min(shape[-2:]) <= self.crop):
            text = f"needs images (height, width) or (channels, height, width), larger than crop; samples are {shape}"
            raise ScenarioError("data", [Problem("data.augment", text)])

    def draw(self, random: np.random.Generator, rows: tuple[int, ...]) -> Shifts:
        """Return for each sample how far it is moved down and to the right, and whether it is mirrored, (*rows, 3)."""
        drawn = np.zeros((*rows, 3), np.int64)
        drawn[..., :2] = random.integers(-self.crop, self.crop, (*rows, 2), endpoint=True)
        drawn[..., 2] = random.integers(0, 1, rows, endpoint=True) * self.flip
        return drawn


def augmented(x: Tensor, shifts: Tensor) -> Tensor:
    """Return images moved and mirrored.

    Args:
        x: (k, rows, height, width) or (k, rows, channels, height, width).
        shifts: what `Augment.draw` gave, 3 numbers for each.
    """
    import torch

    height, width = x.shape[-2:]
    images = x.flatten(0, 1)
    images = images.unsqueeze(1) if images.dim() == 3 else images
    down, right, mirrored = shifts.reshape(-1, 3).unbind(1)
    # Where each pixel comes from; outside of the image, it is black.
    at = torch.arange(height, device=x.device) - down.unsqueeze(1)
    over = torch.arange(width, device=x.device) - right.unsqueeze(1)
    over = torch.where(mirrored.unsqueeze(1) > 0, width - 1 - over, over)
    inside = ((at >= 0) & (at < height)).unsqueeze(2) & ((over >= 0) & (over < width)).unsqueeze(1)
    rows, columns = at.clamp(0, height - 1), over.clamp(0, width - 1)
    number = torch.arange(len(images), device=x.device).view(-1, 1, 1, 1)
    channel = torch.arange(images.shape[1], device=x.device).view(1, -1, 1, 1)
    moved = images[number, channel, rows[:, None, :, None], columns[:, None, None, :]]
    return (moved * inside.unsqueeze(1)).view(x.shape)
