"""Readers of checkpoint files, which are recognised by their content and read without running anything in them.

``read(path)`` returns what a file holds; ``ganvas.load_generator(path)`` builds the generator. Pickles go through an
interpreter of few opcodes with a list of allowed names (``_pickle``), never through Python's own or through torch.load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from ganvas.checkpoints import _archives, _torch
from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._networks import find_networks, find_parts
from ganvas.checkpoints._torch import StoredTensor
from ganvas.checkpoints.carded import CARD_SUFFIXES
from ganvas.checkpoints.checkpoint import FAMILIES, Checkpoint
from ganvas.errors import GanvasError
from ganvas.io.files import check_local_path, load_tensors
from ganvas.validation import parse

__all__ = [
    "CARD_SUFFIXES",
    "Checkpoint",
    "describe_file",
    "read",
    "read_nested_tensors",
    "read_state_dict",
    "read_tensors",
]

MAX_FILE_BYTES = 4 << 30
"""The most bytes of a file (a training snapshot of 1024×1024 with its optimisers has 0.4 GB), unpacked, too."""
MAX_PACKINGS = 3
"""The most archives inside one another, such as a zip with a .tar.gz."""
MAX_NESTING, MAX_NESTED_VALUES = 4, 200_000
"""Limits of what is looked through for tensors."""
FORMATS = (
    "NVIDIA's StyleGAN2 and StyleGAN3 pickles and state dicts, those of StyleGAN, StyleGAN2 and Progressive GANs for TensorFlow, "
    "rosinality's and genforce's .pt, StyleGAN's state dicts, Progressive GANs of pytorch_GAN_zoo and genforce, folders of "
    "huggingface's BigGAN-deep, ganvas's own safetensors, random-face's wheel, and state dicts of DCGANs with a card"
)
MAX_LISTED = 8
"""The most names in a line."""
FOLDER_WEIGHTS = "pytorch_model.bin"
"""The weights in a folder of huggingface's, beside ``config.json``."""
ZIP, PICKLE, LEGACY_TORCH = b"PK\x03\x04", b"\x80", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read(path: str | Path, card: str | Path | None = None) -> Checkpoint:
    """Read the generator in a file; ``card`` describes the architecture of a plain state dict, by default a file beside it.

    Raises GanvasError for a file that is missing, too large, damaged or of another kind, or that refers to anything that no
    checkpoint needs; nothing in it is ever run.
    """
    path = _find_file(path)
    if _looks_like_safetensors(path):
        return _read_safetensors(path, card)
    data, budget, packed = _read_bytes(path), ReadBudget(str(path)), ""
    for _ in range(MAX_PACKINGS):
        names = _torch.open_zip(data, budget).namelist() if bytes(data[: len(ZIP)]) == ZIP else []
        if any(name.startswith("random_face/") for name in names):
            return _read_wheel(path)
        if any(name.endswith("/data.pkl") for name in names):  # torch.save's
            break
        if (inner := _archives.unpack(data, MAX_FILE_BYTES, budget)) is None:
            break
        packed, data = inner[0] or packed or "the file", inner[1]
        budget.origin = f"{path} ({format_printable(packed)} in it)"
    checkpoint = _read_unpacked(data, path, card, budget)
    notes = (f"is packed: {format_printable(packed)} in it is read",) if packed else ()
    return replace(checkpoint, notes=(*notes, *checkpoint.notes))


def _read_unpacked(data: memoryview, path: Path, card: str | Path | None, budget: ReadBudget) -> Checkpoint:
    head = bytes(data[: len(LEGACY_TORCH)])
    if head.startswith(ZIP) or head == LEGACY_TORCH:
        return _read_value(_torch.read_save(data, budget), path, card, budget)
    if head.startswith(PICKLE):
        from ganvas.checkpoints import nvidia, tensorflow

        if tensorflow.is_pickle(data):
            return tensorflow.read(data, budget)
        value = nvidia.read_pickle(data, budget)
        if not find_networks(value, budget):
            return nvidia.read(value, budget)
        return _read_value(value, path, card, budget)
    from ganvas.checkpoints import file_kinds

    file_kinds.check_downloaded(bytes(data[: file_kinds.HEAD_BYTES]), len(data), budget.origin)
    raise GanvasError(f"{budget.origin} is not a checkpoint that ganvas reads: these are {FORMATS}.")


def describe_file(path: str | Path, card: str | Path | None = None) -> list[str]:
    """Describe a file in lines of text: a generator, or another file that ganvas wrote."""
    path = _find_file(path)
    if _looks_like_safetensors(path):
        metadata = load_tensors(path)[1]
        owner = metadata.get("generator")
        if metadata.get("kind", metadata.get("scorer")) not in (None, "generator"):
            suffix = ""
            if isinstance(owner, dict):
                suffix = f" for generator {owner.get('name')!r} ({str(owner.get('fingerprint'))[:12]})"
            return [f"{path.name}: a file of the kind {metadata.get('kind', 'scorer')!r} that ganvas wrote{suffix}"]
    checkpoint = read(path, card)
    network = checkpoint.build_generator(path.stem)
    rows = ", ".join(map(str, network.row_resolutions))
    labels = f", {network.num_labels} labels" if network.num_labels else ""
    lines = [
        f"file         {checkpoint.origin}",
        f"family       {checkpoint.family}",
        f"resolution   {network.resolution}×{network.resolution}",
        f"spaces       z of {network.z_dim}{labels}; w of {network.w_dim}; w+ of {network.num_ws} rows, at {rows}",
        f"fingerprint  {network.fingerprint}",
        f"weights      {sum(value.numel() for value in checkpoint.state.values()):,} numbers in {len(checkpoint.state)} tensors",
    ]
    if checkpoint.family == "stylegan2":
        shape = checkpoint.metadata["shape"]
        lines.insert(2, f"architecture {shape.architecture}, {'grey' if shape.colours == 1 else 'colour'}, widths "
                     f"{', '.join(map(str, shape.widths))}, {shape.mapping_layers} layers of mapping")  # fmt: skip
    if checkpoint.family == "stylegan3":
        shape = checkpoint.metadata["shape"]
        widths = ", ".join(str(layer.channels) for layer in shape.layers)
        kind = "R, radial filters" if shape.is_radial else "T"
        lines.insert(2, f"architecture alias-free ({kind}), widths {widths}, {shape.mapping_layers} layers of mapping")
    return lines + [
        f"note         {note}"
        for note in (*checkpoint.notes, *_describe_labels(checkpoint.metadata, network.label_names))
    ]


def _describe_labels(metadata: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Describe the labels of a generator with names for them, or of one of ganvas's own conditional ones."""
    if names:
        return [f"--class takes {', '.join(names[:MAX_LISTED])}{', …' if len(names) > MAX_LISTED else ''}"]
    training = metadata.get("training")
    values = training.get("labels") if isinstance(training, dict) else None
    if not isinstance(values, list) or not values or not all(type(value) is int for value in values):
        return []
    return [f"--label 0 to {len(values) - 1} stand for counts of {', '.join(map(str, values))}"]


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the floating-point tensors of the one state dict in a file that torch.save wrote, without torch.load.

    Raises GanvasError where there isn't exactly one, and as ``read`` does.
    """
    data, budget = _read_bytes(Path(path)), ReadBudget(str(path))
    dicts = list(_torch.find_state_dicts(_torch.read_save(data, budget)))
    if len(dicts) != 1:
        raise GanvasError(f"{path} has {len(dicts)} state dicts: exactly one is needed.")
    return _torch.read_tensors(dicts[0][1], budget)


def read_tensors(path: str | Path) -> Tensor | dict[str, Tensor] | None:
    """Read the floating-point tensor that torch.save wrote, or those of a mapping by name; None where it wrote neither.

    Raises GanvasError as ``read`` does.
    """
    data, budget = _read_bytes(Path(path)), ReadBudget(str(path))
    value = _torch.read_save(data, budget)
    if isinstance(value, StoredTensor):
        return _torch.read_tensors({"value": value}, budget).get("value")
    plain = value if isinstance(value, dict) else {}
    named = {key: item for key, item in plain.items() if isinstance(key, str) and isinstance(item, StoredTensor)}
    return _torch.read_tensors(named, budget) or None


def _find_file(path: str | Path) -> Path:
    """Return the file to read: that of the weights in a folder of huggingface's."""
    path = Path(path)
    return path / FOLDER_WEIGHTS if (path / FOLDER_WEIGHTS).is_file() else path


def read_nested_tensors(path: str | Path) -> dict[tuple[str, ...], Tensor]:
    """Read all floating-point tensors that torch.save wrote by the keys that lead to them; () is the key of a lone tensor.

    Raises GanvasError as ``read`` does.
    """
    data, budget = _read_bytes(Path(path)), ReadBudget(str(path))
    stored: dict[Any, StoredTensor] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), _torch.read_save(data, budget))]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, StoredTensor):
            stored[keys] = value
        elif isinstance(value, dict | list | tuple) and len(keys) < MAX_NESTING:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting.extend(((*keys, str(key)), item) for key, item in reversed(list(items)))
        if len(waiting) + len(stored) > MAX_NESTED_VALUES:
            raise GanvasError(f"{path} holds more than {MAX_NESTED_VALUES:,} values.")
    numbered = list(stored)
    tensors = _torch.read_tensors({str(number): stored[keys] for number, keys in enumerate(numbered)}, budget)
    return {numbered[int(number)]: tensor for number, tensor in tensors.items()}


def _looks_like_safetensors(path: Path) -> bool:
    """Return whether a file begins with eight bytes of length, then a JSON object."""
    check_local_path(path)
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except FileNotFoundError:
        raise GanvasError(f"There is no file {path}.") from None
    except OSError as error:
        raise GanvasError(f"Can't read {path}: {error.strerror}.") from None
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def _read_bytes(path: Path) -> memoryview:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise GanvasError(f"{path} has {size:,} bytes: at most {MAX_FILE_BYTES:,} are read.")
        return memoryview(path.read_bytes())
    except OSError as error:
        raise GanvasError(f"Can't read {path}: {error.strerror}.") from None


def _read_safetensors(path: Path, card: str | Path | None) -> Checkpoint:
    """Read a generator of ganvas's own, or a state dict of others, which is recognised as if torch.save had written it."""
    state, metadata = load_tensors(path)
    if not metadata:
        value = {name: _torch.convert_tensor(tensor) for name, tensor in state.items()}
        return _read_value(value, path, card, ReadBudget(str(path)))
    return _read_own(path, state, metadata)


def _read_own(path: Path, state: dict[str, Tensor], metadata: dict[str, Any]) -> Checkpoint:
    _torch.check_finite(state, str(path))
    family, origin = metadata.get("family"), "ganvas's generator"
    if metadata.get("kind") == "generator" and metadata.get("version") == 1 and family in FAMILIES:
        module, _, architecture = FAMILIES[family]
        if not architecture:
            return Checkpoint(family, origin, state, metadata)
        kind = getattr(import_module(f"ganvas.generators.{module}"), architecture)
        shape = parse(kind, metadata.get("shape"), f"{path} is damaged", complete=True)
        return Checkpoint(family, origin, state, metadata | {"shape": shape})
    raise GanvasError(f"{path} is a safetensors file, but not a generator that ganvas wrote.")


def _read_wheel(path: Path) -> Checkpoint:
    from ganvas.generators import find_card, openvino_ir
    from ganvas.io import hub

    weights = openvino_ir.convert(*hub.unpack_wheel(find_card("ffhq"), path))
    metadata = {"kind": "generator", "family": "mobilestylegan", "version": 1}
    return Checkpoint(
        "mobilestylegan", "random-face's wheel", weights, metadata, ("the same weights as the generator 'ffhq'",)
    )


def _read_value(value: Any, path: Path, card: str | Path | None, budget: ReadBudget) -> Checkpoint:
    """Read the generator in a value that torch.save or Python's pickle wrote, by the first format that recognises it."""
    from ganvas.checkpoints import (
        biggan,
        carded,
        genforce,
        nvidia,
        nvidia_state_dict,
        nvidia_stylegan3,
        pggan,
        rosinality,
        stylegan1,
        unsupported,
    )

    networks, place = find_networks(value, budget), carded.find_card(path, card)
    unsupported.check_kind(networks, budget, unsupported.WRAPPING_KINDS)
    if nvidia.find_generator(value) is not None:
        return nvidia.read(value, budget)
    dicts = {network.path: network.weights for network in networks if not network.kind}
    if biggan.find_network(dicts) is not None:
        return biggan.read(dicts, biggan.read_config(path, card), budget)
    if pggan.find_network(dicts) is not None:
        return pggan.read(dicts, value.get("config") if isinstance(value, dict) else None, budget)
    if (first := stylegan1.find_network(dicts)) is not None:
        return stylegan1.read(dicts[first], budget)
    for reader in (rosinality, nvidia_state_dict, nvidia_stylegan3, genforce):
        if parts := find_parts(networks, reader.MARKER_NAMES, budget):
            return reader.read(parts, networks, budget)
    if place is not None and networks:
        return carded.read(networks, place, budget)
    unsupported.check_kind(networks, budget)
    unsupported.check_codes(value, networks, budget)
    modules = [f"{format_printable(n.path)} ({format_printable(n.kind)})".lstrip() for n in networks if n.kind]
    if modules:
        held = ", ".join(modules[:8])
        raise GanvasError(
            f"{budget.origin} holds whole modules, {held}: none is a generator that ganvas reads ({FORMATS})."
        )
    raise carded.describe_missing(networks, path, budget)
