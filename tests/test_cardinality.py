"""The cardinality editor finds a planted count, adds and removes objects one by one, in W and in W+."""

import warnings
from functools import cache

import pytest
import torch
from planted_counts import KINDS, NAMES, QUICK, SQUARES, counter_editor, counts, labels

from ganvas import GanvasError, editors, sample
from ganvas.data.dataset import Source, make_dataset
from ganvas.editors import _cardinality_networks as classifier
from ganvas.editors import _cardinality_training as training
from ganvas.editors._cardinality_networks import (
    CountClassifierConfig,
    CountDirections,
    find_ranges,
    fit_count_classifier,
    measure_count_accuracy,
)
from ganvas.editors.cardinality import CardinalityEditor

WS = sample(SQUARES, 300, 1.0, 2_000_000)
BEFORE = counts(WS)[:, 0]


CLIMB_OPTIONS = {"classifier_steps": 500, "classifiers": 1, "hidden": (32,), "optimization_steps": 20}


def success_rate(editor, change, ws=WS):
    """Return the share of codes whose picture gets ``change`` squares more, of those that can have them."""
    before = counts(ws)[:, 0]
    able = (before + change >= 1) & (before + change <= 4)
    after = counts(editor.edit(ws[able], {"count": float(change)}))[:, 0]
    return float((after == before[able] + change).float().mean())


def test_squares_are_added_and_removed_one_by_one():
    editor = counter_editor()
    for change in (1, -1):
        assert success_rate(editor, change) > 0.9
    # Successive unit moves: from one square to four.
    for change in (2, 3, -2, -3):
        assert success_rate(editor, change) > 0.7
    assert editor.report["added"]["count"] > 0.85 and editor.report["classifier_test"]["count"] > 0.85


@cache
def climbing_editor() -> CardinalityEditor:
    editor = editors.fit("cardinality", labels(), SQUARES, attributes=["count"], **CLIMB_OPTIONS)
    assert isinstance(editor, CardinalityEditor)
    return editor


def test_each_code_is_optimised_to_the_requested_count():
    editor = climbing_editor()
    for change in (1, -1, 2, -2):
        assert success_rate(editor, change) > 0.85
    assert editor.report["added"]["count"] > 0.85
    # What else is in the batch doesn't matter, nor in which order.
    moved = editor.edit(WS, {"count": 1.0})
    torch.testing.assert_close(editor.edit(WS[7:9], {"count": 1.0}), moved[7:9], atol=1e-4, rtol=0)
    once = editor.edit(moved, {"count": 1.0})
    torch.testing.assert_close(editor.edit(WS, {"count": 2.0}), once, atol=1e-4, rtol=0)
    torch.testing.assert_close(editor.edit(WS, {"count": 0.5}) - WS, (moved - WS) / 2, atol=1e-4, rtol=0)
    assert torch.equal(editor.edit(WS, {"count": 0.0}), WS)


def test_a_code_that_has_the_most_stays_where_it_is():
    full = WS[(BEFORE == 4) & (climbing_editor().read(WS)[:, 0] > 3.6)]
    assert len(full) and torch.equal(climbing_editor().edit(full, {"count": 1.0}), full)


def test_climbing_keeps_what_was_there():
    """An added square leaves the others' colours as they are."""
    free = editors.fit("cardinality", labels(), SQUARES, attributes=["count"], preserve=0.0, **CLIMB_OPTIONS)
    care = editors.fit("cardinality", labels(), SQUARES, attributes=["count"], preserve=2.0, **CLIMB_OPTIONS)
    lost = []
    assert min(success_rate(care, 1), success_rate(care, -1)) > 0.85
    for editor in (free, care):
        before, after = counts(WS), counts(editor.edit(WS, {"count": 1.0}))
        lost.append(float((before - after)[:, 1:3].clamp(min=0).sum(1).mean()))
    assert lost[1] < lost[0]


def test_a_climbing_editor_is_itself_after_saving(tmp_path):
    editors.save(climbing_editor(), tmp_path / "e.safetensors")
    again = editors.load_editor(tmp_path / "e.safetensors", SQUARES)
    moved = climbing_editor().edit(WS, {"count": -1.0})
    torch.testing.assert_close(again.edit(WS, {"count": -1.0}), moved, rtol=0, atol=1e-5)


def test_climbing_has_no_gain():
    with pytest.raises(GanvasError, match="gain doesn't go with optimization_steps"):
        editors.fit("cardinality", labels(), SQUARES, attributes=["count"], gain="right", **CLIMB_OPTIONS)


def test_it_reads_objects():
    editor = counter_editor()
    reading = editor.read(WS)[:, 0]
    assert (reading - BEFORE).abs().mean() < 0.25
    assert (reading >= 1).all() and (reading <= 4).all()


def test_more_than_one_is_successive_unit_moves_and_fractions_scale_the_last():
    editor = counter_editor()
    once = editor.edit(WS, {"count": 1.0})
    torch.testing.assert_close(editor.edit(WS, {"count": 2.0}), editor.edit(once, {"count": 1.0}), atol=1e-5, rtol=0)
    part, whole = editor.edit(WS, {"count": 0.25}) - WS, once - WS
    torch.testing.assert_close(part, whole / 4, atol=1e-4, rtol=1e-3)
    # Codes are moved by as much as each is told.
    mixed = editor.edit(WS, {"count": torch.tensor([0.0, 1.0, 2.5]).repeat(100)})
    assert torch.equal(mixed[::3], WS[::3])
    torch.testing.assert_close(mixed[1::3], once[1::3], atol=1e-5, rtol=0)
    with pytest.raises(GanvasError, match="32 at most"):
        editor.edit(WS, {"count": 33.0})


@pytest.mark.parametrize("made", ["paper", "climbing"])
def test_a_count_is_set(made):
    editor = counter_editor() if made == "paper" else climbing_editor()
    for goal in (1.0, 3.0):
        set_ = editor.edit(WS, {"count": goal - editor.read(WS)[:, 0]})
        assert (counts(set_)[:, 0] == goal).float().mean() > 0.7


@pytest.mark.parametrize(
    "options", [{"loss": "mse"}, {"width": 16, "signs": 2, "pieces": 2}, {"pca": 8, "density": 0.5}]
)
def test_other_ways_to_learn_it(options):
    editor = editors.fit("cardinality", labels(), SQUARES, recipe="paper", attributes=["count"], **QUICK, **options)
    assert min(success_rate(editor, 1), success_rate(editor, -1)) > (0.5 if options.get("pca") else 0.65)


@pytest.mark.parametrize("rows", ["free", "resolution"])
def test_w_plus_moves_each_row_by_itself(rows):
    ws = sample(SQUARES, 1000, 1.0, 1_000_000)
    ws = ws + 0.3 * torch.randn(ws.shape, generator=torch.Generator().manual_seed(0))
    data = make_dataset(ws, counts(ws), NAMES, KINDS, Source(None), SQUARES.fingerprint, labels().scorer)
    editor = editors.fit("cardinality", data, SQUARES, recipe="paper", attributes=["count"], rows=rows, **QUICK)
    assert editor.space == "w+"
    moved = editor.edit(ws[:50], {"count": 1.0}) - ws[:50]
    assert not torch.allclose(moved[:, 0], moved[:, 1], atol=1e-3)
    assert min(success_rate(editor, 1, ws[:300]), success_rate(editor, -1, ws[:300])) > 0.6
    with pytest.raises(GanvasError, match="4 rows, not of 3"):
        editor.edit(ws[:, :3], {"count": 1.0})


def test_preserve_keeps_what_was_there():
    settings = {**QUICK, "recipe": "paper", "attributes": ["count"], "steps": 120}
    plain, keeping = (
        editors.fit("cardinality", labels(), SQUARES, **settings, preserve=weight) for weight in (0.0, 2.0)
    )

    def lost(editor):
        """Return how many red and blue squares were lost where one was added."""
        able = BEFORE < 4
        before, after = counts(WS[able])[:, 1:3], counts(editor.edit(WS[able], {"count": 1.0}))[:, 1:3]
        return float((before - after).clamp(min=0).sum(1).mean())

    assert lost(keeping) <= lost(plain) + 0.02
    assert success_rate(keeping, 1) > 0.8
    assert keeping.options["preserve"] == 2.0


def test_a_class_is_counted_by_itself():
    editor = editors.fit("cardinality", labels(), SQUARES, recipe="paper", attributes=["red"], **QUICK)
    before = counts(WS)[:, 1]
    able = before < 3
    after = counts(editor.edit(WS[able], {"red": 1.0}))[:, 1]
    assert (after > before[able]).float().mean() > 0.5


def test_without_names_all_counts_are_learned():
    quick = {**QUICK, "steps": 20, "classifier_steps": 20}
    editor = editors.fit("cardinality", labels(), SQUARES, **quick)
    assert editor.attributes == ("count", "red", "blue") and editor.kinds == ("count",) * 3
    assert isinstance(editor, CardinalityEditor) and len(editor.networks) == 1


def test_unusable_labels_are_refused_in_one_line():
    def refused(words, data=None, **options):
        data = data or labels()
        with pytest.raises(GanvasError, match=words) as caught:
            editors.fit("cardinality", data, SQUARES, **options)
        assert "\n" not in str(caught.value)

    refused("aren't whole numbers", attributes=["bright"])
    refused("have no counts", labels().select(["bright"]))
    refused("too few", labels().subset(torch.arange(20)))
    refused("recipe 'papr'", recipe="papr")
    refused("option 'lambda'", **{"lambda": 1})
    refused("loss 'l1'", loss="l1")
    refused("space 'z'", space="z")
    refused("weight", weight=-1.0)
    refused("signs", signs=3)
    refused("attribute 'green'", parts=["green"], preserve=1.0)
    data = labels()
    same = make_dataset(
        data.codes, torch.cat((data.scores[:, :1] * 0 + (torch.arange(len(data)) == 0)[:, None] + 2, data.scores[:, 1:]), 1),
        NAMES, KINDS, data.source, data.generator, data.scorer,
    )  # fmt: skip
    refused("nearly everywhere", same, attributes=["count"])


def test_classifiers_are_the_papers_and_learn():
    assert classifier.HIDDEN == {"w": (256,), "w+": (2048, 512)}
    data = labels()
    y = data.scores[:, :1].long()
    heads = find_ranges(y, ("count",))
    assert (heads.lows, heads.highs) == ((1,), (4,))
    for loss in ("ce", "mse"):
        network = fit_count_classifier(
            data.codes[:1500], y[:1500], heads, CountClassifierConfig(loss, (64,), steps=400), 0
        )
        assert measure_count_accuracy(network, data.codes[1500:], y[1500:]) > (0.85 if loss == "ce" else 0.7)
        assert network.classify_counts(data.codes[:9]).shape == (9, 1)
        assert (network.compute_losses(data.codes[:9], y[:9]) >= 0).all()


def test_moves_add_up():
    moves = CountDirections(2, 3, 1, 0, 1)
    torch.nn.init.normal_(moves.biases)
    x = torch.zeros(4, 3)
    change = torch.tensor([[1.0, 0.0], [0.0, -1.0], [1.0, -1.0], [0.0, 0.0]])
    with torch.no_grad():
        found = moves.move(x, change)
    torch.testing.assert_close(found[2], found[0] + found[1])
    assert not found[3].any()


def test_a_count_beyond_what_was_learned_is_said():
    editor = counter_editor()
    ws = sample(SQUARES, 200, 1.0, 0)
    counts = editor.read(ws)[:, 0].round()
    with pytest.warns(UserWarning, match=r"count \+1 was shortened .* It learned count from 1 to 4"):
        editor.edit(ws[counts == 4][:2], {"count": 1.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        editor.edit(ws[counts == 2][:2], {"count": 1.0})


def test_long_vectors_have_the_components_of_short_ones(monkeypatch):
    """Above a length, components come from random projections: they are those of the exact decomposition."""
    axes = torch.linspace(4, 0.5, 12)[:, None] * torch.linalg.qr(torch.randn(30, 12))[0].T
    codes = 3 + torch.randn(500, 12) @ axes + 1e-3 * torch.randn(500, 30)
    config = training.CardinalityConfig(pca=8)
    groups = (tuple(range(30)),)
    exact = training._build_vectors(codes, groups, config)
    monkeypatch.setattr(training, "LARGE_DIMENSION", 10)
    found = training._build_vectors(codes, groups, config)
    torch.testing.assert_close(found.mean, exact.mean)
    torch.testing.assert_close(found.deviations, exact.deviations, rtol=0.01, atol=0)
    assert (found.basis * exact.basis).sum(1).abs().min() > 0.99


@pytest.mark.parametrize(("best", "chosen"), [((1.7,), 1.7), ((0.6, 1.2), 1.2), ((0.9, 1.3), 0.9)])
def test_the_gain_with_which_most_moves_are_right_is_taken(monkeypatch, best, chosen):
    """Of equals the nearest to 1."""
    moves = CountDirections(1, 4, 1, 0, 1)

    def measure(self, moves, data, k, sign):
        rate = 0.9 if any(abs(float(moves.gains[0]) - gain) < 0.01 for gain in best) else 0.5
        return torch.tensor(rate), -moves.gains[0], torch.tensor(1.0)

    stand_in = object.__new__(training.CountTraining)
    for name, value in (("config", training.CardinalityConfig(gain="right")), ("held_out", None)):
        object.__setattr__(stand_in, name, value)
    monkeypatch.setattr(training.CountTraining, "measure_moves", measure)
    training._set_gains(stand_in, moves)
    assert float(moves.gains[0]) == pytest.approx(chosen)
