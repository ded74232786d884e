"""How directions learned from the shipped labels agree with those that others published.

    python -m experiments.ffhq.published_directions DIR

DIR holds age.pt and smile.pt of encoder4editing (https://github.com/omertov/encoder4editing, MIT), for StyleGAN2-FFHQ's W.
Prints |cos| of each method's direction with them (``evaluation.papers.AGREEMENT`` is that of independent published ones), the
processor's seconds to fit, and what the readings of the other 39 attributes move by on average for a change of 1. All 40
attributes are fitted, but where it says four.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

import ganvas
from ganvas import editors
from ganvas.data.label_files import find_shipped_labels, load_labels
from ganvas.editors.base import LinearEditor
from ganvas.editors.published import read_direction
from ganvas.evaluation.papers import ATTRIBUTES
from ganvas.evaluation.published_directions import FILES

PAPER = list(ATTRIBUTES)
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("mean_difference", {}),
    ("interfacegan", {}),
    ("interfacegan", {"c": 100.0}),
    ("interfacegan", {"conditional": PAPER}),
    ("interfacegan", {"conditional": "all"}),
    ("balanced", {}),
    ("balanced", {"against": PAPER, "attributes": PAPER}),
    ("ganspace", {}),
    ("sefa", {}),
]


def main(folder: Path) -> None:
    generator = ganvas.load_generator("ffhq")
    published = {name: read_direction(folder / file)[0] for name, file in FILES.items()}
    data = load_labels(find_shipped_labels("ffhq", "celeba40"), generator)
    print(f"{'method':50} {'seconds':>7} " + " ".join(f"{'|cos| ' + name:>13} {'others':>6}" for name in published))
    for method, options in METHODS:
        start = time.process_time()
        editor = editors.fit(method, data, generator, **options)
        seconds = time.process_time() - start
        if not isinstance(editor, LinearEditor):
            raise TypeError(f"{method} is no linear editor.")
        directions = editor.get_buffer("directions")
        moved = directions @ data.probe.get_buffer("weight")
        cells = []
        for name, direction in published.items():
            row, k = editor.attributes.index(name), data.attributes.index(name)
            cos = torch.cosine_similarity(directions[row], direction, dim=0).abs()
            others = (moved[row].abs().sum() / moved[row, k].abs() - 1) / (len(data.attributes) - 1)
            cells.append(f"{cos:13.3f} {others:6.3f}")
        shown = " ".join(f"{key}={'four' if isinstance(value, list) else value}" for key, value in options.items())
        print(f"{method + ' ' + shown:50} {seconds:7.1f} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(str(__doc__))
    main(Path(sys.argv[1]))
