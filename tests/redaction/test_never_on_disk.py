# SPDX-License-Identifier: Apache-2.0
"""A secret planted anywhere, sent in any pieces, is in no byte of the file."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import tempfile
import zlib
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from deetune_otel.archive.reading import read
from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.model import Protocol
from deetune_otel.recording.assembly import Assembler
from deetune_otel.recording.codecs import CODECS
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    Manifest,
    Piece,
    RecordedExchange,
)
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.scan import scan
from deetune_otel.redaction.tokens import Tokens

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Wire(NamedTuple):
    protocol: Protocol
    request: bytes
    response: bytes


def _post(body: bytes, kind: str, *extra: str) -> bytes:
    head = ["POST /a HTTP/1.1", f"Content-Type: {kind}", *extra]
    head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def _chunked(body: bytes, size: int = 7) -> bytes:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks)
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\nX-Token: end\r\n\r\n"
    )


def _get(line: str, *headers: str) -> bytes:
    return "\r\n".join([line, "Host: x", *headers, "", ""]).encode()


def _answer(body: bytes, *headers: str) -> bytes:
    head = ["HTTP/1.1 200 OK", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


def _http(request: bytes = b"GET / HTTP/1.1\r\n\r\n", response: bytes = OK) -> Wire:
    return Wire(Protocol.HTTP, request, response)


def _redis(*words: bytes, reply: bytes = b"+OK\r\n") -> Wire:
    parts = b"".join(b"$%d\r\n%s\r\n" % (len(one), one) for one in words)
    return Wire(Protocol.REDIS, b"*%d\r\n%s" % (len(words), parts), reply)


def _places(secret: str) -> dict[str, Wire]:
    raw = secret.encode()
    document = json.dumps({"user": {"password": secret, "n": 1}}).encode()
    coded = "Content-Encoding: "
    kind = "application/json"
    part = (
        b'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n'
        + raw
        + b"\r\n--b--\r\n"
    )
    return {
        "header": _http(_get("GET / HTTP/1.1", f"X-Api-Key: {secret}")),
        "authorization": _http(
            _get("GET / HTTP/1.1", f"Authorization: Bearer {secret}")
        ),
        "cookie": _http(_get("GET / HTTP/1.1", f"Cookie: a=b; session={secret}")),
        "set-cookie": _http(response=_answer(b"", f"Set-Cookie: s={secret}; Path=/")),
        "query": _http(_get(f"GET /?a=b&token={quote(secret)} HTTP/1.1")),
        "referer": _http(_get("GET / HTTP/1.1", f"Referer: http://x/?token={secret}")),
        "json": _http(_post(document, kind)),
        "json answer": _http(response=_answer(document, f"Content-Type: {kind}")),
        "json that lies": _http(_post(document, "text/plain")),
        "form": _http(
            _post(b"a=b&password=" + raw, "application/x-www-form-urlencoded")
        ),
        "multipart": _http(_post(part, "multipart/form-data; boundary=b")),
        "gzip": _http(_post(gzip.compress(document), kind, f"{coded}gzip")),
        "deflate": _http(_post(zlib.compress(document), kind, f"{coded}deflate")),
        "zstd": _http(_post(zstandard.compress(document), kind, f"{coded}zstd")),
        "unknown encoding": _http(_post(raw, kind, f"{coded}br")),
        "binary": _http(_post(b"\0\xff" + raw, "application/octet-stream")),
        "chunked": _http(response=_chunked(document)),
        "trailer": _http(
            response=_chunked(b"{}").replace(b"end", raw),
        ),
        "xml": _http(_post(b"<password>" + raw + b"</password>", "text/xml")),
        "redis value": _redis(b"SET", b"k", raw),
        "redis hash": _redis(b"HSET", b"k", b"f", raw),
        "redis auth": _redis(b"AUTH", raw),
        "redis hello": _redis(b"HELLO", b"3", b"AUTH", b"user", raw),
        "redis answer": _redis(b"GET", b"k", reply=b"$%d\r\n%s\r\n" % (len(raw), raw)),
        "redis list": _redis(
            b"LRANGE", b"k", b"0", b"1", reply=b"*1\r\n$%d\r\n%s\r\n" % (len(raw), raw)
        ),
        "redis inline": Wire(Protocol.REDIS, b"SET k " + raw + b"\r\n", b"+OK\r\n"),
    }


PLACES: Final = tuple(_places("x" * 8))
# Nothing that the words around it hold; of a length at which chance plays no part.
SECRETS: Final = st.from_regex(r"[QXZ][qxz0-9]{10,20}", fullmatch=True)


def _recorded(wire: Wire, cuts: list[int]) -> list[RecordedExchange]:
    assembler = Assembler(CODECS[wire.protocol])
    turns = []
    for from_client, data in ((True, wire.request), (False, wire.response)):
        places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        for start, end in itertools.pairwise(places):
            turns += assembler.feed(
                Piece(
                    from_client=from_client,
                    offset=start,
                    at_ns=1,
                    data=data[start:end],
                    is_start=from_client and start == 0,
                )
            )
    turns += assembler.end()
    nowhere = Endpoint("10.0.0.1", 50_000), Endpoint("10.0.0.2", 80)
    return [
        RecordedExchange(
            id="0" * 16,
            connection=Connection(
                id="0" * 16,
                protocol=wire.protocol,
                client=nowhere[0],
                server=nowhere[1],
            ),
            request=turn.request,
            response=turn.response,
            request_start_ns=1,
            request_end_ns=1,
            response_start_ns=1,
            response_end_ns=1,
            incomplete=tuple(map(str, turn.incomplete)),
        )
        for turn in turns
    ]


def _on_disk(exchanges: list[RecordedExchange], *, redacts: bool) -> bytes:
    redactor = Redactor(Policy.default(), Tokens(b"k" * 32))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        with RecordingWriter(path) as writer:
            for one in exchanges:
                writer.write(redactor.redact(one) if redacts else one)
            writer.close(Manifest(redactions=redactor.counts))
        if redacts:
            with read(path) as recording:
                assert not [found for one in recording for found in scan(one)]
        return path.read_bytes()


def _all_of(data: bytes) -> bytes:
    """With what is compressed in it, and without its chunks."""
    found = [data, re.sub(rb"\r\n[0-9a-f]+\r\n", b"", data)]
    for magic, undo in (
        (b"\x1f\x8b\x08", lambda one: zlib.decompressobj(31).decompress(one)),
        (b"\x78\x9c", lambda one: zlib.decompressobj().decompress(one)),
        (b"\x28\xb5\x2f\xfd", _unzstd),
    ):
        at = data.find(magic)
        if at >= 0:
            found.append(undo(data[at:]))
    return b"\n".join(found)


def _unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=15, deadline=None)
@given(secret=SECRETS, cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_a_secret_reaches_no_file(place: str, secret: str, cuts: list[int]) -> None:
    exchanges = _recorded(_places(secret)[place], cuts)
    assert len(exchanges) == 1
    data = _all_of(_on_disk(exchanges, redacts=True))
    assert secret.encode() not in data
    assert quote(secret).encode() not in data


@pytest.mark.parametrize("place", PLACES)
def test_without_redaction_it_does(place: str) -> None:
    """Else the test above could not fail."""
    secret = "Qx0qz1zx2q"
    exchanges = _recorded(_places(secret)[place], [3, 50, 90])
    assert secret.encode() in _all_of(_on_disk(exchanges, redacts=False))
