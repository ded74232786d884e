"""Edit photographs, from file to file."""

from ganvas.photo.batch import InversionConfig, InvertedFace, PhotoBatch, align_files
from ganvas.photo.paste import PhotoEdit, edit_photo, paste_face

__all__ = [
    "InversionConfig",
    "InvertedFace",
    "PhotoBatch",
    "PhotoEdit",
    "align_files",
    "edit_photo",
    "paste_face",
]
