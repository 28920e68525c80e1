# SPDX-License-Identifier: Apache-2.0
"""Writes BTF by hand, so that tests can hold what no compiler of ours emits."""

from __future__ import annotations

import struct

INT, PTR, ARRAY, STRUCT, ENUM, TYPEDEF, CONST = 1, 2, 3, 4, 6, 8, 10
VAR, DATASEC, ENUM64 = 14, 15, 19
FLAG = 1 << 31


class BtfWriter:
    """Types are numbered from 1, in the order of the calls."""

    def __init__(self) -> None:
        self._types = b""
        self._strings = b"\0"
        self._count = 0

    def string(self, text: str) -> int:
        """The offset of a string that is now there."""
        at = len(self._strings)
        self._strings += text.encode() + b"\0"
        return at

    def add(
        self, kind: int, name: str, size_or_type: int, tail: bytes = b"", info: int = 0
    ) -> int:
        """The new type's number; info: how many members, and the flag."""
        number = self.string(name) if name else 0
        self._types += struct.pack("<III", number, kind << 24 | info, size_or_type)
        self._types += tail
        self._count += 1
        return self._count

    def integer(self, name: str, size: int) -> int:
        return self.add(INT, name, size, struct.pack("<I", size * 8))

    def array(self, element: int, count: int) -> int:
        return self.add(ARRAY, "", 0, struct.pack("<III", element, element, count))

    def structure(
        self, name: str, size: int, members: list[tuple[str, int, int]], flag: int = 0
    ) -> int:
        """Members: name, type, the word that holds the offset in bits."""
        tail = b"".join(
            struct.pack("<III", self.string(member), of, place)
            for member, of, place in members
        )
        return self.add(STRUCT, name, size, tail, len(members) | flag)

    def bytes(self) -> bytes:
        header = struct.pack(
            "<HBBIIIII",
            0xEB9F,
            1,
            0,
            24,
            0,
            len(self._types),
            len(self._types),
            len(self._strings),
        )
        return header + self._types + self._strings
