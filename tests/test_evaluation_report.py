"""Evaluation on the toy: what is planted is found, what fails is recorded, and a run that was stopped ends the same."""

import json
from dataclasses import replace

import pytest
import torch
from evaluation_runs import METHODS, PAIR, TINY, Judge, embed, outcome, panel
from fitted_editors import compact, labels
from planted_truth import SCORER, TOY, VIEW, PlantedEditor, disentangled
from unstable_sums import UnsteadySums

from ganvas.cli import main
from ganvas.control.search import ScoredView
from ganvas.data.label import label
from ganvas.errors import GanvasError
from ganvas.evaluation import score_cache
from ganvas.evaluation.config import FULL, QUICK, EvaluationConfig
from ganvas.evaluation.context import EvaluationContext, prepare_context
from ganvas.evaluation.cost import count_rendered
from ganvas.evaluation.drift import unexplained_drift
from ganvas.evaluation.judges import FaceRecognizer, JudgePanel, JudgeScale, is_same_attribute
from ganvas.evaluation.method_trials import run_method
from ganvas.evaluation.methods import METHOD_TABLE, UNGAUSSIANISED, prepare_entry, select_entries, standardise_labels
from ganvas.evaluation.report import EvaluationRequest, build_panel, evaluate, load_usable, write_report
from ganvas.evaluation.score_cache import ScoreCache
from ganvas.evaluation.strength_search import StrengthGrid, StrengthSearch
from ganvas.evaluation.summaries import mean_difference, mean_ratio, summarise_trial, to_json
from ganvas.evaluation.trials import EditGoal
from ganvas.generators.base import sample


@pytest.fixture(scope="module")
def context() -> EvaluationContext:
    return prepare_context(TOY, panel(), labels(), PAIR, TINY, None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    return out, write_report(outcome(out), out, "ganvas evaluate toy")


def test_a_disentangled_editor_drifts_less_than_a_random_move(context):
    cell = run_method(context, disentangled(), EditGoal("Striped"), "planted", (8, 8), (1.0,))
    found = summarise_trial(context, cell.matched[1.0])
    assert found["success"].mean == 1
    assert found["target"]["toy"].mean == pytest.approx(1, abs=TINY.search.tolerance)
    assert found["drift"]["toy"].mean < 0.05
    # Red goes with Bright in W, so that correlation explains some of a drift, never more than all of it.
    assert found["beyond"]["toy"].mean <= found["drift"]["toy"].mean
    assert found["largest"]["toy"].mean >= found["drift"]["toy"].mean


def test_what_goes_against_correlation_is_beyond_it(context):
    scale = context.scales[0]
    place, other = (scale.attributes.index(name) for name in ("Bright", "Red"))
    assert abs(scale.correlation[place, other]) > 0.1
    explained = scale.correlation[place, other] * 2.0

    class Moved(JudgeScale):
        def measure_change(self, before, after):
            return torch.zeros(3, len(self.attributes)).index_fill(1, torch.tensor([other]), 1.0) * after

        def mask_others(self, edited):
            return [other]

    after = torch.stack((explained, -explained, 1.5 * explained))[:, None].float()
    moved = Moved(**vars(scale))
    found = unexplained_drift(moved, torch.zeros(3, 1), after, torch.full((3,), 2.0), place, ("Bright",))
    assert found.tolist() == pytest.approx([0, abs(float(explained)), abs(float(explained)) / 2], abs=1e-6)


def test_a_face_that_comes_apart_at_the_guess_is_found_below_it(context):
    """Scores rise and fall again, and the probe expects far more: what the search leapt over is climbed."""
    goal, grid = EditGoal("Bright"), replace(TINY.search, patience=1)
    ws = context.make_codes(torch.arange(8))[0]
    strides = grid.rungs // grid.stride
    peak = 2 * grid.stride

    def seen(index, rung):
        rows = torch.zeros(len(index), 5)
        rows[:, 0] = torch.where(rung == peak, 9.0, -9.0)
        return rows

    search = StrengthSearch(
        VIEW,
        disentangled(),
        goal,
        ws,
        seen(torch.arange(8), torch.zeros(8)),
        context.select_gaussianize("Bright"),
        grid,
    )
    search._render = lambda index, rung: search._store(index, rung, seen(index, rung))
    search.predict_strength = lambda target: torch.full((8,), float(grid.maximum))
    assert strides > 4
    found = search.climb(torch.tensor(0.9).logit().item(), None)
    assert found.arrived.all() and (found.rung == peak).all() and found.recovered.all()


def test_every_strength_is_rendered_once(context):
    seen = []

    class Counting(type(SCORER)):
        def forward(self, images):
            seen.extend(image.numpy().tobytes() for image in images)
            return super().forward(images)

    counted = replace(context, panel=JudgePanel(Counting(), [Judge()], FaceRecognizer(embed, "the toy's", 48)))
    cell = run_method(counted, compact(), EditGoal("Bright"), "x", (8, 8), (1.0, 1.5))
    assert len(seen) == len(set(seen)) == cell.renders
    assert cell.renders <= 8 * 8


def test_the_climb_finds_the_first_stride_that_passes(context):
    cell = run_method(context, disentangled(), EditGoal("Bright"), "planted", (8, 0))
    strengths = cell.paper.strengths
    assert cell.paper.arrived.all()
    stride = TINY.search.step * TINY.search.stride
    below = disentangled().edit(cell.paper.before.expand(-1, 4, -1), {"Bright": strengths - stride})
    assert (VIEW(below)[:, 0] < torch.tensor(0.9).logit()).all()
    assert (strengths / stride).round().mul(stride).sub(strengths).abs().max() < 1e-5


def test_downwards_goals_lower_the_score(context):
    cell = run_method(context, disentangled(), EditGoal("Bright", up=False), "planted", (8, 8), (1.0,))
    assert (cell.paper.strengths < 0).all()
    assert (torch.sigmoid(cell.paper.scores_after[:, 0]) < 0.1).all()
    assert (cell.matched[1.0].strengths < 0).all()


def test_an_editor_that_moves_nothing_reaches_nothing(context):
    cell = run_method(context, PlantedEditor(torch.zeros(5, 64)), EditGoal("Bright"), "idle", (8, 8), (1.0,))
    found = to_json(summarise_trial(context, cell.paper))
    assert found["success"]["mean"] == 0
    assert found["variation"] is None and found["drift"]["toy"]["mean"] is None
    assert not cell.matched[1.0].arrived.any()


def test_the_page_shows_all_results_and_failures(whole):
    out, results = whole
    html, text = ((out / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    for words in (
        "Verdict",
        "mean_difference",
        "random",
        "Unknown method &#x27;absent&#x27;",
        "ganvas evaluate toy",
        "DCI",
    ):
        assert words in html
    assert "Unknown method 'absent'" in text and "| Bright |" in text
    shown = {path.name for path in out.iterdir() if path.suffix in (".png", ".jpg")}
    assert shown >= {"methods-Bright.jpg", "figure-3.jpg", "curves.png", "variation-compact.png"}
    assert all(name in html and name in text for name in shown)
    assert results == json.loads((out / "report.json").read_text())
    assert results["paper"]["Bright"]["compact"]["success"]["n"] == 8
    assert results["everywhere"]["Big"]["compact"]["n"] == 2
    assert any(gap["why"].startswith("Unknown method 'absent'") for gap in results["gaps"])
    assert results["dci"]["compact"]["informativeness"]["mean"] > 0.5


def test_verdicts_compare_the_families_on_the_same_faces(whole):
    _, results = whole
    rows = results["verdicts"]["matched"]
    assert {(r["attribute"], r["change"], r["judge"]) for r in rows} == {
        (a, c, j) for a in PAIR for c in (1.0, 1.5) for j in ("toy", "judge")
    }
    assert {r["judge"]: r["fresh"] for r in rows} == {"toy": False, "judge": True}
    assert all(r["drift_holds"] == (r["drift"]["mean"] <= 0.7) for r in rows)
    assert all(r["holds"] == (r["drift_holds"] and r["identity"]["mean"] >= 0) for r in rows)
    assert len(results["verdicts"]["summary"]) == 2
    best = {r["attribute"]: r for r in results["verdicts"]["success"]}
    assert best["Bright"]["success"]["mean"] == 1 and best["Bright"]["holds"]


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

    def counting(view, ws):
        nonlocal left
        left -= len(ws)
        if left < 0:
            raise Stopped
        return plain(view, ws)

    plain = ScoredView._render
    monkeypatch.setattr(ScoredView, "_render", counting)
    monkeypatch.setattr(score_cache, "SAVE_EVERY", 16)
    with pytest.raises(Stopped):
        outcome(tmp_path)
    assert 0 < count_rendered(tmp_path / "work") <= 200
    left, before = 10_000, count_rendered(tmp_path / "work")
    write_report(outcome(tmp_path), tmp_path, "ganvas evaluate toy")
    assert (tmp_path / "report.json").read_bytes() == (first / "report.json").read_bytes()
    # What was rendered before the cut isn't rendered again; four pictures measure time.
    assert 10_000 - left == count_rendered(tmp_path / "work") - before + 4


@pytest.mark.numerics
def test_again_over_its_own_files_renders_nothing(whole, monkeypatch):
    out, _ = whole
    before, count = (out / "report.json").read_bytes(), 0

    def counting(view, ws):
        nonlocal count
        count += len(ws)
        return plain(view, ws)

    plain = ScoredView._render
    monkeypatch.setattr(ScoredView, "_render", counting)
    write_report(outcome(out), out, "ganvas evaluate toy")
    assert (out / "report.json").read_bytes() == before
    assert count == 4


def test_a_score_cache_is_of_one_panel_and_survives_damage(tmp_path):
    file, ws = tmp_path / "m.safetensors", sample(TOY, 3, 1.0)
    metadata = {"panel": 1}
    first = ScoredView(TOY, SCORER, cache=ScoreCache(file, metadata, 5))(ws)
    torch.testing.assert_close(first, VIEW(ws))
    assert len(ScoreCache(file, metadata, 5).rows) == 3
    assert not ScoreCache(file, {"panel": 2}, 5).rows
    assert not ScoreCache(file, metadata, 6).rows
    file.write_bytes(file.read_bytes()[:-5])
    assert not ScoreCache(file, metadata, 5).rows
    twice = ScoredView(TOY, SCORER, cache=ScoreCache(None, metadata, 5))(torch.cat((ws, ws)))
    torch.testing.assert_close(twice, torch.cat((first, first)))


def test_a_face_that_is_not_found_is_counted(context):
    rows = context.panel(torch.stack((torch.full((3, 32, 32), -0.9), torch.zeros(3, 32, 32))))
    faces = context.panel.split_faces(rows)
    assert faces[0].isnan().all() and not torch.isnan(rows).any()
    cell = run_method(context, disentangled(), EditGoal("Bright"), "planted", (8, 0))
    lost = replace(cell.paper, faces_after=torch.full_like(cell.paper.faces_after, torch.nan))
    found = summarise_trial(context, lost)
    assert found["no_face"] == 8 and found["identity"].n == 0


def test_ratios_are_paired():
    draw = torch.Generator().manual_seed(0)
    hard = torch.rand(200, generator=draw) + 0.5
    found = mean_ratio(0.7 * hard, hard)
    assert found.mean == pytest.approx(0.7) and found.high - found.low < 1e-6
    missing = torch.where(torch.arange(200) < 50, torch.nan, hard)
    assert mean_difference(missing, hard).n == 150
    assert mean_difference(missing, hard).mean == 0
    assert mean_ratio(missing[:10], hard).n == 0


def test_names_of_other_scorers():
    assert (
        is_same_attribute("Young", "Age")
        and is_same_attribute("Male", "male")
        and is_same_attribute("Smiling", "happy")
        and is_same_attribute("Bald", "Bald")
    )
    assert not is_same_attribute("Young", "Male") and not is_same_attribute("Smiling", "Age")


def test_table_is_whole():
    assert (
        len({entry.slug for entry in METHOD_TABLE}) == len({entry.name for entry in METHOD_TABLE}) == len(METHOD_TABLE)
    )
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
    whys = {(gap["what"], gap["attribute"]): gap["why"] for gap in made.results["gaps"]}
    assert "is a value" in whys["attributes", "Right"] and "no attribute" in whys["attributes", "smle"]
    assert set(made.results["paper"]) == {"Bright"}
    with pytest.raises(GanvasError, match="None of the attributes"):
        outcome(attributes=("smle",))
    foreign = prepare_entry(select_entries([], ["ffhq/compact"])[0], labels(), TOY, PAIR)
    assert foreign.editor is None and "is for generator" in foreign.gap


def test_too_few_faces_are_an_error(context):
    sure = replace(context, pool=replace(context.pool, scores=context.pool.scores + 99))
    with pytest.raises(GanvasError, match=r"Only 0 of 112 faces lack Bright: at least 8"):
        run_method(sure, disentangled(), EditGoal("Bright"), "x", (8, 0))


def test_without_gaussianisation_labels_are_standardised():
    plain = standardise_labels(labels())
    normals = plain.normals()
    assert normals.mean(0).abs().max() < 0.02
    assert (normals.std(0) - 1).abs().max() < 0.02
    editor = prepare_entry(
        replace(METHOD_TABLE[0], name=UNGAUSSIANISED, options=METHODS[0].options), labels(), TOY, PAIR
    ).editor
    assert editor is not None and "Bright" in editor.attributes


def test_from_names_to_a_report(tmp_path):
    label(TOY, SCORER, 400, out=tmp_path / "labels")
    config = replace(
        TINY, first=2, rest=2, matched=2, everywhere=0, together=0, floor=0, labels=(), dci=0, targets=(1.0,)
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
