"""Photographs and tables that were read wrong, or took too much: profiles, pages, pixels, rows."""

import contextlib
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, TiffImagePlugin

import ganvas
from ganvas import inversion, load_generator, scorers
from ganvas.app import photographs
from ganvas.balance import real
from ganvas.cli import loading, options, recipe_options
from ganvas.data import label_csv
from ganvas.errors import GanvasError
from ganvas.io.images import find_pictures, from_bytes, list_passed_over, read_picture, to_bytes
from ganvas.photo import batch
from ganvas.recipe.rendering import Tools
from ganvas.scorers import from_examples
from ganvas.scorers.base import Scorer
from ganvas.training.gan import images as gan_images

SIDE = 16
COLOURS = np.random.RandomState(0).randint(30, 225, (2, 2, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
"""Four squares of different colours: what files of any mode shall show."""
GREY = COLOURS[..., :1].repeat(3, 2)
ALPHA = np.array([[255, 0], [128, 51]], np.uint8).repeat(8, 0).repeat(8, 1)


def over_white(pixels: np.ndarray) -> np.ndarray:
    share = ALPHA[..., None] / 255
    return np.round(pixels * share + 255 * (1 - share))


def deep_png(pixels: np.ndarray, kind: int, more: bytes = b"") -> bytes:
    """A PNG of 16 bits, (height, width, channels) uint16; ``kind`` as PNG numbers them, ``more``: the tRNS chunk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [chunk(b"IHDR", head), chunk(b"tRNS", more) if more else b"", chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def files(folder):
    """Name -> (path, what it shows, by how many levels of 255 a pixel may be off)."""
    rgb, grey = Image.fromarray(COLOURS), Image.fromarray(GREY[..., 0])
    alpha, deep = Image.fromarray(ALPHA), GREY[..., 0].astype(np.uint16) * 257
    rgba, la = rgb.copy(), grey.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    bits = Image.fromarray(GREY[..., 0] > 100)
    palette = rgb.quantize(8)
    clear = palette.getpixel((15, 0))
    hole = np.where(np.arange(SIDE)[None, :, None] + 0 * COLOURS > 7, 255, COLOURS)
    hole[8:] = COLOURS[8:]
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    plain = {
        "bits.png": (bits, GREY * 0 + 255 * (GREY > 100), 0),
        "grey.png": (grey, GREY, 0),
        "grey-alpha.png": (la, over_white(GREY), 1),
        "palette.png": (palette, COLOURS, 1),
        "colour.png": (rgb, COLOURS, 0),
        "colour-alpha.png": (rgba, over_white(COLOURS), 1),
        "colour-alpha.tif": (rgba, over_white(COLOURS), 1),
        "deep.png": (Image.fromarray(deep), GREY, 1),
        "deep.tif": (Image.fromarray(deep), GREY, 1),
        "deeper.tif": (Image.fromarray(deep.astype(np.int32)), GREY, 1),
        "inks.tif": (rgb.convert("CMYK"), COLOURS, 2),
        "inks.jpg": (rgb.convert("CMYK"), COLOURS, 6),
        "grey.jpg": (grey, GREY, 6),
        "lab.tif": (lab, COLOURS, 4),
        "colour.bmp": (rgb, COLOURS, 0),
        "palette.gif": (palette, COLOURS, 1),
    }
    for name, (picture, shown, off) in plain.items():
        picture.save(folder / name, **({"quality": 100} if name.endswith("jpg") else {}))
        yield name, folder / name, shown, off
    rgba.save(folder / "a.webp", lossless=True, exact=True)
    yield "a.webp", folder / "a.webp", over_white(COLOURS), 1
    palette.save(folder / "hole.png", transparency=clear)
    yield "hole.png", folder / "hole.png", hole, 1
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        backs = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that undo what a camera noted
        path = folder / f"turned{turn}.png"
        (rgb.transpose(Image.Transpose(backs[turn])) if turn > 1 else rgb).save(path, exif=exif)
        yield path.name, path, COLOURS, 0
    wide, narrow = COLOURS.astype(np.uint16) * 257, ALPHA[..., None].astype(np.uint16) * 257
    white = np.where((deep == deep[0, -1])[..., None], 255, GREY)
    for name, data, shown in (
        ("deep-colour.png", deep_png(wide, 2), COLOURS),
        ("deep-alpha.png", deep_png(np.concatenate((wide, narrow), 2), 6), over_white(COLOURS)),
        ("deep-grey-alpha.png", deep_png(np.concatenate((deep[..., None], narrow), 2), 4), over_white(GREY)),
        ("deep-hole.png", deep_png(deep[..., None], 0, struct.pack(">H", deep[0, -1])), white),
    ):
        (folder / name).write_bytes(data)
        yield name, folder / name, shown, 1


def off_by(images: torch.Tensor, shown: np.ndarray) -> int:
    return int((to_bytes(images)[0].int() - torch.from_numpy(np.ascontiguousarray(shown)).int()).abs().max())


def test_files_of_every_mode_are_read_as_what_they_show(tmp_path):
    wrong = {name: off_by(read_picture(path), shown) for name, path, shown, off in files(tmp_path)}
    allowed = {name: off for name, _, _, off in files(tmp_path)}
    assert {name: off for name, off in wrong.items() if off > allowed[name]} == {}


def score(path, monkeypatch):
    seen = []

    class Witness(Scorer):
        attributes, kinds = ("a",), ("value",)

        def forward(self, images):
            seen.append(images)
            return torch.zeros(1, 1)

    monkeypatch.setattr(scorers, "load_scorer", lambda name: Witness())
    loading.score_pictures([path], "any", "cpu", pytest.fail)
    return seen[0]


def train(path, monkeypatch):
    pixels = gan_images.read_training_images(path.parent, SIDE, "").pixels
    return from_bytes(pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1))


def learn(path, monkeypatch):
    seen = []
    frozen = from_examples.FeatureNetwork(torch.nn.Identity(), lambda x: seen.append(x) or x.mean((2, 3)), "plain")
    from_examples._describe_picture(path, frozen)
    return seen[0]


def small_toy():
    toy = load_generator("toy")
    toy.resolution = SIDE
    return toy


def upload(path, monkeypatch):
    read = []
    monkeypatch.setattr(photographs, "find_faces", lambda photo: read.append(photo) or [])
    try:
        photographs.find_face_photos(path, SIDE)
    except GanvasError:  # it has no face
        if not read:
            raise
    return read[0]


def put_back(path, monkeypatch):
    return recipe_options.attach_photo_file(Tools(small_toy(), "float32"), path).photo.picture


ENTRIES = {
    "read_picture": lambda path, _: read_picture(path),
    "inversion.read_photo": lambda path, _: inversion.read_photo(path),
    "score": score,
    "train-gan": train,
    "learn": learn,
    "invert": lambda path, _: batch.align_file(path, SIDE, batch.InversionConfig(aligned=True))[0],
    "balance --from": lambda path, _: real.open_pictures(path.parent, SIDE).read(0),
    "app": upload,
    "--photo": put_back,
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_reads_all_files_alike(entry, tmp_path, monkeypatch):
    (tmp_path / "all").mkdir()
    for name, path, shown, off in files(tmp_path / "all"):
        alone = tmp_path / f"only-{name}" / name
        alone.parent.mkdir()
        path.rename(alone)
        assert off_by(ENTRIES[entry](alone, monkeypatch), shown) <= off, name


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_without_one_of_its_chunks_is_a_picture_or_one_line(mode, tmp_path):
    picture = Image.fromarray(COLOURS)
    whole = tmp_path / "whole.png"
    options = {"transparency": 0} if mode == "P" else {}
    (picture.convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)).save(whole, **options)
    data, starts, at = whole.read_bytes(), [], 8
    while at < len(data):
        starts.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        part = tmp_path / "part.png"
        part.write_bytes(data[:start] + data[end:])
        with contextlib.suppress(GanvasError):
            assert read_picture(part).shape == (1, 3, SIDE, SIDE)


def test_a_chunk_that_claims_gigabytes_takes_no_memory(tmp_path):
    claim, whole = tmp_path / "claim.png", tmp_path / "whole.png"
    Image.fromarray(COLOURS).save(whole)
    data = whole.read_bytes()
    for name in (b"IDAT", b"IEND"):
        at = data.index(name) - 4
        claim.write_bytes(data[:at] + (2**31 - 1).to_bytes(4, "big") + data[at + 4 :])
        tracemalloc.start()
        with contextlib.suppress(GanvasError):
            read_picture(claim)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()


def test_a_transparent_pictures_profile_is_heeded(tmp_path, monkeypatch):
    seen, profile = [], ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    monkeypatch.setattr("ganvas.io.images._convert_to_srgb", lambda picture, profile: seen.append(profile) or picture)
    for mode in ("RGB", "RGBA"):
        Image.new(mode, (8, 8), "red").save(tmp_path / f"{mode}.png", icc_profile=profile)
        read_picture(tmp_path / f"{mode}.png")
    assert seen == [profile, profile]


def test_pages_are_counted_no_further_than_two_and_after_the_pixels(tmp_path, monkeypatch):
    walked, seek = [], TiffImagePlugin.TiffImageFile._seek
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "_seek", lambda self, n: walked.append(n) or seek(self, n))
    page = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    page.save(tmp_path / "one.tif")
    assert torch.equal(read_picture(tmp_path / "one.tif"), from_bytes(torch.from_numpy(np.array(page))[None]))
    page.save(tmp_path / "two.tif", save_all=True, append_images=[page] * 3)
    with pytest.raises(GanvasError, match="several pictures"):
        read_picture(tmp_path / "two.tif")
    assert max(walked) == 1
    walked.clear()
    with pytest.raises(GanvasError, match="10×10 pixels: 99 at most"):
        read_picture(tmp_path / "two.tif", 99)
    assert not any(walked)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (3, 5, 7)])
def test_a_saved_image_is_read_again(tmp_path, shape):
    image = (
        torch.rand(shape, generator=torch.Generator().manual_seed(0), requires_grad=True) * 4 - 2
    )  # also beyond [-1, 1]
    path = ganvas.save_image(image, tmp_path / "new" / "a.png")
    again = read_picture(path)
    torch.testing.assert_close(again, image.detach().view(1, 3, 5, 7).clamp(-1, 1), rtol=0, atol=1 / 255 + 1e-6)
    before = path.read_bytes()
    ganvas.save_image(again, str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("image", "name", "words"),
    [
        (torch.zeros(2, 3, 4, 4), "a.png", r"\(2, 3, 4, 4\)"),
        (torch.zeros(1, 1, 4, 4), "a.png", "One picture"),
        (torch.zeros(4), "a.png", "One picture"),
        (torch.zeros(1, 3, 0, 4), "a.png", "One picture"),
        (torch.full((1, 3, 4, 4), torch.nan), "a.png", "finite"),
        (torch.zeros(1, 3, 4, 4), "a.jpg", r"\.png"),
        (torch.zeros(1, 3, 4, 4), "file/a.png", "Can't write"),
    ],
)
def test_an_image_that_can_not_be_saved_is_one_line_and_no_file(tmp_path, image, name, words):
    (tmp_path / "file").write_text("")
    with pytest.raises(GanvasError, match=words) as caught:
        ganvas.save_image(image, tmp_path / name)
    assert "\n" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["file"]


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
    frozen = from_examples.FeatureNetwork(torch.nn.Identity(), lambda images: images.mean((2, 3)), "plain")
    assert from_examples._describe_picture(tmp_path / "grey.png", frozen).max() < -0.3
    assert from_examples._describe_picture(tmp_path / "clear.png", frozen).min() == 1
    clear.save(tmp_path / "moves.webp", save_all=True, append_images=[grey.convert("RGBA")])
    with pytest.raises(GanvasError, match="several pictures"):
        from_examples._describe_picture(tmp_path / "moves.webp", frozen)


@pytest.mark.parametrize("about", [{"features": []}, {"features": {}, "attribute": 3}, {}])
def test_a_file_of_examples_that_says_other_things_is_one_line(about, tmp_path):
    from ganvas.io.files import save_tensors

    save_tensors(
        tmp_path / "s.safetensors", {"weight": torch.zeros(2)}, {"scorer": "examples", "attribute": "a"} | about
    )
    with pytest.raises(GanvasError, match="no scorer from examples"):
        from_examples.read(tmp_path / "s.safetensors")


@pytest.mark.parametrize("weight", [torch.zeros(2), torch.tensor([0.0, torch.nan, 1.0])])
def test_a_file_of_examples_whose_weights_dont_fit_is_one_line(weight, tmp_path, monkeypatch):
    from ganvas.io.files import save_tensors

    frozen = from_examples.FeatureNetwork(torch.nn.Identity(), lambda images: images.mean((2, 3)), "plain")
    monkeypatch.setitem(from_examples.FEATURES, "plain", lambda: frozen)
    about = {"scorer": "examples", "attribute": "a", "features": "plain", "frozen": "plain"}
    save_tensors(tmp_path / "s.safetensors", {"weight": weight, "bias": torch.tensor(0.0)}, about)
    with pytest.raises(GanvasError, match="must be 3 finite numbers"):
        from_examples.read(tmp_path / "s.safetensors")


def test_rows_and_lines_of_a_table_are_bounded(tmp_path, monkeypatch):
    path, toy = tmp_path / "x.csv", load_generator("toy")
    path.write_text("index,a\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    assert len(label_csv.read_label_csv(path, toy)) == 20
    monkeypatch.setattr(label_csv, "MAX_ROWS", 10)
    with pytest.raises(GanvasError, match="more than 10 pictures"):
        label_csv.read_label_csv(path, toy)
    path.write_text("index,a\n1," + "0" * 70_000)
    with pytest.raises(GanvasError, match="line of more than 65,536"):
        label_csv.read_label_csv(path, toy)


def test_names_in_tables_are_no_markup(capsys):
    options.print_table(("", "n"), [("[front] me.jpg", "1")])
    assert "[front] me.jpg" in capsys.readouterr().out


def test_raw_files_are_refused_by_name_and_avif_is_read(tmp_path):
    image = Image.fromarray(np.full((32, 32, 3), 128, np.uint8))
    image.save(tmp_path / "a.avif")
    assert read_picture(tmp_path / "a.avif").abs().max() < 0.05
    image.save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.NEF")  # readable as TIFF: the preview
    with pytest.raises(GanvasError, match="raw file, .* export it as JPEG"):
        read_picture(tmp_path / "a.NEF")


def test_a_heic_picture_says_what_reads_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(GanvasError, match=r"ganvas\[heic\]"):
        read_picture(tmp_path / "a.heic")


@pytest.mark.parametrize("suffix", [".heic", ".HEIF"])
def test_a_heic_picture_is_read(suffix, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC needs pillow-heif: pip install 'ganvas[heic]'")
    pixels = np.full((48, 64, 3), 128, np.uint8)
    pixels[:24] = (255, 0, 0)
    place = tmp_path / f"a{suffix}"
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(place, quality=95)
    picture = read_picture(place)
    assert picture.shape == (1, 3, 48, 64) and find_pictures([tmp_path]) == [place]
    top = picture[0, :, 4:20, 4:60].mean((1, 2))
    assert (top - torch.tensor([1.0, -1, -1])).abs().max() < 0.1 and picture[0, :, 30:, 4:60].abs().max() < 0.1
    with pytest.raises(GanvasError, match="pixels"):
        read_picture(place, max_pixels=100)
    place.write_bytes(place.read_bytes()[:200])
    with pytest.raises(GanvasError, match="a.HEI" if suffix == ".HEIF" else "a.heic"):
        read_picture(place)


def test_what_a_folder_holds_beside_pictures_is_listed(tmp_path):
    for name in ("a.png", "b.CR2", "notes.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more").mkdir()
    assert list_passed_over([tmp_path, tmp_path / "a.png"]) == [
        f"Passed over in {tmp_path}, no pictures: b.CR2, more/, notes.txt."
    ]
