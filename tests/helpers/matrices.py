"""Matrices of a graph: by which weights devices mix, and how they split their mass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import networkx as nx
import numpy as np

from p2pl_async.dynamics.failures import LossyMixing
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


def patterns(mixing: LossyMixing) -> Iterator[tuple[np.ndarray, float]]:
    """Yield every matrix that losses can make, with its probability."""
    n = len(mixing.weights)
    links = [
        (i, j)
        for i, j in itertools.product(range(n), repeat=2)
        if mixing.links[i, j] and (i < j or not mixing.undirected)
    ]
    for lost in itertools.product((False, True), repeat=len(links)):
        matrix, chance = mixing.weights.copy(), 1.0
        for (i, j), gone in zip(links, lost, strict=True):
            chance *= mixing.loss[i, j] if gone else 1 - mixing.loss[i, j]
            if gone:
                matrix[i, j] = 0
                if mixing.undirected:
                    matrix[j, i] = 0
        if mixing.on_missing == "renormalize":
            matrix /= matrix.sum(1, keepdims=True)
        else:
            matrix += np.diag(1 - matrix.sum(1))
        yield matrix, chance
