"""The page of a run: what is in it, that it can load nothing, and what a real browser shows."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.recorded_run import recorded_run
from helpers.tables_of_runs import END, N, devices, links, metrics, mixes, small_run, trace
from matplotlib.image import imread
from rich.console import Console

from p2pl_async import load_scenario
from p2pl_async.errors import ScenarioError
from p2pl_async.report.page import activities, gathering
from p2pl_async.report.page.comparing import comparison_of, write_comparison
from p2pl_async.report.page.gathering import gather
from p2pl_async.report.page.in_words import in_words
from p2pl_async.report.page.writing import page_of, write_page
from p2pl_async.report.tables import final_table
from p2pl_async.results.run import Run, load_run
from p2pl_async.scenario.reading.load import dump

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def part(page: str, name: str) -> str:
    """Return the content of a script element with data."""
    found = re.search(rf'<script type="application/[\w-]+" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found.group(1)


def unpacked(page: str) -> dict[str, np.ndarray]:
    """Return the arrays in a page."""
    data = zlib.decompress(base64.b64decode(part(page, "data")))
    types = {"Float32Array": "<f4", "Uint32Array": "<u4", "Uint16Array": "<u2", "Uint8Array": "u1"}
    return {
        one["name"]: np.frombuffer(data, types[one["type"]], one["length"], one["at"])
        for one in json.loads(part(page, "layout"))
    }


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(small_run())


# What is in it


def test_messages_are_those_of_the_trace(page: str) -> None:
    arrays, kept = unpacked(page), trace().sort_values("sent_s", kind="stable")
    np.testing.assert_allclose(arrays["sent"] / (2**32 - 1) * END, kept["sent_s"], atol=1e-6)
    ends = kept["arrival_s"].fillna(kept["sent_s"] + kept["air_s"])
    np.testing.assert_allclose(arrays["gone"] / (2**32 - 1) * END, ends, atol=1e-6)
    np.testing.assert_array_equal(arrays["to"], kept["dst"])
    fates = json.loads(part(page, "head"))["messages"]["fates"]
    assert [fates[code] for code in arrays["fate"]] == kept["fate"].tolist()


def test_times_on_air_are_those_of_the_trace_and_left_out_where_no_rate_is_known(page: str) -> None:
    np.testing.assert_allclose(unpacked(page)["air"] / (2**32 - 1) * END, 0.2, atol=1e-6)
    assert "air" not in gather(small_run(trace=trace().assign(air_s=0.0))).arrays


def test_messages_in_flight_are_under_way_until_the_end() -> None:
    kept = trace()
    kept.loc[3, ["arrival_s", "fate"]] = np.nan, "in flight"
    arrays = gather(small_run(trace=kept)).arrays
    assert (arrays["gone"] == 2**32 - 1).sum() == 1


def test_messages_have_the_first_time_that_a_mix_used_them() -> None:
    again = mixes().iloc[:10].assign(time_s=99.0)
    arrays = gather(small_run(mixes=pd.concat([mixes(), again]))).arrays
    kept = trace().sort_values("sent_s", kind="stable")
    ends = np.where(kept["fate"] == "delivered", np.ceil(kept["arrival_s"] / 5) * 5, 0)
    np.testing.assert_allclose(arrays["mixed"] / (2**32 - 1) * END, ends, atol=1e-6)
    assert "mixed" not in gather(small_run()).arrays


def test_scores_of_devices_lie_by_instant_and_device(page: str) -> None:
    arrays = unpacked(page)
    scores = arrays["score:accuracy"].reshape(len(arrays["time"]), N)
    np.testing.assert_allclose(scores, np.tile(90 * arrays["time"][:, None] / END, N), rtol=1e-5)
    np.testing.assert_allclose(arrays["whole:rounds"], arrays["time"] / 5)


def test_groups_are_rows_and_lines_of_the_page() -> None:
    page = page_of(small_run(devices=devices(group=["old"] * 2 + [""] * (N - 2))))
    assert json.loads(part(page, "head"))["groups"] == {"old": [0, 1], "others": [2, 3, 4, 5]}
    assert "old, 2 devices" in page


def of_error() -> Run:
    """Return a run whose models predict numbers."""
    table = metrics()
    table.loc[table["metric"] == "accuracy", "value"] = 0.5
    table["metric"] = table["metric"].replace("accuracy", "rmse")
    score = {"min": 0.4, "mean": 0.5, "max": 0.6}
    return small_run(
        metrics=table, devices=devices(accuracy=np.nan, rmse=[0.4, 0.5, 0.5, 0.5, 0.5, 0.6]),
        summary={"accuracy": None, "metric": "rmse", "lower_is_better": True, "scores": {"rmse": score}},
    )  # fmt: skip


def test_what_models_are_scored_by_first_is_shown_whatever_it_is() -> None:
    content = gather(of_error())
    assert content.head["metric"] == {"name": "rmse", "label": "root mean square error", "unit": "", "falls": True}
    assert list(content.head["scores"]) == ["rmse"]
    np.testing.assert_allclose(content.arrays["score:rmse"], 0.5)
    page = comparison_of({"first": of_error(), "second": of_error()})
    assert "<th>mean rmse</th>" in page
    assert "<td>0.6</td><td>0.5</td><td>0.4</td>" in page  # the worst first
    assert json.loads(part(page, "head"))["metrics"] == [content.head["metric"]]


def test_times_down_run_from_a_crash_to_the_return_from_the_start_or_to_the_end() -> None:
    table = metrics((5.0, 0, "up", 0), (10.0, 1, "crash", 2), (35.0, 1, "up", 1), (90.0, 4, "crash", 9))
    assert gather(small_run(metrics=table)).head["down"] == [(0, 0.0, 5.0), (1, 10.0, 35.0), (4, 90.0, END)]


def test_devices_that_move_have_tracks_and_the_others_stay() -> None:
    places = pd.DataFrame(
        {"time_s": [0.0, 0.0, 50.0, 100.0], "device": [1, 3, 1, 3], "x": [5.0, 7.0, 6.0, 9.0], "y": 2.0, "z": 0.0}
    )
    arrays = gather(small_run(positions=places)).arrays
    assert arrays["track_time"].tolist() == [0, 50, 100]
    assert arrays["track_x"][:, 1].tolist() == [5, 6, 6]
    assert arrays["track_x"][:, 3].tolist() == [7, 7, 9]
    assert arrays["track_x"][:, 0].tolist() == pytest.approx([1, 1, 1])
    assert "track_time" not in gather(small_run()).arrays


def test_of_very_many_messages_some_are_shown_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_MESSAGES", 50)
    content = gather(small_run())
    assert content.head["messages"]["total"] == 240
    assert content.head["messages"]["shown"] == len(content.arrays["sent"]) == 50


def test_of_very_many_trainings_and_rounds_the_timeline_has_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gather(small_run())
    assert whole.head["round_every"] == 1
    assert whole.head["trainings"] == {"total": 20 * N, "shown": 20 * N}
    longer = metrics()
    paused = (longer["metric"] == "training_s") & (longer["device"] == 3) & (longer["time_s"] == 54)
    longer.loc[paused, "value"] = 1.0  # from 53 s, after a pause of 4 s
    monkeypatch.setattr(activities, "_SPANS", N + 1)
    some = gather(small_run(metrics=longer))
    assert some.head["trainings"] == {"total": 20 * N, "shown": N + 1}
    first = some.arrays["train_first"]
    assert np.diff(first).tolist() == [1, 1, 1, 2, 1, 1]
    starts, ends = (some.arrays[f"train_{name}"] / (2**32 - 1) * END for name in ("from", "to"))
    np.testing.assert_allclose(starts[first[3] : first[4]], [0, 53], atol=1e-6)
    np.testing.assert_allclose(ends[first[3] : first[4]], [49, 99], atol=1e-6)
    np.testing.assert_allclose(starts[first[:3]], 0, atol=1e-6)
    assert some.head["round_every"] == 100  # each 10th would still be two for each device
    monkeypatch.setattr(activities, "_SPANS", 2 * N)
    tens = gather(small_run())
    assert tens.head["round_every"] == 10
    np.testing.assert_allclose(tens.arrays["round_at"] / (2**32 - 1) * END, [50, 100] * N, atol=1e-6)


def test_it_tells_the_numbers_of_the_summary_and_what_held_it_back() -> None:
    run = small_run(
        summary={"accuracy": {"min": 0.8123, "mean": 0.9, "max": 0.95}, "sync": {"completed_s": 40.0, "agreed": True}}
    )
    text = html.unescape(re.sub(r"<[^>]+>", " ", page_of(run).split("<noscript>")[0]))
    assert "81.23 %" in text
    assert "240 sent" in text
    assert "took 40 s, 40 % of the run" in text


def test_it_tells_the_scenario_in_words_what_went_wrong_and_who_recorded_it() -> None:
    scenario = load_scenario(Path(__file__).parents[2] / "scenarios" / "quickstart.toml")
    told = {"versions": {"p2pl-async": "0.1.9"}, "warnings": ["<b>slow</b>"], "error": "no room",
            "not_finite": {"device": 3, "virtual_seconds": 2.0}}  # fmt: skip
    page = page_of(small_run(scenario_text=dump(scenario), summary=told)).split("<noscript>")[0]
    assert "topology random-geometric (radius 0.35); latency lognormal (mean 50 ms, sd 30 ms)" in page
    assert "<dd>after 10 min</dd>" in page
    assert "recorded by version 0.1.9 of p2pl_async" in page
    assert "warning: &lt;b&gt;slow&lt;/b&gt;" in page
    assert "error: no room" in page
    assert "diverged: the loss of device 3 is not finite from 2 s on" in page
    assert "recorded by" not in page_of(small_run())


@pytest.mark.parametrize(
    "text", ["", "link.loss = 3", "devices = 1", '[link]\nloss = "5 %"\n[stop]\naccuracy = 3', "a ="]
)
def test_a_text_that_is_no_resolved_scenario_has_no_words_and_does_no_harm(text: str) -> None:
    assert in_words(text) in ([], [("links", "loss 5 %")])


def test_a_run_without_trace_learning_or_links_gets_a_page() -> None:
    assert "This run is killed" in page_of(small_run(trace=None, links=links().iloc[:0], summary={"status": "killed"}))
    assert "<h1>" in page_of(recorded_run(n=5, learning=False))


def test_of_a_killed_run_the_page_has_the_links_of_its_trace_and_reaches_to_the_last_that_was_written() -> None:
    killed = {"status": "killed", "virtual_seconds": 40.0}
    content = gather(small_run(links=links().iloc[:0], summary=killed))
    assert content.head["end"] == END
    kept = trace()
    kept["lost"] = kept["fate"] == "loss"
    told = kept.groupby(["src", "dst"])
    np.testing.assert_array_equal(content.arrays["link_sent"], told.size())
    np.testing.assert_array_equal(content.arrays["link_lost"], told["lost"].sum())
    np.testing.assert_array_equal(content.arrays["link_lost:loss"], told["lost"].sum())
    np.testing.assert_array_equal(content.arrays["link_delivered"], told.size() - told["lost"].sum())
    np.testing.assert_allclose(content.arrays["link_mean_delay_s"], 0.25, rtol=1e-5)
    np.testing.assert_allclose(content.arrays["link_last_delivery_s"], told["arrival_s"].max(), rtol=1e-6)
    np.testing.assert_allclose(content.arrays["link_air_s"], 20 * 0.2, rtol=1e-6)
    page = page_of(small_run(links=links().iloc[:0], summary=killed))
    assert "p2pl, last measured</th><td>90.00 %</td>" in page
    assert gather(small_run(summary={"virtual_seconds": 80.0})).head["end"] == 80  # complete: as the summary says


def test_of_a_killed_run_with_many_messages_the_links_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_MESSAGES", 50)  # whose counts would be too low
    assert "link_sent" not in gather(small_run(links=links().iloc[:0], summary={"status": "killed"})).arrays


def test_a_baseline_that_was_cut_off_says_so() -> None:
    run = small_run(baselines={"local": small_run(summary={"status": "killed", "accuracy": None})})
    assert "local (killed)</th><td>-</td>" in page_of(run)
    assert "local</th>" in page_of(small_run(baselines={"local": small_run()}))


def test_it_is_written_into_the_folder_and_an_unwritable_one_is_told(tmp_path: Path) -> None:
    recorded_run(tmp_path / "run", n=4)
    path = write_page(load_run(tmp_path / "run"))
    assert path == tmp_path / "run" / "report.html"
    assert sorted(tmp_path.glob("run/*.part")) == []
    said = io.StringIO()
    Console(file=said, width=200).print(final_table(load_run(tmp_path / "run")))
    assert f"{path}: curves, map, timeline; open it in a browser" in said.getvalue()
    with pytest.raises(ScenarioError, match="can't be written"):
        write_page(small_run(), tmp_path / "none" / "report.html")
    with pytest.raises(ValueError, match="has no folder"):
        write_page(small_run())


# Several runs


def test_a_comparison_tells_differences_and_the_settings_that_differ() -> None:
    runs = {
        "first": small_run(scenario_text='name = "a"\nlink.loss = "5 %"\nseed = 3\n'),
        "second": small_run(
            summary={"accuracy": {"min": 0.85, "mean": 0.9, "max": 0.92}},
            scenario_text='name = "a"\nlink.loss = "10 %"\nseed = 3\n',
        ),
    }
    page = comparison_of(runs)
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.split('<script type="application/json"')[0])).split())
    assert "second 85.00 % (-5.00) 90.00 % 92.00 % (+2.00)" in text
    assert "link.loss 5 % 10 %" in text
    assert "seed 3" not in text
    arrays = unpacked(page)
    np.testing.assert_allclose(arrays["1:accuracy:mean"], 90 * arrays["1:time"] / END, rtol=1e-5)
    with pytest.raises(ScenarioError, match="two or more different runs"):
        write_comparison({"one": small_run()}, Path("never.html"))


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_a_browser_lays_the_curves_of_runs_over_each_other(tmp_path: Path) -> None:
    runs = {"first": small_run(), "second": recorded_run(n=5), "third": small_run(trace=None), "error": of_error()}
    page = comparison_of(runs)
    dom, console = shown(page, tmp_path)
    assert console == []
    assert dom.count('class="uplot') >= 3
    legend = re.findall(r'<div class="u-marker".*?</div><div class="u-label">(.*?)</div>', dom)
    assert {"first", "second", "third", "error"} <= set(legend)


# Safety


def test_texts_of_a_scenario_can_not_become_markup() -> None:
    evil = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
    run = small_run(summary={"scenario": evil, "warnings": [evil]}, scenario_text=evil)
    kept = trace()
    kept["kind"] = evil
    assert evil not in page_of(small_run(summary={"scenario": evil}, scenario_text=evil, trace=kept))
    assert evil not in page_of(run)
    assert "<img" not in page_of(run)


def test_it_can_load_nothing(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in html.unescape(policy.group(1)).split(";"))
    assert rules["default-src"] == "'none'"
    assert set(rules) == {"default-src", "base-uri", "form-action", "img-src", "style-src", "script-src"}
    assert "unsafe" not in policy.group(1)
    markup = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"\b(src|href)=[\"'](?!#)", markup)


# In a browser


def shown(page: str, folder: Path, hash: str = "") -> tuple[str, list[str]]:
    """Return the document as a browser has built it, and what it wrote to its console."""
    done = browsed(page, folder, "--dump-dom", hash=hash)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def browsed(page: str, folder: Path, *options: str, hash: str = "") -> subprocess.CompletedProcess[str]:
    """Open a page in a browser with these options."""
    assert CHROMIUM is not None
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    command = [
        CHROMIUM,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=4000"),
        *("--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", *options, f"{file.as_uri()}{hash}"),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def under_way(dom: str) -> list[str]:
    """Return the messages under way that a page lists."""
    details: Any = re.search(r'<details id="underway">(.*?)</details>', dom, re.DOTALL)
    return re.findall(r"<li>(.*?)</li>", details.group(1))


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_a_browser_opens_it_without_errors_and_replays_what_the_trace_says(page: str, tmp_path: Path) -> None:
    kept = trace()
    ends = kept["arrival_s"].fillna(kept["sent_s"] + kept["air_s"])
    for instant in (5.02, 50.1, 95.23):
        dom, console = shown(page, tmp_path, f"#t={instant}")
        assert console == []
        assert 'data-ready="yes"' in dom
        there = kept[(kept["sent_s"] <= instant) & (ends >= instant)]
        assert len(there) > 2
        expected = [
            f"{src} to {dst}: params, 1 kB, {fate}"
            for src, dst, fate in zip(there["src"], there["dst"], there["fate"], strict=True)
        ]
        assert sorted(under_way(dom)) == sorted(expected)
        assert f"Messages under way: {len(there)}" in dom
    assert dom.count('class="uplot') >= 4


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_a_browser_opens_the_page_of_a_run_without_learning(tmp_path: Path) -> None:
    dom, console = shown(page_of(recorded_run(n=5, learning=False)), tmp_path)
    assert console == []
    assert 'data-ready="yes"' in dom


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_a_browser_tells_the_story_of_a_link_the_rhythm_of_sleep_and_influence(tmp_path: Path) -> None:
    times = {"first_delivery_s": 2.5, "last_delivery_s": 97.5, "lost_loss": 1, "lost_burst": 0, "weight_in_mixes": 0.4}
    sleep = {"awake_from_s": 1.0, "awake_s": 2.0, "awake_every_s": 10.0, "sample_weight": 1.0}
    outage = metrics((40.0, 1, "deaf_s", 30.0))
    run = small_run(metrics=outage, links=links().assign(**times), devices=devices(**sleep), mixes=mixes().iloc[:50])
    dom, console = shown(page_of(run), tmp_path, "#t=50&link=0-1")
    assert console == []
    text = " ".join(re.sub(r"<[^>]+>", " ", dom[dom.index('id="story"') :]).split())
    used = len(mixes().iloc[:50].query("src == 0 and device == 1"))
    told = f"Link 0 to 1 sent 20 delivered 19 (95.0 %) used by mixes {used} lost: loss 1 (5.0 %) mean delay 250 ms"
    assert told in text
    assert used > 1
    assert "first delivery 2.5 s last delivery 97.5 s weight in mixes 40.00 %" in text
    kept = trace()
    on_link = kept[(kept["src"] == 0) & (kept["dst"] == 1)]["fate"].value_counts()
    assert f"messages from 0 s to 100 s: delivered {on_link['delivered']}, loss {on_link['loss']}" in text
    assert "asleep an outage, in which it hears nobody zoomed in" in text
    assert "influence" in text
    assert "weight of models in mixes" in text


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_a_browser_colors_devices_by_their_error_and_has_lines_of_groups(tmp_path: Path) -> None:
    run = of_error()
    grouped = small_run(metrics=run.metrics, devices=run.devices.assign(group="old"), summary=run.summary)
    dom, console = shown(page_of(grouped), tmp_path)
    assert console == []
    assert "the lower the root mean square error" in dom
    assert re.search(r'class="u-label">old, mean<', dom)


TRAINING, SENDING, RECEIVING, WAITING = (0x00, 0x9E, 0x73), (0x00, 0x72, 0xB2), (0xA3, 0x47, 0x8A), (0x66, 0x70, 0x80)
TRAINING_IN_THE_DARK = (0x2F, 0xC7, 0x9A)


def messages_once() -> pd.DataFrame:
    """Return a trace of one message: device 0 sends it at 59 s, 0.7 s long, to device 1, where it arrives at 59.9 s."""
    return trace().iloc[:1].assign(sent_s=59.0, src=0, dst=1, air_s=0.7, arrival_s=59.9, fate="delivered")


def told_by(page: str, folder: Path, script: str) -> Any:
    """Return what a script, run in the page once it is ready, gives as its result."""
    wait = 'while (document.body.dataset.ready !== "yes") await new Promise((go) => setTimeout(go, 20));'
    tell = "document.body.append(element('output', { id: 'told', textContent: JSON.stringify(found()) }));"
    page = re.sub(r"<meta http-equiv=.Content-Security-Policy.[^>]*>", "", page)  # which allows no script of others
    dom, console = shown(
        page.replace("</body>", f"<script>(async () => {{ {wait} {script} {tell} }})()</script></body>"), folder
    )
    assert console == []
    told = re.search(r'<output id="told">(.*?)</output>', dom)
    assert told is not None
    return json.loads(html.unescape(told.group(1)))


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_arrows_are_those_of_messages_that_mixes_used_or_of_all_or_of_chosen_devices(tmp_path: Path) -> None:
    two = pd.concat([messages_once(), messages_once().assign(src=3, dst=4)])
    mixed = pd.DataFrame({"time_s": [75.0], "device": [1], "src": [0], "number": two["number"].iloc[:1]})
    script = """
        timeline.show(50, 90);
        const [used, all] = document.querySelectorAll("#arrows button");
        const { width, height, clientWidth } = timeline.canvas, ratio = width / clientWidth;
        const context = element("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
        const color = (seconds, row) => { // of the column of pixels in a row in which an arrow goes on to a mix
            const x = timeline.left + ((seconds - 50) / 40) * (clientWidth - timeline.left);
            const y = (row + 0.1) * timeline.height;
            context.clearRect(0, 0, width, height);
            context.drawImage(timeline.canvas, 0, 0);
            return [...context.getImageData(x * ratio, y * ratio, 1, 0.18 * timeline.height * ratio).data].join();
        };
        const view = () => [timeline.inView(partOf(50), partOf(90)), color(67, 1), color(80, 1), color(67, 4)];
        const found = () => {
            const states = [view()];
            all.click(); states.push(view());
            page.select([4]); states.push(view());
            used.click(); states.push(view());
            timeline.show(80, 90); states.push([timeline.inView(partOf(80), partOf(90))]);
            return states;
        };
    """
    first, every, chosen, none, later = told_by(page_of(small_run(trace=two, mixes=mixed)), tmp_path, script)
    assert [state[0] for state in (first, every, chosen, none, later)] == [[0], [0, 1], [1], [], []]
    assert first[1] != every[1]  # on to the mix
    assert first[2:] == every[2:]  # no further, and not of a message that no mix used
    script = """
        const found = () => [timeline.used, timeline.inView(0, PARTS), document.getElementById("arrows").hidden];
    """
    assert told_by(page_of(small_run(trace=two)), tmp_path, script) == [False, [0, 1], True]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_a_row_of_the_timeline_tells_training_sending_receiving_and_waiting_by_height(tmp_path: Path) -> None:
    browsed(page_of(small_run(trace=messages_once())), tmp_path, f"--screenshot={tmp_path / 'shot.png'}",
            "--hide-scrollbars", "--force-device-scale-factor=1", "--window-size=1300,3000")  # fmt: skip
    shot = np.round(imread(tmp_path / "shot.png")[:, :, :3] * 255).astype(int)

    def seconds(color: tuple[int, int, int], y: float) -> float:
        """Return how much of the run has this color at a height."""
        return float((np.abs(shot[round(y), columns[0] :] - color).max(axis=-1) < 24).sum() / per_second)

    green = (shot == TRAINING).all(axis=-1)
    tall = np.flatnonzero(green.sum(axis=1) > 700)
    tops = tall[np.diff(tall, prepend=-9) > 1]
    assert len(tops) == N
    columns = np.flatnonzero(green[tops[0]])
    per_second = (np.ptp(columns) + 1) / 99  # trained from 0 s to 99 s, with pauses
    row = tops[1] - tops[0]
    top = tops - np.ceil(0.3 * row)  # of rows; a bar of training begins at three tenths
    at = {"receiving": 0.13, "training": 0.35, "waiting": 0.5, "sending": 0.87}
    y = {name: top + share * row for name, share in at.items()}
    waited = [seconds(WAITING, y["waiting"][k]) for k in range(N)]
    assert waited[2] == pytest.approx(20, abs=3.5)  # ticks and edges hide some
    for k in range(N):
        assert seconds(TRAINING, y["training"][k]) == pytest.approx(80, abs=2.5)
        assert waited[2] - waited[k] == pytest.approx(0.7 if k in (0, 1) else 0, abs=0.3)
        assert seconds(SENDING, y["sending"][k]) == pytest.approx(0.7 if k == 0 else 0, abs=0.3)
        assert seconds(RECEIVING, y["receiving"][k]) == pytest.approx(0.7 if k == 1 else 0, abs=0.3)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_a_page_printed_from_the_dark_is_light(page: str, tmp_path: Path) -> None:
    browsed(page, tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", "--blink-settings=preferredColorScheme=0")
    written = (tmp_path / "page.pdf").read_bytes()
    found = set()
    for image in re.finditer(rb"/Subtype /Image((?:(?!endobj).)*?)>>\s*stream\r?\n", written, re.DOTALL):
        if b"/ICCBased" in image[1]:
            colors = np.frombuffer(zlib.decompressobj().decompress(written[image.end() :]), np.uint8).reshape(-1, 3)
            found |= set(map(tuple, np.unique(colors, axis=0).tolist()))
    assert TRAINING in found
    assert TRAINING_IN_THE_DARK not in found
