"""An encoder for a count generator: it finds planted codes, frees offsets in turn, keeps counts, and goes on where it stopped."""

import copy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import ganvas
from experiments.multimnist import encoders, figure_1, inversion, latent_classifiers, real_images
from experiments.multimnist.config import QUICK
from experiments.multimnist.context import CountContext
from experiments.multimnist.labelled_codes import W_PLUS_PIXELS
from experiments.multimnist.labelled_codes import load_inverted_codes as kept_codes
from ganvas.data.dataset import Source, make_dataset
from ganvas.data.multimnist import MultiMnistLayout, make_multimnist
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, sample
from ganvas.inversion.batch_optimization import BatchOptimizationConfig, optimize_batch
from ganvas.inversion.encoder import Encoder, EncoderSizes, make_encoder, read_encoder, save_encoder
from ganvas.inversion.object_loss import CounterFeatures, ObjectLoss, extract_counter_features
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import to_bytes
from ganvas.training import count_encoder
from ganvas.training.count_encoder import LatentDiscriminator, train_first_part, train_second_part
from ganvas.training.count_encoder_data import CountEncoderConfig, CountEncoderData, CountImages, compute_visible_error

SIDE, DIM, ROWS = 16, 4, (4, 8, 16, 16)
SIZES = EncoderSizes(SIDE, 1, 8, (8, 16), (1, 1), (8, 8), 8, 0.0)
QUICKLY = CountEncoderConfig(first=150, steps=60, drawn=32, batch=16, rate=5e-3, freed=(0.2, 0.6))


class Windows(Generator):
    """Four windows, each as bright as its own row of the code says: pictures tell codes, and W+ draws what W can't.

    In W a window hangs on one coordinate of w as well; ``turn`` is orthogonal, so coordinates aren't w's own numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name, self.z_dim, self.w_dim, self.resolution, self.row_resolutions = "windows", DIM, DIM, SIDE, ROWS
        self.turn = torch.nn.Buffer(
            torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(1))).Q
        )
        self.w_avg = torch.nn.Buffer(torch.full((DIM,), 0.3))
        self.fingerprint = hash_weights([("turn", self.turn)])

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return z @ self.turn.T + self.w_avg

    def synthesis(self, ws: Tensor) -> Tensor:
        lit = torch.tanh(((ws - self.w_avg) @ self.turn).diagonal(dim1=1, dim2=2))
        side = SIDE // 2
        return lit.reshape(-1, 1, 2, 2).repeat_interleave(side, 2).repeat_interleave(side, 3).expand(-1, 3, -1, -1)

    def style_weights(self) -> list[Tensor]:
        return []


def eye(images: Tensor) -> CounterFeatures:
    """Sees how bright windows are, and counts the lit ones, softly."""
    bright = torch.nn.functional.avg_pool2d(images[:, :1], SIDE // 2).flatten(1)
    lit = torch.sigmoid(8 * bright).sum(1, keepdim=True)
    return CounterFeatures(bright, -4 * (lit - torch.arange(5.0)).square())


def lit(images: Tensor) -> Tensor:
    """How many windows are lit."""
    return (eye(images).features > 0).sum(1)


WINDOWS = Windows()


def lesson(images: Tensor) -> CountEncoderData:
    return CountEncoderData(WINDOWS, eye, CountImages(to_bytes(images), lit(images)), SIZES)


def pictures(n: int = 400, seed: int = 50) -> Tensor:
    return WINDOWS.synthesis(sample(WINDOWS, n, 1.0, seed))


@pytest.fixture(scope="module")
def begun():
    return train_first_part(lesson(pictures()), QUICKLY)


def encoder_of(network) -> Encoder:
    return make_encoder(WINDOWS, copy.deepcopy(network))


def test_planted_codes_are_found(begun):
    network = train_second_part(lesson(pictures()), replace(QUICKLY, space="w"), begun)
    ws = sample(WINDOWS, 200, 1.0, 9000)
    found = encoder_of(network)(WINDOWS.synthesis(ws), "w")
    assert (found - ws).square().mean() < 0.1 * (ws - WINDOWS.w_avg).square().mean()
    assert torch.equal(found, found[:, :1].expand_as(found)), "W: one vector for all rows"


def test_offsets_are_freed_one_after_the_other_coarse_to_fine():
    options = CountEncoderConfig(steps=100, freed=(0.2, 0.8))
    opened = torch.stack([options.compute_free_offsets(step, 4)[:, 0] for step in range(100)])
    assert opened[:20].sum() == 0 and opened[-1].sum() == 4
    assert (opened.diff(dim=0) >= 0).all(), "once free, always free"
    assert (opened.diff(dim=1) <= 0).all(), "the coarse ones first"
    assert replace(options, space="w").compute_free_offsets(99, 4).sum() == 0


def test_offsets_are_zero_before_they_are_freed_and_help_afterwards(begun):
    # Pictures that no one w draws: each window's row says it alone in W+, and all rows agree in W.
    told = lesson(pictures())
    images = pictures(64, 700)
    never = encoder_of(train_second_part(told, replace(QUICKLY, freed=(1.0, 1.0)), begun))
    ws = never(images, "w+")
    assert torch.equal(ws, ws[:, :1].expand_as(ws))
    some = encoder_of(train_second_part(told, replace(QUICKLY, offset=0.0), begun))(images, "w+")
    none = encoder_of(train_second_part(told, replace(QUICKLY, offset=1e3), begun))(images, "w+")
    spread = [(codes - codes.mean(1, keepdim=True)).square().mean() for codes in (some, none)]
    assert 0 < spread[1] < 0.2 * spread[0], "the penalty keeps them small"


def test_the_count_term_keeps_counts():
    # With nothing else to learn from, the count is kept where that is asked for.
    images = pictures()
    blind = replace(QUICKLY, first=0, pixels=0.0, features=0.0, code=0.0, judged=0.0)
    start = train_first_part(lesson(images), blind)
    fresh = pictures(200, 3000)

    def survive(keep: float) -> float:
        network = train_second_part(lesson(images), replace(blind, keep_count=keep), start)
        return float((lit(WINDOWS.synthesis(encoder_of(network)(fresh))) == lit(fresh)).float().mean())

    assert survive(1.0) > survive(0.0) + 0.2


def test_no_picture_outweighs_the_others():
    ws = torch.randn(8, 4, DIM).requires_grad_(True)
    slopes = torch.randn(8, 4, DIM) * torch.tensor([1e-3, 1e3] * 4)[:, None, None]
    ((count_encoder.clip_gradient(ws) * slopes).sum((1, 2)).mean()).backward()
    assert ws.grad is not None
    norms = 8 * ws.grad.norm(dim=(1, 2))
    assert torch.allclose(norms[1::2], torch.tensor(count_encoder.MAX_GRADIENT)), "long ones are cut"
    assert torch.allclose(8 * ws.grad[::2], slopes[::2]), "short ones stay"


def test_errors_count_as_they_show():
    # A generator that shows one coordinate of four: errors of the others cost nothing, and knowing nothing costs 1.
    codes = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    found = compute_visible_error(WINDOWS, codes, lambda ws: ws[:, 0, 1, None, None, None].expand(-1, 3, SIDE, SIDE), 0)
    assert torch.allclose((codes @ found).square().sum(1).mean(), torch.tensor(1.0), atol=0.02)
    assert (torch.tensor([[5.0, 0, -3, 2]]) @ found).norm() < 1e-3


def test_the_discriminator_draws_codes_to_w():
    judge = LatentDiscriminator(DIM)
    optimizer = torch.optim.Adam(judge.parameters(), 2e-3)
    random = torch.Generator().manual_seed(0)
    for _ in range(60):
        mapped, encoded = torch.randn(64, DIM, generator=random), torch.randn(64, DIM, generator=random) + 3
        optimizer.zero_grad()
        judge.compute_discriminator_loss(mapped, encoded).backward()
        optimizer.step()
    assert judge(mapped).mean() > judge(encoded).mean() + 1
    rows = encoded.clone().requires_grad_(True)
    judge.compute_encoder_loss(rows).backward()
    assert rows.grad is not None and (-rows.grad).sum() < 0, "towards what is mapped"


def test_a_stopped_training_goes_on_to_the_same_weights(begun, tmp_path, monkeypatch):
    monkeypatch.setattr(count_encoder, "CHECKPOINT_STEPS", 5)
    told, options = lesson(pictures(40)), replace(QUICKLY, first=12, steps=12)

    class Stopped(Exception):
        pass

    def stop(step: int, steps: int) -> None:
        if step == 7:
            raise Stopped

    networks = []
    for stops in (False, True):
        first, second = tmp_path / f"{stops}-1.safetensors", tmp_path / f"{stops}-2.safetensors"
        if stops:
            with pytest.raises(Stopped):
                train_first_part(told, options, first, stop)
        start = train_first_part(told, options, first)
        if stops:
            with pytest.raises(Stopped):
                train_second_part(told, options, start, second, stop)
        networks.append(train_second_part(told, options, start, second))
        save_encoder(encoder_of(networks[-1]), tmp_path / f"{stops}.safetensors")
    assert (tmp_path / "False.safetensors").read_bytes() == (tmp_path / "True.safetensors").read_bytes()
    with pytest.raises(GanvasError, match="another training"):
        train_second_part(told, replace(options, keep_count=1.0), start, second)


def test_an_encoder_of_any_sizes_is_itself_after_saving(begun, tmp_path):
    for parameter in begun.parameters():
        parameter.data = parameter.data.half().float()
    encoder, path = encoder_of(begun), tmp_path / "e.safetensors"
    save_encoder(encoder, path)
    again, images = read_encoder(path, WINDOWS), pictures(3)
    assert again.network.sizes == SIZES and torch.equal(encoder(images), again(images))
    tensors, about = load_tensors(path)
    for sizes in ({"side": 16}, None, {**about["sizes"], "side": 10**9}, {**about["sizes"], "more": 1}):
        save_tensors(path, tensors, {**about, "sizes": sizes})
        with pytest.raises(GanvasError, match="isn't a whole encoder"):
            read_encoder(path, WINDOWS)


@pytest.mark.parametrize("space", ["w", "w+"])
def test_optimising_makes_no_inversion_worse(space):
    images = pictures(20, 400)
    likeness = ObjectLoss.fit_scales(eye, images)
    start = sample(WINDOWS, 20, 0.5, 8000).contiguous()
    ws = optimize_batch(images, start, WINDOWS, likeness, space, BatchOptimizationConfig(steps=60, batch=8, prior=0.0))
    before, after = (
        likeness.compute_loss(WINDOWS.synthesis(codes), likeness.prepare_targets(images))[0] for codes in (start, ws)
    )
    assert (after <= before + 1e-6).all() and after.mean() < 0.2 * before.mean()
    assert space == "w+" or torch.allclose(ws, ws[:, :1].expand_as(ws))
    assert torch.equal(optimize_batch(images, start, WINDOWS, likeness, space, BatchOptimizationConfig(steps=0)), start)


@pytest.mark.parametrize("wrong", [{"space": "z"}, {"steps": 0}, {"keep_count": -1.0}, {"freed": (0.5, 0.2)}])
def test_impossible_options_get_one_line(wrong):
    with pytest.raises(GanvasError):
        CountEncoderConfig(**wrong)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A MultiMNIST set of blots."""
    place = tmp_path_factory.mktemp("set")
    digits = np.zeros((40, 28, 28), np.uint8)
    digits[:, 6:22, 8:20] = np.random.RandomState(0).randint(1, 255, (40, 16, 12))
    sets = {"x_train": digits, "y_train": np.arange(40) % 10, "x_test": digits, "y_test": np.arange(40) % 10}
    np.savez(place / "mnist.npz", **{key: value.astype(np.uint8) for key, value in sets.items()})
    make_multimnist(place / "mnist.npz", place / "set", layout=MultiMnistLayout(64, (1, 3)), n=60, test=12)
    return place / "set"


@pytest.fixture(scope="module")
def stage(folder, tmp_path_factory):
    """The real counter, and a toy generator that draws no digits: sections must go through whatever comes."""
    generator, counter = ganvas.load_generator("toy"), ganvas.load_scorer("count")
    ws = sample(generator, 300, 1.0, 1_000_000)
    scores = counter(generator.synthesis(ws))
    scores[:, 0] = torch.arange(300) % 4 + 1
    scorer = f"{counter.name}:{counter.fingerprint}"
    varied = [k for k in range(scores.shape[1]) if len(scores[:, k].unique()) > 1]
    names, kinds = (tuple(value[k] for k in varied) for value in (counter.attributes, counter.kinds))
    labels = make_dataset(ws[:, 0].clone(), scores[:, varied], names, kinds, Source(), generator.fingerprint, scorer)
    size = replace(
        QUICK,
        images=60,
        held_out=12,
        encoder=2,
        classifier_steps=10,
        steps=10,
        hidden=(32,),
        umap=60,
        rows=2,
        labels=300,
    )
    return CountContext(generator, counter, labels, folder, tmp_path_factory.mktemp("work"), size)


@pytest.mark.slow
def test_sections_on_real_images(stage, monkeypatch):
    section = inversion.run(stage)
    assert [row[0] for row in section.tables[0].rows] == [
        *("W", "W, count kept", "W+", "W+, count kept", "W+, pixels alone"),
        *("W, count kept, optimised", "W+, count kept, optimised"),
    ]
    data = kept_codes(stage)
    assert data is not None and data.space == "w+" and len(data) == 60
    counts = data.scores[:, data.attributes.index("count")]
    assert torch.equal(counts, torch.arange(60) % 3 + 1.0), "the images' own labels"

    def never(*arguments, **options):
        raise AssertionError("trained twice")

    monkeypatch.setattr(encoders, "train_first_part", never)
    section = latent_classifiers.run(stage)
    table = section.tables[0]
    kinds = ("W+, count kept", "W+, pixels alone", "W, count kept", "W, sampled")
    assert [(row[0], row[2]) for row in table.rows] == [(kind, loss) for kind in kinds for loss in ("MSE", "CE")]
    assert table.rows[0][-1] == "100.0%" and table.rows[5][-1] == "-" and table.rows[7][-2:] == ("91.0%", "83.0%")
    assert {row["steps"] for row in section.data["rows"]} == {stage.config.classifier_steps}
    assert section.data["rows"][0]["layers"][1:] == section.data["rows"][4]["layers"][1:] == [32]


@pytest.mark.slow
def test_beside_what_inverted_codes_tell_stands_what_their_encoder_learned(stage, monkeypatch):
    monkeypatch.setattr(figure_1, "lay_out", lambda codes, seed: codes[:, :2])
    shown = figure_1.run(stage)
    assert [row[0] for row in shown.tables[0].rows] == ["W, sampled", "W+, count kept", "W+, pixels alone"]
    for section in (shown, latent_classifiers.run(stage)):
        assert "cross-entropy of a counter on these same training images" in section.intro


@pytest.mark.slow
def test_an_encoder_of_pixels_alone_learns_nothing_of_the_counter(stage, monkeypatch):
    """Whatever the counter sees, its codes are the same; those of the others aren't."""

    def codes(kind, factor):
        work = stage.work / f"{factor}"
        monkeypatch.setattr(encoders, "extract_counter_features", lambda network: eye(network, factor))
        network = encoders.train_kind(replace(stage, work=work), kind)
        return encoders.invert_images(stage, network, encoders.read_real_images(stage, "test").images, kind.space)

    def eye(network, factor):
        plain = extract_counter_features(network)

        def see(images):
            seen = plain(images)
            return CounterFeatures(seen.features**factor, factor * seen.counts)

        return see

    assert torch.equal(codes(W_PLUS_PIXELS, 1), codes(W_PLUS_PIXELS, 2))
    assert not torch.equal(codes(encoders.ENCODER_KINDS[2], 1), codes(encoders.ENCODER_KINDS[2], 2))


def test_without_real_images_sections_say_so(stage):
    without = replace(stage, folder=None)
    for module in (inversion, real_images):
        assert "make-multimnist" in module.run(without).intro
    section = latent_classifiers.run(without)
    assert len(section.tables[0].rows) == 2 and "Inverted codes are missing" in section.intro


def test_real_images_are_judged_by_their_own_labels(stage):
    test = encoders.read_real_images(stage, "test")
    assert test.scores[:, 0].tolist() == [1.0, 2.0, 3.0] * 4
    ws = sample(stage.generator, 12, 1.0, 5)
    held = real_images.HeldOutImages("w", test, ws, test.scores)
    tried = real_images.change_counts(stage, held, lambda codes, alpha: codes, -1)
    assert len(tried.ws) == 8, "an image of one can't lose it"
    assert torch.equal(tried.start, test.scores[test.scores[:, 0] > 1, 0])


def test_a_way_that_does_nothing_is_never_right(stage):
    section = real_images.edit_images(stage, {"nothing": lambda ws, alpha: ws, "something": lambda ws, alpha: ws + 0.1})
    rows = section.data["rows"]
    assert [row["name"] for row in rows[:3]] == ["nothing", "something", "random, as long as something"]
    assert set(section.pictures) == {"real-w", "real-w-plus"}
    nothing = [row for row in rows if row["name"] == "nothing"]
    assert all(np.isnan(row["survived"].mean) or row["survived"].mean == 0 for row in nothing)


@pytest.mark.parametrize("way", ["t-SNE", pytest.param("UMAP", marks=pytest.mark.slow)])
def test_neighbours_of_clusters_are_alike_and_planes_repeat(way, monkeypatch):
    if way == "t-SNE":
        monkeypatch.setitem(sys.modules, "umap", None)
    else:
        pytest.importorskip("umap")
    random = np.random.default_rng(0)
    codes = np.concatenate([random.normal(20 * k, 1, (20, 5)) for k in range(3)]).astype(np.float32)
    counts = torch.arange(60) // 20
    assert figure_1.neighbour_agreement(codes, counts) == 1
    assert figure_1.neighbour_agreement(random.normal(0, 1, (60, 5)), counts) < 0.7
    first, again = figure_1.lay_out(codes, 3), figure_1.lay_out(codes, 3)
    assert np.array_equal(first, again) and figure_1.neighbour_agreement(first, counts) > 0.8
    plane = figure_1.CodePlane("w", first, counts, (1.0, 1.0), 0.33)
    assert figure_1.draw_figure_1([plane]) == figure_1.draw_figure_1([plane])
