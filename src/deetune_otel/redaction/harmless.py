# SPDX-License-Identifier: Apache-2.0
"""What comes again and again, and has no secret in it: looked at once. Nothing else is kept."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

__all__ = ["Harmless"]

MAX_REMEMBERED: Final = 2000  # they come from the traffic, and may be without end
MAX_LENGTH: Final = 63  # of what is remembered as it is, rather than by its digest


class Harmless:
    """A bounded set of texts and where they stand.

    Asking costs 0.3 µs, of long ones 1.5 µs; searching one for secrets costs 3 to 10.
    """

    def __init__(self) -> None:
        self._known: set[tuple[str, str | bytes]] = set()

    def __len__(self) -> int:
        return len(self._known)

    def has(self, where: str, text: str) -> bool:
        return _key(where, text) in self._known

    def add(self, where: str, text: str) -> None:
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        if len(where) <= MAX_LENGTH:
            self._known.add(_key(where, text))


def _key(where: str, text: str) -> tuple[str, str | bytes]:
    if len(text) <= MAX_LENGTH:
        return where, text
    data = text.encode("utf-8", "surrogatepass")
    return where, blake2b(data, digest_size=16).digest()
