"""The store: what it reuses, what it makes again, and URLs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganvas.data.label import label
from ganvas.data.label_files import load_labels
from ganvas.errors import GanvasError
from ganvas.generators.toy import Toy
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.store import KeyedRows, Store, compute_key, is_url
from ganvas.scorers.toy import ToyScorer

ORIGIN = {"kind": "fit", "generator": "a" * 64, "psi": 0.5, "seeds": [0, 7]}


def flip(path: Path, at: int = -9) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_keys_are_of_values_not_of_their_order() -> None:
    assert compute_key(ORIGIN) == compute_key(dict(reversed(ORIGIN.items())))
    assert compute_key(ORIGIN) != compute_key(ORIGIN | {"psi": 0.25})
    with pytest.raises(ValueError, match="JSON compliant"):
        compute_key({"psi": float("nan")})


@pytest.mark.parametrize(
    ("target", "expected"),
    [("s3://b/x", True), ("memory://x", True), ("a/b", False), ("/a:b", False), (Path("x"), False), ("C:/x", False)],
)
def test_urls_and_paths(target: str | Path, expected: bool) -> None:
    assert is_url(target) is expected


@pytest.mark.parametrize("target", ["folder", "memory://store"])
def test_what_is_stored_is_not_made_again(tmp_path: Path, target: str) -> None:
    store, calls = Store(target if is_url(target) else tmp_path / target), []

    def make() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"weights": torch.arange(3.0)}

    for _ in range(2):
        assert torch.equal(store.load_or_make(ORIGIN, make)["weights"], torch.arange(3.0))
    assert len(calls) == 1 and len(store.list_names()) == 1
    store.load_or_make(ORIGIN | {"psi": 0.7}, make)
    assert len(calls) == 2 and len(store.list_names()) == 2


def test_foreign_and_damaged_files_are_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tensors = {"weights": torch.arange(3.0)}
    store.load_or_make(ORIGIN, lambda: tensors)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for damage in (
        flip,
        lambda path: path.write_bytes(whole[:-3]),
        lambda path: path.write_bytes(b""),
        lambda path: save_tensors(path, tensors, ORIGIN),  # no hash
        lambda path: store.save(path.name, tensors, ORIGIN | {"psi": 9}),  # under another's name
    ):
        damage(path)
        store.load_or_make(ORIGIN, lambda: tensors)
        assert path.read_bytes() == whole


def test_hashes_are_of_bytes_of_any_dtype(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "a": matrix,
        "b": torch.tensor(2.5),
        "e": torch.zeros(0, 3),
        "i": torch.arange(4),
        "m": torch.tensor([True, False]),
        "t": matrix.T,
    }
    store = Store(tmp_path)
    store.save("x.safetensors", tensors, ORIGIN)
    # Files that were saved keep their hash.
    stored = load_tensors(tmp_path / "x.safetensors")[1]["sha256"]
    assert stored == "e256cce8e8235d34d41fcb4479749b39c181e48fb268abbbb99870d32c48cd13"
    for dtype in (torch.bfloat16, torch.float8_e4m3fn):
        other = {"a": matrix.to(dtype).requires_grad_(), "b": torch.tensor(2.5).to(dtype)}
        store.save("y.safetensors", other, ORIGIN)
        read = store.load("y.safetensors", ORIGIN, "a", 2)
        assert read["a"].dtype == dtype and torch.equal(read["a"].float(), other["a"].float())
        save_tensors(tmp_path / "z.safetensors", other, ORIGIN)
        assert store.read("z.safetensors") is None
    assert store.load("x.safetensors", ORIGIN, "b") is None  # has no rows


@pytest.mark.parametrize("target", ["folder", "memory://tables"])
def test_tables_are_checked_too(tmp_path: Path, target: str) -> None:
    import pyarrow

    store = Store(target if is_url(target) else tmp_path / target)
    table = pyarrow.table({"method": ["compact", "sefa"], "value": [0.5, 0.25]}, metadata={"missing": "[]"})
    store.save_table("rows.parquet", table, ORIGIN)
    assert store.load_table("rows.parquet", ORIGIN).equals(table, check_metadata=True)
    assert store.load_table("rows.parquet", ORIGIN | {"psi": 1.0}) is None
    assert store.load_table("others.parquet", ORIGIN) is None
    if not is_url(target):
        path = tmp_path / target / "rows.parquet"
        whole = path.read_bytes()
        store.save_table("again.parquet", table, ORIGIN)
        assert path.with_name("again.parquet").read_bytes() == whole
        for at in range(4, len(whole), 13):
            flip(path, at)
            found = store.load_table("rows.parquet", ORIGIN)
            assert found is None or found.equals(table, check_metadata=True), at
            path.write_bytes(whole)


def test_rows_are_computed_once_and_survive_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyedRows, "SHARD_ROWS", 2)
    keys, computed = [bytes([i]) * 4 for i in range(5)], []

    def compute(indices: list[int]) -> torch.Tensor:
        computed.extend(indices)
        return torch.tensor([[i, i + 0.5] for i in indices])

    rows = KeyedRows(Store(tmp_path), ORIGIN, 2)
    expected = compute(list(range(5)))
    computed.clear()
    assert torch.equal(rows.load_or_compute([*keys, keys[1]], compute), torch.cat((expected, expected[1:2])))
    assert sorted(computed) == list(range(5))
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(whole) == 3
    computed.clear()
    assert torch.equal(KeyedRows(Store(tmp_path), ORIGIN, 2).load_or_compute(keys, compute), expected)
    assert KeyedRows(Store(tmp_path), ORIGIN, 2).load_or_compute([], compute).shape == (0, 2)
    assert not computed
    flip(sorted(tmp_path.iterdir())[1])
    assert torch.equal(KeyedRows(Store(tmp_path), ORIGIN, 2).load_or_compute(keys, compute), expected)
    assert len(computed) == 2 and {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole
    computed.clear()
    for other in (KeyedRows(Store(tmp_path), ORIGIN | {"psi": 1}, 2), KeyedRows(None, ORIGIN, 2)):
        assert torch.equal(other.load_or_compute(keys, compute), expected)
    assert len(computed) == 10


def test_rows_that_two_add_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    keys = [bytes([i]) * 4 for i in range(4)]
    one, other = (KeyedRows(Store(tmp_path), ORIGIN, 1) for _ in range(2))
    one.load_or_compute(keys[:2], lambda indices: torch.zeros(2, 1))
    other.load_or_compute(keys[2:], lambda indices: torch.ones(2, 1))
    both = KeyedRows(Store(tmp_path), ORIGIN, 1)
    assert both.load_or_compute(keys, lambda indices: pytest.fail("computed again")).flatten().tolist() == [0, 0, 1, 1]
    names = {path.name for path in tmp_path.iterdir()}
    one.load_or_compute(
        keys[2:], lambda indices: torch.ones(2, 1)
    )  # as another process that saw none of the others' rows
    assert {path.name for path in tmp_path.iterdir()} == names and len(names) == 2


def test_only_leftovers_of_given_names_are_deleted(tmp_path: Path) -> None:
    for name in (".scores-00001.safetensors.abc.safetensors", ".scores-00002.safetensors.abc.safetensors", ".other"):
        (tmp_path / name).touch()
    Store(tmp_path).remove_leftovers(["scores-00001.safetensors"])
    assert {path.name for path in tmp_path.iterdir()} == {".scores-00002.safetensors.abc.safetensors", ".other"}
    assert Store(tmp_path).list_names() == set()


def test_labels_at_a_url(tmp_path: Path) -> None:
    options = {"keep_images": True, "shard_size": 16, "threads": 1}
    here = label(Toy(), ToyScorer(), 40, out=tmp_path, **options)
    there = label(Toy(), ToyScorer(), 40, out="memory://labels/toy", **options)
    assert torch.equal(here.codes, there.codes) and torch.equal(here.scores, there.scores)
    store = Store("memory://labels/toy")
    assert store.list_names() == Store(tmp_path).list_names()
    for name in store.list_names() - {"index.json"}:
        assert store.read(name)[1] == Store(tmp_path).read(name)[1]

    class Refusing(Toy):
        def synthesis(self, ws):
            raise AssertionError("rendered again")

    again = label(Refusing(), ToyScorer(), 40, out="memory://labels/toy", **options)
    assert torch.equal(again.scores, here.scores)
    with pytest.raises(GanvasError, match=r"psi is 1\.0, not 0\.5"):
        label(Toy(), ToyScorer(), 40, psi=0.5, out="memory://labels/toy", **options)
    with pytest.raises(GanvasError, match="There is no file|Can't read"):
        load_labels("memory://labels/absent", Toy())


def test_an_unknown_protocol_is_said() -> None:
    with pytest.raises(GanvasError, match="Can't open nothing://x: "):
        Store("nothing://x").list_names()


def test_urls_that_can_not_be_reached_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    class ClientError(Exception):
        """As of a protocol's own package."""

    def refuse(*_: object, **__: object) -> None:
        raise ClientError("Forbidden\n(403).")

    store = Store("memory://closed")
    for method in ("get_file", "put_file", "find"):
        monkeypatch.setattr(MemoryFileSystem, method, refuse)
    for call in (
        store.list_names,
        lambda: store.read("x.safetensors"),
        lambda: store.write_json("index.json", {}),
        lambda: Store("ftp://127.0.0.1:1/x").list_names(),
    ):
        with pytest.raises(GanvasError, match=r"^Can't reach (memory://closed: Forbidden \(403\)|ftp://.* refused)\.$"):
            call()
    monkeypatch.undo()
    with pytest.raises(KeyError), store._read("x"):  # what is done with a file is not the URL's fault
        raise KeyError


@pytest.mark.parametrize("renames", [True, False])
def test_files_are_replaced_as_a_whole_at_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: bool) -> None:
    from fsspec.implementations.local import LocalFileSystem

    move = LocalFileSystem.mv

    def move_to_nothing(self, source, target):
        if Path(target).exists():
            raise FileExistsError(target)
        move(self, source, target)

    def send_half(self, source, target, **_):
        Path(target).write_bytes(Path(source).read_bytes()[:3])
        raise TimeoutError

    if not renames:
        monkeypatch.setattr(LocalFileSystem, "mv", move_to_nothing)
    store = Store(f"file://{tmp_path}/new/folder")
    for value in ([1, 2, 3], [4, 5, 6]):
        store.write_json("index.json", value)
        assert store.read_json("index.json") == value and store.list_names() == {"index.json"}
    monkeypatch.setattr(LocalFileSystem, "put_file", send_half)
    with pytest.raises(GanvasError, match=r"^Can't reach file://.*: TimeoutError\.$"):
        store.write_json("index.json", [7])
    assert store.read_json("index.json") == [4, 5, 6] and store.list_names() == {"index.json"}
