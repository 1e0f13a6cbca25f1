"""Links that go down."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from p2pl_async.link import AnyOutage, Outage

ON_OFF = {"kind": "on-off", "up": "3 s", "down": "1 s"}
SLOTTED = {"kind": "slotted", "p": "30 %", "slot": "500 ms"}

ANY: TypeAdapter[Outage] = TypeAdapter(AnyOutage)
TIMES = np.arange(0.0, 200_000.0, 10.0)


def process(table: Any, src: int = 0, dst: int = 1) -> Any:
    made = ANY.validate_python(table).process(1, src, dst)
    assert made is not None
    return made


def test_no_outage_is_the_short_form_of_always_up() -> None:
    assert ANY.validate_python("none").process(1, 0, 1) is None


@pytest.mark.parametrize(("table", "share"), [(ON_OFF, 0.25), (SLOTTED, 0.3)])
def test_share_of_time_down(table: Any, share: float) -> None:
    down = process(table).states(TIMES)
    assert down.mean() == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / len(TIMES)))


def test_slots_begin_at_whole_multiples() -> None:
    link = process(SLOTTED)
    now = 0.0
    for _ in range(100):
        link.at(now)
        now = link.until
        assert now == round(now / 0.5) * 0.5


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({**ON_OFF, "up": "0 s"}, "must be above 0 s"),
        ({**SLOTTED, "p": 3}, "for 3 percent"),
        ({**SLOTTED, "slot": "0 s"}, "must be above 0 s"),
        ({"kind": "on-of", "up": "1 s", "down": "1 s"}, 'did you mean "on-off"'),
        ({**ON_OFF, "of": "a b"}, 'must be "link", "pair"'),
    ],
)
def test_impossible_outages_are_refused(table: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ANY.validate_python(table)
