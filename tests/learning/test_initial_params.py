"""Initial parameters drawn anew in a kept module: the bits of a module built for each device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from p2pl_async.learning.initial_params import InitialParams
from p2pl_async.learning.layout import make_layout, vector
from p2pl_async.learning.models import LeNet, Mlp, Model

FLOAT = np.dtype("float32")


class Backwards(Model):
    """Builds its last layer first, so that layers don't draw in their order."""

    kind: str = "backwards"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return two linear layers."""
        last = nn.Linear(5, n_classes)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), last)


class Shifted(Model):
    """Has a parameter that no layer can draw."""

    kind: str = "shifted"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return a linear layer with another parameter."""
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, n_classes))
        module.register_parameter("shift", nn.Parameter(torch.randn(3)))
        return module


def drawn(model: Model, seeds: range) -> tuple[list[Any], list[Any], InitialParams]:
    """Return vectors as devices get them, those of modules that are built, and what drew the first."""
    layout = make_layout(model.module((8, 8), 10, 0), (), average=True, send_frozen=False)
    starts = InitialParams(model, (8, 8), 10, layout, FLOAT)
    built = [vector(model.module((8, 8), 10, seed), layout, FLOAT) for seed in seeds]
    return [starts.of(seed) for seed in seeds], built, starts


@pytest.mark.parametrize(
    ("model", "anew"),
    [
        (Mlp(hidden=(6, 5)), True),
        (Mlp(hidden=(6,), init="he"), True),
        (LeNet(init="xavier"), True),
        (Backwards(), False),
        (Shifted(), False),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_parameters_drawn_anew_are_those_of_a_module_built_for_the_seed(model: Model, anew: bool) -> None:
    state = torch.get_rng_state()
    found, built, starts = drawn(model, range(5))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.stack(found), np.stack(built))
    assert starts._alike is anew
    assert not found[4].flags.writeable


def test_devices_that_start_alike_share_one_array() -> None:
    starts = drawn(Mlp(hidden=(6,)), range(1))[2]
    assert starts.of(3) is starts.of(3)
