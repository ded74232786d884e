"""Inversion: laws of alignment, of codes found, of what is put back, and of bad photographs, on the toy and small pictures."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fitted_editors import labels
from PIL import Image

import ganvas
from ganvas import editors, inversion
from ganvas.cli import main
from ganvas.data.codes import load_codes
from ganvas.errors import GanvasError
from ganvas.inversion import OptimizationConfig, alignment, imported_codes, quality
from ganvas.inversion.encoder import make_encoder
from ganvas.inversion.optimization import WhitenedCoordinates, optimize_code, refine_code
from ganvas.inversion.perceptual_loss import PerceptualLoss
from ganvas.inversion.pipeline import make_loss
from ganvas.io.images import encode_png, from_bytes, read_png_texts, to_bytes
from ganvas.photo import batch
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import EditStep, FromCodes, FromSeed, Recipe
from ganvas.recipe.rendering import Photo, load_tools, render


@pytest.fixture(scope="module")
def toy():
    return ganvas.load_generator("toy")


@pytest.fixture(scope="module")
def known(toy):
    return inversion.fit_w_distribution(toy)


def targets(toy, n=2):
    ws = ganvas.sample(toy, n, psi=1, seed=11)
    with torch.no_grad():
        return ws, toy.synthesis(ws)


# Codes.


@pytest.mark.parametrize("space", inversion.SPACES)
def test_the_code_of_a_generators_own_picture_is_found(toy, known, space):
    ws, pictures = targets(toy, 1)
    found = inversion.invert(
        pictures,
        toy,
        space,
        "optimize",
        OptimizationConfig(steps=200, patience=200, learning_rate=0.15, prior=0.001, offset=0.02),
        distribution=known,
    )
    away = (toy.compute_coordinates(found.ws) - toy.compute_coordinates(ws)).abs().max()
    assert away < 0.25, "in standard deviations of each attribute"
    told = inversion.measure_inversion(found.ws, found.pictures, pictures, toy, known)[0]
    assert told.psnr > 45 and told.ssim > 0.98 and told.mahalanobis < told.bound
    if space == "w":
        assert torch.equal(found.ws, found.ws[:, :1].expand_as(found.ws))


def test_pictures_are_inverted_one_by_one(toy, known):
    _, pictures = targets(toy, 2)
    options = OptimizationConfig(steps=5)
    both = inversion.invert(pictures, toy, "w+", "optimize", options, distribution=known)
    alone = inversion.invert(pictures[1:], toy, "w+", "optimize", options, distribution=known)
    again = inversion.invert(pictures, toy, "w+", "optimize", options, distribution=known)
    assert torch.equal(both.ws[1:], alone.ws) and torch.equal(both.ws, again.ws)


def test_a_search_that_gains_nothing_stops_early(toy, known):
    _, pictures = targets(toy, 1)
    heard = []
    found = inversion.invert(
        pictures,
        toy,
        "w",
        "optimize",
        OptimizationConfig(steps=400, patience=10, tolerance=0.9),
        distribution=known,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert found.steps[0] < 50
    assert heard[-1] == (400, 400) and heard == sorted(heard)


def test_an_inversion_shows_its_picture_and_stops_when_told(toy, known):
    _, pictures = targets(toy, 1)
    heard = []

    def stop(step, steps, picture, ws):
        assert ws.shape == (1, toy.num_ws, toy.w_dim)
        heard.append((step, steps, picture.shape))
        return step == 4

    options = OptimizationConfig(steps=9)
    found = inversion.invert(pictures, toy, "w", "optimize", options, distribution=known, on_step=stop)
    assert found.steps == (4,) and heard == [(step, 9, pictures.shape) for step in (1, 2, 3, 4)]


def test_a_budget_of_time_says_how_many_steps_repeat_it(toy, known):
    _, pictures = targets(toy, 1)
    options = OptimizationConfig(seconds=0.3, patience=5000)
    heard = []
    progress = lambda done, total: heard.append((done, total))  # noqa: E731
    found = inversion.invert(pictures, toy, "w+", "optimize", options, distribution=known, progress=progress)
    assert found.steps == found.planned_steps and found.steps[0] >= 4
    assert heard == sorted(heard) and all(done <= total for done, total in heard), "of the steps that were planned"
    again = OptimizationConfig(steps=found.planned_steps[0], patience=5000)
    assert torch.equal(inversion.invert(pictures, toy, "w+", "optimize", again, distribution=known).ws, found.ws)


def test_rows_stay_within_the_bound_of_w(toy, known):
    """A picture that no code draws would pull them out of it."""
    pictures = 1 - 2 * torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(0)).round()
    options = OptimizationConfig(steps=60, patience=60, learning_rate=1.0, prior=0, offset=0)
    for space in inversion.SPACES:
        ws = inversion.invert(pictures, toy, space, "optimize", options, distribution=known).ws
        assert float(known.mahalanobis(ws)[0]) <= known.bound * 1.001


def test_a_start_beyond_the_bound_of_w_is_moved_into_it(toy, known):
    """An encoder may give one, and the first code may be the best."""
    coordinates = WhitenedCoordinates.from_distribution(known, toy.device)
    far = torch.zeros(toy.num_ws, coordinates.whitening.shape[1])
    far[:, 0] = 3 * known.bound
    far[0, 1] = known.bound
    loss, options = PerceptualLoss(targets(toy, 1)[1]), OptimizationConfig(steps=1)
    for space in inversion.SPACES:
        ws, _, _ = optimize_code(loss, toy, coordinates.unwhiten(far)[None], space, coordinates, options)
        assert float(known.mahalanobis(ws)[0]) <= known.bound * 1.001


def test_only_generators_of_faces_are_compared_by_identity(toy, monkeypatch):
    """One from a file may draw churches."""
    target = torch.zeros(1, 3, 16, 16)
    monkeypatch.setattr(toy, "name", "a file's")
    assert make_loss(target, toy, None, OptimizationConfig()).weights[3] == 0
    monkeypatch.setattr(toy, "name", "ffhq")
    assert make_loss(target, toy, None, OptimizationConfig()).weights[3] == 1


def test_offsets_that_cost_more_stay_nearer_to_w(toy, known):
    _, pictures = targets(toy, 1)
    noisy = (pictures + 0.1 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)

    def spread(offset):
        options = OptimizationConfig(steps=60, patience=60, offset=offset)
        ws = inversion.invert(noisy, toy, "w+", "optimize", options, distribution=known).ws
        return float((ws - ws.mean(1, keepdim=True)).norm())

    assert spread(5.0) < spread(0.001)


def test_coordinates_are_undone(toy, known):
    ws, _ = targets(toy, 3)
    coordinates = WhitenedCoordinates.from_distribution(known, toy.device)
    assert torch.allclose(coordinates.unwhiten(coordinates.whiten(ws)), ws, atol=1e-4)
    assert torch.allclose(coordinates.whiten(ws).norm(dim=-1).amax(1), known.mahalanobis(ws), rtol=1e-4)


def test_refining_removes_an_encoders_constant_error(toy):
    ws, pictures = targets(toy, 1)
    lying = 0.3 * toy.planted["Bright"]

    def encode(picture):
        # It sees the right code, and is always as far off.
        distance = (picture - pictures).flatten(1).norm()
        return ws + lying + 0.1 * distance

    first, _ = refine_code(pictures, toy, encode, ws + lying, 0)
    better, picture = refine_code(pictures, toy, encode, ws + lying, 3)
    assert torch.equal(picture, toy.synthesis(better))
    assert (encode(picture) - encode(pictures)).norm() <= (encode(toy.synthesis(first)) - encode(pictures)).norm()


def test_an_encoder_is_itself_after_saving(toy, tmp_path):
    torch.manual_seed(0)
    encoder = make_encoder(toy)
    for parameter in encoder.network.parameters():
        parameter.data = parameter.data.half().float()
    inversion.save_encoder(encoder, tmp_path / "e.safetensors")
    again = inversion.read_encoder(tmp_path / "e.safetensors", toy)
    _, pictures = targets(toy, 1)
    assert torch.equal(encoder(pictures), again(pictures))
    assert torch.equal(again(pictures, "w"), again(pictures, "w")[:, :1].expand_as(again(pictures)))
    found = inversion.invert(pictures, toy, "w", "encoder", encoder=again)
    assert found.ws.shape == (1, toy.num_ws, toy.w_dim) and found.steps == (0,)
    toy_like = ganvas.load_generator("toy")
    toy_like.fingerprint = "0" * 64
    with pytest.raises(GanvasError, match="is for generator 'toy'"):
        inversion.read_encoder(tmp_path / "e.safetensors", toy_like)
    with pytest.raises(GanvasError, match="No encoder ships"):
        inversion.invert(pictures, toy, "w", "encoder")


@pytest.mark.parametrize(
    ("space", "method", "said"), [("z", "both", "Unknown space"), ("w", "guess", "Unknown method")]
)
def test_unknown_ways_are_refused(toy, space, method, said):
    with pytest.raises(GanvasError, match=said):
        inversion.invert(targets(toy, 1)[1], toy, space, method)


def test_measures_of_equal_pictures_are_perfect(toy, known):
    ws, pictures = targets(toy, 2)
    told = inversion.measure_inversion(ws, pictures, pictures, toy, known)
    assert all(m.psnr == 100 and m.ssim == pytest.approx(1) for m in told)
    assert quality.psnr(pictures, -pictures)[0] < 20
    assert quality.ssim(pictures, pictures.flip(2))[0] < 0.9
    with pytest.raises(GanvasError, match="the same number of each"):
        inversion.measure_inversion(ws, pictures[:1], pictures, toy, known)


# What is put back.


def test_without_an_edit_the_photograph_comes_back_bit_for_bit(toy):
    _, pictures = targets(toy, 2)
    photo = torch.rand(pictures.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert torch.equal(inversion.add_residual(pictures, pictures, photo), photo)
    assert torch.equal(inversion.add_residual(pictures, photo, photo, amount=0), pictures)


def test_where_the_edit_moved_much_nothing_is_put_back():
    inverted, photo = torch.zeros(1, 3, 64, 64), torch.full((1, 3, 64, 64), 0.2)
    edited = inverted.clone()
    edited[..., :32] = 1.0
    shown = inversion.add_residual(edited, inverted, photo)
    assert torch.allclose(shown[..., :28], edited[..., :28], atol=1e-3)
    assert torch.allclose(shown[..., 40:], photo[..., 40:], atol=1e-3)
    with pytest.raises(GanvasError, match="one shape"):
        inversion.add_residual(edited, inverted, photo[:, :, :32])


def test_a_recipe_with_its_photograph_is_drawn_again(toy, known, tmp_path):
    _, pictures = targets(toy, 1)
    (tmp_path / "a.png").write_bytes(encode_png(to_bytes((pictures + 0.05).clamp(-1, 1))[0]))
    tools = load_tools("toy")
    settings = batch.InversionConfig("w", "optimize", OptimizationConfig(steps=5), aligned=True)
    batch.PhotoBatch(tools, tmp_path / "out", settings).run([tmp_path / "a.png"], pytest.fail)
    codes = load_codes(tmp_path / "out" / "a.safetensors", tools.generator)
    photo = Photo.from_picture(inversion.read_photo(tmp_path / "out" / "a-photo.png"), tools.generator)
    recipe = Recipe(tools.generator_name, FromCodes(codes.sha256, 0), photo=photo.sha256)
    full = replace(tools, codes=codes, photo=photo)
    assert torch.equal(to_bytes(render(recipe, full)), to_bytes(photo.picture)), "no edit is the photograph itself"
    with pytest.raises(GanvasError, match="--photo FILE"):
        render(recipe, tools.with_codes(codes))
    with pytest.raises(GanvasError, match="aligned photograph"):
        render(recipe, replace(full, photo=Photo.from_picture(pictures.flip(3), tools.generator)))
    with pytest.raises(GanvasError, match="must start from codes"):
        Recipe(tools.generator_name, FromSeed(1), photo=photo.sha256)


# Foreign codes.


def test_rows_are_mapped_by_resolution(toy, known, tmp_path):
    rows = imported_codes.list_row_resolutions(18)
    assert len(rows) == 18 and rows[:3] == (4, 8, 8) and rows[-3:] == (1024,) * 3
    ws = torch.arange(18.0)[None, :, None].expand(1, 18, 2)
    assert torch.equal(imported_codes.map_rows(ws, rows, rows), ws), "a generator's own rows stay"
    assert imported_codes.map_rows(ws, rows, (4, 8, 8, 8, 512))[0, :, 0].tolist() == [0, 1, 1, 2, 13]
    np.save(tmp_path / "w.npy", np.random.RandomState(0).randn(3, 8, toy.w_dim).astype(np.float32))
    loaded = inversion.load_imported_codes(tmp_path / "w.npy", toy)
    assert loaded.shape == (3, toy.num_ws, toy.w_dim)
    near = inversion.shrink_to_w(loaded, toy, spread=0, reach=2.0, distribution=known)
    assert torch.equal(near, near[:, :1].expand_as(near)) and (known.mahalanobis(near) < 2.01).all()
    assert torch.allclose(inversion.shrink_to_w(loaded, toy, 1, 1e9, known), loaded, atol=1e-4), "all is kept"
    with pytest.raises(GanvasError, match="0 to 1"):
        inversion.shrink_to_w(loaded, toy, 2.0)


@pytest.mark.parametrize(
    "value", [np.zeros((2, 18, 3)), np.zeros((2, 7, 64)), np.full((1, 8, 64), np.nan), np.array([{}])]
)
def test_foreign_codes_of_other_kinds_are_refused(toy, tmp_path, value):
    np.save(tmp_path / "w.npy", value, allow_pickle=True)
    with pytest.raises(GanvasError):
        inversion.load_imported_codes(tmp_path / "w.npy", toy)


# Photographs.


def photograph(size=(40, 30)):
    """One with a different colour in each corner."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = 250, 10, 10
    pixels[size[1] // 2 :, size[0] // 2 :] = 10, 10, 250
    return Image.fromarray(pixels)


def saved(picture, path, **how):
    picture.save(path, **how)
    return path


def test_photographs_of_all_kinds_are_read_alike(tmp_path):
    picture = photograph()
    plain = inversion.read_photo(saved(picture, tmp_path / "a.png"))
    assert plain.shape == (1, 3, 30, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = saved(picture.transpose(Image.Transpose.ROTATE_90), tmp_path / "t.png", exif=exif)
    kinds = [
        turned,
        saved(picture.convert("CMYK"), tmp_path / "c.tif"),
        saved(picture.convert("RGBA"), tmp_path / "r.webp", lossless=True),
        saved(picture.quantize(8), tmp_path / "p.gif"),
        saved(picture, tmp_path / "b.bmp"),
    ]
    for path in kinds:
        assert (inversion.read_photo(path) - plain).abs().max() < 0.05, path.name


def test_grey_and_sixteen_bits_keep_their_brightness(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, 32).astype(np.uint16), (20, 1))
    deep = inversion.read_photo(saved(Image.fromarray(ramp), tmp_path / "d.png"))
    grey = inversion.read_photo(saved(Image.fromarray((ramp // 257).astype(np.uint8)), tmp_path / "g.png"))
    assert (deep - grey).abs().max() < 0.02
    assert torch.equal(deep[:, 0], deep[:, 2])


def test_what_is_transparent_is_white(tmp_path):
    picture = photograph().convert("RGBA")
    picture.putalpha(0)
    assert inversion.read_photo(saved(picture, tmp_path / "a.png")).min() == 1


def bad(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    picture, cut = photograph((200, 200)), io.BytesIO()
    picture.save(cut, "PNG")
    files = {
        "empty.jpg": b"",
        "text.png": b"hello",
        "cut.png": cut.getvalue()[:300],
        "jpeg.jpg": b"\xff\xd8\xff\xe0" + b"\0" * 50,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    saved(picture, tmp_path / "moves.gif", save_all=True, append_images=[picture.rotate(90)])
    saved(Image.fromarray(np.zeros((9, 9), np.float32)), tmp_path / "float.tif")
    said = dict.fromkeys(files, "isn't a whole picture") | {
        "moves.gif": "holds several pictures",
        "float.tif": "floating-point",
    }
    return {name: (tmp_path / name, text) for name, text in said.items()}


def test_bad_photographs_are_refused_in_one_line(tmp_path):
    for path, said in bad(tmp_path).values():
        with pytest.raises(GanvasError, match=said) as caught:
            inversion.read_photo(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    large = saved(photograph(), tmp_path / "large.png")
    with pytest.raises(GanvasError, match="40×30 pixels: 1,000 at most"):
        inversion.read_photo(large, max_pixels=1000)
    with pytest.raises(GanvasError, match="limit on pixels"):
        inversion.read_photo(large, max_pixels=0)
    with pytest.raises(GanvasError, match="There is no file"):
        inversion.read_photo(tmp_path / "none.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(GanvasError, match="No pictures"):
        inversion.find_pictures([tmp_path / "folder"])


# Faces.


def a_face(turn=0.0, scale=1.0):
    """68 landmarks of a face: eyes at (-30, 0) and (30, 0), a mouth at 60 below; turned, scaled and moved."""
    points = torch.zeros(68, 2)
    points[36:42], points[42:48] = torch.tensor([-30.0, 0.0]), torch.tensor([30.0, 0.0])
    points[48:60] = torch.tensor([0.0, 60.0])
    points[48], points[54] = torch.tensor([-20.0, 60.0]), torch.tensor([20.0, 60.0])
    turn = torch.tensor(turn)
    matrix = torch.stack((torch.stack((turn.cos(), -turn.sin())), torch.stack((turn.sin(), turn.cos()))))
    return scale * points @ matrix.T + torch.tensor([200.0, 180.0])


def test_the_square_turns_and_grows_with_the_face():
    square = alignment.find_square(a_face()) - torch.tensor([200.0, 180.0])
    # FFHQ's numbers: half a side is the larger of 2 eye distances and 1.8 mouth distances, a tenth of the way down.
    half, middle = 120.0, torch.tensor([0.0, 6.0])
    corners = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    assert torch.allclose(square, half * corners + middle, atol=1e-3)
    turned = alignment.find_square(a_face(0.4, 1.5)) - torch.tensor([200.0, 180.0])
    matrix = torch.tensor([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]], dtype=torch.float32)
    assert torch.allclose(turned, 1.5 * square @ matrix.T, atol=1e-2)


def smooth(x, y):
    """A photograph as a formula of places, (1, 3, …)."""
    return torch.stack((torch.sin(x / 31), torch.cos(y / 27), torch.sin((x + y) / 43)))[None]


@pytest.mark.parametrize(("turn", "scale"), [(0.5, 1.0), (-0.2, 1.7), (0.0, 0.6)])
def test_a_turned_and_scaled_photograph_is_cut_alike(turn, scale):
    y, x = torch.meshgrid(torch.arange(600.0), torch.arange(600.0), indexing="ij")
    quad = alignment.find_square(a_face()) + torch.tensor([100.0, 120.0])
    straight = alignment.cut_face(smooth(x, y), quad, 64)
    # The same scene as a camera sees it that is turned and nearer: place p shows what was at M⁻¹(p - middle) + middle.
    cos, sin = np.cos(turn) / scale, np.sin(turn) / scale
    u, v = x - 300, y - 300
    seen = smooth(cos * u + sin * v + 300, -sin * u + cos * v + 300)
    matrix = scale * torch.tensor([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], dtype=torch.float32)
    moved = (quad - 300) @ matrix.T + 300
    if moved.min() < 0 or moved.max() > 599:
        pytest.fail("the test's own square leaves its photograph")
    assert (alignment.cut_face(seen, moved, 64) - straight).abs().max() < 0.03


def test_beyond_the_photograph_it_is_reflected():
    y, x = torch.meshgrid(torch.arange(100.0), torch.arange(100.0), indexing="ij")
    photo = smooth(x, y)
    quad = torch.tensor([[-30.0, -30.0], [-30.0, 90.0], [90.0, 90.0], [90.0, -30.0]])
    found = alignment.cut_face(photo, quad, 60)
    assert torch.isfinite(found).all() and found.abs().max() <= 1
    inside = alignment.cut_face(photo, torch.tensor([[20.0, 20.0], [20.0, 80.0], [80.0, 80.0], [80.0, 20.0]]), 30)
    assert (found[:, :, 25:54, 25:54] - inside[:, :, :29, :29]).abs().max() < 0.06, "what was there stays"
    assert alignment._reflect_indices(-3, 7, 4).tolist() == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]


def test_no_face_is_one_line(tmp_path):
    pytest.importorskip("dlib")
    with pytest.raises(GanvasError, match="No face was found in this photograph of 40×30"):
        inversion.align(inversion.read_photo(saved(photograph(), tmp_path / "a.png")))
    with pytest.raises(GanvasError, match="side of an aligned face"):
        inversion.align(torch.zeros(1, 3, 8, 8), size=0)


# Commands.


def run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    return stopped.value.code


@pytest.fixture
def folder(toy, tmp_path):
    """Two pictures of the toy, one of them with a camera's notes, and what isn't a picture."""
    _, pictures = targets(toy, 2)
    place = tmp_path / "photos"
    place.mkdir()
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    for name, picture in zip("ab", to_bytes(pictures), strict=True):
        Image.fromarray(picture.numpy()).save(place / f"{name}.png", exif=exif, pnginfo=None)
    (place / "notes.txt").write_text("hello")
    (place / "broken.jpg").write_bytes(b"\xff\xd8nothing")
    saved(photograph(), place / "wide.png")
    return place


def test_a_folder_is_inverted_and_edited_by_one_recipe(folder, tmp_path, capsys, learned_editor):
    out = tmp_path / "out"
    command = ["invert", folder, "--generator", "toy", "--aligned", "--method", "optimize", "--steps", 20, "--out", out]
    command += ["--dtype", "float32", "--editor", learned_editor, "--shift", "Bright=1"]
    assert run(*command) == 1
    said = capsys.readouterr()
    # A slow machine also shows lines of progress.
    errors = [line for line in said.err.splitlines() if line.startswith("Error")]
    assert "2 pictures in" in said.out and len(errors) == 2
    assert "broken.jpg isn't a whole picture" in said.err and "wide.png has 40×30 pixels" in said.err
    recipe, carried = load_recipe(out / "a-edited.png")
    assert recipe.edits == (EditStep(shift={"Bright": 1.0}),) and recipe.photo and carried
    for written in out.glob("*.png"):
        assert "secret" not in str(read_png_texts(written)) and b"secret" not in written.read_bytes()
    # A run that was stopped goes on: what is there is taken up.
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert run(*command) == 1
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert len(json.loads((out / "inversions.json").read_text())["faces"]) == 2
    # The picture is drawn again from its codes and its photograph, and from nothing less.
    again = ["render", out / "a-edited.png", "--editor", learned_editor, "--out", tmp_path / "again.png"]
    assert run(*again, "--photo", out / "a-photo.png") == 0
    assert np.array_equal(np.array(Image.open(tmp_path / "again.png")), np.array(Image.open(out / "a-edited.png")))
    assert run(*again) == 1
    assert "--photo FILE" in capsys.readouterr().err


def test_codes_of_others_are_imported(toy, tmp_path, capsys):
    np.save(tmp_path / "w.npy", np.random.RandomState(0).randn(2, 8, toy.w_dim).astype(np.float32))
    assert run("import-codes", tmp_path / "w.npy", "--generator", "toy", "--out", tmp_path / "c.safetensors") == 0
    assert len(load_codes(tmp_path / "c.safetensors", toy).ws) == 2
    (tmp_path / "bad.npy").write_bytes(b"no")
    assert run("import-codes", tmp_path / "bad.npy", "--generator", "toy", "--out", tmp_path / "d.safetensors") == 1
    assert capsys.readouterr().err == f"Error: {tmp_path / 'bad.npy'} isn't a whole .npy file of numbers.\n"


def test_an_inverted_code_is_edited_with_its_photograph(folder, tmp_path, learned_editor, capsys):
    out = tmp_path / "out"
    run(
        "invert", folder / "a.png", "--generator", "toy", "--aligned", "--steps", 20, "--out", out, "--dtype", "float32"
    )
    edit = [
        "edit",
        "toy",
        "--codes",
        out / "a.safetensors",
        "--photo",
        out / "a-photo.png",
        "--out",
        tmp_path / "e.png",
    ]
    assert run(*edit) == 0
    assert np.array_equal(np.array(Image.open(tmp_path / "e.png")), np.array(Image.open(out / "a-photo.png")))
    assert run(*edit, "--editor", learned_editor, "--shift", "Bright=1") == 0
    assert not np.array_equal(np.array(Image.open(tmp_path / "e.png")), np.array(Image.open(out / "a-photo.png")))
    given = (
        "toy",
        "--codes",
        out / "a.safetensors",
        "--photo",
        out / "a-photo.png",
        "--editor",
        learned_editor,
        "--size",
        32,
    )
    film = tmp_path / "film.webp"
    assert run("animate", *given, "--shift", "Bright=1", "--frames", 3, "--out", film) == 0
    drawn = film.read_bytes()
    assert (
        run("render", tmp_path / "film.json", "--photo", out / "a-photo.png", "--out", film) == 1
    )  # its editor is a file
    assert run("render", film.with_suffix(".json"), *given[3:7], "--out", film, *given[1:3]) == 0
    assert film.read_bytes() == drawn
    with Image.open(film) as frames:
        assert frames.n_frames == 4
        first = np.array(frames.convert("RGB")).astype(float)
    assert np.abs(first - np.array(Image.open(out / "a-photo.png"))).mean() < 8, "the photograph, but for WebP's loss"
    assert run("grid", *given, "--attributes", "Bright", "--strengths", "0,1", "--out", tmp_path / "grid.png") == 0
    recipe, _ = load_recipe(tmp_path / "grid.png")
    assert all(picture.photo for picture in recipe.pictures)
    capsys.readouterr()
    assert run("edit", "toy", "--photo", out / "a-photo.png", "--out", tmp_path / "f.png") == 1
    assert "--codes FILE" in capsys.readouterr().err


@pytest.fixture(scope="module")
def learned_editor(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("editors") / "editor.safetensors"
    editors.save(editors.fit("mean_difference", labels(), toy), path)
    return path


def test_pixels_and_bytes_agree():
    pixels = torch.randint(0, 256, (1, 5, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_bytes(from_bytes(pixels)), pixels)


@pytest.mark.slow
def test_an_encoder_learns_and_a_stopped_run_goes_on(toy, tmp_path):
    pytest.importorskip("dlib")
    from ganvas.data.label import label
    from ganvas.training import encoder as training

    label(toy, ganvas.load_scorer("toy"), 2 * training.HELD_OUT_FACES, out=tmp_path / "labels", keep_images=True)
    options = training.EncoderConfig(epochs=3, identity_weight=0, batch=32)
    said = []
    first = training.train_encoder(tmp_path / "labels", toy, tmp_path / "a.safetensors", options, said.append)
    losses = [float(line.rsplit(" ", 1)[1]) for line in said]
    assert losses[-1] < losses[0]
    ws, pictures = targets(toy, 32)
    errors = (toy.compute_coordinates(first(pictures)) - toy.compute_coordinates(ws)).square().mean()
    assert errors < 0.8 * toy.compute_coordinates(ws).square().mean(), "better than the mean code"

    class Stopped(Exception):
        pass

    def stop(line):
        raise Stopped

    with pytest.raises(Stopped):
        training.train_encoder(tmp_path / "labels", toy, tmp_path / "b.safetensors", options, stop)
    training.train_encoder(tmp_path / "labels", toy, tmp_path / "b.safetensors", options, said.append)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(GanvasError, match="keep-images"):
        training.read_label_pictures(tmp_path, 5, 256)


def test_a_generator_of_other_things_says_what_to_invert(tmp_path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert run("invert", tmp_path / "a.png", "--generator", "toy", "--out", tmp_path / "out") == 1
    assert "doesn't draw faces" in (line := capsys.readouterr().err) and "--aligned" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("yaw", "roll"), [(0, 0), (25, 0), (25, 30), (55, -10)])
def test_the_yaw_of_a_turned_head_is_found(yaw, roll):
    head = torch.tensor(list(alignment.POSE_POINTS.values())).double()
    turned, tilted = (torch.tensor(angle).deg2rad() for angle in (yaw, roll))
    x = head[:, 0] * turned.cos() + head[:, 2] * turned.sin()
    places = torch.stack(
        (x * tilted.cos() - head[:, 1] * tilted.sin(), x * tilted.sin() + head[:, 1] * tilted.cos()), 1
    )
    landmarks = torch.zeros(68, 2)
    landmarks[list(alignment.POSE_POINTS)] = (0.3 * places + 200).float()
    assert alignment.estimate_yaw(landmarks) == pytest.approx(yaw, abs=0.01)
