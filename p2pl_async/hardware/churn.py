"""Churn: devices crash and come back, join late and leave.

The times at which a device is down are drawn ahead from a stream of its own, or of its group's
where a whole region fails at once: nothing that the device does changes them. A device begins up,
as one that has just been switched on; then stays alternate:

    up ~ `up`, down ~ `down` + `restart`, up ~ `up`, ...

In the long run it is up for mean(up) / (mean(up) + mean(down) + restart) of the time.
"""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, StrictBool, model_validator

from p2pl_async.basics.distributions import AnyDuration
from p2pl_async.basics.randomness import draws, stream
from p2pl_async.basics.settings import Settings, mistake
from p2pl_async.basics.units import PositiveSeconds, Seconds
from p2pl_async.errors import Problem, ScenarioError

Times = Sequence[tuple[float, float]]

_TINY = np.array([0.0, 0.5])  # shares


class Churn(Settings):
    """The `[churn]` table: when devices crash, for how long, and whether parameters survive.

    Crashes come from `up` and `down`, from `times`, or from a `trace`; without any of them only
    from scripted events.
    """

    up: AnyDuration | None = Field(default=None, description='how long a device stays up; "10 min": exponential')
    down: AnyDuration | None = Field(default=None, description="how long a device stays down")
    times: tuple[tuple[Seconds, PositiveSeconds], ...] | None = Field(
        default=None, description='or when it is down: [["30 s", "40 s"], ["2 min", "3 min"]]'
    )
    trace: Path | None = Field(default=None, description="or a CSV file with the columns device, down_s and up_s")
    restart: Seconds = Field(default=0.0, description="time from the end of each downtime until the device is up again")
    on_crash: Literal["lose_ram", "keep_state"] = Field(
        default="lose_ram", description='"keep_state": the parameters are on flash, and a restart goes on with them'
    )
    shared: StrictBool = Field(
        default=False, description="devices of this table are down at the same times, as where the power fails"
    )

    @model_validator(mode="after")
    def _check(self) -> Churn:
        if (self.up is None) != (self.down is None):
            raise mistake('needs both up = "10 min" and down = "1 min", or neither')
        if self.up is not None and self.up.quantiles(_TINY)[0] <= 0 and self.up.quantiles(_TINY)[1] <= 0:
            raise mistake("up must take some time; a device that crashes at once never runs")
        given = [name for name in ("up", "times", "trace") if getattr(self, name) is not None]
        if len(given) > 1:
            raise mistake(f"takes its times from one of up and down, times, and trace; has {' and '.join(given)}")
        if self.shared and self.up is None:
            raise mistake("shared = true needs up and down, as times are shared and a trace names devices")
        if self.times is not None:
            try:
                _check_times(self.times)
            except ValueError as error:
                raise mistake(f"times: {error}") from error
        return self

    @property
    def crashes_by_itself(self) -> bool:
        """Whether devices crash without scripted events."""
        return self.up is not None or self.times is not None or self.trace is not None

    def crashes(
        self, seed: int, device: int, group: str, join: float, traced: Mapping[int, Times]
    ) -> Iterator[tuple[float, float]]:
        """Yield when the device is down, as [start, end) in virtual seconds, in order.

        Args:
            seed: of the run.
            device: its stream is drawn from.
            group: the group that this table belongs to; with `shared`, its stream is drawn from.
            join: the instant at which the device is switched on; shared times go by that of the run.
            traced: the result of `read_trace`, if there is a trace.
        """
        if self.times is not None or self.trace is not None:
            times = traced.get(device, ()) if self.times is None else self.times
            yield from ((start, end + self.restart) for start, end in times)
        elif self.up is not None and self.down is not None:
            purpose, owner = ("churn-group", zlib.crc32(group.encode())) if self.shared else ("churn", device)
            ups = draws(stream(seed, purpose, owner, 0), self.up.quantiles)
            downs = draws(stream(seed, purpose, owner, 1), self.down.quantiles)
            now = 0.0 if self.shared else join
            while True:
                start = now + next(ups)
                now = start + next(downs) + self.restart
                yield start, now


def read_trace(path: Path) -> dict[int, list[tuple[float, float]]]:
    """Return device -> when it is down, in order, from a CSV file with the columns device, down_s and up_s.

    Raises:
        ScenarioError: if the file can't be read or a line is wrong.
    """
    found: dict[int, list[tuple[float, float]]] = {}
    line = 1
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if header != ["device", "down_s", "up_s"]:
                raise ValueError(f"the first line must be device,down_s,up_s; it is {','.join(header)!r}")
            for device, down, up in rows:
                line = rows.line_num
                found.setdefault(int(device), []).append((float(down), float(up)))
                _check_times(found[int(device)][-2:])
    except OSError as error:
        raise ScenarioError(str(path), [Problem("churn.trace", f"can't be read: {error.strerror}")]) from error
    except ValueError as error:
        raise ScenarioError(str(path), [Problem(f"line {line}", str(error))]) from error
    return found


def _check_times(times: Times) -> None:
    """Raise ValueError unless the times are ascending and apart."""
    last = -math.inf
    for start, end in times:
        if not 0 <= start < end < math.inf:
            raise ValueError(f"a device is down from {start:g} s until later, not until {end:g} s")
        if start < last:
            raise ValueError(f"times must be in order and apart; {start:g} s comes after {last:g} s")
        last = end
