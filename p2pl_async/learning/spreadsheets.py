"""Data sets in tables: a CSV or Parquet file with a row for each sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from p2pl_async.basics.settings import nearest
from p2pl_async.basics.units import Probability
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.data import Dataset, DataSource, existing, held_back


class _Spreadsheet(DataSource):
    """Base of tables: columns of features, and one of labels or some of numbers to predict."""

    path: Path = Field(description="the file; a row for each sample, names of columns first")
    label: str | tuple[str, ...] = Field(
        description="column of the labels, texts or whole numbers; or columns of the numbers to predict"
    )
    features: tuple[str, ...] | None = Field(default=None, description="columns of features; all others if not given")
    owner: str | None = Field(default=None, description="column that says whose a sample is, for partition = natural")
    test: Path | None = Field(default=None, description="a file of the same columns to test on; not given: a share")
    test_share: Probability | None = Field(
        default=None, description="share of the rows held back for testing, 20 % if not given; always the same rows"
    )

    _is_there = field_validator("path", "test")(lambda path: path and existing(path))

    def _table(self, path: Path) -> Any:
        """Return the file as an Arrow table."""
        raise NotImplementedError

    def load(self) -> Dataset:
        """Return the columns, features as float32; labels are numbered in their order.

        Raises:
            ScenarioError: if a column is missing, or holds no numbers.
        """
        if self.test is not None and self.test_share is not None:
            raise self._problem(self.path, "test_share has no use beside a file to test on; leave out one of them")
        x, y, owner = self._columns(self.path)
        if self.test is None:
            train, test = held_back(len(y), self.test_share)
            parts = [(array[train], array[test]) for array in (x, y, owner)]
        else:
            parts = list(zip((x, y, owner), self._columns(self.test), strict=True))
        n_train = len(parts[1][0])
        labels, owners = np.concatenate(parts[1]), np.concatenate(parts[2])
        if labels.ndim == 1:
            names, labels = np.unique(labels, return_inverse=True)
            n_classes = len(names)
        else:
            n_classes = labels.shape[1]
        people = np.unique(owners, return_inverse=True)[1] if self.owner else None
        return Dataset(
            self.path.stem,
            parts[0][0],
            labels[:n_train],
            parts[0][1],
            labels[n_train:],
            n_classes,
            None if people is None else people[:n_train],
            None if people is None else people[n_train:],
        )

    def _columns(self, path: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return features (n, columns), labels (n,) or numbers (n, columns), and owners (n,)."""
        try:
            table = self._table(path)
        except Exception as error:  # a damaged file makes the library raise whatever it likes
            raise self._problem(path, f"can't be read: {error}") from error
        named = [self.label] if isinstance(self.label, str) else list(self.label)
        others = [name for name in table.column_names if name not in (*named, self.owner)]
        features = others if self.features is None else list(self.features)
        for name in (*named, *features, *([self.owner] if self.owner else [])):
            if name not in table.column_names:
                guess = nearest(name, table.column_names)
                hint = f'did you mean "{guess}"?  ' if guess else ""
                raise self._problem(path, f'has no column "{name}"; {hint}it has {", ".join(table.column_names)}')
        if not features or not len(table):
            raise self._problem(path, "must have a row and a column of features")
        label = table[named[0]].to_numpy()
        if not isinstance(self.label, str) or label.dtype.kind == "f":
            y = self._numbers(path, table, named)
        else:
            y = label if label.dtype.kind in "iu" else label.astype(str)
        owners = table[self.owner].to_numpy().astype(str) if self.owner else np.zeros(len(table), int)
        return self._numbers(path, table, features), y, owners

    def _numbers(self, path: Path, table: Any, names: list[str]) -> NDArray[np.float32]:
        """Return columns as numbers, (n, columns)."""
        columns = []
        for name in names:
            column = table[name].to_numpy()
            if column.dtype.kind not in "fiub":
                text = f'column "{name}" holds no numbers in every row, such as {column[0]!r}; leave it out of features'
                raise self._problem(path, text)
            columns.append(column.astype(np.float32))
        return np.stack(columns, axis=1)

    def _problem(self, path: Path, text: str) -> ScenarioError:
        return ScenarioError(str(path), [Problem("data.dataset", text, self.kind)])


class Csv(_Spreadsheet):
    """Your own table in a CSV file: a row for each sample, and names of columns in the first line."""

    kind: Literal["csv"] = "csv"

    def _table(self, path: Path) -> Any:
        from pyarrow import csv

        return csv.read_csv(path)


class Parquet(_Spreadsheet):
    """Your own table in a Parquet file: a row for each sample."""

    kind: Literal["parquet"] = "parquet"

    def _table(self, path: Path) -> Any:
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        table.validate(full=True)
        return table
