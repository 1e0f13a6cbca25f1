"""Local only: every device trains alone, the baseline that shows what peers add."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from p2pl_async.protocols.base import Contract, Protocol

if TYPE_CHECKING:
    from p2pl_async.device import Device


class Local(Protocol):
    """Every device trains alone and sends no messages."""

    kind: Literal["local"] = "local"
    epochs: PositiveInt = Field(default=1, description="Passes over the local data in each round")
    steps: PositiveInt | None = Field(
        default=None, description="Or a number of mini-batches in each round, instead of epochs"
    )

    contract: ClassVar[Contract] = Contract("silence")
    models_per_message: ClassVar[float] = 0

    async def run(self, device: Device) -> None:
        """Run the protocol on one device."""
        w = device.initial_params()
        while device.running:
            w = await (device.train(w, epochs=self.epochs) if self.steps is None else device.train(w, steps=self.steps))
            device.finish_round(w)
