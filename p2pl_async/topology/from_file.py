"""Graphs from files: lists of links, GraphML, links that come and go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, StrictBool

from p2pl_async.topology.contacts import Contacts, read_changes

if TYPE_CHECKING:
    import networkx as nx  # slow to import; `p2pl check` does without
    import numpy as np
from p2pl_async.topology.base import TopologySettings, graph_of


class FromFile(TopologySettings):
    """Links from a file: GraphML (by its ending .graphml), else one link per line, such as "0 1".

    Ids are 0 to count - 1. In a list of links, blank lines and text after a "#" don't count, and
    `directed` makes each line one direction only. A GraphML file states whether it is directed.
    """

    kind: Literal["file"] = "file"
    path: Path = Field(description="the file")
    directed: StrictBool | None = Field(default=None, description="each line of a list is one direction only")

    def check(self, n: int) -> list[str]:
        try:
            self._read(n)
        except OSError as error:
            return [f"can't read {self.path}: {error.strerror or error}"]
        except ValueError as error:
            return [str(error)]
        return []

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        edges, directed = self._read(n)
        return graph_of(n, edges, directed=directed)

    def _read(self, n: int) -> tuple[list[tuple[int, int]], bool]:
        """Return the links, and whether they are one way; ValueError names the line and the problem."""
        if self.path.suffix.lower() == ".graphml":
            return self._read_graphml(n)
        edges = []
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f'{self.path} is no text; it must have lines such as "0 1"') from error
        for number, line in enumerate(lines, start=1):
            words = line.partition("#")[0].replace(",", " ").split()
            if words:
                where = f"{self.path}, line {number}:"
                if len(words) != 2:
                    raise ValueError(f'{where} must be two device ids, such as "0 1", not "{line.strip()[:40]}"')
                edges.append(_link(where, words[0], words[1], n))
        return edges, bool(self.directed)

    def _read_graphml(self, n: int) -> tuple[list[tuple[int, int]], bool]:
        from xml.etree.ElementTree import ParseError

        import networkx as nx

        with self.path.open("rb") as file:
            nodes = sum(line.count(b"<node") for line in file)  # the graph of a large file takes minutes to make
            if nodes > n:
                raise ValueError(f"{self.path} has {nodes} nodes, devices.count is {n}")
            file.seek(0)
            try:
                graph = nx.read_graphml(file)
            except (ParseError, nx.NetworkXError, ValueError, KeyError) as error:
                raise ValueError(f"{self.path} is no GraphML that can be read: {error}") from error
        if self.directed is not None and self.directed != graph.is_directed():
            said = "directed" if graph.is_directed() else "undirected"
            raise ValueError(f"directed={str(self.directed).lower()} contradicts {self.path}, which is {said}")
        edges = [_link(f"{self.path}:", j.removeprefix("n"), i.removeprefix("n"), n) for j, i in graph.edges()]
        return edges, graph.is_directed()


class RecordedLinks(TopologySettings):
    """Links that come and go as a file says: CSV lines t,src,dst,change below that header.

    A change is `up`, `down`, or a key of `[link]` with a value that holds from then on, such as
    `rate=1 Mbit/s` or `loss.p=5 %`. Before its first `up` a link is down; messages
    sent while it is down are lost.
    """

    kind: Literal["trace"] = "trace"
    path: Path = Field(description="the file")
    directed: StrictBool = Field(default=False, description="each line is about one direction only")

    def check(self, n: int) -> list[str]:
        try:
            read_changes(self.path, n, self.directed)
        except ValueError as error:
            return [str(error)]
        return []

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        return graph_of(n, self.neighborhood(n, random).links, directed=True)

    def neighborhood(self, n: int, random: np.random.Generator) -> Contacts:
        return Contacts(n, read_changes(self.path, n, self.directed))


def _link(where: str, src: str, dst: str, n: int) -> tuple[int, int]:
    """Return a link read from a file; ValueError if there can't be such a link."""
    for name in (src, dst):
        if not (name.isascii() and name.isdigit()):
            raise ValueError(f'{where} "{name[:40]}" is no device id; ids are 0 to {n - 1}')
        if int(name) >= n:
            raise ValueError(f"{where} there is no device {name}; ids are 0 to {n - 1}, or set devices.count")
    if int(src) == int(dst):
        raise ValueError(f"{where} device {src} can't have a link to itself")
    return int(src), int(dst)
