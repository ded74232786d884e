"""Metrics of trials whose outcome is known."""

import math
from dataclasses import replace

import pytest
import torch
from printed_examples import read_block, read_page

from ganvas.data.distribution import Distribution
from ganvas.errors import GanvasError
from ganvas.metrics import Trial, base, list_metrics, metric, to_readable
from ganvas.metrics.codes import distance, left_w, mahalanobis, mahalanobis_length
from ganvas.metrics.effects import drift, success, target_change, unexplained_drift, variation
from ganvas.metrics.identity import identity, no_face
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


def test_variation_is_in_probabilities():
    found = variation(trial([3, 0, 2]))
    expected = torch.sigmoid(SCORES[:, 0] + 3) - torch.sigmoid(SCORES[:, 0])
    torch.testing.assert_close(found, torch.stack((expected, torch.zeros(4), torch.full((4,), 2.0)), 1))


def judged(change: list[float], towards=(-1.0, 0.0, 0.0)) -> Trial:
    """The same trial as a judge sees it: its normal scores are the scores."""
    asked = torch.tensor(towards)
    changes = torch.tensor(change).float().expand(4, 3)
    return replace(trial(change), changes=changes, towards=asked, others=asked == 0)


def test_drift_leaves_the_target_out():
    assert drift(judged([5, 0, 0])).tolist() == [0] * 4
    assert drift(judged([5, 1, -0.5])).tolist() == pytest.approx([0.75] * 4)
    assert drift(judged([5, 1, 1], (1, 1, -1))).isnan().all(), "there are no others"
    with pytest.raises(GanvasError, match="no normal scores"):
        drift(trial([1, 0, 0]))


def test_the_targets_change_is_towards_the_goal():
    assert target_change(judged([-2, 1, 0])).tolist() == [2] * 4
    assert target_change(judged([-2, 1, 0], (-1, 1, 0))).tolist() == [1.5] * 4
    assert target_change(judged([-2, 1, 0], (0, 0, 0))).isnan().all(), "this judge lacks the attribute"


def test_what_goes_against_correlation_is_beyond_it():
    for change, beyond in ((0.6, 0.0), (-0.6, 0.3), (1.0, 0.2), (0.3, 0.0)):
        seen = replace(
            judged([2, change, 0]), correlation=torch.tensor([1.0, 0.3, 0]), target_change=torch.full((4,), 2.0)
        )
        assert unexplained_drift(seen).tolist() == pytest.approx([beyond] * 4, abs=1e-6)


def test_distances():
    unit = Distribution(torch.zeros(3), torch.eye(3), torch.tensor([1.0, 1.5, 1.9]), "g")
    seen = replace(trial([0, 0, 0]), typical_set=unit)
    assert distance(seen).tolist() == mahalanobis(seen).tolist() == mahalanobis_length(seen).tolist() == [2] * 4
    assert left_w(seen).tolist() == [1] * 4
    with pytest.raises(GanvasError, match="no typical set"):
        left_w(trial([0, 0, 0]))


def test_a_face_that_is_not_found_has_no_identity():
    seen = replace(trial([0, 0, 0]), faces_before=torch.eye(4), faces_after=torch.eye(4)[[0, 2, 1, 3]])
    seen.faces_after[3] = torch.nan
    assert identity(seen)[:3].tolist() == [1, 0, 0] and identity(seen)[3].isnan()
    assert no_face(seen).tolist() == [0, 0, 0, 1]
    with pytest.raises(GanvasError, match="Faces weren't compared"):
        identity(trial([0, 0, 0]))


@pytest.mark.parametrize("name", list_metrics())
def test_the_contract_of_a_metric(name):
    """One number for each code (and attribute, if it says so), whatever the other codes are; shares are 0 or 1."""
    shown = list_metrics()[name]
    full = replace(
        trial([1.5, -0.5, 1]),
        stopped=torch.tensor([False, False, False, True]),
        renders=torch.tensor([3, 2, 4, 6]),
        faces_before=torch.eye(4),
        faces_after=torch.eye(4) + 0.1,
        changes=torch.tensor([1.5, -0.5, 1]).expand(4, 3),
        towards=torch.tensor([1.0, 0, 0]),
        others=torch.tensor([False, True, True]),
        correlation=torch.tensor([1.0, 0.2, -0.1]),
        target_change=torch.full((4,), 1.5),
        typical_set=Distribution(torch.zeros(3), torch.eye(3), torch.tensor([1.0, 1.0, 1.5]), ""),
    )
    found = shown.function(full)
    read: set[str] = set()

    class Watched(Trial):
        def __getattribute__(self, field: str) -> object:
            read.add(field)
            return super().__getattribute__(field)

    shown.function(Watched(**vars(full)))
    judge_fields = {"scores_before", "scores_after", "changes", "towards", "others", "correlation"}
    assert shown.judged or not read & judge_fields, "it reads a judge's scores: register it by @metric(judged=True)"
    assert found.shape == ((4, 3) if shown.each else (4,))
    assert shown.text.endswith(".")
    if shown.share:
        assert set(found.float().nan_to_num(0).unique().tolist()) <= {0.0, 1.0}

    def flip(value):
        return value.flip(0) if isinstance(value, torch.Tensor) and len(value) == 4 else value

    flipped = replace(full, **{key: flip(value) for key, value in vars(full).items()})
    torch.testing.assert_close(shown.function(flipped), found.flip(0), equal_nan=True)


def test_the_printed_example_of_a_metric_is_one(monkeypatch):
    monkeypatch.setattr(base, "METRICS", {})
    text = read_page("CONTRIBUTING.md").partition("### A metric")[2]
    exec(compile(read_block(text, "```python\n"), "CONTRIBUTING.md", "exec"), {"__name__": "example"})
    (shown,) = base.METRICS.values()
    one = trial([0, 0, 0])
    torch.testing.assert_close(shown.function(one), torch.full((4,), 2.0))
    assert f"-k {shown.name}`" in text


def test_metrics_are_registered_by_their_names():
    assert {"success", "drift", "identity", "left_w"} <= list_metrics().keys()
    assert list_metrics()["drift"].judged and not list_metrics()["identity"].judged
    assert list_metrics()["drift"].text == "Mean |change| of the attributes that weren't asked for, in σ."

    def drift(trial):
        """Another."""

    with pytest.raises(GanvasError, match="two metrics 'drift'"):
        metric()(drift)


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
