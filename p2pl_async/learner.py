"""What a device learns with: facts that are known before it trains, and training that takes virtual time."""

from __future__ import annotations

from typing import Protocol

from p2pl_async.basics.arrays import Vector


class LearningFacts(Protocol):
    """Facts of each device's learning, known before it trains; learners and trainers both have them."""

    @property
    def layers(self) -> tuple[slice, ...]:
        """Where each parameter tensor lies in a flat parameter vector."""

    def n_samples(self, device: int) -> int:
        """Return the number of training samples on the device."""

    def initial_params(self, device: int) -> Vector:
        """Return the device's own random initial parameters, shape (n_params,)."""

    def batches_per_epoch(self, device: int) -> int:
        """Return the number of local steps in one pass over the device's data."""

    def learning_rate(self, device: int) -> float:
        """Return the step size of the device's next local step."""


class Learner(LearningFacts, Protocol):
    """The learner of all devices: the emulation provides it, `Device.train` and `Device.gradient` await it."""

    async def train(
        self, device: int, w: Vector, epochs: int | None, steps: int | None, drift: Vector | None
    ) -> Vector:
        """Return the parameters after local training, which takes virtual time."""

    async def gradient(self, device: int, w: Vector) -> Vector:
        """Return the mini-batch gradient at `w`, which takes the virtual time of one step."""
