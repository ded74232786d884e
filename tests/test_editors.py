"""What every method's editor must do, over whatever is discovered; and their files."""

import copy

import pytest
import torch
from learned import NAMES, NONLINEAR, QUICK, TOY, compact, labels, taught
from planted import disentangled
from safetensors.torch import save_file

from ganvas import GanvasError, editors, sample
from ganvas.edit import LinearEditor, gains, save_editor
from ganvas.files import load_tensors, save_tensors

COUNTING = {
    "knowledge": 300,
    "steps": 150,
    "batch": 64,
    "classifiers": 1,
    "hidden": [64],
    "recipe": "ensemble",
    "gain": "reading",
    "rate": 0.01,
}
OPTIONS = {"compact": QUICK, "cardinality": COUNTING} | NONLINEAR
WS = sample(TOY, 40, 0.7, 0)
METHODS = editors.method_names()


def counts(editor):
    """Whether it's a method of counts: it reads with a classifier of its own, which stays near whole numbers."""
    return editors.kinds_of(editor.method) == ("count",)


def near(editor):
    """How near a change of 1 moves the mean reading by 1."""
    return 0.3 if counts(editor) else 0.1


@pytest.fixture(scope="module", params=METHODS)
def editor(request):
    if request.param == "compact":
        return compact()
    return editors.fit(request.param, taught(request.param), TOY, **OPTIONS.get(request.param, {}))


def test_methods_are_found():
    assert {"compact", "mean_difference"} <= set(METHODS)


def test_no_change_is_the_identity(editor):
    assert torch.equal(editor.edit(WS, {}), WS)
    assert torch.equal(editor.edit(WS, {"Red": 0.0, "Big": torch.zeros(len(WS))}), WS)
    some = torch.zeros(len(WS))
    some[3] = 1.0
    moved = (editor.edit(WS, {"Red": some}) != WS).any(2).any(1)
    assert moved.nonzero().tolist() == [[3]]


def test_codes_are_left_as_they_are(editor):
    before = WS.clone()
    editor.edit(WS, {"Red": 2.0})
    assert torch.equal(WS, before)


def test_a_change_moves_the_reading_by_as_much(editor):
    for name in NAMES:
        k = NAMES.index(name)
        for change in (-1.0, 1.0):
            moved = (editor.read(editor.edit(WS, {name: change})) - editor.read(WS))[:, k]
            assert moved.mean() == pytest.approx(change, abs=near(editor))


def test_order_of_changes_and_of_codes_does_not_matter(editor):
    there, back = editor.edit(WS, {"Red": 1.0, "Big": -1.0}), editor.edit(WS, {"Big": -1.0, "Red": 1.0})
    assert torch.equal(there, back)
    torch.testing.assert_close(editor.edit(WS.flip(0), {"Red": 1.0, "Big": -1.0}).flip(0), there, atol=1e-5, rtol=0)


def test_several_attributes_move_at_once(editor):
    moved = (editor.read(editor.edit(WS, {"Bright": 1.0, "Right": -1.0})) - editor.read(WS)).mean(0)
    assert moved[NAMES.index("Bright")] > 0.6
    assert moved[NAMES.index("Right")] < -0.6


def test_rows_of_a_code_move_alike(editor):
    ws = WS + torch.randn(WS.shape, generator=torch.Generator().manual_seed(0)) / 4
    shift = editor.edit(ws, {"Striped": 1.0}) - ws
    shift = shift[:, shift.abs().amax((0, 2)) > 0]  # all rows, but for methods that choose some
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=1e-5, rtol=0)


def test_bad_changes_are_refused(editor):
    for changes, words in (
        ({"Rde": 1.0}, "'Rde': pick one of"),
        ({"Red": float("nan")}, "finite"),
        ({"Red": torch.ones(3)}, "3 changes"),
    ):
        with pytest.raises(GanvasError, match=words):
            editor.edit(WS, changes)


def test_saved_and_loaded_is_the_same(editor, tmp_path):
    path = tmp_path / "one.safetensors"
    editors.save(editor, path)
    loaded = editors.load_editor(path, TOY)
    changes = {"Red": 1.5, "Big": -0.5}
    assert torch.equal(loaded.edit(WS, changes), editor.edit(WS, changes))
    assert torch.equal(loaded.read(WS), editor.read(WS))
    assert editors.fingerprint(loaded) == editors.fingerprint(editor)
    assert (loaded.attributes, loaded.kinds, loaded.space) == (editor.attributes, editor.kinds, editor.space)
    assert loaded.report == editor.report
    editors.save(loaded, tmp_path / "two.safetensors")
    assert path.read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_half_precision_is_half_and_stays(editor, tmp_path):
    save_editor(editor, tmp_path / "one.safetensors", half=True)
    loaded = editors.load_editor(str(tmp_path / "one.safetensors"))
    moved = editor.edit(WS, {"Red": 1.0}) - WS
    assert (loaded.edit(WS, {"Red": 1.0}) - WS - moved).norm() < 0.01 * moved.norm()
    save_editor(loaded, tmp_path / "two.safetensors", half=True)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_same_data_same_bytes(editor, tmp_path):
    again = editors.fit(editor.method, taught(editor.method), TOY, **OPTIONS.get(editor.method, {}))
    for name, one in (("one", editor), ("two", again)):
        editors.save(one, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_some_attributes_in_their_order(editor):
    data = taught(editor.method)
    few = editors.fit(editor.method, data, TOY, attributes=["Big", "Red"], **OPTIONS.get(editor.method, {}))
    assert few.attributes == ("Big", "Red")
    if not counts(editor):  # these read with a network of their own, and learned it anew
        torch.testing.assert_close(few.read(WS), editor.read(WS)[:, [2, 1]], atol=1e-5, rtol=0)
    moved = (few.read(few.edit(WS, {"Big": 1.0})) - few.read(WS)).mean(0)
    assert moved[0] == pytest.approx(1.0, abs=near(few))


def test_damaged_files_are_refused_in_one_line(editor, tmp_path):
    path = tmp_path / "whole.safetensors"
    editors.save(editor, path)
    content, (tensors, told) = path.read_bytes(), load_tensors(path)
    bad = tmp_path / "bad.safetensors"

    def refused():
        with pytest.raises(GanvasError) as caught:
            editors.load_editor(bad)
        assert "\n" not in str(caught.value)
        assert str(bad) in str(caught.value)

    for size in (0, 7, 200, len(content) // 2, len(content) - 1):
        bad.write_bytes(content[:size])
        refused()
    for name, tensor in tensors.items():
        for wrong in (None, tensor[:-1].clone(), tensor.double() if tensor.dtype != torch.float64 else tensor.int()):
            others = {key: value for key, value in tensors.items() if key != name}
            save_tensors(bad, others if wrong is None else others | {name: wrong}, told)
            if name.startswith("editor.") or wrong is None or len(wrong) < len(tensor):
                refused()
    for name in told:
        save_tensors(bad, tensors, {key: value for key, value in told.items() if key != name})
        refused()
        save_tensors(bad, tensors, told | {name: 7})
        refused()
    save_tensors(bad, tensors | {"probe.bias": tensors["probe.bias"] * float("nan")}, told)
    refused()
    save_tensors(bad, tensors | {"editor.surplus": torch.ones(1)}, told)
    refused()
    save_file({"x": torch.ones(2)}, bad)
    refused()


def test_an_editor_of_another_generator_names_both(editor, tmp_path):
    editor_file = tmp_path / "toy.safetensors"
    editors.save(editor, editor_file)

    other = copy.copy(TOY)
    other.name, other.fingerprint = "other", "f" * 64
    with pytest.raises(GanvasError, match="'toy'.*'other'"):
        editors.load_editor(editor_file, other)
    with pytest.raises(GanvasError, match="'other'"):
        editors.fit("mean_difference", labels(), other)


def test_unknown_names_say_what_there_is():
    with pytest.raises(GanvasError, match="'compcat': pick one of.*compact"):
        editors.fit("compcat", labels(), TOY)
    with pytest.raises(GanvasError, match="editor 'nothing/here'.*path"):
        editors.load_editor("nothing/here")
    for method in METHODS:
        with pytest.raises(GanvasError, match="option 'stepps': pick one of"):
            editors.fit(method, labels(), TOY, stepps=3)
        with pytest.raises(GanvasError, match="attribute 'Rde'"):
            editors.fit(method, labels(), TOY, attributes=["Rde"])


def test_an_editor_saved_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GanvasError, match="Can't write"):
        editors.save(compact(), tmp_path / "file" / "e.safetensors")


def test_shipped_editors_are_small_and_whole():
    root = editors._assets()
    assert sum(p.stat().st_size for p in root.glob("**/*") if p.is_file()) <= 7e6
    for name in editors.editor_names():
        assert editors.load_editor(name).method in METHODS
        assert editors.about(name)


def test_directions_made_orthogonal_to_others():
    linear = editors.fit("mean_difference", labels(), TOY)
    assert isinstance(linear, LinearEditor)
    apart = linear.without("Red", "Bright")
    red, bright = (apart.directions[NAMES.index(name)] for name in ("Red", "Bright"))
    assert abs(torch.cosine_similarity(red, bright, dim=0)) < 1e-5
    assert (apart.read(apart.edit(WS, {"Red": 1.0})) - apart.read(WS))[:, 1].mean() == pytest.approx(1.0, abs=1e-3)
    assert torch.equal(linear.directions[0], apart.directions[0])
    with pytest.raises(GanvasError, match="Nothing"):
        linear.without("Red", "Red")


def test_gains_are_bounded():
    responses = torch.tensor([0.5, 2.0, 1e-9, 100.0, 0.0, -1.0])
    assert gains(responses).tolist() == pytest.approx([2.0, 0.5, 10.0, 0.2, 0.2, 0.2])


def test_the_fingerprint_tells_editors_apart():
    prints = {editors.fingerprint(editors.fit("mean_difference", labels(), TOY, share=s)) for s in (0.1, 0.2)}
    assert len(prints | {editors.fingerprint(compact()), editors.fingerprint(disentangled())}) == 4
