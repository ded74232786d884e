"""Edit photographs, from file to file."""

from ganvas.photo.batch import InversionConfig, InvertedFace, PhotoBatch, align_files

__all__ = ["InversionConfig", "InvertedFace", "PhotoBatch", "align_files"]
