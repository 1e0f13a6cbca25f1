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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator

from p2pl_async.basics.limits import refuse_unpacked
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import Probability
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.data_checks import problems_of
from p2pl_async.learning.partition import AnyPartition, Iid, Partition
from p2pl_async.learning.user_code import mistake, source, user_code


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with their labels, checked, as contiguous read-only arrays.

    Raises:
        ScenarioError: with every problem found: shapes, types, lengths, values that aren't finite, labels out of range.
    """

    name: str
    x_train: NDArray[np.float32]  # (n_train, *shape)
    y_train: NDArray[np.int64]  # (n_train,), 0 <= label < n_classes
    x_test: NDArray[np.float32]  # (n_test, *shape)
    y_test: NDArray[np.int64]  # (n_test,)
    n_classes: int
    owner: NDArray[np.int64] | None = None  # whose each training sample is, such as a person's number, (n_train,)

    def __post_init__(self) -> None:
        names = ("x_train", "y_train", "x_test", "y_test")
        found = list(problems_of({name: np.asarray(getattr(self, name)) for name in names}, self.n_classes))
        if self.owner is not None:
            owner = np.array(self.owner)
            if owner.shape != (len(self.y_train),) or owner.dtype.kind not in "iu":
                text = f"must hold an integer for each of the {len(self.y_train)} training samples"
                found.append(f"owner {text}, has {owner.dtype} of shape {owner.shape}")
            owner.setflags(write=False)
            object.__setattr__(self, "owner", owner)
        if found:
            raise ScenarioError(self.name, [Problem("data.dataset", text, self.name) for text in found])
        for name in names:
            dtype = np.float32 if name.startswith("x") else np.int64
            array = np.ascontiguousarray(getattr(self, name), dtype).view()
            array.setflags(write=False)
            object.__setattr__(self, name, array)


class DataSource(Settings):
    """Base of every data set's settings."""

    kind: str

    @abstractmethod
    def load(self) -> Dataset:
        """Return the data; ScenarioError if it is not available."""


class Digits(DataSource):
    """Handwritten digits of 8 x 8 pixels, 1,437 for training and 360 for testing; needs no download."""

    kind: Literal["digits"] = "digits"

    def load(self) -> Dataset:
        """Return the digits that ship with scikit-learn, features from 0 to 1, shape (8, 8), in a fixed split."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits: Any = load_digits()
        x_train, x_test, y_train, y_test = train_test_split(
            digits.images / 16, digits.target, test_size=360, stratify=digits.target, random_state=0
        )
        return Dataset("digits", x_train, y_train, x_test, y_test, 10)


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
        paths = [self._find(name) for name in self.files]
        x_train, y_train, x_test, y_test = (
            self._read(path, dims) for path, dims in zip(paths, (3, 1, 3, 1), strict=True)
        )
        found = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
        for text in problems_of(found, 10):
            raise self._problem(paths[list(found).index(text.split()[0])], f"is unfit: {text}")
        scaled = [np.divide(x, 255, dtype=np.float32) for x in (x_train, x_test)]
        return Dataset(self.kind, scaled[0], y_train.astype(np.int64), scaled[1], y_test.astype(np.int64), 10)

    def _find(self, name: str) -> Path:
        import pooch

        folder = os.environ.get("P2PL_DATA")
        if folder and (path := Path(folder, self.kind, name)).exists():
            return path
        cache = Path(pooch.os_cache("p2pl_async"), self.kind)
        try:
            return Path(pooch.retrieve(self.url + name, self.files[name], fname=name, path=cache))
        except (OSError, ValueError) as error:
            # The message of requests is a page long; --debug shows it. Pooch's ValueError is about the checksum.
            reason = str(error) if isinstance(error, ValueError) else type(error).__name__
            text = (
                f"{name} is not in $P2PL_DATA/{self.kind} ({folder or 'not set'}) nor in {cache}, and "
                f"can't be downloaded from {self.url} ({reason}); connect to the network once, put the file into one "
                'of the folders, or use dataset = "digits"'
            )
            raise ScenarioError(name, [Problem("data.dataset.kind", text, self.kind)]) from error

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
    """Your own arrays in an .npz file: x_train, y_train, x_test, y_test, or x and y to be split; optionally owner."""

    kind: Literal["npz"] = "npz"
    path: Path = Field(description="file with features (samples, ...) and labels 0, 1, ..., never unpickled")
    test_share: Probability | None = Field(
        default=None, description="share of x and y held back for testing, 20 % if not given; always the same samples"
    )

    @field_validator("path")
    @classmethod
    def _is_there(cls, path: Path) -> Path:
        if not path.is_file():
            raise ValueError("there is no such file; paths are relative to the scenario's folder")
        return path

    def load(self) -> Dataset:
        """Return the arrays, features as float32.

        Raises:
            ScenarioError: with every problem found.
        """
        arrays = self._arrays()
        owner = arrays.pop("owner", None)
        if "x" in arrays:
            x, y = arrays["x"], arrays["y"]
            test = max(1, round((0.2 if self.test_share is None else self.test_share) * len(y)))
            order = stream(0, "test").permutation(len(y))
            arrays = {"x_train": x[order[test:]], "y_train": y[order[test:]]}
            arrays |= {"x_test": x[order[:test]], "y_test": y[order[:test]]}
            owner = None if owner is None else owner[order[test:]]
            if not len(arrays["y_train"]):
                raise self._problem([f"has {len(y)} samples, of which {test} are for testing: none is left to train"])
        n_classes = int(max(arrays["y_train"].max(), arrays["y_test"].max())) + 1
        return Dataset(self.path.stem, **arrays, n_classes=n_classes, owner=owner)

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
        if set(arrays) - {"owner"} not in (whole, split):
            raise self._problem([f"must hold x_train, y_train, x_test, y_test, or x, y; holds {', '.join(arrays)}"])
        if self.test_share is not None and "x" not in arrays:
            raise self._problem(["is split already; leave out test_share"])
        found = list(problems_of({name: array for name, array in arrays.items() if name != "owner"}))
        labels = "y" if "y" in arrays else "y_train"
        if "owner" in arrays and arrays["owner"].shape != arrays[labels].shape:
            found.append(f"owner has shape {arrays['owner'].shape}, {labels} has {arrays[labels].shape}")
        if found:
            raise self._problem(found)
        return arrays

    def _problem(self, found: list[str]) -> ScenarioError:
        return ScenarioError(str(self.path), [Problem("data.dataset.path", text, str(self.path)) for text in found])


def _outside(spec: str) -> type[DataSource]:
    from p2pl_async.basics.plugins import load_class

    return load_class(spec, DataSource)  # type: ignore[type-abstract]


AnyDataset = Annotated[DataSource, OneOf("data set", Digits, Mnist, FashionMnist, Npz, outside=_outside)]


class DataSettings(Settings):
    """The `[data]` table: the data set, and its partition among the devices."""

    dataset: AnyDataset = Field(default=Digits(), description='a name, a table with its options, or "file.py:Class"')
    partition: AnyPartition = Field(default=Iid(), description="how the training samples are divided among the devices")
    train_samples: PositiveInt | None = Field(
        default=None, description="use only so many training samples, drawn at random; all if not given"
    )

    def load(self, seed: int) -> Dataset:
        """Return the data, cut to `train_samples`.

        Raises:
            ScenarioError: if the data is not available, or has fewer samples.
        """
        expected = "load() must return a p2pl_async.Dataset"
        with user_code("data.dataset.kind", self.dataset.load, expected):
            dataset = self.dataset.load()
        if not isinstance(dataset, Dataset):
            text = f"{expected}; that of {source(self.dataset.load)} returned {type(dataset).__name__}"
            raise mistake("data.dataset.kind", self.dataset.load, text)
        if self.train_samples is None:
            return dataset
        n = len(dataset.y_train)
        if self.train_samples > n:
            text = f"{dataset.name} has only {n} training samples; leave it out to use all"
            raise ScenarioError("data", [Problem("data.train_samples", text, self.train_samples)])
        rows = stream(seed, "samples").permutation(n)[: self.train_samples]
        owner = None if dataset.owner is None else dataset.owner[rows]
        return replace(dataset, x_train=dataset.x_train[rows], y_train=dataset.y_train[rows], owner=owner)

    def split(self, dataset: Dataset, n_devices: int, seed: int) -> list[NDArray[np.int64]]:
        """Return the training rows of each device; ScenarioError if there is no such partition."""
        partition: Partition = self.partition
        labels: NDArray[np.int64] | None = dataset.owner if partition.by_owner else dataset.y_train
        if labels is None:
            raise partition.problem(f"needs the owner of each sample, which {dataset.name} lacks; use another")
        return partition.split(labels, n_devices, stream(seed, "partition"))
