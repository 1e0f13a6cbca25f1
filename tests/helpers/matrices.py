"""Matrices of a graph: by which weights devices mix, and how they split their mass."""

from __future__ import annotations

import networkx as nx
import numpy as np

from p2pl_async.protocols.mixing import Peer, WeightRule, row


def mixing_matrix(rule: WeightRule, neighbors: list[list[int]], sizes: list[int] | None = None) -> np.ndarray:
    """Return the mixing matrix of a graph, (n, n), built device by device as protocols do; equal sizes by default."""
    n = len(neighbors)
    sizes = sizes or [1] * n
    peers = [Peer(sizes[k], len(neighbors[k])) for k in range(n)]
    a = np.zeros((n, n))
    for k in range(n):
        for j, weight in row(rule, k, peers[k], {j: peers[j] for j in neighbors[k]}).items():
            a[k, j] = weight
    return a


def push_matrix(neighbors: list[list[int]]) -> np.ndarray:
    """Return P, column-stochastic: column j splits the mass of device j."""
    p = np.eye(len(neighbors))
    for j, targets in enumerate(neighbors):
        p[targets, j] = 1
    return p / p.sum(axis=0)


def neighbors_of(graph: nx.Graph) -> list[list[int]]:
    """Return the neighbors of every node, numbered from 0."""
    graph = nx.convert_node_labels_to_integers(graph)
    return [sorted(graph[k]) for k in graph]
