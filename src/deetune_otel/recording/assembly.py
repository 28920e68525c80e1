# SPDX-License-Identifier: Apache-2.0
"""Pieces of one connection → its turns: requests with their responses.

Pieces of a direction may overlap or come twice (both ends were recorded): the first that brings a
byte is taken. A jump in the offsets is a loss. What the codec cannot read over puts the
connection out of step: everything open is given back as incomplete, and reading begins again at
the next piece that is a start.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Final

from deetune_otel.recording.codecs.contract import CodecError
from deetune_otel.recording.model import Message, MissingBecause, Piece, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deetune_otel.recording.codecs.contract import Codec, Decoded, Decoder

__all__ = ["Assembler"]

# Responses that came before their request: a reader that is faster than the writer's return.
# More of them are answers to nothing.
MAX_EARLY: Final = 64


class _Direction:
    """A decoder, where it is in the stream, and when each byte came."""

    def __init__(self, decoder: Decoder, offset: int) -> None:
        self.base = self.next = offset
        self._decoder = decoder
        self._offsets: list[int] = []
        self._times: list[int] = []

    def take(self, piece: Piece) -> list[Decoded]:
        """Raises CodecError."""
        found: list[Decoded] = []
        if piece.offset > self.next:
            self._mark(piece.at_ns)
            found += self._decoder.skip(piece.offset - self.next, MissingBecause.LOST)
            self.next = piece.offset
        known = self.next - piece.offset
        count = (len(piece.data) or piece.missing) - known
        if count <= 0:
            return found
        self._mark(piece.at_ns)
        if piece.data:
            found += self._decoder.feed(piece.data[known:] if known else piece.data)
        else:
            found += self._decoder.skip(count, piece.because)
        self.next += count
        return found

    def end(self) -> list[Decoded]:
        """Raises CodecError."""
        return self._decoder.end()

    def at_ns(self, offset: int) -> int:
        """When the byte at this offset of the stream came."""
        return self._times[max(0, bisect_right(self._offsets, offset) - 1)]

    def forget_before(self, offset: int) -> None:
        """Nobody will ask for earlier times."""
        first = bisect_right(self._offsets, offset) - 1
        if first > 0:
            del self._offsets[:first], self._times[:first]

    def _mark(self, at_ns: int) -> None:
        self._offsets.append(self.next)
        self._times.append(at_ns)


class Assembler:
    """One connection. Turns come in the order of their requests."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._client: _Direction | None = None  # None: out of step
        self._server: _Direction | None = None
        # Turns without a response yet, and their requests for the decoder of responses.
        self._open: deque[Turn] = deque()
        self._asked: deque[Message] = deque()
        # Pieces of responses, and whole ones, that came before their request.
        self._held: deque[Piece] = deque()
        # Where nobody knows the protocol, who speaks next ends what the other one said.
        self._takes_turns = getattr(codec, "TAKES_TURNS", False)
        self._early: deque[tuple[Decoded, int, int]] = deque()

    @property
    def is_in_step(self) -> bool:
        """Else only a piece that is a start is read."""
        return self._client is not None

    @property
    def open(self) -> Iterable[Turn]:
        """Requests that came whole, and have no response yet."""
        return self._open

    def feed(self, piece: Piece) -> list[Turn]:
        """What this piece completes, or ends as incomplete."""
        done = self._end_of_the_others(piece) if self._takes_turns else []
        if piece.is_start and self._begins_anew(piece):
            done += self._give_up(MissingBecause.LOST)
            self._client = _Direction(self._codec.requests(), piece.offset)
            self._server = _Direction(
                self._codec.responses(self._asked), piece.other_offset
            )
        if self._client is None or self._server is None:
            return done
        try:
            if piece.from_client:
                self._take_requests(self._client, self._client.take(piece))
            else:
                self._held.append(piece)
            while self._held and len(self._open) > len(self._early):
                self._take_responses(
                    self._server, self._server.take(self._held.popleft())
                )
                done += self._matched()
        except CodecError:
            done += self._matched()
            return done + self._give_up(
                piece.because if not piece.data else MissingBecause.LOST
            )
        return done + self._matched()

    def end(self) -> list[Turn]:
        """The connection has ended: what is open stays without a response."""
        done: list[Turn] = []
        if self._client is not None and self._server is not None:
            try:
                if self._takes_turns:
                    self._take_requests(self._client, self._client.end())
                self._take_responses(self._server, self._server.end())
            except CodecError:
                done = self._matched()
                return done + self._give_up(MissingBecause.LOST)
            done = self._matched()
        return done + self._give_up("closed")

    def _end_of_the_others(self, piece: Piece) -> list[Turn]:
        if self._client is None or self._server is None:
            return []
        if not piece.from_client:
            self._take_requests(self._client, self._client.end())
            return []
        if piece.offset < self._client.next:  # the other end's copy of what is known
            return []
        self._take_responses(self._server, self._server.end())
        return self._matched()

    def _begins_anew(self, piece: Piece) -> bool:
        if self._client is None or self._server is None:
            return True
        if piece.offset < self._client.next:
            return False  # the other end's copy of what is known
        return bool(
            self._open
            or piece.offset != self._client.next
            or piece.other_offset != self._server.next
        )

    def _take_requests(self, client: _Direction, found: list[Decoded]) -> None:
        for one in found:
            begin = client.base + one.begin
            if len(self._open) >= len(self._early):  # else it was answered before
                self._asked.append(one.message)
            self._open.append(
                Turn(
                    request=one.message,
                    response=None,
                    request_offset=begin,
                    response_offset=0,
                    request_start_ns=client.at_ns(begin),
                    request_end_ns=client.at_ns(client.base + one.end - 1),
                    response_start_ns=0,
                    response_end_ns=0,
                    incomplete=_gaps(one.message),
                )
            )
            client.forget_before(client.base + one.end)

    def _take_responses(self, server: _Direction, found: list[Decoded]) -> None:
        for one in found:
            begin = server.base + one.begin
            self._early.append(
                (
                    one._replace(begin=begin),
                    server.at_ns(begin),
                    server.at_ns(server.base + one.end - 1),
                )
            )
            server.forget_before(server.base + one.end)

    def _matched(self) -> list[Turn]:
        done: list[Turn] = []
        while self._early and self._open:
            (response, start_ns, end_ns), turn = (
                self._early.popleft(),
                self._open.popleft(),
            )
            done.append(
                turn._replace(
                    response=response.message,
                    response_offset=response.begin,
                    response_start_ns=start_ns,
                    response_end_ns=end_ns,
                    incomplete=(*turn.incomplete, *_gaps(response.message)),
                )
            )
        if len(self._early) + len(self._held) > MAX_EARLY:
            done += self._give_up(MissingBecause.LOST)
        return done

    def _give_up(self, because: MissingBecause | str) -> list[Turn]:
        done = [
            turn._replace(incomplete=(*turn.incomplete, because)) for turn in self._open
        ]
        self._open.clear()
        self._asked.clear()
        self._held.clear()
        self._early.clear()
        self._client = self._server = None
        return done


def _gaps(message: Message) -> tuple[MissingBecause, ...]:
    return tuple(dict.fromkeys(one.because for one in message.missing))
