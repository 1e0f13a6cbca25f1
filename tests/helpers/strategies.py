"""What hypothesis draws from: graphs, links and worlds."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


@st.composite
def strongly_connected(draw: st.DrawFn, min_size: int = 2, max_size: int = 7) -> list[list[int]]:
    """Out-neighbors of a random directed graph in which everyone reaches everyone."""
    n = draw(st.integers(min_size, max_size))
    order = draw(st.permutations(range(n)))
    edges = {(order[i], order[(i + 1) % n]) for i in range(n)}
    edges |= draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=2 * n))
    return [sorted(k for j, k in edges if j == i and k != i) for i in range(n)]


@st.composite
def undirected(draw: st.DrawFn, min_size: int = 2, max_size: int = 7) -> list[list[int]]:
    """Neighbors of a random connected undirected graph."""
    n = draw(st.integers(min_size, max_size))
    edges = {(draw(st.integers(0, k - 1)), k) for k in range(1, n)}
    edges |= {
        (min(e), max(e)) for e in draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=n))
    }
    return [sorted({b if a == i else a for a, b in edges if i in (a, b)} - {i}) for i in range(n)]


def lossy_links(
    max_loss: float = 0.6, reorder: bool = True, duplicate: bool = True
) -> st.SearchStrategy[dict[str, Any]]:
    """Tables of links that lose, delay, repeat and reorder."""
    loss = st.one_of(
        st.floats(0, max_loss).map(lambda p: {"kind": "bernoulli", "p": p}),
        st.tuples(st.integers(100, 2000), st.integers(50, 800)).map(
            lambda stays: {"kind": "gilbert-elliott", "good": f"{stays[0]} ms", "bad": f"{stays[1]} ms"}
        ),
    )
    latency = st.one_of(
        st.integers(0, 500).map(lambda ms: {"kind": "constant", "mean": f"{ms} ms"}),
        st.tuples(st.integers(1, 500), st.integers(1, 1000)).map(
            lambda pair: {"kind": "lognormal", "mean": f"{pair[0]} ms", "sd": f"{pair[1]} ms"}
        ),
    )
    return st.fixed_dictionaries(
        {
            "latency": latency,
            "loss": loss,
            "order": st.sampled_from(["fifo", "free"]) if reorder else st.just("fifo"),
            "duplicate": st.floats(0, 0.5) if duplicate else st.just(0.0),
        }
    )
