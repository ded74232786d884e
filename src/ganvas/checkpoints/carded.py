"""State dicts of generators without a W, whose architecture a small card lists: see ``ganvas.generators.dcgan``.

PyTorch's DCGAN example (https://github.com/pytorch/examples/tree/main/dcgan) saves such files; the card is TOML or JSON, beside
the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._networks import StoredNetwork
from ganvas.checkpoints._torch import read_tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.io.files import read_card
from ganvas.validation import parse

CARD_SUFFIXES = (".toml", ".json")
"""The suffixes of a card beside a state dict, whose name it has otherwise."""
PREFIXES = ("", "module.", "generator.", "netG.", "G.")
"""Prefixes that all names of a state dict may have."""


def find_card(path: Path, card: str | Path | None) -> Path | None:
    """Find the card of a state dict: the one that is given, or one beside it."""
    places = [Path(card)] if card is not None else [path.with_suffix(suffix) for suffix in CARD_SUFFIXES]
    return next((place for place in places if place.is_file()), None)


def describe_missing(networks: Sequence[StoredNetwork], path: Path, budget: ReadBudget) -> GanvasError:
    """Return the error for a file whose networks nothing recognises, and which has no card."""
    if not networks:
        return GanvasError(f"{budget.origin} holds no named tensors, so it is no generator.")
    weights = min(networks, key=lambda network: network.rank).weights
    names = ", ".join(map(format_printable, list(weights)[:3]))
    cards = " or ".join(path.with_suffix(suffix).name for suffix in CARD_SUFFIXES)
    return GanvasError(
        f"{budget.origin} is a state dict ({names}, …) without a card: write one that lists its layers, {cards}."
    )


def read(networks: Sequence[StoredNetwork], card: Path, budget: ReadBudget) -> Checkpoint:
    """Read the first network that has the weights that ``card`` lists. Raises GanvasError where there is none."""
    from ganvas.generators import dcgan

    shape = parse(dcgan.DcganArchitecture, read_card(card), card)
    needed, states = dcgan.list_weights(shape), [network.weights for network in networks]
    for state in states:
        for start in PREFIXES:
            if all(start + name in state for name in needed):
                names = {name: name.removeprefix(start) for name in state if name.startswith(start)}
                metadata = {"kind": dcgan.KIND, "family": dcgan.FAMILY, "version": dcgan.VERSION, "shape": shape}
                note = f"edits the space {'z' if shape.space == 'z' else 'of the output of the first layer'}"
                weights = read_tensors(state, budget, names)
                return Checkpoint("dcgan", "a state dict with a card", weights, metadata, (note,))
    closest = max(states, key=lambda state: sum(name in state for name in needed))
    missing = next(name for name in needed if name not in closest)
    held = ", ".join(map(format_printable, list(closest)[:8]))
    raise GanvasError(f"{budget.origin} lacks {missing!r}, which {card.name} lists: it has {held}.")
