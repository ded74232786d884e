"""Codes of others whose shape no StyleGAN2 has, or no memory holds."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import ganvas
from ganvas import load_editor, load_scorer
from ganvas.editors.published import read_direction
from ganvas.errors import GanvasError
from ganvas.generators.stylegan2.rows import is_stylegan2, list_row_resolutions
from ganvas.inversion import load_imported_codes, shrink_to_w


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
