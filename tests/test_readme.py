"""The README's examples do what it says they do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = {name: text for name, text in re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", README, flags=re.DOTALL)}


@pytest.fixture
def gossip(tmp_path: Path) -> Path:
    for name in ("gossip.py", "gossip.toml"):
        (tmp_path / name).write_text(BLOCKS[name], encoding="utf-8")
    return tmp_path


def test_a_protocol_of_ones_own_runs_with_a_thousand_devices_and_no_torch(gossip: Path) -> None:
    assert len(BLOCKS["gossip.py"].splitlines()) <= 30
    code = (
        "import sys\n"
        "from p2pl_async import load_scenario, run\n"
        "result = run(load_scenario('gossip.toml', ['stop.virtual_time=\"25 s\"']))\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "x = result.metrics[result.metrics.metric == 'x'].groupby('device').value.last()\n"
        "print(len(x), x.mean(), x.std(), result.summary['messages']['lost']['loss'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=gossip, capture_output=True, text=True, env=_environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    devices, mean, spread, lost = map(float, done.stdout.split())
    assert devices == 1000
    assert abs(mean - 499.5) < 60  # lost and one-sided exchanges move the mean a little
    assert spread < 15  # ids 0 to 999 have a spread of 289
    assert lost > 1000


def test_the_python_example_runs(tmp_path: Path) -> None:
    example = BLOCKS["python"].replace("scenarios/quickstart.toml", (ROOT / "scenarios/quickstart.toml").as_posix())
    example = example.replace('"10 min"', '"10 s"')
    assert '"10 s"' in example
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, env=_environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'burst'" in done.stdout  # causes of loss
    assert len(done.stdout.splitlines()) >= 4


def test_pictures_and_commands_that_the_readme_names_exist() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
    for path in set(re.findall(r"(?:scenarios|tools)/[\w./-]+\.(?:toml|py|txt)", README)):
        assert (ROOT / path).is_file(), path


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_example_of_radios_is_a_scenario_and_runs(tmp_path: Path) -> None:
    from p2pl_async import load_scenario
    from p2pl_async import run as run_scenario

    path = tmp_path / "radios.toml"
    around = 'extends = "digits_mlp"\ndevices.count = 6\ntopology.kind = "in-range"\nmodel.kind = "softmax"\n'
    path.write_text(
        around + 'protocol.kind = "p2pl"\nstop.virtual_time = "10 s"\n' + BLOCKS["radios"], encoding="utf-8"
    )
    scenario = load_scenario(path)
    assert scenario.medium.kind == "csma-ca"
    result = run_scenario(scenario)
    assert result.summary["energy"]["joules"] > 0
    assert result.summary["messages"]["delivered"] > 0


def test_the_property_test_of_a_protocol_finds_what_breaks_its_promise(gossip: Path) -> None:
    """As it stands it passes; of a device that overshoots, it leaves a scenario that `p2pl run` repeats."""
    assert len(BLOCKS["test_gossip.py"].splitlines()) <= 15
    (gossip / "test_gossip.py").write_text(
        "import helpers_profile\n" + BLOCKS["test_gossip.py"] + "\ntest_values_stay_between_the_first_ones()\n",
        encoding="utf-8",
    )
    (gossip / "helpers_profile.py").write_text(
        "from hypothesis import HealthCheck, settings\n"
        "settings.register_profile('few', max_examples=15, derandomize=True, database=None,\n"
        "                          suppress_health_check=list(HealthCheck))\n"
        "settings.load_profile('few')\n",
        encoding="utf-8",
    )
    command = [sys.executable, "test_gossip.py"]
    how = {"cwd": gossip, "capture_output": True, "text": True, "env": _environment()}
    done = subprocess.run(command, check=False, **how)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    broken = BLOCKS["gossip.py"].replace("(x + heard.x) / 2", "x + 2 * heard.x")
    (gossip / "gossip.py").write_text(broken, encoding="utf-8")
    done = subprocess.run(command, check=False, **how)  # type: ignore[call-overload]
    assert "outside of" in done.stderr
    (path,) = (gossip / ".hypothesis" / "worlds").iterdir()
    assert f"p2pl run {path.relative_to(gossip)}" in done.stderr
    assert "arrives at" in done.stderr
    assert len(path.read_text().splitlines()) < 20
    repeat = "import sys; from p2pl_async import run; print(run(sys.argv[1]).summary['status'])"
    done = subprocess.run([sys.executable, "-c", repeat, path], check=False, **how)  # type: ignore[call-overload]
    assert done.stdout.strip() == "complete", done.stderr
