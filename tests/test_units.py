"""Values in an attribute's own unit: from the scorer to labels and editors, and from --set to a picture."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from fitted_editors import TOY, labels
from planted_truth import PlantedEditor, disentangled

from ganvas import editors, sample
from ganvas.cli import main
from ganvas.control.conditions import parse_condition
from ganvas.control.target_values import (
    convert_to_sigma,
    convert_to_unit,
    find_unit_range,
    replace_units,
    solve_changes,
)
from ganvas.data import gaussianize
from ganvas.data.label import label
from ganvas.data.label_files import load_labels, pack_labels
from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.images import read_picture
from ganvas.scorers.age_gender import AgeGender
from ganvas.scorers.face_api import FaceApi
from ganvas.scorers.face_attributes import VALUES, FaceAttributes
from ganvas.scorers.toy import ToyScorer

DATA = replace(labels(), units={"Right": "px"})
EDITOR = editors.fit("mean_difference", DATA, TOY)
SCORES = DATA.scores[:, DATA.attributes.index("Right")]
LOW, HIGH = SCORES.min().item(), SCORES.max().item()
MIDDLE = f"{SCORES.quantile(0.8):.3f}px"


class PixelScorer(ToyScorer):
    """The toy's scorer, whose values have a unit."""

    units = DATA.units


def run(*arguments) -> str | int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code or 0


@pytest.fixture
def editor_file(tmp_path):
    editors.save(EDITOR, tmp_path / "mean.safetensors")
    return tmp_path / "mean.safetensors"


@pytest.mark.parametrize("n", [10, 30, 1000, 1025, 5000])
def test_the_range_is_that_of_the_fitted_scores(n):
    random = torch.Generator().manual_seed(n)
    scores = torch.stack(
        (
            torch.randn(n, generator=random),
            70 * torch.rand(n, generator=random).pow(3) + 5,
            torch.randn(n, generator=random).exp(),
            torch.arange(n) % 2 * 1.0,
            torch.arange(n) % 7 * 1.0,
        ),
        1,
    )
    fitted = gaussianize.fit(scores, tuple("abcde"))
    for column in range(5):
        assert fitted.get_range(column) == (scores[:, column].min().item(), scores[:, column].max().item())


def test_a_value_in_the_unit_is_a_normal_score_and_back():
    for sigma in (-2.0, -0.3, 0.0, 1.7):
        value = convert_to_unit(EDITOR, "Right", sigma)
        assert convert_to_sigma(EDITOR, "Right", f"{value:.9f}px") == pytest.approx(sigma, abs=1e-4)
    assert convert_to_sigma(EDITOR, "Right", 0.25) == 0.25
    assert convert_to_sigma(EDITOR, "Right", f" {MIDDLE[:-2]} px ") == convert_to_sigma(EDITOR, "Right", MIDDLE)
    low, high, step = find_unit_range(EDITOR, "Right")
    assert LOW <= low < LOW + step
    assert HIGH - step < high <= HIGH
    assert 20 <= (HIGH - LOW) / step < 200


@pytest.mark.parametrize("others", [{}, {"Bright": 0.5}])
def test_what_is_set_in_the_unit_is_read(others):
    ws = sample(TOY, 5, 0.7)
    changes = solve_changes(EDITOR, ws, {"Right": MIDDLE, **others})
    sigma = convert_to_sigma(EDITOR, "Right", MIDDLE)
    same = solve_changes(EDITOR, ws, {"Right": sigma, **others})
    assert all(torch.equal(changes[name], same[name]) for name in changes)
    reading = EDITOR.read(EDITOR.edit(ws, changes))[:, EDITOR.attributes.index("Right")]
    assert (reading - sigma).abs().max() < 0.02
    assert convert_to_unit(EDITOR, "Right", reading[0].item()) == pytest.approx(float(MIDDLE[:-2]), rel=0.02)


def test_corrections_that_go_too_far_are_halved():
    """A change of 2 moves readings by 8: whole corrections never come back."""

    class Cubic(PlantedEditor):
        def shift(self, w, changes):
            return super().shift(w, changes**3)

    editor, ws = Cubic(disentangled().directions), sample(TOY, 5, 0.7)
    reading = editor.read(ws)[:, :2]
    targets = {"Bright": float(reading[0, 0]) + 2, "Red": float(reading[0, 1])}
    moved = editor.read(editor.edit(ws[:1], solve_changes(editor, ws[:1], targets)))[0, :2]
    assert moved.tolist() == pytest.approx(list(targets.values()), abs=0.4)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("Bright", "3y", "'Bright' has no unit, so '3y' isn't a value of it"),
        ("Right", "3kg", "'3kg' isn't a value of 'Right' in 'px': 'Right' goes from"),
        ("Right", "3", "isn't a value of 'Right'"),
        ("Right", "..px", "isn't a value of 'Right'"),
        ("Right", "9999px", "'9999px' is out of range: 'Right' goes from .* px in this editor's labels"),
        ("Right", "-9999px", "out of range"),
        ("Rigt", "3px", "Unknown attribute 'Rigt': did you mean 'Right'"),
    ],
)
def test_other_values_are_refused_in_one_line(attribute, value, message):
    with pytest.raises(GanvasError, match=message) as error:
        convert_to_sigma(EDITOR, attribute, value)
    assert "\n" not in str(error.value)


def test_conditions_take_units():
    sigma = convert_to_sigma(EDITOR, "Right", MIDDLE)
    for operator in (">", "<=", "="):
        condition = parse_condition(replace_units(f"Right {operator} {MIDDLE}", EDITOR))
        sides = [side for side in (condition.low, condition.high) if side is not None]
        assert sides == pytest.approx([sigma] * (2 if operator == "=" else 1), abs=1e-5)
    between = parse_condition(replace_units(f"Right={LOW + 0.01:.3f}px..{MIDDLE}", EDITOR))
    assert between.high == pytest.approx(sigma, abs=1e-5) and between.low < between.high
    for plain in ("Right>1", "p(Right)>0.5", "Right=-1..1", "Right>1e-1"):
        assert replace_units(plain, EDITOR) == plain
    with pytest.raises(GanvasError, match="isn't a value of 'Right' in 'px'"):
        replace_units("Right>3y", EDITOR)


def test_the_command_line_takes_conditions_in_units(editor_file, tmp_path):
    arguments = ("--editor", editor_file, "-n", 2, "--out", tmp_path / "where")
    assert run("balance", "toy", "--where", f"Right>{MIDDLE}", *arguments) == 0
    paths, scorer = list((tmp_path / "where").glob("*.png")), ToyScorer()
    assert len(paths) == 2
    for path in paths:
        assert float(scorer(read_picture(path))[0, scorer.column("Right")]) > float(MIDDLE[:-2])


def test_units_go_from_the_scorer_to_labels_and_their_files(tmp_path):
    scorer = PixelScorer()
    made = label(TOY, scorer, 40, out=tmp_path / "labels", shard_size=20)
    assert made.units == label(TOY, scorer, 40).units == DATA.units
    pack_labels(made, tmp_path / "pack.safetensors")
    assert load_labels(tmp_path / "pack.safetensors", TOY).units == DATA.units
    assert load_labels(tmp_path / "pack.safetensors", TOY, attributes=["Bright"]).units == {}
    assert made.select(("Bright",)).units == {}
    assert made.select(("Right", "Bright")).units == DATA.units


def test_scorers_of_age_state_years():
    assert FaceAttributes.units == AgeGender.units == FaceApi.units == {"Age": "y"}
    assert set(FaceAttributes.units) <= set(VALUES)


def test_labels_of_before_have_no_units_and_go_on(tmp_path):
    label(TOY, ToyScorer(), 20, out=tmp_path, shard_size=20)
    assert "units" not in json.loads((tmp_path / "index.json").read_text())
    assert load_labels(tmp_path, TOY).units == {}
    assert label(TOY, PixelScorer(), 40, out=tmp_path, shard_size=20).units == DATA.units


def test_editors_keep_units_in_their_files_and_those_of_before_have_none(editor_file, tmp_path):
    assert editors.load_editor(editor_file).units == EDITOR.units == DATA.units
    tensors, header = load_tensors(editor_file)
    assert header["units"] == DATA.units
    save_tensors(tmp_path / "old.safetensors", tensors, {k: v for k, v in header.items() if k != "units"})
    old = editors.load_editor(tmp_path / "old.safetensors")
    assert old.units == {}
    assert editors.fingerprint(old) == editors.fingerprint(EDITOR)
    editors.save(old, tmp_path / "again.safetensors")
    assert "units" not in load_tensors(tmp_path / "again.safetensors")[1]


@pytest.mark.parametrize(
    ("units", "message"), [({"Rigt": "px"}, "Unknown attribute"), ({"Right": "p\nx"}, "units"), ({"Right": 1}, "units")]
)
def test_damaged_units_are_refused(editor_file, tmp_path, units, message):
    tensors, header = load_tensors(editor_file)
    save_tensors(tmp_path / "bad.safetensors", tensors, header | {"units": units})
    with pytest.raises(GanvasError, match=message):
        editors.load_editor(tmp_path / "bad.safetensors")


def test_the_command_line_takes_units_and_the_recipe_draws_the_picture_again(editor_file, tmp_path, capsys):
    drawn = ("edit", "toy", "--editor", editor_file, "--seed", 3)
    assert run(*drawn, "--set", f"Right={MIDDLE}", "--refine", 0, "--out", tmp_path / "unit.png") == 0
    assert "asked" not in capsys.readouterr().out
    assert run(*drawn, "--set", f"Right={MIDDLE}", "--out", tmp_path / "refined.png") == 0
    assert f"{float(MIDDLE[:-2]):.3g} px asked" in capsys.readouterr().out
    sigma = convert_to_sigma(EDITOR, "Right", MIDDLE)
    assert run(*drawn, "--set", f"Right={sigma!r}", "--out", tmp_path / "sigma.png") == 0
    assert run("render", tmp_path / "unit.json", "--editor", editor_file, "--out", tmp_path / "again.png") == 0
    pictures = [read_picture(tmp_path / f"{name}.png") for name in ("unit", "sigma", "again")]
    assert all(torch.equal(picture, pictures[0]) for picture in pictures)
    assert json.loads((tmp_path / "unit.json").read_text())["edits"][0]["set"] == {"Right": sigma}
    capsys.readouterr()
    for value, message in (
        ("Right=3kg", "in 'px'"),
        ("Bright=3y", "has no unit"),
        ("Right=9999px", "out of range"),
        ("Right=3y2", "isn't a finite number"),
    ):
        assert run(*drawn, "--set", value, "--out", tmp_path / "no.png") == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert run(*drawn, "--shift", "Right=3px", "--out", tmp_path / "no.png") == 1
    assert "isn't a finite number" in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()


def test_info_prints_the_unit_and_the_range(editor_file, capsys):
    assert run("info", editor_file) == 0
    low, high, _ = find_unit_range(EDITOR, "Right")
    assert f"Right: {low:g} to {high:g} px" in capsys.readouterr().out.splitlines()
    assert run("info", "ffhq/compact") == 0
    assert " y\n" not in capsys.readouterr().out
