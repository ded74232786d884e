"""Training a GAN: laws of its losses, going on after a stop, several processes, and what bad input gets."""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ganvas import cli
from ganvas.errors import GanvasError
from ganvas.fid import compute_frechet_distance, load_inception
from ganvas.generators.base import sample
from ganvas.generators.stylegan2 import StyleGAN2, read_generator
from ganvas.generators.stylegan2.resampling import TAPS
from ganvas.io.files import load_tensors, save_tensors
from ganvas.training.gan import config as gan_config
from ganvas.training.gan import images as gan_images
from ganvas.training.gan import loop, losses, outputs
from ganvas.training.gan.config import PRESETS, GanConfig
from ganvas.training.gan.discriminator import DiscriminatorArchitecture, compute_minibatch_deviation
from ganvas.training.gan.images import TrainingImages

TINY = GanConfig(
    widths=(8, 8, 4),
    discriminator_widths=(8, 8, 4),
    z_dim=8,
    w_dim=8,
    mapping_layers=2,
    batch=4,
    r1_every=3,
    path_every=2,
)


def pictures(n: int = 24, labels: int = 0, colours: int = 1, side: int = 16) -> TrainingImages:
    """Squares, dark on light or light on dark."""
    rng = np.random.RandomState(0)
    pixels = np.zeros((n, colours, side, side), np.uint8)
    for i in range(n):
        x, y = rng.randint(0, side // 2, 2)
        pixels[i, :, y : y + 6, x : x + 6] = rng.randint(128, 256)
    one_hot = F.one_hot(torch.arange(n) % labels, labels).float() if labels else None
    return TrainingImages(torch.from_numpy(pixels), one_hot)


def quiet(judge=None) -> loop.GanCallbacks:
    return loop.GanCallbacks(lambda text: None, judge)


def schedule(steps: int, checkpoint: int = 10**6) -> loop.GanSchedule:
    """A report a step."""
    return loop.GanSchedule(4 * steps, 4 * checkpoint, 4)


def logged(folder) -> list[dict]:
    """The log without what the clock says."""
    rows = [json.loads(line) for line in (folder / loop.LOG).read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows]


def changed(**changes) -> GanConfig:
    return GanConfig(**{**{name: getattr(TINY, name) for name in TINY.__dataclass_fields__}, **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"path_length": 2.0, "flip": True}, {"condition": "count", "precision": "float32"}]
)
def test_a_stopped_run_goes_on_exactly(tmp_path, changes):
    options, data = changed(**changes), pictures(labels=3 if "condition" in changes else 0)
    alone = loop.train_gan(data, tmp_path / "alone", options, schedule(8), quiet())
    # Stopped after the fifth step: what the log said beyond the checkpoint is forgotten.
    loop.train_gan(data, tmp_path / "stopped", options, schedule(5), quiet())
    with (tmp_path / "stopped" / loop.LOG).open("a") as file:
        file.write('{"step": 6, "images": 24}\n')
    again = loop.train_gan(data, tmp_path / "stopped", options, schedule(8), quiet())
    assert logged(tmp_path / "stopped") == logged(tmp_path / "alone")
    assert len(logged(tmp_path / "alone")) == 8
    assert again.read_bytes() == alone.read_bytes()


def test_a_checkpoint_with_former_names_goes_on(tmp_path):
    """The discriminator was called critic, in tensors, options and losses."""
    loop.train_gan(pictures(), tmp_path / "whole", TINY, schedule(4), quiet())
    loop.train_gan(pictures(), tmp_path / "old", TINY, schedule(2), quiet())
    path = next((tmp_path / "old").glob("checkpoint-*"))
    tensors, metadata = load_tensors(path)
    renamed = {name.replace("discriminator.", "critic."): value for name, value in tensors.items()}
    metadata["run"]["critic_widths"] = metadata["run"].pop("discriminator_widths")
    metadata["logged"] = [[["critic", value] for _, value in step] for step in metadata["logged"]]
    save_tensors(path, renamed, metadata)
    loop.train_gan(pictures(), tmp_path / "old", TINY, schedule(4), quiet())
    files = [tmp_path / name / loop.GENERATOR for name in ("whole", "old")]
    assert files[0].read_bytes() == files[1].read_bytes()
    old, new = ({name: (8, 8, 8)} for name in ("critic_widths", "discriminator_widths"))
    assert gan_config.load_preset("16", old) == gan_config.load_preset("16", new)


def test_a_report_spans_a_stop(tmp_path):
    """The losses before a checkpoint count in the report after it."""
    every_third = loop.GanSchedule(4 * 7, 4, 4 * 3)
    loop.train_gan(pictures(), tmp_path / "alone", TINY, every_third, quiet())
    loop.train_gan(pictures(), tmp_path / "stopped", TINY, replace(every_third, images=4 * 5), quiet())
    path = tmp_path / "stopped" / "checkpoint-000000020.safetensors"
    path.unlink()  # as a run that was killed before its last report left it
    loop.train_gan(pictures(), tmp_path / "stopped", TINY, every_third, quiet())
    rows = [[list(row.items()) for row in logged(tmp_path / name)] for name in ("stopped", "alone")]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("part", ["save_generator", "draw_sample_sheet", "encode_png"])
def test_a_run_killed_while_it_writes_its_end_ends_all_the_same(tmp_path, monkeypatch, part):
    def judge(generator):
        return {"mean": float(generator.w_avg.mean())}

    alone, killed = tmp_path / "alone", tmp_path / "killed"
    loop.train_gan(pictures(), alone, TINY, schedule(4, 2), quiet(judge))

    class Killed(BaseException):
        pass

    def kill(*arguments, **named):
        raise Killed

    loop.train_gan(pictures(), killed, TINY, schedule(2, 2), quiet(judge))
    with monkeypatch.context() as patch:
        patch.setattr(loop, part, kill)
        with pytest.raises(Killed):
            loop.train_gan(pictures(), killed, TINY, schedule(4, 2), quiet(judge))
    loop.train_gan(pictures(), killed, TINY, schedule(4, 2), quiet(judge))
    assert logged(killed) == logged(alone)
    for file in alone.iterdir():
        assert file.name == loop.LOG or file.read_bytes() == (killed / file.name).read_bytes()


def test_seeds_and_pictures_decide_what_is_learned(tmp_path):
    first = loop.train_gan(pictures(), tmp_path / "a", TINY, schedule(2), quiet()).read_bytes()
    assert loop.train_gan(pictures(), tmp_path / "b", TINY, schedule(2), quiet()).read_bytes() == first
    assert loop.train_gan(pictures(), tmp_path / "c", changed(seed=1), schedule(2), quiet()).read_bytes() != first
    assert loop.train_gan(pictures(23), tmp_path / "d", TINY, schedule(2), quiet()).read_bytes() != first


def test_a_run_is_a_folder_of_whole_files(tmp_path):
    found = []

    def judge(generator):
        found.append(generator.fingerprint)
        return {"distance": 1.5}

    path = loop.train_gan(pictures(), tmp_path, TINY, schedule(6, 2), quiet(judge))
    names = sorted(file.name for file in tmp_path.iterdir())
    # The last two checkpoints, and a sheet for each that there was.
    assert names == [
        "checkpoint-000000016.safetensors",
        "checkpoint-000000024.safetensors",
        "generator.safetensors",
        loop.LOG,
        *(f"samples-{seen:09d}.png" for seen in (8, 16, 24)),
    ]
    generator = read_generator(path)
    assert len(found) == 3 and found[-1] == generator.fingerprint
    assert [row["distance"] for row in logged(tmp_path) if "distance" in row] == [1.5] * 3
    with Image.open(tmp_path / "samples-000000024.png") as sheet:
        assert sheet.size == (128, 128)
    assert generator.shape.colours == 1 and float(generator.w_avg.abs().sum()) > 0


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path):
    loop.train_gan(pictures(), tmp_path / "alone", TINY, schedule(6), quiet())
    loop.train_gan(pictures(), tmp_path / "hurt", TINY, schedule(4, 2), quiet())
    last = tmp_path / "hurt" / "checkpoint-000000016.safetensors"
    last.write_bytes(last.read_bytes()[:1000])
    loop.train_gan(pictures(), tmp_path / "hurt", TINY, schedule(6), quiet())
    assert logged(tmp_path / "hurt") == logged(tmp_path / "alone")


@pytest.fixture
def interruptible():
    """As in a terminal, whatever the shell that runs the tests does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_run_that_is_stopped_by_hand_loses_nothing(tmp_path, monkeypatch, interruptible):
    loop.train_gan(pictures(), tmp_path / "alone", TINY, schedule(5, 5), quiet())
    steps, step = [], loop.train_step

    def interrupted(run):
        steps.append(run.step)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)
        return step(run)

    said = []
    watch = replace(quiet(), report_line=said.append)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.train_gan(pictures(), tmp_path / "stopped", TINY, schedule(5, 5), watch)
    assert steps == [0, 1, 2] and said[-1] == "stopped and saved after 12 images"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    loop.train_gan(pictures(), tmp_path / "stopped", TINY, schedule(5, 5), watch)
    assert "goes on after 12 images" in said
    same = [(tmp_path / name / loop.GENERATOR).read_bytes() for name in ("alone", "stopped")]
    assert same[0] == same[1]
    loop.train_gan(pictures(), tmp_path / "stopped", TINY, schedule(5, 5), watch)
    assert said[-1].startswith("has seen 20 images already")


def test_another_run_is_not_gone_on_with(tmp_path):
    loop.train_gan(pictures(), tmp_path, TINY, schedule(1), quiet())
    with pytest.raises(GanvasError, match=r"trained with gamma 0\.1, not 0\.5"):
        loop.train_gan(pictures(), tmp_path, changed(gamma=0.5), schedule(2), quiet())
    with pytest.raises(GanvasError, match="trained with pictures"):
        loop.train_gan(pictures(23), tmp_path, TINY, schedule(2), quiet())


def test_a_run_goes_on_at_another_rate(tmp_path):
    before = read_generator(loop.train_gan(pictures(), tmp_path, TINY, schedule(2), quiet()))
    after = read_generator(loop.train_gan(pictures(), tmp_path, changed(learning_rate=1e-9), schedule(4), quiet()))
    ws = torch.randn(2, before.num_ws, 8)
    assert len(logged(tmp_path)) == 4
    # The average may still come closer to weights that hardly move any more.
    torch.testing.assert_close(after.synthesis(ws), before.synthesis(ws), rtol=0, atol=0.1)


def test_learning_finds_what_all_pictures_share(tmp_path):
    """The left half of every picture is light: that is what a few steps can learn."""
    data, options = pictures(64), changed(batch=8, learning_rate=0.005, gamma=0.02, average_images=50.0)
    data.pixels[:, :, :, :8] = 255

    def lean(generator) -> float:
        images = generator.synthesis(sample(generator, 16, psi=1.0))
        return float(images[..., :8].mean() - images[..., 8:].mean())

    path = loop.train_gan(data, tmp_path, options, loop.GanSchedule(480), quiet())
    start = losses.initialize_networks(options, 0, *data.moments)
    assert abs(lean(StyleGAN2(start.generator, start.generator_architecture))) < 0.5 < 1 < lean(read_generator(path))


def test_a_generator_starts_with_the_mean_and_spread_of_the_pictures():
    data = pictures(64, colours=3)
    mean, deviation = data.moments
    pixels = data.pixels.double() / 127.5 - 1
    torch.testing.assert_close(mean.double(), pixels.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(deviation.double(), pixels.std((0, 2, 3), correction=0), rtol=1e-5, atol=1e-6)
    made = losses.initialize_networks(changed(widths=(64, 64, 64), discriminator_widths=(8, 8, 8)), 0, mean, deviation)
    images = StyleGAN2(made.generator, made.generator_architecture).synthesis(torch.randn(64, 6, 8))
    assert float((images.mean((0, 2, 3)) - mean).abs().max()) < 0.4
    assert float((images.std((0, 2, 3)) / deviation - 1).abs().max()) < 0.5


def test_a_bounded_generator_starts_near_the_mean_and_never_leaves_the_range():
    made = losses.initialize_networks(
        changed(bounded=True, widths=(64, 64, 64)), 0, torch.tensor([-0.88]), torch.tensor([0.4])
    )
    images = StyleGAN2(made.generator, made.generator_architecture).synthesis(torch.randn(64, 6, 8))
    assert float(images.abs().max()) <= 1 and float((images < -0.9).float().mean()) > 0.1
    assert abs(float(images.median()) + 0.88) < 0.2


def test_shuffled_training_is_that_of_pictures_with_four_pixels_a_place(tmp_path):
    options = changed(widths=(64, 64), discriminator_widths=(8, 8), shuffled=True)
    made = losses.initialize_networks(options, 0, torch.tensor([-0.8]), torch.tensor([0.3]))
    assert options.resolution == 16 and made.generator_architecture.row_resolutions == (4, 8, 8, 8)
    images = StyleGAN2(made.generator, made.generator_architecture).synthesis(torch.randn(64, 4, 8))
    assert images.shape == (64, 3, 16, 16)
    assert abs(float(images.mean()) + 0.8) < 0.2 and abs(float(images.std()) / 0.3 - 1) < 0.5
    plain, wide = DiscriminatorArchitecture(8, (8, 8), 4), made.discriminator_architecture
    assert plain.list_weight_shapes() == wide.list_weight_shapes()
    judged = wide.compute_logits(wide.fold_weights(made.discriminator, torch.float32), images[:4, :1])
    expected = plain.compute_logits(
        plain.fold_weights(made.discriminator, torch.float32), F.pixel_unshuffle(images[:4, :1], 2)
    )
    torch.testing.assert_close(judged, expected)
    assert read_generator(loop.train_gan(pictures(), tmp_path, options, schedule(2), quiet())).resolution == 16


def test_the_mapping_learns_at_its_own_rate(tmp_path):
    moved = {}
    for rate in (0.01, 1.0):
        options = changed(mapping_rate=rate, path_length=0.0)
        before = losses.initialize_networks(options, 0, *pictures().moments)
        run = loop._start_run(pictures(), tmp_path / str(rate), options, loop.Processes(), quiet())
        loop.train_step(run)
        weights = [n.generator["mapping.fc0.weight"].detach() * rate for n in (before, run.networks)]
        moved[rate] = float((weights[1] - weights[0]).abs().mean())
    assert moved[1.0] == pytest.approx(100 * moved[0.01], rel=0.2)


@pytest.mark.parametrize("labels", [0, 3])
def test_a_run_goes_on_with_a_slice_of_z(tmp_path, labels):
    data, wide, narrow = pictures(labels=labels), changed(), changed(z_dim=3)
    loop.train_gan(data, tmp_path, wide, schedule(2), quiet())
    before = loop._start_run(data, tmp_path, wide, loop.Processes(), quiet()).networks
    after = loop._start_run(data, tmp_path, narrow, loop.Processes(), quiet()).networks
    # A picture of a narrow z is the one of some wide z: the slice is orthonormal, and lengths don't matter to the mapping.
    one_hot = F.one_hot(torch.tensor([1]), labels).float() if labels else None
    v = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    basis, _ = torch.linalg.qr(torch.randn(8, 3, generator=losses.create_random(wide.seed, 0, 2**31 - 1)))
    found = StyleGAN2(detached(after), after.generator_architecture).mapping(v, one_hot)
    torch.testing.assert_close(
        found, StyleGAN2(detached(before), before.generator_architecture).mapping(v @ basis.T, one_hot)
    )
    loop.train_gan(data, tmp_path, narrow, schedule(4), quiet())
    assert read_generator(tmp_path / loop.GENERATOR).z_dim == 3
    with pytest.raises(GanvasError, match="z_dim 3, not 8"):
        loop.train_gan(data, tmp_path, wide, schedule(6), quiet())


def test_a_run_without_labels_goes_on_with_them(tmp_path):
    """At first no label changes a picture or a judgement; after a few steps they do."""
    plain, labelled, told = pictures(), pictures(labels=3), changed(condition="count")
    loop.train_gan(plain, tmp_path, TINY, schedule(2), quiet())
    before = loop._start_run(plain, tmp_path, TINY, loop.Processes(), quiet()).networks
    run = loop._start_run(labelled, tmp_path, told, loop.Processes(), quiet())
    after, labels = run.networks, torch.eye(3)
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    w = StyleGAN2(detached(before), before.generator_architecture).mapping(z)
    torch.testing.assert_close(StyleGAN2(detached(after), after.generator_architecture).mapping(z, labels), w)
    images = labelled.pixels[:3].float() / 127.5 - 1
    one, other = (n.discriminator_architecture.fold_weights(n.discriminator, torch.float32) for n in (before, after))
    judged = before.discriminator_architecture.compute_logits(one, images)
    torch.testing.assert_close(after.discriminator_architecture.compute_logits(other, images, labels), judged)
    loop.train_gan(labelled, tmp_path, told, schedule(4), quiet())
    loop.train_gan(labelled, tmp_path, told, schedule(6), quiet())
    generator = read_generator(tmp_path / loop.GENERATOR)
    assert generator.num_labels == 3
    assert (generator.mapping(z[:1].expand(3, -1), labels).std(0) > 0).any()
    with pytest.raises(GanvasError, match="--condition count: give that option again"):
        loop.train_gan(plain, tmp_path, TINY, schedule(8), quiet())


def test_a_damaged_run_without_labels_is_one_line(tmp_path):
    loop.train_gan(pictures(), tmp_path, TINY, schedule(2), quiet())
    path = next(tmp_path.glob("checkpoint-*"))
    whole, about = load_tensors(path)
    shapes = {
        "generator.mapping.fc0.weight": (8, 3),
        "discriminator.b4.out.weight": (2,),
        "average.mapping.fc0.weight": (),
    }
    for name, shape in shapes.items():
        for tensors in ({k: v for k, v in whole.items() if k != name}, whole | {name: torch.zeros(shape)}):
            save_tensors(path, tensors, about)
            with pytest.raises(GanvasError, match="is damaged: delete it"):
                loop.train_gan(pictures(labels=3), tmp_path, changed(condition="count"), schedule(4), quiet())


def detached(networks: losses.GanNetworks) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in networks.generator.items()}


def test_without_noise_none_is_learned(tmp_path):
    generator = read_generator(loop.train_gan(pictures(), tmp_path, changed(noise=False), schedule(3), quiet()))
    other = read_generator(loop.train_gan(pictures(), tmp_path / "noise", TINY, schedule(3), quiet()))
    for layer in generator.shape.iterate_layers():
        key = f"{layer.name}.added".replace(".", "/")
        assert not generator.weights[key][1].any()
        assert other.weights[key][1].any()


# Losses


def networks(options: GanConfig = TINY, labels: int = 0) -> losses.GanNetworks:
    return losses.initialize_networks(options, labels, torch.zeros(1), torch.ones(1))


def batch_of(data: TrainingImages, n: int = 4) -> losses.GanBatch:
    real = data.pixels[:n].float() / 127.5 - 1
    return losses.GanBatch(real, None if data.labels is None else data.labels[:n], losses.create_random(0, 0, 0))


def test_gradients_are_those_of_the_two_losses():
    options = changed(precision="float32", gamma=0.3, mixing=0.0)
    made = networks(options)
    of_g = losses.compute_generator_gradients(made, options, batch_of(pictures()), 0)
    of_d = losses.compute_discriminator_gradients(made, options, batch_of(pictures()), 0)
    batch, shape = batch_of(pictures()), made.generator_architecture
    g, d = (
        losses.layers.fold_weights(made.generator, shape, torch.float32),
        made.discriminator_architecture.fold_weights(made.discriminator, torch.float32),
    )
    ws = losses._draw_codes(made, options, batch, g, 4)
    fake = losses.layers.synthesis(g, shape, ws, batch.random)
    loss_g = -F.logsigmoid(made.discriminator_architecture.compute_logits(d, fake)).mean()
    learned = [made.generator[name] for name in made.trainable]
    wanted = torch.autograd.grad(loss_g, learned, retain_graph=True)
    for name, one, other in zip(made.trainable, of_g.values, wanted, strict=True):
        torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}", rtol=1e-4, atol=1e-6)
    real = batch.real.clone().requires_grad_()
    judged = made.discriminator_architecture.compute_logits(d, real)
    (slope,) = torch.autograd.grad(judged.sum(), real, create_graph=True)
    r1 = slope.square().sum((1, 2, 3)).mean()
    fooled = F.logsigmoid(-made.discriminator_architecture.compute_logits(d, fake.detach()))
    loss_d = -fooled.mean() - F.logsigmoid(judged).mean() + 0.3 / 2 * options.r1_every * r1
    for one, other in zip(of_d.values, torch.autograd.grad(loss_d, list(made.discriminator.values())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert of_d.losses["r1"] == pytest.approx(r1.item(), rel=1e-4)


def test_a_step_goes_down_each_gradient(tmp_path):
    """Adam's first step has the size of the learning rate and the sign of the gradient, number by number: a gradient
    whose memory lies in another order than its parameter's must not be mixed up."""
    options = changed(widths=(8, 8, 8), discriminator_widths=(8, 8, 8), precision="float32")
    run = loop._start_run(pictures(), tmp_path, options, loop.Processes(), quiet())
    before = {name: value.detach().clone() for name, value in run.networks.generator.items()}
    wanted = losses.compute_generator_gradients(run.networks, options, loop._draw_batch(run), 0).values
    loop.train_step(run)
    for name, gradient in zip(run.networks.trainable, wanted, strict=True):
        clear = gradient.abs() > 1e-5
        step = (run.networks.generator[name].detach() - before[name]) / options.learning_rate
        torch.testing.assert_close(step[clear], -gradient.sign()[clear], rtol=0.05, atol=0.05)


def test_penalties_come_once_in_a_number_of_steps():
    made, options = networks(), changed(path_length=2.0)
    for step, names in ((0, {"r1", "path"}), (1, set()), (2, {"path"}), (3, {"r1"})):
        found: set[str] = set()
        for gradients in (losses.compute_generator_gradients, losses.compute_discriminator_gradients):
            found |= gradients(made, options, batch_of(pictures()), step).losses.keys()
        assert found - {"generator", "discriminator", "real", "fake"} == names


def test_mixed_codes_change_once_from_coarse_to_fine():
    options = changed(mixing=1.0, precision="float32")
    made, batch = networks(options), batch_of(pictures())
    g = losses.layers.fold_weights(made.generator, made.generator_architecture, torch.float32)
    ws = losses._draw_codes(made, options, batch, g, 4)
    changes = (ws[:, 1:] != ws[:, :-1]).any(2).sum(1)
    assert (changes == 1).all()
    plain = losses._draw_codes(made, changed(mixing=0.0), batch, g, 4)
    assert (plain == plain[:, :1]).all()


def test_the_average_follows_with_its_half_life():
    made = networks()
    options = changed(average_images=8.0)
    name = made.trainable[-1]
    with torch.no_grad():
        for key in made.trainable:
            made.average[key].zero_()
            made.generator[key].fill_(1.0)
    losses.update_average(made, options, 10**6)
    losses.update_average(made, options, 10**6)
    torch.testing.assert_close(made.average[name], torch.full_like(made.average[name], 0.5))


def test_an_epoch_shows_each_picture_once_in_an_order_of_its_own():
    data = pictures(10)
    first, second = data.draw_rows(0, 10, 3), data.draw_rows(10, 10, 3)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()
    assert torch.equal(torch.cat((first, second))[7:13], data.draw_rows(7, 6, 3))


# The discriminator


def compute_plain_logits(
    discriminator: DiscriminatorArchitecture, state: dict[str, torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    """As published: a filter pass, then a convolution of stride 2."""

    def conv(x, name, act=True, down=False, gain=1.0):
        weight = state[f"{name}.weight"]
        weight = weight / weight[0].numel() ** 0.5
        if down:
            taps = torch.tensor(TAPS)
            kernel = (taps[:, None] * taps / taps.sum() ** 2).expand(x.shape[1], 1, 4, 4)
            edge = 1 + weight.shape[-1] // 2
            x = F.conv2d(F.pad(x, (edge,) * 4), kernel, groups=x.shape[1])
        x = F.conv2d(x, weight, state.get(f"{name}.bias"), 2 if down else 1, 0 if down else weight.shape[-1] // 2)
        return (F.leaky_relu(x, 0.2) * 2**0.5 if act else x) * gain

    def full(x, name):
        weight = state[f"{name}.weight"]
        return F.linear(x, weight / weight.shape[1] ** 0.5, state[f"{name}.bias"])

    x = conv(images, "fromrgb")
    for i in range(len(discriminator.widths) - 1, 0, -1):
        name = f"b{4 << i}"
        skip = conv(x, f"{name}.skip", act=False, down=True, gain=0.5**0.5)
        x = conv(conv(x, f"{name}.conv0"), f"{name}.conv1", down=True, gain=0.5**0.5) + skip
    x = conv(torch.cat((x, compute_minibatch_deviation(x)), 1), "b4.conv")
    return full(F.leaky_relu(full(x.flatten(1), "b4.fc"), 0.2) * 2**0.5, "b4.out")[:, 0]


def test_the_discriminator_is_the_published_one():
    discriminator = DiscriminatorArchitecture(16, (6, 5, 4), 3)
    state = discriminator.initialize(torch.Generator().manual_seed(0))
    for name, value in state.items():
        if name.endswith("bias"):
            value.add_(0.3)
    images = torch.randn(4, 3, 16, 16)
    judged = discriminator.compute_logits(discriminator.fold_weights(state, torch.float32), images)
    torch.testing.assert_close(judged, compute_plain_logits(discriminator, state, images), rtol=1e-4, atol=1e-4)


def test_deviation_is_that_of_groups():
    x = torch.randn(8, 3, 4, 4)
    found = compute_minibatch_deviation(x)
    group = x[[0, 2, 4, 6]]
    torch.testing.assert_close(found[2], (group.var(0, correction=0) + 1e-8).sqrt().mean().expand(1, 4, 4))
    assert float(compute_minibatch_deviation(x[:1].expand(4, -1, -1, -1)).max()) < 1e-3
    assert compute_minibatch_deviation(x[:3]).shape == (3, 1, 4, 4)


def test_a_conditional_discriminator_hears_the_label():
    discriminator = DiscriminatorArchitecture(8, (6, 5), 1, num_labels=3)
    folded = discriminator.fold_weights(discriminator.initialize(torch.Generator().manual_seed(0)), torch.float32)
    images = torch.randn(2, 1, 8, 8)
    one, other = (discriminator.compute_logits(folded, images, torch.eye(3)[[k, k]]) for k in (0, 1))
    assert not torch.allclose(one, other)


# Distances


def test_fid_of_equal_sets_is_none_and_of_gaussians_as_the_formula_says():
    x = torch.from_numpy(np.random.RandomState(0).randn(4000, 3))
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    assert compute_frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert compute_frechet_distance(x, x.flip(0) + torch.tensor([1.0, 2.0, 0.0])) == pytest.approx(5)
    # Commuting covariances: the sum of the squared differences of standard deviations.
    scale = torch.tensor([1.0, 2.0, 3.0])
    assert compute_frechet_distance(x, x * scale) == pytest.approx(1 + 4)
    assert compute_frechet_distance(x, x * scale) == pytest.approx(compute_frechet_distance(x * scale, x))
    with pytest.raises(GanvasError, match="at least 2 pictures"):
        compute_frechet_distance(x[:1], x)


def test_fid_says_what_it_lacks(tmp_path):
    with pytest.raises(GanvasError, match="no file"):
        load_inception(tmp_path / "none.pth")
    with pytest.raises(GanvasError, match="leave out --fid or --digits"):
        outputs.create_distance(pictures(), tmp_path, True, 10)


def test_a_distance_needs_two_pictures_and_two_samples_before_the_training_begins():
    for data, n in ((pictures(), 1), (pictures(1), 100)):
        with pytest.raises(GanvasError, match="at least 2 pictures and 2 samples, not 1"):
            outputs.create_distance(data, None, True, n)
        assert outputs.create_distance(data, None, False, n) is None
    assert outputs.create_distance(pictures(2), None, True, 100) is not None


# Data


def save(path, pixels: np.ndarray, kind: str = "PNG") -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    path.write_bytes(buffer.getvalue())


def test_any_folder_of_square_pictures_will_do(tmp_path):
    (tmp_path / "more").mkdir()
    save(tmp_path / "a.png", np.full((16, 16), 7, np.uint8))
    save(tmp_path / "more" / "b.png", np.full((32, 32), 9, np.uint8))
    (tmp_path / "notes.txt").write_text("none")
    found = gan_images.read_training_images(tmp_path, 16, "")
    assert found.colours == 1 and found.pixels[:, 0, 0, 0].tolist() == [7, 9]
    save(tmp_path / "c.jpg", np.random.RandomState(0).randint(0, 255, (16, 16, 3)).astype(np.uint8), "JPEG")
    assert gan_images.read_training_images(tmp_path, 16, "").colours == 3


def test_multimnist_folders_give_grey_pictures_and_counts(tmp_path):
    from ganvas.data.multimnist import MultiMnistLayout, make_multimnist

    rng = np.random.RandomState(0)
    digits = np.zeros((40, 28, 28), np.uint8)
    digits[:, 6:22, 8:20] = rng.randint(1, 255, (40, 16, 12))
    sets = {"x_train": digits, "y_train": np.arange(40) % 10, "x_test": digits, "y_test": np.arange(40) % 10}
    np.savez(tmp_path / "mnist.npz", **{key: value.astype(np.uint8) for key, value in sets.items()})
    make_multimnist(tmp_path / "mnist.npz", tmp_path / "set", layout=MultiMnistLayout(32, (1, 3)), n=9)
    data = gan_images.read_training_images(tmp_path / "set", 32, "count")
    assert data.pixels.shape == (9, 1, 32, 32) and data.num_labels == 3
    assert data.labels is not None and data.labels.argmax(1).tolist() == [0, 1, 2] * 3
    assert gan_images.read_training_images(tmp_path / "set", 32, "").labels is None
    with pytest.raises(GanvasError, match="pictures of 32 pixels"):
        gan_images.read_training_images(tmp_path / "set", 64, "")


def test_bad_input_gets_one_line(tmp_path):
    with pytest.raises(GanvasError, match="no folder"):
        gan_images.read_training_images(tmp_path / "none", 16, "")
    with pytest.raises(GanvasError, match="neither"):
        gan_images.read_training_images(tmp_path, 16, "")
    with pytest.raises(GanvasError, match="needs one"):
        gan_images.read_training_images(tmp_path, 16, "count")
    save(tmp_path / "a.png", np.zeros((16, 20), np.uint8))
    with pytest.raises(GanvasError, match="must be square"):
        gan_images.read_training_images(tmp_path, 16, "")
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(GanvasError, match="isn't a whole"):
        gan_images.read_training_images(tmp_path, 16, "")
    with pytest.raises(GanvasError, match="32 pixels a side, and the generator 16"):
        loop.train_gan(pictures(side=32), tmp_path, TINY, schedule(1), quiet())
    with pytest.raises(GanvasError, match="images must be a whole number of at least 1"):
        loop.GanSchedule(0)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("48", {}, "Unknown preset"),
        ("16", {"gama": 1}, "Unknown option 'gama'"),
        ("16", {"gamma": "much"}, "gamma must be a finite number, not 'much'"),
        ("16", {"gamma": -1}, "gamma must be a number of at least 0, not -1"),
        ("16", {"widths": [8, 8]}, "equally many"),
        ("16", {"widths": [8, 8.5, 8]}, r"widths\[1\] must be a whole number, not 8.5"),
        ("16", {"batch": 0}, "batch must be a whole number of at least 1, not 0"),
        ("16", {"batch": True}, "batch must be a whole number, not True"),
        ("16", {"mixing": 2.0}, "mixing must be a number of at most 1, not 2"),
        ("16", {"precision": "float8"}, "Unknown precision"),
        ("16", {"condition": "class"}, "Unknown condition"),
    ],
)
def test_impossible_options_are_refused(name, changes, words):
    with pytest.raises(GanvasError, match=words):
        gan_config.load_preset(name, changes)


def test_presets_are_of_the_size_in_their_name():
    assert all(options.resolution == int(name) for name, options in PRESETS.items())
    assert gan_config.load_preset("16", {"widths": [4, 4, 4], "gamma": 1}).widths == (4, 4, 4)


def test_a_training_that_diverges_stops(tmp_path):
    with pytest.raises(GanvasError, match="diverged"):
        loop.train_gan(pictures(), tmp_path, changed(learning_rate=1e30), schedule(9), quiet())


def test_curves_and_sheets_go_to_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop.train_gan(pictures(), tmp_path, TINY, schedule(3), loop.GanCallbacks(lambda text: None, tensorboard=True))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"generator", "discriminator", "images_per_second"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("discriminator")] == [4, 8, 12]
    assert events.Tags()["images"] == ["samples"]


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train-gan", *map(str, arguments)])
    return int(stop.value.code or 0)


def test_the_command_trains_and_says_where_the_generator_is(tmp_path, capsys):
    folder, out = tmp_path / "pictures", tmp_path / "run"
    folder.mkdir()
    for i, picture in enumerate(pictures(6).pixels):
        save(folder / f"{i}.png", picture[0].numpy())
    small = [
        f"--option={key}" for key in ("widths=[8,8,4]", "discriminator_widths=[8,8,4]", "batch=4", "w_dim=8", "z_dim=8")
    ]
    assert command(folder, "--out", out, "--preset", "16", "--images", 8, "--flip", *small) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == str(out / "generator.safetensors")
    assert read_generator(last).resolution == 16
    assert command(folder, "--out", out, "--preset", "16", "--images", 8, *small) == 1
    assert "trained with flip True, not False" in capsys.readouterr().err
    assert command(folder, "--out", out, "--preset", "16", "--option", "gama=1") == 1
    assert capsys.readouterr().err.startswith("Error: Unknown option 'gama'")


SCRIPT = """
import sys, torch
sys.path[:0] = [{tests!r}]
from test_gan_training import TINY, pictures, quiet, schedule
from ganvas.training.gan import loop
loop.train_gan(pictures(), {out!r}, TINY, schedule({steps}), quiet())
"""


def together(tmp_path, out: str, steps: int) -> None:
    """Train with two processes."""
    script = tmp_path / "two.py"
    script.write_text(SCRIPT.format(tests=os.path.dirname(__file__), out=str(tmp_path / out), steps=steps))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_train_one_network_and_go_on_exactly(tmp_path):
    together(tmp_path, "alone", 6)
    together(tmp_path, "stopped", 4)
    together(tmp_path, "stopped", 6)
    assert logged(tmp_path / "stopped") == logged(tmp_path / "alone")
    with pytest.raises(GanvasError, match="trained with processes 2, not 1"):
        loop.train_gan(pictures(), tmp_path / "alone", TINY, schedule(7), quiet())
