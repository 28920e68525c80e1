# SPDX-License-Identifier: Apache-2.0
"""What the kernel's verifier allows a program, and what we allow ourselves of it."""

from __future__ import annotations

from typing import Final

__all__ = ["CALL_CHAIN_BYTES", "CALL_CHAIN_FUNCTIONS", "VERIFIED_INSTRUCTIONS"]

# MAX_BPF_STACK and MAX_CALL_FRAMES. Since about 6.13 the kernel gives some programs more stack, so
# that a chain that is too deep shows on older kernels alone.
CALL_CHAIN_BYTES: Final = 512
CALL_CHAIN_FUNCTIONS: Final = 8

# Of the verifier's million. Kernels differ by a third: 229,000 (6.1) to 309,000 (6.18) were seen.
VERIFIED_INSTRUCTIONS: Final = 400_000
