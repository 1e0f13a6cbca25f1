"""Losses as they were recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from p2pl_async.basics.arrays import Floats, Indices
from p2pl_async.basics.settings import mistake
from p2pl_async.basics.tracefiles import TraceError, read_columns
from p2pl_async.link.loss.base import LOSS, LossModel, LossProcess
from p2pl_async.link.loss.per_packet import StatesByPacket


class RecordedLoss(LossModel):
    """As recorded: the n-th packet of a link is lost if the n-th row of a CSV file says so, over and over."""

    kind: Literal["trace"] = "trace"
    path: Path = Field(description="the file, with a header line")
    column: str = Field(default="lost", description="the column with 1 for a packet lost and 0 for one that arrived")

    @model_validator(mode="after")
    def _check(self) -> RecordedLoss:
        found = self._lost()
        wrong = np.flatnonzero((found != 0) & (found != 1))
        if len(wrong):
            raise mistake(
                f'column "{self.column}" of {self.path} must have 1 for lost and 0 for arrived, but row {wrong[0] + 1} '
                f'has {found[wrong[0]]:g}; for a share that changes in time write p = {{ kind = "trace", ... }}'
            )
        return self

    def make(self, seed: int, src: int, dst: int) -> LossProcess:
        lost = self._lost().astype(np.intp)
        sent = 0

        def draw(n: int) -> Indices:
            nonlocal sent
            sent += n
            return lost[np.arange(sent - n, sent) % len(lost)]

        return StatesByPacket(draw, np.array([0.0, 1.0]), np.array([0, LOSS], np.int8))

    def _lost(self) -> Floats:
        try:
            return read_columns(self.path, [self.column])[self.column]
        except TraceError as error:
            raise mistake(str(error)) from error
