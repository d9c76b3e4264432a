"""Stub IR is one text per signature, and stubs are refused wherever the object layout is not the known one."""

from __future__ import annotations

import sys
import sysconfig

import llvmlite.binding as llvm
import numpy as np
import pytest

from tilewright.runtime import stub_code as module
from tilewright.runtime.launch_signature import DataPointer, LaunchSignature, TensorArgument
from tilewright.runtime.stub_code import layout_obstacle, stub_code, symbol_addresses

SIGNATURE = LaunchSignature((TensorArgument(np.dtype(np.float32), ("n", 3), True, 64, (None, 1)),) * 2, (DataPointer(0), DataPointer(1)))


def test_code_holds_no_address_and_names_only_known_symbols() -> None:
    code = stub_code(SIGNATURE)
    parsed = llvm.parse_assembly(code)
    parsed.verify()
    addresses = symbol_addresses(SIGNATURE)
    assert not any(str(address) in code for address in addresses.values())
    wanted = {function.name for function in parsed.functions if function.is_declaration and not function.name.startswith("llvm.")}
    wanted |= {variable.name for variable in parsed.global_variables}
    assert wanted == set(addresses)


def test_this_python_has_the_known_layout() -> None:
    is_known = sys.implementation.name == "cpython" and sys.version_info < (3, 15) and not sysconfig.get_config_var("Py_GIL_DISABLED")
    assert (layout_obstacle() is None) == is_known


def test_other_pythons_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", (3, 15, 0))
        assert "was not checked" in str(layout_obstacle())
    with monkeypatch.context() as patch:
        patch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
        assert "free-threaded" in str(layout_obstacle())


@pytest.mark.parametrize("field", ["_TYPE_OFFSET", "_RANK_OFFSET", "_DATA_OFFSET", "_DTYPE_OFFSET", "_FLAGS_OFFSET"])
def test_a_moved_field_is_noticed(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setattr(module, field, 48)  # `base` of an array, the value or nothing of other objects
    assert "not where it was expected" in str(layout_obstacle())
