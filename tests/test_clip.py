"""Clips: a face is followed, smoothed over time, edited in each frame, and nothing else of the clip changes much."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from planted_faces import plant_landmarks
from planted_truth import TOY, disentangled

from ganvas.errors import GanvasError
from ganvas.inversion.optimization import OptimizationConfig
from ganvas.inversion.tuning import Tuning, TuningConfig
from ganvas.io.figures import encode_mp4, find_ffmpeg
from ganvas.io.images import encode_png
from ganvas.photo import clip, edit
from ganvas.photo.batch import InversionConfig
from ganvas.photo.clip import Clip, ClipEdit, follow_face, list_input_options, read_clip, smooth_over_time
from ganvas.photo.edit import PhotoEdit
from ganvas.photo.files import check_edited_output, edit_file
from ganvas.recipe.model import EditStep, NamedTool
from ganvas.recipe.rendering import Tools

HEIGHT, WIDTH = 160, 240
FRAMES = 7


def draw_clip(hidden: tuple[int, ...] = ()) -> Clip:
    """Draw a face (red) that moves by three pixels a frame, and one at rest (green); ``hidden``: frames without the first."""
    frames = []
    for k in range(FRAMES):
        frame = torch.full((HEIGHT, WIDTH, 3), 60, dtype=torch.uint8)
        frame[40:120, 190:230, 1] = 200
        if k not in hidden:
            frame[40:120, 40 + 3 * k : 100 + 3 * k, 0] = 200
        frames.append(frame)
    return Clip(frames, 10.0)


def find_planted_faces(photo: torch.Tensor) -> list[torch.Tensor]:
    """Find the colours."""
    found = []
    for channel in (1, 0):  # not in the order of places
        places = (photo[0, channel] > 0.3).nonzero().float()
        if len(places):
            found.append(plant_landmarks((float(places[:, 1].mean()), float(places[:, 0].mean()))))
    return found


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setattr(clip, "find_faces", find_planted_faces)
    monkeypatch.setattr("ganvas.inversion.alignment.find_faces", find_planted_faces)
    monkeypatch.setattr(edit, "load_judge", lambda name: Judge())


class Judge:
    """Says that every face was rebuilt."""

    strangers = torch.ones(3)

    def measure_distance(self, *_):
        return torch.zeros(1)


def make_edit(shift: dict[str, float] | None = None, **settings) -> ClipEdit:
    editor = disentangled()
    tools = Tools(TOY, "float32", editor, NamedTool("mine", "0"))
    config = InversionConfig(options=OptimizationConfig(steps=5))
    return ClipEdit(PhotoEdit(tools, (EditStep(shift=shift),) if shift else (), config, **settings))


def test_what_moves_at_a_constant_speed_is_smoothed_to_itself():
    path = torch.arange(20.0)[:, None] * torch.tensor([1.0, -2.0]) + 3
    torch.testing.assert_close(smooth_over_time(path), path)
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    assert smooth_over_time(noise).std() < 0.6 * noise.std()
    for n in (1, 2, 3):
        assert smooth_over_time(path[:n]).shape == path[:n].shape


@pytest.mark.usefixtures("planted")
def test_the_chosen_face_is_followed_and_missing_frames_are_interpolated():
    whole = draw_clip()
    chosen = find_planted_faces(whole.get_picture(FRAMES // 2))[1]
    found = follow_face(whole, chosen)
    assert torch.equal(found.mean(1)[:, 0].diff(), torch.full((FRAMES - 1,), 3.0))
    torch.testing.assert_close(follow_face(draw_clip(hidden=(1, 4)), chosen), found)
    ends = follow_face(draw_clip(hidden=(0, FRAMES - 1)), chosen)
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[-1], ends[-2])


@pytest.mark.usefixtures("planted")
def test_a_face_that_is_lost_is_named(monkeypatch):
    monkeypatch.setattr(clip, "MAX_MISSING", 1)
    whole = draw_clip()
    chosen = find_planted_faces(whole.get_picture(FRAMES // 2))[1]
    with pytest.raises(GanvasError, match=r"isn't found after 0\.4 s"):
        follow_face(draw_clip(hidden=(5, 6)), chosen)
    with pytest.raises(GanvasError, match=r"isn't found before 0\.2 s"):
        follow_face(draw_clip(hidden=(0, 1)), chosen)


@pytest.mark.usefixtures("planted")
def test_the_edit_is_in_every_frame_and_nowhere_else(tmp_path):
    whole, steps = draw_clip(), []
    frames = list(make_edit({"Bright": 2.0}, whole=True).edit_frames(whole, tmp_path, lambda: steps.append(1)))
    assert len(frames) == FRAMES
    for k, (before, after) in enumerate(zip(whole.frames, frames, strict=True)):
        changed = (before != after).any(2)
        assert changed[80, 70 + 3 * k] and not changed[:, 200:].any()
    unedited = make_edit().edit_frames(whole, tmp_path / "none", lambda: None)
    assert all(torch.equal(a, b) for a, b in zip(whole.frames, unedited, strict=True))
    assert len(steps) == 3 * FRAMES


@pytest.mark.usefixtures("planted")
def test_a_stopped_run_goes_on_with_the_same_frames(tmp_path, monkeypatch):
    whole, inverted = draw_clip(), []
    invert = clip.invert

    def count(*arguments, **options):
        if len(inverted) == 3:
            raise KeyboardInterrupt
        inverted.append(1)
        return invert(*arguments, **options)

    monkeypatch.setattr(clip, "invert", count)
    with pytest.raises(KeyboardInterrupt):
        make_edit({"Bright": 2.0}).edit_frames(whole, tmp_path, lambda: None)
    inverted[:] = [1] * 4  # the others are made now
    again = make_edit({"Bright": 2.0}).edit_frames(whole, tmp_path, lambda: None)
    assert len(inverted) == 4 + FRAMES - 1 - 3
    fresh = make_edit({"Bright": 2.0}).edit_frames(whole, tmp_path / "fresh", lambda: None)
    assert all(torch.equal(a, b) for a, b in zip(again, fresh, strict=True))


@pytest.mark.usefixtures("planted")
def test_a_stopped_run_with_a_budget_of_time_goes_on(tmp_path, monkeypatch):
    plan = make_edit({"Bright": 2.0})
    options = OptimizationConfig(seconds=0.2)
    plan = ClipEdit(replace(plan.edit, settings=replace(plan.edit.settings, options=options)))
    frames = list(plan.edit_frames(draw_clip(), tmp_path, lambda: None))
    for module in (clip, edit):
        monkeypatch.setattr(module, "invert", None)
    again = list(plan.edit_frames(draw_clip(), tmp_path, lambda: None))
    assert all(torch.equal(a, b) for a, b in zip(frames, again, strict=True))


@pytest.mark.usefixtures("planted")
def test_a_tuning_is_kept_for_a_run_that_goes_on(tmp_path, monkeypatch):
    tuning, applied = Tuning({"a.left": torch.ones(2, 3).half()}), []
    plan = make_edit({"Bright": 2.0}, tuning=TuningConfig(steps=3))
    monkeypatch.setattr(edit, "fit_tuning", lambda *_: tuning)
    monkeypatch.setattr(edit, "list_tuned_weights", lambda generator: {})
    monkeypatch.setattr(Tuning, "apply", lambda self, generator: applied.append(self.sha256) or generator)
    for _ in range(2):
        plan.edit_frames(draw_clip(), tmp_path, lambda: None)
        monkeypatch.setattr(edit, "invert", None)
    assert set(applied) == {tuning.sha256}
    assert len(list(tmp_path.iterdir())) == FRAMES


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"region": "small.png"}, "has 8×8 pixels"),
        ({"corrections": 99}, "number of corrections"),
        ({"corrections": 1}, "no edit to refine"),
        ({"tuning": TuningConfig(steps=3)}, "can't be tuned"),
    ],
)
def test_wrong_settings_are_refused_before_the_slow_work(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.png").write_bytes(encode_png(torch.full((8, 8, 3), 255, dtype=torch.uint8)))

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(clip, "find_faces", fail)
    monkeypatch.setattr("ganvas.inversion.alignment.find_faces", fail)
    plan = make_edit(**settings)
    with pytest.raises(GanvasError, match=message):
        plan.edit_frames(draw_clip(), tmp_path, lambda: None)
    with pytest.raises(GanvasError, match=message):
        plan.edit.edit_picture(draw_clip().get_picture(0))


@pytest.mark.usefixtures("planted")
def test_codes_of_other_settings_are_not_taken(tmp_path):
    whole, files = draw_clip(), []
    for pixels in (1.0, 0.5):
        plan = make_edit({"Bright": 2.0})
        options = OptimizationConfig(steps=5, pixels=pixels)
        plan = ClipEdit(replace(plan.edit, settings=replace(plan.edit.settings, options=options)))
        plan.edit_frames(whole, tmp_path, lambda: None)
        files.append(len(list(tmp_path.iterdir())))
    assert files == [FRAMES, 2 * FRAMES]


@pytest.mark.usefixtures("planted")
def test_a_clip_goes_from_file_to_file(tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg")
    path, out = tmp_path / "before.mp4", tmp_path / "after.mp4"
    path.write_bytes(encode_mp4(draw_clip().frames, 10.0))
    whole = read_clip(path)
    assert (len(whole.frames), whole.rate, tuple(whole.frames[0].shape)) == (FRAMES, 10.0, (HEIGHT, WIDTH, 3))
    done = []
    assert check_edited_output(path, out) == out
    line = edit_file(make_edit({"Bright": 2.0}).edit, path, out, lambda *count: done.append(count))
    assert "7 frames at 10 a second" in line
    assert len(read_clip(out).frames) == FRAMES
    assert sorted(file.name for file in tmp_path.iterdir()) == ["after.mp4", "before.mp4"]
    assert done == [(count, 3 * FRAMES) for count in range(1, 3 * FRAMES + 1)]
    with pytest.raises(GanvasError, match=f"has {WIDTH}×{HEIGHT} pixels: 100 at most"):
        read_clip(path, max_pixels=100)
    monkeypatch.setattr(clip, "MAX_BYTES", 3 * HEIGHT * WIDTH * 4)
    with pytest.raises(GanvasError, match="at most 4 frames"):
        read_clip(path)


def make_clip(path: Path, source: str, options: str = "") -> None:
    """Make a clip of one of ffmpeg's sources."""
    command = [find_ffmpeg(), "-loglevel", "error", "-f", "lavfi", "-i", source, *options.split(), str(path)]
    subprocess.run(command, check=True)


def test_frames_at_uneven_times_keep_their_time(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "phone.mp4"
    # 30 frames a second, after the first second 15.
    make_clip(path, "testsrc=size=64x48:rate=30:duration=2,select='lt(t\\,1)+not(mod(n\\,2))'", "-fps_mode vfr")
    whole = read_clip(path)
    assert 20 < whole.rate < 25
    assert len(whole.frames) / whole.rate == pytest.approx(2, abs=0.15)


def test_the_sound_is_kept_and_no_playlist_is_opened_for_it(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    path, playlist, out = tmp_path / "before.mp4", tmp_path / "playlist.mp4", tmp_path / "after.mp4"
    make_clip(path, "testsrc=size=64x48:rate=10:duration=1", "-f lavfi -i sine=duration=1 -c:a aac")
    playlist.write_text("ffconcat version 1.0\nfile 'before.mp4'\n")
    frames = read_clip(path).frames
    out.write_bytes(encode_mp4(frames, 10.0, sound=list_input_options(path)))
    printed = subprocess.run([find_ffmpeg(), "-i", str(out)], capture_output=True, text=True, check=False).stderr
    assert "Audio: aac" in printed
    with pytest.raises(GanvasError, match="couldn't write the MP4"):
        encode_mp4(frames, 10.0, sound=list_input_options(playlist))


def test_frames_are_encoded_one_by_one():
    pytest.importorskip("imageio_ffmpeg")
    frames = draw_clip().frames

    def fail():
        yield frames[0]
        raise GanvasError("stopped")

    assert encode_mp4(iter(frames), 10.0) == encode_mp4(frames, 10.0)
    with pytest.raises(GanvasError, match="stopped"):
        encode_mp4(fail(), 10.0)


def test_a_clip_without_a_rate_is_named(tmp_path, monkeypatch):
    path = tmp_path / "odd.webm"
    lines = "  Stream #0:0: Video: png, 9x9, 90k tbr (attached pic)\n  Stream #0:1: Video: vp8, yuv420p, 64x48, 1k tbr, 1k tbn\n"
    monkeypatch.setattr(clip, "find_ffmpeg", lambda error: "ffmpeg")
    monkeypatch.setattr(clip.subprocess, "run", lambda *_, **__: SimpleNamespace(stderr=lines.encode()))
    with pytest.raises(GanvasError, match=r"odd\.webm doesn't say how many frames a second"):
        read_clip(path)


def test_a_clip_that_ffmpeg_gives_up_on_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    make_clip(path, "testsrc=size=64x64:rate=10:duration=1")
    options = clip.list_input_options(path)
    monkeypatch.setattr(clip, "_read_rate", lambda *_: 10.0)
    monkeypatch.setattr(clip, "list_input_options", lambda _: [*options, "-no_such_option", "1"])
    with pytest.raises(GanvasError, match=r"a\.mp4 can't be decoded: ffmpeg says"):
        clip.read_clip(path)


def test_a_missing_ffmpeg_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nothing"))
    with pytest.raises(GanvasError, match="Clips need ffmpeg, which isn't found"):
        read_clip(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    "content",
    [b"", b"no clip", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile 'before.mp4'\n"],
)
def test_what_is_no_clip_is_refused(content: bytes, tmp_path: Path):
    pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "wrong.mp4"
    path.write_bytes(content)
    with pytest.raises(GanvasError, match=r"wrong\.mp4 isn't a clip"):
        read_clip(path)


@pytest.mark.parametrize(("photo", "out"), [("a.mp4", "b.png"), ("a.png", "b.mp4")])
def test_a_clip_becomes_a_clip_and_a_photograph_a_picture(photo, out, tmp_path):
    with pytest.raises(GanvasError, match=out):
        check_edited_output(tmp_path / photo, tmp_path / out)


def test_all_faces_of_a_clip_are_refused():
    with pytest.raises(GanvasError, match="One face of a clip"):
        make_edit({"Bright": 1.0}, face="all")
