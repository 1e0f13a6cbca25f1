"""Plots of recorded runs: which are drawn, and that the same run gives the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from helpers.recorded_run import recorded_run
from helpers.tables_of_runs import N, devices, metrics, small_run
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

from p2pl_async.errors import ScenarioError
from p2pl_async.report import pictures, plots
from p2pl_async.report.drawing import bytes_unit, plain_axes, time_unit, write_many
from p2pl_async.report.layout import places
from p2pl_async.report.plots import write_plots
from p2pl_async.results.folder import PLOTS
from p2pl_async.results.run import Run, load_run


@pytest.fixture(scope="module")
def run() -> Run:
    return recorded_run(n=12)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    recorded_run(folder, n=12)
    written = write_plots(load_run(folder))
    assert written == [folder / "plots" / f"{name}.{suffix}" for name in PLOTS for suffix in ("png", "svg")]
    return folder / "plots"


def lines(figure: Any) -> dict[str, Any]:
    """Return the labeled lines of a figure's first axes, as arrays (2, n)."""
    return {line.get_label(): np.asarray(line.get_data(), dtype=float) for line in figure.axes[0].lines}


def test_a_run_with_learning_gets_every_plot_as_png_and_svg(drawn: Path) -> None:
    files = sorted(file.name for file in drawn.iterdir())
    assert files == sorted(f"{name}.{suffix}" for name in PLOTS for suffix in ("png", "svg"))
    for name in PLOTS:
        assert (drawn / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (drawn / f"{name}.svg").read_text()


def test_many_texts_are_centered_where_they_are_each_outline_made_once() -> None:
    _, ax = plain_axes("title", "note")
    ax.set(xlim=(0, 4), ylim=(0, 4))
    write_many(ax, [(1, 1, "12", "black"), (3, 2, "12", "black"), (2, 3, "7", "white")], fontsize=8)
    twelve, seven = ax.lines
    assert np.array_equal(twelve.get_xydata(), [(1, 1), (3, 2)])
    assert (seven.get_color(), twelve.get_color()) == ("white", "black")
    assert ax.get_xlim() == (0, 4)
    for line, text in ((twelve, "12"), (seven, "7")):
        marker = line.get_marker()
        assert isinstance(marker, Outline)
        outline = np.asarray(marker.vertices)
        size = np.ptp(TextPath((0, 0), text, size=8).vertices, axis=0)
        assert np.allclose(np.ptp(outline, axis=0), size)
        assert np.allclose(outline.min(0), -outline.max(0))
        assert line.get_markersize() == pytest.approx(2 * abs(outline).max())  # in points, as the font


def test_the_same_run_gives_the_same_files(drawn: Path, tmp_path: Path) -> None:
    again = write_plots(recorded_run(n=12), tmp_path)
    assert [file.name for file in again if file.read_bytes() != (drawn / file.name).read_bytes()] == []
    assert "<dc:date>" not in (drawn / "topology.svg").read_text()


def test_a_run_without_learning_gets_the_plots_of_its_network(tmp_path: Path) -> None:
    written = write_plots(recorded_run(n=5, learning=False), tmp_path)
    assert {file.stem for file in written} == {"messages", "topology"}


def test_a_run_that_recorded_nothing_gets_no_plots(run: Run, tmp_path: Path) -> None:
    empty = Run(
        summary=run.summary, metrics=run.metrics.iloc[:0], devices=run.devices.iloc[:0], links=run.links.iloc[:0]
    )
    assert write_plots(empty, tmp_path / "plots") == []
    assert not (tmp_path / "plots").exists()


def test_a_run_in_memory_needs_a_folder(run: Run) -> None:
    with pytest.raises(ValueError, match="say where to put the plots"):
        write_plots(run)


def test_a_folder_that_can_not_be_written_is_an_error_that_names_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plots").touch()
    with pytest.raises(ScenarioError, match=r"plots has 1 problem"):
        write_plots(run, tmp_path / "plots")


def test_accuracy_shows_mean_target_and_baselines(run: Run) -> None:
    figure = plots.accuracy_time(run)
    shown = lines(figure)
    accuracy = run.metrics[run.metrics["metric"] == "accuracy"].groupby("time_s")["value"].mean()
    np.testing.assert_allclose(shown["p2pl, mean; worst to best shaded"], np.array([accuracy.index, accuracy * 100]))
    assert shown["target"][1].tolist() == [95, 95]
    assert shown["central, at its end"][1] == pytest.approx([98.1, 98.1])
    assert shown["local, mean"].shape == (2, 30)
    assert "after training, before mixing, mean" in shown
    assert figure is not None
    assert figure.axes[0].get_xlabel() == "virtual time (s)"


def test_accuracy_shows_the_mean_of_each_group() -> None:
    table = metrics((50.0, 0, "accuracy", 0.1))
    shown = lines(plots.accuracy_time(small_run(metrics=table, devices=devices(group=["old"] * 2 + [""] * (N - 2)))))
    of_old = table[(table["metric"] == "accuracy") & (table["device"] < 2)].groupby("time_s")["value"].mean()
    np.testing.assert_allclose(shown["old, mean of 2"][1], of_old * 100)
    assert "others, mean of 4" in shown


def test_accuracy_for_bytes_ends_at_the_bytes_of_the_run(run: Run) -> None:
    figure = plots.accuracy_for("bytes_on_air", run)
    assert figure is not None
    shown = lines(figure)["p2pl, mean; worst to best shaded"]
    assert figure.axes[0].get_xlabel() == "bytes on air, all devices (MB)"
    assert shown[0, -1] * 1e6 == pytest.approx(run.summary["messages"]["bytes_on_air"])


def test_messages_stack_up_to_what_was_counted() -> None:
    run = recorded_run(n=12, seconds=60)
    figure = plots.messages(run)
    assert figure is not None
    top = figure.axes[0].patches[-1].get_data()  # type: ignore[attr-defined]
    decided = float((top.values * np.diff(top.edges)).sum())
    counts = run.summary["messages"]
    assert decided == pytest.approx(counts["delivered"] + sum(counts["lost"].values()), abs=5)


SMALL = {
    "one": nx.empty_graph(1),
    "two": nx.path_graph(2),
    "star": nx.star_graph(4),
    "no links": nx.empty_graph(3),
    "two parts": nx.disjoint_union(nx.path_graph(2), nx.path_graph(3)),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_and_broken_topologies_can_be_drawn(name: str) -> None:
    figure = pictures.topology(recorded_run(graph=SMALL[name]))
    assert (figure is None) == (SMALL[name].number_of_edges() == 0)
    if figure is not None:
        figure.draw_without_rendering()


def test_devices_lie_where_they_are(run: Run) -> None:
    where = places(run.devices, run.links)
    assert where.tolist() == run.devices[["x", "y"]].to_numpy().tolist()


def test_a_large_topology_is_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_MOST_ARROWS", 20)
    monkeypatch.setattr(pictures, "_MOST_LINKS", 50)
    figure = pictures.topology(recorded_run(graph=nx.complete_graph(9)))
    assert figure is not None
    assert figure.get_supxlabel() == "9 devices, 72 links; 50 drawn; half a line is the link from the device at its end"
    assert len(figure.axes[0].collections[0].get_paths()) == 50


def test_links_are_colored_by_the_share_that_arrived(run: Run) -> None:
    figure = pictures.topology(run)
    assert figure is not None
    shown = np.sort(np.asarray(figure.axes[0].collections[0].get_array()))
    np.testing.assert_allclose(shown, np.sort(100 * run.links["delivered"] / run.links["sent"]))


def test_units_suit_the_size() -> None:
    assert [time_unit(x)[0] for x in (0.1, 179, 180, 10_800)] == ["s", "s", "min", "h"]
    assert [bytes_unit(x)[0] for x in (0, 2e3, 1.9e6, 3e9, 2e12)] == ["B", "kB", "kB", "GB", "TB"]
