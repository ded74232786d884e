"""The judges of moves of counts on planted pictures: what is kept, moved, swapped, torn and faint."""

import pytest
import torch

from experiments.multimnist.judges import (
    CELLS,
    Digit,
    DigitDetector,
    find_components,
    measure_kept,
    measure_right,
    read_detector,
    save_detector,
)
from ganvas import GanvasError


def draw(*boxes, brightness=1.0):
    """Draw bars (y0, x0, y1, x1) on a dark picture."""
    picture = torch.full((64, 64), -1.0)
    for y0, x0, y1, x1 in boxes:
        picture[y0:y1, x0:x1] = 2 * brightness - 1
    return picture


ONE, TWO = (4, 4, 20, 10), (40, 40, 56, 50)


def judge(before, after, alpha):
    old, new = find_components(before[None]), find_components(after[None])
    change = torch.tensor([alpha])
    return float(measure_right(old, new, change)), float(measure_kept(old, new, change))


def test_components_are_counted_and_placed():
    (found,) = find_components(draw(ONE, TWO)[None])
    assert [(digit.y, digit.x) for digit in found] == [(11.5, 6.5), (47.5, 44.5)]
    assert find_components(torch.stack((draw(), draw(ONE, brightness=0.3)))) == [[], []], "faint ink is none"
    assert find_components(draw((5, 5, 7, 7))[None]) == [[]], "nor is a speck"


@pytest.mark.parametrize(
    ("after", "alpha", "right", "kept"),
    [
        ((ONE, TWO), 0, 1, 1),
        ((ONE, TWO, (4, 40, 20, 46)), 1, 1, 1),
        ((TWO,), -1, 1, 1),
        ((TWO, (4, 40, 20, 46)), 1, 0, 0.5),
        (((7, 4, 23, 10), TWO), 0, 1, 1),
        (((9, 4, 25, 10), TWO), 0, 1, 0.5),
        (((4, 4, 20, 16), TWO), 0, 1, 0.5),
        (((8, 5, 16, 9), TWO), 0, 1, 0.5),
        ((), -1, 0, 0),
    ],
    ids=["same", "added", "removed", "another place", "near", "far", "too large", "too small", "all gone"],
)
def test_what_is_kept_lies_and_looks_as_before(after, alpha, right, kept):
    assert judge(draw(ONE, TWO), draw(*after), alpha) == (right, kept)


def test_of_one_digit_that_is_removed_nothing_could_stay():
    assert torch.isnan(measure_kept([[Digit(5, 5)]], [[]], torch.tensor([-1]))).all()


def test_a_digit_of_another_class_is_not_kept():
    before = [[Digit(5, 5, label=3), Digit(40, 40, label=7)]]
    assert measure_kept(before, [[Digit(7, 6, label=3), Digit(40, 40, label=1)]], torch.tensor([0])) == 0.5


def test_the_detector_reads_cells_and_drops_the_weaker_of_two(tmp_path):
    detector = DigitDetector().eval()
    maps = torch.zeros(1, 13, CELLS, CELLS)
    maps[:, 0] = 9
    for row, column, label, logit in ((2, 3, 7, 20.0), (2, 4, 1, 15.0), (10, 10, 4, 20.0)):
        maps[0, 1 + label, row, column] = logit
    maps[0, 11, 10, 10] = 0.25
    detector.forward = lambda pictures: maps
    (found,) = detector.find_digits(torch.zeros(1, 64, 64))
    assert {(digit.y, digit.x, digit.label) for digit in found} == {(10, 14, 7), (43, 42, 4)}
    detector = DigitDetector().eval()
    save_detector(detector, tmp_path / "one.safetensors")
    picture = torch.rand(2, 64, 64)
    assert torch.equal(read_detector(tmp_path / "one.safetensors")(picture), detector(picture))


def test_another_file_is_refused(tmp_path):
    from ganvas.io.files import save_tensors

    save_tensors(tmp_path / "one.safetensors", {"a": torch.zeros(1)}, {"kind": "editor"})
    with pytest.raises(GanvasError, match="holds no detector"):
        read_detector(tmp_path / "one.safetensors")
