"""How long a device trains, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import (
    Field,
    model_validator,
)

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import Settings, mistake
from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.messages import DeviceId

Sigma = Annotated[float, Field(strict=True, ge=0, le=10)]


class Compute(Settings):
    """How long a device trains, in virtual time.

    A device's own speed is drawn once, with median 1; each training varies around it with
    mean 1. Exactly one of `per_epoch` and `per_sample` is given.
    """

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("per_epoch", "per_sample"),)

    per_epoch: PositiveSeconds | None = Field(default=None, description="time of one pass over the device's own data")
    per_sample: PositiveSeconds | None = Field(default=None, description="time of one training sample")
    spread: Sigma = Field(default=0.0, description="sigma of the lognormal factor of each device")
    jitter: Sigma = Field(default=0.0, description="sigma of the lognormal factor of each training")

    @model_validator(mode="after")
    def _check(self) -> Compute:
        if (self.per_epoch is None) == (self.per_sample is None):
            raise mistake('needs exactly one of per_epoch = "2 s" and per_sample = "3 ms"')
        return self

    def seconds(self, epochs: float, samples: float) -> float:
        """Return the time of a training at speed 1, in seconds: `epochs` passes, `samples` samples seen in all."""
        if self.per_epoch is not None:
            return epochs * self.per_epoch
        assert self.per_sample is not None
        return samples * self.per_sample


ONE_SECOND = Compute.model_validate({"per_epoch": "1 s"})


class GroupCompute(Settings):
    """Compute settings of a group; keys that it leaves out are as in `devices.compute`."""

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("per_epoch", "per_sample"),)

    per_epoch: PositiveSeconds | None = None
    per_sample: PositiveSeconds | None = None
    spread: Sigma | None = None
    jitter: Sigma | None = None

    @model_validator(mode="after")
    def _check(self) -> GroupCompute:
        if self.per_epoch is not None and self.per_sample is not None:
            raise mistake("takes one of per_epoch and per_sample, not both")
        return self

    def over(self, base: Compute) -> Compute:
        """Return `base` with the values of this group."""
        changed = {key: value for key, value in self if value is not None}
        if "per_epoch" in changed or "per_sample" in changed:
            changed = {"per_epoch": None, "per_sample": None, **changed}
        return base.model_copy(update=changed)


class ComputeTimes:
    """How long each device takes to train: its own speed, drawn once, and a jitter per training.

    Args:
        computes: each device's settings.
        seed: of the run; stream "compute" of each device.
        n_samples: each device's number of samples, for `per_epoch`.
    """

    def __init__(self, computes: Sequence[Compute], seed: int, n_samples: Sequence[int]) -> None:
        self._computes = computes
        self._n_samples = n_samples
        self._streams: list[Any] = [stream(seed, "compute", k) for k in range(len(computes))]
        self._speeds = [
            math.exp(compute.spread * float(random.standard_normal()))
            for compute, random in zip(computes, self._streams, strict=True)
        ]

    def seconds(self, device: DeviceId, samples: int) -> float:
        """Return the virtual seconds of one training that goes through so many samples."""
        compute = self._computes[device]
        base = compute.seconds(samples / self._n_samples[device], samples) * self._speeds[device]
        # One draw per training, used or not: jitter on or off moves no other draw.
        normal = float(self._streams[device].standard_normal())
        return base * math.exp(compute.jitter * normal - compute.jitter**2 / 2)

    def typical_epoch(self) -> float:
        """Return the median over devices of the time of one epoch, in seconds."""
        epochs = [
            compute.seconds(1, n) * speed
            for compute, n, speed in zip(self._computes, self._n_samples, self._speeds, strict=True)
        ]
        return float(np.median(epochs))
