"""Where a GAN's training stands, as one safetensors file: networks, Adam's sums, and what the run depends on. No pickle."""

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
from ganvas.training.gan.losses import GanNetworks, step_random

KIND, VERSION, KEPT = "gan-training", 1, 2
MOMENT_NAMES = ("exp_avg", "exp_avg_sq", "step")
"""What Adam keeps for a parameter (β₁ = 0 keeps the last gradient)."""
CHANGING = ("learning_rate", "average_images")
"""What a run may go on with another value of: rates fall and averages lengthen towards a training's end."""
NARROWED_NAMES = "z_dim"
"""What a run may go on with less of: of z's directions, as many are kept, drawn at random. A narrow z is learned from fewer
codes by all that reads them."""
LABEL_NAMES = ("condition", "labels")
"""What a run may go on with where it had none: labels. Conditional from its start, a short run draws one picture a label
(Shahbazi et al., *Collapse by Conditioning*, https://arxiv.org/abs/2201.06578)."""


def save_checkpoint(
    folder: Path,
    networks: GanNetworks,
    optimizers: Mapping[str, Optimizer],
    where: Mapping[str, Any],
    run: Mapping[str, Any],
) -> Path:
    """Write a checkpoint; all but the last two are removed.

    ``where``: ``step`` and ``seen``, the steps made and pictures seen, and ``logged``, the losses since the last report
    as lists of name and value.
    """
    tensors = {f"{part}.{name}": value for part, found in _parts(networks).items() for name, value in found.items()}
    tensors["path_mean"] = networks.path_mean
    for part, optimizer in optimizers.items():
        for name, parameter in _parameters(networks, part):
            tensors |= {f"adam.{part}.{name}.{key}": optimizer.state[parameter][key] for key in MOMENT_NAMES}
    path = folder / f"checkpoint-{where['seen']:09d}.safetensors"
    save_tensors(path, tensors, {"kind": KIND, "version": VERSION, **where, "run": dict(run)})
    for old in checkpoint_paths(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def checkpoint_paths(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the last one last."""
    return sorted(path for path in folder.glob("checkpoint-*.safetensors") if re.fullmatch(r".*-\d{9}", path.stem))


def load_checkpoint(
    folder: Path, networks: GanNetworks, optimizers: Mapping[str, Optimizer], run: Mapping[str, Any]
) -> tuple[int, list[dict[str, float]]]:
    """The steps made at the last whole checkpoint, with everything as it was then, and the losses since the last report.

    Raises GanvasError where the checkpoint is of another run, saying what differs, and where none is whole.
    """
    found, damaged = checkpoint_paths(folder), None
    for path in reversed(found):
        try:
            tensors, about = load_tensors(path)
        except GanvasError as error:
            damaged = error
            continue
        _check_run(path, about, run)
        try:
            if (wide := about["run"][NARROWED_NAMES]) > run[NARROWED_NAMES]:
                _narrow(tensors, wide, run[NARROWED_NAMES], run["seed"])
            if run["labels"] and not about["run"].get("labels"):
                _label(tensors, networks)
            _restore(tensors, networks, optimizers)
            # In pairs, as a file's keys are sorted; checkpoints of older versions have none.
            losses = [{str(name): float(value) for name, value in step} for step in about.get("logged", [])]
            return int(about["step"]), losses
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError):
            raise GanvasError(f"{path} is damaged: remove it, and the training goes on from the one before.") from None
    if damaged is not None:
        raise damaged
    return 0, []


def _check_run(path: Path, about: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Raises GanvasError where ``about`` isn't that of a checkpoint of this run."""
    then = about.get("run")
    if about.get("kind") != KIND or about.get("version") != VERSION or not isinstance(then, dict):
        raise GanvasError(f"{path} isn't a checkpoint of a GAN's training.")
    for key in (key for key in run if key not in CHANGING):
        narrower = key == NARROWED_NAMES and type(then.get(key)) is int and then[key] > run[key]
        labelled = key in LABEL_NAMES and not then.get(key)
        if key in LABEL_NAMES and then.get(key) and not run[key]:
            raise GanvasError(f"{path} was trained with --condition {then.get('condition') or 'count'}: say so again.")
        if then.get(key) != run[key] and not narrower and not labelled:
            raise GanvasError(
                f"{path} was trained with {key} {then.get(key)!r}, not {run[key]!r}: take another --out, or what it had."
            )


def _narrow(tensors: dict[str, Tensor], wide: int, narrow: int, seed: int) -> None:
    """Let the mapping's first layer see a random slice of z's sphere as all of it: every picture of the new z is one of the
    old."""
    basis, _ = torch.linalg.qr(torch.randn(wide, narrow, generator=step_random(seed, 0, 2**31 - 1)))
    for name in [name for name in tensors if "mapping.fc0.weight" in name and tensors[name].ndim == 2]:
        seen, rest = tensors[name][:, :wide], tensors[name][:, wide:]
        # Beside labels, gains are per number that comes in; gradients go with their inverse.
        beside = ((narrow + rest.shape[1]) / (wide + rest.shape[1])) ** 0.5 if rest.shape[1] else 1.0
        own = beside * (wide / narrow) ** 0.5 if rest.shape[1] else 1.0
        power = -2 if name.endswith("exp_avg_sq") else -1 if name.endswith("exp_avg") else 1
        # Of Adam's squares there are no directions: each new one has their mean.
        kept = seen.mean(1, keepdim=True).expand(-1, narrow) if power == -2 else seen @ basis
        tensors[name] = torch.cat((kept * own**power, rest * beside**power), 1)


@torch.no_grad()
def _label(tensors: dict[str, Tensor], networks: GanNetworks) -> None:
    """Let networks without labels see them, none of which changes a picture or a judgement yet.

    What is new begins as in a new run, but for the mapping's columns for the embedding, which are 0, and the critic's
    embeddings, which are all alike: its one logit is along them. What changed its shape begins without Adam's sums.
    """
    grown = {"generator": ["mapping.fc0.weight", "mapping.embed.weight", "mapping.embed.bias"]}
    grown["critic"] = ["b4.out.weight", "b4.out.bias", "embed.weight"]
    first = torch.zeros_like(networks.generator["mapping.fc0.weight"])
    for part in ("generator", "average"):
        seen = tensors[f"{part}.mapping.fc0.weight"]
        if seen.shape != (len(first), networks.shape.z_dim):
            raise ValueError("another shape")
        wide = first.clone()
        wide[:, : seen.shape[1]] = seen * (wide.shape[1] / seen.shape[1]) ** 0.5
        tensors |= {f"{part}.{name}": networks.generator[name].detach() for name in grown["generator"]}
        tensors[f"{part}.mapping.fc0.weight"] = wide
    new = {name: networks.critic[name].detach().clone() for name in grown["critic"]}
    along = torch.nn.functional.normalize(new["embed.weight"][:, :1], dim=0)
    new["b4.out.weight"] += along * (tensors["critic.b4.out.weight"] - along.T @ new["b4.out.weight"])
    new["b4.out.bias"] = along[:, 0] * tensors["critic.b4.out.bias"]
    new["embed.weight"] = (along * len(along) ** 0.5).expand_as(new["embed.weight"])
    tensors |= {f"critic.{name}": value for name, value in new.items()}
    for part, names in grown.items():
        for name in names:
            like = _parts(networks)[part][name]
            sums = (torch.zeros_like(like), torch.zeros_like(like), torch.zeros(()))
            tensors |= {f"adam.{part}.{name}.{key}": value for key, value in zip(MOMENT_NAMES, sums, strict=True)}


@torch.no_grad()
def _restore(tensors: Mapping[str, Tensor], networks: GanNetworks, optimizers: Mapping[str, Optimizer]) -> None:
    """Raises KeyError and ValueError for tensors that are missing or have other shapes."""
    for part, parameters in _parts(networks).items():
        for name, value in parameters.items():
            _fill(value, tensors[f"{part}.{name}"])
    _fill(networks.path_mean, tensors["path_mean"])
    for part, optimizer in optimizers.items():
        for name, parameter in _parameters(networks, part):
            sums = {key: tensors[f"adam.{part}.{name}.{key}"] for key in MOMENT_NAMES}
            if sums["step"].ndim:
                raise ValueError("another shape")
            for key in MOMENT_NAMES[:2]:
                # In the parameter's own memory order: another order may change the last bits.
                sums[key] = _fill(torch.empty_like(parameter), sums[key])
            optimizer.state[parameter] = sums


def _fill(to: Tensor, value: Tensor) -> Tensor:
    if to.shape != value.shape:
        raise ValueError("another shape")
    return to.copy_(value)


def _parts(networks: GanNetworks) -> dict[str, dict[str, Tensor]]:
    return {"generator": networks.generator, "critic": networks.critic, "average": networks.average}


def _parameters(networks: GanNetworks, part: str) -> list[tuple[str, Tensor]]:
    names = networks.learned if part == "generator" else list(networks.critic)
    return [(name, _parts(networks)[part][name]) for name in names]
