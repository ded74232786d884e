"""The command line on the toy generator: pictures that come again, and one line for each bad input."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import ganvas
from ganvas import cli, generators
from ganvas.checkpoints import load
from ganvas.checkpoints.load import load_generator
from ganvas.cli import options
from ganvas.data.codes import load_codes, save_codes
from ganvas.data.label_files import read_label_header
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import sample
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.images import read_picture
from ganvas.metrics import list_metrics
from ganvas.recipe.files import load_recipe

TOY = load_generator("toy")


def run(*arguments) -> int:
    """The exit code of ``ganvas arguments…``."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return stop.value.code or 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with labels of the toy and two editors learned from them, made by commands."""
    folder = tmp_path_factory.mktemp("made")
    assert run("label", "toy", "-n", 500, "--out", folder / "labels", "--pack", folder / "pack.safetensors") == 0
    for labels, method, name in (("labels", "mean_difference", "mean"), ("pack.safetensors", "compact", "compact")):
        out = folder / f"{name}.safetensors"
        fast = (
            ["--option", "epochs=4", "--option", "components=20", "--option", "width=32"] if method == "compact" else []
        )
        assert run("fit", method, folder / labels, "--generator", "toy", "--out", out, *fast) == 0
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def children_time() -> float:
    """Seconds that finished child processes computed: what the clock says depends on what else runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_version_is_printed():
    done = subprocess.run([sys.executable, "-m", "ganvas", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"ganvas {ganvas.__version__}\n"


def test_a_name_that_has_the_given_one_as_a_part_is_the_hint():
    names = ("Sunshine", "Eyeglasses", "Sunglasses", "Wearing_Hat")
    for given, meant in (("glasses", "Eyeglasses"), ("Hat", "Wearing_Hat"), ("sunglases", "Sunglasses")):
        assert f"did you mean '{meant}'?" in str(unknown("attribute", given, names))
    assert "did you mean" not in str(unknown("attribute", "xy", names))
    assert "did you mean 'Male'?" in str(unknown("attribute", "male", ("Female", "Male")))


def test_help_answers_at_once():
    began = children_time()
    done = subprocess.run([sys.executable, "-m", "ganvas", "--help"], capture_output=True, text=True, check=True)
    assert children_time() - began < 1
    assert all(
        name in done.stdout for name in ("edit", "sample", "render", "grid", "animate", "mix", "fit", "label", "list")
    )


def test_commands_import_nothing_heavy_to_parse_their_options():
    code = "import sys, ganvas.cli; print(any(name in sys.modules for name in ('torch', 'numpy', 'PIL', 'scipy')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_edited_face_is_rendered_again_from_json_and_from_png(made, here):
    editor = ("--editor", made / "mean.safetensors")
    assert run("edit", "toy", "--seed", 7, "--set", "Big=2.5", "--shift", "Red=1", "--out", "face.png", *editor) == 0
    assert names(here) == {"face.png", "face.json"}
    wanted = (here / "face.png").read_bytes()
    assert run("render", "face.png", *editor) == 0
    assert (here / "face-again.png").read_bytes() == wanted
    (here / "face.png").unlink()
    assert run("render", "face.json", *editor) == 0
    assert (here / "face.png").read_bytes() == wanted
    assert not torch.equal(read_picture("face.png"), TOY.synthesis(sample(TOY, 1, 0.7, 7)))


def test_an_edit_is_kept_to_the_white_of_a_picture_and_rendered_again(made, here, capsys):
    Image.fromarray(np.repeat([0, 255], 32).astype(np.uint8)[None].repeat(64, 0)).save("right.png")
    edit = ("edit", "toy", "--shift", "Red=2", "--editor", made / "mean.safetensors")
    assert run(*edit, "--region", "right.png") == 0
    kept = read_picture("face.png")
    assert run("edit", "toy", "--out", "plain.png") == 0
    plain = read_picture("plain.png")
    left = plain.shape[3] // 2 - 1
    assert torch.equal(kept[..., :left], plain[..., :left])
    assert not torch.equal(kept, plain)
    assert run("render", "face.png", "--editor", made / "mean.safetensors") == 1
    assert "give it with --region" in capsys.readouterr().err
    assert run("render", "face.png", "--editor", made / "mean.safetensors", "--region", "right.png") == 0
    assert (here / "face-again.png").read_bytes() == (here / "face.png").read_bytes()
    assert run(*edit, "--region", "left.png") == 1
    assert "takes off, auto or a picture" in capsys.readouterr().err
    for region in ("off", "auto"):
        assert run(*edit, "--region", region, "--out", f"{region}.png") == 0
    assert (here / "off.png").read_bytes() == (here / "auto.png").read_bytes()  # the toy has no regions


def test_a_refined_edit_reads_nearer_to_what_was_asked_and_is_rendered_again(made, here, capsys):
    editor, gaps = made / "mean.safetensors", []
    for refine in (0, 5):
        assert run("edit", "toy", "--shift", "Red=1.2", "--editor", editor, "--refine", refine, "--seed", 3) == 0
        printed = capsys.readouterr().out
        (step,) = json.loads((here / "face.json").read_text())["edits"]
        assert step["shift"] == {"Red": 1.2}
        gaps.append(abs(step.get("refined", step["shift"])["Red"] - 1.2))
    read = float(re.search(r"face: Red \+1.20 σ asked, ([+-][0-9.]+) σ read", printed)[1])
    assert abs(read - 1.2) < 0.1
    assert gaps[0] == 0 < gaps[1]
    assert run("render", "face.png", "--editor", editor) == 0
    assert (here / "face-again.png").read_bytes() == (here / "face.png").read_bytes()
    assert run("sample", "toy", "-n", 2, "--set", "Big=0.5", "--editor", editor, "--refine", 3) == 0
    assert len(re.findall(r"Big [+-][0-9.]+ σ asked", capsys.readouterr().out)) == 2
    assert run("edit", "toy", "--editor", editor, "--refine", 2) == 1
    assert "give --set or --shift" in capsys.readouterr().err


def test_an_editor_file_in_the_working_folder_is_found_by_the_recipe(made, here, capsys):
    (here / "mine.safetensors").write_bytes((made / "mean.safetensors").read_bytes())
    assert run("edit", "toy", "--shift", "Big=1", "--editor", here / "mine.safetensors") == 0
    assert run("render", "face.png") == 0
    (here / "mine.safetensors").unlink()
    assert run("render", "face.png") == 1
    assert "give its path with --editor FILE" in capsys.readouterr().err
    assert run("render", "face.png", "--editor", made / "compact.safetensors") == 1
    assert "The recipe needs editor 'mine.safetensors'" in capsys.readouterr().err


def test_samples_are_named_by_seed_and_equal_the_same_face_alone(here):
    assert run("sample", "toy", "--seeds", "3-4,9", "--out", "many", "--save-codes", "codes.safetensors") == 0
    assert names(here / "many") == {f"seed000{i}.{kind}" for i in (3, 4, 9) for kind in ("png", "json")}
    assert run("edit", "toy", "--seed", 9, "--out", "one.png") == 0
    assert (here / "one.png").read_bytes() == (here / "many/seed0009.png").read_bytes()
    assert torch.equal(load_codes("codes.safetensors", TOY).ws[2:], sample(TOY, 1, 0.7, 9))


def test_codes_files_come_in_and_go_out(made, here):
    save_codes("codes.safetensors", sample(TOY, 3, 1, 5), TOY)
    assert (
        run("sample", "toy", "--codes", "codes.safetensors", "--out", "rows", "--save-codes", "same.safetensors") == 0
    )
    assert names(here / "rows") == {f"row000{i}.{kind}" for i in range(3) for kind in ("png", "json")}
    assert (here / "same.safetensors").read_bytes() == (here / "codes.safetensors").read_bytes()
    editor = ("--editor", made / "mean.safetensors")
    assert run("edit", "toy", "--codes", "codes.safetensors", "--row", 2, "--shift", "Big=1", *editor) == 0
    wanted = (here / "face.png").read_bytes()
    # The PNG has its code with it; the JSON doesn't, so the file is asked for, and known by its sha256.
    assert run("render", "face.png", *editor) == 0
    assert (here / "face-again.png").read_bytes() == wanted
    assert run("render", "face.json", *editor) == 1
    assert run("render", "face.json", "--codes", "codes.safetensors", *editor) == 0
    assert (here / "face.png").read_bytes() == wanted
    save_codes("other.safetensors", sample(TOY, 3, 1, 6), TOY)
    assert run("render", "face.json", "--codes", "other.safetensors", *editor) == 1


def test_samples_meet_their_conditions_and_come_again(made, here):
    where = ("--where", "Big>1", "--where", "Red=-1", "-n", 3, "--seed", 5, "--editor", made / "compact.safetensors")
    assert run("sample", "toy", *where, "--out", "many", "--save-codes", "codes.safetensors") == 0
    assert len(names(here / "many")) == 6
    found = TOY.compute_coordinates(load_codes("codes.safetensors", TOY).ws)
    assert found.mean(0)[2] > 0.3  # Big
    assert run("render", "many/seed0006.json", "--editor", made / "compact.safetensors", "--out", "again.png") == 0
    assert (here / "again.png").read_bytes() == (here / "many/seed0006.png").read_bytes()


def test_a_grid_and_a_mix_come_again(made, here):
    editor = ("--editor", made / "mean.safetensors")
    strengths = ("--attributes", "Big,Red", "--seeds", "1-2", "--strengths", "-2,0,2", "--size", 32)
    assert run("grid", "toy", *strengths, *editor) == 0
    assert run("render", "grid.png", *editor) == 0
    assert (here / "grid.png").read_bytes() == (here / "grid-again.png").read_bytes()
    assert run("mix", "toy", "--seed", 1, "--with", 2, "--rows", "0-1", "--save-codes", "mix.safetensors") == 0
    ws = load_codes("mix.safetensors", TOY).ws
    assert torch.equal(ws[:, :2], sample(TOY, 1, 0.7, 2)[:, :2])
    assert torch.equal(ws[:, 2:], sample(TOY, 1, 0.7, 1)[:, 2:])
    assert run("render", "mix.png") == 0
    assert (here / "mix.png").read_bytes() == (here / "mix-again.png").read_bytes()


def test_animations_of_an_edit_and_between_faces(made, here):
    from PIL import Image

    editor = ("--editor", made / "mean.safetensors")
    assert run("animate", "toy", "--shift", "Bright=3", "--frames", 4, "--size", 32, *editor) == 0
    with Image.open("animation.gif") as film:
        assert film.n_frames == 6
        assert film.size == (32, 32)
    assert run("animate", "toy", "--to", 8, "--frames", 4, "--no-back", "--size", 32, "--out", "morph.gif") == 0
    with Image.open("morph.gif") as film:
        assert film.n_frames == 4
    wanted = (here / "morph.gif").read_bytes()
    assert run("render", "morph.json") == 0
    assert (here / "morph.gif").read_bytes() == wanted


def test_mp4_needs_ffmpeg_and_says_so(here, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert run("animate", "toy", "--to", 8, "--out", "morph.mp4") == 1
    assert "MP4 needs ffmpeg" in one_line(capsys)
    assert names(here) == set()


def test_scores_of_pictures(here, capsys):
    assert run("sample", "toy", "-n", 2) == 0
    capsys.readouterr()
    pictures = ("samples/seed0000.png", "samples/seed0001.png")
    assert run("score", *pictures, "--scorer", "toy", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == set(pictures)
    assert all(0 <= row["Big"] <= 1 for row in found.values())
    assert run("score", *pictures) == 0, "by default with the scorer of the generator that drew them"
    assert "celeba" not in capsys.readouterr().out
    assert run("score", *pictures, "--scorer", "toy") == 0
    assert "Striped" in capsys.readouterr().out


def test_success_hands_the_protocol_over(made, here, capsys, monkeypatch):
    from ganvas.evaluation import success

    asked = {}

    def stand_in(generator, scorer, editor, out, attributes, protocol):
        asked.update(locals())
        (out / "success.md").write_text("the table")

    monkeypatch.setattr(success, "run_success", stand_in)
    where = ("--attributes", "Big", "-n", 4, "--editor", made / "mean.safetensors", "--out", here)
    assert run("success", "toy", *where) == 0
    assert "the table" in capsys.readouterr().out
    assert (asked["attributes"], asked["protocol"].n, asked["protocol"].seed) == (["Big"], 4, 2_000_000)
    assert (asked["generator"].name, asked["scorer"].name, asked["editor"].method) == ("toy", "toy", "mean_difference")


def test_every_method_says_what_it_needs():
    from ganvas import editors
    from ganvas.cli import loading

    lines = dict(loading.list_available()["Methods"])
    assert set(lines) == set(editors.list_methods()) and all("Needs " in line for line in lines.values())


def test_list_names_what_there_is(capsys):
    assert run("list") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("ffhq", "toy", "celeba40", "compact"))
    metrics = out.partition("\nMetrics:\n")[2].partition("\nLabels:\n")[0].splitlines()
    assert [line.split()[0] for line in metrics] == list(list_metrics())
    assert all(len(line.split()) > 3 for line in metrics)


@pytest.mark.parametrize("labels", ["labels", "pack.safetensors"])
def test_labels_name_their_generator(made, here, capsys, labels):
    """Without --generator the labels' own is taken; with it, labels of another are still refused."""
    fit = ("fit", "mean_difference", made / labels, "--out", "e.safetensors")
    assert run(*fit) == 0
    assert load_tensors("e.safetensors")[1]["generator"] == load_tensors(made / "mean.safetensors")[1]["generator"]
    torch.save(torch.randn(TOY.w_dim), here / "d.pt")
    assert run("import-direction", "d.pt", "--labels", made / labels, "--out", "d.safetensors") == 0
    assert load_tensors("d.safetensors")[1]["generator"] == load_tensors("e.safetensors")[1]["generator"]
    capsys.readouterr()
    assert run(*fit, "--generator", "multimnist") == 1
    assert re.search("'toy' .* not for 'multimnist'", one_line(capsys))


def test_labels_of_a_generator_from_a_file_ask_for_it_before_anything_is_loaded(made, here, capsys, monkeypatch):
    pack, metadata = load_tensors(made / "pack.safetensors")
    save_tensors("other.safetensors", pack, metadata | {"generator": {"name": "mine", "fingerprint": "f" * 64}})
    monkeypatch.setattr(load, "load_generator", None)
    assert run("fit", "mean_difference", "other.safetensors", "--out", "e.safetensors") == 1
    assert re.search("'mine' .* --generator FILE", one_line(capsys))


# Edits that go too far.


def warning(capsys, *arguments) -> str:
    """What a command that succeeds prints on stderr."""
    capsys.readouterr()
    assert run(*arguments) == 0
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("edit", "toy", "--shift", "Big=99"),
        ("edit", "toy", "--shift", "Big=-99", "--shift", "Red=30"),
        ("edit", "toy", "--set", "Bright=-60"),
        ("mix", "toy", "--with", "3", "--rows", "0-1", "--shift", "Big=99"),
        ("sample", "toy", "-n", "2", "--shift", "Big=99"),
    ],
)
def test_an_edit_that_leaves_the_typical_set_is_warned_of_with_the_largest_that_does_not(made, here, capsys, arguments):
    editor = ("--editor", made / "mean.safetensors")
    line = warning(capsys, *arguments, *editor)
    assert line.startswith("Warning: ") and line.count("\n") == 1
    inside = re.search(r"stays inside up to (.*)\.$", line.strip())
    given = arguments[: min(arguments.index(word) for word in ("--shift", "--set") if word in arguments)]
    assert warning(capsys, *given, *inside[1].split(), *editor) == ""
    further = [re.sub(r"=(.*)", lambda found: f"={float(found[1]) * 1.03:.3f}", word) for word in inside[1].split()]
    assert warning(capsys, *given, *further, *editor) != ""


def test_grids_and_animations_that_leave_the_typical_set_are_warned_of_once(made, here, capsys):
    editor = ("--editor", made / "mean.safetensors")
    line = warning(capsys, "grid", "toy", "--attributes", "Big,Red", "--strengths", "-99,0,1,99", *editor)
    assert line.startswith("Warning: 4 of 8 pictures leave") and line.count("\n") == 1
    line = warning(capsys, "animate", "toy", "--shift", "Big=99", "--frames", "3", *editor)
    assert line.startswith("Warning: 2 of 3 pictures leave") and line.count("\n") == 1
    assert warning(capsys, "grid", "toy", "--attributes", "Big", *editor) == ""


@pytest.mark.parametrize(("capability", "slow"), [("AVX512", False), ("AVX2", True)])
def test_list_says_what_computes(monkeypatch, capsys, capability, slow):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(generators, "has_bfloat16_instructions", lambda device: not slow)
    assert run("list") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"torch {torch.__version__}, {capability}, {torch.get_num_threads()} thread" in last
    assert ("bfloat16 is slow here" in last) == slow


@pytest.mark.parametrize("slow", [False, True])
def test_bfloat16_is_warned_of_where_it_is_slow(monkeypatch, capsys, here, slow):
    monkeypatch.setattr(generators, "has_bfloat16_instructions", lambda device: not slow)
    monkeypatch.setattr(load, "has_bfloat16_instructions", lambda place: not slow)
    assert run("edit", "toy", "--dtype", "bfloat16", "--out", "a.png") == 0
    assert ("no instructions for bfloat16" in capsys.readouterr().err) == slow
    assert run("edit", "toy", "--dtype", "auto", "--out", "b.png") == 0
    assert "bfloat16" not in capsys.readouterr().err
    assert load_recipe("b.png")[0].dtype == ("float32" if slow else "bfloat16")


def test_labels_go_on_after_a_pack(here, capsys):
    assert run("label", "toy", "-n", 512, "--out", "first", "--pack", "first.safetensors") == 0
    more = ("label", "toy", "-n", 600, "--after", "first.safetensors", "--out", "more", "--pack", "both.safetensors")
    assert run(*more, "--seed", 5) == 1 and "leave out --seed" in capsys.readouterr().err
    assert run(*more) == 0
    assert [read_label_header(f"{name}.safetensors").n for name in ("first", "both")] == [512, 600]


# Bad input: one line, exit 1, nothing written.


def one_line(capsys) -> str:
    """What stands in stderr, which must be one line."""
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    return error


EDIT = ("edit", "toy", "--shift", "Big=1", "--editor", "MADE/mean.safetensors")
BAD = {
    "generator": (
        ("sample", "tyo"),
        "Unknown generator 'tyo': did you mean 'toy'? Pick one of ffhq, faces64, multimnist, toy",
    ),
    "scorer": (
        ("score", "x.png", "--scorer", "celeba"),
        "Unknown scorer 'celeba': did you mean 'celeba40'? Pick one of",
    ),
    "editor": (("edit", "toy", "--shift", "Big=1", "--editor", "toy/compct"), "toy/compct"),
    "no editor": (("edit", "toy", "--shift", "Big=1"), "name one with --editor"),
    "method": (
        ("fit", "compat", "x", "--generator", "toy", "--out", "e.safetensors"),
        "Unknown method 'compat': did you mean 'compact'? Pick one of",
    ),
    "method's option": (
        (
            "fit",
            "mean_difference",
            "MADE/labels",
            "--generator",
            "toy",
            "--out",
            "e.safetensors",
            "--option",
            "epohcs=1",
        ),
        "epohcs",
    ),
    "setting's type": (
        (
            "fit",
            "mean_difference",
            "MADE/labels",
            "--generator",
            "toy",
            "--out",
            "e.safetensors",
            "--option",
            "share=x",
        ),
        "Option 'share' takes a value like 0.1",
    ),
    "labels": (("fit", "mean_difference", "nowhere", "--generator", "toy", "--out", "e.safetensors"), "nowhere"),
    "attribute to shift": (
        (*EDIT[:3], "Bg=1", *EDIT[4:]),
        "Unknown attribute 'Bg': did you mean 'Big'? Pick one of Bright, Red",
    ),
    "attribute to set": (
        ("edit", "toy", "--set", "Bg=1", *EDIT[4:]),
        "Unknown attribute 'Bg': did you mean 'Big'? Pick one of Bright, Red",
    ),
    "attribute to draw": (("sample", "toy", "--where", "Bg>1", *EDIT[4:]), "Unknown attribute 'Bg'"),
    "attribute to show": (("grid", "toy", "--attributes", "Bg", *EDIT[4:]), "Unknown attribute 'Bg'"),
    "attribute to fit": (
        ("fit", "mean_difference", "MADE/labels", "--generator", "toy", "--out", "e.safetensors", "--attributes", "Bg"),
        "Unknown attribute 'Bg'",
    ),
    "nan": ((*EDIT[:3], "Big=nan", *EDIT[4:]), "isn't a finite number"),
    "no number": ((*EDIT[:3], "Big=big", *EDIT[4:]), "isn't a finite number"),
    "no value": ((*EDIT[:3], "Big", *EDIT[4:]), "isn't NAME=NUMBER"),
    "twice": ((*EDIT, "--shift", "Big=2"), "given twice"),
    "set and shift": ((*EDIT, "--set", "Big=2"), "both set and shifted"),
    "condition": (("sample", "toy", "--where", "Big", *EDIT[4:]), "isn't a condition"),
    "contradiction": (("sample", "toy", "--where", "Big>1", "--where", "Big<0", *EDIT[4:]), "No face has 'Big'"),
    "n": (("sample", "toy", "-n", 0), "1 to 1,000,000, not 0"),
    "negative n": (("label", "toy", "-n", -1, "--out", "labels"), "at least 1, not -1"),
    "seed": (("edit", "toy", "--seed", -1), "seed must be a whole number of at least 0"),
    "seeds": (("sample", "toy", "--seeds", "9-3"), "ends before it starts"),
    "too many seeds": (("sample", "toy", "--seeds", "0-9999999999"), "more than 1,000,000"),
    "psi": (("edit", "toy", "--psi", "nan"), "finite"),
    "device": (("edit", "toy", "--device", "gpu"), "'gpu'"),
    "suffix": (("edit", "toy", "--out", "face.jpg"), "must end with .png"),
    "row": (("edit", "toy", "--codes", "MADE/codes.safetensors", "--row", 7), "no row 7"),
    "mix rows": (("mix", "toy", "--with", 3, "--rows", "2-4"), "no row 4"),
    "second face": (("mix", "toy", "--with", "x", "--rows", "2"), "isn't a picture"),
    "row of nothing": (("mix", "toy", "--with", "row:1", "--rows", "2"), "--codes FILE"),
    "nothing moves": (("animate", "toy"), "nothing to animate"),
    "frames": (("animate", "toy", "--to", 3, "--frames", 1), "at least 2 frames"),
    "two sources": (("sample", "toy", "--seeds", "1", "--where", "Big>1"), "Give one of"),
    "folder is a file": (("sample", "toy", "--out", "MADE/mean.safetensors"), "isn't a writable folder"),
    "folder below a file": (("edit", "toy", "--out", "MADE/mean.safetensors/x/face.png"), "isn't a writable folder"),
    "labels into a file": (("label", "toy", "-n", 4, "--out", "MADE/mean.safetensors"), "Can't write"),
    "picture is a folder": (("edit", "toy", "--out", "MADE/folder.png"), "is a folder"),
    "codes into a folder": (("edit", "toy", "--save-codes", "MADE/folder.safetensors"), "is a folder"),
    "recipe is missing": (("render", "nothing.json"), "Can't read nothing.json"),
    "recipe is no recipe": (("render", "MADE/mean.safetensors"), "isn't JSON"),
    "picture is missing": (("score", "nothing.png", "--scorer", "toy"), "no file nothing.png"),
    "picture is no picture": (("score", "MADE/mean.safetensors", "--scorer", "toy"), "isn't a whole"),
    "truncated editor": ((*EDIT[:4], "--editor", "MADE/cut.safetensors"), "isn't a whole safetensors file"),
    "foreign editor": ((*EDIT[:4], "--editor", "MADE/foreign.safetensors"), "isn't an editor"),
    "another generator's editor": ((*EDIT[:4], "--editor", "MADE/other.safetensors"), "'tiny' .* not for 'toy'"),
    "truncated codes": (("edit", "toy", "--codes", "MADE/cut.safetensors"), "isn't a whole safetensors file"),
    "foreign codes": (("edit", "toy", "--codes", "MADE/foreign.safetensors"), "isn't a codes file"),
    "faces are missing": (("train-scorer", "nowhere.parquet", "--out", "s.safetensors"), "no file nowhere.parquet"),
    "no kept pictures": (
        ("train-scorer", "x", "--generated", "MADE/labels", "--generator", "toy", "--out", "s.safetensors"),
        "no pictures of seeds",
    ),
    "another generator's codes": (
        ("edit", "toy", "--codes", "MADE/other-codes.safetensors"),
        "'tiny' .* not for 'toy'",
    ),
}


@pytest.fixture(scope="module")
def broken(made):
    """The same folder with files that are cut, foreign, or another generator's."""
    data = (made / "mean.safetensors").read_bytes()
    (made / "cut.safetensors").write_bytes(data[: len(data) // 2])
    save_tensors(made / "foreign.safetensors", {"weight": torch.zeros(2)}, {})
    tensors, about = load_tensors(made / "mean.safetensors")
    tiny = {"generator": {"name": "tiny", "fingerprint": "0" * 64}}
    save_tensors(made / "other.safetensors", tensors, about | tiny)
    save_codes(made / "codes.safetensors", sample(TOY, 2), TOY)
    tensors, about = load_tensors(made / "codes.safetensors")
    save_tensors(made / "other-codes.safetensors", tensors, about | tiny)
    (made / "folder.png").mkdir()
    (made / "folder.safetensors").mkdir()
    return made


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case, broken, here, capsys):
    import re

    arguments, message = BAD[case]
    before = names(broken)
    assert run(*(str(a).replace("MADE", str(broken)) for a in arguments)) == 1
    assert re.search(message if ".*" in message else re.escape(message), one_line(capsys))
    assert list(here.iterdir()) == []
    assert names(broken) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("0.7", "NaN"), "holds NaN"),
        (lambda text: text.replace("0.7", "1e999"), "start: psi must be a finite number"),
        (
            lambda text: text.replace('"dtype"', '"dtpye"'),
            "Unknown key 'dtpye': did you mean 'dtype'? Pick one of generator, start, dtype,",
        ),
        (lambda text: text.replace('"mix": null', '"mix": null, "x": 1'), "Unknown key 'x'"),
        (lambda text: text.replace('"version": 1', '"version": 9'), "unknown version 9"),
        (lambda text: text.replace('"toy"', '"tyo"'), "Unknown generator 'tyo'"),
        (lambda text: text.replace("float32", "float8"), "Unknown dtype 'float8'"),
        (lambda text: text.replace('"seed": 0', '"seed": "0"'), "start: seed must be a whole number"),
        (lambda text: text.replace('"fingerprint": "', '"fingerprint": "0'), "The recipe is for generator 'toy'"),
        (lambda text: text[:-9], "isn't JSON"),
        (lambda text: "[" * 100_000, "isn't JSON"),
        (lambda text: text.replace("0.7", "9" * 5000), "isn't JSON"),
    ],
)
def test_a_bad_recipe_is_one_line_and_writes_nothing(change, message, here, capsys):
    assert run("edit", "toy") == 0
    changed = change((here / "face.json").read_text())
    (here / "face.png").unlink()
    (here / "face.json").unlink()
    (here / "bad.json").write_text(changed)
    capsys.readouterr()
    assert run("render", "bad.json") == 1
    assert message in one_line(capsys)
    assert names(here) == {"bad.json"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("edit", "--shift", "Smilign=1"),
        ("sample", "--where", "Smilign>1"),
        ("grid", "--attributes", "Smilign"),
        ("animate", "--set", "Smilign=1"),
    ],
)
def test_unknown_attributes_are_refused_before_a_generator_is_loaded(arguments, here, capsys, monkeypatch):
    def slow(*_, **__):
        raise AssertionError("the generator was loaded")

    monkeypatch.setattr(load, "load_generator", slow)
    assert run(arguments[0], "ffhq", *arguments[1:]) == 1
    said = capsys.readouterr().err
    assert "Unknown attribute 'Smilign': did you mean 'Smiling'? Pick one of" in said


def test_warnings_are_one_line(monkeypatch, capsys):
    def told(*_):
        warnings.warn("two\nlines", stacklevel=1)

    monkeypatch.setattr(cli, "app", lambda args: told())
    shown = warnings.showwarning
    cli.main(["list"])
    assert capsys.readouterr().err == "Warning: two lines\n"
    assert warnings.showwarning is shown


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(here, capsys):
    (here / "closed").mkdir(mode=0o500)
    assert run("edit", "toy", "--out", "closed/face.png") == 1
    assert "can be written" in one_line(capsys)


def test_wrong_usage_is_typers_exit_2(here):
    assert run("edit") == 2
    assert run("edit", "toy", "--dtype", "float8") == 2


def test_ctrl_c_is_one_line_and_130(monkeypatch, here, capsys):
    from ganvas.recipe import files

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "draw_recipes", stop)
    assert run("edit", "toy") == 130
    assert capsys.readouterr().err == "Stopped.\n"


# The little languages.


def test_seeds():
    assert options.parse_seeds("0-3") == [0, 1, 2, 3]
    assert options.parse_seeds("1,5,7-8,5") == [1, 5, 7, 8]
    for wrong in ("", "a", "1-", "-1", "1--2", "1;2", "²"):
        with pytest.raises(GanvasError):
            options.parse_seeds(wrong)


def test_options_are_json_where_they_can_be():
    items = ["epochs=40", "residual=false", "name=x", "some=[1, 2]", "rate=1e-3", "text=a=b"]
    wanted = {"epochs": 40, "residual": False, "name": "x", "some": [1, 2], "rate": 1e-3, "text": "a=b"}
    assert options.parse_options(items) == wanted
    with pytest.raises(GanvasError):
        options.parse_options(["epochs"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("face_attributes", "CC BY-NC-SA 4.0"),
        ("ffhq/compact", "Licence"),
        ("ffhq", "Licence"),
        ("age_gender", "CC0"),
        ("multimnist", "multimnist"),
    ],
)
def test_info_prints_the_card_of_what_ships(name, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(["info", name])
    assert end.value.code == 0 and words in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../scorers/count", "scorers/count", "nobody", ""])
def test_info_reads_no_card_by_a_path(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(["info", name])
    assert end.value.code != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_scores_of_a_folder_go_on_past_bad_files(here, capsys):
    assert run("sample", "toy", "-n", 2) == 0
    (here / "samples" / "bad.png").write_bytes(b"no")
    (here / "samples" / "notes.txt").write_text("x")
    capsys.readouterr()
    assert run("score", "samples", "--scorer", "toy", "--json") == 1
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)) == {"samples/seed0000.png", "samples/seed0001.png"}
    assert (
        "samples/bad.png isn't a whole" in printed.err and "Passed over" in printed.err and "notes.txt" in printed.err
    )


def test_scorers_of_faces_align_photographs_but_not_what_was_drawn(here, capsys, monkeypatch):
    from ganvas.photo import batch
    from ganvas.scorers.toy import ToyScorer

    def find_no_face(photo, *_):
        raise GanvasError("No face was found in this photograph")

    monkeypatch.setattr(ToyScorer, "reads_faces", True)
    monkeypatch.setattr(batch, "align", find_no_face)
    assert run("sample", "toy", "-n", 1) == 0
    Image.new("RGB", (64, 48)).save("photo.png")
    capsys.readouterr()
    assert run("score", "samples/seed0000.png", "photo.png", "--scorer", "toy", "--json") == 1
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)) == {"samples/seed0000.png"} and "photo.png: No face was found" in printed.err
    assert run("score", "photo.png", "--scorer", "toy", "--aligned", "--json") == 0
