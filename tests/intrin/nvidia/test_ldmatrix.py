"""ldmatrix: what each lane receives, against the figures of the PTX ISA."""

from __future__ import annotations

import numpy as np
import pytest

from tests.intrin.nvidia.compiled_text import TARGETS, compile_for
from tests.intrin.nvidia.simulated_call import CallOnArrays
from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.errors import CompilerBug
from tilewright.intrin.nvidia.ldmatrix import ldmatrix
from tilewright.intrin.nvidia.mma import mma_atoms
from tilewright.intrin.nvidia.register_bytes import elements_to_bytes
from tilewright.ir.instruction import Array
from tilewright.layout import Layout, MemoryLayout, match_matrix_access
from tilewright.target.nvidia import SM_90, Feature, NvidiaTarget

FORMS = [(dtype, matrices, False) for dtype in (dtypes.float16, dtypes.int8, dtypes.tfloat32, dtypes.int4) for matrices in (1, 2, 4)]
FORMS += [(dtypes.float16, matrices, True) for matrices in (1, 2, 4)]


def _load(dtype: DType, matrices: int, is_transposed: bool, memory: Array, addresses: Array) -> Array:
    call = CallOnArrays(len(addresses), memory={"row": memory}, addresses={"row": addresses}, sizes={"row": 16})
    ldmatrix(dtype, matrices, is_transposed).simulate(call)
    return call.registers("dst")


@pytest.mark.parametrize("matrices", [1, 2, 4])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_each_lane_receives_its_two_halves_of_each_matrix(matrices: int, is_transposed: bool) -> None:
    memory = np.arange(4 * 64, dtype=np.uint16)
    bytes_of_rows = np.concatenate([np.arange(8 * matrices) * 16, np.full(32 - 8 * matrices, 1 << 20)])  # the other lanes' addresses are not used
    got = _load(dtypes.uint16, matrices, is_transposed, memory.view(np.uint8), bytes_of_rows)
    for lane in range(32):
        for matrix in range(matrices):
            tile = memory[64 * matrix :][:64].reshape(8, 8)
            pair = tile[2 * (lane % 4) :, lane // 4][:2] if is_transposed else tile[lane // 4, 2 * (lane % 4) :][:2]
            assert got[lane, 2 * matrix : 2 * matrix + 2].tolist() == pair.tolist()


@pytest.mark.parametrize("dtype", [dtypes.int8, dtypes.int4, dtypes.uint4, dtypes.tfloat32, as_dtype("float8_e4m3fn")], ids=str)
def test_other_dtypes_are_the_same_bytes(dtype: DType) -> None:
    memory = np.random.default_rng(5).integers(0, 256, 512).astype(np.uint8)
    if dtype is dtypes.tfloat32:
        memory = np.arange(128, dtype=np.float32).view(np.uint8)
    addresses = np.random.default_rng(6).permutation(32) * 16
    halves = _load(dtypes.uint16, 4, False, memory, addresses)
    got = _load(dtype, 4, False, memory, addresses)
    assert got.dtype == dtype.numpy and got.shape == (32, 4 * 32 // dtype.bits)
    np.testing.assert_array_equal(elements_to_bytes(got, dtype), halves.view(np.uint8))


def test_an_operand_of_mma_is_loaded_where_the_matcher_says() -> None:
    """The row addresses of `match_matrix_access` on the layout of an operand bring each lane the operand's own elements."""
    (atom, *_) = mma_atoms(dtypes.float16, dtypes.float16, dtypes.float32, SM_90)
    tile = np.random.default_rng(7).standard_normal((16, 16)).astype(np.float16)
    for order, is_transposed in ((("k", "m"), False), (("m", "k"), True)):
        memory = MemoryLayout.natural(Layout.ordered(atom.a_layout.outs, order))
        found = match_matrix_access(memory.layout.compose(atom.a_layout), 16)
        assert found is not None and found.matrices == 4 and found.is_transposed is is_transposed
        addresses = found.row_addresses.drop_input("reg").table()[:, 0] * 2
        stored = tile if not is_transposed else tile.T
        got = _load(dtypes.float16, 4, is_transposed, np.ascontiguousarray(stored).view(np.uint8).reshape(-1), addresses)
        table = atom.a_layout.reorder_digits("reg", found.register_order).table()
        np.testing.assert_array_equal(got, tile[table[..., 0], table[..., 1]].T)


def test_forms_that_do_not_exist_are_faults_of_ours() -> None:
    with pytest.raises(CompilerBug, match="3 matrices of float16"):
        ldmatrix(dtypes.float16, 3)
    with pytest.raises(CompilerBug, match="4 matrices of int8 transposed"):
        ldmatrix(dtypes.int8, 4, True)
    with pytest.raises(CompilerBug, match="float64"):
        ldmatrix(dtypes.float64, 4)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_the_text_compiles(target: NvidiaTarget) -> None:
    assert target.has(Feature.LDMATRIX)
    assert compile_for(target, [ldmatrix(*form) for form in FORMS])
