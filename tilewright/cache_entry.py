"""What an entry of the disk cache is: the key that names it and the bytes of its file (floor 0; pure, touches no file).

The file, in this order:

    magic            b"tilewright cache <format version>\\n"
    header length    4 bytes, little endian
    header           canonical JSON: {"key": "<64 hex digits>", "sections": [["<name>", <length in bytes>], ...]}
    sections         their bytes, one after another, ordered by name
    footer           sha256 of everything above, 32 bytes
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

FORMAT_VERSION = 1

_MAGIC = f"tilewright cache {FORMAT_VERSION}\n".encode()
_HEADER_START = len(_MAGIC) + 4
_FOOTER_BYTES = hashlib.sha256().digest_size
_SECTION_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class DamagedEntryError(Exception):
    """The bytes are not the entry that was asked for; the text says which check failed."""


def cache_key(parts: Mapping[str, str | bytes]) -> str:
    """The content address of an artifact: 64 hex digits, the sha256 over the named `parts` it is made from.

    The same in every process and for every order of `parts`. Names, values and the kind of each value are length-prefixed, so different
    parts never run together into the same bytes. Strings count as UTF-8, lone surrogates included.

    Raises `TypeError` for a value that is neither `str` nor `bytes`.
    """
    digest = hashlib.sha256(f"tilewright cache key 1, {len(parts)} parts\n".encode())
    for name, value in sorted(parts.items()):
        if not isinstance(value, (str, bytes)):
            raise TypeError(f"part {name!r} of a cache key is a {type(value).__name__}, not str or bytes")
        kind = b"s" if isinstance(value, str) else b"b"
        for field in (name, kind, value):
            data = field.encode("utf-8", "surrogatepass") if isinstance(field, str) else field
            digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def encode_entry(key: str, sections: Mapping[str, bytes]) -> bytes:
    """The bytes of an entry's file; equal sections give equal bytes. Raises `ValueError` for a section name outside [A-Za-z0-9_.-]."""
    content = _encode_content(key, sections)
    return content + hashlib.sha256(content).digest()


def decode_entry(key: str, data: bytes) -> dict[str, bytes]:
    """The sections of the entry `key`, ordered by name, if `data` is that entry and intact; raises `DamagedEntryError` otherwise."""
    if not data.startswith(_MAGIC):
        raise DamagedEntryError(f"does not start with the mark of format version {FORMAT_VERSION}")
    if hashlib.sha256(memoryview(data)[:-_FOOTER_BYTES]).digest() != data[-_FOOTER_BYTES:]:
        raise DamagedEntryError("the checksum does not fit the content")
    position = _HEADER_START + int.from_bytes(data[len(_MAGIC) : _HEADER_START], "little")
    try:
        fields = json.loads(data[_HEADER_START:position])
        if fields["key"] != key:
            raise DamagedEntryError("holds the entry of another key")
        sections: dict[str, bytes] = {}
        for name, length_bytes in fields["sections"]:
            sections[name] = data[position : position + length_bytes]
            position += length_bytes
        # The checksum fits, so some program wrote this file whole. It must be, byte for byte, what this one would have written.
        content = _encode_content(key, sections)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DamagedEntryError("the header cannot be understood") from error
    if len(content) + _FOOTER_BYTES != len(data) or not data.startswith(content):
        raise DamagedEntryError("the header does not describe the content")
    return sections


def _encode_content(key: str, sections: Mapping[str, bytes]) -> bytes:
    """Everything but the footer."""
    for name in sections:
        if not _SECTION_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a section of a cache entry")
    ordered = sorted(sections.items())
    fields = {"key": key, "sections": [(name, len(data)) for name, data in ordered]}
    header = json.dumps(fields, separators=(",", ":")).encode()
    return b"".join([_MAGIC, len(header).to_bytes(_HEADER_START - len(_MAGIC), "little"), header, *(data for _, data in ordered)])
