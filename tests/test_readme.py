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


def test_pictures_and_commands_that_the_readme_names_exist() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
    for path in set(re.findall(r"(?:scenarios|tools)/[\w./-]+\.(?:toml|py|txt)", README)):
        assert (ROOT / path).is_file(), path


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_study_plans_over_the_scenario(tmp_path: Path) -> None:
    from p2pl_async.study.planning import load_study

    for name in ("one-sided.toml", "loss.toml"):
        (tmp_path / name).write_text(BLOCKS[name], encoding="utf-8")
    assert len(load_study(tmp_path / "loss.toml").jobs) == 30


def test_the_readme_has_a_link_to_every_page_of_the_guide() -> None:
    pages = {path.name for path in (ROOT / "p2pl_async" / "guide").glob("*.md")}
    assert set(re.findall(r"p2pl_async/guide/([\w-]+\.md)", README)) == pages
