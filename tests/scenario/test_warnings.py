"""Warnings that a run and `p2pl check` give before anything is trusted."""

from __future__ import annotations

from p2pl_async.hardware.compute import Compute
from p2pl_async.scenario.building.event_warnings import warn_of_unequal_data


def test_a_pass_of_equal_length_over_unequal_data_is_warned_of() -> None:
    by_pass, by_sample = (Compute.model_validate({key: "1 s"}) for key in ("per_epoch", "per_sample"))
    (text,) = warn_of_unequal_data([by_pass] * 3, [20, 100, 380])
    assert "20 to 380 samples" in text
    assert "19 times" in text
    assert "per_sample" in text
    assert warn_of_unequal_data([by_sample] * 3, [20, 100, 380]) == []
    assert warn_of_unequal_data([by_pass] * 3, [100, 120, 90]) == []
