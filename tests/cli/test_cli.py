"""The command line: what each command and option does, exit codes, and that it starts fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from p2pl_async.cli import main as cli
from p2pl_async.errors import DeviceFailed
from p2pl_async.experiment import running as experiment
from p2pl_async.results.folder import RunFolder
from p2pl_async.scenario.building.explain import explain_currents, explain_fading
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.reading.load import load_scenario

LEAST = '[devices]\ncount = 4\n[protocol]\nkind = "p2pl"\n[stop]\nrounds = 1\n'
SMALL = LEAST + "[data]\ntrain_samples = 40\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "s.toml"
    path.write_text(LEAST)
    return path


def p2pl(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(cli.app, [str(argument) for argument in arguments])


class Recorder:
    """Stands in for `experiment.run`: records how it was called, then fails if told to."""

    def __init__(self, error: BaseException | None = None, *, begins: bool = False) -> None:
        self.error = error
        self.begins = begins
        self.scenario: Any = None
        self.options: dict[str, Any] = {}

    def __call__(self, scenario: Any, *, out: RunFolder, **options: Any) -> Any:
        self.scenario, self.options = scenario, {"out": out, **options}
        if self.begins:
            out.begin("")
            out.write_summary({"status": "failed"})
        raise self.error or KeyboardInterrupt


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(experiment, "run", recorder)
    return recorder


# check, list, schema, probe


def test_check_says_that_a_scenario_is_fine(file: Path) -> None:
    result = p2pl("check", file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "4 devices, topology ring, protocol p2pl, seed 1" in result.stdout


def test_check_shows_every_problem_and_exits_with_2(file: Path) -> None:
    file.write_text(LEAST.replace("count", "cout") + "[lnk]\n")
    result = p2pl("check", file)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "s.toml has 2 problems" in result.stderr
    assert 'did you mean "count"?' in result.stderr
    assert 'did you mean "link"?' in result.stderr
    assert "Traceback" not in result.stderr


def test_check_and_probe_warn_of_links_that_break_the_protocols_contract(file: Path) -> None:
    changes = ["--set", "protocol.mode=barrier", "--set", "link.loss=10 %"]
    for command in ("check", "probe"):
        result = p2pl(command, file, *changes)
        assert result.exit_code == 0
        assert 'warning: protocol "p2pl" needs links that lose nothing, and 8 of 8 may not' in result.stdout
    assert "warning" not in p2pl("check", file).stdout
    assert (
        p2pl("check", file, *changes, "--set", "topology.kind=random-regular", "--set", "topology.degree=7").exit_code
        == 2
    )


def test_check_takes_changes_and_a_seed(file: Path) -> None:
    result = p2pl("check", file, "--set", "devices.count=9", "--set", "topology=star", "--seed", 7)
    assert "9 devices, topology star, protocol p2pl, seed 7" in result.stdout
    assert p2pl("check", file, "--set", "devices.count=0").exit_code == 2
    assert p2pl("check", file, "--seed", "-1").exit_code == 2


def test_debug_shows_where_an_error_comes_from(file: Path) -> None:
    result = p2pl("check", file.with_name("no.toml"), "--debug")
    assert result.exception is not None
    assert type(result.exception).__name__ == "ScenarioError"


def test_list_has_a_line_of_at_most_100_columns_for_everything() -> None:
    result = p2pl("list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines if line.startswith("  ") and line[2] != " ")
    known = {line.split()[0] for line in lines}
    assert {"protocols", "p2pl", "topologies", "ring", "losses", "gilbert-elliott", "presets", "zigbee_154"} <= known
    assert {"data", "digits", "partitions", "dirichlet", "models", "mlp", "schedules", "cosine", "mnist_2nn"} <= known


def test_list_tells_what_protocols_need_and_send() -> None:
    lines = p2pl("list", "protocols").stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  p2pl "))
    assert lines[at].endswith("(arXiv:2310.18861).")
    assert lines[at + 1].strip() == "state: any links; 1 model per message"


def test_list_of_one_group() -> None:
    result = p2pl("list", "models")
    assert result.stdout.startswith("models\n  softmax")
    assert "topologies" not in result.stdout
    result = p2pl("list", "model")
    assert result.exit_code == 2
    assert 'did you mean "models"?' in result.stderr


def test_schema_prints_the_json_schema() -> None:
    schema = json.loads(p2pl("schema").stdout)
    assert schema["$schema"].endswith("2020-12/schema")
    assert "devices" in schema["properties"]


def test_probe_explains_one_link(file: Path) -> None:
    file.write_text(LEAST + '[link]\nrate = "1 Mbit/s"\n[[link.override]]\nfrom = 3\nloss = "30 %"\n')
    result = p2pl("probe", file, "--explain", 3, 1)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["loss.p", "30", "%", "link.override[0]"] in rows or ["loss.p", "0.3", "link.override[0]"] in rows
    assert ["rate", "1000000", "bit/s", "link"] in rows
    assert p2pl("probe", file, "--explain", 3, 4).exit_code == 2
    assert p2pl("probe", file, "--explain", 3, 3).exit_code == 2


def test_probe_shows_the_topology_and_what_is_odd_about_it(file: Path) -> None:
    (file.parent / "edges.txt").write_text("0 1\n")
    file.write_text(
        LEAST + '[topology]\nkind = "file"\npath = "edges.txt"\n[[link.override]]\nfrom = 2\nloss = "30 %"\n'
    )
    result = p2pl("probe", file)
    assert "4 devices, 2 links" in result.stdout
    assert "warning: link.override[0] matches no link" in result.stdout
    assert result.stdout.count("warning") >= 2


def test_probe_says_how_a_topology_changes(file: Path) -> None:
    file.write_text(LEAST + '[topology]\nkind = "rotating-rings"\nevery = "2 s"\n')
    assert "not all at once: everyone sends to at most one device at a time, to another" in p2pl("probe", file).stdout
    file.write_text(LEAST + '[topology]\nkind = "ring"\n')
    assert "not all at once" not in p2pl("probe", file).stdout


AIRS = """
[link]
preset = "zigbee_154"
[air.near]
link = { preset = "ble5_2m" }
[devices.group.gate]
ids = 3
airs = ["main", "near"]
energy = { preset = "cc2420", radio = { near = { preset = "nrf52840" } } }
[devices.group.people]
ids = [1, 2]
airs = ["near"]
"""
RADIO = '[topology]\nkind = "in-range"\n[radio]\narea = "200 m"\n[mobility]\nkind = "random-walk"\n'
RADIO += 'speed = ["2 m/s", "9 m/s"]\n[link]\nheader = "20 B"\n'


def test_probe_shows_the_link_budget_and_how_often_devices_meet(file: Path) -> None:
    file.write_text(LEAST + RADIO)
    lines = p2pl("probe", file, "--explain", 3, 1).stdout.splitlines()
    there = {line.split("  ")[0].strip(): line for line in lines}
    assert {"distance", "received power", "noise", "mean SNR", "loss of 120 B"} <= there.keys()
    assert there["noise"].split() == ["noise", "-101.0", "dBm", "radio"]
    text = p2pl("probe", file).stdout
    assert "not all at once: devices in range, updated every 1 s" in text
    assert "links are up at some time" in text
    assert "such a link is up" in text


@pytest.mark.parametrize(
    ("fading", "says"),
    [
        ('{ kind = "none" }', ""),
        ('"rayleigh"', "rayleigh, drawn for each frame, alike on all channels"),
        ('{ kind = "rician", k = "6 dB", coherence = "20 ms", coherent_channels = 2 }',
         "rician, drawn anew every 20 ms, alike on 2 neighboring channels"),
        ('{ kind = "rayleigh", coherence = "1 s", coherent_channels = 1 }',
         "rayleigh, drawn anew every 1 s, each channel by itself"),
    ],
)  # fmt: skip
def test_probe_tells_how_long_and_on_which_channels_a_gain_lasts(file: Path, fading: str, says: str) -> None:
    channels = "[medium]\nchannels = 4\n" if "channels" in fading else ""
    radio = f'[radio]\nphy = "802.15.4"\narea = "20 m"\nfading = {fading}\n'
    file.write_text(f'{LEAST}[topology]\nkind = "in-range"\n[link]\npreset = "zigbee_154"\n{radio}{channels}')
    propagation = build_world(load_scenario(file), learns=False).airs.of(1, 0).propagation
    assert propagation is not None
    assert explain_fading(propagation) == ([("fading", says)] if says else [])
    rows = p2pl("probe", file, "--explain", 1, 0).stdout.splitlines()
    assert any(row.startswith(" fading ") for row in rows) == bool(says)


@pytest.mark.parametrize(
    ("dst", "draws", "table"),
    [
        (2, "tx 4.8 mA, rx 4.6 mA, idle 4.6 mA, sleep 0.0015 mA, at 3 V", "devices.group.gate.energy.radio.near"),
        (0, "tx 17.4 mA, rx 18.8 mA, idle 18.8 mA, sleep 0.001 mA, at 3 V", "devices.group.gate.energy"),
    ],
)
def test_probe_tells_what_the_radios_at_both_ends_draw(file: Path, dst: int, draws: str, table: str) -> None:
    file.write_text(LEAST + AIRS)
    world = build_world(load_scenario(file), learns=False)
    assert explain_currents(world, 3, dst) == [("currents of 3", draws, table)]  # the other isn't measured
    assert " currents of 3 " in p2pl("probe", file, "--explain", 3, dst).stdout


def test_a_radio_without_packets_is_warned_of(file: Path) -> None:
    for link, warned in (("", True), ('mtu = "127 B"\n', False)):
        file.write_text(LEAST + RADIO + link)
        for command in ("check", "probe"):
            assert ("each message is one packet, however long" in p2pl(command, file).stdout) == warned
    file.write_text(LEAST + RADIO + '[radio.phy]\nkind = "lora"\n')
    assert "each message is one packet" not in p2pl("check", file).stdout


@pytest.mark.parametrize(
    ("group", "kinds"),
    [
        ("phys", ["802.15.4", "ble", "lora", "wifi", "nr", "threshold"]),
        ("path losses", ["log-distance", "free-space"]),
        ("fadings", ["none", "rayleigh", "rician", "nakagami"]),
        ("relays", ["shortest-path", "flooding"]),
        ("mobilities", ["static", "random-waypoint", "random-walk", "gauss-markov", "trace"]),
    ],
)
def test_list_knows_radios_and_movements(group: str, kinds: list[str]) -> None:
    lines = [line for line in p2pl("list", group).stdout.splitlines() if line[:3].strip()]
    assert [line.split()[0] for line in lines[1:]] == kinds
    assert all(len(line.split(maxsplit=1)[1]) > 10 for line in lines[1:])


# run


def test_run_hands_its_options_on(file: Path, recorder: Recorder, tmp_path: Path) -> None:
    p2pl("run", file, "--set", "devices.count=9", "--seed", 5, "--out", tmp_path / "here", "--trace", "--quiet")
    assert recorder.scenario.devices.count == 9
    assert recorder.scenario.seed == 5
    assert recorder.options["out"].path == tmp_path / "here"
    assert recorder.options["trace"] is True
    assert recorder.options["progress"] is None
    p2pl("run", file, "--no-trace", "--out", tmp_path / "there")
    assert recorder.options["trace"] is False


def test_run_by_default_shows_progress_and_traces_up_to_a_million_messages(file: Path, recorder: Recorder) -> None:
    p2pl("run", file)
    assert recorder.options["trace"] == 1_000_000
    assert recorder.options["progress"] is not None
    assert recorder.options["out"].path == Path("runs/s/1")


def test_out_onto_a_result_needs_force(file: Path, recorder: Recorder, tmp_path: Path) -> None:
    old = RunFolder(tmp_path / "old", "s", 1)
    old.begin("")
    old.write_summary({"status": "complete", "scenario": "s", "seed": 1})
    old.close()
    result = p2pl("run", file, "--out", tmp_path / "old")
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert recorder.scenario is None
    p2pl("run", file, "--out", tmp_path / "old", "--force")
    assert recorder.scenario is not None


def test_a_failed_run_says_what_repeats_it(file: Path, recorder: Recorder) -> None:
    recorder.error, recorder.begins = DeviceFailed(3, 1.5, ZeroDivisionError("division by zero")), True
    result = p2pl("run", file, "--set", "link.loss=5 %")
    assert result.exit_code == 2
    assert "device 3 failed at 1.5 s: ZeroDivisionError: division by zero\n" in result.stderr
    assert "what was recorded so far is in runs/s/1\n" in result.stderr
    assert f"to repeat it: p2pl run {file} --seed 1 --set 'link.loss=5 %'\n" in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_exits_with_130_and_says_where_the_results_so_far_are(file: Path, recorder: Recorder) -> None:
    recorder.error, recorder.begins = KeyboardInterrupt(), True
    result = p2pl("run", file)
    assert result.exit_code == 130
    assert result.stderr.startswith("interrupted\nwhat was recorded so far is in runs/s/1\n")


def test_a_bug_of_ours_is_called_one(file: Path, recorder: Recorder) -> None:
    recorder.error = AssertionError("sent != delivered")
    result = p2pl("run", file)
    assert result.exit_code == 1
    assert "bug in p2pl_async: AssertionError: sent != delivered; add --debug to see where" in result.stderr
    assert p2pl("run", file, "--debug").exception is recorder.error


def test_a_run_prints_a_table_and_writes_plots_unless_told_not_to(file: Path) -> None:
    file.write_text(SMALL)
    result = p2pl("run", file, "--no-plots")
    assert result.exit_code == 0, result.stderr
    assert "worst device" in result.stdout
    assert (file.parent / "runs/s/1/summary.json").exists()
    assert not list((file.parent / "runs/s/1").glob("plots/*"))
    result = p2pl("run", file, "--quiet", "--trace", "--out", "here")
    assert (result.exit_code, result.output) == (0, "")
    assert list((file.parent / "here" / "plots").glob("*.png"))
    assert (file.parent / "here" / "trace.parquet").exists()


# Starting


def test_list_imports_nothing_heavy(file: Path) -> None:
    """Nor do `--help` and `check --quick`, as `test_layers.py` sees."""
    code = (
        "import sys\nfrom p2pl_async.cli.main import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'sklearn', 'networkx', 'matplotlib', 'pandas', 'pyarrow', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = str(Path(cli.__file__).parents[1])
    environment = {"PYTHONPATH": root, "PATH": "", "HOME": str(file.parent)}
    subprocess.run([sys.executable, "-c", code, "list"], check=True, cwd=file.parent, env=environment, timeout=300)


def test_save_models_keeps_the_model_of_each_device(tmp_path: Path, recorder: Recorder) -> None:
    path = tmp_path / "s.toml"
    path.write_text(LEAST)
    for option, kept in (("--save-models", True), ("--quiet", False)):
        p2pl("run", path, "--out", tmp_path / "run", option)
        assert recorder.options["save_models"] is kept
