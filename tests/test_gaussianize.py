"""Laws of score <-> normal score."""

import time

import pytest
import torch

from ganvas.data import gaussianize
from ganvas.errors import GanvasError


def skewed(n: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Scores as classifiers give them: two humps, long tails, another scale in each column."""
    random = torch.Generator().manual_seed(seed)
    hump = (torch.rand(n, columns, generator=random) < 0.3).float() * 6 - 4
    tail = torch.randn(n, columns, generator=random).mul(1.5).sinh() * torch.linspace(0.1, 3, columns)
    return hump + tail


def names(columns: int) -> tuple[str, ...]:
    return tuple(f"a{k}" for k in range(columns))


@pytest.mark.parametrize("n", [2, 3, 50, 1024, 5000])
def test_inverse_is_inverse_inside_and_beyond_the_range(n: int) -> None:
    scores = skewed(n, 3)
    fitted = gaussianize.fit(scores, names(3))
    low, high = scores.min(0).values.double(), scores.max(0).values.double()
    grid = low + (high - low) * torch.linspace(-3, 4, 2001, dtype=torch.float64)[:, None]
    # Relative to the size that the scores have: near 0 there is no other.
    assert ((fitted.inverse(fitted(grid)) - grid).abs() / grid.abs().clamp(min=1)).max() < 1e-6
    normals = torch.linspace(-9, 9, 2001, dtype=torch.float64)[:, None].expand(-1, 3)
    assert (fitted(fitted.inverse(normals)) - normals).abs().max() < 1e-6


def test_float32_stays_float32_and_comes_back() -> None:
    scores = skewed(5000, 4)
    fitted = gaussianize.fit(scores, names(4))
    normals = fitted(scores)
    assert normals.dtype == fitted.inverse(normals).dtype == torch.float32
    assert (fitted.inverse(normals) - scores).abs().max() < 1e-5 * scores.abs().max()


@pytest.mark.parametrize("n", [2, 40, 3000])
def test_strictly_increasing_and_equal_orders(n: int) -> None:
    scores = skewed(n, 2)
    fitted = gaussianize.fit(scores, names(2))
    assert (fitted.scores.diff(dim=0) > 0).all()
    assert (fitted.normals.diff(dim=0) > 0).all()
    assert torch.equal(fitted(scores.double()).argsort(0), scores.double().argsort(0))


def test_fitted_data_is_standard_normal() -> None:
    normals = gaussianize.fit(skewed(20000, 5), names(5))(skewed(20000, 5)).double()
    for power, moment, tolerance in [(1, 0, 0.01), (2, 1, 0.01), (3, 0, 0.05), (4, 3, 0.1)]:
        assert (normals.pow(power).mean(0) - moment).abs().max() < tolerance


def test_new_data_of_the_same_kind_is_nearly_normal() -> None:
    normals = gaussianize.fit(skewed(20000, 5), names(5))(skewed(20000, 5, seed=1))
    assert normals.mean(0).abs().max() < 0.05
    assert (normals.std(0) - 1).abs().max() < 0.05


def test_ties_share_their_middle_rank() -> None:
    counts = torch.tensor([1.0, 1, 2, 2, 2, 2, 3, 4, 4, 4])[:, None]
    normals = gaussianize.fit(counts, ("balls",))(counts.double())
    middle = torch.tensor([1, 1, 4, 4, 4, 4, 6.5, 8.5, 8.5, 8.5], dtype=torch.float64) / 10
    assert (torch.special.ndtr(normals[:, 0]) - middle).abs().max() < 1e-9


@pytest.mark.parametrize("values", [2, 3, 4])
def test_counts_stay_invertible_and_go_on_as_a_line(values: int) -> None:
    counts = torch.arange(1.0, values + 1).repeat_interleave(torch.arange(1, values + 1) * 7)[:, None]
    fitted = gaussianize.fit(counts, ("balls",))
    more = torch.arange(-3.0, values + 4, dtype=torch.float64)[:, None]
    assert (fitted.inverse(fitted(more)) - more).abs().max() < 1e-9
    assert torch.allclose(fitted(more)[-3:].diff(dim=0), fitted(more)[-2:].diff(dim=0))


def test_lines_beyond_the_range_do_not_hang_on_two_scores() -> None:
    scores = torch.special.ndtri(torch.linspace(0.001, 0.999, 999, dtype=torch.float64))[:, None]
    twins = torch.cat((scores, scores[-1:] + 1e-12))
    fitted = gaussianize.fit(twins, ("a",))
    assert 0.05 < fitted(twins[-1:] + 0.1) - fitted(twins[-1:]) < 0.2


def test_columns_are_independent_and_selectable() -> None:
    scores = skewed(500, 3)
    scores[:, 1] = scores[:, 1].round()
    fitted = gaussianize.fit(scores, names(3))
    alone = gaussianize.fit(scores[:, [2, 1]], ("a2", "a1"))
    assert torch.equal(fitted.select([2, 1])(scores[:, [2, 1]]), alone(scores[:, [2, 1]]))
    assert torch.equal(fitted(scores)[:, [2, 1]], alone(scores[:, [2, 1]]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_named(bad: float) -> None:
    scores = skewed(10, 2)
    scores[3, 1] = bad
    with pytest.raises(GanvasError, match="'a1' has scores that aren't finite"):
        gaussianize.fit(scores, names(2))


def test_one_score_everywhere_is_named() -> None:
    scores = skewed(10, 2)
    scores[:, 0] = 5
    with pytest.raises(GanvasError, match="'a0' has the same score everywhere"):
        gaussianize.fit(scores, names(2))


def test_thirty_thousand_faces_in_seconds() -> None:
    scores = skewed(30_000, 40)
    start = time.perf_counter()
    gaussianize.fit(scores, names(40))(scores)
    assert time.perf_counter() - start < 4
