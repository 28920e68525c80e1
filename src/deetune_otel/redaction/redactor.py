# SPDX-License-Identifier: Apache-2.0
"""An exchange → the same exchange without secrets. Never raises, and errs on the side of nothing.

What fails is dropped: a body becomes bytes that are missing because they are redacted; of a head
every value is replaced. What bytes with gaps mean nobody knows, so they are dropped too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from deetune_otel.recording.model import (
    Headers,
    HttpRequest,
    HttpResponse,
    Message,
    Missing,
    MissingBecause,
    RawMessage,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.redaction import bodies, redis, urls
from deetune_otel.redaction.censor import Censor, OverBudget, as_text
from deetune_otel.redaction.harmless import Harmless
from deetune_otel.redaction.http import Heads, as_read

if TYPE_CHECKING:
    from deetune_otel.redaction.policy import Policy
    from deetune_otel.redaction.tokens import Tokens

__all__ = ["Redactor"]

_NOTHING: Final = "redacted"
_DROPPED: Final = "dropped_body"
_Http = TypeVar("_Http", HttpRequest, HttpResponse)


class Redactor:
    """One recording's. `keeps_raw`: what has no codec passes as it is, as `--raw` says."""

    def __init__(
        self,
        policy: Policy,
        tokens: Tokens,
        *,
        keeps_raw: bool = False,
        censor: Callable[[Policy, Tokens], Censor] = Censor,
    ) -> None:
        self.dropped_bodies = 0
        self._keeps_raw = keeps_raw
        self._censor = censor(policy, tokens)
        self._heads = Heads(self._censor)
        self._harmless = Harmless()  # operations

    @property
    def counts(self) -> dict[str, int]:
        """Values that were replaced, by rule; of all exchanges so far."""
        return dict(self._censor.counts)

    def redact(self, exchange: RecordedExchange) -> RecordedExchange:
        before, dropped = dict(self._censor.counts), self.dropped_bodies
        self._censor.begin(0)
        self._censor.echoes.begin(exchange.connection.id)
        # The request first: what it shows to be a secret is one in the answer and the operation.
        request = self._again(exchange.request, None)
        try:
            operation = self._operation(exchange.operation)
        except Exception:  # noqa: BLE001 -- whatever it is, nothing may leak
            operation = ""
        response = exchange.response
        if response is not None:
            response = self._again(response, exchange.request)
        rules = {
            rule
            for rule, count in self._censor.counts.items()
            if count != before.get(rule, 0)
        }
        incomplete = exchange.incomplete
        if self.dropped_bodies != dropped:
            rules.add(_DROPPED)
            if MissingBecause.REDACTED not in incomplete:
                incomplete = (*incomplete, MissingBecause.REDACTED)
        return replace(
            exchange,
            request=request,
            response=response,
            operation=operation,
            incomplete=incomplete,
            redactions=tuple(sorted({*exchange.redactions, *rules})),
        )

    def _operation(self, operation: str) -> str:
        method, space, path = operation.partition(" ")
        self._censor.echoes.expect_any()
        if not space or (
            self._harmless.has("operation", operation)
            and not self._censor.echoes.are_in(operation)
        ):
            return operation
        self._censor.place = "operation"
        changed = method + space + urls.segments(path, self._censor)
        if changed == operation:
            self._harmless.add("operation", operation)
        return changed

    def _again(self, message: Message, asked: Message | None) -> Message:
        """What its end shows to be a secret may stand in its beginning."""
        echoes = self._censor.echoes
        known = echoes.learned
        done = self._message(message, asked)
        if echoes.learned == known or not isinstance(done, HttpRequest | HttpResponse):
            return done
        line = done.target if isinstance(done, HttpRequest) else done.reason
        head = [line, *(value for _, value in (*done.headers, *done.trailers))]
        has_one = bool(_header(done.headers, "content-encoding")) or any(
            map(echoes.expect, (*map(as_read, head), as_text(done.body)))
        )
        return self._message(done, asked) if has_one else done

    def _message(self, message: Message, asked: Message | None) -> Message:
        match message:
            case HttpRequest():
                return self._http(message, self._heads.request, "request")
            case HttpResponse():
                return self._http(message, self._heads.response, "response")
            case RedisCommand():
                return self._command(message)
            case RedisReply():
                return self._reply(message, asked)
        return self._raw(message)

    def _http(self, message: _Http, head: Callable[[_Http], _Http], of: str) -> _Http:
        self._censor.begin(len(message.body))
        try:
            redacted = head(message)
        except Exception:  # noqa: BLE001
            redacted = _blank(message)
        body, missing = self._body(message, of)
        if body == message.body and missing == message.missing:
            return redacted
        headers = redacted.headers
        if body != message.body and not _has_no_body(message):
            headers = _with_length(headers, len(body) + sum(m.bytes for m in missing))
        return replace(redacted, body=body, missing=missing, headers=headers)

    def _body(
        self, message: HttpRequest | HttpResponse, of: str
    ) -> tuple[bytes, tuple[Missing, ...]]:
        if not message.body:
            return b"", message.missing
        if not message.missing:
            self._censor.place = f"{of} body"
            kind = _header(message.headers, "content-type")
            encoding = _header(message.headers, "content-encoding")
            noted = self._censor.mark()
            try:
                try:
                    redacted = bodies.body(message.body, kind, encoding, self._censor)
                except OverBudget:
                    self._censor.forget_since(noted)
                    self._censor.begin(len(message.body))
                    redacted = bodies.replaced(
                        message.body, kind, encoding, self._censor
                    )
            except Exception as error:  # noqa: BLE001
                self.could_not(error)
            else:
                return redacted, ()
        self.dropped_bodies += 1
        return b"", (_dropped(len(message.body), message.missing),)

    def could_not(self, error: Exception) -> None:
        """A body is dropped for this."""

    def _command(self, command: RedisCommand) -> RedisCommand:
        self._censor.begin(sum(map(len, command.arguments)))
        try:
            arguments = redis.arguments(command.arguments, self._censor)
        except Exception:  # noqa: BLE001
            arguments = (_NOTHING.encode(),)
            self.dropped_bodies += 1
        if arguments == command.arguments:
            return command
        return replace(command, arguments=arguments)

    def _reply(self, reply: RedisReply, asked: Message | None) -> RedisReply:
        command = asked.arguments if isinstance(asked, RedisCommand) else ()
        self._censor.begin(reply.wire_bytes)
        keeps_values = self._censor.policy.redis_values == "scan"
        if keeps_values or not isinstance(reply.value, bytes):  # an error, most likely
            self._censor.echoes.expect_any()
        try:
            value = redis.reply(reply.value, command, self._censor)
        except Exception as error:  # noqa: BLE001
            self.could_not(error)
            self.dropped_bodies += 1
            gap = _dropped(reply.wire_bytes, ())
            return replace(reply, value=None, missing=(gap,))
        # Every reply with a value comes here: `replace` takes 1 µs more.
        return RedisReply(
            value=value, missing=reply.missing, wire_bytes=reply.wire_bytes
        )

    def _raw(self, message: RawMessage) -> RawMessage:
        if self._keeps_raw or not message.data:
            return message
        self.dropped_bodies += 1
        gap = _dropped(len(message.data), message.missing)
        return RawMessage(data=b"", missing=(gap,))


def _has_no_body(message: HttpRequest | HttpResponse) -> bool:
    return isinstance(message, HttpResponse) and message.has_no_body


def _dropped(there: int, missing: tuple[Missing, ...]) -> Missing:
    count = there + sum(one.bytes for one in missing)
    return Missing(at=0, bytes=count, because=MissingBecause.REDACTED)


def _header(headers: Headers, name: str) -> str:
    return ", ".join([value for one, value in headers if one.lower() == name])


def _with_length(headers: Headers, length: int) -> Headers:
    return tuple(
        (name, str(length) if name.lower() == "content-length" else value)
        for name, value in headers
    )


def _blank(message: _Http) -> _Http:
    """A head that could not be redacted: names, and that there was something."""
    changes: dict[str, object] = {
        "headers": tuple((name, _NOTHING) for name, _ in message.headers),
        "trailers": tuple((name, _NOTHING) for name, _ in message.trailers),
    }
    if isinstance(message, HttpRequest):
        changes |= {"target": "/" + _NOTHING, "method": "GET"}
    else:
        changes |= {"reason": ""}
    return replace(message, **changes)  # type: ignore[arg-type]
