"""Trained models in files: one safetensors file per device, which holds no code and opens in any framework.

A folder of models is `models/device-0.safetensors`, `models/device-1.safetensors`, ...; each file
has the tensors of one device's module, by their names there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]

FOLDER = "models"  # inside the folder of a run
_NAME = re.compile(r"device-(\d+)\.safetensors")


def file_name(device: int) -> str:
    """Return the name of a device's file."""
    return f"device-{device}.safetensors"


def files_in(folder: Path) -> dict[int, Path]:
    """Return device -> file of a folder of models, or of a run that has one, by id; none if there are none."""
    for place in (folder, folder / FOLDER):
        if place.is_dir():
            found = {int(match[1]): path for path in place.iterdir() if (match := _NAME.fullmatch(path.name))}
            if found:
                return dict(sorted(found.items()))
    return {}


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, str]) -> None:
    """Write one model.

    Args:
        path: of the file.
        tensors: by name.
        about: texts that the file carries along.
    """
    from safetensors.numpy import save

    whole = {name: np.array(tensor, order="C") for name, tensor in tensors.items()}
    path.write_bytes(save(whole, {**about, "format": "pt"}))


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a file, without reading them.

    Raises:
        ValueError: if it can't be read, or is no safetensors file.
    """
    from safetensors import safe_open

    with _readable(), safe_open(path, "np") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a file.

    Raises:
        ValueError: if it can't be read, or is no safetensors file.
    """
    from safetensors.numpy import load

    with _readable():
        return {name: np.array(tensor) for name, tensor in sorted(load(path.read_bytes()).items())}


@contextmanager
def _readable() -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        text = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"isn't a safetensors file with tensors that numpy knows: {text}") from error
