"""Balancing from real pictures: each is edited until the judge agrees; what is kept, discarded and left alone is told."""

import json

import pytest
import torch
from planted_counts import JUDGE, SQUARES, counter_editor, labels
from planted_truth import SCORER, TOY, PlantedEditor
from pyarrow import parquet

from ganvas import GanvasError, editors, sample
from ganvas.balance.real import Inverter, PictureSource, balance_from, load_inverter, open_pictures
from ganvas.balance.sets import BalanceRequest, format_report_lines
from ganvas.control.conditions import parse_condition
from ganvas.data import gaussianize
from ganvas.io.images import encode_png, read_picture, to_bytes
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import FromCodes, NamedTool
from ganvas.recipe.rendering import Tools, render


@torch.no_grad()
def squares(n: int):
    """Codes and their pictures."""
    ws = sample(SQUARES, n, 1.0, 5_000)
    return ws, SQUARES.synthesis(ws)


def perfect(n: int = 200) -> Inverter:
    """Knows the code of each picture by its pixels, as well as they tell: a planted inversion."""
    ws, pictures = squares(n)
    known = {picture.numpy().tobytes(): code for picture, code in zip(pictures, ws, strict=True)}
    return Inverter("perfect", lambda images: torch.stack([known[image.cpu().numpy().tobytes()] for image in images]))


def kit(editor=None):
    editor = editor or counter_editor()
    return Tools(SQUARES, "float32", editor, NamedTool("counter", editors.fingerprint(editor)))


def order(*texts, n=6):
    return BalanceRequest(tuple(parse_condition(text) for text in texts), n)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """70 pictures as PNG files, one damaged, one that isn't square."""
    path = tmp_path_factory.mktemp("real")
    for i, picture in enumerate(to_bytes(squares(70)[1])):
        (path / f"p{i:03d}.png").write_bytes(encode_png(picture))
    (path / "p002.png").write_bytes(b"no picture")
    (path / "p005.png").write_bytes(encode_png(torch.zeros(8, 16, 3, dtype=torch.uint8)))
    return path


def rows_of(path):
    return parquet.read_table(path / "labels.parquet").to_pylist()


def test_every_picture_is_as_asked_comes_from_a_real_one_and_can_be_drawn_again(folder, tmp_path):
    origin, tools = open_pictures(folder, 32), kit()
    report = balance_from(tools, JUDGE, order("count=4", n=200), origin, perfect(), tmp_path)
    rows, real = rows_of(tmp_path), JUDGE(squares(70)[1])[:, 0]
    assert report["tried"] == 70 and report["kept"] == len(rows) > 35
    assert report["discarded"]["picture"] == {"unreadable": 2}
    readable = [i for i in range(70) if i not in (2, 5)]
    assert report["already"] == sum(real[i] == 4 for i in readable)
    edited = report["inversion"]
    assert edited["changed"] == 0 and edited["same"] + report["already"] == 68
    assert report["kept"] + sum(report["discarded"].get("count", {}).values()) == edited["same"]
    for row in rows:
        number = int(row["source"][1:4])
        assert row["count"] == 4 and row["count_before"] == real[number] < 4
        recipe, carried = load_recipe(tmp_path / row["file"])
        assert isinstance(recipe.start, FromCodes) and recipe.edits
        batch = tmp_path / f"codes-{number // 8:05d}.safetensors"
        file = tools_for_squares(recipe, batch)
        assert torch.equal(to_bytes(render(recipe, file)), to_bytes(read_picture(tmp_path / row["file"])))
        assert carried["sha256"] == recipe.start.codes
    lines = format_report_lines(report)
    assert lines[0] == f"{report['kept']} kept of 70 candidates" and "met the conditions already" in lines[-2]
    assert json.loads((tmp_path / "balance.json").read_text()) == report


def tools_for_squares(recipe, batch):
    from ganvas.data.codes import load_codes

    return kit().with_codes(load_codes(batch, SQUARES))


def test_a_run_that_was_stopped_goes_on_and_more_may_be_asked(folder, tmp_path):
    origin, inverter = open_pictures(folder, 32), perfect()
    calls = []

    def counting(images):
        calls.append(len(images))
        assert torch.is_grad_enabled()
        return inverter.invert(images)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    balance_from(kit(), JUDGE, order("count=2", n=30), origin, inverter, whole)

    def stop(kept, n):
        if kept == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        balance_from(kit(), JUDGE, order("count=2", n=30), origin, inverter, parts, stop)
    balance_from(kit(), JUDGE, order("count=2", n=4), origin, inverter, parts)
    told = balance_from(kit(), JUDGE, order("count=2", n=30), origin, Inverter("perfect", counting), parts)
    assert rows_of(parts) == rows_of(whole) and told["kept"] == 30
    assert {p.name: p.read_bytes() for p in parts.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}
    # The batch that was begun isn't inverted again.
    assert len(calls) == len(list(whole.glob("codes-*"))) - 1
    with pytest.raises(GanvasError, match="other conditions"):
        balance_from(kit(), JUDGE, order("count=2"), origin, Inverter("other", inverter.invert), parts)


def test_several_moves_are_tried_and_a_bad_inversion_is_told(tmp_path):
    # An editor that reads normal scores moves too little at once; the inversion adds a square to each picture.
    _, pictures = squares(40)
    origin = PictureSource("0" * 64, tuple(f"{i}.png" for i in range(40)), lambda i: pictures[i : i + 1])
    known = perfect()
    more = Inverter("more", lambda images: known.invert(images) + SQUARES.along)
    weak = editors.fit("mean_difference", labels(), SQUARES)
    report = balance_from(kit(weak), JUDGE, order("count=1..2", n=40), origin, more, tmp_path)
    three = int((JUDGE(pictures)[:, 0] == 3).sum())
    assert report["inversion"]["changed"] == three > 0
    edits = [len(load_recipe(tmp_path / row["file"])[0].edits) for row in rows_of(tmp_path)]
    assert report["kept"] == len(edits) > 5 and max(edits) > 1
    for row in rows_of(tmp_path):
        assert row["count"] <= 2 < row["count_before"]


RANGES = "0.5..0.52 -0.6..-0.5 0.5..0.7 0..0.4 -1..2 0.5".split()


@pytest.mark.parametrize("strength", [0.8, 1.2])
@pytest.mark.parametrize(
    "range_", [*(f"Bright={r}" for r in RANGES), "Bright>1", "Bright<-1", "p(Bright)=0.6..0.62", "p(Bright)>0.9"]
)
def test_any_range_is_reached_from_both_sides(range_, strength, tmp_path):
    # The editor moves the planted direction alone, by a little more or less than it is asked for.
    editor = PlantedEditor(strength * torch.stack(list(TOY.planted.values())))
    editor.kinds = SCORER.kinds
    # Its normal scores are exact, too: half of the planted logits.
    exact = 2 * torch.special.ndtri((torch.arange(1000.0) + 0.5) / 1000)
    editor.gaussianize = gaussianize.fit(exact[:, None].expand(-1, 5), editor.attributes)
    ws = sample(TOY, 12, 1.0, 5_000)
    pictures = TOY.synthesis(ws)
    known = {picture.numpy().tobytes(): code for picture, code in zip(pictures, ws, strict=True)}
    planted = Inverter("planted", lambda images: torch.stack([known[image.numpy().tobytes()] for image in images]))
    origin = PictureSource("0" * 64, tuple(f"{i}.png" for i in range(12)), lambda i: pictures[i : i + 1])
    tools = Tools(TOY, "float32", editor, NamedTool("planted", "0" * 64))
    report = balance_from(tools, SCORER, order(range_, n=12), origin, planted, tmp_path)
    assert report["kept"] + report.get("already", 0) == 12, report["discarded"]


def test_what_cannot_be_done_is_one_line(folder, tmp_path):
    origin = open_pictures(folder, 32)

    def refused(words, call):
        with pytest.raises(GanvasError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)

    refused("no folder", lambda: open_pictures(tmp_path / "none", 32))
    refused("No pictures", lambda: open_pictures(tmp_path, 32))
    refused("about.json", lambda: open_pictures(tmp_path / "test.parquet", 32))
    refused("part 'x'", lambda: open_pictures(tmp_path / "x.parquet", 32))
    refused("knows count", lambda: balance_from(kit(), JUDGE, order("red>=1"), origin, perfect(), tmp_path))
    drawn = BalanceRequest(order("count=1").conditions, 3, way="draw")
    refused("no choice", lambda: balance_from(kit(), JUDGE, drawn, origin, perfect(), tmp_path))
    refused("No encoder ships", lambda: load_inverter(SQUARES, "encoder"))
    refused("no file", lambda: load_inverter(SQUARES, "encoder", encoder=tmp_path / "e.safetensors"))
    assert load_inverter(SQUARES).name == "optimize, w+"


def test_a_multimnist_folder_is_read_by_its_parts(tmp_path):
    import numpy as np

    from ganvas.data.multimnist_files import DigitPicture, write_part
    from ganvas.io.files import write_json

    pictures = [DigitPicture(np.full((16, 16), 60 * i, np.uint8), (3,), ((1, 1, 9, 9),)) for i in range(4)]
    write_json(tmp_path / "about.json", {"kind": "multimnist", "version": 1, "size": 16, "counts": [1, 4]})
    for part, some in (("train", pictures), ("test", pictures[2:])):
        write_part(tmp_path / f"{part}.parquet", some, lambda i: None)
    train, test = open_pictures(tmp_path, 32), open_pictures(tmp_path / "test.parquet", 16)
    assert (len(train.names), len(test.names)) == (4, 2) and test.names[1] == "test-00001"
    assert train.read(3).shape == (1, 3, 32, 32) and train.sha256 != test.sha256
    assert torch.equal(to_bytes(test.read(0)), torch.full((1, 16, 16, 3), 120, dtype=torch.uint8))
