"""Learning from pictures that the shipped counter looks at, on a generator that draws a planted number of strokes."""

import pytest
import torch
from torch import Tensor

from ganvas import GanvasError, editors, sample
from ganvas.dataset import Source, make_dataset
from ganvas.generator import Generator, hash_weights
from ganvas.scorers.count import load

DIM, ROWS, SIDE, MOST = 8, (8, 64), 64, 4
COUNTER = load("count")
QUICK = {"attributes": ["count"], "width": 0, "hidden": [16], "knowledge": 40, "steps": 5, "rate": 0.01}


class Strokes(Generator):
    """One to four upright strokes, as a coordinate of the code rises; each fades in, so that pictures change smoothly."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.z_dim, self.w_dim, self.resolution, self.row_resolutions = "strokes", DIM, DIM, SIDE, ROWS
        self.w_avg, self.fingerprint = torch.nn.Buffer(torch.zeros(DIM)), hash_weights([("w", torch.ones(DIM))])

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.cat((MOST * torch.special.ndtr(z[:, :1]) - MOST / 2, z[:, 1:]), 1)

    def synthesis(self, ws: Tensor) -> Tensor:
        level, line = ws.mean(1)[:, 0] + MOST / 2, torch.arange(float(SIDE))
        ink = ws.new_zeros(len(ws), SIDE, SIDE)
        for place in range(MOST):
            y, x = 16 + 32 * (place // 2), 16 + 32 * (place % 2)
            stroke = (8.5 - (line[:, None] - y).abs()).mul(2).sigmoid() * (1.8 - (line - x).abs()).mul(2).sigmoid()
            ink = ink + torch.sigmoid(6 * (level - place if place else level + 9))[:, None, None] * stroke
        return (2 * ink - 1)[:, None].expand(-1, 3, -1, -1)

    def style_weights(self) -> list[Tensor]:
        return []


STROKES = Strokes()


def data():
    ws = sample(STROKES, 200, 1.0, 1_000_000)
    scores = COUNTER(STROKES.synthesis(ws))[:, :1]
    scorer = f"{COUNTER.name}:{COUNTER.fingerprint}"
    return make_dataset(ws[:, 0].clone(), scores, ("count",), ("count",), Source(), STROKES.fingerprint, scorer)


def rate(editor):
    ws = sample(STROKES, 60, 1.0, 2_000_000)
    before = COUNTER(STROKES.synthesis(ws))[:, 0]
    able = before < MOST
    after = COUNTER(STROKES.synthesis(editor.edit(ws[able], {"count": 1.0})))[:, 0]
    return float((after == before[able] + 1).float().mean())


@pytest.mark.slow
def test_pictures_teach_what_the_classifiers_did_not():
    labelled = data()
    before, looked = (
        editors.fit("cardinality", labelled, STROKES, recipe="paper", **QUICK, looks=looks) for looks in (0, 1600)
    )
    assert rate(before) < 0.4 and rate(looked) > 0.55


def test_the_counter_that_made_the_labels_looks():
    labelled = data()
    one, same, none = (
        editors.fit("cardinality", labelled, STROKES, recipe="paper", **QUICK, **more)
        for more in ({"looks": 32}, {"looks": 32, "scorer": COUNTER}, {})
    )
    assert editors.fingerprint(one) == editors.fingerprint(same)
    assert 0 <= one.report["looked_right"] <= 1 and "looked_right" not in none.report
    assert not torch.equal(one.state_dict()["moves.maps"], none.state_dict()["moves.maps"])


def test_only_a_counter_can_look():
    from counted import JUDGE, SQUARES, labels

    for scorer in (None, JUDGE):
        with pytest.raises(GanvasError, match="need a counter network") as caught:
            editors.fit("cardinality", labels(), SQUARES, recipe="paper", **QUICK, looks=16, scorer=scorer)
        assert "\n" not in str(caught.value)
    with pytest.raises(GanvasError, match="looks"):
        editors.fit("cardinality", data(), STROKES, **QUICK, looks=-1)
