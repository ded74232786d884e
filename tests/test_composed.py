"""Composed counts on the generator of digits: what is asked for is there, what was there stays, and limits are said."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from fitted_editors import TOY, labels
from typer.testing import CliRunner

from experiments.multimnist.judges import find_components, measure_kept, measure_right
from ganvas import GanvasError, editors, inversion, sample
from ganvas.balance.real import load_inverter
from ganvas.checkpoints.load import load_generator
from ganvas.cli import app, main
from ganvas.data.codes import load_codes
from ganvas.data.distribution import fit_distribution
from ganvas.editors import composed
from ganvas.editors._layouts import SampleBank, describe_boxes, find_objects, join_objects
from ganvas.editors.base import LinearEditor, collect_metadata, save_editor
from ganvas.editors.extended import extend_editor
from ganvas.editors.masked import MaskedEditor
from ganvas.io.images import encode_png, to_bytes

NAME = "multimnist/composed"
GENERATOR = load_generator("multimnist")
FEW_STEPS = 40
QUICK_INVERSION = composed.ObjectInversionConfig(steps=40, trial_steps=10, candidates=2)


@pytest.fixture(scope="module")
def editor():
    return editors.load_editor(NAME, GENERATOR)


@pytest.fixture(scope="module")
def codes():
    """Codes of two or three digits that the components agree on."""
    ws = sample(GENERATOR, 40, 1.0, 100)
    counts = torch.tensor([len(found) for found in find_components(GENERATOR.synthesis(ws)[:, 0])])
    return ws[(counts == 2) | (counts == 3)][:4]


@pytest.fixture
def quick(editor):
    """The editor with so few steps that tests are quick."""
    return editor.with_search_steps(FEW_STEPS)


@pytest.fixture(scope="module")
def moved(editor, codes):
    """The codes with one object more, and one less, by so few steps."""
    quick = editor.with_search_steps(FEW_STEPS)
    return {change: quick.edit_quietly(codes, {"count": float(change)}) for change in (1, -1)}


def judge(before, after, change):
    old, new = (find_components(GENERATOR.synthesis(ws)[:, 0]) for ws in (before, after))
    alpha = torch.full((len(before),), change)
    return float(measure_right(old, new, alpha).mean()), float(measure_kept(old, new, alpha).mean())


def test_no_change_is_the_identity_and_codes_are_left_as_they_are(quick, codes):
    before = codes.clone()
    some = torch.zeros(len(codes))
    some[1] = -1
    moved = quick.edit_quietly(codes, {"count": some})
    assert (moved != codes).any(2).any(1).nonzero().tolist() == [[1]]
    assert torch.equal(codes, before)
    assert torch.equal(quick.edit(codes, {"count": 0.0}), codes)


@pytest.mark.parametrize(("change", "right", "kept"), [(1, 0.6, 0.5), (-1, 0.6, 0.8)])
def test_one_more_and_one_less_leave_the_others(moved, codes, change, right, kept):
    found = judge(codes, moved[change], change)
    assert found[0] >= right
    assert found[1] >= kept


def test_without_steps_the_nearest_sample_is_taken(editor, codes):
    moved = editor.with_search_steps(0).edit_quietly(codes, {"count": 1.0})
    assert editor.config.steps > 0
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), atol=1e-5, rtol=0)
    assert judge(codes, moved, 1)[0] >= 0.6


def test_a_class_is_added_and_removed(quick, codes):
    columns = [quick.attributes.index(f"digit_{k}") for k in range(10)]
    start = quick.read(codes)
    more = quick.read(quick.edit_quietly(codes[:2], {"digit_7": 1.0})) - start[:2]
    assert more[:, columns[7]].mean() >= 0.5
    label = int(start[0, columns].argmax())
    less = quick.read(quick.edit_quietly(codes[:1], {f"digit_{label}": -1.0})) - start[0]
    assert less[0, columns[label]] == -1


def test_more_than_the_generator_draws_is_said(quick):
    ws = sample(GENERATOR, 60, 1.0, 100)
    full = ws[quick.read(ws)[:, quick.attributes.index("count")] == 4][:1]
    with pytest.warns(UserWarning, match=r"count \+1 was shortened to 0 %.* 1 to 4 objects"):
        moved = quick.edit(full, {"count": 1.0})
    assert torch.equal(moved, full)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick.edit(full, {"count": 0.0})


def test_too_many_objects_are_refused(quick, codes):
    with pytest.raises(GanvasError, match="40 objects is too much"):
        quick.edit(codes, {"count": 40.0})
    with pytest.raises(GanvasError, match="steps"):
        quick.with_search_steps(-1)


def test_moved_codes_stay_in_the_typical_set(moved):
    assert fit_distribution(GENERATOR).contains(moved[1][:1]).all()


def test_saved_and_loaded_is_the_same(quick, codes, tmp_path):
    quick = quick.with_search_steps(5)
    save_editor(quick, tmp_path / "one.safetensors", half=True)
    loaded = editors.load_editor(tmp_path / "one.safetensors")  # without a generator: loaded by its name
    save_editor(loaded, tmp_path / "two.safetensors", half=True)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    change = {"count": -1.0}
    assert torch.equal(loaded.edit_quietly(codes[:1], change), quick.edit_quietly(codes[:1], change))


@pytest.fixture(scope="module")
def pictures(codes):
    """Pictures that no sample of the editor has."""
    return GENERATOR.synthesis(codes[:2])


@pytest.fixture(scope="module")
def inverted(editor, pictures):
    return editor.invert(pictures, QUICK_INVERSION)


def test_pictures_are_inverted_digit_by_digit(inverted, pictures):
    again = GENERATOR.synthesis(inverted)
    change = torch.zeros(len(pictures), dtype=torch.long)
    old, new = (find_components(images[:, 0]) for images in (pictures, again))
    assert measure_right(old, new, change).mean() == 1
    assert measure_kept(old, new, change).mean() >= 0.75
    mean = GENERATOR.synthesis(sample(GENERATOR, 64, 1.0, 0)).mean(0)
    assert (again - pictures).square().mean() < 0.35 * (mean - pictures).square().mean()


def test_inverted_codes_stay_in_the_typical_set(inverted):
    assert fit_distribution(GENERATOR).contains(inverted).all()


def test_inversion_takes_any_float_in_any_mode_and_repeats_itself(editor, pictures):
    config = composed.ObjectInversionConfig(steps=1, trial_steps=1, candidates=1)
    expected = editor.invert(pictures, config)
    with torch.inference_mode():
        assert torch.equal(editor.invert(pictures.clone(), config), expected)
    with torch.no_grad():
        torch.testing.assert_close(editor.invert(pictures.double(), config), expected, atol=1e-4, rtol=0)
    # What else is inverted changes a code in its last digits alone.
    torch.testing.assert_close(editor.invert(pictures[:1], config), expected[:1], atol=1e-3, rtol=0)


def test_a_picture_without_ink_is_inverted_from_the_mean(editor):
    calls, config = [], composed.ObjectInversionConfig(steps=0, trial_steps=0)
    ws = editor.invert(torch.full((2, 3, 32, 32), -1.0), config, lambda *done: calls.append(done))
    torch.testing.assert_close(ws, GENERATOR.expand(GENERATOR.w_avg.expand(2, -1)), atol=1e-5, rtol=0)
    assert calls[-1] == (2, 2)


def test_more_objects_than_samples_have_are_inverted_from_the_largest(editor):
    picture = torch.full((1, 3, 64, 64), -1.0)
    for k in range(9):
        picture[..., 4 + 20 * (k // 3) : 16 + 20 * (k // 3), 4 + 20 * (k % 3) : 12 + 20 * (k % 3)] = 1.0
    ws = editor.invert(picture, composed.ObjectInversionConfig(steps=0, trial_steps=0))
    assert editor.read(ws)[0, editor.attributes.index("count")] == 4


@pytest.mark.parametrize(
    ("name", "space", "words"),
    [
        (None, "w+", "and none was given"),
        ("multimnist/cardinality", "w+", "this one is of the method 'cardinality'"),
        (NAME, "w", "finds codes of W\\+, not of 'w'"),
    ],
)
def test_the_method_objects_needs_an_editor_that_composes(pictures, name, space, words):
    other = name and editors.load_editor(name)
    with pytest.raises(GanvasError, match=words):
        inversion.invert(pictures, GENERATOR, method="objects", editor=other, space=space)
    with pytest.raises(GanvasError, match=words):
        load_inverter(GENERATOR, "objects", space, editor=other)


def test_the_method_objects_takes_neither_a_start_nor_an_encoder_nor_another_generator(quick, pictures):
    with pytest.raises(GanvasError, match="the method 'objects' has none"):
        inversion.invert(pictures, GENERATOR, method="objects", editor=quick, start=sample(GENERATOR, 2))
    with pytest.raises(GanvasError, match="takes no encoder"):
        load_inverter(GENERATOR, "objects", encoder="e.safetensors", editor=quick)
    with pytest.raises(GanvasError, match="'toy'"):
        inversion.invert(pictures, load_generator("toy"), method="objects", editor=quick)


@pytest.fixture
def quickly_inverted(monkeypatch):
    """Codes that every picture is said to have."""
    ws = sample(GENERATOR, 1)
    monkeypatch.setattr(
        composed.ComposedEditor, "invert", lambda self, images, progress: ws.expand(len(images), -1, -1)
    )
    return ws


def test_pictures_are_inverted_and_balanced_by_the_method_objects(quick, pictures, quickly_inverted):
    found = inversion.invert(pictures, GENERATOR, method="objects", editor=quick)
    assert torch.equal(found.ws[1:], quickly_inverted)
    assert torch.equal(found.pictures, GENERATOR.synthesis(found.ws))
    assert found.planned_steps == (0, 0)
    balancing = load_inverter(GENERATOR, editor=quick)
    assert balancing.name.startswith("objects, ")
    assert torch.equal(balancing.invert(pictures), found.ws)


def test_the_command_inverts_by_objects(quickly_inverted, pictures, tmp_path):
    (tmp_path / "one.png").write_bytes(encode_png(to_bytes(pictures)[0]))
    words = ["invert", str(tmp_path / "one.png"), "--generator", "multimnist", "--aligned", "--method", "objects"]
    words += ["--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "strangers" not in result.stdout, "these are no faces"
    assert torch.equal(load_codes(tmp_path / "out" / "one.safetensors", GENERATOR).ws, quickly_inverted)
    for more, words_of_error in (
        (["--steps", "5"], "--steps, --budget and --encoder"),
        (["--space", "w"], "not of 'w'"),
        (["--editor", "multimnist/cardinality"], "of the method 'cardinality'"),
    ):
        result = CliRunner().invoke(app, [*words, *more, "--out", str(tmp_path / "other")])
        assert result.exit_code and words_of_error in str(result.exception)
    assert not (tmp_path / "other").exists(), "nothing is begun"


def test_samples_are_found_by_the_objects_that_stay():
    bank = SampleBank(
        torch.tensor([5, 6], dtype=torch.int32),
        torch.tensor([[[0, 0, 10, 20], [40, 40, 50, 60], [0] * 4, [0] * 4]] * 2, dtype=torch.uint8),
        torch.tensor([[3, 7, -1, -1], [3, 8, -1, -1]], dtype=torch.int8),
    )
    layouts = bank.list_layouts()[1]
    own = describe_boxes(torch.tensor([[41, 40, 51, 60]]), torch.tensor([8]))
    best = layouts.measure_distances(own).argmin()
    assert (int(layouts.samples[best]), int(layouts.left_out[best])) == (1, 0)
    assert len(bank.list_layouts()[2].samples) == 2, "whole samples"


def test_pictures_without_objects_make_no_editor():
    from fitted_editors import TOY, labels

    from ganvas.scorers import load_scorer

    with pytest.raises(GanvasError, match="counter of digits"):
        composed.build(labels(), TOY, load_scorer("toy"))


def test_steps_of_a_command_are_in_its_recipe(tmp_path, capsys):
    out, again = tmp_path / "a.png", tmp_path / "b.png"
    arguments = ["edit", "multimnist", "--seed", "103", "--shift", "count=-1", "--dtype", "float32"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--search-steps", "1", "--out", str(out)])
    assert not ended.value.code
    assert json.loads(out.with_suffix(".json").read_text())["edits"][0]["search_steps"] == 1
    with pytest.raises(SystemExit):
        main(["render", str(out), "--out", str(again)])
    assert again.read_bytes() == out.read_bytes()
    both = ["--search-steps", "0", "--editor", "multimnist/cardinality"]
    for more, message in ((["--search-steps", "-1"], "steps"), (both, "1 to 1000, not 0")):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *more, "--out", str(tmp_path / "c.png")])
        assert ended.value.code == 1 and message in capsys.readouterr().err


def rename_attribute(metadata):
    """Return the metadata of one more attribute of the same codes."""
    return replace(
        metadata,
        method="imported",
        attributes=("more",),
        kinds=("value",),
        gaussianize=metadata.gaussianize.select([0]),
        probe=metadata.probe.select([0]),
        options={},
        report={},
    )


@pytest.mark.parametrize("wrap", ["", "masked", "extended"])
def test_another_number_of_steps_is_another_editor(editor, wrap, tmp_path):
    """It reaches the inner editor, is saved, and leaves the first editor and its tensors as they were."""
    wrapped = editor
    if wrap == "masked":
        wrapped = MaskedEditor(editor, (1, 2), GENERATOR.num_ws)
    elif wrap == "extended":
        added = LinearEditor(
            rename_attribute(collect_metadata(editor)),
            torch.zeros(1, GENERATOR.w_dim),
        )
        wrapped = extend_editor(editor, added)
    other = wrapped.with_search_steps(3)
    assert other.options["steps"] == 3 and wrapped.options["steps"] == editor.config.steps != 3
    assert editors.fingerprint(other) != editors.fingerprint(wrapped)
    save_editor(other, tmp_path / "e.safetensors")
    loaded = editors.load_editor(tmp_path / "e.safetensors", GENERATOR)
    assert (loaded.inner if wrap else loaded).config.steps == 3
    dtypes = {name: tensor.dtype for name, tensor in wrapped.state_dict().items()}
    other.to(torch.float64)
    assert {name: tensor.dtype for name, tensor in wrapped.state_dict().items()} == dtypes


def test_editors_that_do_not_search_take_no_steps():
    linear = editors.fit("mean_difference", labels(), TOY)
    with pytest.raises(GanvasError, match="'mean_difference' doesn't search codes"):
        linear.with_search_steps(3)
    with pytest.raises(GanvasError, match="1 to 1000, not 0"):
        editors.load_editor("multimnist/cardinality", GENERATOR).with_search_steps(0)


def test_parts_of_a_broken_object_are_joined_and_whole_objects_are_not():
    """Whatever the counter says: it may be wrong."""
    upper, lower, far = (torch.zeros(64, 64, dtype=torch.bool) for _ in range(3))
    upper[10:16, 10:16] = lower[18:24, 10:16] = far[40:50, 40:50] = True
    merged = join_objects([upper, lower, far], 2)
    assert len(merged) == 2 and any(torch.equal(mask, upper | lower) for mask in merged)
    assert len(join_objects([upper, lower, far], 3)) == 3
    for n in (0, 1):
        assert len(join_objects([upper, lower, far], n)) == 2
    assert join_objects([], 0) == []


@pytest.mark.parametrize("wrong", [True, False])
def test_the_next_candidate_is_searched_where_the_count_is_wrong(monkeypatch, wrong):
    editor = editors.load_editor(NAME, GENERATOR).with_search_steps(FEW_STEPS)
    ws = sample(GENERATOR, 16, 1.0, 0)
    count = editor._count(editor._draw(ws), -1)
    picked = next(
        i for i, n in enumerate(count.tolist()) if n == 3 and len(find_objects(editor._draw(ws[i : i + 1])[0])) == 3
    )
    searched = []

    def optimize(x, target, asked, label, steps, falling):
        searched.append(falling)
        return x

    monkeypatch.setattr(editor, "_optimize", optimize)
    counts = iter([3, 3])  # of the code, when it is cut and when its search begins; then of what was searched
    monkeypatch.setattr(
        editor,
        "_count",
        lambda pictures, label: torch.full((len(pictures),), next(counts, -1 if wrong else 2)),
    )
    editor.edit_quietly(ws[picked : picked + 1], {"count": -1.0})
    assert searched == [False] + [True] * (composed.MAX_ROUNDS if wrong else 1)
