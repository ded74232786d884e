"""Faces put back into photographs: what isn't edited stays bit for bit, what is edited lands where the face is."""

import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import ExifTags, Image
from planted_truth import TOY, disentangled

import ganvas
from ganvas.cli import main
from ganvas.cli.options import parse_seconds
from ganvas.errors import GanvasError
from ganvas.generators.regions import Region
from ganvas.identity import IdentityJudge, read_strangers
from ganvas.inversion import alignment
from ganvas.inversion.alignment import Face, cut_face
from ganvas.inversion.optimization import OptimizationConfig
from ganvas.io.images import from_bytes, read_exif, read_picture, to_bytes
from ganvas.photo import edit, paste, recipe
from ganvas.photo.batch import InversionConfig
from ganvas.photo.edit import PhotoEdit
from ganvas.photo.paste import paste_face
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import EditStep, NamedTool
from ganvas.recipe.rendering import Tools

SIZE = 128
TURNED = torch.tensor([[80.0, 60.0], [50.0, 170.0], [160.0, 200.0], [190.0, 90.0]])
"""A square of side 114, turned by 15 degrees."""
SMALL = torch.tensor([[30.0, 20.0], [30.0, 70.0], [80.0, 70.0], [80.0, 20.0]])
CUT_OFF = torch.tensor([[-40.0, -30.0], [-40.0, 110.0], [100.0, 110.0], [100.0, -30.0]])
QUADS = {"turned": TURNED, "small": SMALL, "cut off by the border": CUT_OFF, "large": 4 * SMALL - 20}
MIDDLE = Region((0.5, 0.5, 0.3, 0.3)).build_mask(SIZE, SIZE)
EVERYWHERE = torch.ones(1, 1, SIZE, SIZE)


def draw_photo(height: int = 260, width: int = 240) -> torch.Tensor:
    """A gradient with waves and noise, in whole bytes."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    waves = 0.3 * torch.sin(20 * x + 8 * y)
    noise = 0.2 * torch.rand((3, height, width), generator=torch.Generator().manual_seed(0))
    return from_bytes(to_bytes((torch.stack((x - 0.5, y - 0.5, waves)) + noise)[None]))


def draw_square(value: float) -> torch.Tensor:
    return torch.full((1, 3, SIZE, SIZE), value)


def draw_cross() -> torch.Tensor:
    """Two bars through the middle: new content with sharp edges."""
    picture = draw_square(0.0)
    picture[:, :, 56:72, 32:96] = 1
    picture[:, :, 32:96, 56:72] = 1
    return picture


@pytest.mark.parametrize("quad", QUADS.values(), ids=QUADS)
def test_without_an_edit_and_outside_of_it_pixels_are_equal(quad):
    photo, inverted = draw_photo(), cut_face(draw_photo(), quad, SIZE) * 0.8
    assert torch.equal(paste_face(photo, quad, inverted, inverted.clone(), EVERYWHERE), photo)
    pasted = paste_face(photo, quad, inverted, inverted + draw_cross(), MIDDLE)
    changed = (pasted != photo).any(1)[0]
    # The radius of the region is 0.3; corners of pixels lie up to 0.03 outside.
    away = torch.stack(torch.meshgrid(torch.arange(260), torch.arange(240), indexing="ij")).flip(0).float()
    radius = (away - quad.mean(0)[:, None, None]).norm(dim=0) / (quad[3] - quad[0]).norm()
    assert changed.any() and radius[changed].max() < 0.34
    assert not torch.equal(to_bytes(pasted), to_bytes(photo))


@pytest.mark.parametrize("name", ["turned", "large"])
def test_what_was_cut_out_is_put_back_where_it_was(name):
    """There and back: a smooth picture in the square, pasted and cut out again, is itself."""
    y, x = torch.meshgrid(torch.arange(SIZE) / SIZE, torch.arange(SIZE) / SIZE, indexing="ij")
    drawn = torch.stack((torch.sin(9 * x), torch.cos(7 * y), torch.sin(5 * (x - y))))[None] * 0.5
    pasted = paste_face(torch.zeros(1, 3, 260, 340), QUADS[name], torch.zeros_like(drawn), drawn, EVERYWHERE)
    again = cut_face(pasted, QUADS[name], SIZE)
    assert (again - drawn)[:, :, 24:-24, 24:-24].abs().max() < 0.05


def test_a_small_smooth_change_keeps_the_photographs_details():
    photo, inverted = draw_photo(), draw_square(0.0)
    pasted = paste_face(photo, TURNED, inverted, inverted + 0.1, EVERYWHERE)
    inside = (slice(None), slice(None), slice(115, 145), slice(105, 135))
    torch.testing.assert_close((pasted - photo)[inside], torch.full((1, 3, 30, 30), 0.1), atol=0.01, rtol=0)


def test_nothing_shines_through_new_content_and_its_colours_are_the_photographs():
    """Stripes under an opaque cross are gone, and the cross is as much brighter as the photograph is."""
    photo = torch.full((1, 3, 260, 240), 0.4)
    photo[:, :, :, ::6] = -0.6
    inverted = draw_square(-0.3)
    pasted = paste_face(photo, TURNED, inverted, inverted + 0.7 * draw_cross(), EVERYWHERE)
    middle = cut_face(pasted, TURNED, SIZE)[:, :, 60:68, 60:68]
    assert middle.std() < 0.03
    assert middle.mean() == pytest.approx(float(photo.mean()) + 0.7, abs=0.1)
    whole = paste_face(photo, TURNED, inverted, inverted, EVERYWHERE, whole=True)
    assert cut_face(whole, TURNED, SIZE)[:, :, 40:88, 40:88].std() < 0.03


def test_an_edit_of_what_the_photograph_doesnt_show_is_left_out():
    """The inversion has hair where the photograph has a wall: hair that an edit moves isn't painted on the wall."""
    photo, inverted = torch.full((1, 3, 260, 240), 0.9), draw_square(0.9)
    inverted[..., 96:] = -0.9
    edited = inverted.clone()
    edited[..., 96:] = -0.3
    assert cut_face(paste_face(photo, TURNED, inverted, edited, EVERYWHERE), TURNED, SIZE)[..., 104:].min() > 0.85


def test_the_outline_of_a_face_holds_its_landmarks_and_its_forehead():
    angles = torch.linspace(0, torch.pi, 68)
    chin = torch.stack((120 + 30 * angles.cos(), 130 + 40 * angles.sin()), 1)
    chin[17:27] = torch.stack((torch.linspace(100, 140, 10), torch.full((10,), 130.0)), 1)
    photo = torch.zeros(1, 3, 260, 240)
    outline = paste.draw_face(Face(cut_face(photo, TURNED, SIZE), chin, TURNED), SIZE)
    white = draw_square(1.0)
    pasted = paste_face(photo, TURNED, white * 0, white, outline)[0, 0]
    assert pasted[130:165, 120].min() > 0.5 and pasted[115, 125] > 0.5, "chin and forehead"
    assert pasted[180:].abs().max() == 0 and pasted[:, :80].abs().max() == 0 and pasted[:, 170:].abs().max() == 0


def test_what_is_worn_may_lie_beyond_the_faces_outline():
    angles = torch.linspace(0, torch.pi, 68)
    chin = torch.stack((120 + 30 * angles.cos(), 130 + 40 * angles.sin()), 1)
    chin[17:27] = torch.stack((torch.linspace(100, 140, 10), torch.full((10,), 130.0)), 1)
    face = Face(cut_face(torch.zeros(1, 3, 260, 240), TURNED, SIZE), chin, TURNED)
    region = Region((0.5, 0.5, 0.45, 0.45))
    inside, worn = (
        edit.limit_face_edit(face, draw_square(0.0), draw_square(1.0), [each], None)[1]
        for each in (region, replace(region, covered=True))
    )
    assert torch.equal(worn, region.build_mask(SIZE, SIZE))
    assert (inside <= worn).all() and inside.sum() < worn.sum()
    band = replace(region, ellipse=(0.5, 0.3, 0.45, 0.1), covered=True)
    both = edit.limit_face_edit(face, draw_square(0.0), draw_square(1.0), [region, band], None)[1]
    assert torch.equal(both, torch.maximum(inside, band.build_mask(SIZE, SIZE))), "each has its own limit"


def test_a_limit_in_the_photographs_pixels_is_kept():
    photo, limit = draw_photo(), torch.zeros(1, 1, 260, 240)
    limit[:, :, 120:, 100:] = 1
    pasted = paste_face(photo, TURNED, draw_square(0.0), draw_square(0.5), EVERYWHERE, limit=limit)
    outside = (limit == 0).expand_as(photo)
    assert torch.equal(pasted[outside], photo[outside]) and not torch.equal(pasted, photo)


# Files. The toy draws patterns, so its faces are planted where the detector would find them.

FACES = {"left": TURNED - torch.tensor([40.0, 0.0]), "right": TURNED + torch.tensor([300.0, 20.0])}


def make_face(photo: torch.Tensor, quad: torch.Tensor, yaw: float = 0.0) -> Face:
    """A face that fills its square, turned to the side by ``yaw`` degrees."""
    landmarks, turn = quad.repeat(17, 1), torch.tensor(yaw).deg2rad()
    x, y, z = torch.tensor(list(alignment.POSE_POINTS.values())).T / 1000
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    places = (x * turn.cos() + z * turn.sin())[:, None] * across + y[:, None] * down
    landmarks[list(alignment.POSE_POINTS)] = quad.mean(0) + places
    return Face(cut_face(photo, quad, TOY.resolution), landmarks, quad)


def plant_judge(monkeypatch, embedder=lambda images: torch.zeros(len(images), 128)) -> None:
    """Make dlib's judge one that finds a face in every picture."""
    monkeypatch.setattr(edit, "load_judge", lambda name: IdentityJudge(name, embedder, read_strangers(name)))


@pytest.fixture
def planted(monkeypatch):
    """Two faces in every wide photograph, of which the right one is the larger; one in others."""
    middle = FACES["right"].mean(0)
    larger = (FACES["right"] - middle) * 1.1 + middle

    def align(photo, size):
        quads = (larger, FACES["left"]) if photo.shape[3] > 400 else (FACES["left"],)
        return [make_face(photo, quad) for quad in quads]

    monkeypatch.setattr(edit, "align", align)
    plant_judge(monkeypatch)


def make_edit(change: float = 1.5, **settings) -> PhotoEdit:
    config = InversionConfig(method="optimize", options=OptimizationConfig(steps=3))
    tools = Tools(TOY, "float32", disentangled(), NamedTool("planted", "f" * 64))
    return PhotoEdit(tools, (EditStep(shift={"Red": change}),), config, **settings)


def save_photo(path: Path, **options) -> Path:
    Image.fromarray(to_bytes(draw_photo(300, 520))[0].numpy()).save(path, **options)
    return path


def test_faces_are_numbered_from_left_to_right(planted):
    photo = draw_photo(300, 520)

    def list_changed(**settings):
        edited, note = make_edit(**settings).edit_picture(photo)
        changed = (edited != photo).any(1)[0]
        return bool(changed[:, :260].any()), bool(changed[:, 260:].any()), note

    near = ", rebuilt at 0.00 (0.0%) by dlib"
    assert list_changed() == (False, True, f"face 2 of 2 (the largest; --face N takes another){near}")
    assert list_changed(face=1) == (True, False, f"face 1 of 2{near}")
    assert list_changed(face="all") == (True, True, f"face 1, 2 of 2{near}")
    with pytest.raises(GanvasError, match="no face 3: this photograph has 2"):
        list_changed(face=3)


def test_an_edit_of_nothing_gives_the_same_pixels(planted, tmp_path):
    path = save_photo(tmp_path / "a.png")
    make_edit(0.0, face="all").edit_file(path, tmp_path / "b.png")
    assert torch.equal(read_picture(tmp_path / "b.png"), read_picture(path))
    make_edit(1.0).edit_file(path, tmp_path / "b.png")
    assert not torch.equal(read_picture(tmp_path / "b.png"), read_picture(path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"], "no temporary file is left"


def add_thumbnail(exif: bytes) -> bytes:
    """Link a second directory, which describes a thumbnail, after the last entry of the first; Pillow writes none."""
    tiff = bytearray(exif.removeprefix(b"Exif\0\0"))
    link = 10 + 12 * int.from_bytes(tiff[8:10])
    tiff[link : link + 4] = len(tiff).to_bytes(4)
    return b"Exif\0\0" + bytes(tiff) + struct.pack(">HHHIHHI", 1, ExifTags.Base.Compression, 3, 1, 6, 0, 0)


def test_exif_is_kept_upright_and_without_its_thumbnail(planted, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Some Camera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 400
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 520
    path = save_photo(tmp_path / "a.jpg", exif=add_thumbnail(exif.tobytes()), quality=90)
    with Image.open(path) as picture:
        assert picture.getexif().get_ifd(ExifTags.IFD.IFD1)
    for name in ("b.png", "b.jpg"):
        line = make_edit().edit_file(path, tmp_path / name)
        assert ("JPEG of quality 95, 4:4:4" in line) == (name == "b.jpg")
        with Image.open(tmp_path / name) as picture:
            found = picture.getexif()
            assert picture.size == (300, 520) and dict(found)[ExifTags.Base.Make] == "Some Camera"
            assert ExifTags.Base.Orientation not in found and not found.get_ifd(ExifTags.IFD.IFD1)
            notes = found.get_ifd(ExifTags.IFD.Exif)
            assert notes[ExifTags.Base.ISOSpeedRatings] == 400 and ExifTags.Base.ExifImageWidth not in notes
    with Image.open(tmp_path / "b.jpg") as picture:
        assert picture.layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)], "no subsampling"


def test_a_recipe_that_is_too_long_for_a_jpeg_is_missed(planted, tmp_path, monkeypatch):
    path = save_photo(tmp_path / "a.png")
    assert "its recipe" not in make_edit().edit_file(path, tmp_path / "b.jpg")
    with pytest.raises(GanvasError, match="is an edited photograph"):
        load_recipe(tmp_path / "b.jpg")
    monkeypatch.setattr(recipe, "MAX_COMMENT_LENGTH", 100)
    line = make_edit().edit_file(path, tmp_path / "b.jpg")
    assert "; without its recipe, which is too long for a JPEG: write a PNG" in line
    with pytest.raises(GanvasError, match="carries no recipe: .* or it was too long for a JPEG"):
        load_recipe(tmp_path / "b.jpg")
    assert "its recipe" not in make_edit().edit_file(path, tmp_path / "b.png")


def test_a_budget_says_which_steps_repeat_each_face(planted, tmp_path):
    path, options = save_photo(tmp_path / "a.png"), OptimizationConfig(seconds=0.01)

    def edit_file(face) -> str:
        settings = InversionConfig(method="optimize", options=options)
        return replace(make_edit(face=face), settings=settings).edit_file(path, tmp_path / "b.png")

    assert re.search(r"; --steps \d+ gives the same$", edit_file(1))
    pattern = r"; face 1: --steps \d+, face 2: --steps \d+ give the same$"
    assert re.search(pattern, edit_file("all"))
    assert edit._format_steps([edit.RebuiltFace(1, torch.zeros(1, 1, 1))]) == ""


def test_a_tiff_hands_on_no_tags_of_its_layout(tmp_path):
    path = save_photo(tmp_path / "a.tif", compression="tiff_lzw")
    assert read_exif(path) == b"" and read_exif(save_photo(tmp_path / "a.png")) == b""


def test_a_folder_goes_on_past_bad_files(planted, tmp_path):
    folder, errors = tmp_path / "photos", []
    folder.mkdir()
    paths = [save_photo(folder / "a.png"), save_photo(folder / "b.jpg"), folder / "bad.png"]
    paths[2].write_bytes(b"nothing")
    lines = make_edit().edit_files(paths, tmp_path / "out", errors.append)
    assert [line.split(":")[0] for line in lines] == [str(tmp_path / "out" / name) for name in ("a.png", "b.jpg")]
    assert len(errors) == 1 and "bad.png" in errors[0]
    assert len(make_edit().edit_files(paths, folder, errors.append)) == 0 and "would be overwritten" in errors[1]


def test_faces_that_cant_be_edited_are_named(planted, monkeypatch):
    photo = draw_photo(300, 520)
    embed = iter([torch.zeros(1, 128), torch.ones(1, 128)] * 2)
    plant_judge(monkeypatch, lambda images: next(embed))
    with pytest.raises(GanvasError, match="face 2 of 2: This face could not be rebuilt: something may cover it"):
        make_edit().edit_picture(photo)
    monkeypatch.setattr(edit, "align", lambda photo, size: [make_face(photo, TURNED, yaw=47)])
    with pytest.raises(GanvasError, match="This face is turned 47° to the side: at most 40°"):
        make_edit().edit_picture(photo)
    monkeypatch.setattr(edit, "align", lambda photo, size: [make_face(photo, TURNED / 4)])
    with pytest.raises(GanvasError, match="This face has 35 pixels: at least 64 are needed"):
        make_edit().edit_picture(photo)


def test_a_mask_has_the_photographs_size(planted, tmp_path):
    Image.new("L", (20, 30), 255).save(tmp_path / "mask.png")
    with pytest.raises(GanvasError, match="20×30 pixels, but the photograph 520×300"):
        make_edit(region=tmp_path / "mask.png").edit_picture(draw_photo(300, 520))
    Image.new("L", (520, 300), 255).save(tmp_path / "mask.png")
    assert make_edit(region=tmp_path / "mask.png").edit_picture(draw_photo(300, 520))[1].startswith("face 2")


def test_the_command_refuses_what_it_cant_do(tmp_path, capsys):
    path = save_photo(tmp_path / "a.png")

    def fail(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["edit-photo", str(path), *map(str, arguments)])
        assert stopped.value.code == 1
        return capsys.readouterr().err

    assert "doesn't draw faces" in fail("--generator", "toy", "--out", tmp_path / "b.png")
    assert "is an input and would be overwritten" in fail("--out", path)
    assert "must end with .png or .jpg" in fail("--out", tmp_path / "b.webp")
    assert "--face takes a number" in fail("--face", "left", "--out", tmp_path / "b.png")
    for text in ("soon", "0", "0.0s", "-3"):
        assert f"--budget takes seconds, such as 15s, not '{text}'" in fail(
            f"--budget={text}", "--out", tmp_path / "b.png"
        )
    assert "--budget replaces --steps: give one of them." in fail(
        *("--budget", "15s", "--steps", "30", "--out", tmp_path / "b.png")
    )
    assert parse_seconds("1.5s") == parse_seconds("1.5") == 1.5 and parse_seconds(None) == 0
    with pytest.raises(GanvasError, match="is an input"):
        ganvas.edit_photo(path, path)


def test_a_face_in_a_photograph_smiles(ffhq, tmp_path):
    """A drawn face, shrunk and turned into a larger picture: found, edited there, and nowhere else."""
    pytest.importorskip("dlib")
    with torch.no_grad():
        face = ffhq.synthesis(ganvas.sample(ffhq, 1, psi=0.5, seed=3))
    photo = paste_face(
        draw_photo(700, 900),
        quad := torch.tensor([[300.0, 120.0], [260.0, 520.0], [660.0, 560.0], [700.0, 160.0]]),
        torch.zeros_like(face),
        face,
        torch.ones(1, 1, *face.shape[2:]),
        whole=True,
    )
    ganvas.save_image(photo, tmp_path / "a.png")
    ganvas.edit_photo(tmp_path / "a.png", tmp_path / "b.png", shift={"Smiling": 1.5}, method="encoder")
    before, after = read_picture(tmp_path / "a.png"), read_picture(tmp_path / "b.png")
    changed = (before != after).any(1)[0].nonzero().float().flip(1)
    found = alignment.align(before, 64)[0].quad
    assert (found - quad).abs().max() < 40
    middle = found.mean(0) + 0.07 * (found[1] - found[0])  # of the face's region
    assert len(changed) > 1000 and (changed - middle).norm(dim=1).max() < 0.42 * (found[3] - found[0]).norm()
    assert (after - before).abs().max() > 0.3
