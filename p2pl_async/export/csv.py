"""A run's tables as CSV."""

from __future__ import annotations

from pathlib import Path

from p2pl_async.results.run import Run
from p2pl_async.results.table import writing


def write_csv(run: Run, folder: Path) -> list[Path]:
    """Write every table of a run into a folder as CSV, and return the files."""
    tables = {
        "metrics": run.metrics, "devices": run.devices, "links": run.links, "trace": run.trace, "mixes": run.mixes,
        "positions": run.positions,
    }  # fmt: skip
    written = []
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            if table is not None:
                if "payload" in table.columns:
                    table = table.assign(payload=table["payload"].map(bytes.hex))
                table.to_csv(folder / f"{name}.csv", index=False)
                written.append(folder / f"{name}.csv")
    return written
