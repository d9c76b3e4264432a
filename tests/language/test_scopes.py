"""Values and tiles are accepted where they exist. What is refused is in tests/errors/programs/out-of-scope__*.py."""

from __future__ import annotations

import pytest

import tilewright.language as T
from tilewright.errors import Kind, TileError
from tilewright.ir.program import Program
from tilewright.language.function import PrimFunc
from tilewright.language.scopes import check_scopes


def accepted(kernel: PrimFunc) -> Program:
    """Tracing has run the check already; a second run finds nothing either."""
    check_scopes(kernel.program)
    return kernel.program


def test_values_computed_in_a_block_are_used_in_it() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "int32")):
        with T.Kernel(4) as bx:
            s = T.alloc_shared((16,), "float32")
            T.copy(X[bx * 16], s)
            first = s[0]
            previous = T.atomic_add(Y[bx], 1, return_prev=True)
            has_any = T.any_of(s)
            for i in range(16):
                element = s[i]
                if has_any:
                    Y[bx * 16 + i] = T.cast(element + first, "int32") + previous

    assert len(accepted(kernel).launches) == 1


def test_symbols_of_shapes_strides_and_scalars_are_known_everywhere() -> None:
    m, ld = T.dynamic("m, ld")

    @T.prim_func
    def kernel(X: T.StridedTensor((m * 2, 8), (ld, 1), "float32"), n: T.int32, p: T.ptr):
        assert n > 0
        w = T.alloc_global((m, n), "float32")
        Z = T.empty((m + n,), "float32")
        with T.Kernel(T.ceildiv(m, 16), n) as (bx, by):
            P = T.make_tensor(p, (m, ld), "float32")
            for i, j in T.Parallel(m, n):
                w[i, j] = X[i, 0] + P[i, ld - 1]
            Z[bx + by] = 0
        return Z

    assert len(accepted(kernel).workspaces) == 1


def test_views_belong_to_the_launch_of_their_tile() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((64,), "float32")):
        with T.Kernel(1):
            s = T.alloc_shared((64,), "float32")
            flat = T.reshape(T.view(s, (8, 8)), (64,))
            T.copy(X, flat)
            T.copy(T.view(X, (8, 8)), T.view(s, (8, 8)))

    accepted(kernel)


def test_workspaces_join_launches_and_persistent_loops_have_coordinates() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((8, 8), "float32")):
        w = T.alloc_global((8, 8), "float32")
        with T.Kernel(2) as bx:
            for i, j in T.Persistent([8, 8], 2, bx):
                w[i, j] = X[i, j]
        with T.Kernel(2) as bx:
            for i, j in T.Persistent([8, 8], 2, bx):
                X[i, j] = w[i, j]

    assert len(accepted(kernel).launches) == 2


def test_two_loops_may_use_one_name() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((64,), "float32")):
        with T.Kernel(1):
            for i in range(32):
                X[i] = 0
            for i in range(32, 64):
                X[i] = 1

    accepted(kernel)


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        (lambda kept, X: X.__setitem__(0, kept["let"]), Kind.OUT_OF_SCOPE),
        (lambda kept, X: X.__setitem__(kept["index"], 0), Kind.OUT_OF_SCOPE),
        (lambda kept, X: T.clear(X[kept["index"] : kept["index"] + 4]), Kind.OUT_OF_SCOPE),
        (lambda kept, X: T.fill(X, kept["previous"]), Kind.OUT_OF_SCOPE),
        (lambda kept, X: X.__setitem__(0, T.float32()), Kind.UNBOUND_SYMBOL),
    ],
)
def test_what_a_block_made_is_refused_after_it(use, kind: Kind) -> None:
    kept = {}

    def keep(**values):
        kept.update(values)

    with pytest.raises(TileError) as caught:

        @T.prim_func
        def kernel(X: T.Tensor((64,), "float32")):
            with T.Kernel(1):
                for i in range(4):
                    x = X[i]
                    keep(index=i, let=x, previous=T.atomic_add(X[i], 1, return_prev=True))
                use(kept, X)

    assert caught.value.diagnostic.kind is kind
