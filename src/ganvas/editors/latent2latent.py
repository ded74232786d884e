"""Latent to latent: one dense network takes a code and the wanted changes of all attributes, and gives the edited code.

Siavash Khodadadeh, Shabnam Ghadar, Saeid Motiian, Wei-An Lin, Ladislau Bölöni and Ratheesh Kalarot, *Latent to Latent: A
Learned Mapper for Identity Preserving Editing of Multiple Face Attributes in StyleGAN-generated Images*, WACV 2022,
https://openaccess.thecvf.com/content/WACV2022/html/Khodadadeh_Latent_to_Latent_A_Learned_Mapper_for_Identity_Preserving_Editing_of_WACV_2022_paper.html.
The labels of an attribute classifier teach it; wanted changes and conservation are terms of its loss:

    w' = w + M(w, Δ) - M(w, 0)
    L  = Σ_i (C_i(w') - C_i(w) - Δ_i)²·v_i + λ_id·|w' - w|²

C is the latent classifier, which reads normal scores; v_i is 1 for what is to change, and ``preserve`` for what is to stay.
|w' - w| stands for the identity of the face: the distance, Mahalanobis's over the whitened components of W, that it moves.
Half of the codes are asked to change one attribute, the others up to ``together`` of them, by normal numbers of deviation
``reach``. Subtracting M(w, 0) makes no change no move, and nearly none nearly none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ganvas.dataset import LatentDataset
from ganvas.edit import About, about
from ganvas.editors._compact_network import Perceptron
from ganvas.editors._latent_classifier import LatentClassifier, Lesson, learn
from ganvas.editors._latent_editor import (
    Components,
    Frame,
    Ground,
    LatentEditor,
    as_told,
    calibrate,
    empty_frame,
    prepare,
    remembered,
    report,
    restored,
)
from ganvas.editors._learning import Learning, Watch, descend, drawn, number, told, whole
from ganvas.generator import Generator
from ganvas.types import Scores

NEEDS = "labels"
"""What it learns from."""


@dataclass(frozen=True)
class Options(Learning):
    """``preserve``: v of what is to stay; ``identity``: λ_id; ``together``, ``reach``: the changes that it learns from;
    ``depth``: dense layers."""

    steps: int = 1500
    depth: int = 4
    rate: float = 1e-3
    preserve: float = 0.5
    identity: float = 0.25
    together: int = 3
    reach: float = 2.5

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("depth", self.depth, 2, 64)
        whole("together", self.together, 1)
        number("preserve", self.preserve)
        number("identity", self.identity)
        number("reach", self.reach, above=0)


@final
class Latent2Latent(LatentEditor):
    """``mapper``: M, from components and changes side by side to components."""

    def __init__(self, about: About, frame: Frame, mapper: Perceptron) -> None:
        super().__init__(about, frame)
        self.mapper = mapper

    def move(self, x: Components, changes: Scores) -> Components:
        """M(w, Δ) - M(w, 0)."""
        wanted = torch.cat((x, changes), 1)
        return self.mapper(wanted) - self.mapper(torch.cat((x, torch.zeros_like(changes)), 1))


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    attributes: tuple[str, ...] | list[str] | None = None,
    watch: Watch = lambda step, steps: None,
    **options: Any,
) -> Latent2Latent:
    """Learn the mapper of labelled codes; ``options`` are the fields of ``Options``.

    ``attributes``: only these, in this order. ``watch`` hears of each step of the mapper. What was measured on held-out
    codes is the editor's ``report``.
    Raises GanvasError for unknown or impossible options, and for too few codes.
    """
    settings = told(Options, options)
    data = data if attributes is None else data.select(tuple(attributes))
    ground, settings = prepare(data, generator, settings)
    classifier = learn(Lesson(ground.x, ground.a), settings.width, settings.knowledge, settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        editor = _made(about("latent2latent", data, generator, as_told(settings), {}), ground.frame, settings)
    editor.to(ground.x.device)
    _train(editor, classifier, ground, settings, watch)
    calibrate(editor, ground)
    editor.report = report(editor, ground, classifier)
    return editor


def from_tensors(tensors: Mapping[str, Tensor], about: About) -> Latent2Latent:
    """The editor of a file. Raises GanvasError where tensors and options don't belong together."""

    def unfilled(about: About) -> Latent2Latent:
        settings = remembered(Options, about)
        return _made(about, empty_frame(about, settings), settings)

    return restored(unfilled, tensors, about)


def _made(about: About, frame: Frame, settings: Options) -> Latent2Latent:
    c = settings.components
    return Latent2Latent(
        about, frame, Perceptron(c + len(about.attributes), c, settings.width, settings.depth, path=True)
    )


def _train(
    editor: Latent2Latent, classifier: LatentClassifier, ground: Ground, settings: Options, watch: Watch
) -> None:
    """Descend L."""
    x, k = ground.x, len(editor.attributes)
    before = classifier(x)
    random = torch.Generator().manual_seed(settings.seed)

    def loss(step: int) -> Tensor:
        rows = drawn(len(x), settings.batch, random, x.device)
        changes = wanted(len(rows), k, settings, random).to(x)
        weights = torch.where(changes != 0, 1.0, settings.preserve)
        moves = editor.move(x[rows], changes)
        missed = classifier(x[rows] + moves) - before[rows] - changes
        return (missed.square() * weights).sum(1).mean() + settings.identity * moves.square().sum(1).mean()

    descend(editor.mapper.parameters(), loss, settings.steps, settings.rate, watch=watch)
    editor.requires_grad_(False)


def wanted(n: int, k: int, settings: Options, random: torch.Generator) -> Scores:
    """Changes to learn from, (n, k): one attribute for half of the codes, up to ``together`` for the others."""
    most = torch.where(torch.arange(n) % 2 == 0, 1, torch.randint(1, settings.together + 1, (n,), generator=random))
    order = torch.rand(n, k, generator=random).argsort(1)
    return torch.where(order < most[:, None], settings.reach * torch.randn(n, k, generator=random), 0.0)
