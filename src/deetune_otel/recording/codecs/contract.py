# SPDX-License-Identifier: Apache-2.0
"""What a protocol's codec is: a decoder for each direction, and the way back.

Decoders are fed the bytes of one direction as they come, split anywhere. They keep what they
need of an unfinished message and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from deetune_otel.recording.model import Message, Missing, MissingBecause

if TYPE_CHECKING:
    from collections import deque

__all__ = ["Codec", "CodecError", "Decoded", "Decoder"]


class CodecError(Exception):
    """The bytes break the protocol's rules; the decoder is of no more use."""


class Decoded(NamedTuple):
    message: Message
    begin: int  # in the stream, counted from the decoder's first byte
    end: int  # behind its last byte


class Decoder(Protocol):
    """One direction of one connection. Every method raises CodecError."""

    def feed(self, data: bytes) -> list[Decoded]:
        """The messages that these bytes complete."""

    def skip(self, count: int, because: MissingBecause) -> list[Decoded]:
        """Passes over bytes that are missing; CodecError where they hold more than a body."""

    def end(self) -> list[Decoded]:
        """The connection has ended: what lasts until then is whole."""


class Codec(Protocol):
    """A module of this package, taken as a value."""

    def requests(self) -> Decoder: ...

    def responses(self, asked: deque[Message]) -> Decoder:
        """`asked`: the requests in their order, filled by the caller. The decoder takes the
        oldest one as each response begins; where none is there, it may not assume any.
        """

    def encode(self, message: Message) -> list[bytes | Missing]:
        """The message as it is sent; lengths are those of the message, and its gaps stay gaps."""
