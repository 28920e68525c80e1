# SPDX-License-Identifier: Apache-2.0
"""What bytes from outside may raise.

ValueError
└── BadInput    they are not what they were taken for; the message says where and how
"""

from __future__ import annotations

__all__ = ["BadInput"]


class BadInput(ValueError):  # noqa: N818 -- reads as what it says
    """What was read breaks the rules of its format."""
