# SPDX-License-Identifier: Apache-2.0
"""What stands where a secret was: equal values have equal tokens, and nobody can go back.

The key is random per recording. Who has it can test a guess, so it is kept beside the recording
in a file of its own, and never in it.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

__all__ = ["TOKEN", "Tokens"]

_PREFIX: Final = "redacted-"
_DIGITS: Final = 16  # 64 bits: no two of a billion values are likely to meet
# A text of this form is taken for a token: what was redacted once stays as it is.
TOKEN: Final = re.compile(r"redacted-[0-9a-f]{16}(?![0-9A-Za-z])")


class Tokens:
    """The tokens of one recording."""

    def __init__(self, key: bytes) -> None:
        if not key:
            raise ValueError("a key is needed: without it anybody can test guesses")
        self._key = key

    def token(self, value: bytes) -> str:
        digest = hmac.digest(self._key, value, "sha256")
        return _PREFIX + digest[: _DIGITS // 2].hex()
