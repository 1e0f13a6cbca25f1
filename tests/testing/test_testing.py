"""The learner without data, on which tests of protocols rest."""

from __future__ import annotations

import numpy as np
import pytest
import trio

from p2pl_async.clock import VirtualClock
from p2pl_async.testing import FixedLearner

W = np.array([1.0, 3.0])


def run(learner: FixedLearner, method: str, *arguments: object) -> tuple[np.ndarray, float]:
    """Return what a method gives device 1, and when."""
    clock = VirtualClock()

    async def main() -> np.ndarray:
        return await getattr(learner, method)(1, W, *arguments)

    return trio.run(main, clock=clock), clock.now


def test_training_changes_nothing_by_default() -> None:
    w, now = run(FixedLearner([W, W], seconds=[1, 2]), "train", 3, None)
    assert (w.tolist(), now) == ([1, 3], 2)
    assert run(FixedLearner([W, W]), "gradient")[0].tolist() == [0, 0]


def test_a_step_is_one_however_long_the_training() -> None:
    learner = FixedLearner([W, W], step=lambda k, w: w + k)
    assert run(learner, "train", 3, None)[0].tolist() == [2, 4]
    assert run(learner, "train", 3, None, np.array([10.0, 0.0]))[0].tolist() == [12, 4]


@pytest.mark.parametrize("length", [(3, None), (None, 3)])
def test_with_a_gradient_training_descends(length: tuple[int | None, int | None]) -> None:
    learner = FixedLearner([W, W], gradient=lambda k, w: w - k, learning_rate=0.5, seconds=4)
    assert run(learner, "train", *length)[0].tolist() == [1, 1.25]
    assert run(learner, "train", *length, np.array([1.0, 0.0]))[0].tolist() == [2.75, 1.25]
    assert run(learner, "gradient")[0].tolist() == [0, 2]
    assert run(learner, "gradient")[1] == 4
    assert learner.learning_rate(0) == 0.5


def test_precision_is_that_of_the_parameters() -> None:
    learner = FixedLearner([W.astype(np.float32)], gradient=lambda k, w: w)

    async def main() -> np.ndarray:
        return await learner.train(0, W.astype(np.float32), 1, None)

    assert trio.run(main, clock=VirtualClock()).dtype == np.float32


def test_it_takes_a_step_or_a_gradient() -> None:
    with pytest.raises(ValueError, match="one of step and gradient"):
        FixedLearner([W], step=lambda k, w: w, gradient=lambda k, w: w)
