"""The worth of balancing: small counters trained where pictures with the most objects are rare, balanced in three ways.

Doubinsky et al. (https://cea.hal.science/cea-04852483) want counts under control to add to data sets what they lack. Here
one real picture in ``RARE_DIVISOR`` has four objects. A counter learns from that as it is; with those few shown more often
(oversampling); with drawn pictures of four added; with real pictures of three added that were inverted and given one more.
What is added was made by ``ganvas.balance``, as users make it, and is judged by the scorer. Real test
pictures, as many of each count, judge the counters.

Counters train as in ``training.counter`` (optimiser, schedule, precision), but without augmentation, which joins pictures and
so makes fours of twos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from experiments.multimnist import encoders
from experiments.multimnist.context import CountContext
from experiments.multimnist.editors import fit_best
from experiments.multimnist.labelled_codes import W_PLUS_COUNTED
from experiments.multimnist.section import ReportSection, SectionTable, make_key
from ganvas import editors
from ganvas.balance.generated import balance
from ganvas.balance.real import Inverter, PictureSource, balance_from
from ganvas.balance.sets import LABELS_FILE, REPORT_FILE, BalanceRequest
from ganvas.control.conditions import Condition
from ganvas.data.multimnist_files import MultiMnist, read_multimnist
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.evaluation.faces import get_dtype_name
from ganvas.evaluation.pages import format_estimate
from ganvas.io.figures import draw_grid
from ganvas.io.files import read_json
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import downscale, from_bytes, read_picture
from ganvas.recipe.model import NamedTool
from ganvas.recipe.rendering import Tools
from ganvas.scorers.count import SIDE, CounterBlock, to_network_input
from ganvas.seeds import BALANCING_SEED, EVALUATION_SEED
from ganvas.stats import Estimate, bootstrap_mean
from ganvas.training.counter import CounterConfig
from ganvas.training_loop import minimize
from ganvas.types import Dtype, Images

NAME, TITLE = "proof", "Balancing, and what it is worth"
RARE_DIVISOR = 20
"""One picture in so many has the most objects."""
PICTURES = 2000
"""Real ones that counters learn from; in a small report a quarter of the images that are inverted."""
CLASSES = 8
"""Counts that a network tells apart, from 0."""
BATCH_SIZE, CANDIDATES_PER_PICTURE = 32, 8
"""Pictures a step; candidates for each picture that is wanted, at most."""
PICTURES_SHOWN = 8
Grey = UInt8[Tensor, "n 64 64"]


@dataclass(frozen=True)
class CounterTrainingSet:
    """Pictures and counts; ``balanced``: each count is shown equally often."""

    grey: Grey
    counts: Int[Tensor, " n"]
    balanced: bool = False

    def add(self, grey: Grey, count: int) -> CounterTrainingSet:
        """Return the set with pictures of one count added."""
        return CounterTrainingSet(
            torch.cat((self.grey, grey)), torch.cat((self.counts, torch.full((len(grey),), count)))
        )


class SmallCounter(nn.Module):
    """The counter's stem, blocks, sum and hidden layer, at an eighth of its width."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(4, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(CounterBlock(width, 2 * width, 2), CounterBlock(2 * width, 4 * width, 2))
        self.hidden, self.count = nn.Linear(4 * width, 4 * width), nn.Linear(4 * width, CLASSES)

    def forward(self, grey: Float[Tensor, "n 1 64 64"]) -> Float[Tensor, "n 8"]:
        """Return logits of counts."""
        x = self.blocks(F.relu(self.norm(self.stem(F.pixel_unshuffle(grey, 2)))))
        return self.count(F.relu(self.hidden(x.sum((2, 3)) / 16)))


def run(context: CountContext) -> ReportSection:
    """Measure balancing with the encoder and the editor of other sections."""
    if context.folder is None:
        return encoders.missing_images_section(NAME, TITLE)
    editor = fit_best(context)
    network = encoders.train_kind(context, W_PLUS_COUNTED)
    name = hash_weights(network.state_dict().items())[:12]
    return measure_balancing(
        context, editor, Inverter(name, lambda images: encoders.invert_images(context, network, images, "w+"))
    )


def measure_balancing(context: CountContext, editor: Editor, inverter: Inverter) -> ReportSection:
    """Return the section. Raises GanvasError where the folder hasn't enough pictures."""
    if context.folder is None:
        raise GanvasError(encoders.NO_REAL_IMAGES)
    n = min(PICTURES, max(context.config.images // 4, 2 * RARE_DIVISOR))
    data = read_multimnist(context.folder, "train", 2 * n)
    most = int(data.counts.max())
    chosen = select_rare(data.counts, n)
    real = CounterTrainingSet(to_grey(to_images(data, chosen)), data.counts[chosen])
    missing = int((real.counts == most - 1).sum() - (real.counts == most).sum())
    added, reports = make_added_pictures(context, editor, inverter, data, chosen[real.counts == most - 1], missing)
    training_sets = {
        "nothing added": real,
        "oversampling": CounterTrainingSet(real.grey, real.counts, balanced=True),
        "drawn": real.add(added["drawn"], most),
        "edited": real.add(added["edited"], most),
    }
    test = read_multimnist(context.folder, "test", 2 * n)
    right = {name: judge_counters(context, name, training_set, test) for name, training_set in training_sets.items()}
    pictures = draw_examples(real.grey[real.counts == most], added)
    return make_section(context, training_sets, test.counts, right, reports, pictures)


def select_rare(counts: Int[Tensor, " n"], n: int) -> Int[Tensor, " chosen"]:
    """Return the first ``n`` rows with one in ``RARE_DIVISOR`` of the highest count, and as many of each other count.

    Raises GanvasError where there are too few.
    """
    values = counts.unique().tolist()
    few = max(n // RARE_DIVISOR, 1)
    each = (n - few) // max(len(values) - 1, 1)
    rows = [(counts == k).nonzero()[:, 0][: few if k == values[-1] else each] for k in values]
    if len(values) < 2 or min(map(len, rows)) < few or len(torch.cat(rows)) < n // 2:
        raise GanvasError(
            f"Balancing needs {n} pictures of several counts, and the folder gave {len(counts)}: make a larger set."
        )
    return torch.cat(rows)


def make_added_pictures(
    context: CountContext, editor: Editor, inverter: Inverter, data: MultiMnist, fewer: Tensor, missing: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Make pictures of the highest count, drawn and edited; return them with the reports of balancing.

    ``fewer``: the rows of real pictures with one object less, which are edited.
    """
    most, generator = int(data.counts.max()), context.generator
    named = NamedTool("count", editors.fingerprint(editor))
    tools = Tools(generator, cast(Dtype, get_dtype_name(generator)), editor, named)
    conditions = [Condition("count", most, most)]
    if "sure" in context.counter.attributes:
        conditions.append(Condition("sure", 0.9, None, probability=True))
    order = BalanceRequest(
        tuple(conditions),
        missing,
        context.seed - EVALUATION_SEED + BALANCING_SEED,
        max_candidates=CANDIDATES_PER_PICTURE * missing,
    )
    key = make_key([context.provenance, named.fingerprint, inverter.name, missing])
    folders = {way: context.work_path("proof", f"{way}-{key}") for way in ("drawn", "edited")}
    context.log(f"Drawing {missing} pictures of {most} …")
    try:
        report = balance(tools, context.counter, replace(order, way="draw"), folders["drawn"])
    except GanvasError:
        # Too rare: what there is by then is what the counter gets.
        report = read_json(folders["drawn"] / REPORT_FILE)
    context.log(f"Editing {len(fewer)} real pictures of {most - 1} …")
    names = tuple(f"train-{int(row):05d}" for row in fewer)
    origin = PictureSource(key, names, lambda i: downscale(to_images(data, fewer[i : i + 1]), generator.resolution))
    edited = balance_from(tools, context.counter, order, origin, inverter, folders["edited"])
    return {way: read_set(folder) for way, folder in folders.items()}, {"drawn": report, "edited": edited}


def judge_counters(
    context: CountContext, name: str, training_set: CounterTrainingSet, test: MultiMnist
) -> Float[Tensor, "repeats n"]:
    """Train several counters, and return which test pictures each gets right, 1 or 0."""
    grey, right = to_grey(to_images(test, torch.arange(len(test)))), []
    for repeat in range(context.config.repeats):
        context.log(f"Training a counter: {name}, {repeat + 1} of {context.config.repeats} …")
        network = train_small_counter(training_set, context.config.counters, context.seed + repeat)
        with torch.no_grad():
            counts = torch.cat([network(part[:, None] / 255).argmax(1) for part in grey.split(256)])
        right.append((counts == test.counts).float())
    return torch.stack(right)


def train_small_counter(training_set: CounterTrainingSet, steps: int, seed: int) -> SmallCounter:
    """Train a counter; equal arguments give equal weights on one machine."""
    options = CounterConfig()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallCounter().to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    random = torch.Generator().manual_seed(seed)
    counts = training_set.counts
    weights = 1 / counts.bincount().float()[counts] if training_set.balanced else torch.ones(len(counts))

    def loss(step: int) -> Tensor:
        rows = torch.multinomial(weights, BATCH_SIZE, replacement=True, generator=random)
        grey = (training_set.grey[rows, None] / 255).contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(network(grey), counts[rows])

    optimizer = torch.optim.AdamW(network.parameters(), options.rate, weight_decay=options.decay)
    minimize(loss, optimizer, steps)
    return network.eval().requires_grad_(False)


def make_section(
    context: CountContext,
    training_sets: Mapping[str, CounterTrainingSet],
    truth: Tensor,
    right: Mapping[str, Tensor],
    reports: Mapping[str, Any],
    pictures: Tensor,
) -> ReportSection:
    """Return the tables and pictures. ``right``: training set -> which test pictures its counters get right."""
    most, rows, data = int(truth.max()), [], {}
    for name, correct in right.items():
        counts = training_sets[name].counts
        fours, rest = correct[:, truth == most], correct[:, truth < most]
        parts = {"most": fours, "others": rest, "all": correct}
        estimates = {key: estimate_over_pictures(part) for key, part in parts.items()}
        seeds = {key: values.mean(1) for key, values in (("most", fours), ("all", correct))}
        learned_from = {"pictures": len(counts), "most": int((counts == most).sum())}
        data[name] = {**estimates, "by_seed": seeds, "learned_from": learned_from}
        spread = " ".join(f"{value:.3f}" for value in seeds["most"].tolist())
        cells = [format_estimate(vars(value), 3) for value in estimates.values()]
        rows.append((name, str(learned_from["pictures"]), str(learned_from["most"]), *cells, spread))
    head = (
        "with",
        "pictures",
        f"of {most}",
        f"right on {most}",
        "right on fewer",
        "right on all",
        f"on {most}, by seed",
    )
    note = (
        f"{len(truth):,} real test pictures, equally many of each count; {context.config.repeats} counters a row,"
        f" {context.config.counters} steps of {BATCH_SIZE}. Brackets: 95 % bootstrap intervals over test pictures."
    )
    table = SectionTable(f"Counters trained where 1 picture in {RARE_DIVISOR} has {most}", head, rows, note)
    return ReportSection(
        NAME,
        TITLE,
        INTRO.format(most=most, less=most - 1),
        (table, balancing_table(reports, most)),
        {"proof": pictures},
        {"counters": data, "making": dict(reports)},
        {
            "proof": f"Pictures of {most} that counters learned from: real, drawn, and edited from real ones of {most - 1}."
        },
    )


INTRO = (
    "A user has few pictures of {most}. Does it help a counter to draw more, or to add an object to real pictures of {less}?"
    " What is added passed the scorer as {most}, as `ganvas balance` makes sets. Two things to know: the generator and that"
    " scorer learned from a set with as many pictures of each count, so they bring in what this user's set lacks; and edited"
    " pictures are labelled by the scorer, where it errs the counter learns the error."
)


def balancing_table(reports: Mapping[str, Any], most: int) -> SectionTable:
    """Return the table of pictures that balancing kept and discarded."""
    rows = []
    for way, report in reports.items():
        reasons = {reason: sum(times.values()) for reason, times in report["discarded"].items()}
        discarded = ", ".join(f"{times} for {reason}" for reason, times in reasons.items()) or "none"
        rows.append((way, str(report["tried"]), str(report["kept"]), discarded))
    return SectionTable(f"Pictures of {most} that were made", ("way", "candidates", "kept", "discarded"), rows)


def estimate_over_pictures(right: Float[Tensor, "repeats n"]) -> Estimate:
    """Return the mean over counters, with an interval over pictures."""
    return bootstrap_mean(right.mean(0))


def to_images(data: MultiMnist, rows: Tensor) -> Images:
    """Return some rows of a set as images."""
    return from_bytes(data.pixels[rows, :, :, None].expand(-1, -1, -1, 3))


def to_grey(images: Images) -> Grey:
    """Return images as the counters see them."""
    parts = [to_network_input(part)[:, 0].mul(255).round().clamp(0, 255).to(torch.uint8) for part in images.split(256)]
    return torch.cat(parts)


def read_set(folder: Path) -> Grey:
    """Read the pictures of a balanced set, in the order of its labels."""
    if not (folder / LABELS_FILE).exists():
        return torch.zeros(0, SIDE, SIDE, dtype=torch.uint8)
    from pyarrow import parquet

    files = parquet.read_table(folder / LABELS_FILE, columns=["file"]).to_pydict()["file"]
    return to_grey(torch.cat([read_picture(folder / file) for file in files]))


def draw_examples(real: Tensor, added: Mapping[str, Tensor]) -> Tensor:
    """Draw a row for each kind of pictures (n, 64, 64)."""
    rows = {"real": real, **added}
    blank = torch.full((1, SIDE, SIDE), 255, dtype=torch.uint8)
    cells = [
        picture[:, :, None].expand(-1, -1, 3).contiguous()
        for grey in rows.values()
        for picture in torch.cat(
            (grey[:PICTURES_SHOWN], blank.expand(PICTURES_SHOWN - min(len(grey), PICTURES_SHOWN), -1, -1))
        )
    ]
    return draw_grid(cells, list(rows), [""] * PICTURES_SHOWN, size=11)
