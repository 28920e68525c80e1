# SPDX-License-Identifier: Apache-2.0
"""Objects of a HAR document by field: every answer is of the type that was asked for."""

from __future__ import annotations

from typing import Any

from deetune_otel.recording.errors import BadInput

__all__ = ["Fields"]


class Fields:
    """One object, and where it stands: `log.entries[3].request`. Raises BadInput with that."""

    def __init__(self, found: object, name: str) -> None:
        if not isinstance(found, dict):
            raise BadInput(f"{name}: no object")
        self.found: dict[str, Any] = found
        self._name = name

    def get(self, key: str) -> Any:
        return self.found.get(key)

    def text(self, key: str) -> str:
        value = self.found.get(key)
        if not isinstance(value, str):
            raise self.bad(key, "no text")
        return value

    def optional(self, key: str) -> str:
        """ "" where there is none; never half a character."""
        value = self.found.get(key)
        text = value if isinstance(value, str) else ""
        return text.encode(errors="replace").decode()

    def size(self, key: str) -> int:
        """0 where it is not known: -1, or not there."""
        value = self.found.get(key)
        return value if type(value) is int and 0 < value < 1 << 48 else 0

    def inner(self, key: str, *, is_needed: bool = True) -> Fields:
        value = self.found.get(key)
        return Fields({} if value is None and not is_needed else value, self._at(key))

    def inners(self, key: str) -> list[Fields]:
        """Of a list that need not be there."""
        value = self.found.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.bad(key, "no list")
        return [Fields(one, f"{self._at(key)}[{at}]") for at, one in enumerate(value)]

    def texts(self, key: str) -> tuple[str, ...]:
        """Of a list that need not be there."""
        value = self.found.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.bad(key, "no list")
        return tuple(str(one).encode(errors="replace").decode() for one in value)

    def bad(self, key: str, what: str) -> BadInput:
        return BadInput(f"{self._at(key)}: {what}")

    def _at(self, key: str) -> str:
        return f"{self._name}.{key}"
