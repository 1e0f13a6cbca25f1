"""Some rounds of hostile frames, payloads, scenarios and results folders."""

from __future__ import annotations

import math

import fuzz
import pytest


def test_hostile_input_gives_only_errors_that_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    fuzz.main(math.inf, seed=1, rounds=20)
    assert "20000 frames, " in capsys.readouterr().out


def test_a_crash_is_reported_with_its_seed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def crash(data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fuzz, "decode", crash)
    with pytest.raises(ZeroDivisionError):
        fuzz.main(1.0, seed=7)
    assert "crash of seed 7" in capsys.readouterr().err
