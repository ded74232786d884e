"""The shapes of codes, pictures and scores, as jaxtyping aliases."""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

Dtype = Literal["float32", "bfloat16"]
DtypeChoice = Literal["auto", "float32", "bfloat16"]
"""What a user may ask for; "auto" is the faster of them on the device."""
DTYPES: tuple[str, ...] = get_args(Dtype)
"""The names of the dtypes that networks compute in."""
Z = Float[Tensor, "n z_dim"]
"""Codes of the first latent space, normally distributed."""
W = Float[Tensor, "n w_dim"]
"""Codes of the intermediate latent space, one vector for each picture."""
WPlus = Float[Tensor, "n num_ws w_dim"]
"""One w vector (row) for each modulated layer; a W code is a WPlus code with equal rows."""
Labels = Float[Tensor, "n num_labels"]
"""One-hot (or soft) conditions of a conditional generator."""
Images = Float[Tensor, "n 3 height width"]
"""RGB in [-1, 1]; a grey generator repeats its channel."""
Scores = Float[Tensor, "n attributes"]
"""One column for each attribute, in the order of the scorer's ``attributes``."""
