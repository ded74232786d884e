"""reach() and the bound: planted editors arrive exactly where climbing would, or are stopped."""

import pytest
import torch
from planted_truth import SCORER, TOY, VIEW, PlantedEditor, disentangled

from ganvas.control.search import CodeScorer, StrengthLadder, StrengthSearch, reach_target
from ganvas.data.distribution import fit_distribution
from ganvas.errors import GanvasError
from ganvas.generators.base import sample
from ganvas.scorers.base import Scorer

WITHIN = fit_distribution(TOY, 1500)
BRIGHT = SCORER.column("Bright")


def climb(editor, ws, goal, sign, ladder, within):
    """The definition: rung by rung, every picture rendered."""
    strengths, arrived = torch.zeros(len(ws)), torch.zeros(len(ws), dtype=torch.bool)
    inside = torch.ones(len(ws), dtype=torch.bool)
    for rung in range(1, ladder.rungs + 1):
        codes = editor.edit(ws, {"Bright": sign * rung * ladder.step})
        inside &= within.contains(codes)
        passed = inside & ~arrived & (sign * (VIEW(codes)[:, BRIGHT] - goal) > 0)
        strengths[passed] = sign * rung * ladder.step
        arrived |= passed
    return strengths, arrived


@pytest.mark.parametrize(("target", "sign"), [(0.9, 1), (0.1, -1)])
@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_finds_the_same_rung_as_climbing(target, sign, gain):
    editor, ladder = PlantedEditor(gain * disentangled().directions), StrengthLadder(0.25, 5.0)
    ws = sample(TOY, 64, 1.0, 7)
    ws = ws[sign * VIEW(ws)[:, BRIGHT] < 0]
    found = reach_target(editor, VIEW, ws, "Bright", target, ladder=ladder, within=WITHIN)
    goal = torch.logit(torch.tensor(target))
    strengths, arrived = climb(editor, ws, goal, sign, ladder, WITHIN)
    assert torch.equal(found.arrived, arrived)
    assert arrived.sum() > 0
    assert torch.equal(found.strengths[arrived], strengths[arrived])
    # What is returned is what a picture of the returned code shows.
    torch.testing.assert_close(found.scores, VIEW(found.codes))
    assert found.renders.float().mean() < 5


def test_counts_its_pictures():
    seen = []
    code_scorer = CodeScorer(TOY, SCORER, batch=3, on_batch=seen.append)
    found = reach_target(
        disentangled(), code_scorer, sample(TOY, 10, 1.0), "Bright", 0.9, start=VIEW(sample(TOY, 10, 1.0))
    )
    assert sum(seen) == found.renders.sum()
    assert max(seen) <= 3


def test_each_code_has_its_own_target_and_direction():
    ws = sample(TOY, 6, 1.0)
    start = VIEW(ws)
    target = torch.sigmoid(start[:, BRIGHT] + torch.tensor([1.0, -1, 1, -1, 1, -1]))
    found = reach_target(disentangled(), VIEW, ws, "Bright", target, ladder=StrengthLadder(0.05, 3.0))
    assert found.arrived.all()
    # Two logits are one standard deviation: the way is half of one, within a rung.
    assert ((found.strengths.abs() - 0.5).abs() < 0.051).all()
    assert (found.strengths.sign() == torch.tensor([1.0, -1, 1, -1, 1, -1])).all()


def test_a_target_may_be_a_value():
    ws = sample(TOY, 8, 1.0)
    found = reach_target(disentangled(), VIEW, ws, "Right", 2.0, ladder=StrengthLadder(0.1, 8.0))
    right = SCORER.column("Right")
    up = VIEW(ws)[:, right] < 2
    assert found.arrived.all()
    assert (found.scores[up, right] > 2).all()
    assert (found.scores[~up, right] < 2).all()


def test_an_editor_that_moves_nothing_never_arrives():
    ws = sample(TOY, 16, 1.0)
    ws = ws[VIEW(ws)[:, BRIGHT] < 0]
    found = reach_target(PlantedEditor(torch.zeros(5, TOY.w_dim)), VIEW, ws, "Bright", 0.9, within=WITHIN)
    assert not found.arrived.any()
    assert torch.equal(found.codes, ws)


def test_the_bound_stops_an_editor_that_leaves_the_distribution():
    away = torch.zeros(5, TOY.w_dim)
    # The direction of least variance, and only a little of the attribute.
    away[0] = 0.02 * TOY.planted["Bright"] + WITHIN.whitening[:, -1] / WITHIN.whitening[:, -1].norm()
    ws = sample(TOY, 16, 1.0)
    ws = ws[VIEW(ws)[:, BRIGHT] < -1]
    free = reach_target(PlantedEditor(away), VIEW, ws, "Bright", 0.9, ladder=StrengthLadder(1.0, 400.0))
    assert free.arrived.all()
    bound = reach_target(PlantedEditor(away), VIEW, ws, "Bright", 0.9, ladder=StrengthLadder(1.0, 400.0), within=WITHIN)
    assert not bound.arrived.any()
    assert bound.stopped.all()
    assert WITHIN.contains(bound.codes).all()


def test_distance_is_that_of_the_covariance_and_the_farthest_row():
    w = sample(TOY, 1000, 1.0, 5_000_000)[:, 0]
    distances = WITHIN.mahalanobis(w)
    # The mean square of a whitened vector is its dimension.
    assert distances.square().mean().item() == pytest.approx(TOY.w_dim, rel=0.05)
    assert (distances > WITHIN.bound).float().mean() < 0.01
    ws = TOY.expand(w[:4]).clone()
    torch.testing.assert_close(WITHIN.mahalanobis(ws), distances[:4])
    ws[:, 1] = w[4:8]
    torch.testing.assert_close(WITHIN.mahalanobis(ws), torch.maximum(distances[:4], distances[4:8]))
    assert WITHIN.select_leading(5).bound < WITHIN.bound


@pytest.mark.parametrize("target", [0.0, 1.0, 1.5, float("nan")])
def test_refuses_an_impossible_probability(target):
    with pytest.raises(GanvasError, match="probability between 0 and 1"):
        reach_target(disentangled(), VIEW, sample(TOY, 1), "Bright", target)


def test_refuses_unknown_names_and_ladders():
    with pytest.raises(GanvasError, match="Unknown attribute 'smle'"):
        reach_target(disentangled(), VIEW, sample(TOY, 1), "smle", 0.9)
    with pytest.raises(GanvasError, match="ladder"):
        StrengthLadder(0.0, 1.0)
    with pytest.raises(GanvasError, match="at least 128 codes"):
        fit_distribution(TOY, 100)
    with pytest.raises(GanvasError, match="components"):
        WITHIN.select_leading(65)


def test_climbing_finds_what_passes_before_the_score_falls_again():
    class Breaking(Scorer):
        """For whom too much is nothing: the score falls beyond its peak."""

        name, attributes, kinds, fingerprint = "breaking", SCORER.attributes, SCORER.kinds, "0"

        def forward(self, images):
            return 3.0 - (SCORER(images) - 4.0).abs()

    ws = sample(TOY, 8, 1.0)
    code_scorer = CodeScorer(TOY, Breaking())
    climbed = reach_target(
        disentangled(), code_scorer, ws, "Bright", 0.9, ladder=StrengthLadder(0.25, 12.0, climb=True)
    )
    bright = climbed.scores[:, SCORER.column("Bright")]
    assert climbed.arrived.all()
    assert torch.equal(climbed.renders[climbed.strengths > 0], (climbed.strengths[climbed.strengths > 0] / 0.25).long())
    assert (bright[climbed.strengths > 0] > torch.logit(torch.tensor(0.9))).all()


def test_strengths_are_interpolated_between_the_pictures_that_were_rendered():
    """Values below 0 and above, with a gap between the rungs around the target; nan where it wasn't reached."""
    search = object.__new__(StrengthSearch)
    search.ladder = StrengthLadder(step=0.5, maximum=2.0)
    nan = torch.nan
    search.values = torch.tensor([[-1.5, nan, -0.5, nan, 1.5], [0.2, 0.4, 0.8, nan, nan], [2.0, nan, nan, nan, 4.0]])
    found = search.measure_strength(torch.tensor([0.5, 1.0, 3.0]))
    torch.testing.assert_close(found, torch.tensor([1.5, nan, 1.0]), equal_nan=True)
