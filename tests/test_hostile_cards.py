"""Cards of generators without W that lie about sizes and types: one line, before anything large is made."""

import pytest
import torch
from test_checkpoints import LAYERS, card, deconvolutional

from ganvas import load_generator
from ganvas.errors import GanvasError
from ganvas.generators import dcgan


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": [{"kind": "double"}, *LAYERS]}, "layer 0 .double. doesn't fit"),
        (
            {"layers": [{"kind": "reshape", "shape": [5, 1.0, 1]}, *LAYERS]},
            r"layers\[0\].shape\[1\] must be a whole number",
        ),
        (
            {"layers": [{"kind": "reshape", "shape": [5, "1", 1]}, *LAYERS]},
            r"layers\[0\].shape\[1\] must be a whole number",
        ),
        ({"layers": [{"kind": "reshape", "shape": [5, 0, 1]}, *LAYERS]}, "of at least 1, not 0"),
        ({"z_dim": 5.0}, "z_dim must be a whole number|another type"),
        ({"z_dim": True}, "z_dim must be a whole number|another type"),
        ({"layers": [{"kind": "norm", "name": "main.4"}, *LAYERS]}, "layer 0 .norm main.4. doesn't fit"),
        ({"layers": [LAYERS[0] | {"padding": 2}, *LAYERS[1:]]}, "doesn't fit|are possible"),
    ],
)
def test_cards_of_other_types_are_refused(changes, words, tmp_path):
    torch.save(deconvolutional().state_dict(), tmp_path / "g.pt")
    card(tmp_path / "g.json", **changes)
    with pytest.raises(GanvasError, match=words) as caught:
        load_generator(tmp_path / "g.pt")
    assert "\n" not in str(caught.value)


def test_no_layer_is_made_before_its_size_is_known(monkeypatch):
    """256×256 pixels doubled eight times: 17 GB, if they were made."""
    largest, made = [0], dcgan.Dcgan._layer

    def watched(self, x, step, dtype):
        found = made(self, x, step, dtype)
        largest[0] = max(largest[0], 0 if found.is_meta else found.numel())
        return found

    monkeypatch.setattr(dcgan.Dcgan, "_layer", watched)
    steps = [dcgan.DcganLayer("reshape", shape=(1, 256, 256)), *[dcgan.DcganLayer("double")] * 8]
    shape = dcgan.DcganArchitecture(4, (dcgan.DcganLayer("linear", "a"), *steps))
    with pytest.raises(GanvasError, match="are possible"):
        dcgan.Dcgan({"a.weight": torch.zeros(65_536, 4)}, shape)
    assert largest[0] == 0


def test_the_mean_is_the_same_in_batches(monkeypatch, tmp_path):
    torch.save(deconvolutional().state_dict(), tmp_path / "g.pt")
    card(tmp_path / "g.json", space="first")
    whole = load_generator(tmp_path / "g.pt").w_avg
    monkeypatch.setattr(dcgan, "MAX_BATCH_SIZE", 100_000)
    most, mapping = [0], dcgan.Dcgan.mapping

    def watched(self, z, labels=None):
        most[0] = max(most[0], len(z))
        return mapping(self, z, labels)

    monkeypatch.setattr(dcgan.Dcgan, "mapping", watched)
    torch.testing.assert_close(load_generator(tmp_path / "g.pt").w_avg, whole, rtol=1e-5, atol=1e-6)
    assert 0 < most[0] < 200
