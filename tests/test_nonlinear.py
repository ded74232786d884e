"""Editors that train networks on codes, on planted truth, and their shared code."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from fitted_editors import NAMES, NONLINEAR, SCORER, TOY, labels

from ganvas import GanvasError, editors, sample
from ganvas.data.gradients import GradientRun
from ganvas.data.probe import fit_probe
from ganvas.editors import latent2latent
from ganvas.editors._fit import FitConfig, calibrate_gains, fit_network_editor, prepare_fit
from ganvas.editors._networks import SmoothClassifier, compute_probabilities, fit_latent_classifier, fit_network
from ganvas.editors.base import collect_metadata
from ganvas.editors.guidedstyle import select_rows
from ganvas.editors.sdflow import CouplingLayer
from ganvas.editors.styleflow import StyleFlowConfig, Velocity, compute_velocity_loss, find_cheapest_changes, integrate
from ganvas.generators.toy import PLANTED
from ganvas.scorers import load_scorer

WS = sample(TOY, 200, 1.0, 0)
METHODS = sorted(NONLINEAR)
PAIRS = (("Red", "Bright"), ("Bright", "Red"), ("Big", "Striped"), ("Striped", "Big"))


@cache
def fit_short(method):
    return editors.fit(method, labels(), TOY, **NONLINEAR[method])


def true_moves(editor, changes):
    """Return how far each planted attribute moves, (5,)."""
    return (TOY.compute_coordinates(editor.edit(WS, changes)) - TOY.compute_coordinates(WS)).mean(0)


@pytest.mark.parametrize("method", METHODS)
def test_the_planted_attribute_moves_and_the_others_much_less(method):
    for k, name in enumerate(NAMES):
        for change in (-1.0, 1.0):
            moved = true_moves(fit_short(method), {name: change})
            others = moved.abs()[torch.arange(len(NAMES)) != k]
            assert moved[k] == pytest.approx(change, abs=0.25)
            assert others.max() < 0.45 * moved[k].abs()


@pytest.mark.parametrize("method", METHODS)
def test_what_goes_with_an_attribute_moves_less_than_by_mean_difference(method):
    baseline = editors.fit("mean_difference", labels(), TOY)
    for name, other in PAIRS:
        k, o = NAMES.index(name), NAMES.index(other)
        leaks = [
            (moved[o] / moved[k]).abs() for moved in (true_moves(e, {name: 1.0}) for e in (fit_short(method), baseline))
        ]
        assert leaks[0] < 0.75 * leaks[1]


@pytest.mark.parametrize("method", METHODS)
def test_two_at_once(method):
    moved = true_moves(fit_short(method), {"Bright": 1.0, "Right": -1.0})
    assert moved[NAMES.index("Bright")] == pytest.approx(1.0, abs=0.35)
    assert moved[NAMES.index("Right")] == pytest.approx(-1.0, abs=0.35)


@pytest.mark.parametrize("method", METHODS)
def test_a_code_is_edited_alike_whatever_is_beside_it(method):
    together = fit_short(method).edit(WS[:8], {"Red": 1.0})
    alone = torch.cat([fit_short(method).edit(WS[i : i + 1], {"Red": 1.0}) for i in range(8)])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_small_change_is_a_small_move(method):
    editor = fit_short(method)
    for change in (1e-3, -1e-3):
        assert (editor.edit(WS, {"Big": change}) - WS).abs().max() < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_what_was_measured_is_reported(method):
    report = fit_short(method).report
    assert (report["trained_on"], report["held_out"]) == (2100, 900)
    assert report["classifier_correlation"] > 0.9
    for table in ("classifier", "gain", "response", "length", "others"):
        assert set(report[table]) == set(NAMES)
    assert list(report["response"].values()) == pytest.approx([1.0] * 5, abs=0.1)
    assert report["unresponsive"] == []
    assert any(line.startswith("Bright") for line in editors.format_report_lines(fit_short(method)))


def test_gains_come_from_codes_trained_on():
    """What is held out is for the report: other held-out codes leave gains as they are."""
    data = labels()
    short, method = NONLINEAR["latent2latent"] | {"steps": 10, "classifier_steps": 10}, latent2latent.METHOD
    fitted = fit_network_editor(
        "latent2latent", data, TOY, latent2latent.Latent2LatentConfig(**short), method.build, method.create_loss
    )
    gains = fitted.editor.gains.clone()
    fitted.data.held_x.mul_(3)
    fitted.editor.gains.fill_(1)
    calibrate_gains(fitted.editor, fitted.data)
    torch.testing.assert_close(fitted.editor.gains, gains, rtol=1e-4, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_learning_leaves_no_traces(method):
    reported = []
    short = NONLINEAR[method] | {"steps": 3, "classifier_steps": 3}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with torch.no_grad():
        editor = editors.fit(method, labels(), TOY, progress=lambda done, of: reported.append((done, of)), **short)
    assert torch.equal(torch.rand(3), expected)
    assert reported == [(1, 3), (2, 3), (3, 3)]
    assert not any(p.requires_grad for p in editor.parameters())
    assert not editor.edit(WS, {"Red": 1.0}).requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides(method):
    short = NONLINEAR[method] | {"steps": 3, "classifier_steps": 3}
    prints = {editors.fingerprint(editors.fit(method, labels(), TOY, seed=seed, **short)) for seed in (0, 0, 1)}
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        *[(method, {"components": 0}, "components must be a whole number of at least 1, not 0") for method in METHODS],
        *[(method, {"steps": 0}, "steps must be a whole number of at least 1, not 0") for method in METHODS],
        *[(method, {"rate": 0}, "rate must be a number above 0, not 0") for method in METHODS],
        ("adatrans", {"edit_steps": 0}, "edit_steps must be a whole number of at least 1, not 0"),
        ("adatrans", {"likelihood": -0.5}, "likelihood must be a number of at least 0, not -0.5"),
        ("gradctrl", {"excluded": 1.5}, "excluded must be a number below 1, not 1.5"),
        ("ials", {"lambda1": 1.5}, "lambda1 must be a number of at most 1, not 1.5"),
        ("ials", {"edit_steps": 0}, "edit_steps must be a whole number of at least 1, not 0"),
        ("ials", {"scorer": "toi"}, "scorer 'toi'"),
        ("ials", {"gradients": "nowhere"}, "nowhere has no gradients: make some with `ganvas label --gradients`"),
        ("latent_transformer", {"identity": -1.0}, "identity must be a number of at least 0, not -1.0"),
        ("latent_transformer", {"preserve": float("nan")}, "preserve must be a finite number, not nan"),
        ("latent2latent", {"depth": 1}, "depth must be a whole number of at least 2"),
        ("latent2latent", {"max_attributes": True}, "max_attributes must be a whole number"),
        ("latent2latent", {"reach": 0.0}, "reach must be a number above 0"),
        ("sdflow", {"couplings": 0}, "couplings must be a whole number of at least 1, not 0"),
        ("sdflow", {"information": -1.0}, "information must be a number of at least 0, not -1.0"),
        ("styleflow", {"teach": "rote"}, "teach 'rote': pick one of matching, likelihood"),
        ("styleflow", {"solver": 0}, "solver must be"),
        ("guidedstyle", {"share": 1.5}, "share must be a number of at most 1, not 1.5"),
        ("guidedstyle", {"pictures": -1}, "pictures must be a whole number of at least 0"),
        ("guidedstyle", {"scorer": "toi"}, "scorer 'toi'"),
    ],
)
def test_impossible_options_are_refused(method, options, words):
    with pytest.raises(GanvasError, match=words):
        editors.fit(method, labels(), TOY, **options)


@pytest.mark.parametrize("method", METHODS)
def test_too_few_codes_are_refused(method):
    with pytest.raises(GanvasError, match="12 codes are too few: at least 20"):
        editors.fit(method, labels().subset(torch.arange(12)), TOY)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("damage", [{"width": "wide"}, {"components": 10**15}, {"seed": None}, {"surplus": 1}])
def test_damaged_options_are_refused(method, damage):
    module, editor = editors._import_method(method), fit_short(method)
    metadata = replace(collect_metadata(editor), options=dict(editor.options) | damage)
    if "surplus" in damage:  # what a later version adds is no damage
        again = module.from_tensors(editor.state_dict(), metadata).edit(WS, {"Red": 1.0})
        torch.testing.assert_close(again, editor.edit(WS, {"Red": 1.0}), rtol=0, atol=1e-5)
        return
    with pytest.raises(GanvasError):
        module.from_tensors(editor.state_dict(), metadata)


def test_the_classifier_reads_codes_that_it_has_not_seen():
    fit_data, _ = prepare_fit(labels(), TOY, FitConfig(width=64, classifier_steps=100))
    network = fit_data.classifier
    found = network(fit_data.held_x)
    for k in range(len(NAMES)):
        assert torch.corrcoef(torch.stack((found[:, k], fit_data.held_a[:, k])))[0, 1] > 0.9
    assert not network.training
    chances = compute_probabilities(found)
    assert ((chances > 0.5) == (found > 0)).all()


def test_the_classifier_stops_where_unseen_codes_are_read_best():
    noise = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    x = torch.randn(400, 30, generator=torch.Generator().manual_seed(1))
    network = fit_latent_classifier(x, noise, 128, 200, 0)
    fresh = torch.randn(400, 30, generator=torch.Generator().manual_seed(2))
    assert network(fresh).square().mean() < 0.5  # one that went on would read the noise of what it saw


def test_a_training_that_diverges_is_an_error():
    weight = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(GanvasError, match="lower rate than 0.1"):
        fit_network([weight], lambda step: weight.log().sum() * float("inf"), 3, 0.1)


def test_guidedstyle_finds_the_planted_row():
    editor = fit_short("guidedstyle")
    assert editor.report["layers"] == "chosen by toy, 8 pictures an attribute"
    assert editor.report["guide"] == "the latent classifier"
    for k, name in enumerate(NAMES):
        assert editor.rows[k].nonzero()[:, 0].tolist() == [PLANTED[name].row]
        moved = (editor.edit(WS, {name: 1.0}) != WS).any(2).any(0)
        assert moved.nonzero()[:, 0].tolist() == [PLANTED[name].row]
    both = (editor.edit(WS, {"Bright": 1.0, "Striped": 1.0}) != WS).any(2).any(0)
    assert both.tolist() == [True, False, False, True]


def test_guidedstyle_moves_all_rows_without_pictures():
    for data, options in ((labels(), {"pictures": 0}), (replace(labels(), scorer="someone:0"), {})):
        editor = editors.fit("guidedstyle", data, TOY, **NONLINEAR["guidedstyle"] | {"steps": 3} | options)
        assert editor.rows.min() == 1
        assert editor.report["layers"].startswith("all")


def test_guidedstyle_refuses_codes_of_other_rows():
    for act in (fit_short("guidedstyle").read, lambda ws: fit_short("guidedstyle").edit(ws, {"Red": 1.0})):
        with pytest.raises(GanvasError, match="for codes of 4 rows, not of 3"):
            act(WS[:, :3])


def test_guidedstyle_learns_from_the_scorer_itself():
    options = NONLINEAR["guidedstyle"] | {"steps": 3, "looks": 400}
    for scorer in (SCORER, "toy"):
        editor = editors.fit("guidedstyle", labels(), TOY, scorer=scorer, **options)
        assert editor.report["guide"] == "the scorer toy, 400 pictures"
        assert editor.options["scorer"] == "toy"
    for k, name in enumerate(NAMES):
        moved = true_moves(editor, {name: 1.0})
        assert moved[k] == pytest.approx(1.0, abs=0.25)
    with pytest.raises(GanvasError, match="attribute 'Bright'"):
        editors.fit("guidedstyle", labels(), TOY, scorer=load_scorer("celeba40"), **options)


def test_the_fewest_rows_that_help_are_chosen():
    added = torch.tensor([[0.5, 0.0, 0.45, 0.05], [-1.0, 1.0, 0.0, 0.0], [-1.0, -1.0, -2.0, 0.0]])
    assert select_rows(added, 0.9).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1]]
    assert select_rows(added, 1.0)[0].tolist() == [1, 0, 1, 1]


def test_adatrans_walks_in_steps_whose_sizes_sum_to_the_change():
    editor = fit_short("adatrans")
    x, changes = editor.frame.project(WS[:, 0]), torch.zeros(len(WS), len(NAMES))
    changes[:, NAMES.index("Big")] = 1.0
    places = [x, *editor.compute_trajectory(x, changes)]
    assert len(places) == 6
    torch.testing.assert_close(places[-1] - x, editor.compute_move(x, changes))
    sizes = torch.stack([(after - before).norm(dim=1) for before, after in pairwise(places)])
    for factor in (0.5, 2.0):
        scaled = torch.stack([x, *editor.compute_trajectory(x, factor * changes)]).diff(dim=0).norm(dim=2)
        assert scaled.sum(0).mean() == pytest.approx(factor * float(sizes.sum(0).mean()), rel=0.4)
    first = editor.compute_trajectory(x, changes * 1e-6)[0] - x
    assert first.norm(dim=1).max() < 1e-5


def test_adatrans_stays_nearer_to_the_mean_where_likelihood_counts():
    options = NONLINEAR["adatrans"] | {"steps": 60}
    distances = []
    for likelihood in (0.0, 5.0):
        editor = editors.fit("adatrans", labels(), TOY, likelihood=likelihood, **options)
        distances.append(editor.frame.project(editor.edit(WS, {"Big": 2.0})[:, 0]).norm(dim=1).mean())
    assert distances[1] < 0.97 * distances[0]


def test_gradctrl_leaves_the_channels_of_other_attributes_out():
    red = NAMES.index("Red")
    editor = fit_short("gradctrl")
    x = editor.frame.project(WS[:, 0])
    direction, gradients = editor.compute_direction(x, red), editor.network.compute_gradients(x)
    unit = gradients / gradients.norm(dim=2, keepdim=True)
    assert (direction == 0).sum(1).tolist() == [TOY.w_dim // 4] * len(x)
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(len(x)))
    others = (unit.abs() * editor.weights[red, :, None]).amax(1)
    assert (others.where(direction == 0, torch.inf).amin(1) >= others.where(direction != 0, 0).amax(1)).all()
    kept = (others < 0.89 * others.where(direction == 0, torch.inf).amin(1, keepdim=True)).float()
    ratio = (direction / unit[:, red]).where(kept > 0, torch.nan)  # left as they are but for their length
    assert (ratio - ratio.nanmean(1, keepdim=True)).abs().nan_to_num().max() < 1e-4
    assert kept.mean() > 0.4


def test_gradctrl_follows_the_whole_gradient_where_nothing_else_is_held():
    for options in ({"excluded": 0.0}, {"attributes": ["Red"]}):
        editor = editors.fit("gradctrl", labels(), TOY, **NONLINEAR["gradctrl"] | options)
        k = editor.attributes.index("Red")
        direction = editor.compute_direction(editor.frame.project(WS[:, 0]), k)
        planted = (TOY.planted["Red"] * editor.frame.deviations).expand_as(direction)
        assert torch.cosine_similarity(direction, planted, dim=1).mean() > 0.9


def test_noise_keeps_the_gradients_of_gradctrl_where_codes_vary():
    options = NONLINEAR["gradctrl"] | {"excluded": 0.0}
    lengths = [
        editors.fit("gradctrl", labels(), TOY, noise=noise, **options).report["length"]["Big"] for noise in (0.0, 0.5)
    ]
    assert lengths[1] < 0.8 * lengths[0]


@pytest.mark.parametrize(("method", "weight"), [("latent2latent", 1.0), ("latent_transformer", 10.0)])
def test_the_weight_of_identity_shortens_moves(method, weight):
    """Gains make up for it afterwards."""
    brief = NONLINEAR[method] | {"steps": 60, "classifier_steps": 30}
    free, held = (editors.fit(method, labels(), TOY, **brief, identity=each).gains.mean() for each in (0.0, weight))
    assert held > 1.5 * free


def test_lengths_in_channels_are_mahalanobis_too():
    lengths = [fit_short(method).report["length"]["Right"] for method in ("gradctrl", "ials")]
    assert lengths[0] > 0.8 * lengths[1]  # across all components instead of the first 24
    fit_data, config = prepare_fit(labels(), TOY, FitConfig(width=8, classifier_steps=1), standardize_only=True)
    assert config.components == TOY.w_dim
    torch.testing.assert_close(torch.cov((fit_data.x @ fit_data.whitening).T), torch.eye(TOY.w_dim), atol=0.01, rtol=0)
    torch.testing.assert_close(fit_data.x.std(0), torch.ones(TOY.w_dim))


def test_ials_finds_the_planted_directions():
    editor = fit_short("ials")
    assert editor.report["gradients"] == "toy, 8 pictures"
    axes = editor.frame.unproject_move(torch.eye(editor.levels.shape[1]))
    for k, name in enumerate(NAMES):
        assert torch.cosine_similarity(editor.levels[k], axes @ TOY.planted[name], dim=0) > 0.98


def test_ials_takes_the_gradients_of_conditions_out():
    """Red goes with Bright: the whitened gradient of one has a part of the other's, which stays where nothing is held."""
    red, bright = NAMES.index("Red"), NAMES.index("Bright")
    leaks = []
    for hold in (0.0, 10.0, 1000.0):
        editor = editors.fit("ials", labels(), TOY, **NONLINEAR["ials"] | {"steps": 3, "hold": hold})
        x = editor.frame.project(WS[:, 0])
        direction = editor.compute_directions(x, torch.tensor([red]))[:, 0]
        torch.testing.assert_close(direction.norm(dim=1), torch.ones(len(x)))
        leaks.append((direction @ editor.levels[bright]).abs().mean())
    assert leaks[0] > 0.3 and leaks[1] < 0.3 * leaks[0] and leaks[2] < 0.01


def test_ials_directions_of_the_attribute_alone_are_the_same_for_all_faces():
    options = NONLINEAR["ials"] | {"steps": 20, "lambda1": 1.0, "lambda2": 1.0}
    move = editors.fit("ials", labels(), TOY, **options).edit(WS, {"Red": 1.0}) - WS
    torch.testing.assert_close(move, move[:1].expand_as(move), atol=1e-5, rtol=0)


def test_ials_follows_what_moves_the_attribute_of_each_face(monkeypatch):
    """Planted: Bright is moved along Right on big blobs, and along Striped on small ones."""
    big = TOY.compute_coordinates(TOY.expand(labels().w))[:, NAMES.index("Big")] > 0
    slopes = torch.stack([TOY.planted[name] for name in NAMES]).expand(len(big), -1, -1).clone()
    slopes[:, 0] = torch.where(big[:, None], TOY.planted["Right"], TOY.planted["Striped"])
    monkeypatch.setattr("ganvas.editors.ials.load_gradients", lambda *_: (labels().w, slopes))
    options = NONLINEAR["ials"] | {"steps": 300, "lambda1": 0.0, "hold": 0.0, "match": 10.0}
    editor = editors.fit("ials", labels(), TOY, gradients="planted", **options)
    assert editor.report["gradients"] == "3000 faces of planted"
    place = TOY.compute_coordinates(WS)[:, NAMES.index("Big")]
    moved = TOY.compute_coordinates(editor.edit(WS, {"Bright": 1.0})) - TOY.compute_coordinates(WS)
    right, striped = (moved[:, NAMES.index(name)] for name in ("Right", "Striped"))
    assert (right > 2 * striped.abs())[place > 1].float().mean() > 0.9
    assert (striped > 2 * right.abs())[place < -1].float().mean() > 0.9


def test_ials_learns_from_gradients_in_a_folder(tmp_path):
    GradientRun(TOY, SCORER, 20, tmp_path, components=24).make_missing(threads=1)
    options = NONLINEAR["ials"] | {"steps": 20}
    editor = editors.fit("ials", labels(), TOY, gradients=tmp_path, **options)
    assert editor.report["gradients"] == f"20 faces of {tmp_path.name}"
    assert editor.options["gradients"] == str(tmp_path)
    again = editors.fit("ials", labels(), TOY, attributes=editor.attributes, **editor.options)
    assert editors.fingerprint(again) == editors.fingerprint(editor)
    cosines = torch.cosine_similarity(editor.levels, fit_short("ials").levels, dim=1)
    assert cosines.min() > 0.95  # other faces, quantised


def test_ials_does_without_pictures():
    for data, options in ((labels(), {"pictures": 0}), (replace(labels(), scorer="someone:0"), {})):
        editor = editors.fit("ials", data, TOY, **NONLINEAR["ials"] | {"steps": 20} | options)
        assert editor.report["gradients"] == "of the latent classifier alone"
        assert true_moves(editor, {"Red": 1.0})[NAMES.index("Red")] == pytest.approx(1.0, abs=0.25)


def test_the_gradient_of_the_smooth_classifier_is_its_own():
    network, x = SmoothClassifier(6, 3, 8), torch.randn(5, 6, requires_grad=True)
    for k in range(3):
        (expected,) = torch.autograd.grad(network(x)[:, k].sum(), x)
        torch.testing.assert_close(network.compute_gradients(x)[:, k], expected)


def test_sdflow_comes_back():
    editor = fit_short("sdflow")
    x = editor.frame.project(WS[:, 0])
    s = editor.encoder(x)
    z, volume = editor.encode(x, s)
    torch.testing.assert_close(editor.decode(z, s), x, atol=1e-4, rtol=0)
    jacobian = torch.autograd.functional.jacobian(lambda x: editor.encode(x, s[:1])[0], x[:1])[0, :, 0]
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], volume[0], atol=1e-3, rtol=0)


def test_sdflow_takes_the_semantics_out_of_the_rest():
    """z tells less of the attributes than the code does, and edited codes are read as asked."""
    editor = fit_short("sdflow")
    x = editor.frame.project(labels().w)
    s = editor.encoder(x)
    rest = editor.encode(x, s)[0]
    left, had = (
        1 - (s - fit_probe(part, s)(part)).square().mean(0) / s.var(0) for part in (rest, x)
    )  # the share of the variance that a regression explains
    assert had.min() > 0.8
    assert left.mean() < 0.5 * had.mean()
    changes = torch.zeros(200, len(NAMES))
    changes[:, NAMES.index("Red")] = 1.0
    edited = editor.decode(rest[:200], s[:200] + changes)
    torch.testing.assert_close(editor.encoder(edited).mean(0), (s[:200] + changes).mean(0), atol=0.3, rtol=0)


def test_a_flow_of_few_components_moves_those_that_there_are():
    layer = CouplingLayer(3, 2, 8, 1)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, s = torch.randn(6, 3), torch.randn(6, 2)
    z, _ = layer(x, s)
    assert torch.equal(z[:, ::2], x[:, ::2]) and not torch.equal(z[:, 1], x[:, 1])
    torch.testing.assert_close(layer.inverse(z, s), x)


def test_styleflow_comes_back():
    editor = fit_short("styleflow")
    x = editor.frame.project(WS[:, 0])
    a = editor.classifier(x)
    white = editor.affine(x, a)
    normal = integrate(editor.velocity, white, a, 4, forwards=True)
    torch.testing.assert_close(integrate(editor.velocity, normal, a, 4, forwards=False), white, atol=0.05, rtol=0)
    torch.testing.assert_close(white @ editor.affine.colouring + a @ editor.affine.weight + editor.affine.bias, x)


@pytest.mark.numerics
@pytest.mark.parametrize(("teach", "steps"), [("matching", 300), ("likelihood", 70)])
def test_a_flow_makes_numbers_normal_given_the_attributes(teach, steps):
    """The attribute decides the deviation; the bound is loose, so that no processor's rounding matters."""
    rng = torch.Generator().manual_seed(0)
    a, x = torch.randn(2000, 1, generator=rng), torch.randn(2000, 2, generator=rng)
    x[:, 0] *= torch.where(a[:, 0] > 0, 2.0, 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        velocity = Velocity(2, 1, 64, 2)
        config = StyleFlowConfig(steps=steps, rate=0.01, batch=256, teach=teach)
        fit_network(velocity.parameters(), compute_velocity_loss(velocity, x, a, config), steps, config.rate)
    velocity.requires_grad_(False)
    normal = integrate(velocity, x, a, 6, forwards=True)
    torch.testing.assert_close(integrate(velocity, normal, a, 6, forwards=False), x, atol=0.02, rtol=0.02)
    for side in (a[:, 0] > 0, a[:, 0] <= 0):
        assert distance_from_normal(normal[side, 0]) < 0.7 * distance_from_normal(x[side, 0])


def distance_from_normal(values):
    """Return the mean distance of sorted numbers from a normal distribution's quantiles."""
    places = (torch.arange(len(values)) + 0.5) / len(values)
    return (values.sort().values - torch.special.ndtri(places)).abs().mean()


def test_styleflow_changes_the_other_attributes_less_with_hold():
    a = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    a[:, 1] = 0.8 * a[:, 0] + 0.6 * a[:, 1]
    free, held = (find_cheapest_changes(a, hold) for hold in (0.0, 1e6))
    assert free[0].tolist() == pytest.approx([1.0, 0.8, 0.0], abs=0.05)
    torch.testing.assert_close(held, torch.eye(3), atol=1e-4, rtol=0)
