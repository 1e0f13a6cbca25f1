"""Gossip averaging: every device tells a random neighbor its value, and moves halfway to what it hears."""

from dataclasses import dataclass

from p2pl_async import Device, Message, PositiveSeconds, Protocol


@dataclass(frozen=True, slots=True)
class Value(Message):
    x: float


class Gossip(Protocol):
    trains = False  # nothing learns: no data, no torch
    period: PositiveSeconds = 1.0

    async def run(self, device: Device) -> None:
        x = float(device.id)
        while device.running:
            await device.sleep(float(device.random.exponential(self.period)))
            device.send(int(device.random.choice(device.out_neighbors)), Value(x))
            while (heard := device.receive_nowait(Value)) is not None:
                x = (x + heard.x) / 2
            device.record("x", x)
            device.finish_round()
