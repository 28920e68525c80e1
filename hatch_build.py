# SPDX-License-Identifier: Apache-2.0
"""Build hook: compiles the BPF object into the package, so that the wheel runs without a compiler.

The object is machine code for the kernel's virtual machine and needs no libc, but it reads the
saved registers of the architecture that it was compiled for: hence a wheel per architecture, for
any Python 3 (`py3-none-linux_x86_64`). The sdist holds the sources in `bpf/` instead.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OBJECT: Final = Path("src/deetune_otel/kernel/bpf/deetune.bpf.o")


class BpfBuildHook(BuildHookInterface[Any]):
    """Runs `script/build-bpf` before a wheel (or an editable install) is put together."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        built = subprocess.run(  # noqa: S603
            [root / "script" / "build-bpf"],
            cwd=root,
            env={"PYTHON": sys.executable, **os.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            raise SystemExit(
                f"{built.stdout}\ndeetune-otel: the BPF programs could not be built. "
                "Building needs clang, llvm-strip, and libbpf's headers "
                "(Debian: clang llvm libbpf-dev); a wheel runs without them."
            )
        if not (root / OBJECT).is_file():
            raise SystemExit(f"deetune-otel: script/build-bpf left no {OBJECT}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"
