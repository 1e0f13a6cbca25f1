"""The check of a GPU: it says where there is none, and its parts work without one."""

from __future__ import annotations

import check_gpu
import pytest
import torch

from p2pl_async.learning.models import Mlp


def test_it_says_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_gpu.main() == 2
    assert "there is no CUDA GPU that this PyTorch" in capsys.readouterr().err


def test_runs_of_one_seed_pass_and_a_run_of_other_models_fails() -> None:
    one = check_gpu.learn("cpu", rounds=1)
    assert all(check_gpu.checks(one, one, check_gpu.learn("cpu", rounds=1)).values())
    other = {**one, "params_digest": "other", "accuracy": {"mean": one["accuracy"]["mean"] + 0.02}}
    assert [holds for holds in check_gpu.checks(one, other, one).values()] == [True, True, False, False]


def test_speed_counts_the_steps_of_devices() -> None:
    assert check_gpu.speed(Mlp(hidden=(3,)), (4,), 2, "cpu", devices=3) > 0
