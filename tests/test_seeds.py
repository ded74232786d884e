"""Seeds and what papers report: labels and reports share no face, and each number stands in one place."""

import re
from pathlib import Path

import pytest
import torch
from planted_truth import SCORER, TOY

from ganvas import label, seeds
from ganvas.evaluation import papers
from ganvas.generators.base import map_seeds

ROOT = Path(__file__).parent.parent
SOURCES = {
    path: path.read_text(encoding="utf-8") for part in ("src", "benchmarks") for path in (ROOT / part).rglob("*.py")
}


@pytest.mark.parametrize("first", [0, 999_999, 1_000_000, 1_999_990])
def test_labels_are_disjoint_from_reports(first):
    found = seeds.label_seeds(1_200_000, first)
    assert len(set(found)) == len(found)
    assert not set(found) & set(seeds.REPORT_SEEDS)
    assert found[:10] == list(range(first, first + 10)) and found == sorted(found)
    assert seeds.label_seeds(20, first, 999_995) == found[999_995:1_000_015]


def test_seeds_of_reports_are_reports():
    for name in ("EVALUATION_SEED", "LATENT_SEED", "BALANCING_SEED", "CONDITIONAL_SEED"):
        assert getattr(seeds, name) in seeds.REPORT_SEEDS
    assert range(2_000_000, 3_000_000) == seeds.REPORT_SEEDS
    assert seeds.label_seeds(3) == [1_000_000, 1_000_001, 1_000_002]


def test_labels_that_come_to_the_reports_seeds_go_on_behind_them(tmp_path):
    data = label(TOY, SCORER, 300, seed=1_999_900, out=tmp_path / "labels")
    expected = map_seeds(TOY, seeds.label_seeds(300, 1_999_900))
    torch.testing.assert_close(data.w, expected, atol=1e-5, rtol=0)
    assert torch.equal(label(TOY, SCORER, 300, seed=1_999_900).scores, data.scores)


def test_seeds_of_a_million_on_are_said_once():
    found = {
        path.name
        for path, text in SOURCES.items()
        if re.search(r"seed(: \S+)? = [\d_]{7,}|range\([12]_?\d00_?000", text, re.I)
    }
    assert found == {"seeds.py"}


@pytest.mark.parametrize("numbers", [papers.SUCCESS.values(), papers.IDENTITY.values()])
def test_numbers_of_papers_are_said_once(numbers):
    for path, text in SOURCES.items():
        if path.name != "papers.py":
            # One may be a coincidence, all aren't.
            assert not all(f"{mine:.3f}" in text for mine, _ in numbers), path


def test_a_processor_chooses_a_dtype_in_one_place_alone():
    """What is fitted, labelled or measured has the dtype that was asked for, or float32; "auto" is asked for, too."""
    asked = re.compile(r"torch\.cpu\.|torch\.backends\.(cpu|mkldnn|cuda)|matmul_precision|torch\._C\b|_is_a(vx|mx)")
    shown = "torch.backends.cpu.get_cpu_capability()"  # describe_torch prints it
    found = [path for path, text in SOURCES.items() if asked.search(text.replace(shown, ""))]
    assert [path.relative_to(path.parents[1]).as_posix() for path in found] == ["generators/__init__.py"]
    # Choices of searches that go on from small differences, anyway, and what is loaded.
    users = {path.name for path, text in SOURCES.items() if "has_bfloat16_instructions(" in text}
    assert users == {"__init__.py", "load.py", "_layouts.py", "object_loss.py"}
