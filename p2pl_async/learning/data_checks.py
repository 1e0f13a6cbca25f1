"""What is wrong with samples and labels, whatever door they come through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def problems_of(arrays: Arrays, n_classes: int | None = None) -> Iterator[str]:
    """Yield what is wrong with arrays: each alone, samples against labels, and test against training samples.

    Args:
        arrays: features and labels by name: "x" and "y", or "x_train", "y_train", "x_test" and "y_test".
        n_classes: of the data; None if the labels tell.
    """
    parts = [name.removeprefix("x") for name in arrays if name.startswith("x")]
    sound = True
    for name, array in arrays.items():
        if wrong := _wrong_features(array) if name.startswith("x") else _wrong_labels(array, n_classes):
            sound = False
            yield f"{name} {wrong}"
    for part in parts:
        x, y = arrays[f"x{part}"], arrays[f"y{part}"]
        if x.ndim and y.ndim and len(x) != len(y):
            yield f"y{part} has {len(y)} labels for the {len(x)} samples of x{part}"
    shapes = [arrays[f"x{part}"].shape[1:] for part in parts]
    if len(set(shapes)) > 1:
        yield "x_test has samples of shape {1}, x_train of {0}".format(*shapes)
    kinds = [arrays[f"y{part}"].ndim == 1 for part in parts]
    if sound and len(set(kinds)) > 1:
        yield "y_train and y_test must both hold labels, or both numbers of shape (samples, n)"
    elif sound and kinds[0] and n_classes is None:
        labels = np.unique(np.concatenate([arrays[f"y{part}"] for part in parts]).astype(np.int64))
        if labels[-1] != len(labels) - 1:
            missing = next(i for i, label in enumerate(labels.tolist()) if i != label)
            yield f"labels must be 0, 1, ... without gaps; the largest is {labels[-1]}, none is {missing}"


def _wrong_features(x: NDArray[Any]) -> str:
    if x.ndim < 2 or not x.size:
        return f"must have shape (samples, ...) with at least one sample, has {x.shape}"
    if x.dtype.kind not in "fiub":
        return f"must hold real numbers, holds {x.dtype}"
    with np.errstate(over="ignore"):
        finite = np.isfinite(x.astype(np.float32, copy=False)).reshape(len(x), -1)
    if finite.all():
        return ""
    row = int(np.flatnonzero(~finite.all(axis=1))[0])
    return f"has {finite.size - int(finite.sum())} values that are not finite in float32, the first in row {row}"


def as_targets(y: NDArray[Any]) -> NDArray[Any]:
    """Return numbers to predict as (samples, n): floats without a second dimension get one; labels as they are."""
    return y.reshape(-1, 1) if y.ndim == 1 and y.dtype.kind == "f" else y


def _wrong_labels(y: NDArray[Any], n_classes: int | None) -> str:
    """Return what is wrong with labels (samples,), or with numbers to predict (samples, n)."""
    if y.ndim not in (1, 2) or not y.size:
        return f"must have shape (samples,), or (samples, n) for numbers, with at least one sample, has {y.shape}"
    if y.ndim == 2:
        if y.shape[1] == 1 and y.dtype.kind in "iu":
            return f"must have shape (samples,) for labels, or hold floats for numbers to predict, has {y.shape}"
        if n_classes is not None and y.shape[1] != n_classes:
            return f"has {y.shape[1]} number{'s' * (y.shape[1] != 1)} for each sample, n_classes is {n_classes}"
        return _wrong_features(y)
    if y.dtype.kind not in "iu":
        return f"must hold integers from 0, holds {y.dtype}"
    if (low := y < 0).any():
        return f"must hold integers from 0, holds {y[low][0]} in row {int(np.argmax(low))}"
    if n_classes is not None and (high := y >= n_classes).any():
        return f"must hold labels below the {n_classes} classes, holds {y[high][0]} in row {int(np.argmax(high))}"
    return ""
