"""What the snapshots are of. All that they import of ganvas stands here at the head; all else is its public API and commands."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from snapshots.harness import (
    CLOSED,
    SAVED,
    TRAINED,
    Alike,
    Case,
    Exact,
    Near,
    Pixels,
    Text,
    Value,
    frames_of,
    names_in,
    outline,
    plain_json,
    run_command,
    shrunken,
    snapshot,
)
from torch import Tensor

import ganvas
from ganvas import cli, editors
from ganvas.cli import main
from ganvas.data.codes import load_codes
from ganvas.data.dataset import LatentDataset, make_dataset
from ganvas.data.label_files import list_labels, load_labels
from ganvas.inversion import read_encoder
from ganvas.scorers import list_scorers

METHODS, EDITORS = editors.list_methods, editors.list_editors
fingerprint_of = editors.fingerprint
FLOAT32 = {"bfloat16": False}
"""Of the compact method, which else asks the processor."""
ASSETS = Path(ganvas.__file__).parent / "assets"

# What a snapshot calls a command -> what it is called now.
COMMANDS: dict[str, str] = {}

for name, value in {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}.items():
    os.environ[name] = value


def run(case: Case, folder: Path) -> Mapping[str, Value]:
    """What a case gives; the same chance in every run."""
    torch.manual_seed(0)
    return case.make(folder)


@cache
def generator(name: str) -> ganvas.Generator:
    return ganvas.load_generator(name)


def command(name: str, *arguments: object) -> tuple[int, str, str]:
    return run_command(main, [COMMANDS.get(name, name), *arguments])


def succeed(name: str, *arguments: object) -> None:
    """Raises RuntimeError where a command that prepares another one fails."""
    code, _, errors = command(name, *arguments)
    if code:
        raise RuntimeError(f"{name} ended with {code}: {errors}")


# Editors on the toy.

NAMES = ("Bright", "Red", "Big")
_SMALL = {"components": 16, "width": 24, "classifier_steps": 60}
FITS: dict[str, dict[str, Any]] = {
    "adatrans": _SMALL | {"steps": 60, "batch": 128, "rate": 0.003},
    "compact": {"components": 24, "width": 24, "depth": 3, "batch": 256, "epochs": 6} | FLOAT32,
    "cardinality": {
        "classifier_steps": 100,
        "steps": 60,
        "batch": 64,
        "classifiers": 1,
        "hidden": [32],
        "recipe": "ensemble",
    }
    | {"gain": "reading", "rate": 0.01},
    "gradctrl": _SMALL | {"steps": 60, "rate": 0.005},
    "guidedstyle": _SMALL | {"steps": 60, "rate": 0.005},
    "ials": _SMALL | {"steps": 60, "rate": 0.005, "pictures": 4},
    "latent2latent": _SMALL | {"steps": 80, "batch": 128, "rate": 0.003},
    "latent_transformer": _SMALL | {"steps": 60, "rate": 0.01},
    "sdflow": _SMALL | {"steps": 60, "batch": 128, "rate": 0.003},
    "styleflow": _SMALL | {"steps": 80, "rate": 0.01, "depth": 2, "solver": 4},
    "ganspace": {"layers": "1-2"},
    # Elsewhere the toy's style weights have equal eigenvalues, so that their axes are the processor's whim.
    "sefa": {"layers": "1", "attributes": ["Red"]},
}
CLOSED_FORMS = ("balanced", "ganspace", "interfacegan", "mean_difference", "sefa", "stylespace")
"""Methods that solve something convex; the others train networks."""


@cache
def labels(n: int = 1500) -> LatentDataset:
    """The toy's labels."""
    toy = generator("toy")
    return ganvas.label(toy, ganvas.load_scorer("toy"), n, psi=1.0, seed=1_000_000).select(NAMES)


@cache
def counts() -> LatentDataset:
    """The same codes, their scores cut into counts from 0 to 4."""
    data = labels()
    rounded = data.normals().round().clamp(-2, 2) + 2
    kinds = ("count",) * len(NAMES)
    return make_dataset(data.codes, rounded, NAMES, kinds, data.source, data.generator, data.scorer)


def fitted(method: str) -> ganvas.Editor:
    data = counts() if method == "cardinality" else labels()
    return ganvas.fit(method, data, generator("toy"), **FITS.get(method, {}))


CHANGES: tuple[dict[str, float], ...] = ({"Red": 1.0}, {"Big": -1.5}, {"Bright": 0.5, "Big": 1.0})


def toy_codes(n: int = 4) -> Tensor:
    """Codes of the toy, that a fit never saw."""
    return ganvas.sample(generator("toy"), n, psi=0.7, seed=7)


def changes_of(editor: ganvas.Editor) -> list[dict[str, float]]:
    """The changes whose attributes an editor has, else one of its first."""
    found = [change for change in CHANGES if change.keys() <= set(editor.attributes)]
    return found or [{editor.attributes[0]: 1.0}]


def moves(editor: ganvas.Editor, ws: Tensor) -> Tensor:
    """What the changes do to codes: (changes, n, num_ws, w_dim)."""
    with torch.no_grad():
        return torch.stack([editor.edit(ws, change) - ws for change in changes_of(editor)])


def editing(name: str) -> Callable[[Path], Mapping[str, Value]]:
    """The edits of an editor in a file."""

    def make(_: Path) -> Mapping[str, Value]:
        editor, ws = ganvas.load_editor(SAVED / "editors" / f"{name}.safetensors", generator("toy")), toy_codes()
        with torch.no_grad():
            edited = torch.stack([editor.edit(ws, change) for change in changes_of(editor)])
            readings = editor.read(ws)
        return {
            "ws": Near(ws),
            "edited": Near(edited),
            "readings": Near(readings, 1e-4),  # of products of the code with a direction, whose terms cancel out
            "about": Exact([editor.method, list(editor.attributes), list(editor.kinds), editor.space]),
            "fingerprint": Exact(fingerprint_of(editor)),
        }

    return make


def fitting(method: str) -> Callable[[Path], Mapping[str, Value]]:
    """The edits of an editor that is fitted anew."""

    def make(_: Path) -> Mapping[str, Value]:
        editor, ws = fitted(method), toy_codes(2)
        with torch.no_grad():
            readings = editor.read(ws)
        tolerance = CLOSED if method in CLOSED_FORMS else TRAINED
        return {
            "moves": Alike(moves(editor, ws), tolerance),
            "readings": Alike(readings, tolerance),
            "about": Exact([editor.method, list(editor.attributes), list(editor.kinds), editor.space]),
        }

    return make


for _method in METHODS():
    if (SAVED / "editors" / f"{_method}.safetensors").exists():  # else it's new, and shipped nothing that must be read
        snapshot(f"edits/{_method}")(editing(_method))
    snapshot(f"fits/{_method}", slow=_method not in CLOSED_FORMS)(fitting(_method))
snapshot("edits/imported")(editing("imported"))


# Editors that ship, and pictures.


def shipped(name: str, change: Mapping[str, float], seed: int) -> Callable[[Path], Mapping[str, Value]]:
    """One edit of an editor that ships, and its picture."""

    def make(_: Path) -> Mapping[str, Value]:
        network = generator(name.partition("/")[0])
        editor, ws = ganvas.load_editor(name, network), ganvas.sample(network, 2, psi=0.7, seed=seed)
        with torch.no_grad():
            edited = editor.edit(ws, change)
            return {
                "ws": Near(ws[:, :1]),
                "edited": Near(edited[:, :1]),
                "rows differ": Exact(bool((edited != edited[:, :1]).any())),
                "readings": Near(editor.read(ws), 1e-4),
            } | pixels_of(network, edited)

    return make


def pixels_of(network: ganvas.Generator, ws: Tensor, tolerance: float = 1e-4) -> dict[str, Value]:
    """Pictures as block means, and their middles pixel by pixel."""
    with torch.no_grad():
        images = network.synthesis(ws).permute(0, 2, 3, 1).numpy()
    middle, half = images.shape[1] // 2, min(12, images.shape[1] // 2)
    cut = slice(middle - half, middle + half)
    small = np.stack([shrunken(image) for image in images])
    return {"picture": Near(small, tolerance), "middle": Near(images[:, cut, cut], tolerance)}


snapshot("shipped/ffhq-compact", needs=["ffhq"])(
    shipped("ffhq/compact", {"Smiling": 1.0, "Eyeglasses": 1.5}, 2_000_000)
)
snapshot("shipped/multimnist-cardinality")(shipped("multimnist/cardinality", {"count": 1.0}, 2_000_000))


def drawing(name: str, seed: int, psi: float) -> Callable[[Path], Mapping[str, Value]]:
    """Pictures of seeds, without an edit."""

    def make(_: Path) -> Mapping[str, Value]:
        network = generator(name)
        ws = ganvas.sample(network, 2, psi=psi, seed=seed)
        about = [network.fingerprint, network.z_dim, network.w_dim, network.num_ws, network.resolution]
        rows = list(network.row_resolutions)
        return {"ws": Near(ws[:, 0]), "about": Exact([*about, network.num_labels, rows])} | pixels_of(network, ws)

    return make


snapshot("synthesis/toy")(drawing("toy", 3, 1.0))
snapshot("synthesis/multimnist")(drawing("multimnist", 3, 1.0))
snapshot("synthesis/ffhq", needs=["ffhq"])(drawing("ffhq", 3, 0.7))


# What ships.


@snapshot("assets/files")
def _(_: Path) -> Mapping[str, Value]:
    """Every file of numbers; a change of one is meant."""
    found = sorted(path for path in ASSETS.rglob("*.safetensors"))
    digests = {path.relative_to(ASSETS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
    return {"files": Exact(digests)}


@snapshot("assets/editors")
def _(_: Path) -> Mapping[str, Value]:
    found = {name: ganvas.load_editor(name) for name in EDITORS()}
    about = {
        name: [editor.method, fingerprint_of(editor), editor.generator, list(editor.attributes)]
        for name, editor in found.items()
    }
    return {"about": Exact(about)}


def patterns(side: int = 256) -> Tensor:
    """Two smooth pictures, which scorers and encoders may make of what they like."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    first = torch.stack((torch.sin(3 * x + y), torch.cos(2 * y), x * y))
    second = torch.stack((1 - 2 * (x**2 + y**2), torch.sin(5 * y), torch.cos(4 * x)))
    return torch.stack((first, second)).clamp(-1, 1)


@snapshot("assets/scorers")
def _(_: Path) -> Mapping[str, Value]:
    found: dict[str, Value] = {"names": Exact(list(list_scorers()))}
    for name in ("toy", "celeba40", "count"):
        scorer = ganvas.load_scorer(name)
        found[f"{name}"] = Exact([scorer.fingerprint, list(scorer.attributes), list(scorer.kinds)])
        with torch.no_grad():
            found[f"{name} scores"] = Near(scorer(patterns()), 1e-4)  # logits of networks of many layers
    return found


@snapshot("assets/reading", needs=["dlib", "face_recognition_models"])
def _(_: Path) -> Mapping[str, Value]:
    scorer = ganvas.load_scorer("celeba40_reading")
    return {"about": Exact([scorer.fingerprint, list(scorer.attributes), list(scorer.kinds)])}


@snapshot("assets/labels", slow=True)
def _(_: Path) -> Mapping[str, Value]:
    return labels_of({"multimnist-count": "multimnist"}) | {"names": Exact(list_labels())}


@snapshot("assets/ffhq", slow=True, needs=["ffhq"])
def _(_: Path) -> Mapping[str, Value]:
    """The labels and the encoder of faces."""
    encoder = read_encoder(ASSETS / "encoders" / "ffhq.safetensors", generator("ffhq"))
    with torch.no_grad():
        ws = encoder(patterns())
    found = labels_of({"ffhq-celeba40": "ffhq"})
    return found | {"encoded": Near(ws, 1e-4)}


def labels_of(packs: Mapping[str, str]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, network in packs.items():
        data = load_labels(name, generator(network))
        about = [len(data), list(data.attributes), list(data.kinds), data.generator, data.scorer]
        found |= {name: Exact(about), f"{name} scores": Near(data.scores[:3]), f"{name} codes": Near(data.codes[:2])}
        found[f"{name} mean"] = Near(data.scores.double().mean(0), 1e-4)
    return found


# Files of the code of one day, which later code reads.


def save_files(folder: Path) -> None:
    """Write ``saved/`` anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "editors").mkdir(parents=True)
    for method in METHODS():
        editors.save(fitted(method), folder / "editors" / f"{method}.safetensors")
    before = Path.cwd()
    os.chdir(folder)
    try:
        _save_all()
    finally:
        os.chdir(before)
    for path in folder.rglob("*"):
        if path.name.startswith("images-"):
            path.unlink()


def _save_all() -> None:
    succeed("label", "toy", "-n", 80, "--out", "labels", "--pack", "pack.safetensors")
    succeed("label", "toy", "-n", 80, "--out", "labels", "--pack", "pack8.safetensors", "--bits", 8)
    np.save("Bright.npy", np.linspace(-1, 1, 64).astype(np.float32))
    like = ("--labels", "pack.safetensors", "--name", "slope")
    succeed("import-direction", "Bright.npy", "--generator", "toy", "--out", "editors/imported.safetensors", *like)
    np.save("foreign.npy", np.random.RandomState(0).randn(2, 4, 64).astype(np.float32))
    editor = ("--editor", "editors/compact.safetensors")
    succeed("sample", "toy", "-n", 3, "--seed", 5, "--out", ".", "--save-codes", "codes.safetensors")
    edits = ("--set", "Big=1", "--shift", "Red=-1", *editor)
    succeed("edit", "toy", "--seed", 7, *edits, "--out", "edited.png")
    succeed("edit", "toy", "--codes", "codes.safetensors", "--row", 1, *edits, "--out", "row.png")
    succeed("sample", "toy", "-n", 1, "--seed", 9, "--where", "Big>1", "--where", "Red=-1", *editor, "--out", "where")
    succeed("mix", "toy", "--seed", 1, "--with", 2, "--rows", "0-1", "--out", "mix.png")
    sheet = ("--attributes", "Big,Red", "--strengths", "-2,0,2", "--size", 32)
    succeed("grid", "toy", *sheet, *editor, "--out", "grid.png")
    succeed("animate", "toy", "--to", 8, "--frames", 3, "--size", 32, "--out", "animation.gif")
    aligned = ("--generator", "toy", "--aligned", "--method", "optimize", "--steps", 5)
    succeed("invert", "seed0005.png", *aligned, "--shift", "Big=1", "--dtype", "bfloat16", *editor, "--out", "inverted")
    succeed("edit", "multimnist", "--seed", 3, "--shift", "count=1", "--out", "digits.png")
    succeed("edit", "ffhq", "--seed", 3, "--set", "Smiling=1", "--shift", "Young=-1", "--out", "face.png")
    Path("face.png").unlink()  # of 1024×1024: the JSON says it all
    multimnist()
    succeed("train-gan", "multimnist", "--out", "gan", *GAN, "--images", 8)
    for path in [*Path("gan").glob("samples-*"), Path("mnist.npz")]:
        path.unlink()
    succeed("finish-gan", "gan", "--out", "generator.safetensors")
    for seed in (5, 6, 7):
        Path(f"seed000{seed}.json").unlink()
    Path("generator.png").unlink()
    where = ("--where", "p(Bright)>0.8", "--editor", "editors/mean_difference.safetensors")
    succeed("balance", "toy", *where, "-n", 2, "--out", "balanced")


GAN = ("--preset", 16, "--option", "widths=[4,4,4]", "--option", "critic_widths=[4,4,4]", "--option", "batch=4")
GAN += ("--option", "w_dim=8", "--option", "z_dim=8", "--option", "precision=float32", "--checkpoint", 8)


def multimnist() -> None:
    """Digits that are grey blocks, and a set made of them."""
    rng = np.random.RandomState(0)
    images = np.zeros((20, 28, 28), np.uint8)
    images[:, 5:20, 8:16] = rng.randint(100, 255, (20, 15, 8))
    told = np.arange(20, dtype=np.uint8) % 10
    np.savez_compressed("mnist.npz", x_train=images, y_train=told, x_test=images[:10], y_test=told[:10])
    made = ("--mnist", "mnist.npz", "--out", "multimnist", "--size", 16, "-n", 20, "--test", 4, "--counts", "1")
    succeed("make-multimnist", *made)


@snapshot("saved/labels")
def _(_: Path) -> Mapping[str, Value]:
    found: dict[str, Value] = {}
    for name in ("labels", "pack.safetensors", "pack8.safetensors"):
        data = load_labels(SAVED / name, generator("toy"))
        found[name] = Exact([len(data), list(data.attributes), list(data.kinds), data.generator, data.scorer])
        found |= {f"{name} scores": Near(data.scores[:5]), f"{name} codes": Near(data.codes[:2])}
    return found


@snapshot("saved/codes")
def _(_: Path) -> Mapping[str, Value]:
    codes = load_codes(SAVED / "codes.safetensors", generator("toy"))
    return {"ws": Near(codes.ws), "sha256": Exact(codes.sha256)}


@snapshot("saved/generator")
def _(_: Path) -> Mapping[str, Value]:
    found: dict[str, Value] = {}
    for name in ("generator.safetensors", "gan/generator.safetensors"):
        network = ganvas.load_generator(SAVED / name)
        ws = ganvas.sample(network, 1, psi=0.7, seed=1)
        found[name] = Exact([network.fingerprint, network.z_dim, network.num_ws, network.resolution])
        found |= {f"{name} {key}": value for key, value in pixels_of(network, ws).items()}
    return found


RENDERED = {
    "edited.json": ("--editor", "editors/compact.safetensors"),
    "edited.png": ("--editor", "editors/compact.safetensors"),
    "row.json": ("--editor", "editors/compact.safetensors", "--codes", "codes.safetensors"),
    "row.png": ("--editor", "editors/compact.safetensors"),
    "where/seed0009.json": ("--editor", "editors/compact.safetensors"),
    "mix.json": (),
    "grid.json": ("--editor", "editors/compact.safetensors"),
    "animation.json": (),
    "inverted/seed0005.json": ("--codes", "inverted/seed0005.safetensors"),
    "inverted/seed0005-edited.json": (
        *("--codes", "inverted/seed0005.safetensors", "--photo", "inverted/seed0005-photo.png"),
        *("--editor", "editors/compact.safetensors"),
    ),
    "digits.png": (),
}
"""Recipes -> what is told beside them."""


def rendering(recipe: str, where: tuple[str, ...]) -> Callable[[Path], Mapping[str, Value]]:
    def make(folder: Path) -> Mapping[str, Value]:
        shutil.copytree(SAVED, folder, dirs_exist_ok=True)
        out = folder / ("again.gif" if recipe.startswith("animation") else "again.png")
        code, _, errors = command("render", recipe, "--out", out.name, *where)
        return {"exit": Exact([code, errors])} | ({"pixels": Pixels(frames_of(out))} if out.exists() else {})

    return make


for _recipe, _where in RENDERED.items():
    snapshot(f"recipes/{_recipe.replace('/', '-')}")(rendering(_recipe, _where))
snapshot("recipes/face.json", needs=["ffhq"])(rendering("face.json", ()))


# Commands: exit code, output, files written.


def options_of(command: typer.core.TyperCommand) -> list[str]:
    return sorted(name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts))


@snapshot("cli/commands")
def _(_: Path) -> Mapping[str, Value]:
    """All commands, with their arguments and options."""
    now = {new: name for name, new in COMMANDS.items()}
    found = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    return {"commands": Exact({now.get(name, name): options_of(command) for name, command in sorted(found.items())})}


COMPACT = ("--editor", "editors/compact.safetensors")
MEAN = ("--editor", "editors/mean_difference.safetensors")
ALIGNED = ("--generator", "toy", "--aligned", "--method", "optimize", "--steps", 5)
CLI: dict[str, tuple[object, ...]] = {
    "list": ("list",),
    "edit": ("edit", "toy", "--seed", 7, "--set", "Big=1", *COMPACT, "--save-codes", "out.safetensors"),
    "edit-plain": ("edit", "toy", "--seed", 2, "--psi", 1),
    # The default editor searches, and a search ends elsewhere on another processor.
    "edit-multimnist": ("edit", "multimnist", "--seed", 2, "--set", "count=3", "--editor", "multimnist/cardinality"),
    "edit-own": ("edit", "generator.safetensors", "--seed", 2),
    "sample": ("sample", "toy", "--seeds", "3-4,9", "--shift", "Red=1", *MEAN),
    "sample-where": ("sample", "toy", "-n", 2, "--where", "Big>1", "--where", "Red=-1", *COMPACT),
    "sample-codes": ("sample", "toy", "--codes", "codes.safetensors"),
    "mix": ("mix", "toy", "--seed", 1, "--with", 2, "--rows", "0-1"),
    "render": ("render", "edited.json", *COMPACT, "--out", "again.png"),
    "render-lost": ("render", "row.json", *COMPACT, "--out", "again.png"),
    "grid": ("grid", "toy", "--attributes", "Big,Red", "--strengths", "-2,0,2", "--size", 32, *MEAN, "--out", "g.png"),
    "animate": ("animate", "toy", "--shift", "Big=3", "--frames", 3, "--size", 32, *MEAN, "--out", "a.gif"),
    "score": ("score", "seed0005.png", "seed0006.png"),
    "score-json": ("score", "digits.png", "--json"),
    "label": ("label", "toy", "-n", 70, "--out", "more", "--pack", "more.safetensors"),
    "label-again": ("label", "toy", "-n", 80, "--out", "labels"),
    "label-other": ("label", "toy", "-n", 80, "--psi", 0.5, "--out", "labels"),
    "fit": ("fit", "mean_difference", "labels", "--generator", "toy", "--out", "e.safetensors", "--option", "share=.2"),
    "fit-attributes": ("fit", "ganspace", "pack.safetensors", "--generator", "toy", "--out", "e.safetensors"),
    "fit-unknown": ("fit", "compcat", "labels", "--generator", "toy", "--out", "e.safetensors"),
    "learn": ("learn", "toy", "--scorer", "toy", "--out", "learned", "-n", 256, "--method", "mean_difference"),
    "import-direction": ("import-direction", "Bright.npy", "--generator", "toy", "--out", "e.safetensors"),
    "import-codes": ("import-codes", "foreign.npy", "--generator", "toy", "--out", "c.safetensors"),
    "balance": ("balance", "toy", "--where", "p(Bright)>0.8", *MEAN, "-n", 3, "--out", "set"),
    "balance-again": ("balance", "toy", "--where", "p(Bright)>0.8", *MEAN, "-n", 2, "--out", "balanced"),
    "info": ("info", "generator.safetensors"),
    "info-editor": ("info", "editors/compact.safetensors"),
    "convert": ("convert", "generator.safetensors", "--out", "converted.safetensors"),
    "finish-gan": ("finish-gan", "gan", "--out", "finished.safetensors"),
    "train-gan": ("train-gan", "multimnist", "--out", "gan", *GAN, "--images", 12),
    "make-multimnist": ("make-multimnist", "--mnist", "nowhere", "--out", "set"),
    "train-encoder-wrong": ("train-encoder", "labels", "--generator", "toy", "--out", "c.safetensors"),
    "train-scorer-wrong": ("train-scorer", "nowhere.parquet", "--out", "s.safetensors"),
    "join-scorers-wrong": ("join-scorers", "nowhere.parquet", "a.safetensors", "--out", "s.safetensors"),
    "evaluate-wrong": ("evaluate", "toy", "--quick", "--share", 0.5, "--out", "report"),
    "invert": (
        "invert",
        "seed0006.png",
        *ALIGNED,
        "--shift",
        "Big=1",
        "--dtype",
        "float32",
        *COMPACT,
        "--out",
        "found",
    ),
    "align-nobody": ("align", "seed0005.png"),
    "success": ("success", "toy", "--attributes", "Big", "-n", 4, *MEAN, "--out", "found"),
    "evaluate": (
        *("evaluate", "toy", "--quick", "--methods", "mean_difference", "--attributes", "Bright"),
        *("--labels", "labels", "--out", "report"),
    ),
    "usage": ("edit",),
    "app-unknown": ("app", "tyo"),
    "no-command": ("no-such-command",),
}
"""Case -> a command, in a copy of ``saved/``."""
MORE = {"learn": ("--no-bench",), "fit-attributes": ("--attributes", "Red,Big", "--option", "layers=0-1")}
SLOW = {"invert", "align-nobody", "success", "evaluate", "train-gan", "finish-gan", "app-unknown"}
NEEDS = {"align-nobody": ["dlib", "face_recognition_models"], "app-unknown": ["gradio"]}
UNSTABLE = {"invert", "success", "evaluate", "train-gan", "finish-gan", "learn", "fit", "fit-attributes", "balance"}
UNSTABLE |= {"sample-codes", "edit", "sample-where", "sample", "grid", "animate", "import-codes", "import-direction"}
UNSTABLE |= {"balance-again"}
"""What writes hashes of numbers that were computed, which differ in their last digits."""
TIMED = {"report/timings.json"}


def outcome(folder: Path, words: tuple[object, ...], unstable: bool = False) -> dict[str, Value]:
    """What a command prints, its exit code, and what it writes."""
    before = {name: (folder / name).stat().st_mtime_ns for name in names_in(folder)}
    code, out, errors = command(str(words[0]), *words[1:])
    after = names_in(folder)
    changed = sorted(name for name in after if before.get(name) != (folder / name).stat().st_mtime_ns)
    found: dict[str, Value] = {
        "exit": Exact(code),
        "out": Text(out, trained=unstable),
        "errors": Text("" if code == 2 else errors, trained=unstable),  # of wrong usage typer says what it likes
        "written": Exact(changed),
        "deleted": Exact(sorted(before.keys() - after)),
    }
    for name in changed:
        path = folder / name
        if "/work/" in name:  # what a run keeps for itself
            continue
        if path.suffix in (".png", ".gif"):
            found[f"pixels of {name}"] = Pixels(frames_of(path), *((6.0, 0.5) if unstable else ()))
        elif path.suffix == ".safetensors":
            found[f"tensors of {name}"] = Exact(outline(path))
        elif path.suffix == ".json" and name not in TIMED and path.stat().st_size < 20_000:
            found[f"text of {name}"] = Text(plain_json(path), trained=unstable)
    return found


def commanding(name: str) -> Callable[[Path], Mapping[str, Value]]:
    def make(folder: Path) -> Mapping[str, Value]:
        shutil.copytree(SAVED, folder, dirs_exist_ok=True)
        return outcome(folder, (*CLI[name], *MORE.get(name, ())), name in UNSTABLE)

    return make


for _name in CLI:
    snapshot(f"cli/{_name}", slow=_name in SLOW, needs=NEEDS.get(_name, ()))(commanding(_name))


@snapshot("cli/make-multimnist-small")
def _(folder: Path) -> Mapping[str, Value]:
    multimnist()
    made = ("make-multimnist", "--mnist", "mnist.npz", "--out", "set", "--size", 32, "-n", 12, "--counts", "2-3")
    return outcome(folder, made)


@snapshot("cli/train-encoder", slow=True)
def _(folder: Path) -> Mapping[str, Value]:
    succeed("label", "toy", "-n", 1040, "--out", "faces", "--keep-images")
    found = outcome(folder, ("train-encoder", "faces", "--generator", "toy", "--epochs", 1, "--out", "e.safetensors"))
    return {key: value for key, value in found.items() if key != "out"}


@snapshot("cli/align", slow=True, needs=["ffhq", "dlib", "face_recognition_models"])
def _(folder: Path) -> Mapping[str, Value]:
    """A face that the generator draws, found and cut."""
    succeed("edit", "ffhq", "--seed", 3, "--out", "photo.png")
    return outcome(folder, ("align", "photo.png", "--size", 256, "--out", "faces"))


@snapshot("cli/invert-face", slow=True, needs=["ffhq", "dlib", "face_recognition_models"])
def _(folder: Path) -> Mapping[str, Value]:
    """The encoder of faces on one that the generator draws, edited and put back."""
    succeed("edit", "ffhq", "--seed", 3, "--out", "photo.png")
    words = ("invert", "photo.png", "--method", "encoder", "--shift", "Smiling=1", "--dtype", "float32", "--aligned")
    return outcome(folder, (*words, "--out", "found"), True)


@snapshot("cli/app", slow=True, needs=["gradio"])
def _(_: Path) -> Mapping[str, Value]:
    """The page, opened and ended by Ctrl-C."""
    import signal

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "ganvas", "app", "toy", "--port", str(port), "--dtype", "float32"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return {"out": Text(line + rest), "exit": Exact(process.returncode)}


@snapshot("cli/demo", slow=True, needs=["ffhq"])
def _(folder: Path) -> Mapping[str, Value]:
    """All of the demo, with pictures and fit of whatever precision the processor is quickest with: wide tolerances."""
    code, out, _ = command("demo", "--out", "out")
    pictures = {f"pixels of {path.name}": frames_of(path) for path in sorted((folder / "out").glob("*.png"))}
    drawn = ("grid.png", "several.png", "samples.png")
    return {
        "exit": Exact(code),
        "out": Text(out),
        "written": Exact(sorted(name for name in names_in(folder) if "/." not in name)),
        **{
            name: Pixels(value, 40.0, 2.0)
            for name, value in pictures.items()
            if name.removeprefix("pixels of ") in drawn
        },
    }
