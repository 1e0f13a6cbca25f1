"""Momentum means what its name says in every protocol, or is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.contract_worlds import ONLY_ON
from helpers.small_worlds import params_of, run_watched, small
from pydantic import ValidationError

from p2pl_async.basics.settings import kind_of
from p2pl_async.protocols import PROTOCOLS, Protocol


def trained(kind: str, train: dict[str, Any]) -> np.ndarray:
    """Return every device's parameters after a few rounds on digits, (n, n_params)."""
    topology = ONLY_ON.get(kind, ["ring"])[0]
    scenario = small(protocol={"kind": kind}, topology=topology, link={"loss": "0 %"}, train=train, stop={"rounds": 4})
    _, (devices,) = run_watched(scenario)
    return params_of(devices)


@pytest.mark.parametrize("cls", [cls for cls in PROTOCOLS if cls.uses_momentum], ids=kind_of)
def test_momentum_changes_the_models(cls: type[Protocol]) -> None:
    with_momentum, without = (trained(kind_of(cls), {"momentum": momentum}) for momentum in (0.9, 0.0))
    assert np.abs(with_momentum - without).max() > 1e-3


@pytest.mark.parametrize("cls", [cls for cls in PROTOCOLS if not cls.uses_momentum], ids=kind_of)
def test_momentum_is_refused_where_it_would_have_no_effect(cls: type[Protocol]) -> None:
    with pytest.raises(ValidationError, match="has no use for momentum"):
        small(protocol={"kind": kind_of(cls)}, train={"momentum": 0.9})


@pytest.mark.parametrize("across", ["auto", "reset", "keep"])
def test_by_default_it_is_kept_where_a_round_is_a_step(across: str) -> None:
    steps, plain = (
        trained("atc", {"momentum": 0.9, "momentum_across_rounds": across}),
        trained("atc", {"momentum": 0.0}),
    )
    assert (np.abs(steps - plain).max() < 1e-6) == (across == "reset")


def test_by_default_it_is_reset_where_a_round_is_an_epoch() -> None:
    auto, reset, keep = (
        trained("p2pl", {"momentum": 0.9, "momentum_across_rounds": across}) for across in ("auto", "reset", "keep")
    )
    np.testing.assert_array_equal(auto, reset)
    assert np.abs(auto - keep).max() > 1e-3
