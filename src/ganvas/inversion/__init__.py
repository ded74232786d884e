"""Invert photographs to codes: read, align, invert, measure, and add the residual after an edit.

photo = read_photo("me.jpg")                    # (1, 3, height, width), upright, RGB in [-1, 1]
faces = align(photo, generator.resolution)      # the largest first; no face: GanvasError
targets = torch.cat([face.picture for face in faces])
inverted = invert(targets, generator, "w+")     # .ws (n, num_ws, w_dim), .pictures (n, 3, side, side), .steps
quality = measure_inversion(inverted.ws, inverted.pictures, targets, generator)   # one InversionQuality a picture
edited = generator.synthesis(editor.edit(inverted.ws, {"Smiling": 2}))
result = add_residual(edited, inverted.pictures, targets)
"""

from ganvas.inversion.alignment import Face, align
from ganvas.inversion.encoder import Encoder, read_encoder, save_encoder
from ganvas.inversion.imported_codes import import_codes, load_imported_codes, shrink_to_w
from ganvas.inversion.optimization import OptimizationConfig
from ganvas.inversion.pipeline import (
    METHODS,
    SPACES,
    Inversion,
    check_composing,
    invert,
    invert_objects,
    load_encoder,
)
from ganvas.inversion.quality import InversionQuality, fit_w_distribution, measure_inversion
from ganvas.inversion.residual import add_residual
from ganvas.inversion.tuning import TuningConfig
from ganvas.io.images import find_pictures
from ganvas.io.images import read_picture as read_photo

__all__ = [
    "METHODS",
    "SPACES",
    "Encoder",
    "Face",
    "Inversion",
    "InversionQuality",
    "OptimizationConfig",
    "TuningConfig",
    "add_residual",
    "align",
    "check_composing",
    "find_pictures",
    "fit_w_distribution",
    "import_codes",
    "invert",
    "invert_objects",
    "load_encoder",
    "load_imported_codes",
    "measure_inversion",
    "read_encoder",
    "read_photo",
    "save_encoder",
    "shrink_to_w",
]
