# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between the agent and the kernel.

KernelError
├── KernelUnavailable   at start: the agent cannot observe here; says why and what to do
│   ├── LibbpfMissing   (libbpf) there is nothing to load programs with
│   └── NothingTaken    (trying) the kernel refuses what nothing can be seen without
├── KernelClosed        a call after close()
└── RecordError         bytes that are no record of ours
"""

from __future__ import annotations

__all__ = ["KernelClosed", "KernelError", "KernelUnavailable", "RecordError"]


class KernelError(Exception):
    """Base of all errors of this package."""


class KernelUnavailable(KernelError):  # noqa: N818  (a state, not a mistake)
    """The agent cannot observe on this kernel; `hint` says what a person can do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nHINT: {self.hint}" if self.hint else message


class KernelClosed(KernelError):  # noqa: N818
    """The kernel side was already closed."""

    def __init__(self) -> None:
        super().__init__("the kernel side is closed")


class RecordError(KernelError):
    """A record is shorter than its struct, or holds a value that has no name."""
