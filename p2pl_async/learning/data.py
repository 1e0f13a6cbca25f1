"""Data sets, checked and as plain arrays.

A data set of your own is a subclass of `DataSource` with a `load`, named in a scenario as
`dataset = "file.py:Class"`. Files are never unpickled.
"""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
import zlib
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from p2pl_async.basics.limits import refuse_unpacked
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import Settings
from p2pl_async.basics.units import Probability
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.data_checks import as_targets, problems_of


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with their labels, or the numbers to predict, checked, as contiguous read-only arrays.

    Raises:
        ScenarioError: with every problem found: shapes, types, lengths, values that aren't finite, labels out of range.
    """

    name: str
    x_train: NDArray[np.float32]  # (n_train, *shape)
    y_train: NDArray[Any]  # labels, (n_train,), 0 <= label < n_classes; or numbers, (n_train, n_classes), float32
    x_test: NDArray[np.float32]  # (n_test, *shape)
    y_test: NDArray[Any]  # (n_test,) or (n_test, n_classes)
    n_classes: int  # outputs of a model: classes, or numbers to predict for each sample
    owner: NDArray[np.int64] | None = None  # whose each training sample is, such as a person's number, (n_train,)
    owner_test: NDArray[np.int64] | None = None  # the same of the test samples, (n_test,)

    def __post_init__(self) -> None:
        names = ("x_train", "y_train", "x_test", "y_test")
        arrays = {name: np.asarray(getattr(self, name)) for name in names}
        arrays |= {name: as_targets(arrays[name]) for name in ("y_train", "y_test")}
        found = list(problems_of(arrays, self.n_classes))
        for name, what, n in (("owner", "training", len(self.y_train)), ("owner_test", "test", len(self.y_test))):
            if getattr(self, name) is None:
                continue
            owner = np.array(getattr(self, name))
            if owner.shape != (n,) or owner.dtype.kind not in "iu":
                text = f"must hold an integer for each of the {n} {what} samples"
                found.append(f"{name} {text}, has {owner.dtype} of shape {owner.shape}")
            owner.setflags(write=False)
            object.__setattr__(self, name, owner)
        if found:
            raise ScenarioError(self.name, [Problem("data.dataset", text, self.name) for text in found])
        for name, found_array in arrays.items():
            dtype = np.int64 if found_array.ndim == 1 else np.float32
            array = np.ascontiguousarray(found_array, dtype).view()
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def labeled(self) -> bool:
        """Whether y are labels, not numbers to predict."""
        return self.y_train.ndim == 1


class DataSource(Settings):
    """Base of every data set's settings."""

    kind: str

    @property
    def is_here(self) -> bool:
        """Whether loading needs no download."""
        return True

    @abstractmethod
    def load(self) -> Dataset:
        """Return the data; ScenarioError if it is not available."""


def existing(path: Path) -> Path:
    """Return the path of a file that there is; ValueError if there is none."""
    if not path.is_file():
        raise ValueError("there is no such file; paths are relative to the scenario's folder")
    return path


def held_back(n: int, share: float | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of `n` samples that are for training, and those held back for testing: always the same ones."""
    test = max(1, round((0.2 if share is None else share) * n))
    order = stream(0, "test").permutation(n)
    return order[test:], order[:test]


def is_found(kind: str, name: str) -> bool:
    """Tell whether a file is in `$P2PL_DATA/<kind>` or the user's cache."""
    import pooch

    folder = os.environ.get("P2PL_DATA")
    places = [Path(pooch.os_cache("p2pl_async"), kind), *([Path(folder, kind)] if folder else [])]
    return any((place / name).exists() for place in places)


def find_or_download(kind: str, name: str, url: str, checksum: str) -> Path:
    """Return the path of a file in `$P2PL_DATA/<kind>` or the user's cache; download it there if it is in neither.

    Raises:
        ScenarioError: if it can't be downloaded, or has another checksum.
    """
    import pooch

    folder = os.environ.get("P2PL_DATA")
    if folder and (path := Path(folder, kind, name)).exists():
        return path
    cache = Path(pooch.os_cache("p2pl_async"), kind)
    try:
        return Path(pooch.retrieve(url + name, checksum, fname=name, path=cache))
    except (OSError, ValueError) as error:
        # The message of requests is a page long; --debug shows it. Pooch's ValueError is about the checksum.
        reason = str(error) if isinstance(error, ValueError) else type(error).__name__
        text = (
            f"{name} is not in $P2PL_DATA/{kind} ({folder or 'not set'}) nor in {cache}, and "
            f"can't be downloaded from {url} ({reason}); connect to the network once, put the file into one "
            'of the folders, or use dataset = "digits"'
        )
        raise ScenarioError(name, [Problem("data.dataset.kind", text, kind)]) from error


class _Idx(DataSource):
    """Images and labels in four gzipped IDX files, the format of MNIST.

    Each file is looked for in `$P2PL_DATA/<kind>`, then in the user's cache folder (`p2pl_async`).
    If it is in neither, it is downloaded to the cache and its checksum verified.
    """

    url: ClassVar[str]
    files: ClassVar[dict[str, str]]  # name -> checksum

    def load(self) -> Dataset:
        """Return 60,000 training and 10,000 test images, features from 0 to 1, shape (28, 28).

        Raises:
            ScenarioError: if a file is damaged, or missing and can't be downloaded.
        """
        paths = [find_or_download(self.kind, name, self.url, checksum) for name, checksum in self.files.items()]
        x_train, y_train, x_test, y_test = (
            self._read(path, dims) for path, dims in zip(paths, (3, 1, 3, 1), strict=True)
        )
        found = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
        for text in problems_of(found, 10):
            raise self._problem(paths[list(found).index(text.split()[0])], f"is unfit: {text}")
        scaled = [np.divide(x, 255, dtype=np.float32) for x in (x_train, x_test)]
        return Dataset(self.kind, scaled[0], y_train.astype(np.int64), scaled[1], y_test.astype(np.int64), 10)

    @property
    def is_here(self) -> bool:
        """Whether all files are in one of the folders."""
        return all(is_found(self.kind, name) for name in self.files)

    def _read(self, path: Path, dims: int) -> NDArray[np.uint8]:
        """Return the bytes of an IDX file of so many dimensions, shaped."""
        start = 4 + 4 * dims
        try:
            with gzip.open(path) as file:
                head = file.read(start)
                if len(head) < start or head[:4] != bytes([0, 0, 8, dims]):
                    raise self._problem(
                        path, f"must begin with the IDX magic 0x{0x800 + dims:08x}, begins with 0x{head[:4].hex()}"
                    )
                shape = struct.unpack(f">{dims}I", head[4:])
                expected = int(np.prod(shape, dtype=object))
                if wrong := refuse_unpacked(path.stat().st_size, expected):
                    raise self._problem(path, wrong)
                content = file.read(expected + 1)  # one more, to notice a longer one: an archive can hold anything
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise self._problem(path, f"is not a whole gzip file: {error}") from error
        except OSError as error:
            raise self._problem(path, f"can't be read: {error}") from error
        if len(content) != expected:
            held = "more" if len(content) > expected else str(len(content))
            raise self._problem(path, f"announces {shape}, {expected} bytes, but holds {held}")
        return np.frombuffer(content, np.uint8).reshape(shape)

    def _problem(self, path: Path, what: str) -> ScenarioError:
        text = f"{path} {what}; delete the file, then it is downloaded again"
        return ScenarioError(str(path), [Problem("data.dataset.kind", text, self.kind)])


class Mnist(_Idx):
    """Handwritten digits of 28 x 28 pixels, 60,000 for training and 10,000 for testing."""

    kind: Literal["mnist"] = "mnist"
    url = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    files = {  # noqa: RUF012 -- ClassVar in the base
        "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    }


class FashionMnist(_Idx):
    """Pictures of clothes in the format of MNIST; harder than digits."""

    kind: Literal["fashion-mnist"] = "fashion-mnist"
    url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    files = {  # noqa: RUF012 -- ClassVar in the base
        "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    }


class Npz(DataSource):
    """Your own arrays in an .npz file: x_train, y_train, x_test, y_test, or x and y to be split.

    Optionally owner (of x or x_train), or owner_train and owner_test: a number for each sample, such as of a person.
    """

    kind: Literal["npz"] = "npz"
    path: Path = Field(
        description="file with features (samples, ...) and labels 0, 1, ..., or numbers to predict; never unpickled"
    )
    test_share: Probability | None = Field(
        default=None, description="share of x and y held back for testing, 20 % if not given; always the same samples"
    )

    _is_there = field_validator("path")(existing)

    def load(self) -> Dataset:
        """Return the arrays, features as float32.

        Raises:
            ScenarioError: with every problem found.
        """
        arrays = self._arrays()
        owners = {name.replace("_train", ""): arrays.pop(name) for name in _OWNERS if name in arrays}
        if "x" in arrays:
            x, y = arrays["x"], arrays["y"]
            train, test = held_back(len(y), self.test_share)
            arrays = {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
            if "owner" in owners:
                owners |= {"owner": owners["owner"][train], "owner_test": owners["owner"][test]}
            if not len(train):
                text = f"has {len(y)} samples, of which {len(test)} are for testing: none is left to train"
                raise self._problem([text])
        y_train, y_test = arrays["y_train"], arrays["y_test"]
        n_classes = int(max(y_train.max(), y_test.max())) + 1 if y_train.ndim == 1 else y_train.shape[1]
        return Dataset(self.path.stem, **arrays, n_classes=n_classes, **owners)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by key, checked one by one and against each other."""
        try:
            with self.path.open("rb") as file:
                archive = np.load(file, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise self._problem(["holds one array; save several with numpy.savez"])
                assert archive.zip is not None
                unpacked = sum(member.file_size for member in archive.zip.infolist())
                if wrong := refuse_unpacked(self.path.stat().st_size, unpacked):
                    raise self._problem([wrong])
                arrays = {key: archive[key] for key in archive.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise self._problem([f"can't be read as .npz without pickle: {error}"]) from error
        whole, split = {"x", "y"}, {"x_train", "y_train", "x_test", "y_test"}
        if set(arrays).difference(_OWNERS) not in (whole, split) or {"owner", "owner_train"} <= set(arrays):
            raise self._problem([f"must hold x_train, y_train, x_test, y_test, or x, y; holds {', '.join(arrays)}"])
        arrays = {name: as_targets(array) if name.startswith("y") else array for name, array in arrays.items()}
        if self.test_share is not None and "x" not in arrays:
            raise self._problem(["is split already; leave out test_share"])
        found = list(problems_of({name: array for name, array in arrays.items() if name not in _OWNERS}))
        for name in (name for name in _OWNERS if name in arrays):
            labels = "y" if "y" in arrays else "y_test" if name == "owner_test" else "y_train"
            if arrays[name].shape != arrays[labels].shape[:1]:
                found.append(f"{name} has shape {arrays[name].shape}, {labels} has {arrays[labels].shape}")
        if found:
            raise self._problem(found)
        return arrays

    def _problem(self, found: list[str]) -> ScenarioError:
        return ScenarioError(str(self.path), [Problem("data.dataset.path", text, str(self.path)) for text in found])


_OWNERS = ("owner", "owner_train", "owner_test")
