"""Linear editors: they recover planted directions, report errors, and their algebra has its laws."""

import copy
from dataclasses import replace

import pytest
import torch
from fitted_editors import NAMES, QUICK, TOY, labels

from ganvas import GanvasError, editors, sample
from ganvas.cli import main
from ganvas.data.dataset import Source, make_dataset
from ganvas.data.probe import Probe
from ganvas.editors.base import LinearEditor
from ganvas.editors.masked import MaskedEditor, mask_editor, parse_rows

WS = sample(TOY, 40, 0.7, 0)
SUPERVISED = ("interfacegan", "balanced")


def planted_cosines(editor):
    """Return |cos| of each attribute's direction with the planted one."""
    linear = editor.inner if isinstance(editor, MaskedEditor) else editor
    planted = torch.stack([TOY.planted[name] for name in editor.attributes])
    return dict(zip(editor.attributes, torch.cosine_similarity(linear.directions, planted).abs().tolist(), strict=True))


def fit(method, **options):
    editor = editors.fit(method, labels(), TOY, **options)
    assert isinstance(editor, LinearEditor | MaskedEditor)
    return editor


def rare_labels(positives, n=500, constant=False):
    """Return labels of one attribute that few codes have, and one that varies."""
    data = labels().subset(torch.arange(n))
    scores = data.scores[:, :2].clone()
    scores[:, 0] = 0.0
    scores[:positives, 0] = 1.0
    made = make_dataset(data.codes, scores, ("Rare", "Red"), data.kinds[:2], Source(), TOY.fingerprint, "toy:0")
    return made.subset(torch.arange(positives, n)) if constant else made


@pytest.mark.parametrize("method", SUPERVISED)
def test_planted_directions_are_found(method):
    entangled = planted_cosines(fit("mean_difference"))
    for name, cos in planted_cosines(fit(method)).items():
        assert cos > 0.88
        assert cos > entangled[name] or entangled[name] > 0.98


def test_more_labels_find_them_better():
    few, many = (
        min(planted_cosines(editors.fit("interfacegan", labels().subset(torch.arange(n)), TOY)).values())
        for n in (300, 3000)
    )
    assert many > few + 0.1


def test_a_conditional_boundary_is_orthogonal_to_the_others():
    plain = fit("interfacegan")
    every = fit("interfacegan", conditional="all")
    for k in range(len(NAMES)):
        rest = [i for i in range(len(NAMES)) if i != k]
        assert torch.cosine_similarity(every.directions[k], plain.directions[rest]).abs().max() < 1e-3
    one = fit("interfacegan", conditional={"Red": ["Bright"]})
    red, bright = NAMES.index("Red"), NAMES.index("Bright")
    assert abs(torch.cosine_similarity(one.directions[red], plain.directions[bright], dim=0)) < 1e-4
    others = [k for k in range(len(NAMES)) if k != red]
    torch.testing.assert_close(one.directions[others], plain.directions[others])
    assert one.options["conditional"] == {"Red": ["Bright"]}
    assert one.report["kept"]["Red"] < one.report["kept"]["Bright"] == 1.0


def test_conditions_may_name_attributes_that_are_not_fitted():
    few = fit("interfacegan", attributes=["Red"], conditional=["Bright"])
    full = fit("interfacegan", conditional={"Red": ["Bright"]})
    torch.testing.assert_close(few.directions[0], full.directions[NAMES.index("Red")])


def test_balanced_sides_have_others_equally_often():
    from ganvas.editors import balanced

    a = labels().normals()
    has = a > a.median(0).values
    order = a[:, 1].argsort(stable=True)
    low, high = balanced._balance_sides(
        (order[:900], order[-900:]), has[:, [0, 4]], balanced.BalancedConfig(0.3, 800, 0)
    )
    cells = [torch.bincount(has[rows][:, [0, 4]].long() @ torch.tensor([1, 2]), minlength=4) for rows in (low, high)]
    assert torch.equal(*cells)
    assert len(set(cells[0].tolist())) == 1
    assert len(low) <= 400


def test_balancing_removes_a_correlated_attribute_from_the_samples():
    """Red goes with Bright: how far the two sides of Red are apart along Bright."""
    from ganvas.editors import balanced

    data, red = labels(), NAMES.index("Red")
    a = data.normals()
    order = a[:, red].argsort(stable=True)
    halves = order[:1500], order[1500:]
    even = balanced._balance_sides(
        halves, (a > a.median(0).values)[:, [NAMES.index("Bright")]], balanced.BalancedConfig(0.5, 3000, 0)
    )
    apart = [(data.w[high].mean(0) - data.w[low].mean(0)) @ TOY.planted["Bright"] for low, high in (halves, even)]
    assert apart[1].abs() < 0.6 * apart[0]


def test_attributes_to_balance_against_can_be_given():
    few = fit("balanced", attributes=["Red"], against="Bright, Red")
    assert few.report["against"] == ["Red: Bright"]
    for others in (0, 1, 2):
        [against] = fit("balanced", attributes=["Red"], others=others).report["against"]
        names = against.removeprefix("Red: ").split(" + ")
        assert len(set(names) & set(NAMES)) == others


def test_ganspace_finds_the_axes_of_the_distribution():
    """The toy's W is widest along Bright + Red and Big - Striped; Right shares its variance with nothing named."""
    editor = fit("ganspace")
    wide = (TOY.planted["Bright"] + TOY.planted["Red"]) / 2**0.5
    assert abs(torch.cosine_similarity(editor.directions[NAMES.index("Red")], wide, dim=0)) > 0.9
    assert editor.report["axis"]["Red"] == editor.report["axis"]["Bright"]
    assert abs(editor.report["correlation"]["Red"]) > 0.7
    assert editor.report["axes"][0].split()[1] in ("Bright", "Red", "Big", "Striped")


@pytest.mark.parametrize("method", ["interfacegan", "ganspace", "sefa", "compact"])
def test_attributes_that_hardly_move_are_reported(method):
    """Red is read so weakly that no possible gain makes up for it."""
    known, red = labels(), NAMES.index("Red")
    weight = known.probe.weight.clone()
    weight[:, red] *= 1e-3
    options = QUICK if method == "compact" else {}
    editor = editors.fit(method, replace(known, probe=Probe(weight, known.probe.bias)), TOY, **options)
    moved = [(editor.read(editor.edit(WS, {name: 1.0})) - editor.read(WS))[:, k].mean() for k, name in enumerate(NAMES)]
    hardly = [name for name, change in zip(NAMES, moved, strict=True) if change < 0.5]
    assert "Red" in hardly and len(hardly) < len(NAMES)
    assert editor.report["unresponsive"] == hardly


@pytest.mark.parametrize(("row", "name"), [(0, "Bright"), (1, "Red"), (3, "Striped")])
def test_sefa_finds_what_a_layer_draws(row, name):
    editor = fit("sefa", layers=[row])
    assert planted_cosines(editor)[name] > 0.999
    assert editor.report["axis"][name] == 0
    assert name not in editor.report["unresponsive"]
    assert (editor.edit(WS, {name: 1.0}) != WS).any(2).any(0).nonzero().flatten().tolist() == [row]
    moved = TOY.compute_coordinates(editor.edit(WS, {name: 1.0})) - TOY.compute_coordinates(WS)
    assert moved[:, NAMES.index(name)].mean() > 0.8


def test_layers_are_rows_or_resolutions():
    assert parse_rows("0-1,3", TOY) == parse_rows([3, 0, 1, 1], TOY) == (0, 1, 3)
    assert parse_rows("8-16px", TOY) == (1, 2)
    assert parse_rows("32px,0", TOY) == (0, 3)
    for layers in ("4", "2-9", [7], [-1], [], "5px", "one", "", "0-"):
        with pytest.raises(GanvasError):
            parse_rows(layers, TOY)


@pytest.mark.parametrize("method", ["interfacegan", "compact"])
def test_a_masked_editor_moves_its_rows_only(method, tmp_path):
    from fitted_editors import compact

    whole = compact() if method == "compact" else fit(method)
    editor = mask_editor(whole, "8-16px", TOY)
    moved = editor.edit(WS, {"Red": 1.0})
    assert torch.equal(moved[:, [0, 3]], WS[:, [0, 3]])
    torch.testing.assert_close(moved[:, 1:3], whole.edit(WS, {"Red": 1.0})[:, 1:3])
    reading = (editor.read(moved) - editor.read(WS))[:, NAMES.index("Red")]
    assert reading.mean() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(editor.edit(WS, {"Red": 0.0}), WS)
    editors.save(editor, tmp_path / "masked.safetensors")
    loaded = editors.load_editor(tmp_path / "masked.safetensors", TOY)
    assert isinstance(loaded, MaskedEditor)
    torch.testing.assert_close(loaded.edit(WS, {"Red": 1.0}), moved, rtol=0, atol=1e-5)
    assert editors.fingerprint(loaded) == editors.fingerprint(editor) != editors.fingerprint(whole)
    assert loaded.report == editor.report
    with pytest.raises(GanvasError, match="4 rows"):
        editor.edit(WS[:, :2], {"Red": 1.0})


def test_masks_of_masks_meet():
    whole = fit("mean_difference")
    twice = mask_editor(mask_editor(whole, "0-2", TOY), "2-3", TOY)
    assert isinstance(twice, MaskedEditor) and twice.rows == (2,) and twice.inner is whole
    assert mask_editor(whole, None, TOY) is whole
    with pytest.raises(GanvasError, match="No row is left"):
        mask_editor(mask_editor(whole, "0", TOY), "1", TOY)


def test_a_damaged_mask_is_refused(tmp_path):
    from ganvas.io.files import load_tensors, save_tensors

    editors.save(mask_editor(fit("mean_difference"), "1", TOY), tmp_path / "one.safetensors")
    tensors, metadata = load_tensors(tmp_path / "one.safetensors")
    for wrong in (7, [], [[9], 4], [[1, 0], 4], [[-1], 4], [["1"], 4], [[], 4], [[1], 2.5]):
        save_tensors(tmp_path / "two.safetensors", tensors, metadata | {"options": {"masked": wrong}})
        with pytest.raises(GanvasError, match="damaged"):
            editors.load_editor(tmp_path / "two.safetensors")


def test_a_combination_is_its_parts(tmp_path):
    editor = fit("interfacegan")
    assert isinstance(editor, LinearEditor)
    both = editor.combine("Vivid", {"Bright": 1.0, "Red": 0.5})
    torch.testing.assert_close(both.edit(WS, {"Vivid": 2.0}), editor.edit(WS, {"Bright": 2.0, "Red": 1.0}))
    torch.testing.assert_close(both.edit(WS, {"Big": 1.0}), editor.edit(WS, {"Big": 1.0}))
    moved = (both.read(both.edit(WS, {"Vivid": 1.0})) - both.read(WS))[:, -1]
    torch.testing.assert_close(moved, torch.ones(len(WS)), atol=1e-3, rtol=0)
    editors.save(both, tmp_path / "both.safetensors")
    loaded = editors.load_editor(tmp_path / "both.safetensors", TOY)
    assert loaded.attributes == (*NAMES, "Vivid")
    assert editors.fingerprint(loaded) == editors.fingerprint(both)
    editors.format_report_lines(loaded)
    for name, weights, words in (
        ("Red", {"Big": 1.0}, "name of its own"),
        ("X", {}, "finite weights"),
        ("X", {"Bgi": 1.0}, "'Bgi'"),
        ("X", {"Big": float("inf")}, "finite weights"),
        ("X", {"Big": 0.0}, "cancel"),
    ):
        with pytest.raises(GanvasError, match=words):
            editor.combine(name, weights)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("interfacegan", {"share": 0.0}, "share"),
        ("interfacegan", {"c": -1.0}, "c must be"),
        ("interfacegan", {"conditional": "Rde"}, "'Rde'"),
        ("interfacegan", {"conditional": {"Rde": ["Red"]}}, "'Rde'"),
        ("interfacegan", {"attributes": ["Rde"]}, "'Rde'"),
        ("balanced", {"others": -1}, "others"),
        ("balanced", {"against": ["Rde"]}, "'Rde'"),
        ("balanced", {"share": 0.7}, "share"),
        ("balanced", {"max_codes": 3}, "max_codes"),
        ("balanced", {"c": 0.0}, "c must be"),
        ("balanced", {"share": 0.004, "against": ["Bright", "Big", "Striped"]}, "Too few codes"),
        ("ganspace", {"components": 0}, "components"),
        ("ganspace", {"layers": "9"}, "rows 0 to 3"),
        ("sefa", {"eigenvectors": True}, "eigenvectors"),
        ("sefa", {"layers": "7px"}, "No row acts at 7px"),
    ],
)
def test_bad_options_are_one_line(method, options, words):
    with pytest.raises(GanvasError, match=words) as caught:
        fit(method, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", SUPERVISED)
def test_too_few_positives_and_constant_scores_are_named(method):
    with pytest.raises(GanvasError, match="'Rare' has too few positives: 4 of 500"):
        editors.fit(method, rare_labels(4), TOY)
    with pytest.raises(GanvasError, match="'Rare' has too few negatives: 5 of 500"):
        editors.fit(method, rare_labels(495), TOY)
    with pytest.raises(GanvasError, match="'Rare' has one score everywhere"):
        editors.fit(method, rare_labels(30, constant=True), TOY)
    editors.fit(method, rare_labels(30), TOY, attributes=["Rare"])


def test_sefa_needs_style_weights():
    plain = copy.copy(TOY)
    plain.style_weights = lambda: []
    with pytest.raises(GanvasError, match="no style weights"):
        editors.fit("sefa", labels(), plain)


@pytest.mark.parametrize("method", editors.list_unlabelled_methods())
def test_directions_without_labels_move_codes_by_one_deviation_of_their_own(method, tmp_path):
    editor = editors.fit_unlabelled(method, TOY, layers="0-2")
    ws = sample(TOY, 200, 1.0, 0)
    moved = editor.edit(ws, {"component1": 1.0}) - ws
    assert moved[:, 3:].abs().max() == 0 and moved[:, :3].abs().max() > 0
    assert (editor.read(ws + moved) - editor.read(ws))[:, 1].mean() == pytest.approx(1, abs=0.01)
    assert editor.read(ws)[:, 1].std() == pytest.approx(1, abs=0.2)
    out = tmp_path / "e.safetensors"
    with pytest.raises(SystemExit, match="^0$"):
        main(["fit", method, "toy", "--out", str(out)])
    assert torch.equal(editors.load_editor(out, TOY).edit(ws, {}), ws)
    with pytest.raises(GanvasError, match="needs labels; those that don't are ganspace, sefa"):
        editors.fit_unlabelled("compact", TOY)
