"""Pages of runs over HTTP: what is served, to whom, and that it follows what happens."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from helpers.recorded_run import recorded_run

from p2pl_async.errors import ScenarioError
from p2pl_async.report import serving
from p2pl_async.report.serving import ResultsServer
from p2pl_async.results.publishing import summary_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsServer]:
    folder = tmp_path_factory.mktemp("results")
    recorded_run(folder / "a" / "1", n=4)
    (folder / "secret.txt").write_text("secret")
    with ResultsServer(folder) as made:
        yield made


def text_of(server: ResultsServer, path: str, **headers: str) -> tuple[int, str]:
    try:
        with urlopen(Request(server.address.rstrip("/") + path, headers=headers), timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_first_page_lists_the_runs_and_each_has_its_page(server: ResultsServer) -> None:
    status, index = text_of(server, "/")
    assert status == 200
    assert '<a href="/run/a/1/">a/1</a>' in index
    assert "complete" in index
    assert "baselines" not in index
    status, page = text_of(server, "/run/a/1/")
    assert status == 200
    assert "<h1>synthetic, seed 1</h1>" in page
    assert "connect-src 'self'" in page.replace("&#39;", "'")


@pytest.mark.parametrize(
    "path", ["/nothing", "/run/b/", "/run/../", "/run/..%2f..%2fetc/", "/secret.txt", "/run//etc/"]
)
def test_nothing_else_is_served(server: ResultsServer, path: str) -> None:
    status, text = text_of(server, path)
    assert status == 404
    assert "secret" not in text.replace(path, "")


def test_a_page_of_another_site_gets_nothing(server: ResultsServer) -> None:
    status, text = text_of(server, "/", Host="evil.example")
    assert status == 403
    assert "synthetic" not in text


def test_events_tell_the_rows_and_again_when_a_run_begins(server: ResultsServer, monkeypatch) -> None:
    monkeypatch.setattr(serving, "_EVERY", 0.05)
    with urlopen(server.address + "events", timeout=120) as stream:
        rows = json.loads(stream.readline().decode().removeprefix("data: "))
        assert [row["run"] for row in rows] == ["a/1"]
        assert rows[0]["mean"].endswith("%")
        new = server.folder / "b"
        new.mkdir()
        (new / "summary.json").write_text('{"status": "running", "scenario": "b", "seed": 1}')
        while not (line := stream.readline().decode()).startswith("data: "):
            pass
        assert [(row["run"], row["status"]) for row in json.loads(line.removeprefix("data: "))] == [
            ("a/1", "complete"),
            ("b", "killed"),  # it says "running", and nobody holds its folder
        ]


def test_the_summary_of_a_run_that_has_ended_is_read_again_only_if_it_changes(
    server: ResultsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = server.rows()
    read: list[Path] = []

    def reading(path: Path) -> dict[str, Any] | None:
        read.append(path)
        return summary_of(path)

    monkeypatch.setattr(serving, "summary_of", reading)
    assert server.rows() == first
    assert server.folder / "a" / "1" not in read
    (server.folder / "a" / "1" / "summary.json").touch()
    assert server.rows() == first
    assert server.folder / "a" / "1" in read


def test_a_folder_that_is_not_there_and_a_port_in_use_are_told(server: ResultsServer, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="there is no such folder"):
        ResultsServer(tmp_path / "none")
    taken = int(server.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(ScenarioError, match="choose another, or 0 for a free one"):
        ResultsServer(tmp_path, taken)
