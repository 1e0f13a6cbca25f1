"""Building stones of strategies: times, shares, and tables with some of their keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Table = dict[str, Any]
Tables = st.SearchStrategy[Table]


def seconds_of(least: float, most: float) -> st.SearchStrategy[str]:
    """Times of whole milliseconds."""
    return st.integers(round(1000 * least), round(1000 * most)).map(lambda ms: f"{ms} ms")


def shares(most: float = 1.0) -> st.SearchStrategy[str]:
    return st.integers(0, round(1000 * most)).map(lambda mille: f"{mille / 10:g} %")


def table_of(kind: str | None = None, /, **keys: st.SearchStrategy[Any]) -> Tables:
    """Tables with these keys, all of them."""
    return st.fixed_dictionaries({**({} if kind is None else {"kind": st.just(kind)}), **keys})


def some_of(kind: str | None = None, /, *, always: Mapping[str, st.SearchStrategy[Any]] = {}, **keys: Any) -> Tables:
    """Tables with the keys of `always`, and some of the others."""
    return st.fixed_dictionaries({**({} if kind is None else {"kind": st.just(kind)}), **always}, optional=keys)


@st.composite
def over_time(draw: st.DrawFn, value: st.SearchStrategy[Any]) -> Table:
    """Schedules of up to four values of up to four seconds each, held or repeated."""
    values = draw(st.lists(value, min_size=2, max_size=4))
    now, steps = 0, []
    for each in values:
        steps.append([f"{now} ms", each])
        now += draw(st.integers(1, 4000))
    return {"kind": "schedule", "steps": steps, "end": draw(st.sampled_from(["hold", "loop"]))}


DURATIONS = st.one_of(
    seconds_of(0.01, 5),
    table_of("uniform", low=seconds_of(0.01, 1), high=seconds_of(1, 5)),
    table_of("weibull", mean=seconds_of(0.1, 3), shape=st.floats(0.3, 3).map(lambda x: round(x, 2))),
    table_of("lognormal", mean=seconds_of(0.1, 3), sd=seconds_of(0, 3)),
)
