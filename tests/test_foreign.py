"""Codes of others whose shape no StyleGAN2 has, or no memory holds."""

import numpy as np
import pytest

import ganvas
from ganvas.errors import GanvasError
from ganvas.imported import read_direction
from ganvas.inversion import load_foreign
from ganvas.rows import is_stylegan2, stylegan2_rows


@pytest.mark.parametrize("rows", [2, 7, 26, 140, 2200])
def test_rows_that_no_stylegan2_has_are_refused(rows, tmp_path):
    toy = ganvas.load_generator("toy")
    np.save(tmp_path / "w.npy", np.zeros((1, rows, toy.w_dim), np.float32))
    with pytest.raises(GanvasError, match="rows from 4 to 24"):
        load_foreign(tmp_path / "w.npy", toy)
    assert not is_stylegan2(rows)


def test_rows_double_their_resolution():
    assert stylegan2_rows(4) == (4, 8, 8, 8) and stylegan2_rows(18)[-3:] == (1024,) * 3


@pytest.mark.parametrize("shape", [(2**45,), (2**62, 4), (2**70,)])
def test_a_shape_beyond_all_memory_is_one_line(shape, tmp_path):
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    (tmp_path / "w.npy").write_bytes(content + bytes(64))
    for read in (lambda path: load_foreign(path, ganvas.load_generator("toy")), read_direction):
        with pytest.raises(GanvasError, match="isn't a whole .npy file"):
            read(tmp_path / "w.npy")
