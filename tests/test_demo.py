"""The demo, small and on the toy: every picture is drawn, shown on the page, and can be drawn again."""

import re
from itertools import pairwise

import pytest
import torch
from planted_counts import JUDGE, SQUARES, counter_editor
from planted_truth import SCORER, TOY

from experiments.ffhq.conditional_sampling import run_conditional
from ganvas import demo
from ganvas.control.search import StrengthLadder
from ganvas.data.label import label
from ganvas.demo import DemoConfig, run_demo
from ganvas.demo.counts import CountStripConfig, draw_count_strip, draw_strip
from ganvas.editors import load_editor
from ganvas.editors.base import Editor, fingerprint
from ganvas.errors import GanvasError
from ganvas.evaluation.pages import PageSection, render_page
from ganvas.evaluation.success import SuccessProtocol
from ganvas.io.images import read_picture
from ganvas.recipe.files import draw_sheet, load_recipe, load_recipe_tools
from ganvas.recipe.model import NamedTool
from ganvas.recipe.rendering import Tools, load_tools, render
from ganvas.recipe.sheet import Sheet, render_frames
from ganvas.scorers import load_scorer

QUICK = DemoConfig(
    people=(3, 4),
    edits=({"Red": 1.0}, {"Bright": -1.0}),
    attributes=("Bright", "Big"),
    values=(-1.0, 1.0),
    seeds=(3, 4),
    several=({}, {"Bright": 1.0, "Big": -1.0}),
    conditions=({"Bright": (1.0, None)}, {"Big": (None, 0.0), "Striped": (0.5, 2.0)}),
    samples=2,
    protocol=SuccessProtocol(n=4, ladder=StrengthLadder(0.5, 6.0), measured=300),
    fit={"components": 32, "steps": 150},
    counting=None,
)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    label(TOY, SCORER, 1500, out=folder)
    return folder


@pytest.fixture(scope="module")
def out(labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    assert run_demo(folder, "toy", dtype="float32", labels=labels, config=QUICK) == folder / "index.html"
    return folder


def test_page_shows_every_picture_and_nothing_from_elsewhere(out):
    html = (out / "index.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'src="([^"]+)"', html))
    assert shown == {path.name for path in out.glob("*.png")}
    assert shown >= {
        "people.png",
        "grid.png",
        "several.png",
        "samples.png",
        "variation.png",
        "projection.png",
        "elbow.png",
    }
    assert "http" not in html
    assert "<td>Bright</td>" in html
    assert (out / "success" / "success.json").exists()


def test_the_page_can_be_opened_before_the_demo_ends(labels, tmp_path, monkeypatch, capsys):
    """It's there from the first stage on, shows each picture as soon as that is drawn, and says what is still to come."""
    pages, write = [], demo.write_text
    monkeypatch.setattr(demo, "write_text", lambda path, text: (pages.append(text), write(path, text)))
    run_demo(tmp_path, "toy", dtype="float32", labels=labels, config=QUICK)
    printed = [line for line in capsys.readouterr().err.splitlines() if re.match(r"\d+ of \d+: ", line)]
    assert [line.split(":")[0] for line in printed] == [f"{i + 1} of {len(pages)}" for i in range(len(pages))]
    shown = [set(re.findall(r'src="([^"]+)"', page)) for page in pages]
    assert not shown[0] and all(before <= after for before, after in pairwise(shown))
    assert shown[-1] == {path.name for path in tmp_path.glob("*.png")}
    assert all("still to come" in page for page in pages[:-1]) and "still to come" not in pages[-1]


def test_pictures_can_be_drawn_again(out):
    recipe, _ = load_recipe(out / "grid.png")
    assert isinstance(recipe, Sheet)
    # Two faces, two attributes; as drawn and at two values.
    assert len(recipe.pictures) == 12
    tools = load_recipe_tools(recipe, editor=out / "compact.safetensors")
    pictures, _ = render_frames(recipe, tools)
    assert len(pictures) == 12


def test_runs_again_over_its_own_files_and_leaves_the_global_random_state_alone(out, labels):
    before = (out / "grid.png").read_bytes()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    run_demo(out, "toy", dtype="float32", labels=labels, config=QUICK)
    assert (out / "grid.png").read_bytes() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(load_editor(out / "compact.safetensors"), Editor)


def test_samples_meet_their_conditions(out, tmp_path):
    editor = load_editor(out / "compact.safetensors")
    found = run_conditional(TOY, SCORER, editor, tmp_path, ("Bright",), SuccessProtocol(n=64))
    assert [condition.present for condition in found] == [True, False]
    for condition in found:
        assert condition.met >= 0.85
        assert condition.base_rate == pytest.approx(0.5, abs=0.2)
        assert condition.spread_others > 0.6
    assert "| p(Bright) > 0.5 |" in (tmp_path / "conditional.md").read_text()


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GanvasError, match="Can't write"):
        run_demo(tmp_path / "file" / "out", "toy", labels=tmp_path, config=QUICK)


def test_missing_labels_are_named(tmp_path):
    with pytest.raises(GanvasError, match="nowhere"):
        run_demo(tmp_path, "toy", labels=tmp_path / "nowhere", dtype="float32", config=QUICK)
    assert not list(tmp_path.iterdir())


def test_page_escapes_texts():
    html = render_page("<a>", "&", [PageSection("<b>", '"', table=[("<i>",), ("x",)])], "<u>")
    for tag in ("<a>", "<b>", "<i>", "<u>"):
        assert tag not in html


def test_the_count_strip_shows_what_is_counted_and_can_be_drawn_again(tmp_path):
    how = CountStripConfig(
        rows=2, start={"count": 2}, changes={"-1": {"count": -1.0}, "as drawn": {}, "+1": {"count": 1.0}}
    )
    tools = Tools(SQUARES, "float32", counter_editor(), NamedTool("squares", fingerprint(counter_editor())))
    section = draw_strip(tools, JUDGE, how, tmp_path)
    (_, *titles), *rows = section.table
    assert titles == ["-1", "as drawn", "+1"] and [row[1:] for row in rows] == [("1", "2", "3")] * 2
    recipe, _ = load_recipe(tmp_path / section.picture)
    draw_sheet(recipe, tmp_path / "again.png", tools)
    assert torch.equal(*(read_picture(tmp_path / name) for name in (section.picture, "again.png")))


def test_the_strip_that_ships_counts_right(tmp_path):
    """Of the pictures that the demo shows most have the digits asked for, a 7 more and a 3 fewer among them."""
    (_, *titles), row = draw_count_strip(tmp_path, CountStripConfig(rows=1)).table
    asked = [2 + sum(change.values()) for change in CountStripConfig().changes.values()]
    right = [int(found) == goal for found, goal in zip(row[1:], asked, strict=True)]
    assert len(titles) == 6 and sum(right) >= 5
    recipe, _ = load_recipe(tmp_path / "counts.png")
    tools, counter = load_tools("multimnist", editor="multimnist/composed"), load_scorer("count")
    with torch.no_grad():
        scores = counter(torch.cat([render(each, tools) for each in recipe.pictures[-2:]]))
    assert scores[0, counter.column("digit_7")] == 1 and scores[1, counter.column("digit_3")] == 0
