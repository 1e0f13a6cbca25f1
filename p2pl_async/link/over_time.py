"""Numbers that change while a run goes: a schedule, or a column of a measured trace.

    rate = { kind = "schedule", steps = [["0 s", "1 Mbit/s"], ["1 s", "500 kbit/s"]], end = "loop" }
    p = { kind = "trace", path = "loss.csv", time = "t", column = "loss", unit = "%" }

Both are step functions of virtual time. What a table of a scenario says so is taken out before
the table is checked: the settings that a link works with are always those of one instant, and
all of them are checked, one by one, when the scenario is loaded. For a direction of its own,
give the table in a `[[link.override]]` with `from` and `to`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PlainValidator,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.settings import OneOf, Settings, line, marker, mistake, mistakes, moved
from p2pl_async.basics.tracefiles import IRELAND_TIME, Steps, TraceError, read_steps
from p2pl_async.basics.units import TIME, Seconds, show_seconds


class Clockwork:
    """Which step of a step function holds at an instant.

    Args:
        times: instants at which steps begin, ascending, the first 0; shape (n,).
        period: after which it begins again; None: the last step holds for ever.
    """

    __slots__ = ("_period", "_times", "_vector")

    def __init__(self, times: Floats, period: float | None) -> None:
        self._vector = times
        self._times: list[float] = times.tolist()
        self._period = period

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Clockwork) and (self._times, self._period) == (other._times, other._period)

    def __hash__(self) -> int:
        return hash((tuple(self._times), self._period))

    def index(self, at: float) -> int:
        """Return the number of the step that holds at an instant."""
        return bisect_right(self._times, at if self._period is None else at % self._period) - 1

    def indices(self, at: Floats) -> NDArray[np.intp]:
        """Return the numbers of the steps that hold at some instants, shape (n,)."""
        return np.searchsorted(self._vector, at if self._period is None else at % self._period, side="right") - 1

    def until(self, at: float) -> float:
        """Return the instant at which the step that holds at `at` ends, above `at`; math.inf if never."""
        index = self.index(at) + 1
        if self._period is None:
            return self._times[index] if index < len(self._times) else np.inf
        begun = at - at % self._period
        end = begun + (self._times[index] if index < len(self._times) else self._period)
        return end if end > at else float(np.nextafter(at, np.inf))  # rounding must not let time stand still


class Course(Settings):
    """Base of what a number that changes in time can be."""

    def steps(self) -> tuple[Floats, list[Any], float | None]:
        """Return instants in seconds (the first 0), values as a scenario writes them, and the period.

        Raises:
            TraceError: if a file can't be used.
        """
        raise NotImplementedError


def _value(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise mistake('must be a value such as "500 kbit/s"')
    return value


class Schedule(Course):
    """Given values, each from a given instant on."""

    kind: Literal["schedule"] = "schedule"
    steps_at: tuple[tuple[Seconds, Annotated[Any, PlainValidator(_value)]], ...] = Field(
        alias="steps", description='[instant, value] pairs, ascending from "0 s"', min_length=1
    )
    end: Literal["hold", "loop"] = Field(
        default="hold",
        description='"loop": begin again after the end; the last value lasts as long as the one before it',
    )

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        times = [time for time, _ in self.steps_at]
        if times[0] != 0:
            raise mistake(f'steps must begin at "0 s", not at {show_seconds(times[0])}')
        for before, after in pairwise(times):
            if after <= before:
                raise mistake(f"steps must ascend, but {show_seconds(after)} follows {show_seconds(before)}")
        if self.end == "loop" and len(times) < 2:
            raise mistake(
                'end="loop" needs at least two steps; repeat the value at the instant where a last one begins'
            )
        return self

    def steps(self) -> tuple[Floats, list[Any], float | None]:
        times = np.array([time for time, _ in self.steps_at])
        period = float(2 * times[-1] - times[-2]) if self.end == "loop" else None
        return times, [value for _, value in self.steps_at], period


class Trace(Course):
    """A column of a CSV file, measured at the instants in another column; its first row is at 0 s."""

    kind: Literal["trace"] = "trace"
    path: Path = Field(description="the file, with a header line")
    column: str = Field(description="the column that has the values")
    unit: str = Field(default="", description='the unit of its values, such as "kbit/s", "ms" or "%"')
    format: Literal["csv", "5g-ireland"] = Field(
        default="csv", description='"5g-ireland": the time is a date in the column Timestamp, as in that data set'
    )
    time: str | None = Field(default=None, description='the column that has the instants; "t" if not given')
    time_unit: Literal["s", "ms", "us", "µs", "ns", "min", "h"] = Field(
        default="s", description="the unit of its values"
    )
    gaps: Literal["error", "hold", "skip"] = Field(
        default="error", description='where a row has no value: "hold" the one before, or "skip" the row'
    )
    end: Literal["hold", "loop"] = Field(
        default="hold", description='"loop": begin again after the end; the last row lasts as long as the one before it'
    )

    @model_validator(mode="after")
    def _check(self) -> Trace:
        if self.format != "csv" and (self.time is not None or self.time_unit != "s"):
            raise mistake(f'time and time_unit are known for format="{self.format}"; leave them out')
        return self

    def numbers(self) -> Steps:
        """Return the step function in the units of the file."""
        loop = self.end == "loop"
        if self.format == "csv":
            return read_steps(self.path, self.column, self.time or "t", TIME[self.time_unit], self.gaps, loop)
        return read_steps(self.path, self.column, IRELAND_TIME[0], 1.0, self.gaps, loop, IRELAND_TIME[1])

    def steps(self) -> tuple[Floats, list[Any], float | None]:
        times, values, period = self.numbers()
        unit = f" {self.unit}"
        return times, [f"{value!r}{unit}" if self.unit else value for value in values.tolist()], period


class _Number(OneOf):
    """Annotates a number that a scenario can also give as a course; what gets here is the number of one instant."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        courses = [cls.model_json_schema() for cls in self.classes.values()]  # `handler` only knows numbers
        for course in courses:
            course["required"] = ["kind", *course.get("required", [])]
        return {"anyOf": [handler(schema), *courses]}


VARIES = _Number("course", Schedule, Trace)
"""Annotates a number of a `Varying` table that can change in time."""


class Varying(Settings):
    """A table whose numbers can change in time; its fields are those of the first instant."""

    _courses: dict[str, Course] = PrivateAttr(default_factory=dict)  # key -> what the scenario says of it
    _clockwork: Clockwork | None = PrivateAttr(default=None)
    _versions: tuple[Any, ...] = PrivateAttr(default=())  # the settings that it ever has, each once
    _numbers: tuple[int, ...] = PrivateAttr(default=())  # for each step, which of them

    @model_validator(mode="wrap")
    @classmethod
    def _take_courses_out(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, Mapping):
            return handler(value)
        courses, found = {}, []
        for key, item in value.items():
            kinds = marker(cls.model_fields[key]) if key in cls.model_fields else None
            if isinstance(kinds, _Number) and isinstance(item, Mapping):
                try:
                    courses[key] = kinds.validate(item)
                except ValidationError as error:
                    found += [moved(detail, [key, *detail["loc"]]) for detail in error.errors()]
        if found:
            raise mistakes(cls.__name__, found)
        if not courses:
            return handler(value)
        clockwork, tables = _versions_of(cls, dict(value), courses)
        versions = []
        for at, table in tables:
            try:
                versions.append(cls.model_validate(table))
            except ValidationError as error:
                for detail in error.errors():
                    where = detail["loc"] if detail["loc"] and detail["loc"][0] in courses else [next(iter(courses))]
                    given = "" if detail["loc"] and detail["loc"][0] not in courses else f"at {show_seconds(at)}: "
                    found.append(line(list(where), f"{given}{detail['msg']}", detail["input"]))
                raise mistakes(cls.__name__, found) from error
        made = handler(tables[0][1])
        distinct: dict[Any, int] = {}
        made._numbers = tuple(distinct.setdefault(version, len(distinct)) for version in versions)
        made._courses, made._clockwork, made._versions = courses, clockwork, tuple(distinct)
        return made

    @model_serializer(mode="wrap")
    def _put_courses_back(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        table: dict[str, Any] = handler(self)
        courses = {key: course.model_dump(mode="json", by_alias=True) for key, course in self._courses.items()}
        return {**table, **{key: courses[key] for key in table if key in courses}}

    def course(self) -> tuple[Clockwork, tuple[int, ...], tuple[Self, ...]] | None:
        """Return when each step holds, the number of its settings, and all settings; None if nothing changes."""
        return None if self._clockwork is None else (self._clockwork, self._numbers, self._versions)


def _versions_of(
    cls: type[Settings], table: dict[str, Any], courses: Mapping[str, Course]
) -> tuple[Clockwork, list[tuple[float, dict[str, Any]]]]:
    """Return when each step of a table holds, and (instant, plain table) of each."""
    steps = {}
    for key, course in courses.items():
        try:
            steps[key] = course.steps()
        except TraceError as error:
            raise mistakes(cls.__name__, [line([key], str(error))]) from error
    periods = list(dict.fromkeys(period for _, _, period in steps.values()))
    if len(periods) > 1:
        shown = ", ".join("none" if period is None else show_seconds(period) for period in periods)
        raise mistakes(cls.__name__, [line([next(iter(steps))], f"courses of one table need one period, not {shown}")])
    instants = np.unique(np.concatenate([times for times, _, _ in steps.values()]))
    tables = [(float(at), dict(table)) for at in instants]
    for key, (times, values, _) in steps.items():
        for (_, version), index in zip(tables, np.searchsorted(times, instants, side="right") - 1, strict=True):
            version[key] = values[index]
    return Clockwork(instants, periods[0]), tables
