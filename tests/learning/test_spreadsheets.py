"""Tables: features, labels, numbers and owners from columns of CSV and Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from p2pl_async import ScenarioError
from p2pl_async.learning.data_settings import DataSettings
from p2pl_async.learning.spreadsheets import Csv

FRAME = pd.DataFrame(
    {
        "a": np.arange(20) / 4,
        "b": np.arange(20),
        "what": ["yes", "no", "maybe", "no"] * 5,
        "y": np.arange(20) / 2,
        "who": [f"p{i // 5}" for i in range(20)],
    }
)


def write(path: Path, frame: pd.DataFrame = FRAME) -> Path:
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


def load(path: Path, **keys: Any) -> Any:
    return DataSettings.model_validate({"dataset": {"kind": path.suffix[1:], "path": path, **keys}}).load(1)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_and_features_are_columns(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"d{suffix}")
    data = load(path, label="what", features=["b", "a"], owner="who", test_share=0.25)
    assert (data.x_train.shape, data.x_test.shape, data.n_classes) == ((15, 2), (5, 2), 3)
    rows = data.x_train[:, 0].astype(int)  # column b is the row
    assert [["maybe", "no", "yes"][label] for label in data.y_train] == FRAME["what"][rows].tolist()
    np.testing.assert_array_equal(data.x_train[:, 1], FRAME["a"][rows].to_numpy(np.float32))
    assert data.owner.tolist() == (rows // 5).tolist()
    assert data.owner_test.tolist() == (data.x_test[:, 0].astype(int) // 5).tolist()


def test_numbers_are_predicted_from_all_other_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", FRAME.drop(columns="what"))
    one = load(path, label="y", owner="who")
    assert (one.x_train.shape, one.y_train.shape, one.labeled, one.n_classes) == ((16, 2), (16, 1), False, 1)
    np.testing.assert_allclose(one.y_train[:, 0], one.x_train[:, 1] / 2)
    several = load(path, label=["y", "b"], owner="who")
    assert (several.x_train.shape, several.y_train.shape) == ((16, 1), (16, 2))


def test_a_file_to_test_on_has_the_same_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv")
    test = write(tmp_path / "t.csv", FRAME[FRAME["what"] != "maybe"])
    data = load(path, label="what", features=["a"], test=test)
    assert (len(data.y_train), len(data.y_test), data.n_classes) == (20, 15, 3)
    assert data.y_test[:3].tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"label": "waht"}, 'has no column "waht"; did you mean "what"?  it has a, b, what, y, who'),
        ({"label": "what", "features": ["a", "c"]}, 'has no column "c"'),
        ({"label": "what"}, "column \"who\" holds no numbers in every row, such as 'p0'; leave it out of features"),
        ({"label": "y", "features": []}, "must have a row and a column of features"),
    ],
)
def test_a_wrong_column_is_named(tmp_path: Path, keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(write(tmp_path / "d.csv"), **keys)
    assert text in str(caught.value)


def test_a_missing_value_is_found_with_its_row(tmp_path: Path) -> None:
    frame = FRAME.astype({"b": float})
    frame.loc[3, "b"] = np.nan
    test = write(tmp_path / "t.csv")
    with pytest.raises(ScenarioError, match="x_train has 1 values that are not finite in float32, the first in row 3"):
        load(write(tmp_path / "d.csv", frame), label="what", features=["a", "b"], test=test)


def test_a_file_that_is_no_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_bytes(b"no")
    with pytest.raises(ScenarioError, match="can't be read"):
        load(tmp_path / "d.parquet", label="y")
    with pytest.raises(ValidationError, match="there is no such file"):
        Csv(path=tmp_path / "none.csv", label="y")
    path = write(tmp_path / "d.csv")
    with pytest.raises(ScenarioError, match="test_share has no use beside a file to test on"):
        load(path, label="y", test=path, test_share=0.5)
