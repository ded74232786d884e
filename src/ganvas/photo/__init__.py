"""Edit photographs, from file to file."""

from ganvas.photo.batch import InversionConfig, InvertedFace, PhotoBatch, align_files
from ganvas.photo.edit import PhotoEdit, edit_photo
from ganvas.photo.paste import paste_face

__all__ = [
    "InversionConfig",
    "InvertedFace",
    "PhotoBatch",
    "PhotoEdit",
    "align_files",
    "edit_photo",
    "paste_face",
]
