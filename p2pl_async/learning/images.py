"""Data sets of images: CIFAR-10, and folders of one's own, decoded once and cached as bytes.

Images are arrays of bytes in the cache and float32 from 0 to 1, channels first, in memory; all devices share them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator

from p2pl_async.basics.limits import refuse_unpacked
from p2pl_async.basics.units import Probability
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.data import Dataset, DataSource, find_or_download, held_back, is_found

Bytes = NDArray[np.uint8]
Folder = Path | zipfile.Path  # also a file
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_ARCHIVE, _URL = "cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/"
_CHECKSUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"
_RECORD = 3073  # bytes of an image in the archive: its label, then 32 x 32 red, green and blue


class _Images(DataSource):
    """Base of data sets of images in files."""

    @abstractmethod
    def _decode(self) -> dict[str, Bytes | NDArray[np.int64]]:
        """Return x_train, y_train, x_test and y_test, images as bytes."""

    @abstractmethod
    def _files(self) -> Iterator[Path]:
        """Yield the files that the images come from: if one changes, they are decoded again."""

    def load(self) -> Dataset:
        """Return the images, features from 0 to 1, shape (3, height, width), or (height, width) if gray.

        Raises:
            ScenarioError: if a file is damaged, or missing and can't be downloaded.
        """
        try:
            cached = self._cached()
            found = _read(cached)
            if found is None:
                found = self._decode()
                _write(cached, found)
        except (OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise self._problem(f"can't be read: {error}") from error
        scaled = [np.divide(found[name], 255, dtype=np.float32) for name in ("x_train", "x_test")]
        n_classes = int(max(found["y_train"].max(), found["y_test"].max())) + 1
        return Dataset(self.kind, scaled[0], found["y_train"], scaled[1], found["y_test"], n_classes)

    def _cached(self) -> Path:
        import pooch

        state = [json.dumps(self.model_dump(mode="json"))]
        for path in self._files():
            about = path.stat()
            state.append(f"{path} {about.st_size} {about.st_mtime_ns}")
        name = hashlib.sha256("\n".join(state).encode()).hexdigest()[:24]
        return Path(pooch.os_cache("p2pl_async"), "decoded", f"{name}.npz")

    def _problem(self, text: str) -> ScenarioError:
        return ScenarioError(self.kind, [Problem("data.dataset", text, self.kind)])


def _read(cached: Path) -> dict[str, Any] | None:
    """Return decoded images from the cache; None if they aren't there."""
    try:
        with np.load(cached, allow_pickle=False) as archive:
            return {name: archive[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(cached: Path, found: dict[str, Any]) -> None:
    """Keep decoded images for the next run; without room for them, they are decoded again then."""
    part = cached.with_suffix(f".{os.getpid()}.part")
    with contextlib.suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, **found)
        part.replace(cached)
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


class Cifar10(_Images):
    """Color photographs of 32 x 32 pixels in 10 classes, 50,000 for training and 10,000 for testing.

    In `$P2PL_DATA/cifar10`: the binary archive, or `train` and `test` (.zip) with a folder of images for each class.
    If there is neither, the archive is downloaded to the user's cache folder and its checksum verified.
    """

    kind: Literal["cifar10"] = "cifar10"

    @property
    def is_here(self) -> bool:
        """Whether the archive, or the folders of images, are in one of the folders."""
        return self._folder() is not None or is_found(self.kind, _ARCHIVE)

    def _folder(self) -> Path | None:
        """Return the folder with class folders of images; None if there is none, or if it has the archive."""
        folder = Path(os.environ.get("P2PL_DATA") or "", "cifar10")
        there = bool(os.environ.get("P2PL_DATA")) and not (folder / _ARCHIVE).exists()
        return folder if there and _part(folder, "train") is not None else None

    def _files(self) -> Iterator[Path]:
        folder = self._folder()
        if folder is None:
            yield find_or_download(self.kind, _ARCHIVE, _URL, _CHECKSUM)
        else:
            yield from _sources(folder)

    def _decode(self) -> dict[str, Bytes | NDArray[np.int64]]:
        folder = self._folder()
        if folder is not None:
            return ImageFolder(path=folder, size=(32, 32))._decode()
        parts: dict[str, list[Bytes]] = {"train": [], "test": []}
        path = next(self._files())
        with tarfile.open(path) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                name = Path(member.name).name
                if name.endswith(".bin"):
                    file = archive.extractfile(member)
                    content = b"" if file is None else file.read(_RECORD * 10_000 + 1)
                    if not content or len(content) % _RECORD:
                        raise self._problem(f"{path}: {name} holds {len(content)} bytes, not images of {_RECORD} each")
                    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
                    parts["test" if name.startswith("test") else "train"].append(records)
        if not all(parts.values()):
            raise self._problem(f"{path} must hold data_batch_1.bin to data_batch_5.bin and test_batch.bin")
        found: dict[str, Any] = {}
        for which, batches in parts.items():
            whole = np.concatenate(batches)
            found[f"x_{which}"] = whole[:, 1:].reshape(-1, 3, 32, 32)
            found[f"y_{which}"] = whole[:, 0].astype(np.int64)
        return found


class ImageFolder(_Images):
    """Your own images: a folder or zip file with a folder for each class; split if it has `train` and `test`.

    Classes have the numbers of their folders' names in alphabetical order.
    """

    kind: Literal["image-folder"] = "image-folder"
    path: Path = Field(
        description="folder, or zip file, that holds a folder of images for each class, or `train` and `test` with such"
    )
    size: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None, description="height and width to which images are scaled; not given: all must have the same"
    )
    gray: bool = Field(default=False, description="one channel in place of red, green and blue")
    test_share: Probability | None = Field(
        default=None, description="share of images held back for testing where there is no `test`, 20 % if not given"
    )

    @field_validator("path")
    @classmethod
    def _is_there(cls, path: Path) -> Path:
        if not path.exists():
            raise ValueError("there is no such folder or file; paths are relative to the scenario's folder")
        return path

    def _files(self) -> Iterator[Path]:
        yield from _sources(self.path)

    def _decode(self) -> dict[str, Bytes | NDArray[np.int64]]:
        with contextlib.ExitStack() as open_files:
            parts: dict[str, Folder] = {}
            for which in ("train", "test"):
                found = _part(self.path, which)
                if found is not None:
                    parts[which] = found if found.is_dir() else open_files.enter_context(_zip(found))
            if "train" in parts and "test" in parts:
                roots = {which: _root(part, which) for which, part in parts.items()}
            else:
                whole: Folder = self.path if self.path.is_dir() else open_files.enter_context(_zip(self.path))
                inside: dict[str, Folder] = {which: whole / which for which in ("train", "test")}
                roots = inside if all(folder.is_dir() for folder in inside.values()) else {"": whole}
            classes = {which: _classes(root) for which, root in roots.items()}
            names = sorted(set().union(*classes.values()))
            if len(names) < 2:
                raise self._problem(f"{self.path} must hold a folder of images for each of two or more classes")
            arrays: dict[str, Any] = {}
            for which, files in classes.items():
                rows = [(image, names.index(name)) for name in sorted(files) for image in files[name]]
                arrays[f"x_{which}"] = self._pixels([image for image, _ in rows])
                arrays[f"y_{which}"] = np.array([label for _, label in rows], np.int64)
        if "x_" in arrays:
            x, y = arrays["x_"], arrays["y_"]
            train, test = held_back(len(y), self.test_share)
            arrays = {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
        return arrays

    def _pixels(self, images: Sequence[Folder]) -> Bytes:
        """Return images as bytes, (n, 3, height, width) or (n, height, width)."""
        from PIL import Image, UnidentifiedImageError

        found: Bytes | None = None
        for row, file in enumerate(images):
            try:
                with Image.open(io.BytesIO(file.read_bytes())) as image:
                    picture = image.convert("L" if self.gray else "RGB")
                    if self.size is not None and (picture.height, picture.width) != self.size:
                        picture = picture.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
            except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
                raise self._problem(f"{file} can't be decoded: {error}") from error
            pixels = np.asarray(picture)
            if found is None:
                found = np.empty((len(images), *pixels.shape), np.uint8)
            if pixels.shape != found.shape[1:]:
                here, first = (" x ".join(map(str, shape[:2])) for shape in (pixels.shape, found.shape[1:]))
                raise self._problem(f"{file} has {here} pixels, {images[0]} {first}; give the size to scale all to")
            found[row] = pixels
        assert found is not None
        return found if self.gray else np.ascontiguousarray(found.transpose(0, 3, 1, 2))


def _part(folder: Path, which: str) -> Path | None:
    """Return the `train` or `test` in a folder, itself a folder or a zip file; None if there is none."""
    if not folder.is_dir():
        return None
    return next((path for path in (folder / which, folder / f"{which}.zip") if path.exists()), None)


def _sources(path: Path) -> Iterator[Path]:
    """Yield the files below a folder in order, or the file itself."""
    yield from sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]


@contextlib.contextmanager
def _zip(path: Path) -> Iterator[zipfile.Path]:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if wrong := refuse_unpacked(path.stat().st_size, unpacked):
            raise ScenarioError(str(path), [Problem("data.dataset.path", wrong, str(path))])
        yield zipfile.Path(archive)


def _root(part: Folder, which: str) -> Folder:
    """Return the folder `which` inside a part if it has one, else the part."""
    inside: Folder = part / which
    return inside if inside.is_dir() else part


def _classes(root: Folder) -> dict[str, list[Folder]]:
    """Return the images of each class by the names of their folders, both in alphabetical order."""
    found: dict[str, list[Folder]] = {}
    folders: list[Folder] = list(root.iterdir())
    for folder in sorted(folders, key=lambda item: item.name):
        if folder.is_dir():
            images: list[Folder] = [item for item in folder.iterdir() if item.name.lower().endswith(_SUFFIXES)]
            if images:
                found[folder.name] = sorted(images, key=lambda item: item.name)
    return found
