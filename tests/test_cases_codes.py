"""Codes, directions and labels in the layouts that people publish: the folder of cases that GANVAS_CASES names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import ganvas
from ganvas import inversion
from ganvas.cli import main
from ganvas.data import label_csv
from ganvas.editors.published import read_direction
from ganvas.generators.base import Generator, map_seeds

CASES = Path(os.environ.get("GANVAS_CASES", ""))
CODES, LABELS = CASES / "codes", CASES / "labels"
pytestmark = pytest.mark.skipif(
    not os.environ.get("GANVAS_CASES") or not CODES.is_dir(), reason="GANVAS_CASES names no folder of cases"
)


@pytest.fixture(scope="module")
def own() -> Generator:
    """The StyleGAN2 of 8 rows that the codes belong to."""
    return ganvas.load_generator(CODES / "own.pkl")


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return dict(np.load(CODES / "own.codes-expected.npz"))


def check_pictures(generator: Generator, ws: torch.Tensor, expected: np.ndarray, every: int = 1) -> None:
    with torch.no_grad():
        pictures = generator.synthesis(ws)[..., ::every, ::every].numpy()
    assert np.abs(pictures - expected).max() < 1e-4 * expected.std()


@pytest.mark.parametrize(
    ("file", "codes", "pictures", "n"),
    [
        ("projected_w.npz", "projected_w", "image_projected_w", 1),
        ("latents.pt", "latents", "image_latents", 3),
        ("0.pt", "latents", "image_latents", 1),
        ("by-name.pt", "latents", "image_latents", 2),
        ("projector-rosinality.pt", "latents", "image_latents", 1),
        ("w_plus.npy", "latents", "image_latents", 3),
        ("w_plus-one.npy", "latents", "image_latents", 1),
        ("w_plus-f16.npy", "w_plus_f16_as_float32", "image_w_plus_f16", 3),
    ],
)
def test_codes_are_taken_over_exactly(own, expected, file: str, codes: str, pictures: str, n: int) -> None:
    imported = inversion.import_codes(CODES / file, own)
    assert np.array_equal(imported.ws.numpy(), expected[codes][:n])
    check_pictures(own, imported.ws, expected[pictures][:n])
    assert "taken over exactly" in imported.notes[-1]


def test_codes_of_w_are_in_all_rows(own, expected) -> None:
    ws = inversion.import_codes(CODES / "w.npy", own).ws
    assert np.array_equal(ws.numpy(), np.repeat(expected["w"][:, None], 8, 1))
    check_pictures(own, ws, expected["image_w"])


def test_twelve_codes_of_w_are_not_one_of_twelve_rows() -> None:
    generator = ganvas.load_generator(CODES / "fourteen-rows.pkl")
    wanted = np.load(CODES / "fourteen-rows.codes-expected.npz")
    ws = inversion.import_codes(CODES / "w-12x32.npy", generator).ws
    assert ws.shape == (12, 14, 32) and np.array_equal(ws[:1].numpy(), wanted["ws"])
    check_pictures(generator, ws[:1], wanted["image_w"], int(wanted["every"]))


def test_an_array_of_two_readings_names_both(own, expected) -> None:
    default = inversion.import_codes(CODES / "w_plus-one.npy", own)
    assert any("--read-as w " in note and "8 codes of W" in note for note in default.notes)
    as_w = inversion.import_codes(CODES / "w_plus-one.npy", own, read_as="w").ws
    assert np.array_equal(as_w[:, 0].numpy(), expected["latents"][0]) and as_w.shape == (8, 8, 48)


SPELLINGS = sorted(path.name for path in LABELS.glob("*") if path.suffix != ".npz") if LABELS.is_dir() else []


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_the_table_reads_alike(own, name: str) -> None:
    table, lines = np.load(LABELS / "labels.expected.npz"), []
    data = label_csv.read_label_csv(LABELS / name, own, log=lines.append)
    codes = torch.cat([map_seeds(own, [int(seed)]) for seed in table["seed"]])
    nearest = torch.cdist(data.codes.double(), codes.double())
    rows = nearest.argmin(1)
    assert nearest.amin(1).max() < 1e-4
    for k, attribute in enumerate(data.attributes):
        values = data.scores[:, k]
        read = (values > 0).long().numpy() if data.kinds[k] == "probability" else values.numpy()
        assert np.allclose(read, table[attribute][rows]), attribute
    assert set(data.attributes) == {"Glasses", "Smile"} | (set() if "celeba" in name else {"Age"})
    assert bool(lines) == ("gaps" in name)
    assert len(data) == len(table["seed"]) or "gaps" in name or "subset" in name


@pytest.mark.parametrize(
    ("owner", "file"),
    [
        ("codes/own.pkl", "codes/stylegan2-own_style_ipca_c16_n2000_w.npz"),
        ("rosinality/latent-avg-2d.pt", "rosinality/factor.pt"),
    ],
)
def test_a_component_becomes_a_direction(owner: str, file: str, tmp_path: Path) -> None:
    generator, out = ganvas.load_generator(CASES / owner), tmp_path / "editor.safetensors"
    options = ["--component", "3", "--name", "Third", "--generator", str(CASES / owner), "--out", str(out)]
    with pytest.raises(SystemExit, match="^0$"):
        main(["import-direction", str(CASES / file), *options])
    editor = ganvas.load_editor(out, generator)
    ws = ganvas.sample(generator, 4, 1.0, 0)
    moved = (editor.edit(ws, {"Third": 1.0}) - ws)[:, 0]
    stored = (
        np.load(CASES / file)["act_comp"][3, 0] if file.endswith("npz") else torch.load(CASES / file)["eigvec"][:, 3]
    )
    cosine = torch.cosine_similarity(moved, torch.as_tensor(stored)[None])
    assert editor.attributes == ("Third",) and torch.allclose(cosine, torch.ones(4), atol=1e-4)


def test_single_style_channels_are_refused_by_name(own) -> None:
    with pytest.raises(ganvas.GanvasError, match="style channels .* aren't supported"):
        read_direction(CODES / "stylespace-channels.txt")
