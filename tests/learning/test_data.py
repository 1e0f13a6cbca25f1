"""Data sets: what is loaded, and how a damaged or missing file is reported."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from p2pl_async.errors import ScenarioError
from p2pl_async.learning import digits
from p2pl_async.learning.data import Dataset, DataSource, FashionMnist, Mnist, Npz
from p2pl_async.learning.data_settings import AnyDataset, DataSettings
from p2pl_async.learning.digits import Digits
from p2pl_async.learning.partition import Shards

ADAPTER: TypeAdapter[DataSource] = TypeAdapter(AnyDataset)
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = list(Mnist.files)


def idx(array: NDArray[Any], *, magic: int | None = None, shape: tuple[int, ...] | None = None) -> bytes:
    """Return an array of bytes as a gzipped IDX file, optionally with a header that lies."""
    shape = array.shape if shape is None else shape
    header = struct.pack(f">I{len(shape)}I", 0x800 + len(shape) if magic is None else magic, *shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small, whole MNIST under $P2PL_DATA."""
    path = tmp_path / "data" / "mnist"
    path.mkdir(parents=True)
    random = np.random.default_rng(0)
    for images, labels, n in ((TRAIN_IMAGES, TRAIN_LABELS, 30), (TEST_IMAGES, TEST_LABELS, 12)):
        (path / images).write_bytes(idx(random.integers(256, size=(n, 28, 28))))
        (path / labels).write_bytes(idx(np.arange(n) % 10))
    monkeypatch.setenv("P2PL_DATA", str(path.parent))
    return path


def check(dataset: Dataset) -> None:
    """Check what every data set promises."""
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        assert x.dtype == np.dtype("float32")
        assert y.dtype == np.dtype("int64")
        assert x.flags.c_contiguous
        assert not x.flags.writeable
        assert len(x) == len(y)
        assert np.isfinite(x).all()
        assert y.min() >= 0
        assert y.max() < dataset.n_classes
    assert dataset.x_train.shape[1:] == dataset.x_test.shape[1:]


@pytest.mark.parametrize("kept_elsewhere", [False, True])
def test_digits_are_those_of_scikit_learn_scaled_and_in_its_stratified_split(
    monkeypatch: pytest.MonkeyPatch, kept_elsewhere: bool
) -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if kept_elsewhere:
        monkeypatch.setattr(Path, "exists", lambda path: path.name != "digits.csv.gz")
    digits._dataset.cache_clear()
    found = Digits().load()
    check(found)
    whole: Any = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        whole.images / 16, whole.target, test_size=360, stratify=whole.target, random_state=0
    )
    for mine, theirs in (
        (found.x_train, x_train), (found.x_test, x_test), (found.y_train, y_train), (found.y_test, y_test),
    ):  # fmt: skip
        np.testing.assert_array_equal(mine, theirs)
    assert found.x_train.shape == (1437, 8, 8)
    assert (found.x_train.min(), found.x_train.max()) == (0, 1)


def test_mnist_is_read_from_the_users_folder_and_scaled(folder: Path) -> None:
    data = Mnist().load()
    check(data)
    assert data.x_train.shape == (30, 28, 28)
    assert data.x_test.shape == (12, 28, 28)
    assert data.n_classes == 10
    pixels = np.frombuffer(gzip.decompress((folder / TRAIN_IMAGES).read_bytes())[16:], np.uint8)
    np.testing.assert_array_equal(data.x_train.ravel(), pixels.astype(np.float32) / np.float32(255))
    assert data.y_train[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


@pytest.mark.parametrize(
    ("name", "damage", "text"),
    [
        (TRAIN_IMAGES, lambda whole: whole[: len(whole) // 2], "is not a whole gzip file"),
        (TRAIN_LABELS, lambda whole: b"<html>", "is not a whole gzip file"),
        (TEST_IMAGES, lambda whole: whole[:-20] + bytes([whole[-20] ^ 255]) + whole[-19:], "is not a whole gzip file"),
        (TEST_LABELS, lambda whole: idx(np.arange(12), magic=0x803), "IDX magic 0x00000801, begins with 0x00000803"),
        (TEST_LABELS, lambda whole: gzip.compress(b"\0\0"), "IDX magic 0x00000801, begins with 0x0000"),
        (
            TRAIN_IMAGES,
            lambda whole: idx(np.zeros((29, 28, 28)), shape=(30, 28, 28)),
            r"announces \(30, 28, 28\), 23520 bytes, but holds 22736",
        ),
        (
            TRAIN_IMAGES,
            lambda whole: idx(np.zeros(9), shape=(2**31, 2**31, 4)),
            "unpacks to 18446744073709551616 bytes",
        ),
        (TRAIN_LABELS, lambda whole: idx(np.arange(29) % 10), "y_train has 29 labels for the 30 samples of x_train"),
        (
            TRAIN_LABELS,
            lambda whole: idx(np.arange(30)),
            "labels below the 10 classes, holds 10 in row 10",
        ),
        (TEST_IMAGES, lambda whole: idx(np.zeros((12, 20, 20))), r"x_test has samples of shape \(20, 20\)"),
    ],
)
def test_a_damaged_file_is_named_with_a_way_out(
    folder: Path, name: str, damage: Callable[[bytes], bytes], text: str
) -> None:
    file = folder / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ScenarioError, match=text) as caught:
        Mnist().load()
    assert str(file) in str(caught.value)
    assert "delete the file" in str(caught.value)


def test_an_unreadable_file_is_an_error(folder: Path) -> None:
    (folder / TEST_LABELS).unlink()
    (folder / TEST_LABELS).mkdir()
    with pytest.raises(ScenarioError, match="can't be read"):
        Mnist().load()


def test_what_is_not_in_the_folder_comes_from_the_cache_or_the_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder.parent.parent / "elsewhere"
    folder.rename(elsewhere)
    asked = []

    def retrieve(url: str, known_hash: str, fname: str, path: Path) -> str:
        asked.append((url, known_hash, path))
        return str(elsewhere / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    check(Mnist().load())
    cache = Path(pooch.os_cache("p2pl_async"), "mnist")
    assert asked == [(Mnist.url + name, Mnist.files[name], cache) for name in Mnist.files]


@pytest.mark.parametrize("source", [Mnist(), FashionMnist()], ids=lambda source: source.kind)
def test_no_network_is_one_error_that_says_where_to_put_the_files(
    source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def retrieve(*_: Any, **__: Any) -> str:
        raise OSError("a page of urllib3")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.delenv("P2PL_DATA", raising=False)
    text = rf"{TRAIN_IMAGES} is not in \$P2PL_DATA/{source.kind} \(not set\).*can't be downloaded.*connect"
    with pytest.raises(ScenarioError, match=text) as caught:
        source.load()
    assert len(caught.value.problems) == 1


def test_a_download_with_another_checksum_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    def download(self: Any, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        Path(output_file).write_bytes((folder / Path(url).name).read_bytes())

    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    monkeypatch.setenv("P2PL_DATA", str(tmp_path / "nothing"))
    with pytest.raises(ScenarioError, match="hash of downloaded file"):
        Mnist().load()
    assert not list((tmp_path / "cache" / "mnist").glob("*ubyte.gz"))


@pytest.mark.skipif(
    not Path(os.environ.get("P2PL_DATA", "."), "mnist", TRAIN_IMAGES).is_file(), reason="P2PL_DATA has no mnist"
)
def test_the_real_mnist_is_whole() -> None:
    data = Mnist().load()
    check(data)
    assert (data.x_train.shape, data.x_test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.x_train.mean() == pytest.approx(0.1307, abs=1e-4)


def arrays(n: int = 20) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(n, 3)), "y": np.arange(n) % 4}


def split_arrays() -> dict[str, NDArray[Any]]:
    whole = arrays()
    return {f"{key}_{part}": whole[key][rows] for key in "xy" for part, rows in (("train", slice(12)), ("test", [3]))}


def saved(tmp_path: Path, **content: Any) -> Npz:
    path = tmp_path / "own.npz"
    np.savez(path, **content)
    return Npz(path=path)


def test_npz_with_a_split_is_taken_as_it_is(tmp_path: Path) -> None:
    content = split_arrays()
    data = saved(tmp_path, **content).load()
    check(data)
    assert (data.name, data.n_classes) == ("own", 4)
    np.testing.assert_allclose(data.x_train, content["x_train"], rtol=1e-6)
    np.testing.assert_array_equal(data.y_test, content["y_test"])


@pytest.mark.parametrize(("share", "test"), [(None, 4), ("25 %", 5), (0.5, 10), (0, 1)])
def test_npz_without_a_split_is_split_alike_every_time(tmp_path: Path, share: Any, test: int) -> None:
    content = arrays()
    path = saved(tmp_path, **content).path
    source = Npz.model_validate({"path": path, "test_share": share})
    data, again = source.load(), source.load()
    check(data)
    assert len(data.y_test) == test
    both = np.concatenate([data.x_train, data.x_test])
    np.testing.assert_allclose(np.sort(both, axis=0), np.sort(content["x"], axis=0), rtol=1e-6)
    np.testing.assert_array_equal(data.x_train, again.x_train)


def test_npz_takes_integer_features(tmp_path: Path) -> None:
    check(saved(tmp_path, x=np.arange(60).reshape(20, 3), y=arrays()["y"].astype(np.uint8)).load())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": np.zeros(20)}, r"x must have shape \(samples, ...\)"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, "with at least one sample"),
        ({"x": np.full((20, 3), np.nan)}, "60 values that are not finite"),
        ({"x": np.full((20, 3), 1e300)}, "60 values that are not finite in float32"),
        ({"x": np.full((20, 3), "a")}, "x must hold real numbers, holds <U1"),
        ({"x": np.full((20, 3), 1j)}, "x must hold real numbers, holds complex128"),
        ({"x": np.full((20, 3), None)}, "can't be read as .npz without pickle"),
        ({"x": np.zeros((19, 3))}, "y has 20 labels for the 19 samples of x"),
        ({"y": np.zeros((20, 1), int)}, r"y must have shape \(samples,\) for labels"),
        ({"y": np.array(["a"] * 20)}, "y must hold integers from 0, holds <U1"),
        ({"y": np.full(20, np.nan)}, "y has 20 values that are not finite"),
        ({"y": np.arange(20) - 1}, "y must hold integers from 0, holds -1"),
        ({"y": np.arange(20) * 2}, "without gaps; the largest is 38, none is 1"),
        ({"z": np.zeros(3)}, "must hold x_train, y_train, x_test, y_test, or x, y; holds x, y, z"),
        ({"x": np.zeros((1, 3)), "y": np.zeros(1, int)}, "none is left to train"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    source = saved(tmp_path, **arrays() | change)
    with pytest.raises(ScenarioError, match=text) as caught:
        source.load()
    assert str(source.path) in str(caught.value)


def test_every_problem_of_an_npz_is_shown_at_once(tmp_path: Path) -> None:
    content = split_arrays() | {"x_train": np.zeros((3, 7)), "y_test": np.array([-1])}
    with pytest.raises(ScenarioError) as caught:
        saved(tmp_path, **content).load()
    assert len(caught.value.problems) == 3


def test_test_share_is_for_arrays_without_a_split(tmp_path: Path) -> None:
    path = saved(tmp_path, **split_arrays()).path
    with pytest.raises(ScenarioError, match="leave out test_share"):
        Npz(path=path, test_share=0.1).load()


def test_a_file_that_is_no_npz_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    path.write_bytes(b"PK\3\4 cut short")
    with pytest.raises(ScenarioError, match="can't be read"):
        Npz(path=path).load()
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ScenarioError, match="holds one array"):
        Npz(path=tmp_path / "one.npy").load()


def test_a_missing_npz_is_found_while_checking(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no such file"):
        Npz(path=tmp_path / "own.npz")


@pytest.mark.parametrize("table", ["digits", "mnist", "fashion-mnist", {"kind": "digits"}])
def test_a_scenario_chooses_data_by_kind(table: Any) -> None:
    source = ADAPTER.validate_python(table)
    assert ADAPTER.validate_python(source.model_dump(mode="json")) == source
    assert (type(source).__doc__ or "").strip()


def test_an_unknown_data_set_is_an_error() -> None:
    with pytest.raises(ValidationError, match='did you mean "digits"'):
        ADAPTER.validate_python("digit")


OWN = '''
import numpy as np
from p2pl_async.learning.data import Dataset, DataSource

class Parity(DataSource):
    """Data of a user's own."""
    bits: int = 4

    def load(self):
        numbers = np.arange(2 ** self.bits)
        x = (numbers[:, None] >> np.arange(self.bits)) & 1
        return Dataset("parity", x, x.sum(axis=1) % 2, x, x.sum(axis=1) % 2, 2)
'''


def test_data_of_ones_own_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    assert ADAPTER.validate_python(f"{file}:Parity").load().x_train.shape == (16, 4)
    data = DataSettings.model_validate({"dataset": {"kind": f"{file}:Parity", "bits": 3}}).load(1)
    check(data)
    assert data.x_train.shape == (8, 3)


def test_the_data_table_defaults_to_digits_shared_evenly() -> None:
    table = DataSettings()
    data = table.load(1)
    parts = table.split(data, 20, 1)
    assert (data.name, table.partition.kind) == ("digits", "iid")
    assert sum(map(len, parts)) == 1437


def test_fewer_training_samples_are_drawn_from_the_seed() -> None:
    table = DataSettings(train_samples=100)
    one, again, other = (table.load(seed) for seed in (1, 1, 2))
    assert one.x_train.shape == (100, 8, 8)
    assert len(one.x_test) == 360
    np.testing.assert_array_equal(one.x_train, again.x_train)
    assert not np.array_equal(one.x_train, other.x_train)
    with pytest.raises(ScenarioError, match="has only 1437 training samples"):
        DataSettings(train_samples=1438).load(1)


def test_fewer_test_samples_are_drawn_from_the_seed_and_training_samples_stay() -> None:
    table = DataSettings(test_samples=50)
    one, again, other, whole = table.load(1), table.load(1), table.load(2), DataSettings().load(1)
    assert one.x_test.shape == (50, 8, 8)
    np.testing.assert_array_equal(one.x_test, again.x_test)
    np.testing.assert_array_equal(one.x_train, whole.x_train)
    assert not np.array_equal(one.x_test, other.x_test)
    where = {x.tobytes(): y for x, y in zip(whole.x_test, whole.y_test, strict=True)}
    assert [where[x.tobytes()] for x in one.x_test] == one.y_test.tolist()
    with pytest.raises(ScenarioError, match="has only 360 test samples"):
        DataSettings(test_samples=361).load(1)


def test_the_partition_of_the_table_is_used() -> None:
    table = DataSettings(partition=Shards(per_device=1))
    data = table.load(1)
    assert max(len(np.unique(data.y_train[part])) for part in table.split(data, 20, 1)) <= 2
    one, other = (table.split(data, 20, seed) for seed in (1, 2))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return None", r"load\(\) must return a p2pl_async.Dataset; that of .*own.py, line 5 returned NoneType"),
        ("return [][0]", r"load\(\) must return a p2pl_async.Dataset; .*own.py, line 6, in load: IndexError"),
    ],
)
def test_a_mistake_in_data_of_ones_own_names_its_place(tmp_path: Path, body: str, text: str) -> None:
    file = tmp_path / "own.py"
    header = "from p2pl_async.learning.data import DataSource\n\n\n"
    file.write_text(f"{header}class Own(DataSource):\n    def load(self):\n        {body}\n")
    with pytest.raises(ScenarioError, match=text):
        DataSettings.model_validate({"dataset": f"{file}:Own"}).load(1)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"y_train": np.arange(12) / 2}, "y_train has 1 number for each sample, n_classes is 4"),
        ({"y_train": np.array([0] * 9 + [4, 5, 0])}, "y_train must hold labels below the 4 classes, holds 4 in row 9"),
        ({"y_test": np.array([-1])}, "y_test must hold integers from 0, holds -1 in row 0"),
        ({"x_test": np.full((1, 3), np.inf)}, "x_test has 3 values that are not finite in float32, the first in row 0"),
        ({"x_train": np.array([[0.0] * 3] * 7 + [[np.nan] * 3] * 5)}, "x_train has 15 values.*the first in row 7"),
        ({"x_test": np.zeros((0, 3)), "y_test": np.zeros(0, int)}, "x_test must have .* at least one sample"),
        ({"x_test": np.zeros((1, 4))}, r"x_test has samples of shape \(4,\), x_train of \(3,\)"),
        ({"x_train": np.zeros((11, 3))}, "y_train has 12 labels for the 11 samples of x_train"),
    ],
)
def test_every_door_is_checked_as_the_data_enter(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ScenarioError, match=text):
        Dataset("own", **(split_arrays() | change), n_classes=4)


@pytest.mark.parametrize("split", [True, False])
def test_a_natural_partition_keeps_the_samples_of_an_owner_together(tmp_path: Path, split: bool) -> None:
    content = split_arrays() if split else arrays()
    n = len(content["y_train" if split else "y"])
    content |= {"owner": np.arange(n) // 3 + 7}
    path = saved(tmp_path, **content).path
    table = DataSettings.model_validate({"dataset": {"kind": "npz", "path": path}, "partition": "natural"})
    data = table.load(1)
    assert data.owner is not None
    owners = {
        row.tobytes(): whose
        for row, whose in zip(content["x_train" if split else "x"].astype(np.float32), content["owner"], strict=True)
    }
    assert [owners[row.tobytes()] for row in data.x_train] == data.owner.tolist()
    held = [set(data.owner[part].tolist()) for part in table.split(data, 2, 1)]
    assert held[0] | held[1] == set(data.owner.tolist())
    assert not held[0] & held[1]
    shared = [set(data.owner[part].tolist()) for part in table.split(data, len(data.y_train), 1)]
    assert all(len(own) == 1 for own in shared)


def test_a_natural_partition_needs_owners(tmp_path: Path) -> None:
    table = DataSettings.model_validate({"partition": "natural"})
    with pytest.raises(ScenarioError, match="needs the owner of each sample, which digits lacks"):
        table.split(table.load(1), 3, 1)
    with pytest.raises(ScenarioError, match=r"owner has shape \(3,\), y has \(20,\)"):
        saved(tmp_path, **arrays(), owner=np.arange(3)).load()
    with pytest.raises(ScenarioError, match="owner must hold an integer for each of the 20"):
        Dataset("own", arrays()["x"], arrays()["y"], arrays()["x"], arrays()["y"], 4, owner=np.zeros(3, int))
