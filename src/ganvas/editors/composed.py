"""Composed counts: objects are added to and removed from pictures that keep all others, by codes of composed pictures.

Each code's picture is drawn and cut into connected components of ink. One object less is the picture without one of them; one
more is the picture with an object of another sample at a place that is free. A code of such a picture is then searched in W+
(as in Abdal et al., *Image2StyleGAN*, 2019, https://arxiv.org/abs/1904.03189), inside of the typical set: for one less from the
code itself, for one more from a sample whose objects lie as in the composed picture. For that, the editor stores seeds of samples
with the boxes and classes of their objects. The moves are those of Doubinsky et al., RFIAP 2022 (``editors.cardinality``): a
change of 1 is one object, of more successive moves, and a class may be named.

An object is ink on dark ground, so this is for generators of digits and the like. ``build`` makes an editor from labelled
samples. Unlike others this editor draws: it takes the generator that ``load_editor`` is given, or the one of its name.

``invert`` finds codes of given pictures in the same manner, from samples with the same objects in the same places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.data.dataset import LatentDataset
from ganvas.data.distribution import fit_distribution
from ganvas.editors._code_search import Grey, TypicalSet, compare, descend, find_least
from ganvas.editors._layouts import (
    MAX_COUNT,
    Layouts,
    SampleBank,
    classify_objects,
    describe_boxes,
    find_objects,
    get_box,
    grow,
    join_objects,
)
from ganvas.editors._networks import copy_module
from ganvas.editors.base import Editor, EditorMetadata, build_metadata, load_module
from ganvas.editors.cardinality import MAX_MOVES
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, map_seeds
from ganvas.precision import convert_to_normal, leave_inference_mode
from ganvas.progress import Progress
from ganvas.scorers.base import Scorer
from ganvas.scorers.count import CLASSES, DIGITS, Counter, CountLogits, to_network_input
from ganvas.seeds import label_seeds
from ganvas.types import Images, Scores, W, WPlus
from ganvas.validation import Natural, NonNegative, Positive, PositiveInt, parse, validated

METHOD = "composed"
FAINT_INK = 0.05
"""The brightness from which a pixel belongs to an object that is copied."""
MARGIN = 2
"""Pixels that stay free around a new object, and that are cleared around a removed one."""
WRONG_COUNT_PENALTY = 10.0
"""Added to the loss of a picture whose count isn't what was asked for, when the best one is chosen."""
MAX_ROUNDS = 3
"""How many candidates of a code are searched in full, the best first, until its count is what was asked for."""
BATCH_SIZE = 64
MIN_FEATURE_VARIANCE = 1e-3
"""Smaller variances of a picture's features, as of an empty picture, are raised to this."""


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


@validated
class ObjectInversionConfig:
    """How codes of given pictures are searched: along all components of W, unlike those of composed pictures."""

    steps: Natural = 150
    """Steps of Adam from the best candidate on."""
    trial_steps: Natural = 20
    """Steps that every candidate gets before the best of them goes on."""
    candidates: PositiveInt = 6
    """Samples to start from."""
    rate: Positive = 0.05
    feature_weight: NonNegative = 0.1
    """The weight of the squared differences of the counter's features, in their variance, beside the error of pixels."""


@dataclass(frozen=True)
class Candidate:
    """A picture (64, 64) for code ``code``, and the code (num_ws, w_dim) that a search of its code starts from."""

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
        # In a list, so that it is no part of the module, and shared by copies with other steps.
        self._tools[:] = [generator, counter.to(generator.device), self.bank.list_layouts()]

    def with_search_steps(self, steps: int) -> ComposedEditor:
        """Return the same editor, but searching for ``steps`` steps; 0 is instant. Raises GanvasError for a number below 0."""
        other = copy_module(self)
        other.config = parse(ComposedConfig, {**vars(self.config), "steps": steps}, "steps")
        other.options = vars(other.config)
        return other

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
                for part in rows.split(BATCH_SIZE // 2) if len(rows) else ():
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

    @property
    def _typical_set(self) -> TypicalSet:
        return TypicalSet(self.mean, self.whitening, self.bound)

    def move_once(self, ws: WPlus, k: int, sign: Tensor) -> WPlus:
        """Return codes with one object more or less (``sign``, (n,)) of attribute ``k``; unchanged where that can't be.

        Where it can't: at ``MAX_COUNT`` objects or without a free place, and where there is none (of the class) to remove.
        """
        name = self.attributes[k]
        label = DIGITS.index(name) if name in DIGITS else -1
        with torch.no_grad():
            pictures = self._draw(ws)
            counts = self._count(pictures, -1).tolist()
            candidates = [
                candidate
                for i, (picture, count) in enumerate(zip(pictures, counts, strict=True))
                for candidate in (self._add if sign[i] > 0 else self._remove)(i, ws[i], picture, count, label)
            ]
        if not candidates:
            return ws
        found, code = self._search(ws, candidates, label, sign)
        return ws.index_copy(0, code, found)

    def _draw(self, ws: WPlus) -> Grey:
        generator, *_ = self.tools
        return torch.cat([to_network_input(generator.synthesis(part))[:, 0] for part in ws.split(BATCH_SIZE)])

    def _add(self, i: int, code: Tensor, picture: Tensor, count: int, label: int) -> list[Candidate]:
        """Return candidates for one object more: with an object of a sample whose others lie as in the picture.

        ``count``: of the picture's objects, as the counter sees them; parts of a broken one are merged.
        """
        objects = join_objects(find_objects(picture), count)
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

    def _remove(self, i: int, code: Tensor, picture: Tensor, count: int, label: int) -> list[Candidate]:
        """Return candidates for one object less: without each of the objects (of the class); none where it is the only one."""
        objects, found = join_objects(find_objects(picture), count), []
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
        own = describe_boxes(
            torch.tensor([get_box(mask) for mask in objects], device=picture.device), self._classify(picture, objects)
        )
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
        if config.steps <= config.trial_steps:
            best = self._choose(x, target, asked, code, label)
            return x[best], code[best]
        steps, rows = config.steps - config.trial_steps, torch.arange(len(x), device=x.device)
        found, tried = x[:0], rows[:0]
        for _ in range(MAX_ROUNDS):
            best = rows[self._choose(x[rows], target[rows], asked[rows], code[rows], label)]
            moved = self._optimize(x[best], target[best], asked[best], label, steps, falling=True)
            with torch.no_grad():
                is_right = self._count(self._draw(moved), label) == asked[best]
            # Where all searches end with another count than asked for, it was better not to begin them.
            found, tried = torch.cat((found, moved, start[best])), torch.cat((tried, best, best))
            rows = rows[~torch.isin(rows, best) & ~torch.isin(code[rows], code[best][is_right])]
            if not len(rows):
                break
        chosen = self._choose(found, target[tried], asked[tried], code[tried], label)
        return found[chosen], code[tried][chosen]

    def _count(self, pictures: Grey, label: int) -> Tensor:
        return select_logits(self.tools[1].network(pictures[:, None]), label).argmax(1)

    @torch.no_grad()
    def _choose(self, x: WPlus, target: Grey, asked: Tensor, code: Tensor, label: int) -> Tensor:
        """Return the row of the best candidate of each code."""
        pictures = self._draw(x)
        loss = compare(pictures, target) + WRONG_COUNT_PENALTY * (self._count(pictures, label) != asked)
        return find_least(loss, code)

    def _optimize(self, x: WPlus, target: Grey, asked: Tensor, label: int, steps: int, falling: bool) -> WPlus:
        """Return codes whose pictures are nearer to ``target`` after some steps.

        ``falling``: the rate falls to 0, and in the second half the counter has a say; before, its errors are of no use.
        """
        counter, config = self.tools[1], self.config

        def compute_loss(grey: Grey, step: int) -> Tensor:
            loss = compare(grey, target)
            if config.count_weight and falling and step >= steps // 2:
                logits = select_logits(counter.network(grey[:, None]), label)
                loss = loss + config.count_weight * F.cross_entropy(logits, asked, reduction="none")
            return loss

        return descend(x, self._typical_set, self.tools[0], self.basis, compute_loss, steps, config.rate, falling)

    @leave_inference_mode()
    def invert(
        self,
        images: Images,
        config: ObjectInversionConfig | None = None,
        progress: Progress = lambda done, total: None,
    ) -> WPlus:
        """Find codes (n, num_ws, w_dim) of pictures of light objects on dark ground, inside of the typical set.

        A search starts from samples that have the same objects in the same places. ``progress`` is called with the pictures
        that are done, and all. Pictures are searched together, so that their number may change a code's last digits, which
        a search enlarges.
        """
        config, generator, found = config or ObjectInversionConfig(), self.tools[0], []
        pictures = to_network_input(convert_to_normal(images).to(generator.device))[:, 0]
        # So many pictures that their candidates make a batch.
        parts = pictures.split(max(BATCH_SIZE // config.candidates, 1))
        for part in parts:
            found.append(self._invert_part(part, config))
            progress(sum(map(len, found)), len(pictures))
        return torch.cat(found)

    def _invert_part(self, pictures: Grey, config: ObjectInversionConfig) -> WPlus:
        generator, counter, _ = self.tools
        with torch.no_grad():
            features = counter.network.map_positions(pictures[:, None])
            starts = [self._find_starts(picture, config.candidates) for picture in pictures]
        variance = features.var((1, 2, 3)).clamp(min=MIN_FEATURE_VARIANCE)
        basis = torch.linalg.inv(self.whitening)
        x, lengths = torch.cat(starts), torch.tensor([len(each) for each in starts], device=pictures.device)
        code = torch.arange(len(starts), device=pictures.device).repeat_interleave(lengths)

        def compute_loss(grey: Grey, step: int, code: Tensor) -> Tensor:
            difference = counter.network.map_positions(grey[:, None]) - features[code]
            error = difference.square().mean((1, 2, 3)) / variance[code]
            return compare(grey, pictures[code]) + config.feature_weight * error

        def search(x: WPlus, code: Tensor, steps: int, falling: bool) -> WPlus:
            loss, typical = partial(compute_loss, code=code), self._typical_set
            return descend(x, typical, generator, basis, loss, steps, config.rate, falling)

        x = search(x, code, config.trial_steps, falling=False)
        with torch.no_grad():
            best = find_least(compute_loss(self._draw(x), 0, code), code)
        x, code = x[best], code[best]
        return search(x, code, config.steps, falling=True)

    def _find_starts(self, picture: Tensor, n: int) -> WPlus:
        """Return the codes of the nearest samples with its ``MAX_COUNT`` largest objects, ``n`` at most, or w_avg."""
        generator = self.tools[0]
        objects = sorted(find_objects(picture), key=lambda mask: -int(mask.sum()))[:MAX_COUNT]
        samples = self._find_samples(picture, objects, more=False, label=-1) if objects else []
        samples.sort(key=lambda sample: float(compare(sample[1][None], picture[None])))
        codes = [code for code, *_ in samples[:n]]
        return torch.stack(codes) if codes else generator.expand(generator.w_avg[None])

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
