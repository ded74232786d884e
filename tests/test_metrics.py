"""Metrics of trials whose outcome is known."""

import math

import pytest
import torch

from ganvas.data import gaussianize
from ganvas.data.distribution import Distribution
from ganvas.errors import GanvasError
from ganvas.metrics import (
    Trial,
    distance_moved,
    mahalanobis_after,
    off_target_drift,
    success,
    success_within,
    to_readable,
    variation,
    variation_row,
)
from ganvas.stats import bootstrap_mean

SCORES = torch.tensor([[-1.0, 0, 3], [-2.0, 1, 3], [-3.0, 2, 4], [-1.0, 2, 5]])


def trial(change: list[float], arrived=(True, True, True, False)) -> Trial:
    before = torch.zeros(4, 2, 3)
    after = before.clone()
    after[..., 0] = 2
    return Trial(
        attribute="a",
        attributes=("a", "b", "c"),
        kinds=("probability", "probability", "count"),
        before=before,
        after=after,
        scores_before=SCORES,
        scores_after=SCORES + torch.tensor(change),
        arrived=torch.tensor(arrived),
        strengths=torch.ones(4),
    )


def test_success_is_the_share_that_arrived():
    assert bootstrap_mean(success(trial([1, 0, 0]))).mean == 0.75


def test_variation_is_in_probabilities_and_over_finished_edits():
    found = trial([3, 0, 2])
    expected = (torch.sigmoid(SCORES[:3, 0] + 3) - torch.sigmoid(SCORES[:3, 0])).mean()
    torch.testing.assert_close(variation_row(found), torch.tensor([expected, 0, 2]))
    assert variation(found)[3].isnan().all()
    assert variation_row(trial([1, 0, 0], (False,) * 4)).isnan().all()


def test_drift_leaves_the_target_out():
    # A straight line of one unit a standard deviation.
    line = torch.linspace(-9, 9, 5, dtype=torch.float64)[:, None].expand(-1, 3)
    unit = gaussianize.Gaussianize(line, line)
    assert bootstrap_mean(off_target_drift(trial([5, 0, 0]), unit)).mean == 0
    assert bootstrap_mean(off_target_drift(trial([5, 1, -0.5]), unit)).mean == pytest.approx(0.75)
    with pytest.raises(GanvasError, match="2 normal scores for a trial of 3"):
        off_target_drift(trial([0, 0, 0]), unit.select([0, 1]))


def test_distances():
    unit = Distribution(torch.zeros(3), torch.eye(3), torch.tensor([1.0, 1.5, 1.9]), "g")
    assert distance_moved(trial([0, 0, 0])).tolist() == [2] * 4
    assert mahalanobis_after(trial([0, 0, 0]), unit).tolist() == [2] * 4
    assert success_within(trial([0, 0, 0]), unit).tolist() == [0] * 4


def test_interval_covers_the_truth_about_as_often_as_it_says():
    draw = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(200):
        found = bootstrap_mean(torch.randn(60, generator=draw), draws=300)
        covered += found.low <= 0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_estimate_leaves_nan_out_and_does_not_depend_on_the_run():
    values = torch.tensor([1.0, 2, 3, math.nan])
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert (bootstrap_mean(values).mean, bootstrap_mean(values).n) == (2, 3)
    assert math.isnan(bootstrap_mean(torch.full((3,), math.nan)).mean)
    with pytest.raises(GanvasError, match="one value a code"):
        bootstrap_mean(torch.zeros(2, 2))


def test_only_logits_become_probabilities():
    assert to_readable(torch.zeros(1, 2), ("probability", "count")).tolist() == [[0.5, 0]]
