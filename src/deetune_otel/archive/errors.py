# SPDX-License-Identifier: Apache-2.0
"""What a file may raise, beside OSError.

ArchiveError            it cannot be read; says what to do
├── Empty               there is nothing in it
├── NotARecording       it is something else
└── Damaged             it was one of ours, or of a format that is read, and is broken
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["ArchiveError", "Damaged", "Empty", "NotARecording"]


class ArchiveError(Exception):
    """The message names the file; `hint` says what a person can do."""

    def __init__(self, path: Path, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem
        self.hint = hint


class Empty(ArchiveError):  # noqa: N818 -- reads as what it says
    """The file has no bytes."""


class NotARecording(ArchiveError):  # noqa: N818 -- reads as what it says
    """No format that is read begins like this."""


class Damaged(ArchiveError):  # noqa: N818 -- reads as what it says
    """It begins well, and then breaks the rules of its format."""
