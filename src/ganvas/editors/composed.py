"""Composed counts: objects are added to and removed from pictures that keep all others, by codes of composed pictures.

Each code's picture is drawn and cut into connected components of ink. One object less is the picture without one of them; one
more is the picture with an object of another sample at a place that is free. A code of such a picture is then searched in W+
(as in Abdal et al., *Image2StyleGAN*, 2019, https://arxiv.org/abs/1904.03189), inside of the typical set: for one less from the
code itself, for one more from a sample whose objects lie as in the composed picture. For that, the editor stores seeds of samples
with the boxes and classes of their objects. The moves are those of Doubinsky et al., RFIAP 2022 (``editors.cardinality``): a
change of 1 is one object, of more successive moves, and a class may be named.

An object is ink on dark ground, so this is for generators of digits and the like. ``build`` makes an editor from labelled
samples. Unlike others this editor draws: it takes the generator that ``load_editor`` is given, or the one of its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor, nn

from ganvas.data.dataset import LatentDataset
from ganvas.data.distribution import fit_distribution
from ganvas.editors.base import Editor, EditorMetadata, build_metadata, load_module
from ganvas.editors.cardinality import MAX_MOVES
from ganvas.errors import GanvasError
from ganvas.generators import has_bfloat16_instructions
from ganvas.generators.base import Generator, map_seeds
from ganvas.progress import Progress
from ganvas.scorers.base import Scorer
from ganvas.scorers.count import CLASSES, DIGITS, Counter, CountLogits, to_network_input
from ganvas.seeds import label_seeds
from ganvas.types import Scores, W, WPlus
from ganvas.validation import Natural, NonNegative, Positive, PositiveInt, parse, validated

METHOD = "composed"
MIN_INK = 0.35
"""The brightness from which a pixel of 0 to 1 is ink."""
FAINT_INK = 0.05
"""The brightness from which a pixel belongs to an object that is copied."""
MIN_AREA = 16
"""The least number of pixels, of a component grown by one, that is an object."""
MARGIN = 2
"""Pixels that stay free around a new object, and that are cleared around a removed one."""
FEATURE_WEIGHTS = (1.0, 1.0, 0.5, 0.5, 16.0)
"""The weights of squared differences of x, y, width and height, in pixels, and of another class, when samples are found."""
MAX_COUNT = 4
"""The most objects that a sample may have."""
SCALES = (1, 2, 4, 8)
"""The sizes of the blocks whose means are compared, from pixels on."""
WRONG_COUNT_PENALTY = 10.0
"""Added to the loss of a picture whose count isn't what was asked for, when the best one is chosen."""
BATCH_SIZE = 64

Grey = Float[Tensor, "n 64 64"]


@validated
class ComposedConfig:
    """How codes of composed pictures are searched."""

    steps: Natural = 60
    """Steps of Adam for each move; 0: the code from which the search would start, which is instant."""
    trial_steps: Natural = 15
    """Steps that every candidate gets before the best of them goes on."""
    candidates: PositiveInt = 3
    """Samples to start from that are tried for a new object; all objects are tried to be removed."""
    looked: PositiveInt = 40
    """Samples that are found by their layout and then drawn, of which the best are candidates."""
    rate: Positive = 0.05
    components: PositiveInt = 64
    """Principal components of W that each row moves along."""
    count_weight: NonNegative = 0.01
    """The weight of the counter's cross-entropy, beside the mean squared error of pixels."""


class SampleBank(nn.Module):
    """Samples by their seeds, with the boxes (x0, y0, x1, y1) and classes of their objects; class -1: no object."""

    def __init__(self, seeds: Tensor, boxes: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.seeds, self.boxes, self.labels = nn.Buffer(seeds), nn.Buffer(boxes), nn.Buffer(labels)

    def list_layouts(self) -> dict[int, Layouts]:
        """Return, by the number of objects, all samples without one of their objects and all whole ones."""
        counts, layouts = (self.labels >= 0).sum(1), {}
        features = describe_boxes(self.boxes, self.labels)
        for n in range(1, MAX_COUNT + 1):
            whole = (counts == n).nonzero()[:, 0]
            parts = [(features[whole, :n], whole, torch.full_like(whole, -1))]
            more = (counts == n + 1).nonzero()[:, 0]
            for left_out in range(n + 1 if n < MAX_COUNT else 0):
                others = [k for k in range(n + 1) if k != left_out]
                parts.append((features[more][:, others], more, torch.full_like(more, left_out)))
            layouts[n] = Layouts(*map(torch.cat, zip(*parts, strict=True)))
        return layouts


@dataclass(frozen=True)
class Layouts:
    """Objects of samples, (rows, n, 5) as ``describe_boxes`` has them.

    ``samples`` (rows,): of which sample; ``left_out`` (rows,): the number of its object that isn't among them, -1 for none.
    """

    features: Tensor
    samples: Tensor
    left_out: Tensor

    def measure_distances(self, objects: Tensor) -> Float[Tensor, " rows"]:
        """Measure how far ``objects`` (n, 5) are from those of each row, paired in the best way."""
        scale = objects.new_tensor(FEATURE_WEIGHTS)
        each = []
        for order in permutations(range(len(objects))):
            difference = self.features[:, list(order)] - objects
            difference[..., 4] = difference[..., 4].ne(0)
            each.append((difference.square() * scale).sum((1, 2)))
        return torch.stack(each).amin(0)


@dataclass(frozen=True)
class Candidate:
    """A composed picture (64, 64) of code ``code``, and the code (num_ws, w_dim) that a search starts from."""

    code: int
    target: Tensor
    start: Tensor


@final
class ComposedEditor(Editor):
    """An editor of counts whose moves keep the other objects. ``basis`` (components, w_dim): a standard deviation of W along
    each leading principal component."""

    may_fall_short = True
    limits = f"The generator draws 1 to {MAX_COUNT} objects."

    def __init__(
        self, metadata: EditorMetadata, bank: SampleBank, mean: Tensor, basis: Tensor, whitening: Tensor, bound: Tensor
    ) -> None:
        super().__init__()
        self.set_metadata(metadata)
        self.config = parse(ComposedConfig, dict(metadata.options), "the editor")
        self.bank, self.mean, self.basis = bank, nn.Buffer(mean), nn.Buffer(basis)
        self.whitening, self.bound = nn.Buffer(whitening), nn.Buffer(bound)
        self._tools: list[Any] = []

    def use_generator(self, generator: Generator) -> None:
        """Take the generator whose codes are moved; it isn't stored with the editor."""
        from ganvas import scorers

        counter = scorers.load_scorer(self.scorer.partition(":")[0])
        if not isinstance(counter, Counter):
            raise GanvasError(f"This editor counts with {self.scorer!r}, which isn't a counter of digits.")
        # In a list, so that it is no part of the module.
        self._tools = [generator, counter.to(generator.device), self.bank.list_layouts()]

    def set_steps(self, steps: int) -> None:
        """Set the steps of search; 0 is instant. Raises GanvasError for a number below 0."""
        self.config = parse(ComposedConfig, {**vars(self.config), "steps": steps}, "steps")
        self.options = vars(self.config)

    @property
    def tools(self) -> tuple[Generator, Counter, dict[int, Layouts]]:
        """The generator, the counter and the layouts of samples; loads the generator by its name where none was given."""
        if not self._tools:
            from ganvas.checkpoints.load import load_generator

            generator = load_generator(self.generator_name)
            if generator.fingerprint != self.generator:
                raise GanvasError(f"This editor needs its generator {self.generator_name!r}: load it with load_editor.")
            self.use_generator(generator)
        generator, counter, layouts = self._tools
        return generator, counter, layouts

    def shift(self, w: W, changes: Scores) -> W:
        """Return the mean of what the rows move by, for codes whose rows are all ``w``."""
        return self.shift_rows(self.tools[0].expand(w), changes).mean(1)

    def shift_rows(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Return the sum of successive unit moves. Raises GanvasError for too many."""
        if changes.abs().max() > MAX_MOVES:
            raise GanvasError(f"A change of {float(changes.abs().max()):g} objects is too much: {MAX_MOVES} at most.")
        codes, left = ws.detach().clone(), changes.detach().clone()
        while left.ne(0).any():
            for k in range(len(self.attributes)):
                amounts = left[:, k].clamp(-1, 1)
                rows = amounts.nonzero()[:, 0]
                for part in rows.split(BATCH_SIZE // 2):
                    moved = self.move_once(codes[part], k, amounts[part].sign())
                    codes[part] += (moved - codes[part]) * amounts[part].abs()[:, None, None]
            left = left - left.clamp(-1, 1)
        return codes - ws

    @torch.no_grad()
    def read(self, ws: WPlus) -> Scores:
        """Return the counts of the codes' pictures, as the counter sees them."""
        generator, counter, _ = self.tools
        columns = [counter.column(name) for name in self.attributes]
        return torch.cat([counter(generator.synthesis(part))[:, columns] for part in ws.split(BATCH_SIZE)])

    def move_once(self, ws: WPlus, k: int, sign: Tensor) -> WPlus:
        """Return codes with one object more or less (``sign``, (n,)) of attribute ``k``; unchanged where that can't be.

        Where it can't: at ``MAX_COUNT`` objects or without a free place, and where there is none (of the class) to remove.
        """
        name = self.attributes[k]
        label = DIGITS.index(name) if name in DIGITS else -1
        with torch.no_grad():
            pictures = self._draw(ws)
            candidates = [
                candidate
                for i, picture in enumerate(pictures)
                for candidate in (self._add if sign[i] > 0 else self._remove)(i, ws[i], picture, label)
            ]
        if not candidates:
            return ws
        found, code = self._search(ws, candidates, label, sign)
        return ws.index_copy(0, code, found)

    def _draw(self, ws: WPlus) -> Grey:
        generator, *_ = self.tools
        return torch.cat([to_network_input(generator.synthesis(part))[:, 0] for part in ws.split(BATCH_SIZE)])

    def _add(self, i: int, code: Tensor, picture: Tensor, label: int) -> list[Candidate]:
        """Return candidates for one object more: with an object of a sample whose others lie as in the picture."""
        objects = find_objects(picture)
        if not 0 < len(objects) < MAX_COUNT:
            return []
        taken, found = grow(torch.stack(objects).any(0), MARGIN), []
        for w, drawn, box in self._find_samples(picture, objects, more=True, label=label):
            x0, y0, x1, y1 = box
            place = torch.zeros_like(taken)
            place[y0:y1, x0:x1] = True
            place &= drawn > FAINT_INK
            if (place & taken).any():
                continue
            target = torch.where(place, torch.maximum(drawn, picture), picture)
            found.append((float(compare(drawn[None], target[None])), Candidate(i, target, w)))
        found.sort(key=lambda pair: pair[0])
        return [candidate for _, candidate in found[: self.config.candidates]]

    def _remove(self, i: int, code: Tensor, picture: Tensor, label: int) -> list[Candidate]:
        """Return candidates for one object less: without each of the objects (of the class); none where it is the only one."""
        objects, found = find_objects(picture), []
        if len(objects) < 2:
            return []
        labels = self._classify(picture, objects).tolist()
        for k, (mask, each) in enumerate(zip(objects, labels, strict=True)):
            if label not in (-1, each):
                continue
            others = [other for j, other in enumerate(objects) if j != k]
            target = torch.where(grow(mask, MARGIN) & ~torch.stack(others).any(0), 0.0, picture)
            starts = [code]
            if not self.config.steps:
                samples = self._find_samples(target, others, more=False, label=-1)
                starts = [min(samples, key=lambda s: float(compare(s[1][None], target[None])))[0]] if samples else []
            found += [Candidate(i, target, start) for start in starts]
        return found

    def _find_samples(
        self, picture: Tensor, objects: list[Tensor], more: bool, label: int
    ) -> list[tuple[Tensor, Tensor, list[int]]]:
        """Find samples whose objects lie as ``objects``: code, picture, and the box of the one object ``more`` (of a class)."""
        generator, _, all_layouts = self.tools
        layouts, bank = all_layouts[len(objects)], self.bank
        own = describe_boxes(torch.tensor([get_box(mask) for mask in objects]), self._classify(picture, objects))
        extra = bank.labels[layouts.samples, layouts.left_out.clamp(min=0)]
        fits = (layouts.left_out >= 0) == more
        if more and label >= 0:
            fits &= extra == label
        rows = fits.nonzero()[:, 0]
        if not len(rows):
            return []
        distances = layouts.measure_distances(own.to(layouts.features))[rows]
        rows = rows[distances.argsort()[: self.config.looked]]
        samples = layouts.samples[rows]
        codes = generator.expand(map_seeds(generator, bank.seeds[samples].tolist()))
        boxes = bank.boxes[samples, layouts.left_out[rows].clamp(min=0)].tolist()
        return list(zip(codes, self._draw(codes), boxes, strict=True))

    def _classify(self, picture: Tensor, objects: list[Tensor]) -> Tensor:
        return classify_objects(self.tools[1], [picture * grow(mask, 1) for mask in objects])

    def _search(self, ws: WPlus, candidates: list[Candidate], label: int, sign: Tensor) -> tuple[WPlus, Tensor]:
        """Search the codes of composed pictures; return the best for each code, and the codes' numbers."""
        code = torch.tensor([candidate.code for candidate in candidates], device=ws.device)
        target = torch.stack([candidate.target for candidate in candidates])
        x = torch.stack([candidate.start for candidate in candidates]).to(ws)
        with torch.no_grad():
            before = self._count(self._draw(ws), label)
        asked = (before + sign.long()).clamp(min=0)[code]
        config, start = self.config, x
        if config.steps:
            x = self._optimize(x, target, asked, label, min(config.trial_steps, config.steps), falling=False)
        best = self._choose(x, target, asked, code, label)
        x, start, target, asked, code = x[best], start[best], target[best], asked[best], code[best]
        if config.steps > config.trial_steps:
            x = self._optimize(x, target, asked, label, config.steps - config.trial_steps, falling=True)
            # Where the search ends with another count than asked for, it was better not to begin it.
            both = torch.cat((x, start))
            goals, wanted, codes = (torch.cat((value, value)) for value in (target, asked, code))
            x = both[self._choose(both, goals, wanted, codes, label)]
        return x, code

    def _count(self, pictures: Grey, label: int) -> Tensor:
        return select_logits(self.tools[1].network(pictures[:, None]), label).argmax(1)

    @torch.no_grad()
    def _choose(self, x: WPlus, target: Grey, asked: Tensor, code: Tensor, label: int) -> Tensor:
        """Return the row of the best candidate of each code."""
        pictures = self._draw(x)
        loss = compare(pictures, target) + WRONG_COUNT_PENALTY * (self._count(pictures, label) != asked)
        rows = [(code == i).nonzero()[:, 0] for i in code.unique()]
        return torch.stack([each[loss[each].argmin()] for each in rows])

    def _optimize(self, x: WPlus, target: Grey, asked: Tensor, label: int, steps: int, falling: bool) -> WPlus:
        """Return codes whose pictures are nearer to ``target`` after some steps.

        ``falling``: the rate falls to 0, and in the second half the counter has a say; before, its errors are of no use.
        """
        generator, counter, _ = self.tools
        config, start = self.config, x.detach()
        with torch.enable_grad():
            step = torch.zeros(*x.shape[:2], len(self.basis), device=x.device).requires_grad_()
            optimizer = torch.optim.Adam([step], config.rate)
            for i in range(steps):
                optimizer.param_groups[0]["lr"] = config.rate * (min(1, (steps - i) / (0.7 * steps)) if falling else 1)
                grey = to_network_input(generator.synthesis(self._bound(start + step @ self.basis)))[:, 0]
                loss = compare(grey, target)
                if config.count_weight and falling and i >= steps // 2:
                    logits = select_logits(counter.network(grey[:, None]), label)
                    loss = loss + config.count_weight * F.cross_entropy(logits, asked, reduction="none")
                # Each code's gradient of a sum is its own: the result doesn't depend on the batch.
                (step.grad,) = torch.autograd.grad(loss.sum(), step)
                optimizer.step()
        return self._bound(start + step.detach() @ self.basis)

    def _bound(self, ws: WPlus) -> WPlus:
        """Draw rows that are outside of the typical set towards the mean, onto its border."""
        centred = ws - self.mean
        distance = (centred @ self.whitening).norm(dim=2, keepdim=True)
        return self.mean + centred * (self.bound / distance).clamp(max=1)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> ComposedEditor:
        """Build the editor from a file's tensors. Raises GanvasError for tensors of other names or shapes."""
        w_dim, n = metadata.probe.weight.shape[0], len(tensors.get("bank.seeds", ()))
        config = parse(ComposedConfig, dict(metadata.options), "the editor", complete=True)
        with torch.device("meta"):
            bank = SampleBank(
                torch.empty(n, dtype=torch.int32),
                torch.empty(n, MAX_COUNT, 4, dtype=torch.uint8),
                torch.empty(n, MAX_COUNT, dtype=torch.int8),
            )
            basis = torch.empty(config.components, w_dim)
            editor = cls(metadata, bank, torch.empty(w_dim), basis, torch.empty(w_dim, w_dim), torch.empty(()))
        load_module(editor, tensors)
        return editor


def find_objects(picture: Tensor) -> list[Bool[Tensor, "64 64"]]:
    """Find the connected components of ink, each grown by one pixel."""
    ink = ndimage.binary_dilation((picture > MIN_INK).cpu().numpy())
    found: Any = ndimage.label(ink, np.ones((3, 3)))
    labels, n = found
    masks = [torch.from_numpy(labels == i).to(picture.device) for i in range(1, n + 1)]
    return [mask for mask in masks if int(mask.sum()) >= MIN_AREA]


def grow(mask: Bool[Tensor, "64 64"], pixels: int) -> Bool[Tensor, "64 64"]:
    """Grow a mask by some pixels."""
    return F.max_pool2d(mask[None].float(), 2 * pixels + 1, 1, pixels)[0] > 0


def classify_objects(counter: Counter, pictures: list[Tensor]) -> Tensor:
    """Return the class of the one object in each picture (64, 64), (n,)."""
    # Twice as fast, and a class is seldom that close.
    device = pictures[0].device
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16_instructions(device)):
        logits = counter.network(torch.stack(pictures)[:, None]).classes.float()
    return (logits[..., 1:].logsumexp(2) - logits[..., 0]).argmax(1)


def get_box(mask: Bool[Tensor, "64 64"]) -> list[int]:
    """Return the box of an object, as ``SampleBank`` has it."""
    y, x = mask.nonzero().T
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


def describe_boxes(boxes: Tensor, labels: Tensor) -> Tensor:
    """Return the middle, width, height and class of objects, (..., 5), from their boxes (..., 4) and classes (...)."""
    x0, y0, x1, y1 = boxes.float().unbind(-1)
    return torch.stack(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, labels.float()), -1)


def compare(pictures: Grey, targets: Grey) -> Float[Tensor, " n"]:
    """Compute the mean squared errors of pixels from -1 to 1, summed over block means of all ``SCALES``."""
    difference = 2 * (pictures - targets)[:, None]
    return torch.stack([F.avg_pool2d(difference, scale).square().mean((1, 2, 3)) for scale in SCALES]).sum(0)


def select_logits(logits: CountLogits, label: int) -> Float[Tensor, "n counts"]:
    """Select the logits of the count, or of the number of one class."""
    return logits.count if label < 0 else logits.classes[:, label]


@torch.no_grad()
def build(
    data: LatentDataset,
    generator: Generator,
    counter: Scorer,
    samples: int = 40_000,
    progress: Progress = lambda done, total: None,
    **options: Any,
) -> ComposedEditor:
    """Build an editor from labelled samples: the first ``samples`` whose objects the counter and components agree on.

    ``data`` are codes of W with the counter's labels, drawn from seeds. ``options`` are the fields of ``ComposedConfig``.
    Raises GanvasError for other labels, impossible options, and pictures whose objects aren't ink on dark ground.
    """
    config = parse(ComposedConfig, options, "options")
    if not isinstance(counter, Counter) or data.source.seed is None or data.source.psi != 1 or data.space != "w":
        raise GanvasError("Composed counts need labels by the counter of digits, of codes from seeds at psi 1.")
    seeds = label_seeds(len(data), data.source.seed)
    names = tuple(name for name, kind in zip(data.attributes, data.kinds, strict=True) if kind == "count")
    total = data.scores[:, data.attributes.index("count")]
    by_class = data.scores[:, [data.attributes.index(name) for name in DIGITS]]
    bank: list[tuple[int, list[list[int]], list[int]]] = []
    for start in range(0, len(data), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        pictures = to_network_input(generator.synthesis(data.ws(rows, generator.num_ws).to(generator.device)))[:, 0]
        cut = [
            (picture, seed, objects, counted)
            for picture, seed, count, counted in zip(
                pictures, seeds[rows], total[rows].tolist(), by_class[rows], strict=True
            )
            if len(objects := find_objects(picture)) == count and 0 < count <= MAX_COUNT
        ]
        if cut:
            classes = classify_objects(counter, [picture * grow(m, 1) for picture, _, masks, _ in cut for m in masks])
            each = classes.split([len(masks) for _, _, masks, _ in cut])
            bank += [
                (seed, [get_box(mask) for mask in masks], labels.tolist())
                for (_, seed, masks, counted), labels in zip(cut, each, strict=True)
                # Where single objects are counted as other classes than the whole, at least one is hard to read.
                if torch.equal(labels.bincount(minlength=CLASSES), counted.long().to(labels))
            ]
        progress(min(len(bank), samples), samples)
        if len(bank) >= samples:
            break
    if len(bank) < 0.2 * min(samples, len(data)):
        raise GanvasError("Composed counts are for objects of light ink on dark ground that don't touch: these aren't.")
    bank = bank[:samples]
    boxes = torch.zeros(len(bank), MAX_COUNT, 4, dtype=torch.uint8)
    labels = torch.full((len(bank), MAX_COUNT), -1, dtype=torch.int8)
    for i, (_, corners, classes) in enumerate(bank):
        boxes[i, : len(corners)] = torch.tensor(corners)
        labels[i, : len(classes)] = torch.tensor(classes)
    distribution = fit_distribution(generator)
    metadata = build_metadata(METHOD, data.select(names), generator, vars(config))
    # The inverse of the whitening of W, along its leading components.
    basis = torch.linalg.inv(distribution.whitening)[: config.components]
    editor = ComposedEditor(
        replace(metadata, space="w+"),
        SampleBank(torch.tensor([seed for seed, *_ in bank], dtype=torch.int32), boxes, labels),
        distribution.mean,
        basis.contiguous(),
        distribution.whitening,
        # A little inside, for float16.
        torch.tensor(0.995 * distribution.bound),
    )
    editor.to(generator.device).requires_grad_(False)
    editor.use_generator(generator)
    return editor
