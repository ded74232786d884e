"""Generators that are told a label: how they are sampled, labelled and named, and what the count report says of them."""

import json
from pathlib import Path

import pytest
import torch
from counted import JUDGE, SQUARES, labels

import ganvas
from ganvas import cli
from ganvas.bench.counts import conditional
from ganvas.bench.counts.conditional import compared, diversity, told_of
from ganvas.bench.counts.plan import Size
from ganvas.bench.counts.stage import Stage
from ganvas.cli import starting
from ganvas.distribution import fit_distribution
from ganvas.errors import GanvasError
from ganvas.generator import one_hot, round_labels, sample, w_of_seeds
from ganvas.generators import _stylegan2_layers as layers
from ganvas.generators import load_generator
from ganvas.generators.stylegan2 import save_generator
from ganvas.labelling import label
from ganvas.recipe_files import load_recipe
from ganvas.scorer import Scorer
from ganvas.training import gan

TINY = {"widths": (8, 8, 4), "critic_widths": (8, 8, 4), "z_dim": 8, "w_dim": 8, "batch": 4}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A conditional generator with random weights, of four counts from 1 on."""
    path = tmp_path_factory.mktemp("conditional") / "told.safetensors"
    shape = gan.Options(**TINY).shape(1, 4)
    state = layers.initial(shape, torch.Generator().manual_seed(0))
    save_generator(path, state, shape, training={"labels": [1, 2, 3, 4]})
    return path


@pytest.fixture(scope="module")
def generator(weights):
    return load_generator(str(weights))


class Brightness(Scorer):
    """The mean pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.attributes, self.kinds, self.fingerprint = "brightness", ("bright",), ("value",), "7" * 64

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None]


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, arguments)])
    return stop.value.code or 0


def test_without_labels_they_go_round_with_the_seeds(generator):
    seeds = [5, 6, 7, 8, 12]
    given = torch.eye(4)[[1, 2, 3, 0, 0]]
    torch.testing.assert_close(round_labels(generator, seeds), given, rtol=0, atol=0)
    torch.testing.assert_close(w_of_seeds(generator, seeds), w_of_seeds(generator, seeds, given), rtol=0, atol=0)
    # A seed is a face, however many are drawn.
    alone = torch.cat([sample(generator, 1, 0.7, seed) for seed in range(5, 9)])
    torch.testing.assert_close(sample(generator, 4, 0.7, 5), alone, rtol=0, atol=1e-6)
    assert not torch.allclose(sample(generator, 1, 1.0, 5), sample(generator, 1, 1.0, 5, torch.eye(4)[:1]))
    assert round_labels(SQUARES, seeds) is None


def test_a_label_that_there_is_not_is_one_line(generator):
    assert one_hot(generator, 2) == (0.0, 0.0, 1.0, 0.0)
    with pytest.raises(GanvasError, match="labels are 0 to 3"):
        one_hot(generator, 4)
    with pytest.raises(GanvasError, match="takes no labels"):
        one_hot(SQUARES, 0)


def test_it_is_labelled_and_its_distribution_is_known(generator, tmp_path):
    data = label(generator, Brightness(), 40, out=None)
    again = label(generator, Brightness(), 40, out=tmp_path)
    torch.testing.assert_close(again.codes, data.codes, rtol=0, atol=0)
    pictures = generator.synthesis(sample(generator, 40, 1.0, 1_000_000))
    torch.testing.assert_close(data.scores, Brightness()(pictures), rtol=1e-4, atol=1e-5)
    assert fit_distribution(generator, 100).generator == generator.fingerprint


def test_commands_know_labels(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(starting, "scorer_of", lambda *_: Brightness())
    assert run("info", weights) == 0
    told = capsys.readouterr().out
    assert "4 labels" in told and "--label 0 to 3 stand for counts of 1, 2, 3, 4" in told
    out = tmp_path / "faces"
    assert run("sample", weights, "--seeds", "0-3", "--label", "2", "--out", out) == 0
    recipe, _ = load_recipe(out / "seed0003.png")
    assert recipe.start.labels == (0.0, 0.0, 1.0, 0.0)
    assert run("render", out / "seed0003.png", "--generator", weights, "--out", tmp_path / "again.png") == 0
    assert (tmp_path / "again.png").read_bytes() == (out / "seed0003.png").read_bytes()
    assert run("sample", weights, "--seeds", "0-3", "--out", tmp_path / "round") == 0
    assert load_recipe(tmp_path / "round" / "seed0003.png")[0].start.labels is None
    same = [
        (tmp_path / "round" / f"seed000{k}.png").read_bytes() == (out / f"seed000{k}.png").read_bytes() for k in (2, 3)
    ]
    assert same == [False, False]
    assert run("edit", weights, "--seed", 2, "--label", 1, "--out", tmp_path / "one.png") == 0
    capsys.readouterr()
    assert run("edit", weights, "--seed", 2, "--label", 4, "--out", tmp_path / "no.png") == 1
    assert "has no label 4" in capsys.readouterr().err
    assert run("edit", "toy", "--label", 0, "--out", tmp_path / "no.png") == 1
    assert "takes no labels" in capsys.readouterr().err
    assert run("label", weights, "-n", 8, "--out", tmp_path / "labels") == 0
    assert json.loads((tmp_path / "labels" / "index.json").read_text())["n"] == 8


def test_training_says_what_labels_stand_for_and_finishing_keeps_it(tmp_path):
    one_hots = torch.eye(3)[torch.arange(12) % 3]
    pixels = torch.randint(0, 256, (12, 1, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = gan.Pictures(pixels, one_hots, (2, 3, 4))
    options = gan.Options(**TINY, condition="count", mapping_layers=2)
    path = gan.train(data, tmp_path / "run", options, gan.Schedule(4), gan.Watch(lambda line: None))
    assert told_of(path)[1] == (2, 3, 4)
    gan.finish(path, tmp_path / "small.safetensors", gan.samples)
    generator, counts = told_of(tmp_path / "small.safetensors")
    assert counts == (2, 3, 4) and generator.num_labels == 3


def stage(work, generator, size=16, **more) -> Stage:
    counter = ganvas.load_scorer("count")
    return Stage(generator, counter, labels(), None, work, Size(moves=size, **more), seed=7)


def test_the_report_asks_for_each_count_and_tells_of_every_way(weights, generator, tmp_path):
    plain = gan.Options(**TINY).shape(1, 0)
    free = gan.StyleGAN2(layers.initial(plain, torch.Generator().manual_seed(1)), plain)
    asked = []

    def move(ws, change):
        asked.append(change)
        return ws

    section = compared(stage(tmp_path, free), *told_of(weights), move)
    assert len(asked) == 4 and all(len(change) == 4 for change in asked)
    ways = section.data["ways"]
    assert list(ways) == ["told the count", "drawn, counted, moved", "drawn"]
    # A move that does nothing is drawing alone.
    for k in (1, 2, 3, 4):
        assert ways["drawn"]["counts"][k]["right"] == ways["drawn, counted, moved"]["counts"][k]["right"]
    assert [len(table.rows) for table in section.tables] == [12, 4]
    assert all(len(row) == len(table.head) for table in section.tables for row in table.rows)
    assert section.data["digit_distance"] == dict.fromkeys([*ways, "real"])


def test_what_is_told_is_the_count_that_is_asked_for(generator, weights, tmp_path, monkeypatch):
    seen = []

    def watched(generator, n, psi, seed, labels=None):
        seen.append(labels)
        return sample(generator, n, psi, seed, labels)

    monkeypatch.setattr(conditional, "sample", watched)
    compared(stage(tmp_path, SQUARES), generator, (2, 1, 4, 3), lambda ws, change: ws)
    told = [labels.argmax(1).unique().tolist() for labels in seen if labels is not None]
    assert told == [[0], [1], [2], [3]]


def test_diversity_is_the_mean_distance_of_pairs():
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]])
    assert diversity(points) == pytest.approx((5 + 8 + 5) / 3)
    assert diversity(points[:1]) != diversity(points[:1])


def test_what_is_missing_or_no_conditional_generator_is_one_line(tmp_path):
    with pytest.raises(GanvasError, match="train-gan MULTIMNIST --out RUN.*--condition count") as caught:
        conditional.run(stage(tmp_path, SQUARES))
    assert "\n" not in str(caught.value)
    shape = gan.Options(**TINY).shape(1, 0)
    save_generator(tmp_path / "free.safetensors", layers.initial(shape, torch.Generator().manual_seed(0)), shape)
    with pytest.raises(GanvasError, match="isn't conditional"):
        told_of(tmp_path / "free.safetensors")
    assert JUDGE.attributes[0] == "count"
