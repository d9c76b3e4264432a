"""Which symbols an ELF object needs from outside (floor 7; System V ABI, chapter 4: object files)."""

from __future__ import annotations

import struct

_SYMBOL_TABLE_SECTION = 2  # SHT_SYMTAB
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, address, offset, size, link, info, alignment, entry size
_SYMBOL = struct.Struct("<IBBHQQ")  # name, info, other, section, value, size


def undefined_symbols(object_bytes: bytes) -> frozenset[str] | None:
    """Names that a 64-bit little-endian ELF object refers to and does not define; None for other object formats."""
    if object_bytes[:6] != b"\x7fELF\x02\x01":
        return None
    table_offset, entry_size, count = struct.unpack_from("<Q", object_bytes, 40)[0], *struct.unpack_from("<HH", object_bytes, 58)
    headers = [_SECTION_HEADER.unpack_from(object_bytes, table_offset + entry_size * n) for n in range(count)]
    names: set[str] = set()
    for header in headers:
        if header[1] == _SYMBOL_TABLE_SECTION:
            strings = headers[header[6]][4]
            for offset in range(header[4] + _SYMBOL.size, header[4] + header[5], _SYMBOL.size):  # the first entry is empty
                name, _info, _other, section, _value, _size = _SYMBOL.unpack_from(object_bytes, offset)
                if section == 0:
                    start = strings + name
                    names.add(object_bytes[start : object_bytes.index(b"\0", start)].decode())
    return frozenset(names)
