"""Evaluation on the toy: what is planted is found, what fails is recorded, and a run that was stopped ends the same."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
import torch
from evaluation_runs import METHODS, PAIR, TINY, Judge, embed, outcome, panel
from fitted_editors import compact, labels
from planted_truth import SCORER, TOY, VIEW, PlantedEditor, disentangled
from unstable_sums import UnsteadySums

from ganvas import editors, metrics
from ganvas.cli import main
from ganvas.control.search import CodeScorer, StrengthSearch
from ganvas.data.label import label
from ganvas.errors import GanvasError
from ganvas.evaluation import methods
from ganvas.evaluation import rows as rows_module
from ganvas.evaluation.analysis import RowAnalysis
from ganvas.evaluation.config import FULL, QUICK, EvaluationConfig, StrengthGrid
from ganvas.evaluation.context import EvaluationContext, prepare_context
from ganvas.evaluation.faces import EditGoal
from ganvas.evaluation.judges import FaceRecognizer, JudgePanel, is_same_attribute
from ganvas.evaluation.methods import (
    FEATURED,
    UNGAUSSIANISED,
    MethodEntry,
    list_entries,
    prepare_entry,
    select_entries,
    standardise_labels,
)
from ganvas.evaluation.protocols import edit_pool, run_pictures
from ganvas.evaluation.report import EvaluationRequest, build_panel, evaluate, load_usable, write_report
from ganvas.evaluation.rows import RowBlocks, load_cell, save_cell, to_frame
from ganvas.evaluation.runner import count_rendered, run_evaluation
from ganvas.evaluation.score_cache import ScoreCache
from ganvas.evaluation.tables import build_codes
from ganvas.generators.base import sample
from ganvas.io.store import KeyedRows
from ganvas.metrics import Trial, base, metric
from ganvas.scorers import load_scorer


@pytest.fixture(scope="module")
def context() -> EvaluationContext:
    return prepare_context(TOY, panel(), labels(), PAIR, TINY, None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    return out, write_report(outcome(out), out, "ganvas evaluate toy")


def try_editor(context, editor, goal, faces=(8, 8), targets=(1.0,), scope="planted"):
    """The rows of an editor's pictures, without the index that a run gives them."""
    blocks = RowBlocks("planted", goal.attribute)
    run_pictures(context, editor, goal, scope, faces, targets, (), blocks)
    return to_frame(blocks.to_table()), blocks


def values(rows, protocol, metric, judge="", **equal):
    """The values of one metric by code."""
    rows = rows[(rows["protocol"] == protocol) & (rows["metric"] == metric) & (rows["judge"] == judge)]
    for column, value in equal.items():
        rows = rows[rows[column] == value]
    return rows.set_index("code_id")["value"]


def test_a_disentangled_editor_has_no_side_effects(context):
    rows, _ = try_editor(context, disentangled(), EditGoal("Striped"))
    assert (values(rows, "matched", "success") == 1).all() and len(values(rows, "matched", "success")) == 8
    assert (values(rows, "matched", "target_change", "toy") - 1).abs().max() <= TINY.search.tolerance
    drift, beyond, largest = (
        values(rows, "matched", m, "toy") for m in ("drift", "unexplained_drift", "largest_drift")
    )
    assert drift.mean() < 0.05
    # Red goes with Bright in W, so that correlation explains some of a drift, never more than all of it.
    assert beyond.mean() <= drift.mean() <= largest.mean()


def test_an_equal_change_is_exact_for_every_judge(context):
    rows, _ = try_editor(context, compact(), EditGoal("Striped"), targets=(1.0, 1.5), scope="compact")
    equal = rows[rows["protocol"] == "equal"]
    for judge in ("toy", "judge"):
        changes = values(equal[equal["reached"]], "equal", "target_change", judge, change=1.0)
        assert len(changes) >= 4 and changes.sub(1).abs().max() < 1e-4
        own = values(equal[equal["reached"]], "equal", "change", judge, change=1.0, of="Striped")
        assert own.sub(1).abs().max() < 1e-4, "the side effects are those of the same change"


def test_a_face_that_comes_apart_at_the_guess_is_found_below_it(context):
    """Scores rise and fall again, and the probe expects far more: what the search leapt over is climbed."""
    grid = replace(TINY.search, patience=1)
    ws = context.make_codes(torch.arange(8))[0]
    peak = 2 * grid.stride

    def seen(index, rung):
        rows = torch.zeros(len(index), 5)
        rows[:, 0] = torch.where(rung == peak, 9.0, -9.0)
        return rows

    start, gaussianize = seen(torch.arange(8), torch.zeros(8)), context.select_gaussianize("Bright")
    search = StrengthSearch(VIEW, disentangled(), "Bright", torch.ones(8), ws, start, gaussianize, grid.ladder)
    search._render = lambda index, rung: search._store(index, rung, seen(index, rung))
    target, far = search.to_target(torch.full((8,), 0.9).logit()), torch.full((8,), grid.maximum)
    assert grid.ladder.rungs // grid.stride > 4
    found = search.find_first(target, far, stride=grid.stride, patience=1, exhaustive=True)
    assert found.arrived.all() and (found.rung == peak).all() and found.recovered.all()


def test_every_strength_is_rendered_once(context):
    seen = []

    class Counting(type(SCORER)):
        def forward(self, images):
            seen.extend(image.numpy().tobytes() for image in images)
            return super().forward(images)

    counted = replace(context, panel=JudgePanel(Counting(), [Judge()], FaceRecognizer(embed, "the toy's", 48)))
    rows, blocks = try_editor(counted, compact(), EditGoal("Bright"), targets=(1.0, 1.5), scope="x")
    assert len(seen) == len(set(seen)) == blocks.pictures
    assert blocks.pictures == values(rows, "matched", "renders", change=1.5).sum() <= 8 * 8


def test_the_climb_finds_the_first_stride_that_passes(context):
    rows, _ = try_editor(context, disentangled(), EditGoal("Bright"), (8, 0))
    strengths = values(rows, "paper", "strength")
    assert (values(rows, "paper", "success") == 1).all()
    stride = TINY.search.step * TINY.search.stride
    assert (strengths / stride).round().mul(stride).sub(strengths).abs().max() < 1e-5
    codes = strengths.index.to_numpy()
    _, below, _ = edit_pool(context, disentangled(), "Bright", codes, (strengths - stride).to_numpy())
    _, there, _ = edit_pool(context, disentangled(), "Bright", codes, strengths.to_numpy())
    threshold = torch.tensor(0.9).logit()
    assert (VIEW(below)[:, 0] < threshold).all() and (VIEW(there)[:, 0] > threshold).all()


def test_downwards_goals_lower_the_score(context):
    rows, _ = try_editor(context, disentangled(), EditGoal("Bright", up=False))
    assert (values(rows, "paper", "strength") < 0).all() and (values(rows, "matched", "strength") < 0).all()
    assert (values(rows, "paper", "variation", "toy", of="Bright") < -0.4).all()
    assert (values(rows, "matched", "target_change", "toy") > 0.8).all(), "towards the goal"


def test_an_editor_that_moves_nothing_reaches_nothing(context):
    rows, _ = try_editor(context, PlantedEditor(torch.zeros(5, 64)), EditGoal("Bright"), scope="idle")
    assert (values(rows, "paper", "success") == 0).all() and not rows["reached"].any()
    assert values(rows, "equal", "drift", "toy").isna().all()


def test_the_page_shows_all_results_and_failures(whole):
    out, results = whole
    assert "others" not in results["tables"], "every shipped metric is in another table"
    html, text = ((out / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    for words in (
        "Claim",
        "mean_difference",
        "random moves",
        "Unknown method &#39;absent&#39;",
        "ganvas evaluate toy",
        "DCI",
    ):
        assert words in html
    assert "Unknown method 'absent'" in text and "| Bright |" in text
    shown = {path.name for path in out.iterdir() if path.suffix in (".png", ".jpg")}
    assert shown == {
        "methods-Bright.jpg",
        "methods-Striped.jpg",
        "figure-3.jpg",
        "curves.png",
        "variation.png",
        "labels.png",
    }
    assert all(name in html and name in text for name in shown)
    assert html.count("<table>") == len(results["tables"]) + 1 <= 12 and len(shown) <= 8
    assert results == json.loads((out / "report.json").read_text())
    assert any(gap["why"].startswith("Unknown method 'absent'") for gap in results["gaps"])
    assert all(len(row) == len(table["head"]) for table in results["tables"].values() for row in table["rows"])


def test_rows_hold_every_method_and_metric_by_code(whole):
    rows = pandas.read_parquet(whole[0] / "rows.parquet")
    paper = values(rows, "paper", "success", method="compact", attribute="Bright")
    assert len(paper) == 8 and paper.index.is_unique
    assert len(values(rows, "matched", "drift", "judge", method="compact", attribute="Big")) == 2
    assert set(rows["metric"]) >= {name for name, m in metrics.list_metrics().items()}
    assert set(rows["judge"]) == {"", "toy", "judge", "probe"}
    keys = ["method", "attribute", "protocol", "labels", "change", "judge", "metric", "of", "code_id"]
    assert not rows.duplicated(keys).any()


def test_claims_compare_the_families_on_the_same_faces_and_hold_by_their_interval(whole):
    table = whole[1]["tables"]["families"]
    rows = [dict(zip(table["head"], row, strict=True)) for row in table["rows"]]
    assert {(r["attribute"], r["change"], r["judge"]) for r in rows} == {
        (a, c, j) for a in PAIR for c in ("1 σ", "1.5 σ") for j in ("toy", "judge")
    }
    assert {r["judge"]: r["made the labels"] for r in rows} == {"toy": "yes", "judge": "no"}
    for r in rows:
        ratio = r["drift, ratio"]
        # Half of eight faces: too few for any claim.
        assert ratio["n"] < 8 and r["drift holds"] == "open"
        # Faces are compared where the labels' scorer sees the change, so that other judges have no identity.
        is_own = r["judge"] == "toy"
        assert (r["identity, difference"] is not None) == is_own and r["identity holds"] == ("open" if is_own else "-")
    best = {row[0]: row for row in whole[1]["tables"]["success"]["rows"]}
    assert best["Bright"][2]["mean"] == 1 and best["Bright"][2]["low"] < 0.97 and best["Bright"][3] == "open"


def test_a_new_metric_and_a_new_editor_are_in_the_report(tmp_path, monkeypatch):
    """Each in its own file: nothing else names them."""
    (tmp_path / "ganvas_sum.py").write_text(
        "from ganvas.metrics import metric\n\n\n@metric()\ndef row_sum(trial):\n"
        '    """Sum of the edited code."""\n    return trial.after.sum((1, 2))\n\n\n'
        "@metric(judged=True, each=True, digits=1)\ndef score_of_each(trial):\n"
        '    """Three."""\n    return 0 * trial.scores_after + 3\n\n\n'
        '@metric(judged=True, protocols=("paper",))\ndef judged_on_paper(trial):\n'
        '    """Four."""\n    return 0 * trial.strengths + 4\n\n\n'
        '@metric(protocols=("codes",))\ndef on_codes(trial):\n    """Five."""\n    return 0 * trial.strengths + 5\n'
    )
    monkeypatch.setattr(base, "METRICS", dict(base.METRICS))
    monkeypatch.setattr(metrics, "METRICS", base.METRICS)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("ganvas_sum")
    monkeypatch.setattr(methods.editors, "list_methods", lambda: ("compact", "mean_difference", "nudge"))
    monkeypatch.setattr(methods.editors, "get_learnable_kinds", lambda name: ("probability",))
    monkeypatch.setattr(methods.editors, "get_reports", lambda name: ("quick",))
    entries = {entry.name: entry for entry in list_entries()}
    assert entries["nudge"].method == "nudge"
    quick = ["compact", "interfacegan", "interfacegan conditional", "mean_difference", "nudge"]
    assert methods.list_quick_names() == quick
    monkeypatch.setattr(methods.editors, "fit", lambda name, data, generator, **options: disentangled())
    small = replace(TINY, other_attribute_faces=0, joint_edit_faces=0, random_moves=0, labels=(), dci=0, pictures=0)
    result = outcome(entries=[entries["nudge"]], attributes=PAIR[:1], config=small)
    results = write_report(result, tmp_path / "out", "this")
    assert "row sum (arrived)" in results["tables"]["matched"]["head"]
    assert "Row sum: Sum of the edited code." in (tmp_path / "out" / "report.md").read_text()
    assert results["tables"]["matched"]["rows"][0][1] == "nudge"
    others = {tuple(row[:4]): row[4]["mean"] for row in results["tables"]["others"]["rows"]}
    assert others["score of each (arrived)", "paper", "nudge", "judge"] == 3
    assert others["judged on paper (arrived)", "paper", "nudge", "toy"] == 4
    assert others["on codes (arrived)", "codes", "nudge", "-"] == 5
    assert {name for name, *_ in others} == {f"{n} (arrived)" for n in ("score of each", "judged on paper", "on codes")}


def test_a_metric_of_the_wrong_shape_is_a_gap(context, monkeypatch):
    monkeypatch.setattr(base, "METRICS", dict(base.METRICS))
    monkeypatch.setattr(metrics, "METRICS", base.METRICS)

    @metric()
    def wrong(trial):
        """Too few."""
        return torch.zeros(1)

    _, blocks = try_editor(context, disentangled(), EditGoal("Bright"), (8, 0))
    assert blocks.missing["wrong"] == "Its values have the shape (1,), not (8,)."


def test_a_cell_is_one_of_its_input_and_survives_damage(tmp_path):
    blocks = RowBlocks("m", "a")
    blocks.add("paper", "success", torch.arange(3), torch.tensor([1.0, 0.5, 0.25]), change=0.3, judge="j")
    file = tmp_path / "c.parquet"
    cell = save_cell(file, blocks, {"faces": (1, 2)})
    found = load_cell(file, {"faces": (1, 2)})
    assert found is not None and found.table.to_pandas().equals(cell.table.to_pandas())
    assert load_cell(file, {"faces": (1, 3)}) is None and load_cell(tmp_path / "no.parquet", {}) is None
    before = file.read_bytes()
    save_cell(file, blocks, {"faces": (1, 2)})
    assert file.read_bytes() == before
    for damaged in (before[:-7], before[:50], b""):
        file.write_bytes(damaged)
        assert load_cell(file, {"faces": (1, 2)}) is None
    assert len(save_cell(None, RowBlocks("m", "a"), {}).table) == 0


@pytest.mark.parametrize(
    "name",
    [
        *("editors/compact.py", "metrics/effects.py", "identity.py", "control/search.py", "evaluation/dci.py"),
        *("data/probe.py", "data/distribution.py", "data/gaussianize.py", "training_loop.py"),
    ],
)
def test_rows_and_editors_are_of_the_code_that_made_them(tmp_path, name):
    package = Path(rows_module.__file__).parent.parent
    assert (package / name).is_file()
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        (folder / name).parent.mkdir(parents=True)
        (folder / "app.py").write_text(str(folder))
    (folders[0] / name).write_text("SHIFT = 1\n")
    (folders[1] / name).write_text("SHIFT = 1\n")
    assert rows_module.hash_sources(folders[0]) == rows_module.hash_sources(folders[1])
    (folders[1] / name).write_text("SHIFT = 2\n")
    rows_module.hash_sources.cache_clear()
    assert rows_module.hash_sources(folders[0]) != rows_module.hash_sources(folders[1])


def test_a_metric_without_a_source_file_is_known_by_its_code(monkeypatch):
    monkeypatch.setattr(base, "METRICS", dict(base.METRICS))
    monkeypatch.setattr(metrics, "METRICS", base.METRICS)
    found = []
    for factor in (1, 1, 2):
        typed: dict = {"metric": metric, "__name__": "typed"}
        exec(f"@metric()\ndef typed(trial):\n    return (lambda x: x * {factor})(trial.strengths)\n", typed)
        found.append(rows_module.hash_metrics())
    assert found[0] == found[1] != found[2]


def test_between_two_pictures_shares_stay_0_or_1(monkeypatch):
    monkeypatch.setattr(base, "METRICS", {})
    monkeypatch.setattr(metrics, "METRICS", base.METRICS)

    @metric(share=True)
    def binary(trial):
        """0 or 1."""
        return trial.strengths

    @metric()
    def plain(trial):
        """Any number."""
        return trial.strengths

    w, scores, arrived = torch.zeros(4, 1, 2), torch.zeros(4, 1), torch.ones(4, dtype=torch.bool)
    ends = [
        Trial("a", ("a",), ("probability",), w, w, scores, scores, arrived, torch.tensor(strengths))
        for strengths in ([0.0, 0, 0, 1], [1.0, 1, 1, 0])
    ]
    blocks = RowBlocks("m", "a")
    blocks.add_trial("equal", torch.arange(4), ends, share=torch.tensor([0.2, 0.8, torch.nan, 0.9]))
    found = to_frame(blocks.to_table())
    assert found[found["metric"] == "binary"]["value"].tolist() == pytest.approx([0, 1, torch.nan, 0], nan_ok=True)
    assert found[found["metric"] == "plain"]["value"].tolist() == pytest.approx([0.2, 0.8, torch.nan, 0.1], nan_ok=True)


@pytest.mark.numerics
def test_a_loaded_editor_moves_codes_to_the_same_bits_as_a_fitted_one(tmp_path):
    """Also on a processor whose last bits depend on where numbers lie: a run that goes on finds its editors in files."""
    ws = sample(TOY, 8, 1.0)
    for entry in METHODS[:2]:
        fitted, found = (prepare_entry(entry, labels(), TOY, PAIR, tmp_path).editor for _ in range(2))
        with UnsteadySums():
            assert torch.equal(fitted.edit(ws, {"Bright": 1.0}), found.edit(ws, {"Bright": 1.0}))
            assert torch.equal(fitted.read(ws), found.read(ws))


class Stopped(Exception):
    """The user pressed Ctrl-C."""


@pytest.mark.numerics
def test_a_stopped_run_ends_in_the_same_bytes(whole, tmp_path, monkeypatch):
    first, _ = whole
    left = 200

    def counting(code_scorer, ws):
        nonlocal left
        left -= len(ws)
        if left < 0:
            raise Stopped
        return plain(code_scorer, ws)

    plain = CodeScorer._render
    monkeypatch.setattr(CodeScorer, "_render", counting)
    monkeypatch.setattr(KeyedRows, "SHARD_ROWS", 16)
    with pytest.raises(Stopped):
        outcome(tmp_path)
    assert 0 < count_rendered(tmp_path / "work") <= 200
    left, before = 10_000, count_rendered(tmp_path / "work")
    write_report(outcome(tmp_path), tmp_path, "ganvas evaluate toy")
    for name in ("report.json", "rows.parquet"):
        assert (tmp_path / name).read_bytes() == (first / name).read_bytes()
    # What was rendered before the cut isn't rendered again; four pictures measure time.
    assert 10_000 - left == count_rendered(tmp_path / "work") - before + 4


@pytest.mark.numerics
def test_again_over_its_own_files_renders_nothing(whole, monkeypatch):
    out, _ = whole
    before, count = [(out / name).read_bytes() for name in ("report.json", "rows.parquet")], 0

    def counting(code_scorer, ws):
        nonlocal count
        count += len(ws)
        return plain(code_scorer, ws)

    plain = CodeScorer._render
    monkeypatch.setattr(CodeScorer, "_render", counting)
    write_report(outcome(out), out, "ganvas evaluate toy")
    assert [(out / name).read_bytes() for name in ("report.json", "rows.parquet")] == before
    assert count == 4


def test_a_run_says_what_is_still_to_be_fitted(tmp_path):
    """Those methods and no others are then fitted; the next run over the same folder has none, and says so."""
    small = replace(
        TINY, other_attribute_faces=0, joint_edit_faces=0, random_moves=0, labels=(), dci=0, pictures=0, targets=(1.0,)
    )
    entries = [MethodEntry(name, name) for name in ("mean_difference", "interfacegan")]
    for asked in (entries[:1], entries, entries):
        before = {path.stem for path in (tmp_path / "work" / "editors").glob("*.safetensors")}
        lines: list[str] = []
        run_evaluation(TOY, panel(), labels(), asked, ["Bright"], small, tmp_path, lines.append)
        new = [entry.name for entry in asked if entry.slug not in before]
        (plan,) = [line for line in lines if "still to be fitted" in line]
        assert [name for name in ("mean_difference", "interfacegan") if name in plan] == new
        assert [line.split()[1] for line in lines if line.startswith("Fitting ")] == new


def test_columns_of_what_was_not_measured_are_left_out():
    for dci in (0, 2):
        small = replace(TINY, dci=dci, labels=(), first=8, rest=8, random_moves=0, pictures=0)
        table = build_codes(RowAnalysis(outcome(entries=METHODS[1:2], config=small)))
        assert ("disentanglement" in table.head) == ("DCI" in table.text) == ("DCI" in table.title) == bool(dci)
        assert all(len(row) == len(table.head) for row in table.rows)
        assert all(any(cell is not None for cell in column) for column in zip(*table.rows, strict=True))


def test_a_score_cache_is_of_one_panel_and_survives_damage(tmp_path):
    path, ws = tmp_path / "m", sample(TOY, 3, 1.0)
    metadata = {"panel": 1}
    first = CodeScorer(TOY, SCORER, cache=ScoreCache(path, metadata, 5))(ws)
    torch.testing.assert_close(first, VIEW(ws))
    assert len(ScoreCache(path, metadata, 5).scores.rows) == 3
    assert not ScoreCache(path, {"panel": 2}, 5).scores.rows
    assert not ScoreCache(path, metadata, 6).scores.rows
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert not ScoreCache(path, metadata, 5).scores.rows
    twice = CodeScorer(TOY, SCORER, cache=ScoreCache(None, metadata, 5))(torch.cat((ws, ws)))
    torch.testing.assert_close(twice, torch.cat((first, first)))


def test_a_face_that_is_not_found_is_counted(context):
    rows = context.panel(torch.stack((torch.full((3, 32, 32), -0.9), torch.zeros(3, 32, 32))))
    faces = context.panel.split_faces(rows)
    assert faces[0].isnan().all() and not torch.isnan(rows).any()
    blind = FaceRecognizer(lambda images: torch.full((len(images), 48), torch.nan), "blind", 48)
    unseen = replace(context, panel=JudgePanel(SCORER, [Judge()], blind))
    rows, _ = try_editor(unseen, disentangled(), EditGoal("Bright"), (8, 0))
    assert values(rows, "paper", "identity").isna().all() and (values(rows, "paper", "no_face") == 1).all()


def test_names_of_other_scorers():
    assert (
        is_same_attribute("Young", "Age")
        and is_same_attribute("Male", "male")
        and is_same_attribute("Smiling", "happy")
        and is_same_attribute("Bald", "Bald")
    )
    assert not is_same_attribute("Young", "Male") and not is_same_attribute("Smiling", "Age")


def test_table_is_whole():
    table = list_entries()
    assert len({entry.slug for entry in table}) == len({entry.name for entry in table}) == len(table)
    learnable = {name for name in editors.list_methods() if "probability" in editors.get_learnable_kinds(name)}
    assert {entry.method for entry in table} == learnable
    assert [entry.name for entry in select_entries(["compact", "sefa"], ["a/mine.safetensors"])][2] == "editor mine"
    with pytest.raises(GanvasError, match="Unknown method 'compct'"):
        select_entries(["compct"])
    with pytest.raises(GanvasError, match="compared twice"):
        select_entries(["sefa"], ["b/x.safetensors", "c/x.safetensors"])
    assert (
        QUICK.count_faces("first") == (16, 8)
        and FULL.count_faces("first")[0] == 256
        and FULL.count_faces("rest")[0] == 64
    )


@pytest.mark.parametrize("wrong", [{"first": 0}, {"targets": (0.0,)}, {"psi": float("nan")}])
def test_impossible_configs_are_refused(wrong):
    with pytest.raises(GanvasError):
        EvaluationConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"step": 0.0}, {"stride": 0}, {"tolerance": 0.0}, {"maximum": 0.01}])
def test_impossible_searches_are_refused(wrong):
    with pytest.raises(GanvasError):
        StrengthGrid(**wrong)


def test_failures_are_gaps_and_the_rest_goes_on(tmp_path):
    made = outcome(entries=METHODS[1:3], attributes=("Right", "Bright", "smle"), config=replace(TINY, dci=0, labels=()))
    whys = {(gap.what, gap.attribute): gap.why for gap in made.gaps}
    assert "is a value" in whys["attributes", "Right"] and "no attribute" in whys["attributes", "smle"]
    rows = made.rows
    assert set(rows[rows["protocol"] == "paper"]["attribute"]) == {"Bright"}
    with pytest.raises(GanvasError, match="None of the attributes"):
        outcome(attributes=("smle",))
    foreign = prepare_entry(select_entries([], ["ffhq/compact"])[0], labels(), TOY, PAIR)
    assert foreign.editor is None and "is for generator" in foreign.gap


def test_too_few_faces_are_an_error(context):
    sure = replace(context, pool=replace(context.pool, scores=context.pool.scores + 99))
    with pytest.raises(GanvasError, match=r"Only 0 of 112 pictures lack Bright: at least 8"):
        try_editor(sure, disentangled(), EditGoal("Bright"), (8, 0))


def test_without_gaussianisation_labels_are_standardised():
    plain = standardise_labels(labels())
    normals = plain.normals()
    assert normals.mean(0).abs().max() < 0.02
    assert (normals.std(0) - 1).abs().max() < 0.02
    editor = prepare_entry(
        replace(FEATURED[0], name=UNGAUSSIANISED, options=METHODS[0].options), labels(), TOY, PAIR
    ).editor
    assert editor is not None and "Bright" in editor.attributes


def test_from_names_to_a_report(tmp_path):
    label(TOY, SCORER, 400, out=tmp_path / "labels")
    config = replace(
        TINY,
        first=2,
        rest=2,
        matched=2,
        other_attribute_faces=0,
        joint_edit_faces=0,
        random_moves=0,
        labels=(),
        dci=0,
        targets=(1.0,),
    )
    request = EvaluationRequest(
        "toy", None, ["mean_difference"], labels=tmp_path / "labels", config=config, dtype="float32"
    )
    said = []
    results = evaluate(request, tmp_path / "out", "this", said.append)
    assert results["made"]["command"] == "this" and results["made"]["versions"]["ganvas"]
    assert results["made"]["attributes"] == ["Bright", "Red", "Big", "Striped"]
    assert said[0].startswith("About ") and "pictures will be rendered" in said[0] and "s with all judges" in said[1]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "rows.parquet",
        "report.json",
        "report.md",
        "index.html",
        "timings.json",
    }
    with pytest.raises(GanvasError, match="Can't write"):
        evaluate(request, tmp_path / "labels" / "index.json" / "out")


def test_an_attribute_with_one_score_is_left_out(tmp_path):
    class Constant(type(SCORER)):
        def forward(self, images):
            return super().forward(images).index_fill(1, torch.tensor([0]), 0.0)

    with pytest.raises(GanvasError, match="same score everywhere"):
        label(TOY, Constant(), 300, out=tmp_path)  # the files are whole
    data = load_usable(tmp_path, TOY, SCORER)
    assert data.attributes == ("Red", "Big", "Right", "Striped")
    with pytest.raises(GanvasError, match="nowhere"):
        load_usable(tmp_path / "nowhere", TOY, SCORER)


@pytest.mark.parametrize("name", ["celeba40", "face_attributes"])
def test_no_judge_shares_a_network_with_the_labeller(name):
    """The judges that are chosen when none is named."""
    own = load_scorer(name)
    panel, _ = build_panel(own, None, faces=False)
    assert own.networks
    for judge in panel.judges:
        assert not judge.networks & own.networks, judge.name


def test_judges_are_other_scorers_of_the_same_things():
    found, gaps = build_panel(SCORER, None)
    assert found.judges == () and found.width == 0 and not any("identity" in gap for gap in gaps)
    with pytest.raises(GanvasError, match="Unknown scorer 'nobody'"):
        build_panel(SCORER, ["nobody"])


def test_errors_of_the_command_are_one_line(tmp_path, capsys):
    for more, message in (
        (["--methods", "compct"], "Unknown method 'compct'"),
        (["--labels", str(tmp_path / "nowhere")], "nowhere"),
        (["--scorer", "eyes"], "Unknown scorer 'eyes'"),
        (["--scorer", "count"], "python -m experiments.multimnist.report"),
        (["--quick", "--share", "0.5"], "leave out --quick or --share"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["evaluate", "toy", "--out", str(tmp_path / "out"), "--dtype", "float32", *more])
        error = capsys.readouterr().err
        assert stop.value.code == 1 and error.startswith("Error: ") and error.count("\n") == 1 and message in error
