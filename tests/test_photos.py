"""Photographs and tables that were read wrong, or took too much: profiles, pages, pixels, rows."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, TiffImagePlugin

from ganvas import load_generator, own_labels
from ganvas.cli import options
from ganvas.errors import GanvasError
from ganvas.photos import read_photo
from ganvas.pictures import from_bytes
from ganvas.scorers import _examples


def test_a_transparent_pictures_profile_is_heeded(tmp_path, monkeypatch):
    seen, profile = [], ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    monkeypatch.setattr("ganvas.photos._in_srgb", lambda picture, profile: seen.append(profile) or picture)
    for mode in ("RGB", "RGBA"):
        Image.new(mode, (8, 8), "red").save(tmp_path / f"{mode}.png", icc_profile=profile)
        read_photo(tmp_path / f"{mode}.png")
    assert seen == [profile, profile]


def test_pages_are_counted_no_further_than_two_and_after_the_pixels(tmp_path, monkeypatch):
    walked, seek = [], TiffImagePlugin.TiffImageFile._seek
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "_seek", lambda self, n: walked.append(n) or seek(self, n))
    page = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    page.save(tmp_path / "one.tif")
    assert torch.equal(read_photo(tmp_path / "one.tif"), from_bytes(torch.from_numpy(np.array(page))[None]))
    page.save(tmp_path / "two.tif", save_all=True, append_images=[page] * 3)
    with pytest.raises(GanvasError, match="several pictures"):
        read_photo(tmp_path / "two.tif")
    assert max(walked) == 1
    walked.clear()
    with pytest.raises(GanvasError, match="10×10 pixels: 99 at most"):
        read_photo(tmp_path / "two.tif", 99)
    assert not any(walked)


def test_bytes_stay_as_they_are_when_they_become_a_picture():
    pixels = torch.rand(1, 4, 4, 3) * 255
    before = pixels.clone()
    from_bytes(pixels)
    assert torch.equal(pixels, before)


def test_examples_are_read_as_photographs_are(tmp_path, monkeypatch):
    grey = Image.fromarray(np.full((16, 16), 20_000, np.uint16))
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    grey.save(tmp_path / "grey.png")
    clear.save(tmp_path / "clear.png")
    frozen = _examples.Frozen(torch.nn.Identity(), lambda images: images.mean((2, 3)), "plain")
    assert _examples._described(tmp_path / "grey.png", frozen).max() < -0.3
    assert _examples._described(tmp_path / "clear.png", frozen).min() == 1
    clear.save(tmp_path / "moves.webp", save_all=True, append_images=[grey.convert("RGBA")])
    with pytest.raises(GanvasError, match="several pictures"):
        _examples._described(tmp_path / "moves.webp", frozen)


@pytest.mark.parametrize("about", [{"features": []}, {"features": {}, "attribute": 3}, {}])
def test_a_file_of_examples_that_says_other_things_is_one_line(about, tmp_path):
    from ganvas.files import save_tensors

    save_tensors(
        tmp_path / "s.safetensors", {"weight": torch.zeros(2)}, {"scorer": "examples", "attribute": "a"} | about
    )
    with pytest.raises(GanvasError, match="no scorer from examples"):
        _examples.read(tmp_path / "s.safetensors")


@pytest.mark.parametrize("weight", [torch.zeros(2), torch.tensor([0.0, torch.nan, 1.0])])
def test_a_file_of_examples_whose_weights_dont_fit_is_one_line(weight, tmp_path, monkeypatch):
    from ganvas.files import save_tensors

    frozen = _examples.Frozen(torch.nn.Identity(), lambda images: images.mean((2, 3)), "plain")
    monkeypatch.setitem(_examples.FEATURES, "plain", lambda: frozen)
    about = {"scorer": "examples", "attribute": "a", "features": "plain", "frozen": "plain"}
    save_tensors(tmp_path / "s.safetensors", {"weight": weight, "bias": torch.tensor(0.0)}, about)
    with pytest.raises(GanvasError, match="aren't 3 finite numbers"):
        _examples.read(tmp_path / "s.safetensors")


def test_rows_and_lines_of_a_table_are_bounded(tmp_path, monkeypatch):
    path, toy = tmp_path / "x.csv", load_generator("toy")
    path.write_text("index,a\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    assert len(own_labels.read(path, toy)) == 20
    monkeypatch.setattr(own_labels, "MOST_ROWS", 10)
    with pytest.raises(GanvasError, match="more than 10 pictures"):
        own_labels.read(path, toy)
    path.write_text("index,a\n1," + "0" * 70_000)
    with pytest.raises(GanvasError, match="line of more than 65,536"):
        own_labels.read(path, toy)


def test_names_in_tables_are_no_markup(capsys):
    options.say_table(("", "n"), [("[front] me.jpg", "1")])
    assert "[front] me.jpg" in capsys.readouterr().out
