"""Labels as files: packs, and what damaged or foreign ones get."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ganvas.data import label_files
from ganvas.data.codes import save_codes
from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.data.label import LabelRun, label
from ganvas.data.label_files import (
    find_labels,
    find_shipped_labels,
    join_labels,
    list_labels,
    load_labels,
    pack_labels,
)
from ganvas.errors import GanvasError
from ganvas.generators.toy import Toy
from ganvas.io.files import load_tensors, read_json, save_tensors, write_json
from ganvas.recipe.files import check_output
from ganvas.scorers.toy import ToyScorer

N = 600


@pytest.fixture(scope="module")
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="module")
def data(toy: Toy) -> LatentDataset:
    return label(toy, ToyScorer(), N, psi=0.9, seed=77)


def stranger(toy: Toy) -> Toy:
    other = Toy("stranger")
    other.fingerprint = "0123456789abcdef"
    return other


@pytest.mark.parametrize("bits", [8, 16])
def test_a_pack_gives_back_codes_exactly_and_scores_nearly(toy, data, tmp_path: Path, bits: int) -> None:
    stored = pack_labels(data, tmp_path / "p.safetensors", bits=bits)
    found = load_labels(tmp_path / "p.safetensors", toy)
    assert torch.equal(found.codes, data.codes)
    same = ("attributes", "kinds", "source", "generator", "scorer")
    assert all(getattr(found, key) == getattr(data, key) for key in same)
    error = (found.scores - data.scores).double().abs()
    assert error.max().item() == stored.largest
    assert error.square().mean().sqrt().item() == pytest.approx(stored.rms)
    assert error.max() < {8: 0.3, 16: 3e-4}[bits]
    assert (found.normals() - data.normals()).square().mean(0).sqrt().max() < {8: 0.015, 16: 1e-3}[bits]
    _, about = load_tensors(tmp_path / "p.safetensors")
    assert about["error"] == {"max": stored.largest, "rms": stored.rms}
    assert f"{bits} bits a score" in str(stored)


def test_even_logits_of_sixteen_bits_have_the_least_largest_error(data, tmp_path: Path) -> None:
    stored = pack_labels(data, tmp_path / "p.safetensors")
    span = (data.scores.max(0).values - data.scores.min(0).values).max().item()
    assert stored.largest <= span / 65535 / 2 + 2e-6


def test_labels_that_follow_a_pack_are_those_of_one_run(toy, tmp_path: Path) -> None:
    scorer, pack, folder = ToyScorer(), tmp_path / "first.safetensors", tmp_path / "more"
    whole, first = (label(toy, scorer, n, psi=0.9, seed=77) for n in (700, 512))
    pack_labels(first, pack, bits=16, generator=toy.name)
    run = LabelRun(toy, scorer, 700, 0.9, out=folder).follow(pack)
    assert (run.n, run.seed) == (188, 77 + 512)
    run.make_missing()
    joined = join_labels(load_labels(pack, toy), load_labels(folder, toy))
    assert torch.equal(joined.codes, whole.codes) and joined.source == whole.source
    torch.testing.assert_close(joined.scores, whole.scores, atol=3e-4, rtol=0)
    pack_labels(joined, tmp_path / "both.safetensors", generator=toy.name)
    assert torch.equal(load_labels(tmp_path / "both.safetensors", toy).codes, whole.codes)


@pytest.mark.parametrize(
    ("n", "change", "says"),
    [
        (512, {"n": 512}, "has 512 labels already"),
        (512, {"psi": 0.5}, "another psi: 0.9, not 0.5"),
        (512, {"shard_size": 64}, "another size of shards: 256, not 64"),
        (300, {}, "300 labels, no whole number of shards of 256"),
    ],
)
def test_labels_that_cannot_follow_are_refused(toy, tmp_path: Path, n, change, says) -> None:
    pack = tmp_path / "first.safetensors"
    pack_labels(label(toy, ToyScorer(), n, psi=0.9, seed=77), pack, generator=toy.name)
    with pytest.raises(GanvasError, match=says):
        replace(LabelRun(toy, ToyScorer(), 700, 0.9), **change).follow(pack)


def test_a_folder_says_more_of_how_its_labels_were_made(toy, tmp_path: Path) -> None:
    label(toy, ToyScorer(), 512, psi=0.9, seed=77, out=tmp_path / "first")
    assert LabelRun(toy, ToyScorer(), 700, 0.9).follow(tmp_path / "first").n == 188
    index = read_json(tmp_path / "first" / "index.json")
    write_json(tmp_path / "first" / "index.json", {**index, "dtype": "bfloat16"})
    with pytest.raises(GanvasError, match="another dtype: bfloat16, not float32"):
        LabelRun(toy, ToyScorer(), 700, 0.9).follow(tmp_path / "first")


def test_labels_that_do_not_follow_are_not_joined(toy, data) -> None:
    with pytest.raises(GanvasError, match="don't follow"):
        join_labels(data, label(toy, ToyScorer(), 20, psi=0.9, seed=5))
    with pytest.raises(GanvasError, match="of one generator, scorer, psi"):
        join_labels(data, label(toy, ToyScorer(), 20, psi=0.8, seed=77 + N))


@pytest.mark.parametrize(("bits", "faces"), [(16, 30_000), (8, 200_000)])
def test_packs_fit_nine_megabytes(bits: int, faces: int, tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    made = 20_000
    scores = torch.randn(made, 40, generator=random).mul(0.8).exp()
    names = tuple(map(str, range(40)))
    data = make_dataset(torch.randn(made, 2, generator=random), scores, names, ("value",) * 40, Source(), "g", "s:0")
    pack_labels(data, tmp_path / "p.safetensors", bits=bits)
    more = (faces - made) * 40 * bits // 8
    assert (tmp_path / "p.safetensors").stat().st_size + more <= 9e6


@pytest.mark.parametrize("bits", [8, 16])
def test_counts_are_kept(toy, data, tmp_path: Path, bits: int) -> None:
    counts = data.scores.round()
    counted = make_dataset(data.codes, counts, data.attributes, ("count",) * 5, data.source, toy.fingerprint, "s:0")
    pack_labels(counted, tmp_path / "p.safetensors", bits=bits)
    assert (load_labels(tmp_path / "p.safetensors", toy).scores - counts).abs().max() < 1e-4


def test_equal_labels_equal_bytes(data, tmp_path: Path) -> None:
    for name in "ab":
        pack_labels(data, tmp_path / name, bits=8)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_first_codes_do_not_depend_on_how_many_follow(toy, data) -> None:
    few = label(toy, ToyScorer(), 300, psi=0.9, seed=77)
    assert torch.equal(few.codes, data.codes[:300])
    assert torch.allclose(few.scores, data.scores[:300], atol=1e-4)  # the last batch that is scored is smaller


def test_attributes_are_selected_before_anything_is_fitted(toy, data, tmp_path: Path) -> None:
    pack_labels(data, tmp_path / "p.safetensors")
    tensors, about = load_tensors(tmp_path / "p.safetensors")
    tensors["table"][1, 0] = tensors["table"][0, 0]
    save_tensors(tmp_path / "flat.safetensors", tensors, about)
    with pytest.raises(GanvasError, match="'Bright' has the same score everywhere"):
        load_labels(tmp_path / "flat.safetensors", toy)
    assert load_labels(tmp_path / "flat.safetensors", toy, attributes=["Big"]).attributes == ("Big",)
    with pytest.raises(GanvasError, match="Unknown attribute 'smle'"):
        load_labels(tmp_path / "p.safetensors", toy, attributes=["smle"])


def test_labels_over_a_codes_file(toy, data, tmp_path: Path) -> None:
    ws = toy.expand(data.codes[:50]) + torch.randn(50, 4, 64, generator=torch.Generator().manual_seed(0))
    save_codes(tmp_path / "c.safetensors", ws, toy)
    from ganvas.data.codes import load_codes

    source = Source(None, 1.0, load_codes(tmp_path / "c.safetensors", toy).sha256)
    scores = ToyScorer()(toy.synthesis(ws))
    over = make_dataset(ws, scores, data.attributes, data.kinds, source, toy.fingerprint, data.scorer)
    pack_labels(over, tmp_path / "p.safetensors")
    found = load_labels(tmp_path / "p.safetensors", toy, codes=tmp_path / "c.safetensors")
    assert found.space == "w+"
    assert torch.equal(found.codes, ws)
    assert found.source.codes == source.codes
    with pytest.raises(GanvasError, match="labels a codes file"):
        load_labels(tmp_path / "p.safetensors", toy)
    save_codes(tmp_path / "other.safetensors", ws + 1, toy)
    with pytest.raises(GanvasError, match=r"not .*other\.safetensors"):
        load_labels(tmp_path / "p.safetensors", toy, codes=tmp_path / "other.safetensors")
    pack_labels(data, tmp_path / "seeds.safetensors")
    with pytest.raises(GanvasError, match="takes no codes file"):
        load_labels(tmp_path / "seeds.safetensors", toy, codes=tmp_path / "c.safetensors")


def test_another_generator_is_named(toy, data, tmp_path: Path) -> None:
    pack_labels(data, tmp_path / "p.safetensors", generator=toy.name)
    with pytest.raises(GanvasError, match=rf"'toy' \({toy.fingerprint[:12]}\), not for 'stranger' \(0123456789ab\)"):
        load_labels(tmp_path / "p.safetensors", stranger(toy))


@pytest.mark.parametrize("bits", [0, 7, 32])
def test_impossible_bits_write_nothing(data, tmp_path: Path, bits: int) -> None:
    with pytest.raises(GanvasError, match=f"8 or 16, not {bits}"):
        pack_labels(data, tmp_path / "p.safetensors", bits=bits)
    assert not list(tmp_path.iterdir())


def test_selected_rows_cannot_be_packed(data, tmp_path: Path) -> None:
    with pytest.raises(GanvasError, match="can't be packed"):
        pack_labels(data.subset(torch.tensor([3, 4])), tmp_path / "p.safetensors")
    pack_labels(data.subset(torch.arange(300)), tmp_path / "p.safetensors")


def damage(path: Path, change: dict, tensors: dict | None = None) -> None:
    found, about = load_tensors(path)
    save_tensors(path, found | (tensors or {}), {k: v for k, v in (about | change).items() if v != "gone"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "gone"}, "isn't a label pack"),
        ({"version": 7}, "version 7 of labels: this version of ganvas reads 1"),
        ({"n": N + 1}, "aren't 601 × 5"),
        ({"n": 0}, "n must be a whole number of at least 1"),
        ({"n": True}, "n must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": 2**32 - 5}, "no 600 seeds"),
        ({"psi": "1"}, "psi must be a finite number"),
        ({"psi": 10**400}, "psi must be a finite number"),
        ({"shard": 0}, "shard must be a whole number of at least 1"),
        ({"codes": 5}, "codes must be a text"),
        ({"generator": "toy"}, "generator must be an object"),
        ({"scorer": "gone"}, "scorer is missing"),
        ({"attributes": []}, "attributes must have at least 1"),
        ({"attributes": ["a", "a", "b", "c", "d"]}, "must differ"),
        ({"kinds": ["value"]}, "one kind each"),
        ({"kinds": ["colour"] * 5}, r"Unknown kinds\[0\] .colour."),
    ],
)
def test_a_damaged_description(toy, data, tmp_path: Path, change: dict, message: str) -> None:
    pack_labels(data, tmp_path / "p.safetensors")
    damage(tmp_path / "p.safetensors", change)
    with pytest.raises(GanvasError, match=message):
        load_labels(tmp_path / "p.safetensors", toy)


@pytest.mark.parametrize(
    "tensors",
    [
        {"scores": torch.zeros(N, 5)},
        {"scores": torch.zeros(N, 4, dtype=torch.uint8)},
        {"scores": torch.zeros(N, dtype=torch.uint8)},
        {"table": torch.zeros(1, 5)},
        {"table": torch.zeros(2, 4)},
        {"table": torch.zeros(5)},
    ],
)
def test_damaged_tensors(toy, data, tmp_path: Path, tensors: dict) -> None:
    pack_labels(data, tmp_path / "p.safetensors")
    damage(tmp_path / "p.safetensors", {}, tensors)
    with pytest.raises(GanvasError, match="damaged"):
        load_labels(tmp_path / "p.safetensors", toy)


def test_files_that_are_no_labels(toy, data, tmp_path: Path) -> None:
    pack_labels(data, tmp_path / "p.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "p.safetensors").read_bytes()[:-100])
    save_tensors(tmp_path / "foreign.safetensors", {"scores": data.scores}, {})
    (tmp_path / "text").write_text("no")
    (tmp_path / "empty").mkdir()
    cases = {
        "cut.safetensors": "isn't a whole safetensors file",
        "foreign.safetensors": "isn't a label pack",
        "text": "isn't a whole safetensors file",
        "nowhere": "There are no labels",
        "empty": "isn't a label folder",
    }
    for name, message in cases.items():
        with pytest.raises(GanvasError, match=message):
            load_labels(tmp_path / name, toy)


def test_a_folder_that_is_not_finished(toy, tmp_path: Path) -> None:
    label(toy, ToyScorer(), 40, out=tmp_path, shard_size=16)
    (tmp_path / "scores-00001.safetensors").rename(tmp_path / "kept")
    with pytest.raises(GanvasError, match=r"isn't finished: scores-00001\.safetensors is missing"):
        load_labels(tmp_path, toy)
    (tmp_path / "kept").rename(tmp_path / "scores-00001.safetensors")
    write_json(tmp_path / "index.json", read_json(tmp_path / "index.json") | {"n": 49})
    with pytest.raises(GanvasError, match=r"isn't finished: scores-00002"):
        load_labels(tmp_path, toy)
    with pytest.raises(GanvasError, match="not for 'stranger'"):
        load_labels(tmp_path, stranger(toy))


def test_labels_that_ship_go_by_name_and_are_never_written_over(tmp_path):
    assert {"ffhq-celeba40", "multimnist-count"} <= set(list_labels())
    assert find_labels("ffhq-celeba40") == find_shipped_labels("ffhq", "celeba40")
    with pytest.raises(GanvasError, match="one of ffhq-celeba40"):
        find_labels("absent")
    with pytest.raises(GanvasError, match="isn't a label folder"):
        find_labels(tmp_path)
    pack = tmp_path / "pack.safetensors"
    pack.write_bytes(b"labels")
    with pytest.raises(GanvasError, match="would be overwritten"):
        check_output(pack, (".safetensors",), [tmp_path / "." / "pack.safetensors"])
    assert pack.read_bytes() == b"labels"


def test_a_flipped_bit_in_a_folder_is_noticed(toy, tmp_path: Path) -> None:
    label(toy, ToyScorer(), 40, out=tmp_path, shard_size=16)
    path = tmp_path / "scores-00001.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-9] ^= 1
    path.write_bytes(whole)
    with pytest.raises(GanvasError, match=r"isn't finished: scores-00001\.safetensors is damaged"):
        load_labels(tmp_path, toy)
    label(toy, ToyScorer(), 40, out=tmp_path, shard_size=16)
    other = tmp_path / "scores-00000.safetensors"
    path.write_bytes(other.read_bytes())  # of other seeds
    with pytest.raises(GanvasError, match=r"scores-00001\.safetensors is damaged or has other codes"):
        load_labels(tmp_path, toy)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_stored_scores_lie_linearly_between_the_entries_of_their_table(dtype: torch.dtype) -> None:
    most = torch.iinfo(dtype).max
    stored = torch.tensor([[0, most], [most // 2, 1], [most // 7, most - 1], [most, 0], [most // 3, most // 2 + 1]]).to(
        dtype
    )
    table = torch.tensor([[-3.0, 0.0], [-1.0, 5.0], [4.0, 6.0], [4.5, 60.0]])
    entries = np.linspace(0, most, len(table))
    expected = [np.interp(stored[:, k].int().numpy(), entries, table[:, k].numpy()) for k in range(2)]
    found = label_files._decode(stored, table)
    torch.testing.assert_close(found, torch.from_numpy(np.stack(expected, 1)).float(), rtol=1e-5, atol=1e-5)
