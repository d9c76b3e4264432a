"""Compiler switches of TileLang programs."""

from __future__ import annotations

from tilewright.pass_configs import PassConfigKey


def test_keys_are_strings() -> None:
    assert PassConfigKey.TL_ENABLE_FAST_MATH == "tl.enable_fast_math" and {"tl.enable_fast_math": 1}[PassConfigKey.TL_ENABLE_FAST_MATH] == 1
    assert PassConfigKey("tl.disable_warp_specialized") is PassConfigKey.TL_DISABLE_WARP_SPECIALIZED
    assert all(isinstance(key, str) and "." in key.value for key in PassConfigKey) and len({key.value for key in PassConfigKey}) == len(
        PassConfigKey.__members__
    )
