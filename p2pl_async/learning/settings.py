"""The `[train]` table: loss, step sizes and their schedules, precision."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from p2pl_async.basics.settings import OneOf, Settings, mistake, word
from p2pl_async.learning.losses import AnyTrainingLoss, CrossEntropy


class Constant(Settings):
    """The same learning rate throughout."""

    kind: Literal["constant"] = "constant"

    def factor(self, epochs: int) -> float:
        """Return the factor of the learning rate after a number of a device's epochs."""
        return 1.0


class Step(Settings):
    """Multiply the learning rate by a factor every so many epochs."""

    kind: Literal["step"] = "step"
    every: PositiveInt = Field(description="epochs of the device between two changes")
    by: PositiveFloat = Field(default=0.1, description="factor of the rate at each change")

    def factor(self, epochs: int) -> float:
        """Return `by ** floor(epochs / every)`."""
        return float(self.by ** (epochs // self.every))


class Cosine(Settings):
    """Let the learning rate fall along half a cosine, down to a share of it."""

    kind: Literal["cosine"] = "cosine"
    epochs: PositiveInt = Field(description="epochs of the device until the lowest rate, which then stays")
    final: float = Field(default=0.0, ge=0, le=1, description="lowest rate, as a share of the first")

    def factor(self, epochs: int) -> float:
        """Return `final + (1 - final) (1 + cos(pi e / epochs)) / 2`, e at most `epochs`."""
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(epochs / self.epochs, 1.0))) / 2


class Inverse(Settings):
    """Divide the learning rate by a number that grows linearly with the epochs."""

    kind: Literal["inverse"] = "inverse"
    decay: PositiveFloat = Field(description="per epoch of the device: 0.1 halves the rate after 10")

    def factor(self, epochs: int) -> float:
        """Return `1 / (1 + decay * epochs)`."""
        return 1 / (1 + self.decay * epochs)


LearningRateSchedule = Constant | Step | Cosine | Inverse


AnyLearningRateSchedule = Annotated[LearningRateSchedule, OneOf("schedule", Constant, Step, Cosine, Inverse)]


MatMul = Literal["highest", "high", "medium"]


class OwnTraining(Settings):
    """Settings of training that a group of devices has for itself; what it leaves out is as in `[train]`."""

    learning_rate: PositiveFloat | None = Field(default=None, description="step size of SGD, before the schedule")
    batch_size: PositiveInt | Literal["all"] | None = Field(default=None, description="samples per step")
    epochs: PositiveInt | None = Field(
        default=None, description="passes over its data wherever the protocol trains for some epochs"
    )

    def over(self, base: OwnTraining) -> OwnTraining:
        """Return `base` with the values given here."""
        return base.model_copy(update={key: value for key, value in self if value is not None})


class TrainSettings(Settings):
    """Local training of every device: mini-batch SGD, as torch.optim.SGD defines it."""

    learning_rate: PositiveFloat = Field(default=0.05, description="step size of SGD")
    loss: AnyTrainingLoss = Field(
        default=CrossEntropy(),
        description="loss to minimize, as a mean over samples: cross-entropy, squared, binary-cross-entropy, "
        'or one of your own, "file.py:Class"',
    )
    batch_size: PositiveInt | Literal["all"] = Field(
        default=10,
        description="samples per step, an epoch's last batch may be shorter; all: every step takes all of a device's",
    )
    momentum: float = Field(default=0.0, ge=0, lt=1, description="share of the last step's direction that a step keeps")
    nesterov: bool = Field(default=False, description="Nesterov's momentum; needs momentum > 0")
    weight_decay: float = Field(default=0.0, ge=0, description="adds this times the parameters to the gradient")
    clip: PositiveFloat | None = Field(default=None, description="largest norm of a device's gradient over all layers")
    schedule: AnyLearningRateSchedule = Field(
        default=Constant(), description="learning rate over the epochs that the device itself has completed"
    )
    momentum_across_rounds: Literal["auto", "reset", "keep"] = Field(
        default="auto",
        description="whether a device's momentum is reset or kept between two trainings; auto: kept where a training "
        "is a single step or less than an epoch, since momentum would have no effect otherwise, and else reset",
    )
    accelerator: Literal["cpu", "cuda", "auto"] = Field(
        default="cpu", description="where to compute; auto: a GPU if present"
    )
    workers: NonNegativeInt | Literal["auto"] = Field(
        default=0,
        description="processes that train beside the emulation, which waits only for results that it needs; they are "
        "the same for any number; 0: the emulation's own process trains, in between; auto: as many as cores are idle, "
        "once training has taken ten seconds",
    )
    on: str = Field(
        default="local",
        description="where workers are; local: processes of this machine; ray: actors of a Ray that is started here; "
        '"ray://host:port": of one that runs, on machines with this package and the files that the scenario names',
    )
    precision: Literal["float32", "float64"] = Field(
        default="float32",
        description="precision of parameters and features, in messages too; float64 is for comparisons with theory",
    )

    matmul: MatMul = Field(
        default="highest",
        description="precision of products of float32 matrices and of convolutions, in torch's own words: highest is "
        "float32; high and medium may take TensorFloat32 or bfloat16 where the processor has instructions for them",
    )
    autocast: Annotated[Literal["bfloat16"] | None, *word("none")] = Field(
        default=None,
        description="bfloat16 in forward and backward passes, as by torch.autocast, one device at a time; "
        "steps stay float32",
    )

    @model_validator(mode="after")
    def _float64_is_for_exact_products(self) -> Self:
        if self.precision == "float64" and (self.autocast is not None or self.matmul != "highest"):
            raise ValueError('precision = "float64" needs autocast = "none" and matmul = "highest"')
        return self

    @field_validator("on")
    @classmethod
    def _is_a_place(cls, on: str) -> str:
        if on not in ("local", "ray") and not on.startswith("ray://"):
            raise mistake('must be "local", "ray" or "ray://host:port"')
        return on

    @model_validator(mode="after")
    def _ray_has_workers(self) -> Self:
        if self.on != "local" and self.workers in (0, "auto"):
            raise ValueError(f'on = "{self.on}" needs a number of workers; write workers = 4')
        return self

    @model_validator(mode="after")
    def _workers_have_no_gpu(self) -> Self:
        if self.workers != 0 and self.accelerator != "cpu":
            raise ValueError(
                f'workers = {self.workers} compute on CPU cores; write accelerator = "cpu", or workers = 0'
            )
        return self

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum above 0; set train.momentum, 0.9 is common")
        return self
