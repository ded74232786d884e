"""Do faces drawn by conditions meet them, and do they still differ? The shipped editor and scorer of ffhq.

    python -m experiments.ffhq.conditional_sampling OUT [-n 256]

Draws n faces for each of Eyeglasses, Male, Smiling and Young, both ways, at psi 1, scores them, and prints the share that
meets its condition beside the base rate, and how much the free dimensions still vary (2,000 pictures, minutes).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import ganvas
from ganvas.evaluation.conditional_sampling import markdown, run_conditional
from ganvas.evaluation.success import SuccessProtocol


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("-n", type=int, default=256)
    options = parser.parse_args()
    generator = ganvas.load_generator("ffhq", dtype=torch.bfloat16)
    editor, scorer = ganvas.load_editor("ffhq/compact"), ganvas.load_scorer("celeba40")
    print(markdown(run_conditional(generator, scorer, editor, options.out, protocol=SuccessProtocol(n=options.n))))


if __name__ == "__main__":
    main()
