"""The proof that balancing is worth it, on planted squares: what each counter learns from, and that it's all right."""

import numpy as np
import pytest
import torch
from planted_counts import SQUARES, counter_editor, labels

from experiments.multimnist import balancing
from experiments.multimnist.balancing import CounterTrainingSet, measure_balancing, select_rare, train_small_counter
from experiments.multimnist.config import CountReportConfig
from experiments.multimnist.context import CountContext
from experiments.multimnist.section import save_section
from ganvas.balance.real import Inverter
from ganvas.data.multimnist_files import DigitPicture, write_part
from ganvas.errors import GanvasError
from ganvas.io.files import write_json
from ganvas.scorers.base import Scorer


class Any(Scorer):
    """Counts squares of any colour."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.attributes, self.kinds, self.fingerprint = "any", ("count",), ("count",), "6" * 64

    def forward(self, images):
        return ((images.amax(1, keepdim=True) > 0).sum((2, 3)) / 64).round()


def codes(images):
    """The planted inversion of white squares: the middle of their count's quarter."""
    change = Any()(images) - 2.5
    return SQUARES.expand(SQUARES.w_avg + change * SQUARES.along).clone()


def picture(count: int, random: np.random.RandomState) -> DigitPicture:
    pixels, boxes = np.zeros((32, 32), np.uint8), []
    for place in random.permutation(4)[:count]:
        y, x = 4 + 16 * (int(place) // 2), 4 + 16 * (int(place) % 2)
        pixels[y : y + 8, x : x + 8] = random.randint(200, 256)
        boxes.append((x, y, x + 8, y + 8))
    return DigitPicture(pixels, (1,) * count, tuple(boxes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, random = tmp_path_factory.mktemp("squares"), np.random.RandomState(0)
    write_json(path / "about.json", {"kind": "multimnist", "version": 1, "size": 32, "counts": [1, 4]})
    for part, n in (("train", 240), ("test", 80)):
        write_part(path / f"{part}.parquet", [picture(i % 4 + 1, random) for i in range(n)], lambda i: None)
    return path


def make_context(folder, work, **config) -> CountContext:
    return CountContext(
        SQUARES, Any(), labels(), folder, work, CountReportConfig(images=400, repeats=2, **config), seed=7
    )


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    here = make_context(folder, work, counters=40)
    return here, measure_balancing(here, counter_editor(), Inverter("planted", codes))


@pytest.mark.slow
def test_each_counter_learns_from_what_it_should(made):
    _, section = made
    found = section.data["counters"]
    assert list(found) == ["nothing added", "oversampling", "drawn", "edited"]
    learned_from = {name: value["learned_from"] for name, value in found.items()}
    # 100 pictures, 5 of four, 31 of each other: 26 are lacking.
    assert learned_from["nothing added"] == learned_from["oversampling"] == {"pictures": 98, "most": 5}
    for way in ("drawn", "edited"):
        kept = section.data["making"][way]["kept"]
        assert learned_from[way] == {"pictures": 98 + kept, "most": 5 + kept} and 13 <= kept <= 26
    for value in found.values():
        assert value["by_seed"]["most"].shape == (2,)
        assert value["most"].low <= value["most"].mean <= value["most"].high


@pytest.mark.slow
def test_it_is_told_as_tables_and_pictures_and_can_be_kept(made, tmp_path):
    _, section = made
    assert [len(table.rows) for table in section.tables] == [4, 2]
    assert all(len(row) == len(table.head) for table in section.tables for row in table.rows)
    assert save_section(section, tmp_path, "key").tables[0].rows


@pytest.mark.slow
def test_again_it_is_the_same_and_nothing_is_made_anew(made, monkeypatch):
    here, section = made
    before = {path: path.stat().st_mtime_ns for path in here.work.rglob("*.png")}
    again = measure_balancing(here, counter_editor(), Inverter("planted", codes))
    assert {path: path.stat().st_mtime_ns for path in here.work.rglob("*.png")} == before
    for name, value in section.data["counters"].items():
        torch.testing.assert_close(again.data["counters"][name]["by_seed"], value["by_seed"], rtol=0, atol=0)


def test_rare_pictures_are_rare():
    counts = torch.arange(400) % 4 + 1
    assert counts[select_rare(counts, 200)].bincount().tolist() == [0, 63, 63, 63, 10]
    with pytest.raises(GanvasError, match="several counts"):
        select_rare(torch.ones(400, dtype=torch.long), 200)
    with pytest.raises(GanvasError, match="needs 900 pictures"):
        select_rare(counts, 900)


@pytest.mark.slow
def test_a_counter_learns_and_showing_rare_ones_more_often_helps():
    random = np.random.RandomState(1)
    drawn = [picture(k, random) for k in [1] * 40 + [2] * 40 + [3] * 40 + [4] * 3]
    grey = torch.from_numpy(np.stack([np.kron(p.pixels, np.ones((2, 2), np.uint8)) for p in drawn]))
    counts = torch.tensor([len(p.digits) for p in drawn])
    fours = torch.from_numpy(np.kron(picture(4, random).pixels, np.ones((2, 2), np.uint8)))[None]
    sure = [
        float(train_small_counter(CounterTrainingSet(grey, counts, even), 50, 0)(fours[:, None] / 255).softmax(1)[0, 4])
        for even in (False, True)
    ]
    assert sure[1] > sure[0]


def test_without_a_folder_it_says_what_makes_one(tmp_path):
    assert "make-multimnist" in balancing.run(make_context(None, tmp_path)).intro
