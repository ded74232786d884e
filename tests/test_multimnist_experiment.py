"""The count report on planted squares: perfect, idle and random moves get what they deserve; a stopped report goes on."""

import json
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
import typer
from planted_counts import JUDGE, SQUARES, counts, labels
from typer.testing import CliRunner

from experiments.multimnist import editors as multimnist_editors
from experiments.multimnist import extensions, fits, moves, report, trials
from experiments.multimnist import labelled_codes as codes_kept
from experiments.multimnist.config import QUICK, CountReportConfig
from experiments.multimnist.context import CountContext
from experiments.multimnist.figure_2 import add_frame, draw_figure_2, select_starts
from experiments.multimnist.labelled_codes import W_COUNTED, W_PLUS_COUNTED, load_inverted_codes, save_inverted_codes
from experiments.multimnist.report import counts_objects, write_report
from experiments.multimnist.runner import SECTIONS, run_sections
from experiments.multimnist.section import ReportSection, SectionTable, load_section, save_section
from ganvas import GanvasError, editors, sample
from ganvas.data.dataset import LABEL_SEED

TINY = replace(
    QUICK, labels=600, moves=60, others=40, steps=150, classifier_steps=300, hidden=(64,), classifiers=1, rows=2
)


@pytest.fixture
def context(tmp_path):
    return CountContext(SQUARES, JUDGE, labels(), None, tmp_path / "work", TINY)


def perfect(ws, alpha):
    return ws + alpha[:, None, None] * SQUARES.along


def idle(ws, alpha):
    return ws


def test_a_perfect_move_is_always_right_and_keeps_everything(context):
    cases = trials.sample_sure_codes(context, 60)
    tried = moves.run_trials(context, cases, perfect)
    for alpha, trial in tried.items():
        assert (trial.right == 1).all() and (trial.changed == alpha).all()
        assert (trial.measure_preservation(context.classes).nan_to_num(1) == 1).all()
    row = moves.summarise_move(context, "perfect", tried)
    assert row["both"].mean == row["both"].high == 1 and row["both"].n == 60, "one trial a code, moved both ways"
    assert 0.9 < row["both"].low < 1 and set(row["starts"]) == {"1→2", "2→3", "3→4", "2→1", "3→2", "4→3"}
    assert row["length"].mean == pytest.approx(2 * 1.0 / 2, abs=1e-4)
    # Who starts at 1 and is asked for three more is at 4; there are no others.
    assert (tried[3].start == 1).all() and (tried[-3].start == 4).all()


def test_an_idle_move_is_never_right(context):
    cases = trials.sample_sure_codes(context, 60)
    trial = trials.run_move(context, cases, idle, 1)
    assert (
        not trial.right.any()
        and (trial.measure_preservation(context.classes) == 1).all()
        and not trials.find_left_w(context, trial).any()
    )
    assert not trials.measure_row_spread(context, trial).any()


def test_random_moves_are_as_long_and_worse(context):
    cases = trials.sample_sure_codes(context, 60)
    random = trials.make_random_move(context, perfect)
    alpha = torch.ones(len(cases.ws))
    lengths = [(move(cases.ws, alpha) - cases.ws).norm(dim=(1, 2)) for move in (perfect, random)]
    torch.testing.assert_close(*lengths, atol=1e-4, rtol=1e-4)
    assert trials.run_move(context, cases, random, 1).right.mean() < 0.6
    assert torch.equal(random(cases.ws, alpha), random(cases.ws, alpha))


def test_what_was_there_is_counted_by_class():
    def kept(before, after, alpha, attribute="count"):
        rows = [torch.tensor([[float(sum(v)), *v]]) for v in (before, after)]
        ws = torch.zeros(1, 1, 1)
        names = ("count", "red", "blue")
        return float(
            trials.MoveTrial(attribute, names, torch.tensor([alpha]), ws, ws, *rows).measure_preservation(
                ("red", "blue")
            )[0]
        )

    assert kept((2.0, 1.0), (3.0, 1.0), 1) == 1
    assert kept((2.0, 1.0), (1.0, 3.0), 1) == pytest.approx(2 / 3)
    assert kept((2.0, 1.0), (1.0, 1.0), -1) == 1  # one of three has to go
    assert kept((2.0, 0.0), (0.0, 1.0), -1) == 0
    assert kept((2.0, 1.0), (0.0, 1.0), -1, "red") == 1  # the others are those that aren't red
    assert kept((2.0, 0.0), (3.0, 0.0), 1, "red") != kept((2.0, 0.0), (3.0, 0.0), 1, "red")  # nan: there are none


def test_a_class_can_be_removed_where_there_is_one(context):
    cases = trials.sample_sure_codes(context, 60)
    trial = trials.run_move(context, cases, idle, -1, "red")
    assert (trial.column(trial.before, "red") >= 1).all() and (trial.column(trial.before, "count") >= 2).all()


def test_the_section_on_moves_says_which_way_is_right(context):
    section = moves.measure_moves(
        context, {moves.PAPER: perfect, moves.BEST: idle, "random, as long": trials.make_random_move(context, perfect)}
    )
    assert [aim["holds"] for aim in section.data["aims"]] == [True, False]
    assert set(section.pictures) == {"figure-2-paper-w-ce", "figure-2-ours"}
    assert section.tables[1].rows[0][1].startswith("1.000")
    told = section.data["cases"]
    assert told["sure"].mean == 1 and sum(told["moved"].values()) == 60


@pytest.mark.slow
def test_all_ways_are_learned_kept_and_judged(context, monkeypatch):
    section = save_section(moves.run(context), context.work_path("sections", "moves"), "key")
    assert len(section.data["ways"]) == 10
    found = {row["name"]: row["both"]["mean"] for row in section.data["ways"]}
    assert found[moves.PAPER] > found[f"random, as long as {moves.PAPER}"]
    # What was learned is taken up again.
    monkeypatch.setattr(editors, "fit", lambda *args, **options: pytest.fail("learned again"))
    multimnist_editors.fit_paper(context, "w+", "mse")


@pytest.mark.slow
def test_the_section_beyond_the_paper(context):
    section = extensions.run(context)
    rows = section.data
    assert len(rows["plus"]) == len(extensions.W_PLUS_VARIANTS) + 2
    assert [row["name"] for row in rows["classes"]] == ["red", "blue", "all"]
    assert len(rows["keeping"]) == 4 and len(rows["best"]) == 4
    assert rows["plus"][0]["apart"].mean > 0
    assert max(row["both"].mean for row in rows["plus"]) > 0.5
    for table in section.tables:
        assert all(len(row) == len(table.head) for row in table.rows)


def test_figures_have_a_framed_start(context):
    cases = trials.sample_sure_codes(context, 60)
    rows = select_starts(context, cases, 4)
    assert cases.scores[rows, 0].tolist() == [2, 3, 1, 4]
    sheet = draw_figure_2(context, cases, perfect)
    assert sheet.dtype == torch.uint8 and sheet.shape[2] == 3
    picture = add_frame(torch.zeros(16, 16, 3, dtype=torch.uint8))
    assert picture[0, 5].tolist() == [214, 40, 40] and not picture[8, 8].any()


def test_sections_are_kept_whole_and_by_key(tmp_path):
    pixels = torch.zeros(4, 4, 3, dtype=torch.uint8)
    table = SectionTable("T", ("x", "y"), [("1", "2")], "note")
    made = ReportSection("a", "A", "Text.", (table,), {"p": pixels}, {"n": float("nan"), "t": torch.ones(2)})
    kept = save_section(made, tmp_path, "key")
    assert kept.data == {"n": None, "t": [1.0, 1.0]} and kept.tables[0].note == "note"
    assert load_section(tmp_path, "key") == kept and load_section(tmp_path, "other") is None
    (tmp_path / "p.png").unlink()
    assert load_section(tmp_path, "key") is None


def test_a_stopped_report_goes_on_and_a_failing_section_is_a_gap(context, tmp_path):
    runs, lines = [], []
    context = replace(context, log=lines.append)

    def runners(*names):
        return {name: partial(run, name) for name in names}

    def run(name, context):
        if name == "bad":
            raise GanvasError("No such thing.")
        runs.append(name)
        aims = [{"what": "it", "aim": 0.5, "found": vars(trials.estimate_rate(torch.ones(3))), "holds": True}]
        return ReportSection(name, "Title", "Text.", (SectionTable("T", ("x",), [("1",)]),), data={"aims": aims})

    first = run_sections(context, runners("one", "bad"))
    assert len(first.sections) == 1 and first.gaps == {"bad": "No such thing."} and "2 of 2" in lines[0]
    second = run_sections(context, runners("one", "two"))
    assert runs == ["one", "two"] and len(second.sections) == 2
    write_report(context, first, tmp_path / "out", "make report")
    results = json.loads((tmp_path / "out" / "report.json").read_text())
    assert results["gaps"] == first.gaps and results["aims"][0]["holds"] and results["made"]["seed"] == 2_000_000
    for name in ("report.md", "index.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "What was aimed at" in text and "No such thing." in text and "make report" in text
    # Another size is another report.
    run_sections(replace(context, config=replace(TINY, moves=61)), runners("one"))
    assert runs == ["one", "two", "one"]


def test_sections_are_named_as_their_results():
    assert list(SECTIONS) == ["inverted", "classifiers", "umap", "moves", "ways", "real", "conditional", "proof"]


def test_inverted_codes_are_kept_for_other_sections(context):
    ws = sample(SQUARES, 100, 1.0, 5)
    ws = ws + 0.1 * torch.randn(ws.shape, generator=torch.Generator().manual_seed(0))
    assert load_inverted_codes(context) is None and multimnist_editors.choose_training_codes(context, "w+") == (
        context.labels,
        False,
    )
    save_inverted_codes(context, ws, counts(ws))
    data, inverted = multimnist_editors.choose_training_codes(context, "w+")
    assert inverted
    assert (
        data.space == "w+"
        and torch.equal(data.codes, ws)
        and multimnist_editors.choose_training_codes(context, "w") == (context.labels, False)
    )
    assert load_inverted_codes(replace(context, config=CountReportConfig())) is None
    # In W the same images have codes of their own.
    assert multimnist_editors.choose_training_codes(context, "w", inverted=True) == (context.labels, False)
    save_inverted_codes(context, ws.mean(1, keepdim=True).expand_as(ws).contiguous(), counts(ws), W_COUNTED)
    same, _ = multimnist_editors.choose_training_codes(context, "w", inverted=True)
    assert (
        same.space == "w"
        and torch.equal(same.scores, data.scores)
        and multimnist_editors.choose_training_codes(context, "w+")[0].space == "w+"
    )


@cache
def idle_editor():
    return editors.fit(
        "cardinality", labels(), SQUARES, recipe="paper", attributes=["count"], steps=1, classifier_steps=1
    )


def test_an_h_has_the_same_chance_in_both_spaces(context, monkeypatch):
    """As many steps, for H and for its classifier, in W and in W+; from the same images also as wide and as many codes."""
    asked = {}

    def stand_in(context, name, data, method, options):
        asked[name, len(data)] = (data, options)
        return idle_editor()

    ws = sample(SQUARES, 100, 1.0, 5)
    for kind in (W_PLUS_COUNTED, W_COUNTED):
        save_inverted_codes(context, ws, counts(ws), kind)
    monkeypatch.setattr(multimnist_editors, "fit_or_load", stand_in)
    for space, images in (("w", False), ("w+", True), ("w", True)):
        for loss in ("ce", "mse"):
            multimnist_editors.fit_paper(context, space, loss, images)
    assert {(o["steps"], o["classifier_steps"]) for _, o in asked.values()} == {(TINY.steps, TINY.classifier_steps)}
    for loss in ("ce", "mse"):
        (w, of_w), (plus, of_plus) = asked[f"paper-w-{loss}", 100], asked[f"paper-w-plus-{loss}", 100]
        assert {**of_w, "space": "w+"} == of_plus and of_w["hidden"] == list(TINY.hidden)
        assert torch.equal(w.scores, plus.scores) and (w.space, plus.space) == ("w", "w+")


@pytest.mark.parametrize(
    "name", [name for name, change in extensions.W_PLUS_VARIANTS.items() if change.get("recipe") != "best"]
)
def test_what_is_changed_in_w_plus_learns_as_long_as_in_w(name, context, monkeypatch):
    asked = []

    def stand_in(context, name, data, method, options):
        asked.append(options)
        return idle_editor()

    monkeypatch.setattr(extensions, "W_PLUS_VARIANTS", {name: extensions.W_PLUS_VARIANTS[name]})
    for module in (extensions, multimnist_editors):
        monkeypatch.setattr(module, "fit_or_load", stand_in)
    ws = sample(SQUARES, 100, 1.0, 5)
    for kind in (W_PLUS_COUNTED, W_COUNTED):
        save_inverted_codes(context, ws, counts(ws), kind)
    table, rows = extensions.compare_w_plus(context, trials.sample_sure_codes(context, 60))
    assert len(asked) == 2 and len(rows) == len(table.rows) == 3
    assert {(o["steps"], o["classifier_steps"]) for o in asked} == {(TINY.steps, TINY.classifier_steps)}


def test_without_inverted_images_nothing_is_called_the_same_images(context, monkeypatch):
    monkeypatch.setattr(extensions, "W_PLUS_VARIANTS", {"as the paper": {}})
    monkeypatch.setattr(multimnist_editors, "fit_or_load", lambda *arguments: idle_editor())
    _, rows = extensions.compare_w_plus(context, trials.sample_sure_codes(context, 60))
    assert [row["name"] for row in rows] == ["as the paper", "random, as long as the last"]
    assert "Same images" not in moves.describe_training(context)


def test_sampled_labels_that_ship_are_not_drawn_again(monkeypatch, tmp_path):
    monkeypatch.setattr(codes_kept, "label", lambda *args, **options: labels(300))
    shipped = replace(labels(600), source=replace(labels(600).source, seed=LABEL_SEED))
    monkeypatch.setattr(codes_kept, "load_usable", lambda path, generator, scorer: shipped)
    data = codes_kept.label_samples(SQUARES, JUDGE, 500, tmp_path)
    assert torch.equal(data.codes, shipped.codes[:500]) and torch.equal(data.scores, shipped.scores[:500])
    # Too few, and another scorer's, are no use.
    assert codes_kept.label_samples(SQUARES, JUDGE, 601, tmp_path) is labels(300)
    other = replace(shipped, scorer="squares:" + "6" * 64)
    monkeypatch.setattr(codes_kept, "load_usable", lambda path, generator, scorer: other)
    assert codes_kept.label_samples(SQUARES, JUDGE, 500, tmp_path) is labels(300)


def test_a_damaged_editor_is_learned_again(context):
    options = {"recipe": "paper", "attributes": ["count"], "steps": 5, "classifier_steps": 5}
    first = fits.fit_or_load(context, "x", labels(), "cardinality", options)
    (file,) = context.work_path("editors").glob("x-*.safetensors")
    file.write_bytes(b"damaged")
    again = fits.fit_or_load(context, "x", labels(), "cardinality", options)
    assert editors.fingerprint(first) == editors.fingerprint(again)
    assert torch.get_float32_matmul_precision() == "highest"


def test_which_report_a_scorer_gets():
    from planted_truth import SCORER

    assert counts_objects(JUDGE) and not counts_objects(SCORER)
    with pytest.raises(GanvasError, match="at least 1"):
        CountReportConfig(labels=0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["multimnist", "--folder", "nowhere", "--quick"], "nowhere isn't a MultiMNIST folder"),
        (["toy"], "doesn't count objects"),
        (["multimnist", "--scorer", "nobody"], "nobody"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(words, message, tmp_path):
    app = typer.Typer()
    app.command()(report.main)
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 1 and message in result.stderr and result.stderr.count("\n") == 1
