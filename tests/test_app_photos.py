"""Photographs in the web editor: faces that are chosen, edits in the whole picture, refinement, likeness and its lock."""

import asyncio
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")

import gradio as gr
from app_photos import HEIGHT, PLACES, WIDTH, find_planted_faces, make_face_photo, plant_landmarks, write_photo
from planted_truth import TOY
from test_app import FACE, background_queue, edit_handlers, editor, queue, resources  # noqa: F401
from test_paste import plant_judge

from ganvas.app import likeness, photo_handlers, photographs, rendering
from ganvas.app.photo_handlers import PhotoHandlers
from ganvas.app.scene_handlers import SceneHandlers
from ganvas.app.session import NothingFollows, Session
from ganvas.data.codes import load_codes, save_codes
from ganvas.errors import GanvasError
from ganvas.inversion.alignment import Face, cut_face, find_square
from ganvas.io.images import decode_jpeg, encode_jpeg, encode_png, from_bytes, read_picture, to_bytes
from ganvas.photo import edit as photo_edit
from ganvas.photo.edit import PhotoEdit
from ganvas.recipe.files import save_picture
from ganvas.recipe.model import EditStep, FromCodes, FromSeed, Recipe
from ganvas.recipe.rendering import EditMask, Photo, compute_code, draw_code

# ruff: noqa: F811

NUM_OTHERS = 24
"""The values of ``scene_outputs``."""


@pytest.fixture
def planted(monkeypatch):
    """Faces are where they were planted."""
    monkeypatch.setattr(photographs, "find_faces", find_planted_faces)


@pytest.fixture
def photo_scene(edit_handlers, resources):
    """A scene with a face in a photograph."""
    photo = make_face_photo(edit_handlers)
    ws = resources.render(FACE).ws
    return rendering.make_code_scene(resources, FACE, ws, edit_handlers.storage, photo)


# Photographs.


def test_faces_are_found_from_left_to_right_and_outlined(planted, tmp_path):
    found = photographs.find_face_photos(write_photo(tmp_path / "group.png"), TOY.resolution)
    assert [float(photo.face.landmarks[:, 0].mean()) < WIDTH / 2 for photo in found] == [True, False]
    for photo, place in zip(found, PLACES, strict=True):
        x, y, side, angle = photo.find_place()
        assert (x, y) == pytest.approx((place[0] / WIDTH, place[1] / HEIGHT), abs=0.1)
        assert side == pytest.approx(photo.shown_side / WIDTH)
        assert angle == pytest.approx(0, abs=1e-5)
    drawn = rendering.draw_faces(found)
    # Each in the photograph, and below it.
    assert [drawn.count(f"data-index='{i}'") for i in range(3)] == [2, 2, 0]


def test_the_photographs_to_try_have_one_face_each():
    samples = photographs.list_samples()
    assert samples[0][0].startswith("Grace Hopper")
    for _, path in samples:
        assert len(photographs.find_face_photos(path, TOY.resolution)) == 1
    assert rendering.draw_samples().count("<button") == len(samples)


def test_faces_that_are_too_small_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(photographs, "find_faces", lambda photo: [plant_landmarks(PLACES[0], 30.0)])
    with pytest.raises(GanvasError, match="30 pixels across: at least 64"):
        photographs.find_face_photos(write_photo(tmp_path / "small.png"), TOY.resolution)


def test_an_edit_is_shown_in_the_whole_photograph_and_nowhere_else(photo_scene, resources):
    photo = photo_scene.photo
    assert torch.equal(resources.render_shown(photo_scene), photo.shown)
    edited = resources.render_shown(photo_scene.with_value("Bright", 3.0))
    assert edited.shape == (1, 3, HEIGHT, WIDTH)
    changed = (edited != photo.shown).any(1)[0]
    assert changed[int(PLACES[0][1]), int(PLACES[0][0])]
    assert not changed[:, int(PLACES[1][0]) - 40 :].any()
    preview = decode_jpeg(rendering.render_preview(resources, photo_scene.with_value("Bright", 3.0), photo_scene))
    assert preview.shape == (HEIGHT, WIDTH, 3)
    difference = (from_bytes(preview[None]).mean((2, 3)) - edited.mean((2, 3))).abs().max()
    assert float(difference) < 2 * 3 / 255


def test_a_painted_place_limits_the_edit(photo_scene, resources):
    mask = EditMask.from_picture(torch.where(torch.arange(WIDTH) < PLACES[0][0], 1.0, -1.0).expand(1, 3, HEIGHT, WIDTH))
    scene = replace(photo_scene, region="painted", mask=mask, mask_sha256=mask.sha256).with_value("Bright", 3.0)
    changed = (resources.render_shown(scene) != photo_scene.photo.shown).any(1)[0]
    assert changed.any()
    assert not changed[:, int(PLACES[0][0]) + 2 :].any()


def test_the_download_is_what_the_command_makes(photo_scene, resources, monkeypatch, tmp_path):
    """The same photograph as by ``PhotoEdit``, which is what ``ganvas edit-photo`` runs, for the same code."""
    scene, photo = photo_scene.with_shift("Bright", 1.5), photo_scene.photo
    data = photo.encode_edited(*resources.draw_face_edit(scene))
    whole = read_picture(photo.path)
    face = Face(photo.face.picture, photo.face.landmarks, find_square(photo.face.landmarks))
    ws = resources.render(scene.unedited).ws
    found = SimpleNamespace(ws=ws, pictures=TOY.synthesis(ws), planned_steps=(0,))
    monkeypatch.setattr(photo_edit, "align", lambda photo, size: [face])
    monkeypatch.setattr(photo_edit, "invert", lambda *args, **options: found)
    plant_judge(monkeypatch)
    expected, _ = PhotoEdit(resources.make_tools(scene), scene.edits).edit_picture(whole)
    (tmp_path / "page.png").write_bytes(data)
    assert torch.equal(to_bytes(read_picture(tmp_path / "page.png")), to_bytes(expected))


def test_a_jpeg_keeps_its_kind_and_its_exif(edit_handlers, resources, tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F] = "A camera"
    pixels = to_bytes(read_picture(write_photo(tmp_path / "wall.png")))[0].contiguous()
    (tmp_path / "wall.jpg").write_bytes(encode_jpeg(pixels, exif.tobytes()))
    stored = edit_handlers.storage.save_photo(tmp_path / "wall.jpg")
    photo = photographs.load_face_photo(stored, plant_landmarks(PLACES[0]), TOY.resolution)
    ws = resources.render(FACE).ws
    scene = rendering.make_code_scene(resources, FACE, ws, edit_handlers.storage, photo).with_value("Bright", 2.0)
    (tmp_path / "edited.jpg").write_bytes(photo.encode_edited(*resources.draw_face_edit(scene)))
    with Image.open(tmp_path / "edited.jpg") as edited:
        assert edited.getexif()[0x010F] == "A camera"
        assert edited.size == (WIDTH, HEIGHT)


# Their handlers.


def upload(edit_handlers, session, name="group.png"):
    """Open a photograph; returns all that the page shows meanwhile."""
    path = write_photo(edit_handlers.folder / name)

    async def play():
        return [shown async for shown in PhotoHandlers(edit_handlers, NUM_OTHERS).open_photo(str(path), session)]

    return asyncio.run(play())


def choose(edit_handlers, session, number=1):
    """Click a face."""
    event = SimpleNamespace(index=number)

    async def play():
        return [shown async for shown in PhotoHandlers(edit_handlers, NUM_OTHERS).choose_face(session, event)]

    return asyncio.run(play())


def test_several_faces_are_never_chosen_unasked(planted, edit_handlers, resources):
    session = Session(FACE)
    *_, shown = upload(edit_handlers, session)
    assert session.screen == "chooser"
    assert session.scene == FACE
    assert "Face 2" in shown[3]
    *_, shown = choose(edit_handlers, session)
    assert session.screen == "picture"
    assert session.scene.photo is session.photos[1]
    assert "Getting closer" in shown[1]
    assert torch.equal(resources.render_shown(session.scene), session.scene.photo.shown)
    for number in (2, "0", None):
        with pytest.raises(gr.Error, match="isn't on the page any more"):
            choose(edit_handlers, session, number)


def test_a_stream_without_results_empties_nothing(edit_handlers):
    """Gradio empties the outputs of a generator that ends at once."""

    async def play():
        return [shown async for shown in PhotoHandlers(edit_handlers, NUM_OTHERS).refine_photo(Session(FACE))]

    assert asyncio.run(play()) == [gr.skip()]


def test_an_error_leaves_nothing_behind(planted, edit_handlers):
    path = edit_handlers.folder / "bad.png"
    path.write_bytes(b"nothing")
    shown = []

    async def play():
        async for each in PhotoHandlers(edit_handlers, NUM_OTHERS).open_photo(str(path), Session(FACE)):
            shown.append(each[1])

    with pytest.raises(gr.Error, match=r"bad\.png isn't a whole picture"):
        asyncio.run(play())
    assert "Looking for faces" in shown[0]
    assert shown[-1] == ""
    assert not list(edit_handlers.folder.rglob("*"))
    assert not list(edit_handlers.storage.folder.glob("photos/*"))


def refine(edit_handlers, session, until):
    """Refine the photograph's code; ``until`` is called with each progress. Returns the progress texts."""
    texts = []

    async def play():
        async for shown in PhotoHandlers(edit_handlers, NUM_OTHERS).refine_photo(session):
            if shown != gr.skip():
                texts.append(shown[1])
                until(texts)

    asyncio.run(play())
    return texts


@pytest.fixture
def slow_inversion(monkeypatch):
    """An inversion that finds the code of seed 9 at once, and never ends by itself; what ended it."""
    ended, better = [], TOY.expand(TOY.mapping(torch.full((1, TOY.z_dim), 0.3)))

    def invert(face, generator, on_step, **options):
        try:
            for i in range(1, 3000):
                threading.Event().wait(0.01)
                if on_step(min(i, 90), 100, face, better) is True:
                    ended.append("stopped")
                    return SimpleNamespace(ws=better)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    monkeypatch.setattr(photo_handlers, "invert", invert)
    return ended, better


def test_stopping_keeps_what_is_there_and_the_edits(planted, edit_handlers, resources, slow_inversion):
    session = Session(FACE)
    upload(edit_handlers, session)
    choose(edit_handlers, session)
    ended, better = slow_inversion
    first = session.scene
    session.set_scene(session.scene.with_value("Red", 1.0))
    asyncio.run(edit_handlers.show_scene(session, session.start_request()))

    def stop(texts):
        if "s left" in texts[-1]:
            session.inversion.stopped = True

    texts = refine(edit_handlers, session, stop)
    assert ended == ["stopped"]
    assert texts[-1] == ""
    assert session.scene.slider_edit.set == {"Red": 1.0}
    assert session.scene.start != first.start
    assert torch.allclose(resources.compute_start(session.scene), better)
    # Undoing the edit doesn't bring the worse code back.
    session.undo()
    assert session.scene.start != first.start


@pytest.mark.parametrize("last", [False, True])
def test_what_was_opened_meanwhile_stays(last, planted, edit_handlers, monkeypatch):
    """Another face is opened while the first picture of a photograph is made, or while the last one is drawn."""
    session = Session(FACE)
    upload(edit_handlers, session)
    if last:
        choose(edit_handlers, session)
    other = replace(FACE, start=FromSeed(99))
    draw = rendering.make_code_scene

    def open_other(*arguments):
        session.inversion.cancelled = not last
        session.set_scene(other)
        return draw(*arguments)

    monkeypatch.setattr(rendering, "make_code_scene", open_other)
    monkeypatch.setattr(
        photo_handlers, "invert", lambda face, generator, **options: SimpleNamespace(ws=TOY.expand(TOY.w_avg[None]))
    )
    if last:
        refine(edit_handlers, session, lambda texts: None)
    else:
        choose(edit_handlers, session)
    assert session.scene == other


@pytest.mark.parametrize("fails", ["load_encoder", "_load"])
def test_an_error_of_the_first_picture_ends_its_progress(fails, planted, edit_handlers, monkeypatch):
    session, shown = Session(FACE), []
    upload(edit_handlers, session)

    def fail(*_):
        raise GanvasError("It is full.")

    monkeypatch.setattr(photo_handlers if fails == "load_encoder" else PhotoHandlers, fails, fail)

    async def play():
        event = SimpleNamespace(index=1)
        async for each in PhotoHandlers(edit_handlers, NUM_OTHERS).choose_face(session, event):
            shown.append(each[1])

    with pytest.raises(gr.Error, match="It is full"):
        asyncio.run(play())
    assert "Finding a picture" in shown[0] and shown[-1] == ""


def test_an_inversion_ends_when_another_picture_is_opened(planted, edit_handlers, slow_inversion):
    session = Session(FACE)
    upload(edit_handlers, session)
    choose(edit_handlers, session)

    def leave(texts):
        session.set_scene(FACE)

    texts = refine(edit_handlers, session, leave)
    assert texts[-1] == ""
    assert session.scene == FACE
    assert session.inversion.cancelled


# Openings at once.


@pytest.fixture
def single_faces(planted, monkeypatch):
    """Photographs have one face; the search in the one called "first" ends once it is released."""
    started, release, find, read = threading.Event(), threading.Event(), photographs.find_face_photos, []

    def find_one(path, size):
        read.append(path)
        if len(read) == 1:
            started.set()
            assert release.wait(20)
            return find(path, size)[:1]
        return find(path, size)[1:]

    monkeypatch.setattr(photographs, "find_face_photos", find_one)
    return started, release, read


@pytest.mark.parametrize("fails", [False, True])
def test_the_photograph_opened_last_is_shown(fails, single_faces, edit_handlers, monkeypatch):
    started, release, read = single_faces
    session, handlers = Session(FACE), PhotoHandlers(edit_handlers, NUM_OTHERS)
    if fails:
        find = photographs.find_face_photos

        def fail_first(path, size):
            found = find(path, size)
            if path == read[0]:
                raise GanvasError("No face was found.")
            return found

        monkeypatch.setattr(photographs, "find_face_photos", fail_first)

    async def open_file(name):
        path = write_photo(edit_handlers.folder / name)
        return [shown async for shown in handlers.open_photo(str(path), session)]

    async def play():
        first = asyncio.ensure_future(open_file("first.png"))
        await asyncio.to_thread(started.wait, 20)
        await open_file("second.png")
        release.set()
        return await first

    earlier = asyncio.run(play())
    assert session.scene.photo.path == read[1]
    assert session.inversion.photo is session.scene.photo and not session.inversion.cancelled
    # The earlier one leaves the later one's progress alone, and no photograph.
    assert len(earlier) == 1 and "Looking for faces" in earlier[0][1]
    assert not read[0].exists() and read[1].exists()


def test_the_face_chosen_last_is_refined(planted, edit_handlers, monkeypatch):
    session, handlers, calls, load = Session(FACE), PhotoHandlers(edit_handlers, NUM_OTHERS), [], PhotoHandlers._load
    upload(edit_handlers, session)

    async def choose_face(number):
        return [shown async for shown in handlers.choose_face(session, SimpleNamespace(index=number))]

    async def play():
        release = asyncio.Event()

        async def wait_first(self, session):
            calls.append(1)
            if len(calls) == 1:
                await release.wait()
            return await load(self, session)

        monkeypatch.setattr(PhotoHandlers, "_load", wait_first)
        first = asyncio.ensure_future(choose_face(0))
        while not calls:
            await asyncio.sleep(0.01)
        await choose_face(1)
        release.set()
        await first

    asyncio.run(play())
    assert session.scene.photo is session.photos[1] is session.inversion.photo
    assert not session.inversion.cancelled


def test_an_inversion_is_refined_once_it_is_shown(planted, edit_handlers):
    """What follows an opening that was superseded leaves the newer one alone."""
    session = Session(FACE)
    upload(edit_handlers, session)
    session.inversion = photo_handlers.PhotoInversion(session.photos[0], TOY.expand(TOY.w_avg[None]))
    assert refine(edit_handlers, session, lambda texts: None) == []
    assert not session.inversion.cancelled


def test_a_slider_that_moves_while_a_picture_is_refined_ends_nothing(
    planted, edit_handlers, resources, slow_inversion, monkeypatch
):
    session, draw, moved = Session(FACE), rendering.render_full, []
    upload(edit_handlers, session)
    choose(edit_handlers, session)
    ended, better = slow_inversion
    monkeypatch.setattr(photo_handlers, "PICTURE_SECONDS", 0.0)
    monkeypatch.setattr(photo_handlers, "UPDATE_SECONDS", 0.05)

    def move_meanwhile(*arguments):
        if not moved:
            moved.append(1)
            session.set_scene(session.scene.with_value("Red", 1.0))
        return draw(*arguments)

    monkeypatch.setattr(rendering, "render_full", move_meanwhile)

    def stop(texts):
        if moved and "s left" in texts[-1]:
            session.inversion.stopped = True

    refine(edit_handlers, session, stop)
    assert moved and ended == ["stopped"]
    assert session.scene.slider_edit.set == {"Red": 1.0}
    assert torch.allclose(resources.compute_start(session.scene), better)


# Likeness.


def test_likeness_in_words():
    assert likeness.format_likeness(0.3) == "Same person, nearer than 99 % of strangers"
    assert likeness.format_likeness(0.5) == "Same person, nearer than 95 % of strangers"
    assert likeness.format_likeness(0.63) == "Somebody like that, nearer than 95 % of strangers"
    assert likeness.format_likeness(0.7) == "Somebody else, nearer than 75 % of strangers"
    assert likeness.format_likeness(0.9) == "Somebody else"
    assert likeness.format_likeness(None) == likeness.format_likeness(float("nan")) == ""


def test_the_lock_finds_the_strength_that_keeps_the_person():
    assert likeness.limit_share(lambda share: 0.2) == 1.0
    assert likeness.limit_share(lambda share: None) == 1.0
    share = likeness.limit_share(lambda share: share)
    assert likeness.KEPT_DISTANCE - 1 / 2**likeness.LOCK_STEPS <= share <= likeness.KEPT_DISTANCE


def test_a_locked_edit_is_weakened_and_the_words_say_how_alike(edit_handlers, resources, monkeypatch):
    """The planted embedding is the picture's brightness."""

    def embed(images):
        return torch.cat((images.mean((1, 2, 3))[:, None].float(), torch.zeros(len(images), 127)), 1)

    monkeypatch.setattr(resources, "embed_face", embed)
    session = Session(FACE)
    session.set_scene(FACE.with_value("Bright", 4.0))

    async def play():
        await edit_handlers.show_scene(session, session.start_request())
        free = await edit_handlers.add_likeness(session)
        with pytest.raises(NothingFollows):
            await edit_handlers.show_weakened(session)
        locked = await edit_handlers.lock_person(True, session)
        return free, locked

    free, locked = asyncio.run(play())
    meter = likeness.LikenessMeter(resources, session.scene, lambda work: work())
    start = dict(zip(resources.choices["mean.safetensors"].editor.attributes, [0.0] * 5, strict=True))
    assert start
    distance = meter.measure_distance(FACE.with_value("Bright", 4.0))
    assert likeness.draw_likeness(likeness.format_likeness(distance)) == free
    if distance > likeness.KEPT_DISTANCE:
        assert session.scene.slider_edit.set["Bright"] < 4.0
        assert "Same person" in locked
        assert json.loads(asyncio.run(edit_handlers.show_weakened(session))[9]["groups"])
    # Nothing new to say, and to show, until something moves.
    for handler in (edit_handlers.add_likeness, edit_handlers.show_weakened):
        with pytest.raises(NothingFollows):
            asyncio.run(handler(session))


def test_crops_of_a_photograph_are_compared(photo_scene, resources):
    meter = likeness.LikenessMeter(resources, photo_scene, lambda work: work())
    face = meter._draw_face(photo_scene)
    small = photo_scene.photo.small
    assert torch.equal(face, cut_face(small.shown, small.shown_quad, face.shape[-1]))
    assert Photo.from_picture(face, TOY).picture.shape[-1] == TOY.resolution


# Pictures of `ganvas invert`.


@pytest.fixture
def opened_inversion(planted, edit_handlers, resources, tmp_path, monkeypatch):
    """A session that has opened a picture as `ganvas invert` writes it: edited, with the residual of the second face.

    Also the aligned photograph, and the page's messages.
    """
    infos = []
    monkeypatch.setattr("gradio.Info", lambda text, **options: infos.append(text))
    photo = photographs.find_face_photos(write_photo(tmp_path / "group.png"), TOY.resolution)[1]
    aligned = Photo.from_picture(photo.face.picture, TOY)
    save_codes(tmp_path / "code.safetensors", resources.render(FACE).ws, TOY)
    codes = load_codes(tmp_path / "code.safetensors", TOY)
    tools = replace(resources.make_tools(FACE), codes=codes, photo=aligned)
    step = EditStep(shift={"Bright": 1.5})
    recipe = Recipe(
        tools.generator_name,
        FromCodes(codes.sha256, 0),
        editor=tools.editor_name,
        edits=(step,),
        photo=aligned.sha256,
    )
    picture = draw_code(compute_code(recipe, tools), recipe, tools)
    save_picture(tmp_path / "face-edited.png", to_bytes(picture)[0], recipe, codes)
    session = Session(FACE)
    handlers = SceneHandlers(edit_handlers, FACE)
    is_stale = asyncio.run(handlers.load_recipe_file(session, tmp_path / "face-edited.png"))
    shown = asyncio.run(edit_handlers.show_all(session, is_stale))
    assert "press New and drop it" in shown[9 + 4]
    return session, aligned, infos


def test_a_picture_of_an_inversion_asks_for_its_photograph(opened_inversion, edit_handlers, resources):
    session, _, infos = opened_inversion
    session.set_scene(session.scene.with_value("Red", 1.0))
    asyncio.run(edit_handlers.show_scene(session, session.start_request()))
    code = session.scene.start
    *_, shown = upload(edit_handlers, session)
    # Neither a choice of faces nor another inversion: edits and code are as they were, and the photograph is whole.
    assert session.screen == "picture" and session.inversion is None
    assert session.scene.start == code and session.scene.slider_edit.set == {"Red": 1.0}
    whole = read_picture(session.scene.photo.path)
    assert torch.equal(resources.render_shown(session.scene.unedited), whole)
    assert float(session.scene.photo.face.landmarks[:, 0].mean()) > WIDTH / 2
    assert "alt='The picture before all edits'" in shown[4 + 9 + 3]
    assert "press New" not in shown[4 + 9 + 4] and not infos
    session.undo()
    assert session.scene.photo is not None
    # A restart finds it again.
    recipe = resources.make_recipe(session.scene)
    _, stored = edit_handlers.storage.load_code(code.codes, code.row, TOY)
    assert torch.equal(stored.face.quad, session.scene.photo.face.quad)
    assert recipe.photo is None


def test_the_aligned_photograph_is_known_too(opened_inversion, edit_handlers, resources, monkeypatch):
    session, aligned, infos = opened_inversion
    monkeypatch.setattr(photographs, "find_faces", lambda photo: [plant_landmarks((32.0, 32.0), 40.0)])
    monkeypatch.setattr(photographs, "MIN_FACE_PIXELS", 8)
    path = edit_handlers.folder / "face-photo.png"
    path.write_bytes(encode_png(to_bytes(aligned.picture)[0].contiguous()))

    async def play(file):
        return [shown async for shown in PhotoHandlers(edit_handlers, NUM_OTHERS).open_photo(str(file), session)]

    asyncio.run(play(path))
    assert torch.equal(resources.render_shown(session.scene.unedited), aligned.picture)
    assert session.scene.edits and not infos
    code = session.scene.start
    _, stored = edit_handlers.storage.load_code(code.codes, code.row, TOY)
    assert torch.equal(stored.face.quad, session.scene.photo.face.quad)


def test_another_photograph_is_rebuilt_anew_and_that_is_said(opened_inversion, edit_handlers, monkeypatch):
    session, _, infos = opened_inversion
    monkeypatch.setattr(photographs, "find_faces", lambda photo: [plant_landmarks((PLACES[1][0], PLACES[1][1] + 9))])
    upload(edit_handlers, session, "other.png")
    assert "rebuilt anew" in infos[0]
    assert session.inversion is not None and not session.scene.edits
