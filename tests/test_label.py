"""label(): shards, kills, and what disagrees."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest
import torch

from ganvas import progress
from ganvas.data import label as data_label
from ganvas.data.dataset import LatentDataset
from ganvas.data.label import LabelRun, label
from ganvas.data.label_files import load_labels
from ganvas.errors import GanvasError
from ganvas.generators.base import sample
from ganvas.generators.toy import Toy
from ganvas.io.files import load_tensors, read_json, save_tensors
from ganvas.io.images import decode_jpeg, from_bytes
from ganvas.scorers.toy import ToyScorer

N, SHARD = 100, 16
SHARDS = 7


class Counting(Toy):
    """Counts the faces that it renders."""

    rendered = 0

    def synthesis(self, ws):
        self.rendered += len(ws)
        assert len(ws) == 1
        return super().synthesis(ws)


class Half(ToyScorer):
    """Another scorer of the same attributes."""

    def __init__(self) -> None:
        super().__init__("half")
        self.fingerprint = "f" * 64

    def forward(self, images):
        return super().forward(images) / 2


def run(folder: Path, n: int = N, **options) -> LatentDataset:
    options = {"generator": Toy(), "scorer": ToyScorer()} | options
    return label(n=n, out=folder, shard_size=SHARD, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same(one: LatentDataset, other: LatentDataset) -> bool:
    return torch.equal(one.codes, other.codes) and torch.equal(one.scores, other.scores) and one.source == other.source


def test_labels_are_the_scores_of_the_pictures_of_the_codes() -> None:
    toy, scorer = Toy(), ToyScorer()
    data = label(toy, scorer, 70, psi=0.8, seed=5)
    assert torch.allclose(data.codes, sample(toy, 70, 0.8, 5)[:, 0], atol=1e-5)
    assert torch.allclose(scorer(toy.synthesis(toy.expand(data.codes))), data.scores, atol=1e-4)
    assert (data.source.seed, data.source.psi, data.generator) == (5, 0.8, toy.fingerprint)
    assert data.scorer == f"toy:{scorer.fingerprint}"


def test_pictures_are_rendered_one_by_one_on_a_cpu_and_in_batches_elsewhere(monkeypatch, tmp_path) -> None:
    assert data_label.render_batch(torch.device("cpu")) == 1
    assert data_label.render_batch(torch.device("cuda", 1)) == data_label.render_batch(torch.device("mps")) == 32
    alone = label(Toy(), ToyScorer(), N)
    sizes = []
    drawn = Toy.synthesis
    monkeypatch.setattr(Toy, "synthesis", lambda self, ws: sizes.append(len(ws)) or drawn(self, ws))
    monkeypatch.setattr(data_label, "render_batch", lambda device: 32)
    for out, keep in ((None, False), (tmp_path / "scores", False), (tmp_path / "both", True)):
        sizes.clear()
        together = label(Toy(), ToyScorer(), N, out=out, keep_images=keep, shard_size=40)
        assert sizes == [32, 8, 32, 8, 20]
        assert torch.equal(together.codes, alone.codes)
        if not keep:  # JPEG's losses aside
            torch.testing.assert_close(together.scores, alone.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("keep", [False, True])
def test_a_folder_is_read_back_as_it_was_labelled(tmp_path: Path, keep: bool) -> None:
    made = run(tmp_path, keep_images=keep)
    assert same(made, load_labels(tmp_path, Toy()))
    names = {f"scores-{k:05d}.safetensors" for k in range(SHARDS)} | {"index.json"}
    assert set(contents(tmp_path)) == names | (
        {f"images-{k:05d}.safetensors" for k in range(SHARDS)} if keep else set()
    )
    if not keep:
        assert torch.allclose(made.scores, label(Toy(), ToyScorer(), N).scores, atol=1e-4)


def test_the_index_says_everything(tmp_path: Path) -> None:
    run(tmp_path, psi=0.5, seed=3, keep_images=True)
    toy, scorer = Toy(), ToyScorer()
    assert read_json(tmp_path / "index.json") == {
        "version": 1,
        "n": N,
        "seed": 3,
        "psi": 0.5,
        "codes": None,
        "shard": SHARD,
        "generator": {"name": "toy", "fingerprint": toy.fingerprint},
        "scorer": {"name": "toy", "fingerprint": scorer.fingerprint},
        "attributes": list(scorer.attributes),
        "kinds": list(scorer.kinds),
        "dtype": "float32",
        "keep_images": True,
    }


def test_what_is_scored_is_the_kept_picture_decoded(tmp_path: Path) -> None:
    data = run(tmp_path, keep_images=True)
    tensors, about = load_tensors(tmp_path / "images-00001.safetensors")
    assert about["seed"] == 1_000_000 + SHARD
    files = tensors["jpeg"].split(tensors["sizes"].tolist())
    pictures = torch.stack([decode_jpeg(file.numpy().tobytes()) for file in files])
    assert pictures.shape == (SHARD, 32, 32, 3)
    assert torch.equal(ToyScorer()(from_bytes(pictures)), data.scores[SHARD : 2 * SHARD])


def test_large_pictures_are_kept_at_256_pixels(tmp_path: Path) -> None:
    class Large(Toy):
        def synthesis(self, ws):
            return torch.nn.functional.interpolate(super().synthesis(ws), scale_factor=16)

    large = Large()
    large.resolution = 512
    label(large, ToyScorer(), 3, out=tmp_path, keep_images=True)
    tensors, _ = load_tensors(tmp_path / "images-00000.safetensors")
    assert decode_jpeg(tensors["jpeg"][: tensors["sizes"][0]].numpy().tobytes()).shape == (256, 256, 3)


def start(folder: Path) -> None:
    """What the process to be killed runs, with pictures, in slow motion."""

    class Slow(Toy):
        def synthesis(self, ws):
            time.sleep(0.005)
            return super().synthesis(ws)

    run(folder, keep_images=True, generator=Slow())


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ganvas.data.label", "ganvas.generators.toy", "ganvas.scorers.toy"])
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    process = context.Process(target=start, args=(alone,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    rng, kills = random.Random(0), 0
    for kill in range(5):
        process = context.Process(target=start, args=(killed,))
        process.start()
        # Right after a file appears, or somewhere in what follows.
        files = len(list(killed.glob("*"))) if killed.exists() else 0
        while process.is_alive() and len(list(killed.glob("*"))) <= files:
            time.sleep(0.0005)
        time.sleep(rng.random() * 0.03 * (kill % 2))
        process.kill()
        process.join(60)
        kills += process.exitcode == -9
    assert kills >= 3
    assert contents(killed) != contents(alone)
    # As a kill in the middle of a write leaves it.
    for name in ("scores-00001", "images-00003"):
        (killed / f".{name}.safetensors.abc.safetensors").write_bytes(b"half")
    process = context.Process(target=start, args=(killed,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert contents(killed) == contents(alone)


def test_a_second_run_renders_nothing(tmp_path: Path) -> None:
    first = run(tmp_path, keep_images=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    generator = Counting()
    assert same(first, run(tmp_path, keep_images=True, generator=generator))
    assert generator.rendered == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}


@pytest.mark.parametrize("keep", [False, True])
def test_more_and_fewer_faces(tmp_path: Path, keep: bool) -> None:
    alone, grown = tmp_path / "alone", tmp_path / "grown"
    most = run(alone, N, keep_images=keep)
    run(grown, 40, keep_images=keep)
    generator = Counting()
    assert same(most, run(grown, N, keep_images=keep, generator=generator))
    assert generator.rendered == N - 32  # the shard that was not full is made again
    assert contents(grown) == contents(alone)
    generator = Counting()
    assert torch.equal(run(grown, 40, keep_images=keep, generator=generator).scores, most.scores[:40])
    assert read_json(grown / "index.json")["n"] == 40
    assert same(most, run(grown, N, keep_images=keep, generator=generator))
    assert generator.rendered == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.write_bytes(b""), Path.unlink])
@pytest.mark.parametrize("name", ["scores-00002.safetensors", "images-00002.safetensors"])
def test_a_damaged_shard_is_made_again(tmp_path: Path, damage, name: str) -> None:
    run(tmp_path, keep_images=True)
    whole = contents(tmp_path)
    damage(tmp_path / name)
    generator = Counting()
    run(tmp_path, keep_images=True, generator=generator)
    assert contents(tmp_path) == whole
    assert generator.rendered == (SHARD if name.startswith("images") else 0)


def test_another_scorer_only_scores_anew_where_pictures_are_kept(tmp_path: Path) -> None:
    generator = Counting()
    first = run(tmp_path / "kept", keep_images=True, generator=generator)
    images = {name: data for name, data in contents(tmp_path / "kept").items() if name.startswith("images")}
    again = run(tmp_path / "kept", scorer=Half(), generator=generator)
    assert generator.rendered == N
    assert torch.equal(again.scores, first.scores / 2)
    assert again.scorer == "half:" + "f" * 64
    assert read_json(tmp_path / "kept" / "index.json")["scorer"]["name"] == "half"
    assert images.items() <= contents(tmp_path / "kept").items()
    # The folder is as if the new scorer had been there from the start.
    run(tmp_path / "fresh", keep_images=True, scorer=Half())
    assert contents(tmp_path / "fresh") == contents(tmp_path / "kept")


def test_pictures_without_an_index_are_taken_up(tmp_path: Path) -> None:
    run(tmp_path, keep_images=True)
    whole = contents(tmp_path)
    (tmp_path / "index.json").unlink()
    for k in range(SHARDS):
        (tmp_path / f"scores-{k:05d}.safetensors").unlink()
    generator = Counting()
    run(tmp_path, keep_images=True, generator=generator)
    assert generator.rendered == 0
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("foreign", [False, True])
def test_other_pictures_are_neither_trusted_nor_overwritten(tmp_path: Path, foreign: bool) -> None:
    run(tmp_path, keep_images=True, psi=0.5)
    (tmp_path / "index.json").unlink()
    path = tmp_path / "images-00000.safetensors"
    if foreign:
        save_tensors(path, load_tensors(path)[0], {})
    before = path.read_bytes()
    with pytest.raises(GanvasError, match="kind is None, not images" if foreign else r"psi is 0\.5, not 1\.0"):
        run(tmp_path, keep_images=True)
    assert path.read_bytes() == before


def renamed(fingerprint: str) -> Toy:
    toy = Toy("other")
    toy.fingerprint = fingerprint
    return toy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"psi": 0.7}, r"psi is 1\.0, not 0\.7"),
        ({"seed": 5}, "seed is 1000000, not 5"),
        ({"scorer": Half()}, r"scorer is toy \(\w{12}\), not half \(ffffffffffff\)"),
        ({"generator": renamed("e" * 64)}, r"generator is toy \(\w{12}\), not other \(eeeeeeeeeeee\)"),
        ({"generator": Toy(dtype=torch.bfloat16)}, "dtype is float32, not bfloat16"),
        ({"keep_images": True}, "keep_images is False, not True"),
    ],
)
def test_a_folder_of_other_labels_is_left_alone(tmp_path: Path, change: dict, message: str) -> None:
    run(tmp_path, 20)
    before = contents(tmp_path)
    with pytest.raises(GanvasError, match=message + ": use another folder"):
        run(tmp_path, 20, **change)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("change", [{"psi": 0.7}, {"scorer": Half()}, {"keep_images": True}])
def test_making_what_is_missing_leaves_other_labels_alone_too(tmp_path: Path, change: dict) -> None:
    """Whoever calls ``make_missing`` without ``resume``."""
    run(tmp_path, 20)
    before = contents(tmp_path)
    options = {"generator": Toy(), "scorer": ToyScorer(), "n": 20, "out": tmp_path, "shard_size": SHARD} | change
    with pytest.raises(GanvasError, match="use another folder"):
        LabelRun(**options).make_missing()
    assert contents(tmp_path) == before


def test_making_what_is_missing_goes_on_with_pictures_where_there_are_some(tmp_path: Path) -> None:
    run(tmp_path / "alone", keep_images=True)
    run(tmp_path / "grown", 40, keep_images=True)
    LabelRun(Toy(), ToyScorer(), N, out=tmp_path / "grown", shard_size=SHARD).make_missing()
    assert contents(tmp_path / "grown") == contents(tmp_path / "alone")


def test_an_estimate_draws_no_pictures_that_are_kept(tmp_path: Path) -> None:
    run(tmp_path, 40, keep_images=True)
    generator, out = Counting(), tmp_path
    rescoring = LabelRun(generator, Half(), 40, out=out, shard_size=SHARD).resume()
    estimate = rescoring.estimate(rescoring.find_missing())
    assert generator.rendered == 0
    assert (estimate.shards, estimate.pictures) == (3, 40) and estimate.hours > 0
    row, header = 4 * len(ToyScorer().attributes), data_label.HEADER_BYTES
    assert estimate.bytes == 40 * row + 3 * header, "scores alone"
    rescoring.make_missing()
    # Further pictures are drawn, and count as such; the third shard isn't full.
    growing = LabelRun(generator, ToyScorer(), N, out=out, shard_size=SHARD).resume()
    both = growing.estimate(growing.find_missing())
    assert generator.rendered == 2 * SHARD
    assert (both.shards, both.pictures) == (SHARDS, N)
    growing.make_missing()
    written = sum((out / f"images-{k:05d}.safetensors").stat().st_size for k in range(2, SHARDS))
    assert both.bytes - N * row - SHARDS * header == pytest.approx(written, rel=0.3)


def test_an_estimate_maps_the_codes_of_few_pictures_alone(tmp_path: Path) -> None:
    class Mapping(Toy):
        mapped = 0

        def mapping(self, z, labels=None):
            self.mapped += len(z)
            return super().mapping(z, labels)

    generator = Mapping()
    large = LabelRun(generator, ToyScorer(), 5000, out=tmp_path, shard_size=4096)
    before = generator.mapped
    large.estimate(large.find_missing())
    assert generator.mapped - before <= 2 * data_label.BATCH_SIZE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "at least 1, not 0"),
        ({"n": -5}, "at least 1, not -5"),
        ({"n": 5, "psi": float("nan")}, "psi must be a number between -1,000,000 and 1,000,000, .* not nan"),
        ({"n": 5, "psi": 2e6}, r"psi must be a number between .* not 2000000\.0"),
        ({"n": 5, "condition": 1}, "has no label 1"),
        ({"n": 5, "seed": -1}, "Seeds must be from 0 to 4294967295"),
        ({"n": 5, "seed": 2**32 - 4}, "Seeds must be from 0 to 4294967295"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(GanvasError, match=message):
        run(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_workers_are_neither_ignored_with_a_folder_nor_without(tmp_path: Path) -> None:
    for out in (None, tmp_path / "out"):
        with pytest.raises(GanvasError, match="The engine 'local' is one worker, not 4: take 'processes' or 'ray'"):
            label(Toy(), ToyScorer(), 5, out=out, workers=4)
        with pytest.raises(GanvasError, match="number of workers must be at least 1, not 0"):
            label(Toy(), ToyScorer(), 5, out=out, workers=0)
        with pytest.raises(GanvasError, match="number of threads must be at least 1, not 0"):
            label(Toy(), ToyScorer(), 5, out=out, threads=0)
    assert len(label(Toy(), ToyScorer(), 5, workers=1)) == 5


def test_the_last_seeds_can_be_labelled() -> None:
    assert len(label(Toy(), ToyScorer(), 10, seed=2**32 - 10)) == 10


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(GanvasError, match="Can't write"):
            run(folder)
    with pytest.raises(GanvasError, match=r"needs a folder"):
        label(Toy(), ToyScorer(), 5, keep_images=True)


def test_a_damaged_index_is_said(tmp_path: Path) -> None:
    run(tmp_path, 20)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(GanvasError, match=r"index\.json isn't JSON"):
        run(tmp_path, 20)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(GanvasError, match="isn't a label file"):
        run(tmp_path, 20)


def test_scores_that_are_not_finite_are_said(tmp_path: Path) -> None:
    class Broken(ToyScorer):
        def forward(self, images):
            return super().forward(images) * float("nan")

    with pytest.raises(GanvasError, match="Scorer 'toy' gave scores that aren't finite"):
        run(tmp_path, scorer=Broken())
    assert set(contents(tmp_path)) == {"index.json"}


def test_progress_shows_only_when_asked(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_SECONDS", 0.0)
    run(tmp_path / "a", 20)
    assert capsys.readouterr() == ("", "")
    with progress.show_count("Faces") as callback:
        run(tmp_path / "b", 20, progress=callback)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Faces: ") and " of 20, " in shown.err
    assert "a second" in shown.err


def test_early_pictures_are_other_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(data_label, "EARLY_SIDE", 16)
    sizes = []

    class Early(Toy):
        def synthesis(self, ws, resolution=None):
            sizes.append(resolution)
            return super().synthesis(ws, resolution)

    whole = label(Early("toy"), ToyScorer(), 20, out=tmp_path / "whole", shard_size=SHARD)
    assert set(sizes) == {None}
    sizes.clear()
    early = label(Early("toy"), ToyScorer(), 20, out=tmp_path / "early", shard_size=SHARD, early=True)
    assert set(sizes) == {16}
    assert not torch.equal(whole.scores, early.scores)
    assert torch.equal(whole.codes, early.codes)
    for folder, wrong in (("whole", True), ("early", False)):
        with pytest.raises(GanvasError, match="early"):
            label(Early("toy"), ToyScorer(), 20, out=tmp_path / folder, shard_size=SHARD, early=wrong)
    assert torch.equal(load_labels(tmp_path / "early", Toy("toy")).scores, early.scores)
