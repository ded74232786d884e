"""Style channels of attributes, on planted truth."""

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from fitted_editors import NAMES, SCORER, TOY, labels

from ganvas import GanvasError, editors, sample
from ganvas.editors import stylespace
from ganvas.generators.toy import PLANTED

WS = sample(TOY, 40, 1.0, 0)


@cache
def fitted():
    return editors.fit("stylespace", labels(), TOY)


def list_planted_channels(name):
    """The row and the channel that draw an attribute of the toy."""
    row = PLANTED[name].row
    return row, [other for other in NAMES if PLANTED[other].row == row].index(name)


def test_the_planted_channel_is_chosen():
    report = fitted().report
    for name in NAMES:
        assert (report["layer"][name], report["channel"][name]) == list_planted_channels(name)
        assert fitted().rows[NAMES.index(name)].nonzero()[:, 0].tolist() == [PLANTED[name].row]
    assert report["unresponsive"] == []
    assert min(report["purity"].values()) > 0.99


def test_the_planted_attribute_moves_and_no_other():
    for k, name in enumerate(NAMES):
        for change in (-1.0, 2.0):
            moved = TOY.compute_coordinates(fitted().edit(WS, {name: change})) - TOY.compute_coordinates(WS)
            expected = torch.zeros(len(WS), len(NAMES))
            expected[:, k] = change
            torch.testing.assert_close(moved, expected, atol=0.15 * abs(change), rtol=0)
            assert moved[:, torch.arange(len(NAMES)) != k].abs().max() < 0.02


def test_only_the_channel_of_its_row_changes():
    weights = TOY.style_weights()
    for name in NAMES:
        row, channel = list_planted_channels(name)
        moved = (fitted().edit(WS, {name: 1.0}) - WS)[:, row] @ weights[row].T
        own = moved[:, channel].clone()
        moved[:, channel] = 0
        assert moved.abs().max() < 0.02 * own.abs().min()


def test_channels_that_labels_prefer_are_left_where_pictures_say_so():
    """Of codes with much Red the channel of Bright is high as well: what correlates is a candidate, not the choice."""
    responses = torch.tensor([[0.0, 1.0, 0.9, 0.3], [1.0, 0.0, 0.8, 0.0]])
    ranks = torch.tensor([[9.0, 3.0, 2.0, 1.0], [9.0, 3.0, 2.0, 1.0]])
    free = torch.ones(2, 2)
    assert stylespace._choose_channels(responses, ranks, free, 4).tolist() == [1, 0]
    assert stylespace._choose_channels(responses, ranks, free, 1).tolist() == [0, 0]
    both = torch.tensor([[0.5, 1.0], [0.0, 1.0]])  # the second is stronger and moves the other as much
    assert stylespace._choose_channels(both, ranks[:, :2], free, 2).tolist()[0] == 0
    # Attributes that mean the same don't count as others.
    assert stylespace._choose_channels(both, ranks[:, :2], torch.zeros(2, 2), 2).tolist()[0] == 1


def test_a_large_ridge_moves_dependent_channels_along():
    w = labels().w
    weight = torch.stack((TOY.planted["Bright"], TOY.planted["Red"]))  # correlated in W
    exact, loose = (stylespace.StyleRow(weight, w, ridge) for ridge in (1e-6, 1.0))
    torch.testing.assert_close(exact.readers @ exact.moves, torch.eye(2), atol=1e-3, rtol=0)
    styles = loose.readers @ loose.moves
    torch.testing.assert_close(styles.diagonal(), torch.ones(2))
    assert styles[0, 1] > 0.1
    assert (loose.purity < exact.purity).all()
    lengths = [(each.moves * torch.linalg.solve(torch.cov(w.T), each.moves)).sum(0).sqrt() for each in (loose, exact)]
    assert (lengths[0] < lengths[1]).all()  # Mahalanobis's


def test_a_channel_that_does_not_vary_is_left_alone():
    weight = torch.stack((TOY.planted["Bright"], torch.zeros(TOY.w_dim)))
    style = stylespace.StyleRow(weight, labels().w, 0.01)
    assert not style.moves[:, 1].any() and not style.readers[1].any()
    assert style.moves.isfinite().all()


def test_codes_of_w_are_read_by_the_probe():
    torch.testing.assert_close(fitted().read(WS), labels().probe(WS[:, 0]), atol=1e-5, rtol=0)


def test_codes_of_other_rows_are_refused():
    for act in (fitted().read, lambda ws: fitted().edit(ws, {"Red": 1.0})):
        with pytest.raises(GanvasError, match="for codes of 4 rows, not of 3"):
            act(WS[:, :3])


def test_a_scorer_is_needed_and_can_be_given():
    foreign = replace(labels(), scorer="someone:0")
    with pytest.raises(GanvasError, match="doesn't have the scorer 'someone': give scorer="):
        editors.fit("stylespace", foreign, TOY)
    for scorer in (SCORER, "toy"):
        editor = editors.fit("stylespace", foreign, TOY, scorer=scorer)
        assert editor.options["scorer"] == "toy"
        assert torch.equal(editor.rows, fitted().rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 0.6}, "share must be a number of at most 0.5, not 0.6"),
        ({"candidates": 0}, "candidates must be a whole number of at least 1, not 0"),
        ({"pictures": True}, "pictures must be a whole number"),
        ({"ridge": 0.0}, "ridge must be a number above 0, not 0.0"),
        ({"scorer": "toi"}, "scorer 'toi'"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(GanvasError, match=words):
        editors.fit("stylespace", labels(), TOY, **options)


def test_style_weights_are_needed():
    plain = copy.copy(TOY)
    plain.style_weights = lambda: []
    with pytest.raises(GanvasError, match="no styles by row"):
        editors.fit("stylespace", labels(), plain)
