"""Gradients of scores in W: they predict what a small move does, and come back from their files."""

import pytest
import torch

from ganvas.cli import main
from ganvas.data import gradients
from ganvas.data.gradients import (
    GradientRun,
    WhitenedBasis,
    compute_gradients,
    group_rows,
    load_gradients,
    load_summary,
    name_shard,
)
from ganvas.errors import GanvasError
from ganvas.generators.base import sample
from ganvas.generators.toy import Toy
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.shards import save_shard
from ganvas.scorers.toy import ToyScorer

TOY, SCORER = Toy("toy"), ToyScorer()
N = 20


def made(folder, n=N, **options) -> GradientRun:
    run = GradientRun(TOY, SCORER, n, folder, components=8, **options)
    run.make_missing(threads=1)
    return run


def test_groups_are_rows_by_resolution():
    assert group_rows(TOY) == [[0, 1, 2], [3]]  # 4, 8, 16 pixels; 32 pixels; nothing finer


def test_the_basis_whitens():
    basis = WhitenedBasis.fit(TOY, 8)
    w = sample(TOY, 4000, psi=1, seed=1_000_000)[:, 0] - basis.mean
    u = w @ torch.linalg.pinv(basis.directions)
    torch.testing.assert_close(torch.cov(u.T), torch.eye(8), atol=0.1, rtol=0)


def test_a_small_step_changes_scores_as_predicted():
    basis, ws = WhitenedBasis.fit(TOY, 8), sample(TOY, 3, psi=1, seed=77)
    scores, found = compute_gradients(TOY, SCORER, ws, basis, TOY.resolution)
    torch.testing.assert_close(scores, SCORER(TOY.synthesis(ws)))
    for group, rows in enumerate(group_rows(TOY)):
        for k in range(len(SCORER.attributes)):
            step = 1e-2 * found[:, k, group] / found[:, k, group].norm(dim=1, keepdim=True).clamp(min=1e-6)
            moved = ws.clone()
            moved[:, rows] += (step @ basis.directions)[:, None]
            change = (SCORER(TOY.synthesis(moved)) - scores)[:, k]
            torch.testing.assert_close(change, (step * found[:, k, group]).sum(1), atol=2e-4, rtol=0.1)


def test_gradients_come_back_and_runs_resume(tmp_path):
    run = made(tmp_path)
    _, exact = compute_gradients(
        TOY, SCORER, sample(TOY, 1, psi=1, seed=gradients.LABEL_SEED), run.basis, TOY.resolution
    )
    torch.testing.assert_close(run.load()[:1], exact, atol=float(exact.abs().max()) / 100, rtol=0)
    found = run.load()
    assert found.shape == (N, 5, 2, 8)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / name_shard(1)).unlink()
    (tmp_path / name_shard(2)).write_bytes(b"cut short")
    with pytest.raises(GanvasError, match=r"no whole gradients-00001"):
        run.load()
    made(tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not run.count_missing()


def test_a_summary_is_mean_and_second_moment(tmp_path):
    run = made(tmp_path)
    summary, all_of_them = run.compute_summary(), run.load()
    moments = torch.einsum("nagi,nagj->agij", all_of_them, all_of_them) / N
    torch.testing.assert_close(summary.factors.transpose(2, 3) @ summary.factors, moments, atol=1e-5, rtol=1e-3)
    summary.save(tmp_path)
    back = load_summary(tmp_path / gradients.SUMMARY, TOY)
    assert back.attributes == SCORER.attributes and back.n == N
    torch.testing.assert_close(back.mean, all_of_them.mean(0), atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(back.factors, summary.factors, atol=1e-3, rtol=1e-2)


def test_the_mean_points_along_the_planted_direction(tmp_path):
    """On the toy a score changes along its planted direction, on every face."""
    run = made(tmp_path)
    mean = run.compute_summary().mean  # (attributes, groups, 8)
    for k, name in enumerate(SCORER.attributes):
        expected = run.basis.directions @ TOY.planted[name]
        total = mean[k].sum(0)
        assert torch.cosine_similarity(total, expected, dim=0) > 0.9, name


def test_what_is_no_summary_is_one_line(tmp_path):
    path = tmp_path / "x.safetensors"
    for write in (lambda: None, lambda: path.write_bytes(b"?"), lambda: save_tensors(path, {"a": torch.zeros(1)}, {})):
        write()
        with pytest.raises(GanvasError, match="isn't a summary of gradients"):
            load_summary(path, TOY)
    made(tmp_path).compute_summary().save(tmp_path)
    tensors, metadata = load_tensors(tmp_path / gradients.SUMMARY)
    save_tensors(path, {**tensors, "mean": tensors["mean"] + 1}, metadata)
    with pytest.raises(GanvasError, match="isn't a summary of gradients"):
        load_summary(path, TOY)
    other = Toy("toy")
    other.fingerprint = "0" * 64
    with pytest.raises(GanvasError, match="another generator"):
        load_summary(tmp_path / gradients.SUMMARY, other)


def test_gradients_of_some_attributes_come_back_in_w(tmp_path):
    axes = made(tmp_path).basis.directions
    codes, found = load_gradients(tmp_path, TOY, ("Big", "Red"))
    torch.testing.assert_close(codes, sample(TOY, N, psi=1, seed=gradients.LABEL_SEED)[:, 0], atol=1e-5, rtol=0)
    assert found.shape == (N, 2, TOY.w_dim)
    for k, name in enumerate(("Big", "Red")):
        inside = torch.linalg.pinv(axes) @ axes @ TOY.planted[name]  # the components leave the rest out
        assert torch.cosine_similarity(found[:, k], inside, dim=1).min() > 0.99, name
    (tmp_path / name_shard(1)).unlink()
    assert len(load_gradients(tmp_path, TOY, ("Big",))[0]) == 8
    with pytest.raises(GanvasError, match="attribute 'Bgi'"):
        load_gradients(tmp_path, TOY, ("Bgi",))
    other = Toy("toy")
    other.fingerprint = "0" * 64
    with pytest.raises(GanvasError, match="another generator than 'toy'"):
        load_gradients(tmp_path, other, ("Big",))
    save_shard(tmp_path / name_shard(0), {"scores": torch.zeros(2)}, {"kind": "labels"})
    with pytest.raises(GanvasError, match="isn't a shard of gradients"):
        load_gradients(tmp_path, TOY, ("Big",))
    (tmp_path / name_shard(0)).unlink()
    with pytest.raises(GanvasError, match="has no gradients"):
        load_gradients(tmp_path, TOY, ("Big",))


@pytest.mark.parametrize(("n", "components"), [(0, 8), (4, 0), (4, 65)])
def test_bad_sizes_are_one_line(tmp_path, n, components):
    with pytest.raises(GanvasError, match="must be"):
        GradientRun(TOY, SCORER, n, tmp_path, components=components)


def test_the_command_adds_gradients_to_labels(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["label", "toy", "-n", "300", "--gradients", "5", "--out", str(tmp_path)])
    assert end.value.code == 0
    assert "gradients of 5 attributes, from 5 pictures" in capsys.readouterr().out
    assert load_summary(tmp_path / gradients.SUMMARY, TOY).n == 5
