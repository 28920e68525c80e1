# SPDX-License-Identifier: Apache-2.0
"""What the programs need of what the verifier allows: stack along calls, instructions followed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest
from script.call_depth import call_depths
from tests.kernel.budgets import (
    CALL_CHAIN_BYTES,
    CALL_CHAIN_FUNCTIONS,
    VERIFIED_INSTRUCTIONS,
)
from tests.kernel.observe import settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.observe import Watch

# A frame of 128 bytes, one of 96 and, by a callback, one of 256.
DEEP: Final = """\
static long (*loop)(unsigned, void *, void *, unsigned long) = (void *)181;
static __attribute__((noinline)) void use(volatile char *p, int n) { p[n] = n; }
static __attribute__((noinline)) long back(unsigned i, void *unused)
{
	volatile char here[256];
	here[0] = i;
	here[255] = i;
	return here[i & 255];
}
static __attribute__((noinline)) int middle(int n)
{
	volatile char here[96];
	use(here, n & 63);
	return loop(3, back, 0, 0) + here[0];
}
__attribute__((section("syscall"))) int program(int *n)
{
	volatile char here[128];
	use(here, *n & 63);
	return middle(*n) + here[0];
}
"""


def test_call_chains_fit_every_kernel() -> None:
    depths = call_depths(settings().object_path.read_bytes())
    assert {"dt_sock_send", "dt_sock_recv", "dt_tcp_destroy", "dt_sweep"} <= set(depths)
    for depth in depths.values():
        assert depth.stack_bytes <= CALL_CHAIN_BYTES, depth
        assert depth.functions <= CALL_CHAIN_FUNCTIONS, depth


def test_a_chain_goes_through_calls_and_callbacks(tmp_path: Path) -> None:
    source = tmp_path / "deep.c"
    source.write_text(DEEP)
    subprocess.run(
        ["clang", "-O2", "-target", "bpf", "-c", source, "-o", tmp_path / "deep.o"],
        check=True,
    )
    depths = call_depths((tmp_path / "deep.o").read_bytes())
    (depth,) = depths.values()
    assert depth.functions == 3
    assert depth.stack_bytes == 128 + 96 + 256
    assert depth.chain == ("program 128", "middle 96", "back 256")


@pytest.mark.kernel
def test_verified_instructions_stay_within_their_budget(
    watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    verified = {
        name: cost.verified_instructions for name, cost in watch.kernel.cost().items()
    }
    with capsys.disabled():
        for name, instructions in verified.items():
            sys.stdout.write(f"\n{instructions:8} verified instructions: {name}")
    assert all(verified.values())
    assert max(verified.values()) <= VERIFIED_INSTRUCTIONS
