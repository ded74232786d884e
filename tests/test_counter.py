"""The digit counter: what it reads from strokes whose truth is known, its file, and how it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ganvas import GanvasError
from ganvas.data.multimnist_files import MultiMnist
from ganvas.io.files import load_tensors, save_tensors
from ganvas.scorers import count as counting
from ganvas.scorers import load_scorer
from ganvas.scorers.count import DIGITS, FEATURES, SHAPES, Counter, CounterNetwork, compute_margin
from ganvas.training import counter
from ganvas.training.counter import CounterConfig, read_digit_images, save_counter, train_counter_network

COUNT = load_scorer("count")


def strokes(places, size=64, slant=0.0, width=3):
    """A picture (1, 3, size, size) with one upright stroke at each place (x, y of its middle, of 64), as a one is written."""
    y, x = np.mgrid[0:size, 0:size] * 64 / size + 32 / size
    ink = np.zeros((size, size))
    for px, py in places:
        off = np.abs(x - px + slant * (y - py))
        ink = np.maximum(ink, np.clip(width / 2 + 0.5 - off, 0, 1) * np.clip(10.5 - np.abs(y - py), 0, 1))
    return torch.from_numpy(2 * ink - 1).float().expand(1, 3, -1, -1)


PLACES = [(14, 16), (46, 18), (16, 48), (47, 46)]


def named(images):
    return dict(zip(COUNT.attributes, COUNT(images)[0].tolist(), strict=True))


def test_what_it_reads_has_names_and_kinds():
    assert COUNT.attributes == ("count", *DIGITS, "sure", *SHAPES)
    assert [COUNT.kinds[COUNT.column(name)] for name in ("count", "digit_7", "sure", "slant")] == [
        "count",
        "count",
        "probability",
        "value",
    ]


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_strokes_are_counted_as_ones(n, size):
    found = named(strokes(PLACES[:n], size))
    assert found["count"] == n
    if n <= 2:  # more of one class are too rare to be known well
        assert found["digit_1"] == n == sum(found[name] for name in DIGITS)
    assert torch.sigmoid(torch.tensor(found["sure"])) > 0.9


def test_scores_are_whole_and_features_can_be_descended():
    images = torch.cat([strokes(PLACES[:2]), strokes(PLACES[:3], slant=0.3)]).requires_grad_()
    scores = COUNT(images)
    assert torch.equal(scores[:, :11], scores[:, :11].round())
    features = COUNT.compute_features(images)
    assert features.shape == (2, FEATURES)
    logits = COUNT.compute_logits(images)
    assert logits.count.argmax(1).tolist() == [2, 3] and logits.classes.shape == (2, 10, 5)
    (slope,) = torch.autograd.grad(logits.count[0, 3] + features.sum(), images)
    assert slope.abs().sum() > 0


def test_a_stroke_that_fades_is_less_sure():
    def at(opacity):
        return torch.maximum(strokes(PLACES[:2]), opacity * (strokes(PLACES[2:3]) + 1) - 1)

    sure = [named(at(opacity))["sure"] for opacity in (0.0, 0.3, 1.0)]
    assert sure[1] < min(sure[0], sure[2]) - 1


def test_places_strokes_and_slants_are_measured():
    for slant in (-0.4, 0.0, 0.4):
        found = named(strokes([(40, 24)], slant=slant))
        assert found["slant"] == pytest.approx(slant, abs=0.08)
        assert (found["place_x"], found["place_y"]) == (pytest.approx(40, abs=0.6), pytest.approx(24, abs=0.6))
    for width in (2, 4):
        assert named(strokes(PLACES, width=width))["stroke"] == pytest.approx(width, abs=0.9)
    blank = named(strokes([]))
    assert [blank[name] for name in SHAPES] == [32, 32, 0, 0]


def test_margins_are_logits():
    logits = torch.tensor([[2.0, 1.0, -1.0]])
    assert torch.sigmoid(compute_margin(logits)) == pytest.approx(logits.softmax(1)[0, 0].item())


def test_the_one_that_ships_is_small():
    path = Path(counting.__file__).parents[1] / "assets" / "scorers" / "count.safetensors"
    assert path.stat().st_size < 1.5e6


def test_files_that_are_others_are_one_line(tmp_path):
    path = tmp_path / "c.safetensors"
    save_counter(COUNT, path, {"measured": 1})
    again = load_scorer(str(path))
    assert again.fingerprint == COUNT.fingerprint and isinstance(again, Counter)
    tensors, about = load_tensors(path)
    for name, tensor in list(tensors.items())[:3]:
        for wrong in (
            None,
            tensor[:-1].clone(),
            tensor * float("nan"),
            torch.full_like(tensor, 1e300, dtype=torch.float64),
        ):
            others = {key: value for key, value in tensors.items() if key != name}
            save_tensors(path, others if wrong is None else others | {name: wrong}, about)
            with pytest.raises(GanvasError, match="whole counter") as caught:
                counting.read(path)
            assert "\n" not in str(caught.value)
    save_tensors(path, tensors | {"calibration": torch.tensor([1.0, torch.inf])}, about)
    with pytest.raises(GanvasError, match="whole counter"):
        counting.read(path)
    save_tensors(path, tensors, {"scorer": "celeba40"})
    with pytest.raises(GanvasError, match="holds no counter"):
        counting.read(path)


def data(n=24, most=3):
    """Pictures of one stroke to ``most``, as ones, with their boxes."""
    pixels, boxes = [], []
    for i in range(n):
        places = PLACES[: 1 + i % most]
        pixels.append(((strokes(places)[0, 0] + 1) * 127.5).round().to(torch.uint8))
        boxes.append([[x - 2, y - 11, x + 2, y + 11] for x, y in places])
    return MultiMnist(torch.stack(pixels), [[1] * len(b) for b in boxes], boxes)


def test_changed_pictures_still_show_what_is_told():
    pictures = read_digit_images(data(60))
    x, targets = counter.draw_augmented(pictures, 200, torch.Generator().manual_seed(0))
    assert x.shape == (200, 1, 64, 64) and x.min() >= 0 and x.max() <= 1
    assert torch.equal(targets.classes.sum(1), targets.count) and targets.count.min() == 0
    count, classes = targets.to_probabilities()
    torch.testing.assert_close(count.sum(1), torch.ones(200))
    torch.testing.assert_close(classes.sum(2), torch.ones(200, 10))
    # Where nothing fades, ink goes with the number of strokes.
    certain = targets.chance == 0
    ink, there = x.sum((1, 2, 3))[certain], targets.count[certain]
    assert torch.corrcoef(torch.stack((ink, there.float())))[0, 1] > 0.3


def test_erased_digits_are_gone_and_faint_ones_in_between():
    pictures = read_digit_images(data(200))
    first = pictures.select(torch.full((300,), 2))
    images, more, chance, faded = counter._fade_first_digits(first.grey / 255, first, torch.Generator().manual_seed(1))
    assert 0.25 < faded.float().mean() < 0.45 and (more == 1).all()
    left = images[:, 4:29, 10:19].sum((1, 2)) / images[~faded][0, 4:29, 10:19].sum()
    assert torch.equal(chance[~faded], torch.zeros(int((~faded).sum())))
    expected = ((left - counter.FAINT_RANGE[0]) / (counter.FAINT_RANGE[1] - counter.FAINT_RANGE[0])).clamp(0, 1)
    torch.testing.assert_close(chance[faded], expected[faded], atol=0.02, rtol=0)


def test_a_training_that_was_stopped_ends_like_one_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(counter, "CHECKPOINT_STEPS", 2)
    pictures, options = read_digit_images(data()), CounterConfig(steps=4, batch=4)
    alone = train_counter_network(pictures, options)

    def stop(step, steps):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_counter_network(pictures, options, tmp_path / "c.safetensors", stop)
    resumed = train_counter_network(pictures, options, tmp_path / "c.safetensors")
    for (name, one), other in zip(alone.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    with pytest.raises(GanvasError, match="another training"):
        train_counter_network(pictures, CounterConfig(steps=4, batch=4, seed=1), tmp_path / "c.safetensors")


def test_probabilities_are_calibrated_and_measured():
    pictures = read_digit_images(data(40))
    found = counter.calibrate_counter(COUNT.network, pictures, 0, 500)
    assert found.shape == (2,) and found[0] > 0
    measured = counter.measure_counter(COUNT, data(12, 2))
    assert measured["count"] == measured["classes"] == measured["digits_found"] == 1.0
    assert measured["n"] == 12 and measured["sure"] > 0.9
    assert isinstance(COUNT.network, CounterNetwork)
