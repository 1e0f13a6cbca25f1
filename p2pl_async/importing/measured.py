"""Measured links: Mahimahi's delivery opportunities, and the meshes of k7 files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p2pl_async.basics.tracefiles import read_k7, read_mahimahi
from p2pl_async.importing.part import Part


def mahimahi(path: Path) -> Part:
    """Return links that send at the instants of a Mahimahi file; ValueError if it isn't one."""
    times = read_mahimahi(path)
    seconds = float(times[-1]) / 1000
    mean = len(times) * 12_000 / seconds / 1e6
    return Part(
        f"A measured link: {mean:.3f} Mbit/s on average over {seconds:g} s, then again from the start.",
        lambda beside, elsewhere: {
            "link": {"rate": {"kind": "mahimahi", "path": elsewhere(path)}, "mtu": "1500 B"},
        },
    )


def k7(path: Path) -> Part:
    """Return a measured mesh: its links, each with the share of frames it lost; ValueError if no link delivered any.

    The share is taken over all rows of a link: channels and times together.
    """
    found = read_k7(path)
    ids = np.unique(np.concatenate((found.src, found.dst)))
    links, index = np.unique(np.column_stack((found.src, found.dst)), axis=0, return_inverse=True)
    index = index.ravel()
    pdr = np.bincount(index, weights=found.pdr) / np.bincount(index)
    numbers = np.searchsorted(ids, links)
    alive = [(int(src), int(dst), float(share)) for (src, dst), share in zip(numbers, pdr, strict=True) if share > 0]
    if not alive:
        raise ValueError(f"{path} has no link that delivered a frame")
    warnings = [
        f"{len(links) - len(alive)} of {len(links)} measured links never delivered a frame, and are left out",
        "the loss of a link is its mean over channels and times, and losses are independent; in the measurement they "
        "came in bursts",
    ]
    if ids.tolist() != list(range(len(ids))):
        warnings.append(f"devices are numbered in the order of their ids in the file: {', '.join(map(str, ids))}")
    # Also the links that lost nothing: a loss of the scenario that extends the part is for none of them.
    overrides = [{"from": src, "to": dst, "loss": f"{100 * (1 - share):.6g} %"} for src, dst, share in alive]
    return Part(
        f"A measured mesh: {len(ids)} devices, {len(alive)} links that deliver frames, one direction each.",
        lambda beside, elsewhere: {
            "devices": {"count": len(ids)},
            "topology": {"kind": "file", "path": beside(".edges.txt"), "directed": True},
            "link": {"override": overrides},
        },
        beside={".edges.txt": "".join(f"{src} {dst}\n" for src, dst, _ in alive)},
        warnings=warnings,
    )
