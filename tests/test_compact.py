"""The compact editor on planted truth: it finds the attributes, and holds still what goes with them."""

import pytest
import torch
from learned import NAMES, QUICK, TOY, compact, labels

from ganvas import GanvasError, editors, sample
from ganvas.editors._compact_network import Learner, Perceptron, correlation, linear_start, losses
from ganvas.editors._compact_training import RECIPES
from ganvas.pca import fit_pca

WS = sample(TOY, 200, 1.0, 0)


def leak(editor, name, other):
    """How far ``other`` really moves where ``name`` really moves by 1."""
    moved = (TOY.coordinates(editor.edit(WS, {name: 1.0})) - TOY.coordinates(WS)).mean(0)
    return float((moved[NAMES.index(other)] / moved[NAMES.index(name)]).abs())


@pytest.mark.parametrize("mref", ["identity", "labels"])
def test_what_goes_with_an_attribute_moves_less_than_by_mean_difference(mref):
    baseline = editors.fit("mean_difference", labels(), TOY)
    editor = editors.fit("compact", labels(), TOY, mref=mref, **QUICK)
    for name, other in (("Red", "Bright"), ("Bright", "Red"), ("Big", "Striped"), ("Striped", "Big")):
        assert leak(editor, name, other) < (0.75 if mref == "identity" else 0.3) * leak(baseline, name, other)


def test_the_planted_attribute_moves():
    for k, name in enumerate(NAMES):
        moved = TOY.coordinates(compact().edit(WS, {name: 1.0})) - TOY.coordinates(WS)
        assert moved.mean(0)[k] == pytest.approx(1.0, abs=0.25)


def test_what_was_measured_is_reported():
    report = compact().report
    assert report["held_out"] == 900
    assert report["trained_on"] == 2100
    assert report["reconstructed"] > 0.98
    assert report["mean_correlation"] > 0.8
    assert report["codes_off_diagonal"] < 0.06 < report["labels_off_diagonal"]
    assert set(report["correlation"]) == set(report["gain"]) == set(NAMES)
    assert report["unresponsive"] == []
    assert any(line.startswith("Bright") for line in editors.report_lines(compact()))


def test_codes_are_attributes_and_come_back():
    editor, w = compact(), WS[:, 0]
    c = editor.encode(w)
    truth = TOY.coordinates(WS)
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


def test_the_papers_recipe_is_the_papers():
    paper = RECIPES["paper"]
    assert (paper.depth, paper.width, paper.alpha, paper.beta, paper.epochs, paper.batch) == (
        8,
        512,
        1e-5,
        1e-5,
        150,
        256,
    )
    assert (paper.rate, paper.path, paper.decay) == (2e-4, False, 0.0)
    assert paper.count(140_000) == 150 * 546
    editor = editors.fit("compact", labels(), TOY, recipe="paper", steps=30, width=64)
    assert editor.options["recipe"] == "paper"
    assert editor.options["steps"] == 30


def test_any_reference_matrix():
    wanted = torch.eye(5)
    wanted[0, 1] = wanted[1, 0] = -0.4
    editor = editors.fit("compact", labels(), TOY, mref=wanted.tolist(), **QUICK)
    found = correlation(editor.encode(labels().w)[:, :5])
    assert (found - wanted).abs().max() < 0.15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": "slow"}, "recipe 'slow': pick one of paper, fast"),
        ({"mref": "zero"}, "mref 'zero'"),
        ({"mref": [[1.0]]}, "5 rows"),
        ({"mref": [[2.0] * 5] * 5}, "correlation"),
        ({"dim": 3}, "can't hold 5 attributes"),
        ({"components": 0}, "components must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"alpha": float("nan")}, "alpha must be"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(GanvasError, match=words):
        editors.fit("compact", labels(), TOY, **options)


def test_chance_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    editors.fit("compact", labels(), TOY, steps=2, width=16)
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
    recons, attr, corr = losses(x, c, y, a, torch.eye(1))
    assert (float(recons), float(attr), float(corr)) == pytest.approx((2.5, 0.5, 0.0), abs=1e-5)


def test_batch_norm_folds_into_the_layers():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(512, 6, generator=rng)
    for path in (False, True):
        learner = Learner(Perceptron(6, 4, 16, 3, path), True, False)
        if path:
            learner.start(torch.randn(6, 4, generator=rng), torch.ones(4))
        for _ in range(5):
            learner(x + torch.randn(x.shape, generator=rng))
        expected = learner.eval()(x)
        torch.testing.assert_close(learner.finish()(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dim", [3, 6, 10, 12])
def test_the_linear_start_is_right(dim):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 10, generator=rng) * torch.linspace(2, 0.5, 10)
    x = x - x.mean(0)
    a = x @ torch.randn(10, 3, generator=rng) + torch.randn(4000, 3, generator=rng)
    encoder, decoder = (m.float() for m in linear_start(x, a, torch.eye(3), dim))
    c = x @ encoder
    assert (correlation(c[:, :3]) - torch.eye(3)).abs().max() < 1e-3
    lost = (c @ decoder - x).square().sum() / x.square().sum()
    assert lost < 1e-4 if dim >= 10 else lost < 0.8
