# SPDX-License-Identifier: Apache-2.0
"""Reads BTF, the type information inside a BPF object.

An object's BTF (some hundred types) is walked once and indexed by name. Of the kernel's (5 MB,
100 000 types) we only ask whether it is there: libbpf reads it when programs are loaded.

Format: Documentation/bpf/btf.rst of the kernel. Little-endian only, like the machines we run on.
Malformed bytes raise BtfError, a name that is not there LookupError.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Btf", "BtfError", "Field", "Variable", "elf_section", "is_btf"]

_MAGIC: Final = 0xEB9F
_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")  # name, info, size or type
_ARRAY: Final = struct.Struct("<III")  # element type, index type, elements
_MEMBER: Final = struct.Struct("<III")  # name, type, offset in bits
_ENUM: Final = struct.Struct("<II")  # name, value
_ENUM64: Final = struct.Struct("<III")  # name, low, high
_SECTION_VARIABLE: Final = struct.Struct("<III")  # type, offset, size
_ELF_SECTION: Final = struct.Struct(
    "<IIQQQQ"
)  # name, type, flags, address, offset, size
# Deeper chains of typedef, const and volatile than this are a loop.
_MAX_MODIFIERS: Final = 32


class BtfError(ValueError):
    """The bytes are no BTF (or no ELF file), or BTF of a kind that we never write."""


class _Kind(IntEnum):
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# Bytes after a type's header: fixed, or for each of its members.
_FIXED_TAIL: Final = {_Kind.INT: 4, _Kind.ARRAY: 12, _Kind.VAR: 4, _Kind.DECL_TAG: 4}
_MEMBER_TAIL: Final = {
    _Kind.STRUCT: 12,
    _Kind.UNION: 12,
    _Kind.ENUM: 8,
    _Kind.FUNC_PROTO: 8,
    _Kind.DATASEC: 12,
    _Kind.ENUM64: 12,
}
_MODIFIERS: Final = frozenset(
    {
        _Kind.TYPEDEF,
        _Kind.VOLATILE,
        _Kind.CONST,
        _Kind.RESTRICT,
        _Kind.TYPE_TAG,
    }
)


class Field(NamedTuple):
    """Where a number, an enum or an array of them lies in its struct; in bytes."""

    offset: int
    size: int  # of one element
    elements: int  # of an array; 0: it is none


class Variable(NamedTuple):
    """Where a global variable lies in its section; in bytes."""

    offset: int
    size: int


class _Type(NamedTuple):
    name: int
    info: int
    size_or_type: int
    tail: int

    @property
    def kind(self) -> int:
        return self.info >> 24 & 0x1F

    @property
    def members(self) -> int:
        return self.info & 0xFFFF

    @property
    def flag(self) -> bool:
        return bool(self.info >> 31)


_VOID: Final = _Type(0, 0, 0, 0)


class Btf:
    """The types of one BPF object, by name."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        types, strings = _sections(data)
        self._strings = strings
        self._types = [_VOID]
        self._by_name: dict[tuple[int, str], _Type] = {}
        at = types.start
        try:
            while at < types.stop:
                name, info, size_or_type = _TYPE.unpack_from(data, at)
                at += _TYPE.size
                parsed = _Type(name, info, size_or_type, at)
                kind = _Kind(parsed.kind)
                at += _FIXED_TAIL.get(kind, 0)
                at += _MEMBER_TAIL.get(kind, 0) * parsed.members
                self._types.append(parsed)
                if name:
                    self._by_name.setdefault((kind, self._string(name)), parsed)
        except (struct.error, ValueError) as error:
            raise BtfError(f"BTF is cut off or of an unknown kind: {error}") from error
        if at != types.stop:
            raise BtfError("BTF ends within a type")

    @classmethod
    def from_elf(cls, data: bytes) -> Btf:
        """Of a compiled object; raises BtfError when it has none."""
        return cls(elf_section(data, ".BTF"))

    def struct_size(self, name: str) -> int:
        """In bytes."""
        return self._named(name, _Kind.STRUCT).size_or_type

    def field(self, struct_name: str, path: str) -> Field:
        """Of a member, "key.signature" for one of a struct inside the struct."""
        current = self._named(struct_name, _Kind.STRUCT)
        offset = 0
        for name in path.split("."):
            if current.kind != _Kind.STRUCT:
                raise LookupError(f"struct {struct_name} has no member {path}")
            inner, current = self._member(current, name, struct_name)
            offset += inner
        return self._leaf(current, offset, f"{struct_name}.{path}")

    def enum(self, name: str) -> dict[str, int]:
        """Values by name, of a 32-bit or 64-bit enum."""
        found = self._named(name, _Kind.ENUM, _Kind.ENUM64)
        values: dict[str, int] = {}
        for i in range(found.members):
            if found.kind == _Kind.ENUM64:
                word, low, high = _ENUM64.unpack_from(
                    self._data, found.tail + i * _ENUM64.size
                )
                value, bits = low | high << 32, 64
            else:
                word, value = _ENUM.unpack_from(self._data, found.tail + i * _ENUM.size)
                bits = 32
            if found.flag and value >> (bits - 1):
                value -= 1 << bits
            values[self._string(word)] = value
        return values

    def variables(self, section: str) -> dict[str, Variable]:
        """Of a data section such as ".rodata".

        A compiler leaves the offsets open: only libbpf's copy of an object's BTF has them.
        """
        found = self._named(section, _Kind.DATASEC)
        variables: dict[str, Variable] = {}
        for i in range(found.members):
            type_id, offset, size = _SECTION_VARIABLE.unpack_from(
                self._data, found.tail + i * _SECTION_VARIABLE.size
            )
            variables[self._string(self._type(type_id).name)] = Variable(offset, size)
        return variables

    def _named(self, name: str, *kinds: _Kind) -> _Type:
        for kind in kinds:
            found = self._by_name.get((kind, name))
            if found is not None:
                return found
        raise LookupError(f"no {kinds[0].name.lower()} {name}")

    def _member(self, outer: _Type, wanted: str, shown: str) -> tuple[int, _Type]:
        for i in range(outer.members):
            name, type_id, place = _MEMBER.unpack_from(
                self._data, outer.tail + i * _MEMBER.size
            )
            if self._string(name) != wanted:
                continue
            bit_offset, bit_field = (
                (place & 0xFFFFFF, place >> 24) if outer.flag else (place, 0)
            )
            if bit_field or bit_offset % 8:
                raise BtfError(f"{shown}.{wanted} is a bit field")
            return bit_offset // 8, self._resolve(type_id)
        raise LookupError(f"struct {shown} has no member {wanted}")

    def _leaf(self, found: _Type, offset: int, shown: str) -> Field:
        count = 0
        if found.kind == _Kind.ARRAY:
            element, _index, count = _ARRAY.unpack_from(self._data, found.tail)
            found = self._resolve(element)
        if found.kind not in (_Kind.INT, _Kind.ENUM, _Kind.ENUM64):
            raise BtfError(f"{shown} is neither a number nor an array of numbers")
        return Field(offset, found.size_or_type, count)

    def _resolve(self, type_id: int) -> _Type:
        for _ in range(_MAX_MODIFIERS):
            found = self._type(type_id)
            if found.kind not in _MODIFIERS:
                return found
            type_id = found.size_or_type
        raise BtfError(f"type {type_id} refers to itself")

    def _type(self, type_id: int) -> _Type:
        try:
            return self._types[type_id]
        except IndexError:
            raise BtfError(f"no type {type_id}") from None

    def _string(self, offset: int) -> str:
        start = self._strings.start + offset
        end = self._data.find(b"\0", start, self._strings.stop)
        if end < 0:
            raise BtfError(f"no string at {offset}")
        return self._data[start:end].decode(errors="replace")


def is_btf(path: Path) -> bool:
    """Whether a raw BTF file such as /sys/kernel/btf/vmlinux is there."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
    except OSError:
        return False
    return len(head) == _HEADER.size and _HEADER.unpack(head)[0] == _MAGIC


def _sections(data: bytes) -> tuple[range, range]:
    """Where types and strings lie."""
    if len(data) < _HEADER.size:
        raise BtfError("too short for BTF")
    magic, _version, _flags, header, type_at, type_size, string_at, string_size = (
        _HEADER.unpack_from(data)
    )
    if magic != _MAGIC:
        raise BtfError(f"no BTF: it begins with {magic:#06x}")
    types = range(header + type_at, header + type_at + type_size)
    strings = range(header + string_at, header + string_at + string_size)
    if max(types.stop, strings.stop) > len(data):
        raise BtfError("BTF is cut off")
    return types, strings


def elf_section(data: bytes, name: str) -> bytes:
    """A section of a 64-bit little-endian ELF file."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise BtfError("no 64-bit little-endian ELF file")
    try:
        (table,) = struct.unpack_from("<Q", data, 0x28)
        entry_size, entries, names_index = struct.unpack_from("<HHH", data, 0x3A)
        headers = [
            _ELF_SECTION.unpack_from(data, table + i * entry_size)
            for i in range(entries)
        ]
        names_at = headers[names_index][4]
    except (struct.error, IndexError) as error:
        raise BtfError(f"the ELF file is cut off: {error}") from error
    wanted = name.encode() + b"\0"
    for header in headers:
        if data.startswith(wanted, names_at + header[0]):
            offset, size = header[4:6]
            if offset + size > len(data):
                raise BtfError(f"section {name} is cut off")
            return data[offset : offset + size]
    raise BtfError(f"the ELF file has no section {name}")
