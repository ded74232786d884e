"""The scorers of face attributes: two files that are one scorer, and hostile ones."""

import pytest
import torch

from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors, save_tensors
from ganvas.scorers import face_attributes, load_scorer
from ganvas.scorers.celeba40 import ATTRIBUTES
from ganvas.scorers.face_attributes import ASSETS, FEATURES, OMI_ATTRIBUTES, OWN_ATTRIBUTES, RATED_ATTRIBUTES


@pytest.fixture(scope="module")
def scorer():
    return load_scorer("face_attributes")


@pytest.fixture
def files(tmp_path):
    """Copies of both files, and a function that writes changed tensors to one of them."""
    paths = [tmp_path / "own.safetensors", tmp_path / "omi.safetensors"]
    contents = [load_tensors(ASSETS / f"face_attributes{end}.safetensors") for end in ("", "_omi")]
    for path, (tensors, metadata) in zip(paths, contents, strict=True):
        save_tensors(path, tensors, metadata)

    def change(which: int, **changed: torch.Tensor | None) -> None:
        tensors, metadata = contents[which]
        merged = {**tensors, **changed}
        save_tensors(paths[which], {key: value for key, value in merged.items() if value is not None}, metadata)

    return *paths, change


def test_columns(scorer):
    assert scorer.attributes == (*ATTRIBUTES, "Sunglasses", "Age", *OMI_ATTRIBUTES)
    kinds = dict(zip(scorer.attributes, scorer.kinds, strict=True))
    assert kinds["Age"] == kinds["Weight"] == "value"
    assert kinds["Smiling"] == kinds["Sunglasses"] == "probability"


@torch.no_grad()
def test_scores_are_linear_but_age(scorer):
    features = torch.randn(3, FEATURES, generator=torch.Generator().manual_seed(0)).abs()
    scores, column = scorer.read(features), scorer.column("Age")
    linear = features @ scorer.weight.T + scorer.bias
    others = [k for k in range(len(scorer.attributes)) if k != column]
    torch.testing.assert_close(scores[:, others], linear[:, others])
    assert torch.equal(scores[:, column], scorer.faceres.read_age_gender(features[:, len(ATTRIBUTES) :])[0])
    assert ((scores[:, column] > 0) & (scores[:, column] < 100)).all()


@torch.no_grad()
def test_rated_layers_replace_the_others(scorer, files):
    own, omi, change = files
    rated = load_tensors(omi)[0]
    for k, name in enumerate(RATED_ATTRIBUTES):
        torch.testing.assert_close(scorer.weight[scorer.column(name)], rated["weight"][k].float())
    before = face_attributes.read(own, omi)
    change(1, weight=torch.zeros_like(rated["weight"]))
    after = face_attributes.read(own, omi)
    same = [k for k, name in enumerate(OWN_ATTRIBUTES) if name not in RATED_ATTRIBUTES]
    assert torch.equal(before.weight[same], after.weight[same])
    assert not after.weight[[scorer.column(name) for name in (*RATED_ATTRIBUTES, *OMI_ATTRIBUTES)]].any()
    assert before.fingerprint != after.fingerprint


def test_files_of_something_else(files):
    own, omi, change = files
    with pytest.raises(GanvasError, match="aren't the two files"):
        face_attributes.read(omi, own)
    change(1, weight=torch.zeros(2, FEATURES))
    with pytest.raises(GanvasError, match="is damaged"):
        face_attributes.read(own, omi)


@pytest.mark.parametrize("name", ["weight", "bias", "faceres.stem.weight", "faceres.depthwise.3.bias"])
def test_damaged_files(files, name):
    own, omi, change = files
    change(0, **{name: None})
    with pytest.raises(GanvasError, match="is damaged"):
        face_attributes.read(own, omi)
    change(0, **{name: torch.full_like(load_tensors(ASSETS / "face_attributes.safetensors")[0][name], torch.nan)})
    with pytest.raises(GanvasError, match="aren't finite"):
        face_attributes.read(own, omi)
