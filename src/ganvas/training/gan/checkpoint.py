"""Checkpoints of a GAN's training as safetensors files: networks, Adam's state, and what the run depends on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors, save_tensors
from ganvas.training.gan.config import update_options
from ganvas.training.gan.losses import GanNetworks, create_random
from ganvas.training_loop import MOMENT_NAMES, collect_moments, copy_checked, restore_moments

KIND, VERSION, MAX_CHECKPOINTS = "gan-training", 1, 2
OLD_DISCRIMINATOR = "critic"
"""The discriminator's former name in checkpoints."""
CHANGEABLE_OPTIONS = ("learning_rate", "average_images")
"""Options that may change between a stop and the next start: towards a training's end rates fall and averages lengthen."""
NARROWABLE_OPTION = "z_dim"
"""The option that may become smaller between a stop and the next start: a random subspace of z is kept. Editors and
classifiers need fewer codes of a narrow z."""
LABEL_OPTIONS = ("condition", "labels")
"""Options of labels, which may be added between a stop and the next start. A short run that is conditional from its
start collapses to one picture a label (Shahbazi et al., *Collapse by Conditioning*, https://arxiv.org/abs/2201.06578)."""


def save_checkpoint(
    folder: Path,
    networks: GanNetworks,
    optimizers: Mapping[str, Optimizer],
    position: Mapping[str, Any],
    run: Mapping[str, Any],
) -> Path:
    """Write a checkpoint, and delete all but the last two.

    ``position``: ``step`` and ``seen``, the numbers of steps and of pictures seen, and ``logged``, the losses since the last
    report as lists of name and value.
    """
    tensors = {
        f"{part}.{name}": value for part, values in _named_tensors(networks).items() for name, value in values.items()
    }
    tensors["path_mean"] = networks.path_mean
    for part, optimizer in optimizers.items():
        tensors |= collect_moments(optimizer, f"adam.{part}", _trained_tensors(networks, part))
    path = folder / f"checkpoint-{position['seen']:09d}.safetensors"
    save_tensors(path, tensors, {"kind": KIND, "version": VERSION, **position, "run": dict(run)})
    for old in list_checkpoints(folder)[:-MAX_CHECKPOINTS]:
        old.unlink(missing_ok=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the paths of a folder's checkpoints, the newest last."""
    return sorted(path for path in folder.glob("checkpoint-*.safetensors") if re.fullmatch(r".*-\d{9}", path.stem))


def load_checkpoint(
    folder: Path, networks: GanNetworks, optimizers: Mapping[str, Optimizer], run: Mapping[str, Any]
) -> tuple[int, list[dict[str, float]]]:
    """Restore the newest whole checkpoint; return its number of steps, 0 without one, and the losses since the last report.

    Raises GanvasError for a checkpoint of another run, saying what differs, and where all checkpoints are damaged.
    """
    damaged = None
    for path in reversed(list_checkpoints(folder)):
        try:
            tensors, metadata = _load_tensors(path)
        except GanvasError as error:
            damaged = error
            continue
        _check_run(path, metadata, run)
        try:
            if (wide := metadata["run"][NARROWABLE_OPTION]) > run[NARROWABLE_OPTION]:
                _narrow_z(tensors, wide, run[NARROWABLE_OPTION], run["seed"])
            if run["labels"] and not metadata["run"].get("labels"):
                _add_labels(tensors, networks)
            _copy_state(tensors, networks, optimizers)
            # In pairs, as a file's keys are sorted; checkpoints of older versions have none.
            losses = [
                {"discriminator" if name == OLD_DISCRIMINATOR else str(name): float(value) for name, value in step}
                for step in metadata.get("logged", [])
            ]
            return int(metadata["step"]), losses
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError):
            raise GanvasError(
                f"{path} is damaged: delete it, and the training continues from the one before."
            ) from None
    if damaged is not None:
        raise damaged
    return 0, []


def _load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load a checkpoint, with the names that it has now. Raises GanvasError for a damaged file."""
    tensors, metadata = load_tensors(path)
    tensors = {re.sub(rf"^(adam\.)?{OLD_DISCRIMINATOR}\.", r"\1discriminator.", name): t for name, t in tensors.items()}
    if isinstance(run := metadata.get("run"), dict):
        metadata = {**metadata, "run": update_options(run)}
    return tensors, metadata


def _check_run(path: Path, metadata: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Raise GanvasError where ``metadata`` isn't that of a checkpoint of this run."""
    saved_run = metadata.get("run")
    if metadata.get("kind") != KIND or metadata.get("version") != VERSION or not isinstance(saved_run, dict):
        raise GanvasError(f"{path} isn't a checkpoint of a GAN's training.")
    for key in (key for key in run if key not in CHANGEABLE_OPTIONS):
        is_narrower = key == NARROWABLE_OPTION and type(saved_run.get(key)) is int and saved_run[key] > run[key]
        adds_labels = key in LABEL_OPTIONS and not saved_run.get(key)
        if key in LABEL_OPTIONS and saved_run.get(key) and not run[key]:
            condition = saved_run.get("condition") or "count"
            raise GanvasError(f"{path} was trained with --condition {condition}: give that option again.")
        if saved_run.get(key) != run[key] and not is_narrower and not adds_labels:
            raise GanvasError(
                f"{path} was trained with {key} {saved_run.get(key)!r}, not {run[key]!r}: choose another --out, or that value."
            )


def _narrow_z(tensors: dict[str, Tensor], wide: int, narrow: int, seed: int) -> None:
    """Restrict the mapping's first layer to a random subspace of z: every picture of the new z is one of the old."""
    basis, _ = torch.linalg.qr(torch.randn(wide, narrow, generator=create_random(seed, 0, 2**31 - 1)))
    for name in [name for name in tensors if "mapping.fc0.weight" in name and tensors[name].ndim == 2]:
        z_columns, label_columns = tensors[name][:, :wide], tensors[name][:, wide:]
        # With labels, gains depend on the number of inputs; gradients scale inversely.
        n_labels = label_columns.shape[1]
        label_gain = ((narrow + n_labels) / (wide + n_labels)) ** 0.5 if n_labels else 1.0
        z_gain = label_gain * (wide / narrow) ** 0.5 if n_labels else 1.0
        power = -2 if name.endswith("exp_avg_sq") else -1 if name.endswith("exp_avg") else 1
        # Adam's squared gradients can't be rotated: each new column has their mean.
        narrowed = z_columns.mean(1, keepdim=True).expand(-1, narrow) if power == -2 else z_columns @ basis
        tensors[name] = torch.cat((narrowed * z_gain**power, label_columns * label_gain**power), 1)


@torch.no_grad()
def _add_labels(tensors: dict[str, Tensor], networks: GanNetworks) -> None:
    """Add labels to networks without them, such that no label changes a picture or a logit yet.

    New tensors begin as in a new run, but for the mapping's columns for the embedding, which are 0, and the discriminator's
    embeddings, which are all equal: its one logit is along them. Tensors of another shape begin without Adam's state.
    """
    grown = {"generator": ["mapping.fc0.weight", "mapping.embed.weight", "mapping.embed.bias"]}
    grown["discriminator"] = ["b4.out.weight", "b4.out.bias", "embed.weight"]
    initial = torch.zeros_like(networks.generator["mapping.fc0.weight"])
    for part in ("generator", "average"):
        z_columns = tensors[f"{part}.mapping.fc0.weight"]
        if z_columns.shape != (len(initial), networks.generator_architecture.z_dim):
            raise ValueError("another shape")
        wide = initial.clone()
        wide[:, : z_columns.shape[1]] = z_columns * (wide.shape[1] / z_columns.shape[1]) ** 0.5
        tensors |= {f"{part}.{name}": networks.generator[name].detach() for name in grown["generator"]}
        tensors[f"{part}.mapping.fc0.weight"] = wide
    new = {name: networks.discriminator[name].detach().clone() for name in grown["discriminator"]}
    direction = torch.nn.functional.normalize(new["embed.weight"][:, :1], dim=0)
    new["b4.out.weight"] += direction * (tensors["discriminator.b4.out.weight"] - direction.T @ new["b4.out.weight"])
    new["b4.out.bias"] = direction[:, 0] * tensors["discriminator.b4.out.bias"]
    new["embed.weight"] = (direction * len(direction) ** 0.5).expand_as(new["embed.weight"])
    tensors |= {f"discriminator.{name}": value for name, value in new.items()}
    for part, names in grown.items():
        for name in names:
            parameter = _named_tensors(networks)[part][name]
            sums = (torch.zeros_like(parameter), torch.zeros_like(parameter), torch.zeros(()))
            tensors |= {f"adam.{part}.{name}.{key}": value for key, value in zip(MOMENT_NAMES, sums, strict=True)}


def _copy_state(tensors: Mapping[str, Tensor], networks: GanNetworks, optimizers: Mapping[str, Optimizer]) -> None:
    """Copy a checkpoint into networks and optimizers. Raises KeyError for missing tensors, ValueError for other shapes."""
    for part, parameters in _named_tensors(networks).items():
        for name, value in parameters.items():
            copy_checked(value, tensors[f"{part}.{name}"])
    copy_checked(networks.path_mean, tensors["path_mean"])
    for part, optimizer in optimizers.items():
        restore_moments(optimizer, f"adam.{part}", _trained_tensors(networks, part), tensors)


def _named_tensors(networks: GanNetworks) -> dict[str, dict[str, Tensor]]:
    return {"generator": networks.generator, "discriminator": networks.discriminator, "average": networks.average}


def _trained_tensors(networks: GanNetworks, part: str) -> dict[str, Tensor]:
    tensors = _named_tensors(networks)[part]
    return {name: tensors[name] for name in networks.trainable} if part == "generator" else tensors
