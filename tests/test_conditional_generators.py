"""Generators that are told a label: how they are sampled, labelled and named, and what the count report says of them."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from fitted_editors import SCORER, compact
from planted_counts import JUDGE, SQUARES, labels
from pyarrow import parquet

import ganvas
from experiments.multimnist import conditional_gan
from experiments.multimnist.conditional_gan import compare_generators, load_conditional, measure_diversity
from experiments.multimnist.config import CountReportConfig
from experiments.multimnist.context import CountContext
from ganvas import cli
from ganvas.balance.generated import balance
from ganvas.balance.sets import BalanceRequest
from ganvas.checkpoints.load import load_generator
from ganvas.cli import loading
from ganvas.control.conditions import parse_condition
from ganvas.control.sampling import sample_where
from ganvas.data.distribution import fit_distribution
from ganvas.data.label import label
from ganvas.data.label_files import load_labels, pack_labels
from ganvas.errors import GanvasError
from ganvas.generators.base import assign_labels, encode_label, map_seeds, sample
from ganvas.generators.stylegan2 import layers, save_generator
from ganvas.generators.toy import Toy
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import FromConditions, NamedTool, Recipe, from_json, to_json
from ganvas.recipe.rendering import Tools, compute_code
from ganvas.scorers.base import Scorer
from ganvas.training.gan import loop, outputs

TINY = {"widths": (8, 8, 4), "discriminator_widths": (8, 8, 4), "z_dim": 8, "w_dim": 8, "batch": 4}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A conditional generator with random weights, of four counts from 1 on."""
    path = tmp_path_factory.mktemp("conditional") / "told.safetensors"
    shape = loop.GanConfig(**TINY).build_generator_architecture(1, 4)
    state = layers.initialize_weights(shape, torch.Generator().manual_seed(0))
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


class Classes(Toy):
    """The toy with three labels: each is a place along a direction that no attribute has, and the third makes Bright."""

    num_labels = 3

    def __init__(self):
        super().__init__()
        self.aside = torch.nn.functional.normalize(self.get_buffer("mix")[:, -1], dim=0)

    def mapping(self, z, labels=None):
        assert labels is not None and labels.shape == (len(z), 3)
        place = labels.argmax(1)[:, None] - 1.0
        return super().mapping(z) + place * (4 * self.aside + self.planted["Bright"])

    def labels_of(self, ws):
        """The label that each code is of, by its place."""
        return (((ws.mean(1) - self.w_avg) @ self.aside / 4).round() + 1).long().tolist()


CLASSES = Classes()


@cache
def class_tools() -> Tools:
    return Tools(CLASSES, "float32", compact(), NamedTool("compact", "0" * 64))


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, arguments)])
    return stop.value.code or 0


def test_without_labels_they_go_round_with_the_seeds(generator):
    seeds = [5, 6, 7, 8, 12]
    given = torch.eye(4)[[1, 2, 3, 0, 0]]
    torch.testing.assert_close(assign_labels(generator, seeds), given, rtol=0, atol=0)
    torch.testing.assert_close(map_seeds(generator, seeds), map_seeds(generator, seeds, given), rtol=0, atol=0)
    # A seed is a face, however many are drawn.
    alone = torch.cat([sample(generator, 1, 0.7, seed) for seed in range(5, 9)])
    torch.testing.assert_close(sample(generator, 4, 0.7, 5), alone, rtol=0, atol=1e-6)
    assert not torch.allclose(sample(generator, 1, 1.0, 5), sample(generator, 1, 1.0, 5, torch.eye(4)[:1]))
    assert assign_labels(SQUARES, seeds) is None


def test_a_label_that_there_is_not_is_one_line(generator):
    assert encode_label(generator, 2) == (0.0, 0.0, 1.0, 0.0)
    with pytest.raises(GanvasError, match="labels are 0 to 3"):
        encode_label(generator, 4)
    with pytest.raises(GanvasError, match="takes no labels"):
        encode_label(SQUARES, 0)


def test_it_is_labelled_and_its_distribution_is_known(generator, tmp_path):
    data = label(generator, Brightness(), 40, out=None)
    again = label(generator, Brightness(), 40, out=tmp_path)
    torch.testing.assert_close(again.codes, data.codes, rtol=0, atol=0)
    pictures = generator.synthesis(sample(generator, 40, 1.0, 1_000_000))
    torch.testing.assert_close(data.scores, Brightness()(pictures), rtol=1e-4, atol=1e-5)
    assert fit_distribution(generator, 100).generator == generator.fingerprint


def test_commands_know_labels(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loading, "load_scorer_for", lambda *_: Brightness())
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


@pytest.mark.parametrize("where", [{"Bright": (1.0, None)}, {"Bright": -1.0, "Red": (None, 0.0)}])
def test_all_candidates_for_conditions_are_of_the_label_that_is_asked_for(where):
    ws = sample_where(CLASSES, compact(), where, 6, 4)
    assert CLASSES.labels_of(ws) == [1, 2, 0, 1, 2, 0]
    assert torch.equal(sample_where(CLASSES, compact(), where, 2, 6), ws[2:4])
    for k in range(3):
        labels = torch.eye(3)[[k] * 6]
        told = sample_where(CLASSES, compact(), where, 6, 4, labels=labels)
        assert CLASSES.labels_of(told) == [k] * 6
        bright, asked = compact().read(told)[:, 0], where["Bright"]
        assert (bright > 0.7).all() if isinstance(asked, tuple) else (bright + 1).abs().max() < 0.1
        recipes = [FromConditions({"Red": (0.0, None)}, 4, 1.0, tuple(labels[0].tolist()))]
        assert CLASSES.labels_of(compute_code(class_recipe(recipes[0]), class_tools())) == [k]
    with pytest.raises(GanvasError, match="2 labels were given for 6 codes"):
        sample_where(CLASSES, compact(), where, 6, 4, labels=torch.eye(3)[:2])


def class_recipe(start):
    return Recipe(class_tools().generator_name, start, "float32", None, class_tools().editor_name)


def test_a_recipe_with_conditions_keeps_its_label_and_without_one_is_written_as_ever():
    told = class_recipe(FromConditions({"Red": (0.0, None)}, 4, 1.0, (0.0, 1.0, 0.0)))
    assert from_json(json.loads(json.dumps(to_json(told))), "here") == told
    plain = class_recipe(FromConditions({"Red": (0.0, None)}, 4, 1.0))
    assert "labels" not in to_json(plain)["start"] and from_json(to_json(plain), "here") == plain


@pytest.mark.parametrize("way", ["conditions", "edit", "draw"])
def test_balanced_sets_are_of_the_label_that_is_asked_for(way, tmp_path):
    conditions = (parse_condition("p(Bright)>0.4"), parse_condition("p(Bright)<0.9"))

    def labels_of(folder):
        rows = parquet.read_table(folder / "labels.parquet").to_pylist()
        codes = [compute_code(load_recipe(folder / row["file"])[0], class_tools()) for row in rows]
        return [row["seed"] for row in rows], CLASSES.labels_of(torch.cat(codes))

    balance(class_tools(), SCORER, BalanceRequest(conditions, 6, way=way), tmp_path / "round")
    seeds, found = labels_of(tmp_path / "round")
    assert found == [seed % 3 for seed in seeds]
    balance(class_tools(), SCORER, BalanceRequest(conditions, 4, way=way, label=1), tmp_path / "one")
    assert labels_of(tmp_path / "one")[1] == [1] * 4
    with pytest.raises(GanvasError, match="other conditions"):
        balance(class_tools(), SCORER, BalanceRequest(conditions, 4, way=way, label=2), tmp_path / "one")
    with pytest.raises(GanvasError, match="has no label 3"):
        balance(class_tools(), SCORER, BalanceRequest(conditions, 4, way=way, label=3), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["sample", "balance"])
def test_commands_with_conditions_know_labels(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loading, "load_cli_tools", lambda *_, **__: class_tools())
    monkeypatch.setattr(loading, "load_scorer_for", lambda *_: SCORER)
    asked = (command, "toy", "--where", "Bright>0.5", "-n", 3, "--psi", 1)
    assert run(*asked, "--label", 1, "--out", tmp_path / "one") == 0
    assert run(*asked, "--out", tmp_path / "round") == 0
    for folder, label_of in (("one", lambda seed: 1), ("round", lambda seed: seed % 3)):
        recipes = [load_recipe(path)[0] for path in sorted((tmp_path / folder).glob("*.png"))]
        assert len(recipes) == 3 and all(isinstance(recipe.start, FromConditions) for recipe in recipes)
        codes = torch.cat([compute_code(recipe, class_tools()) for recipe in recipes])
        assert CLASSES.labels_of(codes) == [label_of(recipe.start.seed) for recipe in recipes]
    assert run(*asked, "--label", 3, "--out", tmp_path / "none") == 1
    assert "has no label 3" in capsys.readouterr().err


def test_training_says_what_labels_stand_for_and_finishing_keeps_it(tmp_path):
    one_hots = torch.eye(3)[torch.arange(12) % 3]
    pixels = torch.randint(0, 256, (12, 1, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = loop.TrainingImages(pixels, one_hots, (2, 3, 4))
    options = loop.GanConfig(**TINY, condition="count", mapping_layers=2)
    path = loop.train_gan(data, tmp_path / "run", options, loop.GanSchedule(4), loop.GanCallbacks(lambda line: None))
    assert load_conditional(path)[1] == (2, 3, 4)
    outputs.export_generator(path, tmp_path / "small.safetensors")
    generator, counts = load_conditional(tmp_path / "small.safetensors")
    assert counts == (2, 3, 4) and generator.num_labels == 3


def stage(work, generator, size=16, **more) -> CountContext:
    counter = ganvas.load_scorer("count")
    return CountContext(generator, counter, labels(), None, work, CountReportConfig(moves=size, **more), seed=7)


def test_the_report_asks_for_each_count_and_tells_of_every_way(weights, generator, tmp_path):
    plain = loop.GanConfig(**TINY).build_generator_architecture(1, 0)
    free = loop.StyleGAN2(layers.initialize_weights(plain, torch.Generator().manual_seed(1)), plain)
    asked = []

    def move(ws, change):
        asked.append(change)
        return ws

    section = compare_generators(stage(tmp_path, free), *load_conditional(weights), move)
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

    monkeypatch.setattr(conditional_gan, "sample", watched)
    compare_generators(stage(tmp_path, SQUARES), generator, (2, 1, 4, 3), lambda ws, change: ws)
    told = [labels.argmax(1).unique().tolist() for labels in seen if labels is not None]
    assert told == [[0], [1], [2], [3]]


def test_diversity_is_the_mean_distance_of_pairs():
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]])
    assert measure_diversity(points) == pytest.approx((5 + 8 + 5) / 3)
    assert measure_diversity(points[:1]) != measure_diversity(points[:1])


def test_what_is_missing_or_no_conditional_generator_is_one_line(tmp_path):
    with pytest.raises(GanvasError, match="train-gan MULTIMNIST --out RUN.*--condition count") as caught:
        conditional_gan.run(stage(tmp_path, SQUARES))
    assert "\n" not in str(caught.value)
    shape = loop.GanConfig(**TINY).build_generator_architecture(1, 0)
    save_generator(
        tmp_path / "free.safetensors", layers.initialize_weights(shape, torch.Generator().manual_seed(0)), shape
    )
    with pytest.raises(GanvasError, match="isn't conditional"):
        load_conditional(tmp_path / "free.safetensors")
    assert JUDGE.attributes[0] == "count"


def test_all_pictures_are_labelled_with_the_label_that_is_asked_for(generator, tmp_path):
    data = label(generator, Brightness(), 40, out=tmp_path, condition=2)
    again = load_labels(tmp_path, generator)
    first = data.source.seed
    wanted = map_seeds(generator, range(first, first + 40), torch.eye(4)[[2] * 40])
    torch.testing.assert_close(data.codes, wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(data.codes, again.codes) and again.source.condition == 2
    packed = tmp_path / "pack.safetensors"
    pack_labels(data, packed, generator=generator.name)
    assert torch.equal(load_labels(packed, generator).codes, data.codes)
    with pytest.raises(GanvasError, match="whose condition is 2, not"):
        label(generator, Brightness(), 40, out=tmp_path)
    with pytest.raises(GanvasError, match="no label 4"):
        label(generator, Brightness(), 40, condition=4)


def test_every_command_that_draws_takes_a_label(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_scorer_for", lambda *_: Brightness())
    assert run("label", weights, "--out", tmp_path / "labels", "-n", 40, "--label", 1) == 0
    assert (
        run("fit", "mean_difference", tmp_path / "labels", "--generator", weights, "--out", tmp_path / "e.safetensors")
        == 0
    )
    own = {
        "mix": ("--with", 3, "--rows", 0),
        "animate": ("--to", 3, "--frames", 2),
        "grid": ("--attributes", "bright", "--strengths", "0,1", "--editor", tmp_path / "e.safetensors"),
    }
    for name, extra in own.items():
        out = tmp_path / (f"{name}.gif" if name == "animate" else f"{name}.png")
        assert run(name, weights, *extra, "--label", 3, "--out", out) == 0
        recipe, _ = load_recipe(out.with_suffix(".json"))
        pictures = [recipe] if isinstance(recipe, Recipe) else recipe.pictures
        assert all(start.labels == (0, 0, 0, 1) for picture in pictures for start in picture.starts)
