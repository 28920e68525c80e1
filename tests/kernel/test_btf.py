# SPDX-License-Identifier: Apache-2.0
"""BTF written by hand here, compiled by clang, and of the running kernel."""

from __future__ import annotations

import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kernel.btf_bytes import (
    CONST,
    DATASEC,
    ENUM,
    ENUM64,
    FLAG,
    PTR,
    TYPEDEF,
    VAR,
    BtfWriter,
)

from deetune_otel.kernel.btf import (
    Btf,
    BtfError,
    Field,
    Variable,
    elf_section,
    is_btf,
)

VMLINUX = Path("/sys/kernel/btf/vmlinux")


def sample() -> bytes:
    btf = BtfWriter()
    u8 = btf.integer("unsigned char", 1)
    u32 = btf.integer("unsigned int", 4)
    word = btf.add(TYPEDEF, "__u32", u32)
    constant = btf.add(CONST, "", word)
    sixteen = btf.array(u8, 16)
    inner = btf.structure(
        "inner", 24, [("first", constant, 0), ("address", sixteen, 32)]
    )
    pointer = btf.add(PTR, "", inner)
    btf.structure(
        "outer", 40, [("inner", inner, 64), ("plain", word, 256), ("to", pointer, 0)]
    )
    btf.structure("bits", 4, [("low", u32, 3 << 24)], flag=FLAG)
    tail = struct.pack("<IIII", btf.string("ONE"), 1, btf.string("NEG"), 0xFFFFFFFF)
    btf.add(ENUM, "signed", 4, tail, 2 | FLAG)
    tail = struct.pack("<III", btf.string("BIG"), 1, 1)
    btf.add(ENUM64, "wide", 8, tail, 1)
    knob = btf.add(VAR, "dt_knob", constant, struct.pack("<I", 1))
    btf.add(DATASEC, ".rodata", 8, struct.pack("<III", knob, 4, 4), 1)
    return btf.bytes()


def test_fields_are_found_through_structs_typedefs_and_arrays() -> None:
    btf = Btf(sample())
    assert btf.struct_size("outer") == 40
    assert btf.field("outer", "plain") == Field(32, 4, 0)
    assert btf.field("outer", "inner.first") == Field(8, 4, 0)
    assert btf.field("outer", "inner.address") == Field(12, 1, 16)


@pytest.mark.parametrize(
    ("name", "path"),
    [("none", "x"), ("outer", "x"), ("outer", "inner.x"), ("outer", "plain.x")],
)
def test_what_is_not_there_is_a_lookup_error(name: str, path: str) -> None:
    with pytest.raises(LookupError):
        Btf(sample()).field(name, path)


@pytest.mark.parametrize(
    ("name", "path"), [("bits", "low"), ("outer", "to"), ("outer", "inner")]
)
def test_bit_fields_pointers_and_whole_structs_are_no_numbers(
    name: str, path: str
) -> None:
    with pytest.raises(BtfError):
        Btf(sample()).field(name, path)


def test_enums_of_both_widths_and_signs() -> None:
    btf = Btf(sample())
    assert btf.enum("signed") == {"ONE": 1, "NEG": -1}
    assert btf.enum("wide") == {"BIG": (1 << 32) + 1}
    with pytest.raises(LookupError):
        btf.enum("none")


def test_variables_of_a_section() -> None:
    assert Btf(sample()).variables(".rodata") == {"dt_knob": Variable(4, 4)}


def test_a_typedef_of_itself_ends() -> None:
    btf = BtfWriter()
    btf.add(TYPEDEF, "loop", 1)
    btf.structure("s", 4, [("x", 1, 0)])
    with pytest.raises(BtfError, match="itself"):
        Btf(btf.bytes()).field("s", "x")


@pytest.mark.parametrize("length", range(0, len(sample()), 7))
def test_cut_off_bytes_are_no_btf(length: int) -> None:
    with pytest.raises(BtfError):
        Btf(sample()[:length])


@given(st.binary(max_size=64), st.integers(0, 400))
def test_damaged_bytes_raise_one_type(damage: bytes, at: int) -> None:
    good = sample()
    bad = good[:at] + damage + good[at + len(damage) :]
    with suppress(BtfError, LookupError):
        Btf(bad).field("outer", "inner.address")


def test_a_compiled_object_agrees_with_its_compiler(tmp_path: Path) -> None:
    source, object_path = tmp_path / "a.c", tmp_path / "a.o"
    source.write_text(
        "struct odd { char c; long long l; short s[3]; } __attribute__((packed));\n"
        "struct odd one = { 1, 0x1122334455667788, { 7, 8, 9 } };\n"
    )
    subprocess.run(
        ["clang", "-g", "-target", "bpf", "-c", source, "-o", object_path], check=True
    )
    data = object_path.read_bytes()
    btf, one = Btf.from_elf(data), elf_section(data, ".data")
    assert btf.struct_size("odd") == len(one) == 15
    at, size, _ = btf.field("odd", "l")
    assert one[at : at + size] == bytes.fromhex("8877665544332211")
    at, size, elements = btf.field("odd", "s")
    assert struct.unpack_from(f"<{elements}h", one, at) == (7, 8, 9)


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(58)])
def test_no_elf_file(data: bytes) -> None:
    with pytest.raises(BtfError):
        elf_section(data, ".BTF")


@pytest.mark.parametrize(
    ("data", "is_one"),
    [(sample(), True), (b"", False), (b"no btf, and longer than a header", False)],
)
def test_whether_a_file_is_btf(tmp_path: Path, data: bytes, *, is_one: bool) -> None:
    path = tmp_path / "vmlinux"
    assert not is_btf(path)
    path.write_bytes(data)
    assert is_btf(path) is is_one


def test_the_running_kernel_tells() -> None:
    if not VMLINUX.exists():
        pytest.skip("this kernel has no BTF")
    assert is_btf(VMLINUX)
