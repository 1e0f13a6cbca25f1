"""Images: CIFAR-10 from its archive or from folders, folders and zip files of one's own, decoded once; augmentation."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from p2pl_async import ScenarioError
from p2pl_async.basics.randomness import stream
from p2pl_async.learning import images
from p2pl_async.learning.augmentation import Augment, augmented
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.images import Cifar10, ImageFolder
from p2pl_async.learning.models import Mlp
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.trainer import Trainer

Bytes = NDArray[np.uint8]
NAMES = ("cat", "dog")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep decoded images out of the user's cache."""
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    monkeypatch.delenv("P2PL_DATA", raising=False)
    return tmp_path / "cache"


def png(pixels: Bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def picture(number: int, height: int = 4, width: int = 3) -> Bytes:
    return np.random.default_rng(number).integers(256, size=(height, width, 3), dtype=np.uint8)


def fill(folder: Path, count: int, start: int = 0) -> None:
    """Write `count` images of each class into class folders."""
    for c, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            (folder / name / f"{i:03}.png").write_bytes(png(picture(start + 100 * c + i)))
    (folder / "README.txt").write_text("not an image")


def packed(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for item in sorted(folder.rglob("*.png")):
            archive.write(item, item.relative_to(folder))
    return path


@pytest.mark.parametrize("form", ["folders", "zips", "one zip"])
def test_folders_with_train_and_test_are_taken_as_they_are(tmp_path: Path, form: str) -> None:
    root = tmp_path / "mine"
    fill(root / "train", 3)
    fill(root / "test", 2, start=50)
    path = root
    if form == "one zip":
        path = packed(root)
    elif form == "zips":
        path = tmp_path / "zips"
        path.mkdir()
        for which in ("train", "test"):
            packed(root / which).rename(path / f"{which}.zip")
    data = ImageFolder(path=path).load()
    assert data.x_train.shape == (6, 3, 4, 3)
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.y_test.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(data.x_train[4], (picture(101).transpose(2, 0, 1) / 255).astype(np.float32))
    np.testing.assert_array_equal(data.x_test[0], (picture(50).transpose(2, 0, 1) / 255).astype(np.float32))


def test_class_folders_alone_are_split_alike_every_time(tmp_path: Path) -> None:
    fill(tmp_path / "mine", 5)
    first, again = (ImageFolder(path=tmp_path / "mine", test_share=0.3).load() for _ in range(2))
    assert (len(first.y_train), len(first.y_test)) == (7, 3)
    np.testing.assert_array_equal(first.x_test, again.x_test)
    gray = ImageFolder(path=tmp_path / "mine", gray=True, size=(8, 6)).load()
    assert gray.x_train.shape == (8, 8, 6)


def test_images_are_decoded_once_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "mine", 2)
    source = ImageFolder(path=tmp_path / "mine")
    first = source.load()
    decoded: list[int] = []
    decode = ImageFolder._decode

    def counted(self: ImageFolder) -> Any:
        decoded.append(1)
        return decode(self)

    monkeypatch.setattr(ImageFolder, "_decode", counted)
    np.testing.assert_array_equal(source.load().x_train, first.x_train)
    assert not decoded
    (tmp_path / "mine" / "cat" / "new.png").write_bytes(png(picture(7)))
    assert len(source.load().y_train) + len(source.load().y_test) == 5
    assert decoded == [1]
    for file in (tmp_path / "cache" / "decoded").iterdir():
        file.write_bytes(b"damaged")
    assert len(source.load().y_train) == 4
    assert decoded == [1, 1]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("cat/9.png", b"\x89PNG no", r"9\.png can't be decoded"),
        ("cat/9.png", png(picture(1, 5, 3)), r"9\.png has 5 x 3 pixels, .*000\.png 4 x 3; give the size"),
    ],
)
def test_a_wrong_image_is_named(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    fill(tmp_path / "mine", 2)
    (tmp_path / "mine" / name).write_bytes(content)
    with pytest.raises(ScenarioError, match=text):
        ImageFolder(path=tmp_path / "mine").load()


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="must hold a folder of images for each of two or more classes"):
        ImageFolder(path=tmp_path).load()
    (tmp_path / "broken.zip").write_bytes(b"no")
    with pytest.raises(ScenarioError, match="can't be read: File is not a zip file"):
        ImageFolder(path=tmp_path / "broken.zip").load()


def archive(path: Path, size: int = 4, *, cut: int = 0) -> tuple[Bytes, Bytes]:
    """Write CIFAR-10's archive with a few records; return the images and labels of its first batch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    first: Any = None
    with tarfile.open(path, "w:gz") as tar:
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            records = random.integers(256, size=(size, 3073), dtype=np.uint8)
            records[:, 0] = np.arange(size) * 3
            content = records.tobytes()[cut:]
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            first = records if first is None else first
    return first[:, 1:].reshape(-1, 3, 32, 32), first[:, 0]


def test_cifar10_is_read_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PL_DATA", str(tmp_path))
    path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    pixels, labels = archive(path)
    data = Cifar10().load()
    assert (data.x_train.shape, data.x_test.shape, data.n_classes) == ((20, 3, 32, 32), (4, 3, 32, 32), 10)
    np.testing.assert_array_equal(data.x_train[:4], (pixels / 255).astype(np.float32))
    assert data.y_train[:4].tolist() == labels.tolist()
    archive(path, cut=1)
    with pytest.raises(ScenarioError, match=r"data_batch_1\.bin holds 12291 bytes, not images of 3073 each"):
        Cifar10().load()


def test_cifar10_is_read_from_class_folders_and_else_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def retrieve(url: str, known_hash: str, fname: str, path: Path) -> str:
        asked.append((url, known_hash))
        raise OSError("no network")

    monkeypatch.setattr("pooch.retrieve", retrieve)
    with pytest.raises(ScenarioError, match=r"is not in \$P2PL_DATA/cifar10"):
        Cifar10().load()
    assert asked == [(images._URL + images._ARCHIVE, "md5:c32a1d4ab5d03f1284b67883e8d87530")]
    monkeypatch.setenv("P2PL_DATA", str(tmp_path))
    fill(tmp_path / "cifar10" / "train", 2)
    fill(tmp_path / "cifar10" / "test", 1)
    assert Cifar10().load().x_train.shape == (4, 3, 32, 32)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_augmented_images_are_those_of_slices(shape: tuple[int, ...]) -> None:
    x = torch.rand(2, 3, *shape)
    shifts = Augment(crop=2, flip=True).draw(np.random.default_rng(3), (2, 3))
    found = augmented(x, torch.from_numpy(shifts))
    assert {tuple(np.unique(shifts[..., 2]))} == {(0, 1)}
    for k, row in np.ndindex(2, 3):
        down, right, mirrored = shifts[k, row]
        image = x[k, row].numpy()
        image = image[..., ::-1] if mirrored else image
        padded = np.pad(image, [(0, 0)] * (len(shape) - 2) + [(2, 2), (2, 2)])
        np.testing.assert_array_equal(found[k, row].numpy(), padded[..., 2 - down : 6 - down, 2 - right : 7 - right])


def test_augmentation_depends_on_device_and_job_alone() -> None:
    random = np.random.default_rng(0)
    x, y = random.random((40, 4, 4), np.float32), np.arange(40) % 2
    data = Dataset("d", x, y, x, y, 2)

    def make(**augment: Any) -> Trainer:
        parts = [np.arange(10) + 10 * device for device in range(4)]
        settings = TrainSettings(batch_size=4)
        return Trainer(data, parts, Mlp(hidden=(5,)), settings, 1, augment=Augment(**augment))

    def trained(trainer: Trainer, together: bool) -> list[Any]:
        jobs = [trainer.job(device, trainer.initial_params(device), epochs=2) for device in range(4)]
        for some in [jobs] if together else [[job] for job in reversed(jobs)]:
            trainer.compute(some)
        return [job.result for job in jobs]

    changes: dict[str, Any] = {"crop": 1, "flip": True}
    plain, one, other = trained(make(), True), trained(make(**changes), True), trained(make(**changes), False)
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, plain)
    # The gradient of a job is that of its augmented batch.
    trainer = make(crop=1, flip=True)
    w = trainer.initial_params(0)
    job = trainer.gradient_job(0, w)
    trainer.compute([job])
    shifts = Augment(crop=1, flip=True).draw(stream(1, "augment", 0, 0), (1, 4))
    batch = stream(1, "batches", 0).permutation(np.arange(10))[:4]
    moved = augmented(torch.tensor(x[batch])[None], torch.from_numpy(shifts))[0]
    module = Mlp(hidden=(5,)).build((4, 4), 2)
    torch.nn.utils.vector_to_parameters(torch.tensor(np.array(w)), module.parameters())
    torch.nn.functional.cross_entropy(module(moved), torch.tensor(y[batch])).backward()
    expected = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    assert job.result is not None
    np.testing.assert_allclose(job.result, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_augmentation_is_for_images() -> None:
    with pytest.raises(ScenarioError, match=r"needs images .* larger than crop; samples are \(6,\)"):
        Augment(flip=True).check((6,))
    with pytest.raises(ScenarioError, match="larger than crop"):
        Augment(crop=4).check((3, 4, 4))
    Augment().check((6,))
