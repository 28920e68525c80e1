# SPDX-License-Identifier: Apache-2.0
"""What a request asks for, named as the metrics name it."""

from __future__ import annotations

from typing import Final

from deetune_otel.model import Protocol
from deetune_otel.protocols import PROTOCOLS
from deetune_otel.protocols.routes import Routes
from deetune_otel.recording.model import HttpRequest, Message, RedisCommand

__all__ = ["operation_name", "request_head"]

_HEAD_BYTES: Final = 256  # of Redis, as the kernel gives them


def operation_name(request: Message) -> str:
    """Without anybody's patterns for routes; "" where nobody knows the protocol."""
    head = request_head(request)
    if not head:
        return ""
    protocol = Protocol.HTTP if isinstance(request, HttpRequest) else Protocol.REDIS
    return PROTOCOLS[protocol].operation(head, Routes()).name


def request_head(request: Message) -> bytes:
    """As the kernel would have given it to `protocols`, for the operation's name."""
    if isinstance(request, HttpRequest):
        line = f"{request.method} {request.target} HTTP/{request.version}\r\n"
        return line.encode("latin-1", errors="replace")
    if isinstance(request, RedisCommand) and request.arguments:
        parts = [b"*%d\r\n" % len(request.arguments)]
        parts += [b"$%d\r\n%s\r\n" % (len(one), one) for one in request.arguments[:2]]
        return b"".join(parts)[:_HEAD_BYTES]
    return b""
