"""Photographs to codes: read, align, invert, measure, and put back what the inversion missed.

photo = read_photo("me.jpg")                    # (1, 3, height, width), upright, RGB in [-1, 1]
faces = align(photo, generator.resolution)      # the largest first; no face: GanvasError
targets = torch.cat([face.picture for face in faces])
inverted = invert(targets, generator, "w+")     # .ws (n, num_ws, w_dim), .pictures (n, 3, side, side), .steps
told = measure(inverted.ws, inverted.pictures, targets, generator)   # one Measures a picture
edited = generator.synthesis(editor.edit(inverted.ws, {"Smiling": 2}))
shown = put_back(edited, inverted.pictures, targets)
"""

from ganvas.inversion.encoder import Encoder, read_encoder, save_encoder
from ganvas.inversion.faces import Face, align
from ganvas.inversion.foreign import load_foreign, near_w
from ganvas.inversion.inverting import METHODS, SPACES, Inversion, invert, load_encoder
from ganvas.inversion.measures import Measures, distribution_of, measure
from ganvas.inversion.residual import put_back
from ganvas.inversion.search import Options
from ganvas.pictures import photos_in
from ganvas.pictures import read_picture as read_photo

__all__ = [
    "METHODS",
    "SPACES",
    "Encoder",
    "Face",
    "Inversion",
    "Measures",
    "Options",
    "align",
    "distribution_of",
    "invert",
    "load_encoder",
    "load_foreign",
    "measure",
    "near_w",
    "photos_in",
    "put_back",
    "read_encoder",
    "read_photo",
    "save_encoder",
]
