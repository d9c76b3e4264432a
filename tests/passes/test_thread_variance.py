"""What differs between the threads of a block."""

from __future__ import annotations

import tilewright.language as T
from tilewright.ir.program import Launch
from tilewright.ir.stmt import For, If, Let, While
from tilewright.ir.visit import statements
from tilewright.passes.thread_variance import Variance, is_cooperative, is_thread_operation


@T.prim_func
def mixed(X: T.Tensor((64,), "int32"), Y: T.Tensor((64,), "int32")):
    with T.Kernel(4, threads=(64, 1)) as b:
        tx = T.get_thread_binding(0)
        tile = T.alloc_shared((64,), "int32")
        own = T.alloc_local((2,), "int32")
        shared_count = T.alloc_var("int32", init=X[b])
        own_count = T.alloc_var("int32", init=X[tx])
        stepped = T.alloc_var("int32", init=0)
        T.clear(own)
        T.copy(X, tile)
        while shared_count > 0:
            shared_count -= 1
        for _ in T.serial(own_count):
            stepped += 1
        for k in T.serial(5):
            if X[k] > own_count:
                break
            own[0] += 1
        one = tile[3]
        mine = tile[tx]
        votes = T.syncthreads_count(mine > 0)
        Y[tx] = one + mine + votes


LAUNCH: Launch = mixed.program.launches[0]
VARIANCE = Variance(LAUNCH)


def test_memory_differs_by_what_is_stored_and_by_who_stores_it() -> None:
    names = {b.name for b in VARIANCE.buffers}
    assert names == {"own_count", "stepped", "own"}


def test_names_and_choices_differ_by_what_they_read() -> None:
    made = {s.variable.name: VARIANCE.is_varying(s.variable) for s in statements(LAUNCH.body) if isinstance(s, Let)}
    assert made["one"] is False and made["mine"] is True
    loops = [VARIANCE.splits(s) for s in statements(LAUNCH.body) if isinstance(s, (For, While))]
    assert loops == [False, True, True]  # the last one because of its `break`
    assert all(VARIANCE.splits(s) for s in statements(LAUNCH.body) if isinstance(s, If))
    assert not VARIANCE.is_varying(LAUNCH.thread_variables[1]) and VARIANCE.is_varying(LAUNCH.thread_variables[0])


def test_operations_on_thread_memory_belong_to_threads() -> None:
    operations = [s for s in statements(LAUNCH.body) if type(s).__name__ in ("Fill", "Copy")]
    assert [is_thread_operation(s) for s in operations] == [True, False] and [is_cooperative(s) for s in operations] == [False, True]


def test_what_a_branch_computes_is_not_known_everywhere() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((64,), "int32"), Y: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((64,), "int32")
            outer = X[tx]
            if tx < 3:
                inner = X[tx] + outer
                Y[tx] = inner + s[tx]

    launch = kernel.program.launches[0]
    variance = Variance(launch)
    outer, inner = (s for s in statements(launch.body) if isinstance(s, Let))
    assert variance.is_known_everywhere(outer.variable) and variance.is_known_everywhere(inner.value) and not variance.is_known_everywhere(inner.variable)
