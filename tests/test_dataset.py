"""Labelled codes, and the probe that reads them."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from ganvas.data import gaussianize, probe
from ganvas.data.correlation import correlate_columns, correlate_pairs
from ganvas.data.dataset import LatentDataset, Source, find_columns, make_dataset
from ganvas.data.label import label
from ganvas.errors import GanvasError
from ganvas.generators.toy import Toy
from ganvas.scorers.toy import ToyScorer

NAMES = ("a", "b", "c")


def planted(
    n: int, dim: int = 20, noise: float = 0.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes far from the origin with uneven variances, the scores that three directions give them, and those."""
    random = torch.Generator().manual_seed(seed)
    w = torch.randn(n, dim, generator=random) * torch.logspace(0, -1, dim) + 5
    directions = torch.randn(dim, 3, generator=random)
    exact = (w - 5) @ directions
    return w, exact / exact.std(0) + noise * torch.randn(n, 3, generator=random), directions


def dataset(n: int = 400, noise: float = 0.5) -> LatentDataset:
    w, scores, _ = planted(n, noise=noise)
    return make_dataset(w, scores, NAMES, ("value",) * 3, Source(), "generator", "scorer:0")


@pytest.fixture(scope="module")
def toy() -> LatentDataset:
    return label(Toy(), ToyScorer(), 600)


def test_probe_finds_an_exact_linear_map() -> None:
    w, scores, _ = planted(500)
    assert (probe.fit_probe(w, scores)(w) - scores).abs().max() < 1e-3


def test_probe_minimises_the_ridge_loss_on_the_components() -> None:
    w, scores, _ = planted(300, noise=1.0)
    fitted = probe.fit_probe(w, scores, components=8)
    centred, target = (w - w.mean(0)).double(), (scores - scores.mean(0)).double()
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:8].T
    coefficients, features = axes.T @ fitted.weight.double(), centred @ axes
    assert (axes @ coefficients - fitted.weight).abs().max() < 1e-5  # nothing outside of the components
    for k in range(3):
        # The loss' gradient vanishes: features' (target - prediction) = n · strength · coefficients, one strength each.
        residual = features.T @ (target[:, k] - features @ coefficients[:, k])
        strength = residual / coefficients[:, k]
        assert strength.std() / strength.mean().abs() < 1e-3
        assert strength.mean() >= 0


def test_probe_beats_the_noisy_scores_that_it_learned_from() -> None:
    w, noisy, _ = planted(2000, noise=1.0)
    _, exact, _ = planted(2000)
    for k in range(3):
        read = torch.corrcoef(torch.stack((probe.fit_probe(w, noisy)(w)[:, k], exact[:, k])))[0, 1]
        assert read > 0.97
        assert read > torch.corrcoef(torch.stack((noisy[:, k], exact[:, k])))[0, 1] + 0.2


def test_probe_of_noise_is_nearly_flat() -> None:
    w, _, _ = planted(1000)
    noise = torch.randn(1000, 2, generator=torch.Generator().manual_seed(9))
    assert probe.fit_probe(w, noise)(w).std(0).max() < 0.2


def test_probe_moves_with_its_codes() -> None:
    w, scores, _ = planted(400, noise=0.3)
    turn = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(1))).Q
    assert (probe.fit_probe(w, scores)(w) - probe.fit_probe(w @ turn - 2, scores)(w @ turn - 2)).abs().max() < 1e-3


@pytest.mark.parametrize("n", [2, 3, 15])
def test_probe_of_few_or_equal_codes_is_finite(n: int) -> None:
    w, scores, _ = planted(n)
    assert torch.isfinite(probe.fit_probe(w, scores)(w)).all()
    assert torch.allclose(probe.fit_probe(torch.ones(n, 5), scores)(torch.ones(1, 5)), scores.mean(0), atol=1e-5)


def test_out_of_fold_predictions_never_saw_their_row() -> None:
    w, scores, _ = planted(100, noise=0.5)
    before = probe.predict_out_of_fold(w, scores)
    changed = scores.clone()
    changed[7] += 1000
    after = probe.predict_out_of_fold(w, changed)
    assert torch.allclose(before[2::5], after[2::5], atol=1e-4)
    assert not torch.allclose(before[1::5], after[1::5], atol=1)
    # As a probe fitted on the other rows says it.
    others = torch.arange(100) % 5 != 3
    assert torch.allclose(before[3::5], probe.fit_probe(w[others], scores[others])(w[3::5]), atol=1e-4)


@pytest.mark.parametrize("folds", [-1, 0, 1, 400])
def test_impossible_folds(folds: int) -> None:
    with pytest.raises(GanvasError, match=f"from 2 to 399 for 400 codes, not {folds}"):
        probe.predict_out_of_fold(dataset().w, dataset().scores, folds)


def test_out_of_fold_predictions_are_nearer_the_truth() -> None:
    data, truth = dataset(1000, noise=0.7), planted(1000)[1]
    smoothed = probe.predict_out_of_fold(data.w, data.scores)
    assert (smoothed - truth).square().mean() < 0.1 * (data.scores - truth).square().mean()


@pytest.mark.parametrize(("noise", "expected"), [(0.0, 1.0), (0.7, 1 / (1 + 0.7**2) ** 0.5)])
def test_out_of_fold_predictions_are_as_good_as_noise_allows(noise: float, expected: float) -> None:
    data = dataset(2000, noise=noise)
    normals = data.normals()
    quality = correlate_pairs(probe.predict_out_of_fold(data.w, normals), normals)
    assert (quality - expected).abs().max() < 0.05


def test_out_of_fold_predictions_of_noise_are_worth_nothing() -> None:
    noise = torch.randn(1000, 3, generator=torch.Generator().manual_seed(3))
    assert correlate_pairs(probe.predict_out_of_fold(dataset(1000).w, noise), noise).max() < 0.1


def test_correlations_are_those_of_numpy() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(50, 3, generator=random), torch.randn(50, 3, generator=random)
    b[:, 1] += 3 * a[:, 0]
    expected = torch.from_numpy(np.corrcoef(a.T, b.T)[:3, 3:]).float()
    torch.testing.assert_close(correlate_columns(a, b), expected)
    torch.testing.assert_close(correlate_pairs(a, b), expected.diag())
    assert correlate_columns(torch.ones(50, 1), b).eq(0).all() and correlate_pairs(a, torch.ones(50, 3)).eq(0).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "No attributes"),
        (["Red", "Red"], "named twice"),
        ("Red", "a list of names"),
        (["Rde"], "did you mean 'Red'"),
    ],
)
def test_a_wrong_selection_of_attributes_is_refused(names: object, message: str) -> None:
    with pytest.raises(GanvasError, match=message):
        find_columns(names, ("Red", "Big"))


def test_toy_probe_reads_planted_coordinates(toy: LatentDataset) -> None:
    generator = Toy()
    truth = generator.compute_coordinates(generator.expand(toy.w))
    pairs = zip(toy.probe(toy.w).T, truth.T, strict=True)
    assert min(torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in pairs) > 0.98


def test_w_plus_codes_are_probed_at_their_mean() -> None:
    w, scores, _ = planted(200)
    noise = torch.randn(200, 4, 20, generator=torch.Generator().manual_seed(2))
    plus = w[:, None] + noise - noise.mean(1, keepdim=True)
    one, many = (make_dataset(c, scores, NAMES, ("value",) * 3, Source(), "g", "s:0") for c in (w, plus))
    assert (one.space, many.space) == ("w", "w+")
    assert torch.allclose(one.probe.weight, many.probe.weight, atol=1e-3)
    assert torch.equal(many.ws(torch.tensor([3, 1]), 4), plus[[3, 1]])
    with pytest.raises(GanvasError, match="have 4 rows, but the generator takes 6"):
        many.ws(slice(3), 6)


def test_w_codes_expand_without_copies() -> None:
    data = dataset()
    ws = data.ws(slice(0, 7), 18)
    assert ws.shape == (7, 18, 20)
    assert ws.data_ptr() == data.codes.data_ptr()
    assert torch.equal(ws[:, 17], data.codes[:7])


def test_normals_are_normal() -> None:
    normals = dataset(2000).normals()
    assert normals.mean(0).abs().max() < 0.01
    assert (normals.std(0) - 1).abs().max() < 0.01


def test_subset_keeps_the_scale() -> None:
    data = dataset()
    rows = torch.tensor([5, 300, 2])
    part = data.subset(rows)
    assert torch.equal(part.codes, data.codes[rows])
    assert torch.equal(part.normals(), data.normals()[rows])
    assert part.source.seed is None
    mask = data.scores[:, 0] > 0
    assert len(data.subset(mask)) == mask.sum()
    assert data.subset(torch.arange(10)).source == data.source


def test_select_orders_everything_alike() -> None:
    data = replace(dataset(), kinds=("probability", "count", "value"))
    part = data.select(["c", "a"])
    assert (part.attributes, part.kinds) == (("c", "a"), ("value", "probability"))
    assert torch.equal(part.normals(), data.normals()[:, [2, 0]])
    assert torch.allclose(part.probe(part.w), data.probe(data.w)[:, [2, 0]])
    with pytest.raises(GanvasError, match="Unknown attribute 'd': pick one of a, b, c"):
        data.select(["d"])
    with pytest.raises(GanvasError, match="No attributes"):
        data.select([])


def test_split_is_a_partition_fixed_by_its_seed() -> None:
    train, held_out = dataset().split(0.7, seed=4)
    assert (len(train), len(held_out)) == (280, 120)
    assert torch.equal(torch.cat((train, held_out)).sort().values, torch.arange(400))
    assert torch.equal(train, dataset().split(0.7, seed=4)[0])
    assert not torch.equal(train, dataset().split(0.7, seed=5)[0])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, 0.0001, float("nan")])
def test_impossible_splits(fraction: float) -> None:
    with pytest.raises(GanvasError, match="leaves nothing"):
        dataset().split(fraction)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attributes": ("a", "b")}, "one row a code"),
        ({"kinds": ("value",)}, "one row a code"),
        ({"attributes": ("a", "b", "a")}, "no two of one name"),
        ({"kinds": ("value", "value", "colour")}, "Unknown kind of score 'colour'"),
        ({"scores": torch.full((400, 3), float("nan"))}, "aren't finite"),
        ({"codes": torch.full((400, 20), float("inf"))}, "aren't finite"),
        ({"scores": torch.ones(400, 3)}, "'a' has the same score everywhere"),
    ],
)
def test_labels_that_do_not_fit(change: dict, message: str) -> None:
    data = dataset()
    given = {"codes": data.codes, "scores": data.scores, "attributes": NAMES, "kinds": data.kinds} | change
    with pytest.raises(GanvasError, match=message):
        make_dataset(**given, source=Source(), generator="g", scorer="s:0")


def test_ready_for_thirty_thousand_codes() -> None:
    random = torch.Generator().manual_seed(0)
    w, scores = torch.randn(30_000, 512, generator=random), torch.randn(30_000, 40, generator=random)
    fitted = gaussianize.fit(scores, tuple(map(str, range(40))))
    start = time.process_time()
    probe.fit_probe(w, fitted(scores))
    assert time.process_time() - start < 4
