# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

import pytest

from deetune_otel.redaction.bodies import body, media_type
from deetune_otel.redaction.censor import CannotRedact, Censor
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.tokens import Tokens

TOKENS = Tokens(b"key")
X = TOKENS.token(b"x")


def redacted(data: bytes, kind: str = "", encoding: str = "", **changes: Any) -> bytes:
    policy = replace(Policy.default(), **changes)
    return body(data, kind, encoding, Censor(policy, TOKENS))


@pytest.mark.parametrize(
    ("kind", "data", "changed"),
    [
        ("application/json", '{"pin":"x"}', f'{{"pin":"{X}"}}'),
        (
            "application/json; charset=UTF-8",
            '\ufeff{"pin":"x"}',
            f'\ufeff{{"pin":"{X}"}}',
        ),
        ("application/problem+json", '{"pin":"x"}', f'{{"pin":"{X}"}}'),
        ("application/vnd.api+json", '{"pin":"x"}', f'{{"pin":"{X}"}}'),
        ("application/x-ndjson", '{}\n{"pin":"x"}\n', f'{{}}\n{{"pin":"{X}"}}\n'),
        ("application/json-seq", '\x1e{"pin":"x"}\n', f'\x1e{{"pin":"{X}"}}\n'),
        ("application/json", "OK", "OK"),
        ("application/json", "pin=x", f"pin={X}"),
        ("application/x-www-form-urlencoded", '{"pin":"x"}', f'{{"pin":"{X}"}}'),
        ("application/x-www-form-urlencoded", "pin=x&a=b", f"pin={X}&a=b"),
        ("text/plain", "[INFO] pin=x", f"[INFO] pin={X}"),
        ("application/soap+xml", "<pin>x</pin>", f"<pin>{X}</pin>"),
        ("text/event-stream", 'data: {"pin":"x"}\n\n', f'data: {{"pin":"{X}"}}\n\n'),
        ("text/css", "a{pin:x}", "a{pin:x}"),
        ("application/javascript", "pin=x", "pin=x"),
        ("application/octet-stream", "pin=x", f"pin={X}"),
        ("", "", ""),
    ],
)
def test_by_type(kind: str, data: str, changed: str) -> None:
    assert redacted(data.encode(), kind).decode() == changed


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("image/png", b"\x89PNG\r\n\x1a\n\0"),
        ("application/octet-stream", b"\xff\xfd"),
        ("", b"\xff"),
        ("text/plain", b"p\0a\0s\0s"),
        ("application/json", b'{"pin":"x"'),
        ("application/json", b'{"pin":"\xff\0"}'),
        ("text/plain; charset=utf-16", b"x"),
        ("text/plain; charset=none-such", b"x"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--bx\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"secret\r\n--b\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\nsecret"),
        ("multipart/form-data; boundary=b", b"--b--\r\nsecret\r\n--b--\r\n"),
    ],
)
def test_what_is_not_understood_is_refused(kind: str, data: bytes) -> None:
    with pytest.raises(CannotRedact):
        redacted(data, kind)


def test_charsets() -> None:
    text = '{"pin":"x","a":"é"}'
    for charset in ("utf-16", "utf-16-le", "utf-32"):
        done = redacted(text.encode(charset), f"application/json; charset={charset}")
        assert done.decode(charset) == text.replace('"x"', f'"{X}"')
    done = redacted(text.encode("latin-1"), "application/json; charset=iso-8859-1")
    assert done.decode("latin-1") == text.replace('"x"', f'"{X}"')


def test_what_was_unpacked_is_packed_again() -> None:
    done = redacted(gzip.compress(b'{"pin":"x"}'), "application/json", "gzip")
    assert gzip.decompress(done) == f'{{"pin":"{X}"}}'.encode()
    same = gzip.compress(b'{"a":"x"}', 1, mtime=5)
    assert redacted(same, "application/json", "gzip") == same


def test_binary_bodies_are_kept_where_the_policy_says_so() -> None:
    keep: dict[str, Any] = {"kept_binary": ("image/*",)}
    assert redacted(b"\0\xffabc", "image/png", **keep) == b"\0\xffabc"
    with pytest.raises(CannotRedact):
        redacted(b"\0 a@example.com \0", "image/png", **keep)
    with pytest.raises(CannotRedact):
        redacted(b"\0", "application/pdf", **keep)


def test_the_parts_of_multipart() -> None:
    data = (
        b'--b\r\nContent-Disposition: form-data; name="pin"\r\n\r\nx\r\n'
        b'--b\r\nContent-Disposition: form-data; name="a"; filename="a.json"\r\n'
        b"Content-Type: application/json\r\nX-Other: x\r\n\r\n"
        b'{"pin":"x"}\r\n'
        b"--b \r\nContent-Type: image/png\r\n\r\n\0\r\n"
        b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n"
        b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"
        b"--c\r\n\r\npin=x\r\n--c--\r\n"
        b"--b\r\n\r\n\r\n--b--\r\n"
    )
    done = redacted(data, 'multipart/form-data; boundary="b"')
    expected = (
        data.replace(b"\r\nx\r\n", f"\r\n{X}\r\n".encode())
        .replace(b'"x"', f'"{X}"'.encode())
        .replace(b"X-Other: x", f"X-Other: {X}".encode())
        .replace(b"pin=x", f"pin={X}".encode())
        .replace(b"\0", TOKENS.token(b"\0").encode())
        .replace(b"eA==", TOKENS.token(b"eA==").encode())
    )
    assert done == expected


def test_media_types() -> None:
    assert media_type("") == ("", {})
    assert media_type("Text/Plain ") == ("text/plain", {})
    assert media_type('a/b; Charset="UTF-8"; x=y') == (
        "a/b",
        {"charset": "UTF-8", "x": "y"},
    )
