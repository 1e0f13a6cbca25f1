"""The line that shows a run while it goes."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console

from p2pl_async.report import live
from p2pl_async.report.live import Live, progress_line
from p2pl_async.results.run import Snapshot


def snapshot(wall: float = 10.0, **changes: Any) -> Snapshot:
    values: dict[str, Any] = {
        "label": "p2pl", "now": 3 * wall, "wall": wall, "metric": "accuracy", "score": (0.5, 0.6, 0.7),
        "diverged": None,
        "sent": int(1000 * wall),
        "delivered": int(900 * wall), "lost": int(80 * wall), "air_bytes": int(1e6 * wall), "done": wall / 40,
        "rounds": wall / 2,
    }  # fmt: skip
    return Snapshot(**{**values, **changes})


def line(shot: Snapshot, width: int | None = None, bar: bool = False, waited: float = 0.0) -> str:
    speed = live._Speed()
    speed.see(shot, 0.0)
    speed.see(shot, waited)
    return progress_line(shot, speed, width=width, bar=bar).plain


def terminal(width: int = 200, *, tty: bool = True) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=tty, width=width, color_system=None), text


def test_the_line_tells_everything_where_there_is_room() -> None:
    assert line(snapshot()) == (
        "p2pl   25 %  30 s  (3x)  round 5  accuracy 50.0/60.0/70.0 %  sent 10k  lost 800  delivered 9k  10 MB"
        "  1k messages/s  wall 10 s  30 s left"
    )


@pytest.mark.parametrize("width", range(20, 160, 7))
def test_the_line_fits_and_keeps_what_matters_most(width: int) -> None:
    text = line(snapshot(), width=width, bar=True)
    assert text.startswith("p2pl   25 %")
    assert len(text) <= width
    assert ("accuracy" in text) == (width >= 48)


def test_a_model_that_is_not_finite_is_named() -> None:
    assert "device 3 not finite since 12 s" in line(snapshot(diverged=(3, 12.0)), width=60)


def test_without_accuracy_or_an_end_those_parts_are_left_out() -> None:
    text = line(snapshot(score=None, done=None), bar=True)
    assert text.startswith("p2pl  30 s  (3x)  round 5  sent 10k")
    assert "left" not in text


def test_a_part_that_sends_nothing_says_nothing_of_messages() -> None:
    text = line(snapshot(sent=0, delivered=0, lost=0, air_bytes=0))
    assert text == "p2pl   25 %  30 s  (3x)  round 5  accuracy 50.0/60.0/70.0 %  wall 10 s  30 s left"


def test_nothing_is_promised_in_the_first_moments() -> None:
    text = line(snapshot(wall=0.1))
    assert "left" not in text
    assert "messages/s" not in text


def test_what_is_left_counts_down_while_no_snapshot_comes() -> None:
    assert "wall 14 s  26 s left" in line(snapshot(), waited=4.0)
    assert "0 s left" in line(snapshot(), waited=400.0)


def test_speeds_are_those_of_the_last_seconds() -> None:
    speed = live._Speed()
    for wall in range(100):
        speed.see(snapshot(wall=wall, now=float(wall if wall < 50 else 50 + 4 * (wall - 50)), done=wall / 198), wall)
    assert speed.virtual == pytest.approx(4)
    assert speed.left == pytest.approx(99)


def test_a_new_part_of_the_run_starts_its_speeds_anew() -> None:
    speed = live._Speed()
    speed.see(snapshot(wall=30.0), 30.0)
    speed.see(snapshot(wall=1.0, label="local", now=7.0, sent=0), 31.0)
    assert speed.virtual == pytest.approx(7)
    assert speed.messages == 0


def test_a_terminal_shows_one_line_that_vanishes() -> None:
    console, text = terminal()
    with Live(console) as progress:
        progress(snapshot())
        deadline = time.monotonic() + 60
        while "p2pl" not in text.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "accuracy 50.0/60.0/70.0 %" in text.getvalue()
    assert text.getvalue().endswith("\x1b[1A\x1b[2K")


def test_the_line_stays_when_an_error_ends_the_run() -> None:
    console, text = terminal()

    def fail() -> None:
        with Live(console) as progress:
            progress(snapshot())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert "left\n" in text.getvalue()
    assert not text.getvalue().endswith("\x1b[2K")


def test_without_a_terminal_a_line_comes_once_per_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console, text = terminal(40, tty=False)
    with Live(console, interval=10.0) as progress:
        for now in range(0, 36, 2):
            progress(snapshot(wall=now))
    lines = text.getvalue().splitlines()
    assert [shown.split("  ")[2] for shown in lines] == ["30 s", "1 min", "1.5 min"]
    assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize("tty", [True, False])
def test_quiet_shows_nothing(tty: bool) -> None:
    console, text = terminal(tty=tty)
    with Live(console, quiet=True, interval=0.0) as progress:
        progress(snapshot())
    assert text.getvalue() == ""


def test_by_default_it_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with Live(interval=0.0) as progress:
        progress(snapshot())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "p2pl" in captured.err
