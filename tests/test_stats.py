"""Intervals hold what is planted as often as they say."""

import math

import pytest
import torch
from scipy.stats import binomtest

from ganvas.stats import (
    Estimate,
    bootstrap_absolute_means,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
    estimate_proportion,
    estimate_proportion_difference,
    is_in_selection_half,
    judge_claim,
)

REPEATS = 150


def count_covered(draw, estimate, truth) -> float:
    """The share of intervals that hold the truth."""
    found = [estimate(*draw(seed)) for seed in range(REPEATS)]
    return sum(e.low <= truth <= e.high for e in found) / REPEATS


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_share_of_all_is_not_certain():
    found = estimate_proportion(torch.ones(256))
    assert (found.mean, found.high, found.n) == (1, 1, 256) and 0.98 < found.low < 0.99
    expected = binomtest(256, 256).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert estimate_proportion(torch.zeros(20)).high > 0.1
    assert estimate_proportion(torch.full((3,), math.nan)).n == 0


def test_a_code_with_several_values_is_one_trial():
    values, codes = torch.tensor([1.0, 0, 0, 1, 1]).repeat(4), torch.arange(5).repeat(4)
    assert estimate_proportion(values, codes) == estimate_proportion(values[:5])


def test_intervals_of_proportions_cover_the_truth():
    assert (
        count_covered(
            lambda s: (torch.bernoulli(torch.full((40,), 0.95), generator=random(s)),), estimate_proportion, 0.95
        )
        >= 0.9
    )


def draw_strata(seed: int, shares=(0.5, 1.0), sizes=(8, 256)) -> tuple[torch.Tensor, None, torch.Tensor]:
    """Return other codes in each stratum, with its own share."""
    p = torch.cat([torch.full((n,), share) for share, n in zip(shares, sizes, strict=True)])
    strata = torch.cat([torch.full((n,), k) for k, n in enumerate(sizes)])
    return torch.bernoulli(p, generator=random(seed)), None, strata


def test_a_small_stratum_widens_a_proportion():
    assert count_covered(draw_strata, estimate_proportion, 0.75) >= 0.9
    values, strata = torch.tensor([1.0, 0]).repeat(4), torch.zeros(8)
    values, strata = torch.cat((values, torch.ones(256))), torch.cat((strata, torch.ones(256)))
    found = estimate_proportion(values, strata=strata)
    assert found.mean == 0.75 and found.n == 264 and found.high - found.low > 0.28
    # The same codes in both strata are as many trials as one stratum has.
    twice = estimate_proportion(torch.ones(40), torch.arange(20).repeat(2), torch.arange(2).repeat_interleave(20))
    assert twice == estimate_proportion(torch.ones(20))


def test_a_difference_of_shares_that_are_alike_is_not_certain():
    found = estimate_proportion_difference(torch.ones(128), torch.ones(128))
    assert (found.mean, found.n) == (0, 128) and -0.04 < found.low < -0.02 and 0.02 < found.high < 0.04
    a, b = draw_pairs(3)
    there, back = estimate_proportion_difference(a, b), estimate_proportion_difference(b, a)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert estimate_proportion_difference(torch.full((3,), math.nan), torch.ones(3)).n == 0


def draw_pairs(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pairs that are alike as codes are easy or hard, with shares of 0.95 and 0.9."""
    difficulty = torch.rand(40, generator=random(seed))
    return (difficulty < 0.95).float(), ((difficulty + 0.05) % 1 < 0.9).float()


def test_intervals_of_differences_of_shares_cover_the_truth():
    assert count_covered(draw_pairs, estimate_proportion_difference, 0.05) >= 0.93


def repeated(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten values a code that are nearly the code's own: 30 codes, not 300."""
    own = torch.randn(30, generator=random(seed))
    return (own[:, None] + 0.1 * torch.randn(30, 10, generator=random(seed + 10_000))).flatten(), torch.arange(
        30
    ).repeat_interleave(10)


def test_what_repeats_on_a_code_is_drawn_with_it():
    assert 0.87 <= count_covered(repeated, bootstrap_mean, 0.0) <= 1
    # As if all were independent: far too sure.
    assert count_covered(lambda s: repeated(s)[:1], bootstrap_mean, 0.0) < 0.6


def test_pairs_that_differ_little_have_a_narrow_interval():
    hard = torch.rand(200, generator=random(0)) + 0.5
    ratio = bootstrap_ratio(0.7 * hard, hard)
    assert ratio.mean == pytest.approx(0.7) and ratio.high - ratio.low < 1e-6
    missing = torch.where(torch.arange(200) < 50, torch.nan, hard)
    difference = bootstrap_difference(missing, hard)
    assert (difference.n, difference.mean, difference.low) == (150, 0, 0)
    assert bootstrap_ratio(missing[:10], hard[:10]).n == 0


def test_a_ratio_is_that_of_the_means_and_over_strata_geometric():
    a, b = torch.tensor([1.0, 3, 1, 1]), torch.tensor([1.0, 1, 2, 2])
    assert bootstrap_ratio(a, b).mean == pytest.approx(6 / 6)
    assert bootstrap_ratio(a, b, strata=torch.tensor([0, 0, 1, 1])).mean == pytest.approx(math.sqrt(2 * 0.5))


def test_a_stratum_that_goes_the_wrong_way_is_not_left_out():
    a, strata = torch.ones(40), torch.arange(40) % 2
    for b in (torch.where(strata == 0, 1.0, -2.0), torch.where(strata == 0, 1.0, 0.0)):
        found = bootstrap_ratio(a, b, strata=strata)
        assert math.isnan(found.mean) and math.isnan(found.low) and judge_claim(found, at_most=2) == "open"
    idle = torch.where(strata == 0, 1.0, 0.0)
    assert math.isnan(bootstrap_ratio(idle, idle, strata=strata).mean), "0 of 0 is not left out, either"
    # Its mean is above 0 by chance only.
    noise = torch.where(strata == 0, 1.0, torch.tensor([3.0, -2.9]).repeat_interleave(2).repeat(10))
    assert math.isnan(bootstrap_ratio(a, noise, strata=strata).mean)
    assert bootstrap_ratio(0 * a, a, strata=strata).mean == 0


def test_strata_weigh_alike_and_are_not_drawn():
    values, strata = torch.tensor([1.0, 1, 1, 5]), torch.tensor([0, 0, 0, 1])
    found = bootstrap_mean(values, torch.tensor([0, 1, 2, 0]), strata)
    assert found.mean == 3 and found.n == 3
    # Each stratum is constant: however codes are drawn, the mean of the strata is one of these.
    assert {found.low, found.high} <= {1.0, 3.0}


def test_side_effects_cancel_where_their_signs_do():
    signs = torch.tensor([1.0, -1]).repeat(50)
    changes = torch.stack((signs, 0.5 + 0 * signs, torch.full((100,), math.nan)), 1)
    found = bootstrap_absolute_means(changes)
    assert found.mean == pytest.approx(0.25) and found.low < 0.25 < found.high
    halved = bootstrap_absolute_means(0.5 * changes, against=changes)
    assert halved.mean == pytest.approx(0.5) and halved.high - halved.low < 1e-6


def test_an_interval_of_absolute_means_holds_its_value():
    noise = torch.randn(20, 30, generator=random(1))
    found = bootstrap_absolute_means(noise)
    assert found.low < found.mean < found.high
    assert bootstrap_absolute_means(noise[:4, :1]).low >= 0, "an average of absolute values isn't below 0"


def test_estimates_do_not_depend_on_the_order_of_rows():
    values, codes = repeated(3)
    order = torch.randperm(len(values), generator=random(4))
    a, b = bootstrap_mean(values, codes), bootstrap_mean(values[order], codes[order])
    assert (a.mean, a.low, a.high) == pytest.approx((b.mean, b.low, b.high), abs=1e-12)


def test_the_best_of_many_alike_is_no_better_on_other_codes():
    codes = torch.arange(100)
    half = is_in_selection_half(codes)
    assert half.sum() == 50
    gains = []
    for seed in range(60):
        methods = torch.bernoulli(torch.full((12, 100), 0.8), generator=random(seed))
        best = methods[:, half].mean(1).argmax()
        gains.append([methods[best][half].mean() - 0.8, methods[best][~half].mean() - 0.8])
    chosen, reported = torch.tensor(gains).mean(0)
    assert chosen > 0.05 and abs(reported) < 0.02


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.98, 1.0, "yes"), (0.9, 0.99, "open"), (0.9, 0.96, "no")])
def test_a_claim_holds_by_its_interval(low, high, verdict):
    assert judge_claim(Estimate(0.975, low, high, 9), at_least=0.97) == verdict
    assert judge_claim(Estimate(-0.975, -high, -low, 9), at_most=-0.97) == verdict
    assert judge_claim(Estimate(0.99, 0.98, 1.0, 7), at_least=0.97) == "open", "a few codes prove nothing"
    assert judge_claim(Estimate(math.nan, math.nan, math.nan, 0), at_least=0) == "open"
