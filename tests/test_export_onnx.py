"""Generators written as ONNX: onnxruntime draws what ganvas draws."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from gan_layouts import write_biggan
from test_checkpoints import SHAPES
from test_stylegan2 import state_of

from ganvas import GanvasError, load_generator, sample
from ganvas.checkpoints import export_onnx
from ganvas.cli import main
from ganvas.generators.base import Generator, draw_z, encode_label
from ganvas.generators.stylegan2 import StyleGAN2
from ganvas.generators.toy import Toy


def make_generator(kind: str, folder: Path) -> Generator:
    return (
        load_generator(write_biggan(folder / kind))
        if kind == "biggan"
        else StyleGAN2(state_of(SHAPES[kind]), SHAPES[kind])
    )


@pytest.mark.parametrize("kind", ["labels", pytest.param("biggan", marks=pytest.mark.slow)])
def test_codes_and_pictures_of_any_number_of_seeds(kind: str, tmp_path: Path) -> None:
    onnx, _ = pytest.importorskip("onnx"), pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    generator = make_generator(kind, tmp_path)
    lines = export_onnx.export_generator(generator, tmp_path / "out")
    assert "z (n, " in lines[0] and "labels (n, 3)" in lines[0] and "-> images (n, 3, " in lines[1]
    mapping, synthesis = (
        onnxruntime.InferenceSession(tmp_path / "out" / f"{n}.onnx") for n in ("mapping", "synthesis")
    )
    labels = torch.tensor([encode_label(generator, 2)] * 3)
    for psi in (1.0, 0.4):
        inputs = {"z": draw_z(generator, range(7, 10)), "psi": torch.tensor(psi), "labels": labels}
        (ws,) = mapping.run(None, {name: value.numpy() for name, value in inputs.items()})
        expected = sample(generator, 3, psi, 7, labels)
        torch.testing.assert_close(torch.from_numpy(ws), expected.contiguous(), rtol=1e-4, atol=1e-5)
        (images,) = synthesis.run(None, {"ws": ws})
        torch.testing.assert_close(torch.from_numpy(images), generator.synthesis(expected), rtol=1e-4, atol=1e-4)
    for name in ("mapping", "synthesis"):
        content = (tmp_path / "out" / f"{name}.onnx").read_bytes()
        assert str(Path(export_onnx.__file__).parent).encode() not in content and b"site-packages" not in content
        about = {each.key: each.value for each in onnx.load_from_string(content).metadata_props}
        assert json.loads(about["ganvas"])["fingerprint"] == generator.fingerprint


def test_without_its_packages_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SystemExit):
        main(["export-onnx", "toy", "--out", str(tmp_path / "out")])
    assert "pip install 'ganvas[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_numbers_are_refused_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, sys)
    runtime = pytest.importorskip("onnxruntime")

    class Session:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, _: None, inputs: dict[str, object]) -> list[object]:
            return [torch.zeros(2, Toy().num_ws, Toy().w_dim).numpy()]

    monkeypatch.setattr(runtime, "InferenceSession", Session)
    monkeypatch.setattr(export_onnx, "_export", lambda *_: b"")
    with pytest.raises(GanvasError, match="other numbers than ganvas, by"):
        export_onnx.export_generator(Toy(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
