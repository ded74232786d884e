"""Rows of side effects at an equal change, by planted changes."""

import pytest
import torch

from experiments.ffhq import side_effects
from experiments.ffhq.side_effects import STRENGTHS, StrengthSweep, compare, measure_row

NAMES = {
    "celeba40_reading": ("Smiling", "High_Cheekbones", "Bangs", "Blurry", "Young"),
    "omi_reading": ("Age", "Smiling", "Weight"),
}
RUNGS = torch.tensor((0.0, *STRENGTHS))
N = 12


def plant(attribute: str, celeba: tuple[float, ...], omi: tuple[float, ...]) -> StrengthSweep:
    """Plant changes that grow evenly with strength, and noise whose mean over faces is 0."""
    noise = torch.randn(N, 5, generator=torch.Generator().manual_seed(0))
    noise = noise - noise.mean(0)
    slopes = {"celeba40_reading": torch.tensor(celeba) + noise, "omi_reading": torch.tensor(omi) + noise[:, :3]}
    changes = {name: RUNGS[:, None, None] * slope for name, slope in slopes.items()}
    return StrengthSweep(attribute, NAMES, changes, RUNGS[:, None].expand(-1, N) * 0.1)


EVEN = torch.full((N,), 1 / N)
SMILE = plant("Smiling", (0.8, 0.9, 0.4, -0.2, 0.0), (0.1, 0.5, -0.3))


def test_a_row_is_read_at_an_equal_change():
    row = measure_row(SMILE, "celeba40_reading", 2.0, EVEN)
    assert row.strength == pytest.approx(2.5)
    assert row.means == pytest.approx({"Bangs": 1.0, "Blurry": -0.5, "Young": 0.0}, abs=1e-5)  # cheeks are entailed
    assert row.side_effects == pytest.approx(0.5, abs=1e-5)
    assert row.distance == pytest.approx(0.25)
    assert row.drift > row.side_effects


def test_each_judge_reads_its_own_name_of_the_target():
    older = plant("Young", (0.0, 0.0, 0.3, 0.0, -1.0), (0.5, 0.0, 0.2))
    assert measure_row(older, "celeba40_reading", 1.0, EVEN).strength == pytest.approx(1.0)
    assert measure_row(older, "omi_reading", 1.0, EVEN).strength == pytest.approx(2.0)
    assert measure_row(older, "omi_reading", 1.0, EVEN).means == pytest.approx(
        {"Smiling": 0.0, "Weight": 0.4}, abs=1e-5
    )


def test_a_change_that_no_strength_reaches_is_missing():
    weak = plant("Smiling", (0.1, 0.0, 0.0, 0.0, 0.0), (0.0, 0.1, 0.0))
    row = measure_row(weak, "celeba40_reading", 1.0, EVEN)
    assert row.means is None
    assert row.side_effects != row.side_effects
    assert any("not reached" in line for line in compare([SMILE], [weak]))


def test_ratios_of_equal_editors_are_one(monkeypatch):
    monkeypatch.setattr(side_effects, "DRAWS", 20)
    *rows, effects, drift = compare([SMILE], [SMILE])
    assert all(row.endswith("| 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] |") for row in rows[2:])
    assert effects.startswith("side effects, geometric mean 1.00 [1.00, 1.00], worst row 1.00")
    assert "4 of 4 rows" in drift
