"""Keys are the same everywhere and never run together; a file is either exactly an entry or refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright import cache_entry
from tilewright.cache_entry import DamagedEntryError, cache_key, decode_entry, encode_entry

ROOT = Path(cache_entry.__file__).parents[1]
KEY = cache_key({"source": "kernel"})
SECTIONS = {"cubin": b"\x7fELF" + bytes(range(60)), "metadata": b'{"registers": 64}', "empty": b""}
PARTS = st.dictionaries(st.text(max_size=4), st.one_of(st.text(max_size=4), st.binary(max_size=4)), max_size=4)


def test_key_is_the_hash_of_the_length_prefixed_parts() -> None:
    one = bytes([1, 0, 0, 0, 0, 0, 0, 0])
    encoded = b"tilewright cache key 1, 2 parts\n" + one + b"a" + one + b"s" + one + b"1" + one + b"b" + one + b"b" + one + b"\x00"
    assert cache_key({"b": b"\x00", "a": "1"}) == hashlib.sha256(encoded).hexdigest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "bc"}, {"ab": "c"}),
        ({"a": "b", "c": "d"}, {"a": "bc", "": "d"}),
        ({"source": "x", "target": "yz"}, {"source": "xy", "target": "z"}),
        ({"a": "x"}, {"a": b"x"}),
        ({"a": ""}, {}),
        ({"a": "", "b": ""}, {"a": "b"}),
        ({"a": "b"}, {"b": "a"}),
        ({"a": "\ud83d\ude00"}, {"a": "\U0001f600"}),
        ({"a": "x\x00"}, {"a": "x"}),
    ],
)
def test_parts_that_concatenate_equally_have_different_keys(one: dict[str, str | bytes], other: dict[str, str | bytes]) -> None:
    assert cache_key(one) != cache_key(other)


@settings(max_examples=200, deadline=None)
@given(PARTS, PARTS)
def test_keys_are_equal_exactly_when_the_parts_are(one: dict[str, str | bytes], other: dict[str, str | bytes]) -> None:
    assert (cache_key(one) == cache_key(other)) == (one == other)
    assert cache_key(dict(reversed(one.items()))) == cache_key(one)


def test_key_refuses_values_that_are_not_text_or_bytes() -> None:
    with pytest.raises(TypeError, match="'threads'"):
        cache_key({"threads": 128})  # type: ignore[dict-item]


def test_key_is_equal_across_processes_hash_seeds_and_dict_orders() -> None:
    script = """
import sys
from tilewright.cache_entry import cache_key
names = [f"part {i}" for i in range(40)]
parts = {name: name.encode() * 3 if i % 2 else name for i, name in enumerate(names)}
order = {"forward": names, "backward": names[::-1], "hash": sorted(names, key=hash)}[sys.argv[1]]
print(cache_key({name: parts[name] for name in order}))
"""
    keys = set()
    for seed, order in (("0", "forward"), ("1", "backward"), ("1234", "hash"), ("random", "hash")):
        child_environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", script, order], env=child_environment, capture_output=True, text=True, check=True)
        keys.add(run.stdout.strip())
    names = [f"part {i}" for i in range(40)]
    keys.add(cache_key({name: name.encode() * 3 if i % 2 else name for i, name in enumerate(names)}))
    assert len(keys) == 1


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True), st.binary(max_size=200), max_size=5))
def test_decoding_gives_back_what_was_encoded(sections: dict[str, bytes]) -> None:
    data = encode_entry(KEY, sections)
    assert decode_entry(KEY, data) == sections
    assert encode_entry(KEY, dict(reversed(sections.items()))) == data


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "a\n", "\ud800"])
def test_section_names_are_plain(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a section"):
        encode_entry(KEY, {name: b""})


def test_every_single_bit_flip_truncation_and_extension_is_found() -> None:
    data = encode_entry(KEY, SECTIONS)
    damaged = [data[:size_bytes] for size_bytes in range(len(data))]
    damaged += [data + bytes([byte]) for byte in range(256)] + [b"\x00" + data, data + data]
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            damaged.append(bytes(flipped))
    assert len(damaged) > 9 * len(data)
    for wrong in damaged:
        with pytest.raises(DamagedEntryError):
            decode_entry(KEY, wrong)


def test_the_entry_of_another_key_is_refused() -> None:
    with pytest.raises(DamagedEntryError, match="another key"):
        decode_entry(cache_key({"source": "other"}), encode_entry(KEY, SECTIONS))


def test_another_format_version_is_refused() -> None:
    content = encode_entry(KEY, SECTIONS)[:-32].replace(b"tilewright cache 1\n", b"tilewright cache 2\n")
    with pytest.raises(DamagedEntryError, match="format version 1"):
        decode_entry(KEY, content + hashlib.sha256(content).digest())


HEADERS_THAT_LIE = {
    "list": b"[]",
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"key":"\xff"}',
    "no sections": json.dumps({"key": KEY}).encode(),
    "spaces": json.dumps({"key": KEY, "sections": [["a", 8]]}).encode(),
    "too long": json.dumps({"key": KEY, "sections": [["a", 9]]}, separators=(",", ":")).encode(),
    "too short": json.dumps({"key": KEY, "sections": [["a", 7]]}, separators=(",", ":")).encode(),
    "negative": json.dumps({"key": KEY, "sections": [["a", -1], ["b", 9]]}, separators=(",", ":")).encode(),
    "fraction": json.dumps({"key": KEY, "sections": [["a", 8.0]]}, separators=(",", ":")).encode(),
    "boolean": json.dumps({"key": KEY, "sections": [["a", 7], ["b", True]]}, separators=(",", ":")).encode(),
    "twice": json.dumps({"key": KEY, "sections": [["a", 4], ["a", 4]]}, separators=(",", ":")).encode(),
    "unsorted": json.dumps({"key": KEY, "sections": [["b", 4], ["a", 4]]}, separators=(",", ":")).encode(),
    "name is a number": json.dumps({"key": KEY, "sections": [[1, 8]]}, separators=(",", ":")).encode(),
    "name with a slash": json.dumps({"key": KEY, "sections": [["../a", 8]]}, separators=(",", ":")).encode(),
    "extra field": json.dumps({"key": KEY, "sections": [["a", 8]], "z": 0}, separators=(",", ":")).encode(),
    "deep": b"[" * 100_000,
    "huge number": b'{"key":"' + KEY.encode() + b'","sections":[["a",' + b"9" * 5000 + b"]]}",
    "triple": json.dumps({"key": KEY, "sections": [["a", 8, 0]]}, separators=(",", ":")).encode(),
}


@pytest.mark.parametrize("name", HEADERS_THAT_LIE)
def test_a_header_that_lies_is_refused_though_the_checksum_fits(name: str) -> None:
    header = HEADERS_THAT_LIE[name]
    content = b"tilewright cache 1\n" + len(header).to_bytes(4, "little") + header + b"12345678"
    with pytest.raises(DamagedEntryError):
        decode_entry(KEY, content + hashlib.sha256(content).digest())


def test_the_written_layout_is_the_documented_one() -> None:
    header = json.dumps({"key": KEY, "sections": [["a", 8]]}, separators=(",", ":")).encode()
    content = b"tilewright cache 1\n" + len(header).to_bytes(4, "little") + header + b"12345678"
    assert encode_entry(KEY, {"a": b"12345678"}) == content + hashlib.sha256(content).digest()


@pytest.mark.parametrize("header_length_bytes", [0, 1, 1 << 31, (1 << 32) - 1])
def test_a_header_length_that_lies_is_refused(header_length_bytes: int) -> None:
    content = b"tilewright cache 1\n" + header_length_bytes.to_bytes(4, "little") + encode_entry(KEY, SECTIONS)[23:-32]
    with pytest.raises(DamagedEntryError):
        decode_entry(KEY, content + hashlib.sha256(content).digest())
