# SPDX-License-Identifier: Apache-2.0
"""How a command ends.

CommandError        expected; said in one line, with a hint, and no traceback
└── UsageError      the command line or the configuration is wrong
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CommandError", "ExitCode", "UsageError"]


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    DAMAGED = 4
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends the command with `code`; `hint` says what a person can do."""

    def __init__(
        self, message: str, *, hint: str = "", code: ExitCode = ExitCode.FAILED
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class UsageError(CommandError):
    """The command line or the configuration is wrong."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, code=ExitCode.USAGE)
