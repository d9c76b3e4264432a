"""Compiled kernels: calls, what can be looked at, and the comparison with the reference that the environment asks for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused
from tilewright.errors import Kind, TileError
from tilewright.kernel import Kernel, make_kernel
from tilewright.target.cpu import host_target


@T.prim_func
def scale(A: T.Tensor((40, 40), "float32"), factor: T.float32, B: T.Tensor((40, 40), "float16")):
    with T.Kernel(4) as bx:
        held = T.alloc_shared((10, 40), "float32")
        T.copy(A[bx * 10, 0], held)
        for i, j in T.Parallel(10, 40):
            held[i, j] = held[i, j] * factor
        T.copy(held, B[bx * 10, 0])


def product() -> Any:
    @T.prim_func
    def kernel(A: T.Tensor((64, 64), "float16"), B: T.Tensor((64, 64), "float16")):
        C = T.empty((64, 64), "float32")
        D = T.empty((64,), "float32")
        with T.Kernel(2, 2) as (bx, by):
            a, b, c = T.alloc_shared((32, 64), "float16"), T.alloc_shared((64, 32), "float16"), T.alloc_fragment((32, 32), "float32")
            T.copy(A[by * 32, 0], a)
            T.copy(B[0, bx * 32], b)
            T.gemm(a, b, c, clear_accum=True)
            T.copy(c, C[by * 32, bx * 32])
        with T.Kernel(1):
            T.reduce_sum(C, D, dim=1)
        return C, D

    return kernel


def test_calls_with_and_without_outputs() -> None:
    a = integers((40, 40))
    kernel = tilewright.compile(scale)
    b = np.zeros((40, 40), np.float16)
    assert kernel(a, 3.0, b) is None
    np.testing.assert_array_equal(b, a * 3)
    (returned,) = [tilewright.compile(scale, out_idx=-1)(a, 3.0)]
    np.testing.assert_array_equal(returned, b)
    many = tilewright.compile(product())(a[:32, :32].repeat(2, 0).repeat(2, 1).astype(np.float16), np.eye(64, dtype=np.float16))
    assert isinstance(many, list) and [x.shape for x in many] == [(64, 64), (64,)]


def test_outputs_come_in_the_order_asked_for() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((4,), "int32"), B: T.Tensor((4,), "int32"), C: T.Tensor((4,), "int32")):
        with T.Kernel(1):
            T.fill(A, 1)
            T.copy(B, C)

    b = np.arange(4, dtype=np.int32)
    c, a = tilewright.compile(kernel, out_idx=[2, 0])(b)
    np.testing.assert_array_equal(c, b)
    np.testing.assert_array_equal(a, 1)


def test_what_can_be_looked_at() -> None:
    kernel = tilewright.compile(product())
    assert kernel.target is host_target() and [p.name for p in kernel.params] == ["A", "B", "C", "D"] and kernel.out_idx == (2, 3)
    assert repr(kernel) == f"<kernel kernel for {host_target().name}>"
    assert kernel.source == kernel.kernel_source == kernel.get_kernel_source() == kernel.get_host_source() and "define" in kernel.source
    assert kernel.ir() == kernel.prim_func.script() and "Parallel(" in kernel.ir("lowered") and "gemm(" not in kernel.ir("lowered")
    assert any("panels" in remark.text for remark in kernel.remarks) and kernel.assembly
    assert kernel.latency is None and kernel.config is None and kernel.ref_latency is None
    with refused(Kind.OPTION_VALUE, "stage"):
        kernel.ir("machine")


def test_sources_are_written_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = tilewright.compile(scale)
    kernel.export_sources(kernel_path=str(tmp_path / "k.ll"))
    kernel.export_sources(host_path=str(tmp_path / "h.ll"))
    assert (tmp_path / "k.ll").read_text() == (tmp_path / "h.ll").read_text() == kernel.source
    kernel.show_source()
    assert capsys.readouterr().out.strip() == kernel.source.strip()


def test_the_older_spelling_of_showing_the_source_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = tilewright.compile(scale)
    with pytest.warns(DeprecationWarning, match="show_source"):
        kernel.print_source_code()
    assert capsys.readouterr().out == kernel.source + "\n" == kernel.host_source + "\n"
    with pytest.warns(DeprecationWarning):
        kernel.print_source_code(file=str(tmp_path / "kernel.ll"))
    assert (tmp_path / "kernel.ll").read_text() == kernel.source


def test_the_adapter_is_the_call_without_options() -> None:
    a, kernel = integers((40, 40)), tilewright.compile(scale, out_idx=2)
    np.testing.assert_array_equal(kernel.adapter(a, 2.0), kernel(a, 2.0))


def test_what_a_search_measured_is_kept() -> None:
    kernel = tilewright.compile(scale)
    with refused(Kind.OPTION_VALUE, "the kernel scale was not tuned"):
        kernel.get_tuner_result()
    assert kernel.update_tuner_result(0.5, {"block": 8}, None) is kernel
    assert kernel.get_tuner_result() == {"latency": 0.5, "config": {"block": 8}, "ref_latency": None} and kernel.latency == 0.5


def test_registers_are_those_of_gpus() -> None:
    for name in ("n_regs", "n_spills", "resource_usage"):
        with refused(Kind.TARGET_FEATURE, "has no resources"):
            getattr(tilewright.compile(scale), name)
    pytest.importorskip("cuda.bindings.nvrtc")
    kernel = tilewright.compile(scale, target="sm_80")
    (launch,) = kernel.resource_usage
    assert kernel.n_regs == launch.registers > 0 and kernel.n_spills == 0


def test_profiling_makes_inputs() -> None:
    kernel = tilewright.compile(product())
    c, d = kernel.run_once()
    assert c.shape == (64, 64) and np.isfinite(d).all() and kernel.get_profiler().result_idx == (2, 3)


# -- TILEWRIGHT_CHECK=1


@pytest.fixture
def checking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CHECK", "1")


def wrong(kernel: Any, other: Any) -> Kernel:
    """A kernel with the machine code of another program: a compiler that makes mistakes."""
    made = tilewright.compile(other)
    made.prim_func = kernel
    return made


def filling(value: float, dtype: str = "float32") -> Any:
    @T.prim_func
    def kernel(B: T.Tensor((5, 3), dtype)):
        with T.Kernel(1):
            T.fill(B, value)

    return kernel


@pytest.mark.usefixtures("checking")
def test_right_kernels_pass_the_check() -> None:
    a = integers((40, 40))
    b = np.zeros((40, 40), np.float16)
    tilewright.compile(scale)(a, 3.0, b)
    np.testing.assert_array_equal(b, a * 3)
    rng = np.random.default_rng(0)
    tilewright.compile(product())(rng.standard_normal((64, 64)).astype(np.float16), rng.standard_normal((64, 64)).astype(np.float16))


@pytest.mark.usefixtures("checking")
@pytest.mark.parametrize(
    ("dtype", "right", "found"), [("float32", 1.0, 1.5), ("int32", 4, 5), ("float16", 1.0, float("nan")), ("bool", 1, 0), ("bfloat16", 2.0, 2.5)]
)
def test_wrong_kernels_are_found(dtype: str, right: float, found: float) -> None:
    kernel = wrong(filling(right, dtype), filling(found, dtype))
    with refused(Kind.CHECK_MISMATCH, "B[0, 0]", "15 of 15 elements differ", "report"):
        kernel(np.zeros((5, 3), T.dtype(dtype).numpy))


@pytest.mark.parametrize(
    ("kernel", "arguments"),
    [
        pytest.param(scale, (1,), id="count"),
        pytest.param(filling(1.0), (np.zeros((4, 3), np.float32),), id="shape"),
        pytest.param(filling(1.0), (np.zeros((5, 3), np.float64),), id="dtype"),
        pytest.param(filling(1.0), (np.zeros(15, np.float32),), id="rank"),
        pytest.param(filling(1.0), (np.zeros((5, 6), np.float32)[:, ::2],), id="strides"),
        pytest.param(filling(1.0), (None,), id="none"),
        pytest.param(filling(1.0), ("text",), id="text"),
        pytest.param(filling(1.0), ([1.0, 2.0],), id="list"),
        pytest.param(filling(1.0), (object(),), id="object"),
        pytest.param(scale, (np.zeros((40, 40), np.float32), "fast", np.zeros((40, 40), np.float16)), id="scalar"),
    ],
)
def test_mistakes_of_the_caller_are_reported_as_without_the_check(kernel: Any, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for setting in ("0", "1"):
        monkeypatch.setenv("TILEWRIGHT_CHECK", setting)
        with pytest.raises(TileError) as caught:
            tilewright.compile(kernel)(*arguments)
        texts.append(str(caught.value).splitlines()[0])
    assert texts[0] == texts[1]


@pytest.mark.usefixtures("checking")
def test_a_kernel_that_would_leave_its_memory_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place is read from memory, so that only a run can tell."""

    @T.prim_func
    def kernel(I: T.Tensor((4,), "int32"), B: T.Tensor((4,), "float32")):
        with T.Kernel(1):
            s = T.alloc_shared((4,), "float32")
            T.clear(s)
            for i in T.Parallel(4):
                s[I[i]] = 1
            T.copy(s, B)

    made = tilewright.compile(kernel)
    made(np.array([3, 1, 2, 0], np.int32), np.zeros(4, np.float32))
    monkeypatch.setattr(made, "_plan", lambda *args: pytest.fail("the kernel ran"))
    with refused(Kind.INDEX_RANGE, "index [1000000] is outside s"):
        made(np.array([3, 1, 1000000, 0], np.int32), np.zeros(4, np.float32))


@pytest.mark.usefixtures("checking")
def test_tensors_of_torch() -> None:
    torch = pytest.importorskip("torch")

    @T.prim_func
    def kernel(A: T.Tensor((7,), "bfloat16"), B: T.Tensor((7,), "bfloat16"), C: T.Tensor((7,), "float8_e4m3fn")):
        with T.Kernel(1):
            for i in T.Parallel(7):
                B[i] = A[i] * 2
                C[i] = A[i]

    a, b, c = torch.arange(7, dtype=torch.bfloat16), torch.zeros(7, dtype=torch.bfloat16), torch.zeros(7, dtype=torch.float8_e4m3fn)
    tilewright.compile(kernel)(a, b, c)
    assert b.tolist() == [2.0 * k for k in range(7)] and c.float().tolist() == [float(k) for k in range(7)]


def test_making_a_kernel() -> None:
    kernel = make_kernel(scale, host_target(), (2,))
    made = kernel(np.ones((40, 40), np.float32), 2.0)
    assert made.dtype == np.float16 and (made == 2).all() and made.astype(ml_dtypes.bfloat16).shape == (40, 40)


def test_a_copied_model_keeps_its_kernels() -> None:
    kernel = tilewright.compile(scale)
    assert copy.deepcopy({"forward": kernel})["forward"] is kernel
