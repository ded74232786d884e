"""Published directions: read without running code, fitted to rows, calibrated, saved."""

import os
import pickle

import numpy as np
import pytest
import torch
from fitted_editors import NAMES, TOY, labels
from safetensors.torch import save_file

from ganvas import GanvasError, editors, sample
from ganvas.cli import main
from ganvas.editors.base import LinearEditor
from ganvas.editors.masked import MaskedEditor
from ganvas.editors.published import fit_rows, import_directions, read_direction

WS = sample(TOY, 40, 0.7, 0)
RED = TOY.planted["Red"]


def write(path, tensor):
    if path.suffix == ".npy":
        np.save(path, tensor.numpy())
    elif path.suffix == ".pt":
        torch.save(tensor, path)
    else:
        save_file({"direction": tensor.contiguous()}, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".safetensors"])
@pytest.mark.parametrize("shape", [(64,), (1, 64), (4, 64), (8, 64), (1, 4, 64)])
def test_every_kind_and_shape_is_the_same_direction(tmp_path, suffix, shape):
    path = write(tmp_path / f"red{suffix}", RED.expand(shape).clone())
    editor = import_directions({"red": path}, TOY, labels(), {"red": "Red"})
    assert isinstance(editor, LinearEditor)
    torch.testing.assert_close(torch.nn.functional.normalize(editor.directions[0], dim=0), RED)
    assert editor.space == "w" and editor.attributes == ("red",) and editor.kinds == ("probability",)


def test_a_change_of_1_is_the_attribute_it_is_like(tmp_path):
    file = write(tmp_path / "x.npy", 7 * RED)
    data, k = labels(), NAMES.index("Red")
    editor = import_directions({"red": file}, TOY, data, {"red": "Red"})
    moved = editor.edit(WS, {"red": 1.0})
    assert (data.probe(moved.mean(1)) - data.probe(WS.mean(1)))[:, k].mean() == pytest.approx(1.0, abs=0.01)
    torch.testing.assert_close(editor.read(WS)[:, 0], data.probe(WS.mean(1))[:, k])
    named = import_directions({"Red": file}, TOY, data)
    torch.testing.assert_close(named.edit(WS, {"Red": 1.0}), moved)


def test_the_other_way_round_is_read_the_other_way_round(tmp_path):
    file = write(tmp_path / "blue.npy", -RED)
    data, k = labels(), NAMES.index("Red")
    blue = import_directions({"blue": file}, TOY, data, {"blue": "Red"})
    torch.testing.assert_close(blue.read(WS)[:, 0], -data.probe(WS.mean(1))[:, k])
    assert (blue.read(blue.edit(WS, {"blue": 1.0})) - blue.read(WS)).mean() == pytest.approx(1.0, abs=0.01)
    scores = data.scores[:50, k : k + 1]
    torch.testing.assert_close(blue.gaussianize(-scores), -data.gaussianize(data.scores[:50])[:, k : k + 1])
    assert "down" in blue.report["units"][0]
    turned = import_directions({"Red": file}, TOY, data)
    assert "turned around" in turned.report["units"][0]
    torch.testing.assert_close(turned.edit(WS, {"Red": -1.0}), blue.edit(WS, {"blue": 1.0}))


@pytest.mark.parametrize("data", [None, labels()])
def test_natural_units_are_standard_deviations(tmp_path, data):
    editor = import_directions({"hue": write(tmp_path / "x.npy", 0.1 * RED)}, TOY, data)
    assert "natural units" in editor.report["units"][0]
    w = sample(TOY, 3000, 1.0, 500)
    reading = editor.read(w)[:, 0]
    assert reading.mean() == pytest.approx(0.0, abs=0.06)
    assert reading.std() == pytest.approx(1.0, abs=0.05)
    moved = editor.read(editor.edit(WS, {"hue": 1.0})) - editor.read(WS)
    assert moved.mean() == pytest.approx(1.0, abs=1e-3)


def test_rows_of_a_stylegan2_are_mapped_by_resolution(tmp_path):
    foreign = torch.arange(1.0, 9)[:, None].expand(8, 64)  # rows at 4, 8, 8, 16, 16, 32, 32, 32
    own = fit_rows(foreign, TOY, "x")
    assert own[:, 0].tolist() == [1.0, 2.5, 4.5, 7.0]
    small = fit_rows(foreign[:6], TOY, "x")  # 4, 8, 8, 16, 16, 16: nothing at 32
    assert small[:, 0].tolist() == [1.0, 2.5, 5.0, 5.0]
    editor = import_directions({"x": write(tmp_path / "x.npy", foreign * RED)}, TOY)
    shift = editor.edit(WS, {"x": 1.0}) - WS
    assert editor.space == "w+"
    torch.testing.assert_close(shift[:, 3], shift[:, 0] * 7, atol=1e-4, rtol=1e-4)
    assert (editor.read(WS + shift) - editor.read(WS)).mean() == pytest.approx(1.0, abs=1e-3)


def test_rows_of_nothing_stay(tmp_path):
    direction = torch.zeros(4, 64)
    direction[1] = RED
    editor = import_directions({"red": write(tmp_path / "x.pt", direction)}, TOY, labels(), {"red": "Red"})
    assert isinstance(editor, MaskedEditor) and editor.rows == (1,)
    moved = editor.edit(WS, {"red": 1.0})
    assert (TOY.compute_coordinates(moved) - TOY.compute_coordinates(WS))[
        :, NAMES.index("Red")
    ].mean() == pytest.approx(1.0, abs=0.2)
    editors.save(editor, tmp_path / "e.safetensors")
    loaded = editors.load_editor(tmp_path / "e.safetensors", TOY)
    torch.testing.assert_close(loaded.edit(WS, {"red": 1.0}), moved, rtol=0, atol=1e-5)


def test_several_are_saved_and_loaded(tmp_path):
    files = {"red": write(tmp_path / "a.npy", RED), "mix": write(tmp_path / "b.pt", torch.randn(4, 64))}
    editor = import_directions(files, TOY, labels(), {"red": "Red"})
    editors.save(editor, tmp_path / "e.safetensors")
    loaded = editors.load_editor(tmp_path / "e.safetensors", TOY)
    changes = {"red": 1.0, "mix": -0.5}
    torch.testing.assert_close(loaded.edit(WS, changes), editor.edit(WS, changes), rtol=0, atol=1e-5)
    torch.testing.assert_close(loaded.read(WS), editor.read(WS), rtol=1e-5, atol=1e-5)
    assert editors.fingerprint(loaded) == editors.fingerprint(editor)
    editors.format_report_lines(loaded)
    with pytest.raises(GanvasError, match="4 rows"):
        loaded.edit(WS[:, :3], changes)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("/nonexistent/evil",)


def test_bad_files_are_one_line(tmp_path):
    cases = {
        "width.npy": (torch.ones(1, 32), "width 32.*'toy' needs .*64"),
        "rows.npy": (torch.ones(5, 64), "5 rows"),
        "zero.pt": (torch.zeros(64), "not all 0"),
        "nan.pt": (torch.full((64,), float("nan")), "finite"),
        "cube.pt": (torch.ones(2, 3, 64), r"\(2, 3, 64\)"),
        "complex.pt": (torch.ones(64, dtype=torch.complex64), "ComplexFloatStorage"),
        "list.pt": ([1.0], "tensor of numbers"),
        "two.pt": ({"a": torch.ones(64), "b": torch.ones(64)}, "2 tensors"),
        "cancel.npy": (torch.stack((RED, -RED, RED, -RED)), "cancel"),
        "evil.pt": (Evil(), "Nothing in it was run"),
    }
    for name, (value, words) in cases.items():
        path = tmp_path / name
        write(path, value) if path.suffix == ".npy" else torch.save(value, path)
        with pytest.raises(GanvasError, match=words) as caught:
            import_directions({"x": path}, TOY)
        assert "\n" not in str(caught.value)


def test_damaged_and_foreign_files_are_one_line(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "text.npy", np.array(["a"]))
    (tmp_path / "raw.pt").write_bytes(pickle.dumps({"x": 1}))
    for suffix in (".npy", ".pt", ".safetensors"):
        content = write(tmp_path / f"whole{suffix}", RED).read_bytes()
        for size in (0, 5, len(content) // 2, len(content) - 1):
            (tmp_path / f"cut{size}{suffix}").write_bytes(content[:size])
    (tmp_path / "x.txt").write_text("1")
    for path in [*tmp_path.iterdir(), tmp_path / "missing.npy"]:
        if not path.name.startswith("whole"):
            with pytest.raises(GanvasError) as caught:
                read_direction(path)
            assert "\n" not in str(caught.value) and path.name in str(caught.value)


def test_unknown_names_are_refused(tmp_path):
    file = write(tmp_path / "x.npy", RED)
    for likes, data, words in (
        ({"x": "Rde"}, labels(), "'Rde'"),
        ({"y": "Red"}, labels(), "'y'"),
        ({"x": "Red"}, None, "no labels"),
    ):
        with pytest.raises(GanvasError, match=words):
            import_directions({"x": file}, TOY, data, likes)


def test_a_tensor_is_picked_by_its_name(tmp_path):
    save_file({"red": RED, "green": -RED}, tmp_path / "two.safetensors")
    assert torch.equal(read_direction(tmp_path / "two.safetensors", "green")[0], -RED)


def run(capsys, *words):
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code or 0
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command(tmp_path, capsys):
    from ganvas.data.label_files import pack_labels

    one, two = write(tmp_path / "red.npy", RED), write(tmp_path / "other.pt", RED)
    pack_labels(labels(256), tmp_path / "labels.safetensors", generator="toy")
    out, base = tmp_path / "e.safetensors", ("--generator", "toy", "--out", tmp_path / "e.safetensors")
    code, said, _ = run(capsys, "import-direction", one, two, *base)
    assert code == 0 and "natural units" in said
    assert editors.load_editor(out, TOY).attributes == ("red", "other")
    given = ("--name", "crimson", "--like", "Red", "--labels", tmp_path / "labels.safetensors")
    code, said, _ = run(capsys, "import-direction", one, *base, *given)
    assert code == 0 and "moves Red up by 1" in said
    for words, says in (
        ((one, two, "--name", "a"), "2 files"),
        ((one, two, "--like", "Red"), "NAME=ATTRIBUTE"),
        ((one, "--like", "Red"), "no labels"),
        ((one, "--labels", tmp_path / "none.safetensors"), "There are no labels"),
        ((tmp_path / "none.npy",), "There is no file"),
    ):
        code, _, error = run(capsys, "import-direction", *words, *base)
        assert code == 1 and says in error and error.count("\n") == 1


def write_ganspace(path, axes):
    n = len(axes)
    arrays = {"act_comp": axes[:, None].numpy(), "act_mean": np.zeros((1, 1, 64)), "act_stdev": np.ones(n)}
    np.savez(path, lat_comp=np.random.RandomState(0).randn(n, 1, 64), var_ratio=np.ones(n), **arrays)


def write_sefa(path, axes):
    torch.save({"ckpt": "x.pt", "eigvec": torch.linalg.qr(axes.T, mode="complete").Q}, path)


@pytest.mark.parametrize(("writer", "name"), [(write_ganspace, "x_ipca_c5_w.npz"), (write_sefa, "factor.pt")])
def test_a_component_goes_by_its_number(writer, name, tmp_path):
    axes = torch.linalg.qr(torch.randn(64, 5, generator=torch.Generator().manual_seed(0))).Q.T.contiguous()
    writer(tmp_path / name, axes)
    for number in range(5):
        assert abs(float(read_direction(tmp_path / name, component=number)[0] @ axes[number])) == pytest.approx(
            1, abs=1e-4
        )
    with pytest.raises(GanvasError, match="--component"):
        read_direction(tmp_path / name)
    with pytest.raises(GanvasError, match="no component 64"):
        read_direction(tmp_path / name, component=64)
    args = ["import-direction", str(tmp_path / name), "--generator", "toy", "--out", str(tmp_path / "e.safetensors")]
    with pytest.raises(SystemExit, match="^0$"):
        main(args)
    editor = editors.load_editor(tmp_path / "e.safetensors", TOY)
    assert editor.attributes[:2] == ("component0", "component1")


def test_components_of_features_are_no_directions(tmp_path):
    np.savez(tmp_path / "x.npz", act_comp=np.zeros((4, 8, 16, 16)), lat_comp=np.ones((4, 1, 64)))
    with pytest.raises(GanvasError, match=r"a layer's features .* 'style'"):
        read_direction(tmp_path / "x.npz", component=0)
