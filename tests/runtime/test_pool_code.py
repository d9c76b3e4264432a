"""The pool's IR is sound for every processor and way to sleep, also those that these tests cannot run on."""

from __future__ import annotations

import llvmlite.binding as llvm
import pytest

from tilewright.runtime.pool_code import C_LIBRARY_SYMBOLS, pool_code
from tilewright.runtime.pool_platform import Parking, parking_symbols

TRIPLES = [
    ("x86_64", "x86_64-unknown-linux-gnu", Parking.FUTEX),
    ("x86_64", "x86_64-apple-macosx", Parking.PTHREAD),
    ("x86_64", "x86_64-pc-windows-msvc", Parking.NONE),
    ("aarch64", "aarch64-unknown-linux-gnu", Parking.FUTEX),
    ("aarch64", "arm64-apple-macosx", Parking.PTHREAD),
    ("s390x", "s390x-unknown-linux-gnu", Parking.PTHREAD),
]


@pytest.mark.parametrize(("machine", "triple", "parking"), TRIPLES, ids=[triple for _, triple, _ in TRIPLES])
def test_code_compiles_and_calls_only_what_is_imported(machine: str, triple: str, parking: Parking) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(pool_code(machine, parking))
    module.verify()
    module.triple = triple
    assert llvm.Target.from_triple(triple).create_target_machine().emit_object(module)
    declared = {function.name for function in module.functions if function.is_declaration and not function.name.startswith("llvm.")}
    assert declared == {*C_LIBRARY_SYMBOLS, *parking_symbols(parking)}


def test_code_is_deterministic() -> None:
    assert pool_code("x86_64", Parking.FUTEX) == pool_code("x86_64", Parking.FUTEX)
