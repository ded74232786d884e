"""Readers of checkpoint files, which are recognised by their content and read without running anything in them.

``read(path)`` returns what a file holds; ``ganvas.load_generator(path)`` builds the generator. Pickles go through an
interpreter of few opcodes with a list of allowed names (``_pickle``), never through Python's own or through torch.load.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ganvas.checkpoints import _torch
from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._torch import StoredTensor
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors, read_card
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
"""The most bytes of a file (a training snapshot of 1024×1024 with its optimisers has 0.4 GB)."""
MAX_NESTING, MAX_NESTED_VALUES = 4, 200_000
"""Limits of what is looked through for tensors."""
CARD_SUFFIXES = (".toml", ".json")
"""The suffixes of a card beside a state dict, whose name it has otherwise."""
FORMATS = (
    "NVIDIA's StyleGAN2 pickles, rosinality's .pt, ganvas's own safetensors, random-face's wheel, and state dicts of "
    "DCGANs with a card"
)
PREFIXES = ("", "module.", "generator.", "netG.", "G.")
"""Prefixes that all names of a state dict may have."""
ZIP, PICKLE, LEGACY_TORCH = b"PK\x03\x04", b"\x80", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read(path: str | Path, card: str | Path | None = None) -> Checkpoint:
    """Read the generator in a file; ``card`` describes the architecture of a plain state dict, by default a file beside it.

    Raises GanvasError for a file that is missing, too large, damaged or of another kind, or that refers to anything that no
    checkpoint needs; nothing in it is ever run.
    """
    path = Path(path)
    if _looks_like_safetensors(path):
        return _read_own(path)
    data, budget = _read_bytes(path), ReadBudget(str(path))
    head = bytes(data[: len(LEGACY_TORCH)])
    if head.startswith(ZIP) and _is_wheel(data, budget):
        return _read_wheel(path)
    if head.startswith(ZIP) or head == LEGACY_TORCH:
        return _read_state_dict(_torch.read_save(data, budget), path, card, budget)
    if head.startswith(PICKLE):
        from ganvas.checkpoints import nvidia

        return nvidia.read(data, budget)
    raise GanvasError(f"{path} is not a checkpoint that ganvas reads: these are {FORMATS}.")


def describe_file(path: str | Path, card: str | Path | None = None) -> list[str]:
    """Describe a file in lines of text: a generator, or another file that ganvas wrote."""
    path = Path(path)
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
    return lines + [f"note         {note}" for note in (*checkpoint.notes, *_describe_labels(checkpoint.metadata))]


def _describe_labels(metadata: Mapping[str, Any]) -> list[str]:
    """Describe the labels of one of ganvas's own conditional generators."""
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


def _read_own(path: Path) -> Checkpoint:
    state, metadata = load_tensors(path)
    _torch.check_finite(state, str(path))
    family, origin = metadata.get("family"), "ganvas's generator"
    if metadata.get("kind") == "generator" and metadata.get("version") == 1:
        if family == "stylegan2":
            from ganvas.generators import stylegan2

            shape = parse(stylegan2.StyleGAN2Architecture, metadata.get("shape"), f"{path} is damaged", complete=True)
            return Checkpoint("stylegan2", origin, state, metadata | {"shape": shape})
        if family == "dcgan":
            from ganvas.generators import dcgan

            shape = parse(dcgan.DcganArchitecture, metadata.get("shape"), path)
            return Checkpoint("dcgan", origin, state, metadata | {"shape": shape})
        if family == "mobilestylegan":
            return Checkpoint("mobilestylegan", origin, state, metadata)
    raise GanvasError(f"{path} is a safetensors file, but not a generator that ganvas wrote.")


def _is_wheel(data: memoryview, budget: ReadBudget) -> bool:
    return any(name.startswith("random_face/") for name in _torch.open_zip(data, budget).namelist())


def _read_wheel(path: Path) -> Checkpoint:
    from ganvas.generators import find_card, openvino_ir
    from ganvas.io import hub

    weights = openvino_ir.convert(*hub.unpack_wheel(find_card("ffhq"), path))
    metadata = {"kind": "generator", "family": "mobilestylegan", "version": 1}
    return Checkpoint(
        "mobilestylegan", "random-face's wheel", weights, metadata, ("the same weights as the generator 'ffhq'",)
    )


def _read_state_dict(value: Any, path: Path, card: str | Path | None, budget: ReadBudget) -> Checkpoint:
    from ganvas.checkpoints import rosinality

    dicts = dict(_torch.find_state_dicts(value))
    names = [name for name, state in dicts.items() if rosinality.is_generator(state)]
    if names:
        name = next((name for name in ("g_ema", "g") if name in names), names[0])
        average = value.get("latent_avg")
        return rosinality.read(dicts[name], average if isinstance(average, StoredTensor) else None, budget)
    if not dicts:
        raise GanvasError(f"{path} holds no named tensors, so it is no generator.")
    return _read_with_card(dicts, path, card, budget)


def _read_with_card(
    dicts: dict[str, dict[str, StoredTensor]], path: Path, card: str | Path | None, budget: ReadBudget
) -> Checkpoint:
    from ganvas.generators import dcgan

    places = [Path(card)] if card is not None else [path.with_suffix(suffix) for suffix in CARD_SUFFIXES]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        names = ", ".join(format_printable(name) for name in list(next(iter(dicts.values())))[:3])
        raise GanvasError(
            f"{path} is a state dict ({names}, …) without a card: write one that lists its layers, "
            f"{' or '.join(place.name for place in places)}."
        )
    shape = parse(dcgan.DcganArchitecture, read_card(place), place)
    needed = dcgan.list_weights(shape)
    for state in dicts.values():
        for start in PREFIXES:
            if all(start + name in state for name in needed):
                names = {name: name.removeprefix(start) for name in state if name.startswith(start)}
                metadata = {"kind": dcgan.KIND, "family": dcgan.FAMILY, "version": dcgan.VERSION, "shape": shape}
                weights = _torch.read_tensors(state, budget, names)
                note = f"edits the space {'z' if shape.space == 'z' else 'of the output of the first layer'}"
                return Checkpoint("dcgan", "a state dict with a card", weights, metadata, (note,))
    closest = max(dicts.values(), key=lambda state: sum(name in state for name in needed))
    missing = next(name for name in needed if name not in closest)
    raise GanvasError(
        f"{path} lacks {missing!r}, which {place.name} lists: it has {', '.join(map(format_printable, list(closest)[:8]))}."
    )
