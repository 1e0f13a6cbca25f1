"""Random links, some of which lead one way only."""

import networkx as nx
import numpy as np

from p2pl_async import Probability, TopologySettings


class PartlyOneWay(TopologySettings):
    """Random pairs of neighbors, of which a share has one direction only; the number of links is always the same."""

    links: int = 4  # from each device, on average
    one_way: Probability = 0.0  # share of the pairs

    def make(self, n: int, random: np.random.Generator) -> nx.DiGraph:
        pairs = [(j, i) for j in range(n) for i in range(j)]
        count = min(len(pairs), round(n * self.links / (2 - self.one_way)))
        for _ in range(1000):
            chosen = [pairs[k] for k in random.permutation(len(pairs))[:count]]
            single = round(self.one_way * count)
            turned = [(j, i) if random.random() < 0.5 else (i, j) for j, i in chosen]
            graph = nx.DiGraph([*turned, *((i, j) for j, i in turned[single:])])
            if len(graph) == n and nx.is_strongly_connected(graph):
                return graph
        raise ValueError(f"links={self.links} connects no graph of {n} devices, one_way={self.one_way}; raise links")
