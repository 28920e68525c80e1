# SPDX-License-Identifier: Apache-2.0
"""The deepest call chain of each program of a BPF object, as older verifiers count its stack.

    python3 script/call_depth.py OBJECT

Prints a line a program: bytes, functions of the longest chain, and the chain of those bytes. A
function's frame is what it reads and writes below the frame pointer, in steps of 32 bytes (16 since
Linux 6.4); a callback counts as called by the function that names it. Reads the object's ELF
itself, so that the build needs nothing more.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Depth", "call_depths"]

STEP_BYTES = 32
FRAME_POINTER = 10
# Of an instruction's first byte: class, and the whole of those that are looked at.
CLASS, LDX, ST, STX = 0x07, 0x01, 0x02, 0x03
CALL, LOAD_64, ADD_CONSTANT, MOVE = 0x85, 0x18, 0x07, 0xBF
CALL_FUNCTION = 1  # the source register of a call within the object
SYMBOLS, RELOCATIONS, FUNCTION = 2, 9, 2  # SHT_SYMTAB, SHT_REL, STT_FUNC

Place = tuple[int, int]  # section, offset


class Depth(NamedTuple):
    """Of a function and all that it calls; the chain is that of the bytes."""

    stack_bytes: int
    functions: int
    chain: tuple[str, ...]


class _Section(NamedTuple):
    kind: int
    offset: int
    size: int
    link: int
    info: int


class _Symbol(NamedTuple):
    name: str
    kind: int
    place: Place
    size: int


class _Function(NamedTuple):
    name: str
    frame_bytes: int
    calls: frozenset[Place]


class _Elf:
    """Sections, symbols and relocations of a little-endian 64-bit object."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        (at,) = struct.unpack_from("<Q", data, 40)
        size, count, _ = struct.unpack_from("<HHH", data, 58)
        self.sections = []
        for i in range(count):
            _, kind, _, _, offset, length, link, info, _, _ = struct.unpack_from(
                "<IIQQQQIIQQ", data, at + i * size
            )
            self.sections.append(_Section(kind, offset, length, link, info))
        self.symbols = list(self._read_symbols())

    def body(self, number: int) -> bytes:
        section = self.sections[number]
        return self._data[section.offset : section.offset + section.size]

    def relocations(self) -> dict[Place, _Symbol]:
        """The symbol that each relocated instruction is about."""
        return {
            (section.info, offset): self.symbols[info >> 32]
            for number, section in enumerate(self.sections)
            if section.kind == RELOCATIONS
            for offset, info in struct.iter_unpack("<QQ", self.body(number))
        }

    def _read_symbols(self) -> Iterator[_Symbol]:
        for number, section in enumerate(self.sections):
            if section.kind != SYMBOLS:
                continue
            names = self.body(section.link)
            for name, info, _, where, value, size in struct.iter_unpack(
                "<IBBHQQ", self.body(number)
            ):
                text = names[name : names.index(b"\0", name)].decode()
                yield _Symbol(text, info & 15, (where, value), size)


def call_depths(data: bytes) -> dict[str, Depth]:
    """By program: a function that no other one calls."""
    elf = _Elf(data)
    relocations = elf.relocations()
    functions = {
        symbol.place: _function(elf, symbol, relocations)
        for symbol in elf.symbols
        if symbol.kind == FUNCTION
    }
    called = {place for one in functions.values() for place in one.calls}
    return {
        one.name: _depth(functions, place)
        for place, one in functions.items()
        if place not in called
    }


def _function(
    elf: _Elf, symbol: _Symbol, relocations: dict[Place, _Symbol]
) -> _Function:
    section, start = symbol.place
    places = {one.place for one in elf.symbols if one.kind == FUNCTION}
    code = elf.body(section)[start : start + symbol.size]
    deepest, calls = 1, set()
    at_frame: set[int] = set()  # registers that hold the frame pointer
    for at in range(0, len(code), 8):
        op, registers, offset, constant = struct.unpack_from("<BBhi", code, at)
        target, source = registers & 15, registers >> 4
        here = section, start + at
        if op == CALL and source == CALL_FUNCTION:
            calls.add(_called(here, constant, relocations.get(here)))
        elif op == LOAD_64 and here in relocations:  # a callback's address
            about = relocations[here]
            place = about.place
            calls.add(place if about.kind == FUNCTION else (place[0], constant))
        if op & CLASS in (ST, STX) and target == FRAME_POINTER:
            deepest = max(deepest, -offset)
        if op & CLASS == LDX and source == FRAME_POINTER:
            deepest = max(deepest, -offset)
        if op == MOVE:
            at_frame.discard(target)
            if source == FRAME_POINTER:
                at_frame.add(target)
        elif op == ADD_CONSTANT and target in at_frame:
            deepest = max(deepest, -constant)
            at_frame.discard(target)
    frame_bytes = -(-deepest // STEP_BYTES) * STEP_BYTES
    return _Function(symbol.name, frame_bytes, frozenset(calls & places))


def _called(here: Place, constant: int, about: _Symbol | None) -> Place:
    """A function of its own name, a place in a section, or so many instructions further on."""
    if about is None:
        return here[0], here[1] + (constant + 1) * 8
    if about.kind == FUNCTION:
        return about.place
    return about.place[0], (constant + 1) * 8


def _depth(functions: dict[Place, _Function], place: Place) -> Depth:
    one = functions[place]
    below = [_depth(functions, called) for called in one.calls if called != place]
    deepest = max(below, default=Depth(0, 0, ()))
    return Depth(
        one.frame_bytes + deepest.stack_bytes,
        1 + max((depth.functions for depth in below), default=0),
        (f"{one.name} {one.frame_bytes}", *deepest.chain),
    )


def main(path: str) -> None:
    for depth in call_depths(Path(path).read_bytes()).values():
        print(
            f"{depth.stack_bytes:4} bytes, {depth.functions} functions: "
            + " > ".join(depth.chain)
        )


if __name__ == "__main__":
    main(sys.argv[1])
