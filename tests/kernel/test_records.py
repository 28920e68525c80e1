# SPDX-License-Identifier: Apache-2.0
"""Decoding, against values that the C compiler laid out (contract.c) from the real headers."""

from __future__ import annotations

import platform
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kernel.btf_bytes import BtfWriter

from deetune_otel.kernel.btf import Btf, elf_section
from deetune_otel.kernel.errors import KernelUnavailable, RecordError
from deetune_otel.kernel.records import Layout, Records, missing_from
from deetune_otel.model import (
    BlindBytes,
    Cause,
    Edge,
    End,
    Exchange,
    KeptBecause,
    LedgerLine,
    NewOwner,
    OperationSample,
    Owner,
    ProcessKey,
    Protocol,
    Role,
    SeriesKey,
    SeriesValue,
    Transport,
    Wire,
)

HERE = Path(__file__).parent
BPF = HERE.parents[1] / "bpf"
KEY = SeriesKey(7, Protocol.HTTP, 0x1122334455667788, 404, End.CLOSED)
OWNER = Owner(3, ProcessKey(42, 99), 1, 4026531840, 5, "nginx: worker p", 2)
VALUE = SeriesValue(
    count=17,
    duration_sum_ns=1,
    first_byte_sum_ns=2,
    request_bytes=3,
    response_bytes=4,
    request_body_bytes=5,
    response_body_bytes=6,
    duration_buckets=(10, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4),
    # 17 exchanges, 7 of them with a body: 10 in bucket 0, which the kernel leaves out
    request_body_buckets=(10, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0),
    response_body_buckets=(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 16),
)
EXCHANGE = Exchange(
    edge_id=7,
    owner_id=3,
    tid=43,
    key=KEY,
    wire=Wire(11, 12, 13),
    cause=Cause(Wire(21, 22, 23), b"sw8"),
    cause_ambiguous=False,
    start_ns=100,
    first_byte_ns=200,
    end_ns=300,
    request_bytes=1,
    response_bytes=2,
    request_body_bytes=3,
    response_body_bytes=4,
    local_address="127.0.0.1",
    local_port=40000,
    peer_address="::1",
    peer_port=8080,
    transport=Transport.TCP,
    kept=KeptBecause.SLOW,
    request_head=b"GET /",
    trace_header=b"b3: ",
    is_alone=True,
)


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """contract.c, compiled."""
    compiled = tmp_path_factory.mktemp("contract") / "contract.o"
    machine = platform.machine()
    subprocess.run(
        [
            "clang",
            "-O2",
            "-g",
            "-target",
            "bpf",
            "-mcpu=v3",
            "-D__TARGET_ARCH_arm64" if machine == "aarch64" else "-D__TARGET_ARCH_x86",
            "-I",
            BPF,
            "-I",
            BPF / "include",
            "-idirafter",
            f"/usr/include/{machine}-linux-gnu",
            "-c",
            HERE / "contract.c",
            "-o",
            compiled,
        ],
        check=True,
    )
    return compiled.read_bytes()


@pytest.fixture(scope="module")
def btf(contract: bytes) -> Btf:
    return Btf.from_elf(contract)


@pytest.fixture(scope="module")
def records(btf: Btf) -> Records:
    return Records(btf)


def test_nothing_is_missing_from_the_headers(btf: Btf) -> None:
    assert missing_from(btf) == []


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("exchange", EXCHANGE),
        (
            "operation",
            OperationSample(3, 7, Protocol.REDIS, 9, b"*1\r\n"),
        ),
        (
            "new_owner",
            NewOwner(
                OWNER._replace(comm="redis-server"),
                b"redis-server\0--port\0",
                "redis-check-rdb",
                "redis",
            ),
        ),
        ("blind", BlindBytes(3, 1, 2)),
    ],
)
def test_records_of_the_ring(
    contract: bytes, records: Records, section: str, expected: object
) -> None:
    data = elf_section(contract, section)
    assert records.record(data) == expected
    assert records.record(memoryview(data + b"more")) == expected
    for length in range(len(data)):
        with pytest.raises(RecordError):
            records.record(data[:length])


@given(data=st.data())
def test_any_bytes_raise_one_type(
    contract: bytes, records: Records, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["exchange", "operation", "new_owner", "blind"]))
    record = bytearray(elf_section(contract, name))
    at = data.draw(st.integers(0, len(record) - 1))
    damage = data.draw(st.binary(min_size=1, max_size=64))
    record[at : at + len(damage)] = damage
    with suppress(RecordError):
        records.record(bytes(record))


@pytest.mark.parametrize(
    "constant", ["CONTRACT_KEPT", "CONTRACT_TRANSPORT", "CONTRACT_PROTOCOL"]
)
def test_a_value_without_a_name_is_an_error(
    contract: bytes, btf: Btf, records: Records, constant: str
) -> None:
    record = bytearray(elf_section(contract, "exchange"))
    record[btf.enum("contract_offset")[constant]] = 200
    with pytest.raises(RecordError):
        records.record(bytes(record))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (0, {"cause": None}),
        (1, {}),
        (2, {"cause": None, "cause_ambiguous": True}),
    ],
)
def test_a_cause_is_taken_only_when_it_is_sure(
    contract: bytes,
    btf: Btf,
    records: Records,
    found: int,
    told: dict[str, Any],
) -> None:
    record = bytearray(elf_section(contract, "exchange"))
    record[btf.enum("contract_offset")["CONTRACT_CAUSE_FOUND"]] = found
    assert records.record(bytes(record)) == EXCHANGE._replace(**told)


def test_an_exchange_over_unix_has_no_addresses_of_its_own(
    contract: bytes, btf: Btf, records: Records
) -> None:
    record = bytearray(elf_section(contract, "exchange"))
    record[btf.enum("contract_offset")["CONTRACT_TRANSPORT"]] = btf.enum(
        "dt_transport"
    )["DT_TRANSPORT_UNIX"]
    assert records.record(bytes(record)) == EXCHANGE._replace(
        transport=Transport.UNIX, local_address="", peer_address=""
    )


def test_owners(contract: bytes, records: Records) -> None:
    key, value = elf_section(contract, "owner_key"), elf_section(contract, "owner")
    assert records.owner(key, value) == OWNER


def test_edges(contract: bytes, records: Records) -> None:
    key, value = elf_section(contract, "edge_key"), elf_section(contract, "edge")
    assert records.edge(key, value) == Edge(
        7, 3, Role.CLIENT, Transport.TCP, "10.0.0.7", 6379, "2001::1", overflow=False
    )
    assert (records.edge_owner(key), records.edge_id(value)) == (3, 7)


def test_a_unix_edge_is_named_by_its_path(contract: bytes, records: Records) -> None:
    key = elf_section(contract, "unix_edge_key")
    value = elf_section(contract, "unix_edge")
    assert records.edge(key, value) == Edge(
        8, 3, Role.SERVER, Transport.UNIX, "@abstract", 0, "", overflow=True
    )
    odd = value.replace(b"@abstract", b"@\xff\nstract")
    assert records.edge(key, odd).peer_address == "@\\xff\nstract"


def test_series_with_the_bucket_that_the_kernel_leaves_out(
    contract: bytes, records: Records
) -> None:
    key, value = (
        elf_section(contract, "series_key"),
        elf_section(contract, "series_value"),
    )
    assert list(records.series(key * 3, value * 3)) == [(KEY, VALUE)] * 3
    assert list(records.series_edges(key * 2)) == [7, 7]
    with pytest.raises(RecordError):
        list(records.series(key[:-1], value))
    with pytest.raises(RecordError):
        list(records.series(key, value[:-1]))


def test_a_bucket_is_never_below_zero(contract: bytes, records: Records) -> None:
    key = elf_section(contract, "series_key")
    value = bytearray(elf_section(contract, "series_value"))
    value[6 * 8 : 21 * 8] = bytes(15 * 8)  # bodies were added, durations not yet
    ((_, decoded),) = records.series(key, bytes(value))
    assert decoded.count == 0
    assert decoded.request_body_buckets == (0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("role", list(Role))
def test_overflow_series_know_their_protocol_and_role(
    contract: bytes, btf: Btf, records: Records, role: Role
) -> None:
    number = btf.enum("dt_role")[f"DT_ROLE_{role.name}"]
    index = btf.enum("dt_protocol")["DT_PROTOCOL_REDIS"] * 4 + number
    value = elf_section(contract, "series_value")
    assert records.series_overflow(index, value) == (
        SeriesKey(0, Protocol.REDIS, 1, 0, End.COMPLETE, role),
        VALUE,
    )
    assert records.series_overflow(index, bytes(len(value))) is None
    with pytest.raises(RecordError):
        records.series_overflow(63, value)


def test_ledger_lines_are_summed(contract: bytes, records: Records) -> None:
    assert records.ledger_line(elf_section(contract, "ledger_of_cpus")) == LedgerLine(
        3, 30
    )
    assert records.ledger_line(b"") == LedgerLine(0, 0)
    with pytest.raises(RecordError):
        records.ledger_line(bytes(17))


def test_causes(contract: bytes, records: Records) -> None:
    assert records.wire(Wire(11, 12, 13)) == elf_section(contract, "wire")
    value = elf_section(contract, "cause")
    assert records.cause(value) == Cause(Wire(21, 22, 23), b"b3: 0")
    assert records.cause(bytes(len(value))) is None


def test_operations_know_their_owner(contract: bytes, records: Records) -> None:
    key = elf_section(contract, "operation_key")
    assert list(records.operation_owners(key * 2)) == [3, 3]


def test_a_layout_reads_and_writes_in_the_order_asked_for() -> None:
    writer = BtfWriter()
    u8, u16, u32 = (writer.integer(f"u{n * 8}", n) for n in (1, 2, 4))
    words, text = writer.array(u16, 2), writer.array(u8, 3)
    writer.structure(
        "s",
        16,
        [("text", text, 8), ("words", words, 32), ("last", u32, 64), ("gap", u8, 96)],
    )
    layout = Layout(Btf(writer.bytes()), "s", ("last", "text", "words"))
    data = b"\0abc" + bytes([1, 0, 2, 0, 3, 0, 0, 0]) + bytes(4)
    assert layout.unpack(data) == (3, b"abc", 1, 2)
    assert list(layout.unpack_all(data * 2)) == [(3, b"abc", 1, 2)] * 2
    assert layout.pack(3, b"abc", 1, 2) == data
    assert layout.offset("words") == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"duration_sum_ns", b"duration_sum_us", "no member duration_sum_ns"),
        (b"dt_ledger_line", b"dt_ledger_lime", "no enum dt_ledger_line"),
        (b"DT_ROLE_SERVER", b"DT_ROLE_SERVED", "DT_ROLE_SERVED is not known to the p"),
        (b"DT_END_CLOSED", b"DT_END_CLOSET", "DT_END_CLOSED is not known to the obj"),
        (b"dt_wire\0", b"dt_wird\0", "no struct dt_wire"),
    ],
)
def test_an_object_of_another_release_is_refused(
    contract: bytes, old: bytes, new: bytes, said: str
) -> None:
    data = elf_section(contract, ".BTF")
    assert old in data
    with pytest.raises(KernelUnavailable, match=said) as caught:
        Records(Btf(data.replace(old, new)))
    assert "build-bpf" in caught.value.hint


def test_other_buckets_are_refused(contract: bytes) -> None:
    data = elf_section(contract, ".BTF")
    (strings,) = struct.unpack_from("<I", data, 16)
    name = data.index(b"\0DT_DURATION_BOUNDS\0") + 1 - 24 - strings
    other = data.replace(struct.pack("<II", name, 14), struct.pack("<II", name, 15))
    assert missing_from(Btf(other)) == ["DT_DURATION_BOUNDS is 15, not 14"]
