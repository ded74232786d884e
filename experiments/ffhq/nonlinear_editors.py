"""The editors that train networks on codes: what their latent classifier reads, how long they learn, what a change does.

    python -m experiments.ffhq.nonlinear_editors LABELS

The first line is of held-out codes: the mean correlation of normal scores with what a ridge regression of the others reads
(the probe's kind). Then a row for each method, as it comes: the same correlation of its latent classifier (nan without one),
seconds of one processor to fit it, milliseconds to edit one code, and for a change of 1 of each attribute, on 256 fresh codes,
the Mahalanobis length of the move in W and the absolute mean change of the other readings; means over all attributes. Rows of
W+ that stay count as moved. The first two methods train no latent classifier: they are beside for comparison.
Only guidedstyle renders, to choose layers; ``--pictures 0`` leaves that out.
"""

from __future__ import annotations

import argparse
import time

import torch

import ganvas
from ganvas.data import probe
from ganvas.data.correlation import correlate_pairs
from ganvas.data.dataset import LatentDataset
from ganvas.data.distribution import fit_distribution
from ganvas.data.label_files import load_labels
from ganvas.editors._fit import LatentEditor
from ganvas.editors.base import Editor
from ganvas.seeds import EVALUATION_SEED

METHODS = ("mean_difference", "compact", "latent_transformer", "latent2latent", "guidedstyle", "styleflow")


def ridge_correlation(data: LatentDataset) -> float:
    """Return the mean correlation of a ridge regression's readings with normal scores, on held-out codes."""
    rows, held = data.split()
    normals = data.normals()
    readings = probe.fit_probe(data.w[rows], normals[rows])(data.w[held])
    return float(correlate_pairs(readings, normals[held]).mean())


@torch.no_grad()
def compute_shift(editor: Editor, w: torch.Tensor, k: int) -> torch.Tensor:
    """Return the shift of codes for a change of 1, (n, w_dim): rows that some attributes leave alone count as moved."""
    changes = torch.eye(len(editor.attributes))[k].expand(len(w), -1)
    if isinstance(editor, LatentEditor):
        return editor.frame.unproject_move(editor.compute_move(editor.frame.project(w), editor.scale_changes(changes)))
    return editor.shift(w, changes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels")
    parser.add_argument("--pictures", type=int, help="Of guidedstyle: pictures an attribute.")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    args = parser.parse_args()
    generator = ganvas.load_generator("ffhq", dtype="auto")
    data = load_labels(args.labels, generator)
    whitening = fit_distribution(generator).whitening
    ws = ganvas.sample(generator, 256, psi=1, seed=EVALUATION_SEED)
    print(f"a ridge regression reads held-out codes at {ridge_correlation(data):.3f}", flush=True)
    print(f"{'method':20} {'classifier':>10} {'fit s':>8} {'edit ms':>8} {'length':>8} {'others':>8}")
    for method in args.methods:
        options = {"pictures": args.pictures} if method == "guidedstyle" and args.pictures is not None else {}
        start = time.process_time()
        editor = ganvas.fit(method, data, generator, **options)
        seconds = time.process_time() - start
        start = time.process_time()
        for _ in range(20):
            editor.edit(ws[:1], {"Smiling": 1.0})
        edit = (time.process_time() - start) * 50
        lengths, others = [], []
        for k in range(len(editor.attributes)):
            shift = compute_shift(editor, ws[:, 0], k)
            readings = (shift @ editor.probe.weight).mean(0).abs()
            lengths.append(float((shift @ whitening).norm(dim=1).mean()))
            others.append(float((readings.sum() - readings[k]) / max(len(readings) - 1, 1)))
        read = f"{editor.report.get('classifier_correlation', float('nan')):.3f}"
        numbers = f"{seconds:8.1f} {edit:8.2f} {sum(lengths) / len(lengths):8.2f} {sum(others) / len(others):8.3f}"
        print(f"{method:20} {read:>10} {numbers}", flush=True)


if __name__ == "__main__":
    main()
