"""A generator's weights fitted to one picture: nearer to it, kept in a small file, and drawn again from it."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import tiny_networks
import torch
from fitted_editors import labels
from PIL import Image
from planted_truth import TOY
from test_paste import FACES, draw_photo, make_face, plant_judge, save_photo

import ganvas
from ganvas import editors
from ganvas.cli import main
from ganvas.data.codes import unpack_codes
from ganvas.errors import GanvasError
from ganvas.generators.mobilestylegan import MobileStyleGAN
from ganvas.inversion import OptimizationConfig, TuningConfig
from ganvas.inversion.pipeline import make_loss
from ganvas.inversion.tuning import LEFT, Tuning, fit_tuning, list_tuned_weights, load_tuning, save_tuning
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.images import read_picture
from ganvas.photo import edit as photo_edit
from ganvas.photo import redraw
from ganvas.photo.batch import InversionConfig
from ganvas.photo.edit import PhotoEdit
from ganvas.photo.recipe import read_photo_recipe
from ganvas.photo.redraw import draw_photo_recipe
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import EditStep
from ganvas.recipe.rendering import Tools, load_tools

TINY = MobileStyleGAN(tiny_networks.state(blocks=3) | {"w_avg": torch.zeros(tiny_networks.DIM)}, "tiny")


@pytest.fixture(scope="module")
def tuned():
    """A code of a tiny generator, a target, and the tuning to it."""
    ws = ganvas.sample(TINY, 1, seed=3)
    with torch.no_grad():
        target = 0.8 * TINY.synthesis(ganvas.sample(TINY, 1, seed=4))
    loss = make_loss(target, TINY, None, OptimizationConfig())
    return ws, loss, fit_tuning(loss, TINY, ws, TuningConfig(25, learning_rate=0.02, rank=4))


@torch.no_grad()
def test_the_picture_comes_nearer_and_the_generator_stays(tuned):
    ws, loss, tuning = tuned
    before, after = (TINY.synthesis(ws), tuning.apply(TINY).synthesis(ws))
    assert loss.compute_distance(after) < 0.6 * loss.compute_distance(before)
    assert torch.equal(TINY.synthesis(ws), before) and tuning.apply(TINY).fingerprint == TINY.fingerprint


def test_equal_steps_give_equal_tunings_and_none_change_nothing(tuned):
    ws, loss, _ = tuned
    first, second = (fit_tuning(loss, TINY, ws, TuningConfig(2)) for _ in range(2))
    assert first.sha256 == second.sha256
    untouched = fit_tuning(loss, TINY, ws, TuningConfig(0)).apply(TINY)
    assert all(torch.equal(a, b) for a, b in zip(untouched.parameters(), TINY.parameters(), strict=True))
    heard = []
    fit_tuning(loss, TINY, ws, TuningConfig(5), on_step=lambda *step: heard.append(step) or len(heard) == 2)
    assert [step[:2] for step in heard] == [(1, 5), (2, 5)]


def test_a_tuning_is_itself_after_saving_and_others_are_refused(tuned, tmp_path):
    _, _, tuning = tuned
    save_tuning(path := tmp_path / "a.tuning.safetensors", tuning, TINY)
    assert load_tuning(path, TINY).sha256 == tuning.sha256
    tensors, metadata = load_tensors(path)
    with pytest.raises(GanvasError, match="is for generator 'tiny'"):
        load_tuning(path, ganvas.load_generator("toy"))
    name = next(iter(list_tuned_weights(TINY)))
    damages = {
        "has numbers that aren't finite": tensors | {name + LEFT: tensors[name + LEFT] * torch.nan},
        "the shape of": tensors | {name + LEFT: tensors[name + LEFT][:, :-1]},
        f"it has {len(tensors) - 1} tensors": {key: value for key, value in tensors.items() if key != name + LEFT},
    }
    for message, damaged in damages.items():
        save_tensors(path, {key: value.contiguous() for key, value in damaged.items()}, metadata)
        with pytest.raises(GanvasError, match=message):
            load_tuning(path, TINY)
    save_tensors(path, {}, {"kind": "codes"})
    with pytest.raises(GanvasError, match="holds no tuning"):
        load_tuning(path, TINY)
    for generator in (TOY, ganvas.load_generator("multimnist")):
        with pytest.raises(GanvasError, match="can't be tuned"):
            list_tuned_weights(generator)


# Photographs that are drawn again.


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setattr(photo_edit, "align", lambda photo, size: [make_face(photo, FACES["left"])])
    plant_judge(monkeypatch)


def make_edit(tools: Tools, *edits: EditStep, **settings) -> PhotoEdit:
    config = InversionConfig(method="optimize", options=OptimizationConfig(steps=4))
    return PhotoEdit(tools, edits, config, **settings)


def test_a_tuned_photograph_is_drawn_again(planted, tmp_path, monkeypatch):
    photo, out = save_photo(tmp_path / "a.png"), tmp_path / "b.png"
    edit = make_edit(Tools(TINY, "float32"), whole=True, tuning=TuningConfig(2, learning_rate=0.1))
    edit.edit_file(photo, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b-1.tuning.safetensors", "b.png"]
    recipe = read_photo_recipe(out)
    assert recipe is not None and recipe.tunings is not None and recipe.faces == (1,)
    codes = unpack_codes(asdict(recipe.codes), "It", TINY)
    monkeypatch.setattr(redraw, "load_recipe_tools", lambda *named, **given: Tools(TINY, "float32", codes=codes))
    draw_photo_recipe(recipe, photo, tmp_path / "c.png", tunings=out)
    assert (tmp_path / "c.png").read_bytes() == out.read_bytes()
    with pytest.raises(GanvasError, match="needs the tuning of face 1"):
        draw_photo_recipe(recipe, photo, tmp_path / "c.png")
    other = Tuning(
        {name: value * 0.5 for name, value in load_tuning(tmp_path / "b-1.tuning.safetensors", TINY).factors.items()}
    )
    save_tuning(tmp_path / "b-1.tuning.safetensors", other, TINY)
    with pytest.raises(GanvasError, match="isn't the tuning of the recipe"):
        draw_photo_recipe(recipe, photo, tmp_path / "c.png", tunings=out)


def test_the_command_draws_an_edited_photograph_again(planted, tmp_path, capsys):
    editors.save(editors.fit("mean_difference", labels(), TOY), tmp_path / "e.safetensors")
    Image.new("L", (520, 300), 255).save(tmp_path / "mask.png")
    tools = load_tools("toy", editor=tmp_path / "e.safetensors")
    photo = save_photo(tmp_path / "a.png")
    edit = make_edit(tools, EditStep(shift={"Red": 1.5}), region=tmp_path / "mask.png")
    edit.edit_file(photo, tmp_path / "b.png")

    def run(*arguments: object) -> int:
        try:
            return main(["render", *map(str, arguments)]) or 0
        except SystemExit as stopped:
            return int(stopped.code or 0)

    render = (tmp_path / "b.png", "--out", tmp_path / "c.png", "--editor", tmp_path / "e.safetensors")
    assert run(*render, "--photo", photo, "--region", tmp_path / "mask.png") == 0
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    edit.edit_file(photo, tmp_path / "b.jpg")
    again = ("--out", tmp_path / "c.jpg", *render[3:], "--photo", photo, "--region", tmp_path / "mask.png")
    assert run(tmp_path / "b.jpg", *again) == 0
    assert (tmp_path / "c.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()
    assert read_photo_recipe(save_photo(tmp_path / "d.jpg", comment=b"ganvas is not a recipe")) is None
    with pytest.raises(GanvasError, match="is an edited photograph"):
        load_recipe(tmp_path / "b.png")
    assert run(*render) == 1 and "with --photo FILE" in capsys.readouterr().err
    assert run(*render, "--photo", photo) == 1 and "with --region FILE" in capsys.readouterr().err
    other = tmp_path / "other.png"
    ganvas.save_image(draw_photo(300, 521), other)
    assert run(*render, "--photo", other) == 1 and "edits another photograph" in capsys.readouterr().err
    assert torch.equal(read_picture(photo)[:, :, :, -50:], read_picture(tmp_path / "c.png")[:, :, :, -50:])


def test_refined_edits_of_a_photograph_are_drawn_again(planted, tmp_path, capsys):
    editors.save(editors.fit("mean_difference", labels(), TOY), tmp_path / "e.safetensors")
    tools, photo, out = (
        load_tools("toy", editor=tmp_path / "e.safetensors"),
        save_photo(tmp_path / "a.png"),
        tmp_path / "b.png",
    )
    edit = make_edit(tools, EditStep(shift={"Red": 1.5}), corrections=3)
    line = edit.edit_file(photo, out)
    assert "Red +1.50 σ asked, +" in line and line.endswith("σ read")
    recipe = read_photo_recipe(out)
    assert recipe is not None and recipe.refined is not None and len(recipe.refined) == len(recipe.faces)
    assert recipe.refined[0]["Red"] != 1.5
    assert recipe.edits == edit.edits
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "render",
                str(out),
                "--photo",
                str(photo),
                "--editor",
                str(tmp_path / "e.safetensors"),
                "--out",
                str(tmp_path / "c.png"),
            ]
        )
    assert not stopped.value.code, capsys.readouterr().err
    assert (tmp_path / "c.png").read_bytes() == out.read_bytes()
