"""The compact editor on planted truth: it recovers the attributes, and moves correlated ones less."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from autograd_modes import check_any_float
from fitted_editors import NAMES, QUICK, TOY, compact, labels

from ganvas import GanvasError, editors, sample
from ganvas.data.dataset import Source, make_dataset
from ganvas.data.pca import fit_pca
from ganvas.editors import compact as module
from ganvas.editors._compact_moves import MAX_LENGTH, MoveCalibrationSet, TypicalShell, calibrate_moves, measure_moves
from ganvas.editors._compact_network import (
    RECIPES,
    CompactConfig,
    TrainablePerceptron,
    compute_losses,
    measure_off_diagonal,
    parse_recipe,
    solve_linear_start,
)
from ganvas.editors._networks import Perceptron, compute_correlation
from ganvas.editors.base import collect_metadata
from ganvas.editors.compact import CompactEditor, compute_held_weights, from_tensors
from ganvas.io.files import load_tensors, save_tensors

WS = sample(TOY, 200, 1.0, 0)


def leak(editor, name, other):
    """Return how far the planted ``other`` moves where the planted ``name`` moves by 1."""
    moved = (TOY.compute_coordinates(editor.edit(WS, {name: 1.0})) - TOY.compute_coordinates(WS)).mean(0)
    return float((moved[NAMES.index(other)] / moved[NAMES.index(name)]).abs())


@pytest.mark.parametrize(
    ("mref", "hold", "share"), [("identity", 2.0, 0.75), ("labels", None, 0.3), ("labels", 2.0, 0.75)]
)
def test_what_goes_with_an_attribute_moves_less_than_by_mean_difference(mref, hold, share):
    baseline = editors.fit("mean_difference", labels(), TOY)
    editor = editors.fit("compact", labels(), TOY, mref=mref, hold=hold, **QUICK)
    for name, other in (("Red", "Bright"), ("Bright", "Red"), ("Big", "Striped"), ("Striped", "Big")):
        assert leak(editor, name, other) < share * leak(baseline, name, other)


def test_the_planted_attribute_moves():
    for k, name in enumerate(NAMES):
        moved = TOY.compute_coordinates(compact().edit(WS, {name: 1.0})) - TOY.compute_coordinates(WS)
        assert moved.mean(0)[k] == pytest.approx(1.0, abs=0.25)


def test_a_change_of_next_to_nothing_does_next_to_nothing():
    ws = sample(TOY, 8, 1.0, 0)
    alone = compact().edit(ws, {"Red": 3.0})
    assert (compact().edit(ws, {"Red": 3.0, "Big": 1e-4}) - alone).norm() < 1e-3 * (alone - ws).norm()


def test_what_was_measured_is_what_an_edit_does():
    editor, w = compact(), sample(TOY, 2000, 1.0, 0)[:, 0]
    for k, name in enumerate(editor.attributes):
        change = torch.eye(len(editor.attributes))[k].expand(len(w), -1)
        moved = editor.pca.project(w + editor.shift(w, change)) - editor.pca.project(w)
        length = (moved / editor.shell.deviations).norm(dim=1).mean()
        assert editor.report["length"][name] == pytest.approx(float(length), rel=0.03)


def test_the_shell_is_built_once(tmp_path, monkeypatch):
    editor, built = compact(), []
    made = module._compute_deviations
    monkeypatch.setattr(module, "_compute_deviations", lambda *arguments: built.append(1) or made(*arguments))
    editors.save(editor, tmp_path / "one.safetensors")
    loaded = editors.load_editor(tmp_path / "one.safetensors", TOY)
    built.clear()
    for one in (editor, loaded):
        one.edit(WS, {"Red": 1.0})
        one.predict_scores(WS.mean(1))
    assert not built
    assert torch.equal(loaded.shell.deviations, editor.shell.deviations)
    assert torch.equal(loaded.shell.readings, editor.shell.readings)
    assert not [name for name in editor.state_dict() if "shell" in name]
    check_any_float(editor.encode, WS[:4].mean(1), None)
    check_any_float(editor.decode, editor.encode(WS[:4].mean(1)), None)
    check_any_float(editor.predict_scores, WS[:4].mean(1), torch.float32)


def test_codes_that_do_not_vary_have_a_shell():
    assert module._compute_deviations(torch.tensor([4.0, 1.0, 0.0, 9.0]), 3).tolist() == pytest.approx([2, 1, 2e-6])
    assert module._compute_deviations(torch.zeros(4), 3).tolist() == [1, 1, 1]


def test_a_reading_comes_back_but_not_what_was_truncated():
    editor, ws = compact(), sample(TOY, 64, 1.0, 0)
    back = editor.edit(editor.edit(ws, {"Red": 2.0}), {"Red": -2.0})
    off = (editor.read(back) - editor.read(ws))[:, NAMES.index("Red")].abs()
    assert off.mean() < 0.25
    assert not torch.allclose(back, ws, atol=0.05)


def test_the_aim_is_an_option():
    assert compact().options["aim"] == "probability"
    assert parse_recipe("paper-text", {}).aim == parse_recipe("fast", {"hold": None}).aim == "score"
    with pytest.raises(GanvasError, match="needs hold"):
        parse_recipe("paper-text", {"aim": "probability"})
    with pytest.raises(GanvasError, match="pick one of score, probability"):
        parse_recipe("fast", {"aim": "high"})


def test_what_was_measured_is_reported():
    report = compact().report
    assert report["held_out"] == 900
    assert report["trained_on"] == 2100
    assert report["reconstructed"] > 0.98
    assert report["mean_correlation"] > 0.8
    assert report["codes_off_diagonal"] < 0.06 < report["labels_off_diagonal"]
    assert set(report["correlation"]) == set(report["length"]) == set(report["others"]) == set(NAMES)
    assert report["unresponsive"] == []
    lines = editors.format_report_lines(compact())
    assert any(line.startswith("Bright") for line in lines)
    assert lines[0].split() == ["hold", "2.0000"]


def test_codes_are_attributes_and_come_back():
    editor, w = compact(), WS[:, 0]
    c = editor.encode(w)
    truth = TOY.compute_coordinates(WS)
    for k in range(len(NAMES)):
        assert torch.corrcoef(torch.stack((c[:, k], truth[:, k])))[0, 1] > 0.8
    inside = editor.pca.unproject(editor.pca.project(w))
    assert (editor.decode(c) - inside).square().mean() < 0.02 * inside.var()


def test_without_the_residual_the_code_is_the_decoders_alone():
    editor = editors.fit("compact", labels(), TOY, residual=False, components=20, **QUICK)
    moved = editor.edit(WS, {"Red": 1.0})
    beyond = moved[:, 0] - editor.pca.unproject(editor.pca.project(moved[:, 0]))
    assert beyond.abs().max() < 1e-4
    assert torch.equal(editor.edit(WS, {"Red": 0.0}), WS)
    kept = compact().edit(WS, {"Red": 1.0})[:, 0] - WS[:, 0]
    axes = compact().pca.components
    torch.testing.assert_close(kept, kept @ axes.T @ axes, atol=1e-4, rtol=0)


def test_the_recipe_of_the_papers_text():
    text = parse_recipe("paper-text", {})
    assert (text.depth, text.width, text.epochs, text.batch, text.rate) == (8, 512, 150, 256, 2e-4)
    assert (text.alpha, text.beta, text.path, text.decay) == (1e-5, 1e-5, False, 0.0)
    assert text.count_steps(140_000) == 150 * 546
    editor = editors.fit("compact", labels(), TOY, recipe="paper-text", steps=30, width=64)
    assert editor.options["recipe"] == "paper-text"
    assert editor.options["hold"] is None
    assert editor.options["steps"] == 30


def test_the_recipe_of_the_papers_authors():
    authors = parse_recipe("paper", {})
    assert (authors.alpha, authors.beta) == pytest.approx((512e-5, 512e-5))
    assert (authors.correlated, authors.slope, authors.max_score, authors.pca_codes) == ("codes", 0.01, 3.1, 10_000)
    editor = editors.fit("compact", labels(), TOY, recipe="paper", steps=30, width=64, components=20, dim=20)
    assert isinstance(editor, CompactEditor)
    w, moved = WS[:, 0], editor.edit(WS, {"Red": 1.0})[:, 0]
    pca = editor.pca
    torch.testing.assert_close(
        moved - pca.unproject(pca.project(moved)), w - pca.unproject(pca.project(w)), atol=1e-4, rtol=0
    )
    c = editor.encode(w)
    c[:, NAMES.index("Red")] += editor.get_buffer("moves")[NAMES.index("Red"), NAMES.index("Red")]
    torch.testing.assert_close(pca.project(moved), pca.project(editor.decode(c)), atol=1e-3, rtol=0)
    with pytest.raises(GanvasError, match="keeps what lies beyond"):
        parse_recipe("fast", {"keep_beyond": True})


def test_correlations_of_all_codes_are_trained_on():
    unlike = {}
    for correlated in ("attributes", "codes"):
        options = {"recipe": "paper-text", "beta": 1.0, "steps": 150, "width": 32, "components": 20, "dim": 20}
        editor = editors.fit("compact", labels(), TOY, correlated=correlated, **options)
        unlike[correlated] = measure_off_diagonal(compute_correlation(editor.encode(labels().w)))
    assert unlike["codes"] < 0.7 * unlike["attributes"]


def test_any_reference_matrix():
    wanted = torch.eye(5)
    wanted[0, 1] = wanted[1, 0] = -0.4
    editor = editors.fit("compact", labels(), TOY, mref=wanted.tolist(), **QUICK)
    found = compute_correlation(editor.encode(labels().w)[:, :5])
    assert (found - wanted).abs().max() < 0.15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": "slow"}, "recipe 'slow': pick one of paper, paper-text, fast"),
        ({"mref": "zero"}, "mref 'zero'"),
        ({"mref": [[1.0]]}, "5 rows"),
        ({"mref": [["x"]]}, "matrix of numbers"),
        ({"hold": True}, "hold must be a finite number, not True"),
        ({"hold": -1.0}, "not -1.0"),
        ({"hold": float("inf")}, "not inf"),
        ({"hold": "much"}, "not 'much'"),
        ({"mref": [[2.0] * 5] * 5}, "correlation"),
        ({"mref": (0.5 * torch.eye(5)).tolist()}, "correlation"),
        ({"mref": (torch.eye(5) + torch.eye(5).roll(1, 0) / 2).tolist()}, "correlation"),
        ({"mref": (3 * torch.ones(5, 5) - 2 * torch.eye(5)).tolist()}, "correlation"),
        ({"dim": 3}, "can't hold 5 attributes"),
        ({"components": 0}, "components must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"alpha": float("nan")}, "alpha must be"),
        ({"dtype": "float16"}, "dtype 'float16': did you mean 'bfloat16'"),
        ({"recipe": {"widht": 3}}, "option 'widht'"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(GanvasError, match=words):
        editors.fit("compact", labels(), TOY, **options)


@cache
def alone():
    """Fit as ``compact()``, but with c_k moving alone; "none" as on the command line."""
    return editors.fit("compact", labels(), TOY, hold="none", **QUICK)


def labels_with_scores(a, *names):
    """Return the toy's codes with other scores."""
    known = labels()
    return make_dataset(known.w, a, names, ("value",) * len(names), Source(), TOY.fingerprint, known.scorer)


def test_hold_shortens_the_moves_of_twins_and_keeps_the_response():
    x = fit_pca(labels().w, 2).project(labels().w)
    x = x / x.std(0)
    twins = labels_with_scores(torch.stack((x[:, 0], x[:, 0] + 0.2 * x[:, 1]), 1), "One", "Twin")
    single, held = (editors.fit("compact", twins, TOY, mref="labels", hold=hold, **QUICK) for hold in ("none", 2.0))
    for editor in (single, held):
        assert list(editor.report["response"].values()) == pytest.approx([1.0, 1.0], abs=0.05)
    for name in ("One", "Twin"):
        assert held.report["length"][name] < 0.7 * single.report["length"][name]


def test_hold_is_reported():
    assert alone().options["hold"] is None
    assert compact().options["hold"] == 2.0
    assert editors.format_report_lines(alone())[0].split() == ["hold", "none"]


def test_hold_is_saved(tmp_path):
    for editor in (alone(), compact()):
        editors.save(editor, tmp_path / "editor.safetensors")
        again = editors.load_editor(tmp_path / "editor.safetensors", TOY)
        assert again.options == editor.options
        assert editors.fingerprint(again) == editors.fingerprint(editor)
        torch.testing.assert_close(again.edit(WS, {"Red": 1.0}), editor.edit(WS, {"Red": 1.0}), rtol=0, atol=1e-5)


@pytest.mark.parametrize("hold", [None, 2.0])
def test_what_nothing_in_w_follows_moves_little(hold):
    a = torch.randn(len(labels()), 2, generator=torch.Generator().manual_seed(0))
    noisy = labels_with_scores(a, "Noise", "Chance")
    editor = editors.fit("compact", noisy, TOY, hold=hold, **QUICK)
    assert editor.get_buffer("moves").isfinite().all()
    assert max(editor.report["length"].values()) <= MAX_LENGTH * 1.01


@pytest.mark.parametrize("hold", [None, 0.0, 2.0])
def test_what_the_probe_cannot_read_is_bounded(hold):
    rng = torch.Generator().manual_seed(0)
    decoder = TrainablePerceptron(Perceptron(6, 6, 16, 2, False), False, False).fold_norms()
    for scale in (1e-9, 0.0, float("nan")):
        weight = torch.randn(6, 2, generator=rng) * torch.tensor([1.0, scale])
        shell = TypicalShell(torch.full((6,), 1e-3), weight, 0.0)
        calibration = MoveCalibrationSet(torch.zeros(64, 6), torch.randn(64, 6, generator=rng), decoder, shell, weight)
        weights = None if hold is None else compute_held_weights(CompactConfig(hold=hold), ("A", "B"))
        moves = calibrate_moves(calibration, torch.eye(2, 6), weights)
        assert moves.isfinite().all()
        measured = measure_moves(calibration, moves)
        assert (measured.length <= MAX_LENGTH * 1.01).all()
        assert not measured.response[1] >= 0.5
        if hold is not None and scale == 1e-9:
            assert measured.length[1] == pytest.approx(MAX_LENGTH, rel=0.1)


def test_protected_attributes_are_held_more_unless_they_are_entailed():
    config = CompactConfig(hold=2.0, protected=("Age", "Male", "Nobody"), protection=8.0, entailed={"Young": ("Age",)})
    weights = compute_held_weights(config, ("Age", "Young", "Male"))
    expected = [[0.0, 2.0, 16.0], [0.0, 0.0, 16.0], [16.0, 2.0, 0.0]]  # youth is age, and isn't protected itself
    assert weights.tolist() == expected


def test_an_edit_changes_a_protected_reading_less():
    others = {}
    for protected in ((), ("Bright",)):
        editor = editors.fit("compact", labels(), TOY, hold=0.5, protected=protected, protection=50.0, **QUICK)
        change = editor.read(editor.edit(WS, {"Red": 1.0})) - editor.read(WS)
        others[protected] = change[:, editor.attributes.index("Bright")].abs().mean()
    assert others["Bright",] < 0.6 * others[()]


def test_files_of_before_have_no_protected_attributes(tmp_path):
    editor = compact()
    editors.save(editor, tmp_path / "new.safetensors")
    tensors, metadata = load_tensors(tmp_path / "new.safetensors")
    options = {
        key: value for key, value in metadata["options"].items() if key not in ("protected", "protection", "entailed")
    }
    save_tensors(tmp_path / "old.safetensors", tensors, metadata | {"options": options})
    again = editors.load_editor(tmp_path / "old.safetensors", TOY)
    torch.testing.assert_close(again.edit(WS, {"Red": 1.0}), editor.edit(WS, {"Red": 1.0}), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "damage", [{"mref": [["x"]]}, {"width": 10**30}, {"hold": "much"}, {"dim": None}, {"rate": [1]}, {"path": 3}]
)
def test_damaged_options_are_refused(damage):
    known = collect_metadata(compact())
    with pytest.raises(GanvasError):
        from_tensors(compact().state_dict(), replace(known, options=dict(known.options) | damage))


def test_no_processor_chooses_the_dtype():
    assert compact().options["dtype"] == CompactConfig().dtype == "float32"
    coarse = editors.fit("compact", labels(), TOY, dtype="bfloat16", **QUICK)
    assert not torch.equal(coarse.edit(WS, {"Red": 1.0}), compact().edit(WS, {"Red": 1.0}))


def test_a_recipe_is_its_name():
    short, few = {"width": 16, "steps": 5}, labels().subset(torch.arange(200))
    for name, recipe in RECIPES.items():
        by_name, by_value = (editors.fit("compact", few, TOY, recipe=r, **short) for r in (name, recipe))
        assert editors.fingerprint(by_name) == editors.fingerprint(by_value)
    assert editors.fit("compact", few, TOY, **short).options["recipe"] == "fast"


def test_files_of_before_dtype_are_read(tmp_path):
    for short, dtype in ((True, "bfloat16"), (False, "float32")):
        old = {name: value for name, value in compact().options.items() if name != "dtype"} | {"bfloat16": short}
        known = replace(collect_metadata(compact()), options=old)
        editors.save(from_tensors(compact().state_dict(), known), tmp_path / "old.safetensors")
        read = editors.load_editor(tmp_path / "old.safetensors", TOY)
        assert read.options == old
        assert torch.equal(read.edit(WS, {"Red": 1.0}), compact().edit(WS, {"Red": 1.0}))
        assert parse_recipe(old.pop("recipe"), old).dtype == dtype


def test_chance_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    editors.fit("compact", labels().subset(torch.arange(200)), TOY, steps=2, width=16)
    assert torch.equal(torch.rand(3), expected)


def test_components_come_back_and_keep_their_signs():
    w = labels().w
    pca = fit_pca(w, 64)
    torch.testing.assert_close(pca.unproject(pca.project(w)), w, atol=1e-4, rtol=0)
    torch.testing.assert_close(fit_pca(w.flip(0), 5).components, pca.components[:5], atol=1e-3, rtol=0)
    assert pca.share[-1] == pytest.approx(1.0)
    assert (pca.variances.diff() <= 0).all()
    torch.testing.assert_close(pca.project(w).var(0, correction=0), pca.variances, atol=1e-3, rtol=1e-3)
    with pytest.raises(GanvasError, match="from 1 to 64"):
        fit_pca(w, 65)


def test_losses_as_written():
    x, y, a = (torch.tensor(rows) for rows in ([[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[1.0], [3.0]]))
    c = torch.tensor([[1.0, 5.0], [2.0, 5.0]])
    recons, attr, corr = compute_losses(x, c, y, a, torch.eye(1))
    assert (float(recons), float(attr), float(corr)) == pytest.approx((2.5, 0.5, 0.0), abs=1e-5)


def test_batch_norm_folds_into_the_layers():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(512, 6, generator=rng)
    for path in (False, True):
        learner = TrainablePerceptron(Perceptron(6, 4, 16, 3, path), True, False)
        if path:
            learner.initialize(torch.randn(6, 4, generator=rng), torch.ones(4))
        for _ in range(5):
            learner(x + torch.randn(x.shape, generator=rng))
        expected = learner.eval()(x)
        torch.testing.assert_close(learner.fold_norms()(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dim", [3, 6, 10, 12])
def test_the_linear_start_is_right(dim):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 10, generator=rng) * torch.linspace(2, 0.5, 10)
    x = x - x.mean(0)
    a = x @ torch.randn(10, 3, generator=rng) + torch.randn(4000, 3, generator=rng)
    encoder, decoder = (m.float() for m in solve_linear_start(x, a, torch.eye(3), dim))
    c = x @ encoder
    assert (compute_correlation(c[:, :3]) - torch.eye(3)).abs().max() < 1e-3
    lost = (c @ decoder - x).square().sum() / x.square().sum()
    assert lost < 1e-4 if dim >= 10 else lost < 0.8


def test_learning_where_gradients_are_off():
    with torch.no_grad():
        editor = editors.fit("compact", labels(), TOY, steps=2, width=16)
    assert not any(p.requires_grad for p in editor.parameters())


def test_truncation_is_a_share_and_needs_the_residual():
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(GanvasError, match="truncation must be a (finite )?number"):
            parse_recipe("fast", {"truncation": wrong})
    with pytest.raises(GanvasError, match="truncation needs residual"):
        parse_recipe("fast", {"truncation": 0.1, "residual": False})
    assert parse_recipe("paper-text", {}).truncation == 0
    assert parse_recipe("fast", {"residual": False}).truncation == 0
    assert parse_recipe("fast", {}).truncation > 0
