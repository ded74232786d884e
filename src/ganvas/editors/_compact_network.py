"""The compact editor's options, networks, losses and training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from ganvas.data.entailment import DETAILS, ENTAILED
from ganvas.editors._fit import update_options
from ganvas.editors._networks import SLOPE, Perceptron, compute_correlation, fit_network
from ganvas.errors import GanvasError, unknown
from ganvas.progress import Progress
from ganvas.training_loop import constant, seed_random_state, warmup_cosine
from ganvas.types import Dtype, Scores, W
from ganvas.validation import Flag, Natural, NonNegative, Positive, PositiveInt, PositiveReal, Share, validated

Codes = Float[Tensor, "n dim"]
Components = Float[Tensor, "n components"]
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {
        "alpha": 5.12e-3,
        "beta": 5.12e-3,
        "slope": 0.01,
        "correlated": "codes",
        "max_score": 3.1,
        "pca_codes": 10_000,
        "residual": False,
        "keep_beyond": True,
    },
    "paper-text": {},
    "fast": {
        "depth": 4,
        "width": 256,
        "alpha": 0.1,
        "beta": 0.1,
        "epochs": 30,
        "batch": 1024,
        "rate": 2e-3,
        "decay": 0.01,
        "path": True,
        "hold": 2.0,
        "aim": "probability",
        "truncation": 0.12,
        "protected": ("Male", "Age", "Skin_Lightness", "Eyeglasses", "Sunglasses", "Smiling"),
        "protection": 20.0,
        "entailed": ENTAILED,
        "max_move_length": 12.0,
        "max_unit_length": 3.0,
        "keep_typical": True,
        "details": DETAILS,
    },
}
"""The options of each recipe, where they aren't those of the paper's text."""
# paper: the authors' own code, whose (3) is a mean over the 512 dimensions of w: (4) and (5) weigh 512 times as much.
# hold: moves are shorter than with c_k alone and change other readings less; a larger one lengthens them again for little
# (experiments/ffhq/hold.py).

COARSE_RESOLUTION = 16
"""The resolution in pixels below which rows of W+ decide on poses and shapes."""
CUSTOM_RECIPE = "own"
"""The name that editors store for a recipe that isn't one of ``RECIPES``: their other options state all of it."""


def _parse_none(value: Any) -> Any:
    """Convert the text "none", which the command line gives, to None."""
    return None if isinstance(value, str) and value.lower() == "none" else value


def _parse_matrix(rows: Any) -> Any:
    """Convert lists of rows to tuples; other values stay, and () stands for rows that aren't lists.

    Raises GanvasError for an entry that isn't a number.
    """
    if not isinstance(rows, list | tuple):
        return rows
    if not all(isinstance(row, list | tuple) for row in rows):
        return ()
    try:
        return tuple(tuple(map(float, row)) for row in rows)
    except (TypeError, ValueError, OverflowError):
        raise GanvasError("mref must be a matrix of numbers, or one of identity, labels.") from None


@validated
class CompactConfig:
    """Options of ``compact.fit``; the defaults are those of the paper's text, whose equations have the numbers in parentheses.

    ``components`` of W and ``dim`` of the code: the most; fewer where W or the attributes have fewer.
    ``residual``: an edit keeps what lies beyond the components and what the auto-encoder doesn't reconstruct; without it an
    edited code is the decoder's output, as in the paper (a change of 0 is still the identity), to which ``keep_beyond`` adds
    what lies beyond the components.
    ``hold``: the weight with which a change keeps the other readings; None moves c_k alone, as in the paper.
    ``protected``: attributes that are held ``protection`` times as much by moves that don't name them, and that truncation
    keeps; names that weren't labelled are passed over.
    ``entailed``: attribute -> the others that a move for it doesn't hold, protected ones among them.
    ``aim``: what moves are to change, the normal "score" (the paper's) or the "probability"; only with ``hold``.
    ``truncation``: the share of the shell's squared radius lost for each Mahalanobis length moved, from 0 (the paper's) to 1.
    ``max_move_length``: the largest Mahalanobis length of a move, all its changes together, before truncation; None: any.
    ``max_unit_length``: the largest Mahalanobis length of a change of 1; where holding other readings would make it longer, they
    are held less; without ``hold`` nothing is held, and it does nothing. None: any.
    ``keep_typical``: edited codes are kept as typical as they were, in P (``ganvas.data.p_space``); needs ``residual``.
    ``details``: attributes whose moves leave the first ``coarse_rows`` rows of W+ as they are, those below COARSE_RESOLUTION
    pixels, where poses and shapes are decided; names that weren't labelled are passed over.
    ``correlated``: whether (5) is over the first K codes, those of the "attributes", or over all "codes".
    ``max_score``: normal scores are limited to ± this; None: to nothing. ``pca_codes``: how many codes the components are of, at
    most; None: all that train. ``slope``: of the leaky ReLU.
    ``mref``: M_ref of (5): "identity", "labels" (the labels' own correlation) or a K×K matrix in the attributes' order.
    ``alpha`` and ``beta`` weigh (4) and (5) in (6). ``path``: a linear path beside the layers, initialised as the best linear
    encoder and decoder, and a learning rate that warms up and then falls to 0 as a cosine; else it is constant.
    ``steps``: the most steps, whatever ``epochs`` is. ``dtype``: of the products of the layers.
    """

    components: PositiveInt = 60
    dim: PositiveInt = 60
    residual: Flag = True
    keep_beyond: Flag = False
    correlated: Literal["attributes", "codes"] = "attributes"
    max_score: Positive | None = None
    pca_codes: PositiveInt | None = None
    slope: Annotated[float, Field(strict=True, ge=0, lt=1)] = SLOPE
    mref: Annotated[Any, BeforeValidator(_parse_matrix)] = "identity"
    hold: Annotated[NonNegative | None, BeforeValidator(_parse_none)] = None
    aim: Literal["score", "probability"] = "score"
    truncation: Share = 0.0
    protected: tuple[str, ...] = ()
    protection: PositiveReal = 1.0
    entailed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_move_length: Annotated[Positive | None, BeforeValidator(_parse_none)] = None
    max_unit_length: Annotated[Positive | None, BeforeValidator(_parse_none)] = None
    keep_typical: Flag = False
    details: tuple[str, ...] = ()
    coarse_rows: Natural = 0
    seed: Natural = 0
    depth: Annotated[int, Field(strict=True, ge=2, le=64)] = 8
    width: PositiveInt = 512
    alpha: NonNegative = 1e-5
    beta: NonNegative = 1e-5
    epochs: PositiveInt = 150
    batch: Annotated[int, Field(strict=True, ge=2)] = 256
    rate: NonNegative = 2e-4
    decay: NonNegative = 0.0
    path: Flag = False
    steps: PositiveInt | None = None
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        if self.aim == "probability" and self.hold is None:
            raise GanvasError(
                "aim=probability needs hold, without which only c_k moves: give hold a number, or set aim=score."
            )
        if self.truncation and not self.residual:
            raise GanvasError("truncation needs residual: set truncation=0 or residual=true.")
        if self.keep_beyond and self.residual:
            raise GanvasError(
                "residual keeps what lies beyond the components already: set residual=false or keep_beyond=false."
            )
        if self.keep_typical and not self.residual:
            raise GanvasError("keep_typical needs residual: set keep_typical=false or residual=true.")
        if self.max_move_length is not None and not self.residual:
            raise GanvasError("max_move_length needs residual: set max_move_length=none or residual=true.")

    def count_steps(self, n: int) -> int:
        """Return the number of steps on ``n`` codes; the last batch of an epoch is left out if it isn't full."""
        steps = self.epochs * max(n // self.batch, 1)
        return steps if self.steps is None else min(steps, self.steps)


def find_recipe_name(recipe: str | Mapping[str, Any]) -> str:
    """Return the name that editors store for a recipe, given by its name or as its options."""
    if isinstance(recipe, str):
        return recipe
    return next((name for name, shipped in RECIPES.items() if shipped == dict(recipe)), CUSTOM_RECIPE)


def parse_recipe(recipe: str | Mapping[str, Any], options: Mapping[str, Any]) -> CompactConfig:
    """Build the config from ``options`` on top of the recipe's. Raises GanvasError for unknown names and impossible values."""
    if isinstance(recipe, str) and recipe not in (*RECIPES, CUSTOM_RECIPE):
        raise unknown("recipe", recipe, RECIPES)
    options = update_options(options)
    merged = {**(RECIPES.get(recipe, {}) if isinstance(recipe, str) else update_options(recipe)), **options}
    # A recipe's aim needs hold, its truncation and bound the residual, and keep_beyond none: else they are dropped.
    if _parse_none(merged.get("hold")) is None and "aim" not in options:
        merged.pop("aim", None)
    without = ("keep_beyond",) if merged.get("residual", True) else ("truncation", "max_move_length", "keep_typical")
    for name in without:
        if name not in options:
            merged.pop(name, None)
    return CompactConfig(**merged)


def fit_to_data(settings: CompactConfig, w: W, k: int) -> CompactConfig:
    """Limit ``components`` and ``dim`` to what the data allow. Raises GanvasError where the code can't hold ``k`` attributes."""
    components = min(settings.components, w.shape[1], min(len(w), settings.pca_codes or len(w)) - 1)
    dim = settings.dim if components == settings.components else min(settings.dim, max(components, k))
    if dim < k:
        raise GanvasError(f"A code of {dim} numbers can't hold {k} attributes: raise dim, or pick fewer attributes.")
    return replace(settings, components=components, dim=dim)


def build_reference(mref: Any, a: Scores) -> Tensor:
    """Build M_ref, (K, K). Raises GanvasError where it isn't a correlation matrix."""
    k = a.shape[1]
    if mref == "identity":
        return torch.eye(k).to(a)
    if mref == "labels":
        return compute_correlation(a)
    if isinstance(mref, str):
        raise unknown("mref", mref, ["identity", "labels", "a matrix"])
    try:
        matrix = torch.tensor(mref, dtype=torch.float64)
    except (TypeError, ValueError):
        matrix = torch.empty(0)
    if matrix.shape != (k, k) or not torch.isfinite(matrix).all():
        raise GanvasError(f"mref must be a matrix of {k} rows and {k} columns, for {k} attributes.")
    if (
        (matrix - matrix.T).abs().max() > 1e-6
        or (matrix.diagonal() - 1).abs().max() > 1e-6
        or matrix.abs().max() > 1.001
    ):
        raise GanvasError("mref must be a correlation matrix: symmetric, from -1 to 1, with 1 on its diagonal.")
    return matrix.to(a)


class TrainablePerceptron(nn.Module):
    """A ``Perceptron`` in training: batch norm after each leaky ReLU and, with ``norm_output``, on the output.

    With a path the last layer starts at zero: what the layers learn is added to a linear map. With ``use_bfloat16`` the
    products of the layers are in that dtype; weights, norms, the path and all results are float32.
    """

    def __init__(self, plain: Perceptron, norm_output: bool, use_bfloat16: bool) -> None:
        super().__init__()
        self.plain, self.use_bfloat16 = plain, use_bfloat16
        *hidden, last = plain.linears
        self.norms = [nn.BatchNorm1d(layer.out_features) for layer in hidden]
        self.code_norm = nn.BatchNorm1d(last.out_features) if norm_output else None
        # The list keeps their type; this makes them part of the module.
        self.registered = nn.ModuleList(self.norms)
        if plain.path is not None:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs) to (n, outputs)."""
        *hidden, last = self.plain.linears
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            y = x
            for layer, norm in zip(hidden, self.norms, strict=True):
                y = norm(F.leaky_relu(layer(y), self.plain.slope))
            y = last(y)
        y = y.float() if self.plain.path is None else y.float() + self.plain.path(x)
        return y if self.code_norm is None else self.code_norm(y)

    def initialize(self, weight: Tensor, scale: Tensor) -> None:
        """Initialise the path, which must exist, to ``x @ weight``, whose outputs have mean 0 and deviations ``scale``."""
        with torch.no_grad():
            self.plain.get_parameter("path.weight").copy_(weight.T)
            if self.code_norm is not None:
                self.code_norm.weight.copy_(scale)
                self.code_norm.get_buffer("running_var").copy_(scale.square() - self.code_norm.eps)

    def fold_norms(self) -> Perceptron:
        """Fold each batch norm, with its running statistics, into the layer next to it, and return the plain network."""
        layers = self.plain.linears
        with torch.no_grad():
            for norm, after in zip(self.norms, layers[1:], strict=True):
                scale, offset = _norm_to_affine(norm)
                after.bias.add_(after.weight @ offset)
                after.weight.mul_(scale)
            if self.code_norm is not None:
                scale, offset = _norm_to_affine(self.code_norm)
                layers[-1].weight.mul_(scale[:, None])
                layers[-1].bias.mul_(scale).add_(offset)
                if self.plain.path is not None:
                    self.plain.path.weight.mul_(scale[:, None])
        return self.plain.requires_grad_(False)


def _norm_to_affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    scale = norm.weight / (norm.get_buffer("running_var") + norm.eps).sqrt()
    return scale, norm.bias - norm.get_buffer("running_mean") * scale


def compute_losses(x: Components, c: Codes, y: Components, a: Tensor, mref: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the losses of the paper's equations (3), (4) and (5): of reconstruction, attributes and correlations.

    ``x``: components; ``c``: their codes; ``y``: the components decoded from these; ``a``: normal scores; ``mref``: of the first
    codes, as many as it has rows. Sums over dimensions, attributes and pairs are as written; (3) and (4) are averaged over codes.
    """
    recons = (x - y).square().sum(1).mean()
    attr = (a - c[:, : a.shape[1]]).square().sum(1).mean()
    return recons, attr, (compute_correlation(c[:, : len(mref)]) - mref).abs().sum()


def measure_off_diagonal(matrix: Tensor) -> float:
    """Return the mean absolute value off the diagonal; 0 for a 1×1 matrix."""
    k = len(matrix)
    return float((matrix - matrix.diagonal().diag()).abs().sum() / max(k * (k - 1), 1))


def solve_linear_start(x: Components, a: Tensor, mref: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Solve for the best linear encoder and decoder, (components, dim) and (dim, components), for mean-free ``x``.

    The first K columns: attributes predicted by regression, changed as little as possible to the correlation ``mref``
    (by the symmetric optimal transport map between normal distributions), and scaled to the attributes. The others: the
    principal components of the remainder, uncorrelated with them. So the decoder moves an attribute along the direction
    that is shortest by Mahalanobis distance.
    """
    x, a, mref = x.double(), (a - a.mean(0)).double(), mref.double()
    k, n = a.shape[1], len(x)
    s = x.T @ x / n
    shared = x.T @ a / n
    predictor = torch.linalg.lstsq(s + 1e-6 * s.trace() / len(s) * torch.eye(len(s)).to(s), shared).solution
    spread = (predictor * (s @ predictor)).sum(0).clamp(min=1e-12).sqrt()
    predicted = (predictor.T @ s @ predictor) / spread[:, None] / spread
    root, inverse = _raise_matrix(predicted, 0.5), _raise_matrix(predicted, -0.5)
    first = predictor / spread @ (inverse @ _raise_matrix(root @ mref @ root, 0.5) @ inverse)
    first = first / (first * (s @ first)).sum(0).sqrt()
    first = first * (first * shared).sum(0).clamp(min=0.05)
    gram = first.T @ s @ first
    projection = torch.eye(len(s)).to(s) - first @ torch.linalg.pinv(gram, hermitian=True) @ first.T @ s
    variances, axes = torch.linalg.eigh(projection.T @ s @ projection)
    remaining = min(dim - k, int((variances > 1e-9 * s.trace()).sum()))
    rest = projection @ axes[:, len(axes) - remaining :] / variances[len(axes) - remaining :].sqrt()
    encoder = torch.cat((first, rest, first.new_zeros(len(s), dim - k - remaining)), 1)
    decoder = torch.linalg.pinv(encoder.T @ s @ encoder, rtol=1e-9, hermitian=True) @ encoder.T @ s
    return encoder, decoder


def _raise_matrix(matrix: Tensor, exponent: float) -> Tensor:
    # Small eigenvalues, of attributes that are nearly equal, are noise: clamped, so that it isn't amplified further.
    values, axes = torch.linalg.eigh(matrix)
    return axes @ (values.clamp(min=0.02) ** exponent)[:, None].mul(axes.T)


def train_autoencoder(
    x: Tensor, a: Tensor, mref: Tensor, config: CompactConfig, progress: Progress
) -> tuple[Perceptron, Perceptron]:
    """Train an encoder and a decoder on mean-free components ``x`` (n, components) and normal scores ``a`` (n, K).

    Equal input gives equal weights on one machine; the global random state is left as it was.
    Raises GanvasError where the last loss isn't finite.
    """
    use_bfloat16 = config.dtype == "bfloat16"
    k = a.shape[1]
    target = torch.eye(config.dim if config.correlated == "codes" else k).to(a)
    target[:k, :k] = mref
    with seed_random_state(config.seed):
        sizes = (x.shape[1], config.dim), (config.dim, x.shape[1])
        shape = config.width, config.depth, config.path, config.slope
        plain = [Perceptron(*size, *shape).to(x.device) for size in sizes]
    encoder, decoder = (TrainablePerceptron(p, p is plain[0], use_bfloat16).to(x.device) for p in plain)
    if config.path:
        forward, backward = (matrix.float() for matrix in solve_linear_start(x, a, mref, config.dim))
        encoder.initialize(forward, (x @ forward).std(0, correction=0).clamp(min=0.1))
        decoder.initialize(backward, forward)
    random, batch = torch.Generator().manual_seed(config.seed), min(config.batch, len(x))
    steps_per_epoch, order = max(len(x) // config.batch, 1), torch.arange(len(x))

    def loss(step: int) -> Tensor:
        nonlocal order
        if step % steps_per_epoch == 0:
            order = torch.randperm(len(x), generator=random).to(x.device)
        rows = order[step % steps_per_epoch * batch :][:batch]
        c = encoder(x[rows])
        recons, attr, corr = compute_losses(x[rows], c, decoder(c), a[rows], target)
        return recons + config.alpha * attr + config.beta * corr

    fit_network(
        [*encoder.parameters(), *decoder.parameters()],
        loss,
        config.count_steps(len(x)),
        config.rate,
        config.decay,
        progress,
        schedule=warmup_cosine if config.path else constant,
        max_norm=None,
    )
    return encoder.fold_norms(), decoder.fold_norms()
