"""Edit photographs and clips, from file to file."""

from ganvas.photo.batch import InversionConfig, InvertedFace, PhotoBatch, align_files
from ganvas.photo.clip import ClipEdit
from ganvas.photo.edit import PhotoEdit
from ganvas.photo.files import edit_photo
from ganvas.photo.paste import paste_face

__all__ = [
    "ClipEdit",
    "InversionConfig",
    "InvertedFace",
    "PhotoBatch",
    "PhotoEdit",
    "align_files",
    "edit_photo",
    "paste_face",
]
