# SPDX-License-Identifier: Apache-2.0
"""HTTP, Redis and DNS messages, and what each one should count as."""

from __future__ import annotations

import random
import struct
from typing import Final

__all__ = ["OK", "chunked", "dns_question", "get", "post", "redis", "response"]


def get(path: str = "/", *headers: str, version: str = "1.1") -> bytes:
    return _head(f"GET {path} HTTP/{version}", "host: test", *headers)


def post(body: bytes, path: str = "/", *headers: str) -> bytes:
    length = f"Content-Length: {len(body)}"
    return _head(f"POST {path} HTTP/1.1", "host: test", length, *headers) + body


def response(body: bytes = b"", status: int = 200, *headers: str) -> bytes:
    length = f"content-length: {len(body)}"
    return _head(f"HTTP/1.1 {status} Said So", length, *headers) + body


def head(first_line: str, *headers: str) -> bytes:
    """A head that says nothing of a body but by its headers."""
    return _head(first_line, *headers)


def chunked(*sizes: int, extension: str = "", trailers: tuple[str, ...] = ()) -> bytes:
    """A body of so many bytes in chunks."""
    body = b"".join(
        f"{size:x}{extension}\r\n".encode() + b"c" * size + b"\r\n" for size in sizes
    )
    end = f"0{extension}\r\n" + "".join(f"{line}\r\n" for line in trailers) + "\r\n"
    return body + end.encode()


def redis(*words: bytes | str) -> bytes:
    """One command."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(
        b"$%d\r\n%s\r\n" % (len(part), part) for part in parts
    )


def dns_question(name: str, kind: int = 1, number: int | None = None) -> bytes:
    """A standard query, as every resolver sends it (RFC 1035); of addresses (A)."""
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    number = random.getrandbits(16) if number is None else number
    header = struct.pack("!6H", number, 0x0100, 1, 0, 0, 0)
    return header + labels + b"\0" + struct.pack("!2H", kind, 1)


def _head(*lines: str) -> bytes:
    return "\r\n".join((*lines, "", "")).encode()


OK: Final = response(b"ok\n")
