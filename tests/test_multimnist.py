"""MultiMNIST from MNIST's files: what lies where is kept, digits don't overlap, parts don't mix, bad files are one line."""

import gzip
import json

import numpy as np
import pytest
import torch

from ganvas.data import mnist as mnist_files
from ganvas.data.mnist import read_mnist
from ganvas.data.multimnist import MultiMnistLayout, draw_picture, make_multimnist
from ganvas.data.multimnist_files import read_metadata, read_multimnist
from ganvas.errors import GanvasError

SMALL = MultiMnistLayout(32, (1, 3))


def digits(n, start):
    """Made-up digits: the ink's grey value is the image's number, so that each can be told in a picture."""
    rng = np.random.RandomState(start)
    images = np.zeros((n, 28, 28), np.uint8)
    for i in range(n):
        height, width = rng.randint(5, 21, 2)
        images[i, 4 : 4 + height, 6 : 6 + width] = start + i
    return images, (np.arange(n) % 10).astype(np.uint8)


def idx(values, magic):
    return np.array([magic, *values.shape], ">u4").tobytes() + values.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """MNIST as idx files, half of them gzipped: 20 training digits of grey 100 to 119, 10 test digits from 200 on."""
    path = tmp_path_factory.mktemp("mnist")
    for name, (n, start) in {"train": (20, 100), "t10k": (10, 200)}.items():
        images, labels = digits(n, start)
        (path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images, 0x803)))
        (path / f"{name}-labels.idx1-ubyte").write_bytes(idx(labels, 0x801))
    return path


@pytest.fixture(scope="module")
def npz(folder):
    path = folder / "mnist.npz"
    train, test = digits(20, 100), digits(10, 200)
    np.savez_compressed(path, x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1].astype(np.int64))
    return path


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("set") / "m"
    make_multimnist(folder, out, layout=SMALL, n=30, seed=3)
    return out


def test_both_layouts_of_mnist_are_read_alike(folder, npz):
    for part in ("train", "test"):
        one, two = read_mnist(folder, part), read_mnist(npz, part)
        assert np.array_equal(one.images, two.images) and np.array_equal(one.labels, two.labels)


def test_a_set_is_what_it_says(made):
    data, test = read_multimnist(made, "train"), read_multimnist(made, "test")
    assert (len(data), len(test), data.pixels.shape[1:]) == (30, 3, (32, 32))
    assert data.counts.bincount().tolist() == [0, 10, 10, 10]
    assert torch.equal(data.per_class.sum(1), data.counts)
    about = read_metadata(made)
    assert (about["size"], about["counts"], about["seed"], about["train"]) == (32, [1, 3], 3, 30)
    assert len(read_multimnist(made, "train", 7)) == 7


def test_boxes_hold_all_ink_and_do_not_touch(made):
    data = read_multimnist(made, "train")
    for pixels, boxes in zip(data.pixels, data.boxes, strict=True):
        covered = torch.zeros_like(pixels)
        for x0, y0, x1, y1 in boxes:
            assert pixels[y0:y1, x0:x1].gt(0).any(0).all() and pixels[y0:y1, x0:x1].gt(0).any(1).all()
            covered[max(y0 - SMALL.gap, 0) : y1 + SMALL.gap, max(x0 - SMALL.gap, 0) : x1 + SMALL.gap] += 1
            covered[y0:y1, x0:x1] += 1
        assert not pixels[covered == 0].any()
        for x0, y0, x1, y1 in boxes:
            assert (covered[y0:y1, x0:x1] == 2).all()


def test_digits_are_told_truly_and_parts_never_mix(folder, npz):
    # At 64 pixels digits aren't resized, so their ink keeps its grey.
    layout = MultiMnistLayout(64, (1, 4))
    for part, start in (("train", 100), ("test", 200)):
        source = read_mnist(npz, part)
        for i in range(8):
            picture = draw_picture(source, layout, 0, part, i)
            assert len(picture.digits) == 1 + i % 4
            for digit, (x0, y0, x1, y1) in zip(picture.digits, picture.boxes, strict=True):
                (grey,) = np.unique(picture.pixels[y0:y1, x0:x1])
                assert start <= grey < start + len(source.labels) and (grey - start) % 10 == digit


def test_the_same_bytes_however_many_and_from_either_layout(folder, npz, made, tmp_path):
    make_multimnist(npz, tmp_path / "again", layout=SMALL, n=30, seed=3)
    for name in ("train.parquet", "test.parquet", "about.json"):
        assert (made / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    make_multimnist(folder, tmp_path / "more", layout=SMALL, n=40, test=1, seed=3)
    more = read_multimnist(tmp_path / "more", "train", 30)
    assert torch.equal(more.pixels, read_multimnist(made, "train").pixels)
    make_multimnist(folder, tmp_path / "other", layout=SMALL, n=30, seed=4)
    assert not torch.equal(read_multimnist(tmp_path / "other", "train").pixels, more.pixels)


def test_sizes_and_counts(folder, tmp_path):
    about = make_multimnist(folder, tmp_path / "m", layout=MultiMnistLayout(128, (0, 9)), n=20, test=10)
    data = read_multimnist(tmp_path / "m", "train")
    assert data.pixels.shape == (20, 128, 128) and about["counts"] == [0, 9]
    assert data.counts.tolist() == [*range(10)] * 2 and not data.pixels[0].any()
    for wrong in ((8, (1, 4)), (5000, (1, 4)), (64, (3, 2)), (64, (-1, 2)), (64, (0, 0)), (64, (1, 99))):
        with pytest.raises(GanvasError, match="size|Counts"):
            MultiMnistLayout(*wrong)
    for settings in ({"n": 0}, {"n": 5, "test": -1}, {"n": 5, "seed": -1}, {"n": 5, "seed": 2**32}):
        with pytest.raises(GanvasError):
            make_multimnist(folder, tmp_path / "none", **settings)
    assert not (tmp_path / "none").exists()
    assert make_multimnist(folder, tmp_path / "last", layout=SMALL, n=2, test=1, seed=2**32 - 1)["seed"] == 2**32 - 1


def test_mnist_that_is_wrong_is_one_line_and_nothing_is_written(folder, npz, tmp_path, monkeypatch):
    def refused(path, words):
        with pytest.raises(GanvasError, match=words) as caught:
            make_multimnist(path, tmp_path / "out", layout=SMALL, n=4)
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()

    refused(tmp_path / "nothing", "no MNIST at")
    refused(tmp_path, "has no train-images-idx3-ubyte")
    images, labels = digits(20, 100)
    bad = tmp_path / "bad.npz"
    for content in (b"", b"PK", npz.read_bytes()[:-40]):
        bad.write_bytes(content)
        refused(bad, "isn't a whole npz")
    for arrays, words in (
        ({"x_train": images}, "no y_train"),
        ({"x_train": images[:, :27], "y_train": labels}, "isn't MNIST"),
        ({"x_train": images, "y_train": labels[:-1]}, "isn't MNIST"),
        ({"x_train": images, "y_train": labels + 3}, "not 0 to 9"),
        ({"x_train": images / 255, "y_train": labels}, "whole numbers"),
        ({"x_train": images.astype(int) - 200, "y_train": labels}, "within 0 to 255"),
        ({"x_train": images * 0, "y_train": labels}, "image 0 is empty"),
        ({"x_train": images[:0], "y_train": labels[:0]}, "isn't MNIST"),
        ({"x_train": np.array([{}]), "y_train": labels}, "whole numbers"),
    ):
        np.savez(bad, **arrays)
        refused(bad, words)
    idxs = tmp_path / "idx"
    idxs.mkdir()
    for content, words in (
        (idx(images, 0x801), "isn't an idx file"),
        (idx(images, 0x803)[:-1], "isn't whole"),
        (b"", "isn't an idx file"),
    ):
        (idxs / "train-images-idx3-ubyte").write_bytes(content)
        refused(idxs, words)
    (idxs / "train-images-idx3-ubyte").unlink()
    (idxs / "train-images-idx3-ubyte.gz").write_bytes(b"not gzip")
    refused(idxs, "gzip")
    monkeypatch.setattr(mnist_files, "MAX_FILE_BYTES", 10_000)
    refused(folder, "unpacks to more")
    monkeypatch.setattr(mnist_files, "MAX_FILE_BYTES", 100)
    refused(folder, "has more than")
    refused(npz, "has more than")


def test_a_set_that_cannot_be_finished_leaves_nothing(folder, tmp_path):
    def stop(done, total):
        if done == 31:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_multimnist(folder, tmp_path, layout=SMALL, n=30, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_sets_that_are_damaged_are_one_line(made, tmp_path):
    def refused(words):
        with pytest.raises(GanvasError, match=words) as caught:
            read_multimnist(tmp_path, "train")
        assert "\n" not in str(caught.value)

    refused(r"about\.json")
    about = json.loads((made / "about.json").read_text())
    (tmp_path / "about.json").write_text(json.dumps(about))
    refused("make-multimnist")
    (tmp_path / "train.parquet").write_bytes((made / "train.parquet").read_bytes()[:-9])
    refused("isn't a whole")
    (tmp_path / "train.parquet").write_bytes((made / "train.parquet").read_bytes())
    for change, words in (
        ({"size": 64}, "32×32 L, not 64×64"),
        ({"size": 7}, "damaged"),
        ({"version": 9}, "version 1"),
    ):
        (tmp_path / "about.json").write_text(json.dumps(about | change))
        refused(words)
    with pytest.raises(GanvasError, match="part 'valid'"):
        read_multimnist(made, "valid")
