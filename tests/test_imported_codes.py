"""Codes of others whose shape no StyleGAN2 has, or no memory holds."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import ganvas
from ganvas import load_editor, load_scorer
from ganvas.editors.published import read_direction
from ganvas.errors import GanvasError
from ganvas.generators.stylegan2.rows import is_stylegan2, list_row_resolutions
from ganvas.inversion import import_codes, load_imported_codes, shrink_to_w


@pytest.mark.parametrize("rows", [2, 7, 26, 140, 2200])
def test_rows_that_no_stylegan2_has_are_refused(rows, tmp_path):
    toy = ganvas.load_generator("toy")
    np.save(tmp_path / "w.npy", np.zeros((1, rows, toy.w_dim), np.float32))
    with pytest.raises(GanvasError, match="rows from 4 to 24"):
        load_imported_codes(tmp_path / "w.npy", toy)
    assert not is_stylegan2(rows)


def test_rows_double_their_resolution():
    assert list_row_resolutions(4) == (4, 8, 8, 8) and list_row_resolutions(18)[-3:] == (1024,) * 3


@pytest.mark.parametrize("shape", [(2**45,), (2**62, 4), (2**70,)])
def test_a_shape_beyond_all_memory_is_one_line(shape, tmp_path):
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    (tmp_path / "w.npy").write_bytes(content + bytes(64))
    for read in (lambda path: load_imported_codes(path, ganvas.load_generator("toy")), read_direction):
        with pytest.raises(GanvasError, match="isn't a whole .npy file"):
            read(tmp_path / "w.npy")


def test_a_header_that_is_no_literal_is_one_line(tmp_path):
    """NumPy reads such headers by a tokenizer of its own, whose error is no other's."""
    content = b"\x93NUMPY\x01\x00" + (9).to_bytes(2, "little") + b"{'descr\0\n" + bytes(16)
    (tmp_path / "w.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", content)
    for name in ("w.npy", "w.npz"):
        with pytest.raises(GanvasError, match="isn't a whole .np. file"):
            read_direction(tmp_path / name, component=0)


CODES = Path(os.environ.get("GANVAS_DATA", Path(__file__).parents[2] / "shared" / "data"))
CODES = CODES / "stylegan2-ffhq" / "styleclip" / "w_plus.npy"


@pytest.mark.skipif(not CODES.is_file(), reason="StyleCLIP's codes aren't here: GANVAS_DATA names the folder of data")
@torch.no_grad()
def test_codes_of_photographs_become_faces_that_take_edits(ffhq):
    codes = shrink_to_w(load_imported_codes(CODES, ffhq), ffhq)
    assert codes.shape == (68, ffhq.num_ws, ffhq.w_dim)
    scorer, editor = load_scorer("celeba40"), load_editor("ffhq/compact", ffhq)
    smile, some = scorer.column("Smiling"), codes[[0, 4, 18, 21]]
    before, after = (scorer(ffhq.synthesis(ws)) for ws in (some, editor.edit(some, {"Smiling": 1.5})))
    assert not before.isnan().any()
    assert (after[:, smile] > before[:, smile]).all() and (after[:, smile] > 0).all()


@pytest.fixture(scope="module")
def toy():
    return ganvas.load_generator("toy")


def codes_of(toy, *shape):
    return torch.from_numpy(np.random.RandomState(0).randn(*shape, toy.w_dim).astype(np.float32))


def write_npz(path, codes):
    np.savez(path, w=codes.numpy(), noise=np.zeros((1, 4, 4), np.float32))


def write_compressed(path, codes):
    np.savez_compressed(path, latents=codes.double().numpy())


def write_named(path, codes):
    torch.save({f"photo {i}.png": code for i, code in enumerate(codes)}, path)


def write_projector(path, codes):
    results = {
        f"{i}.png": {"img": torch.zeros(3, 8, 8), "latent": code, "noise": [torch.zeros(4, 4)]}
        for i, code in enumerate(codes)
    }
    torch.save(results, path)


def write_parameter(path, codes):
    torch.save(torch.nn.Parameter(codes), path)


WRITERS = {"npz": write_npz, "compressed": write_compressed, "named": write_named, "projector": write_projector}


@pytest.mark.parametrize("writer", [*WRITERS.values(), write_parameter], ids=[*WRITERS, "parameter"])
@pytest.mark.parametrize("space", ["w", "w+"])
def test_own_codes_are_taken_over_exactly(writer, space, toy, tmp_path):
    codes = codes_of(toy, 3, toy.num_ws) if space == "w+" else codes_of(toy, 3)
    path = tmp_path / ("codes.npz" if writer in (write_npz, write_compressed) else "codes.pt")
    writer(path, codes)
    imported = import_codes(path, toy)
    expected = codes if space == "w+" else codes[:, None].expand(-1, toy.num_ws, -1)
    assert torch.equal(imported.ws, expected)
    assert torch.equal(imported.ws, load_imported_codes(path, toy))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_is_read(dtype, toy, tmp_path):
    codes = codes_of(toy, 2, toy.num_ws).numpy().astype(dtype)
    np.save(tmp_path / "w.npy", codes)
    assert np.array_equal(import_codes(tmp_path / "w.npy", toy).ws.numpy(), codes.astype(np.float32))


def test_what_is_left_out_of_foreign_rows_is_said(toy, tmp_path):
    np.save(tmp_path / "w.npy", 30 * codes_of(toy, 2, 18).numpy())
    imported = import_codes(tmp_path / "w.npy", toy)
    text = " ".join(imported.notes)
    assert "from 18 to" in text and "15% of the differences" in text and "15 standard deviations" in text
    whole = import_codes(tmp_path / "w.npy", toy, spread=1, reach=1e9)
    assert torch.allclose(whole.ws, load_imported_codes(tmp_path / "w.npy", toy), atol=1e-3)


def test_an_option_decides_between_two_readings(toy, tmp_path):
    np.save(tmp_path / "w.npy", codes_of(toy, toy.num_ws).numpy())
    default, as_w = (import_codes(tmp_path / "w.npy", toy, read_as=reading) for reading in (None, "w"))
    assert len(default.ws) == 1 and len(as_w.ws) == toy.num_ws
    assert any("--read-as w " in note for note in default.notes) and not any("--read-as" in n for n in as_w.notes)
    np.save(tmp_path / "twelve.npy", codes_of(toy, 12).numpy())
    assert len(import_codes(tmp_path / "twelve.npy", toy).ws) == 12
    assert len(import_codes(tmp_path / "twelve.npy", toy, read_as="w+").ws) == 1


class Trap:
    def __reduce__(self):
        return (Path("/tmp/ganvas-trap").touch, ())


def write_object_array(path):
    np.savez(path, w=np.array([Trap(), None], object))


def write_lying_member(path):
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 64), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(256))


def write_bomb(path):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("w.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(40):
            member.write(bytes(1 << 20))


def write_cut(path):
    write_npz(path, torch.zeros(3, 4, 64))
    path.write_bytes(path.read_bytes()[:-400])


def write_trap_pickle(path):
    torch.save({"w": Trap()}, path)


def write_other_width(path):
    np.savez(path, a=np.zeros((2, 7)), b=np.zeros(3))


@pytest.mark.parametrize(
    "writer", [write_object_array, write_lying_member, write_bomb, write_cut, write_trap_pickle, write_other_width]
)
def test_hostile_files_are_one_line_and_nothing_runs(writer, toy, tmp_path, monkeypatch):
    monkeypatch.setattr("ganvas.io.files.MAX_ARRAY_BYTES", 1 << 24)
    path = tmp_path / ("x.pt" if writer is write_trap_pickle else "x.npz")
    writer(path)
    with pytest.raises(GanvasError) as error:
        import_codes(path, toy)
    assert "\n" not in str(error.value) and not Path("/tmp/ganvas-trap").exists()
