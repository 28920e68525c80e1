# SPDX-License-Identifier: Apache-2.0
"""DNS over UDP: type and name of the question name the operation; answers name addresses.

Names are lower case, written as the conventions have it: `\\DDD` for what is not printable.
A message may be cut (the kernel passes on 256 bytes of a query, 512 of an answer) and lie:
what is whole is taken, and a compression pointer only leads backwards, so all of it ends.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.semconv._incubating.attributes.dns_attributes import (
    DNS_QUESTION_NAME,
)
from opentelemetry.semconv._incubating.metrics.dns_metrics import DNS_LOOKUP_DURATION

from deetune_otel.model import End, Operation, Protocol, Role
from deetune_otel.protocols.contract import (
    Attributes,
    Instrument,
    Measure,
    Outcome,
    error,
    server_endpoint,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deetune_otel.model import Edge, Exchange, SeriesKey
    from deetune_otel.protocols.routes import Routes

__all__ = [
    "METRICS",
    "RESPONSE_CODE",
    "Answer",
    "Answers",
    "answers",
    "edge_attributes",
    "operation",
    "outcome",
    "span_attributes",
]

METRICS: Final[Mapping[Role, tuple[Instrument, ...]]] = {
    Role.CLIENT: (
        Instrument(
            name=DNS_LOOKUP_DURATION,
            unit="s",
            description="Time from a DNS query to its answer, at the client.",
            measure=Measure.DURATION,
        ),
    ),
    Role.SERVER: (
        Instrument(
            # No semantic convention, and no other agent that has a name for it.
            name="deetune.dns.server.duration",
            unit="s",
            description="Time from a DNS query to its answer, at the server.",
            measure=Measure.DURATION,
        ),
    ),
}

RESPONSE_CODE: Final = "deetune.dns.response.code"

# IANA's names of response codes and types; what has none is written as RFC 3597 does.
_CODES: Final = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    6: "YXDOMAIN",
    7: "YXRRSET",
    8: "NXRRSET",
    9: "NOTAUTH",
    10: "NOTZONE",
    11: "DSOTYPENI",
}
_TYPES: Final = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    35: "NAPTR",
    43: "DS",
    46: "RRSIG",
    48: "DNSKEY",
    52: "TLSA",
    64: "SVCB",
    65: "HTTPS",
    255: "ANY",
    257: "CAA",
}
# They are answers, and programs ask for names that need not be: in Kubernetes a resolver tries
# four search domains before a name outside. Counted as failures, every client would look broken.
_NO_FAILURE: Final = frozenset({"NOERROR", "NXDOMAIN"})
_NO_RESPONSE: Final = error(
    "no_response", message="the socket was closed before an answer came"
)

_UNREADABLE: Final = "DNS"
# A name for each address that is looked up would be as many names as there are clients.
_REVERSE: Final = (".in-addr.arpa", ".ip6.arpa")

_HEADER: Final = struct.Struct(">HHHHHH")  # id, flags, four counts
_QUESTION: Final = struct.Struct(">HH")  # type, class
_RECORD: Final = struct.Struct(">HHIH")  # type, class, TTL, length
_IS_RESPONSE: Final = 0x8000
_OPCODE_AND_CODE: Final = 0x780F  # both 0: a standard query that went well
_INTERNET: Final = 1
_A, _CNAME, _AAAA = 1, 5, 28
_ADDRESS_BYTES: Final = {_A: 4, _AAAA: 16}
_POINTER: Final = 0xC0
_MAX_NAME_BYTES: Final = 255  # RFC 1035, 3.1


class Answer(NamedTuple):
    address: str
    ttl_s: int  # the least on the way from the question


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a response says of the addresses of a name."""

    name: str  # that was asked for
    aliases: tuple[str, ...]  # CNAMEs, from the question on
    addresses: tuple[Answer, ...]


class _Cut(Exception):  # noqa: N818 - reads as what happened
    """The message ends here, or what follows cannot be read."""


class _Record(NamedTuple):
    name: str
    type: int
    ttl_s: int
    data: bytes
    target: str  # of a CNAME


def operation(head: bytes, routes: Routes) -> Operation:
    """`A example.org` of a query; `DNS` when it has no question that can be read."""
    try:
        name, type_, _ = _question(head)
    except _Cut:
        return Operation(name=_UNREADABLE)
    for suffix in _REVERSE:
        if name.endswith(suffix):
            name = f"*{suffix}"
    return routes.capped(
        Protocol.DNS,
        Operation(
            name=f"{_TYPES.get(type_, f'TYPE{type_}')} {name}",
            attributes={DNS_QUESTION_NAME: name},
        ),
    )


def outcome(key: SeriesKey, role: Role) -> Outcome:  # noqa: ARG001 - the same at both ends
    """A failure by its code's name; NXDOMAIN is told, and no failure."""
    if key.end is End.CLOSED:
        return _NO_RESPONSE
    code = _CODES.get(key.outcome, f"RCODE{key.outcome}")
    attributes: Attributes = {RESPONSE_CODE: code}
    if code in _NO_FAILURE:
        return Outcome(attributes=attributes)
    return error(code, message=code, attributes=attributes)


def edge_attributes(edge: Edge) -> Attributes:
    return server_endpoint(edge)


def span_attributes(exchange: Exchange, role: Role) -> Attributes:  # noqa: ARG001
    return {}


def answers(message: bytes) -> Answers | None:
    """Read a response; None where it is none, failed, or gives the name no address.

    Only records that the question leads to count: a server may add others that nobody asked for.
    """
    try:
        name, _, at = _question(message)
    except _Cut:
        return None
    _, flags, _, count, _, _ = _HEADER.unpack_from(message)
    if not flags & _IS_RESPONSE or flags & _OPCODE_AND_CODE:
        return None
    records = list(_records(message, at, count))
    targets = {one.name: one for one in records if one.type == _CNAME}
    aliases: list[str] = []
    least_s, last = 2**32, name
    while (alias := targets.pop(last, None)) is not None:
        aliases.append(alias.target)
        least_s, last = min(least_s, alias.ttl_s), alias.target
    addresses = tuple(
        Answer(str(ipaddress.ip_address(one.data)), min(least_s, one.ttl_s))
        for one in records
        if one.name == last and len(one.data) == _ADDRESS_BYTES.get(one.type)
    )
    if not addresses:
        return None
    return Answers(name=name, aliases=tuple(aliases), addresses=addresses)


def _question(message: bytes) -> tuple[str, int, int]:
    """Its name, its type, and where what follows begins."""
    if len(message) < _HEADER.size or _HEADER.unpack_from(message)[2] != 1:
        raise _Cut
    name, at = _name(message, _HEADER.size)
    type_, _ = _unpack(_QUESTION, message, at)
    return name, type_, at + _QUESTION.size


def _records(message: bytes, at: int, count: int) -> Iterator[_Record]:
    """The whole ones, until the message is cut."""
    for _ in range(count):
        try:
            name, at = _name(message, at)
            type_, class_, ttl_s, length = _unpack(_RECORD, message, at)
            at += _RECORD.size
            if at + length > len(message):
                return
            target = _name(message, at)[0] if type_ == _CNAME else ""
        except _Cut:
            return
        data = message[at : at + length]
        at += length
        if class_ == _INTERNET:
            yield _Record(name, type_, _seconds(ttl_s), data, target)


def _seconds(ttl_s: int) -> int:
    """RFC 2181, 8: what has the highest bit set means 0."""
    return 0 if ttl_s >> 31 else ttl_s


def _unpack(layout: struct.Struct, message: bytes, at: int) -> tuple[int, ...]:
    if at + layout.size > len(message):
        raise _Cut
    return layout.unpack_from(message, at)


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name that begins there, and where it ends."""
    labels: list[str] = []
    size, after, begin = 1, 0, at
    while True:
        if at >= len(message):
            raise _Cut
        length = message[at]
        if length >= _POINTER:
            if at + 2 > len(message):
                raise _Cut
            target = int.from_bytes(message[at : at + 2]) & 0x3FFF
            if target >= begin:
                raise _Cut
            after = after or at + 2
            at = begin = target
            continue
        at += 1
        if length == 0:
            return ".".join(labels) or ".", after or at
        size += length + 1
        if length > 63 or size > _MAX_NAME_BYTES or at + length > len(message):
            raise _Cut
        labels.append(_label(message[at : at + length]))
        at += length


def _label(raw: bytes) -> str:
    """RFC 4343: only A to Z have a lower case."""
    return "".join(_character(byte) for byte in raw.lower())


def _character(byte: int) -> str:
    if byte in b'\\".':
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 < byte < 0x7F else f"\\{byte:03d}"
