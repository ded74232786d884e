"""Whose files an inversion writes: never a photograph's, another face's or a stranger's, and the same ones again."""

import json

import pytest
import torch
from PIL import Image

import ganvas
from ganvas.errors import GanvasError
from ganvas.inversion import OptimizationConfig
from ganvas.io.images import encode_png, to_bytes
from ganvas.photo import batch
from ganvas.photo.file_names import ALIGNED_ENDINGS, INVERTED_ENDINGS, FileNames
from ganvas.recipe.rendering import load_tools

SETTINGS = batch.InversionConfig("w", "optimize", OptimizationConfig(steps=2), aligned=True)


@pytest.fixture(scope="module")
def tools():
    return load_tools("toy")


@pytest.fixture(scope="module")
def pictures(tools):
    with torch.no_grad():
        return [
            encode_png(pixels)
            for pixels in to_bytes(tools.generator.synthesis(ganvas.sample(tools.generator, 4, 1, 11)))
        ]


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def everything(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_photograph_is_never_written_over(tools, pictures, tmp_path):
    photo, said = put(tmp_path / "ph" / "me.png", pictures[0]), []
    before = everything(tmp_path / "ph")
    (tmp_path / "link").symlink_to(tmp_path / "ph")
    for out in (tmp_path / "ph", tmp_path / "link", tmp_path / "ph" / ".." / "ph"):
        assert batch.PhotoBatch(tools, out, SETTINGS).run([photo], said.append) == []
        assert batch.align_files([photo], out, 64, SETTINGS, said.append) == 0
    assert everything(tmp_path / "ph") == before
    assert len(said) == 6 and all("would be overwritten" in line and "--out" in line for line in said)


def test_what_lies_there_of_others_stays(tools, pictures, tmp_path):
    photo = put(tmp_path / "me.bmp", b"")
    Image.new("RGB", (64, 64), "red").save(photo)
    put(tmp_path / "me.png", b"a picture that wasn't given")
    done = batch.PhotoBatch(tools, tmp_path, SETTINGS).run([photo], pytest.fail)
    assert [face.name for face in done] == ["me_"]
    assert (tmp_path / "me.png").read_bytes() == b"a picture that wasn't given"


def test_aligning_into_one_folder_again_loses_no_face(pictures, tmp_path):
    first, second = (put(tmp_path / f"p{i}" / "x.png", pictures[i]) for i in range(2))
    found = []
    for photo in (first, second, first, second):
        assert batch.align_files([photo], tmp_path / "out", 64, SETTINGS, pytest.fail) == 1
        found.append(everything(tmp_path / "out"))
    assert sorted(found[0]) == ["x.png"] and sorted(found[1]) == ["x.png", "x_.png"]
    assert found[1] == found[2] == found[3] and found[1]["x.png"] == found[0]["x.png"] != found[1]["x_.png"]


@pytest.mark.parametrize("names", [("a", "a-photo"), ("x-edited", "x"), ("inversions", "A", "a")])
def test_no_two_faces_share_a_file(names, tmp_path):
    given = FileNames(tmp_path, [], INVERTED_ENDINGS, {})
    files = [f"{name}{end}".lower() for stem in names for name in [given.choose(stem)] for end in INVERTED_ENDINGS]
    assert len(set(files)) == len(files) and batch.SUMMARY_FILE not in files
    assert FileNames(tmp_path, [], ALIGNED_ENDINGS).choose("a-photo") == "a-photo"


def test_photographs_of_one_name_keep_their_own_files_from_run_to_run(tools, pictures, tmp_path):
    first, second, third = (put(tmp_path / f"p{i}" / "x.png", pictures[i]) for i in range(3))
    out = tmp_path / "out"
    assert [face.name for face in batch.PhotoBatch(tools, out, SETTINGS).run([first, second], pytest.fail)] == [
        "x",
        "x_",
    ]
    before = everything(out)
    assert [face.name for face in batch.PhotoBatch(tools, out, SETTINGS).run([second], pytest.fail)] == ["x_"]
    assert everything(out) == before
    assert [face.name for face in batch.PhotoBatch(tools, out, SETTINGS).run([third, first], pytest.fail)] == [
        "x__",
        "x",
    ]
    assert {name: data for name, data in everything(out).items() if name in before and name != batch.SUMMARY_FILE} == {
        name: data for name, data in before.items() if name != batch.SUMMARY_FILE
    }


def test_a_stopped_run_finds_its_own_files_again(tools, pictures, tmp_path):
    photo, out = put(tmp_path / "x.png", pictures[0]), tmp_path / "out"

    class Stopped(Exception):
        pass

    def stop(done, total):
        raise Stopped

    with pytest.raises(Stopped):
        batch.PhotoBatch(tools, out, SETTINGS).run([photo], pytest.fail, stop)
    assert (out / "x-photo.png").exists()
    assert [face.name for face in batch.PhotoBatch(tools, out, SETTINGS).run([photo], pytest.fail)] == ["x"]
    assert "codes" in json.loads((out / batch.SUMMARY_FILE).read_text())["faces"]["x"]


def test_a_name_in_a_summary_is_no_path(tmp_path):
    assert (
        FileNames(tmp_path, [], INVERTED_ENDINGS, {"../up": {"photo": "1"}, "b": {"photo": "2"}}).choose("a", "1")
        == "a"
    )


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("dlib\ncan't"), GanvasError("no face")])
def test_a_photograph_that_fails_doesnt_end_the_rest(error, tools, pictures, tmp_path, monkeypatch):
    paths, said, read = [put(tmp_path / f"{i}.png", pictures[i]) for i in range(2)], [], batch.read_picture

    def fails(path, max_pixels):
        if path == paths[0]:
            raise error
        return read(path, max_pixels)

    monkeypatch.setattr(batch, "read_picture", fails)
    assert len(batch.PhotoBatch(tools, tmp_path / "out", SETTINGS).run(paths, said.append)) == 1
    assert len(said) == 1 and "0.png: " in said[0] and "\n" not in said[0]
