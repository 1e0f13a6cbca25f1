"""Who can hear whom."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from p2pl_async.basics.randomness import stream
from p2pl_async.topology import random_graphs
from p2pl_async.topology.base import TopologySettings, neighbors, warn_cut_off
from p2pl_async.topology.kinds import AnyTopology
from p2pl_async.topology.one_peer import OnePeer

ANY: TypeAdapter[TopologySettings] = TypeAdapter(AnyTopology)

# One table per kind, with a count that it can have.
TABLES: list[tuple[dict[str, Any], int]] = [
    ({"kind": "complete"}, 7),
    ({"kind": "ring"}, 7),
    ({"kind": "directed-ring"}, 7),
    ({"kind": "path"}, 7),
    ({"kind": "star"}, 7),
    ({"kind": "grid"}, 12),
    ({"kind": "torus"}, 12),
    ({"kind": "hypercube"}, 8),
    ({"kind": "exponential"}, 7),
    ({"kind": "random-regular", "degree": 4}, 20),
    ({"kind": "erdos-renyi", "p": "30 %"}, 20),
    ({"kind": "erdos-renyi", "p": "30 %", "directed": True}, 20),
    ({"kind": "watts-strogatz", "neighbors": 4, "rewire": "20 %"}, 20),
    ({"kind": "barabasi-albert", "attach": 2}, 20),
    ({"kind": "random-geometric", "radius": 0.4}, 20),
    ({"kind": "one-peer-exponential"}, 7),
    ({"kind": "rotating-rings", "count": 3}, 20),
    ({"kind": "random-matchings"}, 7),
]
RANDOM = [(table, n) for table, n in TABLES if n == 20]
DIRECTED = ("directed-ring", "exponential", "one-peer-exponential", "rotating-rings")


def build(table: Any, n: int, seed: int = 1) -> Any:
    return ANY.validate_python(table).build(n, stream(seed, "topology"))


def is_symmetric(graph: Any) -> bool:
    return all(graph.has_edge(i, j) for j, i in graph.edges)


def degrees(graph: Any) -> set[int]:
    return {degree for _, degree in graph.out_degree}


@pytest.mark.parametrize(("table", "n"), TABLES)
def test_every_graph_is_directed_in_id_order_and_without_loops(table: Any, n: int) -> None:
    graph = build(table, n)
    assert graph.is_directed()
    assert list(graph) == list(range(n))
    assert nx.number_of_selfloops(graph) == 0
    assert all(list(graph.succ[k]) == sorted(graph.succ[k]) for k in graph)
    assert all(list(graph.pred[k]) == sorted(graph.pred[k]) for k in graph)
    assert is_symmetric(graph) == (table["kind"] not in DIRECTED and "directed" not in table)


@pytest.mark.parametrize(("table", "n"), RANDOM)
def test_a_random_graph_follows_its_seed_alone(table: Any, n: int) -> None:
    edges = [list(build(table, n, seed).edges) for seed in (1, 1, 2)]
    assert edges[0] == edges[1]
    assert edges[0] != edges[2]


def test_every_kind_is_tested_here() -> None:
    kinds = set(ANY.json_schema()["anyOf"][0]["enum"])
    assert kinds == {table["kind"] for table, _ in TABLES} | {"file", "in-range", "trace"}


@pytest.mark.parametrize(
    ("kind", "n", "degree", "diameter"),
    [
        ("complete", 9, 8, 1),
        ("ring", 10, 2, 5),
        ("ring", 11, 2, 5),
        ("directed-ring", 9, 1, 8),
        ("torus", 36, 4, 6),
        ("hypercube", 16, 4, 4),
        ("exponential", 16, 4, 4),
        ("exponential", 32, 5, 5),
    ],
)
def test_degree_and_diameter_match_the_closed_forms(kind: str, n: int, degree: int, diameter: int) -> None:
    graph = build(kind, n)
    assert degrees(graph) == {degree}
    assert nx.diameter(graph) == diameter


def test_path_star_and_directed_ring_have_the_links_their_names_say() -> None:
    assert list(build("path", 4).edges) == [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
    assert list(build("star", 4).edges) == [(0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0)]
    assert list(build("directed-ring", 3).edges) == [(0, 1), (1, 2), (2, 0)]


def test_exponential_reaches_powers_of_two_ahead() -> None:
    assert {k: list(heard) for k, heard in build("exponential", 6).adj.items()}[4] == [0, 2, 5]


def test_hypercube_neighbors_differ_in_one_bit() -> None:
    assert all((j ^ i).bit_count() == 1 for j, i in build("hypercube", 32).edges)


@pytest.mark.parametrize("kind", ["complete", "ring", "directed-ring", "path", "star", "hypercube", "exponential"])
def test_one_device_is_alone(kind: str) -> None:
    graph = build(kind, 1)
    assert (len(graph), graph.number_of_edges()) == (1, 0)
    assert warn_cut_off(graph) == []


@pytest.mark.parametrize(("kind", "wraps"), [("grid", False), ("torus", True)])
@pytest.mark.parametrize("sizes", [{}, {"rows": 3}, {"columns": 4}, {"rows": 3, "columns": 4}, {"rows": 4}])
def test_lattices_are_those_of_networkx(kind: str, wraps: bool, sizes: dict[str, int]) -> None:
    rows = sizes.get("rows", 3)
    expected = nx.grid_2d_graph(rows, 12 // rows, periodic=wraps)
    graph = build({"kind": kind, **sizes}, 12)
    columns = 12 // rows
    assert {frozenset(edge) for edge in graph.edges} == {
        frozenset(r * columns + c for r, c in edge) for edge in expected.edges
    }


@pytest.mark.parametrize("kind", ["grid", "torus"])
def test_a_lattice_is_laid_out_in_rows_and_columns(kind: str) -> None:
    places = dict(build(kind, 12).nodes("pos"))
    assert places[0] == pytest.approx((1 / 8, 1 / 6))
    assert places[5] == pytest.approx((3 / 8, 3 / 6))


def test_random_regular_has_the_degree_asked_for() -> None:
    assert degrees(build({"kind": "random-regular", "degree": 3}, 30)) == {3}


@pytest.mark.parametrize("directed", [False, True])
def test_erdos_renyi_has_each_link_with_probability_p(directed: bool) -> None:
    n, p = 100, 0.1
    edges = build({"kind": "erdos-renyi", "p": p, "directed": directed}, n).number_of_edges()
    trials = n * (n - 1) if directed else n * (n - 1) / 2
    tolerance = 5 * math.sqrt(trials * p * (1 - p)) * (1 if directed else 2)
    assert edges == pytest.approx(n * (n - 1) * p, abs=tolerance)


def test_watts_strogatz_rewires_a_share_of_a_ring() -> None:
    def kept(rewire: float) -> float:
        graph = build({"kind": "watts-strogatz", "neighbors": 4, "rewire": rewire}, 500)
        assert graph.number_of_edges() == 500 * 4
        return float(sum(min((j - i) % 500, (i - j) % 500) <= 2 for j, i in graph.edges) / 2000)

    assert kept(0) == 1
    assert kept(0.2) == pytest.approx(0.8, abs=5 * math.sqrt(0.16 / 1000) + 0.01)


def test_barabasi_albert_attaches_each_new_device_so_many_times() -> None:
    graph = build({"kind": "barabasi-albert", "attach": 3}, 100)
    assert graph.number_of_edges() == 2 * 3 * (100 - 3)


def test_random_geometric_links_whoever_is_near() -> None:
    graph = build({"kind": "random-geometric", "radius": 0.3}, 40)
    places = dict(graph.nodes("pos"))
    near = {(j, i) for j in graph for i in graph if i != j and math.dist(places[j], places[i]) <= 0.3}
    assert set(graph.edges) == near


def test_random_geometric_links_the_same_by_pairs_and_by_a_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    def edges(few: int) -> list[tuple[int, int]]:
        monkeypatch.setattr(random_graphs, "_FEW", few)
        return list(build({"kind": "random-geometric", "radius": 0.2, "connected": False}, 60).edges)

    assert edges(60) == edges(59)


def test_few_devices_are_linked_without_scipy() -> None:
    code = """
import sys, numpy
from p2pl_async.topology.random_graphs import RandomGeometric
RandomGeometric(radius=0.5).build(20, numpy.random.default_rng(1))
print([name for name in sys.modules if name.startswith("scipy")])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_random_geometric_density_is_that_of_uniform_places() -> None:
    """R = 0.25 in the unit square: P(link) = pi R^2 - 8 R^3 / 3 + R^4 / 2 = 0.1566."""
    table = {"kind": "random-geometric", "radius": 0.25, "connected": False}
    links = [build(table, 50, seed).number_of_edges() / (50 * 49) for seed in range(40)]
    error = 0.02  # of one graph: places, not links, are independent
    assert sum(links) / 40 == pytest.approx(0.1566, abs=5 * error / math.sqrt(40))


def test_random_geometric_is_drawn_again_until_connected() -> None:
    table = {"kind": "random-geometric", "radius": 0.3}
    apart = [seed for seed in range(20) if warn_cut_off(build({**table, "connected": False}, 20, seed))]
    assert apart
    assert all(nx.is_strongly_connected(build(table, 20, seed)) for seed in apart)


def test_a_hopeless_radius_is_an_error_that_proposes_one() -> None:
    with pytest.raises(ValueError, match=r"radius=0.05 left some of 20 .* use about 0\.\d+, or connected = false"):
        build({"kind": "random-geometric", "radius": 0.05}, 20)


# --- What cannot be built


@pytest.mark.parametrize(
    ("table", "n", "text"),
    [
        ({"kind": "grid"}, 13, "not 13; use 12 (3 x 4) or 14 (2 x 7)"),
        ({"kind": "grid", "rows": 4}, 21, "not 21; use 20 (4 x 5) or 24 (4 x 6)"),
        ({"kind": "grid", "columns": 4}, 21, "not 21; use 20 (5 x 4) or 24 (6 x 4)"),
        ({"kind": "grid", "rows": 4, "columns": 5}, 21, "not 21; use 20 (4 x 5)"),
        ({"kind": "torus"}, 10, "not 10; use 9 (3 x 3) or 12 (3 x 4)"),
        ({"kind": "torus", "rows": 2}, 10, "at least 3 rows and 3 columns"),
        ({"kind": "hypercube"}, 100, "not 100; use 64 or 128"),
        ({"kind": "random-regular", "degree": 5}, 5, "degree=5 must be below the number of devices, 5"),
        ({"kind": "random-regular", "degree": 3}, 5, "half a link; use degree=4, or 6 devices"),
        ({"kind": "watts-strogatz", "neighbors": 3, "rewire": 0}, 9, "neighbors=3 must be even"),
        ({"kind": "watts-strogatz", "neighbors": 10, "rewire": 0}, 9, "neighbors=10 must be below"),
        ({"kind": "barabasi-albert", "attach": 9}, 9, "attach=9 must be below the number of devices, 9"),
    ],
)
def test_a_count_that_does_not_fit_is_an_error_that_proposes_one(table: Any, n: int, text: str) -> None:
    settings = ANY.validate_python(table)
    (found,) = settings.check(n)
    assert text in found
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is compared below
        settings.build(n, stream(1, "topology"))
    assert str(caught.value) == found


@given(st.integers(1, 400), st.sampled_from(["grid", "torus", "hypercube"]))
def test_proposed_counts_fit(n: int, kind: str) -> None:
    settings = ANY.validate_python(kind)
    for text in settings.check(n):
        proposed = [int(word.split(" ")[0]) for word in text.split("use ")[1].split(" or ")]
        assert proposed
        assert all(settings.check(count) == [] for count in proposed)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("rign", 'did you mean "ring"'),
        ({"kind": "random-geometric", "radius": 0}, "radius"),
        ({"kind": "random-regular", "degree": 0}, "degree"),
        ({"kind": "random-regular", "degree": "4"}, "degree"),
        ({"kind": "erdos-renyi", "p": 2}, "for 2 percent"),
        ({"kind": "grid", "rows": 0}, "rows"),
        ({"kind": "ring", "radius": 1}, "radius"),
    ],
)
def test_impossible_settings_are_refused(table: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ANY.validate_python(table)


# --- Topologies that change

CHANGING: list[dict[str, Any]] = [
    {"kind": "one-peer-exponential"},
    {"kind": "rotating-rings", "count": 3},
    {"kind": "random-matchings"},
]


def over_time(table: Any, n: int, seed: int = 1) -> OnePeer:
    found = ANY.validate_python(table).neighborhood(n, stream(seed, "topology"))
    assert isinstance(found, OnePeer)
    return found


def sends_to(found: OnePeer, n: int, step: int) -> list[tuple[int, ...]]:
    return [found.outgoing(k, now=0.0, round=step) for k in range(n)]


@given(st.sampled_from(CHANGING), st.integers(1, 12), st.integers(0, 40), st.integers(0, 5))
def test_everyone_sends_to_at_most_one_and_hears_whoever_sends_to_it(table: Any, n: int, step: int, seed: int) -> None:
    found, graph = over_time(table, n, seed), build(table, n, seed)
    for k in range(n):
        for j in (out := found.outgoing(k, 0.0, step)):
            assert graph.has_edge(k, j)
            assert found.incoming(j, 0.0, step) == (k,)
        assert len(out) <= 1
    assert sum(map(len, sends_to(found, n, step))) == sum(len(found.incoming(k, 0.0, step)) for k in range(n))


@pytest.mark.parametrize("table", CHANGING)
def test_all_links_of_the_graph_are_there_at_some_time(table: Any) -> None:
    found = over_time(table, 6)
    seen = {(k, j) for step in range(100) for k, targets in enumerate(sends_to(found, 6, step)) for j in targets}
    assert seen == set(build(table, 6).edges)


def test_steps_follow_the_rounds_of_a_device_or_virtual_time() -> None:
    by_round = over_time({"kind": "one-peer-exponential"}, 8)
    assert [by_round.outgoing(0, 99.0, round) for round in range(4)] == [(1,), (2,), (4,), (1,)]
    by_time = over_time({"kind": "one-peer-exponential", "every": "100 ms"}, 8)
    assert [by_time.outgoing(0, now, 99) for now in (0.0, 0.0999, 0.1, 0.2, 3 * 0.1)] == [(1,), (1,), (2,), (4,), (1,)]
    assert str(by_time).endswith("every 100 ms")
    assert str(by_round).endswith("each round of its own")


def test_one_peer_at_a_time_averages_a_power_of_two_exactly() -> None:
    n = 16
    found, x = over_time({"kind": "one-peer-exponential"}, n), np.random.default_rng(0).normal(size=n)
    mean = x.mean()
    for step in range(4):
        x = (x + x[[found.incoming(k, 0.0, step)[0] for k in range(n)]]) / 2
    np.testing.assert_allclose(x, mean, atol=1e-15)


def test_rotating_rings_go_through_all_devices_in_turn() -> None:
    found = over_time({"kind": "rotating-rings", "count": 3}, 9)
    rings = [sends_to(found, 9, step) for step in range(6)]
    assert rings[:3] == rings[3:]
    assert rings[0] != rings[1] != rings[2] != rings[0]
    for ring in rings[:3]:
        assert len(nx.descendants(nx.DiGraph((k, j) for k, (j,) in enumerate(ring)), 0) | {0}) == 9


def test_matchings_are_pairs_drawn_anew_and_leave_one_of_an_odd_number_alone() -> None:
    found = over_time({"kind": "random-matchings"}, 7)
    steps = [sends_to(found, 7, step) for step in range(20)]
    for step in steps:
        assert [k for k, targets in enumerate(step) if not targets] != []
        assert sum(map(len, step)) == 6
        assert all(step[targets[0]] == (k,) for k, targets in enumerate(step) if targets)
    assert len(set(map(tuple, steps))) > 10
    again = over_time({"kind": "random-matchings"}, 7)
    assert [sends_to(again, 7, step) for step in reversed(range(20))] == steps[::-1]  # whatever is asked first
    assert sends_to(over_time({"kind": "random-matchings"}, 7, seed=2), 7, 0) != steps[0]


def test_other_kinds_never_change() -> None:
    for table, n in TABLES:
        settings = ANY.validate_python(table)
        assert (settings.neighborhood(n, stream(1, "topology")) is None) == (
            table["kind"] not in [t["kind"] for t in CHANGING]
        )


# --- Files


def from_file(path: Path, text: str, **options: Any) -> TopologySettings:
    path.write_text(text, encoding="utf-8")
    return ANY.validate_python({"kind": "file", "path": str(path), **options})


def test_a_list_of_links_goes_both_ways_unless_directed(tmp_path: Path) -> None:
    text = "# my building\n0 1\n\n1, 2  # the stairs\n"
    links = {
        directed: list(from_file(tmp_path / "links.txt", text, directed=directed).build(4, stream(1, "t")).edges)
        for directed in (False, True)
    }
    assert links[True] == [(0, 1), (1, 2)]
    assert links[False] == [(0, 1), (1, 0), (1, 2), (2, 1)]


@pytest.mark.parametrize("directed", [False, True])
def test_graphml_says_itself_whether_it_is_directed(tmp_path: Path, directed: bool) -> None:
    made = nx.DiGraph([(0, 1), (1, 2)]) if directed else nx.Graph([(0, 1), (1, 2)])
    nx.write_graphml(made, tmp_path / "graph.graphml")
    settings = ANY.validate_python({"kind": "file", "path": str(tmp_path / "graph.graphml")})
    graph = settings.build(3, stream(1, "t"))
    assert set(graph.edges) == set(made.to_directed().edges)
    contradiction = ANY.validate_python({**settings.model_dump(), "directed": not directed})
    assert "contradicts" in contradiction.check(3)[0]


def test_graphml_ids_may_have_the_usual_n_in_front(tmp_path: Path) -> None:
    nx.write_graphml(nx.Graph([("n0", "n1")]), tmp_path / "graph.graphml")
    settings = ANY.validate_python({"kind": "file", "path": str(tmp_path / "graph.graphml")})
    assert list(settings.build(2, stream(1, "t")).edges) == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "0 1\n1 9\n", "line 2: there is no device 9; ids are 0 to 3"),
        ("a.txt", "0 one\n", 'line 1: "one" is no device id'),
        ("a.txt", "0 -1\n", 'line 1: "-1" is no device id'),
        ("a.txt", "0 1 0.5\n", 'line 1: must be two device ids, such as "0 1", not "0 1 0.5"'),
        ("a.txt", "0\n", "line 1: must be two device ids"),
        ("a.txt", "2 2\n", "line 1: device 2 can't have a link to itself"),
        ("a.graphml", "no xml", "is no GraphML that can be read"),
        ("a.graphml", "<graphml/>", "is no GraphML that can be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_that_says_where(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    (found,) = from_file(tmp_path / name, text).check(4)
    assert expected in found
    assert name in found


def test_a_file_that_is_missing_or_no_text_is_an_error(tmp_path: Path) -> None:
    missing = ANY.validate_python({"kind": "file", "path": str(tmp_path / "missing.txt")})
    assert missing.check(4) == [f"can't read {tmp_path / 'missing.txt'}: No such file or directory"]
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "is no text" in ANY.validate_python({"kind": "file", "path": str(tmp_path / "binary")}).check(4)[0]


# --- Neighbors and problems


@given(n=st.integers(1, 12), links=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40))
def test_neighbors_and_problems_agree_with_the_graph(n: int, links: list[tuple[int, int]]) -> None:
    graph: Any = nx.DiGraph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from((j % n, i % n) for j, i in links if j % n != i % n)
    incoming, outgoing = neighbors(graph)
    assert incoming == [sorted(graph.predecessors(k)) for k in range(n)]
    assert outgoing == [sorted(graph.successors(k)) for k in range(n)]
    assert (warn_cut_off(graph) == []) == nx.is_strongly_connected(graph)


def graph_of(n: int, *links: tuple[int, int]) -> Any:
    graph: Any = nx.DiGraph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(links)
    return graph


def test_problems_name_who_is_cut_off_and_which_way() -> None:
    triangle = ((0, 1), (1, 2), (2, 0))
    assert warn_cut_off(graph_of(4, *triangle)) == ["device 3 is cut off from the other 3 devices in both directions"]
    assert warn_cut_off(graph_of(4, *triangle, (3, 0))) == [
        "device 3 hears nothing from the other 3 devices: no way leads there"
    ]
    assert warn_cut_off(graph_of(5, *triangle, (0, 3), (0, 4))) == [
        "devices 3, 4 are not heard by the other 3 devices: no way leads back"
    ]


def test_problems_stay_readable_in_large_graphs() -> None:
    (text,) = warn_cut_off(graph_of(1000, (0, 1), (1, 0)))
    assert "devices 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 988 more are cut off" in text


def test_a_thousand_devices_that_all_hear_each_other_are_feasible() -> None:
    graph = build("complete", 1000)
    assert graph.number_of_edges() == 999_000
    assert warn_cut_off(graph) == []


@pytest.mark.parametrize("heavy", ["networkx", "scipy"])
def test_describing_a_topology_imports_nothing_heavy(heavy: str) -> None:
    code = f"import sys, p2pl_async.topology, p2pl_async.link; sys.exit('{heavy}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
