"""The contract of editors, for every discovered method, and editor files."""

import copy

import pytest
import torch
from autograd_modes import check_any_float
from fitted_editors import NAMES, NONLINEAR, QUICK, TOY, compact, labels, labels_for
from planted_truth import disentangled
from printed_examples import METHOD, PAGES, add_printed_method
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from ganvas import GanvasError, editors, sample
from ganvas.checkpoints.load import load_generator
from ganvas.data.dataset import Source, make_dataset
from ganvas.editors._compact_network import RECIPES
from ganvas.editors.base import LinearEditor, calibrate, compute_response_gains, save_editor
from ganvas.editors.cardinality import CardinalityEditor
from ganvas.editors.composed import ComposedEditor
from ganvas.editors.masked import MaskedEditor
from ganvas.io.files import load_tensors, save_tensors

COUNTING = {
    "classifier_steps": 300,
    "steps": 150,
    "batch": 64,
    "classifiers": 1,
    "hidden": [64],
    "recipe": "ensemble",
    "gain": "reading",
    "rate": 0.01,
}
# What must hold of every editor needs less training than what must hold of a good one (test_nonlinear.py).
BRIEF = {name: options | {"steps": options["steps"] // 3} for name, options in NONLINEAR.items()}
OPTIONS = {"compact": QUICK, "cardinality": COUNTING} | BRIEF
WS = sample(TOY, 40, 0.7, 0)
FEW_STEPS = {name: {"steps": 3, "classifier_steps": 3} for name in (*NONLINEAR, "cardinality")} | {
    "compact": {"epochs": 1}
}
METHODS = editors.list_methods()


def is_count_method(editor):
    """Return whether it's a method of counts, whose own classifier reads nearly whole numbers."""
    return editors.get_learnable_kinds(editor.method) == ("count",)


def reading_tolerance(editor):
    """Return how exactly a change of 1 must move the mean reading by 1."""
    return 0.3 if is_count_method(editor) else 0.1


@pytest.fixture(scope="module", params=[*METHODS, *PAGES])
def editor(request, tmp_path_factory):
    """An editor of each method, also of the one that the documentation prints, as if its file lay in the package."""
    if request.param == "compact":
        yield compact()
    elif request.param in PAGES:
        with add_printed_method(request.param, tmp_path_factory.mktemp("methods")):
            yield editors.fit(METHOD, labels(), TOY)
    else:
        yield editors.fit(request.param, labels_for(request.param), TOY, **OPTIONS.get(request.param, {}))


@pytest.fixture(scope="module")
def short(editor):
    """The method's own editor after few steps, and the progress that it told of."""
    calls, method = [], editor.method
    few = OPTIONS.get(method, {}) | FEW_STEPS.get(method, {})
    fitted = editors.fit(
        method, labels_for(method), TOY, progress=lambda done, total: calls.append((done, total)), **few
    )
    return fitted, calls


def test_methods_are_discovered():
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
            assert moved.mean() == pytest.approx(change, abs=reading_tolerance(editor))


def test_the_report_explains_its_columns(editor):
    tables = {key for key, value in editor.report.items() if isinstance(value, dict)}
    assert tables <= editors.REPORT_NOTES.keys()
    lines = editors.format_report_lines(editor)
    for key in tables:
        word = editors.REPORT_WORDS.get(key, key.replace("_", " "))
        assert f"{word}: {editors.REPORT_NOTES[key]}." in lines


def test_progress_is_taken_by_every_method(short):
    """Those that take steps call it, up to the last; the others don't."""
    _, calls = short
    assert not calls or calls[-1][0] == calls[-1][1]


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
    if editor.options.get("keep_typical"):  # each row of its own is kept by itself
        ws = WS
    shift = editor.edit(ws, {"Striped": 1.0}) - ws
    shift = shift[:, shift.abs().amax((0, 2)) > 0]  # all rows, but for methods that choose some
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=1e-5, rtol=0)


def test_bad_changes_are_refused(editor):
    for changes, words in (
        ({"Rde": 1.0}, "'Rde': did you mean 'Red'"),
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
    # Every number is the same; a sum's last bits may depend on where they lie in memory.
    torch.testing.assert_close(loaded.edit(WS, changes), editor.edit(WS, changes), rtol=0, atol=1e-5)
    torch.testing.assert_close(loaded.read(WS), editor.read(WS), rtol=1e-5, atol=1e-5)
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


def again(editor, tmp_path):
    """Return the bytes of an editor, and of another that is fitted by the options in its file."""
    editors.save(editor, tmp_path / "one.safetensors")
    metadata = editors.load_editor(tmp_path / "one.safetensors")
    fitted = editors.fit(
        metadata.method, labels_for(metadata.method), TOY, attributes=metadata.attributes, **metadata.options
    )
    editors.save(fitted, tmp_path / "two.safetensors")
    return [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("one", "two")]


def test_same_data_and_the_options_of_a_file_make_the_same_bytes(short, tmp_path):
    with torch.inference_mode():  # fitting needs gradients, whatever the mode that it's called in
        one, two = again(short[0], tmp_path)
    assert one == two


SHORT = NONLINEAR["guidedstyle"] | {"steps": 3, "classifier_steps": 10}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("balanced", {"against": "Bright", "attributes": ["Red", "Big"]}),
        ("balanced", {"others": 1, "attributes": ["Red", "Bright"]}),
        (
            "cardinality",
            COUNTING | {"recipe": "best", "preserve": 0.5, "gain": "", "classifier_steps": 20, "optimization_steps": 2},
        ),
        (
            "cardinality",
            COUNTING | {"recipe": "paper", "space": "w+", "rows": "resolution", "classifier_steps": 20, "steps": 5},
        ),
        ("compact", QUICK | {"recipe": "paper", "mref": torch.eye(5).tolist(), "residual": False, "steps": 5}),
        ("compact", {"recipe": {"width": 32, "path": True}, "steps": 5, "dtype": "bfloat16"}),
        ("compact", {"recipe": RECIPES["fast"], "hold": "none", "steps": 5, "width": 32}),
        ("ganspace", {"layers": "1-2", "components": 5}),
        ("guidedstyle", SHORT | {"pictures": 2}),
        ("guidedstyle", SHORT | {"scorer": "toy", "looks": 4}),
        ("interfacegan", {"conditional": {"Red": "Bright", "Big": "all"}, "share": 0.1}),
        ("sefa", {"layers": [0, 2], "eigenvectors": 3}),
    ],
)
def test_options_of_any_kind_are_taken_again(method, options, tmp_path):
    one, two = again(editors.fit(method, labels_for(method), TOY, **options), tmp_path)
    assert one == two


@pytest.mark.parametrize("rows", [7, [[0, 9], 4], [[0]], "9", [], "1-"])
def test_an_option_that_is_no_choice_of_rows_is_refused(rows):
    with pytest.raises(GanvasError, match="choice of rows|must be some of the rows|doesn't name layers"):
        editors.fit("mean_difference", labels(), TOY, masked=rows)


def test_codes_of_any_dtype_in_any_mode(editor):
    ws, amounts = WS[:4], torch.linspace(-1, 1, 4 * len(NAMES)).view(4, -1)
    for one in (editor, MaskedEditor(editor, (0, 2), TOY.num_ws)):
        check_any_float(lambda ws, one=one: one.edit(ws, {"Red": 1.0, "Big": amounts[:, 0].to(ws)}), ws, None)
        check_any_float(lambda w, one=one: one.shift(w, amounts.to(w)), ws.mean(1), None)
        check_any_float(lambda ws, one=one: one.shift_rows(ws, amounts.to(ws)), ws, None)
        check_any_float(one.read, ws, torch.float32)


def test_codes_of_float64_keep_their_last_digits(editor):
    ws, some = WS[:4].double() + 1e-12, torch.tensor([0.0, 1.0, 0.0, 0.0])
    moved = editor.edit(ws, {"Red": some})
    assert torch.equal(moved[[0, 2, 3]], ws[[0, 2, 3]])
    assert not torch.equal(moved[1], ws[1])
    shift = editor.edit(ws.float(), {"Red": some})[1].double() - ws[1].float()
    torch.testing.assert_close(moved[1] - ws[1], shift, rtol=1e-3, atol=1e-5)


def test_changes_have_finite_gradients(editor):
    with torch.inference_mode():
        made = WS[:4].clone()
    for ws in (WS[:4], made):
        change = torch.tensor([-1.5, 0.3, 1e-6, 1.0], requires_grad=True)
        editor.edit(ws, {"Red": change, "Big": 1.0}).square().mean().backward()
        assert change.grad.isfinite().all()


class Copies(TorchDispatchMode):
    """Records copies from one device to another."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if "copy" in func.__name__ and args[0].device != made.device:
            self.found.append(func.__name__)
        return made


def test_all_that_an_editor_reads_with_moves_with_it(editor):
    moved = copy.deepcopy(editor).to("meta")
    held = [*moved.parameters(), *moved.buffers(), moved.probe.weight, moved.gaussianize.scores]
    assert all(tensor.is_meta for tensor in held)
    elsewhere = WS.to("meta")
    with Copies() as copies:
        moved.read(elsewhere)
    assert not copies.found
    assert not any(tensor.is_meta for tensor in (*editor.buffers(), labels_for(editor.method).probe.weight))
    other = copy.deepcopy(editor).half()
    assert other.probe.weight.dtype == torch.float16
    assert torch.equal(other.gaussianize.scores, editor.gaussianize.scores)  # in float64: knots lie side by side


def test_some_attributes_in_their_order(editor):
    data = labels_for(editor.method)
    short = editor.method in NONLINEAR
    options = OPTIONS.get(editor.method, {}) | (FEW_STEPS[editor.method] if short else {})
    few = editors.fit(editor.method, data, TOY, attributes=["Big", "Red"], **options)
    assert few.attributes == ("Big", "Red")
    if not is_count_method(editor):  # these read with a network of their own, which was trained again
        torch.testing.assert_close(few.read(WS), editor.read(WS)[:, [2, 1]], atol=1e-5, rtol=0)
    moved = (few.read(few.edit(WS, {"Big": 1.0})) - few.read(WS)).mean(0)
    if short:  # after so little training an edit moves others, too
        assert moved[0] > 0
    else:
        assert moved[0] == pytest.approx(1.0, abs=reading_tolerance(few))


def test_damaged_files_are_refused_in_one_line(editor, tmp_path):
    path = tmp_path / "whole.safetensors"
    editors.save(editor, path)
    content, (tensors, metadata) = path.read_bytes(), load_tensors(path)
    bad = tmp_path / "bad.safetensors"

    def refused():
        with pytest.raises(GanvasError) as caught:
            editors.load_editor(bad)
        assert "\n" not in str(caught.value)
        assert str(bad) in str(caught.value)

    for size in (0, 7, 200, len(content) // 2, len(content) - 1):
        bad.write_bytes(content[:size])
        refused()
    # A network's tensors are alike: some of many are enough.
    for name, tensor in list(tensors.items())[:: max(len(tensors) // 24, 1)]:
        for wrong in (None, tensor[:-1].clone(), tensor.double() if tensor.dtype != torch.float64 else tensor.int()):
            others = {key: value for key, value in tensors.items() if key != name}
            save_tensors(bad, others if wrong is None else others | {name: wrong}, metadata)
            is_shorter = wrong is not None and len(wrong) < len(tensor)
            if is_shorter and name == "editor.p_whitening":
                continue  # of any number of components
            if name.startswith("editor.") or wrong is None or is_shorter:
                refused()
    for name in metadata:
        save_tensors(bad, tensors, {key: value for key, value in metadata.items() if key != name})
        refused()
        save_tensors(bad, tensors, metadata | {name: 7})
        refused()
    save_tensors(bad, tensors | {"probe.bias": tensors["probe.bias"] * float("nan")}, metadata)
    refused()
    save_tensors(bad, tensors | {"editor.surplus": torch.ones(1)}, metadata)
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
    with pytest.raises(GanvasError, match=r"'compcat': did you mean 'compact'\? Pick one of.*compact"):
        editors.fit("compcat", labels(), TOY)
    with pytest.raises(GanvasError, match="editor 'nothing/here'.*path"):
        editors.load_editor("nothing/here")
    for method in METHODS:
        with pytest.raises(GanvasError, match="option 'stepps': "):
            editors.fit(method, labels(), TOY, stepps=3)
        with pytest.raises(GanvasError, match="attribute 'Rde'"):
            editors.fit(method, labels(), TOY, attributes=["Rde"])


def test_an_editor_saved_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GanvasError, match="Can't write"):
        editors.save(compact(), tmp_path / "file" / "e.safetensors")


def test_shipped_editors_are_small_and_whole():
    root = editors._assets_folder()
    for generator, most in {"ffhq": 5e6, "multimnist": 6e6}.items():  # of the 5 and 10 MB that shared weights have
        assert sum(p.stat().st_size for p in root.glob(f"{generator}/*")) <= most
    for name in editors.list_editors():
        assert editors.load_editor(name).method in (*METHODS, "composed")
        assert editors.describe_editor(name)


@pytest.mark.parametrize("name", editors.list_editors())
def test_shipped_editors_take_any_dtype_in_any_mode(name):
    try:
        generator = load_generator(name.partition("/")[0])
    except GanvasError as error:
        pytest.skip(str(error))
    editor, ws = editors.load_editor(name, generator), sample(generator, 1)
    if isinstance(editor, ComposedEditor):
        editor = editor.with_search_steps(0)  # its search takes a second a code
    elif isinstance(editor, CardinalityEditor):
        editor = editor.with_search_steps(2)
    check_any_float(lambda ws: editor.edit(ws, {editor.attributes[0]: 1.0}), ws, None)
    check_any_float(editor.read, ws, torch.float32)


def test_data_and_editors_made_in_inference_mode_have_gradients_later():
    data = labels_for("latent_transformer")
    with torch.inference_mode():
        parts = (data.codes[:200].clone(), data.scores[:200].clone(), data.attributes, data.kinds)
        made = make_dataset(*parts, Source(), data.generator, data.scorer)
        editor = editors.fit("latent_transformer", made, TOY, components=8, width=8, classifier_steps=5, steps=5)
    leaf = WS.clone().requires_grad_()
    (editor.edit(leaf, {"Red": 1.0}).mean() + editor.read(leaf).mean()).backward()
    assert leaf.grad.isfinite().all()
    linear, change = editors.fit("mean_difference", labels(), TOY), torch.ones(1, requires_grad=True)
    with torch.inference_mode():
        linear = linear.orthogonalize("Red", "Bright").combine("Both", {"Red": 1.0, "Big": 1.0})
    linear.edit(WS, {"Both": change}).mean().backward()
    assert change.grad.isfinite().all()


def test_directions_made_orthogonal_to_others():
    linear = editors.fit("mean_difference", labels(), TOY)
    assert isinstance(linear, LinearEditor)
    apart = linear.orthogonalize("Red", "Bright")
    red, bright = (apart.directions[NAMES.index(name)] for name in ("Red", "Bright"))
    assert abs(torch.cosine_similarity(red, bright, dim=0)) < 1e-5
    assert (apart.read(apart.edit(WS, {"Red": 1.0})) - apart.read(WS))[:, 1].mean() == pytest.approx(1.0, abs=1e-3)
    assert torch.equal(linear.directions[0], apart.directions[0])
    with pytest.raises(GanvasError, match="Nothing"):
        linear.orthogonalize("Red", "Red")


def test_gains_are_bounded():
    responses = torch.tensor([0.5, 2.0, 1e-9, 100.0, 0.0, -1.0])
    assert compute_response_gains(responses).tolist() == pytest.approx([2.0, 0.5, 10.0, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e3, 1e30])
def test_the_length_of_directions_does_not_matter_to_calibrate(factor):
    data = labels()
    directions = torch.randn(len(NAMES), TOY.w_dim, generator=torch.Generator().manual_seed(0))
    directions[0] = data.probe.weight[:, 0]
    plain, gain = calibrate(directions, data.probe, data.w)
    scaled, scaled_gain = calibrate(directions * factor, data.probe, data.w)
    torch.testing.assert_close(scaled, plain)
    torch.testing.assert_close(scaled_gain, gain)
    assert (plain[0] @ data.probe.weight[:, 0]).item() == pytest.approx(1)


@pytest.mark.parametrize("number", [0.0, float("nan"), float("inf")])
def test_a_direction_without_a_length_is_refused(number):
    directions = torch.ones(len(NAMES), TOY.w_dim)
    directions[1] = number
    with pytest.raises(GanvasError, match="Direction 1"):
        calibrate(directions, labels().probe, labels().w)


def test_different_editors_have_different_fingerprints():
    prints = {editors.fingerprint(editors.fit("mean_difference", labels(), TOY, share=s)) for s in (0.1, 0.2)}
    assert len(prints | {editors.fingerprint(compact()), editors.fingerprint(disentangled())}) == 4


def test_a_report_that_lacks_something_is_shown_all_the_same():
    editor = disentangled()
    editor.report = {"mean": None, "correlation": {NAMES[0]: 0.5, NAMES[1]: "strong"}}
    first, _, *rows, note = editors.format_report_lines(editor)
    assert first.split() == ["mean", "none"]
    assert [row.split()[1] for row in rows] == ["0.500", "strong", *["none"] * (len(NAMES) - 2)]
    assert note.startswith("correlation: ")


def test_what_was_hardly_learned_is_listed():
    noise = labels()
    noise = make_dataset(
        noise.codes,
        torch.cat((noise.scores[:, :1], torch.randn(len(noise), 1)), 1),
        ("Bright", "Noise"),
        ("value", "value"),
        Source(),
        noise.generator,
        noise.scorer,
    )
    brief = {"latent2latent": BRIEF["latent2latent"], "compact": QUICK}
    for method, options in brief.items():
        assert editors.list_poorly_learned(editors.fit(method, noise, TOY, **options)) == ("Noise",)
    assert editors.list_poorly_learned(editors.fit("mean_difference", noise, TOY)) == ()
