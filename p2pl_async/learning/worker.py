"""A worker process: it makes one engine, and computes works until its socket is closed.

`processes` starts it, and has the picture.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from p2pl_async.learning.arena import Shared, trays

if TYPE_CHECKING:
    from p2pl_async.learning.work import Work


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker is told first: how to make its engine, and where the trays are."""

    recipe: dict[str, Any]  # as written
    dataset: str  # its name
    n_classes: int
    data: Shared
    arena: Shared


@dataclass(frozen=True, slots=True)
class Order:
    """A work to compute, whose vectors lie in a tray."""

    number: int
    tray: int
    count: int  # jobs
    velocities: list[bool]  # which jobs have one
    drifts: int
    work: Work


@dataclass(frozen=True, slots=True)
class Reply:
    """A work is done, its vectors lie in the tray; or the engine is ready, which has the number 0."""

    number: int
    error: str = ""  # why it is not
    velocities: bool = False  # whether the tray holds them
    buffers: Any = None  # as tensors


def main() -> None:
    """Be a worker; the descriptor of the socket is the last argument."""
    socket = Connection(int(sys.argv[-1]))
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(socket, orders), daemon=True).start()
    try:
        _work(socket, orders)
    except BrokenPipeError:
        os._exit(0)


def _listen(socket: Connection, orders: queue.SimpleQueue[Any]) -> None:
    """Hand on what comes; end the process when nothing can come any more, whatever it is computing."""
    try:
        while True:
            orders.put(socket.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _work(socket: Connection, orders: queue.SimpleQueue[Any]) -> None:
    try:
        told: Tools = pickle.loads(orders.get())
        import torch

        torch.set_num_threads(1)
        from p2pl_async.learning.arithmetic import products
        from p2pl_async.learning.data import Dataset
        from p2pl_async.learning.work import Recipe

        recipe = Recipe.read(told.recipe)
        engine = recipe.engine(Dataset(told.dataset, **told.data.arrays(), n_classes=told.n_classes))
    except Exception as error:
        socket.send_bytes(pickle.dumps(Reply(0, f"{type(error).__name__}: {error}")))
        return
    places = trays(told.arena)
    socket.send_bytes(pickle.dumps(Reply(0)))
    with products(recipe.settings.matmul):
        while True:
            order: Order = pickle.loads(orders.get())
            tray = places[order.tray]
            try:
                found = replace(
                    order.work,
                    params=tray.params(order.count),
                    velocities=tray.velocities(order.velocities),
                    drifts=tray.drifts(order.drifts),
                ).compute(engine)
                tray.put(found.vectors, found.velocities or [], [])
                reply = Reply(order.number, "", found.velocities is not None, found.buffers)
            except Exception:
                reply = Reply(order.number, traceback.format_exc())
            socket.send_bytes(pickle.dumps(reply))
