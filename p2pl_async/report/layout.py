"""Places of devices on a drawing."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


def places(devices: pd.DataFrame, links: pd.DataFrame) -> NDArray[np.float64]:
    """Return where to draw each device, shape (n, 2): where it is, or else a layout of the graph."""
    import numpy as np

    where = devices[["x", "y"]].to_numpy(float)
    if np.isfinite(where).all():
        return where
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(len(devices)))
    graph.add_edges_from(zip(links["src"].tolist(), links["dst"].tolist(), strict=True))
    parts = [min(part) for part in nx.connected_components(graph)]
    graph.add_edges_from(pairwise(parts))  # not drawn; else parts would fly apart
    # Kamada and Kawai show rings and grids as such, but take n^3.
    layout = nx.kamada_kawai_layout(graph) if len(devices) <= 150 else nx.spring_layout(graph, seed=0)
    return np.array([layout[k] for k in range(len(devices))])
