"""Damaged files of every kind that ganvas reads end in a result or a GanvasError, within time and memory.

    python tests/fuzz.py                            20,000 files, on all cores
    python tests/fuzz.py --kind nvidia --seed 123   one of them again

A file that fails is kept under out/fuzz, named after its kind and seed.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest import mock

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import mutations as damage
import numpy as np
import stylegan2_layouts
import torch
from fitted_editors import NONLINEAR, TOY, count_labels, labels
from gan_layouts import (
    CONFIG,
    convert_to_tensorflow,
    make_biggan_state,
    make_gan_zoo_state,
    make_genforce_state,
    write_gan_zoo,
)
from nvidia_pickles import dumps, network, save_module, snapshot
from PIL import Image, ImageCms
from tensorflow_pickles import Network as TensorFlowNetwork
from tensorflow_pickles import draw_stylegan1, write_stylegan2, write_variables
from tensorflow_pickles import dumps as write_networks
from test_checkpoints import SHAPES, theirs
from test_layouts import pack_tar, pack_zip
from test_stylegan1 import TINY
from test_stylegan1_checkpoints import write_genforce
from test_stylegan2 import state_of

from ganvas import editors, load_generator, sample
from ganvas.checkpoints import _mean
from ganvas.data import label_csv
from ganvas.data.codes import Codes, load_codes, save_codes, unpack_codes
from ganvas.editors.base import Editor
from ganvas.editors.masked import MaskedEditor
from ganvas.editors.published import import_directions, read_direction
from ganvas.errors import GanvasError
from ganvas.inversion.imported_codes import load_imported_codes
from ganvas.io.files import save_tensors
from ganvas.io.images import read_picture
from ganvas.recipe.files import load_recipe, save_picture
from ganvas.recipe.model import (
    EditStep,
    FromCodes,
    FromConditions,
    FromSeed,
    Mix,
    NamedTool,
    Recipe,
    from_json,
    to_json,
)
from ganvas.recipe.rendering import Tools, render
from ganvas.recipe.sheet import Sheet, render_frames
from ganvas.scorers import load_scorer
from ganvas.scorers.celeba40 import ATTRIBUTES, build_network

MEMORY, SECONDS, PIXELS = 800_000_000, 10, 4_000_000
"""What a file may take: bytes beyond the worker's own, seconds of processor time, and pixels if it is a picture."""
FINE = ("read", "refused")


class Kind(NamedTuple):
    """A suffix, the files to damage, what a reader does with one, and damage to its structure."""

    suffix: str
    files: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    structure: damage.Mutation


def written(write: Callable[[Path], object], suffix: str) -> bytes:
    """What ``write`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path)
        return path.read_bytes()


def fitted(method: str) -> Editor:
    """A method's editor, barely fitted."""
    brief: dict[str, dict[str, Any]] = {name: options | {"steps": 2, "width": 4} for name, options in NONLINEAR.items()}
    brief["compact"] = {"width": 8, "batch": 256, "epochs": 1}
    brief["cardinality"] = {"classifier_steps": 10, "steps": 2, "batch": 64, "classifiers": 1, "hidden": [4]}
    data = count_labels(300) if editors.get_learnable_kinds(method) == ("count",) else labels(300)
    return editors.fit(method, data, TOY, **brief.get(method, {}))


@cache
def tools() -> Tools:
    """The toy with an editor and two codes."""
    return Tools(
        TOY, "float32", fitted("compact"), NamedTool("mine", "f" * 64), Codes(sample(TOY, 2), "c" * 64, range(2))
    )


def recipes() -> list[Recipe | Sheet]:
    named: dict[str, Any] = {"generator": tools().generator_name, "editor": tools().editor_name}
    steps = (EditStep(set={"Red": 1.0}, shift={"Big": -0.5}), EditStep(shift={"Striped": 2.0}, amount=0.5))
    plain = Recipe(start=FromSeed(3), **named)
    mixed = Recipe(start=FromCodes("c" * 64, 1), mix=Mix(FromSeed(5, 0.5), (0, 2), 0.5), edits=steps, **named)
    drawn = Recipe(start=FromConditions({"Red": (0.5, None), "Bright": (-1.0, 1.0)}, 7), edits=steps[:1], **named)
    grid = Sheet("grid", (plain, replace(plain, edits=steps)), ("one",), ("0", "1"), 16)
    return [plain, mixed, drawn, grid, Sheet("animation", (plain, mixed), (), (), 16, 8.0)]


def recipe_pictures() -> list[bytes]:
    pixels = torch.arange(16 * 16 * 3).reshape(16, 16, 3).to(torch.uint8)
    return [written(lambda p, r=recipe: save_picture(p, pixels, r, tools().codes), ".png") for recipe in recipes()[:4]]


def read_recipe(path: Path) -> None:
    recipe, carried = load_recipe(path)
    assert from_json(to_json(recipe), path) == recipe
    own = tools() if carried is None else tools().with_codes(unpack_codes(carried, path, TOY))
    if isinstance(recipe, Recipe):
        render(recipe, own)
    elif len(recipe.pictures) < 20:
        render_frames(recipe, own)


def editor_files() -> list[bytes]:
    """One of each method, one of a direction of one's own and one that keeps to some rows."""
    made = [fitted(method) for method in editors.list_methods()]
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "a.npy", np.ones(TOY.w_dim, np.float32))
        made.append(import_directions({"a": Path(folder) / "a.npy"}, TOY, labels(300), {}))
    made.append(MaskedEditor(made[0], (0, 2), TOY.num_ws))
    return [written(lambda p, e=editor: editors.save(e, p), ".safetensors") for editor in made]


def read_editor(path: Path) -> None:
    editor, ws = editors.load_editor(path, TOY), sample(TOY, 2)
    editors.format_report_lines(editor)
    editor.edit(ws, {editor.attributes[-1]: 1.0})
    editor.read(ws)


def scorer_files() -> list[bytes]:
    """The counter that ships, and an untrained network of celeba40's kind."""
    network = build_network("cnn").state_dict() | {
        "scale": torch.ones(len(ATTRIBUTES)),
        "offset": torch.zeros(len(ATTRIBUTES)),
    }
    half = {name: value.half() for name, value in network.items() if "num_batches" not in name}
    about = {"scorer": "celeba40", "arch": "cnn"}
    counter = Path(editors.__file__).parents[1] / "assets" / "scorers" / "count.safetensors"
    return [counter.read_bytes(), written(lambda p: save_tensors(p, half, about), ".safetensors")]


def read_scorer(path: Path) -> None:
    scorer = load_scorer(str(path))
    scorer(torch.zeros(1, 3, 64, 64))
    assert all(torch.isfinite(value).all() for value in scorer.state_dict().values())


def tensorflow_files() -> list[bytes]:
    networks = [
        TensorFlowNetwork("Gs", write_stylegan2(state_of(SHAPES[kind]), SHAPES[kind]), {})
        for kind in ("skip", "labels")
    ]
    networks.append(TensorFlowNetwork("Gs", write_variables(draw_stylegan1(TINY)), {}))
    growing = write_variables(convert_to_tensorflow(make_genforce_state(), fused=True))
    networks.append(TensorFlowNetwork("Gs", growing, {"label_size": 0}))
    return [write_networks(value, protocol) for value in networks for protocol in (3, 4)]


def rosinality_files() -> list[bytes]:
    files, state = [], theirs(SHAPES["skip"])
    for parts in ({}, {"latent_avg": state_of(SHAPES["skip"])["mapping.w_avg"]}):
        for modern in (True, False):
            stream = io.BytesIO()
            torch.save({"g_ema": state, "d": {}, **parts}, stream, _use_new_zipfile_serialization=modern)
            files.append(stream.getvalue())
    return files


def layout_files() -> list[bytes]:
    """The same network in other layouts that torch.save writes: a bundle, state dicts, and whole modules."""
    shape = stylegan2_layouts.SHAPE
    state = state_of(shape)
    names = stylegan2_layouts.rosinality(state, shape)
    bundle = stylegan2_layouts.encoder() | stylegan2_layouts.prefixed("decoder.", names)
    values = (
        {"state_dict": bundle, "latent_avg": state["mapping.w_avg"]},
        state,
        stylegan2_layouts.genforce(state, shape),
        write_genforce(draw_stylegan1(TINY), TINY),
        stylegan3_state(),
    )
    module = stylegan2_layouts.as_module(names, {"style.1": {"lr_mul": 0.01}})
    return [
        *(written(lambda path, value=value: torch.save(value, path), ".pt") for value in values),
        written(lambda path: stylegan2_layouts.save_whole(module, path), ".pt"),
        written(lambda path: save_module(network(state, shape), path), ".pt"),
    ]


@cache
def stylegan3_state() -> dict[str, torch.Tensor]:
    """The state dict of a StyleGAN3."""
    from stylegan3 import design

    return design(16, "t", 3, 0.015, z_dim=6, w_dim=7)[1]


def pggan_files() -> list[bytes]:
    return [
        written(lambda path: write_gan_zoo(path, make_gan_zoo_state()), ".pth"),
        written(lambda path: torch.save({"generator_smooth": make_genforce_state(0.5)}, path), ".pth"),
    ]


def read_biggan(path: Path) -> None:
    """Read damaged weights beside a config, or a damaged config beside weights."""
    with tempfile.TemporaryDirectory() as folder:
        weights, config = Path(folder) / "pytorch_model.bin", Path(folder) / "config.json"
        if path.suffix == ".json":
            torch.save(make_biggan_state(), weights)
            config.write_bytes(path.read_bytes())
        else:
            config.write_text(json.dumps(CONFIG), encoding="utf-8")
            weights.write_bytes(path.read_bytes())
        read_generator(Path(folder))


def code_files() -> list[bytes]:
    """Codes of others in NumPy's archives: as a projector writes them, and with noise beside them."""
    ws, files = sample(TOY, 2).numpy(), []
    for arrays in ({"w": ws[:1]}, {"latents": ws, "noise": np.zeros((3, 4))}, {"w_plus": ws.astype(np.float16)}):
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        files.append(stream.getvalue())
    return files


def component_files() -> list[bytes]:
    """Components of W as GANSpace's code writes them."""
    stream = io.BytesIO()
    np.savez(stream, act_comp=np.eye(3, TOY.w_dim, dtype=np.float32)[:, None], lat_mean=np.zeros((1, TOY.w_dim)))
    return [stream.getvalue()]


def archive_files() -> list[bytes]:
    content = dumps(snapshot(state_of(SHAPES["skip"]), SHAPES["skip"]), 4)
    return [gzip.compress(content), pack_zip({"README.md": b"x", "g.pkl": content}), pack_tar({"g.pkl": content})]


def read_generator(path: Path) -> None:
    with mock.patch.object(_mean, "SAMPLES", 16):  # thousands of codes would take a second a file
        generator = load_generator(path)
    one_hot = torch.eye(generator.num_labels)[:1] if generator.num_labels else None
    generator.synthesis(sample(generator, 1, labels=one_hot))


def picture_files(form: str) -> list[bytes]:
    """Pictures of 16×12 pixels in the format's modes and packings."""
    pixels = np.random.RandomState(0).randint(0, 256, (12, 16, 4)).astype(np.uint8)
    colour, clear = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "somewhere"
    noted = {"exif": exif, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    grey, packings = colour.convert("L"), ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    modes: dict[str, list[tuple[Image.Image, dict[str, Any]]]] = {
        "JPEG": [(colour, {}), (colour, {"progressive": True, **noted}), (grey, {}), (colour.convert("CMYK"), {})],
        "PNG": [(colour, {}), (clear, noted), (deep, {}), (colour.convert("P"), {"transparency": 3})],
        "TIFF": [(colour, noted), (clear, {}), (deep, {}), (colour.convert("1"), {"compression": "group4"})]
        + [(colour, {"compression": packing}) for packing in packings],
    }
    files = []
    for picture, options in modes[form]:
        stream = io.BytesIO()
        picture.save(stream, form, **options)
        files.append(stream.getvalue())
    return files


def check_picture(path: Path) -> None:
    picture = read_picture(path, PIXELS)
    assert picture.shape[:2] == (1, 3) and picture.abs().max() <= 1


def tables() -> list[bytes]:
    rows = [f"{i},{i % 2},{i * 7 % 50 + 0.5}" for i in range(20)]
    return ["\n".join(["index,Smiling,Age", *rows, ""]).encode(), b"\xef\xbb\xbfindex,A\r\n3,0.5\r\n8,1\r\n9,-1\r\n"]


KINDS = {
    "recipe": Kind(
        ".json", lambda: [json.dumps(to_json(r), indent=2).encode() for r in recipes()], read_recipe, damage.json_text
    ),
    "recipe-png": Kind(".png", recipe_pictures, read_recipe, damage.png),
    "editor": Kind(".safetensors", editor_files, read_editor, damage.safetensors),
    "codes": Kind(
        ".safetensors",
        lambda: [written(lambda p, n=n: save_codes(p, sample(TOY, n), TOY), ".safetensors") for n in (1, 3)],
        lambda path: TOY.synthesis(load_codes(path, TOY).get_code(0)),
        damage.safetensors,
    ),
    "scorer": Kind(".safetensors", scorer_files, read_scorer, damage.safetensors),
    "nvidia": Kind(
        ".pkl",
        lambda: [dumps(snapshot(state_of(s), s), protocol) for s in SHAPES.values() for protocol in (3, 4)],
        read_generator,
        damage.pickled,
    ),
    "tensorflow": Kind(".pkl", tensorflow_files, read_generator, damage.pickled),
    "rosinality": Kind(".pt", rosinality_files, read_generator, damage.torch_save),
    "layouts": Kind(".pt", layout_files, read_generator, damage.torch_save),
    "pggan": Kind(".pth", pggan_files, read_generator, damage.torch_save),
    "biggan": Kind(
        ".bin",
        lambda: [written(lambda path: torch.save(make_biggan_state(), path), ".bin")],
        read_biggan,
        damage.torch_save,
    ),
    "biggan-config": Kind(".json", lambda: [json.dumps(CONFIG).encode()], read_biggan, damage.json_text),
    "imported-codes": Kind(".npz", code_files, lambda path: load_imported_codes(path, TOY), damage.archive),
    "components": Kind(".npz", component_files, lambda path: read_direction(path, component=0), damage.archive),
    "archives": Kind(".zip", archive_files, read_generator, damage.damage_bytes),
    "jpeg": Kind(".jpg", lambda: picture_files("JPEG"), check_picture, damage.jpeg),
    "png": Kind(".png", lambda: picture_files("PNG"), check_picture, damage.png),
    "tiff": Kind(".tif", lambda: picture_files("TIFF"), check_picture, damage.tiff),
    "csv": Kind(".csv", tables, lambda path: label_csv.read_label_csv(path, TOY), damage.csv),
}


def damaged(name: str, files: list[bytes], seed: int) -> bytes:
    """One of the files, damaged by its bytes, by its structure, or by both."""
    rng, structure = Random(f"{name} {seed}"), KINDS[name].structure
    data, other = rng.choice(files), rng.choice(files)
    ways = ((damage.damage_bytes,), (structure,), (structure,), (structure, damage.damage_bytes))
    for way in rng.choice(ways):
        data = way(data, other, rng)
    return data


def try_one(name: str, content: bytes, folder: str | Path) -> str:
    """How reading a file ended: "read", "refused", or a traceback."""
    path = Path(folder) / f"{name}{KINDS[name].suffix}"
    path.write_bytes(content)
    try:
        with torch.no_grad():
            KINDS[name].read(path)
    except GanvasError as error:
        return "refused" if "\n" not in str(error) else f"An error of several lines: {str(error)!r}"
    except BaseException:  # whatever it is, it is reported
        return traceback.format_exc()
    return "read"


def work(pipe: Any, files: dict[str, list[bytes]]) -> None:
    """Say which undamaged files fail, then try the cases (kind, seed) that come until None does."""
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # warnings of libtiff's
    with tempfile.TemporaryDirectory() as folder:
        # What is loaded once counts as the worker's own.
        ends = [(name, try_one(name, content, folder)) for name in files for content in files[name]]
        if sys.platform == "linux":
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
        pipe.send([end for end in ends if end[1] != "read"])
        while (case := pipe.recv()) is not None:
            content = damaged(case[0], files[case[0]], case[1])
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends the process
            ended = try_one(case[0], content, folder)
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(ended)


def run(cases: list[tuple[str, int]], files: dict[str, list[bytes]]) -> Iterator[tuple[str, int, str, float]]:
    """Try cases by one worker, begun anew where one ends it: kind, seed, how it ended and the seconds it took."""
    context, worker, pipe = multiprocessing.get_context("spawn"), None, None
    for name, seed in cases:
        if worker is None or pipe is None:
            pipe, end = context.Pipe()
            worker = context.Process(target=work, args=(end, files), daemon=True)
            worker.start()
            end.close()
            if wrong := pipe.recv():
                raise SystemExit(f"Files that aren't damaged fail: {wrong}")
        began = time.monotonic()
        pipe.send((name, seed))
        try:
            ended = pipe.recv() if pipe.poll(30 * SECONDS) else "It waits for something."
        except EOFError:
            worker.join()
            slow = worker.exitcode == -signal.SIGPROF
            ended = f"It took {SECONDS} s." if slow else f"The process died with exit code {worker.exitcode}."
        yield name, seed, ended, time.monotonic() - began
        if ended not in FINE and ("memory" in ended or not ended.startswith("Traceback")):
            worker.kill()
            worker = None
    if worker is not None and pipe is not None:
        pipe.send(None)
        worker.join()


def main() -> None:
    """Damage files, say how many ended how, and keep those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20_000, help="how many files")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only files of this kind; repeatable")
    parser.add_argument("--seed", type=int, help="only the file of this seed")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="where failing files are kept")
    given = parser.parse_args()
    names, began, cores = given.kind or list(KINDS), time.monotonic(), os.cpu_count() or 1
    seeds = range(given.first, given.first + -(-given.n // len(names))) if given.seed is None else [given.seed]
    print(
        f"{len(seeds)} files of each of {len(names)} kinds, seeds {seeds[0]} to {seeds[-1]}, {cores} cores", flush=True
    )
    os.environ["OMP_NUM_THREADS"] = "1"
    files = {name: KINDS[name].files() for name in names}
    cases = [(name, seed) for seed in seeds for name in names]
    ends, slowest = Counter(), Counter()

    def shard(i: int) -> None:
        for name, seed, ended, seconds in run(cases[i::cores], files):
            ends[name, ended if ended in FINE else "failed"] += 1
            slowest[name] = max(slowest[name], seconds)
            if ended not in FINE:
                given.out.mkdir(parents=True, exist_ok=True)
                path = given.out / f"{name}-{seed}{KINDS[name].suffix}"
                path.write_bytes(damaged(name, files[name], seed))
                print(f"--kind {name} --seed {seed} ({path}):\n{ended}", flush=True)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(shard, range(min(cores, len(cases)))))
    for name in names:
        counts = ", ".join(f"{ends[name, end]:6} {end}" for end in (*FINE, "failed"))
        print(f"{name:12}{counts}, the slowest in {slowest[name]:.2f} s")
    print(f"{len(cases)} files in {time.monotonic() - began:.0f} s")
    sys.exit(any(end == "failed" for _, end in ends))


if __name__ == "__main__":
    main()
