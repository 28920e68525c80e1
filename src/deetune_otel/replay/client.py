# SPDX-License-Identifier: Apache-2.0
"""One connection to the target: a request is sent, its answer is read, or why there is none.

Every HTTP request says that it is a replay (`Deetune-Replay`), which recorders leave out, and carries a
new traceparent; `Deetune-Replay-Of` names the recorded trace and span.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import time
from collections import deque
from dataclasses import replace
from typing import Final, NamedTuple

from deetune_otel.comparison.judging import Answer
from deetune_otel.recording.codecs import CODECS
from deetune_otel.recording.codecs.contract import CodecError
from deetune_otel.recording.model import (
    Headers,
    HttpRequest,
    HttpResponse,
    Message,
    RecordedExchange,
)
from deetune_otel.replay.carry import Carrier, Links
from deetune_otel.replay.options import ReplayOptions, Target
from deetune_otel.replay.wire import Unsendable, written

__all__ = ["Client", "Sent"]

_READ_BYTES: Final = 64 * 1024
# Replaced in every request; `Expect` would have to be waited for.
_REPLACED: Final = frozenset(
    {"traceparent", "deetune-replay", "deetune-replay-of", "expect"}
)
_FAILURES: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ENOENT: "refused",
    errno.ECONNRESET: "closed",
    errno.EPIPE: "closed",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
}


class Sent(NamedTuple):
    """What became of one recorded exchange; ids are those of the request that was sent."""

    exchange: RecordedExchange
    answer: Answer
    trace_id: str
    span_id: str
    started_ns: int  # of the Unix epoch


class Client:
    """Connects when it must, and again when the target closed."""

    def __init__(
        self, target: Target, options: ReplayOptions, carrier: Carrier | None = None
    ) -> None:
        self._target = target
        self._options = options
        self._carrier = carrier or Carrier(Links())
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, exchange: RecordedExchange) -> Sent:
        trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
        request = self._addressed(exchange, trace_id, span_id)
        began_ns, started_ns = time.monotonic_ns(), time.time_ns()
        message, failure = None, ""
        try:
            async with asyncio.timeout(self._options.timeout_s):
                message = await self._exchanged(exchange, request)
        except TimeoutError:
            failure = "timeout"
        except Unsendable as error:
            failure = f"not sent: {error}"
        except CodecError as error:
            failure = f"broken answer: {error}"
        except EOFError:
            failure = "closed"
        except OSError as error:
            failure = _FAILURES.get(error.errno or 0, "") or str(error)
        if failure or _ends(message):
            await self.close()
        self._carrier.answered(exchange, message)
        answer = Answer(message, failure, time.monotonic_ns() - began_ns)
        return Sent(exchange, answer, trace_id, span_id, started_ns)

    async def close(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    async def _exchanged(self, exchange: RecordedExchange, request: Message) -> Message:
        """Once more on a new connection where the target closed an idle one."""
        is_old = self._writer is not None
        try:
            return await self._once(exchange, request)
        except (ConnectionError, EOFError):
            if not is_old:
                raise
            await self.close()
            return await self._once(exchange, request)

    async def _once(self, exchange: RecordedExchange, request: Message) -> Message:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await _connected(self._target)
        self._writer.write(written(exchange.protocol, request))
        await self._writer.drain()
        decoder = CODECS[exchange.protocol].responses(deque([request]))
        while True:
            data = await self._reader.read(_READ_BYTES)
            found = decoder.feed(data) if data else decoder.end()
            if found:
                return found[0].message
            if not data:
                raise EOFError

    def _addressed(
        self, exchange: RecordedExchange, trace_id: str, span_id: str
    ) -> Message:
        request = exchange.request
        if not isinstance(request, HttpRequest):
            return request
        request = self._carrier.request(exchange, request)
        request = self._options.rewrites(request)
        kept: Headers = tuple(
            (name, value)
            for name, value in request.headers
            if name.lower() not in _REPLACED
        )
        return replace(
            request,
            headers=(
                *kept,
                ("traceparent", f"00-{trace_id}-{span_id}-01"),
                ("Deetune-Replay", exchange.id),
                *_link(exchange),
            ),
        )


async def _connected(
    target: Target,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.path:
        return await asyncio.open_unix_connection(target.path)
    return await asyncio.open_connection(target.host, target.port)


def _link(exchange: RecordedExchange) -> Headers:
    if not exchange.trace_id:
        return ()
    return (("Deetune-Replay-Of", f"{exchange.trace_id}-{exchange.span_id}"),)


def _ends(message: Message | None) -> bool:
    if not isinstance(message, HttpResponse):
        return False
    says = next((v for k, v in message.headers if k.lower() == "connection"), "")
    is_old = message.version == "1.0" and "keep-alive" not in says.lower()
    return message.ends_with_connection or "close" in says.lower() or is_old
