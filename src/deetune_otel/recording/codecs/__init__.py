# SPDX-License-Identifier: Apache-2.0
"""One module a protocol: bytes to messages and back. `contract` is their shape."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import http, raw, redis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deetune_otel.recording.codecs.contract import Codec

__all__ = ["CODECS", "RAW"]

CODECS: Final[Mapping[Protocol, Codec]] = MappingProxyType(
    {Protocol.HTTP: http, Protocol.REDIS: redis}
)
# What is not there is recorded by this one, or not at all.
RAW: Final[Codec] = raw
