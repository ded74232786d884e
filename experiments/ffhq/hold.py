"""What ``hold`` does to the compact editor's moves: their Mahalanobis length, and what else the probe reads.

    python -m experiments.ffhq.hold LABELS

For a change of 1 of each attribute, on 256 fresh codes: the length of the move in whitened W, and the mean |change| of
the other readings; means over all attributes. No picture is rendered.
"""

from __future__ import annotations

import argparse

import torch

import ganvas
from ganvas.data.distribution import fit_distribution
from ganvas.data.label_files import load_labels
from ganvas.seeds import EVALUATION_SEED

HOLDS = (None, 100.0, 30.0, 10.0, 3.0, 2.0, 1.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels")
    generator = ganvas.load_generator("ffhq")
    data = load_labels(parser.parse_args().labels, generator)
    whitening = fit_distribution(generator).whitening
    w = ganvas.sample(generator, 256, psi=1, seed=EVALUATION_SEED)[:, 0]
    print(f"{'hold':>6} {'length':>8} {'others':>8}")
    for hold in HOLDS:
        editor = ganvas.fit("compact", data, generator, hold=hold)
        lengths, others = [], []
        for k in range(len(editor.attributes)):
            with torch.no_grad():
                shift = editor.shift(w, torch.eye(len(editor.attributes))[k].expand(len(w), -1))
            readings = (shift @ editor.probe.weight).mean(0).abs()
            lengths.append(float((shift @ whitening).norm(dim=1).mean()))
            others.append(float((readings.sum() - readings[k]) / (len(readings) - 1)))
        print(f"{hold!s:>6} {sum(lengths) / len(lengths):8.2f} {sum(others) / len(others):8.3f}", flush=True)


if __name__ == "__main__":
    main()
